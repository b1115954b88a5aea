//! Attention of one text in f32: scores, softmax, context.

use std::ops::Range;

use crate::math::vector::softmax;
use crate::math::{blocks, Block, Floats, Lanes, Task};

/// Queries that are computed together; each has sums of its own, so the number is free.
const QUERIES: usize = 4;

/// Buffers, kept between texts.
#[derive(Default)]
pub(super) struct Buffers {
    query: Floats,
    /// Transposed: [width of a head, blocks of keys].
    key: Floats,
    value: Floats,
    scores: Floats,
    mixed: Floats,
}

impl Buffers {
    pub(super) fn bytes(&self) -> usize {
        [&self.query, &self.key, &self.value, &self.scores, &self.mixed]
            .iter()
            .map(|b| b.bytes())
            .sum()
    }
}

/// `softmax(q k' / sqrt(width of a head)) v` for each head; rows of `blocks(width)` blocks.
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
        let (across, along) = (blocks(size), blocks(tokens));
        let tiles = tokens.div_ceil(QUERIES);
        let query = self.buffers.query.first((tiles * size * QUERIES).div_ceil(16));
        let key = self.buffers.key.first(size * along);
        let value = self.buffers.value.first(tokens * across);
        let scores = self.buffers.scores.first(QUERIES * along);
        let mixed = self.buffers.mixed.first(QUERIES * across);
        // What lies beyond the tokens and beyond a head's width is never written below: zeros.
        query.as_flattened_mut().fill(0.0);
        key.as_flattened_mut().fill(0.0);
        value.as_flattened_mut().fill(0.0);
        let scale = 1.0 / (size as f32).sqrt();
        for head in 0..self.heads {
            let at = head * size..(head + 1) * size;
            gather_queries(self.query, row, at.clone(), scale, query.as_flattened_mut());
            gather_keys(self.key, row, at.clone(), along * 16, key.as_flattened_mut());
            let values = self.value.as_flattened().chunks_exact(row);
            for (from, to) in values.zip(value.chunks_exact_mut(across)) {
                to.as_flattened_mut()[..size].copy_from_slice(&from[at.clone()]);
            }
            let context = self.context.as_flattened_mut().chunks_mut(QUERIES * row);
            let queries = query.as_flattened().chunks_exact(size * QUERIES);
            for (context, queries) in context.zip(queries) {
                score::<L>(queries.as_chunks().0, key, along, scores);
                for scores in scores.chunks_exact_mut(along) {
                    softmax::<L>(scores, tokens);
                }
                mix::<L>(scores, along, value, across, tokens, mixed);
                let rows = context.chunks_exact_mut(row).zip(mixed.chunks_exact(across));
                for (context, mixed) in rows {
                    context[at.clone()].copy_from_slice(&mixed.as_flattened()[..size]);
                }
            }
        }
    }
}

/// Scaled queries of a head, [tiles][width of a head][QUERIES].
#[inline(always)]
fn gather_queries(rows: &[Block], row: usize, at: Range<usize>, scale: f32, out: &mut [f32]) {
    let tiles = rows.as_flattened().chunks(QUERIES * row);
    for (rows, tile) in tiles.zip(out.chunks_exact_mut(at.len() * QUERIES)) {
        for (q, from) in rows.chunks_exact(row).enumerate() {
            for (to, from) in tile.as_chunks_mut::<QUERIES>().0.iter_mut().zip(&from[at.clone()]) {
                to[q] = from * scale;
            }
        }
    }
}

/// Keys of a head, transposed: [width of a head][stride].
#[inline(always)]
fn gather_keys(rows: &[Block], row: usize, at: Range<usize>, stride: usize, out: &mut [f32]) {
    for (token, from) in rows.as_flattened().chunks_exact(row).enumerate() {
        for (to, from) in out.chunks_exact_mut(stride).zip(&from[at.clone()]) {
            to[token] = *from;
        }
    }
}

/// Scores of QUERIES queries with all keys: for each key the sum over the head's width, in order.
#[inline(always)]
fn score<L: Lanes>(queries: &[[f32; QUERIES]], key: &[Block], along: usize, scores: &mut [Block]) {
    let mut block = 0;
    while block < along {
        if L::REGISTERS >= 32 && block + 2 <= along {
            score_blocks::<L, 2>(queries, key, along, block, scores);
            block += 2;
        } else {
            score_blocks::<L, 1>(queries, key, along, block, scores);
            block += 1;
        }
    }
}

#[inline(always)]
fn score_blocks<L: Lanes, const B: usize>(
    queries: &[[f32; QUERIES]],
    key: &[Block],
    along: usize,
    block: usize,
    scores: &mut [Block],
) {
    let mut sums = [[L::splat(0.0); B]; QUERIES];
    for (queries, keys) in queries.iter().zip(key.chunks_exact(along)) {
        let keys = &keys[block..block + B];
        for (sums, query) in sums.iter_mut().zip(queries) {
            let query = L::splat(*query);
            for (sum, keys) in sums.iter_mut().zip(keys) {
                *sum = sum.add(query.mul(L::load(keys)));
            }
        }
    }
    for (sums, scores) in sums.into_iter().zip(scores.chunks_exact_mut(along)) {
        for (sum, score) in sums.into_iter().zip(&mut scores[block..]) {
            sum.store(score);
        }
    }
}

/// Context of QUERIES queries, [QUERIES][across]: for each value the sum over the tokens, in order.
#[inline(always)]
fn mix<L: Lanes>(
    scores: &[Block],
    along: usize,
    value: &[Block],
    across: usize,
    tokens: usize,
    context: &mut [Block],
) {
    let rows: [&[f32]; QUERIES] =
        std::array::from_fn(|q| &scores[q * along..].as_flattened()[..tokens]);
    let mut block = 0;
    while block < across {
        if L::REGISTERS >= 32 && block + 2 <= across {
            mix_blocks::<L, 2>(rows, value, across, block, context);
            block += 2;
        } else {
            mix_blocks::<L, 1>(rows, value, across, block, context);
            block += 1;
        }
    }
}

#[inline(always)]
fn mix_blocks<L: Lanes, const B: usize>(
    rows: [&[f32]; QUERIES],
    value: &[Block],
    across: usize,
    block: usize,
    context: &mut [Block],
) {
    let mut sums = [[L::splat(0.0); B]; QUERIES];
    for (token, values) in value.chunks_exact(across).enumerate().take(rows[0].len()) {
        let values = &values[block..block + B];
        for (sums, row) in sums.iter_mut().zip(rows) {
            let score = L::splat(row[token]);
            for (sum, values) in sums.iter_mut().zip(values) {
                *sum = sum.add(score.mul(L::load(values)));
            }
        }
    }
    for (sums, context) in sums.into_iter().zip(context.chunks_exact_mut(across)) {
        for (sum, context) in sums.into_iter().zip(&mut context[block..]) {
            sum.store(context);
        }
    }
}
