//! How single values are written: time spans, sizes, and which known word a misspelt one was meant to be.

use std::time::Duration;

/// What many limits are made of.
pub const SECOND: Duration = Duration::from_secs(1);
/// Likewise.
pub const DAY: Duration = Duration::from_hours(24);

/// The known word that a person most likely meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let plain = word.to_lowercase().replace('_', "-");
    known
        .map(|name| (strsim::damerau_levenshtein(&plain, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// `"500ms"`, `"120s"`, `"5m"`, `"1h"`, `"2d"`: a whole number and a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `"512MiB"`, `"1GiB"`: a whole number and a unit; bytes.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    Some((
        text[..digits].parse().ok()?,
        text[digits..].trim_start_matches(' '),
    ))
}
