//! Dates of reports, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-22T01:12:35Z`.
pub fn iso_utc(time: SystemTime) -> String {
    let ([year, month, day], [hour, minute, second]) = fields(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `20261122-011235`, for names of files.
pub fn compact_utc(time: SystemTime) -> String {
    let ([year, month, day], [hour, minute, second]) = fields(time);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Year, month, day; hour, minute, second. Times before 1970 count as its start.
fn fields(time: SystemTime) -> ([u64; 3], [u64; 3]) {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let of_day = seconds % 86_400;
    (date(seconds / 86_400), [of_day / 3600, of_day / 60 % 60, of_day % 60])
}

/// The date that is `days` after 1970-01-01. Years are counted from March, so that the leap day is the last.
fn date(days: u64) -> [u64; 3] {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let calendar_month = if month < 10 { month + 3 } else { month - 9 };
    [era * 400 + year + u64::from(calendar_month <= 2), calendar_month, day - (153 * month + 2) / 5 + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso_utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        assert_eq!(compact_utc(UNIX_EPOCH + Duration::from_secs(1_700_000_000)), "20231114-221320");
    }
}
