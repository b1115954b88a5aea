//! The role of each column, by type and by values, with the reason in plain words.
//!
//! | declared | role |
//! |---|---|
//! | boolean; integer of 0 and 1 | flag |
//! | real, numeric, money | number, however distinct its values are |
//! | integer | number; identifier if no value repeats and chance, shape or name speak for it |
//! | date, timestamp | date |
//! | enum | category |
//! | uuid | identifier |
//! | text | by its values, see `text_roles.rs` |
//! | constant or empty | ignored |

use super::profile::{Profile, Values};
use super::{text_roles, Column};
use crate::cell::TypeHint;
use crate::encode::TextFormat;
use crate::options::Role;
use crate::refusal::{code, Refusal, Result};

/// How a column enters the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub role: Role,
    pub format: TextFormat,
    /// In plain words, without a full stop.
    pub why: String,
    /// The frequent values are a category as well (always so for role category).
    pub category: bool,
    /// Lengths at which a code's first characters are categories of their own.
    pub prefixes: Vec<usize>,
    /// Sentences rather than names.
    pub long_text: bool,
    /// Known to be an amount of money.
    pub money: bool,
    /// Cells that are not empty and yet missing: junk among numbers or dates.
    pub bad_cells: usize,
    pub notices: Vec<String>,
}

impl Decision {
    pub fn new(role: Role, why: impl Into<String>) -> Self {
        Decision {
            role,
            format: TextFormat::Plain,
            why: why.into(),
            category: role == Role::Category,
            prefixes: Vec::new(),
            long_text: false,
            money: false,
            bad_cells: 0,
            notices: Vec::new(),
        }
    }
}

/// Share of the cells that must be numbers (or dates) for a text column to be one.
pub const PARSED: f64 = 0.95;
/// Share of the cells below which a text column cannot be made one by options.roles.
const FORCED: f64 = 0.5;
/// Values that chance would have repeated this often, and that never repeat, name rows.
const EXPECTED_REPEATS: f64 = 12.0;
/// Digits from which integers of one length that never repeat are numbers of contracts and the
/// like; amounts vary in length.
const IDENTIFIER_DIGITS: u32 = 8;
/// Digits from which integers or digit texts of one length are codes (zip, industry).
pub const CODE_DIGITS: usize = 5;

/// Decides the role from the labelled rows.
pub fn decide(column: &Column, profile: &Profile<'_>, reference: i32) -> Decision {
    let filled = profile.filled();
    if filled == 0 {
        return Decision::new(Role::Ignored, "no row has a value");
    }
    if profile.distinct == 1 && profile.missing == 0 {
        return Decision::new(Role::Ignored, "all rows have the same value");
    }
    match column.source.hint {
        TypeHint::Identifier => return Decision::new(Role::Identifier, "its type names rows"),
        TypeHint::Label => return Decision::new(Role::Category, "an enumerated type"),
        TypeHint::Money | TypeHint::None => {}
    }
    match &profile.values {
        Values::Bool => Decision::new(Role::Flag, "true or false"),
        Values::Moment => Decision::new(Role::Date, "a date or time"),
        Values::Float(_) => Decision {
            money: column.source.hint == TypeHint::Money,
            ..Decision::new(Role::Number, "numbers")
        },
        Values::Int(values) => integers(&column.source.name, profile, values),
        Values::Text(values) => text_roles::decide(&column.source.name, profile, values, reference),
    }
}

fn integers(name: &str, profile: &Profile<'_>, values: &[i64]) -> Decision {
    if values.iter().all(|v| (0..=1).contains(v)) {
        return Decision::new(Role::Flag, "0 or 1");
    }
    if let Some(why) = integer_identifier(name, profile.distinct, values) {
        return Decision::new(Role::Identifier, why);
    }
    if !has_word(name, CODE_WORDS) {
        return Decision::new(Role::Number, "whole numbers");
    }
    let mut decision = Decision::new(
        Role::Number,
        "whole numbers; as the name speaks of a code, the frequent ones are a category too",
    );
    decision.category = true;
    let lengths: Vec<usize> =
        values.iter().filter(|v| **v != 0).map(|v| digits(*v) as usize).collect();
    decision.prefixes = code_prefixes(&lengths);
    decision
}

/// Why integers name rows, if they do. `values` is sorted.
pub fn integer_identifier(name: &str, distinct: usize, values: &[i64]) -> Option<String> {
    let n = values.len();
    let named = has_word(name, IDENTIFIER_WORDS) && distinct as f64 >= 0.8 * n as f64;
    if named && distinct > 20 {
        return Some("hardly a value repeats, and the name speaks of an identifier".to_owned());
    }
    if distinct < n || n < 50 {
        return None;
    }
    let (first, last) = (values[0], values[n - 1]);
    let range = (i128::from(last) - i128::from(first) + 1) as f64;
    let repeats = (n as f64) * (n as f64) / (2.0 * range);
    if repeats > EXPECTED_REPEATS {
        return Some(format!("no value repeats, where chance would repeat about {repeats:.0}"));
    }
    let length = digits(last);
    if length >= IDENTIFIER_DIGITS && digits(first) == length && first > 0 {
        return Some(format!("no value repeats, and all have {length} digits"));
    }
    None
}

fn digits(value: i64) -> u32 {
    value.unsigned_abs().checked_ilog10().unwrap_or(0) + 1
}

/// Prefix lengths of codes, if nearly all have one length: 3 of 5 (zip), 2 and 4 of 6 (industry).
pub fn code_prefixes(lengths: &[usize]) -> Vec<usize> {
    let Some(longest) = lengths.iter().max() else {
        return Vec::new();
    };
    let full = lengths.iter().filter(|l| *l == longest).count();
    if (full as f64) < PARSED * lengths.len() as f64 {
        return Vec::new();
    }
    match longest {
        5 => vec![3],
        6 => vec![2, 4],
        7..=12 => vec![2, 4, 6],
        _ => Vec::new(),
    }
}

pub const IDENTIFIER_WORDS: &[&str] = &[
    "id", "ids", "key", "uuid", "guid", "pk", "oid", "no", "nr", "num", "number", "rownum", "row",
    "serial", "ref",
];
pub const CODE_WORDS: &[&str] =
    &["code", "zip", "zipcode", "postal", "postcode", "naics", "sic", "mcc", "fips"];

/// Whether the last word of a column name is one of `words` (`loan_id`, `LoanId`, `ZIP`).
pub fn has_word(name: &str, words: &[&str]) -> bool {
    let mut last = String::new();
    let mut lower = false;
    for c in name.chars() {
        let starts = !c.is_alphanumeric() || (c.is_uppercase() && lower);
        if starts {
            last.clear();
        }
        if c.is_alphanumeric() {
            last.extend(c.to_lowercase());
        }
        lower = c.is_lowercase();
    }
    words.contains(&last.as_str())
}

/// The role that the caller chose, or the refusal of one that the column cannot have.
pub fn force(
    column: &Column,
    profile: &Profile<'_>,
    role: Role,
    reference: i32,
) -> Result<Decision> {
    let decided = decide(column, profile, reference);
    let why = "chosen in options.roles";
    let mut decision =
        Decision { category: role == Role::Category, why: why.into(), ..decided.clone() };
    decision.role = role;
    decision.notices.clear();
    if role == decided.role {
        // Choosing `number` for integers that look like codes means numbers alone.
        let category = decided.category && role != Role::Number;
        return Ok(Decision { category, ..decision });
    }
    decision.format = TextFormat::Plain;
    decision.bad_cells = 0;
    let possible = match role {
        Role::Target => false,
        Role::Identifier | Role::Ignored | Role::Category => true,
        Role::Text => match &profile.values {
            Values::Text(values) => {
                decision.long_text = text_roles::is_long(values, profile.filled());
                true
            }
            _ => false,
        },
        Role::Number => match &profile.values {
            Values::Text(values) => {
                text_roles::parsed_as_number(values, profile, FORCED, &mut decision)
            }
            Values::Moment => false,
            _ => true,
        },
        Role::Date => match &profile.values {
            Values::Text(values) => {
                text_roles::parsed_as_date(values, profile, reference, FORCED, &mut decision)
            }
            Values::Moment => true,
            _ => false,
        },
        Role::Flag => match &profile.values {
            Values::Bool => true,
            Values::Int(values) => values.iter().all(|v| (0..=1).contains(v)),
            Values::Text(values) => values.iter().all(|(text, _)| {
                crate::encode::value::truth(text).is_some() || ["0", "1"].contains(text)
            }),
            _ => false,
        },
    };
    if possible {
        decision.why = why.to_owned();
        return Ok(decision);
    }
    Err(impossible(column, role, decided.role))
}

/// The refusal of a role that a column cannot have.
pub fn impossible(column: &Column, role: Role, decided: Role) -> Refusal {
    let declared = match column.source.declared.as_str() {
        "" => format!("{:?}", column.source.column_type).to_lowercase(),
        declared => declared.to_owned(),
    };
    let name = super::names::visible(&column.source.name);
    Refusal::new(
        code::INVALID_PARAMETER,
        format!("column \"{name}\" cannot have the role {}", name_of(role)),
    )
    .detail(format!("It is of type {declared}, and fits the role {}.", name_of(decided)))
    .hint("Leave the column out of options.roles, or choose another role.")
}

/// The role's name in options and views.
pub fn name_of(role: Role) -> &'static str {
    match role {
        Role::Number => "number",
        Role::Category => "category",
        Role::Text => "text",
        Role::Date => "date",
        Role::Flag => "flag",
        Role::Identifier => "identifier",
        Role::Ignored => "ignored",
        Role::Target => "target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_name() {
        for name in ["id", "loan_id", "LoanId", "LOAN_ID", "Loan ID", "row-no"] {
            assert!(has_word(name, IDENTIFIER_WORDS), "{name}");
        }
        for name in ["paid", "id_type", "grid", "", "number_of_loans", "notice"] {
            assert!(!has_word(name, IDENTIFIER_WORDS), "{name}");
        }
        assert!(has_word("bankZip", CODE_WORDS));
    }

    #[test]
    fn integers_that_name_rows() {
        let dense: Vec<i64> = (1..=300).collect();
        assert!(integer_identifier("x", 300, &dense).is_some());
        let spread: Vec<i64> = (0..300).map(|i| 1_000 + i * 997).collect();
        assert_eq!(integer_identifier("income", 300, &spread), None);
        assert!(integer_identifier("loan_id", 300, &spread).is_some());
        let contracts: Vec<i64> = (0..300).map(|i| 1_000_000_000 + i * 29_000_003).collect();
        assert!(integer_identifier("contract", 300, &contracts).is_some());
        assert_eq!(integer_identifier("x", 299, &dense), None);
        assert!(
            integer_identifier("x", 60, &(i64::MIN..i64::MIN + 60).collect::<Vec<_>>()).is_some()
        );
    }

    #[test]
    fn prefixes_of_codes() {
        assert_eq!(code_prefixes(&[5; 20]), vec![3]);
        assert_eq!(code_prefixes(&[6; 20]), vec![2, 4]);
        assert!(code_prefixes(&[4, 5, 6]).is_empty() && code_prefixes(&[]).is_empty());
    }
}
