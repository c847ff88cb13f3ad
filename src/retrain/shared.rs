//! Names under which so many studies lie that they must stand for many patients, although nothing in the name says so
//! ("IMPORT", the number of a scanner's test patient): taken as one patient they would put a large part of all images on
//! one side. Each of their studies is taken as a patient of its own, as under a placeholder.

use std::collections::{BTreeMap, BTreeSet};

use super::dataset::Dataset;
use super::sides::Sides;

/// More studies than a person has of one part of the body.
const STUDIES: usize = 50;
/// The part of all studies that one person does not have.
const PART: f64 = 0.05;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Names that stand for many.
    pub names: usize,
    /// Images under them.
    pub images: usize,
}

/// Gives the images under such names to their studies. A name that has a side already keeps it, because nobody is ever
/// reassigned; and one that was found once stands for many ever after.
pub fn split(dataset: &mut Dataset, sides: &mut Sides) -> Shared {
    let found = implausible(dataset);
    let fresh = found.into_iter().filter(|name| sides.of(name).is_none());
    let fresh: Vec<String> = fresh.collect();
    sides.shared.extend(fresh);
    let (mut names, mut images) = (BTreeSet::new(), 0);
    for example in &mut dataset.examples {
        let own = example.by_header.take();
        example.by_header = own.filter(|name| !sides.shared.contains(name));
        if sides.shared.contains(&example.patient) {
            // A list may call many by one name that the files tell apart.
            let own = example.by_header.clone();
            let other = own.unwrap_or_else(|| example.study_or_file());
            names.insert(std::mem::replace(&mut example.patient, other));
            images += 1;
        }
    }
    Shared {
        names: names.len(),
        images,
    }
}

fn implausible(dataset: &Dataset) -> Vec<String> {
    let mut studies: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for example in &dataset.examples {
        for name in [Some(&example.patient), example.by_header.as_ref()] {
            let Some(name) = name else { continue };
            let of_name = studies.entry(name).or_default();
            of_name.insert(example.study_or_file());
        }
    }
    let all: BTreeSet<&String> = studies.values().flatten().collect();
    let all = all.len();
    studies
        .into_iter()
        .filter(|(_, of)| of.len() > STUDIES && of.len() as f64 > PART * all as f64)
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::HeaderView;
    use crate::filing::record::Digest;
    use crate::retrain::dataset::Example;
    use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};
    use crate::retrain::sides::Side;

    fn example(patient: &str, study: usize) -> Example {
        Example {
            path: "x.dcm".into(),
            digest: Digest(format!("{patient} {study}")),
            category: Some(0),
            origin: LabelOrigin::Csv,
            patient: patient.to_owned(),
            study: Some(format!("1.2.{study}")),
            nameless: false,
            by_header: None,
            reduced: false,
            header: HeaderView::Absent,
            circumstances: Circumstances::default(),
            pictures: Vec::new(),
        }
    }

    /// A name with so many studies of two images each, and a patient with thirty.
    fn dataset(studies: usize) -> Dataset {
        let of_name = (0..2 * studies).map(|k| example("IMPORT", k / 2));
        let of_patient = (1000..1030).map(|k| example("P", k));
        Dataset {
            examples: of_name.chain(of_patient).collect(),
            ..Dataset::default()
        }
    }

    #[test]
    fn a_name_with_more_studies_than_a_person_has_is_taken_as_one_patient_a_study() {
        let (mut dataset, mut sides) = (dataset(60), Sides::default());
        let found = split(&mut dataset, &mut sides);
        let wanted = Shared {
            names: 1,
            images: 120,
        };
        assert_eq!(found, wanted);
        assert_eq!(dataset.examples[0].patient, "study 1.2.0");
        assert_eq!(dataset.examples[1].patient, "study 1.2.0");
        assert_eq!(dataset.examples[125].patient, "P", "thirty are plausible");
    }

    #[test]
    fn what_was_found_once_stands_for_many_also_when_fewer_of_its_studies_come() {
        let mut sides = Sides::default();
        split(&mut dataset(60), &mut sides);
        let mut fewer = dataset(3);
        assert_eq!(split(&mut fewer, &mut sides).images, 6);
        assert_eq!(fewer.examples[0].patient, "study 1.2.0");
    }

    #[test]
    fn a_name_that_has_a_side_keeps_it() {
        let mut sides = Sides::default();
        sides.patients.insert("IMPORT".to_owned(), Side::Training);
        let mut dataset = dataset(60);
        assert_eq!(split(&mut dataset, &mut sides), Shared::default());
        assert_eq!(dataset.examples[0].patient, "IMPORT");
    }
}
