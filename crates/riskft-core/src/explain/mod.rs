//! What each source column adds to a row's score: Shapley values over columns (Shapley 1953;
//! Lundberg & Lee 2017), on the calibrated log odds of the version as it is scored.
//!
//! A coalition of columns is worth the mean log odds of the row with all other columns taken from the
//! rows of a [`Background`] (the interventional value; Janzing, Minorics & Bloebaum 2020). So a
//! contribution is a difference against usual rows, `base` is their mean, and `base` plus all
//! contributions is the log odds of the row.
//!
//! Columns are source columns: a ratio takes its two amounts from whichever row each comes from, and
//! a label that feeds a category, an embedding and ten statistics is one column.
//!
//! Three things make it cheap, and none of them is an approximation:
//! * Terms of texts are added to the log odds, so a text's contribution is its term less the mean of
//!   the background's.
//! * Columns that the tabular branches do not read take no part in coalitions.
//! * Beside one background row, a column that gives the same to every input in both rows takes no
//!   part either (it is a dummy of that game).
//!
//! What is left is exact where few columns are, else sampled (module `shapley`), with the same
//! permutations for every row: an explanation depends on the row and the version alone.

mod background;
mod shapley;
mod words;

use std::sync::Arc;

use crate::cell::Cell;
use crate::dataset::hash::mix;
use crate::encode::mix::{column_of, Mixer, Reading};
use crate::encode::{EncodedRow, TextSource};
use crate::model::{Model, Scorer};
use crate::random::Random;
use crate::refusal::{code, Refusal, Result};

pub use background::{Background, MOST_ROWS};
pub use words::Word;

/// Columns of a version up to which all coalitions are computed.
pub const EXACT: usize = 8;
/// Columns that differ from a background row up to which all coalitions with it are.
const EXACT_BESIDE: usize = 5;
/// Pairs of permutations for each background row. On 200 loans of 18 columns 2 leave a standard error of
/// 0.007 in the mean and 0.042 at the 99% quantile, beside contributions of 0.14 in the mean.
pub const ROUNDS: usize = 2;
/// Mixed rows that are scored at once.
const CHUNK: usize = 64;

/// What one source column adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution {
    /// Index into the encoding's columns.
    pub column: usize,
    /// On the log odds; positive raises the probability of the positive class.
    pub contribution: f64,
    /// Standard error of the sampling; 0 where it is exact.
    pub error: f64,
    /// The row's number less the background's mean; NaN of what is no number, or missing.
    pub above: f64,
}

/// A row's score, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Mean log odds of the background.
    pub base: f64,
    /// Log odds of the row: `base` plus all contributions.
    pub log_odds: f64,
    /// One for each column of the encoding, in its order.
    pub columns: Vec<Contribution>,
}

impl Explanation {
    /// The contributions, largest magnitude first, equal ones by column name.
    pub fn ranked(&self, model: &Model) -> Vec<Contribution> {
        let columns = &model.specification().encoding.columns;
        let mut ranked = self.columns.clone();
        ranked.sort_by(|a, b| {
            let by_size = b.contribution.abs().total_cmp(&a.contribution.abs());
            by_size.then_with(|| columns[a.column].name.cmp(&columns[b.column].name))
        });
        ranked
    }

    /// Sum of the contributions' magnitudes.
    pub fn total(&self) -> f64 {
        self.columns.iter().map(|column| column.contribution.abs()).sum()
    }
}

/// Explains rows of one version.
pub struct Explainer {
    model: Arc<Model>,
    mixer: Mixer,
    /// Columns that the tabular branches read.
    players: Vec<usize>,
    /// Orders of the players: [background rows][rounds].
    orders: Vec<Vec<Vec<usize>>>,
    /// Tabular logits of the background's rows, before calibration.
    empty: Vec<f64>,
    /// Part of every logit that no column has: the n-grams' bias.
    rest: f64,
    /// Mean number of each column in the background.
    means: Vec<f64>,
    row: EncodedRow,
    mixed: Vec<EncodedRow>,
}

/// Rows that are scored to explain one among so many columns, at most: rows of the background times
/// coalitions.
pub fn scored_rows(columns: usize, background: usize) -> usize {
    match columns {
        0..=EXACT => background << columns,
        _ => 2 * ROUNDS * background * columns,
    }
}

impl Explainer {
    /// For rows that `scorer` scores.
    ///
    /// # Errors
    /// 0A000 for a version that reads a row as one text; 55000 for one without a background.
    pub fn new(scorer: &mut Scorer) -> Result<Self> {
        let model = scorer.model_arc();
        let specification = model.specification();
        let encoding = &specification.encoding;
        if encoding.texts.iter().any(|text| text.source == TextSource::Row) {
            return Err(Refusal::new(code::NOT_SUPPORTED, "model cannot be explained by column")
                .detail("It was trained with option text = \"row\": it reads a row as one text.")
                .hint("Train with option text = \"fields\"."));
        }
        let background = &specification.background;
        if background.rows.is_empty() {
            return Err(Refusal::new(
                code::NOT_IN_STATE,
                "model has no background to explain against",
            )
            .detail("Its version holds no background rows.")
            .hint("Train the model again."));
        }
        let mixer = Mixer::new(encoding);
        let players = mixer.tabular();
        let nobody = vec![false; encoding.columns.len()];
        let mut mixed = vec![EncodedRow::default(); background.rows.len()];
        for (row, out) in background.rows.iter().zip(&mut mixed) {
            mixer.mix(encoding, (row, row), &nobody, out);
        }
        let mut empty = Vec::new();
        scorer.tabular_logits(&mixed, &mut empty);
        let (_, rest) = scorer.text_terms(&EncodedRow::default());
        let orders = (0..background.rows.len() as u64).map(|row| {
            let order = |round: u64| {
                let mut order = players.clone();
                Random::new(mix(row ^ round << 32)).shuffle(&mut order);
                order
            };
            (0..ROUNDS as u64).map(order).collect()
        });
        let mean = |column: usize| {
            let values = background.rows.iter().map(|row| row.values[column]);
            let known: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
            known.iter().sum::<f64>() / known.len() as f64
        };
        Ok(Explainer {
            orders: orders.collect(),
            means: (0..encoding.columns.len()).map(mean).collect(),
            mixer,
            players,
            empty,
            rest,
            row: EncodedRow::default(),
            mixed: vec![EncodedRow::default(); CHUNK],
            model: Arc::clone(&model),
        })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Rows that are scored to explain one, at most: background rows times coalitions.
    pub fn most_rows(&self) -> usize {
        scored_rows(self.players.len(), self.empty.len())
    }

    /// Takes the score of a row apart, from the cells of the encoding's columns in their order; cells
    /// that lack count as NULL. `pause` is called between batches of rows, and may unwind.
    pub fn explain(
        &mut self,
        scorer: &mut Scorer,
        cells: &[Cell<'_>],
        pause: &mut dyn FnMut(),
    ) -> Explanation {
        let model = Arc::clone(&self.model);
        let specification = model.specification();
        let (encoding, background) = (&specification.encoding, &specification.background);
        encoding.encode_row(cells, &mut self.row);
        let mut full = Vec::with_capacity(1);
        scorer.tabular_logits(std::slice::from_ref(&self.row), &mut full);
        let full = full.first().copied().unwrap_or(0.0);
        let own = self.mixer.read(encoding, cells);
        let mut sums = vec![(0.0, 0.0); encoding.columns.len()];
        for place in 0..background.rows.len() {
            let beside = &background.rows[place];
            let differ = |c: &&usize| !self.mixer.agree(**c, &own, beside);
            let players: Vec<usize> = self.players.iter().filter(differ).copied().collect();
            let ends = (self.empty[place], full);
            let found = self.game(scorer, (&own, beside), place, &players, ends, pause);
            for (column, (value, square)) in found {
                sums[column].0 += value;
                sums[column].1 += square;
            }
        }
        let rows = background.rows.len() as f64;
        let (terms, rest) = scorer.text_terms(&self.row);
        let mut text = vec![0.0; encoding.columns.len()];
        for ((input, term), mean) in encoding.texts.iter().zip(&terms).zip(&background.texts) {
            if let Some(column) = column_of(input.source) {
                text[column] += term - mean;
            }
        }
        let platt = specification.calibration;
        let contribution = |(column, (sum, square)): (usize, &(f64, f64))| Contribution {
            column,
            contribution: platt.slope * (sum / rows + text[column]),
            error: platt.slope.abs() * square.sqrt() / rows,
            above: own.values[column] - self.means[column],
        };
        let logit = full + terms.iter().sum::<f64>() + rest;
        Explanation {
            base: self.base(),
            log_odds: platt.slope * logit + platt.intercept,
            columns: sums.iter().enumerate().map(contribution).collect(),
        }
    }

    /// Mean log odds of the background.
    pub fn base(&self) -> f64 {
        let specification = self.model.specification();
        let platt = specification.calibration;
        let tabular = self.empty.iter().sum::<f64>() / self.empty.len() as f64;
        let texts: f64 = specification.background.texts.iter().sum();
        platt.slope * (tabular + texts + self.rest) + platt.intercept
    }

    /// Each player's Shapley value beside one background row, and its squared standard error.
    fn game(
        &mut self,
        scorer: &mut Scorer,
        rows: (&Reading, &Reading),
        place: usize,
        players: &[usize],
        ends: (f64, f64),
        pause: &mut dyn FnMut(),
    ) -> Vec<(usize, (f64, f64))> {
        let exact = players.len() <= EXACT_BESIDE
            || (self.players.len() <= EXACT && players.len() <= EXACT);
        let number = |column: &usize| players.binary_search(column).ok();
        let orders: Vec<Vec<usize>> = self.orders[place]
            .iter()
            .map(|order| order.iter().filter_map(number).collect())
            .collect();
        let encoding = &self.model.specification().encoding;
        let (mixer, mixed) = (&self.mixer, &mut self.mixed);
        let mut taken = vec![false; encoding.columns.len()];
        let mut values = |coalitions: &[bool], out: &mut Vec<f64>| {
            pause();
            let mut count = 0;
            for coalition in coalitions.chunks_exact(players.len()) {
                players.iter().zip(coalition).for_each(|(player, is_in)| taken[*player] = *is_in);
                mixer.mix(encoding, rows, &taken, &mut mixed[count]);
                count += 1;
            }
            scorer.tabular_logits(&mixed[..count], out);
        };
        let found = if exact {
            shapley::exact(players.len(), ends, CHUNK, &mut values)
        } else {
            shapley::sampled(&orders, ends, CHUNK, &mut values)
        };
        players.iter().copied().zip(found).collect()
    }
}
