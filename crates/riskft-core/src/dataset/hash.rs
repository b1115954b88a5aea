//! A hash of each row's values: stable across machines, versions, column orders and row orders.
//!
//! A value's hash is FNV-1a (64 bits) of its type tag and its canonical bytes (little endian;
//! -0 as 0, every NaN as one). A row's hash takes its columns in the order of their names (bytes)
//! and mixes each name and value in with the finaliser of SplitMix64. The seed comes first.

use super::{Column, ColumnData, Dataset};
use crate::cell::Cell;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
const NULL: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hashes of all rows over the columns that `keep` accepts (by index).
pub fn row_hashes(data: &Dataset, seed: u64, keep: impl Fn(usize) -> bool) -> Vec<u64> {
    let mut order: Vec<usize> = (0..data.columns.len()).filter(|i| keep(*i)).collect();
    order.sort_by(|a, b| data.columns[*a].source.name.cmp(&data.columns[*b].source.name));
    let mut hashes = vec![mix(seed ^ NULL); data.rows];
    for index in order {
        let column = &data.columns[index];
        let name = fnv(b'n', column.source.name.as_bytes());
        let texts = text_hashes(column);
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = mix(*hash ^ mix(name ^ value_hash(column, row, &texts)));
        }
    }
    hashes
}

/// The hash of a row as a model sees it: its cells in the order of the encoding's columns. A version
/// keeps those of the rows that it was fitted on, so that an evaluation can tell them again.
pub fn cells_hash(cells: &[Cell<'_>]) -> u64 {
    cells.iter().fold(mix(NULL), |hash, cell| {
        let value = match *cell {
            Cell::Null => NULL,
            Cell::Bool(v) => fnv(b'b', &[u8::from(v)]),
            Cell::Int(v) => fnv(b'i', &v.to_le_bytes()),
            Cell::Float(v) => fnv(b'f', &canonical(v).to_le_bytes()),
            Cell::Date(v) => fnv(b'd', &v.to_le_bytes()),
            Cell::Timestamp(v) => fnv(b's', &v.to_le_bytes()),
            Cell::Text(v) => fnv(b't', v.as_bytes()),
        };
        mix(hash ^ value)
    })
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a bijection.
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(NULL);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a of some bytes, mixed.
pub fn bytes_hash(bytes: &[u8]) -> u64 {
    mix(fnv(b't', bytes))
}

fn fnv(tag: u8, bytes: &[u8]) -> u64 {
    std::iter::once(&tag)
        .chain(bytes)
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Hashes of a text column's distinct values.
fn text_hashes(column: &Column) -> Vec<u64> {
    match &column.data {
        ColumnData::Text { values, .. } => values.iter().map(|v| fnv(b't', v.as_bytes())).collect(),
        _ => Vec::new(),
    }
}

fn value_hash(column: &Column, row: usize, texts: &[u64]) -> u64 {
    if !column.present[row] {
        return NULL;
    }
    match &column.data {
        ColumnData::Bool(v) => fnv(b'b', &[u8::from(v[row])]),
        ColumnData::Int(v) => fnv(b'i', &v[row].to_le_bytes()),
        ColumnData::Float(v) => fnv(b'f', &canonical(v[row]).to_le_bytes()),
        ColumnData::Date(v) => fnv(b'd', &v[row].to_le_bytes()),
        ColumnData::Timestamp(v) => fnv(b's', &v[row].to_le_bytes()),
        ColumnData::Text { codes, .. } => texts[codes[row] as usize],
    }
}

fn canonical(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        (value + 0.0).to_bits()
    }
}
