//! The arithmetic of riskft. No PostgreSQL, no libtorch, no threads, no clock.
//!
//! The flow is relation -> dataset -> encode -> train -> quantize -> publish -> score; this crate
//! holds every step that computes, under the step's own name:
//!
//! | module | step |
//! |---|---|
//! | [`cell`] | one value of a source column, as the server hands it over |
//! | [`options`] | the named options of a training, parsed and bounded |
//! | [`protocol`] | the job and the answer, between the server and the trainer |
//! | [`dataset`] | rows in columns, roles, target, split, leak check |
//! | [`encode`] | cells -> positions, codes and texts, as decided at training |
//! | [`tokenize`] | text -> WordPiece ids over a memory-mapped vocabulary |
//! | [`gemm`] | exact int8 matrix products |
//! | [`encoder`] | the int8 text encoder |
//! | [`network`] | the float network as trained, the int8 network as scored |
//! | [`quantize`] | float -> int8, per output channel |
//! | [`grams`] | texts as counted n-grams, scored by a linear term |
//! | [`trees`] | boosted trees, read from LightGBM's text and scored from flat arrays |
//! | [`reduce`] | principal components: which columns, the fitted reducer, its file, projection |
//! | [`select`] | which columns carry the risk: twins, sums over source columns, ranking |
//! | [`scorecard`] | weights of evidence, for the baseline beside each version |
//! | [`ab`] | the arm of a key in an A/B test |
//! | [`points`] | log odds on the scale of a scorecard |
//! | [`artifact`] | the model file: safetensors with a JSON specification |
//! | [`bundle`] | a version as one string of bytes, on its way to another database |
//! | [`model`] | a loaded version: cells -> probability |
//! | [`curve`] | scores of test rows beside their outcomes, in few bins |
//! | [`report`] | the model file: figures -> pictures and a page |
//! | [`drift`] | how today's rows differ from those that a version was fitted on |
//! | [`explain`] | what each source column adds to a score, and the background it is told against |
//! | [`blend`] | weights of branches, from their out-of-fold logits |
//! | [`update`] | what is asked of an update, and whether it is better |
//! | [`random`] | orders and draws from a seed
//! | [`metrics`], [`calibrate`] | figures of a model, and Platt's calibration |
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod ab;
pub mod artifact;
pub mod blend;
pub mod bundle;
pub mod calibrate;
pub mod cell;
pub mod curve;
pub mod dataset;
pub mod drift;
pub mod encode;
pub mod encoder;
pub mod explain;
pub mod gemm;
pub mod grams;
pub mod math;
pub mod metrics;
pub mod model;
pub mod network;
pub mod options;
pub mod points;
pub mod protocol;
pub mod quantize;
pub mod random;
pub mod reduce;
pub mod refusal;
pub mod report;
pub mod scorecard;
pub mod select;
pub mod tokenize;
pub mod trees;
pub mod update;
