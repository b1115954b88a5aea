//! Columns of a version that are condensed into components: as a reducer projects them, whoever reads
//! the row, and explained by source column.

mod common;
mod targets;

use std::sync::Arc;

use common::{dataset, header, uniform, y};
use riskft_core::artifact::Artifact;
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{prepare, Dataset};
use riskft_core::encode::mix::Mixer;
use riskft_core::encode::{fit, EncodedRow, Encoding, NumberSource};
use riskft_core::explain::Explainer;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::reduce::{Projector, Reducer};
use serde_json::{json, Value};
use targets::dwarf::dwarf;
use targets::reducers::small;
use targets::respecified;

const ROWS: usize = 400;
const NAMES: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

fn reducer() -> Arc<Reducer> {
    Arc::new(Reducer::open(Arc::new(small(6, 4).write().expect("a file"))).expect("a reducer"))
}

/// The six columns of the reducer in some order, in two of several types, and others.
fn table(order: &[usize; 6], as_text: bool) -> Dataset {
    let value = |column: usize, row: usize| (uniform(column as u64 + 7, row) * 90.0).round();
    let texts: Vec<String> = (0..ROWS).map(|row| format!("${},000.00", value(2, row))).collect();
    let cell = |column: usize, row: usize| match (column, row % 11) {
        (_, r) if r == column => Cell::Null,
        (1, _) => Cell::Int(value(1, row) as i64),
        (2, _) if as_text => Cell::Text(&texts[row]),
        (2, _) => Cell::Float(value(2, row) * 1000.0),
        (3, 10) => Cell::Float(f64::NAN),
        _ => Cell::Float(value(column, row) / 8.0),
    };
    let mut columns: Vec<(&str, ColumnType, Vec<Cell<'_>>)> = order
        .iter()
        .map(|column| {
            let kind = match column {
                1 => ColumnType::Int,
                2 if as_text => ColumnType::Text,
                _ => ColumnType::Float,
            };
            (NAMES[*column], kind, (0..ROWS).map(|row| cell(*column, row)).collect())
        })
        .collect();
    let grades = (0..ROWS).map(|row| Cell::Text(["a", "b", "c"][row % 7 % 3])).collect();
    columns.insert(3, ("grade", ColumnType::Text, grades));
    let kept = (0..ROWS).map(|row| Cell::Float(uniform(50, row))).collect();
    columns.insert(1, ("kept", ColumnType::Float, kept));
    columns.push(y(ROWS));
    dataset(&columns)
}

fn condensed(data: &Dataset) -> Encoding {
    let header = header(data, "y");
    let mut prepared = prepare(data, &header).expect("prepared");
    prepared.reducer = Some(reducer());
    fit(data, &prepared, &header)
}

fn cells<'a>(data: &'a Dataset, names: impl Iterator<Item = &'a str>, row: usize) -> Vec<Cell<'a>> {
    names.map(|name| data.column(name).map_or(Cell::Null, |column| column.cell(row))).collect()
}

fn encoded(data: &Dataset, encoding: &Encoding, row: usize) -> EncodedRow {
    let mut out = EncodedRow::default();
    let names = encoding.columns.iter().map(|column| column.name.as_str());
    encoding.encode_row(&cells(data, names, row), &mut out);
    out
}

#[test]
fn a_row_has_the_components_of_the_reducer() {
    let data = table(&[0, 1, 2, 3, 4, 5], false);
    let encoding = condensed(&data);
    let sources: Vec<NumberSource> = encoding.numbers.iter().map(|n| n.source).collect();
    let components = encoding.components.as_ref().expect("components");
    // One column is read itself, none of those that are condensed.
    assert_eq!(sources[1..], [0, 1, 2, 3].map(NumberSource::Component));
    let NumberSource::Value(own) = sources[0] else { panic!("{sources:?}") };
    assert_eq!(encoding.columns[own].name, "kept");
    assert_eq!((components.columns.len(), components.count), (6, 4));
    let read = |columns: &[usize]| columns.iter().any(|c| components.columns.contains(c));
    for statistic in &encoding.statistics {
        let mut key = statistic.key.clone();
        assert!(!read(
            &key.iter_mut().flat_map(|part| part.columns()).map(|c| *c).collect::<Vec<_>>()
        ));
    }
    let mut projector = Projector::new(reducer(), Kernel::Portable);
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let shuffled = table(&[3, 5, 0, 2, 4, 1], false);
    let written = table(&[5, 4, 3, 2, 1, 0], true);
    let others = [(&shuffled, condensed(&shuffled)), (&written, condensed(&written))];
    for row in 0..ROWS {
        let found = encoded(&data, &encoding, row);
        let wanted = projector.project(&cells(&data, NAMES.into_iter(), row)).to_vec();
        assert_eq!(bits(&found.features[1..5]), bits(&wanted), "row {row}");
        // In another order, and with an amount that is written as text.
        for (table, other) in &others {
            let other = encoded(table, other, row);
            assert_eq!(bits(&other.features[..5]), bits(&found.features[..5]), "row {row}");
        }
    }
}

/// Each component's edges hold its values: few lie beyond the ends.
#[test]
fn components_have_edges_like_other_numbers() {
    let data = table(&[0, 1, 2, 3, 4, 5], false);
    let encoding = condensed(&data);
    for number in 1..5 {
        let edges = &encoding.numbers[number].edges;
        assert!(edges.len() > 3, "{edges:?}");
        let within = (0..ROWS).filter(|row| {
            let value = encoded(&data, &encoding, *row).features[number];
            (edges[0]..=edges[edges.len() - 1]).contains(&value)
        });
        assert!(within.count() > ROWS * 9 / 10);
    }
}

#[test]
fn a_mixed_row_is_projected_again() {
    let data = table(&[2, 1, 0, 5, 4, 3], false);
    let encoding = condensed(&data);
    let mixer = Mixer::new(&encoding);
    assert_eq!(mixer.tabular().len(), 8);
    let (mut mixed, mut expected) = (EncodedRow::default(), EncodedRow::default());
    let names = || encoding.columns.iter().map(|column| column.name.as_str());
    for trial in 0..1000 {
        let draw = |place: usize| uniform(trial as u64 + 900, place);
        let [a, b] = [0, 1].map(|which| (draw(which) * ROWS as f64) as usize);
        let (own, other) = (cells(&data, names(), a), cells(&data, names(), b));
        let taken: Vec<bool> = (0..own.len()).map(|c| draw(c + 2) < 0.5).collect();
        let readings = (&mixer.read(&encoding, &own), &mixer.read(&encoding, &other));
        mixer.mix(&encoding, readings, &taken, &mut mixed);
        let pick = |c: usize| if taken[c] { own[c] } else { other[c] };
        encoding.encode_row(&(0..own.len()).map(pick).collect::<Vec<_>>(), &mut expected);
        let bits = |row: &EncodedRow| row.features.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&mixed), bits(&expected), "trial {trial}");
        assert_eq!(mixed.keys, expected.keys);
    }
}

fn opened(version: Vec<u8>) -> Result<Arc<Model>, String> {
    Model::open(Arc::new(version), None).map(Arc::new).map_err(|refusal| refusal.code)
}

/// What is written is read again, and explained by its source columns.
#[test]
fn a_version_keeps_its_components() {
    let model = opened(dwarf().tabular.clone()).expect("a version");
    let encoding = &model.specification().encoding;
    let names: Vec<&str> = encoding.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["n", "k", "t", "c1", "c0"]);
    assert_eq!(encoding.components.as_ref().map(|c| c.columns.clone()), Some(vec![4, 3]));
    let reducer = Reducer::open(Arc::new(small(2, 1).write().expect("a file"))).expect("a reducer");
    let mut projector = Projector::new(Arc::new(reducer), Kernel::Portable);
    let usual = [
        vec![Cell::Float(1.5), Cell::Text("NY"), Cell::Text("banks"), Cell::Null, Cell::Null],
        vec![Cell::Null; 5],
    ];
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    let mut explainer = Explainer::new(&mut scorer).expect("an explainer");
    for row in 0..20 {
        let draw = |place: usize| (uniform(row, place) * 12.0).round() - 6.0;
        let missing = row % 5 == 4;
        let cells = [
            Cell::Float(draw(0)),
            Cell::Text(["CA", "NY", "other"][row as usize % 3]),
            Cell::Null,
            if missing { Cell::Null } else { Cell::Float(draw(1)) },
            Cell::Int(draw(2) as i64),
        ];
        let mut encoded = EncodedRow::default();
        encoding.encode_row(&cells, &mut encoded);
        assert_eq!(encoded.features[1], projector.project(&[cells[4], cells[3]])[0]);

        // Shapley values by their definition, over all coalitions of the five columns.
        let found = explainer.explain(&mut scorer, &cells, &mut || ());
        let mut worth = |coalition: usize| -> f64 {
            let of = |usual: &Vec<Cell<'static>>| -> f64 {
                let pick = |c: usize| if coalition >> c & 1 == 1 { cells[c] } else { usual[c] };
                scorer.log_odds(&(0..5).map(pick).collect::<Vec<_>>())
            };
            let mut of = of;
            (of(&usual[0]) + of(&usual[1])) / 2.0
        };
        let worth: Vec<f64> = (0..32).map(&mut worth).collect();
        let weight = [0.2, 0.05, 1.0 / 30.0, 0.05, 0.2];
        for column in 0..5 {
            let without = (0..32usize).filter(|coalition| coalition >> column & 1 == 0);
            let value: f64 = without
                .map(|c| weight[c.count_ones() as usize] * (worth[c | 1 << column] - worth[c]))
                .sum();
            let told = found.columns[column].contribution;
            assert!((told - value).abs() < 1e-9, "row {row}, {column}: {told}, not {value}");
        }
        let moved = found.columns[3].contribution.abs() + found.columns[4].contribution.abs();
        assert!(moved > 0.0, "row {row}");
    }
}

#[test]
fn components_that_lie_are_refused() {
    let version = &dwarf().tabular;
    let change = |path: &str, value: Value| {
        let path = path.to_owned();
        opened(respecified(version, move |specification| {
            *specification.pointer_mut(&path).unwrap_or_else(|| panic!("{path}")) = value.clone();
        }))
        .err()
    };
    assert_eq!(change("/encoding/components/count", json!(1)), None);
    for (path, value) in [
        ("/encoding/components/count", json!(0)),
        ("/encoding/components/count", json!(2)),
        ("/encoding/components/count", json!(3)),
        ("/encoding/components/count", json!(u64::MAX)),
        ("/encoding/components/count", json!(-1)),
        ("/encoding/components/columns", json!([])),
        ("/encoding/components/columns", json!([4])),
        ("/encoding/components/columns", json!([4, 3, 0])),
        ("/encoding/components/columns", json!([4, 5])),
        ("/encoding/components/columns", json!(vec![3; 2000])),
        ("/encoding/components/columns/0", json!(u64::MAX)),
        ("/encoding/components", Value::Null),
        ("/encoding/components", json!([1])),
        ("/encoding/numbers/1/source", json!({"component": 1})),
        ("/encoding/numbers/1/source", json!({"component": u64::MAX})),
        ("/background/rows/0/values/4", json!("1")),
    ] {
        assert_eq!(change(path, value.clone()).as_deref(), Some("XX001"), "{path} = {value}");
    }
    // Tensors are those of a reducer, and as hard to lie about.
    let file = Artifact::open(Arc::new(version.clone())).expect("a version");
    let place = |name: &str| {
        let tensor = file.slice::<f64>(name).expect("a tensor");
        tensor.as_ptr() as usize - (**file.storage()).as_ref().as_ptr() as usize
    };
    let lie = |name: &str, value: f64| {
        let mut lying = version.clone();
        lying[place(name)..][..8].copy_from_slice(&value.to_le_bytes());
        opened(lying).err()
    };
    for (name, sound, lies) in [
        ("components.means", 7.0, &[f64::NAN, f64::INFINITY][..]),
        ("components.scales", 7.0, &[0.0, -1.0, f64::NAN, 1e300]),
        ("components.variances", 7.0, &[-1.0, f64::NAN]),
        ("components.components", 0.7, &[1.1, f64::NAN]),
    ] {
        assert_eq!(lie(name, sound), None, "{name}");
        for value in lies {
            assert_eq!(lie(name, *value).as_deref(), Some("XX001"), "{name} = {value}");
        }
    }
}
