//! Attention of one text in f32: scores, softmax, context.

use crate::math::vector::softmax;
use crate::math::{blocks, Block, Lanes, Task};

/// Queries that are computed together; each has sums of its own, so the number is free.
const QUERIES: usize = 4;

/// Buffers, kept between texts.
#[derive(Default)]
pub(super) struct Buffers {
    query: crate::math::Floats,
    /// Transposed: [width of a head, blocks of keys].
    key: crate::math::Floats,
    value: crate::math::Floats,
    scores: crate::math::Floats,
}

impl Buffers {
    pub(super) fn bytes(&self) -> usize {
        [&self.query, &self.key, &self.value, &self.scores].iter().map(|b| b.bytes()).sum()
    }
}

/// `softmax(q k' / sqrt(width of a head)) v` for each head; rows of `row` blocks.
pub(super) struct Attention<'a> {
    pub heads: usize,
    pub width: usize,
    pub query: &'a [Block],
    pub key: &'a [Block],
    pub value: &'a [Block],
    pub context: &'a mut [Block],
    pub buffers: &'a mut Buffers,
}

impl Task for Attention<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let row = blocks(self.width) * 16;
        let tokens = self.query.len() * 16 / row;
        let size = self.width / self.heads;
        let across = blocks(size);
        let along = blocks(tokens);
        let scale = 1.0 / (size as f32).sqrt();
        let padded = tokens.div_ceil(QUERIES) * QUERIES;
        let query = self.buffers.query.first(padded * across);
        let key = self.buffers.key.first(size * along);
        let value = self.buffers.value.first(tokens * across);
        let scores = self.buffers.scores.first(QUERIES * along);
        // What lies beyond the tokens and beyond a head's width is never written below: zeros.
        query.as_flattened_mut().fill(0.0);
        key.as_flattened_mut().fill(0.0);
        value.as_flattened_mut().fill(0.0);
        let context = self.context.as_flattened_mut();
        for head in 0..self.heads {
            let of = |rows: &'_ [Block], token: usize, i: usize| {
                rows.as_flattened()[token * row + head * size + i]
            };
            for token in 0..tokens {
                for i in 0..size {
                    let at = token * across * 16 + i;
                    query.as_flattened_mut()[at] = of(self.query, token, i) * scale;
                    value.as_flattened_mut()[at] = of(self.value, token, i);
                    key.as_flattened_mut()[i * along * 16 + token] = of(self.key, token, i);
                }
            }
            for first in (0..tokens).step_by(QUERIES) {
                let queries = &query[first * across..(first + QUERIES) * across];
                score::<L>(queries, across, key, size, along, scores);
                for scores in scores.chunks_exact_mut(along) {
                    softmax::<L>(scores, tokens);
                }
                for b in 0..across {
                    let sums = mix::<L>(scores, along, value, across, b, tokens);
                    for (token, sum) in (first..tokens).zip(sums) {
                        let start = token * row + head * size + b * 16;
                        let count = (size - b * 16).min(16);
                        context[start..start + count].copy_from_slice(&sum[..count]);
                    }
                }
            }
        }
    }
}

/// Scores of QUERIES queries with all keys: for each key the sum over the head's width, in order.
#[inline(always)]
fn score<L: Lanes>(
    queries: &[Block],
    across: usize,
    key: &[Block],
    size: usize,
    along: usize,
    scores: &mut [Block],
) {
    let queries = queries.as_flattened();
    for block in 0..along {
        let mut sums = [L::splat(0.0); QUERIES];
        for i in 0..size {
            let keys = L::load(&key[i * along + block]);
            for (q, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(L::splat(queries[q * across * 16 + i]).mul(keys));
            }
        }
        for (q, sum) in sums.into_iter().enumerate() {
            sum.store(&mut scores[q * along + block]);
        }
    }
}

/// Block `b` of the context of QUERIES queries: the sum over the tokens, in order.
#[inline(always)]
fn mix<L: Lanes>(
    scores: &[Block],
    along: usize,
    value: &[Block],
    across: usize,
    b: usize,
    tokens: usize,
) -> [Block; QUERIES] {
    let scores = scores.as_flattened();
    let mut sums = [L::splat(0.0); QUERIES];
    for token in 0..tokens {
        let values = L::load(&value[token * across + b]);
        for (q, sum) in sums.iter_mut().enumerate() {
            *sum = sum.add(L::splat(scores[q * along * 16 + token]).mul(values));
        }
    }
    let mut out = [[0.0; 16]; QUERIES];
    for (sum, out) in sums.into_iter().zip(&mut out) {
        sum.store(out);
    }
    out
}
