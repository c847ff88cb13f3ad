//! From which confidence on a file is filed unseen: the bundle's thresholds, tightened by the site.
//!
//! A site may demand more than the bundle was tested with. It may demand less only with `may-loosen`.

use std::collections::BTreeMap;

use crate::config::settings::ReviewSettings;
use crate::domain::close_call::is_close_call;
use crate::domain::decision::{CategoryThreshold, ViewThresholds};
use crate::domain::{CategoryId, Prediction};

use super::Bundle;

/// A site's `[review]` does not fit its bundle.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// It demands less than the bundle.
    #[error(
        "[review] {key} = {value} demands less than the bundle {bundle} ({bundle_value}). {advice}"
    )]
    Looser {
        /// The key.
        key: String,
        /// What the site says.
        value: f32,
        /// The bundle.
        bundle: String,
        /// What the bundle says.
        bundle_value: f32,
        /// What to do.
        advice: &'static str,
    },
    /// It names a category that the bundle does not have.
    #[error(
        "[review] names the category {category}, which the bundle {bundle} does not have; did you mean {nearest}?"
    )]
    UnknownCategory {
        /// What the site says.
        category: String,
        /// The bundle.
        bundle: String,
        /// The nearest one that there is.
        nearest: String,
    },
    /// Not a confidence.
    #[error("[review] {key} = {value} is not between 0 and 1")]
    OutOfRange {
        /// The key.
        key: String,
        /// What the site says.
        value: f32,
    },
}

const ADVICE: &str = "The bundle's thresholds are those that it was tested with. Leave the key out, raise it, \
                      or set may-loosen = true to answer for it yourself.";

/// The thresholds in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    categories: BTreeMap<CategoryId, f32>,
    uncertified: Vec<CategoryId>,
    view: ViewThresholds,
    loosened: bool,
}

impl Thresholds {
    /// The bundle's thresholds with a site's `[review]` applied.
    pub fn new(bundle: &Bundle, review: &ReviewSettings) -> Result<Self, ThresholdError> {
        let rules = Rules {
            bundle: bundle.name_and_version(),
            may_loosen: review.may_loosen,
        };
        let of_bundle = bundle
            .categories()
            .iter()
            .map(|category| (category.id.clone(), category.threshold));
        let of_bundle: BTreeMap<CategoryId, f32> = of_bundle.collect();
        let mut categories = of_bundle.clone();
        if let Some(below) = review.below {
            // One value for all raises those that are lower. It is a mistake only if it could do nothing but lower.
            let least = of_bundle.values().copied().fold(f32::INFINITY, f32::min);
            rules.at_least("below", below, least)?;
            for threshold in categories.values_mut() {
                *threshold = if review.may_loosen {
                    below
                } else {
                    threshold.max(below)
                };
            }
        }
        for (name, below) in &review.below_by_category {
            let id = rules.known(name, &of_bundle)?;
            let least = of_bundle.get(&id).copied().unwrap_or(1.0);
            rules.at_least(&format!("categories.{name}"), *below, least)?;
            categories.insert(id, *below);
        }
        let mut view = bundle.manifest().view_thresholds;
        if let Some(site) = review.view {
            rules.at_least("view-sure", site.sure, view.sure)?;
            rules.at_most("view-margin", site.margin, view.margin)?;
            view = site;
        }
        let promise = bundle.manifest().promise.as_ref();
        let uncertified = promise
            .filter(|_| !review.files_uncertified)
            .map_or_else(Vec::new, |promise| promise.uncertified.clone());
        let bundle_view = bundle.manifest().view_thresholds;
        let loosened = categories.iter().any(|(id, it)| *it < of_bundle[id])
            || view.sure < bundle_view.sure
            || view.margin > bundle_view.margin
            || promise.is_some_and(|promise| promise.uncertified.len() > uncertified.len());
        Ok(Self {
            categories,
            uncertified,
            view,
            loosened,
        })
    }

    /// Whether files are filed unseen that the bundle would leave to a person: its promise says nothing about them.
    pub fn are_loosened(&self) -> bool {
        self.loosened
    }

    /// Whether a picture from more pixels could be decided on otherwise.
    pub fn is_close_call(&self, prediction: &Prediction) -> bool {
        is_close_call(prediction, self, self.view)
    }

    /// When the pixels count as sure of a view.
    pub fn view(&self) -> ViewThresholds {
        self.view
    }
}

impl CategoryThreshold for Thresholds {
    /// A category that is not the bundle's is never filed.
    fn threshold(&self, category: &CategoryId) -> f32 {
        self.categories
            .get(category)
            .copied()
            .unwrap_or(f32::INFINITY)
    }

    fn is_certified(&self, category: &CategoryId) -> bool {
        !self.uncertified.contains(category)
    }
}

struct Rules {
    bundle: String,
    may_loosen: bool,
}

impl Rules {
    fn at_least(&self, key: &str, value: f32, bundle_value: f32) -> Result<(), ThresholdError> {
        self.check(key, value, bundle_value, value < bundle_value)
    }

    fn at_most(&self, key: &str, value: f32, bundle_value: f32) -> Result<(), ThresholdError> {
        self.check(key, value, bundle_value, value > bundle_value)
    }

    fn check(
        &self,
        key: &str,
        value: f32,
        bundle_value: f32,
        looser: bool,
    ) -> Result<(), ThresholdError> {
        let key = key.to_owned();
        if !(0.0..=1.0).contains(&value) {
            Err(ThresholdError::OutOfRange { key, value })
        } else if looser && !self.may_loosen {
            Err(ThresholdError::Looser {
                key,
                value,
                bundle: self.bundle.clone(),
                bundle_value,
                advice: ADVICE,
            })
        } else {
            Ok(())
        }
    }

    fn known(
        &self,
        name: &str,
        categories: &BTreeMap<CategoryId, f32>,
    ) -> Result<CategoryId, ThresholdError> {
        if let Some(id) = categories.keys().find(|id| id.as_str() == name) {
            return Ok(id.clone());
        }
        let distance = |id: &&CategoryId| strsim::damerau_levenshtein(id.as_str(), name);
        Err(ThresholdError::UnknownCategory {
            category: name.to_owned(),
            bundle: self.bundle.clone(),
            nearest: categories
                .keys()
                .min_by_key(distance)
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
    }
}
