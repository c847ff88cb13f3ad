//! `radsort audit`: filed files drawn at random, for a person to go through.

mod left;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use serde::Serialize;

use super::access::{self, ConfigArg};
use super::judge::Office;
use super::render::png_bytes;
use crate::config::settings::DecoderSettings;
use crate::contact_sheet::{self, Item, Section};
use crate::control::protocol::{AuditList, Reply, Request};
use crate::decode::pool::Pool;
use crate::decode::{Fit, Intensity, Polarity, RenderSpec, Resampler};
use crate::index::entry::Entry;

/// Find out how often the model is right: have a person look at files drawn at random.
///
/// People who only correct what they stumble upon never see how much they overlook. A judgement on a file of the sample
/// (`radsort confirm`, `radsort correct`) is recorded with origin `audit`, and only such labels say how many of all filed
/// files are wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort audit sample 60 --open
  radsort confirm UID UID … ; radsort correct UID CATEGORY
  radsort correct UID neither             it belongs under no category, and should not have been filed
  radsort audit left                      what nobody has judged yet")]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do about audits.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Draw files uniformly from everything filed, keep the list, and write a page of pictures to go through.
    #[command(after_help = "Examples:
  radsort audit sample 60 --open
  radsort confirm UID UID … ; radsort correct UID CATEGORY

The page holds radiographs: only you can read it. Delete it when the audit is done.

Exit status: 0 when the list was kept and the page written, 1 otherwise.")]
    Sample(SampleArgs),
    /// Say how much of each audit is still to be judged. One that was given up in the middle promises nothing: people begin
    /// with what is easy.
    #[command(after_help = "Examples:
  radsort audit left
  radsort audit left 20261123T100000Z     the files that nobody has judged

Exit status: 0 when it was said, 1 otherwise.")]
    Left(left::LeftArgs),
}

/// How a sample is drawn.
#[derive(Debug, clap::Args)]
pub struct SampleArgs {
    /// How many files; all if there are fewer.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..=crate::judgement::audit::MOST))]
    pub count: u64,
    /// Open the page in a browser.
    #[arg(long)]
    pub open: bool,
    /// The same seed draws the same files. Default: drawn at random.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Where the page goes, as `radsort-audit-LIST.html`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// One JSON object: the list, the page, and each file in the order in which they were drawn.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Drawn<'a> {
    list: &'a str,
    seed: u64,
    /// How many filed files there were to draw from.
    filed: u64,
    page: &'a Path,
    /// Files on the page that have no picture.
    without_picture: usize,
    files: Vec<DrawnFile<'a>>,
}

#[derive(Serialize)]
struct DrawnFile<'a> {
    record: &'a str,
    sop_instance_uid: Option<&'a str>,
    category: Option<&'a str>,
    confidence: Option<f32>,
    path: &'a str,
}

impl<'a> DrawnFile<'a> {
    fn new((entry, path): &'a (Entry, String)) -> Self {
        Self {
            record: &entry.id.0,
            sop_instance_uid: entry
                .sop_instance_uid
                .as_ref()
                .map(crate::domain::Uid::as_str),
            category: entry
                .category
                .as_ref()
                .map(crate::domain::CategoryId::as_str),
            confidence: entry.confidence,
            path,
        }
    }
}

/// Runs the command.
pub fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Sample(args) => sample(args),
        Verb::Left(args) => left::run(args),
    }
}

fn sample(args: &SampleArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let out = std::path::absolute(&args.out)?;
    anyhow::ensure!(
        out.is_dir(),
        "--out {}: there is no such folder; make it first, it should be yours alone (mkdir -m 700)",
        out.display()
    );
    let seed = match args.seed {
        Some(seed) => seed,
        None => random_seed()?,
    };
    let count = args.count;
    let (entries, list) = match Office::open(&settings)? {
        Office::Service(mut client) => {
            let (mut entries, mut list) = (Vec::new(), None);
            for reply in client.request(&Request::AuditSample { count, seed })? {
                match reply? {
                    Reply::Entry(entry) => entries.push(*entry),
                    Reply::Audit(audit) => list = Some(audit),
                    _ => {}
                }
            }
            (
                entries,
                list.context("the service did not say how it ended")?,
            )
        }
        Office::Alone(office) => office.run(async |desk, _| desk.sample(count, seed))?,
    };
    let roots = access::roots(&settings);
    let paths: Vec<(Entry, String)> = entries
        .into_iter()
        .map(|entry| {
            let path = access::absolute(&roots, &entry.at);
            (entry, path)
        })
        .collect();
    let page = out.join(format!("radsort-audit-{}.html", list.id));
    let without = write_page(&page, &list, &paths)
        .with_context(|| format!("cannot write {}", page.display()))?;
    if args.json {
        let drawn = Drawn {
            list: &list.id,
            seed,
            filed: list.filed,
            page: &page,
            without_picture: without,
            files: paths.iter().map(DrawnFile::new).collect(),
        };
        println!("{}", serde_json::to_string(&drawn)?);
    } else {
        println!(
            "{} of {} filed files drawn (seed {seed}), list {}: {}",
            paths.len(),
            list.filed,
            list.id,
            page.display()
        );
    }
    if without > 0 {
        eprintln!(
            "{without} files could not be read or drawn; they are on the page without a picture"
        );
    }
    if args.open {
        open_in_browser(&page);
    }
    Ok(ExitCode::SUCCESS)
}

fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    // Short enough to be typed again.
    Ok(u64::from_le_bytes(bytes) % 1_000_000_000)
}

/// The page: a section for each category, UID and confidence below each picture. Gives how many have no picture.
fn write_page(page: &Path, list: &AuditList, files: &[(Entry, String)]) -> anyhow::Result<usize> {
    use std::os::unix::fs::OpenOptionsExt;

    let pool = Pool::start(&DecoderSettings {
        count: 1,
        permits_per_watch: 1,
        ..DecoderSettings::default()
    })?;
    let mut sections: BTreeMap<String, Vec<Item>> = BTreeMap::new();
    let mut without = 0;
    for (entry, path) in files {
        let thumbnail = picture(&pool, Path::new(path)).unwrap_or_default();
        without += usize::from(thumbnail.is_empty());
        let name = entry
            .sop_instance_uid
            .as_ref()
            .map_or(entry.id.0.as_str(), crate::domain::Uid::as_str);
        let confidence = entry
            .confidence
            .map(|confidence| format!(" · {:.0} %", 100.0 * confidence))
            .unwrap_or_default();
        let category = entry
            .category
            .as_ref()
            .map_or_else(|| "no category".to_owned(), ToString::to_string);
        sections.entry(category.clone()).or_default().push(Item {
            caption: format!("{category}{confidence} · {name}"),
            thumbnail,
            marked: false,
        });
    }
    let sections: Vec<Section> = sections
        .into_iter()
        .map(|(title, items)| Section {
            subtitle: format!("{} images", items.len()),
            title,
            items,
        })
        .collect();
    let subtitle = format!(
        "{} of {} filed files, drawn at random. Right: radsort confirm UID. Wrong: radsort correct UID CATEGORY. Of no category: radsort correct UID neither.",
        files.len(),
        list.filed
    );
    let html = contact_sheet::page(&format!("Audit {}", list.id), &subtitle, &sections);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(page)?;
    std::io::Write::write_all(&mut file, html.as_bytes())?;
    Ok(without)
}

/// A picture of a file as PNG, decoded in the jail.
fn picture(pool: &Pool, path: &Path) -> Option<Vec<u8>> {
    let spec = RenderSpec {
        height: 480,
        width: 320,
        fit: Fit::Letterbox,
        pad: 0.0,
        resampler: Resampler::Area,
        intensity: Intensity::Voi,
        polarity: Polarity::Monochrome2,
    };
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let decoded = pool.decode(&file, size, &[spec]).ok()?;
    png_bytes(decoded.radiographs.first()?, false).ok()
}

fn open_in_browser(page: &Path) {
    let opened = Command::new("xdg-open")
        .arg(page)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if opened.is_err() {
        eprintln!("no browser could be opened: open the page yourself");
    }
}
