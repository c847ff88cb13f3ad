//! Which patients a site's models may learn from, kept for good: nobody who was judged on is ever learned from.
//!
//! Golden patients (10 %) are drawn first and never trained on; the others are shared out 70:15:15. A new patient joins
//! the side that is most short of the patient's rarest class, unless that side has its share of all patients already (or
//! few patients of many classes would all be learned from); nobody is ever reassigned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a patient's images are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Weights are fitted on them.
    Training,
    /// Temperature, thresholds, the choice of weights.
    Validation,
    /// Looked at once for each model: the figures of the report.
    Test,
    /// Looked at for each promotion, never trained on.
    Golden,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Training, Self::Validation, Self::Test, Self::Golden];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Golden => "golden",
        }
    }
}

/// The part of all patients that is golden.
const GOLDEN: f64 = 0.1;
/// The others' parts of training, validation and test.
const SHARES: [f64; 3] = [0.7, 0.15, 0.15];

/// Every patient's side, by every name that the patient is known by: pseudonyms, studies, files (see [`super::people`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// Sides by name.
    pub patients: BTreeMap<String, Side>,
    /// How often the golden set has been looked at.
    #[serde(default)]
    pub golden_looks: u32,
    /// Names that stand for many patients (see [`super::shared`]): each of their studies has a side of its own, for good.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shared: BTreeSet<String>,
}

impl Sides {
    /// Where they lie.
    pub fn place(state: &Path) -> PathBuf {
        state.join("retrain/sides.json")
    }

    /// Reads them; none yet when there is no file.
    pub fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|problem| {
                let what = format!("{}: {problem}: who was tested on is not known any more; restore it from a backup, or remove it, the folder looks beside it and every model that was trained with it", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes them, at once or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let part = path.with_extension("part");
        let mut file = fs::File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&part, path)
    }

    /// Counts a look at the golden images: those of all verbs, whatever else goes on. Gives how many there were.
    pub fn look_at_golden(path: &Path) -> io::Result<u32> {
        let mut sides = Self::read(path)?;
        sides.golden_looks += 1;
        sides.write(path)?;
        Ok(sides.golden_looks)
    }

    /// The side of a patient; `None` for one that was never given one.
    pub fn of(&self, patient: &str) -> Option<Side> {
        self.patients.get(patient).copied()
    }

    /// Gives all names of one person the side of that person.
    pub fn set(&mut self, names: &BTreeSet<String>, side: Side) {
        let known = names.iter().map(|name| (name.clone(), side));
        self.patients.extend(known);
    }

    /// Patients who are learned from although nobody has looked at their images: were they given no side, they could come to
    /// judge what they have taught.
    pub fn learn_from<'a>(&mut self, patients: impl IntoIterator<Item = &'a str>) {
        for patient in patients {
            let side = self.patients.entry(patient.to_owned());
            side.or_insert(Side::Training);
        }
    }

    /// Gives every new patient a side. `images` are (patient, class) of everything that may be judged on.
    pub fn admit<P: AsRef<str>>(&mut self, images: &[(P, usize)], seed: u64) {
        let classes = images.iter().map(|(_, class)| class + 1).max().unwrap_or(0);
        let mut held: HashMap<&str, Vec<usize>> = HashMap::new();
        for (patient, class) in images {
            held.entry(patient.as_ref()).or_default().push(*class);
        }
        // Patients, not images, are shared out: a class is judged by how many people show it.
        let mut total = vec![0usize; classes];
        let mut given = vec![[0usize; 4]; classes];
        let mut given_of_all = [0usize; 4];
        for (patient, classes) in &mut held {
            classes.sort_unstable();
            classes.dedup();
            let side = self.of(patient);
            if let Some(side) = side {
                given_of_all[side as usize] += 1;
            }
            for class in classes.iter() {
                total[*class] += 1;
                if let Some(side) = side {
                    given[*class][side as usize] += 1;
                }
            }
        }
        let mut fresh: Vec<(&str, &Vec<usize>)> = held
            .iter()
            .filter(|(patient, _)| !self.patients.contains_key(**patient))
            .map(|(patient, classes)| (*patient, classes))
            .collect();
        fresh.sort_by_cached_key(|(patient, _)| (place(patient, seed), *patient));
        for (patient, classes) in fresh {
            let Some(rarest) = classes
                .iter()
                .copied()
                .min_by_key(|class| (total[*class], *class))
            else {
                continue;
            };
            let is_full = |side: Side| {
                given_of_all[side as usize] as f64
                    >= (SHARES[side as usize] * held.len() as f64).ceil()
            };
            let side = side_for(total[rarest] as f64, given[rarest], is_full);
            given_of_all[side as usize] += 1;
            for class in classes {
                given[*class][side as usize] += 1;
            }
            self.patients.insert(patient.to_owned(), side);
        }
    }
}

/// The side that is most short of a class with so many patients, of whom so many have sides; one that is full only when all
/// are.
fn side_for(total: f64, given: [usize; 4], is_full: impl Fn(Side) -> bool) -> Side {
    let golden = given[Side::Golden as usize] as f64;
    if golden < (GOLDEN * total).round() {
        return Side::Golden;
    }
    let rest = total - (GOLDEN * total).round();
    let short = |side: Side| SHARES[side as usize] * rest - given[side as usize] as f64;
    [Side::Training, Side::Validation, Side::Test]
        .into_iter()
        .max_by(|a, b| {
            (is_full(*b).cmp(&is_full(*a)))
                .then(short(*a).total_cmp(&short(*b)))
                .then((*b as u8).cmp(&(*a as u8)))
        })
        .unwrap_or(Side::Training)
}

/// A patient's place in the order: a digest, so that it does not depend on the other patients.
fn place(patient: &str, seed: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(patient.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn images(patients: usize, offset: usize) -> Vec<(String, usize)> {
        (0..patients)
            .flat_map(|n| {
                let patient = format!("P{}", n + offset);
                // Two common classes and a rare one, which every tenth patient has.
                let rare = (n % 10 == 0).then_some((patient.clone(), 2));
                [(patient.clone(), 0), (patient, 1)].into_iter().chain(rare)
            })
            .collect()
    }

    #[test]
    fn a_tenth_is_golden_and_the_rest_is_shared_out_70_15_15_for_rare_classes_too() {
        let mut sides = Sides::default();
        let images = images(1000, 0);
        sides.admit(&images, 1);
        let count = |side: Side, class: usize| {
            let of =
                |(patient, c): &&(String, usize)| *c == class && sides.of(patient) == Some(side);
            images.iter().filter(of).count()
        };
        assert_eq!(
            Side::ALL.map(|side| count(side, 2)),
            [63, 14, 13, 10],
            "rare class"
        );
        let common = Side::ALL.map(|side| count(side, 0) as f64 / 1000.0);
        for (share, wanted) in common.iter().zip([0.63, 0.135, 0.135, 0.1]) {
            assert!((share - wanted).abs() < 0.02, "{common:?}");
        }
    }

    proptest! {
        #[test]
        fn few_patients_of_many_classes_are_not_all_learned_from(patients in 4usize..40, seed in any::<u64>()) {
            // Each class has two patients, the least short of training: both would join it.
            let images: Vec<(String, usize)> = (0..patients)
                .flat_map(|n| [(format!("P{n}"), n), (format!("P{n}"), (n + 1) % patients)])
                .collect();
            let mut sides = Sides::default();
            sides.admit(&images, seed);
            let judging = sides.patients.values().filter(|side| **side != Side::Training).count();
            prop_assert!(judging as f64 >= (0.3 * patients as f64).floor(), "{judging} of {patients}");
            prop_assert!(sides.patients.values().any(|side| *side == Side::Validation));
        }

        #[test]
        fn nobody_is_ever_reassigned(first in 1usize..60, more in 0usize..60, seed in any::<u64>()) {
            let mut sides = Sides::default();
            sides.admit(&images(first, 0), seed);
            let before = sides.clone();
            let mut all = images(first, 0);
            all.extend(images(more, first));
            sides.admit(&all, seed);
            for (patient, side) in &before.patients {
                prop_assert_eq!(sides.of(patient), Some(*side));
            }
            prop_assert_eq!(sides.patients.len(), first + more);
        }
    }

    #[test]
    fn whoever_taught_without_having_been_looked_at_never_judges() {
        let mut sides = Sides::default();
        let (judged, taught) = (images(20, 0), images(40, 0));
        sides.admit(&judged, 1);
        let before = sides.clone();
        sides.learn_from(taught.iter().map(|(patient, _)| patient.as_str()));
        sides.admit(&taught, 1);
        for (patient, _) in &taught {
            let side = before.of(patient).unwrap_or(Side::Training);
            assert_eq!(sides.of(patient), Some(side), "{patient}");
        }
    }

    #[test]
    fn sides_outlive_the_program_and_a_damaged_file_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("retrain/sides.json");
        let mut sides = Sides::read(&path).unwrap();
        sides.admit(&images(20, 0), 3);
        sides.golden_looks = 2;
        sides.write(&path).unwrap();
        assert_eq!(Sides::read(&path).unwrap(), sides);
        fs::write(&path, "{").unwrap();
        let why = Sides::read(&path).unwrap_err().to_string();
        assert!(
            why.contains("sides.json") && why.contains("backup"),
            "{why}"
        );
    }
}
