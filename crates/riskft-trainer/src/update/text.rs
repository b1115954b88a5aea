//! What the texts of new rows say: a change of the terms of the encoder's vectors, and one of the n-grams'
//! weights, new n-grams included. The encoder stays.
//!
//! Each is a linear model on top of the version's score. The curvature of the old rows' loss holds it at zero
//! ([`crate::curvature`]), and so does a penalty that is chosen out of fold. It is kept where it lowers the
//! log-loss of new rows that it has not learnt from by more than half of the difference's standard error.

use riskft_core::grams::Table;
use riskft_core::model::BranchKind;
use riskft_core::options::Options;
use riskft_core::refusal::{code, Refusal, Result};
use tch::{Kind, Tensor};

use super::judge::Weights;
use super::origin::Origin;
use super::rows::NewRows;
use crate::calibrated;
use crate::curvature::Curvature;
use crate::device::Compute;
use crate::events::Reporter;
use crate::fit::Lesson;
use crate::folds::Folds;
use crate::grams::{cross_fit, extended, view_for, Linear, Matrix, Sample, Texts, GRID};
use crate::ridge::{Fit, Problem};
use crate::rows::{sample, Reader, Rows};
use crate::scoring::Crew;
use crate::tensors::{to_doubles, to_floats};
use crate::text_inputs::TextInputs;

/// Rows that the change of the terms is learnt from, at most, and of which vectors are held: 30 MB for a field
/// of 384.
const MOST_LEARNT: usize = 20_000;

/// What a branch of texts becomes.
#[derive(Default)]
pub struct TextChanges {
    pub terms: Option<Change>,
    pub grams: Option<(Change, Table)>,
}

/// A change of a branch, in its own logits.
pub struct Change {
    /// By value of a row's vectors, or by slot of the new table.
    weights: Vec<f32>,
    /// Added to every row; of terms it is the calibration's affair.
    bias: f64,
    /// What it adds to the branch's logit, by place; zero for rows that are set aside. Of fitted rows by
    /// models that have not learnt from them.
    pub out_of_fold: Vec<f64>,
}

/// What both are fitted on.
pub struct Lessons<'a> {
    pub origin: &'a Origin,
    pub new: &'a NewRows,
    pub reader: &'a Reader<'a>,
    /// Logits of the branches where no member learnt from the row that it is of: [new rows][branches].
    pub honest: &'a [Vec<f64>],
    pub weights: &'a Weights,
    pub options: &'a Options,
    pub compute: &'a Compute,
    pub reporter: &'a Reporter,
}

impl Lessons<'_> {
    /// Both changes; none where the version has no branch of texts, or keeps nothing of its texts.
    ///
    /// # Errors
    /// Those of the fits.
    pub fn learn(&self) -> Result<TextChanges> {
        let mut changes = TextChanges::default();
        let origin = self.origin;
        let kinds = [BranchKind::Text, BranchKind::Grams];
        if self.options.head_epochs == 0 || kinds.iter().all(|kind| origin.branch(*kind).is_none())
        {
            return Ok(changes);
        }
        let Some(kept) = &origin.replay.texts else {
            self.reporter
                .notice("the version keeps nothing of its texts: what they say stays as it is");
            return Ok(changes);
        };
        let rows = Rows::of_network(&self.new.inputs, self.compute.device);
        let fitted = (self.new.fitted.clone(), &[][..]);
        let folds =
            Folds::of_update(&rows, &self.new.hashes, fitted, self.options.folds, self.options);
        let mut offset = self.log_odds();
        if let Some(factor) = self.factor(BranchKind::Text) {
            changes.terms = self.terms(&kept.curvature, (&rows, &folds), &mut offset, factor)?;
        }
        if let Some(factor) = self.factor(BranchKind::Grams) {
            changes.grams = self.grams(&kept.curvature, (&rows, &folds), &offset, factor)?;
        }
        Ok(changes)
    }

    /// Log odds of the new rows by the version so far.
    fn log_odds(&self) -> Vec<f64> {
        let platt = self.weights.platt;
        let blended = self.honest.iter().map(|row| self.weights.blend(row));
        blended.map(|logit| platt.slope * logit + platt.intercept).collect()
    }

    /// What a branch's logit counts in the log odds; None of one that is not there or has no say.
    fn factor(&self, kind: BranchKind) -> Option<f64> {
        let factor = self.weights.platt.slope * self.weights.branches[self.origin.branch(kind)?];
        (factor > 0.0).then_some(factor)
    }

    /// The change of the encoder's terms; adds its logits to the offset.
    fn terms(
        &self,
        kept: &Curvature,
        (rows, folds): (&Rows, &Folds),
        offset: &mut [f64],
        factor: f64,
    ) -> Result<Option<Change>> {
        let _guard = tch::no_grad_guard();
        let learnt = sample(self.new.fitted.clone(), MOST_LEARNT, self.options.seed);
        let inputs = self.vectors(&learnt)?;
        if inputs.width == 0 {
            return Ok(None);
        }
        // Vectors of length 1, as the terms were fitted on.
        let length = (kept.width as f64).sqrt();
        let x = Tensor::from_slice(&inputs.vectors);
        let x = x.view([learnt.len() as i64, inputs.width as i64]) / length;
        let x = x.to_device(self.compute.device);
        let lesson = Lesson {
            rows,
            folds,
            offset: Some(offset),
            options: self.options,
            phase: "text",
            reporter: self.reporter,
        };
        let held = blocks(kept) / (length * length);
        let fit = Problem::new(&lesson, &learnt, &x).held(&held).choose()?;
        let own = own(&lesson, &learnt, &x, &fit);
        if !self.is_better(&learnt, offset, &own) {
            return Ok(None);
        }
        let last = fit.weights.size()[1] - 1;
        let weights = to_floats(&(fit.weights.select(1, last) / (length * factor)));
        let mut change = Change { weights, bias: 0.0, out_of_fold: vec![0.0; offset.len()] };
        for (place, own) in learnt.iter().zip(own) {
            change.out_of_fold[*place as usize] = own / factor;
        }
        // No model has learnt from the others.
        let mut others = self.new.fitted.clone();
        others.retain(|place| learnt.binary_search(place).is_err());
        for chunk in others.chunks(MOST_LEARNT) {
            let inputs = self.vectors(chunk)?;
            for (row, place) in chunk.iter().enumerate() {
                change.out_of_fold[*place as usize] = change.of_vectors(inputs.vectors(row));
            }
        }
        let own = change.out_of_fold.iter();
        offset.iter_mut().zip(own).for_each(|(z, own)| *z += factor * own);
        Ok(Some(change))
    }

    /// Vectors of new rows by the old version's encoder.
    fn vectors(&self, places: &[u32]) -> Result<TextInputs> {
        let crew = Crew { phase: "text", threads: self.compute.threads, reporter: self.reporter };
        let source: Vec<u32> =
            places.iter().map(|place| self.new.source[*place as usize]).collect();
        TextInputs::of(&self.origin.model, None, self.reader, &source, crew)
    }

    /// The change of the n-grams' weights, and their table with it.
    fn grams(
        &self,
        kept: &Curvature,
        (rows, folds): (&Rows, &Folds),
        offset: &[f64],
        factor: f64,
    ) -> Result<Option<(Change, Table)>> {
        let Some((grams, input)) = self.origin.model.grams() else { return Ok(None) };
        let (fitted, old) = (&self.new.fitted, grams.table());
        let encoded = self.encoded();
        let texts = Texts {
            columns: input.texts.iter().map(|text| *text as u32).collect(),
            cells: encoded
                .iter()
                .flat_map(|row| {
                    input.texts.iter().map(|text| row.get(*text).map_or("", String::as_str))
                })
                .collect(),
        };
        let bytes = texts.cells.iter().map(|text| text.len()).sum();
        let fits = view_for(bytes).is_some_and(|view| view.characters >= input.view.characters);
        if !fits {
            self.reporter.notice(
                "the texts are too long in all for their n-grams to be counted: these stay as they are",
            );
            return Ok(None);
        }
        let mut table = extended(&old, &texts, fitted).map_err(failed)?;
        let held: Vec<f64> = table.frequencies().map(|(bucket, _)| kept.gram(bucket)).collect();
        let matrix = Matrix::over(table.clone(), &texts)?;
        let ones = vec![1.0; rows.labels.len()];
        let columns: Vec<usize> = (0..input.texts.len()).collect();
        // A text of length 1 has its old n-grams count less for new ones beside them.
        let known = Linear { weights: table.weights().collect(), bias: grams.bias() };
        let before = self.origin.branch(BranchKind::Grams).unwrap_or(0);
        let moved: Vec<f64> = (0u32..)
            .zip(self.honest)
            .map(|(row, own)| factor * (known.score(&matrix, &columns, row) - own[before]))
            .collect();
        let offsets: Vec<f64> = offset.iter().zip(&moved).map(|(z, moved)| z + moved).collect();
        let sample = Sample {
            offsets: Some(&offsets),
            held: Some(&held),
            ..Sample::new(&matrix, fitted, &rows.labels, &ones, &columns)
        };
        let of: Vec<u8> = fitted.iter().map(|place| folds.fold(*place)).collect();
        let fit = cross_fit(sample, &of, GRID).map_err(failed)?;
        let own = fitted.iter().zip(&fit.out_of_fold);
        let own: Vec<f64> = own.map(|(place, own)| moved[*place as usize] + own).collect();
        if !self.is_better(fitted, offset, &own) {
            return Ok(None);
        }
        let weights: Vec<f32> =
            fit.model.weights.iter().map(|weight| (weight / factor) as f32).collect();
        let sums = table.weights().zip(&weights).map(|(old, new)| old + f64::from(*new));
        let sums: Vec<f64> = sums.collect();
        let bias = fit.model.bias / factor;
        table.set_weights(&sums, grams.bias() + bias).map_err(failed)?;
        let mut out_of_fold = vec![0.0; offset.len()];
        let own = fitted.iter().zip(&own);
        own.for_each(|(place, own)| out_of_fold[*place as usize] = own / factor);
        let added = table.len() - old.len();
        self.reporter.notice(format!("{added} new n-grams of texts are counted from now on"));
        Ok(Some((Change { weights, bias, out_of_fold }, table)))
    }

    /// The texts of the new rows.
    fn encoded(&self) -> Vec<Vec<String>> {
        let (mut cells, mut row) = (Vec::new(), riskft_core::encode::EncodedRow::default());
        let texts = self.new.source.iter().map(|source| {
            self.reader.encode(*source as usize, &mut cells, &mut row);
            row.texts.clone()
        });
        texts.collect()
    }

    /// Whether what is added to rows' log odds lowers their loss by more than chance does.
    fn is_better(&self, places: &[u32], offset: &[f64], own: &[f64]) -> bool {
        let labels = self.new.inputs_labels(places);
        let before: Vec<f64> = places.iter().map(|place| offset[*place as usize]).collect();
        let after: Vec<f64> = before.iter().zip(own).map(|(before, own)| before + own).collect();
        let losses = [&before, &after].map(|logits| calibrated::losses(logits, &labels));
        let gains: Vec<f64> = losses[0].iter().zip(&losses[1]).map(|(b, a)| b - a).collect();
        let (gain, error) = calibrated::mean(&gains);
        gain > 0.5 * error
    }
}

/// What the fit adds to rows, by models that left them out.
fn own(lesson: &Lesson<'_>, places: &[u32], x: &Tensor, fit: &Fit) -> Vec<f64> {
    let logits = to_doubles(&x.matmul(&fit.weights));
    let width = fit.weights.size()[1] as usize;
    lesson.left_out(0..lesson.folds.models(), places, &logits, width)
}

/// The curvature of each text's vector along the diagonal: [texts * width, texts * width], f64.
fn blocks(kept: &Curvature) -> Tensor {
    let width = kept.width as i64;
    let all = Tensor::from_slice(&kept.vectors).to_kind(Kind::Double).view([-1, width, width]);
    let blocks: Vec<Tensor> = (0..all.size()[0]).map(|text| all.get(text)).collect();
    Tensor::block_diag(&blocks)
}

fn failed(what: String) -> Refusal {
    Refusal::new(code::EXTERNAL_ROUTINE, "updating the n-grams failed")
        .detail(format!("The solver reported: {what}."))
        .hint("Set options.epochs to 0 to calibrate alone.")
}

impl Change {
    /// What it adds to the branch `text`'s logit of a row with these vectors.
    fn of_vectors(&self, vectors: &[f32]) -> f64 {
        self.weights.iter().zip(vectors).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
    }
}

impl TextChanges {
    /// What both add to the logits of an old row: of the branch `text`, and of `grams`.
    pub fn added(&self, inputs: &TextInputs, row: usize) -> [f64; 2] {
        let terms =
            self.terms.as_ref().map_or(0.0, |change| change.of_vectors(inputs.vectors(row)));
        let grams = self.grams.as_ref().map_or(0.0, |(change, table)| {
            let of = |(bucket, x): (u32, f32)| {
                let slot = table.slot(bucket).map(|(slot, _)| slot);
                f64::from(x) * slot.map_or(0.0, |slot| f64::from(change.weights[slot]))
            };
            change.bias + inputs.grams(row).map(of).sum::<f64>()
        });
        [terms, grams]
    }

    /// The linear weights of each text that has a term, where they change: those of the version's file and
    /// what is added to them.
    pub fn texts(&self, origin: &Origin) -> Result<Vec<(usize, Vec<f32>)>> {
        let Some(change) = &self.terms else { return Ok(Vec::new()) };
        let terms = origin.model.terms();
        let width = change.weights.len() / terms.len().max(1);
        let each = terms.into_iter().zip(change.weights.chunks_exact(width.max(1)));
        each.map(|(text, more)| {
            let old: &[f32] = origin.version.slice(&format!("text.{text}.weight"))?;
            Ok((text, old.iter().zip(more).map(|(old, more)| old + more).collect()))
        })
        .collect()
    }

    /// The changes that there are, with their branches.
    pub fn changes(&self) -> impl Iterator<Item = (BranchKind, &Change)> {
        let grams = self.grams.as_ref().map(|(change, _)| (BranchKind::Grams, change));
        self.terms.iter().map(|change| (BranchKind::Text, change)).chain(grams)
    }

    /// Number of weights that were fitted.
    pub fn size(&self) -> usize {
        self.changes().map(|(_, change)| change.weights.len()).sum()
    }
}
