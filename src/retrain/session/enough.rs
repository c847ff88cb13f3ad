//! Whether there is enough of each class: to be learned, and to be judged by.
//!
//! A network forgets a class that it is trained without: its last layer is fitted to the images that there are. So a
//! classifier is trained only when images to learn from show each of its classes.

use std::collections::BTreeSet;
use std::fmt;

use super::{SessionError, Wish, class_of, learned_from, seen_on};
use crate::model::manifest::{ClassifierSpec, Role};
use crate::retrain::sides::Side;

/// The fewest patients with a class on a side.
const FEWEST_PATIENTS: usize = 3;

/// A class that too few patients show.
struct Shortage<'a> {
    class: &'a str,
    side: Side,
    patients: usize,
}

impl Shortage<'_> {
    /// The class would be forgotten.
    fn is_unseen(&self) -> bool {
        self.side == Side::Training && self.patients == 0
    }
}

impl fmt::Display for Shortage<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            side,
            patients,
        } = self;
        let side = side.word();
        write!(
            to,
            "{class}: {patients} patients for {side} ({FEWEST_PATIENTS} are wanted)"
        )
    }
}

/// Refuses what would be forgotten, and what could not be judged unless that was asked for.
pub fn enough(wish: &Wish<'_>) -> Result<(), SessionError> {
    if let Some(problem) = unseen(wish).into_iter().next() {
        return Err(problem);
    }
    let problems = too_few(wish);
    if problems.is_empty() || wish.few_patients {
        Ok(())
    } else {
        Err(SessionError::TooFew(problems))
    }
}

/// The classifiers that would forget a class.
pub fn unseen(wish: &Wish<'_>) -> Vec<SessionError> {
    let mut problems = Vec::new();
    for spec in trained(wish) {
        let mut shortages = shortages(wish, spec);
        shortages.retain(Shortage::is_unseen);
        if !shortages.is_empty() {
            let classes: Vec<&str> = shortages.iter().map(|it| it.class).collect();
            problems.push(SessionError::Unseen {
                classifier: spec.id.clone(),
                advice: advice(spec.role, &classes),
                classes: classes.join(", "),
            });
        }
    }
    problems
}

fn advice(role: Role, classes: &[&str]) -> String {
    match role {
        Role::View => "label some (`neither` is what is of neither view), or name another classifier with --classifier, \
                       so that this one stays as it is"
            .to_owned(),
        Role::Category => format!(
            "label some, take the category out (--remove-category {}), or name another classifier with --classifier, so \
             that this one stays as it is",
            classes.join(" --remove-category ")
        ),
    }
}

/// Says which classes have too few patients to be learned and judged.
pub fn too_few(wish: &Wish<'_>) -> Vec<String> {
    let of_each = trained(wish).into_iter();
    of_each
        .flat_map(|spec| shortages(wish, spec))
        .map(|shortage| shortage.to_string())
        .collect()
}

/// Leaves the view classifier as it is when there is too little to train it with, and says so. Most sites have nothing of
/// neither view: what people correct and confirm is of a category. One of the classifiers that `must` be trained is not
/// spared.
pub fn spare_view(wish: &mut Wish<'_>, must: &[String]) -> Option<String> {
    let spec = trained(wish)
        .into_iter()
        .find(|spec| spec.role == Role::View && !must.contains(&spec.id))?;
    let mut shortages = shortages(wish, spec);
    if wish.few_patients {
        shortages.retain(Shortage::is_unseen);
    }
    let why: Vec<String> = shortages.iter().map(Shortage::to_string).collect();
    if why.is_empty() {
        return None;
    }
    wish.classifiers.retain(|id| *id != spec.id);
    Some(format!(
        "classifier {} stays as it is: {}",
        spec.id,
        why.join("; ")
    ))
}

/// The classifiers that are to be trained.
fn trained<'a>(wish: &Wish<'a>) -> Vec<&'a ClassifierSpec> {
    let specs = wish.bundle.manifest().classifiers.iter();
    specs
        .filter(|spec| wish.classifiers.contains(&spec.id))
        .collect()
}

fn shortages<'a>(wish: &Wish<'_>, spec: &'a ClassifierSpec) -> Vec<Shortage<'a>> {
    let mut shortages = Vec::new();
    for (side, indices) in [
        (Side::Training, learned_from(wish)),
        (Side::Validation, seen_on(wish, Side::Validation)),
        (Side::Test, seen_on(wish, Side::Test)),
    ] {
        let mut patients = vec![BTreeSet::new(); spec.classes.len()];
        for example in indices.iter().map(|index| &wish.dataset.examples[*index]) {
            if let Some(class) = class_of(spec, wish.bundle.categories(), example) {
                patients[class].insert(example.patient.as_str());
            }
        }
        for (class, patients) in spec.classes.iter().zip(&patients) {
            if patients.len() < FEWEST_PATIENTS {
                shortages.push(Shortage {
                    class,
                    side,
                    patients: patients.len(),
                });
            }
        }
    }
    shortages
}
