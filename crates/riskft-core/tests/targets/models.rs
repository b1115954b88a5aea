//! Model files, and base models as they are imported.

use std::sync::Arc;

use riskft_core::artifact::{self, Artifact};
use riskft_core::cell::Cell;
use riskft_core::explain::Explainer;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::network::base::{check_tensors, parameters, read_shape, read_tensors};
use riskft_core::quantize;
use riskft_core::refusal::{code, Refusal};
use safetensors::tensor::TensorView;
use safetensors::Dtype;

use super::dwarf::{base as dwarf_base, dwarf};
use super::{pair, paired, sound};

/// Values of the probed row, one for each of its columns by turns.
const CELLS: &[Cell<'static>] = &[
    Cell::Float(3.5),
    Cell::Text("CA"),
    Cell::Text("new banks a, aab"),
    Cell::Null,
    Cell::Int(i64::MIN),
    Cell::Date(i32::MAX),
    Cell::Timestamp(i64::MIN),
    Cell::Bool(true),
    Cell::Float(f64::NEG_INFINITY),
];

/// Rows of an explanation that is tried: a target has a second.
const MOST_MIXED: usize = 5000;

/// Bytes as a version over the dwarf's encoder.
pub fn version(input: &[u8]) {
    let file: artifact::Storage = Arc::new(input.to_vec());
    tried(|| Model::open(file.clone(), None), &[code::UNDEFINED_FILE]);
    tried(|| Model::open(file.clone(), Some(dwarf_base())), &[]);
}

/// Bytes as the encoder under the dwarf's version.
pub fn encoder(input: &[u8]) {
    let version: artifact::Storage = Arc::new(dwarf().version.clone());
    let base: artifact::Storage = Arc::new(input.to_vec());
    tried(|| Model::open(version.clone(), Some(base.clone())), &[]);
}

/// A file that opens gives probabilities, or NaN where damaged weights go beyond float4: the
/// server refuses that as XX001. One that does not is refused in the same words each time.
pub fn tried(open: impl Fn() -> Result<Model, Refusal>, also: &[&str]) {
    let model = match open() {
        Ok(model) => Arc::new(model),
        Err(refusal) => {
            let codes = [&[code::DATA_CORRUPTED, code::NOT_SUPPORTED], also].concat();
            sound(&refusal, &codes);
            assert_eq!(open().err(), Some(refusal));
            return;
        }
    };
    let columns = model.specification().encoding.columns.len();
    let mut scorer = Scorer::new(model, Kernel::detect(), 10_000);
    for turn in 0..3 {
        let row: Vec<Cell<'_>> = CELLS.iter().cycle().skip(turn).take(columns).copied().collect();
        let score = scorer.score(&row);
        assert!(score.is_nan() || (0.0..=1.0).contains(&score), "{score}");
        assert_eq!(score.to_bits(), scorer.score(&row).to_bits());
        explained(&mut scorer, &row);
    }
}

/// What is scored is explained, or refused: sums of damaged weights may be no numbers.
fn explained(scorer: &mut Scorer, row: &[Cell<'_>]) {
    match Explainer::new(scorer) {
        Ok(explainer) if explainer.most_rows() > MOST_MIXED => {}
        Ok(mut explainer) => {
            let found = explainer.explain(scorer, row, &mut || ());
            let columns = explainer.model().specification().encoding.columns.len();
            assert_eq!(found.columns.len(), columns);
            for column in 0..columns {
                explainer.words(scorer, row, column, &mut || ());
            }
        }
        Err(refusal) => sound(&refusal, &[code::NOT_SUPPORTED, code::NOT_IN_STATE]),
    }
}

/// A config.json and a model.safetensors.
pub fn base(input: &[u8]) {
    let (config, weights) = pair(input);
    let only = &[code::NOT_SUPPORTED];
    let shape = match read_shape(config) {
        Ok(shape) => shape,
        Err(refusal) => return sound(&refusal, only),
    };
    assert!(parameters(&shape) > 0);
    let checked = check_tensors(&shape, weights);
    let tensors = match read_tensors(&shape, weights) {
        Ok(tensors) => tensors,
        Err(refusal) => {
            sound(&refusal, only);
            assert_eq!(checked, Err(refusal));
            return;
        }
    };
    assert_eq!(checked, Ok(()));
    match quantize::base_encoder(&shape, &tensors, &dwarf().vocabulary) {
        Ok(file) => assert!(Artifact::open(Arc::new(file)).is_ok()),
        Err(refusal) => sound(&refusal, &[code::DATA_EXCEPTION, code::NOT_SUPPORTED]),
    }
}

pub fn versions() -> Vec<Vec<u8>> {
    vec![dwarf().version.clone(), dwarf().tabular.clone()]
}

pub fn encoders() -> Vec<Vec<u8>> {
    vec![dwarf().base.clone()]
}

pub fn bases() -> Vec<Vec<u8>> {
    let weights = |rename: &dyn Fn(&str) -> String| {
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = dwarf()
            .tensors
            .iter()
            .map(|(name, t)| {
                (rename(name), t.shape.clone(), bytemuck::cast_slice(&t.data).to_vec())
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, data)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    };
    vec![
        paired(BERT, &weights(&|name| respelled(name, BERT_NAMES, "encoder"))),
        paired(DISTILBERT, &weights(&|name| respelled(name, DISTILBERT_NAMES, "transformer"))),
    ]
}

const BERT: &[u8] = br#"{"model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": 1,
    "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 12,
    "max_position_embeddings": 8, "type_vocab_size": 1, "layer_norm_eps": 1e-12,
    "pad_token_id": 0}"#;
const DISTILBERT: &[u8] = br#"{"model_type": "distilbert", "activation": "gelu", "n_layers": 1,
    "dim": 8, "n_heads": 2, "hidden_dim": 8, "vocab_size": 12, "max_position_embeddings": 8}"#;

const BERT_NAMES: &[(&str, &str)] = &[
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("intermediate", "intermediate.dense"),
    ("output", "output.dense"),
    ("output_norm", "output.LayerNorm"),
];
const DISTILBERT_NAMES: &[(&str, &str)] = &[
    ("query", "attention.q_lin"),
    ("key", "attention.k_lin"),
    ("value", "attention.v_lin"),
    ("attention_output", "attention.out_lin"),
    ("attention_norm", "sa_layer_norm"),
    ("intermediate", "ffn.lin1"),
    ("output", "ffn.lin2"),
    ("output_norm", "output_layer_norm"),
];

/// A canonical name as an architecture's files have it.
fn respelled(name: &str, names: &[(&str, &str)], stem: &str) -> String {
    if let Some(table) = name.strip_prefix("embeddings.") {
        return match table.strip_prefix("norm.") {
            Some(last) => format!("embeddings.LayerNorm.{last}"),
            None => format!("embeddings.{table}_embeddings.weight"),
        };
    }
    let mut parts = name.split('.').skip(1);
    let (layer, part) = (parts.next().unwrap(), parts.next().unwrap());
    let last = parts.next().unwrap();
    let theirs = names.iter().find(|(ours, _)| *ours == part).unwrap().1;
    format!("{stem}.layer.{layer}.{theirs}.{last}")
}
