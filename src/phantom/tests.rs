//! What the phantoms promise: determinism, files that read back, sizes, shares, and nuisances that tell nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod files;
// It asks with the same regression that shows shortcuts beside a trained model.
#[cfg(feature = "retrain")]
mod probe;

use std::collections::{BTreeMap, HashSet};

use super::*;

fn options(count: usize) -> PlanOptions {
    PlanOptions {
        count,
        seed: 7,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: Some((100, 150)),
        outside: 0.1,
    }
}

fn counts(plans: &[Plan]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for plan in plans {
        *counts
            .entry(plan.truth.category.unwrap_or("outside"))
            .or_default() += 1;
    }
    counts
}

#[test]
fn the_same_seed_gives_the_same_images_and_another_seed_others() {
    let again = plan(&options(6));
    for (a, b) in plan(&options(6)).iter().zip(&again) {
        let (a, b) = (a.draw(), b.draw());
        assert_eq!(a.pixels, b.pixels);
        assert_eq!(a.header, b.header);
    }
    let other = plan(&PlanOptions {
        seed: 8,
        ..options(6)
    });
    assert_ne!(other[0].draw().pixels, again[0].draw().pixels);
    assert_ne!(other[0].sop_instance_uid, again[0].sop_instance_uid);
}

#[test]
fn even_sets_hold_each_category_equally_often_and_the_share_asked_for_outside() {
    let counts = counts(&plan(&options(200)));
    assert_eq!(counts["outside"], 20);
    for (id, _) in CATEGORIES {
        assert_eq!(counts[id], 18, "{id}");
    }
}

#[test]
fn paper_sets_keep_the_papers_ratio_of_views_and_make_devices_rare() {
    let plans = plan(&PlanOptions {
        count: 13_398,
        imbalance: Imbalance::Paper,
        outside: 0.0,
        ..options(0)
    });
    let frontal = plans
        .iter()
        .filter(|p| p.truth.view == TrueView::Frontal)
        .count();
    assert!(frontal.abs_diff(7777) <= 5, "{frontal} frontal");
    let counts = counts(&plans);
    assert!(counts["frontal-preop"] > 10 * counts["frontal-tether"]);
    assert!(counts["lateral-growing-rods"] > 100);
}

#[test]
fn categories_name_their_view_and_only_outside_images_have_none() {
    for plan in plan(&options(100)) {
        match plan.truth.category {
            Some(id) => assert!(id.starts_with(plan.truth.view.as_str())),
            None => assert_eq!(plan.truth.view, TrueView::Neither),
        }
    }
}

#[test]
fn patients_come_back_with_one_kind_of_surgery_and_uids_are_unique() {
    let plans = plan(&options(300));
    let uids: HashSet<&str> = plans.iter().map(|p| p.sop_instance_uid.as_str()).collect();
    assert_eq!(uids.len(), 300);
    assert!(
        uids.iter()
            .all(|uid| uid.len() <= 64 && uid.starts_with("2.25."))
    );
    let mut surgery: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    let mut images: BTreeMap<&str, usize> = BTreeMap::new();
    for plan in &plans {
        *images.entry(&plan.truth.patient).or_default() += 1;
        let kind = plan
            .truth
            .category
            .and_then(|id| id.split_once('-'))
            .map(|(_, kind)| kind);
        if let Some(kind @ ("fusion" | "growing-rods" | "tether")) = kind {
            surgery.entry(&plan.truth.patient).or_default().insert(kind);
        }
    }
    assert!(surgery.values().all(|kinds| kinds.len() == 1));
    assert!(
        images.values().any(|&n| n >= 4),
        "some patients have a history"
    );
    let studies: HashSet<&str> = plans
        .iter()
        .map(|p| p.study_instance_uid.as_str())
        .collect();
    assert!(studies.len() < 300, "some studies hold two views");
}

#[test]
fn natural_sizes_are_those_of_real_detectors_and_drawing_keeps_to_the_size_asked_for() {
    for plan in plan(&options(60)) {
        let (columns, rows) = plan.natural_size();
        assert!((2000..=3000).contains(&columns) && (3000..=4300).contains(&rows));
    }
    let plan = &plan(&options(3))[0];
    let phantom = plan.draw_at(90, 130);
    assert_eq!(
        (phantom.columns, phantom.rows, phantom.pixels.len()),
        (90, 130, 90 * 130)
    );
    let within = plan.draw_within(100, 100);
    assert!(within.columns <= 100 && within.rows == 100);
    let most = u16::MAX >> (16 - phantom.bits_stored);
    assert!(phantom.pixels.iter().all(|&p| p <= most));
}

/// Mean absolute difference of two previews, in grey levels.
fn difference(a: &[u8], b: &[u8]) -> f32 {
    let sum: u32 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum();
    sum as f32 / a.len() as f32
}

#[test]
fn a_small_drawing_is_the_large_one_seen_from_afar() {
    for plan in plan(&options(11))
        .iter()
        .filter(|p| p.truth.category.is_some())
        .take(5)
    {
        let (small, large) = (plan.draw_at(240, 360), plan.draw_at(960, 1440));
        let large = large.preview();
        let averaged: Vec<u8> = (0..240 * 360)
            .map(|i| {
                let (x, y) = (i % 240 * 4, i / 240 * 4);
                let sum: u32 = (0..16)
                    .map(|n| u32::from(large[(y + n / 4) * 960 + x + n % 4]))
                    .sum();
                (sum / 16) as u8
            })
            .collect();
        let difference = difference(&small.preview(), &averaged);
        assert!(difference < 6.0, "{:?}: {difference}", plan.truth);
    }
}

#[test]
fn hard_images_are_the_same_patients_worse_exposed() {
    // Noise: how far a pixel lies from the mean of its neighbours, in the median over the picture.
    let noise = |phantom: &Phantom| {
        let off =
            |w: &[u16]| (i32::from(w[0]) + i32::from(w[2]) - 2 * i32::from(w[1])).unsigned_abs();
        let mut steps: Vec<u32> = phantom.pixels.windows(3).step_by(7).map(off).collect();
        let middle = steps.len() / 2;
        *steps.select_nth_unstable(middle).1 as f32
    };
    let drawn = |difficulty| -> Vec<Phantom> {
        let options = PlanOptions {
            difficulty,
            size: Some((700, 1000)),
            outside: 0.0,
            ..options(8)
        };
        plan(&options).iter().map(Plan::draw).collect()
    };
    let (normal, hard) = (drawn(Difficulty::Normal), drawn(Difficulty::Hard));
    let worse = normal
        .iter()
        .zip(&hard)
        .filter(|(n, h)| noise(h) > 1.3 * noise(n))
        .count();
    assert!(worse >= 2, "only {worse} of 8 are noisier");
    assert!(
        normal
            .iter()
            .zip(&hard)
            .all(|(n, h)| n.pixels != h.pixels && n.bits_stored == h.bits_stored)
    );
}

#[test]
fn the_same_plan_under_another_treatment_changes_the_device_and_no_nuisance() {
    let plans = plan(&options(60));
    let untreated = plans
        .iter()
        .find(|p| p.truth.category == Some("frontal-preop"))
        .unwrap();
    let fused = untreated.treated_as("frontal-fusion").unwrap();
    assert_eq!(fused.truth.category, Some("frontal-fusion"));
    let (a, b) = (untreated.draw(), fused.draw());
    assert_ne!(a.pixels, b.pixels);
    for tag in [
        "Manufacturer",
        "ViewPosition",
        "BitsStored",
        "StudyDate",
        "PatientBirthDate",
        "KVP",
    ] {
        let value = |p: &Phantom| {
            p.header
                .element_by_name(tag)
                .ok()
                .map(|e| e.to_str().unwrap().into_owned())
        };
        assert_eq!(value(&a), value(&b), "{tag}");
    }
    assert!(untreated.treated_as("lateral-fusion").is_none());
    let outside = plans.iter().find(|p| p.truth.category.is_none()).unwrap();
    assert!(outside.treated_as("frontal-fusion").is_none());
}

#[test]
fn syntax_names_round_trip_and_unknown_ones_are_explained() {
    for syntax in Syntax::ALL {
        assert_eq!(syntax.name().parse(), Ok(syntax));
    }
    let error = "jpeg3000".parse::<SyntaxChoice>().unwrap_err().to_string();
    assert!(
        error.contains("jpeg3000") && error.contains("j2k-lossless") && error.contains("mixed")
    );
}

#[test]
fn images_of_neither_view_show_what_was_asked_for() {
    let whole = PlanOptions {
        outside: 1.0,
        ..options(4)
    };
    let drawn = |kind| -> Vec<Phantom> {
        let plans = plan_with(&whole, &[kind]);
        assert!(plans.iter().all(|plan| plan.truth.category.is_none()));
        plans.iter().map(Plan::draw).collect()
    };
    let mut seen = Vec::new();
    for kind in OutsideKind::NEAR.into_iter().chain(OutsideKind::FAR) {
        let phantoms = drawn(kind);
        let again = drawn(kind);
        for (phantom, again) in phantoms.iter().zip(&again) {
            assert_eq!(phantom.pixels, again.pixels, "{}", kind.word());
            let most = u16::MAX >> (16 - phantom.bits_stored);
            assert!(phantom.pixels.iter().all(|&p| p <= most));
        }
        if kind == OutsideKind::Black {
            for phantom in &phantoms {
                let inverse = phantom.photometric == Photometric::Monochrome1;
                let most = u16::MAX >> (16 - phantom.bits_stored);
                let black = if inverse { most } else { 0 };
                assert!(phantom.pixels.iter().all(|&p| p == black));
            }
        }
        seen.push(phantoms[0].preview());
    }
    for (k, a) in seen.iter().enumerate() {
        for b in &seen[k + 1..] {
            assert!(difference(a, b) > 3.0, "two kinds look the same");
        }
    }
}
