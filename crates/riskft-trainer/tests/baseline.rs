//! The baseline beside each version: scikit-learn's own scorecard (core's `golden/scorecard.py`), and
//! what it promises on tables of every kind.

#[path = "../../riskft-core/tests/common/mod.rs"]
mod common;

use common::{dataset, header, ints, loans, uniform};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{prepare, Dataset, Part};
use riskft_core::encode;
use riskft_core::metrics;
use riskft_core::options::{Method, Options};
use riskft_core::scorecard::Column;
use riskft_trainer::baseline::{self, Baseline, Card, Table, MOST_COLUMNS};
use riskft_trainer::device::Compute;
use riskft_trainer::events::{Listener, Reporter};
use riskft_trainer::folds::Folds;
use riskft_trainer::rows::{Reader, Rows};
use riskft_trainer::run::Run;
use riskft_trainer::texts::{Collector, Texts};
use serde::Deserialize;
use serde_json::{json, Value};

#[derive(Deserialize)]
struct Golden {
    rows: usize,
    numbers: Vec<Number>,
    labels: Vec<Labels>,
    kept: Vec<usize>,
    weights: Vec<f64>,
    base: f64,
    logits: Vec<f64>,
    every: usize,
}

#[derive(Deserialize)]
struct Number {
    name: String,
    thresholds: Vec<f64>,
}

#[derive(Deserialize)]
struct Labels {
    name: String,
    values: Vec<String>,
}

/// The features of a row of the loans, by the golden columns.
fn features(data: &Dataset, golden: &Golden, row: usize) -> Vec<f64> {
    let cell = |name: &str| data.column(name).expect("a column").cell(row);
    let number = |number: &Number| match cell(&number.name) {
        Cell::Int(value) => value as f64,
        Cell::Float(value) => value,
        _ => f64::NAN,
    };
    let code = |labels: &Labels| {
        let label = match cell(&labels.name) {
            Cell::Text(text) => text,
            Cell::Bool(true) => "True",
            Cell::Bool(false) => "False",
            _ => return 1.0,
        };
        labels.values.iter().position(|value| value == label).map_or(0.0, |at| at as f64 + 2.0)
    };
    golden.numbers.iter().map(number).chain(golden.labels.iter().map(code)).collect()
}

#[test]
fn a_card_equals_scikit_learn() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../riskft-core/golden/scorecard.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let data = loans();
    let rows: Vec<Vec<f64>> = (0..golden.rows).map(|row| features(&data, &golden, row)).collect();
    let bad = data.column("defaulted").unwrap();
    let labels = (0..golden.rows).map(|row| bad.cell(row) == Cell::Bool(true)).collect();
    let numbers = golden.numbers.iter().map(|number| Column::Number(number.thresholds.clone()));
    let codes = golden.labels.iter().map(|labels| Column::Category(labels.values.len() + 2));
    let columns: Vec<Column> = numbers.chain(codes).collect();
    let table = Table::of(&columns, rows.iter().map(Vec::as_slice), labels);
    let train: Vec<usize> = (0..golden.rows).filter(|row| row % 3 != 0).collect();
    let card = Card::fit(&table, &train).unwrap();
    assert!(card.points.iter().map(|(column, _)| column).eq(&golden.kept));
    assert_eq!(golden.weights.len(), card.points.len());
    let mut worst = (card.base - golden.base).abs();
    for (row, wanted) in rows.iter().step_by(golden.every).zip(&golden.logits) {
        worst = worst.max((card.logit(&columns, row) - wanted).abs());
    }
    println!("largest difference {worst:.1e}");
    assert!(worst < 5e-4, "{worst}");
}

/// The baseline of a table, the labels of its fitted rows, and those of its test rows.
struct Fitted {
    baseline: Option<Baseline>,
    fitted: Vec<u32>,
    labels: Vec<bool>,
    test: Vec<bool>,
}

/// As a run fits it.
fn fit(data: &Dataset, target: &str, roles: Value) -> Fitted {
    let mut header = header(data, target);
    header.method = Method::Lora;
    let options = json!({"threads": 1, "roles": roles});
    header.options = Options::parse(&options).map_err(|r| r.detail).unwrap();
    let prepared = prepare(data, &header).map_err(|r| r.detail).unwrap();
    let mut encoding = encode::fit(data, &prepared, &header);
    encoding.texts.clear();
    let reader = Reader::new(data, &encoding).map_err(|r| r.detail).unwrap();
    let mut collector = Collector::default();
    let rows =
        Rows::read(&reader, &prepared.labels, &prepared.parts, false, &mut collector, |_| {});
    let folds = Folds::new(&prepared, &rows, &header.options);
    let compute = Compute::choose(&header.options).map_err(|r| r.detail).unwrap();
    let run = Run {
        header: &header,
        prepared: &prepared,
        encoding: &encoding,
        texts: &Texts::default(),
        folds: &folds,
        rows: &rows,
        compute: &compute,
        reporter: &Reporter::new(Listener::Person),
    };
    Fitted {
        baseline: baseline::fit(&run),
        labels: run.labels(),
        test: rows.labels_of(rows.part(Part::Test)),
        fitted: folds.fitted.clone(),
    }
}

impl Fitted {
    #[track_caller]
    fn baseline(&self) -> &Baseline {
        self.baseline.as_ref().expect("a baseline")
    }

    /// Out of fold, and on the test rows. All of them have a logit.
    #[track_caller]
    fn aucs(&self) -> [f64; 2] {
        let baseline = self.baseline();
        let of = |place: &u32| baseline.out_of_fold[*place as usize];
        let logits: Vec<f64> = self.fitted.iter().map(of).collect();
        let all = logits.iter().chain(&baseline.test);
        assert!(
            all.clone().all(|logit| logit.is_finite()) && baseline.test.len() == self.test.len()
        );
        [metrics::auc(&logits, &self.labels), metrics::auc(&baseline.test, &self.test)]
            .map(|auc| auc.expect("both classes"))
    }
}

#[test]
fn loans_give_a_scorecard_in_a_second() {
    let fitted = fit(&loans(), "defaulted", json!({"loan_id": "identifier"}));
    let [auc, test] = fitted.aucs();
    println!("{auc:.4}, test {test:.4}, {:.2} s", fitted.baseline().seconds);
    // Their standard errors are 0.005 and 0.01.
    assert!(auc > 0.745 && test > 0.73, "{auc} {test}");
    // 0.6 s where measured.
    assert!(fitted.baseline().seconds < 6.0);
}

/// Rows of which one in `rare` is bad, noise, and columns that cannot tell anything.
fn odd(rows: usize, rare: usize) -> Dataset {
    let bad = |row: usize| row.is_multiple_of(rare);
    let noise = (0..rows).map(|row| Cell::Float(uniform(1, row)));
    let told = |row: usize| uniform(2, row) + if bad(row) { 0.5 } else { 0.0 };
    let told = (0..rows).map(|row| match row % 5 {
        4 => Cell::Null,
        _ => Cell::Float(told(row)),
    });
    dataset(&[
        ("noise", ColumnType::Float, noise.collect()),
        ("told", ColumnType::Float, told.collect()),
        ("constant", ColumnType::Int, ints((0..rows).map(|_| 7))),
        ("missing", ColumnType::Float, vec![Cell::Null; rows]),
        ("bad", ColumnType::Bool, (0..rows).map(|row| Cell::Bool(bad(row))).collect()),
    ])
}

#[test]
fn constant_and_missing_columns_do_no_harm() {
    let fitted = fit(&odd(3000, 3), "bad", json!({}));
    let [auc, test] = fitted.aucs();
    // Four of five values tell: 0.875 where they do, 1/2 where they do not.
    assert!(auc > 0.75 && test > 0.75, "{auc} {test}");
}

#[test]
fn a_table_of_texts_has_no_baseline() {
    let notes: Vec<String> = (0..400)
        .map(|row| {
            (0..12).map(|word| format!("w{} ", (uniform(word, row) * 90.0) as u32)).collect()
        })
        .collect();
    let notes = notes.iter().map(|note| Cell::Text(note)).collect();
    let bad = (0..400).map(|row| Cell::Bool(row % 3 == 0)).collect();
    let data = dataset(&[("note", ColumnType::Text, notes), ("bad", ColumnType::Bool, bad)]);
    assert!(fit(&data, "bad", json!({"note": "text"})).baseline.is_none());
}

#[test]
fn few_positive_rows_give_finite_logits() {
    let [auc, _] = fit(&odd(900, 30), "bad", json!({})).aucs();
    assert!(auc > 0.55, "{auc}");
}

#[test]
fn rows_of_one_class_give_their_base_rate() {
    let columns = [Column::Number(vec![0.5])];
    for label in [false, true] {
        let rows = [[0.0], [1.0], [f64::NAN]];
        let table = Table::of(&columns, rows.iter().map(|row| &row[..]), vec![label; 3]);
        let card = Card::fit(&table, &[0, 1, 2]).unwrap();
        assert_eq!(card.points, []);
        assert!((card.base.abs() - 7f64.ln()).abs() < 1e-12 && (card.base > 0.0) == label);
        assert_eq!(Card::fit(&table, &[]).map(|card| card.base), Ok(0.0));
    }
}

/// 1,600 columns, of which one in eight tells a little.
#[test]
fn wide_tables_are_bounded() {
    const COLUMNS: usize = 1600;
    let columns = vec![Column::Number(vec![0.2, 0.4, 0.6, 0.8]); COLUMNS];
    let labels: Vec<bool> = (0..2000).map(|row| uniform(0, row) < 0.3).collect();
    let cell = |row: usize, column: usize| {
        let told = column.is_multiple_of(8) && labels[row];
        uniform(column as u64 + 1, row) * if told { 0.9 } else { 1.0 }
    };
    let rows: Vec<Vec<f64>> =
        (0..2000).map(|row| (0..COLUMNS).map(|column| cell(row, column)).collect()).collect();
    let table = Table::of(&columns, rows.iter().map(Vec::as_slice), labels.clone());
    let train: Vec<usize> = (0..1500).collect();
    let card = Card::fit(&table, &train).unwrap();
    assert_eq!(card.points.len(), MOST_COLUMNS);
    assert!(card.points.is_sorted_by_key(|(column, _)| *column));
    let telling = card.points.iter().filter(|(column, _)| column % 8 == 0).count();
    assert!(telling > MOST_COLUMNS * 3 / 4, "{telling}");
    let logits: Vec<f64> = rows[1500..].iter().map(|row| card.logit(&columns, row)).collect();
    let auc = metrics::auc(&logits, &labels[1500..]).unwrap();
    assert!(auc > 0.65, "{auc}");
}
