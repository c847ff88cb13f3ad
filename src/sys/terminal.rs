//! How a terminal is set, to be put back when a view ends while another thread waits for a key.

use std::mem::MaybeUninit;

/// The settings of the terminal at standard input, put back when this is dropped.
#[derive(Debug)]
pub struct Kept(Option<libc::termios>);

impl Kept {
    /// Keeps them; nothing where standard input is no terminal.
    pub fn now() -> Self {
        let mut termios = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writing one termios.
        let answer = unsafe { libc::tcgetattr(libc::STDIN_FILENO, termios.as_mut_ptr()) };
        // SAFETY: tcgetattr has filled it when it answers 0.
        Self((answer == 0).then(|| unsafe { termios.assume_init() }))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(termios) = &self.0 {
            // SAFETY: the pointer is valid for reading one termios; a terminal that has gone is an error that says so.
            unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, termios) };
        }
    }
}
