//! When something was said, as lists from elsewhere write it in a column `time`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// What can be written, for messages.
pub const FORMS: &str = "2026-11-23, \"2026-11-23 14:00\" (this machine's local time) or RFC 3339";

/// Reads RFC 3339, a local time, or a day, which counts from its first minute. Microseconds since the Unix epoch.
pub fn parse(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let local = match text.parse::<Date>() {
        Ok(day) if text.len() <= "2026-11-23".len() => day.at(0, 0, 0, 0),
        _ => text.parse::<DateTime>().ok()?,
    };
    let zoned = local.to_zoned_datetime(zone.clone()).ok()?;
    Some(zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_local_times_and_rfc_3339_are_read_and_nothing_else() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let read = |text: &str| {
            let time = Timestamp::from_microsecond(parse(text, &zone)?).unwrap();
            Some(time.to_string())
        };
        for (text, expected) in [
            ("2026-11-23T14:00:00Z", "2026-11-23T14:00:00Z"),
            ("2026-11-23T14:00:00+02:00", "2026-11-23T12:00:00Z"),
            ("2026-11-23 14:00", "2026-11-23T13:00:00Z"),
            (" 2026-11-23 14:00:05 ", "2026-11-23T13:00:05Z"),
            ("2026-11-23", "2026-11-22T23:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "last Tuesday", "23.11.2026", "2h", "2026-13-40"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
