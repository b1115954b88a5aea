//! What hostile bytes are thrown at: one function for each parser of the core.
//!
//! `tests/corpus.rs` replays the kept inputs through them; `fuzz/` searches for new ones with
//! libFuzzer. A target returns, whatever the bytes are: a panic, an overflow, a refusal in the wrong
//! manner, or memory beyond [`MOST_MEMORY`] is a fault of the core.
#![allow(dead_code)]

pub mod bundles;
mod bytes;
pub mod dwarf;
pub mod grams;
pub mod memory;
mod models;
pub mod reducers;
mod settings;
mod tables;
pub mod trees;
mod words;

use riskft_core::refusal::{Refusal, MAX_WORDS};

/// Most bytes that a target may hold at once, for an input of at most [`MOST_INPUT`] bytes: far
/// below what lengths and shapes that lie would ask for.
pub const MOST_MEMORY: usize = 32 << 20;
/// Longest input, bytes. Longer ones are of the same kinds.
pub const MOST_INPUT: usize = 64 << 10;

/// How an input is made up, for a mutator that keeps its lengths true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON text, or a safetensors file, or neither.
    One,
    /// `u32 LE length`, that many bytes, the rest: two files.
    Pair,
    /// Frames of the protocol.
    Frames,
    /// An exported model.
    Bundle,
}

pub struct Target {
    pub name: &'static str,
    pub form: Form,
    pub run: fn(&[u8]),
    /// Sound inputs, which the kept ones are mutations of.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "artifact", form: Form::One, run: models::version, seeds: models::versions },
    Target { name: "encoder", form: Form::One, run: models::encoder, seeds: models::encoders },
    Target { name: "bundle", form: Form::Bundle, run: bundles::run, seeds: bundles::seeds },
    Target { name: "base", form: Form::Pair, run: models::base, seeds: models::bases },
    Target { name: "vocabulary", form: Form::One, run: words::flat, seeds: words::flats },
    Target { name: "tokenizer", form: Form::One, run: words::json, seeds: words::jsons },
    Target { name: "options", form: Form::One, run: settings::options, seeds: settings::seeds },
    Target { name: "protocol", form: Form::Frames, run: tables::protocol, seeds: tables::jobs },
    Target { name: "dataset", form: Form::One, run: tables::dataset, seeds: tables::tables },
    Target { name: "grams", form: Form::Pair, run: grams::scored, seeds: grams::files },
    Target { name: "reducer", form: Form::One, run: reducers::reducer, seeds: reducers::files },
    Target { name: "trees", form: Form::One, run: trees::lightgbm, seeds: trees::texts },
];

/// Runs one input; panics when it takes more memory than it may.
pub fn run(target: &Target, input: &[u8]) {
    memory::begin();
    (target.run)(input);
    let most = memory::most();
    assert!(most <= MOST_MEMORY, "{}: {most} bytes of memory were taken", target.name);
}

/// A refusal is of one of these codes and tells what, in the house's manner and in few words.
fn sound(refusal: &Refusal, codes: &[&str]) {
    assert!(codes.contains(&refusal.code.as_str()), "{refusal:?}");
    let first = refusal.message.chars().next();
    assert!(first.is_some_and(|c| !c.is_uppercase()), "{refusal:?}");
    assert!(!refusal.message.ends_with('.') && !refusal.message.contains('\n'), "{refusal:?}");
    assert!(refusal.message.len() <= MAX_WORDS, "{} bytes", refusal.message.len());
    for part in [&refusal.detail, &refusal.hint] {
        assert!(part.len() <= MAX_WORDS, "{}: {} bytes", refusal.message, part.len());
        let whole = part.ends_with(['.', '?']) && !part.starts_with(|c: char| c.is_lowercase());
        assert!(whole, "{refusal:?}");
    }
}

/// The two parts of a [`Form::Pair`]; a length beyond the end takes all.
fn pair(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = input.split_first_chunk() else { return (input, &[]) };
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).unwrap_or((rest, &[]))
}

fn paired(first: &[u8], second: &[u8]) -> Vec<u8> {
    [&(first.len() as u32).to_le_bytes(), first, second].concat()
}

/// A model file with a changed specification.
pub fn respecified(version: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(*version.first_chunk().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&version[8..8 + length]).unwrap();
    let text = header["__metadata__"]["specification"].as_str().unwrap().to_owned();
    let mut specification = serde_json::from_str(&text).unwrap();
    change(&mut specification);
    header["__metadata__"]["specification"] = specification.to_string().into();
    let mut header = header.to_string();
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &version[8 + length..]].concat()
}
