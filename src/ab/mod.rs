//! A/B tests: two versions of a model score its rows, each those of its arm.
//!
//! | module | what it does |
//! |---|---|
//! | `test` | a test as it is stored |
//! | `control` | riskft_ab_start, riskft_ab_stop; a deployment ends a test |
//! | `key` | a value of a type -> the text that decides the arm |
//! | `arm` | riskft_ab_arm, risk_score_both |
//! | `evaluate` | riskft_ab_evaluate |
//!
//! Which version scores a row is asked in [`crate::meaning`].

mod arm;
mod control;
mod evaluate;
pub mod key;
pub mod test;

pub use control::end;
