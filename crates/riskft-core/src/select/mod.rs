//! Which columns carry the risk: what a quick model's inputs add to its logits, summed over the source
//! columns that the inputs are made of, and ranked. Columns that say the same are ranked as one.
//!
//! * `wanted.rs` the arguments: how many columns, and the options
//! * `twins.rs`  columns that say the same
//! * `sums.rs`   contributions of inputs -> mean magnitudes of source columns
//! * `rank.rs`   the list of columns

mod rank;
mod sums;
mod twins;
mod wanted;

pub use rank::{rank, top, Ranked};
pub use sums::{owners, Sums};
pub use twins::{leaders, rows_of, Said};
pub use wanted::{options, top_k};
