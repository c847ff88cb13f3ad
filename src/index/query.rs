//! Questions about many files: which of them, the newest first, or how many.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{CategoryId, Reason, Uid, View};
use crate::filing::record::Fate;

use super::entry::{Entry, State};
use super::keys::{self, Kind};
use super::store::{Part, Trees};
use super::{Index, Result};

/// Whether a person has said what a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelState {
    /// Somebody has.
    Given,
    /// Somebody seems to have: it waits to be accepted.
    Pending,
    /// Nobody has, and nothing waits.
    None,
}

impl LabelState {
    /// The name used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Pending => "pending",
            Self::None => "none",
        }
    }

    /// The states of an entry: at least one; it can have a label and another one that waits.
    pub fn of(entry: &Entry) -> Vec<Self> {
        match (&entry.label, &entry.pending) {
            (None, None) => vec![Self::None],
            (Some(_), None) => vec![Self::Given],
            (None, Some(_)) => vec![Self::Pending],
            (Some(_), Some(_)) => vec![Self::Given, Self::Pending],
        }
    }
}

impl std::str::FromStr for LabelState {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        [Self::Given, Self::Pending, Self::None]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| "there are: given, pending, none".to_owned())
    }
}

/// Which entries; every condition that is given must hold. Only live entries are found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// What it is (a person's label, else the model's likeliest category).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<CategoryId>,
    /// The view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// Study Instance UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study: Option<Uid>,
    /// Filed at this time or later, microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<i64>,
    /// Filed before this time, microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_us: Option<i64>,
    /// The watch that it came through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Bundle name, version, or both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Joint confidence below this, 0 to 1; files that no model was asked about are not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f32>,
    /// Why it was not filed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// Whether a person has said what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelState>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Query {
    /// Whether an entry is one of those asked for.
    pub fn matches(&self, entry: &Entry) -> bool {
        fn same<T: PartialEq>(asked: Option<&T>, has: Option<&T>) -> bool {
            asked.is_none() || asked == has
        }
        entry.state == State::Live
            && same(self.category.as_ref(), entry.category.as_ref())
            && same(self.view.as_ref(), entry.view.as_ref())
            && same(self.study.as_ref(), entry.study_instance_uid.as_ref())
            && same(self.source.as_ref(), entry.watch.as_ref())
            && same(self.reason.as_ref(), entry.reason.as_ref())
            && same(self.fate.as_ref(), Some(&entry.fate))
            && self
                .label
                .is_none_or(|state| LabelState::of(entry).contains(&state))
            && self.since_us.is_none_or(|since| entry.filed_us >= since)
            && self.until_us.is_none_or(|until| entry.filed_us < until)
            && self.below.is_none_or(|limit| {
                entry
                    .confidence
                    .is_some_and(|confidence| confidence < limit)
            })
            && self
                .model
                .as_ref()
                .is_none_or(|asked| entry.model.as_ref().is_some_and(|has| is_model(has, asked)))
    }

    /// The most selective key that leads to the entries, and whether it alone (with the time) decides.
    fn key(&self) -> (Kind, Vec<u8>, bool) {
        let text = |value: &str| value.as_bytes().to_vec();
        let (kind, value) = if let Some(study) = &self.study {
            (Kind::Study, text(study.as_str()))
        } else if let Some(reason) = self.reason {
            (Kind::Reason, text(reason.code()))
        } else if let Some(state) = self.label.filter(|state| *state != LabelState::None) {
            (Kind::Label, text(state.as_str()))
        } else if let Some(category) = &self.category {
            (Kind::Category, text(category.as_str()))
        } else if let Some(fate) = self.fate {
            (Kind::Fate, text(fate.as_str()))
        } else {
            (Kind::Time, Vec::new())
        };
        (
            kind,
            value,
            self.conditions() == usize::from(kind != Kind::Time),
        )
    }

    /// How many conditions there are beside the time.
    fn conditions(&self) -> usize {
        [
            self.category.is_some(),
            self.view.is_some(),
            self.study.is_some(),
            self.source.is_some(),
            self.model.is_some(),
            self.below.is_some(),
            self.reason.is_some(),
            self.fate.is_some(),
            self.label.is_some(),
        ]
        .into_iter()
        .filter(|given| *given)
        .count()
    }

    /// The counters whose sum is the answer, when there are such.
    fn counters(&self, index: &Index) -> Result<Option<u64>> {
        if self.since_us.is_some() || self.until_us.is_some() || self.conditions() > 1 {
            return Ok(None);
        }
        let one = |name: String| -> Result<Option<u64>> {
            Ok(Some(index.counters(&name)?.get("").copied().unwrap_or(0)))
        };
        let sum = |prefix: String| -> Result<Option<u64>> {
            Ok(Some(index.counters(&prefix)?.values().sum()))
        };
        if let Some(category) = &self.category {
            one(format!("category/{category}"))
        } else if let Some(reason) = self.reason {
            one(format!("reason/{reason}"))
        } else if let Some(fate) = self.fate {
            one(format!("fate/{fate}"))
        } else if let Some(state) = self.label {
            one(format!("label/{}", state.as_str()))
        } else if let Some(watch) = &self.source {
            sum(format!("watch/{watch}/"))
        } else if let Some(model) = &self.model {
            let models = index.counters("model/")?;
            Ok(Some(
                models
                    .iter()
                    .filter(|(has, _)| is_model(has, model))
                    .map(|(_, count)| count)
                    .sum(),
            ))
        } else if self.conditions() == 0 {
            sum("fate/".to_owned())
        } else {
            Ok(None)
        }
    }
}

/// Whether `asked` is a model's full name or one of its words, e.g. the version alone.
fn is_model(has: &str, asked: &str) -> bool {
    has == asked || has.split([' ', '@']).any(|word| word == asked)
}

impl Index {
    /// The entries that a query asks for, the newest first. One that changes while this runs may be passed over.
    pub fn query(&self, query: &Query) -> Entries {
        let trees = self.trees();
        let (kind, value, _) = query.key();
        Entries {
            keys: range(&trees, query, kind, &value),
            trees,
            left: query.limit.unwrap_or(u64::MAX),
            query: query.clone(),
        }
    }

    /// How many entries a query asks for, its limit aside. One condition alone is answered by a counter; one
    /// indexed condition with times by counting keys; anything else looks at every entry in question.
    pub fn count(&self, query: &Query) -> Result<u64> {
        if let Some(count) = query.counters(self)? {
            return Ok(count);
        }
        let (kind, value, decides) = query.key();
        let mut count = 0;
        if decides {
            for item in range(&self.trees(), query, kind, &value) {
                item?;
                count += 1;
            }
        } else {
            for entry in self.query(&Query {
                limit: None,
                ..query.clone()
            }) {
                entry?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// The keys of one kind and value within the query's times, the newest first.
fn range(trees: &Trees, query: &Query, kind: Kind, value: &[u8]) -> std::iter::Rev<sled::Iter> {
    let prefix = keys::prefix(kind, value);
    let at = |time_us: i64| [prefix.as_slice(), &keys::time(time_us)].concat();
    let start = at(query.since_us.unwrap_or(i64::MIN));
    // The separator is 0: one more ends the prefix.
    let end = query.until_us.map_or_else(
        || {
            let mut end = prefix.clone();
            if let Some(last) = end.last_mut() {
                *last = 1;
            }
            end
        },
        at,
    );
    // sled panics on an inverted range.
    let end = end.max(start.clone());
    trees.tree(Part::Keys).range(start..end).rev()
}

/// The answer to a [`Query`].
pub struct Entries {
    trees: Arc<Trees>,
    keys: std::iter::Rev<sled::Iter>,
    query: Query,
    left: u64,
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        loop {
            let id = match self.keys.next()? {
                Ok((_, id)) => id,
                Err(err) => return Some(Err(err.into())),
            };
            match self.trees.get::<Entry>(Part::Entries, &id) {
                Ok(Some(entry)) if self.query.matches(&entry) => {
                    self.left -= 1;
                    return Some(Ok(entry));
                }
                // Gone or changed since its key was read.
                Ok(_) => {}
                Err(err) => return Some(Err(err)),
            }
        }
    }
}
