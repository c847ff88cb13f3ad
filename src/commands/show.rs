//! `radsort show`: the whole story of one file, as the ledger tells it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::access::{self, Access, ConfigArg};
use super::row::Row;
use super::when;

use crate::config::settings::Action;

use crate::domain::placement::RootId;
use crate::domain::{CategoryId, Dossier, Instance, Pending, Placement, Prediction};
use crate::filing::record::{Intent, Label, Record};
use crate::index::entry::{Given, State, Story, Told};

/// Show the whole story of one file: when it was seen, settled and decoded, what its header said, all scores, why it is
/// in its folder, which model and provider decided, and what happened to it since.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort show 1.2.826.0.1.3680043.10.1
  radsort show /srv/library/Fusion/20260101/1.2.826.0.1.3680043.10.1.dcm
  radsort show /srv/drop/IM0001.dcm --json            also by where it came from

Exit status: 0 when something was found, 1 otherwise.")]
pub struct ShowArgs {
    /// A SOP Instance UID, a path (of the file now, or of where it was dropped), or a record id.
    #[arg(value_name = "UID|PATH")]
    pub what: OsString,
    /// One JSON object for each file that fits: `file` as in `query --json`, and the ledger's records as `history`.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs the command.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let roots = access::roots(&settings);
    let what = access::designation(&args.what)?;
    let mut access = Access::open(&settings)?;
    let stories = access.stories(&roots, &what)?;
    access.close()?;
    if stories.is_empty() {
        bail!("no record of {what}");
    }
    for (n, story) in stories.iter().enumerate() {
        if args.json {
            println!("{}", json(story, &roots)?);
        } else {
            print!("{}{}", if n > 0 { "\n" } else { "" }, text(story, &roots));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(story: &Story, roots: &[(RootId, PathBuf)]) -> anyhow::Result<serde_json::Value> {
    let history: Vec<_> = story
        .history
        .iter()
        .map(|told| serde_json::json!({ "time": when::rfc3339(told.time_us), "record": told.record }))
        .collect();
    Ok(
        serde_json::json!({ "file": serde_json::to_value(Row::new(&story.entry, roots))?, "history": history }),
    )
}

/// The story for people.
fn text(story: &Story, roots: &[(RootId, PathBuf)]) -> String {
    let entry = &story.entry;
    let path = access::absolute(roots, &entry.at);
    let mut out = Lines(String::new());
    let place = match (entry.state, entry.placed) {
        (State::Live, true) => "",
        (State::Live, false) if entry.action == Some(Action::Observe) => "would go to ",
        (State::Live, false) => "stays at ",
        (State::Missing, _) => "MISSING, was at ",
        (State::Released | State::Undone | State::LetGo, _) => "given back, was at ",
    };
    out.0.push_str(place);
    out.0.push_str(&path);
    out.0.push('\n');
    out.line("fate", &entry.fate.to_string());
    if let Some(reason) = entry.reason {
        out.line("reason", &format!("{reason}: {}", reason.explanation()));
    }
    out.some("detail", entry.detail.as_deref());
    let labelled = entry
        .label
        .as_ref()
        .map(|given| format!(" (a person says so: {})", given.label.origin));
    let category = entry
        .category
        .as_ref()
        .map(|category| format!("{category}{}", labelled.unwrap_or_default()));
    out.some("category", category.as_deref());
    if let Some(Given { label, .. }) = &entry.pending {
        let why = label.pending.map_or("", Pending::explanation);
        let text = format!(
            "{} ({why}): `radsort labels accept {1}` or `reject {1}`",
            label.category, entry.id
        );
        out.line("perhaps", &text);
    }
    if let Some(dossier) = story.dossier() {
        about(&mut out, dossier);
    }
    out.line("record", &entry.id.0);
    out.line("blake3", &entry.digest.0);
    out.0.push_str("\nhistory\n");
    for told in &story.history {
        tell(&mut out, told, roots);
    }
    out.0
}

/// `  name   value` lines.
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "  {name:<14} {value}");
    }

    fn some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.line(name, value);
        }
    }
}

fn about(out: &mut Lines, dossier: &Dossier) {
    if let Some(prediction) = &dossier.prediction {
        out.line(
            "model",
            &format!("{} on {}", prediction.model, prediction.provider),
        );
        out.line(
            "confidence",
            &format!("{:.3} (view and category together)", prediction.confidence),
        );
        out.line("view", &view(prediction));
        for score in &prediction.scores {
            let bar = "▇".repeat((score.probability.clamp(0.0, 1.0) * 20.0).round() as usize);
            out.line(
                "score",
                &format!(
                    "{:<28} {:.3} {bar}",
                    score.category.as_str(),
                    score.probability
                ),
            );
        }
        let distance = prediction
            .out_of_distribution
            .map(|distance| format!("{distance:.2} (unlike the training data above 1)"));
        out.some("distance", distance.as_deref());
    }
    if let Some(instance) = &dossier.instance {
        header(out, instance);
    }
    let ms = &dossier.ms;
    let took = format!(
        "read {:.0} ms, decode {:.0} ms, infer {:.0} ms",
        ms.read, ms.decode, ms.infer
    );
    out.line("took", &took);
}

fn view(prediction: &Prediction) -> String {
    let header = serde_json::to_value(prediction.header_view).unwrap_or_default();
    let mut text = prediction
        .view
        .map_or_else(|| "not settled".to_owned(), |view| view.to_string());
    let _ = write!(text, " (header: {}", header.as_str().unwrap_or("?"));
    if let Some(scores) = &prediction.view_scores {
        let _ = write!(
            text,
            "; pixels: frontal {:.2}, lateral {:.2}, neither {:.2}",
            scores.frontal, scores.lateral, scores.neither
        );
    }
    text + ")"
}

fn header(out: &mut Lines, instance: &Instance) {
    let about = &instance.description;
    out.line("SOP instance", instance.sop_instance_uid.as_str());
    out.some(
        "study",
        instance
            .study_instance_uid
            .as_ref()
            .map(crate::domain::Uid::as_str),
    );
    out.some(
        "series",
        instance
            .series_instance_uid
            .as_ref()
            .map(crate::domain::Uid::as_str),
    );
    out.some(
        "patient",
        instance.patient.as_ref().map(|patient| patient.0.as_str()),
    );
    out.some("study date", Some(&about.study_date));
    out.some("modality", Some(&about.modality));
    let device = format!("{} {}", about.manufacturer, about.manufacturer_model_name);
    out.some("device", Some(device.trim()));
    out.some("body part", Some(&about.body_part_examined));
    let image = format!(
        "{} × {} pixels (rows × columns), {} of {} bits, {}",
        about.rows,
        about.columns,
        about.bits_stored,
        about.bits_allocated,
        about.photometric_interpretation
    );
    out.line("image", &image);
    out.some("syntax", Some(&about.transfer_syntax_uid));
}

fn tell(out: &mut Lines, told: &Told, roots: &[(RootId, PathBuf)]) {
    let mut line = |time_us: i64, what: &str| {
        let _ = writeln!(out.0, "  {}  {what}", when::local(time_us));
    };
    let path = |at: &Placement| access::absolute(roots, at);
    let mut began = |intent: &Intent, done: &str| {
        let from = path(&Placement {
            root: RootId::Watch(intent.watch.clone()),
            path: intent.from.clone(),
        });
        line(intent.dossier.seen_us, &format!("seen as {from}"));
        line(intent.dossier.settled_us, "settled");
        line(intent.dossier.decided_us, "decoded and decided");
        line(told.time_us, &format!("{done} {}", path(&intent.to)));
    };
    match &told.record {
        Record::Intent(intent) if intent.action == Action::Copy => began(intent, "to be copied to"),
        Record::Intent(intent) => began(intent, "to be moved to"),
        Record::Observed(intent) if intent.action == Action::Observe => {
            began(intent, "only observed; would go to");
        }
        Record::Observed(intent) => began(intent, "only recorded:"),
        Record::Filed { to, .. } | Record::Quarantined { to, .. } => match to {
            Some(to) => line(told.time_us, &format!("done, as {}", path(to))),
            None => line(told.time_us, "done"),
        },
        Record::Released { by, .. } => line(
            told.time_us,
            &format!("released from the quarantine{}", by_whom(*by)),
        ),
        Record::Moved { to, .. } => line(
            told.time_us,
            &format!("found at {}, moved by a person", path(to)),
        ),
        Record::Adopted { at, .. } => line(
            told.time_us,
            &format!("found at {}, put there by a person", path(at)),
        ),
        Record::Label(label) => line(told.time_us, &labelled(label)),
        Record::Judged { accepted, by, .. } => {
            let what = if *accepted { "accepted" } else { "rejected" };
            line(told.time_us, &format!("label {what}{}", by_whom(*by)));
        }
        Record::Missing { .. } => line(told.time_us, "looked for and not found"),
        Record::LetGo { by, .. } => {
            line(told.time_us, &format!("may be taken again{}", by_whom(*by)));
        }
        Record::Stayed { .. } => line(told.time_us, "that failed: it stayed where it was"),
        Record::Undone { by, .. } => line(
            told.time_us,
            &format!("went back to where it came from{}", by_whom(*by)),
        ),
        other => line(
            told.time_us,
            &serde_json::to_string(other).unwrap_or_default(),
        ),
    }
}

fn labelled(label: &Label) -> String {
    let mut text = match label.pending {
        Some(why) => format!("perhaps {} ({})", label.category, why.explanation()),
        None => format!("labelled {} ({})", label.category, label.origin),
    };
    text += &by_whom(label.by);
    if let Some(person) = &label.person {
        let _ = write!(text, ", by {person}");
    }
    if let Some(shown) = &label.shown {
        let category = shown
            .category
            .as_ref()
            .map_or("nothing", CategoryId::as_str);
        let model = shown.model.as_deref().unwrap_or("no model");
        let _ = write!(text, "; {model} had said {category}");
    }
    if let Some(note) = &label.note {
        // Lists from elsewhere hold what they hold: nothing of it commands a terminal.
        let _ = write!(text, "; {}", note.replace(char::is_control, " "));
    }
    text
}

fn by_whom(by: Option<u32>) -> String {
    by.map(|uid| format!(", asked for by user id {uid}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::filing::record::Fate;
    use crate::index::entry::Entry;
    use crate::index::tests::intent;

    fn story() -> Story {
        let intent = intent(1, Fate::Filed, Action::Move);
        let entry = Entry::new(&intent, None, true, 5_000_000);
        let id = intent.id.clone();
        let records = [
            Record::Intent(Box::new(intent)),
            Record::Filed {
                id: id.clone(),
                to: None,
            },
            Record::Label(Box::new(Label {
                id,
                category: "tether".to_owned().try_into().unwrap(),
                origin: crate::domain::Origin::Audit,
                by: Some(7),
                person: None,
                note: Some("left side".into()),
                shown: Some(entry.shown()),
                pending: None,
            })),
        ];
        let history = records
            .into_iter()
            .zip(1..)
            .map(|(record, n)| Told {
                time_us: n * 1_000_000,
                record,
            })
            .collect();
        Story { entry, history }
    }

    #[test]
    fn the_story_tells_everything_that_is_known() {
        let roots = [
            (RootId::Library, PathBuf::from("/lib")),
            (RootId::Watch("south".into()), PathBuf::from("/drop")),
        ];
        let text = text(&story(), &roots);
        for part in [
            "/lib/Fusion/1.dcm\n",
            "seen as /drop/in/1.dcm",
            "brace",
            "0.900",
            "header: ap",
            "spine 1.1.0 on cpu",
            "1.2.1",
            "labelled tether (audit), asked for by user id 7; spine 1.1.0 had said brace; left side",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn json_has_the_file_and_its_history() {
        let value = json(&story(), &[]).unwrap();
        assert_eq!(value["file"]["category"], "brace");
        assert_eq!(value["history"][0]["record"]["kind"], "intent");
        assert_eq!(value["history"][2]["time"], "1970-01-01T00:00:03Z");
    }
}
