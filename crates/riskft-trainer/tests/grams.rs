//! N-grams and their logistic regression: scikit-learn's own logits (core's `golden/grams.py`), and
//! what cross-fitting promises.

use std::io::Read;

use flate2::read::GzDecoder;
use riskft_core::grams::{Norm, Reader, Table, View};
use riskft_trainer::grams::{
    choose, cross_fit, extended, fit, Linear, Matrix, Sample, Texts, GRID, TOLERANCE,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    train: u32,
    rows: usize,
    texts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    view: View,
    columns: Vec<String>,
    c: f64,
    known: usize,
    idf: f64,
    bias: f64,
    logits: Vec<f64>,
}

const CORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../riskft-core/golden/grams.json.gz");
const COMPLAINTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/cfpb_complaints.csv.gz");

/// Rows of the complaints: the named columns, and whether the complaint is about fees.
fn complaints(columns: &[String], rows: usize) -> (Vec<Vec<String>>, Vec<bool>) {
    let file = GzDecoder::new(std::fs::File::open(COMPLAINTS).unwrap());
    let mut table = csv::Reader::from_reader(file);
    let headers = table.headers().unwrap().clone();
    let place = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let records: Vec<csv::StringRecord> = table.records().take(rows).map(Result::unwrap).collect();
    let cells = |record: &csv::StringRecord| -> Vec<String> {
        columns.iter().map(|name| record[place(name)].to_owned()).collect()
    };
    let label = place("fee_issue");
    (records.iter().map(cells).collect(), records.iter().map(|r| &r[label] == "t").collect())
}

fn texts(rows: &[Vec<String>]) -> Texts<'_> {
    Texts {
        columns: (0..rows[0].len() as u32).collect(),
        cells: rows.iter().flatten().map(String::as_str).collect(),
    }
}

#[test]
fn logits_equal_scikit_learn() {
    let mut json = String::new();
    GzDecoder::new(std::fs::File::open(CORE).unwrap()).read_to_string(&mut json).unwrap();
    let golden: Golden = serde_json::from_str(&json).unwrap();
    assert!(golden.cases.len() >= 4);
    for case in &golden.cases {
        let (mut rows, mut labels) = complaints(&case.columns, golden.rows);
        let odd = |text: &String| vec![text.clone(); case.columns.len()];
        rows.extend(golden.texts.iter().map(odd));
        labels.resize(rows.len(), false);
        let training: Vec<u32> = (0..golden.train).collect();
        let matrix = Matrix::read(case.view, &texts(&rows), &training).unwrap();
        assert_eq!(matrix.buckets(), case.known);
        let weights: Vec<f64> = (0..rows.len()).map(|row| 1.0 + 0.5 * (row % 3) as f64).collect();
        let columns: Vec<usize> = (0..case.columns.len()).collect();
        let sample = Sample::new(&matrix, &training, &labels, &weights, &columns);
        let model = fit(sample, case.c, 1e-8, None).unwrap();
        let table = matrix.table(&columns, &model.weights, model.bias).unwrap();
        let idf: f64 = (0..case.view.buckets() as u32)
            .filter_map(|bucket| table.slot(bucket).map(|(_, f)| f * f64::from(bucket % 97)))
            .sum();
        assert!((idf / case.idf - 1.0).abs() < 1e-6, "{idf} {}", case.idf);
        let mut reader = Reader::default();
        let mut worst: f64 = (model.bias - case.bias).abs();
        for ((row, logit), number) in rows.iter().zip(&case.logits).zip(0..) {
            let ours = model.score(&matrix, &columns, number);
            let scored =
                table.grams().score((0..).zip(row.iter().map(String::as_str)), &mut reader);
            assert!((ours - scored).abs() < 1e-5, "{ours} is scored as {scored}");
            worst = worst.max((ours - logit).abs());
        }
        println!("{:?}: largest difference {worst:.1e}", case.view);
        assert!(worst < 1e-5, "{worst}");
    }
}

const VIEW: View = View { words: 2, characters: None, bits: 14, sublinear: true, norm: Norm::Text };

/// Rows whose label the word "late" decides four times of five, and a column of noise.
fn made(count: usize) -> (Vec<Vec<String>>, Vec<bool>) {
    let mut state = 7u64;
    let mut draw = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % bound
    };
    (0..count)
        .map(|_| {
            let label = draw(4) == 0;
            let word = if label == (draw(5) > 0) { "late" } else { "paid" };
            let noise = |n: u64| format!("w{} w{}", n % 40, n / 40);
            let row = vec![format!("{word} {}", noise(draw(1600))), noise(draw(1600))];
            (row, label)
        })
        .unzip()
}

fn folds(count: usize) -> Vec<u8> {
    (0..count).map(|row| (row % 5) as u8).collect()
}

#[test]
fn the_mean_model_gives_the_mean_of_the_logits() {
    let (rows, labels) = made(600);
    let training: Vec<u32> = (0..400).collect();
    let matrix = Matrix::read(VIEW, &texts(&rows), &training).unwrap();
    let weights = vec![1.0; rows.len()];
    let columns = [0, 1];
    let sample = |rows| Sample::new(&matrix, rows, &labels, &weights, &columns);
    let parts = [&training[..150], &training[100..300], &training[200..]];
    let models: Vec<Linear> =
        parts.iter().map(|rows| fit(sample(rows), 1.0, TOLERANCE, None).unwrap()).collect();
    let mean = Linear::mean(&models).unwrap();
    for row in 0..600 {
        let logits = models.iter().map(|model| model.score(&matrix, &columns, row));
        let wanted = logits.sum::<f64>() / 3.0;
        assert!((mean.score(&matrix, &columns, row) - wanted).abs() < 1e-12);
    }
    let cross = cross_fit(sample(&training), &folds(400), &[1.0]).unwrap();
    let first: Vec<u32> = training.iter().copied().filter(|row| row % 5 != 0).collect();
    let unseen = fit(sample(&first), 1.0, TOLERANCE, None).unwrap();
    for row in (0..400).step_by(5) {
        assert_eq!(cross.out_of_fold[row], unseen.score(&matrix, &columns, row as u32));
    }
}

#[test]
fn a_column_has_to_earn_its_place() {
    let (rows, labels) = made(500);
    let training: Vec<u32> = (0..500).collect();
    let matrix = Matrix::read(VIEW, &texts(&rows), &training).unwrap();
    let weights = vec![1.0; rows.len()];
    let sample = |columns, labels| Sample::new(&matrix, &training, labels, &weights, columns);
    let chosen = choose(sample(&[0, 1], &labels), &folds(500), GRID).unwrap().unwrap();
    assert_eq!(chosen.columns, [0]);
    assert!(choose(sample(&[1], &labels), &folds(500), GRID).unwrap().is_none());
    assert!(choose(sample(&[], &labels), &folds(500), GRID).unwrap().is_none());
    let table = matrix.table(&[0], &chosen.model.weights, chosen.model.bias).unwrap();
    assert!(table.len() < matrix.buckets());
    let mut reader = Reader::default();
    let mut score = |text| table.grams().score([(0, text)], &mut reader);
    assert!(score("late w1 w2") > score("w1 w2") && score("w1 w2") > score("paid w1 w2"));
}

#[test]
fn one_class_gives_its_base_rate() {
    let (rows, _) = made(50);
    let training: Vec<u32> = (0..50).collect();
    let matrix = Matrix::read(VIEW, &texts(&rows), &training).unwrap();
    let weights = vec![1.0; 50];
    for label in [false, true] {
        let labels = vec![label; 50];
        let sample = Sample::new(&matrix, &training, &labels, &weights, &[0, 1]);
        let model = fit(sample, 1.0, TOLERANCE, None).unwrap();
        assert!(model.weights.iter().all(|weight| *weight == 0.0));
        assert_eq!(model.bias > 0.0, label);
        assert!((model.bias.abs() - 101f64.ln()).abs() < 1e-12);
        assert!(choose(sample, &folds(50), GRID).unwrap().is_none());
    }
}

/// The second half of the rows changes a model of the first, held by the curvature of those: together
/// they are near the model of all rows, and a word that only the second half has gets its weight.
#[test]
fn a_model_goes_on_from_what_held_it() {
    let (mut rows, mut labels) = made(1200);
    for (row, label) in rows.iter_mut().zip(&mut labels).skip(600).step_by(3) {
        row[0] = format!("fresh {}", row[0]);
        *label = true;
    }
    let (first, second): (Vec<u32>, Vec<u32>) = ((0..600).collect(), (600..1200).collect());
    let weights = vec![1.0; rows.len()];
    let texts = texts(&rows);
    let matrix = Matrix::read(VIEW, &texts, &first).unwrap();
    let old = fit(Sample::new(&matrix, &first, &labels, &weights, &[0]), 1.0, 1e-8, None).unwrap();
    let table = matrix.table(&[0], &old.weights, old.bias).unwrap();
    let (wider, count) = (extended(&table, &texts, &second).unwrap(), table.len());
    assert!(wider.len() > count);
    let mut reader = Reader::default();
    let mut score = |table: &Table, row: usize| table.grams().term(0, &rows[row][0], &mut reader);
    let offsets: Vec<f64> = (0..rows.len()).map(|row| score(&table, row) + old.bias).collect();
    // Rows of known words alone keep their scores, to the bit.
    let known =
        (0..600).filter(|row| score(&wider, *row).to_bits() == score(&table, *row).to_bits());
    assert!(known.count() > 300);
    let mut held = vec![0.0; wider.len()];
    for (row, offset) in offsets.iter().enumerate().take(600) {
        let p = 1.0 / (1.0 + (-offset).exp());
        wider.grams().values(0, &rows[row][0], &mut Reader::default(), |bucket, slot, x| {
            assert_eq!(wider.slot(bucket).unwrap().0, slot);
            held[slot] += p * (1.0 - p) * x * x;
        });
    }
    let wide = Matrix::over(wider, &texts).unwrap();
    let change = |held: Option<&[f64]>| {
        let sample = Sample::new(&wide, &second, &labels, &weights, &[0]);
        fit(Sample { offsets: Some(&offsets), held, ..sample }, 1.0, 1e-8, None).unwrap()
    };
    let moved = |model: &Linear| {
        let moved = (0..600).map(|row| (model.score(&wide, &[0], row) - model.bias).powi(2));
        (moved.sum::<f64>() / 600.0).sqrt()
    };
    let (free, bound) = (change(None), change(Some(&held)));
    assert!(moved(&bound) < 0.8 * moved(&free), "{} {}", moved(&bound), moved(&free));
    let fresh = bound.score(&wide, &[0], 600) - bound.bias;
    assert!(fresh > 0.5, "{fresh}");
}
