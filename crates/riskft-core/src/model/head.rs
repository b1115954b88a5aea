//! The members of the network and the weights of the texts, over the version's file.

use super::landmarks::Landmarks;
use super::Specification;
use crate::artifact::{Artifact, ArtifactError, View};
use crate::encode::{EncodedRow, MAX_BINS};
use crate::encoder::{Files, Linear, Rows};
use crate::gemm::Kernel;
use crate::math::vector::{self, Activation};
use crate::math::{blocks, Block, Floats, Lanes, Task};
use crate::network::NUMBER_WIDTH;
use crate::quantize::head::tabular_inputs;

/// Floats of one slot of a number's table: the sum so far, and the slope.
const SLOT: usize = 2 * NUMBER_WIDTH;
/// Slots of a number's table: bins, the end, and the missing value.
const SLOTS: usize = MAX_BINS + 2;

pub(super) struct Head {
    members: Vec<Member>,
    texts: Vec<Term>,
    inputs: usize,
    hidden: usize,
    width: usize,
}

/// The term of a text: linear in its vector, and by what is near it.
struct Term {
    /// All its weights are zero: the encoder need not read the text.
    silent: bool,
    weight: View<f32>,
    bias: View<f32>,
    landmarks: Option<Landmarks>,
}

struct Member {
    numbers: Option<View<f32>>,
    /// Table, and its row length.
    categories: Vec<(View<f32>, usize)>,
    layers: [Linear; 2],
    output: View<f32>,
    bias: View<f32>,
}

/// Buffers of the head.
#[derive(Default)]
pub(super) struct Buffers {
    inputs: Floats,
    first: Floats,
    second: Floats,
    sums: Floats,
    rows: Rows,
}

impl Buffers {
    pub(super) fn bytes(&self) -> usize {
        [&self.inputs, &self.first, &self.second, &self.sums].iter().map(|b| b.bytes()).sum()
    }
}

impl Head {
    pub(super) fn find(file: &Artifact, s: &Specification) -> Result<Self, ArtifactError> {
        let width = s.encoder.as_ref().map_or(0, |encoder| encoder.shape.width);
        let members = (0..s.members).map(|m| Member::find(file, s, m));
        let count = if s.encoder.is_some() { s.encoding.texts.len() } else { 0 };
        let landmarks = |f: usize| s.landmarks.get(f).copied().filter(|count| *count > 0);
        let texts = (0..count).map(|f| {
            let find = |count| Landmarks::find(file, f, count, width);
            let weight = file.finite(&format!("text.{f}.weight"), &[blocks(width) * 16])?;
            let bias = file.finite(&format!("text.{f}.bias"), &[1])?;
            let landmarks = landmarks(f).map(find).transpose()?;
            let bytes = (**file.storage()).as_ref();
            let zero = |view: View<f32>| view.of(bytes).iter().all(|value| *value == 0.0);
            Ok(Term {
                silent: landmarks.is_none() && zero(weight) && zero(bias),
                weight,
                bias,
                landmarks,
            })
        });
        Ok(Head {
            members: members.collect::<Result<_, _>>()?,
            texts: texts.collect::<Result<_, ArtifactError>>()?,
            inputs: tabular_inputs(&s.encoding),
            hidden: s.hidden,
            width,
        })
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Each member's logit of each row, into `logits` [members, rows]. A row's logits depend on no
    /// other row.
    pub(super) fn tabular(
        &self,
        kernel: Kernel,
        file: &[u8],
        rows: &[EncodedRow],
        buffers: &mut Buffers,
        logits: &mut Vec<f64>,
    ) {
        logits.clear();
        for member in &self.members {
            let bias = f64::from(member.bias.of(file).first().copied().unwrap_or(0.0));
            let first = logits.len();
            // A layer that does not lie in the file was refused at opening.
            let _ = self.hidden_layers(member, kernel, file, rows, buffers, logits);
            logits.resize(first + rows.len(), 0.0);
            logits[first..].iter_mut().for_each(|logit| *logit += bias);
        }
    }

    /// Appends the output weights' product with the second hidden layer, for each row.
    fn hidden_layers(
        &self,
        member: &Member,
        kernel: Kernel,
        file: &[u8],
        rows: &[EncodedRow],
        b: &mut Buffers,
        out: &mut Vec<f64>,
    ) -> Option<()> {
        let [one, two] = &member.layers;
        let files = Files { base: file, version: file };
        let (row, width) = (blocks(self.inputs), blocks(self.hidden));
        let inputs = b.inputs.first(rows.len() * row);
        for (row, inputs) in rows.iter().zip(inputs.chunks_exact_mut(row)) {
            member.inputs(file, row, inputs.as_flattened_mut());
        }
        let (first, second) =
            (b.first.first(rows.len() * width), b.second.first(rows.len() * width));
        b.rows.fill(kernel, inputs, row);
        b.rows.linear(kernel, one.of(files)?, Activation::Relu, &mut b.sums, first);
        b.rows.fill(kernel, first, width);
        b.rows.linear(kernel, two.of(files)?, Activation::Relu, &mut b.sums, second);
        let weights = member.output.of(file).as_chunks().0;
        let states = second.chunks_exact(width);
        out.extend(states.map(|state| f64::from(kernel.run(Dot(state, weights)))));
        Some(())
    }

    /// Whether text `f` can add anything.
    pub(super) fn has_term(&self, f: usize) -> bool {
        self.texts.get(f).is_some_and(|term| !term.silent)
    }

    /// The term of text `f`, from its pooled vector, which is normalised in place.
    pub(super) fn text(&self, kernel: Kernel, file: &[u8], f: usize, pooled: &mut [Block]) -> f32 {
        kernel.run(Normalise(pooled, self.width));
        let Some(term) = self.texts.get(f) else { return 0.0 };
        let bias = term.bias.of(file).first().copied().unwrap_or(0.0);
        let linear = kernel.run(Dot(pooled, term.weight.of(file).as_chunks().0)) + bias;
        match &term.landmarks {
            Some(landmarks) => {
                (f64::from(linear) + landmarks.term(kernel, file, pooled, self.width)) as f32
            }
            None => linear,
        }
    }
}

impl Member {
    fn find(file: &Artifact, s: &Specification, m: usize) -> Result<Self, ArtifactError> {
        let name = |part: &str| format!("member.{m}.{part}");
        let encoding = &s.encoding;
        let numbers = match encoding.numbers.len() {
            0 => None,
            count => Some(file.finite(&name("numbers"), &[count, SLOTS, 2, NUMBER_WIDTH])?),
        };
        let categories = encoding.categories.iter().enumerate().map(|(k, category)| {
            let shape = [category.codes(), category.dimension()];
            Ok((file.finite(&name(&format!("category.{k}")), &shape)?, shape[1]))
        });
        let one = Linear::find(file, &name("hidden.0"), s.hidden, tabular_inputs(encoding))?;
        let two = Linear::find(file, &name("hidden.1"), s.hidden, s.hidden)?;
        Ok(Member {
            numbers,
            categories: categories.collect::<Result<_, ArtifactError>>()?,
            layers: [one, two],
            output: file.finite(&name("output.weight"), &[blocks(s.hidden) * 16])?,
            bias: file.finite(&name("output.bias"), &[1])?,
        })
    }

    /// The first layer's inputs: the numbers' vectors, the categories' embeddings, zeros.
    fn inputs(&self, file: &[u8], row: &EncodedRow, mut out: &mut [f32]) {
        let numbers = self.numbers.map_or(&[][..], |numbers| numbers.of(file));
        for (table, z) in numbers.chunks_exact(SLOTS * SLOT).zip(&row.positions) {
            let Some((h, rest)) = out.split_first_chunk_mut::<NUMBER_WIDTH>() else { return };
            number(table, *z, h);
            out = rest;
        }
        for ((table, width), code) in self.categories.iter().zip(&row.codes) {
            let table = table.of(file);
            let Some((e, rest)) = out.split_at_mut_checked(*width) else { return };
            // A code that the table lacks counts as unseen.
            let start = *code as usize * width;
            let known = table.get(start..start + width).or_else(|| table.get(..*width));
            match known {
                Some(known) => e.copy_from_slice(known),
                None => e.fill(0.0),
            }
            out = rest;
        }
        out.fill(0.0);
    }
}

/// `relu(sum up to the bin + share of the bin * its slope)`.
#[inline]
fn number(table: &[f32], z: f32, h: &mut [f32; NUMBER_WIDTH]) {
    let (slot, share) = if z.is_nan() {
        (SLOTS - 1, 0.0)
    } else {
        let z = z.clamp(0.0, MAX_BINS as f32);
        (z as usize, z - (z as usize) as f32)
    };
    let Some((sum, slope)) = table
        .get(slot * SLOT..(slot + 1) * SLOT)
        .and_then(|slot| slot.split_first_chunk::<NUMBER_WIDTH>())
    else {
        return h.fill(0.0);
    };
    for ((h, sum), slope) in h.iter_mut().zip(sum).zip(slope) {
        let v = sum + share * slope;
        *h = if v > 0.0 { v } else { 0.0 };
    }
}

pub(super) struct Dot<'a>(pub &'a [Block], pub &'a [Block]);
impl Task for Dot<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        vector::dot::<L>(self.0, self.1)
    }
}

/// Adds a multiple of one row to another.
pub(super) struct AddShare<'a>(pub &'a mut [Block], pub f32, pub &'a [Block]);
impl Task for AddShare<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        vector::add_share::<L>(self.0, self.1, self.2);
    }
}

struct Normalise<'a>(&'a mut [Block], usize);
impl Task for Normalise<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self) {
        vector::normalise::<L>(self.0, self.1, 1e-5);
    }
}
