//! The options of a training.

use riskft_core::options::Options;
use riskft_core::refusal::code;
use serde_json::Value;

use super::sound;

/// Options that are taken are within their ranges: taken again as they were resolved.
pub fn options(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else { return };
    match Options::parse(&value) {
        Ok(options) => {
            let resolved = serde_json::to_value(&options).unwrap();
            assert_eq!(Options::parse(&resolved), Ok(options));
        }
        Err(refusal) => sound(&refusal, &[code::INVALID_PARAMETER]),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let all = serde_json::to_vec(&Options::default()).unwrap();
    [
        &all[..],
        br#"{"rank": 8, "gate": {"flips": 1}, "split": {"train": 0.5, "test": 0.25}}"#,
        br#"{"roles": {"state": "category", "note": "ignored"}, "deploy": "never", "text": "row"}"#,
        br#"{"reduce": {"pca": 0.95}, "select": {"shap": 20}}"#,
        br#"{"rnak": 1e308, "seed": 18446744073709551615}"#,
        b"null",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
