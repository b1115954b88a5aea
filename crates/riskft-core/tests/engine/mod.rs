//! What the engine's tests share: golden files, the base model's folder.
#![allow(dead_code)]

pub mod version;

use std::path::PathBuf;

use riskft_core::tokenize::{self, Normaliser};
use safetensors::SafeTensors;

/// A file of the golden folder.
pub fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The base model's folder; None, with the reason printed, where it is not given.
pub fn base_dir(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("RISKFT_BASE_DIR").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: {test}: RISKFT_BASE_DIR does not name the folder of minilm-l6");
    }
    folder
}

/// Texts as ids, and what transformers made of them.
pub struct Golden {
    file: Vec<u8>,
    pub ids: Vec<u32>,
    pub ends: Vec<usize>,
    /// [texts, width]
    pub pooled: Vec<f32>,
    /// The same, with the engine's rounding to int8 emulated.
    pub emulated: Vec<f32>,
}

impl Golden {
    pub fn read(name: &str) -> Self {
        let file = golden(name);
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let integers = |name: &str| -> Vec<i32> {
            let data = tensors.tensor(name).unwrap().data().to_vec();
            data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
        };
        let ids = integers("ids").iter().map(|id| *id as u32).collect();
        let ends = integers("ends").iter().map(|end| *end as usize).collect();
        let mut golden = Golden { file: file.clone(), ids, ends, pooled: vec![], emulated: vec![] };
        golden.pooled = golden.tensor("pooled");
        golden.emulated = golden.tensor("emulated");
        golden
    }
    pub fn tensor(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.file).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
    pub fn texts(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = &self.ids[start..*end];
            start = *end;
            text
        })
    }
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A vocabulary for the tiny BERT: special tokens, letters, digits and some pieces.
pub fn tiny_vocabulary() -> Vec<u8> {
    let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from).to_vec();
    for c in ('a'..='z').chain('0'..='9').chain(['.', ',', '\'']) {
        tokens.push(c.to_string());
        tokens.push(format!("##{c}"));
    }
    for word in ["loan", "bank", "new", "york", "##ing", "##s", "inc", "llc", "full", "##er"] {
        tokens.push(word.into());
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    tokenize::compile(&tokens, Normaliser::UNCASED, 100).unwrap()
}

/// A generator of test numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
    /// -1..1
    pub fn float(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u32 << 23) as f32) - 1.0
    }
    /// -127..=127
    pub fn int8(&mut self) -> i8 {
        (self.below(255) as i32 - 127) as i8
    }
}
