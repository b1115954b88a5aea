//! What the caller asks for: how many components, and how they are computed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::{as_map, given, merge, no_options, range};
use crate::refusal::{code, Refusal, Result};

/// How many components are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// So many, or as many as there are.
    Count(u64),
    /// The fewest whose variances make this share of the whole, above 0 and below 1.
    Share(f64),
}

/// Counts above are no counts; far more than any relation has columns.
const MOST: f64 = 1e9;

impl Wanted {
    /// A whole number from 1 on is a count, a number between 0 and 1 a share; `what` names where it was
    /// given.
    ///
    /// # Errors
    /// 22023 for any other number.
    pub fn of(what: &str, number: f64) -> Result<Self> {
        if number > 0.0 && number < 1.0 {
            return Ok(Wanted::Share(number));
        }
        if (1.0..=MOST).contains(&number) && number.fract() == 0.0 {
            return Ok(Wanted::Count(number as u64));
        }
        Err(Refusal::new(code::INVALID_PARAMETER, "invalid number of components")
            .detail(format!("{what} is {number}."))
            .hint("Give a whole number such as 50, or a share of the variance such as 0.95."))
    }
}

/// The named options of a reduction, resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Threads of the trainer. 0 = as many as the machine has.
    pub threads: usize,
}

impl Options {
    /// Parses the jsonb object that the caller gave.
    ///
    /// # Errors
    /// 22023 for what is no option, or out of its range.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut whole = as_map(&Options::default());
        if let Some(given) = given(value, "{\"threads\": 2}")? {
            merge(&mut whole, given, "")?;
        }
        let options: Options =
            serde_json::from_value(Value::Object(whole)).map_err(|e| no_options(&e))?;
        range("threads", options.threads as f64, 0.0, 1024.0)?;
        Ok(options)
    }
}
