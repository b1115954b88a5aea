//! The encoder's layers, over the tokens of one or more texts.

use super::attention::{Attention, Buffers};
use super::weights::{Adapter, Files, Layer, Linear, Norm};
use super::Encoder;
use crate::gemm::{multiply, Kernel};
use crate::math::vector::{self, Activation, Scale};
use crate::math::{blocks, Block, Floats, Lanes, Task};

/// Tokens that go through a linear layer together: the widest layer's sums of 48 tokens stay in
/// the second cache.
const ROWS: usize = 48;

/// Buffers of an encoder, grown as needed and kept.
#[derive(Default)]
pub struct Scratch {
    states: Floats,
    query: Floats,
    key: Floats,
    value: Floats,
    context: Floats,
    inner: Floats,
    outer: Floats,
    sums: Floats,
    pooled: Floats,
    rows: Rows,
    attention: Buffers,
}

impl Scratch {
    /// Memory held, bytes.
    pub fn bytes(&self) -> usize {
        let floats = [
            &self.states,
            &self.query,
            &self.key,
            &self.value,
            &self.context,
            &self.inner,
            &self.outer,
            &self.sums,
            &self.pooled,
        ];
        floats.iter().map(|b| b.bytes()).sum::<usize>() + self.attention.bytes() + self.rows.bytes()
    }
}

/// Quantized rows: bytes, and a scale for each.
#[derive(Default)]
pub(crate) struct Rows {
    bytes: Vec<[u8; 16]>,
    scales: Vec<Scale>,
}

impl Rows {
    fn bytes(&self) -> usize {
        self.bytes.capacity() * 16 + self.scales.capacity() * size_of::<Scale>()
    }

    /// Quantizes rows of `row` blocks.
    pub(crate) fn fill(&mut self, kernel: Kernel, states: &mut [Block], row: usize) {
        self.bytes.resize(states.len(), [0; 16]);
        self.scales.resize(states.len() / row, Scale::default());
        kernel.run(Quantize { states, row, rows: self });
    }

    /// Applies a layer to the rows; `out` has rows of the layer's blocks.
    pub(crate) fn linear(
        &self,
        kernel: Kernel,
        layer: vector::Layer<'_>,
        activation: Activation,
        sums: &mut Floats,
        out: &mut [Block],
    ) {
        let width = layer.weights.blocks();
        let stride = match self.scales.len() {
            0 => return,
            rows => self.bytes.len() / rows,
        };
        let parts = self.bytes.chunks(ROWS * stride).zip(self.scales.chunks(ROWS));
        for ((bytes, scales), out) in parts.zip(out.chunks_mut(ROWS * width)) {
            let sums = sums.first_i32(scales.len() * width);
            multiply(kernel, bytes, stride, scales.len(), layer.weights, sums);
            kernel.run(Finish { sums, scales, layer, activation, out });
        }
    }
}

struct Quantize<'a> {
    states: &'a mut [Block],
    row: usize,
    rows: &'a mut Rows,
}

impl Task for Quantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let states = self.states.chunks_exact_mut(self.row);
        let bytes = self.rows.bytes.chunks_exact_mut(self.row);
        for ((state, bytes), scale) in states.zip(bytes).zip(&mut self.rows.scales) {
            *scale = vector::quantize::<L>(state, bytes);
        }
    }
}

struct Finish<'a> {
    sums: &'a [[i32; 16]],
    scales: &'a [Scale],
    layer: vector::Layer<'a>,
    activation: Activation,
    out: &'a mut [Block],
}

impl Task for Finish<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.layer.weights.blocks();
        let rows = self.sums.chunks_exact(width).zip(self.out.chunks_exact_mut(width));
        for ((sums, out), scale) in rows.zip(self.scales) {
            vector::finish::<L>(sums, *scale, self.layer, self.activation, out);
        }
    }
}

/// `states = norm(states + change)`, row by row.
struct AddNorm<'a> {
    states: &'a mut [Block],
    change: &'a [Block],
    norm: NormValues<'a>,
}

#[derive(Clone, Copy)]
struct NormValues<'a> {
    gain: &'a [Block],
    shift: &'a [Block],
    width: usize,
    epsilon: f32,
}

impl NormValues<'_> {
    #[inline(always)]
    fn apply<L: Lanes>(&self, row: &mut [Block]) {
        vector::layer_norm::<L>(row, self.width, self.epsilon, self.gain, self.shift);
    }
}

impl Task for AddNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let row = blocks(self.norm.width);
        for (state, change) in self.states.chunks_exact_mut(row).zip(self.change.chunks_exact(row))
        {
            for (state, change) in state.iter_mut().zip(change) {
                L::load(state).add(L::load(change)).store(state);
            }
            self.norm.apply::<L>(state);
        }
    }
}

/// Word, position and type embeddings of the tokens, normed.
struct Embed<'a> {
    encoder: &'a Encoder,
    files: Files<'a>,
    ids: &'a [u32],
    ends: &'a [usize],
    norm: NormValues<'a>,
    states: &'a mut [Block],
}

impl Task for Embed<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (shape, plan) = (&self.encoder.shape, &self.encoder.plan);
        let row = blocks(shape.width);
        let words = plan.word.of(self.files).as_chunks::<16>().0;
        let scales = plan.word_scale.of(self.files);
        let positions = plan.position.blocks(self.files);
        let types = plan.token_type.blocks(self.files);
        let mut start = 0;
        for end in self.ends {
            for token in start..*end {
                let id = (self.ids[token] as usize).min(shape.vocabulary);
                let id = if id == shape.vocabulary { 0 } else { id };
                let position = (shape.position_offset + token - start).min(shape.positions - 1);
                let state = &mut self.states[token * row..(token + 1) * row];
                let scale = L::splat(scales[id]);
                for (b, state) in state.iter_mut().enumerate() {
                    let word = L::from_i8(&words[id * row + b]).mul(scale);
                    let position = L::load(&positions[position * row + b]);
                    word.add(position).add(L::load(&types[b])).store(state);
                }
                self.norm.apply::<L>(state);
            }
            start = *end;
        }
    }
}

struct Mean<'a> {
    states: &'a [Block],
    row: usize,
    ends: &'a [usize],
    pooled: &'a mut [Block],
}

impl Task for Mean<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut start = 0;
        for (end, pooled) in self.ends.iter().zip(self.pooled.chunks_exact_mut(self.row)) {
            let count = L::splat((end - start).max(1) as f32);
            for (b, pooled) in pooled.iter_mut().enumerate() {
                let mut sum = L::splat(0.0);
                for token in start..*end {
                    sum = sum.add(L::load(&self.states[token * self.row + b]));
                }
                sum.div(count).store(pooled);
            }
            start = *end;
        }
    }
}

pub(super) fn pooled<'a>(
    encoder: &Encoder,
    kernel: Kernel,
    ids: &[u32],
    ends: &[usize],
    scratch: &'a mut Scratch,
) -> &'a [Block] {
    states(encoder, kernel, encoder.shape.layers, ids, ends, scratch);
    let row = blocks(encoder.shape.width);
    let states = scratch.states.first(ids.len() * row);
    let pooled = scratch.pooled.first(ends.len() * row);
    kernel.run(Mean { states, row, ends, pooled });
    scratch.pooled.first(ends.len() * row)
}

/// States after the first `layers` layers.
pub(super) fn states<'a>(
    encoder: &Encoder,
    kernel: Kernel,
    layers: usize,
    ids: &[u32],
    ends: &[usize],
    scratch: &'a mut Scratch,
) -> &'a [Block] {
    let files = encoder.files();
    let pass = Pass { encoder, files, kernel };
    let count = ids.len() * blocks(encoder.shape.width);
    let norm = pass.norm(&encoder.plan.norm);
    kernel.run(Embed { encoder, files, ids, ends, norm, states: scratch.states.first(count) });
    for layer in encoder.plan.layers.iter().take(layers) {
        // A layer is found in these bytes when the encoder is opened.
        if pass.attend(layer, count, ends, scratch).is_none()
            || pass.feed_forward(layer, count, scratch).is_none()
        {
            break;
        }
    }
    scratch.states.first(count)
}

struct Pass<'a> {
    encoder: &'a Encoder,
    files: Files<'a>,
    kernel: Kernel,
}

impl<'a> Pass<'a> {
    fn norm(&self, norm: &Norm) -> NormValues<'a> {
        NormValues {
            gain: norm.gain.blocks(self.files),
            shift: norm.shift.blocks(self.files),
            width: self.encoder.shape.width,
            epsilon: self.encoder.shape.norm_epsilon,
        }
    }

    fn linear(
        &self,
        rows: &Rows,
        layer: &Linear,
        activation: Activation,
        sums: &mut Floats,
        out: &mut [Block],
    ) -> Option<()> {
        rows.linear(self.kernel, layer.of(self.files)?, activation, sums, out);
        Some(())
    }

    /// Self-attention, and the norm after it. `count` blocks of states.
    fn attend(&self, layer: &Layer, count: usize, ends: &[usize], s: &mut Scratch) -> Option<()> {
        let shape = &self.encoder.shape;
        let row = blocks(shape.width);
        s.rows.fill(self.kernel, s.states.first(count), row);
        let query = s.query.first(count);
        let key = s.key.first(count);
        let value = s.value.first(count);
        self.linear(&s.rows, &layer.query, Activation::None, &mut s.sums, query)?;
        self.linear(&s.rows, &layer.key, Activation::None, &mut s.sums, key)?;
        self.linear(&s.rows, &layer.value, Activation::None, &mut s.sums, value)?;
        let context = s.context.first(count);
        clear_padding(context, shape.width);
        let mut start = 0;
        for end in ends {
            let text = start * row..end * row;
            self.kernel.run(Attention {
                heads: shape.heads,
                width: shape.width,
                query: &query[text.clone()],
                key: &key[text.clone()],
                value: &value[text.clone()],
                context: &mut context[text],
                buffers: &mut s.attention,
            });
            start = *end;
        }
        s.rows.fill(self.kernel, context, row);
        // The query's buffer is free again.
        self.linear(&s.rows, &layer.attention_output, Activation::None, &mut s.sums, query)?;
        self.adapt(
            layer.attention_adapter.as_ref(),
            query,
            &mut s.rows,
            &mut s.inner,
            &mut s.outer,
            &mut s.sums,
        )?;
        let (states, norm) = (s.states.first(count), self.norm(&layer.attention_norm));
        self.kernel.run(AddNorm { states, change: query, norm });
        Some(())
    }

    /// The two layers after attention, and the norm after them, a bounded number of rows at a time.
    fn feed_forward(&self, layer: &Layer, count: usize, s: &mut Scratch) -> Option<()> {
        let shape = &self.encoder.shape;
        let (row, wide) = (blocks(shape.width), blocks(shape.intermediate));
        for states in s.states.first(count).chunks_mut(ROWS * row) {
            s.rows.fill(self.kernel, states, row);
            let inner = s.inner.first(states.len() / row * wide);
            self.linear(&s.rows, &layer.intermediate, Activation::Gelu, &mut s.sums, inner)?;
            s.rows.fill(self.kernel, inner, wide);
            let change = s.query.first(states.len());
            self.linear(&s.rows, &layer.output, Activation::None, &mut s.sums, change)?;
            self.adapt(
                layer.output_adapter.as_ref(),
                change,
                &mut s.rows,
                &mut s.inner,
                &mut s.outer,
                &mut s.sums,
            )?;
            let norm = self.norm(&layer.output_norm);
            self.kernel.run(AddNorm { states, change, norm });
        }
        Some(())
    }

    /// `change + up(relu(down(change)))` in place of `change`.
    fn adapt(
        &self,
        adapter: Option<&Adapter>,
        change: &mut [Block],
        rows: &mut Rows,
        inner: &mut Floats,
        outer: &mut Floats,
        sums: &mut Floats,
    ) -> Option<()> {
        let Some(adapter) = adapter else { return Some(()) };
        let (row, narrow) = (blocks(self.encoder.shape.width), blocks(self.encoder.shape.adapter));
        rows.fill(self.kernel, change, row);
        let down = inner.first(change.len() / row * narrow);
        self.linear(rows, &adapter.down, Activation::Relu, sums, down)?;
        rows.fill(self.kernel, down, narrow);
        let up = outer.first(change.len());
        self.linear(rows, &adapter.up, Activation::None, sums, up)?;
        for (change, up) in change.as_flattened_mut().iter_mut().zip(up.as_flattened()) {
            *change += up;
        }
        Some(())
    }
}

/// Sets what lies beyond a row's width to zero.
fn clear_padding(rows: &mut [Block], width: usize) {
    if !width.is_multiple_of(16) {
        for row in rows.chunks_exact_mut(blocks(width)) {
            vector::clear_tail(row, width);
        }
    }
}
