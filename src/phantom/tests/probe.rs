//! Nuisances tell nothing about the category: a probe that sees only header, histogram and borders does not beat guessing.
//!
//! What the probe sees, and all that it sees: numbers and flags from the header (sizes, bits, polarity, spacing, window,
//! rescale, vendor, view position, orientation, body part, kVp, age, sex, dates); mean and deviation of four border strips;
//! the 5th to 95th percentiles of the grey values as the header's window (or, without one, the whole range) shows them.
//! Metal fills a few pixels in a hundred: above the 95th percentile the picture itself begins to speak, and a histogram
//! stretched by its own brightest percentile would let a probe hear a little of that everywhere.
//! The probe is asked for the treatment within each view, because telling the view from the header is what headers are for.

use std::thread;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::*;
use crate::retrain::judging::baseline::{Baseline, Seen, border_features};

/// What the probe sees of one image.
fn features(plan: &Plan) -> Vec<f32> {
    let phantom = plan.draw();
    let header = &phantom.header;
    let text = |tag: Tag| {
        header
            .get(tag)
            .and_then(|e| e.to_str().ok())
            .map(|s| s.trim().to_owned())
            .unwrap_or_default()
    };
    let number = |tag: Tag| {
        text(tag)
            .split('\\')
            .next()
            .and_then(|s| s.parse::<f32>().ok())
            .unwrap_or(-1.0)
    };
    let (columns, rows) = plan.natural_size();
    let most = f32::from(u16::MAX >> (16 - phantom.bits_stored));
    let mut seen = vec![
        columns as f32,
        rows as f32,
        f32::from(phantom.bits_stored),
        f32::from(u8::from(phantom.photometric == Photometric::Monochrome1)),
        number(tags::IMAGER_PIXEL_SPACING),
        number(tags::WINDOW_CENTER) / most,
        number(tags::WINDOW_WIDTH) / most,
        number(tags::RESCALE_SLOPE),
        number(tags::KVP),
        number(tags::STUDY_DATE) / 1e4,
        number(tags::PATIENT_BIRTH_DATE) / 1e4,
        number(tags::INSTANCE_NUMBER),
    ];
    for (tag, values) in [
        (
            tags::VIEW_POSITION,
            &["", "AP", "PA", "LL", "RL", "LLO"][..],
        ),
        (
            tags::BODY_PART_EXAMINED,
            &[
                "",
                "SPINE",
                "WHOLESPINE",
                "TSPINE",
                "LSPINE",
                "CHEST",
                "TLSPINE",
            ],
        ),
        (
            tags::MANUFACTURER_MODEL_NAME,
            &[
                "SpineView 400",
                "CR Reader 75",
                "Longview",
                "K-DR 17",
                "TX9",
                "Slot 2 Standing",
            ],
        ),
        (tags::PATIENT_SEX, &["F"]),
        (tags::PATIENT_AGE, &[""]),
        (tags::PIXEL_PADDING_VALUE, &[""]),
        (tags::STUDY_DESCRIPTION, &[""]),
        (tags::IMAGE_TYPE, &["ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY"]),
    ] {
        let value = text(tag);
        seen.extend(values.iter().map(|v| f32::from(u8::from(value == *v))));
    }
    let grey: Vec<f32> = phantom
        .preview()
        .iter()
        .map(|&g| f32::from(g) / 255.0)
        .collect();
    let mut sorted = grey.clone();
    sorted.sort_by(f32::total_cmp);
    seen.extend((1..=19).map(|i| sorted[(sorted.len() - 1) * i / 20]));
    seen.extend(border_features(
        &grey,
        phantom.columns as usize,
        [0..phantom.rows as usize, 0..phantom.columns as usize],
    ));
    seen
}

/// Share of images that softmax regression gets right, over five folds split by patient.
fn logistic(rows: &[(Vec<f32>, usize, u64)], classes: usize) -> f32 {
    let mut right = 0;
    for fold in 0..5 {
        let of = |tested: bool| -> Vec<Seen> {
            rows.iter()
                .filter(|row| (row.2 % 5 == fold) == tested)
                .map(|row| (row.0.as_slice(), row.1))
                .collect()
        };
        let fitted = Baseline::fit(&of(false), classes).unwrap();
        right += fitted.accuracy(&of(true)).map_or(0, |found| found.part);
    }
    right as f32 / rows.len() as f32
}

fn argmax(values: &[f32]) -> usize {
    (0..values.len())
        .max_by(|&a, &b| values[a].total_cmp(&values[b]))
        .unwrap()
}

/// Share right by the ten nearest images of other patients.
fn neighbours(rows: &[(Vec<f32>, usize, u64)], classes: usize) -> f32 {
    let right = rows
        .iter()
        .filter(|(x, class, patient)| {
            let mut near: Vec<(f32, usize)> = rows
                .iter()
                .filter(|r| r.2 != *patient)
                .map(|(y, c, _)| (x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum(), *c))
                .collect();
            near.select_nth_unstable_by(10, |a, b| a.0.total_cmp(&b.0));
            let mut votes = vec![0.0; classes];
            for (_, c) in &near[..10] {
                votes[*c] += 1.0;
            }
            argmax(&votes) == *class
        })
        .count();
    right as f32 / rows.len() as f32
}

/// Mean 0, deviation 1 in every column.
fn standardise(rows: &mut [(Vec<f32>, usize, u64)]) {
    let n = rows.len() as f32;
    for column in 0..rows[0].0.len() {
        let mean = rows.iter().map(|r| r.0[column]).sum::<f32>() / n;
        let deviation = (rows
            .iter()
            .map(|r| (r.0[column] - mean).powi(2))
            .sum::<f32>()
            / n)
            .sqrt()
            .max(1e-6);
        for row in rows.iter_mut() {
            row.0[column] = (row.0[column] - mean) / deviation;
        }
    }
}

#[test]
fn header_histogram_and_borders_do_not_tell_the_treatment() {
    let plans = plan(&PlanOptions {
        count: 2000,
        seed: 99,
        size: Some((72, 108)),
        outside: 0.0,
        ..options(0)
    });
    let (left, right) = plans.split_at(plans.len() / 2);
    let seen: Vec<Vec<f32>> = thread::scope(|scope| {
        let other = scope.spawn(|| right.iter().map(features).collect::<Vec<_>>());
        let mut seen: Vec<Vec<f32>> = left.iter().map(features).collect();
        seen.extend(other.join().unwrap());
        seen
    });
    for (view, ids) in [
        (TrueView::Frontal, &CATEGORIES[..5]),
        (TrueView::Lateral, &CATEGORIES[5..]),
    ] {
        let mut rows: Vec<(Vec<f32>, usize, u64)> = plans
            .iter()
            .zip(&seen)
            .filter(|(p, _)| p.truth.view == view)
            .map(|(p, x)| {
                (
                    x.clone(),
                    ids.iter()
                        .position(|c| Some(c.0) == p.truth.category)
                        .unwrap(),
                    p.patient,
                )
            })
            .collect();
        standardise(&mut rows);
        for (part, columns) in [
            ("header", 0..rows[0].0.len() - 27),
            (
                "histogram and borders",
                rows[0].0.len() - 27..rows[0].0.len(),
            ),
        ] {
            let part_of: Vec<_> = rows
                .iter()
                .map(|r| (r.0[columns.clone()].to_vec(), r.1, r.2))
                .collect();
            println!("{view:?}, {part} alone: {:.3}", logistic(&part_of, 5));
        }
        let (logistic, neighbours) = (logistic(&rows, 5), neighbours(&rows, 5));
        println!("{view:?}: logistic {logistic:.3}, neighbours {neighbours:.3}, majority 0.200");
        // Each category makes a fifth. The probes' own spread over 1000 images is 1.3 points.
        assert!(
            logistic < 0.25,
            "{view:?}: softmax regression is right in {logistic}"
        );
        assert!(
            neighbours < 0.25,
            "{view:?}: nearest neighbours are right in {neighbours}"
        );
    }
}
