//! Reading the ledger: segments in order, each line checked against the hash of the one before, whole groups only.
//!
//! What may be wrong with a ledger is told apart here: a torn end (a crash during the last write, harmless) from
//! corruption (anything else, never repaired silently).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LedgerError, VERSION};
use crate::filing::record::{Position, Record};

/// The longest line that is read; a record is a few kilobytes.
const LONGEST_LINE: u64 = 16 << 20;

/// One line as it is written. Exactly one of `ledger`, `record` and `commit` is there; a later version may add fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The format's version.
    pub v: u32,
    /// When it was written, microseconds since the Unix epoch.
    pub t: i64,
    /// The hash of the line before; empty in the very first.
    pub prev: String,
    /// First line of a segment: the ledger's instance id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// A record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Last line of a group: how many records it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
}

/// The hash of a line without its newline.
pub(super) fn hash_line(line: &[u8]) -> String {
    blake3::hash(line).to_hex()[..32].to_owned()
}

/// The path of a segment.
pub(super) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.jsonl"))
}

/// The numbers of all segments, in order; a gap is corruption.
pub(super) fn segments(dir: &Path) -> Result<Vec<u32>, LedgerError> {
    let mut numbers = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        other => other.map_err(|error| LedgerError::io(dir, error))?,
    };
    for entry in entries {
        let name = entry
            .map_err(|error| LedgerError::io(dir, error))?
            .file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jsonl"))
            .and_then(|stem| stem.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    match numbers
        .iter()
        .zip(1..)
        .find(|(number, expected)| *number != expected)
    {
        None => Ok(numbers),
        Some((_, missing)) => Err(LedgerError::Corrupt {
            segment: segment_path(dir, missing),
            offset: 0,
            what: "the segment is missing although later ones are there".into(),
        }),
    }
}

/// The lines of one segment, up to where it ended when it was opened: a writer may be at work behind that.
type Lines = BufReader<io::Take<File>>;

/// Opens a segment at an offset; also tells how much there is to be read.
fn open_segment(path: &Path, offset: u64) -> io::Result<(Lines, u64)> {
    let mut file = File::open(path)?;
    let rest = file.metadata()?.len().saturating_sub(offset);
    file.seek(SeekFrom::Start(offset))?;
    Ok((BufReader::new(file.take(rest)), rest))
}

/// What comes next in a ledger.
pub(super) enum Step {
    /// A valid line at its position; `end` is where the next begins.
    Line {
        at: Position,
        end: u64,
        line: Box<Line>,
    },
    /// Nothing more; `torn` says what is wrong with what follows the last valid line, if anything follows.
    End { torn: Option<String> },
}

/// Walks over lines, checking the chain.
pub(super) struct Chain {
    dir: PathBuf,
    ahead: VecDeque<u32>,
    segment: u32,
    offset: u64,
    reader: Option<Lines>,
    prev: String,
    /// Whether the last line read was a segment's first or a commit.
    settled: bool,
}

impl Chain {
    /// Starts at the beginning, or behind the line at `from`, which must be there with that hash.
    pub fn new(dir: &Path, from: Option<&Position>) -> Result<Self, LedgerError> {
        let mut ahead: VecDeque<u32> = segments(dir)?.into();
        let Some(from) = from else {
            let dir = dir.to_owned();
            return Ok(Self {
                dir,
                ahead,
                segment: 0,
                offset: 0,
                reader: None,
                prev: String::new(),
                settled: true,
            });
        };
        ahead.retain(|segment| *segment > from.segment);
        let path = segment_path(dir, from.segment);
        let mismatch = || LedgerError::Mismatch {
            segment: path.clone(),
            offset: from.offset,
        };
        let (mut reader, _) = open_segment(&path, from.offset).map_err(|_| mismatch())?;
        let line = read_line(&mut reader).map_err(|error| LedgerError::io(&path, error))?;
        match line.strip_suffix(b"\n") {
            Some(text) if hash_line(text) == from.hash => {}
            _ => return Err(mismatch()),
        }
        Ok(Self {
            dir: dir.to_owned(),
            ahead,
            segment: from.segment,
            offset: from.offset + line.len() as u64,
            reader: Some(reader),
            prev: from.hash.clone(),
            settled: true,
        })
    }

    /// The segment and the offset of what comes next; zeros before anything is read.
    pub fn place(&self) -> (u32, u64) {
        (self.segment, self.offset)
    }

    fn corrupt(&self, what: &str) -> LedgerError {
        LedgerError::Corrupt {
            segment: segment_path(&self.dir, self.segment),
            offset: self.offset,
            what: what.to_owned(),
        }
    }

    /// The next line. Behind a [`Step::End`] there is nothing to be asked for.
    pub fn step(&mut self) -> Result<Step, LedgerError> {
        loop {
            let path = segment_path(&self.dir, self.segment);
            let bytes = match &mut self.reader {
                Some(reader) => read_line(reader).map_err(|error| LedgerError::io(&path, error))?,
                None => Vec::new(),
            };
            if !bytes.is_empty() {
                return self.check(&bytes);
            }
            let Some(next) = self.ahead.pop_front() else {
                return Ok(Step::End { torn: None });
            };
            if !self.settled {
                return Err(
                    self.corrupt("the segment ends within a group although later ones are there")
                );
            }
            let path = segment_path(&self.dir, next);
            let (reader, length) =
                open_segment(&path, 0).map_err(|error| LedgerError::io(&path, error))?;
            (self.segment, self.offset, self.reader) = (next, 0, Some(reader));
            if length == 0 {
                return self.torn("the segment is empty");
            }
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<Step, LedgerError> {
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return self.torn("the line has no end");
        };
        let Some(line) = parse(text) else {
            return self.torn("the line cannot be read");
        };
        if line.v > VERSION {
            return Err(LedgerError::Newer {
                segment: segment_path(&self.dir, self.segment),
                offset: self.offset,
                version: line.v,
            });
        }
        if line.prev != self.prev {
            return Err(self.corrupt("the line does not fit the one before it"));
        }
        if (self.offset == 0) != line.ledger.is_some() {
            return Err(self.corrupt("a segment's first line is missing or misplaced"));
        }
        let at = Position {
            segment: self.segment,
            offset: self.offset,
            hash: hash_line(text),
        };
        self.offset += bytes.len() as u64;
        self.prev.clone_from(&at.hash);
        self.settled = line.record.is_none();
        Ok(Step::Line {
            at,
            end: self.offset,
            line: Box::new(line),
        })
    }

    /// Something unreadable: the torn end of the last segment if nothing readable comes after it, else corruption.
    fn torn(&mut self, what: &str) -> Result<Step, LedgerError> {
        let mut more = !self.ahead.is_empty();
        if let Some(reader) = &mut self.reader {
            let path = segment_path(&self.dir, self.segment);
            loop {
                let bytes = read_line(reader).map_err(|error| LedgerError::io(&path, error))?;
                if bytes.is_empty() {
                    break;
                }
                more |= bytes
                    .strip_suffix(b"\n")
                    .is_some_and(|text| parse(text).is_some());
            }
        }
        if more {
            return Err(self.corrupt(&format!("{what}, but valid lines follow")));
        }
        Ok(Step::End {
            torn: Some(what.to_owned()),
        })
    }
}

/// Reads up to and with the next newline; less at the end of the file or when no newline comes for very long.
fn read_line(reader: &mut Lines) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes)?;
    Ok(bytes)
}

fn parse(text: &[u8]) -> Option<Line> {
    let line: Line = serde_json::from_slice(text).ok()?;
    (line.prev.is_empty() || line.prev.len() == 32).then_some(line)
}

/// The committed records of a ledger, in order.
pub struct Reader {
    chain: Chain,
    group: Vec<(Position, i64, Record)>,
    ready: VecDeque<(Position, i64, Record)>,
    ended: bool,
}

impl Reader {
    pub(super) fn new(dir: &Path, from: Option<&Position>) -> Result<Self, LedgerError> {
        let chain = Chain::new(dir, from)?;
        Ok(Self {
            chain,
            group: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
        })
    }
}

impl Iterator for Reader {
    type Item = Result<(Position, i64, Record), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.ended {
            match self.chain.step() {
                Ok(Step::Line { at, line, .. }) => {
                    if line.commit.is_some() {
                        self.ready.extend(self.group.drain(..));
                    } else if let Some(record) = line.record {
                        self.group.push((at, line.t, record));
                    }
                }
                Ok(Step::End { .. }) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
