//! `options.balance`: rare classes weigh more while fitting, and scores stay probabilities.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{job_of, read_job, tiny_base, train, Answer};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::hash::mix;
use riskft_core::dataset::{self, Part};
use riskft_core::encode;
use riskft_core::model::Model;
use riskft_core::options::Method;
use riskft_trainer::balance;
use riskft_trainer::events::{Listener, Reporter};
use riskft_trainer::folds::{Folds, Share};
use riskft_trainer::rows::{Reader, Rows};
use riskft_trainer::texts::Collector;
use serde_json::{json, Value};

const ROWS: usize = 3000;

fn unit(row: usize, k: u64) -> f64 {
    (mix(row as u64 * 64 + k) >> 11) as f64 / 2f64.powi(53)
}

/// A job where `rate` and `grade` tell in part which few rows are bad.
fn rare(rows: usize, options: Value) -> Vec<u8> {
    let mut all = json!({
        "threads": 1, "head_epochs": 12, "hidden": 32, "batch_size": 128, "trees": {"rounds": 80},
        "folds": 4, "repeats": 1
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), options.as_object()) {
        all.extend(more.clone());
    }
    let columns = [
        ("rate", ColumnType::Float),
        ("amount", ColumnType::Float),
        ("grade", ColumnType::Text),
        ("insured", ColumnType::Bool),
        ("bad", ColumnType::Bool),
    ];
    job_of(Method::None, &tiny_base("rare"), &all, &columns, |batch| {
        for row in 0..rows {
            let (rate, grade) = (unit(row, 1), (unit(row, 2) * 4.0) as usize);
            let risk = -4.6 + 3.0 * rate + 0.5 * grade as f64;
            let bad = unit(row, 3) < 1.0 / (1.0 + f64::exp(-risk));
            let amount = match row % 20 {
                0 => Cell::Null,
                _ => Cell::Float((unit(row, 4) * 9000.0).round()),
            };
            let grade = Cell::Text(["a", "b", "c", "d"][grade]);
            let insured = Cell::Bool(unit(row, 5) < 0.3);
            batch
                .push(&[Cell::Float(rate), amount, grade, insured, Cell::Bool(bad)])
                .expect("a row of the types");
        }
    })
}

/// The intercept that the calibration of the version needed.
#[track_caller]
fn intercept(answer: &Answer) -> f64 {
    let version = answer.blobs()[0].clone();
    let model = Model::open(Arc::new(version), None).map_err(|r| r.detail).expect("a version");
    model.specification().calibration.intercept
}

#[test]
fn scores_stay_probabilities_of_the_table() {
    let none = train(&rare(ROWS, json!({})));
    for (balance, says) in [
        ("none", ""),
        ("weights", "balance: while fitting, a positive row weighs"),
        ("smote", "rows are made up between rare rows and their neighbours"),
    ] {
        let answer = train(&rare(ROWS, json!({"balance": balance})));
        assert_eq!(answer.status, Some(0), "{balance}");
        assert!(answer.notices().contains(says), "{}", answer.notices());
        assert_eq!(answer.notices().contains("balance:"), balance != "none");
        let figure = |metric| answer.metric("test", metric).expect(metric);
        let (rate, rows) = (figure("base_rate"), figure("rows"));
        assert!((0.05..0.2).contains(&rate), "{rate}");
        let noise = (rate * (1.0 - rate) / rows).sqrt();
        let apart = figure("mean_score") - rate;
        println!(
            "{balance}: AUC {:.4}, log-loss {:.4}, mean score {:+.4} beside the base rate, intercept {:+.3}",
            figure("auc"), figure("log_loss"), apart, intercept(&answer)
        );
        assert!(apart.abs() < 3.0 * noise, "{balance}: {apart} with noise {noise}");
        let plain = -(rate * rate.ln() + (1.0 - rate) * (1.0 - rate).ln());
        assert!(figure("log_loss") < plain, "{balance} tells no more than the base rate");
        let before = none.metric("test", "auc").expect("an AUC");
        assert!(figure("auc") > before - 0.03, "{balance}: {} after {before}", figure("auc"));
        // Weights shift logits by 2, made-up rows by 1: the branches take that out themselves.
        assert!((intercept(&answer) - intercept(&none)).abs() < 0.5, "{balance}");
        assert_eq!(answer.result().ledger.rows_unlabelled, 0);
        assert_eq!(answer.metric("validation", "rows"), none.metric("validation", "rows"));
    }
}

#[test]
fn made_up_rows_train_one_model_and_are_judged_by_none() {
    let reporter = Reporter::new(Listener::Person);
    let read = |options| read_job(&rare(ROWS, options), &reporter);
    let job = read(json!({"balance": "smote", "repeats": 2})).map_err(|r| r.detail).expect("a job");
    let prepared = dataset::prepare(&job.dataset, &job.header).map_err(|r| r.detail).expect("rows");
    let encoding = encode::fit(&job.dataset, &prepared, &job.header);
    let reader = Reader::new(&job.dataset, &encoding).map_err(|r| r.detail).expect("columns");
    let mut texts = Collector::default();
    let (labels, parts) = (&prepared.labels, &prepared.parts);
    let rows = Rows::read(&reader, labels, parts, false, &mut texts, |_| {});
    let options = &job.header.options;
    let plain = Folds::new(&prepared, &rows, options);
    let balanced = balance::of(&rows, &plain, &encoding, &job.header, &reporter);
    let (more, folds) = (balanced.rows.expect("made-up rows"), &balanced.folds);

    assert_eq!((more.labelled, folds.fitted.len()), (ROWS, plain.fitted.len()));
    assert_eq!(folds.models(), 8);
    let made = ROWS as u32..more.source.len() as u32;
    let test: BTreeSet<u32> = rows.part(Part::Test).iter().copied().collect();
    assert_eq!(test, more.part(Part::Test).iter().copied().collect());
    let mut kinds = BTreeSet::new();
    for place in made.clone() {
        let own = more.source[place as usize];
        assert!(more.labels[place as usize] && more.labels[own as usize], "the rare class");
        let models: Vec<usize> =
            (0..8).filter(|model| folds.share(*model, place) == Share::Train).collect();
        assert_eq!(models.len(), 1, "it trains one model");
        assert!(
            (0..8).all(|model| folds.share(model, place) != Share::Held),
            "nobody judges by it"
        );
        assert_eq!(folds.share(models[0], own), Share::Train, "made from a row of that model");
        let features = more.features.of(place);
        for (code, category) in features[encoding.numbers.len()..].iter().zip(&encoding.categories)
        {
            assert!(*code >= 0.0 && *code < category.codes() as f64 && code.fract() == 0.0);
            kinds.insert(*code as u32);
        }
        for (number, value) in encoding.numbers.iter().zip(features) {
            assert!(number.name != "insured" || [0.0, 1.0].contains(value), "a flag stays one");
        }
    }
    assert!(kinds.len() > 1);
    for model in 0..8 {
        let train = folds.places(model, Share::Train);
        let bad = train.iter().filter(|place| more.labels[**place as usize]).count();
        assert_eq!(bad, (train.len() - bad) / 2, "1:2");
        assert_eq!(folds.places(model, Share::Held), plain.places(model, Share::Held));
        let shift = folds.shift(&train, &more.labels);
        let real =
            train.iter().filter(|place| **place < ROWS as u32 && more.labels[**place as usize]);
        assert!((shift - (bad as f64 / real.count() as f64).ln()).abs() < 1e-9, "{shift}");
    }
    let again = balance::of(&rows, &plain, &encoding, &job.header, &reporter).rows.expect("rows");
    for place in made {
        let bits = |rows: &Rows| -> Vec<u64> {
            rows.features.of(place).iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&more), bits(&again));
    }
    let natural = folds.natural();
    assert!(natural.trained().iter().all(|place| *place < ROWS as u32));
    assert_eq!(natural.shift(&natural.places(0, Share::Train), &more.labels), 0.0);
}

/// A job of which `labelled` rows have a label that `x` and `y` tell well, and the others none.
fn partly(labelled: usize, rows: usize, blur: f64, options: Value) -> Vec<u8> {
    let mut all = json!({
        "threads": 1, "head_epochs": 12, "hidden": 32, "trees": {"rounds": 60}, "folds": 4,
        "repeats": 1
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), options.as_object()) {
        all.extend(more.clone());
    }
    let columns = [
        ("x", ColumnType::Float),
        ("y", ColumnType::Float),
        ("grade", ColumnType::Text),
        ("bad", ColumnType::Bool),
    ];
    job_of(Method::None, &tiny_base("partly"), &all, &columns, |batch| {
        for row in 0..rows {
            let (x, y) = (unit(row, 11), unit(row, 12));
            let bad = x + y + blur * (unit(row, 13) - 0.5) > 1.2;
            let grade = Cell::Text(["a", "b", "c"][(unit(row, 14) * 3.0) as usize]);
            // Spread over the table.
            let told = (row * labelled) % rows < labelled;
            let bad = if told { Cell::Bool(bad) } else { Cell::Null };
            batch.push(&[Cell::Float(x), Cell::Float(y), grade, bad]).expect("a row of the types");
        }
    })
}

fn version(answer: &Answer) -> String {
    answer.result().blobs[0].digest.clone()
}

#[test]
fn rows_without_a_label_train_a_second_fit_that_has_to_be_better() {
    let (labelled, rows) = (600, 2400);
    let plain = train(&partly(labelled, rows, 0.5, json!({})));
    assert!(!plain.notices().contains("self-training"));
    let before = plain.metric("validation", "auc").expect("an AUC");
    for options in [json!({}), json!({"balance": "weights"}), json!({"balance": "smote"})] {
        let mut asked = options.clone();
        asked["unlabelled"] = json!("self_train");
        let answer = train(&partly(labelled, rows, 0.5, asked));
        assert_eq!(answer.status, Some(0));
        let notices = answer.notices();
        let told = notices.lines().find(|line| line.starts_with("self-training:"));
        let told = told.unwrap_or_else(|| panic!("no notice: {notices}"));
        println!("{options}: {told}");
        assert!(told.contains(" of 1800 rows without a label"), "{told}");
        assert!(told.contains("took part in a second fit"), "{told}");
        let kept = told.ends_with("the second fit is kept");
        assert!(kept || told.ends_with("the first fit is kept"), "{told}");
        assert_eq!(answer.result().ledger.rows_unlabelled, 1800);
        for part in ["train", "validation", "test"] {
            assert_eq!(answer.metric(part, "rows"), plain.metric(part, "rows"), "{part}");
        }
        if options == json!({}) {
            assert!(told.contains(&format!("validation AUC {before:.4} before")), "{told}");
            assert_eq!(version(&answer) == version(&plain), !kept, "{told}");
        }
        let figure = |metric| answer.metric("test", metric).expect(metric);
        let (rate, count) = (figure("base_rate"), figure("rows"));
        let noise = (rate * (1.0 - rate) / count).sqrt();
        assert!((figure("mean_score") - rate).abs() < 3.0 * noise);
    }
}

#[test]
fn what_no_model_is_sure_of_changes_nothing() {
    let asked = json!({"unlabelled": "self_train"});
    for (labelled, rows, blur, says) in [
        (600, 600, 0.5, "self-training: no row is without a label"),
        (600, 900, 8.0, "self-training: of 300 rows without a label, no model is sure"),
    ] {
        let plain = train(&partly(labelled, rows, blur, json!({})));
        let answer = train(&partly(labelled, rows, blur, asked.clone()));
        assert!(answer.notices().contains(says), "{}", answer.notices());
        assert_eq!(version(&answer), version(&plain));
    }
}
