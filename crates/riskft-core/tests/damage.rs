//! Networks that cannot be quantized, and files that are damaged or lie: refused, never a panic.

mod engine;
mod targets;

use std::sync::Arc;

use engine::version::{network, rows, tiny, usual_cells, TEXTS};
use engine::{tiny_vocabulary, Random};
use riskft_core::artifact;
use riskft_core::explain::Explainer;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer, Specification};
use riskft_core::network::{FloatTensor, TensorMap};
use riskft_core::quantize::{self, Parts};
use riskft_core::trees::Ensemble;
use targets::respecified;

#[test]
fn what_cannot_be_quantized_is_refused() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let refuse = |change: &dyn Fn(&mut Parts, &mut Specification, &mut TensorMap)| {
        let (mut float, mut s, mut overlay) =
            (float.clone(), specification.clone(), TensorMap::new());
        change(&mut float, &mut s, &mut overlay);
        quantize::version(&s, &float, &overlay).err().map(|refusal| refusal.code)
    };
    let code = Some("22000".to_owned());
    assert_eq!(refuse(&|_, _, _| ()), None);
    assert_eq!(refuse(&|f, _, _| f.network.members[1].hidden[0].weight[3] = f32::NAN), code);
    assert_eq!(refuse(&|f, _, _| f.network.members[0].number_bias[0] = f32::INFINITY), code);
    assert_eq!(refuse(&|f, _, _| f.network.texts[1].1 = f32::NAN), code);
    assert_eq!(refuse(&|f, _, _| drop(f.network.members.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.network.members[2].embeddings.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.network.texts.pop())), code);
    assert_eq!(refuse(&|f, _, _| drop(f.network.landmarks.pop())), code);
    assert_eq!(refuse(&|f, _, _| f.network.landmarks[1].vectors.truncate(7)), code);
    assert_eq!(refuse(&|f, _, _| f.network.landmarks[1].weights[0] = f32::NAN), code);
    assert_eq!(refuse(&|_, s, _| s.landmarks[1] += 1), code);
    assert_eq!(refuse(&|f, _, _| drop(f.network.members[2].hidden.pop())), code);
    assert_eq!(refuse(&|f, _, _| f.network.members[2].output.weight.clear()), code);
    assert_eq!(refuse(&|_, s, _| s.hidden = 41), code);
    assert_eq!(refuse(&|f, _, _| f.trees = None), code);
    assert_eq!(refuse(&|f, _, _| f.grams = None), code);
    assert_eq!(refuse(&|_, s, _| s.grams = None), code);
    assert_eq!(refuse(&|f, _, _| f.trees = Ensemble::new(3).ok()), code);
    assert_eq!(refuse(&|_, s, _| s.branches.truncate(1)), code);
    let tensor = |shape: &[usize], v: f32| FloatTensor {
        shape: shape.to_vec(),
        data: vec![v; shape.iter().product()],
    };
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.9.query.bias".into(), tensor(&[60], 0.0)))),
        code
    );
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.0.query.bias".into(), tensor(&[61], 0.0)))),
        code
    );
    assert_eq!(
        refuse(&|_, _, o| drop(o.insert("layer.0.query.bias".into(), tensor(&[60], f32::NAN)))),
        code
    );
    let mut lacking = tiny.tensors.clone();
    lacking.remove("layer.1.key.bias");
    assert!(quantize::base_encoder(&tiny.shape, &lacking, &tiny_vocabulary()).is_err());
    assert!(quantize::base_encoder(&tiny.shape, &tiny.tensors, b"RFV1").is_err());
}

#[test]
fn lying_specifications_are_refused() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let code = |version: Vec<u8>| {
        let base: artifact::Storage = tiny.base.clone();
        Model::open(Arc::new(version), Some(base)).err().map(|refusal| refusal.code)
    };
    assert_eq!(code(respecified(&version, |_| ())), None);
    let change = |path: &str, value: serde_json::Value| {
        let path = path.to_owned();
        code(respecified(&version, move |s| {
            *s.pointer_mut(&path).unwrap_or_else(|| panic!("{path}")) = value.clone();
        }))
    };
    let damaged = Some("XX001".to_owned());
    for (path, value) in [
        ("/members", 0.into()),
        ("/members", 4.into()),
        ("/members", u64::MAX.into()),
        ("/branches", serde_json::Value::Array(vec![])),
        ("/branches/0/kind", "trees".into()),
        ("/branches/1/kind", "shrubs".into()),
        ("/branches/2/kind", "trees".into()),
        ("/grams/view/bits", 5.into()),
        ("/grams/view/bits", 9.into()),
        ("/grams/texts/1", 2.into()),
        ("/grams", serde_json::Value::Null),
        ("/branches/1/weight", (-0.1).into()),
        ("/branches/1/weight", 1e300.into()),
        ("/branches/1/weight", serde_json::Value::Null),
        ("/hidden", 30.into()),
        ("/hidden", u64::MAX.into()),
        ("/encoding/numbers/0/source/value", 10.into()),
        ("/encoding/categories/0/source/value", u64::MAX.into()),
        ("/encoding/texts/0/source/column", 99.into()),
        ("/encoding/texts/0/max_tokens", 4097.into()),
        ("/encoding/texts/0/max_tokens", 2.into()),
        ("/encoding/numbers/0/edges", vec![1.0].into()),
        ("/encoding/numbers/0/edges", vec![1.0, 1.0].into()),
        ("/encoding/numbers/0/edges", vec![0.0; 100].into()),
        ("/encoding/numbers", serde_json::Value::Array(vec![])),
        ("/encoding/categories/2/values", serde_json::Value::Array(vec![])),
        ("/landmarks/1", 2049.into()),
        ("/landmarks/1", 4.into()),
        ("/landmarks", vec![0, 5, 1].into()),
        ("/encoder/shape/layers", 4.into()),
        ("/encoder/shape/layers", 0.into()),
        ("/encoder/shape/width", 64.into()),
        ("/encoder/shape/heads", 7.into()),
        ("/encoder/shape/vocabulary", 1_000_000_000_000u64.into()),
        ("/encoder/shape/adapter", 8.into()),
        ("/encoder", serde_json::Value::Null),
        ("/background/rows/0/codes/0", 9.into()),
        ("/background/rows/1/codes", serde_json::Value::Array(vec![])),
        ("/background/rows/1/values", vec![1.0; 11].into()),
        ("/background/rows/0/values/0", "1".into()),
        ("/background/rows/0/keys", vec![0u64; 4].into()),
        ("/background/rows/0/keys/0", (-1).into()),
        ("/background/rows/0/labels", vec![7u64].into()),
        ("/background/texts", vec![0.5].into()),
        ("/background/texts/0", serde_json::Value::Null),
        ("/background/rows", vec![serde_json::Value::Null; 2].into()),
        ("/background", serde_json::Value::Null),
        ("/calibration", 3.into()),
        ("/threshold", serde_json::Value::Null),
    ] {
        assert_eq!(change(path, value.clone()), damaged, "{path} = {value}");
    }
    assert_eq!(change("/format", 1.into()), Some("0A000".into()));
    assert_eq!(change("/format", 4.into()), Some("0A000".into()));
    assert_eq!(change("/numerics", 2.into()), Some("0A000".into()));
    let lacking = Model::open(Arc::new(version.clone()), None).err().unwrap();
    assert_eq!(lacking.code, "58P01");
    let swapped = Model::open(tiny.base.clone(), Some(Arc::new(version))).err().unwrap();
    assert_eq!(swapped.code, "XX001");
}

/// Format 2 had no landmarks, and does not name them.
#[test]
fn a_file_of_the_format_before_scores_as_it_did() {
    let tiny = tiny();
    let (mut specification, mut float) = network(&tiny, TEXTS, tiny.shape.clone());
    (specification.landmarks, float.network.landmarks) = (Vec::new(), Vec::new());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let older = respecified(&version, |s| {
        s["format"] = 2.into();
        s.as_object_mut().unwrap().remove("landmarks").unwrap();
    });
    let open = |version: Vec<u8>| {
        let base: artifact::Storage = tiny.base.clone();
        let model = Arc::new(Model::open(Arc::new(version), Some(base)).unwrap());
        Scorer::new(model, Kernel::detect(), 0)
    };
    let (mut older, mut newer) = (open(older), open(version));
    for row in rows(20) {
        assert_eq!(older.score_row(&row).to_bits(), newer.score_row(&row).to_bits());
    }
}

/// Damage anywhere in either file: refused, or scored without a panic.
#[test]
fn damaged_files_never_panic() {
    let tiny = tiny();
    let (specification, float) = network(&tiny, TEXTS, tiny.shape.clone());
    let version = quantize::version(&specification, &float, &TensorMap::new()).unwrap();
    let rows = rows(4);
    let mut random = Random(2024);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..3000 {
        let (mut version, mut base) = (version.clone(), (*tiny.base).clone());
        let file = if round % 2 == 0 { &mut version } else { &mut base };
        let header = 8 + u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        match round % 3 {
            0 => {
                let length = random.below(file.len());
                file.truncate(length);
            }
            1 => file[random.below(header)] = random.next() as u8,
            _ => {
                let at = header + random.below(file.len() - header);
                file[at] = random.next() as u8;
            }
        }
        match Model::open(Arc::new(version), Some(Arc::new(base))) {
            Err(refusal) => {
                assert!(["XX001", "0A000"].contains(&refusal.code.as_str()), "{refusal:?}");
                refused += 1;
            }
            Ok(model) => {
                let mut scorer = Scorer::new(Arc::new(model), Kernel::detect(), 500);
                for row in &rows {
                    scorer.score_row(row);
                }
                if let Ok(mut explainer) = Explainer::new(&mut scorer) {
                    let cells = usual_cells(round % 7);
                    explainer.explain(&mut scorer, &cells, &mut || ());
                }
                opened += 1;
            }
        }
    }
    println!("of 3,000 damaged pairs {refused} were refused, {opened} scored");
    assert!(refused > 1000 && opened > 100);
}
