//! Logistic regression on the n-grams of texts: [`matrix`] counts them, [`logistic`] fits one set of
//! weights, [`cross_fit`] chooses the penalty and [`choose`] the columns, both on rows that a fit has
//! not seen.
//!
//! Core's `grams` tells how a text becomes buckets. Which buckets are known, and their inverse
//! document frequencies, are decided once, on all training rows: labels have no part in it. So all folds
//! give their weights to the same buckets, from whose mean the fit on all rows begins, and one table is
//! stored.

mod branch;
mod cross;
mod logistic;
mod matrix;

pub use branch::{branch, seconds, Branch};
pub use cross::{choice_seconds, choose, cross_fit, CrossFit, GRID};
pub use logistic::{fit, Linear, Sample, TOLERANCE};
pub use matrix::{extended, view_for, Matrix, Texts};
