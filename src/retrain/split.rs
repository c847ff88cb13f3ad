//! Which patients a model may learn from, and which it is judged on. The unit is the patient, never the image: two films
//! of one person on both sides of the split would let a model recognise the person.

use std::collections::HashMap;

/// What an image is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Weights are fitted on it.
    Training,
    /// Temperature, thresholds and the choice of weights.
    Validation,
    /// Looked at once, for the figures that are published.
    Test,
}

const SIDES: [Side; 3] = [Side::Training, Side::Validation, Side::Test];

/// The side of each image `(patient, class)`, in order; `shares` are the wanted parts of training, validation and test.
///
/// Patients come in an order that depends on `seed` and their own name only, and each joins the side that is most short
/// of that patient's rarest class; so rare classes are on every side as soon as they have patients enough.
pub fn by_patient<P: AsRef<str>>(images: &[(P, usize)], shares: [f64; 3], seed: u64) -> Vec<Side> {
    let classes = images.iter().map(|(_, class)| class + 1).max().unwrap_or(0);
    let mut total = vec![0usize; classes];
    let mut patients: HashMap<&str, Vec<usize>> = HashMap::new();
    for (patient, class) in images {
        total[*class] += 1;
        patients.entry(patient.as_ref()).or_default().push(*class);
    }
    let mut order: Vec<(&str, &Vec<usize>)> =
        patients.iter().map(|(name, held)| (*name, held)).collect();
    order.sort_by_cached_key(|(name, _)| (place(name, seed), *name));

    let mut given = vec![[0usize; 3]; classes];
    let mut side_of = HashMap::new();
    for (patient, held) in order {
        let Some(rarest) = held
            .iter()
            .copied()
            .min_by_key(|class| (total[*class], *class))
        else {
            continue;
        };
        let short = |side: usize| shares[side] * total[rarest] as f64 - given[rarest][side] as f64;
        let side = (0..SIDES.len())
            .max_by(|a, b| short(*a).total_cmp(&short(*b)).then(b.cmp(a)))
            .unwrap_or(0);
        for class in held {
            given[*class][side] += 1;
        }
        side_of.insert(patient, SIDES[side]);
    }
    images
        .iter()
        .map(|(patient, _)| side_of[patient.as_ref()])
        .collect()
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
    use super::*;
    use proptest::prelude::*;

    const SHARES: [f64; 3] = [0.7, 0.15, 0.15];

    proptest! {
        #[test]
        fn a_patient_is_never_on_two_sides(images in prop::collection::vec(("[a-f]{1,2}", 0usize..5), 0..200), seed: u64) {
            let sides = by_patient(&images, SHARES, seed);
            let mut seen: HashMap<&str, Side> = HashMap::new();
            for ((patient, _), side) in images.iter().zip(&sides) {
                prop_assert_eq!(*seen.entry(patient).or_insert(*side), *side);
            }
            prop_assert_eq!(sides.len(), images.len());
        }

        #[test]
        fn the_order_of_the_images_changes_nothing(images in prop::collection::vec(("[a-f]{1,2}", 0usize..5), 0..60)) {
            let mut turned = images.clone();
            turned.reverse();
            let mut sides = by_patient(&turned, SHARES, 1);
            sides.reverse();
            prop_assert_eq!(by_patient(&images, SHARES, 1), sides);
        }
    }

    #[test]
    fn shares_are_kept_within_each_class_and_rare_classes_are_on_every_side() {
        let images: Vec<(String, usize)> = (0..1000)
            .map(|k| (format!("p{}", k / 2), if k / 2 % 25 == 0 { 1 } else { 0 }))
            .collect();
        let sides = by_patient(&images, SHARES, 7);
        for (class, of_class) in [(0, 960.0), (1, 40.0)] {
            for (side, share) in SIDES.iter().zip(SHARES) {
                let count = images
                    .iter()
                    .zip(&sides)
                    .filter(|((_, c), s)| *c == class && *s == side)
                    .count() as f64;
                assert!(
                    (count - share * of_class).abs() <= 2.0,
                    "class {class} {side:?}: {count} of {of_class}"
                );
            }
        }
    }

    #[test]
    fn another_seed_gives_another_split() {
        let images: Vec<(String, usize)> = (0..50).map(|k| (format!("p{k}"), 0)).collect();
        assert_ne!(
            by_patient(&images, SHARES, 1),
            by_patient(&images, SHARES, 2)
        );
    }
}
