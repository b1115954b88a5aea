//! The encoder, LoRA and AdamW against transformers, peft and PyTorch; golden/make_lora.py made
//! the numbers.

use std::collections::HashMap;
use std::path::Path;

use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::network::{EncoderShape, TensorMap};
use riskft_core::options::{Method, Options};
use riskft_trainer::adam::AdamW;
use riskft_trainer::bert::{pool, Bert, Packed};
use riskft_trainer::tensors::to_float_tensor;
use riskft_trainer::tuning::Tuning;
use tch::{Device, Kind, Tensor};

const TEXTS: [&[i32]; 6] =
    [&[5], &[7, 8], &[9, 1], &[3, 4, 5, 6], &[40, 41, 42, 43], &[99, 98, 97, 96, 95, 94, 93]];
const RATE: f64 = 1e-2;
const DECAY: f64 = 0.01;

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lora.safetensors");
        Golden(Tensor::read_safetensors(path).expect("golden numbers").into_iter().collect())
    }
    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }
    /// The base by core's names.
    fn base(&self) -> TensorMap {
        let rename = [
            ("embeddings.word_embeddings.weight", "embeddings.word"),
            ("embeddings.position_embeddings.weight", "embeddings.position"),
            ("embeddings.token_type_embeddings.weight", "embeddings.token_type"),
            ("embeddings.LayerNorm", "embeddings.norm"),
            ("encoder.layer", "layer"),
            ("attention.self.", ""),
            ("attention.output.dense", "attention_output"),
            ("attention.output.LayerNorm", "attention_norm"),
            ("intermediate.dense", "intermediate"),
            ("output.dense", "output"),
            ("output.LayerNorm", "output_norm"),
        ];
        self.0
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("base.")?, tensor)))
            .map(|(name, tensor)| {
                let name = rename.iter().fold(name.to_owned(), |n, (from, to)| n.replace(from, to));
                (name, to_float_tensor(tensor))
            })
            .collect()
    }
}

fn shape() -> EncoderShape {
    EncoderShape {
        layers: 3,
        width: 32,
        heads: 4,
        intermediate: 64,
        vocabulary: 100,
        positions: 16,
        position_offset: 0,
        token_types: 2,
        norm_epsilon: 1e-12,
        adapter: 0,
    }
}

fn bert(golden: &Golden, kind: Kind) -> Bert {
    Bert::new(&shape(), &golden.base(), kind, Device::Cpu)
        .map_err(|r| r.detail)
        .expect("all tensors")
}

fn packed() -> Packed {
    Packed::new(TEXTS.into_iter(), Device::Cpu)
}

#[track_caller]
fn near(ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.size(), theirs.size());
    let difference = (ours - theirs).abs().max().double_value(&[]);
    assert!(difference <= tolerance, "differs by {difference}, more than {tolerance}");
}

fn pooled(bert: &Bert, tuning: &Tuning, packed: &Packed) -> Tensor {
    let x = bert.layers(0..3, bert.embed(packed), &packed.groups, tuning, false);
    pool(&x, &packed.groups)
}

#[test]
fn states_equal_those_of_transformers() {
    let golden = Golden::read();
    let (bert, packed) = (bert(&golden, Kind::Float), packed());
    let mut x = bert.embed(&packed);
    near(&x, golden.get("states.0"), 2e-6);
    for l in 0..3 {
        x = bert.layer(l, &x, &packed.groups, &Tuning::Frozen, false);
        near(&x, golden.get(&format!("states.{}", l + 1)), 1e-5);
    }
    near(&pool(&x, &packed.groups), golden.get("pooled"), 1e-5);
}

/// The tiny models that core's golden/bases.py made, read as a run reads its base.
#[test]
fn each_architecture_equals_that_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../riskft-core/golden");
    for name in ["tiny_roberta", "tiny_distilbert", "tiny_finbert"] {
        let folder = folder.join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let shape = read_shape(&read("config.json")).unwrap();
        let tensors = read_tensors(&shape, &read("model.safetensors")).unwrap();
        let numbers = Tensor::read_safetensors(folder.join("golden.safetensors")).unwrap();
        let golden = Golden(numbers.into_iter().collect());
        let bert = Bert::new(&shape, &tensors, Kind::Float, Device::Cpu).unwrap();
        let all = Vec::<i32>::try_from(golden.get("ids")).unwrap();
        let ends = Vec::<i32>::try_from(golden.get("ends")).unwrap();
        let mut start = 0;
        for (i, end) in ends.into_iter().enumerate() {
            let packed = Packed::new([&all[start..end as usize]].into_iter(), Device::Cpu);
            start = end as usize;
            let mut x = bert.embed(&packed);
            for layer in 0..=shape.layers {
                if let Some(states) = golden.0.get(&format!("states.{i}.{layer}")) {
                    near(&x, states, 1e-5);
                }
                if layer < shape.layers {
                    x = bert.layer(layer, &x, &packed.groups, &Tuning::Frozen, false);
                }
            }
            near(&pool(&x, &packed.groups), &golden.get("pooled").narrow(0, i as i64, 1), 1e-5);
        }
        assert_eq!(start, all.len());
    }
}

#[test]
fn bf16_stays_within_its_precision() {
    let golden = Golden::read();
    let ours = pooled(&bert(&golden, Kind::BFloat16), &Tuning::Frozen, &packed());
    assert_eq!(ours.kind(), Kind::Float);
    let theirs = golden.get("pooled");
    let cosine = Tensor::cosine_similarity(&ours, theirs, 1, 1e-8).min().double_value(&[]);
    assert!(cosine > 0.999, "cosine {cosine}");
}

fn options() -> Options {
    Options { rank: 4, alpha: 8.0, dropout: 0.0, layers: 2, ..Options::default() }
}

/// In the order of `Tuning::parameters`.
fn lora_names() -> Vec<String> {
    let mut names = Vec::new();
    for layer in 1..3 {
        for target in ["query", "value"] {
            for side in ["lora_a", "lora_b"] {
                names.push(format!("layer.{layer}.{target}.{side}"));
            }
        }
    }
    names
}

#[test]
fn lora_and_adamw_equal_those_of_peft_and_pytorch() {
    let golden = Golden::read();
    let (mut bert, packed) = (bert(&golden, Kind::Float), packed());
    let tuning = Tuning::new(Method::Lora, &options(), &mut bert, Device::Cpu);
    near(&pooled(&bert, &tuning, &packed), golden.get("pooled"), 1e-5);

    let (parameters, none) = tuning.parameters();
    assert!(none.is_empty());
    assert_eq!(tuning.size(), 2 * 2 * 2 * 4 * 32);
    let names = lora_names();
    tch::no_grad(|| {
        for (parameter, name) in parameters.iter().zip(&names) {
            parameter.shallow_clone().copy_(golden.get(&format!("start.{name}")));
        }
    });
    let mut optimizer = AdamW::default();
    optimizer.add(&parameters, RATE, DECAY);
    for step in 1..=2 {
        let difference = pooled(&bert, &tuning, &packed) - golden.get("aim");
        let loss = difference.square().mean(Kind::Float) * 100.0;
        near(&loss.view([1]), golden.get(&format!("loss.{step}")), 2e-3);
        loss.backward();
        optimizer.step(1.0);
        for (parameter, name) in parameters.iter().zip(&names) {
            near(parameter, golden.get(&format!("step.{step}.{name}")), 2e-5);
        }
    }
    near(&pooled(&bert, &tuning, &packed), golden.get("pooled.tuned"), 2e-4);
}

#[test]
fn a_merged_encoder_equals_the_tuned_one() {
    let golden = Golden::read();
    let (mut bert, packed) = (bert(&golden, Kind::Float), packed());
    let tuning = Tuning::new(Method::Lora, &options(), &mut bert, Device::Cpu);
    tch::no_grad(|| {
        for (parameter, name) in tuning.parameters().0.iter().zip(lora_names()) {
            parameter.shallow_clone().copy_(golden.get(&format!("step.2.{name}")));
        }
    });
    let mut tensors = golden.base();
    let merged = tuning.merged(&tensors);
    assert_eq!(merged.len(), 4);
    let ours = Tensor::from_slice(&merged["layer.2.value.weight"].data).view([32, 32]);
    near(&ours, golden.get("merged.layer.2.value"), 2e-5);
    tensors.extend(merged);
    let whole =
        Bert::new(&shape(), &tensors, Kind::Float, Device::Cpu).map_err(|r| r.detail).unwrap();
    near(&pooled(&whole, &Tuning::Frozen, &packed), golden.get("pooled.tuned"), 2e-4);
}

#[test]
fn untrained_tunings_leave_the_encoder_as_it_is() {
    let golden = Golden::read();
    for method in [Method::Adapter, Method::Full] {
        let mut bert = bert(&golden, Kind::Float);
        let tuning = Tuning::new(method, &options(), &mut bert, Device::Cpu);
        let x = pooled(&bert, &tuning, &packed());
        near(&x, golden.get("pooled"), 1e-5);
        x.square().sum(Kind::Float).backward();
        let (decayed, plain) = tuning.parameters();
        let reached = |list: &[Tensor]| list.iter().filter(|p| p.grad().defined()).count();
        assert_eq!(reached(&decayed) + reached(&plain), decayed.len() + plain.len(), "{method:?}");
    }
}

#[test]
fn adapters_of_lower_layers_are_the_identity() {
    let golden = Golden::read();
    let mut bert = bert(&golden, Kind::Float);
    let tuning = Tuning::new(Method::Adapter, &options(), &mut bert, Device::Cpu);
    let tensors = tuning.tensors();
    assert_eq!(tensors.len(), 3 * 2 * 4);
    assert!(tensors["layer.0.output_adapter.down.weight"].data.iter().all(|x| *x == 0.0));
    assert!(tensors["layer.2.output_adapter.down.weight"].data.iter().any(|x| *x != 0.0));
    assert_eq!(tensors["layer.0.attention_adapter.up.weight"].shape, [32, 4]);
    assert_eq!(tuning.shape(&shape()).adapter, 4);
}
