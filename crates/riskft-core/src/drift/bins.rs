//! The bins of a column and their counts, as a version keeps them.

use serde::{Deserialize, Serialize};

/// Bins of a number: its deciles.
pub const MOST_EDGES: usize = 9;
/// Values that a column's reference tells by name, the most frequent ones.
pub const MOST_VALUES: usize = 20;
/// Longest value that is told by name, bytes.
pub const MOST_LABEL_BYTES: usize = 200;
/// Fewest rows of a value that is told by name: fewer could be one person's.
pub const LEAST_NAMED: u64 = 10;

/// What a line is about, and so how its values fall into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Numbers, dates as days, flags as 0 and 1.
    Number,
    /// Categories, and texts of few values.
    Label,
    /// Other texts: how many words they have.
    Length,
    /// The calibrated score.
    Score,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Number, Kind::Label, Kind::Length, Kind::Score];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Label => "label",
            Kind::Length => "length",
            Kind::Score => "score",
        }
    }

    /// Undoes [`Kind::name`].
    pub fn of(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a column was distributed when a version was fitted: a row of riskft.reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// `score` of the score.
    pub column_name: String,
    pub kind: Kind,
    pub bins: Bins,
}

/// Bins in a fixed order, and the rows in each. Numbers have a bin up to each edge and one beyond
/// the last, labels one for each value and one for all others; the last bin is of missing cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bins {
    /// Rising; a bin has its upper edge. None of labels.
    #[serde(default)]
    pub edges: Vec<f64>,
    /// The most frequent first. None of numbers.
    #[serde(default)]
    pub values: Vec<String>,
    pub counts: Vec<u64>,
}

impl Reference {
    /// Whether it is what fitting writes; what is wrong, as a clause.
    pub fn check(&self) -> Result<(), String> {
        self.bins.check(self.kind).map_err(|what| {
            format!("the reference of \"{}\" ({}) {what}", self.column_name, self.kind.name())
        })
    }
}

impl Bins {
    /// Bins without rows.
    pub(super) fn new(edges: Vec<f64>, values: Vec<String>) -> Self {
        let counts = vec![0; edges.len() + values.len() + 2];
        Bins { edges, values, counts }
    }

    /// Place of the missing cells' bin, the last.
    pub fn missing(&self) -> usize {
        self.edges.len() + self.values.len() + 1
    }

    /// Place of the bin of labels without a name; of numbers, of those beyond the last edge.
    pub(super) fn rest(&self) -> usize {
        self.edges.len() + self.values.len()
    }

    /// Place of a number's bin; NaN is missing.
    pub fn of_number(&self, number: f64) -> usize {
        match number.is_nan() {
            true => self.missing(),
            false => self.edges.iter().filter(|edge| number > **edge).count(),
        }
    }

    /// Rows in all bins.
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn check(&self, kind: Kind) -> Result<(), String> {
        let Bins { edges, values, counts } = self;
        let (most_edges, most_values) = match kind {
            Kind::Label => (0, MOST_VALUES),
            Kind::Number | Kind::Length | Kind::Score => (MOST_EDGES, 0),
        };
        if edges.len() > most_edges || values.len() > most_values {
            return Err("has too many bins".into());
        }
        let rising = edges.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || !edges.iter().all(|edge| edge.is_finite()) {
            return Err("has edges that do not rise".into());
        }
        let long = |value: &String| value.is_empty() || value.len() > MOST_LABEL_BYTES;
        let twice = (1..values.len()).any(|place| values[..place].contains(&values[place]));
        if twice || values.iter().any(long) {
            return Err("names a value twice, or one that is empty or too long".into());
        }
        if counts.len() != edges.len() + values.len() + 2 {
            return Err("has other bins than counts".into());
        }
        let total = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        match total.is_some_and(|total| i64::try_from(total).is_ok()) {
            true => Ok(()),
            false => Err("counts more rows than there can be".into()),
        }
    }
}
