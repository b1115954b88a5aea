//! Contributions of source columns: the Shapley values of the game that the score is, and nothing
//! that depends on how they are computed.

mod common;
mod engine;

use std::sync::Arc;

use common::{header, loans, uniform};
use engine::version::{network, open, tiny, usual_cells, CATEGORIES, NUMBERS, TEXTS};
use riskft_core::calibrate::Platt;
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::Dataset;
use riskft_core::encode::mix::Mixer;
use riskft_core::encode::{
    EncodedColumn, EncodedRow, Encoding, NumberInput, NumberSource, TextFormat, TextSource,
};
use riskft_core::explain::{Background, Explainer, Explanation, MOST_ROWS};
use riskft_core::gemm::Kernel;
use riskft_core::model::{Branch, BranchKind, Model, Scorer, Specification, FORMAT};
use riskft_core::network::TensorMap;
use riskft_core::options::Role;
use riskft_core::quantize::{self, Parts};
use riskft_core::trees::{Ensemble, Node, Side};

fn model(change: impl FnOnce(&mut Specification, &mut Parts)) -> Arc<Model> {
    let tiny = tiny();
    let (mut specification, mut parts) = network(&tiny, TEXTS, tiny.shape.clone());
    change(&mut specification, &mut parts);
    let version = quantize::version(&specification, &parts, &TensorMap::new()).unwrap();
    open(version, &tiny.base)
}

fn scorer(model: &Arc<Model>) -> Scorer {
    Scorer::new(Arc::clone(model), Kernel::detect(), 1 << 20)
}

/// The tiny version with a background of these rows.
fn explained_by(usual: &[Vec<Cell<'_>>]) -> (Scorer, Explainer) {
    let background = Background::of(&mut scorer(&model(|_, _| ())), usual);
    let model = model(|specification, _| specification.background = background.clone());
    let mut scorer = scorer(&model);
    let explainer = Explainer::new(&mut scorer).unwrap();
    (scorer, explainer)
}

fn explained() -> (Scorer, Explainer) {
    let usual: Vec<Vec<Cell<'_>>> = (0..6).map(usual_cells).collect();
    explained_by(&usual)
}

/// Rows with missing values, unseen labels, extremes and texts.
fn cells(row: usize) -> Vec<Cell<'static>> {
    let random = |place: usize| uniform(row as u64 + 100, place);
    let number = |n: usize| match (random(n) * 10.0) as usize {
        0 => Cell::Null,
        1 => Cell::Float(1e300),
        2 => Cell::Float(f64::NAN),
        _ => Cell::Float(random(n + 20) * 250.0 - 20.0),
    };
    let labels = ["v0", "v1", "v2", "v3", "v5", "never seen", ""];
    let label = |k: usize| match (random(k + 40) * 8.0) as usize {
        7 => Cell::Null,
        other => Cell::Text(labels[other]),
    };
    let texts = ["new york bank", "bank", "full loans inc", "", "   ", "9.5 llc york new"];
    let text = |f: usize| Cell::Text(texts[(random(f + 60) * 6.0) as usize]);
    (0..NUMBERS).map(number).chain((0..CATEGORIES).map(label)).chain((0..TEXTS).map(text)).collect()
}

/// Shapley values by their definition, over all columns and all coalitions, from cells.
fn by_definition(
    scorer: &mut Scorer,
    usual: &[Vec<Cell<'static>>],
    row: &[Cell<'static>],
) -> (f64, Vec<f64>) {
    let columns = row.len();
    let worth: Vec<f64> = (0..1usize << columns)
        .map(|coalition| {
            let mixed = |usual: &Vec<Cell<'static>>| -> Vec<Cell<'static>> {
                let pick = |c: usize| if coalition >> c & 1 == 1 { row[c] } else { usual[c] };
                (0..columns).map(pick).collect()
            };
            let sum: f64 = usual.iter().map(|usual| scorer.log_odds(&mixed(usual))).sum();
            sum / usual.len() as f64
        })
        .collect();
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    let value = |column: usize| {
        let without = (0..worth.len()).filter(|coalition| coalition >> column & 1 == 0);
        without
            .map(|coalition| {
                let size = coalition.count_ones() as usize;
                factorial(size) * factorial(columns - size - 1) / factorial(columns)
                    * (worth[coalition | 1 << column] - worth[coalition])
            })
            .sum::<f64>()
    };
    (worth[0], (0..columns).map(value).collect())
}

fn explain(scorer: &mut Scorer, explainer: &mut Explainer, row: usize) -> Explanation {
    explainer.explain(scorer, &cells(row), &mut || ())
}

#[test]
fn contributions_are_the_shapley_values_of_the_score() {
    let (mut scorer, mut explainer) = explained();
    let usual: Vec<Vec<Cell<'static>>> = (0..6).map(usual_cells).collect();
    for row in 0..12 {
        let found = explain(&mut scorer, &mut explainer, row);
        let (base, values) = by_definition(&mut scorer, &usual, &cells(row));
        assert!((found.base - base).abs() < 1e-6, "{} {base}", found.base);
        for (found, value) in found.columns.iter().zip(&values) {
            assert!((found.contribution - value).abs() < 1e-6, "row {row}: {found:?}, not {value}");
            assert_eq!(found.error, 0.0);
        }
    }
}

#[test]
fn base_and_contributions_sum_to_the_log_odds() {
    let (mut scorer, mut explainer) = explained();
    for row in 0..1000 {
        let found = explain(&mut scorer, &mut explainer, row);
        let sum = found.base + found.columns.iter().map(|c| c.contribution).sum::<f64>();
        let log_odds = scorer.log_odds(&cells(row));
        assert!((sum - log_odds).abs() < 1e-9, "row {row}: {sum}, not {log_odds}");
        assert!((found.log_odds - log_odds).abs() < 1e-9);
    }
}

#[test]
fn an_explanation_has_the_same_bits_on_every_path() {
    let (first, mut explainer) = explained();
    let model = first.model_arc();
    let bits = |explanation: Explanation| -> Vec<u64> {
        explanation.columns.iter().map(|c| c.contribution.to_bits()).collect()
    };
    let mut alone = Scorer::new(Arc::clone(&model), Kernel::Portable, 0);
    let expected: Vec<Vec<u64>> =
        (0..20).map(|row| bits(explain(&mut alone, &mut explainer, row))).collect();
    for kernel in Kernel::ALL {
        let mut scorer = Scorer::new(Arc::clone(&model), kernel, 1 << 20);
        let mut explainer = Explainer::new(&mut scorer).unwrap();
        for row in (0..20).rev() {
            assert_eq!(bits(explain(&mut scorer, &mut explainer, row)), expected[row], "{row}");
        }
    }
}

#[test]
fn what_is_as_usual_adds_nothing() {
    let (mut scorer, mut explainer) = explained_by(&[usual_cells(2)]);
    let found = explainer.explain(&mut scorer, &usual_cells(2), &mut || ());
    assert!(found.columns.iter().all(|column| column.contribution.abs() < 1e-12), "{found:?}");
    assert!((found.base - found.log_odds).abs() < 1e-12);
    let found = explainer.explain(&mut scorer, &usual_cells(3), &mut || ());
    assert!(found.columns.iter().any(|column| column.contribution.abs() > 1e-3));
}

#[test]
fn words_sum_to_what_the_text_adds() {
    let (mut scorer, mut explainer) = explained();
    let mut row = cells(3);
    for (text, words) in [("new york bank", 3), ("full", 1), ("a b c d e f g", 7), ("  ", 0)] {
        row[NUMBERS + CATEGORIES] = Cell::Text(text);
        let mut pauses = 0;
        let found = explainer.words(&mut scorer, &row, NUMBERS + CATEGORIES, &mut || pauses += 1);
        assert_eq!(found.len(), words, "{text}");
        assert_eq!(pauses > 0, words > 1);
        assert!(found.iter().zip(text.split_whitespace()).all(|(found, word)| found.text == word));
        let sum: f64 = found.iter().map(|word| word.contribution).sum();
        let whole = scorer.log_odds(&row);
        let mut without = row.clone();
        without[NUMBERS + CATEGORIES] = Cell::Null;
        let added = whole - scorer.log_odds(&without);
        assert!((sum - added).abs() < 1e-9, "{text}: {sum}, not {added}");
    }
    assert!(explainer.words(&mut scorer, &row, 0, &mut || ()).is_empty(), "no text");
}

#[test]
fn a_version_of_text_alone_is_its_text() {
    let tiny = tiny();
    let with = |background: Background| {
        let (mut specification, mut parts) = network(&tiny, 1, tiny.shape.clone());
        let encoding = &mut specification.encoding;
        (encoding.numbers, encoding.categories) = (Vec::new(), Vec::new());
        encoding.statistics.clear();
        specification.branches.retain(|branch| branch.kind == BranchKind::Text);
        (specification.members, specification.grams) = (0, None);
        specification.background = background;
        (parts.network.members, parts.trees, parts.grams) = (Vec::new(), None, None);
        let version = quantize::version(&specification, &parts, &TensorMap::new()).unwrap();
        open(version, &tiny.base)
    };
    let usual: Vec<Vec<Cell<'_>>> = (0..6).map(usual_cells).collect();
    let background = Background::of(&mut scorer(&with(Background::default())), &usual);
    let mut scorer = scorer(&with(background));
    let mut explainer = Explainer::new(&mut scorer).unwrap();
    for row in 0..20 {
        let found = explain(&mut scorer, &mut explainer, row);
        let whole = scorer.log_odds(&cells(row)) - found.base;
        for (column, of) in found.columns.iter().enumerate() {
            let all = if column == NUMBERS + CATEGORIES { whole } else { 0.0 };
            assert!((of.contribution - all).abs() < 1e-9 && of.error == 0.0, "row {row}: {of:?}");
        }
    }
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let whole_row = model(|specification, _| {
        specification.encoding.texts[1].source = TextSource::Row;
    });
    let refusal = Explainer::new(&mut scorer(&whole_row)).err().unwrap();
    assert_eq!(refusal.code, "0A000");
    let bare = model(|specification, _| specification.background = Background::default());
    let refusal = Explainer::new(&mut scorer(&bare)).err().unwrap();
    assert_eq!(refusal.code, "55000");
    assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty());
}

#[test]
fn a_background_has_no_text_and_no_more_rows_than_are_read() {
    let bare = model(|_, _| ());
    let usual: Vec<Vec<Cell<'_>>> = (0..MOST_ROWS + 9).map(usual_cells).collect();
    let background = Background::of(&mut scorer(&bare), &usual);
    assert_eq!(background.rows.len(), MOST_ROWS);
    let json = serde_json::to_string(&background).unwrap();
    assert!(!json.contains("york") && !json.contains("v0"));
    let again: Background = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
}

/// The cells of a data set's row, in the encoding's order.
fn row_of<'a>(data: &'a Dataset, encoding: &Encoding, row: usize) -> Vec<Cell<'a>> {
    let cell = |name: &str| data.column(name).map_or(Cell::Null, |column| column.cell(row));
    encoding.columns.iter().map(|column| cell(&column.name)).collect()
}

/// On the loans, whose encoding has every kind of input of several columns.
#[test]
fn a_mixed_row_is_the_row_of_the_mixed_cells() {
    let data = loans();
    let encoding = common::fitted_with(&data, &header(&data, "defaulted"));
    let ratios = encoding.numbers.iter().filter(|n| matches!(n.source, NumberSource::Ratio(..)));
    assert!(ratios.count() > 0 && encoding.statistics.iter().any(|s| s.key.len() > 1));
    let mixer = Mixer::new(&encoding);
    let (mut mixed, mut expected) = (EncodedRow::default(), EncodedRow::default());
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for trial in 0..2000 {
        let draw = |place: usize| uniform(trial as u64, place);
        let [a, b] = [0, 1].map(|which| (draw(which) * data.rows as f64) as usize);
        let (own, other) = (row_of(&data, &encoding, a), row_of(&data, &encoding, b));
        let taken: Vec<bool> = (0..own.len()).map(|c| draw(c + 2) < 0.5).collect();
        let readings = (&mixer.read(&encoding, &own), &mixer.read(&encoding, &other));
        mixer.mix(&encoding, readings, &taken, &mut mixed);
        let pick = |c: usize| if taken[c] { own[c] } else { other[c] };
        let cells: Vec<Cell<'_>> = (0..own.len()).map(pick).collect();
        encoding.encode_row(&cells, &mut expected);
        assert_eq!(bits(&mixed.features), bits(&expected.features), "{cells:?}");
        assert_eq!(mixed.keys, expected.keys, "{cells:?}");
        assert_eq!(mixed.codes, expected.codes, "{cells:?}");
        let positions =
            |row: &EncodedRow| row.positions.iter().map(|z| z.to_bits()).collect::<Vec<_>>();
        assert_eq!(positions(&mixed), positions(&expected), "{cells:?}");
        for column in 0..own.len() {
            let same = own[column] == other[column];
            assert!(!same || mixer.agree(column, readings.0, readings.1), "{}", own.len());
        }
    }
}

/// Columns of [`wide`]; the first two are twins, the last is read by no tree.
const WIDE: usize = 12;

/// Trees over more columns than have all their coalitions computed, each of three neighbours.
fn wide() -> Arc<Model> {
    let column = |c: usize| EncodedColumn {
        name: format!("n{c}"),
        column_type: ColumnType::Float,
        role: Role::Number,
        format: TextFormat::Plain,
    };
    let number = |c: usize| NumberInput {
        name: format!("n{c}"),
        source: NumberSource::Value(c),
        edges: vec![0.0, 1.0],
    };
    let encoding = Encoding {
        columns: (0..WIDE).map(column).collect(),
        numbers: (0..WIDE).map(number).collect(),
        ..Encoding::default()
    };
    let mut trees = Ensemble::new(encoding.features()).unwrap();
    for first in 1..WIDE - 3 {
        for first in if first == 1 { vec![0, 1] } else { vec![first] } {
            let split = |feature: usize, children| Node::Number {
                feature: feature as u32,
                threshold: 0.5,
                missing: Side::Left,
                zero_missing: false,
                children,
            };
            let next = if first == 0 { 2 } else { first + 1 };
            let size = 0.3 + first.max(1) as f64 * 0.1;
            let leaves = [-size, size, 2.0 * size, -0.5 * size].map(Node::Leaf);
            let splits = [split(first, [1, 2]), split(next, [3, 4]), split(next + 1, [5, 6])];
            trees.push(&[&splits[..], &leaves].concat()).unwrap();
        }
    }
    let specification = Specification {
        format: FORMAT,
        numerics: 1,
        background: Background {
            rows: (0..5)
                .map(|row| Mixer::new(&encoding).read(&encoding, &wide_cells(row)))
                .collect(),
            texts: Vec::new(),
        },
        encoding,
        branches: vec![Branch { kind: BranchKind::Trees, weight: 0.8 }],
        members: 0,
        hidden: 8,
        encoder: None,
        grams: None,
        landmarks: Vec::new(),
        calibration: Platt { slope: 1.5, intercept: -0.25 },
        threshold: 0.5,
        positive_label: "t".into(),
        negative_label: "f".into(),
    };
    let parts = Parts { trees: Some(trees), ..Parts::default() };
    let version = quantize::version(&specification, &parts, &TensorMap::new()).unwrap();
    Arc::new(Model::open(Arc::new(version), None).unwrap())
}

/// The twins are equal in every row.
fn wide_cells(row: usize) -> Vec<Cell<'static>> {
    let cell = |c: usize| Cell::Float((uniform(row as u64, c.max(1)) * 2.0).floor());
    (0..WIDE).map(cell).collect()
}

#[test]
fn many_columns_are_sampled_and_the_error_is_told() {
    let model = wide();
    let mut scorer = scorer(&model);
    let mut explainer = Explainer::new(&mut scorer).unwrap();
    let (mut sampled, mut within, mut all) = (0, 0, 0);
    for row in 100..140 {
        let cells = wide_cells(row);
        let found = explainer.explain(&mut scorer, &cells, &mut || ());
        let sum = found.base + found.columns.iter().map(|c| c.contribution).sum::<f64>();
        assert!((sum - scorer.log_odds(&cells)).abs() < 1e-9);
        let usual: Vec<Vec<Cell<'static>>> = (0..5).map(wide_cells).collect();
        let (base, values) = by_definition(&mut scorer, &usual, &cells);
        assert!((base - found.base).abs() < 1e-9);
        for (found, value) in found.columns.iter().zip(values) {
            let off = (found.contribution - value).abs();
            all += 1;
            sampled += usize::from(found.error > 0.0);
            within += usize::from(off <= 3.0 * found.error + 1e-9);
            assert!(off < 0.35, "row {row}: {found:?}, not {value}");
        }
        assert_eq!(found.columns[WIDE - 1].contribution, 0.0, "no tree reads it");
        assert_eq!(found.columns[WIDE - 1].error, 0.0);
        let apart = found.columns[0].contribution - found.columns[1].contribution;
        let error = found.columns[0].error + found.columns[1].error;
        assert!(apart.abs() <= 4.0 * error + 1e-9, "twins: {apart}, error {error}");
    }
    println!("of {all} contributions {sampled} were sampled, {within} lie within three errors");
    assert!(sampled > all / 10 && within > all * 9 / 10);
}
