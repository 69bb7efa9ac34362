//! `strftime_now` of chat templates, from a time that is passed in.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind, Value};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The template function that formats `now` in UTC.
pub(crate) fn function(now: SystemTime) -> Value {
    let now = Civil::from_time(now);
    Value::from_function(move |format: String| now.format(&format))
}

/// The time as RFC 3339 writes it, in UTC.
pub fn utc(time: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, micros, .. } = Civil::from_time(time);
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z", month + 1)
}

/// A point of time in the Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: i64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
    /// From Sunday, 0.
    weekday: usize,
    /// Of the year, from 1.
    yearday: u32,
}

impl Civil {
    fn from_time(time: SystemTime) -> Self {
        let (seconds, micros) = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_micros()),
            Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), 0),
        };
        Self::from_seconds(seconds, micros)
    }

    fn from_seconds(seconds: i64, micros: u32) -> Self {
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        let (year, yearday) = year_of(days);
        let mut left = yearday;
        let mut month = 0;
        while left >= month_length(year, month) {
            left -= month_length(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: left + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros,
            // 1 January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7) as usize,
            yearday: yearday + 1,
        }
    }

    /// Python's directives; `-` after the `%` leaves out the padding.
    fn format(&self, format: &str) -> Result<String, Error> {
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let mut directive = letters.next();
            let padded = directive != Some('-');
            if !padded {
                directive = letters.next();
            }
            self.directive(directive, padded, &mut out).map_err(|()| {
                let written = directive.map_or(String::new(), String::from);
                let problem = format!("strftime_now: directive `%{written}` of {format:?} is not supported");
                Error::new(ErrorKind::InvalidOperation, problem)
            })?;
        }
        Ok(out)
    }

    fn directive(&self, directive: Option<char>, padded: bool, out: &mut String) -> Result<(), ()> {
        let mut number = |value: u32, width: usize| {
            let width = if padded { width } else { 0 };
            write!(out, "{value:0width$}").map_err(|_| ())
        };
        match directive.ok_or(())? {
            'd' => number(self.day, 2),
            'm' => number(self.month as u32 + 1, 2),
            'y' => number(self.year.rem_euclid(100) as u32, 2),
            'H' => number(self.hour, 2),
            'I' => number((self.hour + 11) % 12 + 1, 2),
            'M' => number(self.minute, 2),
            'S' => number(self.second, 2),
            'j' => number(self.yearday, 3),
            'f' => number(self.micros, 6),
            'w' => number(self.weekday as u32, 0),
            'u' => number((self.weekday as u32 + 6) % 7 + 1, 0),
            other => self.text_directive(other, out),
        }
    }

    fn text_directive(&self, directive: char, out: &mut String) -> Result<(), ()> {
        let nested = match directive {
            'Y' => return write!(out, "{}", self.year).map_err(|_| ()),
            'e' => return write!(out, "{:2}", self.day).map_err(|_| ()),
            'B' => MONTHS[self.month],
            'b' | 'h' => &MONTHS[self.month][..3],
            'A' => DAYS[self.weekday],
            'a' => &DAYS[self.weekday][..3],
            'p' if self.hour < 12 => "AM",
            'p' => "PM",
            '%' => "%",
            'n' => "\n",
            't' => "\t",
            // A time without a zone, as `datetime.now()` gives it.
            'Z' | 'z' => "",
            'F' => return self.nested("%Y-%m-%d", out),
            'T' | 'X' => return self.nested("%H:%M:%S", out),
            'R' => return self.nested("%H:%M", out),
            'D' | 'x' => return self.nested("%m/%d/%y", out),
            'c' => return self.nested("%a %b %e %H:%M:%S %Y", out),
            _ => return Err(()),
        };
        out.push_str(nested);
        Ok(())
    }

    fn nested(&self, format: &str, out: &mut String) -> Result<(), ()> {
        out.push_str(&self.format(format).map_err(|_| ())?);
        Ok(())
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: usize) -> u32 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1 January 1970 to 1 January of `year`.
fn days_before(year: i64) -> i64 {
    let past = year - 1;
    let leaps = |years: i64| years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    (year - 1970) * 365 + leaps(past) - leaps(1969)
}

/// The year that holds a day counted from 1 January 1970, and the day in it from 0.
fn year_of(days: i64) -> (i64, u32) {
    // The mean Gregorian year has 365.2425 days, so the estimate is off by one at most.
    let mut year = 1970 + (days as f64 / 365.2425).floor() as i64;
    while days_before(year) > days {
        year -= 1;
    }
    while days_before(year + 1) <= days {
        year += 1;
    }
    (year, (days - days_before(year)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, format: &str) -> String {
        Civil::from_seconds(seconds, 42).format(format).unwrap()
    }

    #[test]
    fn times_of_protocols() {
        let time = UNIX_EPOCH + std::time::Duration::from_micros(951_782_400_000_042);
        assert_eq!(utc(time), "2000-02-29T00:00:00.000042Z");
    }

    #[test]
    fn known_dates() {
        assert_eq!(at(0, "%A %d %B %Y %H:%M:%S %j"), "Thursday 01 January 1970 00:00:00 001");
        assert_eq!(at(951_782_400, "%d %b %Y, %a"), "29 Feb 2000, Tue");
        assert_eq!(at(1_721_999_999, "%d %b %Y"), "26 Jul 2024");
        assert_eq!(at(4_107_542_399, "%F %T"), "2100-02-28 23:59:59");
        assert_eq!(at(4_107_542_400, "%F"), "2100-03-01");
        assert_eq!(at(-1, "%F %T"), "1969-12-31 23:59:59");
        assert_eq!(at(1_709_251_199, "%-d.%-m.%y %I:%M %p %f%%"), "29.2.24 11:59 PM 000042%");
        assert_eq!(at(1_709_164_800, "%-I %p|%e|%u%w"), "12 AM|29|44");
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut previous = Civil::from_seconds(-12_219_292_800, 0);
        for day in 1..292_194 {
            let next = Civil::from_seconds(-12_219_292_800 + day * 86_400, 0);
            let (year, month, last) = (previous.year, previous.month, previous.day);
            let expected = if last < month_length(year, month) {
                (year, month, last + 1)
            } else if month < 11 {
                (year, month + 1, 1)
            } else {
                (year + 1, 0, 1)
            };
            assert_eq!((next.year, next.month, next.day), expected);
            assert_eq!(next.weekday, (previous.weekday + 1) % 7);
            previous = next;
        }
    }

    #[test]
    fn an_unknown_directive_is_named() {
        for format in ["%Q", "ends in %", "%-"] {
            let error = Civil::from_seconds(0, 0).format(format).unwrap_err();
            assert!(error.to_string().contains("strftime_now"), "{error}");
        }
    }
}
