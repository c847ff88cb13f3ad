//! The new bundle beside the one in use, asked about the same images.

use super::super::evaluate::ids;
use super::super::outside;
use super::super::training_report::{Set, used};
use super::{Plan, ask};
use crate::config::Settings;
use crate::domain::CategoryId;
use crate::model::Bundle;
use crate::retrain::judging::compare::{Beside, Comparison, Contender, GoldenSet, beside, compare};
use crate::retrain::judging::outcome::{Done, Outcome};
use crate::retrain::judging::outside::{Distance, Outside};
use crate::retrain::judging::promise::{Terms, certify};
use crate::retrain::session::Wish;

/// What is held against each other.
pub(super) struct Pair<'a> {
    pub(super) candidate: &'a Bundle,
    pub(super) in_use: &'a Bundle,
    pub(super) wish: &'a Wish<'a>,
    pub(super) settings: &'a Settings,
}

impl Pair<'_> {
    /// On the images that headlines tell of, by which nothing is decided.
    pub(super) fn beside(&self, set: &Set) -> anyhow::Result<Beside> {
        let before = self.before(set)?;
        let name = self.in_use.name_and_version();
        Ok(beside(&name, &set.outcomes, &before)?)
    }

    /// On golden images, whose patients were never learned from. `outside`: what the candidate made of images of no category.
    pub(super) fn on_golden(
        &self,
        golden: &Set,
        outside: &[Outside],
        plan: &Plan,
        target: f64,
    ) -> anyhow::Result<Comparison> {
        let Self {
            candidate,
            in_use,
            wish,
            settings,
        } = self;
        let before = self.before(golden)?;
        let outside_before = outside::ask_at(
            Distance::Near,
            &plan.outside,
            in_use,
            Some(settings),
            &settings.review,
            &settings.runtime,
        )?;
        let used = used(wish);
        let promise = |categories: &[CategoryId], outcomes: &[Outcome]| {
            certify(
                outcomes,
                &Terms {
                    target,
                    threshold: None,
                    categories,
                    used: &used,
                    files_uncertified: settings.review.files_uncertified,
                    seed: wish.seed,
                },
            )
        };
        let mut ids_before = ids(in_use);
        ids_before.iter_mut().for_each(|id| self.as_called_now(id));
        let promises = [
            promise(&ids(candidate), &golden.outcomes),
            promise(&ids_before, &before),
        ];
        let (new_name, old_name) = (candidate.name_and_version(), in_use.name_and_version());
        let new = Contender {
            name: &new_name,
            outcomes: &golden.outcomes,
            promise: Some(&promises[0]),
            outside,
        };
        let old = Contender {
            name: &old_name,
            outcomes: &before,
            promise: Some(&promises[1]),
            outside: &outside_before,
        };
        let set = GoldenSet {
            version: self.version(golden),
            looks: u64::from(wish.sides.golden_looks) + 1,
        };
        Ok(compare(new, old, set)?)
    }

    /// A digest of the files: other images are another version.
    fn version(&self, golden: &Set) -> String {
        let examples = &self.wish.dataset.examples;
        let digests = golden.indices.iter().map(|index| &examples[*index].digest);
        let mut digests: Vec<&str> = digests.map(|digest| digest.0.as_str()).collect();
        digests.sort_unstable();
        blake3::hash(digests.concat().as_bytes()).to_hex()[..12].to_owned()
    }

    /// What the bundle in use makes of a set, in the candidate's words.
    fn before(&self, set: &Set) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = ask(self.in_use, self.wish, &set.indices, self.settings)?;
        for outcome in &mut outcomes {
            let scores = outcome.scores.iter_mut();
            scores.for_each(|score| self.as_called_now(&mut score.category));
            if let Done::Filed { category } = &mut outcome.done {
                self.as_called_now(category);
            }
        }
        Ok(outcomes)
    }

    /// A category that has got another id is still the same one.
    fn as_called_now(&self, id: &mut CategoryId) {
        let mut categories = self.candidate.categories().iter();
        if let Some(category) = categories.find(|it| it.was_called(id.as_str())) {
            id.clone_from(&category.id);
        }
    }
}

/// Why nothing is compared.
pub(super) fn no_golden(in_use: &Bundle) -> String {
    format!(
        "Not compared with {} on golden images: there are none, so that `--promote if-better` promotes nothing. There are \
         some of every class that five patients or more show.",
        in_use.name_and_version()
    )
}
