//! The reducer's file: tensors of float8 and a small specification (see [`crate::artifact`]).
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `means`, `scales` | columns | of each column |
//! | `variances` | components | falling |
//! | `components` | blocks of 16 components, columns, 16 | as projection reads them; filled up with zeros |

use serde::{Deserialize, Serialize};

use super::{Fit, MOST_COLUMNS};
use crate::artifact::{write, Artifact, ArtifactError, Storage, Tensor, TensorSet, View};
use crate::model::damaged;
use crate::protocol::BlobKind;
use crate::refusal::{code, Refusal, Result};

/// Form of the file, and the arithmetic that projection uses.
const FORMAT: u32 = 1;
const NUMERICS: u32 = 1;
/// Components side by side in the file.
pub(super) const BLOCK: usize = 16;
/// Longest column name, bytes: PostgreSQL's NAMEDATALEN, with room for servers built with a larger one.
const MOST_NAME: usize = 1024;
/// Between these lie standard deviations of numbers within 1e150, and their inverses.
const SCALES: std::ops::RangeInclusive<f64> = 1e-290..=1e290;
/// What a loading may exceed 1 by: rounding.
const UNIT: f64 = 1.0 + 1e-6;

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

/// Where a loading lies in the tensor `components`.
fn place(columns: usize, component: usize, column: usize) -> usize {
    (component / BLOCK * columns + column) * BLOCK + component % BLOCK
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
pub struct Reducer {
    specification: Specification,
    storage: Storage,
    means: View<f64>,
    scales: View<f64>,
    variances: View<f64>,
    components: View<f64>,
    count: usize,
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
        let columns = specification.columns.len();
        let count = file.shape("variances").and_then(|shape| shape.first()).copied().unwrap_or(0);
        if count == 0 || count > columns {
            return Err(damaged(format!("it has {count} components of {columns} columns")));
        }
        let blocks = count.div_ceil(BLOCK);
        let reducer = Reducer {
            means: file.view("means", &[columns])?,
            scales: file.view("scales", &[columns])?,
            variances: file.view("variances", &[count])?,
            components: file.view("components", &[blocks, columns, BLOCK])?,
            bytes: (*storage).as_ref().len() + file.specification().len(),
            count,
            specification,
            storage,
        };
        reducer.check_numbers()?;
        Ok(reducer)
    }

    fn check_numbers(&self) -> Result<()> {
        if !self.means().iter().all(|mean| mean.is_finite()) {
            return Err(damaged("a mean is not finite".into()));
        }
        if !self.scales().iter().all(|scale| SCALES.contains(scale)) {
            return Err(damaged("a standard deviation is out of range".into()));
        }
        let variances = self.variances();
        let falls = variances.is_sorted_by(|a, b| a >= b);
        if !falls || !variances.iter().all(|v| v.is_finite() && *v >= 0.0) {
            return Err(damaged("its variances do not fall".into()));
        }
        let mut lanes = self.lanes().as_chunks::<BLOCK>().0.iter().enumerate();
        let sound = |(row, lanes): (usize, &[f64; BLOCK])| {
            let held = self.count - row / self.columns().len() * BLOCK;
            let (own, rest) = lanes.split_at(held.min(BLOCK));
            own.iter().all(|v| v.abs() <= UNIT) && rest.iter().all(|v| *v == 0.0)
        };
        match lanes.all(sound) {
            true => Ok(()),
            false => Err(damaged("a loading is out of range".into())),
        }
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
        self.count
    }
    /// Bytes of the file and of the specification in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn means(&self) -> &[f64] {
        self.means.of((*self.storage).as_ref())
    }
    pub fn scales(&self) -> &[f64] {
        self.scales.of((*self.storage).as_ref())
    }
    pub fn variances(&self) -> &[f64] {
        self.variances.of((*self.storage).as_ref())
    }
    /// `[blocks][columns][16]`
    pub(super) fn lanes(&self) -> &[f64] {
        self.components.of((*self.storage).as_ref())
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
        self.variances().iter().map(component).collect()
    }

    /// Weight of a standardised column in a component, both from 0; 0 of what it does not have.
    pub fn loading(&self, component: usize, column: usize) -> f64 {
        let at = place(self.columns().len(), component, column);
        self.lanes().get(at).copied().unwrap_or(0.0)
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
