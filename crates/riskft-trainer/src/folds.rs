//! Cross-fitting: which rows train which model, and which it is judged on.
//!
//! The rows outside the test part are divided into folds, once or several times; for each fold
//! there is a model that trains on all the others. A row's out-of-fold logit is the mean over the
//! models that did not see it: honest figures, weights and calibration without giving up rows.

use riskft_core::dataset::{split, Part, Prepared};
use riskft_core::options::{Options, SMALL};
use tch::Tensor;

use crate::rows::Rows;

/// A row's part in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Train,
    /// Left out, and judged by it.
    Held,
    /// Neither: a test row, or a made-up row of another model.
    Out,
}

/// The models of a run.
#[derive(Clone)]
pub struct Folds {
    /// By model, by place.
    shares: Vec<Vec<Share>>,
    /// By place: how much a row counts while training.
    pub weights: Vec<f32>,
    /// Places that have a label of their own and are not in the test part, ascending.
    pub fitted: Vec<u32>,
    pub repeats: usize,
    /// Rows that the models of a whole run are judged on.
    size: usize,
}

impl Folds {
    pub fn new(prepared: &Prepared, rows: &Rows, options: &Options) -> Self {
        let fitted: Vec<u32> = (0..rows.labelled as u32)
            .filter(|place| prepared.parts[rows.source[*place as usize] as usize] != Part::Test)
            .collect();
        let repeats = options.repeats_of(fitted.len());
        let mut shares = Vec::with_capacity(repeats * options.folds);
        for repeat in 0..repeats as u64 {
            let seed = options.seed.wrapping_mul(0x9e37).wrapping_add(repeat);
            let (hashes, labels) = (&rows.hashes, &rows.labels);
            let of = split::folds(hashes, labels, &fitted, options.folds, seed);
            for fold in 0..options.folds as u8 {
                let mut model = vec![Share::Out; rows.source.len()];
                for (place, own) in fitted.iter().zip(&of) {
                    model[*place as usize] = if *own == fold { Share::Held } else { Share::Train };
                }
                shares.push(model);
            }
        }
        let (size, weights) = (fitted.len(), vec![1.0; rows.source.len()]);
        Folds { shares, weights, fitted, repeats, size }
    }

    /// The models of an update: each leaves out a fold of `fitted`, the new rows, and trains on the other
    /// ones and on all of `replayed`. As those are not fitted rows, logits are of the new rows' level
    /// ([`Folds::shift`]).
    pub fn of_update(
        rows: &Rows,
        hashes: &[u64],
        (fitted, replayed): (Vec<u32>, &[u32]),
        models: usize,
        options: &Options,
    ) -> Self {
        let count = rows.source.len();
        let mut shares = Vec::with_capacity(models);
        for repeat in 0..models.div_ceil(options.folds) as u64 {
            let seed = options.seed.wrapping_mul(0x9e37).wrapping_add(repeat);
            let of = split::folds(hashes, &rows.labels, &fitted, options.folds, seed);
            for fold in 0..options.folds.min(models - shares.len()) as u8 {
                let mut model = vec![Share::Out; count];
                replayed.iter().for_each(|place| model[*place as usize] = Share::Train);
                for (place, own) in fitted.iter().zip(&of) {
                    model[*place as usize] = if *own == fold { Share::Held } else { Share::Train };
                }
                shares.push(model);
            }
        }
        let size = fitted.len() + replayed.len();
        let repeats = models.div_ceil(options.folds).max(1);
        Folds { shares, weights: vec![1.0; count], fitted, repeats, size }
    }

    /// The first models alone, and the rows that one of them leaves out: less than a whole run, for
    /// a trial.
    pub fn first(&self, models: usize) -> Self {
        let shares = self.shares[..models.min(self.models())].to_vec();
        let held = |place: &u32| shares.iter().any(|model| model[*place as usize] == Share::Held);
        Folds {
            fitted: self.fitted.iter().copied().filter(held).collect(),
            weights: self.weights.clone(),
            repeats: 1,
            size: self.size,
            shares,
        }
    }

    /// The same models without some rows, which none of them trains on or is judged on. They keep the
    /// size of the whole, by which models are large or small.
    pub fn without(&self, places: &[u32]) -> Self {
        let mut folds = self.clone();
        folds.fitted.retain(|place| places.binary_search(place).is_err());
        for shares in &mut folds.shares {
            places.iter().for_each(|place| shares[*place as usize] = Share::Out);
        }
        folds
    }

    /// Labelled rows outside the test part, those that no model of a trial leaves out included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the sample is small: one fold of it says little.
    pub fn is_small(&self) -> bool {
        self.size < SMALL
    }

    /// Appends a made-up row that trains some models and is nobody else's affair.
    pub fn append(&mut self, models: &[usize], weight: f32) {
        for (model, shares) in self.shares.iter_mut().enumerate() {
            shares.push(if models.contains(&model) { Share::Train } else { Share::Out });
        }
        self.weights.push(weight);
    }

    /// The same folds with labelled rows alone, each of which counts 1.
    pub fn natural(&self) -> Self {
        let mut folds = self.clone();
        folds.weights.fill(1.0);
        for shares in &mut folds.shares {
            for (place, share) in shares.iter_mut().enumerate() {
                if self.fitted.binary_search(&(place as u32)).is_err() {
                    *share = Share::Out;
                }
            }
        }
        folds
    }

    /// How far the logits of a fit on the rows of `places` lie above those of its fitted rows alone,
    /// each counting 1: the logarithm of how weights and made-up rows change the odds of the classes
    /// (King & Zeng 2001, "Logistic regression in rare events data"). 0 where a class is missing.
    pub fn shift(&self, places: &[u32], labels: &[bool]) -> f64 {
        let (mut weights, mut rows) = ([0.0; 2], [0.0; 2]);
        for place in places {
            let class = usize::from(labels[*place as usize]);
            weights[class] += f64::from(self.weights[*place as usize]);
            if self.fitted.binary_search(place).is_ok() {
                rows[class] += 1.0;
            }
        }
        let shift = ((weights[1] * rows[0]) / (weights[0] * rows[1])).ln();
        if shift.is_finite() {
            shift
        } else {
            0.0
        }
    }

    /// The shift of each member's model, [members, 1]; None where no model has one.
    pub fn member_shifts(&self, members: usize, labels: &[bool]) -> Option<Tensor> {
        let of = |model| self.shift(&self.places(model, Share::Train), labels) as f32;
        let models: Vec<f32> = (0..self.models()).map(of).collect();
        let each = (members / self.models()).max(1);
        let all: Vec<f32> =
            (0..members).map(|member| models[(member / each).min(models.len() - 1)]).collect();
        let none = all.iter().all(|shift| *shift == 0.0);
        (!none).then(|| Tensor::from_slice(&all).view([-1, 1]))
    }

    pub fn models(&self) -> usize {
        self.shares.len()
    }

    pub fn share(&self, model: usize, place: u32) -> Share {
        self.shares[model][place as usize]
    }

    /// The fold of a fitted row in the first division.
    pub fn fold(&self, place: u32) -> u8 {
        let each = self.models() / self.repeats;
        (0..each).find(|model| self.share(*model, place) == Share::Held).unwrap_or(0) as u8
    }

    /// Places of one share in a model, ascending.
    pub fn places(&self, model: usize, share: Share) -> Vec<u32> {
        let all = self.shares[model].iter().enumerate();
        all.filter(|(_, own)| **own == share).map(|(place, _)| place as u32).collect()
    }

    /// [members, rows], f32: how much each row counts for each member; 0 where it does not train.
    pub fn member_weights(&self, members: usize) -> Tensor {
        let each = (members / self.models()).max(1);
        let mut all: Vec<f32> = Vec::with_capacity(members * self.weights.len());
        for member in 0..members {
            let shares = self.shares[(member / each).min(self.models() - 1)].iter();
            all.extend(shares.zip(&self.weights).map(|(share, weight)| match share {
                Share::Train => *weight,
                _ => 0.0,
            }));
        }
        Tensor::from_slice(&all).view([members as i64, self.weights.len() as i64])
    }

    /// Places that any model trains on, ascending.
    pub fn trained(&self) -> Vec<u32> {
        let trains =
            |place: &u32| (0..self.models()).any(|m| self.share(m, *place) == Share::Train);
        (0..self.weights.len() as u32).filter(trains).collect()
    }

    /// Out-of-fold logits by place, from each model's logits of the places that it left out; NaN
    /// where no model left the row out.
    pub fn out_of_fold(&self, held: &[(usize, Vec<f64>)]) -> Vec<f64> {
        let mut sums = vec![(0.0, 0u32); self.weights.len()];
        for (model, logits) in held {
            for (place, logit) in self.places(*model, Share::Held).iter().zip(logits) {
                let sum = &mut sums[*place as usize];
                sum.0 += logit;
                sum.1 += 1;
            }
        }
        sums.into_iter()
            .map(|(sum, n)| if n == 0 { f64::NAN } else { sum / f64::from(n) })
            .collect()
    }
}
