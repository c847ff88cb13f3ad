//! What is said on the control socket. One JSON object a line, each with the protocol version `v`.
//!
//! A client sends one request and reads replies until `done` or `error`, then may send the next. Replies that take
//! long are interspersed with `alive`. A line that cannot be understood is answered with `error`, never with a
//! hang-up, unless it is longer than [`MAX_LINE`]. Fields may be added; a client ignores what it does not know.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::domain::CategoryId;
use crate::filing::record::RecordId;
use crate::index::entry::{Entry, Story};
use crate::index::query::Query;
use crate::index::verify::{Difference, Summary};

/// Raised when an older side would misunderstand a newer one.
pub const VERSION: u32 = 1;

/// Bytes that a line may have, newline included.
pub const MAX_LINE: usize = 1 << 20;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon is: one `status`.
    Status {},
    /// Entries, each an `entry`.
    Query {
        /// Which.
        query: Query,
    },
    /// How many entries: one `count`.
    Count {
        /// Which.
        query: Query,
    },
    /// The whole story of one file: a `story` for each that fits.
    Show {
        /// A record id, a SOP Instance UID or an absolute path.
        what: String,
    },
    /// Read the configuration and the model again; `done` once they are in use.
    Reload {},
    /// Sort directories that are not watched: `sort-progress`, then one `sorted`.
    Sort {
        /// Absolute paths.
        dirs: Vec<PathBuf>,
        /// Decide only.
        dry_run: bool,
    },
    /// What lies in the quarantine, each an `entry`.
    QuarantineList {},
    /// Put files back where they came from: one `released` each.
    QuarantineRelease {
        /// Record ids, SOP Instance UIDs or absolute paths.
        what: Vec<String>,
    },
    /// What a person says about files: one `judged` each.
    Judge {
        /// What they say.
        judgement: Judgement,
    },
    /// Look at the library now: one `looked`.
    LookAtLibrary {},
    /// Draw filed files at random to be judged: each an `entry`, then one `audit`.
    AuditSample {
        /// How many.
        count: u64,
        /// The same seed draws the same files.
        seed: u64,
    },
    /// Take filed files back to where they came from: one `released` each.
    Undo {
        /// Which.
        which: Undo,
        /// Only say which.
        dry_run: bool,
    },
    /// Build the index again: `progress`, then one `reindexed`.
    Reindex {},
    /// Compare ledger, index and folders: `progress` and `difference`, then one `verified`.
    Verify {
        /// Also read every file.
        digests: bool,
    },
    /// Every file that gets its fate from now on, each an `entry`, until the client hangs up.
    Subscribe {},
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// How the daemon is.
    Status(Box<Status>),
    /// One file.
    Entry(Box<Entry>),
    /// How many.
    Count {
        /// Entries.
        count: u64,
    },
    /// The whole story of one file.
    Story(Box<Story>),
    /// How far a pass over directories is.
    SortProgress(SortProgress),
    /// The end of a pass over directories.
    Sorted(SortSummary),
    /// What became of one file that was to be released.
    Released(Released),
    /// What became of one file that was judged.
    Judged(Judged),
    /// What a look at the library has found.
    Looked(Looked),
    /// The end of an audit's sample.
    Audit(AuditList),
    /// How far a long task is.
    Progress(Progress),
    /// The index has been built again.
    Reindexed {
        /// Records of the ledger.
        records: u64,
    },
    /// Something that does not agree.
    Difference(Difference),
    /// The end of a comparison.
    Verified(Summary),
    /// Still at it.
    Alive {},
    /// The request has been answered in full.
    Done {},
    /// The request cannot be answered (any further).
    Error(Refusal),
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: what happened and what to do. Holds no patient's identity.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Something went wrong on the daemon's side; the chain of causes is told.
    pub fn failed(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::new(Code::Failed, message)
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is no request that this daemon knows.
    BadRequest,
    /// The line has another protocol version.
    Version,
    /// Nothing fits.
    NotFound,
    /// The peer may not do this.
    Forbidden,
    /// Too many clients, or the same task is running.
    Busy,
    /// It was tried and went wrong.
    Failed,
    /// The daemon is about to stop.
    Stopping,
    /// A kind that a later version uses.
    #[serde(other)]
    Unknown,
}

/// How far a long task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, for people.
    pub stage: String,
    /// How many are done.
    pub done: u64,
    /// Of how many, when that is known.
    pub total: Option<u64>,
}

/// How far a pass over directories is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SortProgress {
    /// Files found so far.
    pub found: u64,
    /// Whether all have been found.
    pub complete: bool,
    /// What became of them so far.
    pub so_far: SortSummary,
}

/// What became of the files of a pass over directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SortSummary {
    /// In a category's folder.
    pub filed: u64,
    /// In review, conflicts included.
    pub review: u64,
    /// In `_other/`.
    pub other: u64,
    /// Left where they are.
    pub left: u64,
    /// In the quarantine.
    pub quarantined: u64,
    /// Known already.
    pub duplicates: u64,
    /// Of all these, only decided on: nothing was touched.
    #[serde(default)]
    pub observed: u64,
    /// Not settled, or not ours to take.
    pub waiting: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What became of one file that was to go back to where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// As it was asked for.
    pub what: String,
    /// Where it is now, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why it is still where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What of it could not be made as it was (its owner, as a rule).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_restored: Option<String>,
    /// What a person had said that it is, which no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<CategoryId>,
}

impl Released {
    /// What became of a file: where it is now, and what of it could not be restored; or why it is where it was.
    pub fn new(what: String, became: Result<(String, Option<String>), String>) -> Self {
        let (to, not_restored, error) = match became {
            Ok((to, not_restored)) => (Some(to), not_restored, None),
            Err(error) => (None, None, Some(error)),
        };
        Self {
            what,
            to,
            error,
            not_restored,
            label: None,
        }
    }

    /// The same of a file with a person's label, which goes with it where the file goes.
    #[must_use]
    pub fn with_label(mut self, label: Option<CategoryId>) -> Self {
        self.label = label.filter(|_| self.error.is_none());
        self
    }
}

/// What a person says about files. Files are named by record ids, SOP Instance UIDs or absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Judgement {
    /// It is something else: it gets this label and goes into that category's folder.
    Correct {
        /// The file.
        what: String,
        /// Category id (or its folder's name).
        category: String,
        /// What the person adds.
        note: Option<String>,
        /// Also a category that the bundle in use does not know.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        new_category: bool,
    },
    /// They are what their records say.
    Confirm {
        /// The files.
        what: Vec<String>,
    },
    /// A list from elsewhere; no file is moved.
    Import {
        /// Its rows.
        rows: Vec<ImportRow>,
        /// Also categories that the bundle in use does not know.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        new_category: bool,
    },
    /// Labels that wait count from now on, or are forgotten.
    Settle {
        /// Count, or are forgotten.
        accept: bool,
        /// The files; empty: all that wait, to be accepted only if the bundle in use knows their categories.
        what: Vec<String>,
        /// All that wait and say this, whether the bundle in use knows it or not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        category: Option<CategoryId>,
    },
}

/// One row of an imported list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRow {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// Category id (or its folder's name); `neither` or nothing: it belongs under none.
    pub category: String,
    /// Who says so.
    #[serde(default)]
    pub person: Option<String>,
    /// What they add.
    #[serde(default)]
    pub note: Option<String>,
    /// Where the label comes from, as `radsort labels export` writes it.
    #[serde(default)]
    pub origin: Option<String>,
    /// When it was said, as `radsort labels export` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

/// What became of one file that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// As it was asked for.
    pub what: String,
    /// Its category from now on, when that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Where it is now, absolute, when it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why nothing was recorded; or, with a category, why the file was not moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The file had this label already: nothing was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// What a look at the library has found and recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Looked {
    /// Files that lie where their records say.
    pub in_place: u64,
    /// Files that a person has moved.
    pub moved: u64,
    /// Labels that follow from that.
    pub labels: u64,
    /// Labels that wait to be accepted.
    pub pending: u64,
    /// Files that people have put there, recorded now.
    pub adopted: u64,
    /// Files that are nowhere to be found since the look before.
    pub missing: u64,
}

/// Which files are to be taken back: those that are named, else those that all conditions fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Undo {
    /// Record ids, SOP Instance UIDs or absolute paths.
    pub what: Vec<String>,
    /// Filed at this time or later, microseconds since the Unix epoch.
    pub since_us: Option<i64>,
    /// Bundle name, version, or both.
    pub model: Option<String>,
    /// Nothing is taken back: what was given back before may be taken again.
    pub let_go: bool,
}

/// Files that were drawn at random, for a person to confirm or correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    /// Its name: when it was drawn.
    pub id: String,
    /// When it was drawn, microseconds since the Unix epoch.
    pub drawn_us: i64,
    /// The seed.
    pub seed: u64,
    /// How many filed files there were to draw from.
    pub filed: u64,
    /// The files, in the order in which they were drawn.
    pub files: Vec<RecordId>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

/// A message as a line, newline included.
pub fn to_line<T: Serialize>(body: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(&Envelope { v: VERSION, body })?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a request; whatever the bytes, the answer is a request or a refusal that says what is wrong.
pub fn parse_request(line: &[u8]) -> Result<Request, Refusal> {
    let bad = |why: String| Refusal::new(Code::BadRequest, why);
    let value: serde_json::Value = serde_json::from_slice(line)
        .map_err(|err| bad(format!("not a JSON object on one line: {err}")))?;
    let serde_json::Value::Object(mut message) = value else {
        return Err(bad("not a JSON object".to_owned()));
    };
    match message.remove("v").as_ref().map(serde_json::Value::as_u64) {
        Some(Some(version)) if version == u64::from(VERSION) => {}
        Some(Some(version)) => {
            let text = format!("protocol version {version} is not spoken here, only {VERSION}");
            return Err(Refusal::new(Code::Version, text));
        }
        _ => {
            return Err(bad(format!(
                "the protocol version is missing: \"v\": {VERSION}"
            )));
        }
    }
    Request::deserialize(serde_json::Value::Object(message)).map_err(|err| bad(err.to_string()))
}

/// Reads a reply.
pub fn parse_reply(line: &[u8]) -> Result<Reply, String> {
    let envelope: Envelope<serde_json::Value> =
        serde_json::from_slice(line).map_err(|err| err.to_string())?;
    if envelope.v != VERSION {
        return Err(format!(
            "it speaks protocol version {}, this program {VERSION}",
            envelope.v
        ));
    }
    Reply::deserialize(envelope.body).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn requests() -> Vec<Request> {
        let query = Query {
            below: Some(0.7),
            limit: Some(3),
            ..Query::default()
        };
        vec![
            Request::Status {},
            Request::Query {
                query: query.clone(),
            },
            Request::Count { query },
            Request::Show {
                what: "1.2.3".into(),
            },
            Request::Reload {},
            Request::Sort {
                dirs: vec!["/a/b c".into()],
                dry_run: true,
            },
            Request::QuarantineList {},
            Request::QuarantineRelease {
                what: vec!["1.2.3".into(), "/q/x.dcm".into()],
            },
            Request::Reindex {},
            Request::Verify { digests: true },
            Request::Subscribe {},
        ]
    }

    #[test]
    fn every_request_survives_the_wire() {
        for request in requests() {
            let line = to_line(&request).unwrap();
            assert!(!line[..line.len() - 1].contains(&b'\n'));
            assert_eq!(parse_request(&line).unwrap(), request);
        }
    }

    #[test]
    fn every_reply_survives_the_wire() {
        for reply in [
            Reply::Status(Box::default()),
            Reply::Count { count: 7 },
            Reply::SortProgress(SortProgress {
                found: 3,
                ..SortProgress::default()
            }),
            Reply::Sorted(SortSummary {
                filed: 2,
                seconds: 1.5,
                ..SortSummary::default()
            }),
            Reply::Released(Released::new("x".into(), Err("gone".into()))),
            Reply::Progress(Progress {
                stage: "reading".into(),
                done: 1,
                total: None,
            }),
            Reply::Reindexed { records: 5 },
            Reply::Alive {},
            Reply::Done {},
            Reply::Error(Refusal::new(Code::Busy, "too many")),
        ] {
            assert_eq!(parse_reply(&to_line(&reply).unwrap()).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        let refused = |line: &str| parse_request(line.as_bytes()).unwrap_err();
        assert_eq!(refused(r#"{"v":2,"request":"status"}"#).code, Code::Version);
        assert!(
            refused(r#"{"request":"status"}"#)
                .message
                .contains("version")
        );
        let unknown = refused(r#"{"v":1,"request":"make-coffee"}"#);
        assert_eq!(unknown.code, Code::BadRequest);
        assert!(
            unknown.message.contains("make-coffee") && unknown.message.contains("status"),
            "{unknown}"
        );
        assert!(
            refused(r#"{"v":1,"request":"status","extra":1}"#)
                .message
                .contains("extra")
        );
        assert!(refused("[]").message.contains("object"));
        assert!(refused(&"[".repeat(100_000)).message.contains("JSON"));
    }

    #[test]
    fn a_refusal_of_a_later_version_is_still_understood() {
        let reply = parse_reply(
            br#"{"v":1,"reply":"error","code":"on-holiday","message":"come back later"}"#,
        )
        .unwrap();
        assert_eq!(
            reply,
            Reply::Error(Refusal::new(Code::Unknown, "come back later"))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_request_or_refused(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_request(&line);
            let _ = parse_reply(&line);
        }

        #[test]
        fn damaged_requests_are_a_request_or_refused(which in 0usize..11, at in any::<usize>(), byte in any::<u8>()) {
            let mut line = to_line(&requests()[which]).unwrap();
            let at = at % line.len();
            line[at] = byte;
            if let Err(refusal) = parse_request(&line) {
                prop_assert!(!refusal.message.is_empty());
            }
        }
    }
}
