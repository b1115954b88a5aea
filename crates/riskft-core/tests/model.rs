//! A version from quantization to scores: near the float network, the same bits however it is
//! computed.

mod engine;

use std::sync::Arc;

use engine::version::{
    encoded, float_logit, floats, network, open, rows, tiny, CATEGORIES, HIDDEN, NUMBERS, TEXTS,
};
use engine::{tiny_vocabulary, Random};
use riskft_core::artifact::{self, Artifact};
use riskft_core::cell::Cell;
use riskft_core::encode::EncodedRow;
use riskft_core::encoder::{Encoder, Scratch};
use riskft_core::explain::Background;
use riskft_core::gemm::Kernel;
use riskft_core::model::{BranchKind, Model, Scorer};
use riskft_core::network::{EncoderShape, FloatTensor, TensorMap};
use riskft_core::quantize;
use riskft_core::tokenize::Tokenizer;

/// Pooled vectors of a row's texts by the int8 encoder.
fn pooled(model: &Model, row: &EncodedRow) -> Vec<Option<Vec<f32>>> {
    let (encoder, vocabulary) = (model.encoder().unwrap(), model.vocabulary().unwrap());
    row.texts
        .iter()
        .map(|text| {
            let mut ids = Vec::new();
            Tokenizer::default().encode(&vocabulary, text, 20, &mut ids);
            let mut scratch = Scratch::default();
            let v = encoder.pooled(Kernel::detect(), &ids, &[ids.len()], &mut scratch);
            (!ids.is_empty()).then(|| v.as_flattened()[..encoder.shape().width].to_vec())
        })
        .collect()
}

#[test]
fn int8_scores_are_near_the_float_network() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 1 << 16);
    let (mut worst, mut low, mut high) = (0.0f64, f64::MAX, f64::MIN);
    for row in rows(500) {
        let exact = float_logit(&specification, &float, &row, &pooled(&model, &row));
        let logit = scorer.logit_row(&row);
        worst = worst.max((logit - exact).abs());
        (low, high) = (low.min(exact), high.max(exact));
        let score = 1.0 / (1.0 + (-(1.25 * logit - 0.5)).exp());
        assert!((scorer.score_row(&row) - score).abs() < 1e-12);
    }
    println!("largest change of a logit: {worst:.4}, logits from {low:.2} to {high:.2}");
    assert!(high - low > 1.0, "the rows differ");
    assert!(worst < 0.02, "{worst}");
}

#[test]
fn a_score_has_the_same_bits_on_every_path() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut rows = rows(300);
    // Values far outside the training range, and codes that the model lacks.
    rows[0].positions.fill(1e30);
    rows[1].positions.fill(-1e30);
    rows[2].positions.fill(f32::INFINITY);
    rows[3].codes.fill(u32::MAX);
    let alone: Vec<u64> = rows
        .iter()
        .map(|row| {
            let mut scorer = Scorer::new(Arc::clone(&model), Kernel::Portable, 0);
            scorer.score_row(row).to_bits()
        })
        .collect();
    for kernel in Kernel::ALL {
        if !kernel.available() {
            println!("skipped: this processor lacks {}", kernel.name());
        }
        for cache in [0, 700, 1 << 20] {
            let mut scorer = Scorer::new(Arc::clone(&model), kernel, cache);
            for pass in 0..2 {
                for (i, row) in rows.iter().enumerate() {
                    let score = scorer.score_row(row);
                    assert!((0.0..=1.0).contains(&score));
                    assert_eq!(
                        score.to_bits(),
                        alone[i],
                        "row {i}, pass {pass}, cache {cache}, {}",
                        kernel.name()
                    );
                }
            }
            assert!(scorer.bytes() < 1 << 21);
        }
    }
}

#[test]
fn cells_are_encoded_and_scored() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let mut scorer = Scorer::new(open(version, &tiny.base), Kernel::detect(), 1000);
    let mut cells = vec![Cell::Float(15.0); NUMBERS];
    cells.extend([Cell::Text("v0"), Cell::Text("v1"), Cell::Null]);
    cells.extend([Cell::Text("new york bank"), Cell::Text("   ")]);
    let texts = vec!["new york bank".into(), String::new()];
    let row = encoded(vec![1.5; NUMBERS], vec![2, 3, 1], texts);
    let keys = |cells: &[Cell<'_>]| {
        let mut row = EncodedRow::default();
        specification.encoding.encode_row(cells, &mut row);
        row.keys
    };
    let row = EncodedRow { keys: keys(&cells), ..row };
    assert_eq!(scorer.score(&cells), scorer.score_row(&row));
    // A row without cells is a row of NULLs.
    let nothing = encoded(vec![f32::NAN; NUMBERS], vec![1; CATEGORIES], vec![String::new(); TEXTS]);
    assert_eq!(scorer.score(&[]), scorer.score_row(&nothing));
}

#[test]
fn a_version_lies_over_its_base() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let mut overlay = TensorMap::new();
    let mut changed = tiny.tensors.clone();
    for name in ["layer.0.query.weight", "layer.2.value.weight", "layer.1.output.bias"] {
        for v in &mut changed.get_mut(name).unwrap().data {
            *v = *v * 0.5 + 0.01;
        }
        overlay.insert(name.into(), changed[name].clone());
    }
    let version = quantize::version(&specification, &float, &overlay).unwrap();
    let over = open(version, &tiny.base);
    let whole = quantize::base_encoder(&tiny.shape, &changed, &tiny_vocabulary()).unwrap();
    let plain = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let (whole, plain) = (open(plain.clone(), &Arc::new(whole)), open(plain, &tiny.base));
    let mut scores = [over, whole, plain].map(|model| Scorer::new(model, Kernel::detect(), 0));
    for row in rows(50).iter().filter(|row| !row.texts[0].is_empty()) {
        let [over, whole, plain] = scores.each_mut().map(|scorer| scorer.score_row(row));
        assert_eq!(over, whole);
        assert_ne!(over, plain);
    }
}

/// `x + up(relu(down(x)))` is the identity where `up` is zero, and is not elsewhere.
#[test]
fn adapters_follow_their_formula() {
    let tiny = tiny();
    let shape = EncoderShape { adapter: 10, ..tiny.shape.clone() };
    let (specification, float) = network(&tiny, TEXTS, shape.clone());
    let mut random = Random(77);
    let adapters = |random: &mut Random, size: f32| {
        let mut overlay = TensorMap::new();
        for layer in 0..shape.layers {
            for place in ["attention_adapter", "output_adapter"] {
                for (part, outputs, inputs, size) in
                    [("down", 10, shape.width, 0.3), ("up", shape.width, 10, size)]
                {
                    let name = format!("layer.{layer}.{place}.{part}");
                    let weight = floats(random, outputs * inputs, size);
                    let bias = floats(random, outputs, size);
                    overlay.insert(
                        format!("{name}.weight"),
                        FloatTensor { shape: vec![outputs, inputs], data: weight },
                    );
                    overlay.insert(
                        format!("{name}.bias"),
                        FloatTensor { shape: vec![outputs], data: bias },
                    );
                }
            }
        }
        overlay
    };
    let states = |overlay: &TensorMap, layers| {
        let version = quantize::version(&specification, &float, overlay).unwrap();
        let model = open(version, &tiny.base);
        model.encoder().unwrap().states_after(Kernel::detect(), layers, &[2, 30, 40, 3])
    };
    let base = Artifact::open(tiny.base.clone()).unwrap();
    let plain = Encoder::open(&base, None, &tiny.shape).unwrap();
    let plain = plain.states_after(Kernel::detect(), 3, &[2, 30, 40, 3]);
    assert_eq!(states(&adapters(&mut random, 0.0), 3), plain);
    let overlay = adapters(&mut random, 0.5);
    let adapted = states(&overlay, 3);
    assert!(adapted.iter().all(|v| v.is_finite()));
    let cosine = engine::cosine(&adapted, &plain);
    assert!(cosine < 0.99, "adapters change the states: {cosine}");
    let missing: TensorMap = overlay.into_iter().skip(1).collect();
    let version = quantize::version(&specification, &float, &missing).unwrap();
    let refusal = Model::open(Arc::new(version), Some(tiny.base)).err().unwrap();
    assert_eq!(refusal.code, "XX001");
}

#[test]
fn a_version_without_text_or_without_a_table_is_scored() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, 0, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = Arc::new(Model::open(Arc::new(version), None).unwrap());
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    for row in rows(50) {
        assert!(
            (scorer.logit_row(&row) - float_logit(&specification, &float, &row, &[])).abs() < 0.02
        );
    }
    assert!(model.encoder().is_none() && model.vocabulary().is_none());

    let (mut specification, mut float) = network(&tiny, 1, tiny.shape.clone());
    specification.encoding.numbers.clear();
    specification.encoding.categories.clear();
    specification.branches.retain(|branch| branch.kind == BranchKind::Text);
    specification.members = 0;
    specification.encoding.statistics.clear();
    specification.grams = None;
    specification.background = Background::default();
    (float.network.members, float.trees, float.grams) = (Vec::new(), None, None);
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    let row = |text: &str| EncodedRow { texts: vec![text.into()], ..EncodedRow::default() };
    assert_eq!(scorer.logit_row(&row("")), 0.0, "no text, no term");
    let row = row("new york");
    let exact = float_logit(&specification, &float, &row, &pooled(&model, &row));
    assert!((scorer.logit_row(&row) - exact).abs() < 1e-4);
    for kind in [BranchKind::Network, BranchKind::Trees] {
        assert_eq!(scorer.branch_logit(kind, &row), 0.0, "a branch that the version lacks");
    }
}

/// Each branch can stand alone, with the weight that was given to it.
#[test]
fn a_version_of_one_branch_is_that_branch() {
    let tiny = tiny();
    for kind in BranchKind::ALL {
        let (mut specification, mut float) = network(&tiny, TEXTS, tiny.shape.clone());
        specification.branches.retain(|branch| branch.kind == kind);
        specification.background = Background::default();
        if kind != BranchKind::Network {
            (specification.members, float.network.members) = (0, Vec::new());
        }
        if kind != BranchKind::Trees {
            float.trees = None;
        }
        if kind != BranchKind::Text {
            (specification.encoder, float.network.texts) = (None, Vec::new());
            (specification.landmarks, float.network.landmarks) = (Vec::new(), Vec::new());
        }
        if kind != BranchKind::Grams {
            (specification.grams, float.grams) = (None, None);
        }
        if !matches!(kind, BranchKind::Text | BranchKind::Grams) {
            specification.encoding.texts.clear();
        }
        let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
        let mut scorer = Scorer::new(open(version, &tiny.base), Kernel::detect(), 1000);
        let weight = specification.branches[0].weight;
        let (whole, rows) = (specification.branches.len(), rows(50));
        assert_eq!(whole, 1);
        for row in &rows {
            let logit = scorer.branch_logit(kind, row);
            assert_eq!(scorer.logit_row(row).to_bits(), (weight * logit).to_bits());
            let float = float_logit(&specification, &float, row, &[]);
            assert!(kind != BranchKind::Trees || float.to_bits() == (weight * logit).to_bits());
            assert!(kind != BranchKind::Grams || (float - weight * logit).abs() < 1e-5);
        }
        assert!(rows.iter().any(|row| scorer.branch_logit(kind, row) != 0.0), "{kind:?}");
    }
}

#[test]
fn the_same_network_gives_the_same_bytes() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = || quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    assert_eq!(version(), version());
    let again = quantize::base_encoder(&tiny.shape, &tiny.tensors, &tiny_vocabulary()).unwrap();
    assert_eq!(artifact::digest(&again), artifact::digest(&tiny.base));
}

/// A constant column and one of zeros: finite scores, also when they change at scoring.
#[test]
fn rows_and_weights_of_zeros_are_scored() {
    let tiny = tiny();
    let (specification, mut float) = network(&tiny, TEXTS, tiny.shape.clone());
    for member in &mut float.network.members {
        member.number_weight.fill(0.0);
        member.number_bias.fill(0.0);
        member.hidden[0].weight.fill(0.0);
        member.hidden[1].weight[..HIDDEN].fill(0.0);
    }
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let model = open(version, &tiny.base);
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    for row in rows(100) {
        let exact = float_logit(&specification, &float, &row, &pooled(&model, &row));
        assert!((scorer.logit_row(&row) - exact).abs() < 0.02);
    }
}
