//! Principal components of a relation's number columns (Pearson 1901; Hotelling 1933), on the
//! correlation matrix.
//!
//! Each column is standardised: its mean is taken away and the rest divided by its standard
//! deviation, over all rows and with missing cells at the mean (scikit-learn's SimpleImputer and
//! StandardScaler). The components are the unit eigenvectors of the correlation matrix, by falling
//! eigenvalue; their signs, and the basis within equal eigenvalues, follow from the data alone, not
//! from the order of rows or columns ([`orient`]).
//!
//! * `columns.rs` [`plan`]: which columns are numbers
//! * `wanted.rs` [`Wanted`], [`Options`]: what the caller asks for
//! * `fit.rs`     [`varying`], [`fit`]: moments and eigenvectors -> [`Fit`]
//! * `orient.rs`  [`orient`]: one basis out of many
//! * `axes.rs`    [`Axes`]: means, scales and loadings in a file, a reducer's or a version's
//! * `file.rs`    [`Fit::write`], [`Reducer`]: the model file
//! * `project.rs` [`Axes::project`], [`Projector`]: a row -> its components

mod axes;
mod columns;
mod file;
mod fit;
mod orient;
mod project;
mod wanted;

pub use axes::Axes;
pub use columns::{is_number, no_number, plan, Plan};
pub use file::{Component, Reducer};
pub use fit::{fit, needed, varying, Column, Eigen, Fit};
pub use orient::orient;
pub use project::Projector;
pub use wanted::{Options, Wanted};

/// Most columns of a reducer: as many as a query of PostgreSQL returns.
pub const MOST_COLUMNS: usize = 1664;
