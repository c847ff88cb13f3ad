//! Reads `[[watch]]`: a drop directory, and what is done with its files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fragment::{Located, Place, Problems, Section};
use super::read::finish;
use super::settings::{Action, Executables, Media, NonDicom, OtherDicom, WatchMode, WatchSettings};
use super::units::{self, DAY, SECOND};

/// One `[[watch]]`, with the places of what must not contradict.
pub struct Watch {
    /// What it says.
    pub settings: WatchSettings,
    /// Its directory.
    pub path: Located<PathBuf>,
    name_place: Place,
}

/// Reads one.
pub fn watch(mut section: Section<'_>) -> Option<Watch> {
    let path = section.path("path");
    let name = section.text("name");
    let recursive = section
        .boolean("recursive")
        .is_none_or(|recursive| recursive.value);
    let settle = if section.is_word("settle", "auto") {
        None
    } else {
        section.duration("settle", Duration::ZERO..=DAY)
    };
    let truncated = section.duration("truncated", SECOND..=30 * DAY);
    let mode = [
        ("auto", WatchMode::Auto),
        ("events", WatchMode::Events),
        ("poll", WatchMode::Poll),
    ];
    let mode = section
        .word("mode", &mode)
        .map_or(WatchMode::Auto, |mode| mode.value);
    let poll_interval = section.duration("poll-interval", SECOND..=DAY);
    let ignore = section
        .texts("ignore")
        .map(|ignore| ignore.value)
        .unwrap_or_default();
    let actions = [
        ("observe", Action::Observe),
        ("copy", Action::Copy),
        ("move", Action::Move),
    ];
    let action = section
        .word("action", &actions)
        .map_or(Action::Move, |action| action.value);
    let trusted = section
        .boolean("trusted")
        .is_some_and(|trusted| trusted.value);
    let non_dicom = [
        ("leave", NonDicom::Leave),
        ("quarantine", NonDicom::Quarantine),
    ];
    let non_dicom = section
        .word("non-dicom", &non_dicom)
        .map_or(NonDicom::Leave, |word| word.value);
    let executables = [
        ("quarantine", Executables::Quarantine),
        ("accept", Executables::Accept),
    ];
    let executables = section
        .word("executables", &executables)
        .map_or(Executables::Quarantine, |word| word.value);
    let other = [("leave", OtherDicom::Leave), ("move", OtherDicom::Move)];
    let other = section
        .word("other", &other)
        .map_or(OtherDicom::Leave, |word| word.value);
    let media = [
        ("leave", Media::Leave),
        ("copy", Media::Copy),
        ("move", Media::Move),
    ];
    let media = section
        .word("media", &media)
        .map_or(Media::Leave, |word| word.value);
    let max_size = section
        .parsed(
            "max-size",
            "a size such as \"512MiB\" or \"4GiB\"",
            |text| {
                units::size(text)
                    .filter(|size| *size > 0)
                    .ok_or_else(|| format!("{text:?} is no size"))
            },
        )
        .map_or(4 << 30, |size| size.value);
    let max_rate = section
        .number("max-rate", 0.0, 1e6)
        .map(|rate| rate.value)
        .filter(|rate| *rate > 0.0);

    let truncated_or_default = truncated
        .as_ref()
        .map_or(Duration::from_hours(1), |limit| limit.value);
    if let Some(settle) = settle
        .as_ref()
        .filter(|settle| settle.value >= truncated_or_default)
    {
        let message = format!("settle must be shorter than truncated ({truncated_or_default:?})");
        section.note(&settle.place, message);
    }
    if let (None, Some(truncated)) = (
        &settle,
        truncated
            .as_ref()
            .filter(|limit| limit.value <= 120 * SECOND),
    ) {
        section.note(
            &truncated.place,
            "truncated must be longer than settle (up to 120 s when it is \"auto\")",
        );
    }
    for glob in &ignore {
        if let Err(error) = globset::Glob::new(&glob.value) {
            section.note(&glob.place, format!("ignore: {error}"));
        }
    }
    if action != Action::Move
        && (trusted || other == OtherDicom::Move || non_dicom == NonDicom::Quarantine)
    {
        section.problem(
            "trusted = true, other = \"move\" and non-dicom = \"quarantine\" move files, but action is not \"move\"",
        );
    }

    let Some(path) = path else {
        section.problem("path is missing (or not usable): the drop directory, absolute");
        finish(section);
        return None;
    };
    let named = name
        .clone()
        .map_or_else(|| default_name(&path.value), |name| Some(name.value));
    let name_place = name.map_or_else(|| path.place.clone(), |name| name.place);
    let good = |name: &String| {
        (1..=64).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c == '/')
    };
    let Some(name) = named.filter(good) else {
        section.note(
            &name_place,
            "name: give it a name of 1 to 64 bytes without '/' or control characters",
        );
        finish(section);
        return None;
    };
    finish(section);
    let settings = WatchSettings {
        name,
        path: path.value.clone(),
        recursive,
        settle: settle.map(|settle| settle.value),
        truncated: truncated_or_default,
        mode,
        poll_interval: poll_interval.map_or(Duration::from_secs(30), |interval| interval.value),
        ignore: ignore.into_iter().map(|glob| glob.value).collect(),
        action,
        trusted,
        non_dicom,
        executables,
        other,
        media,
        max_size,
        max_rate,
    };
    Some(Watch {
        settings,
        path,
        name_place,
    })
}

fn default_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Tells of names that are given twice.
pub fn same_names<'w>(watches: impl Iterator<Item = &'w Watch>, problems: &Problems) {
    let mut seen: Vec<&Watch> = Vec::new();
    for watch in watches {
        if let Some(first) = seen
            .iter()
            .find(|first| first.settings.name == watch.settings.name)
        {
            let name = &watch.settings.name;
            problems.add(
                &watch.name_place,
                format!(
                    "the name {name:?} is taken at {}: set another name",
                    first.name_place
                ),
            );
        }
        seen.push(watch);
    }
}
