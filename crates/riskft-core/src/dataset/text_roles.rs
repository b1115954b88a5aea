//! The role of a text column, by its values. In this order:
//!
//! 1. number: at least 95% of the cells that are not empty parse, and they are no codes: digits
//!    with leading zeros, or of one length of 5 or more, stay labels, and so do mixed units of time;
//! 2. date: at least 95% parse in one order of day, month and year;
//! 3. identifier: no value repeats and the values are codes, not words;
//! 4. category: frequent values cover 90% of the cells, or the values are codes;
//! 5. text: names and sentences. Where frequent values cover 10% they are a category as well.

use super::dates;
use super::parse::{self, Decimal, Unit};
use super::profile::{frequent, Profile, MAX_LABEL};
use super::roles::{
    code_prefixes, has_word, integer_identifier, Decision, CODE_DIGITS, IDENTIFIER_WORDS, PARSED,
};
use crate::encode::TextFormat;
use crate::options::Role;

/// Share of the cells in frequent values that makes a category, and one beside a text.
const COVERED: f64 = 0.90;
const COVERED_BESIDE: f64 = 0.10;
/// Share of the cells with leading zeros that makes digits labels; less is a typing error.
const LEADING_ZEROS: f64 = 0.01;
/// Share of the cells that a second unit of time must reach to make units mixed.
const MIXED: f64 = 0.01;
/// Mean characters from which a text is sentences rather than names.
const LONG: usize = 80;
const LOOKED_AT: usize = 2000;

type Texts<'a> = [(&'a str, usize)];

pub fn decide(name: &str, profile: &Profile<'_>, values: &Texts<'_>, reference: i32) -> Decision {
    let mut decision = Decision::new(Role::Number, "");
    if let Some(codes) = digit_codes(profile, values) {
        return digits(name, profile, values, codes);
    }
    if parsed_as_number(values, profile, PARSED, &mut decision)
        && !mixed_units(values, profile.filled(), decision.format.decimal())
    {
        return numbers(name, profile, values, decision);
    }
    decision = Decision::new(Role::Date, "");
    if parsed_as_date(values, profile, reference, PARSED, &mut decision) {
        return decision;
    }
    words(name, profile, values)
}

/// Why digit texts are labels.
enum Codes {
    LeadingZeros,
    OneLength(usize),
}

/// Digit texts that are codes: nearly all cells are digits, with leading zeros or of one length.
fn digit_codes(profile: &Profile<'_>, values: &Texts<'_>) -> Option<Codes> {
    let filled = profile.filled();
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let digits = count(values, all_digits);
    if (digits as f64) < PARSED * filled as f64 {
        return None;
    }
    let zeros = count(values, |text| all_digits(text) && text.len() > 1 && text.starts_with('0'));
    if zeros as f64 > LEADING_ZEROS * filled as f64 {
        return Some(Codes::LeadingZeros);
    }
    let longest = values.iter().filter(|v| all_digits(v.0)).map(|v| v.0.len()).max().unwrap_or(0);
    // A lone 0 stands for "none" among codes.
    let full = count(values, |text| text.len() == longest && all_digits(text));
    let zero = count(values, |text| text == "0");
    (longest >= CODE_DIGITS && full as f64 >= PARSED * (filled - zero) as f64)
        .then_some(Codes::OneLength(longest))
}

fn digits(name: &str, profile: &Profile<'_>, values: &Texts<'_>, codes: Codes) -> Decision {
    if profile.distinct == profile.filled() && profile.filled() >= 50 {
        let mut numbers: Vec<i64> = values.iter().filter_map(|v| v.0.parse().ok()).collect();
        numbers.sort_unstable();
        if let Some(why) = integer_identifier(name, numbers.len(), &numbers) {
            return Decision::new(Role::Identifier, why);
        }
    }
    let why = match codes {
        Codes::LeadingZeros => "digits with leading zeros are labels".to_owned(),
        Codes::OneLength(length) => format!("digits of one length ({length}) are labels"),
    };
    let mut decision = Decision::new(Role::Category, why);
    decision.prefixes = code_prefixes(&lengths(values));
    if !decision.prefixes.is_empty() {
        decision.why += "; their first digits are too";
    }
    decision
}

fn lengths(values: &Texts<'_>) -> Vec<usize> {
    values.iter().filter(|v| v.0 != "0").map(|v| v.0.chars().count()).collect()
}

/// Whether `share` of the cells are numbers; fills format, reason and the junk's count.
pub fn parsed_as_number(
    values: &Texts<'_>,
    profile: &Profile<'_>,
    share: f64,
    decision: &mut Decision,
) -> bool {
    let missing = count(values, parse::is_missing_word);
    let cells = profile.filled() - missing;
    let decimal = decimal(values);
    let (mut parsed, mut money, mut junk) = (0, 0, None);
    for (text, rows) in values.iter().filter(|v| !parse::is_missing_word(v.0)) {
        match parse::number_with(text, decimal) {
            Some(number) => {
                parsed += rows;
                money += if number.money { *rows } else { 0 };
            }
            None => junk = junk.or(Some(*text)),
        }
    }
    if parsed == 0 || (parsed as f64) < share * cells as f64 {
        return false;
    }
    decision.money = money * 2 > parsed;
    decision.bad_cells = cells - parsed;
    (decision.format, decision.why) = match decimal {
        Decimal::Point => (TextFormat::Number, "text that holds numbers".to_owned()),
        Decimal::Comma => {
            let why = "text that holds numbers with a decimal comma";
            decision.notices.push("numbers are read with a decimal comma".to_owned());
            (TextFormat::NumberComma, why.to_owned())
        }
    };
    decision.notices.extend(junk.map(|junk| bad_cells(cells - parsed, cells, "number", junk)));
    true
}

/// A comma if more cells show one than show a point: `1.234` is 1234 beside `12,5`.
fn decimal(values: &Texts<'_>) -> Decimal {
    let with = |decimal| count(values, |text| parse::shown_decimal(text) == Some(decimal));
    if with(Decimal::Comma) > with(Decimal::Point) {
        Decimal::Comma
    } else {
        Decimal::Point
    }
}

fn bad_cells(bad: usize, cells: usize, what: &str, example: &str) -> String {
    let (verb, count) = if bad == 1 { ("is no", "counts") } else { ("are no", "count") };
    let example = crate::protocol::cut(example, 40);
    format!("{bad} of {cells} cells {verb} {what} and {count} as missing, such as \"{example}\"")
}

fn mixed_units(values: &Texts<'_>, filled: usize, decimal: Decimal) -> bool {
    let unit_of = |text: &str| parse::number_with(text, decimal).map(|n| n.unit);
    let with = |unit: Unit| count(values, |text| unit_of(text) == Some(unit));
    let times = [Unit::Day, Unit::Week, Unit::Month, Unit::Year];
    times.iter().filter(|unit| with(**unit) as f64 > MIXED * filled as f64).count() > 1
}

fn numbers(name: &str, profile: &Profile<'_>, values: &Texts<'_>, decision: Decision) -> Decision {
    let mut whole: Vec<i64> = values.iter().filter_map(|v| v.0.parse().ok()).collect();
    if whole.len() == profile.filled() {
        whole.sort_unstable();
        if let Some(why) = integer_identifier(name, whole.len(), &whole) {
            return Decision::new(Role::Identifier, why);
        }
    }
    decision
}

/// Whether `share` of the cells are dates in one order; fills format, reason and notices.
pub fn parsed_as_date(
    values: &Texts<'_>,
    profile: &Profile<'_>,
    reference: i32,
    share: f64,
    decision: &mut Decision,
) -> bool {
    let cells = profile.filled() - count(values, parse::is_missing_word);
    let parsed = |format| count(values, |text| dates::date(text, format, reference).is_some());
    let iso = parsed(TextFormat::DateIso);
    let month_first = parsed(TextFormat::DateMonthFirst);
    let day_first = parsed(TextFormat::DateDayFirst);
    let best = iso.max(month_first).max(day_first);
    if best == 0 || (best as f64) < share * cells as f64 {
        return false;
    }
    (decision.format, decision.why) = if iso == best {
        (TextFormat::DateIso, "text that holds dates".to_owned())
    } else if month_first == best {
        (TextFormat::DateMonthFirst, "text that holds dates, month first".to_owned())
    } else {
        (TextFormat::DateDayFirst, "text that holds dates, day first".to_owned())
    };
    if iso < best && month_first == day_first {
        decision
            .notices
            .push("dates fit day first and month first; they are read month first".to_owned());
    }
    let format = decision.format;
    let read = |text: &str, reference| dates::date(text, format, reference);
    // A date that moves with the reference date has a two-digit year.
    if values.iter().any(|v| read(v.0, reference) != read(v.0, reference + 36_525)) {
        let latest = dates::civil_from_days(i64::from(reference)).0 + i64::from(dates::PIVOT_YEARS);
        decision
            .notices
            .push(format!("years of two digits are read as {} to {latest}", latest - 99));
    }
    decision.bad_cells = cells - best;
    let junk = values
        .iter()
        .find(|v| !parse::is_missing_word(v.0) && read(v.0, reference).is_none())
        .map(|v| bad_cells(cells - best, cells, "date", v.0));
    decision.notices.extend(junk);
    true
}

fn words(name: &str, profile: &Profile<'_>, values: &Texts<'_>) -> Decision {
    let filled = profile.filled();
    let wordy = count(values, is_wordy) * 2 >= filled;
    if profile.distinct as f64 >= 0.99 * filled as f64 && filled >= 50 {
        if !wordy {
            return Decision::new(Role::Identifier, "codes, and hardly one repeats");
        }
        if few_without_digits(values) {
            return Decision::new(
                Role::Identifier,
                "the values differ in their digits only, and hardly one repeats",
            );
        }
    }
    if !wordy && has_word(name, IDENTIFIER_WORDS) && profile.distinct * 2 > filled {
        return Decision::new(Role::Identifier, "codes, and the name speaks of an identifier");
    }
    let least = frequent(filled);
    let frequent: Vec<usize> =
        values.iter().filter(|v| v.1 >= least && v.0.len() <= MAX_LABEL).map(|v| v.1).collect();
    let covered = frequent.iter().sum::<usize>() as f64 / filled as f64;
    if covered >= COVERED {
        return Decision::new(Role::Category, format!("{} labels that repeat", profile.distinct));
    }
    if !wordy {
        let mut decision = Decision::new(Role::Category, "codes");
        decision.prefixes = code_prefixes(&lengths(values));
        return decision;
    }
    let mut decision = Decision::new(Role::Text, "names");
    if is_long(values, filled) {
        decision.why = "sentences".to_owned();
        decision.long_text = true;
    }
    if covered >= COVERED_BESIDE && frequent.len() > 1 {
        decision.category = true;
        decision.why += &format!("; the {} frequent ones are a category too", frequent.len());
    }
    decision
}

/// Has a word: three letters in a row, or one of a script beyond ASCII; one token with a digit
/// in it is a code.
fn is_wordy(text: &str) -> bool {
    let code = !text.contains(char::is_whitespace) && text.bytes().any(|b| b.is_ascii_digit());
    let letters = text.split(|c: char| !c.is_alphabetic()).any(|run| run.len() >= 3);
    letters && !code
}

/// Whether few different texts are left when the digits are taken out (`LOAN 0001`), among
/// [`LOOKED_AT`] values spread over all.
fn few_without_digits(values: &Texts<'_>) -> bool {
    let step = values.len().div_ceil(LOOKED_AT).max(1);
    let without = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let mut rest: Vec<String> = values.iter().step_by(step).map(|v| without(v.0)).collect();
    let looked_at = rest.len();
    rest.sort_unstable();
    rest.dedup();
    rest.len() <= 20.max(looked_at / 100)
}

/// Sentences rather than names.
pub fn is_long(values: &Texts<'_>, filled: usize) -> bool {
    let characters: usize = values.iter().map(|v| v.0.chars().count() * v.1).sum();
    characters >= LONG * filled
}

/// Rows whose text fulfils `is`.
fn count(values: &Texts<'_>, is: impl Fn(&str) -> bool) -> usize {
    values.iter().filter(|v| is(v.0)).map(|v| v.1).sum()
}
