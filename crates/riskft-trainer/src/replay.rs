//! Old rows for updates: a bounded sample that the training file keeps, as the network reads them.
//!
//! Positions on the numbers' edges and codes of categories, no cell and no text. What the branches say
//! of the test rows stands beside them, since an update does not change all branches. Of texts there are the
//! vectors and n-grams of the test rows, and in the place of the fitted rows their [`Curvature`].

use std::sync::Arc;

use riskft_core::artifact::{Artifact, Tensor, TensorSet};
use riskft_core::model::Model;
use riskft_core::refusal::{code, Refusal, Result};

use crate::curvature::Curvature;
use crate::inputs::Inputs;
use crate::rows::{sample, Reader};
use crate::scoring::Crew;
use crate::text_inputs::TextInputs;

/// Rows of a sample at most: those that a version was fitted on, and its test rows.
pub const MOST_FITTED: usize = 2000;
pub const MOST_TEST: usize = 1000;
/// Bytes of both samples at most; of wide tables they have fewer rows.
const MOST_BYTES: usize = 16 << 20;

/// The sample of a version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replay {
    pub fitted: Inputs,
    pub test: Inputs,
    /// Of the test rows: [rows][branches].
    pub logits: Vec<Vec<f64>>,
    /// None of a version that reads no texts, or has kept nothing of them.
    pub texts: Option<TextReplay>,
}

/// What a version keeps of its rows' texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextReplay {
    /// Of the fitted rows of the sample.
    pub curvature: Curvature,
    pub test: TextInputs,
}

impl TextReplay {
    /// What a version keeps of rows of a dataset: fitted ones, with its scores by models that left them
    /// out, and test rows. None of a version that reads no texts, or more than the curvature has bytes for.
    ///
    /// # Errors
    /// 38000 when a thread fails.
    pub fn of(
        model: &Arc<Model>,
        reader: &Reader<'_>,
        (fitted, scores): (&[u32], &[f64]),
        test: &[u32],
        crew: Crew<'_>,
    ) -> Result<Option<Self>> {
        let table = model.grams().map(|(grams, _)| grams.table());
        let width = model.encoder().map_or(0, |encoder| encoder.shape().width);
        let terms = model.terms().len();
        if terms == 0 && table.is_none() || terms * width * width * size_of::<f32>() > MOST_BYTES {
            return Ok(None);
        }
        let read = |rows: &[u32]| TextInputs::of(model, table.as_ref(), reader, rows, crew);
        let curvature = Curvature::of(&read(fitted)?, scores, width);
        Ok(Some(TextReplay { curvature, test: read(test)? }))
    }
}

/// What a sample must fit, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Numbers and categories of the version.
    pub widths: [usize; 2],
    /// Codes of each category.
    pub codes: &'a [usize],
    pub branches: usize,
    /// Texts that have a term, and the width of a vector.
    pub texts: [usize; 2],
}

impl Replay {
    /// As many rows as the bytes allow, drawn by the seed.
    pub fn bounded(self, seed: u64) -> Self {
        let each = 1 + 4 * self.fitted.widths.iter().sum::<usize>();
        let counts = [self.fitted.labels.len(), self.test.labels.len()];
        let texts = self.texts.as_ref().map_or(0, |texts| texts.test.bytes());
        let bytes = each * counts.iter().sum::<usize>() + texts;
        if bytes <= MOST_BYTES {
            return self;
        }
        let draw = |rows: usize| {
            let most = (rows as f64 * MOST_BYTES as f64 / bytes as f64) as usize;
            sample((0..rows as u32).collect(), most.max(1), seed)
        };
        self.select(&draw(counts[0]), &draw(counts[1]))
    }

    fn select(&self, fitted: &[u32], test: &[u32]) -> Self {
        Replay {
            fitted: self.fitted.select(fitted),
            test: self.test.select(test),
            logits: test.iter().map(|row| self.logits[*row as usize].clone()).collect(),
            // The curvature is of rows drawn as these are.
            texts: self.texts.as_ref().map(|texts| TextReplay {
                curvature: texts.curvature.clone(),
                test: texts.test.select(test),
            }),
        }
    }

    /// The sample of the next version: new rows take at most half of the places, so that what is old
    /// stays in it for several updates.
    pub fn with(&self, new: &Replay, seed: u64) -> Self {
        let halves = |old: usize, new: usize, most: usize| {
            let new = new.min((most / 2).max(most.saturating_sub(old)));
            (old.min(most - new), new)
        };
        let draw = |count: usize, most: usize| sample((0..count as u32).collect(), most, seed);
        let (old, more) = halves(self.fitted.labels.len(), new.fitted.labels.len(), MOST_FITTED);
        let fitted = (draw(self.fitted.labels.len(), old), draw(new.fitted.labels.len(), more));
        let (old, more) = halves(self.test.labels.len(), new.test.labels.len(), MOST_TEST);
        let test = (draw(self.test.labels.len(), old), draw(new.test.labels.len(), more));
        let (own, other) = (self.select(&fitted.0, &test.0), new.select(&fitted.1, &test.1));
        let share = |drawn: usize, of: usize| drawn as f64 / of.max(1) as f64;
        let shares = [
            share(fitted.0.len(), self.fitted.labels.len()),
            share(fitted.1.len(), new.fitted.labels.len()),
        ];
        let both = own.texts.as_ref().zip(other.texts.as_ref()).map(|(own, other)| TextReplay {
            curvature: own.curvature.mixed(shares[0], &other.curvature, shares[1]),
            test: own.test.followed_by(&other.test),
        });
        Replay {
            texts: both,
            fitted: own.fitted.followed_by(&other.fitted),
            test: own.test.followed_by(&other.test),
            logits: own.logits.into_iter().chain(other.logits).collect(),
        }
        .bounded(seed)
    }

    /// Adds the tensors `replay.*` to those of a training file.
    pub fn store(&self, out: &mut TensorSet) {
        for (name, inputs) in [("fitted", &self.fitted), ("test", &self.test)] {
            let rows = inputs.labels.len();
            let [numbers, categories] = inputs.widths;
            let labels: Vec<u8> = inputs.labels.iter().map(|label| u8::from(*label)).collect();
            let mut add =
                |part: &str, tensor| drop(out.insert(format!("replay.{name}.{part}"), tensor));
            add("positions", Tensor::new(&[rows, numbers], &inputs.positions));
            add("codes", Tensor::new(&[rows, categories], &inputs.codes));
            add("labels", Tensor::new(&[rows], &labels));
        }
        let branches = self.logits.first().map_or(0, Vec::len);
        let logits = self.logits.concat();
        out.insert(LOGITS.into(), Tensor::new(&[self.logits.len(), branches], &logits));
        if let Some(texts) = &self.texts {
            texts.curvature.store(out);
            texts.test.store(TEXTS, out);
        }
    }

    /// Reads the sample of a training file.
    ///
    /// # Errors
    /// XX001 where it does not fit the version.
    pub fn read(file: &Artifact, shape: Shape<'_>) -> Result<Self> {
        let Shape { widths, codes, branches, texts: [texts, width] } = shape;
        let inputs = |name: &str| -> Result<Inputs> {
            let part = |part: &str| format!("replay.{name}.{part}");
            let labels: &[u8] = file.slice(&part("labels"))?;
            let inputs = Inputs {
                widths,
                positions: file.slice::<f32>(&part("positions"))?.to_vec(),
                codes: file.slice::<u32>(&part("codes"))?.to_vec(),
                labels: labels.iter().map(|label| *label != 0).collect(),
            };
            let known = |row: &[u32]| row.iter().zip(codes).all(|(c, most)| (*c as usize) < *most);
            let fits = inputs.positions.len() == labels.len() * widths[0]
                && inputs.codes.len() == labels.len() * widths[1]
                && inputs.codes.chunks_exact(widths[1].max(1)).all(known);
            if fits {
                Ok(inputs)
            } else {
                Err(misfit())
            }
        };
        let (fitted, test) = (inputs("fitted")?, inputs("test")?);
        let logits: &[f64] = file.slice(LOGITS)?;
        if branches == 0 || logits.len() != test.labels.len() * branches {
            return Err(misfit());
        }
        let logits = logits.chunks_exact(branches).map(<[f64]>::to_vec).collect();
        let texts = match Curvature::read(file, texts, width)? {
            Some(curvature) => {
                let test = TextInputs::read(file, TEXTS, test.labels.len(), texts * width)?;
                Some(TextReplay { curvature, test })
            }
            None => None,
        };
        Ok(Replay { fitted, test, logits, texts })
    }
}

const LOGITS: &str = "replay.test.logits";
const TEXTS: &str = "replay.test.texts";

pub(crate) fn misfit() -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "training file is damaged")
        .detail("Its sample of old rows does not fit its version.")
        .hint("Train the model again.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use riskft_core::artifact::write;
    use riskft_core::protocol::BlobKind;

    fn replay(rows: usize, sign: f32) -> Replay {
        let inputs = |rows: usize| Inputs {
            widths: [2, 1],
            positions: (0..2 * rows).map(|i| sign * i as f32).collect(),
            codes: (0..rows as u32).map(|i| i % 3).collect(),
            labels: (0..rows).map(|i| i % 4 == 0).collect(),
        };
        let logits = (0..rows / 2).map(|i| vec![f64::from(sign), i as f64]).collect();
        Replay { fitted: inputs(rows), test: inputs(rows / 2), logits, texts: None }
    }

    fn shape(widths: [usize; 2], codes: &[usize], branches: usize) -> Shape<'_> {
        Shape { widths, codes, branches, texts: [0, 0] }
    }

    #[test]
    fn it_is_read_as_it_was_stored() {
        let kept = replay(40, 1.0);
        let mut tensors = TensorSet::new();
        kept.store(&mut tensors);
        let file = write(BlobKind::Training, "{}", &tensors);
        let file = Artifact::open(Arc::new(file)).expect("a file");
        assert_eq!(Replay::read(&file, shape([2, 1], &[3], 2)), Ok(kept));
        for (widths, codes, branches) in
            [([1, 1], [3], 2), ([2, 2], [3], 2), ([2, 1], [2], 2), ([2, 1], [3], 3)]
        {
            let read = Replay::read(&file, shape(widths, &codes, branches));
            let refusal = read.expect_err("a misfit");
            assert_eq!(refusal.code, code::DATA_CORRUPTED);
        }
    }

    #[test]
    fn new_rows_take_half_at_most() {
        let old = |replay: &Replay| replay.fitted.positions.iter().filter(|p| **p > 0.0).count();
        let next = replay(MOST_FITTED, 1.0).with(&replay(5000, -1.0), 1);
        assert_eq!((next.fitted.labels.len(), next.test.labels.len()), (MOST_FITTED, MOST_TEST));
        assert_eq!(next.logits.len(), MOST_TEST);
        let kept = old(&next);
        assert!((MOST_FITTED - 2..=MOST_FITTED).contains(&kept), "two positions a row: {kept}");
        let few = replay(MOST_FITTED, 1.0).with(&replay(100, -1.0), 1);
        assert_eq!(few.fitted.labels.len(), MOST_FITTED);
        let all = replay(100, 1.0).with(&replay(5000, -1.0), 1);
        assert_eq!(all.fitted.labels.len(), MOST_FITTED);
        assert_eq!(replay(60, 1.0).with(&replay(20, -1.0), 1).fitted.labels.len(), 80);
    }
}
