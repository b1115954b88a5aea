//! Reductions as the server asks for them: a job on stdin, a reducer's file on stdout.

mod common;

use std::sync::Arc;

use common::{train, Answer};
use riskft_core::artifact::digest;
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::hash::mix;
use riskft_core::protocol::{BatchBuilder, BlobKind, Event, JobWriter, ReductionHeader, PROTOCOL};
use riskft_core::reduce::{Options, Reducer, Wanted};
use serde_json::Value;

fn source(name: &str) -> SourceColumn {
    SourceColumn {
        name: name.into(),
        column_type: ColumnType::Float,
        hint: TypeHint::None,
        declared: "double precision".into(),
    }
}

/// The job of a table of floats, by rows; NaN is NULL.
fn job(names: &[&str], rows: &[Vec<f64>], wanted: Wanted, batch_rows: u32) -> Vec<u8> {
    let columns: Vec<SourceColumn> = names.iter().map(|name| source(name)).collect();
    let header = ReductionHeader {
        protocol: PROTOCOL,
        reducer: "r".into(),
        relation: "t".into(),
        wanted,
        options: Options { threads: 1 },
        columns: columns.clone(),
    };
    let mut writer = JobWriter::reduction(Vec::new(), &header).expect("a vector takes all");
    let mut batch = BatchBuilder::new(&columns);
    for row in rows {
        let cell = |v: &f64| if v.is_nan() { Cell::Null } else { Cell::Float(*v) };
        batch.push(&row.iter().map(cell).collect::<Vec<_>>()).expect("a row of the types");
        if batch.rows() == batch_rows {
            writer.batch(&batch).expect("a vector takes all");
            batch.clear();
        }
    }
    if batch.rows() > 0 {
        writer.batch(&batch).expect("a vector takes all");
    }
    writer.end().expect("a vector takes all")
}

#[track_caller]
fn reducer(answer: &Answer) -> Reducer {
    let Some(Event::Reduction(result)) = answer.events.last() else {
        panic!("no reducer, but {:?}", answer.events.last());
    };
    assert_eq!(answer.status, Some(0));
    let [header] = result.blobs.as_slice() else { panic!("{:?}", result.blobs) };
    assert_eq!(header.kind, BlobKind::Reducer);
    assert_eq!(header.length as usize, answer.rest.len());
    assert_eq!(header.digest, digest(&answer.rest));
    Reducer::open(Arc::new(answer.rest.clone())).map_err(|r| r.detail).expect("a reducer")
}

/// Rows of some columns that hang together, one in seven cells missing in the last.
fn rows(count: usize, columns: usize) -> Vec<Vec<f64>> {
    let unit = |seed: usize, at: usize| mix((seed << 32 | at) as u64) as f64 / u64::MAX as f64;
    let cell = |row: usize, column: usize| {
        let hidden = unit(1, row) * (column as f64 + 1.0) - unit(2, row) * (column % 3) as f64;
        hidden + unit(3 + column, row)
    };
    let row = |at: usize| (0..columns).map(|column| cell(at, column)).collect::<Vec<f64>>();
    let mut rows: Vec<Vec<f64>> = (0..count).map(row).collect();
    rows.iter_mut().step_by(7).for_each(|row| row[columns - 1] = f64::NAN);
    rows
}

#[test]
fn scikit_learn_has_the_same_components() {
    let golden: Value = serde_json::from_str(include_str!("../../riskft-core/golden/reduce.json"))
        .expect("the golden numbers");
    let list = |value: &Value| -> Vec<f64> {
        let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
        value.as_array().expect("a list").iter().map(number).collect()
    };
    let lists = |name: &str| golden[name].as_array().expect("rows").iter().map(list);
    let names: Vec<&str> =
        golden["names"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let table: Vec<Vec<f64>> = lists("data").collect();
    let answer = train(&job(&names, &table, Wanted::Count(6), 13));
    let reducer = reducer(&answer);
    let wanted = golden["columns"].as_array().expect("names").iter().filter_map(Value::as_str);
    assert!(reducer.columns().iter().map(String::as_str).eq(wanted));
    let close = |found: f64, wanted: f64, what: &str| {
        let size = wanted.abs().max(1.0);
        assert!((found - wanted).abs() <= 1e-9 * size, "{what}: {found} and {wanted}");
    };
    for (at, wanted) in list(&golden["means"]).into_iter().enumerate() {
        close(reducer.axes().means()[at], wanted, "mean");
        close(reducer.axes().scales()[at], list(&golden["scales"])[at], "scale");
    }
    for (at, component) in reducer.components().iter().enumerate() {
        close(component.variance, list(&golden["variances"])[at], "variance");
        close(component.ratio, list(&golden["ratios"])[at], "ratio");
    }
    for (number, loadings) in lists("components").enumerate() {
        for (at, wanted) in loadings.into_iter().enumerate() {
            close(reducer.axes().loading(number, at), wanted, "loading");
        }
    }
}

/// Neither the order of columns nor how rows are batched changes a bit; that of rows, rounding alone.
#[test]
fn orders_have_no_say() {
    let names = ["b", "a", "d", "c", "e"];
    let table = rows(1_300, 5);
    let of = |order: &[usize], table: &[Vec<f64>], batch| {
        let names: Vec<&str> = order.iter().map(|at| names[*at]).collect();
        let table: Vec<Vec<f64>> =
            table.iter().map(|row| order.iter().map(|at| row[*at]).collect()).collect();
        train(&job(&names, &table, Wanted::Share(0.999), batch))
    };
    let first = of(&[0, 1, 2, 3, 4], &table, 1_300);
    for (order, batch) in [([4, 3, 2, 1, 0], 1_300), ([2, 0, 4, 1, 3], 11), ([0, 1, 2, 3, 4], 512)]
    {
        assert_eq!(of(&order, &table, batch).rest, first.rest, "{order:?}, {batch}");
    }
    let reversed: Vec<Vec<f64>> = table.iter().rev().cloned().collect();
    let (a, b) = (reducer(&first), reducer(&of(&[0, 1, 2, 3, 4], &reversed, 100)));
    assert_eq!(a.count(), b.count());
    for at in 0..a.count() * 5 {
        let (x, y) = (a.axes().loading(at / 5, at % 5), b.axes().loading(at / 5, at % 5));
        assert!((x - y).abs() < 1e-9, "{x} and {y}");
    }
}

#[test]
fn what_it_does_is_told() {
    let table: Vec<Vec<f64>> =
        rows(600, 3).into_iter().map(|row| [row, vec![7.0, f64::NAN]].concat()).collect();
    let answer = train(&job(&["x", "y", "z", "same", "none"], &table, Wanted::Count(10), 100));
    let told = answer.notices();
    for part in
        ["no row has a value: \"none\"", "do not vary: \"same\"", "10 components were asked for"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(reducer(&answer).count(), 3);
    let phases = |name: &str| {
        answer.events.iter().any(|e| matches!(e, Event::Progress(p) if p.phase == name))
    };
    assert!(phases("load") && phases("solve"));
    let Some(Event::Reduction(result)) = answer.events.last() else { panic!("no reducer") };
    assert_eq!(result.ledger.rows, 600);
    assert!(result.ledger.wall_seconds > 0.0 && result.ledger.peak_memory_bytes > 1 << 20);
}

#[test]
fn what_cannot_be_reduced_is_refused_with_a_code() {
    let whole = job(&["x", "y"], &rows(20, 2), Wanted::Count(1), 100);
    let refused = |bytes: &[u8]| train(bytes).refusal().0;
    assert_eq!(refused(&whole[..whole.len() - 5]), "08P01");
    assert_eq!(refused(&whole[..40]), "08P01");
    assert_eq!(refused(&job(&["x", "x"], &rows(20, 2), Wanted::Count(1), 100)), "08P01");
    assert_eq!(refused(&job(&[], &[], Wanted::Count(1), 100)), "08P01");
    for count in [0, 1] {
        assert_eq!(refused(&job(&["x", "y"], &rows(count, 2), Wanted::Count(1), 100)), "22023");
    }
    let constant = vec![vec![1.0, 2.0]; 9];
    assert_eq!(refused(&job(&["x", "y"], &constant, Wanted::Count(1), 100)), "22023");
    let mut later = whole.clone();
    let version = b"\"protocol\":2";
    let at = later.windows(version.len()).position(|part| part == version).expect("a version");
    later[at + version.len() - 1] = b'9';
    let (code, told) = train(&later).refusal();
    assert_eq!(code, "08P01");
    assert!(told.contains("protocol 9"), "{told}");
}
