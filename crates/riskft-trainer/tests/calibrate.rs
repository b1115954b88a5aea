//! `options.calibrate = 'recent'`: scores at the level of the newest rows where risk rises with time.

mod common;

use common::{read_job, timed_job_of, tiny_base, train, Answer};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::hash::mix;
use riskft_core::dataset::{self, Part};
use riskft_core::encode;
use riskft_core::options::Method;
use riskft_core::protocol::Event;
use riskft_trainer::events::{Listener, Reporter};
use riskft_trainer::folds::{Folds, Share};
use riskft_trainer::rows::{Reader, Rows};
use riskft_trainer::texts::Collector;
use serde_json::{json, Value};

const ROWS: usize = 4000;

fn unit(row: usize, k: u64) -> f64 {
    (mix(row as u64 * 64 + k) >> 11) as f64 / 2f64.powi(53)
}

/// Probability of a row's label: the log odds rise by 3 from the oldest to the newest row.
fn probability(row: usize) -> f64 {
    let risk = -3.5 + 2.0 * unit(row, 1) + 3.0 * row as f64 / ROWS as f64;
    1.0 / (1.0 + (-risk).exp())
}

/// One row a day, oldest first; calibration and test part are as long as each other.
fn rising(time_column: Option<&str>, options: Value) -> Vec<u8> {
    let mut all = json!({
        "threads": 1, "head_epochs": 8, "hidden": 32, "trees": {"rounds": 60}, "folds": 3,
        "repeats": 1,
        "split": {"train": 0.5, "validation": 0.1, "calibration": 0.2, "test": 0.2}
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), options.as_object()) {
        all.extend(more.clone());
    }
    let columns = [
        ("x", ColumnType::Float),
        ("noise", ColumnType::Float),
        ("granted", ColumnType::Date),
        ("bad", ColumnType::Bool),
    ];
    let base = tiny_base("rising");
    timed_job_of(time_column, (Method::None, &base), &all, &columns, |batch| {
        for row in 0..ROWS {
            let bad = unit(row, 2) < probability(row);
            let (x, noise) = (Cell::Float(unit(row, 1)), Cell::Float(unit(row, 3)));
            let day = Cell::Date(10_000 + row as i32);
            batch.push(&[x, noise, day, Cell::Bool(bad)]).expect("a row of the types");
        }
    })
}

fn ratio(answer: &Answer, part: &str) -> f64 {
    let figure = |metric| answer.metric(part, metric).expect(metric);
    figure("mean_score") / figure("base_rate")
}

fn warnings(answer: &Answer) -> Vec<&str> {
    let events = answer.events.iter();
    events
        .filter_map(|event| match event {
            Event::Warning(_, detail) => Some(detail.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn scores_follow_a_level_that_rises() {
    let all = train(&rising(Some("granted"), json!({})));
    let recent = train(&rising(Some("granted"), json!({"calibrate": "recent"})));
    // What a version knows is the level of its newest rows, a fifth before the end: by the rule
    // that made the rows, the level of the test part is higher by this.
    let mean = |rows: std::ops::Range<usize>| {
        let count = rows.len() as f64;
        rows.map(probability).sum::<f64>() / count
    };
    let known = mean(3100..3200) / mean(3200..4000);
    assert!((0.75..0.9).contains(&known), "{known}");
    let (before, after) = (ratio(&all, "test"), ratio(&recent, "test"));
    println!("mean score / mean outcome: {before:.3} with all, {after:.3} with recent");
    assert!(before < 0.92, "{before}");
    let rate = all.metric("test", "base_rate").expect("a rate");
    let noise = ((1.0 - rate) / rate / 800.0).sqrt();
    // The gap is learnt on 800 rows and judged on 800 others.
    assert!((after - 1.0).abs() < 3.0 * noise, "{after}, noise {noise}");
    assert!((after - 1.0).abs() < (before - 1.0).abs() / 2.0, "{before} and {after}");

    assert_eq!(all.metric("test", "auc"), recent.metric("test", "auc"), "one ranking");
    assert_eq!(all.metric("calibration", "rows"), None);
    assert_eq!(recent.metric("calibration", "rows"), Some(800.0));
    assert!((ratio(&recent, "calibration") - 1.0).abs() < 1e-6);
    assert_eq!(recent.result().ledger.rows_calibration, 800);
    let seconds = |answer: &Answer, phase: &str| {
        answer.result().ledger.phases.iter().find(|(name, _)| name == phase).map(|(_, s)| *s)
    };
    assert!(seconds(&recent, "backtest").is_some_and(|s| s > 0.0));
    assert_eq!(seconds(&all, "backtest"), None);
    let says = "calibrate: by models fitted on older rows alone, the newest 800 rows";
    assert!(recent.notices().contains(says), "{}", recent.notices());
    let told = warnings(&all);
    assert!(told.iter().any(|detail| detail.contains("options.calibrate = 'recent'")), "{told:?}");
    assert!(warnings(&recent).is_empty());
}

#[test]
fn made_up_rows_keep_out_of_the_past() {
    let options = json!({"calibrate": "recent", "balance": "smote"});
    let answer = train(&rising(Some("granted"), options));
    let after = ratio(&answer, "test");
    assert!((0.85..1.15).contains(&after), "{after}");
}

#[test]
fn without_a_time_column_nothing_changes() {
    let digest = |answer: &Answer| answer.result().blobs[0].digest.clone();
    let all = train(&rising(None, json!({})));
    let recent = train(&rising(None, json!({"calibrate": "recent"})));
    assert_eq!(digest(&all), digest(&recent));
    assert!(recent.notices().contains("calibrate: without a time_column"));
}

#[test]
fn no_model_of_the_backtest_sees_the_newest_rows() {
    let reporter = Reporter::new(Listener::Nobody);
    let job = read_job(&rising(Some("granted"), json!({})), &reporter);
    let job = job.map_err(|r| r.detail).expect("a job");
    let prepared = dataset::prepare(&job.dataset, &job.header).map_err(|r| r.detail).expect("rows");
    let encoding = encode::fit(&job.dataset, &prepared, &job.header);
    let reader = Reader::new(&job.dataset, &encoding).map_err(|r| r.detail).expect("columns");
    let (labels, parts) = (&prepared.labels, &prepared.parts);
    let rows = Rows::read(&reader, labels, parts, false, &mut Collector::default(), |_| {});
    let folds = Folds::new(&prepared, &rows, &job.header.options);
    let newest = rows.part(Part::Calibration);
    assert_eq!(newest, (2400..3200).collect::<Vec<u32>>());
    let older = folds.without(newest);
    assert_eq!(older.fitted, (0..2400).collect::<Vec<u32>>());
    assert_eq!((older.models(), older.size()), (folds.models(), folds.size()));
    for model in 0..older.models() {
        for place in 0..ROWS as u32 {
            let expected = match place {
                0..2400 => folds.share(model, place),
                _ => Share::Out,
            };
            assert_eq!(older.share(model, place), expected);
        }
    }
}
