//! What a training leaves for explanations: a background in the version, importances and effects.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{job, tiny_base, train, Answer};
use riskft_core::artifact::Storage;
use riskft_core::cell::Cell;
use riskft_core::explain::Explainer;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::options::Method;
use riskft_core::protocol::BlobKind;
use serde_json::{json, Value};

const ROWS: usize = 900;

fn options(changes: Value) -> Value {
    let mut options = json!({"head_epochs": 2, "hidden": 16, "epochs": 0, "trees": {"rounds": 30},
        "keep_text": "always", "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}});
    for (name, value) in changes.as_object().into_iter().flatten() {
        options[name] = value.clone();
    }
    options
}

fn model(answer: &Answer) -> Arc<Model> {
    let (mut version, mut encoder) = (None, None);
    for (header, bytes) in answer.result().blobs.iter().zip(answer.blobs()) {
        match header.kind {
            BlobKind::Version => version = Some(Arc::new(bytes) as Storage),
            BlobKind::Encoder => encoder = Some(Arc::new(bytes) as Storage),
            _ => {}
        }
    }
    Arc::new(Model::open(version.expect("a version"), encoder).map_err(|r| r.detail).unwrap())
}

#[test]
fn a_version_is_explained_and_tells_what_matters() {
    let base = tiny_base("explained");
    let answer = train(&job(ROWS, Method::Lora, &base, &options(json!({}))));
    let figures = &answer.result().figures;
    let shares: BTreeMap<&str, f64> =
        figures.importances.iter().map(|i| (i.column_name.as_str(), i.share)).collect();
    println!("{shares:?}");
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), ["amount", "grade", "note"]);
    assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(shares["amount"] > shares["grade"], "{shares:?}");
    assert!(figures.importances.is_sorted_by(|a, b| a.mean_abs_shap >= b.mean_abs_shap));

    // Risk rises with the amount; texts have no effects; a missing value comes last.
    let of = |name: &'static str| {
        figures.effects.iter().filter(move |effect| effect.column_name == name)
    };
    let amounts: Vec<_> = of("amount").collect();
    let number = |value: &Option<String>| value.as_ref().map(|v| v.parse::<f64>().unwrap());
    let known: Vec<f64> = amounts.iter().filter_map(|e| number(&e.value)).collect();
    assert!(known.len() > 4 && known.is_sorted() && known.len() + 1 == amounts.len());
    assert!(amounts.last().is_some_and(|last| last.value.is_none()));
    let (first, last) = (amounts[0].mean_score, amounts[known.len() - 1].mean_score);
    assert!(first < last, "{first} {last}");
    assert_eq!(of("amount").map(|e| e.rows).sum::<u64>(), of("grade").map(|e| e.rows).sum::<u64>());
    assert_eq!((of("grade").count(), of("note").count()), (3, 0));
    let phases = &answer.result().ledger.phases;
    assert!(phases.iter().any(|(phase, _)| phase == "explain"));

    let model = model(&answer);
    let background = &model.specification().background;
    assert_eq!((background.rows.len(), background.texts.len()), (16, 1));
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 1 << 20);
    let mut explainer = Explainer::new(&mut scorer).unwrap();
    let row = [Cell::Float(9000.0), Cell::Text("c"), Cell::Text("late debt shop 3")];
    let found = explainer.explain(&mut scorer, &row, &mut || ());
    let sum = found.base + found.columns.iter().map(|c| c.contribution).sum::<f64>();
    assert!((sum - scorer.log_odds(&row)).abs() < 1e-9);
    assert!(found.columns.iter().all(|c| c.contribution != 0.0 && c.error == 0.0), "{found:?}");
}

#[test]
fn options_bound_what_is_computed() {
    let base = tiny_base("bounded");
    let options = |explain: Value| options(json!({"explain": explain}));
    let answer =
        train(&job(ROWS, Method::None, &base, &options(json!({"background": 3, "rows": 0}))));
    let figures = &answer.result().figures;
    assert!(figures.importances.is_empty() && figures.effects.is_empty());
    assert_eq!(model(&answer).specification().background.rows.len(), 3);
    let answer = train(&job(ROWS, Method::None, &base, &options(json!({"rows": 40}))));
    let of_amount = answer.result().figures.effects.iter().filter(|e| e.column_name == "amount");
    assert_eq!(of_amount.map(|e| e.rows).sum::<u64>(), 40);
}

#[test]
fn a_version_that_reads_rows_as_text_says_that_it_has_no_importances() {
    let base = tiny_base("rows");
    let answer =
        train(&job(400, Method::Lora, &base, &options(json!({"text": "row", "max_tokens": 24}))));
    assert!(answer.result().figures.importances.is_empty());
    assert!(answer.notices().contains("there are no importances"), "{}", answer.notices());
}
