//! Times as text.
//!
//! Owns: RFC 3339 in UTC with milliseconds, both ways.
//! Must not know: what time it is.
//! Invariants: what is written has 24 characters, and reads back as the same millisecond.

use messenger_proto::ids::Millis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The last millisecond of the year 9999, beyond which RFC 3339 has no form.
const LAST: u64 = 253_402_300_799_999;
const MS_PER_DAY: u64 = 86_400_000;
const LENGTH: usize = 24;

/// A time as clients see it: `2026-01-02T03:04:05.678Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(pub Millis);

impl Rfc3339 {
    fn text(self) -> [u8; LENGTH] {
        let ms = self.0.0.min(LAST);
        let (days, rest) = (ms / MS_PER_DAY, ms % MS_PER_DAY);
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], rest / 3_600_000);
        digits(&mut text[14..16], rest / 60_000 % 60);
        digits(&mut text[17..19], rest / 1000 % 60);
        digits(&mut text[20..23], rest % 1000);
        text
    }
}

fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, by Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>), for days from then on.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.text();
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// Reads an RFC 3339 time of any offset, cut to its millisecond; one before 1970 is 1970.
#[must_use]
pub fn parse(text: &str) -> Option<Millis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Millis(u64::try_from(time.as_millisecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_780_162_931_234, "2026-05-30T17:42:11.234Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(Rfc3339(Millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn other_offsets_and_precisions_are_read() {
        assert_eq!(parse("1970-01-01T01:00:00.0019+01:00"), Some(Millis(1)));
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(Millis(1000)));
        assert_eq!(parse("1960-01-01T00:00:01Z"), Some(Millis(0)));
        for text in ["", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "17"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_reads_back_and_agrees_with_the_library(ms in 0..=LAST) {
            let text = Rfc3339(Millis(ms)).to_string();
            let json = serde_json::to_string(&Rfc3339(Millis(ms))).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rfc3339>(&json).unwrap(), Rfc3339(Millis(ms)));
            prop_assert_eq!(parse(&text), Some(Millis(ms)));
            let library = jiff::Timestamp::from_millisecond(ms.cast_signed()).unwrap();
            prop_assert_eq!(text, format!("{library:.3}"));
        }
    }
}
