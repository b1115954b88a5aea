//! Tensors -> the bytes of a model file; the same tensors always give the same bytes.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::{Element, FORMAT};
use crate::protocol::BlobKind;

/// Tensors by name.
pub type TensorSet = BTreeMap<String, Tensor>;

/// A tensor on its way into a file, row-major, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// `data` has as many elements as the shape's product; a shorter one is filled with zeros.
    pub fn new<T: Element>(shape: &[usize], data: &[T]) -> Self {
        let mut bytes = bytemuck::cast_slice::<T, u8>(data).to_vec();
        bytes.resize(shape.iter().product::<usize>() * size_of::<T>(), 0);
        Tensor { dtype: T::DTYPE, shape: shape.to_vec(), bytes }
    }

    pub(super) fn raw(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Self {
        Tensor { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() }
    }

    /// Sorts cache-line sized tensors first, then by element size, so that every tensor is aligned
    /// to its elements without holes (which safetensors forbids) and the large ones to 64 bytes.
    fn class(&self) -> usize {
        if self.bytes.len().is_multiple_of(LINE) {
            0
        } else {
            8 - self.dtype.bitsize() / 8
        }
    }
}

/// Bytes of a cache line; the data of a file starts at a multiple of it.
const LINE: usize = 64;

/// The bytes of a model file.
pub fn write(kind: BlobKind, specification: &str, tensors: &TensorSet) -> Vec<u8> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(name, tensor)| (tensor.class(), *name));
    let mut header = format!(
        "{{\"__metadata__\":{{\"riskft\":{},\"kind\":{},\"specification\":{}}}",
        quoted(FORMAT),
        quoted(kind.name()),
        quoted(specification)
    );
    let mut offset = 0;
    for (name, tensor) in &order {
        let end = offset + tensor.bytes.len();
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        header.push_str(&format!(
            ",{}:{{\"dtype\":\"{:?}\",\"shape\":[{}],\"data_offsets\":[{offset},{end}]}}",
            quoted(name),
            tensor.dtype,
            shape.join(",")
        ));
        offset = end;
    }
    header.push('}');
    while !(8 + header.len()).is_multiple_of(LINE) {
        header.push(' ');
    }
    let mut out = Vec::with_capacity(8 + header.len() + offset);
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    for (_, tensor) in &order {
        out.extend_from_slice(&tensor.bytes);
    }
    out
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
