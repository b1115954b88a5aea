//! The int8 encoder against transformers in f32 (golden/encoder.py).

mod engine;

use std::sync::Arc;

use engine::{cosine, golden, tiny_vocabulary, Golden};
use riskft_core::artifact::Artifact;
use riskft_core::encoder::{Encoder, Scratch};
use riskft_core::gemm::Kernel;
use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{EncoderShape, TensorMap};
use riskft_core::tokenize::{Layout, Tokenizer};
use riskft_core::{quantize, tokenize};

fn kernels() -> Vec<Kernel> {
    let (have, lack): (Vec<_>, Vec<_>) = Kernel::ALL.into_iter().partition(|k| k.available());
    for kernel in lack {
        println!("skipped: this processor lacks {}", kernel.name());
    }
    have
}

fn tiny() -> (EncoderShape, TensorMap) {
    let shape = read_shape(&golden("tiny_bert/config.json")).unwrap();
    let tensors = read_tensors(&shape, &golden("tiny_bert/model.safetensors")).unwrap();
    (shape, tensors)
}

fn open(shape: &EncoderShape, tensors: &TensorMap, vocabulary: &[u8]) -> Encoder {
    let file = quantize::base_encoder(shape, tensors, vocabulary).unwrap();
    let file = Artifact::open(Arc::new(file)).unwrap();
    Encoder::open(&file, None, shape).unwrap()
}

/// Lowest cosines that pass.
struct Least {
    /// With the same steps emulated. A value that is rounded the other way changes later layers, so
    /// this is not 1 for a deep model.
    same: f64,
    /// With f32, of one text.
    any: f64,
    /// With f32, the texts' mean.
    mean: f64,
}

/// Every text of the golden file, alone and all together, on every kernel: the same bits; and
/// near enough to the f32 vectors.
fn compare(encoder: &Encoder, golden: &Golden, least: Least) {
    let width = encoder.shape().width;
    let mut scratch = Scratch::default();
    let together = encoder.pooled(Kernel::Portable, &golden.ids, &golden.ends, &mut scratch);
    let row = width.div_ceil(16);
    let together: Vec<Vec<f32>> =
        together.chunks_exact(row).map(|row| row.as_flattened().to_vec()).collect();
    assert_eq!(together.len(), golden.ends.len());
    let mut cosines = Vec::new();
    for (i, ids) in golden.texts().enumerate() {
        for kernel in kernels() {
            let mut scratch = Scratch::default();
            let alone = encoder.pooled(kernel, ids, &[ids.len()], &mut scratch).as_flattened();
            assert_eq!(bits(alone), bits(&together[i]), "text {i} on {}", kernel.name());
        }
        let (ours, place) = (&together[i][..width], i * width..(i + 1) * width);
        let same = cosine(ours, &golden.emulated[place.clone()]);
        assert!(same > least.same, "text {i}: cosine {same} with the same int8 steps in PyTorch");
        let cosine = cosine(ours, &golden.pooled[place]);
        cosines.push(cosine);
        assert!(cosine > least.any, "text {i} of {} tokens: cosine {cosine}", ids.len());
        assert!(together[i][width..].iter().all(|v| *v == 0.0), "text {i}: padding");
    }
    cosines.sort_by(f64::total_cmp);
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    println!("cosine with f32: lowest {:.5}, mean {mean:.5}", cosines[0]);
    assert!(mean > least.mean, "mean cosine {mean}");
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn compare_states(encoder: &Encoder, golden: &Golden, text: usize, least_cosine: f64) {
    let ids = golden.texts().nth(text).unwrap();
    for layer in 0..=encoder.shape().layers {
        let theirs = golden.tensor(&format!("states.{text}.{layer}"));
        let ours = encoder.states_after(Kernel::detect(), layer, ids);
        assert_eq!(ours.len(), theirs.len());
        for (token, (a, b)) in ours
            .chunks_exact(encoder.shape().width)
            .zip(theirs.chunks_exact(encoder.shape().width))
            .enumerate()
        {
            let cosine = cosine(a, b);
            assert!(cosine > least_cosine, "layer {layer}, token {token}: cosine {cosine}");
        }
    }
}

#[test]
fn a_random_bert_of_odd_sizes_agrees_with_transformers() {
    let (shape, tensors) = tiny();
    let encoder = open(&shape, &tensors, &tiny_vocabulary());
    let golden = Golden::read("tiny_bert/golden.safetensors");
    compare(&encoder, &golden, Least { same: 0.99999, any: 0.997, mean: 0.999 });
    for text in [4, 9] {
        compare_states(&encoder, &golden, text, 0.998);
    }
}

/// A BERT with a task's head, a RoBERTa and a DistilBERT, read from their folders: the ids of
/// transformers, and states near its own.
#[test]
fn each_architecture_agrees_with_transformers() {
    let texts: Vec<String> = serde_json::from_slice(&golden("minilm_texts.json")).unwrap();
    for name in ["tiny_finbert", "tiny_roberta", "tiny_distilbert"] {
        let read = |file: &str| golden(&format!("{name}/{file}"));
        let shape = read_shape(&read("config.json")).unwrap();
        let tensors = read_tensors(&shape, &read("model.safetensors")).unwrap();
        let json = match name {
            "tiny_finbert" => {
                let vocab = String::from_utf8(read("vocab.txt")).unwrap();
                tokenize::tokenizer_json(&vocab, &read("tokenizer_config.json"))
                    .unwrap()
                    .into_bytes()
            }
            _ => read("tokenizer.json"),
        };
        let flat = tokenize::compile_tokenizer_json(&json).unwrap();
        let vocabulary = Layout::check(&flat).unwrap().vocabulary(&flat);
        let numbers = Golden::read(&format!("{name}/golden.safetensors"));
        let (mut tokenizer, mut ids) = (Tokenizer::default(), Vec::new());
        for (text, expected) in texts.iter().zip(numbers.texts()) {
            tokenizer.encode(&vocabulary, text, shape.max_tokens(), &mut ids);
            assert_eq!(ids, expected, "{name}: {text}");
        }
        println!("{name}: {} texts have the ids of transformers", texts.len());
        let encoder = open(&shape, &tensors, &flat);
        compare(&encoder, &numbers, Least { same: 0.9999, any: 0.999, mean: 0.9993 });
        for text in [1, 15] {
            compare_states(&encoder, &numbers, text, 0.998);
        }
    }
}

#[test]
fn minilm_agrees_with_transformers() {
    let Some(folder) = engine::base_dir("minilm_agrees_with_transformers") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let shape = read_shape(&read("config.json")).unwrap();
    let tensors = read_tensors(&shape, &read("model.safetensors")).unwrap();
    let vocabulary = tokenize::compile_tokenizer_json(&read("tokenizer.json")).unwrap();
    let encoder = open(&shape, &tensors, &vocabulary);
    let golden = Golden::read("minilm.safetensors");
    // Lowest of all is "!!!": with f32 activations and int8 weights it has 0.9953.
    compare(&encoder, &golden, Least { same: 0.998, any: 0.994, mean: 0.9988 });
    compare_states(&encoder, &golden, 1, 0.995);
}

/// Token ids that no tokenizer makes are computed as some token, never read out of bounds.
#[test]
fn unknown_ids_and_overlong_texts_are_harmless() {
    let (shape, tensors) = tiny();
    let encoder = open(&shape, &tensors, &tiny_vocabulary());
    let mut scratch = Scratch::default();
    let ids: Vec<u32> = (0..200).map(|i| i * 5).chain([u32::MAX]).collect();
    let pooled = encoder.pooled(Kernel::detect(), &ids, &[ids.len()], &mut scratch);
    assert!(pooled.as_flattened().iter().all(|v| v.is_finite()));
    assert!(encoder.pooled(Kernel::detect(), &[], &[], &mut scratch).is_empty());
}
