//! `radsort status --watch`: a live view on a terminal, lines or JSON objects elsewhere.
//!
//! The view is drawn on the terminal's other screen, each frame in one piece over the one before, so that nothing
//! flickers and what was there before is there again afterwards. A daemon that goes away is waited for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use console::{Key, Term};
use tokio::signal::unix::{SignalKind, signal};

use super::status::{StatusArgs, ask};
use crate::control::client::Client;
use crate::control::status::Status;
use crate::sys::terminal::Kept;

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
    Ok(ExitCode::from(looks.status))
}

/// A connection that is made again when it breaks.
struct Looks<'a> {
    socket: &'a Path,
    client: Option<Client>,
    /// The exit status that tells how the last look went, as that of `radsort status`.
    status: u8,
}

impl<'a> Looks<'a> {
    fn new(socket: &'a Path) -> Self {
        Self {
            socket,
            client: None,
            status: 0,
        }
    }

    /// How the daemon is, or why that is not known.
    fn look(&mut self) -> Result<Status, String> {
        self.status = 1;
        if self.client.is_none() {
            self.client = Client::connect(self.socket).map_err(|error| error.to_string())?;
        }
        let Some(client) = &mut self.client else {
            self.status = 3;
            return Err(format!("no daemon answers at {}", self.socket.display()));
        };
        let status = ask(client).map_err(|error| {
            self.client = None;
            error.to_string()
        })?;
        self.status = 0;
        Ok(status)
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
    /// A key or a signal that ends it.
    ended: Receiver<()>,
    /// What was seen last, to be shown while no daemon answers.
    last: Option<Status>,
    /// Why nothing newer is known.
    trouble: Option<String>,
    /// Height and width that were drawn for.
    size: (u16, u16),
    /// Put back after everything else.
    _kept: Kept,
}

/// The other screen on and off, with the cursor hidden and shown.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// How soon a terminal that has changed its size is drawn anew.
const RESIZED: Duration = Duration::from_millis(100);

impl Screen {
    fn open() -> io::Result<Self> {
        let term = Term::stdout();
        let kept = Kept::now();
        let (end, ended) = channel();
        signals(end.clone())?;
        if io::stdin().is_terminal() {
            let reader = term.clone();
            std::thread::spawn(move || {
                while let Ok(key) = reader.read_key_raw() {
                    if matches!(key, Key::Char('q' | 'Q') | Key::CtrlC | Key::Escape) {
                        let _ = end.send(());
                        return;
                    }
                }
            });
        }
        term.write_str(ENTER)?;
        Ok(Self {
            term,
            ended,
            last: None,
            trouble: None,
            size: (0, 0),
            _kept: kept,
        })
    }

    fn draw(&mut self) -> io::Result<()> {
        self.size = self.term.size();
        let (height, width) = self.size;
        let text = match (&self.last, &self.trouble) {
            (Some(status), None) => status.to_text(width),
            (Some(last), Some(why)) => {
                format!("{why}; as it was before:\n\n{}", last.to_text(width))
            }
            (None, why) => format!("{}\n", why.as_deref().unwrap_or_default()),
        };
        self.term.write_str(&frame(&text, width, height))?;
        self.term.flush()
    }
}

/// Ctrl-C where no key can be read, `kill`, a terminal that is closed: the screen is left in order.
fn signals(end: Sender<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        let _ = end.send(());
    });
    Ok(())
}

impl Output for Screen {
    fn show(&mut self, looked: Result<&Status, &String>) -> io::Result<()> {
        match looked {
            Ok(status) => (self.last, self.trouble) = (Some(status.clone()), None),
            Err(why) => self.trouble = Some(why.clone()),
        }
        self.draw()
    }

    fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.ended.recv_timeout(left.min(RESIZED)) {
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return true,
                Err(RecvTimeoutError::Timeout) => {
                    if self.term.size() != self.size && self.draw().is_err() {
                        return false;
                    }
                }
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.term.write_str(LEAVE);
    }
}

/// A frame that is drawn over the one before: each line to its end, then nothing below; as one update where the terminal
/// can (mode 2026). Lines that are too long go on below, further in; what does not fit is cut, with a last line that says so.
fn frame(text: &str, width: u16, height: u16) -> String {
    let (width, height) = (usize::from(width.max(1)), usize::from(height.max(2)));
    let lines: Vec<String> = text.lines().flat_map(|line| folded(line, width)).collect();
    // The last line is for the help.
    let room = height - 1;
    let shown = if lines.len() > room {
        room.saturating_sub(1)
    } else {
        lines.len()
    };
    let mut frame = "\x1b[?2026h\x1b[H".to_owned();
    for line in &lines[..shown] {
        let _ = write!(frame, "{line}\x1b[K\r\n");
    }
    let hidden = lines.len() - shown;
    if hidden > 0 {
        let more: String = format!("… {hidden} more lines")
            .chars()
            .take(width)
            .collect();
        let _ = write!(frame, "{more}\x1b[K\r\n");
    }
    let help: String = "q ends".chars().take(width).collect();
    let _ = write!(frame, "\x1b[2m{help}\x1b[0m\x1b[K\x1b[J\x1b[?2026l");
    frame
}

/// A line in pieces of at most `width` columns, broken between words where it can be.
fn folded(line: &str, width: usize) -> Vec<String> {
    let chars: Vec<char> = line.chars().collect();
    let lead = chars.iter().take_while(|it| **it == ' ').count();
    let indent = if lead + 2 < width / 2 { lead + 2 } else { 0 };
    let (mut pieces, mut rest) = (Vec::new(), chars.as_slice());
    loop {
        let before = if pieces.is_empty() { 0 } else { indent };
        let room = width - before;
        let margin = " ".repeat(before);
        if rest.len() <= room {
            pieces.push(margin + &rest.iter().collect::<String>());
            return pieces;
        }
        let blank = rest[..=room].iter().rposition(|it| *it == ' ');
        let end = blank.filter(|at| *at > lead).unwrap_or(room);
        pieces.push(margin + &rest[..end].iter().collect::<String>());
        rest = &rest[end..];
        while rest.first() == Some(&' ') {
            rest = &rest[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{folded, frame};

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
        assert!(drawn.contains(" more lines\x1b[K"), "{drawn}");
        let widest = drawn
            .split("\r\n")
            .skip(1)
            .map(|line| line.replace("\x1b[K", "").chars().count());
        assert!(widest.take(8).all(|width| width <= 40));
        // Nothing is cleared before it is drawn over.
        assert!(!drawn.contains("\x1b[2J") && drawn.ends_with("\x1b[J\x1b[?2026l"));
    }

    #[test]
    fn a_long_line_goes_on_below_between_words() {
        assert_eq!(folded("one two three", 8), ["one two", "  three"]);
        assert_eq!(folded("  one two three", 12), ["  one two", "    three"]);
        assert_eq!(folded("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(folded("", 4), [""]);
        for width in 1..40 {
            let line = "   what waits, and why: /srv/a/very/long/path of someone";
            let pieces = folded(line, width);
            assert!(
                pieces.iter().all(|it| it.chars().count() <= width),
                "{pieces:?}"
            );
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&pieces.concat()), letters(line));
        }
    }

    #[test]
    fn a_short_text_is_shown_whole() {
        let drawn = frame("one\ntwo\n", 80, 24);
        assert!(drawn.contains("one\x1b[K\r\ntwo\x1b[K\r\n") && !drawn.contains("more lines"));
        assert!(!frame("x", 0, 0).is_empty());
    }
}
