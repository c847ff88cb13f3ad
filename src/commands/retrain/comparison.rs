//! The new bundle beside the one in use, asked about the same images.

use super::super::evaluate::ids;
use super::super::outside;
use super::super::training_report::{Set, used};
use super::{Plan, ask};
use crate::config::Settings;
use crate::domain::CategoryId;
use crate::domain::category::NEITHER;
use crate::model::Bundle;
use crate::retrain::judging::compare::{Beside, Comparison, Contender, GoldenSet, beside, compare};
use crate::retrain::judging::outcome::{Done, Outcome};
use crate::retrain::judging::outside::{Distance, Outside};
use crate::retrain::judging::promise::{Terms, certify};
use crate::retrain::session::Wish;
use crate::retrain::trial::Under;

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
            Under::of(settings),
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
        let ids_now = ids(candidate);
        let promises = [
            promise(&ids_now, &golden.outcomes),
            promise(&ids_before, &before),
        ];
        let (new_name, old_name) = (candidate.name_and_version(), in_use.name_and_version());
        let new = Contender {
            name: &new_name,
            categories: &ids_now,
            outcomes: &golden.outcomes,
            promise: Some(&promises[0]),
            outside,
        };
        let old = Contender {
            name: &old_name,
            categories: &ids_before,
            outcomes: &before,
            promise: Some(&promises[1]),
            outside: &outside_before,
        };
        let set = GoldenSet {
            version: version(&golden.outcomes),
            looks: u64::from(wish.sides.golden_looks) + 1,
        };
        Ok(compare(new, old, set)?)
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

/// A digest of files and labels: other images, or other words about the same ones, are another version.
fn version(golden: &[Outcome]) -> String {
    let line = |outcome: &Outcome| {
        let label = outcome.truth.as_ref().map_or(NEITHER, CategoryId::as_str);
        format!("{} {label}\n", outcome.image.0)
    };
    let mut lines: Vec<String> = golden.iter().map(line).collect();
    lines.sort_unstable();
    blake3::hash(lines.concat().as_bytes()).to_hex()[..12].to_owned()
}

/// Why nothing is compared.
pub(super) fn no_golden(in_use: &Bundle) -> String {
    format!(
        "Not compared with {} on golden images: there are none, so that `--promote if-better` promotes nothing. There are \
         some of every class that five patients or more show.",
        in_use.name_and_version()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrain::judging::examples::image;

    #[test]
    fn other_labels_of_the_same_files_are_another_version() {
        let [one, two] = ["brace", "fusion"].map(|truth| image(1, truth, "brace", 0.9));
        let other = image(2, "brace", "brace", 0.9);
        let of = |outcomes: &[&Outcome]| {
            let outcomes: Vec<Outcome> = outcomes.iter().copied().cloned().collect();
            version(&outcomes)
        };
        assert_eq!(of(&[&one, &other]), of(&[&other, &one]));
        assert_ne!(of(&[&one, &other]), of(&[&two, &other]));
        assert_ne!(of(&[&one]), of(&[&other]));
    }
}
