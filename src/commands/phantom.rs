//! `radsort phantom`: write synthetic radiographs with known categories, to try an installation without patients' data.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::phantom::{
    self, Difficulty, Imbalance, Layout, OutsideKind, PlanOptions, Summary, SyntaxChoice,
};

/// Write synthetic full-spine radiographs with known categories
///
/// The images look like radiographs and are none: use them to try, demonstrate and test an installation without any
/// patient's data. The same seed always gives the same images. The truth is written to labels.csv in the same directory
/// (columns `sop_instance_uid`, `category`, `patient`, `view`; no category for images that belong to neither view).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  radsort phantom --out /tmp/phantoms --count 60
      sixty images at detector size (about 20 MB each uncompressed) in all transfer syntaxes
  radsort phantom --out /srv/drop --count 200 --size 500x750 --syntax explicit
      small ones, quickly written
  radsort phantom --out training --count 4000 --size 400x600 --imbalance even --layout by-category --seed 1
  radsort phantom --out hard --count 50 --difficulty hard --sheet hard.png
  radsort phantom --out near --count 50 --outside 1 --outside-kind chest,cervical,supine
      nothing but radiographs of something else, for `radsort evaluate --near near`

Exit codes: 0 all written; 1 something could not be written; 2 wrong usage.")]
pub struct PhantomArgs {
    /// Directory for the images and labels.csv; made if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many images, patients with several each
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// Same seed, same images
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Transfer syntax: mixed, explicit, implicit, big-endian, deflated, rle, jpeg, jpeg-extended, jpeg-lossless, jpegls, j2k or j2k-lossless
    #[arg(long, default_value = "mixed")]
    pub syntax: SyntaxChoice,
    /// All files in one directory, or one directory a category
    #[arg(long, value_enum, default_value_t = Layout::Flat)]
    pub layout: Layout,
    /// How often each category occurs
    #[arg(long, value_enum, default_value_t = Imbalance::Paper)]
    pub imbalance: Imbalance,
    /// How clean the images are
    #[arg(long, value_enum, default_value_t = Difficulty::Normal)]
    pub difficulty: Difficulty,
    /// Columns and rows, such as 500x750 [default: each detector's own, 2000–3000 × 3000–4300]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub size: Option<(u32, u32)>,
    /// Share of images that show no full spine: chest, pelvis, hand, calibration shots
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    pub outside: f32,
    /// What those images show instead, one or several with commas between
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    pub outside_kind: Vec<OutsideKind>,
    /// Also write a contact sheet of thumbnails by category to this PNG
    #[arg(long, value_name = "PNG")]
    pub sheet: Option<PathBuf>,
    /// Print a summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Parses `WxH`.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let parse = || {
        let (columns, rows) = text.split_once(['x', 'X', '×'])?;
        Some((columns.trim().parse().ok()?, rows.trim().parse().ok()?))
    };
    match parse() {
        Some((columns, rows))
            if (64..=16_000).contains(&columns) && (64..=16_000).contains(&rows) =>
        {
            Ok((columns, rows))
        }
        Some(_) => Err("each side must be between 64 and 16000 pixels".to_owned()),
        None => Err("write columns and rows like 500x750".to_owned()),
    }
}

/// Parses a share, 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|s| (0.0..=1.0).contains(s))
        .ok_or_else(|| "write a share between 0 and 1, such as 0.05".to_owned())
}

/// Plans, draws and writes; shows progress; prints what was written.
pub fn run(args: &PhantomArgs) -> anyhow::Result<ExitCode> {
    if args.out.join("labels.csv").exists() {
        bail!(
            "{} already holds a set (labels.csv): choose another --out",
            args.out.display()
        );
    }
    let options = PlanOptions {
        count: args.count,
        seed: args.seed,
        imbalance: args.imbalance,
        difficulty: args.difficulty,
        size: args.size,
        outside: args.outside,
    };
    let plans = phantom::plan_with(&options, &args.outside_kind);
    let bar = progress(plans.len());
    let written = AtomicUsize::new(0);
    let summary = phantom::write_set(&args.out, &plans, args.syntax, args.layout, |_| {
        let done = written.fetch_add(1, Ordering::Relaxed) + 1;
        bar.inc(1);
        // Without a terminal a line now and then, so that a log shows that it moves.
        if bar.is_hidden() && !args.json && (done.is_multiple_of(100) || done == plans.len()) {
            eprintln!("{done} of {} written", plans.len());
        }
    })?;
    bar.finish_and_clear();
    if let Some(sheet) = &args.sheet {
        phantom::contact_sheet(sheet, &plans, 10)?;
    }
    if args.json {
        println!(
            "{}",
            serde_json::to_string(&summary).context("cannot print the summary")?
        );
    } else {
        tell(args, &summary);
    }
    Ok(ExitCode::SUCCESS)
}

fn progress(count: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos} of {len}  {per_sec}  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn tell(args: &PhantomArgs, summary: &Summary) {
    let megabytes = summary.bytes as f64 / 1e6;
    println!(
        "{} images of {} patients, {megabytes:.1} MB, in {}",
        summary.images,
        summary.patients,
        args.out.display()
    );
    for (category, count) in &summary.categories {
        println!("  {category:<22} {count:>6}");
    }
    println!("The truth is in {}.", args.out.join("labels.csv").display());
    if let Some(sheet) = &args.sheet {
        println!("Thumbnails by category: {}", sheet.display());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sizes_are_columns_by_rows_and_nothing_absurd() {
        assert_eq!(size("500x750"), Ok((500, 750)));
        assert_eq!(size("2400 × 3000"), Ok((2400, 3000)));
        for wrong in ["500", "x", "0x100", "500x99999", "axb", "-5x100"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert!(
            share("1.5").is_err()
                && share("-0.1").is_err()
                && share("NaN").is_err()
                && share("some").is_err()
        );
    }

    #[test]
    fn a_directory_that_already_holds_a_set_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("labels.csv"), "").unwrap();
        let args = PhantomArgs {
            out: dir.path().to_owned(),
            count: 1,
            seed: 1,
            syntax: SyntaxChoice::Mixed,
            layout: Layout::Flat,
            imbalance: Imbalance::Even,
            difficulty: Difficulty::Normal,
            size: Some((64, 96)),
            outside: 0.0,
            outside_kind: Vec::new(),
            sheet: None,
            json: true,
        };
        assert!(
            run(&args)
                .unwrap_err()
                .to_string()
                .contains("already holds a set")
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
