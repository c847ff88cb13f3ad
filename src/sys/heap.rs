//! How glibc's allocator is to behave in a process that runs for years: `mallopt`, `malloc_trim`.

use std::time::{Duration, Instant};

/// How long a process that has something to do keeps what it does not use, at least.
const KEEP: Duration = Duration::from_secs(30);

/// When to give memory back: while there is something to do, and once more after that. An idle process does nothing.
///
/// glibc keeps what a thread has freed for that thread. sled writes a snapshot every million changes, out of a large
/// copy, each time on another thread: what only that copy needed would add up.
#[derive(Debug, Default)]
pub struct Giving {
    last: Option<Instant>,
    worked: bool,
}

impl Giving {
    /// Whether it is time for [`give_back`]; `worked`: whether something was done since this was asked last.
    pub fn is_due(&mut self, now: Instant, worked: bool) -> bool {
        let last = *self.last.get_or_insert(now);
        if now.duration_since(last) < KEEP {
            self.worked |= worked;
            return false;
        }
        self.last = Some(now);
        std::mem::replace(&mut self.worked, worked) || worked
    }
}

/// Has all threads share one heap; to be called before there are any.
///
/// glibc gives each of the first eight threads a core a heap of its own. What one thread makes and another frees (pages of
/// the index, mostly) leaves holes there that only that heap's threads can fill: with 17,000 files filed and two looks at
/// the library the daemon had 54 MB that way, 40 MB with two heaps, and takes in as many files a second with one.
pub fn share_between_threads() {
    // SAFETY: it may be called at any time; the numbers are the parameter's and its value.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Gives what is free back to the kernel, of all threads. Takes some milliseconds; not for a thread that others wait for.
pub fn give_back() {
    // SAFETY: it may be called at any time, by any thread; the number is how many bytes to keep at the top.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_given_back_while_there_is_work_and_once_more_then_never() {
        let (mut giving, began) = (Giving::default(), Instant::now());
        let mut at =
            |seconds: u64, worked| giving.is_due(began + Duration::from_secs(seconds), worked);
        assert!(!at(0, true) && !at(5, true), "too early");
        assert!(at(30, true));
        assert!(!at(35, false));
        assert!(at(60, false), "what was going on when it last was");
        assert!(!at(90, false) && !at(120, false), "idle");
        assert!(!at(125, true) && !at(130, false));
        assert!(at(150, false));
        assert!(!at(180, false));
    }

    #[test]
    fn what_was_freed_goes_back_to_the_kernel() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        // On another thread, in pieces that glibc does not map one by one; the last keeps the others from being trimmed.
        let kept = std::thread::spawn(|| {
            let mut pieces: Vec<Vec<u8>> = (0..4000).map(|_| vec![1; 16 << 10]).collect();
            pieces.pop()
        });
        let kept = kept.join().unwrap();
        let before = resident();
        give_back();
        let after = resident();
        assert!(
            after + (32 << 20) < before,
            "{before} bytes before, {after} after"
        );
        drop(kept);
    }
}
