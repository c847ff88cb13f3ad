//! Labelled images for `retrain` and `evaluate`: where they come from, and getting them ready with progress.

mod elsewhere;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use serde::{Deserialize, Serialize};

use self::elsewhere::Elsewhere;
use super::labels;
use super::train_phantom::Terminal;
use crate::config::Settings;
use crate::config::settings::DecoderSettings;
use crate::decode::pool::Pool;
use crate::decode::{Content, RenderSpec};
use crate::domain::Pseudonym;
use crate::filing::secrets::Secrets;
use crate::model::Bundle;
use crate::retrain::dataset::{Dataset, Loader, Lost};
use crate::retrain::judging::outcome::LabelOrigin;
use crate::retrain::phantom_bundle::Report as _;
use crate::retrain::pixel_cache::PixelCache;
use crate::retrain::room::Room;
use crate::retrain::rows::{self, Row, Rows, RowsError};

/// How large the cache of prepared pictures may get, bytes.
const CACHE_LIMIT: u64 = 20 << 30;

/// Where labels come from; default: what people have said at this site (`radsort labels`).
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[group(required = false, multiple = false)]
pub struct Source {
    /// A folder with a folder for each category (by id or folder name), as people have left them; not the library, where
    /// lies what nobody has looked at
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// A list: CSV with the columns category, and path or sop_instance_uid; perhaps patient (a Patient ID or pseudonym,
    /// kept as a pseudonym), origin, audit (without it labels of origin audit promise nothing), confidence, digest, time
    #[arg(long, value_name = "CSV")]
    pub labels: Option<PathBuf>,
}

impl Source {
    /// Whether it is a list in this folder.
    fn is_in(&self, folder: &Path) -> bool {
        (self.labels.as_ref()).is_some_and(|list| list.starts_with(folder))
    }
}

/// How pseudonyms are made where there is no site: good for one run.
fn passing_pseudonym(key: [u8; 32]) -> impl Fn(&str, &str) -> Pseudonym + Sync {
    move |patient, issuer| {
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher
            .update(issuer.as_bytes())
            .update(&[0])
            .update(patient.as_bytes());
        Pseudonym(hasher.finalize().to_hex()[..32].to_owned())
    }
}

/// Finds, decodes and prepares the images for some bundles; labels are categories of the first. What nobody has looked at
/// is among them from the confidence `untouched` on, if at all.
pub fn load(
    source: &Source,
    complete: bool,
    untouched: Option<f32>,
    bundles: &[&Bundle],
    settings: Option<&Settings>,
) -> anyhow::Result<Dataset> {
    let bundle = bundles.first().context("no bundle to prepare images for")?;
    let specs = ways(bundles);
    let decoders = settings.map_or_else(DecoderSettings::default, |it| it.decoders.clone());
    let pool = Pool::start(&decoders)?;
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    let source = match (source, settings) {
        (
            Source {
                from: None,
                labels: None,
            },
            Some(settings),
        ) => {
            let list = scratch.path().join("labels.csv");
            labels::export_to(settings, &list, untouched.is_some())?;
            &Source {
                from: None,
                labels: Some(list),
            }
        }
        _ => source,
    };
    // The site's own list, as it is now or was when the training began: that nobody has said anything is told below.
    let is_own = source.is_in(scratch.path()) || settings.is_some_and(|it| source.is_in(&it.state));
    let rows = match find(source, complete, bundle, &pool) {
        Err(error) if is_own && is_empty(&error) => Rows::default(),
        rows => rows?.trusting(untouched),
    };
    if let (Some(dir), Some(settings)) = (&source.from, settings) {
        refuse_library(dir, &rows, &settings.library.path)?;
    }
    let elsewhere = Elsewhere::new(settings, None);
    let site = (settings, &elsewhere);
    let dataset = prepare(&specs, &pool, &decoders, site, |loader| {
        loader.load(&rows, progress(rows.rows.len()))
    })?;
    if dataset.examples.is_empty() {
        name_left_out(&dataset);
        let ids: Vec<&str> = bundle
            .categories()
            .iter()
            .map(|it| it.id.as_str())
            .collect();
        bail!(
            "no image can be used ({}); the bundle's categories are {}{}",
            counts(&dataset),
            ids.join(", "),
            if nothing_said(&dataset) { SAY } else { "" }
        );
    }
    Ok(dataset)
}

/// The images that a training was begun with, as they were then: `began` says which. Files may have been moved meanwhile, by
/// people and by radsort itself.
pub fn load_again(
    began: Dataset,
    source: &Source,
    bundles: &[&Bundle],
    settings: &Settings,
) -> anyhow::Result<Dataset> {
    let pool = Pool::start(&settings.decoders)?;
    let elsewhere = Elsewhere::new(Some(settings), source.from.as_deref());
    let site = (Some(settings), &elsewhere);
    let count = began.examples.len();
    let again = prepare(&ways(bundles), &pool, &settings.decoders, site, |loader| {
        loader.load_again(began, progress(count))
    })?;
    again.map_err(|lost| anyhow::anyhow!(in_words(&lost)))
}

/// How many are named.
const NAMED: usize = 5;

fn in_words(lost: &Lost) -> String {
    let count = lost.paths.len();
    // Not in the journal: paths may hold names of patients.
    let named = if is_told_to_the_journal() { 0 } else { NAMED };
    let mut which = String::new();
    for path in lost.paths.iter().take(named) {
        let _ = write!(which, "\n  {}", path.display());
    }
    if named > 0 && count > named {
        let _ = write!(which, "\n  and {} more", count - named);
    }
    format!(
        "{count} of the {} images that this training was begun with cannot be had any more: their pixels are not in the cache, and \
         their files neither where they were nor anywhere that is known. Bring them back and give --resume again, or begin anew \
         without --resume, with what is there now.{which}",
        lost.of
    )
}

/// Every way of rendering that one of the bundles asks for.
fn ways(bundles: &[&Bundle]) -> Vec<RenderSpec> {
    let mut specs: Vec<RenderSpec> = Vec::new();
    for spec in bundles.iter().flat_map(|bundle| bundle.render_specs()) {
        if !specs.contains(spec) {
            specs.push(spec.clone());
        }
    }
    specs
}

/// Whether a list of labels holds nothing.
fn is_empty(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(RowsError::Empty { .. }))
}

/// What to do where nobody has said anything.
const SAY: &str = ". Say of some files what they are: `radsort audit sample 100` draws some to go through, `radsort confirm` and \
     `radsort correct` say it, `radsort labels list` lists what was said. `radsort retrain --trust-untouched` learns from \
     files that nobody has looked at as well, but judges by what people have said";

/// Whether nothing is missing but people's word.
fn nothing_said(dataset: &Dataset) -> bool {
    dataset
        .left_out
        .counts()
        .keys()
        .all(|why| why.starts_with(rows::SEEN_BY_NOBODY))
}

/// Below a site's own library lies what radsort has filed, and nobody may have looked at it since.
fn refuse_library(from: &Path, rows: &Rows, library: &Path) -> anyhow::Result<()> {
    let Ok(library) = library.canonicalize() else {
        return Ok(());
    };
    // Category folders may be links.
    let mut places: Vec<&Path> = rows
        .rows
        .iter()
        .filter_map(|row| row.path.parent())
        .collect();
    places.dedup();
    let within = |path: &Path| path.canonicalize().is_ok_and(|it| it.starts_with(&library));
    let around = from.canonicalize().is_ok_and(|it| library.starts_with(it));
    if around || within(from) || places.into_iter().any(within) {
        bail!(
            "--from {}: the library {} is no folder that people have sorted, it holds what nobody has looked at as well. \
             Leave --from away: the records say what people at this site have seen",
            from.display(),
            library.display()
        );
    }
    Ok(())
}

/// Every radiograph below a folder, as images of no category.
pub fn load_outside(
    folder: &Path,
    bundle: &Bundle,
    settings: Option<&Settings>,
) -> anyhow::Result<Dataset> {
    let decoders = settings.map_or_else(DecoderSettings::default, |it| it.decoders.clone());
    let pool = Pool::start(&decoders)?;
    let row = |path| Row::of(path, None, LabelOrigin::CompleteCsv);
    let rows = Rows {
        rows: rows::files_below(folder)?.into_iter().map(row).collect(),
        ..Rows::default()
    };
    let elsewhere = Elsewhere::new(None, None);
    let site = (settings, &elsewhere);
    prepare(bundle.render_specs(), &pool, &decoders, site, |loader| {
        loader.load(&rows, progress(rows.rows.len()))
    })
}

/// Tells how many images are ready.
fn progress(of: usize) -> impl FnMut(usize) {
    let mut terminal = Terminal::default();
    move |done| terminal.progress("preparing images", done, of)
}

/// Decodes and prepares images; those of a site come out of its cache the second time.
fn prepare<T>(
    specs: &[RenderSpec],
    pool: &Pool,
    decoders: &DecoderSettings,
    (settings, elsewhere): (Option<&Settings>, &Elsewhere<'_>),
    load: impl FnOnce(&Loader<'_>) -> T,
) -> anyhow::Result<T> {
    let secrets = settings
        .filter(|settings| settings.state.exists())
        .map(|settings| Secrets::open(&settings.state, true))
        .transpose()?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("no random numbers")?;
    let passing = passing_pseudonym(key);
    let lasting = |patient: &str, issuer: &str| match &secrets {
        Some(secrets) => secrets.pseudonym(patient, issuer),
        None => passing(patient, issuer),
    };
    // Without a lasting key the pseudonyms in the cache would mean nothing to the next run.
    let cache = secrets.as_ref().and(settings).map(|settings| {
        let dir = settings.state.join("retrain/cache");
        let room = Room::for_pictures(&dir);
        PixelCache::new(dir, room)
    });
    let loader = Loader {
        pool,
        specs,
        pseudonym: &lasting,
        cache: cache.as_ref(),
        elsewhere: &|digest| elsewhere.places(digest),
        threads: decoders.count,
    };
    let loaded = load(&loader);
    if let Some(cache) = &cache {
        cache
            .bound(CACHE_LIMIT)
            .context("the cache of prepared pictures")?;
    }
    Ok(loaded)
}

fn find(source: &Source, complete: bool, bundle: &Bundle, pool: &Pool) -> anyhow::Result<Rows> {
    let categories = bundle.categories();
    Ok(match (&source.from, &source.labels) {
        (Some(dir), _) => rows::from_folders(dir, categories).context("--from")?,
        (None, Some(list)) => {
            rows::from_csv(list, categories, complete, |folder| by_uid(folder, pool))
                .context("the list of labels")?
        }
        (None, None) => bail!(
            "say where the labels are: --from DIR, --labels CSV, or --config FILE for those of a site"
        ),
    })
}

/// The files below a folder by their SOP Instance UIDs, by the header pass of the jailed decoders.
fn by_uid(folder: &Path, pool: &Pool) -> Result<HashMap<String, PathBuf>, RowsError> {
    let mut found = HashMap::new();
    for path in rows::files_below(folder)? {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        let Ok(size) = file.metadata().map(|about| about.len()) else {
            continue;
        };
        if let Ok(inspection) = pool.inspect(&file, size)
            && let Content::Radiograph { header } = inspection.content
        {
            let uid = header.sop_instance_uid.trim_end_matches(['\0', ' ']);
            found.insert(uid.to_owned(), path);
        }
    }
    Ok(found)
}

/// Names the first of what was left out. Not in the journal: paths may hold names of patients.
pub fn name_left_out(dataset: &Dataset) {
    if !is_told_to_the_journal() {
        for line in dataset.left_out.names() {
            eprintln!("{line}");
        }
    }
}

/// Whether standard error is the journal, as systemd says by device and inode.
fn is_told_to_the_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// What was left out, in one line.
pub fn counts(dataset: &Dataset) -> String {
    let left_out = dataset.left_out.counts();
    if left_out.is_empty() {
        return "nothing left out".to_owned();
    }
    let each: Vec<String> = left_out
        .iter()
        .map(|(why, count)| format!("{count} {why}"))
        .collect();
    format!("left out: {}", each.join(", "))
}
