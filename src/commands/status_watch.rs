//! `radsort status --watch`: a live view on a terminal, lines or JSON objects elsewhere.
//!
//! The view is drawn on the terminal's other screen, each frame in one piece over the one before, so that nothing
//! flickers and what was there before is there again afterwards. A daemon that goes away is waited for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use console::{Key, Term};

use super::status::{StatusArgs, ask};
use crate::control::client::Client;
use crate::control::status::Status;

/// Looks until told to end.
pub fn run(socket: &Path, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let pause = Duration::from_secs_f64(args.interval);
    let mut looks = Looks::new(socket);
    let mut out: Box<dyn Output> = match (args.json, io::stdout().is_terminal()) {
        (true, _) => Box::new(Json),
        (false, true) => Box::new(Screen::open()?),
        (false, false) => Box::new(Lines),
    };
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        left -= 1;
        let looked = looks.look();
        match out.show(looked.as_ref()) {
            // Whoever read has gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            shown => shown?,
        }
        if left > 0 && !out.wait(pause) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A connection that is made again when it breaks.
struct Looks<'a> {
    socket: &'a Path,
    client: Option<Client>,
}

impl<'a> Looks<'a> {
    fn new(socket: &'a Path) -> Self {
        Self {
            socket,
            client: None,
        }
    }

    /// How the daemon is, or why that is not known.
    fn look(&mut self) -> Result<Status, String> {
        if self.client.is_none() {
            self.client = Client::connect(self.socket).map_err(|error| error.to_string())?;
        }
        let Some(client) = &mut self.client else {
            return Err(format!("no daemon answers at {}", self.socket.display()));
        };
        ask(client).map_err(|error| {
            self.client = None;
            error.to_string()
        })
    }
}

/// Where looks go.
trait Output {
    fn show(&mut self, looked: Result<&Status, &String>) -> io::Result<()>;

    /// Waits until the next look; false when it is to end.
    fn wait(&mut self, pause: Duration) -> bool {
        std::thread::sleep(pause);
        true
    }
}

/// One object a line, `null` while no daemon answers.
struct Json;

impl Output for Json {
    fn show(&mut self, looked: Result<&Status, &String>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &looked.ok())?;
        writeln!(out)?;
        out.flush()
    }
}

/// The one line of `systemctl status`, with the time.
struct Lines;

impl Output for Lines {
    fn show(&mut self, looked: Result<&Status, &String>) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        let text = match looked {
            Ok(status) => status.line(),
            Err(why) => why.clone(),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{now:.0} {text}")?;
        out.flush()
    }
}

/// The terminal's other screen.
struct Screen {
    term: Term,
    keys: Receiver<()>,
    /// What was seen last, to be shown while no daemon answers.
    last: Option<Status>,
}

/// The other screen on and off, with the cursor hidden and shown.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    fn open() -> io::Result<Self> {
        let term = Term::stdout();
        term.write_str(ENTER)?;
        let (pressed, keys) = channel();
        if io::stdin().is_terminal() {
            let reader = term.clone();
            // Ends with a key that ends it all; the terminal is as it was after each key.
            std::thread::spawn(move || {
                while let Ok(key) = reader.read_key_raw() {
                    if matches!(key, Key::Char('q' | 'Q') | Key::CtrlC | Key::Escape) {
                        let _ = pressed.send(());
                        return;
                    }
                }
            });
        } else {
            std::mem::forget(pressed);
        }
        Ok(Self {
            term,
            keys,
            last: None,
        })
    }
}

impl Output for Screen {
    fn show(&mut self, looked: Result<&Status, &String>) -> io::Result<()> {
        let (height, width) = self.term.size();
        let text = match looked {
            Ok(status) => {
                self.last = Some(status.clone());
                status.to_text(width)
            }
            Err(why) => match &self.last {
                Some(last) => format!("{why}; as it was before:\n\n{}", last.to_text(width)),
                None => format!("{why}\n"),
            },
        };
        self.term.write_str(&frame(&text, width, height))?;
        self.term.flush()
    }

    fn wait(&mut self, pause: Duration) -> bool {
        match self.keys.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => true,
            // Without a reader of keys there is only Ctrl-C's signal.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.term.write_str(LEAVE);
    }
}

/// A frame that is drawn over the one before: each line to its end, then nothing below; as one update where the terminal
/// can (mode 2026). What does not fit is cut, with a last line that says so.
fn frame(text: &str, width: u16, height: u16) -> String {
    let (width, height) = (usize::from(width.max(1)), usize::from(height.max(2)));
    let lines: Vec<&str> = text.lines().collect();
    // The last line is for the help.
    let room = height - 1;
    let shown = if lines.len() > room {
        room.saturating_sub(1)
    } else {
        lines.len()
    };
    let mut frame = "\x1b[?2026h\x1b[H".to_owned();
    for line in &lines[..shown] {
        let cut: String = line.chars().take(width).collect();
        let _ = write!(frame, "{cut}\x1b[K\r\n");
    }
    let hidden = lines.len() - shown;
    if hidden > 0 {
        let _ = write!(frame, "… {hidden} more lines\x1b[K\r\n");
    }
    let _ = write!(frame, "\x1b[2mq ends\x1b[0m\x1b[K\x1b[J\x1b[?2026l");
    frame
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_fills_the_screen_and_no_more() {
        let text = (0..30)
            .map(|n| format!("line {n} ").repeat(30))
            .collect::<Vec<_>>()
            .join("\n");
        let drawn = frame(&text, 40, 10);
        assert_eq!(
            drawn.matches("\r\n").count(),
            9,
            "ten lines: the help is the last"
        );
        assert!(drawn.contains("… 22 more lines"), "{drawn}");
        let widest = drawn
            .split("\r\n")
            .skip(1)
            .map(|line| line.replace("\x1b[K", "").chars().count());
        assert!(widest.take(8).all(|width| width <= 40));
        // Nothing is cleared before it is drawn over.
        assert!(!drawn.contains("\x1b[2J") && drawn.ends_with("\x1b[J\x1b[?2026l"));
    }

    #[test]
    fn a_short_text_is_shown_whole() {
        let drawn = frame("one\ntwo\n", 80, 24);
        assert!(drawn.contains("one\x1b[K\r\ntwo\x1b[K\r\n") && !drawn.contains("more lines"));
        assert!(!frame("x", 0, 0).is_empty());
    }
}
