//! Logistic regression with an L2 penalty on sparse rows, by L-BFGS (Liu and Nocedal 1989).
//!
//! The solver is argmin's, with the line search of Moré and Thuente (1994). linfa-logistic calls the
//! same one, but on dense rows: a thousand narratives over 50,000 buckets would be 400 MB.

use std::cell::RefCell;

use argmin::core::{CostFunction, Error, Executor, Gradient, State as _};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use riskft_core::math::logistic;

use super::Matrix;

/// Steps that the solver remembers.
const MEMORY: usize = 10;
/// A tolerance of [`fit`] that tells rows apart as well as a tenth of it does, to 0.0001 of AUC on
/// complaints and loans, in half the time.
pub const TOLERANCE: f64 = 1e-4;
const MOST_STEPS: u64 = 300;

/// What is fitted on: some rows of a matrix.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub matrix: &'a Matrix,
    /// Rows of the matrix.
    pub rows: &'a [u32],
    /// Labels of all rows of the matrix.
    pub labels: &'a [bool],
    /// Weights of all rows of the matrix, finite and not negative.
    pub weights: &'a [f64],
    /// The columns that are read, by place among the matrix's.
    pub columns: &'a [usize],
    /// By row of the matrix: logits that the model's are added to; None = zeros.
    pub offsets: Option<&'a [f64]>,
    /// By slot: how much a weight is held at zero besides its penalty, as the curvature of a sum of
    /// log-losses; None = not at all.
    pub held: Option<&'a [f64]>,
}

impl<'a> Sample<'a> {
    /// A model on its own: no offsets, and nothing but its penalty holds it.
    pub fn new(
        matrix: &'a Matrix,
        rows: &'a [u32],
        labels: &'a [bool],
        weights: &'a [f64],
        columns: &'a [usize],
    ) -> Self {
        Sample { matrix, rows, labels, weights, columns, offsets: None, held: None }
    }

    /// What the model's logit of a row is added to.
    pub fn offset(&self, row: u32) -> f64 {
        self.offsets.map_or(0.0, |offsets| offsets[row as usize])
    }

    /// The penalty of a slot's weight, `1 / c` included.
    fn penalty(&self, slot: usize, c: f64) -> f64 {
        1.0 / c + self.held.map_or(0.0, |held| held[slot])
    }
}

/// A linear model over the known buckets of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// By slot.
    pub weights: Vec<f64>,
    pub bias: f64,
}

impl Linear {
    /// The logit of a row by some columns, by place.
    pub fn score(&self, matrix: &Matrix, columns: &[usize], row: u32) -> f64 {
        dot(matrix, columns, row, &self.weights) + self.bias
    }

    /// The model whose logits are the means of the models' logits. None of no models.
    pub fn mean(models: &[Linear]) -> Option<Linear> {
        let (first, rest) = models.split_first()?;
        let mut mean = first.clone();
        for model in rest {
            mean.weights.iter_mut().zip(&model.weights).for_each(|(sum, w)| *sum += w);
            mean.bias += model.bias;
        }
        let count = models.len() as f64;
        mean.weights.iter_mut().for_each(|weight| *weight /= count);
        mean.bias /= count;
        Some(mean)
    }
}

/// Minimises `sum of weight * log-loss + |weights|^2 / (2 c)`, scikit-learn's C, and half of what holds
/// each weight times its square; the bias has no penalty. The search begins at `start`, of the same matrix, or at the base rate, and ends where the
/// gradient of the weighted mean loss has a norm of at most `tolerance`, or after [`MOST_STEPS`].
///
/// A sample of one class, or of no weight, gives its base rate, half a row of each class added; on top of
/// offsets nothing.
///
/// # Errors
/// Whatever argmin refuses, in its words; it does not on finite weights and `c > 0`.
pub fn fit(
    sample: Sample<'_>,
    c: f64,
    tolerance: f64,
    start: Option<&Linear>,
) -> Result<Linear, String> {
    let total: f64 = sample.rows.iter().map(|row| sample.weights[*row as usize]).sum();
    let bad = sample.rows.iter().filter(|row| sample.labels[**row as usize]);
    let bad: f64 = bad.map(|row| sample.weights[*row as usize]).sum();
    let base = match sample.offsets {
        Some(_) => 0.0,
        None => ((bad + 0.5) / (total - bad + 0.5)).ln(),
    };
    let buckets = sample.matrix.buckets();
    if buckets == 0 || bad <= 0.0 || bad >= total {
        return Ok(Linear { weights: vec![0.0; buckets], bias: base });
    }
    let mut first = start.map_or_else(|| vec![0.0; buckets], |start| start.weights.clone());
    first.push(start.map_or(base, |start| start.bias));
    let penalties = (0..buckets).map(|slot| sample.penalty(slot, c) / total).collect();
    let loss = Loss { sample, penalties, total, margins: RefCell::default() };
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
        .with_tolerance_grad(tolerance)
        .map_err(|error| error.to_string())?;
    let outcome = Executor::new(loss, solver)
        .configure(|state| state.param(first).max_iters(MOST_STEPS))
        .run()
        .map_err(|error| error.to_string())?;
    let mut weights = outcome.state.get_best_param().cloned().ok_or("the search has no result")?;
    let bias = weights.pop().unwrap_or(base);
    Ok(Linear { weights, bias })
}

/// The mean loss of weights and, last, the bias.
struct Loss<'a> {
    sample: Sample<'a>,
    /// By slot: half of it times the weight's square is added.
    penalties: Vec<f64>,
    total: f64,
    /// Logits of the rows at a point: cost and gradient are asked for one after the other.
    margins: RefCell<(Vec<f64>, Vec<f64>)>,
}

impl Loss<'_> {
    fn at(&self, point: &[f64], mut each: impl FnMut(u32, f64)) {
        let (of, margins) = &mut *self.margins.borrow_mut();
        if of != point {
            of.clear();
            of.extend_from_slice(point);
            margins.clear();
            let (bias, weights) = split(point);
            let rows = self.sample.rows.iter();
            margins.extend(rows.map(|row| {
                let own = dot(self.sample.matrix, self.sample.columns, *row, weights) + bias;
                own + self.sample.offset(*row)
            }));
        }
        self.sample.rows.iter().zip(margins.iter()).for_each(|(row, margin)| each(*row, *margin));
    }
}

impl CostFunction for Loss<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Vec<f64>) -> Result<f64, Error> {
        let mut sum = 0.0;
        self.at(point, |row, margin| {
            let against = if self.sample.labels[row as usize] { -margin } else { margin };
            // ln(1 + exp(x)), which would overflow
            let loss = against.max(0.0) + (-against.abs()).exp().ln_1p();
            sum += self.sample.weights[row as usize] * loss;
        });
        let weights = split(point).1.iter().zip(&self.penalties);
        let held: f64 = weights.map(|(weight, penalty)| penalty * weight * weight).sum();
        Ok(sum / self.total + 0.5 * held)
    }
}

impl Gradient for Loss<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, point: &Vec<f64>) -> Result<Vec<f64>, Error> {
        let weights = split(point).1.iter().zip(&self.penalties);
        let mut slope: Vec<f64> = weights.map(|(weight, penalty)| penalty * weight).collect();
        let mut of_bias = 0.0;
        self.at(point, |row, margin| {
            let label = f64::from(u8::from(self.sample.labels[row as usize]));
            let weight = self.sample.weights[row as usize] / self.total;
            let residual = weight * (logistic(margin) - label);
            of_bias += residual;
            let cells = self.sample.matrix.cells(row, self.sample.columns);
            cells.for_each(|(slot, x)| slope[slot] += residual * x);
        });
        slope.push(of_bias);
        Ok(slope)
    }
}

/// Bias and weights of a point.
fn split(point: &[f64]) -> (f64, &[f64]) {
    point.split_last().map_or((0.0, &[]), |(bias, weights)| (*bias, weights))
}

fn dot(matrix: &Matrix, columns: &[usize], row: u32, weights: &[f64]) -> f64 {
    matrix.cells(row, columns).map(|(slot, x)| weights[slot] * x).sum()
}
