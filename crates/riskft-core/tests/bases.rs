//! Reading base models: each way to write the same weights, and damaged ones.

mod engine;

use std::collections::BTreeMap;

use engine::{golden, Random};
use riskft_core::network::base::{check_tensors, parameters, read_shape, read_tensors};
use riskft_core::network::EncoderShape;
use riskft_core::refusal::Refusal;
use riskft_core::tokenize::{compile_tokenizer_json, tokenizer_json, Layout, Tokenizer};
use safetensors::tensor::{serialize, TensorView};
use safetensors::{Dtype, SafeTensors};

const TINY: [&str; 3] = ["tiny_finbert", "tiny_roberta", "tiny_distilbert"];
const PREFIXES: [&str; 3] = ["bert.", "roberta.", "distilbert."];

fn model(name: &str) -> (EncoderShape, Vec<u8>) {
    let shape = read_shape(&golden(&format!("{name}/config.json"))).unwrap();
    (shape, golden(&format!("{name}/model.safetensors")))
}

/// The file with other names or another kind of numbers.
fn rewritten(file: &[u8], name: impl Fn(&str) -> String, dtype: Dtype) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(old, view)| {
            let words = view.data().as_chunks::<4>().0;
            let bytes = match dtype {
                // The upper half of an f32 is a BF16.
                Dtype::BF16 => words.iter().flat_map(|w| [w[2], w[3]]).collect(),
                _ => view.data().to_vec(),
            };
            (name(old), view.shape().to_vec(), bytes)
        })
        .collect();
    let views: BTreeMap<&str, TensorView<'_>> = data
        .iter()
        .map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap())
        })
        .collect();
    serialize(views, None).unwrap()
}

fn plain(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

#[test]
fn names_with_and_without_prefix_are_one_model() {
    for name in TINY {
        let (shape, file) = model(name);
        let tensors = read_tensors(&shape, &file).unwrap();
        assert_eq!(tensors.values().map(|t| t.data.len()).sum::<usize>(), parameters(&shape));
        for prefix in ["", "bert.", "roberta.", "distilbert."] {
            let other = rewritten(&file, |old| format!("{prefix}{}", plain(old)), Dtype::F32);
            assert!(read_tensors(&shape, &other).unwrap() == tensors, "{name} as {prefix}");
        }
        let old_norms = rewritten(
            &file,
            |old| {
                old.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")
            },
            Dtype::F32,
        );
        assert!(read_tensors(&shape, &old_norms).unwrap() == tensors, "{name}");
        let short = read_tensors(&shape, &rewritten(&file, str::to_owned, Dtype::BF16)).unwrap();
        for (tensor, short) in tensors.values().zip(short.values()) {
            for (a, b) in tensor.data.iter().zip(&short.data) {
                assert_eq!(a.to_bits() & 0xffff_0000, b.to_bits());
            }
        }
    }
}

#[test]
fn a_distilbert_has_a_token_type_of_zeros_and_others_need_their_own() {
    let (shape, file) = model("tiny_distilbert");
    let tensors = read_tensors(&shape, &file).unwrap();
    assert_eq!(tensors["embeddings.token_type"].data, vec![0.0; shape.width]);
    for name in ["tiny_finbert", "tiny_roberta"] {
        let (shape, file) = model(name);
        let other = rewritten(&file, |old| old.replace("token_type", "token_kind"), Dtype::F32);
        let refusal = read_tensors(&shape, &other).unwrap_err();
        assert!(refusal.detail.contains("embeddings.token_type"), "{}", refusal.detail);
    }
}

#[test]
fn a_tensor_under_two_names_is_refused() {
    let (shape, file) = model("tiny_finbert");
    let pooler = "bert.pooler.dense.bias";
    let twice = "encoder.layer.0.attention.output.dense.bias";
    let other = rewritten(
        &file,
        |old| if old == pooler { twice.to_owned() } else { old.to_owned() },
        Dtype::F32,
    );
    let refusal = read_tensors(&shape, &other).unwrap_err();
    assert!(refusal.detail.contains("twice"), "{}", refusal.detail);
}

/// What a file is refused with: always a code and a hint that a user can act on.
fn sound(refusal: &Refusal) {
    assert_eq!(refusal.code, "0A000", "{refusal:?}");
    assert!(refusal.hint.ends_with('.') || refusal.hint.ends_with(')'), "{refusal:?}");
    assert!(refusal.detail.len() < 1000, "{}", refusal.detail);
}

/// One to four bytes changed, or the end cut off.
fn damaged(random: &mut Random, whole: &[u8], within: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    if random.below(8) == 0 {
        bytes.truncate(random.below(whole.len()));
        return bytes;
    }
    for _ in 0..=random.below(3) {
        let at = random.below(within.min(whole.len()));
        bytes[at] = match random.below(3) {
            0 => bytes[at] ^ (1 << random.below(8)),
            1 => b"0129-[]{}\",:e."[random.below(14)],
            _ => random.below(256) as u8,
        };
    }
    bytes
}

#[test]
fn damaged_models_are_refused_or_read_whole() {
    let mut random = Random(11);
    let mut refused = 0;
    for name in TINY {
        let (shape, file) = model(name);
        let config = golden(&format!("{name}/config.json"));
        let header = 8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        for _ in 0..1500 {
            match read_shape(&damaged(&mut random, &config, config.len())) {
                Err(refusal) => sound(&refusal),
                Ok(other) => {
                    if let Err(refusal) = check_tensors(&other, &file) {
                        sound(&refusal);
                    }
                }
            }
            let other = damaged(&mut random, &file, header);
            match (check_tensors(&shape, &other), read_tensors(&shape, &other)) {
                (Ok(()), Ok(tensors)) => {
                    assert_eq!(tensors["embeddings.word"].shape, [shape.vocabulary, shape.width]);
                }
                (Err(a), Err(b)) => {
                    assert_eq!(a, b);
                    sound(&a);
                    refused += 1;
                }
                _ => panic!("checked and read differ"),
            }
        }
    }
    println!("{refused} of 4500 damaged files were refused");
    assert!(refused > 2000);
}

#[test]
fn damaged_tokenizers_are_refused_or_make_known_ids() {
    let mut random = Random(12);
    let vocab = String::from_utf8(golden("tiny_finbert/vocab.txt")).unwrap();
    let files = [
        golden("tiny_roberta/tokenizer.json"),
        golden("tiny_distilbert/tokenizer.json"),
        tokenizer_json(&vocab, b"{}").unwrap().into_bytes(),
    ];
    let (mut tokenizer, mut ids) = (Tokenizer::default(), Vec::new());
    let mut refused = 0;
    for file in &files {
        for round in 0..600 {
            // The settings lie at the start; vocabulary and merges fill the rest.
            let within = if round % 2 == 0 { 2000 } else { file.len() };
            let flat = match compile_tokenizer_json(&damaged(&mut random, file, within)) {
                Ok(flat) => flat,
                Err(refusal) => {
                    sound(&refusal);
                    refused += 1;
                    continue;
                }
            };
            let layout = Layout::check(&flat).expect("what is compiled is whole");
            tokenizer.encode(&layout.vocabulary(&flat), "Late fees, again: 中 é!", 64, &mut ids);
            assert!(ids.iter().all(|id| (*id as usize) < layout.tokens()));
        }
    }
    println!("{refused} of 1800 damaged tokenizers were refused");
    assert!(refused > 300);
}
