//! `radsort classify`: what the model says about files, and what `run` would do with them. Nothing is moved.
//!
//! The files go the way of [`crate::ingest`] as far as the decision: read, decoded in the jail, classified, decided.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use comfy_table::{Attribute, Cell, Color, Table, presets};
use serde::Serialize;

use super::EXIT_CONFIG;
use crate::config::ConfigError;
use crate::config::settings::{DecoderSettings, ReviewSettings, RuntimeSettings};
use crate::decode::pool::{DecodeError, Pool};
use crate::decode::{Completeness, Content, Radiograph};
use crate::domain::decision::{HeaderView, ViewScores, decide};
use crate::domain::dossier::Timings;
use crate::domain::instance::Header;
use crate::domain::{Decision, Prediction, Reason, Uid};
use crate::model::store::Store;
use crate::model::{Bundle, Classifier, Classify as _, Thresholds};

/// Predict the category of radiographs without moving them.
///
/// Each file is decoded in the jail, classified, and decided on as the daemon would, with the thresholds in force; a
/// person sees a table, --json gives one object a line, in the order of the files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort classify spine.dcm                       with the shipped bundle
  radsort classify --config /etc/radsort/radsort.toml *.dcm
                                                   with the site's bundle, thresholds and GPU
  radsort classify --model models/next --json *.dcm | jq -r 'select(.decision != \"file\") | .path'

Exit status: 0 when every file was classified (also those that need review), 1 when some could not be (not a
radiograph, damaged), 2 when nothing could be done (usage, bundle, ONNX Runtime), 78 bad configuration.")]
pub struct ClassifyArgs {
    /// DICOM files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The bundle; default: that of the configuration, else the shipped one.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Take bundle, thresholds, ONNX Runtime, device and decoder limits from this configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &ClassifyArgs) -> anyhow::Result<ExitCode> {
    let tools = match Tools::prepare(args) {
        Ok(tools) => tools,
        Err(error) => {
            eprintln!("radsort: {error:#}");
            let is_configuration = error
                .chain()
                .any(<dyn std::error::Error>::is::<ConfigError>);
            return Ok(ExitCode::from(if is_configuration {
                EXIT_CONFIG
            } else {
                2
            }));
        }
    };
    if let Some(why) = &tools.classifier.info().gpu_refused {
        eprintln!("radsort: WARNING: the model runs on the CPU, not on the GPU: {why}");
    }
    let mut report = Report::new(args.json);
    let mut all = true;
    each_in_order(
        &args.files,
        tools.at_once,
        |path| tools.classify(path),
        |result| {
            all &= result.prediction.is_some();
            report.line(&result, &tools)
        },
    )?;
    report.end()?;
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What every file needs.
struct Tools {
    pool: Pool,
    at_once: usize,
    classifier: Classifier,
    thresholds: Thresholds,
    waiting: tokio::runtime::Runtime,
}

/// What became of one file.
struct Classified {
    path: PathBuf,
    uid: Option<String>,
    prediction: Option<Prediction>,
    decision: Option<Decision>,
    /// What exactly was wrong, for people.
    detail: Option<String>,
    ms: Timings,
}

impl Tools {
    fn prepare(args: &ClassifyArgs) -> anyhow::Result<Self> {
        let settings = args
            .config
            .as_deref()
            .map(crate::config::load)
            .transpose()?;
        let (runtime, decoders, review, bundle) = match settings {
            Some(it) => {
                let bundle = Store::in_use(&it)?;
                (it.runtime, it.decoders, it.review, Some(bundle))
            }
            None => (
                RuntimeSettings::default(),
                DecoderSettings::default(),
                ReviewSettings::default(),
                None,
            ),
        };
        let bundle = Bundle::open_or_shipped(args.model.as_deref().or(bundle.as_deref()))?;
        let thresholds = Thresholds::new(&bundle, &review)?;
        let at_once = decoders.count.max(1);
        let pool = Pool::start(&decoders)?;
        let classifier = Classifier::start(bundle, &runtime, thresholds.view())?;
        let waiting = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()?;
        Ok(Self {
            pool,
            at_once,
            classifier,
            thresholds,
            waiting,
        })
    }

    fn classify(&self, path: &Path) -> Classified {
        let mut result = Classified {
            path: path.to_owned(),
            uid: None,
            prediction: None,
            decision: None,
            detail: None,
            ms: Timings::default(),
        };
        if let Err(why) = self.fill(&mut result) {
            result.detail = Some(why);
        }
        result
    }

    /// The way of one file as far as its decision. An error is not about the file's content.
    fn fill(&self, result: &mut Classified) -> Result<(), String> {
        let started = Instant::now();
        let (file, size) = open(&result.path).map_err(|error| error.to_string())?;
        result.ms.read = millis(started.elapsed());

        let started = Instant::now();
        let specs = self.classifier.bundle().render_specs();
        let decoded = self.pool.decode(&file, size, specs);
        result.ms.decode = millis(started.elapsed());
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(DecodeError::Fault(fault)) => {
                result.decision = Some(Decision::Quarantine {
                    reason: fault.reason,
                });
                return Err(fault.detail);
            }
            Err(error) => return Err(error.to_string()),
        };
        result.ms.decode = millis(decoded.took);
        let header = match decoded.inspection.content {
            Content::Radiograph { header } => header,
            other => return Err(result.not_a_radiograph(other)),
        };
        result.uid = uid(&header);
        if let Completeness::ShortBy(missing) = decoded.inspection.completeness {
            result.decision = Some(Decision::Quarantine {
                reason: Reason::Truncated,
            });
            return Err(format!("at least {missing} bytes are missing at its end"));
        }

        let mut prediction = self.predict(&header, decoded.radiographs, &mut result.ms)?;
        if decoded.reduced
            && self.thresholds.is_close_call(&prediction)
            && let Ok(decoded) = self.pool.decode_in_full(&file, size, specs)
        {
            result.ms.decode += millis(decoded.took);
            prediction = self.predict(&header, decoded.radiographs, &mut result.ms)?;
        }
        result.decision = Some(match Uid::parse(&header.sop_instance_uid) {
            Ok(_) => decide(&prediction, &self.thresholds),
            Err(_) if header.sop_instance_uid.is_empty() => Decision::Quarantine {
                reason: Reason::NoSopInstanceUid,
            },
            Err(_) => Decision::Quarantine {
                reason: Reason::InvalidSopInstanceUid,
            },
        });
        result.prediction = Some(prediction);
        Ok(())
    }

    fn predict(
        &self,
        header: &Header,
        radiographs: Vec<Radiograph>,
        ms: &mut Timings,
    ) -> Result<Prediction, String> {
        let started = Instant::now();
        let answer = self.classifier.classify(&header.description, radiographs);
        let answer = self.waiting.block_on(answer);
        ms.infer += millis(started.elapsed());
        Ok(answer.map_err(|error| error.to_string())?.prediction)
    }
}

impl Classified {
    /// Notes what is done with a file that is no radiograph, and says what it is.
    fn not_a_radiograph(&mut self, content: Content) -> String {
        let (decision, detail) = match content {
            Content::NotDicom => (
                Decision::Leave {
                    reason: Reason::NotDicom,
                },
                None,
            ),
            Content::Archive => (
                Decision::Leave {
                    reason: Reason::Archive,
                },
                None,
            ),
            Content::Dicomdir => (
                Decision::Leave {
                    reason: Reason::Media,
                },
                None,
            ),
            Content::Other { header } | Content::Radiograph { header } => {
                self.uid = uid(&header);
                let modality = &header.description.modality;
                let detail = (!modality.is_empty()).then(|| format!("modality {modality}"));
                (
                    Decision::Leave {
                        reason: Reason::OtherModality,
                    },
                    detail,
                )
            }
            Content::Damaged { header, fault } => {
                self.uid = uid(&header);
                (
                    Decision::Quarantine {
                        reason: fault.reason,
                    },
                    Some(fault.detail),
                )
            }
        };
        let explanation = decision
            .reason()
            .map(Reason::explanation)
            .unwrap_or_default();
        self.decision = Some(decision);
        detail.unwrap_or_else(|| explanation.to_owned())
    }
}

fn uid(header: &Header) -> Option<String> {
    Uid::parse(&header.sop_instance_uid).ok().map(String::from)
}

/// Opens a regular file and reads it once through, as `run` does for its digest.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok((file, metadata.len()))
}

/// Works on `at_once` items at the same time and hands the results over in order.
fn each_in_order<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
    mut done: impl FnMut(R) -> io::Result<()>,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let (results, arriving) = std::sync::mpsc::sync_channel(2 * at_once);
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(items.len()) {
            let (next, work, results) = (&next, &work, results.clone());
            scope.spawn(move || {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    if results.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let (mut early, mut expected) = (BTreeMap::new(), 0);
        // Taken by value, so that an error hangs up on the workers before the scope waits for them.
        for (index, result) in arriving {
            early.insert(index, result);
            while let Some(result) = early.remove(&expected) {
                expected += 1;
                done(result)?;
            }
        }
        Ok(())
    })
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    path: std::borrow::Cow<'a, str>,
    sop_instance_uid: Option<&'a str>,
    category: Option<&'a str>,
    confidence: Option<f32>,
    scores: BTreeMap<&'a str, f32>,
    view: View,
    decision: Option<&'static str>,
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    out_of_distribution: Option<f32>,
    model: String,
    provider: &'a str,
    ms: Timings,
}

#[derive(Serialize)]
struct View {
    header: Option<HeaderView>,
    pixels: Option<ViewScores>,
}

/// Prints as results come (JSON) or as a table at the end (people).
struct Report {
    out: io::BufWriter<io::Stdout>,
    table: Option<Table>,
}

impl Report {
    fn new(json: bool) -> Self {
        let table = (!json).then(|| {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            if !io::stdout().is_terminal() {
                table.force_no_tty();
            }
            table.set_header(["file", "category", "confidence", "view", "decision", "why"]);
            table
        });
        Self {
            out: io::BufWriter::new(io::stdout()),
            table,
        }
    }

    fn line(&mut self, result: &Classified, tools: &Tools) -> io::Result<()> {
        let prediction = result.prediction.as_ref();
        let category = prediction.and_then(Prediction::category);
        let reason = result.decision.as_ref().and_then(Decision::reason);
        let decision = result.decision.as_ref().map(decision_name);
        if let Some(table) = &mut self.table {
            let text = |text: Option<String>| Cell::new(text.unwrap_or_else(|| "–".into()));
            let name = tools
                .classifier
                .bundle()
                .categories()
                .iter()
                .find(|it| Some(&it.id) == category);
            let color = match &result.decision {
                Some(Decision::File { .. }) => Color::Green,
                Some(Decision::Review { .. }) => Color::Yellow,
                _ => Color::Red,
            };
            let why = result
                .detail
                .clone()
                .or_else(|| reason.map(|reason| reason.explanation().to_owned()));
            table.add_row([
                Cell::new(result.path.display()),
                text(name.map(|category| category.name.clone())),
                text(
                    prediction
                        .filter(|it| !it.scores.is_empty())
                        .map(|it| format!("{:.1} %", it.confidence * 100.0)),
                ),
                text(
                    prediction
                        .and_then(|it| it.view)
                        .map(|view| view.to_string()),
                ),
                Cell::new(decision.unwrap_or("error"))
                    .fg(color)
                    .add_attribute(Attribute::Bold),
                Cell::new(why.unwrap_or_default()),
            ]);
            return Ok(());
        }
        let scores = prediction.iter().flat_map(|it| &it.scores);
        let line = Line {
            path: result.path.to_string_lossy(),
            sop_instance_uid: result.uid.as_deref(),
            category: category.map(crate::domain::CategoryId::as_str),
            confidence: prediction.map(|it| it.confidence),
            scores: scores
                .map(|score| (score.category.as_str(), score.probability))
                .collect(),
            view: View {
                header: prediction.map(|it| it.header_view),
                pixels: prediction.and_then(|it| it.view_scores),
            },
            decision,
            reason,
            detail: result.detail.as_deref(),
            out_of_distribution: prediction.and_then(|it| it.out_of_distribution),
            model: tools.classifier.bundle().name_and_version(),
            provider: &tools.classifier.info().provider,
            ms: result.ms,
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    fn end(mut self) -> io::Result<()> {
        if let Some(table) = &self.table {
            writeln!(self.out, "{table}")?;
        }
        self.out.flush()
    }
}

fn decision_name(decision: &Decision) -> &'static str {
    match decision {
        Decision::File { .. } => "file",
        Decision::Review { .. } => "review",
        Decision::Other { .. } => "other",
        Decision::Leave { .. } => "leave",
        Decision::Quarantine { .. } => "quarantine",
    }
}

fn millis(took: Duration) -> f32 {
    took.as_secs_f32() * 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_files() {
        let items: Vec<u32> = (0..100).collect();
        let mut got = Vec::new();
        // The first items take longest.
        let work = |item: &u32| {
            (0..(100 - item) * 1000).fold(0u32, |sum, i| std::hint::black_box(sum ^ i));
            *item
        };
        each_in_order(&items, 8, work, |item| {
            got.push(item);
            Ok(())
        })
        .unwrap();
        assert_eq!(got, items);
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_work() {
        let items: Vec<u32> = (0..1000).collect();
        let error = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(each_in_order(&items, 2, |item| *item, |_| Err(error())).is_err());
    }

    #[test]
    fn a_directory_is_no_file_to_classify() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_err());
    }
}
