//! What the branches of texts read of rows, apart from the texts: the encoder's vectors and the values of
//! n-grams. Both branches are linear in them, but for landmarks.

use std::collections::HashMap;
use std::sync::Arc;

use riskft_core::artifact::{Artifact, Tensor, TensorSet};
use riskft_core::encode::EncodedRow;
use riskft_core::grams::{Reader as GramReader, Table};
use riskft_core::model::{Model, Scorer};
use riskft_core::refusal::Result;

use crate::replay::misfit;
use crate::rows::Reader;
use crate::scoring::{scorer, Crew};

/// Vectors and n-grams of some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextInputs {
    /// Values of a row's vectors: texts that have a term, times the encoder's width.
    pub width: usize,
    /// Normalised, zeros where there is no text: [rows, width].
    pub vectors: Vec<f32>,
    /// Where the n-grams of each row end.
    ends: Vec<u64>,
    buckets: Vec<u32>,
    values: Vec<f32>,
}

impl TextInputs {
    /// Reads rows of a dataset as a model does, n-grams by a table that knows at least the model's.
    ///
    /// # Errors
    /// 38000 when a thread fails.
    pub fn of(
        model: &Arc<Model>,
        table: Option<&Table>,
        reader: &Reader<'_>,
        rows: &[u32],
        crew: Crew<'_>,
    ) -> Result<Self> {
        let counted = model.specification().grams.as_ref().map_or(&[][..], |grams| &grams.texts);
        let each = crew.each(rows.len(), || {
            let (mut vectors, mut words) = (Vectors::of(model), GramReader::default());
            let (mut cells, mut encoded) = (Vec::new(), EncodedRow::default());
            move |place: usize| {
                reader.encode(rows[place] as usize, &mut cells, &mut encoded);
                let mut grams = Vec::new();
                if let Some(table) = table {
                    for text in counted {
                        let value = encoded.texts.get(*text).map_or("", String::as_str);
                        let push = |bucket, _, x| grams.push((bucket, x as f32));
                        table.grams().values(*text as u32, value, &mut words, push);
                    }
                }
                (vectors.read(&mut encoded), grams)
            }
        })?;
        let one = model.encoder().map_or(0, |encoder| encoder.shape().width);
        let mut inputs = TextInputs { width: model.terms().len() * one, ..TextInputs::default() };
        each.iter().for_each(|(vectors, grams)| inputs.push(vectors, grams.iter().copied()));
        Ok(inputs)
    }

    fn push(&mut self, vectors: &[f32], grams: impl Iterator<Item = (u32, f32)>) {
        self.vectors.extend_from_slice(vectors);
        for (bucket, value) in grams {
            self.buckets.push(bucket);
            self.values.push(value);
        }
        self.ends.push(self.buckets.len() as u64);
    }

    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The vectors of a row.
    pub fn vectors(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.width..(row + 1) * self.width]
    }

    /// Buckets and values of a row's n-grams.
    pub fn grams(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        let range = start..self.ends[row] as usize;
        self.buckets[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> usize {
        4 * self.vectors.len() + 8 * self.buckets.len() + 8 * self.ends.len()
    }

    /// Some of the rows, in this order.
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut some = TextInputs { width: self.width, ..TextInputs::default() };
        for row in rows {
            some.push(self.vectors(*row as usize), self.grams(*row as usize));
        }
        some
    }

    /// These rows, then others of the same version.
    pub fn followed_by(&self, others: &Self) -> Self {
        let mut all = self.clone();
        (0..others.rows()).for_each(|row| all.push(others.vectors(row), others.grams(row)));
        all
    }

    /// Adds the tensors `PREFIX.*`.
    pub fn store(&self, prefix: &str, out: &mut TensorSet) {
        let mut add = |part: &str, tensor| drop(out.insert(format!("{prefix}.{part}"), tensor));
        add("vectors", Tensor::new(&[self.rows(), self.width], &self.vectors));
        add("ends", Tensor::new(&[self.rows()], &self.ends));
        add("buckets", Tensor::new(&[self.buckets.len()], &self.buckets));
        add("values", Tensor::new(&[self.values.len()], &self.values));
    }

    /// Reads what [`TextInputs::store`] wrote: so many rows of vectors so wide.
    ///
    /// # Errors
    /// XX001 where it does not fit.
    pub fn read(file: &Artifact, prefix: &str, rows: usize, width: usize) -> Result<Self> {
        let name = |part: &str| format!("{prefix}.{part}");
        let inputs = TextInputs {
            width,
            vectors: file.slice::<f32>(&name("vectors"))?.to_vec(),
            ends: file.slice::<u64>(&name("ends"))?.to_vec(),
            buckets: file.slice::<u32>(&name("buckets"))?.to_vec(),
            values: file.slice::<f32>(&name("values"))?.to_vec(),
        };
        let fits = inputs.ends.len() == rows
            && inputs.vectors.len() == rows * width
            && inputs.ends.is_sorted()
            && inputs.ends.last().copied().unwrap_or(0) == inputs.buckets.len() as u64
            && inputs.values.len() == inputs.buckets.len()
            && inputs.vectors.iter().chain(&inputs.values).all(|value| value.is_finite());
        fits.then_some(inputs).ok_or_else(misfit)
    }
}

/// Texts whose vectors are kept, for names come again and again.
const KNOWN: usize = 4096;

/// The encoder of one thread.
struct Vectors {
    scorer: Scorer,
    terms: Vec<usize>,
    width: usize,
    known: HashMap<(usize, String), Vec<f32>>,
}

impl Vectors {
    fn of(model: &Arc<Model>) -> Self {
        Vectors {
            scorer: scorer(model),
            terms: model.terms(),
            width: model.encoder().map_or(0, |encoder| encoder.shape().width),
            known: HashMap::new(),
        }
    }

    /// The vectors of the texts that have a term; takes the texts out of the row.
    fn read(&mut self, row: &mut EncodedRow) -> Vec<f32> {
        // Before it is asked what is known: texts that are known are not read again.
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let mut own = vec![0.0; self.terms.len() * self.width];
        let (mut keys, mut asked) = (Vec::with_capacity(self.terms.len()), false);
        for text in &self.terms {
            let key = (*text, row.texts.get(*text).cloned().unwrap_or_default());
            match row.texts.get_mut(*text).filter(|_| self.known.contains_key(&key)) {
                Some(text) => text.clear(),
                None => asked |= !key.1.is_empty(),
            }
            keys.push(key);
        }
        let all = if asked { self.scorer.text_vectors(row) } else { Vec::new() };
        for (key, to) in keys.into_iter().zip(own.chunks_exact_mut(self.width.max(1))) {
            let start = key.0 * self.width;
            match self.known.get(&key) {
                Some(known) => to.copy_from_slice(known),
                None => {
                    if let Some(new) = all.get(start..start + self.width) {
                        to.copy_from_slice(new);
                        self.known.insert(key, new.to_vec());
                    }
                }
            }
        }
        own
    }
}
