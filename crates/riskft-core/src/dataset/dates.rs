//! Calendar arithmetic (proleptic Gregorian) and dates written as text.
//!
//! A text's zone offset is applied; without one it is read as UTC, whatever the session.

use crate::encode::TextFormat;

pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// A two-digit year is never read as more than this many years after the reference date.
pub const PIVOT_YEARS: i32 = 20;

/// Days since 1970-01-01 of a date that exists (Howard Hinnant's `days_from_civil`).
pub fn days_from_civil(year: i32, month: u32, day: u32) -> Option<i32> {
    if !(-100_000..=100_000).contains(&year) || day < 1 || day > days_in_month(year, month)? {
        return None;
    }
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// (year, month 1..=12, day 1..=31) of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let shifted = (5 * doy + 2) / 153;
    let day = (doy - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// 1 = Monday .. 7 = Sunday.
pub fn weekday(days: i64) -> u32 {
    (days + 3).rem_euclid(7) as u32 + 1
}

fn days_in_month(year: i32, month: u32) -> Option<u32> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// A date, and a time if one is written, in microseconds since 1970-01-01 00:00 UTC.
///
/// Read in any format: `2014-03-31`, `2014/3/31`, `2014-03`, `31-Mar-2014`, `Mar 31, 2014`,
/// `Mar-2014`, each with an optional time and zone. `03/04/2014` and the like need an order,
/// `DateMonthFirst` or `DateDayFirst`. `reference` (days since 1970-01-01) reads two-digit years:
/// the latest year with these digits at most [`PIVOT_YEARS`] years after it.
pub fn date(text: &str, format: TextFormat, reference: i32) -> Option<i64> {
    let text = super::parse::trim(text);
    if text.len() < 5 || text.len() > 40 || !text.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let (first, rest) = field(text)?;
    let (second, rest) = field(separator(rest)?)?;
    let third = separator(rest).and_then(field).filter(|(f, _)| fits_third(first, second, *f));
    let (year, month, day, rest) = match (first, second, third) {
        (Field::Number(y, 4), m, Some((Field::Number(d, 1..=2), rest))) => {
            (y as i32, m.month()?, d, rest)
        }
        (Field::Number(y, 4), Field::Number(m, 2), None) => (y as i32, m, 1, rest),
        (Field::Number(d, 1..=2), Field::Month(m), Some((y, rest))) => {
            (y.year(reference)?, m, d, rest)
        }
        (Field::Month(m), Field::Number(d, 1..=2), Some((y, rest))) => {
            (y.year(reference)?, m, d, rest)
        }
        (Field::Month(m), y, None) => (y.year(reference)?, m, 1, rest),
        (Field::Number(a, 1..=2), Field::Number(b, 1..=2), Some((y, rest))) => match format {
            TextFormat::DateMonthFirst => (y.year(reference)?, a, b, rest),
            TextFormat::DateDayFirst => (y.year(reference)?, b, a, rest),
            _ => return None,
        },
        _ => return None,
    };
    let days = i64::from(days_from_civil(year, month, day)?);
    Some(days * MICROS_PER_DAY + time(rest)?)
}

/// Whether a third field belongs to the date and not to a time that follows.
fn fits_third(first: Field, second: Field, third: Field) -> bool {
    match (first, second) {
        (Field::Month(_), Field::Number(_, 4)) => false,
        _ => matches!(third, Field::Number(..)),
    }
}

#[derive(Clone, Copy)]
enum Field {
    /// Value and digits.
    Number(u32, usize),
    Month(u32),
}

impl Field {
    fn month(self) -> Option<u32> {
        match self {
            Field::Number(m, 1..=2) | Field::Month(m) => Some(m),
            Field::Number(..) => None,
        }
    }
    fn year(self, reference: i32) -> Option<i32> {
        match self {
            Field::Number(y, 4) => Some(y as i32),
            Field::Number(y, 2) => {
                let latest = civil_from_days(i64::from(reference)).0 as i32 + PIVOT_YEARS;
                Some(latest - (latest - y as i32).rem_euclid(100))
            }
            _ => None,
        }
    }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn field(text: &str) -> Option<(Field, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        let (number, rest) = text.split_at(digits);
        return (digits <= 4).then_some((Field::Number(number.parse().ok()?, digits), rest));
    }
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, rest) = text.split_at(letters);
    if word.len() < 3 {
        return None;
    }
    let month = MONTHS.iter().position(|month| {
        month.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    })?;
    Some((Field::Month(month as u32 + 1), rest.strip_prefix('.').unwrap_or(rest)))
}

/// Cuts one `-`, `/` or `.`, or a comma and blanks.
fn separator(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix(['-', '/', '.']) {
        return Some(rest);
    }
    let rest = text.strip_prefix(',').unwrap_or(text).trim_start();
    (rest.len() < text.len()).then_some(rest)
}

/// Microseconds of `T23:30:05.5+02:00`, ` 11:30 PM`, or nothing; negative below midnight UTC.
fn time(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.is_empty() {
        return Some(0);
    }
    let text = text.strip_prefix(['T', 't', ',']).unwrap_or(text).trim_start();
    let (hour, rest) = two_digits(text)?;
    let (minute, rest) = two_digits(rest.strip_prefix(':')?)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => two_digits(rest)?,
        None => (0, rest),
    };
    let (micros, rest) = fraction(rest)?;
    let (hour, rest) = half_day(hour, rest.trim_start())?;
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros - offset(rest)?)
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    (1..=2).contains(&digits).then_some((number.parse().ok()?, rest))
}

fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']) else {
        return Some((0, text));
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let micros = rest.bytes().take(digits.min(6)).fold(0, |n, b| n * 10 + i64::from(b - b'0'));
    let scale = 10i64.pow(6 - digits.min(6) as u32);
    (digits > 0).then_some((micros * scale, &rest[digits..]))
}

fn half_day(hour: i64, rest: &str) -> Option<(i64, &str)> {
    let Some(word) = rest.get(..2) else {
        return Some((hour, rest));
    };
    let afternoon = word.eq_ignore_ascii_case("pm");
    if !afternoon && !word.eq_ignore_ascii_case("am") {
        return Some((hour, rest));
    }
    let hour = (1..=12).contains(&hour).then_some(hour % 12 + if afternoon { 12 } else { 0 })?;
    Some((hour, rest[2..].trim_start()))
}

/// Microseconds that the written zone is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.is_empty() || ["z", "utc", "gmt"].iter().any(|zone| text.eq_ignore_ascii_case(zone)) {
        return Some(0);
    }
    let negative = text.starts_with('-');
    let (hours, rest) = two_digits(text.strip_prefix(['+', '-'])?.get(..2)?)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(hours, _)| (hours, &text[3..]))?;
    let minutes = match rest.strip_prefix(':').unwrap_or(rest) {
        "" => 0,
        minutes => two_digits(minutes).filter(|(m, rest)| rest.is_empty() && *m < 60)?.0,
    };
    let micros = (hours * 60 + minutes) * 60_000_000;
    (hours <= 15).then_some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01
    const REFERENCE: i32 = 20_454;

    fn day(text: &str, format: TextFormat) -> Option<(i64, u32, u32)> {
        date(text, format, REFERENCE).map(|m| civil_from_days(m.div_euclid(MICROS_PER_DAY)))
    }

    #[test]
    fn the_calendar_goes_round() {
        assert_eq!(days_from_civil(1970, 1, 1), Some(0));
        assert_eq!(days_from_civil(2000, 3, 1), Some(11_017));
        assert_eq!(days_from_civil(2026, 1, 1), Some(REFERENCE));
        for days in (-800_000..3_000_000).step_by(37) {
            let (y, m, d) = civil_from_days(i64::from(days));
            assert_eq!(days_from_civil(y as i32, m, d), Some(days));
        }
        assert_eq!(days_from_civil(1900, 2, 29), None);
        assert_eq!((weekday(0), weekday(4), weekday(-4)), (4, 1, 7));
    }

    #[test]
    fn every_way_of_writing_a_date() {
        use TextFormat::{DateDayFirst, DateIso, DateMonthFirst, Plain};
        for (text, format, wanted) in [
            ("2014-03-31", DateIso, Some((2014, 3, 31))),
            ("2014/3/1", Plain, Some((2014, 3, 1))),
            ("2014-03", DateIso, Some((2014, 3, 1))),
            ("31-Mar-2014", DateIso, Some((2014, 3, 31))),
            ("March 31, 2014", DateIso, Some((2014, 3, 31))),
            ("Mar. 31 2014", DateIso, Some((2014, 3, 31))),
            ("Dec-2015", DateIso, Some((2015, 12, 1))),
            ("03/04/2014", DateMonthFirst, Some((2014, 3, 4))),
            ("03/04/2014", DateDayFirst, Some((2014, 4, 3))),
            ("03/04/2014", DateIso, None),
            ("05/19/23", DateMonthFirst, Some((2023, 5, 19))),
            ("3.4.2014", DateDayFirst, Some((2014, 4, 3))),
            ("2014-03-31", DateDayFirst, Some((2014, 3, 31))),
            ("01-Jul-66", DateIso, Some((1966, 7, 1))),
            ("28-Feb-97", DateIso, Some((1997, 2, 28))),
            ("03-Mar-14", DateIso, Some((2014, 3, 3))),
            ("01-Jul-46", DateIso, Some((2046, 7, 1))),
            ("01-Jul-47", DateIso, Some((1947, 7, 1))),
            ("2066-07-01", DateIso, Some((2066, 7, 1))),
            ("2014-02-30", DateIso, None),
            ("13/13/2014", DateDayFirst, None),
            ("hello", DateIso, None),
            ("12345", DateIso, None),
            ("20140331", DateIso, None),
            ("Marble 5 2014", DateIso, None),
            ("2014-03-31 x", DateIso, None),
            ("", DateIso, None),
        ] {
            assert_eq!(day(text, format), wanted, "{text:?} {format:?}");
        }
    }

    #[test]
    fn times_and_zones() {
        let start = date("2014-03-31", TextFormat::DateIso, REFERENCE).map(|m| m / 1_000_000);
        for (text, seconds) in [
            ("2014-03-31T23:30:00Z", 84_600),
            ("2014-03-31 23:30:00+00", 84_600),
            ("2014-04-01 12:30+13:00", 84_600),
            ("2014-03-31 11:30 PM", 84_600),
            ("31 Mar 2014 12:00 am", 0),
            ("2014-03-31 00:00:01.500000", 1),
            ("2014-03-31T00:00:00-0130", 5_400),
        ] {
            let got = date(text, TextFormat::DateIso, REFERENCE).map(|m| m.div_euclid(1_000_000));
            assert_eq!(got, start.map(|s| s + seconds), "{text:?}");
        }
        for text in
            ["2014-03-31 25:00", "2014-03-31 1:99", "2014-03-31 13:00 PM", "2014-03-31 10:00+é"]
        {
            assert_eq!(date(text, TextFormat::DateIso, REFERENCE), None, "{text:?}");
        }
    }
}
