//! Cells -> positions, codes and texts, as decided at training and stored in the version.
//!
//! Fitting looks at training rows only (`fit.rs`, with `tree.rs` and `edges.rs`); applying (`apply.rs`) is one function for
//! training and scoring, [`Encoding::encode_row`], so that both see the same numbers to the bit.
//! All arithmetic up to a position is float8.

mod apply;
mod columns;
mod components;
pub(crate) mod edges;
mod extend;
mod fit;
mod groups;
pub mod mix;
pub mod statistic;
pub mod tables;
pub mod tree;
pub mod value;

pub use components::Components;
pub use extend::extend;
pub use fit::fit;
pub use statistic::{KeyPart, StatisticInput};
pub use tables::Tables;

use serde::{Deserialize, Serialize};

use crate::cell::ColumnType;
use crate::dataset::parse::Decimal;
use crate::options::Role;

/// How a version reads a row. Stored as JSON in the version's artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// The source columns that scoring needs, in the relation's order at training.
    pub columns: Vec<EncodedColumn>,
    pub numbers: Vec<NumberInput>,
    /// Number columns that are condensed: [`NumberSource::Component`] alone reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<Components>,
    pub categories: Vec<CategoryInput>,
    /// What the trees read beside numbers and categories.
    pub statistics: Vec<StatisticInput>,
    pub texts: Vec<TextInput>,
    /// Day of the training, days since 1970-01-01: reads two-digit years.
    pub reference_date: i32,
}

/// A source column of the model, and how its cells are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncodedColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    pub role: Role,
    /// For a text column that holds numbers or dates: how they are written.
    #[serde(default)]
    pub format: TextFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    #[default]
    Plain,
    /// Money, percent and counted units: '$60,000.00', '($1,250.00)', ' 13.5%', ' 36 months', '10+ years'.
    Number,
    /// The same with a decimal comma: '60.000,00 €', '12,5'.
    NumberComma,
    /// Day, month, year in the order that the training values decided.
    DateIso,
    DateMonthFirst,
    DateDayFirst,
}

impl TextFormat {
    /// How numbers are read that are written in a column of this format.
    pub fn decimal(self) -> Decimal {
        match self {
            TextFormat::NumberComma => Decimal::Comma,
            _ => Decimal::Point,
        }
    }
}

/// A number of the network: a piecewise-linear encoding (Gorishniy et al. 2022) whose edges are
/// the thresholds of a one-column decision tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberInput {
    /// For messages: `amount`, `amount / income`, `approved_on (month)`.
    pub name: String,
    pub source: NumberSource,
    /// Strictly increasing, 2..=MAX_EDGES values.
    pub edges: Vec<f64>,
}

/// Most edges of one number: 24 leaves have 23 thresholds, plus minimum and maximum.
pub const MAX_EDGES: usize = 25;
/// Bins of the widest number; the network's tables have this many slots.
pub const MAX_BINS: usize = MAX_EDGES - 1;
/// Most tokens of one text.
pub const MOST_TOKENS: usize = 4096;

/// Column indexes point into [`Encoding::columns`]; see [`NumberSource::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberSource {
    /// Number; flag as 0 and 1; date and timestamp as days (with fraction) since 1970-01-01.
    Value(usize),
    /// First over second; missing unless the second is at least 1.
    Ratio(usize, usize),
    Year(usize),
    /// 1..=12
    Month(usize),
    /// 1 = Monday .. 7
    Weekday(usize),
    /// Of [`Encoding::components`], from 0.
    Component(usize),
}

/// A category of the network. Code 0 = rare or unseen, 1 = missing or empty, 2.. = `values`, then
/// `added`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryInput {
    pub name: String,
    pub source: CategorySource,
    /// Sorted by bytes; `values[i]` has code i + 2.
    pub values: Vec<String>,
    /// What updates have added, in the order of its codes: those of `values` stay as they are. The
    /// network alone tells them apart; to the trees, which do not know them, they are rare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
}

/// Most values that updates add to one category.
pub const MOST_ADDED: usize = 256;

impl Encoding {
    /// Features of the trees: numbers, categories, and two for each statistic.
    pub fn features(&self) -> usize {
        self.numbers.len() + self.categories.len() + 2 * self.statistics.len()
    }
}

impl CategoryInput {
    /// Codes 0..codes()
    pub fn codes(&self) -> usize {
        self.values.len() + 2 + self.added.len()
    }
    /// Width of the embedding: min(6, max(2, n/2)), n being the codes of the first training.
    pub fn dimension(&self) -> usize {
        ((self.values.len() + 2) / 2).clamp(2, 6)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CategorySource {
    /// The whole label (blanks at both ends cut).
    Value(usize),
    /// The first `.1` characters of a code of digits.
    Prefix(usize, usize),
    /// "true" if two columns hold the same label, "false" if not, missing if either is.
    Equal(usize, usize),
}

/// A text of the encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextInput {
    pub name: String,
    pub source: TextSource,
    /// Most tokens that are read, special ones included: 3..=[`MOST_TOKENS`]. More than a window of
    /// the encoder are read in several ([`crate::tokenize::windows`]).
    pub max_tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextSource {
    Column(usize),
    /// The whole row, serialised `name is value; ...` in the order of [`Encoding::columns`].
    Row,
}

/// A row as the branches of a version read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncodedRow {
    /// The first features of the trees: each number's value, then each category's code; NaN =
    /// missing. [`Tables::fill`] adds the rest.
    pub features: Vec<f64>,
    /// Hashes of the statistics' keys.
    pub keys: Vec<u64>,
    /// Those of [`Encoding::components`], which numbers are made of.
    pub components: Vec<f64>,
    /// For each number: its position on the edges, 0..=bins (bin + fraction); NaN = missing.
    pub positions: Vec<f32>,
    pub codes: Vec<u32>,
    /// For each text: the value with blanks at both ends cut; empty = missing.
    pub texts: Vec<String>,
}
