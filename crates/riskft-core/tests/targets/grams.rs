//! The tables of n-grams in a model file, and the texts that they score.

use std::sync::Arc;

use riskft_core::artifact::{self, Artifact, TensorSet};
use riskft_core::grams::{Norm, Reader, Stored, Table, View};
use riskft_core::protocol::BlobKind;
use riskft_core::refusal::code;

use super::{pair, paired, sound};

/// Few buckets, so that a table is small.
pub const VIEW: View =
    View { words: 2, characters: Some((2, 3)), bits: 8, sublinear: true, norm: Norm::Kind };

/// A model file, then a text; what opens scores it, and other texts.
pub fn scored(input: &[u8]) {
    let (file, text) = pair(input);
    let text = String::from_utf8_lossy(text);
    let Ok(file) = Artifact::open(Arc::new(file.to_vec())) else { return };
    let stored = match Stored::open(&file, "g", VIEW) {
        Ok(stored) => stored,
        Err(refusal) => return sound(&refusal, &[code::DATA_CORRUPTED]),
    };
    let bytes = (**file.storage()).as_ref();
    let mut reader = Reader::default();
    for texts in [[&*text, ""], ["late fee", &*text], ["é\u{301}中 \u{0}", "aaaa aaaa"]] {
        let score = stored.of(bytes).score((0..).zip(texts), &mut reader);
        assert!(score.is_finite(), "{score}");
        assert_eq!(
            score.to_bits(),
            stored.of(bytes).score((0..).zip(texts), &mut reader).to_bits()
        );
    }
    // The file may be cut after it was opened.
    stored.of(&bytes[..bytes.len() / 2]).score([(0, &*text)], &mut reader);
}

pub fn table() -> Table {
    let known: Vec<(u32, f32)> = (0..256).filter(|b| b % 3 > 0).map(|b| (b, 1.5)).collect();
    let mut table = Table::new(VIEW, &known).unwrap();
    let weights: Vec<f64> = (0..known.len()).map(|k| (k as f64).sin()).collect();
    table.set_weights(&weights, 0.5).unwrap();
    table
}

pub fn files() -> Vec<Vec<u8>> {
    let mut tensors = TensorSet::new();
    table().store("g", &mut tensors);
    let file = artifact::write(BlobKind::Version, "{}", &tensors);
    vec![paired(&file, "The late FEE was é\u{301} 中文.".as_bytes())]
}
