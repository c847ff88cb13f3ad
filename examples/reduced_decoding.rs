//! Whether decoding at reduced resolution does harm: `reduced_decoding BUNDLE COUNT` decodes COUNT phantoms of full size
//! both ways, lets the bundle decide on both, and prints JSON: a row for each transfer syntax that has reduced
//! resolutions, with how often the decisions agree, how far scores are apart (the service's decisions and scores: it decodes
//! in full where the reduced picture makes a close call), and how far grey values are.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Context as _;
use radsort::config::settings::{ReviewSettings, RuntimeSettings};
use radsort::decode::{self, Content, Decoded, RenderSpec};
use radsort::domain::decision::{HeaderView, decide};
use radsort::domain::{Decision, Prediction};
use radsort::model::cascade::{Cascade, Image};
use radsort::model::{Bundle, Thresholds};
use radsort::phantom::{Difficulty, Imbalance, Plan, PlanOptions, Syntax, plan};

const SYNTAXES: [Syntax; 4] = [
    Syntax::JpegBaseline,
    Syntax::JpegExtended,
    Syntax::Jpeg2000,
    Syntax::Jpeg2000Lossless,
];
/// No bundle was trained with it.
const SEED: u64 = 6_202_611;

fn main() -> anyhow::Result<()> {
    let usage = "usage: reduced_decoding BUNDLE COUNT";
    let mut words = std::env::args().skip(1);
    let bundle = Bundle::open(Path::new(&words.next().context(usage)?))?;
    let count: usize = words.next().context(usage)?.parse().context(usage)?;
    let thresholds = Thresholds::new(&bundle, &ReviewSettings::default())?;
    let runtime = RuntimeSettings {
        threads: 1,
        ..RuntimeSettings::default()
    };
    let mut cascade = Cascade::load(bundle.clone(), &runtime, thresholds.view())?;
    let plans = plan(&PlanOptions {
        count,
        seed: SEED,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: None,
        outside: 0.05,
    });
    let mut rows = SYNTAXES.map(Row::new);
    let mut judge = |decoded: &Decoded| -> anyhow::Result<(Prediction, Decision)> {
        let Content::Radiograph { header } = &decoded.inspection.content else {
            anyhow::bail!("a phantom is no radiograph");
        };
        let image = Image {
            header: HeaderView::of(&header.description),
            radiographs: &decoded.radiographs,
        };
        let prediction = cascade.classify(&[image]).remove(0)?;
        let decision = decide(&prediction, &thresholds);
        Ok((prediction, decision))
    };
    for_each_both_ways(&plans, bundle.render_specs(), |syntax, reduced, full| {
        let row = rows.iter_mut().find(|row| row.syntax == syntax);
        let row = row.context("an unknown syntax")?;
        let (mine, other) = (judge(&reduced)?, judge(&full)?);
        let close = thresholds.is_close_call(&mine.0);
        row.images += 1;
        row.close += usize::from(close);
        row.same += usize::from(close || mine.1 == other.1);
        row.scores
            .push(if close { 0.0 } else { apart(&mine.0, &other.0) });
        let pixels = |decoded: &Decoded| -> Vec<f32> {
            let pictures = decoded.radiographs.iter();
            pictures.flat_map(|one| one.pixels.clone()).collect()
        };
        let (mine, other) = (pixels(&reduced), pixels(&full));
        let apart: f32 = mine.iter().zip(&other).map(|(a, b)| (a - b).abs()).sum();
        row.grey.push(apart / mine.len().max(1) as f32);
        Ok(())
    })?;
    let json: Vec<_> = rows.iter().map(Row::json).collect();
    println!("{}", serde_json::to_string(&json)?);
    Ok(())
}

/// Draws, writes and decodes both ways, on all cores; calls `each` here, in no particular order.
fn for_each_both_ways(
    plans: &[Plan],
    specs: &[RenderSpec],
    mut each: impl FnMut(Syntax, Decoded, Decoded) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let next = AtomicUsize::new(0);
    let both = |index: usize, plan: &Plan| -> anyhow::Result<_> {
        let syntax = SYNTAXES[index % SYNTAXES.len()];
        let path = scratch.path().join(format!("{index}.dcm"));
        plan.draw().write(&path, syntax)?;
        let bytes = std::fs::read(&path)?;
        std::fs::remove_file(&path)?;
        let reduced = decode::decode_bytes(&bytes, specs)?;
        let full = decode::decode_bytes_in_full(&bytes, specs)?;
        Ok((syntax, reduced, full))
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(4);
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (sender, next, both) = (sender.clone(), &next, &both);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { return };
                    if sender.send(both(index, plan)).is_err() {
                        return; // something failed
                    }
                }
            });
        }
        drop(sender);
        for (done, result) in receiver.into_iter().enumerate() {
            let (syntax, reduced, full) = result?;
            each(syntax, reduced, full)?;
            if (done + 1) % 100 == 0 {
                eprintln!("{} of {} phantoms", done + 1, plans.len());
            }
        }
        Ok(())
    })
}

/// The largest difference of any category's score; 1 when other categories were asked about.
fn apart(a: &Prediction, b: &Prediction) -> f32 {
    let differences = a.scores.iter().map(|score| {
        let other = b.scores.iter().find(|it| it.category == score.category);
        other.map_or(1.0, |it| (it.probability - score.probability).abs())
    });
    let counts = f32::from(a.scores.len() != b.scores.len());
    differences.fold(counts, f32::max)
}

struct Row {
    syntax: Syntax,
    images: usize,
    same: usize,
    /// Decoded twice.
    close: usize,
    /// The largest distance of any score, an image each.
    scores: Vec<f32>,
    /// The mean distance of grey values from 0 to 1, an image each.
    grey: Vec<f32>,
}

impl Row {
    fn new(syntax: Syntax) -> Self {
        Self {
            syntax,
            images: 0,
            same: 0,
            close: 0,
            scores: Vec::new(),
            grey: Vec::new(),
        }
    }

    fn json(&self) -> serde_json::Value {
        let mut scores = self.scores.clone();
        scores.sort_by(f32::total_cmp);
        let at = |share: f64| {
            scores.get(((scores.len() as f64 * share) as usize).min(scores.len().saturating_sub(1)))
        };
        let mean = self.grey.iter().sum::<f32>() / self.grey.len().max(1) as f32;
        serde_json::json!({
            "syntax": self.syntax.name(),
            "images": self.images,
            "same decision": self.same,
            "other decision": self.images - self.same,
            "in full": self.close,
            "score apart, p50": at(0.5),
            "p99": at(0.99),
            "most": scores.last(),
            "grey apart, mean": mean,
        })
    }
}
