//! Damaged tables of n-grams: refused, or scored without a panic or a read out of bounds.

mod targets;

use std::sync::Arc;

use riskft_core::artifact::{self, Artifact, Tensor, TensorSet};
use riskft_core::grams::{Reader, Stored, View, MAX_TEXT};
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::Refusal;
use targets::grams::{files, table, VIEW};
use targets::memory::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Arrays as they are stored.
#[derive(Clone)]
struct Arrays {
    index: Vec<u64>,
    values: Vec<f32>,
    bias: Vec<f32>,
}

impl Arrays {
    fn open(&self) -> Result<Stored, Refusal> {
        let tensors = TensorSet::from([
            ("g.index".into(), Tensor::new(&[self.index.len() / 2, 2], &self.index)),
            ("g.values".into(), Tensor::new(&[self.values.len() / 2, 2], &self.values)),
            ("g.bias".into(), Tensor::new(&[self.bias.len()], &self.bias)),
        ]);
        open(&tensors, VIEW)
    }
    fn refused(&self, what: &str) {
        let refusal = self.open().err().unwrap_or_else(|| panic!("{what} is taken"));
        assert_eq!(refusal.code, "XX001", "{what}: {refusal:?}");
    }
}

fn open(tensors: &TensorSet, view: View) -> Result<Stored, Refusal> {
    let file = artifact::write(BlobKind::Version, "{}", tensors);
    Stored::open(&Artifact::open(Arc::new(file)).unwrap(), "g", view)
}

fn tensors() -> TensorSet {
    let mut tensors = TensorSet::new();
    table().store("g", &mut tensors);
    tensors
}

fn arrays() -> Arrays {
    let file = artifact::write(BlobKind::Version, "{}", &tensors());
    let file = Artifact::open(Arc::new(file)).unwrap();
    Arrays {
        index: file.slice("g.index").unwrap().to_vec(),
        values: file.slice("g.values").unwrap().to_vec(),
        bias: file.slice("g.bias").unwrap().to_vec(),
    }
}

#[test]
fn arrays_that_are_no_table_are_refused() {
    let sound = arrays();
    assert!(sound.open().is_ok());
    let damaged = |what: &str, change: &dyn Fn(&mut Arrays)| {
        let mut arrays = sound.clone();
        change(&mut arrays);
        arrays.refused(what);
    };
    for at in 0..sound.index.len() {
        for bit in [0, 7, 33, 63] {
            damaged("a bit more or less", &|a| a.index[at] ^= 1 << bit);
        }
    }
    damaged("no index", &|a| a.index.clear());
    damaged("a short index", &|a| a.index.truncate(6));
    damaged("a long index", &|a| a.index.extend([0, 0]));
    damaged("values to spare", &|a| a.values.extend([1.0, 1.0]));
    damaged("values that lack", &|a| a.values.truncate(4));
    damaged("no values", &|a| a.values.clear());
    damaged("a weight of NaN", &|a| a.values[5] = f32::NAN);
    damaged("an infinite frequency", &|a| a.values[2] = f32::NEG_INFINITY);
    damaged("an infinite bias", &|a| a.bias[0] = f32::INFINITY);
    damaged("two biases", &|a| a.bias.push(0.0));
}

#[test]
fn tensors_and_settings_that_do_not_fit_are_refused() {
    let refused = |tensors: &TensorSet, view: View| {
        assert_eq!(open(tensors, view).err().map(|r| r.code).as_deref(), Some("XX001"), "{view:?}");
    };
    assert!(open(&tensors(), VIEW).is_ok());
    refused(&tensors(), View { bits: 9, ..VIEW });
    refused(&tensors(), View { bits: 200, ..VIEW });
    refused(&tensors(), View { words: 0, characters: None, ..VIEW });
    for name in ["g.index", "g.values", "g.bias"] {
        let mut lacking = tensors();
        lacking.remove(name);
        refused(&lacking, VIEW);
        let mut other = tensors();
        other.insert(name.into(), Tensor::new(&[4], b"text"));
        refused(&other, VIEW);
    }
}

#[test]
fn largest_values_give_a_number() {
    let mut arrays = arrays();
    arrays.values.iter_mut().for_each(|value| *value = f32::MAX);
    let stored = arrays.open().unwrap();
    let text = "ab cd ".repeat(MAX_TEXT / 6);
    let tensors = TensorSet::from([
        ("g.index".into(), Tensor::new(&[arrays.index.len() / 2, 2], &arrays.index)),
        ("g.values".into(), Tensor::new(&[arrays.values.len() / 2, 2], &arrays.values)),
        ("g.bias".into(), Tensor::new(&[1], &arrays.bias)),
    ]);
    let file = artifact::write(BlobKind::Version, "{}", &tensors);
    let mut reader = Reader::default();
    assert!(stored.of(&file).score([(0, &*text), (1, &*text)], &mut reader).is_finite());
}

#[test]
fn reading_takes_little_memory() {
    let text = "각".repeat(1 << 20);
    memory::begin();
    let mut reader = Reader::default();
    let widest = View { words: 4, characters: Some((1, 8)), bits: 22, ..VIEW };
    widest.check().unwrap();
    let mut counted = 0;
    reader.read(&widest, 0, &text, |buckets| counted += buckets.len());
    let most = memory::most();
    assert!(most < 8 << 20 && most >= reader.bytes(), "{most} of {}", reader.bytes());
    println!("{counted} n-grams in {most} bytes");
}

/// As the fuzzer's target, with every bit of a table flipped once.
#[test]
fn flipped_bits_are_survived() {
    for seed in files() {
        for bit in 0..8 * seed.len() {
            let mut damaged = seed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            targets::grams::scored(&damaged);
        }
    }
}
