//! What the caller asks for.

use serde_json::Value;

use crate::options::{given, unknown_key, Options};
use crate::refusal::{code, Refusal, Result};

/// Options of a training that a selection reads as well.
const READ: [&str; 4] = ["roles", "seed", "split", "threads"];

/// Parses the jsonb object that the caller gave.
///
/// # Errors
/// 22023 for what is no option of a selection, or out of its range.
pub fn options(value: &Value) -> Result<Options> {
    let known = READ.map(str::to_owned);
    for key in given(value, "{\"seed\": 7}")?.into_iter().flat_map(|given| given.keys()) {
        if !known.contains(key) {
            return Err(unknown_key("", key, known.iter()));
        }
    }
    Options::parse(value)
}

/// How many columns are listed.
///
/// # Errors
/// 22023 below 1.
pub fn top_k(given: i32) -> Result<u32> {
    match u32::try_from(given) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Refusal::new(code::INVALID_PARAMETER, "invalid number of columns")
            .detail(format!("Argument \"top_k\" is {given}."))
            .hint("Give a whole number from 1 on; one above the number of columns lists all.")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_some_of_a_trainings() {
        assert_eq!(options(&Value::Null), Ok(Options::default()));
        let some = options(&json!({"seed": 7, "roles": {"a": "number"}, "threads": 1}));
        assert_eq!(some.map(|options| options.seed), Ok(7));
        for (bad, hint) in [(json!({"rank": 8}), "Perhaps"), (json!({"seeds": 8}), "\"seed\"")] {
            let refusal = options(&bad).expect_err("no option of a selection");
            assert_eq!(refusal.code, code::INVALID_PARAMETER);
            assert!(refusal.hint.contains(hint), "{}", refusal.hint);
        }
        assert!(options(&json!([])).is_err() && options(&json!({"seed": -1})).is_err());
    }

    #[test]
    fn a_count_is_from_one_on() {
        assert_eq!(top_k(1), Ok(1));
        assert_eq!(top_k(i32::MAX), Ok(i32::MAX as u32));
        for bad in [0, -1, i32::MIN] {
            assert_eq!(top_k(bad).map_err(|r| r.code), Err(code::INVALID_PARAMETER.to_owned()));
        }
    }
}
