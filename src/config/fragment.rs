//! What a site wrote: TOML files merged into one tree in which every key and value knows its file, line and column.
//!
//! Reading a [`Section`] takes its keys out one by one; what is left in the end is unknown. Nothing stops at the first
//! problem: all of them are collected, so that a person corrects a file once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::units::{duration, nearest};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Problems found so far, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes one.
    pub fn add(&self, place: &Place, message: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            place: place.clone(),
            message: message.into(),
        });
    }

    /// All of them, by place.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort();
        problems.dedup();
        problems
    }
}

/// A value with the place where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    place: Place,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Other(&'static str),
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Other(kind) => kind,
            Self::Array(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

/// Keys with the place of the key, and what they hold.
type Table = BTreeMap<String, (Place, Node)>;

/// Translates byte offsets of one file into places.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    fn new(file: &'a Path, text: &'a str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            text,
            line_starts,
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let offset = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self
            .text
            .get(start..offset)
            .map_or(offset - start, |before| before.chars().count())
            + 1;
        Place {
            file: self.file.to_owned(),
            line,
            column,
        }
    }

    fn table(&self, table: &DeTable<'_>, problems: &Problems) -> Table {
        let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            (
                name.to_string(),
                (self.place(key.span()), self.node(value, problems)),
            )
        };
        table.iter().map(entry).collect()
    }

    fn node(&self, value: &toml::Spanned<DeValue<'_>>, problems: &Problems) -> Node {
        let place = self.place(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => {
                if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
                    Value::Integer(number)
                } else {
                    problems.add(&place, "this integer is too large");
                    Value::Other("an integer that is too large")
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => Value::Other("a number that cannot be read"),
            },
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.node(item, problems)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table, problems)),
        };
        Node { place, value }
    }
}

/// Parses one file; what is wrong with its syntax is noted, and the rest is read as far as possible.
pub fn parse(file: &Path, text: &str, problems: &Problems) -> Node {
    let source = Source::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        problems.add(
            &source.place(error.span().unwrap_or(0..0)),
            error.message().trim(),
        );
    }
    let value = Value::Table(source.table(table.get_ref(), problems));
    Node {
        place: source.place(0..0),
        value,
    }
}

/// Lays `later` over `earlier`: sections are merged, lists of sections (`[[watch]]`) joined, all else replaced.
pub fn merge(earlier: &mut Node, later: Node) {
    match (&mut earlier.value, later.value) {
        (Value::Table(earlier), Value::Table(later)) => {
            for (key, (place, node)) in later {
                match earlier.get_mut(&key) {
                    Some((_, existing)) => merge(existing, node),
                    None => {
                        earlier.insert(key, (place, node));
                    }
                }
            }
        }
        (Value::Array(earlier), Value::Array(later))
            if earlier.iter().chain(&later).all(is_table) =>
        {
            earlier.extend(later);
        }
        (value, later_value) => {
            *value = later_value;
            earlier.place = later.place;
        }
    }
}

fn is_table(node: &Node) -> bool {
    matches!(node.value, Value::Table(_))
}

/// A value that was read, and where it stood; defaults stand where their section starts.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

impl<T> Located<T> {
    /// Keeps the place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: change(self.value),
            place: self.place,
        }
    }
}

/// A section that is being read.
#[derive(Debug)]
#[must_use = "unknown keys are found by `finish`"]
pub struct Section<'a> {
    /// As it is written in the file, e.g. `[library]`; empty for the top level.
    name: String,
    /// Where it starts.
    pub place: Place,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// The top level.
    pub fn top(node: Node, problems: &'a Problems) -> Self {
        let Node { place, value } = node;
        let table = if let Value::Table(table) = value {
            table
        } else {
            Table::new()
        };
        Self {
            name: String::new(),
            place,
            table,
            known: Vec::new(),
            problems,
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        self.table.remove(key).map(|(_, node)| node)
    }

    /// A section below; an absent one is empty.
    pub fn section(&mut self, key: &'static str, name: &str) -> Section<'a> {
        let name = name.to_owned();
        let problems = self.problems;
        match self.take(key) {
            Some(Node {
                place,
                value: Value::Table(table),
            }) => Section {
                name,
                place,
                table,
                known: Vec::new(),
                problems,
            },
            other => {
                if let Some(node) = &other {
                    self.problems
                        .add(&node.place, format!("{key:?} must be a section: {name}"));
                }
                let place = other.map_or_else(|| self.place.clone(), |node| node.place);
                Section {
                    name,
                    place,
                    table: Table::new(),
                    known: Vec::new(),
                    problems,
                }
            }
        }
    }

    /// The sections of a list, e.g. `[[watch]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let name = format!("[[{key}]]");
        let items = match self.take(key) {
            Some(Node {
                value: Value::Array(items),
                ..
            }) if items.iter().all(is_table) => items,
            Some(node) => {
                self.problems
                    .add(&node.place, format!("{key:?} must be written as {name}"));
                Vec::new()
            }
            None => Vec::new(),
        };
        let section = |Node { place, value }| {
            let table = if let Value::Table(table) = value {
                table
            } else {
                Table::new()
            };
            Section {
                name: name.clone(),
                place,
                table,
                known: Vec::new(),
                problems: self.problems,
            }
        };
        items.into_iter().map(section).collect()
    }

    /// Notes a problem with the section as a whole.
    pub fn problem(&self, message: impl fmt::Display) {
        self.problems
            .add(&self.place, format!("{}: {message}", self.name));
    }

    /// Notes a problem with something in the section.
    pub fn note(&self, place: &Place, message: impl Into<String>) {
        self.problems.add(place, message);
    }

    /// Reads one key; `read` says why a value will not do.
    fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let node = self.take(key)?;
        match read(&node.value) {
            Ok(value) => Some(Located {
                value,
                place: node.place,
            }),
            Err(message) => {
                self.problems.add(&node.place, format!("{key}: {message}"));
                None
            }
        }
    }

    /// A text that `parse` accepts.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        self.read(key, |value| match value {
            Value::String(text) => parse(text).map_err(|why| format!("{why}; expected {expected}")),
            other => Err(format!("expected {expected}, found {}", other.kind())),
        })
    }

    /// Any text.
    pub fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        self.parsed(key, "a string", |text| Ok(text.to_owned()))
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Located<Vec<Located<String>>>> {
        self.read(key, |value| {
            let wrong = || "expected a list of strings, e.g. [\"*.log\"]".to_owned();
            let Value::Array(items) = value else {
                return Err(wrong());
            };
            let text = |item: &Node| match &item.value {
                Value::String(text) => Ok(Located {
                    value: text.clone(),
                    place: item.place.clone(),
                }),
                _ => Err(wrong()),
            };
            items.iter().map(text).collect()
        })
    }

    /// An absolute path.
    pub fn path(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        self.parsed(
            key,
            "an absolute path, e.g. \"/srv/radsort/library\"",
            |text| {
                let path = Path::new(text);
                if text.contains('\0') {
                    Err("a path cannot hold a NUL".to_owned())
                } else if path.is_absolute() {
                    Ok(path.to_owned())
                } else {
                    Err(format!("{text:?} is not absolute"))
                }
            },
        )
    }

    /// An absolute path, or `auto` for `None`.
    pub fn path_or_auto(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        if self.is_word(key, "auto") {
            return None;
        }
        self.path(key)
    }

    /// Takes the key out when it holds exactly this word.
    pub fn is_word(&mut self, key: &'static str, word: &str) -> bool {
        let held =
            |(_, node): &(Place, Node)| matches!(&node.value, Value::String(text) if text == word);
        let is = self.table.get(key).is_some_and(held);
        if is {
            self.take(key);
        }
        is
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<Located<bool>> {
        self.read(key, |value| match value {
            Value::Boolean(boolean) => Ok(*boolean),
            other => Err(format!("expected true or false, found {}", other.kind())),
        })
    }

    /// An integer in a range.
    pub fn integer(&mut self, key: &'static str, range: Range<i64>) -> Option<Located<i64>> {
        let expected = format!(
            "expected an integer from {} to {}",
            range.start,
            range.end - 1
        );
        self.read(key, |value| match value {
            Value::Integer(number) if range.contains(number) => Ok(*number),
            Value::Integer(number) => Err(format!("{expected}, found {number}")),
            other => Err(format!("{expected}, found {}", other.kind())),
        })
    }

    /// A number from `low` to `high`.
    pub fn number(&mut self, key: &'static str, low: f64, high: f64) -> Option<Located<f64>> {
        self.read(key, |value| number(value, low, high))
    }

    /// All remaining keys, each a number from `low` to `high` (thresholds by category).
    pub fn numbers(&mut self, low: f64, high: f64) -> Vec<(Located<String>, f64)> {
        let mut numbers = Vec::new();
        for (key, (place, node)) in std::mem::take(&mut self.table) {
            match number(&node.value, low, high) {
                Ok(number) => numbers.push((Located { value: key, place }, number)),
                Err(message) => self.problems.add(&node.place, format!("{key}: {message}")),
            }
        }
        numbers
    }

    /// A time span in a range, e.g. `"120s"`.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Located<Duration>> {
        self.parsed(
            key,
            "a time span such as \"500ms\", \"120s\", \"5m\" or \"1h\"",
            |text| {
                let span = duration(text).ok_or_else(|| format!("{text:?} is no time span"))?;
                if range.contains(&span) {
                    Ok(span)
                } else {
                    Err(format!(
                        "{text:?} is not between {:?} and {:?}",
                        range.start(),
                        range.end()
                    ))
                }
            },
        )
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Located<T>> {
        let names = words
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        self.parsed(key, &format!("one of {names}"), |text| {
            let found = words
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, value)| *value);
            found.ok_or_else(
                || match nearest(text, words.iter().map(|(name, _)| *name)) {
                    Some(near) => format!("{text:?} is none of its values; did you mean {near:?}?"),
                    None => format!("{text:?} is none of its values"),
                },
            )
        })
    }

    /// Ends the reading: what is left is unknown. `elsewhere` are keys of other sections, to point there.
    pub fn finish(self, elsewhere: &[(&str, &str)]) {
        for (key, (place, _)) in &self.table {
            let near = nearest(key, self.known.iter().copied());
            let moved = elsewhere.iter().find(|(_, other)| other == key);
            let hint = match (near, moved) {
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, Some((section, _))) => format!("it belongs into {section}"),
                (None, None) => format!("known here: {}", self.known.join(", ")),
            };
            let here = if self.name.is_empty() {
                "at the top level"
            } else {
                self.name.as_str()
            };
            self.problems
                .add(place, format!("unknown key {key:?} ({here}); {hint}"));
        }
    }
}

fn number(value: &Value, low: f64, high: f64) -> Result<f64, String> {
    let expected = format!("expected a number from {low} to {high}");
    let number = match value {
        Value::Float(number) => *number,
        Value::Integer(number) => *number as f64,
        other => return Err(format!("{expected}, found {}", other.kind())),
    };
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{expected}, found {number}"))
    }
}
