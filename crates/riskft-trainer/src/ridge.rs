//! Terms on the frozen encoder's vectors: logistic regression with an L2 penalty, all folds at once.
//!
//! Each step minimises a quadratic bound of the loss (Böhning and Lindsay 1988: the curvature of the
//! logistic loss is at most a quarter), so that one factor of `X'X / 4 + penalty` serves all folds and
//! steps and no step can overshoot. On vectors of length 1 and a thousand rows the optimum of this
//! convex problem beat terms that were trained by gradient steps to their best epoch. Beside the
//! folds' models there is one on all rows: it is what the version has.

use std::ops::Range;

use riskft_core::dataset::Part;
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Kind, Tensor};

use crate::calibrated;
use crate::fit::Lesson;
use crate::folds::Share;
use crate::rows::sample;

/// Inverse penalties that are tried, from the strongest penalty on (scikit-learn's C).
const GRID: [f64; 8] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Values after the best one that are tried before the search ends.
const PATIENCE: usize = 2;
const MOST_STEPS: usize = 60;
/// Largest change of a logit's weight that ends the steps.
const SETTLED: f64 = 1e-4;
/// Rows that the terms are fitted on, at most: 0.3 GB for three fields of 384.
const MOST_ROWS: usize = 60_000;
/// Penalty of the intercept.
const FREE: f64 = 1e-3;

/// Rows that terms are fitted on, ascending.
pub fn places(lesson: &Lesson<'_>) -> Vec<u32> {
    let mut places = lesson.folds.trained();
    places.retain(|place| lesson.rows.part_of(*place) != Some(Part::Test));
    sample(places, MOST_ROWS, lesson.options.seed)
}

/// Models of all folds, and one of all rows, at the best penalty.
pub struct Fit {
    pub c: f64,
    /// Log-loss of each judged row, out of fold and calibrated.
    pub losses: Vec<f64>,
    /// [inputs, models + 1], without the intercepts: those are the calibration's affair.
    pub weights: Tensor,
}

impl Fit {
    pub fn loss(&self) -> f64 {
        calibrated::mean(&self.losses).0
    }
}

/// Inputs of rows, and what is to be told from them.
pub struct Problem<'a> {
    lesson: &'a Lesson<'a>,
    places: &'a [u32],
    /// [rows, inputs + 1]: the last is a one for the intercept.
    x: Tensor,
    /// [rows, 1]
    offset: Tensor,
    targets: Tensor,
    /// [rows, models + 1]: 0 where a row does not train.
    weights: Tensor,
    /// `X'X` times the largest weight.
    gram: Tensor,
    /// What holds the weights at zero besides their penalty: the curvature of a sum of log-losses.
    held: Option<Tensor>,
}

impl<'a> Problem<'a> {
    /// `inputs` are those of the rows at `places` [rows, inputs].
    pub fn new(lesson: &'a Lesson<'a>, places: &'a [u32], inputs: &Tensor) -> Self {
        let (rows, folds) = (lesson.rows, lesson.folds);
        let one = Tensor::ones([places.len() as i64, 1], (Kind::Float, inputs.device()));
        let x = Tensor::cat(&[inputs, &one], 1);
        let index = rows.index(places);
        let offset = match lesson.offset_tensor() {
            Some(offset) => offset.index_select(0, &index),
            None => Tensor::zeros([places.len() as i64], (Kind::Float, x.device())),
        };
        let whole: Vec<f32> = places.iter().map(|place| folds.weights[*place as usize]).collect();
        let whole = Tensor::from_slice(&whole).to_device(x.device()).unsqueeze(0);
        let of_folds = folds.member_weights(folds.models()).to_device(x.device());
        let weights = Tensor::cat(&[of_folds.index_select(1, &index), whole], 0);
        let weights = weights.transpose(0, 1).contiguous();
        let largest = weights.max().double_value(&[]).max(1e-6);
        let gram = x.transpose(0, 1).matmul(&x).to_kind(Kind::Double) * largest;
        let targets = rows.targets(places).unsqueeze(1);
        let offset = offset.unsqueeze(1);
        Problem { lesson, places, x, offset, targets, weights, gram, held: None }
    }

    /// The same with weights that are held at zero by a curvature [inputs, inputs], f64.
    pub fn held(self, curvature: &Tensor) -> Self {
        // The intercept is free.
        let held = curvature.constant_pad_nd([0, 1, 0, 1]).to_device(self.x.device());
        Problem { held: Some(held), ..self }
    }

    /// The same with some of the inputs alone.
    pub fn of(&self, inputs: &[i64]) -> Self {
        let inputs = [inputs, &[self.x.size()[1] - 1]].concat();
        let inputs = Tensor::from_slice(&inputs).to_device(self.x.device());
        let both = |square: &Tensor| square.index_select(0, &inputs).index_select(1, &inputs);
        Problem {
            lesson: self.lesson,
            places: self.places,
            x: self.x.index_select(1, &inputs),
            offset: self.offset.shallow_clone(),
            targets: self.targets.shallow_clone(),
            weights: self.weights.shallow_clone(),
            gram: both(&self.gram),
            held: self.held.as_ref().map(both),
        }
    }

    /// The penalty of the lowest calibrated loss out of fold, and the weights there.
    ///
    /// # Errors
    /// 22000 when the inputs are not finite.
    pub fn choose(&self) -> Result<Fit> {
        let size = [self.x.size()[1], self.weights.size()[1]];
        let mut weights = Tensor::zeros(size, (Kind::Double, self.x.device()));
        let mut best: Option<Fit> = None;
        let mut since = 0;
        for c in GRID {
            weights = self.solve(c, weights)?;
            let losses = self.losses(&weights);
            if best.as_ref().is_none_or(|best| calibrated::mean(&losses).0 < best.loss()) {
                let own = weights.narrow(0, 0, size[0] - 1).to_kind(Kind::Float);
                best = Some(Fit { c, losses, weights: own });
                since = 0;
            } else {
                since += 1;
            }
            if since == PATIENCE {
                break;
            }
        }
        best.filter(|best| best.loss().is_finite()).ok_or_else(|| {
            Refusal::new(code::DATA_EXCEPTION, "the text terms cannot be fitted")
                .detail("The encoder's vectors give no finite log-loss.")
                .hint("Choose another base model, or set options.precision to \"f32\".")
        })
    }

    /// Weights [inputs + 1, models + 1] of the least penalised loss, from a start.
    fn solve(&self, c: f64, mut weights: Tensor) -> Result<Tensor> {
        let size = self.gram.size()[0];
        let penalty = Tensor::full([size], 1.0 / c, (Kind::Double, self.x.device()));
        let _ = penalty.get(size - 1).fill_(FREE);
        let mut penalty = penalty.diag(0);
        if let Some(held) = &self.held {
            penalty += held;
        }
        let bound = &self.gram * 0.25 + &penalty;
        let factor = bound.f_linalg_cholesky(false).map_err(|error| {
            Refusal::new(code::DATA_EXCEPTION, "the text terms cannot be fitted")
                .detail(format!("Their system has no solution: {error}."))
                .hint("Choose another base model, or set options.precision to \"f32\".")
        })?;
        for _ in 0..MOST_STEPS {
            let errors = (self.logits(&weights).sigmoid() - &self.targets) * &self.weights;
            let slope = self.x.transpose(0, 1).matmul(&errors).to_kind(Kind::Double);
            let step = (slope + penalty.matmul(&weights)).cholesky_solve(&factor, false);
            weights -= &step;
            if step.abs().max().double_value(&[]) < SETTLED {
                break;
            }
        }
        Ok(weights)
    }

    /// [rows, models + 1]
    fn logits(&self, weights: &Tensor) -> Tensor {
        self.x.matmul(&weights.to_kind(Kind::Float)) + &self.offset
    }

    /// Of the judged rows, whole logits and intercepts in them.
    fn losses(&self, weights: &Tensor) -> Vec<f64> {
        let own = crate::tensors::to_doubles(&self.logits(weights));
        let width = self.weights.size()[1] as usize;
        let models = 0..self.lesson.folds.models();
        let logits = self.lesson.left_out(models, self.places, &own, width);
        let labels = self.lesson.rows.labels_of(self.places);
        let judged = logits.into_iter().zip(labels).filter(|(logit, _)| !logit.is_nan());
        let (logits, labels): (Vec<f64>, Vec<bool>) = judged.unzip();
        calibrated::losses(&logits, &labels)
    }
}

impl Lesson<'_> {
    /// For each of some places the mean logit of those models that left it out; NaN where none did.
    /// `logits` are [places, `width`], those of the folds' models first.
    pub fn left_out(
        &self,
        models: Range<usize>,
        places: &[u32],
        logits: &[f64],
        width: usize,
    ) -> Vec<f64> {
        let of = |(place, own): (&u32, &[f64])| {
            let held = models.clone().filter(|m| self.folds.share(*m, *place) == Share::Held);
            let (z, n) = held.fold((0.0, 0.0), |(z, n), m| (z + own[m], n + 1.0));
            z / n
        };
        places.iter().zip(logits.chunks(width.max(1))).map(of).collect()
    }
}
