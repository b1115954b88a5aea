//! Numbers written as text: money, percent, counted units, bounds.

/// A number and what was written around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Written {
    pub value: f64,
    pub unit: Unit,
    /// A currency sign or code stood beside it.
    pub money: bool,
}

/// Units are recognised and never converted: a column has one unit (see `roles.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    None,
    Percent,
    BasisPoint,
    Day,
    Week,
    Month,
    Year,
    Count,
}

/// The sign before the fraction; the other one of the two may group digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal {
    Point,
    Comma,
}

/// Longest text that is read as a number, bytes.
const MAX_NUMBER: usize = 64;

const UNITS: &[(&str, Unit)] = &[
    ("%", Unit::Percent),
    ("percent", Unit::Percent),
    ("pct", Unit::Percent),
    ("bps", Unit::BasisPoint),
    ("bp", Unit::BasisPoint),
    ("day", Unit::Day),
    ("days", Unit::Day),
    ("d", Unit::Day),
    ("week", Unit::Week),
    ("weeks", Unit::Week),
    ("wk", Unit::Week),
    ("wks", Unit::Week),
    ("month", Unit::Month),
    ("months", Unit::Month),
    ("mo", Unit::Month),
    ("mos", Unit::Month),
    ("mth", Unit::Month),
    ("mths", Unit::Month),
    ("year", Unit::Year),
    ("years", Unit::Year),
    ("yr", Unit::Year),
    ("yrs", Unit::Year),
    ("y", Unit::Year),
    ("people", Unit::Count),
    ("persons", Unit::Count),
    ("employees", Unit::Count),
    ("points", Unit::Count),
    ("pts", Unit::Count),
    ("units", Unit::Count),
    ("x", Unit::Count),
];
const MAGNITUDES: &[(&str, f64)] = &[
    ("k", 1e3),
    ("K", 1e3),
    ("M", 1e6),
    ("mm", 1e6),
    ("MM", 1e6),
    ("mn", 1e6),
    ("bn", 1e9),
    ("B", 1e9),
];
/// Blanks that do not break a line: French and Swiss exports group digits by them.
const HARD_BLANKS: [char; 2] = ['\u{a0}', '\u{202f}'];
const CURRENCY_SIGNS: &[char] = &['$', '€', '£', '¥', '₹'];
const CURRENCY_CODES: &[&str] = &["USD", "EUR", "GBP", "CHF", "JPY", "CAD", "AUD", "INR", "US$"];
const MISSING_WORDS: &[&str] = &[
    "n/a",
    "na",
    "#n/a",
    "null",
    "(null)",
    "none",
    "nan",
    "nil",
    "-",
    "--",
    "?",
    ".",
    "unknown",
    "missing",
    "not available",
];

/// Blanks, and the byte order mark that some exports leave.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

/// Empty, or one of the usual words for "no value".
pub fn is_missing_word(text: &str) -> bool {
    let text = trim(text);
    text.is_empty() || MISSING_WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Which sign before the fraction all of a text's numbers need, as far as it shows: `12,5` and
/// `1.234,56` a comma, `12.5` and `1,234.56` a point; `1,234` and `36 months` do not show it.
pub fn shown_decimal(text: &str) -> Option<Decimal> {
    let (point, comma) = (number(text), number_with(text, Decimal::Comma));
    match (point.is_some(), comma.is_some(), text.rfind('.'), text.rfind(',')) {
        (true, false, Some(_), _) => Some(Decimal::Point),
        (false, true, _, Some(_)) => Some(Decimal::Comma),
        (true, true, Some(dot), Some(comma)) if dot > comma => Some(Decimal::Point),
        (true, true, Some(_), Some(_)) => Some(Decimal::Comma),
        _ => None,
    }
}

/// [`number_with`] a decimal point.
pub fn number(text: &str) -> Option<Written> {
    number_with(text, Decimal::Point)
}

/// Reads `$60,000.00`, `($1,250.00)`, ` 13.5%`, ` 36 months`, `10+ years`, `1.2M`, `1e5`; with a
/// decimal comma `60.000,00 €`, `12,5`, `1 250,00`.
///
/// * parentheses, or a minus on either side, negate;
/// * `1.234,56` and `1,234.56` mean the same with either; a lone `1,234` and `1.234` do not;
/// * a percent sign does not divide: `13.5%` is 13.5, as its column's name says;
/// * a bound keeps its order: `< 1` is 1 - 1/2 and `> 10` is 10 + 10/2, half the bound away
///   (`< 0` is -0.5); `10+`, `<= 1` and `>= 1` are the bound itself.
pub fn number_with(text: &str, decimal: Decimal) -> Option<Written> {
    let text = trim(text);
    if text.is_empty() || text.len() > MAX_NUMBER {
        return None;
    }
    let mut plain_blanks = Plain::default();
    let mut rest = text;
    if text.contains(HARD_BLANKS) {
        for (index, piece) in text.split(HARD_BLANKS).enumerate() {
            plain_blanks.extend(if index > 0 { " " } else { "" })?;
            plain_blanks.extend(piece)?;
        }
        rest = plain_blanks.text()?;
    }
    let mut negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
        negative = true;
        rest = trim(inner);
    }
    let (bound, after) = bound(rest);
    let (sign, after) = sign(after);
    let (money, after) = currency_before(after);
    let (second, after) = if sign { (false, after) } else { self::sign(after) };
    negative ^= sign ^ second;
    let (magnitude, after) = digits(after, decimal)?;
    let suffix = Suffix::read(after)?;
    let value = magnitude * suffix.factor;
    let value = if negative ^ suffix.negative { -value } else { value };
    let half = if value == 0.0 { 0.5 } else { value.abs() / 2.0 };
    let value = match bound {
        Bound::None => value,
        Bound::Below => value - half,
        Bound::Above => value + half,
    };
    value.is_finite().then_some(Written { value, unit: suffix.unit, money: money || suffix.money })
}

#[derive(Clone, Copy)]
enum Bound {
    None,
    Below,
    Above,
}

fn bound(text: &str) -> (Bound, &str) {
    for (mark, bound) in [
        ("<=", Bound::None),
        (">=", Bound::None),
        ("≤", Bound::None),
        ("≥", Bound::None),
        ("~", Bound::None),
        ("<", Bound::Below),
        (">", Bound::Above),
    ] {
        if let Some(rest) = text.strip_prefix(mark) {
            return (bound, trim(rest));
        }
    }
    (Bound::None, text)
}

/// Whether a minus was cut; a plus is cut too.
fn sign(text: &str) -> (bool, &str) {
    for (mark, negative) in [("-", true), ("−", true), ("+", false)] {
        if let Some(rest) = text.strip_prefix(mark) {
            return (negative, trim(rest));
        }
    }
    (false, text)
}

fn currency_before(text: &str) -> (bool, &str) {
    if let Some(rest) = text.strip_prefix(CURRENCY_SIGNS) {
        return (true, trim(rest));
    }
    for code in CURRENCY_CODES {
        if let Some(rest) = text.strip_prefix(code) {
            return (true, trim(rest));
        }
    }
    (false, text)
}

/// The unsigned number at the start, and the rest.
fn digits(text: &str, decimal: Decimal) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let group = *byte == b' ' && is_group(bytes.get(end + 1..));
        if !(byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'\'') || group) {
            break;
        }
        end += 1;
    }
    let (body, mut rest) = text.split_at(end);
    let mut plain = Plain::default();
    match decimal {
        Decimal::Point => ungroup(body, &mut plain)?,
        Decimal::Comma => ungroup(swapped(body).text()?, &mut plain)?,
    }
    if let Some(exponent) = exponent(rest) {
        plain.extend(&rest[..exponent])?;
        rest = &rest[exponent..];
    }
    let value: f64 = plain.text()?.parse().ok()?;
    value.is_finite().then_some((value, rest))
}

/// `body`, at most MAX_NUMBER bytes of ASCII, with points for commas and commas for points.
fn swapped(body: &str) -> Plain {
    let mut out = Plain::default();
    for (to, from) in out.bytes.iter_mut().zip(body.bytes()) {
        *to = match from {
            b'.' => b',',
            b',' => b'.',
            other => other,
        };
    }
    out.length = body.len().min(out.bytes.len());
    out
}

/// Exactly three digits and no fourth.
fn is_group(bytes: Option<&[u8]>) -> bool {
    let bytes = bytes.unwrap_or_default();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    digits == 3
}

/// Length of `e5`, `E-07` at the start.
fn exponent(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return None;
    }
    let start = if matches!(bytes.get(1), Some(b'+' | b'-')) { 2 } else { 1 };
    let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    (1..=3).contains(&digits).then_some(start + digits)
}

/// Writes `body` without its separators and with a decimal point.
fn ungroup(body: &str, out: &mut Plain) -> Option<()> {
    let comma = body.rfind(',');
    let dot = body.rfind('.');
    let dots = body.bytes().filter(|b| *b == b'.').count();
    let commas = body.bytes().filter(|b| *b == b',').count();
    let decimal = match (comma, dot) {
        (Some(c), Some(d)) if c > d => (commas == 1).then_some(c)?,
        (_, Some(d)) if dots == 1 => d,
        (Some(_), Some(_)) => return None,
        _ => body.len(),
    };
    let (whole, fraction) = body.split_at(decimal);
    let fraction = fraction.get(1..).unwrap_or_default();
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mut groups = whole.split([',', '.', '\'', ' ']).peekable();
    let first = groups.next().unwrap_or_default();
    let grouped = groups.peek().is_some();
    if !first.bytes().all(|b| b.is_ascii_digit()) || (grouped && !(1..=3).contains(&first.len())) {
        return None;
    }
    out.extend(if first.is_empty() { "0" } else { first })?;
    while let Some(group) = groups.next() {
        // Two digits: lakh and crore, `12,34,567`.
        let last = groups.peek().is_none();
        let length = group.len() == 3 || (group.len() == 2 && !last);
        if !length || !group.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        out.extend(group)?;
    }
    if !fraction.is_empty() {
        out.extend(".")?;
        out.extend(fraction)?;
    }
    Some(())
}

/// A short text without allocation.
struct Plain {
    bytes: [u8; MAX_NUMBER + 8],
    length: usize,
}

impl Default for Plain {
    fn default() -> Self {
        Plain { bytes: [0; MAX_NUMBER + 8], length: 0 }
    }
}

impl Plain {
    fn extend(&mut self, text: &str) -> Option<()> {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Some(())
    }
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[..self.length]).ok()
    }
}

/// What may follow a number: a magnitude, a plus, a unit, a currency, an accountant's minus.
struct Suffix {
    factor: f64,
    unit: Unit,
    money: bool,
    negative: bool,
}

impl Suffix {
    fn read(text: &str) -> Option<Self> {
        let mut suffix = Suffix { factor: 1.0, unit: Unit::None, money: false, negative: false };
        let mut rest = text;
        if let Some((factor, after)) = magnitude(rest) {
            suffix.factor = factor;
            rest = after;
        }
        rest = trim(rest);
        if rest == "-" {
            suffix.negative = true;
            return Some(suffix);
        }
        rest = trim(rest.strip_prefix('+').unwrap_or(rest));
        if rest.is_empty() {
            return Some(suffix);
        }
        suffix.money = rest.strip_prefix(CURRENCY_SIGNS) == Some("")
            || CURRENCY_CODES.iter().any(|code| rest.eq_ignore_ascii_case(code));
        if suffix.money {
            return Some(suffix);
        }
        // A unit of letters stands apart or is a known word: `12x` is a typing error in `$12,0x`,
        // not a count; only `1.5 x` is.
        let apart = text.starts_with(char::is_whitespace);
        let word = rest.strip_suffix('+').map_or(rest, trim);
        let (_, unit) = UNITS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name))?;
        if !apart && word.len() == 1 && *unit != Unit::Percent {
            return None;
        }
        suffix.unit = *unit;
        Some(suffix)
    }
}

/// A magnitude directly after the digits, not the start of a longer word.
fn magnitude(text: &str) -> Option<(f64, &str)> {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, rest) = text.split_at(letters);
    MAGNITUDES.iter().find(|(name, _)| *name == word).map(|(_, factor)| (*factor, rest))
}

#[cfg(test)]
mod tests;
