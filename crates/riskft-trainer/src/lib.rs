//! Training in a process of its own: the only crate with libtorch.
//!
//! A run: [`job`] -> [`rows`] and [`texts`] -> [`frozen`] vectors -> [`fit`] the head -> [`tune`]
//! the encoder ([`lora`], [`adapter`] or [`full`]) -> [`finish`]: int8, calibration, figures, gate.
//! Other kinds of jobs: [`reduce`], principal components, [`select`], which columns carry the
//! risk, and [`update`], a version that goes on from another;
//! [`work`] tells them apart.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod adam;
pub mod adapter;
pub mod backtest;
pub mod balance;
pub mod base;
pub mod baseline;
pub mod begin;
pub mod bert;
pub mod blend;
pub mod branches;
pub mod calibrated;
pub mod curvature;
pub mod device;
pub mod estimate;
pub mod evaluate;
pub mod events;
pub mod explain;
pub mod failure;
pub mod fields;
pub mod figures;
pub mod files;
pub mod finish;
pub mod fit;
pub mod fold;
pub mod folds;
pub mod forest;
pub mod frozen;
pub mod full;
pub mod gate;
pub mod grams;
pub mod head;
pub mod incumbent;
pub mod inputs;
pub mod job;
pub mod landmarks;
pub mod ledger;
pub mod lifeline;
pub mod lightgbm;
pub mod lora;
pub mod reduce;
pub mod replay;
pub mod ridge;
pub mod rows;
pub mod run;
pub mod scoring;
pub mod search;
pub mod second;
pub mod select;
pub mod self_train;
pub mod smote;
pub mod soup;
pub mod stage;
pub mod stop;
pub mod tensors;
pub mod terms;
pub mod text;
pub mod text_inputs;
pub mod texts;
pub mod tune;
pub mod tuning;
pub mod update;
pub mod words;
pub mod work;

pub use riskft_core::random;

/// Exit status after a refusal.
pub const EXIT_REFUSED: i32 = 1;
/// Exit status of a wrong command line.
pub const EXIT_USAGE: i32 = 2;
/// Exit status when nobody listens any more.
pub const EXIT_GONE: i32 = 3;
