//! Float -> int8, per output channel.
//!
//! A linear weight becomes `round(w / scale)` with `scale = max |w| / 127` over each output's
//! weights; a word embedding likewise over each token's row. Biases, norms, position and type
//! embeddings, number tables and category embeddings stay in f32. The same input always gives the
//! same bytes.

pub(crate) mod head;

use crate::artifact::{write, Artifact, Tensor, TensorSet};
use crate::encoder::BaseSpecification;
use crate::gemm;
use crate::grams;
use crate::model::{BranchKind, Specification, GRAMS, TREES};
use crate::network::{
    encoder_parts, EncoderPart, EncoderShape, FloatMember, FloatNetwork, PartKind, TensorMap,
};
use crate::protocol::BlobKind;
use crate::refusal::{code, Refusal, Result};
use crate::tokenize::Layout;
use crate::trees::Ensemble;

/// The int8 base encoder as a model file of kind `encoder`, vocabulary included.
/// All tensors of the shape must be there; `shape.adapter` must be 0.
pub fn base_encoder(
    shape: &EncoderShape,
    tensors: &TensorMap,
    vocabulary: &[u8],
) -> Result<Vec<u8>> {
    shape.check().map_err(unusable)?;
    let layout = Layout::check(vocabulary)
        .ok_or_else(|| unusable("Its compiled vocabulary is damaged.".to_owned()))?;
    if layout.tokens() > shape.vocabulary || shape.adapter != 0 {
        return Err(unusable(format!(
            "It has {} tokens, {} word embeddings and an adapter of {}.",
            layout.tokens(),
            shape.vocabulary,
            shape.adapter
        )));
    }
    let mut out = TensorSet::new();
    for part in encoder_parts(shape) {
        for (name, _) in part.tensors() {
            if !tensors.contains_key(&name) {
                return Err(unusable(format!("It has no tensor {name}.")));
            }
        }
        encoder_part(&part, tensors, &mut out)?;
    }
    out.insert("vocabulary".into(), Tensor::new(&[vocabulary.len()], vocabulary));
    let specification = BaseSpecification::new(shape.clone());
    Ok(write(BlobKind::Encoder, &json(&specification)?, &out))
}

/// What of a version is stored as tensors, beside its changed encoder.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    pub network: FloatNetwork,
    /// Over rows of [`crate::encode::Encoding::features`]; None in a version without that branch.
    pub trees: Option<Ensemble>,
    /// The branch `grams`.
    pub grams: Option<grams::Table>,
    /// As [`crate::encode::tables::tensors`] gives them; empty without statistics.
    pub statistics: TensorSet,
}

/// A version as a model file. `overlay` holds the encoder tensors that differ from the base's
/// (LoRA merged in float) and all adapters' tensors.
pub fn version(
    specification: &Specification,
    parts: &Parts,
    overlay: &TensorMap,
) -> Result<Vec<u8>> {
    let mut out = TensorSet::new();
    head::network(specification, &parts.network, &mut out)?;
    trees(specification, parts.trees.as_ref(), &mut out)?;
    grams(specification, parts.grams.as_ref(), &mut out)?;
    if specification.encoding.components.as_ref().is_some_and(|c| !c.store(&mut out)) {
        return Err(unusable("Its components have no loadings.".to_owned()));
    }
    out.extend(parts.statistics.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
    let parts = match &specification.encoder {
        Some(encoder) => encoder_parts(&encoder.shape),
        None => Vec::new(),
    };
    let mut used = 0;
    for part in parts {
        used += encoder_part(&part, overlay, &mut out)?;
    }
    if used != overlay.len() {
        return Err(unusable("The changed encoder tensors include an unknown one.".to_owned()));
    }
    Ok(write(BlobKind::Version, &json(specification)?, &out))
}

/// What of a version an update changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changed<'a> {
    pub members: &'a [FloatMember],
    /// Linear weights of texts: (text, [encoder width]).
    pub texts: &'a [(usize, Vec<f32>)],
    /// The branch `grams`, of the same view.
    pub grams: Option<&'a grams::Table>,
}

/// A version that differs from the one of `file` in its specification and in what is changed: all other
/// tensors are taken over to the bit.
pub fn updated(
    specification: &Specification,
    changed: &Changed<'_>,
    file: &Artifact,
) -> Result<Vec<u8>> {
    let mut out = file.tensors();
    out.retain(|name, _| !name.starts_with(head::MEMBERS));
    head::members(specification, changed.members, &mut out)?;
    for (text, weight) in changed.texts {
        head::text(specification, *text, weight, &mut out)?;
    }
    if changed.grams.is_some() {
        grams(specification, changed.grams, &mut out)?;
    }
    Ok(write(BlobKind::Version, &json(specification)?, &out))
}

fn trees(
    specification: &Specification,
    trees: Option<&Ensemble>,
    out: &mut TensorSet,
) -> Result<()> {
    let asked = specification.branch(BranchKind::Trees).is_some();
    match trees {
        Some(trees) if asked && trees.features() == specification.encoding.features() => {
            trees.store(TREES, out).map_err(|what| {
                Refusal::new(code::LIMIT_EXCEEDED, "boosted trees are too large")
                    .detail(format!("The trees cannot be stored: {what}."))
                    .hint("Set options.trees.rounds or options.trees.leaves lower.")
            })
        }
        None if !asked => Ok(()),
        _ => Err(unusable("Its trees do not fit its specification.".to_owned())),
    }
}

fn grams(
    specification: &Specification,
    grams: Option<&grams::Table>,
    out: &mut TensorSet,
) -> Result<()> {
    match (grams, &specification.grams) {
        (Some(table), Some(input)) if *table.view() == input.view => {
            table.store(GRAMS, out);
            Ok(())
        }
        (None, None) => Ok(()),
        _ => Err(unusable("Its n-grams do not fit its specification.".to_owned())),
    }
}

fn json(specification: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(specification)
        .map_err(|error| unusable(format!("The specification cannot be written: {error}.")))
}

fn unusable(detail: String) -> Refusal {
    Refusal::new(code::DATA_EXCEPTION, "trained network cannot be quantized")
        .detail(detail)
        .hint("Lower the learning rate, or report this if the training was an ordinary one.")
}

/// Adds what of a part is in `tensors`; returns how many tensors that were.
fn encoder_part(part: &EncoderPart, tensors: &TensorMap, out: &mut TensorSet) -> Result<usize> {
    let mut used = 0;
    for (name, shape) in part.tensors() {
        let Some(tensor) = tensors.get(&name) else { continue };
        if tensor.shape != shape {
            return Err(unusable(format!(
                "The shape of {name} is {:?}, not {shape:?}.",
                tensor.shape
            )));
        }
        let data = checked(&name, &tensor.data, shape.iter().product())?;
        used += 1;
        match part.kind {
            PartKind::Linear { outputs, inputs } if shape.len() == 2 => {
                linear_weight(&part.name, data, outputs, inputs, out)?;
            }
            PartKind::Words { rows, width } => words(&name, data, rows, width, out),
            _ => table(&name, data, &shape, out),
        }
    }
    Ok(used)
}

/// The values, if they are as many as wanted and all finite.
fn checked<'a>(name: &str, data: &'a [f32], count: usize) -> Result<&'a [f32]> {
    if data.len() != count {
        return Err(unusable(format!("The tensor {name} has {} values, not {count}.", data.len())));
    }
    if !data.iter().all(|v| v.is_finite()) {
        return Err(unusable(format!("The tensor {name} holds a value that is not finite.")));
    }
    Ok(data)
}

/// `NAME.weight` (packed int8), `NAME.scale` and `NAME.compensation`, filled up to whole blocks.
fn linear_weight(
    name: &str,
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    out: &mut TensorSet,
) -> Result<()> {
    if inputs == 0 || inputs > gemm::MAX_INPUTS {
        return Err(unusable(format!("The layer {name} has {inputs} inputs.")));
    }
    let mut bytes = Vec::with_capacity(weight.len());
    let scales: Vec<f32> =
        weight.chunks_exact(inputs).map(|row| symmetric(row, &mut bytes)).collect();
    let packed = gemm::pack(&bytes, outputs, inputs);
    let padded = [outputs.div_ceil(16) * 16];
    let compensation = gemm::compensation(&packed, outputs, inputs);
    out.insert(
        format!("{name}.weight"),
        Tensor::new(&gemm::packed_shape(outputs, inputs), &packed),
    );
    out.insert(format!("{name}.scale"), Tensor::new(&padded, &scales));
    out.insert(format!("{name}.compensation"), Tensor::new(&padded, &compensation));
    Ok(())
}

/// Appends `round(v / scale)`, -127..=127, and returns the scale (0 for a row of zeros).
fn symmetric(row: &[f32], bytes: &mut Vec<i8>) -> f32 {
    let top = row.iter().fold(0.0f32, |top, v| top.max(v.abs()));
    if top < 1e-30 {
        bytes.extend(row.iter().map(|_| 0i8));
        return 0.0;
    }
    let inverse = 127.0 / f64::from(top);
    bytes.extend(row.iter().map(|v| (f64::from(*v) * inverse).round_ties_even() as i8));
    top / 127.0
}

fn words(name: &str, data: &[f32], rows: usize, width: usize, out: &mut TensorSet) {
    let padded = width.div_ceil(16) * 16;
    let mut bytes = Vec::with_capacity(rows * padded);
    let mut scales = Vec::with_capacity(rows);
    for row in data.chunks_exact(width) {
        scales.push(symmetric(row, &mut bytes));
        bytes.resize(scales.len() * padded, 0);
    }
    out.insert(name.to_owned(), Tensor::new(&[rows, padded], &bytes));
    out.insert(format!("{name}.scale"), Tensor::new(&[rows], &scales));
}

/// Floats whose last dimension is filled up to whole blocks.
fn table(name: &str, data: &[f32], shape: &[usize], out: &mut TensorSet) {
    let width = shape.last().copied().unwrap_or(0);
    let padded = width.div_ceil(16) * 16;
    let mut values = Vec::with_capacity(data.len() / width.max(1) * padded);
    for row in data.chunks_exact(width.max(1)) {
        values.extend_from_slice(row);
        values.resize(values.len() + padded - width, 0.0);
    }
    let mut shape = shape.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = padded;
    }
    out.insert(name.to_owned(), Tensor::new(&shape, &values));
}
