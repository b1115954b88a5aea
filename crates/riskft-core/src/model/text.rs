//! The terms of a row's texts: cache, tokens, windows, encoder.

use super::cache::Cache;
use super::head::AddShare;
use super::Model;
use crate::encode::EncodedRow;
use crate::encoder::Scratch;
use crate::gemm::Kernel;
use crate::math::{blocks, Block};
use crate::tokenize::{windows, Tokenizer};

/// Tokens after which the waiting windows are encoded, so that buffers stay small.
const BATCH: usize = 64;

/// Buffers of the branch `text`, and the windows of a row that wait for the encoder.
#[derive(Default)]
pub(super) struct Texts {
    tokenizer: Tokenizer,
    scratch: Scratch,
    /// Tokens of one text, those of its windows, and where each window ends.
    tokens: Vec<u32>,
    cut: Vec<u32>,
    cuts: Vec<usize>,
    waiting: Vec<Window>,
    ids: Vec<u32>,
    ends: Vec<usize>,
    /// The part of the current text's vector that its windows gave so far.
    sum: Vec<Block>,
    /// Where normalised vectors are wanted: [texts, width].
    vectors: Option<Vec<f32>>,
    /// One for each text of the model.
    terms: Vec<f32>,
}

struct Window {
    field: usize,
    /// Of the text's tokens: a text's vector is the mean over all of them.
    share: f32,
    last: bool,
}

impl Texts {
    pub(super) fn bytes(&self) -> usize {
        self.scratch.bytes()
    }

    /// The terms of the row's texts, in their order; zeros without an encoder.
    pub(super) fn terms(
        &mut self,
        model: &Model,
        kernel: Kernel,
        cache: &mut Cache,
        row: &EncodedRow,
    ) -> &[f32] {
        let inputs = &model.specification.encoding.texts;
        self.terms.clear();
        self.terms.resize(inputs.len(), 0.0);
        let Some(vocabulary) = model.vocabulary() else { return &self.terms };
        let Some(encoder) = model.encoder() else { return &self.terms };
        self.sum.clear();
        self.sum.resize(blocks(encoder.shape().width), Block::default());
        for (field, (input, text)) in inputs.iter().zip(&row.texts).enumerate() {
            if text.is_empty() || !model.head.has_term(field) {
                continue;
            }
            if let Some(known) = cache.find(field, text) {
                self.terms[field] = known;
                continue;
            }
            self.tokenizer.encode(&vocabulary, text, input.max_tokens, &mut self.tokens);
            self.wait(field, encoder.shape().window(), |texts| {
                texts.encode(model, kernel, cache, row);
            });
        }
        self.encode(model, kernel, cache, row);
        &self.terms
    }

    /// The normalised vectors of the row's texts [texts, width]; zeros of one that is empty or has no
    /// term. Nothing without an encoder.
    pub(super) fn vectors(&mut self, model: &Model, kernel: Kernel, row: &EncodedRow) -> Vec<f32> {
        let width = model.encoder().map_or(0, |encoder| encoder.shape().width);
        let texts = model.specification.encoding.texts.len();
        self.vectors = Some(vec![0.0; texts * width]);
        // What is in the cache is not encoded again.
        self.terms(model, kernel, &mut Cache::new(0), row);
        self.vectors.take().unwrap_or_default()
    }

    /// Cuts the text's tokens into windows that wait; `full` is called whenever enough do.
    fn wait(&mut self, field: usize, window: usize, mut full: impl FnMut(&mut Self)) {
        let (mut cut, mut cuts) = (std::mem::take(&mut self.cut), std::mem::take(&mut self.cuts));
        cut.clear();
        cuts.clear();
        windows(&self.tokens, window, &mut cut, &mut cuts);
        let mut start = 0;
        for (index, end) in cuts.iter().enumerate() {
            self.ids.extend_from_slice(&cut[start..*end]);
            self.ends.push(self.ids.len());
            let share = (end - start) as f32 / cut.len() as f32;
            self.waiting.push(Window { field, share, last: index + 1 == cuts.len() });
            start = *end;
            if self.ids.len() >= BATCH {
                full(self);
            }
        }
        (self.cut, self.cuts) = (cut, cuts);
    }

    /// Encodes the waiting windows and stores the terms of the texts that end with them.
    fn encode(&mut self, model: &Model, kernel: Kernel, cache: &mut Cache, row: &EncodedRow) {
        let Some(encoder) = model.encoder().filter(|_| !self.waiting.is_empty()) else { return };
        let file = (*model.version).as_ref();
        let width = blocks(encoder.shape().width);
        let pooled = encoder.pooled(kernel, &self.ids, &self.ends, &mut self.scratch);
        for (window, pooled) in self.waiting.iter().zip(pooled.chunks_exact(width)) {
            kernel.run(AddShare(&mut self.sum, window.share, pooled));
            if window.last {
                let field = window.field;
                let term = model.head.text(kernel, file, field, &mut self.sum);
                if let Some(vectors) = &mut self.vectors {
                    let width = encoder.shape().width;
                    let values = self.sum.as_flattened().iter().take(width);
                    let to = vectors.chunks_exact_mut(width.max(1)).nth(field);
                    to.into_iter().flatten().zip(values).for_each(|(to, value)| *to = *value);
                }
                cache.insert(field, &row.texts[field], term);
                self.terms[field] = term;
                self.sum.fill(Block::default());
            }
        }
        self.waiting.clear();
        self.ids.clear();
        self.ends.clear();
    }
}
