//! A/B tests: the arm of a key, and the text by which keys of different types are one.
//!
//! | key | canonical text |
//! |---|---|
//! | integer | its decimal digits |
//! | numeric, a JSON number | its decimal digits without zeros at the end of a fraction: 5.0 is `5` |
//! | float | the shortest decimal digits that give the same float, without exponent |
//! | text, and what has no rule of its own | the text as it is |
//! | date | as ISO 8601 and to_jsonb write it, whatever DateStyle |
//! | flag | `true` or `false` |
//!
//! NaN and infinities are no keys: nobody has them as a number.

use std::fmt::Write;

use crate::dataset::dates::civil_from_days;
use crate::dataset::hash::{bytes_hash, mix};

/// What scores a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    Champion,
    Challenger,
}

impl Arm {
    pub const BOTH: [Arm; 2] = [Arm::Champion, Arm::Challenger];

    /// As riskft_ab_arm says it.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Champion => "champion",
            Arm::Challenger => "challenger",
        }
    }

    /// Place among [`Arm::BOTH`].
    pub fn index(self) -> usize {
        match self {
            Arm::Champion => 0,
            Arm::Challenger => 1,
        }
    }
}

/// A value that decides a row's arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key<'a> {
    Int(i64),
    /// As numeric prints it.
    Decimal(&'a str),
    Single(f32),
    Double(f64),
    Bool(bool),
    /// Days since 1970-01-01.
    Date(i64),
    Text(&'a str),
}

impl Key<'_> {
    /// Writes the canonical text in place of what `into` holds; false where the value is no key.
    pub fn write(&self, into: &mut String) -> bool {
        into.clear();
        // Writing to a String does not fail.
        let _ = match *self {
            Key::Int(value) => write!(into, "{value}"),
            Key::Decimal(digits) if !digits.ends_with(|c: char| c.is_ascii_digit()) => {
                return false
            }
            Key::Decimal(digits) => into.write_str(whole_if_it_is(digits)),
            Key::Single(value) if !value.is_finite() => return false,
            Key::Double(value) if !value.is_finite() => return false,
            // Adding 0 makes 0 of -0.
            Key::Single(value) => write!(into, "{}", value + 0.0),
            Key::Double(value) => write!(into, "{}", value + 0.0),
            Key::Bool(value) => write!(into, "{value}"),
            Key::Date(days) => match civil_from_days(days) {
                (year, month, day) if year > 0 => write!(into, "{year:04}-{month:02}-{day:02}"),
                (year, month, day) => write!(into, "{:04}-{month:02}-{day:02} BC", 1 - year),
            },
            Key::Text(text) => into.write_str(text),
        };
        true
    }
}

/// Digits without zeros at the end of their fraction.
fn whole_if_it_is(digits: &str) -> &str {
    match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    }
}

/// Who goes where in one test. Raising the share moves keys from the champion to the challenger
/// alone: a key's place does not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    seed: u64,
    /// The challenger's places are below it, of [`PLACES`].
    limit: u64,
}

/// A share of 1 as places; float8 tells all of them apart.
const PLACES: u64 = 1 << 53;

impl Split {
    /// Of a test of a model, which gives the challenger this share of the keys, 0 to 1.
    pub fn new(model: i64, test: i32, share: f64) -> Self {
        let seed = mix(mix(model.cast_unsigned()) ^ u64::from(test.cast_unsigned()));
        // A conversion of a float holds it within the range, and takes NaN as 0.
        Split { seed, limit: (share * PLACES as f64) as u64 }
    }

    /// The arm of a canonical text.
    pub fn arm(&self, key: &str) -> Arm {
        match self.place(key) < self.limit {
            true => Arm::Challenger,
            false => Arm::Champion,
        }
    }

    fn place(&self, key: &str) -> u64 {
        mix(self.seed ^ bytes_hash(key.as_bytes())) >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::{Arm, Key, Split, PLACES};

    fn text(key: Key<'_>) -> Option<String> {
        let mut text = "before".to_owned();
        key.write(&mut text).then_some(text)
    }

    #[test]
    fn equal_values_of_different_types_are_one_key() {
        for (key, wanted) in [
            (Key::Int(5), "5"),
            (Key::Int(i64::MIN), "-9223372036854775808"),
            (Key::Decimal("5"), "5"),
            (Key::Decimal("5.0"), "5"),
            (Key::Decimal("-5.000"), "-5"),
            (Key::Decimal("0.50"), "0.5"),
            (Key::Decimal("0.00"), "0"),
            (Key::Decimal("500"), "500"),
            (Key::Decimal("12345678901234567890123.0"), "12345678901234567890123"),
            (Key::Single(5.0), "5"),
            (Key::Single(0.1), "0.1"),
            (Key::Double(0.1), "0.1"),
            (Key::Double(-0.0), "0"),
            (Key::Double(1e22), "10000000000000000000000"),
            (Key::Bool(true), "true"),
            (Key::Date(0), "1970-01-01"),
            (Key::Date(19_782), "2024-02-29"),
            // The day before 0001-01-01.
            (Key::Date(-719_163), "0001-12-31 BC"),
            (Key::Text("5"), "5"),
            (Key::Text("05"), "05"),
            (Key::Text(""), ""),
        ] {
            assert_eq!(text(key).as_deref(), Some(wanted), "{key:?}");
        }
        for key in [
            Key::Decimal("NaN"),
            Key::Decimal("Infinity"),
            Key::Decimal("-Infinity"),
            Key::Double(f64::NAN),
            Key::Double(f64::INFINITY),
            Key::Single(f32::NEG_INFINITY),
        ] {
            assert_eq!(text(key), None, "{key:?}");
        }
    }

    /// Frozen: results of stopped tests are computed from keys again. golden/ab.py computes them from the
    /// definitions of FNV-1a and SplitMix64.
    #[test]
    fn places_are_frozen() {
        let split = Split::new(1, 1, 0.5);
        let places = ["", "5", "LOAN-0001", "é"].map(|key| split.place(key));
        assert_eq!(
            places,
            [5152794594276059, 2884152033301692, 5976737554637214, 5590416831111999]
        );
        assert_eq!(Split::new(i64::MAX, i32::MAX, 0.5).place("5"), 5293899939156219);
    }

    const KEYS: usize = 100_000;

    fn challengers(model: i64, test: i32, share: f64) -> Vec<bool> {
        let split = Split::new(model, test, share);
        (0..KEYS).map(|key| split.arm(&key.to_string()) == Arm::Challenger).collect()
    }

    fn count(arms: &[bool]) -> f64 {
        arms.iter().filter(|arm| **arm).count() as f64
    }

    /// Within five standard deviations of a binomial count.
    fn near(counted: f64, chance: f64) {
        let (mean, deviation) =
            (KEYS as f64 * chance, (KEYS as f64 * chance * (1.0 - chance)).sqrt());
        assert!((counted - mean).abs() < 5.0 * deviation, "{counted} instead of {mean}");
    }

    #[test]
    fn places_are_uniform() {
        let split = Split::new(1, 1, 0.0);
        let mut bins = [0.0f64; 100];
        let bin = |key: usize| (split.place(&key.to_string()) * 100 / PLACES) as usize;
        (0..KEYS).for_each(|key| bins[bin(key)] += 1.0);
        // Chi-squared of 99 degrees of freedom: mean 99, standard deviation 14.1.
        let expected = KEYS as f64 / 100.0;
        let chi: f64 = bins.iter().map(|n| (n - expected).powi(2) / expected).sum();
        assert!((40.0..180.0).contains(&chi), "{chi}");
        for share in [0.001, 0.1, 0.5, 0.9] {
            near(count(&challengers(1, 1, share)), share);
        }
    }

    #[test]
    fn tests_are_independent() {
        let first = challengers(1, 1, 0.3);
        for (model, test) in [(1, 2), (2, 1), (1, 3), (7, 1)] {
            let other = challengers(model, test, 0.3);
            let both: Vec<bool> = first.iter().zip(&other).map(|(a, b)| *a && *b).collect();
            near(count(&both), 0.09);
        }
        assert_ne!(Split::new(1, 2, 0.3), Split::new(2, 1, 0.3));
    }

    #[test]
    fn a_larger_share_takes_keys_from_the_champion_alone() {
        assert_eq!(count(&challengers(3, 4, 0.0)), 0.0);
        assert_eq!(count(&challengers(3, 4, 1.0)), KEYS as f64);
        let shares = [0.0, f64::MIN_POSITIVE, 1e-9, 0.1, 0.1 + f64::EPSILON, 0.5, 0.9, 1.0];
        for pair in shares.windows(2) {
            let (less, more) = (challengers(3, 4, pair[0]), challengers(3, 4, pair[1]));
            assert!(less.iter().zip(&more).all(|(less, more)| !less || *more), "{pair:?}");
        }
    }
}
