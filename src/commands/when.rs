//! Times as people write them (`2h`, `yesterday`, `2026-11-23`), and as people and programs read them.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp, ZonedDateTime};

/// What can be written for a time, for help texts.
pub const FORMS: &str =
    "2h, 7d, 30min, today, yesterday, 2026-11-23, \"2026-11-23 14:00\" (local time) or RFC 3339";

/// Reads a time; relative ones count back from `now`. Returns microseconds since the Unix epoch.
pub fn parse(text: &str, now: &ZonedDateTime) -> Result<i64, String> {
    let text = text.trim();
    let local = |time: DateTime| time.to_zoned_datetime(now.time_zone().clone());
    let zoned = match text {
        "now" => Ok(now.clone()),
        "today" => now.start_of_day(),
        "yesterday" => now.yesterday().and_then(|day| day.start_of_day()),
        _ => {
            if let Ok(time) = text.parse::<Timestamp>() {
                return Ok(time.as_microsecond());
            }
            if let Ok(day) = text.parse::<Date>()
                && text.len() <= "2026-11-23".len()
            {
                local(day.at(0, 0, 0, 0))
            } else if let Ok(time) = text.parse::<DateTime>() {
                local(time)
            } else {
                let span: Span = text
                    .strip_suffix(" ago")
                    .unwrap_or(text)
                    .parse()
                    .map_err(|_| format!("{text:?} is no time; there are: {FORMS}"))?;
                now.checked_sub(span)
            }
        }
    };
    zoned
        .map(|time| time.timestamp().as_microsecond())
        .map_err(|err| format!("{text:?}: {err}"))
}

/// For programs: RFC 3339 in UTC.
pub fn rfc3339(time_us: i64) -> String {
    Timestamp::from_microsecond(time_us)
        .map_or_else(|_| time_us.to_string(), |time| time.to_string())
}

/// For people: local time, to the second.
pub fn local(time_us: i64) -> String {
    Timestamp::from_microsecond(time_us).map_or_else(
        |_| time_us.to_string(),
        |time| {
            time.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_of_the_help_text_is_understood() {
        let now: ZonedDateTime = "2026-11-23T15:00:00+01:00[Europe/Berlin]".parse().unwrap();
        for (text, expected) in [
            ("now", "2026-11-23T14:00:00Z"),
            ("2h", "2026-11-23T12:00:00Z"),
            ("7d", "2026-11-16T14:00:00Z"),
            ("30min", "2026-11-23T13:30:00Z"),
            ("2 hours ago", "2026-11-23T12:00:00Z"),
            ("1h 30m", "2026-11-23T12:30:00Z"),
            ("today", "2026-11-22T23:00:00Z"),
            ("yesterday", "2026-11-21T23:00:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 14:00", "2026-11-20T13:00:00Z"),
            ("2026-11-20T14:00:00Z", "2026-11-20T14:00:00Z"),
            ("2026-11-20T14:00:00+02:00", "2026-11-20T12:00:00Z"),
        ] {
            assert_eq!(rfc3339(parse(text, &now).unwrap()), expected, "{text}");
        }
        for text in ["", "soon", "7", "2026-13-40", "tomorrow-ish"] {
            assert!(parse(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_begins_where_the_clocks_changed_too() {
        let now: ZonedDateTime = "2026-10-25T12:00:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(
            rfc3339(parse("today", &now).unwrap()),
            "2026-10-24T22:00:00Z"
        );
    }
}
