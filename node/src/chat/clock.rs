//! Times as the person at the terminal reads them.
//!
//! Owns: the machine's time zone, and how times and days are written.
//! Must not know: whose times they are.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::path::Path;

/// Where zones are kept.
const ZONES: &str = "/usr/share/zoneinfo";

/// The local time zone.
#[derive(Debug, Clone)]
pub struct LocalTime {
    zone: TimeZone,
}

impl LocalTime {
    /// As `TZ` says, or `/etc/localtime`; UTC where neither helps.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let named = std::env::var("TZ").ok().filter(|name| !name.is_empty());
        let zone = match named {
            Some(name) => Self::named(name.trim_start_matches(':')),
            None => Self::file("local", Path::new("/etc/localtime")),
        };
        Self { zone: zone.unwrap_or(TimeZone::UTC) }
    }

    /// UTC.
    #[cfg(test)]
    pub(super) fn utc() -> Self {
        Self { zone: TimeZone::UTC }
    }

    fn named(name: &str) -> Option<TimeZone> {
        // A name that leaves the directory is no name of a zone.
        let inside = !name.starts_with('/') && !name.contains("..");
        let file = inside.then(|| Self::file(name, &Path::new(ZONES).join(name))).flatten();
        file.or_else(|| TimeZone::posix(name).ok())
    }

    fn file(name: &str, path: &Path) -> Option<TimeZone> {
        TimeZone::tzif(name, &std::fs::read(path).ok()?).ok()
    }

    /// Day, and hour and minute, of an RFC 3339 time.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<(Date, String)> {
        let local = text.parse::<Timestamp>().ok()?.to_zoned(self.zone.clone());
        Some((local.date(), format!("{:02}:{:02}", local.hour(), local.minute())))
    }

    /// Hour and minute; `--:--` of what is no time.
    #[must_use]
    pub fn minute(&self, text: &str) -> String {
        self.read(text).map_or_else(|| "--:--".into(), |(_, minute)| minute)
    }
}

/// A day, written out.
pub(super) fn day(date: Date) -> String {
    date.strftime("%A, %-d %B %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local() {
        let utc = LocalTime::utc();
        assert_eq!(utc.minute("2030-01-01T09:05:00.123Z"), "09:05");
        assert_eq!(utc.minute("soon"), "--:--");
        let east = LocalTime { zone: LocalTime::named("EAST-5").unwrap() };
        let (date, minute) = east.read("2030-01-01T20:05:00Z").unwrap();
        assert_eq!((day(date).as_str(), minute.as_str()), ("Wednesday, 2 January 2030", "01:05"));
        assert!(LocalTime::named("../../etc/passwd").is_none());
    }
}
