//! The reducer's file: the tensors of [`Axes`] and a small specification (see [`crate::artifact`]).

use serde::{Deserialize, Serialize};

use super::axes::{place, BLOCK};
use super::{Axes, Fit, MOST_COLUMNS};
use crate::artifact::{write, Artifact, ArtifactError, Storage, Tensor, TensorSet};
use crate::model::damaged;
use crate::protocol::BlobKind;
use crate::refusal::{code, Refusal, Result};

/// Form of the file, and the arithmetic that projection uses.
const FORMAT: u32 = 1;
const NUMERICS: u32 = 1;
/// Longest column name, bytes: PostgreSQL's NAMEDATALEN, with room for servers built with a larger one.
const MOST_NAME: usize = 1024;

/// All of a reducer but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Specification {
    format: u32,
    numerics: u32,
    /// Ascending by bytes.
    columns: Vec<String>,
    /// Rows that it was fitted on.
    rows: u64,
}

/// The parts of a specification that tell whether the rest can be read.
#[derive(Deserialize)]
struct Formats {
    format: u32,
    numerics: u32,
}

impl Fit {
    /// The bytes of the reducer's file; the same fit gives the same bytes.
    ///
    /// # Errors
    /// 08P01 where the specification cannot be written.
    pub fn write(&self) -> Result<Vec<u8>> {
        let specification = Specification {
            format: FORMAT,
            numerics: NUMERICS,
            columns: self.columns.clone(),
            rows: self.rows,
        };
        let json = serde_json::to_string(&specification).map_err(|e| {
            Refusal::new(code::PROTOCOL_VIOLATION, "reducer cannot be written")
                .detail(format!("Its specification has {e}."))
        })?;
        let columns = self.columns.len();
        let blocks = self.components.len().div_ceil(BLOCK);
        let mut lanes = vec![0.0; blocks * columns * BLOCK];
        for (number, component) in self.components.iter().enumerate() {
            for (column, loading) in component.iter().enumerate() {
                lanes[place(columns, number, column)] = *loading;
            }
        }
        let tensors = TensorSet::from([
            ("means".to_owned(), Tensor::new(&[columns], &self.means)),
            ("scales".to_owned(), Tensor::new(&[columns], &self.scales)),
            ("variances".to_owned(), Tensor::new(&[self.variances.len()], &self.variances)),
            ("components".to_owned(), Tensor::new(&[blocks, columns, BLOCK], &lanes)),
        ]);
        Ok(write(BlobKind::Reducer, &json, &tensors))
    }
}

/// A component, as the view riskft.components shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Sample variance of the rows' projections.
    pub variance: f64,
    /// Of the variance of all standardised columns, and the sum of these up to this component.
    pub ratio: f64,
    pub cumulative: f64,
}

/// An opened reducer whose every tensor was checked once. The tensors stay in the file's bytes.
#[derive(Debug)]
pub struct Reducer {
    specification: Specification,
    axes: Axes,
    bytes: usize,
}

impl Reducer {
    /// Opens a reducer's file.
    ///
    /// # Errors
    /// XX001 for a damaged or lying file, 0A000 for one of a later riskft. Digests are the caller's
    /// affair.
    pub fn open(storage: Storage) -> Result<Self> {
        let file = Artifact::open(storage.clone())?;
        if file.kind() != BlobKind::Reducer {
            return Err(ArtifactError::Metadata("kind").into());
        }
        let specification = read_specification(file.specification())?;
        check_names(&specification)?;
        let axes = Axes::open(&file, "", specification.columns.len())?;
        let bytes = (*storage).as_ref().len() + file.specification().len() + axes.bytes();
        Ok(Reducer { specification, axes, bytes })
    }

    /// Names of the columns that it reads, ascending by bytes.
    pub fn columns(&self) -> &[String] {
        &self.specification.columns
    }
    /// Rows that it was fitted on.
    pub fn rows(&self) -> u64 {
        self.specification.rows
    }
    /// How many components it has.
    pub fn count(&self) -> usize {
        self.axes.count()
    }
    /// Bytes of the file, and of what is in memory beside it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Means, scales and loadings, in the order of the columns.
    pub fn axes(&self) -> &Axes {
        &self.axes
    }

    /// The components by falling variance.
    pub fn components(&self) -> Vec<Component> {
        let rows = self.rows() as f64;
        let total = self.columns().len() as f64 * rows / (rows - 1.0);
        let mut sum = 0.0;
        let component = |variance: &f64| {
            sum += variance;
            Component { variance: *variance, ratio: variance / total, cumulative: sum / total }
        };
        self.axes.variances().iter().map(component).collect()
    }
}

fn read_specification(json: &str) -> Result<Specification> {
    let broken =
        |error: serde_json::Error| damaged(format!("its specification is broken: {error}"));
    let formats: Formats = serde_json::from_str(json).map_err(broken)?;
    if formats.format != FORMAT || formats.numerics != NUMERICS {
        return Err(Refusal::new(code::NOT_SUPPORTED, "reducer is of another version of riskft")
            .detail(format!(
                "Its format is {} and its numerics {}; this version reads {FORMAT} and {NUMERICS}.",
                formats.format, formats.numerics
            ))
            .hint("Update the extension, or reduce the relation again."));
    }
    serde_json::from_str(json).map_err(broken)
}

fn check_names(specification: &Specification) -> Result<()> {
    let columns = &specification.columns;
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return Err(damaged(format!("it has {} columns", columns.len())));
    }
    let is_name =
        |name: &String| !name.is_empty() && name.len() <= MOST_NAME && !name.contains('\0');
    if !columns.is_sorted_by(|a, b| a < b) || !columns.iter().all(is_name) {
        return Err(damaged("its column names are not in order".into()));
    }
    match specification.rows {
        2.. => Ok(()),
        rows => Err(damaged(format!("it was fitted on {rows} rows"))),
    }
}
