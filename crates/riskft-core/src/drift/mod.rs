//! How the rows of today differ from those that a version was fitted on: each source column and the
//! score in fixed bins, and the population stability index between two counts of them.
//!
//! * `bins.rs`   the bins of a column and their counts, checked as they are read
//! * `fit.rs`    the reference of a version: bins and counts of its rows
//! * `index.rs`  the index, and what of it chance alone makes
//! * `count.rs`  counts of other rows, and what they tell beside the reference
//! * `sample.rs` rows that are kept to be scored
//! * `rule`      rules over a point of drift
//! * `period.rs` rows by stretches of a time column

mod bins;
mod count;
mod fit;
mod index;
pub mod period;
pub mod rule;
mod sample;

pub use bins::{Bins, Kind, Reference, LEAST_NAMED, MOST_EDGES, MOST_LABEL_BYTES, MOST_VALUES};
pub use count::{Counter, Line};
pub use fit::{columns, score};
pub use index::{by_chance, psi, LARGE, MODERATE};
pub use sample::{Sample, Sampled, MOST_BYTES, MOST_ROWS};
