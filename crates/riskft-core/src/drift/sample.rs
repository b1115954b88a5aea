//! Rows that are kept to be scored, out of any number that pass by.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::cell::Cell;
use crate::dataset::hash::mix;

/// Rows of a sample, at most. Without drift so many add less than 0.002 to the index of ten bins in
/// 95 cases of 100.
pub const MOST_ROWS: usize = 10_000;
/// Bytes of the sample's texts, beyond which it has fewer rows.
pub const MOST_BYTES: usize = 64 << 20;

/// The rows whose numbers, counted from the first, have the lowest hashes: all of few, and of more
/// such as do not depend on what the rows hold. By hashes of the cells, equal rows would be all in
/// the sample or all out of it.
pub struct Sample {
    most: usize,
    most_bytes: usize,
    kept: BinaryHeap<Sampled>,
    bytes: usize,
    seen: u64,
}

/// A row of the sample.
pub struct Sampled {
    rank: u64,
    cells: Vec<Owned>,
    bytes: usize,
}

enum Owned {
    Plain(Cell<'static>),
    Text(Box<str>),
}

impl Sample {
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Sample { most, most_bytes, kept: BinaryHeap::new(), bytes: 0, seen: 0 }
    }

    /// Takes the next row, or passes it over.
    pub fn offer(&mut self, cells: &[Cell<'_>]) {
        let rank = mix(self.seen);
        self.seen += 1;
        let full = self.kept.len() >= self.most;
        if full && self.kept.peek().is_none_or(|highest| rank >= highest.rank) {
            return;
        }
        let row = Sampled::of(rank, cells);
        self.bytes += row.bytes;
        self.kept.push(row);
        while self.kept.len() > self.most || (self.bytes > self.most_bytes && self.kept.len() > 1) {
            let Some(dropped) = self.kept.pop() else { break };
            self.bytes -= dropped.bytes;
            // What comes later must rank below all that was dropped.
            self.most = self.most.min(self.kept.len());
        }
    }

    /// Whether rows were passed over.
    pub fn is_partial(&self) -> bool {
        self.seen > self.kept.len() as u64
    }

    /// The rows kept, by their hashes.
    pub fn rows(self) -> Vec<Sampled> {
        self.kept.into_sorted_vec()
    }
}

impl Sampled {
    fn of(rank: u64, cells: &[Cell<'_>]) -> Self {
        let own = |cell: &Cell<'_>| match *cell {
            Cell::Text(text) => Owned::Text(text.into()),
            Cell::Null => Owned::Plain(Cell::Null),
            Cell::Bool(v) => Owned::Plain(Cell::Bool(v)),
            Cell::Int(v) => Owned::Plain(Cell::Int(v)),
            Cell::Float(v) => Owned::Plain(Cell::Float(v)),
            Cell::Date(v) => Owned::Plain(Cell::Date(v)),
            Cell::Timestamp(v) => Owned::Plain(Cell::Timestamp(v)),
        };
        let text = |cell: &Cell<'_>| match cell {
            Cell::Text(text) => text.len(),
            _ => 0,
        };
        Sampled {
            rank,
            cells: cells.iter().map(own).collect(),
            bytes: cells.iter().map(text).sum(),
        }
    }

    /// Its cells, in the order in which they were offered.
    pub fn cells(&self) -> Vec<Cell<'_>> {
        self.cells.iter().map(Owned::cell).collect()
    }
}

impl Owned {
    fn cell(&self) -> Cell<'_> {
        match self {
            Owned::Plain(cell) => *cell,
            Owned::Text(text) => Cell::Text(text),
        }
    }
}

impl PartialEq for Sampled {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl Eq for Sampled {}
impl PartialOrd for Sampled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sampled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}
