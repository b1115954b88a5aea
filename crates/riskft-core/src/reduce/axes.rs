//! The numbers of a fitted reduction where they lie in a file, checked once.
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `means`, `scales` | columns | of each column |
//! | `variances` | components | falling |
//! | `components` | blocks of 16 components, columns, 16 | as projection reads them; filled up with zeros |

use std::fmt;
use std::sync::Arc;

use crate::artifact::{Artifact, Storage, Tensor, TensorSet, View};
use crate::model::damaged;
use crate::refusal::Result;

/// Components side by side in the file.
pub(super) const BLOCK: usize = 16;
/// Between these lie standard deviations of numbers within 1e150, and their inverses.
const SCALES: std::ops::RangeInclusive<f64> = 1e-290..=1e290;
/// What a loading may exceed 1 by: rounding.
const UNIT: f64 = 1.0 + 1e-6;

/// Means, scales and loadings of some columns. They stay in the file's bytes, which clones share.
#[derive(Clone)]
pub struct Axes {
    storage: Storage,
    means: View<f64>,
    scales: View<f64>,
    variances: View<f64>,
    components: View<f64>,
    columns: usize,
    count: usize,
    /// 1 / scale of each column.
    pub(super) inverses: Arc<[f64]>,
}

impl Axes {
    /// Finds the tensors whose names begin with `prefix`, for so many columns.
    ///
    /// # Errors
    /// XX001 for tensors that lack, or lie.
    pub fn open(file: &Artifact, prefix: &str, columns: usize) -> Result<Self> {
        let name = |part: &str| format!("{prefix}{part}");
        let shape = file.shape(&name("variances"));
        let count = shape.and_then(|shape| shape.first()).copied().unwrap_or(0);
        if count == 0 || count > columns {
            return Err(damaged(format!("it has {count} components of {columns} columns")));
        }
        let mut axes = Axes {
            storage: file.storage().clone(),
            means: file.view(&name("means"), &[columns])?,
            scales: file.view(&name("scales"), &[columns])?,
            variances: file.view(&name("variances"), &[count])?,
            components: file.view(&name("components"), &[count.div_ceil(BLOCK), columns, BLOCK])?,
            columns,
            count,
            inverses: Arc::new([]),
        };
        axes.check()?;
        axes.inverses = axes.scales().iter().map(|scale| 1.0 / scale).collect();
        Ok(axes)
    }

    fn check(&self) -> Result<()> {
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
            let held = self.count - row / self.columns * BLOCK;
            let (own, rest) = lanes.split_at(held.min(BLOCK));
            own.iter().all(|v| v.abs() <= UNIT) && rest.iter().all(|v| *v == 0.0)
        };
        match lanes.all(sound) {
            true => Ok(()),
            false => Err(damaged("a loading is out of range".into())),
        }
    }

    /// How many columns are read.
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// How many components there are.
    pub fn count(&self) -> usize {
        self.count
    }
    /// Private memory beside the file, bytes.
    pub fn bytes(&self) -> usize {
        self.inverses.len() * size_of::<f64>()
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

    /// Weight of a standardised column in a component, both from 0; 0 of what it does not have.
    pub fn loading(&self, component: usize, column: usize) -> f64 {
        let at = place(self.columns, component, column);
        self.lanes().get(at).copied().unwrap_or(0.0)
    }

    /// Adds the tensors to those of another file.
    pub fn store(&self, prefix: &str, out: &mut TensorSet) {
        let blocks = self.count.div_ceil(BLOCK);
        for (part, shape, values) in [
            ("means", &[self.columns][..], self.means()),
            ("scales", &[self.columns], self.scales()),
            ("variances", &[self.count], self.variances()),
            ("components", &[blocks, self.columns, BLOCK], self.lanes()),
        ] {
            out.insert(format!("{prefix}{part}"), Tensor::new(shape, values));
        }
    }
}

impl PartialEq for Axes {
    fn eq(&self, other: &Self) -> bool {
        self.means() == other.means()
            && self.scales() == other.scales()
            && self.variances() == other.variances()
            && self.lanes() == other.lanes()
    }
}

impl fmt::Debug for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Axes({} components of {} columns)", self.count, self.columns)
    }
}

/// Where a loading lies in the tensor `components`.
pub(super) fn place(columns: usize, component: usize, column: usize) -> usize {
    (component / BLOCK * columns + column) * BLOCK + component % BLOCK
}
