//! Number columns that are condensed into principal components: inputs that depend on all of them.

use serde::{Deserialize, Serialize};

use super::{EncodedColumn, Encoding, NumberSource};
use crate::artifact::{Artifact, TensorSet};
use crate::gemm::Kernel;
use crate::model::damaged;
use crate::reduce::{Axes, Reducer};
use crate::refusal::Result;

/// Prefix of the tensors in a version's file.
const PREFIX: &str = "components.";

/// The columns that are condensed, and by what. In the version's file the specification has the
/// columns, tensors the rest, as in the file of a reducer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Components {
    /// Indexes into [`Encoding::columns`], ascending by the columns' names.
    pub columns: Vec<usize>,
    /// How many components there are.
    pub count: usize,
    /// None before [`Components::open`]; all components are missing then.
    #[serde(skip)]
    axes: Option<Axes>,
}

impl Components {
    /// Those of a reducer, whose columns are among these; None where one is not.
    pub fn of(reducer: &Reducer, columns: &[EncodedColumn]) -> Option<Self> {
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        Some(Components {
            columns: reducer.columns().iter().map(place).collect::<Option<_>>()?,
            count: reducer.count(),
            axes: Some(reducer.axes().clone()),
        })
    }

    /// Finds the tensors in a version's file.
    pub(crate) fn open(&mut self, file: &Artifact) -> Result<()> {
        let axes = Axes::open(file, PREFIX, self.columns.len())?;
        if axes.count() != self.count {
            return Err(damaged(format!("it has {} components, not {}", axes.count(), self.count)));
        }
        self.axes = Some(axes);
        Ok(())
    }

    /// Adds the tensors to those of a version; false where there are none.
    pub(crate) fn store(&self, out: &mut TensorSet) -> bool {
        if let Some(axes) = &self.axes {
            axes.store(PREFIX, out);
        }
        self.axes.is_some()
    }

    /// Private memory beside the version's file, bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.axes.as_ref().map_or(0, Axes::bytes)
    }

    /// The components of a row, from the numbers of its condensed columns in their order (NaN =
    /// missing).
    pub(super) fn fill(&self, values: impl Iterator<Item = f64>, out: &mut Vec<f64>) {
        let mut values: Vec<f64> = values.collect();
        match &self.axes {
            Some(axes) => axes.project(Kernel::detect(), &mut values, out),
            None => {
                out.clear();
                out.resize(self.count, f64::NAN);
            }
        }
    }
}

impl Encoding {
    /// The components of a row by the numbers of its columns; none where no column is condensed.
    pub(super) fn components_of(&self, value: impl Fn(usize) -> f64, out: &mut Vec<f64>) {
        match &self.components {
            Some(components) => {
                components.fill(components.columns.iter().map(|column| value(*column)), out);
            }
            None => out.clear(),
        }
    }

    /// Whether a column is condensed into components.
    pub(super) fn is_condensed(&self, column: usize) -> bool {
        self.components.as_ref().is_some_and(|components| components.columns.contains(&column))
    }

    /// Whether an input reads a component.
    pub(super) fn reads_components(&self) -> bool {
        self.numbers.iter().any(|number| matches!(number.source, NumberSource::Component(_)))
    }
}
