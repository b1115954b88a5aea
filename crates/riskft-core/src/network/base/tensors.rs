//! The tensors of a `model.safetensors`, checked in place or copied in f32.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::names::{canonical_name, is_distilbert};
use super::{foreign, unsupported};
use crate::artifact::malformed;
use crate::network::{encoder_parts, EncoderShape, FloatTensor, PartKind, TensorMap};
use crate::refusal::Result;

/// Longest header that is parsed, bytes; that of 96 layers takes 300 kB.
pub const MAX_HEADER: u64 = 4 << 20;

const TOKEN_TYPES: &str = "embeddings.token_type";

/// The tensors of a `model.safetensors` (F32, F16 or BF16), in f32, by canonical name.
///
/// Tensors that the encoder does not use (pooler, a task's head) are left out; a missing one, one of
/// another shape than the config says, or a value that is not finite is 0A000. DistilBERT has no
/// token types: its table is one row of zeros.
pub fn read_tensors(shape: &EncoderShape, file: &[u8]) -> Result<TensorMap> {
    let file = open(file)?;
    let views = checked(shape, &file)?;
    let mut tensors: TensorMap = views
        .into_iter()
        .map(|(name, view)| {
            let data = floats(view.dtype(), view.data());
            (name, FloatTensor { shape: view.shape().to_vec(), data })
        })
        .collect();
    tensors.entry(TOKEN_TYPES.to_owned()).or_insert_with(|| FloatTensor {
        shape: vec![1, shape.width],
        data: vec![0.0; shape.width],
    });
    Ok(tensors)
}

/// Checks what [`read_tensors`] checks and copies nothing; the file may be a memory map.
pub fn check_tensors(shape: &EncoderShape, file: &[u8]) -> Result<()> {
    checked(shape, &open(file)?).map(|_| ())
}

/// Values in all tensors of an encoder.
pub fn parameters(shape: &EncoderShape) -> usize {
    let tensors = encoder_parts(shape).into_iter().flat_map(|part| part.tensors());
    tensors.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

fn open(file: &[u8]) -> Result<SafeTensors<'_>> {
    if let Some(refusal) = foreign(file, "model.safetensors") {
        return Err(refusal);
    }
    let unreadable =
        |why: String| unsupported(format!("Its model.safetensors cannot be read: {why}."));
    let length = file.first_chunk().map(|length| u64::from_le_bytes(*length));
    if let Some(length) = length.filter(|length| *length > MAX_HEADER) {
        return Err(unreadable(format!("its header claims {length} bytes")));
    }
    SafeTensors::deserialize(file).map_err(|error| unreadable(malformed(&error)))
}

/// The encoder's tensors by canonical name: all there, of the config's shapes, finite.
fn checked<'a>(
    shape: &EncoderShape,
    file: &'a SafeTensors<'_>,
) -> Result<BTreeMap<String, TensorView<'a>>> {
    let mut views = BTreeMap::new();
    let mut typeless = false;
    let mut all: Vec<(&str, TensorView<'_>)> = file.iter().collect();
    // Of several faulty tensors the same one is named each time.
    all.sort_unstable_by_key(|(name, _)| *name);
    for (name, view) in all {
        typeless |= is_distilbert(name);
        let Some(canonical) = canonical_name(name) else { continue };
        match finite(view.dtype(), view.data()) {
            None => return Err(unsupported(format!("Its tensor {name} is {:?}.", view.dtype()))),
            Some(false) => {
                return Err(unsupported(format!("Its tensor {name} holds values not finite.")))
            }
            Some(true) => {}
        }
        if views.insert(canonical, view).is_some() {
            return Err(unsupported(format!("Its tensor {name} is there twice.")));
        }
    }
    let mut used = BTreeMap::new();
    for (name, wanted) in encoder_parts(shape).into_iter().flat_map(|part| part.tensors()) {
        match views.remove(&name) {
            Some(view) if view.shape() == wanted => {
                used.insert(name, view);
            }
            None if name == TOKEN_TYPES && typeless && wanted.first() == Some(&1) => {}
            found => {
                let found = found.map_or("absent".to_owned(), |view| format!("{:?}", view.shape()));
                return Err(unsupported(format!(
                    "Its tensor {name} is {found}, the config says {wanted:?}."
                )));
            }
        }
    }
    Ok(used)
}

/// Whether all values are finite; None for a kind of numbers that is not read.
fn finite(dtype: Dtype, bytes: &[u8]) -> Option<bool> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        Dtype::BF16 => halves().all(|h| h & 0x7f80 != 0x7f80),
        Dtype::F16 => halves().all(|h| h & 0x7c00 != 0x7c00),
        _ => return None,
    })
}

/// Values of one of the kinds that [`finite`] knows.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match dtype {
        Dtype::BF16 => halves().map(|h| f32::from_bits(u32::from(h) << 16)).collect(),
        Dtype::F16 => halves().map(from_half).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

/// IEEE 754 binary16 -> binary32, exact.
fn from_half(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let bits = match magnitude >> 10 {
        // Zero and subnormals: multiples of 2^-24.
        0 => (magnitude as f32 / 16_777_216.0).to_bits(),
        31 => (magnitude << 13) | 0x7f80_0000,
        _ => (magnitude << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | bits)
}

impl crate::network::EncoderPart {
    /// Names and shapes of the part's float tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let name = &self.name;
        match self.kind {
            PartKind::Words { rows, width } | PartKind::Table { rows, width } => {
                vec![(name.clone(), vec![rows, width])]
            }
            PartKind::Norm { width } => {
                vec![(format!("{name}.weight"), vec![width]), (format!("{name}.bias"), vec![width])]
            }
            PartKind::Linear { outputs, inputs } => vec![
                (format!("{name}.weight"), vec![outputs, inputs]),
                (format!("{name}.bias"), vec![outputs]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (half, float) in [
            (0x0000, 0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(from_half(half), float, "{half:#06x}");
        }
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    fn values_not_finite_are_seen_in_each_kind() {
        for half in 0..=u16::MAX {
            let bytes = half.to_le_bytes();
            for dtype in [Dtype::F16, Dtype::BF16] {
                let value = floats(dtype, &bytes)[0];
                assert_eq!(finite(dtype, &bytes), Some(value.is_finite()), "{dtype:?} {half:#x}");
            }
        }
        assert_eq!(finite(Dtype::F32, &f32::NAN.to_le_bytes()), Some(false));
        assert_eq!(finite(Dtype::F32, &f32::MAX.to_le_bytes()), Some(true));
        assert_eq!(finite(Dtype::I64, &[0; 8]), None);
    }
}
