//! Reducers: scikit-learn's figures, signs and bases that the data alone decides, rows of any kind.

mod common;
mod targets;

use std::sync::Arc;

use common::{column, uniform};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::gemm::Kernel;
use riskft_core::reduce::*;
use serde_json::{json, Value};
use targets::reducers::small;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/reduce.json")).expect("the golden numbers")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

fn texts(value: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().expect("a text").to_owned();
    value.as_array().expect("a list").iter().map(text).collect()
}

/// Columns of rows, ascending by name.
fn columns_of(names: &[String], rows: &[Vec<f64>]) -> Vec<(String, Vec<f64>)> {
    let of = |at: usize| rows.iter().map(|row| row[at]).collect();
    let mut columns: Vec<(String, Vec<f64>)> =
        names.iter().cloned().enumerate().map(|(at, name)| (name, of(at))).collect();
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    columns
}

/// Moments by their definition: missing cells are at the mean of the others.
fn moments(name: &str, values: &[f64]) -> Column {
    let known: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let square: f64 = known.iter().map(|v| (v - mean) * (v - mean)).sum();
    Column {
        name: name.to_owned(),
        present: known.len() as u64,
        mean,
        low: known.iter().copied().fold(f64::INFINITY, f64::min),
        high: known.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        deviation: (square / values.len() as f64).sqrt(),
    }
}

fn correlations(columns: &[(String, Vec<f64>)]) -> Vec<Vec<f64>> {
    let standard = |(name, values): &(String, Vec<f64>)| -> Vec<f64> {
        let told = moments(name, values);
        let of = |v: &f64| if v.is_nan() { 0.0 } else { (v - told.mean) / told.deviation };
        values.iter().map(of).collect()
    };
    let standard: Vec<Vec<f64>> = columns.iter().map(standard).collect();
    let product = |a: &Vec<f64>, b: &Vec<f64>| {
        a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / a.len() as f64
    };
    standard.iter().map(|a| standard.iter().map(|b| product(a, b)).collect()).collect()
}

/// Eigenvectors by Jacobi's rotations: slow, plain, and not the solver that riskft uses.
fn eigen(mut matrix: Vec<Vec<f64>>) -> Eigen {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..60 {
        for p in 0..size {
            for q in p + 1..size {
                let angle = 0.5 * (2.0 * matrix[p][q]).atan2(matrix[q][q] - matrix[p][p]);
                let (sin, cos) = angle.sin_cos();
                for row in &mut matrix {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                for k in 0..size {
                    let (a, b) = (matrix[p][k], matrix[q][k]);
                    (matrix[p][k], matrix[q][k]) = (cos * a - sin * b, sin * a + cos * b);
                    let (a, b) = (vectors[p][k], vectors[q][k]);
                    (vectors[p][k], vectors[q][k]) = (cos * a - sin * b, sin * a + cos * b);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|a, b| matrix[*b][*b].total_cmp(&matrix[*a][*a]));
    Eigen {
        values: order.iter().map(|at| matrix[*at][*at]).collect(),
        vectors: order.iter().map(|at| vectors[*at].clone()).collect(),
    }
}

fn reduced(columns: &[(String, Vec<f64>)], wanted: Wanted) -> (Fit, Vec<String>) {
    let told = columns.iter().map(|(name, values)| moments(name, values)).collect();
    let rows = columns[0].1.len() as u64;
    fit(told, rows, eigen(correlations(columns)), wanted).map_err(|r| r.detail).expect("a fit")
}

fn opened(fit: &Fit) -> Projector {
    let bytes = fit.write().map_err(|r| r.detail).expect("a file");
    let reducer = Reducer::open(Arc::new(bytes)).map_err(|r| r.detail).expect("a reducer");
    Projector::new(Arc::new(reducer), Kernel::detect())
}

fn cells(values: impl Iterator<Item = f64>) -> Vec<Cell<'static>> {
    values.map(|v| if v.is_nan() { Cell::Null } else { Cell::Float(v) }).collect()
}

#[track_caller]
fn close(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let size = wanted.abs().max(1.0);
        assert!((found - wanted).abs() <= tolerance * size, "{what} {at}: {found} and {wanted}");
    }
}

#[test]
fn scikit_learn_has_the_same_figures() {
    let golden = golden();
    let rows: Vec<Vec<f64>> =
        golden["data"].as_array().expect("rows").iter().map(numbers).collect();
    let columns = columns_of(&texts(&golden["names"]), &rows);
    let (fit, notices) = reduced(&columns, Wanted::Count(6));
    assert_eq!(fit.columns, texts(&golden["columns"]));
    assert_eq!(notices.len(), 1, "{notices:?}");
    let mut projector = opened(&fit);
    let reducer = projector.reducer();
    close(reducer.axes().means(), &numbers(&golden["means"]), 1e-14, "mean");
    close(reducer.axes().scales(), &numbers(&golden["scales"]), 1e-9, "scale");
    close(reducer.axes().variances(), &numbers(&golden["variances"]), 1e-10, "variance");
    let components = reducer.components();
    let ratios: Vec<f64> = components.iter().map(|c| c.ratio).collect();
    close(&ratios, &numbers(&golden["ratios"]), 1e-10, "ratio");
    assert!((components[5].cumulative - 1.0).abs() < 1e-12);
    for (number, wanted) in golden["components"].as_array().expect("rows").iter().enumerate() {
        let loadings: Vec<f64> = (0..6).map(|at| reducer.axes().loading(number, at)).collect();
        close(&loadings, &numbers(wanted), 1e-9, "loading");
    }
    for (row, wanted) in golden["projected"].as_array().expect("rows").iter().enumerate() {
        let cells = cells(columns.iter().map(|(_, values)| values[row]));
        close(projector.project(&cells), &numbers(wanted), 1e-8, "projection");
    }
}

#[test]
fn signs_and_equal_variances_follow_from_the_columns() {
    // Two of one eigenvalue, in any basis of their plane and with any sign.
    let (root, half) = (0.5f64.sqrt(), 0.5);
    let plane = [[root, -root, 0.0, 0.0], [half, half, -half, half]];
    let mut found: Option<Vec<Vec<f64>>> = None;
    for turn in 0..40 {
        let (sin, cos) = (f64::from(turn) * 0.37).sin_cos();
        let turned = |a: f64, b: f64| -> Vec<f64> {
            plane[0].iter().zip(plane[1]).map(|(x, y)| a * x + b * y).collect()
        };
        let flip = if turn % 2 == 0 { 1.0 } else { -1.0 };
        let last = [0.0, 0.0, flip * root, flip * root];
        let mut vectors = vec![turned(cos, sin), turned(-sin, cos), last.to_vec()];
        orient(&[1.5, 1.5 - 1e-12, 0.7, 0.3], &mut vectors);
        let first = found.get_or_insert_with(|| vectors.clone());
        for (a, b) in vectors.iter().zip(first.iter()) {
            close(a, b, 1e-12, "loading");
        }
        for (at, a) in vectors.iter().enumerate() {
            for (other, b) in vectors.iter().enumerate().take(2) {
                let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                let wanted = if at == other { 1.0 } else { 0.0 };
                assert!((product - wanted).abs() < 1e-12 || at == 2, "{at} and {other}");
            }
        }
    }
    let found = found.expect("vectors");
    // The first column's axis is as near as any; of two loadings of one size the first is positive.
    assert!(found[0][0] > 0.8 && (found[2][2] - root).abs() < 1e-15, "{found:?}");
    for tied in [[-root, root], [-root, root * (1.0 - 1e-13)], [root, -root * (1.0 + 1e-13)]] {
        let mut vectors = vec![tied.to_vec()];
        orient(&[2.0, 0.0], &mut vectors);
        assert!(vectors[0][0] > 0.0 && vectors[0][1] < 0.0, "{vectors:?}");
    }
}

#[test]
fn as_many_components_as_there_are() {
    let value = |at: usize, seed| uniform(seed, at);
    let rows: Vec<Vec<f64>> =
        (0..50).map(|at| vec![value(at, 1), 2.0 * value(at, 1) + 3.0, value(at, 2)]).collect();
    let columns = columns_of(&["x", "y", "z"].map(str::to_owned), &rows);
    for (wanted, count, told) in [
        (Wanted::Count(1), 1, ""),
        (Wanted::Count(2), 2, ""),
        (Wanted::Count(3), 2, "3 components were asked for, the columns have 2"),
        (Wanted::Count(1_000_000), 2, "1000000 components were asked for"),
        (Wanted::Share(0.2), 1, ""),
        (Wanted::Share(0.6), 1, ""),
        (Wanted::Share(0.95), 2, ""),
        (Wanted::Share(1.0 - 1e-16), 2, ""),
    ] {
        let (fit, notices) = reduced(&columns, wanted);
        assert_eq!((fit.components.len(), fit.variances.len()), (count, count), "{wanted:?}");
        assert!(notices.join("\n").contains(told), "{notices:?}");
        let last = opened(&fit).reducer().components().pop().expect("a component");
        assert!(last.cumulative <= 1.0 + 1e-9);
    }
    // What is cut off takes its equals along.
    let values = [2.0, 1.0, 1.0 - 1e-12, 1.0 - 2e-12, 0.5, 0.0];
    for (wanted, vectors) in
        [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (6, 5)].map(|(k, v)| (Wanted::Count(k), v))
    {
        assert_eq!(needed(&values, 100, wanted), vectors, "{wanted:?}");
    }
    assert_eq!(needed(&values, 4, Wanted::Count(6)), 3);
    // Three rows span a plane, whatever their columns.
    let rows: Vec<Vec<f64>> =
        (0..3).map(|at| (0..7).map(|seed| value(at, seed)).collect()).collect();
    let names: Vec<String> = (0..7).map(|at| format!("c{at}")).collect();
    let (fit, _) = reduced(&columns_of(&names, &rows), Wanted::Count(7));
    assert_eq!(fit.components.len(), 2);
}

#[test]
fn counts_and_shares() {
    assert_eq!(Wanted::of("x", 50.0).ok(), Some(Wanted::Count(50)));
    assert_eq!(Wanted::of("x", 1.0).ok(), Some(Wanted::Count(1)));
    assert_eq!(Wanted::of("x", 0.95).ok(), Some(Wanted::Share(0.95)));
    for number in [0.0, -0.0, -1.0, -0.5, 1.5, 50.1, 1e10, f64::NAN, f64::INFINITY] {
        let refusal = Wanted::of("x", number).expect_err("no number of components");
        assert_eq!(refusal.code, "22023", "{number}: {refusal:?}");
    }
    let parse = |value: Value| Options::parse(&value).map(|o| o.threads).map_err(|r| r.code);
    assert_eq!(parse(json!({"threads": 2})), Ok(2));
    assert_eq!(parse(json!({})), Ok(0));
    assert_eq!(parse(Value::Null), Ok(0));
    for wrong in [json!({"thread": 2}), json!({"threads": -1}), json!({"threads": 2000}), json!([])]
    {
        assert_eq!(parse(wrong.clone()), Err("22023".to_owned()), "{wrong}");
    }
    let refusal = Options::parse(&json!({"thread": 2})).expect_err("an unknown option");
    assert!(refusal.hint.contains("\"threads\""), "{refusal:?}");
}

#[test]
fn number_columns_are_planned() {
    let columns = [
        column("a", ColumnType::Float),
        column("flag", ColumnType::Bool),
        column("b", ColumnType::Int),
        column("day", ColumnType::Date),
        column("note", ColumnType::Text),
    ];
    let unread = [("doc".to_owned(), "jsonb".to_owned())];
    let of = |exclude: &[&str]| {
        let exclude: Vec<String> = exclude.iter().map(|name| (*name).to_owned()).collect();
        plan(&columns, &unread, &exclude)
    };
    let whole = of(&[]).expect("a plan");
    assert_eq!(whole.columns, [0, 2]);
    for name in ["flag", "day", "note", "doc"] {
        assert!(whole.notices[0].contains(&format!("\"{name}\"")), "{:?}", whole.notices);
    }
    let fewer = of(&["a", "flag", "day", "note", "doc"]).expect("a plan");
    assert_eq!((fewer.columns, fewer.notices), (vec![2], Vec::new()));
    let refusal = of(&["aa"]).expect_err("no such column");
    assert_eq!(refusal.code, "42703");
    assert!(refusal.hint.contains("\"a\""), "{refusal:?}");
    assert_eq!(of(&["a", "b"]).expect_err("nothing is left").code, "22023");
}

#[test]
fn what_does_not_vary_is_left_out() {
    let told = |name: &str, values: &[f64]| moments(name, values);
    let noise = [0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3];
    let columns = [
        told("constant", &[5.0; 4]),
        Column { present: 0, ..told("empty", &[1.0; 4]) },
        told("noise", &noise),
        told("small", &[1e9, 1e9 + 1.0, 1e9, 1e9 + 1.0]),
        told("tiny", &[1e-200, 2e-200, 3e-200, 1e-200]),
        told("varies", &[1.0, 2.0, f64::NAN, 4.0]),
    ];
    // Squares of 1e-200 vanish in the plain definition above, not in the trainer's.
    let mut columns = columns.to_vec();
    columns[4].deviation = 0.8e-200;
    let (kept, notices) = varying(&columns, 4).expect("some vary");
    assert_eq!(kept, [3, 4, 5]);
    assert!(notices.contains(&"left out, as no row has a value: \"empty\"".to_owned()));
    assert!(notices.contains(&"left out, as they do not vary: \"constant\", \"noise\"".to_owned()));
    for (rows, word) in [(0, "no row"), (1, "one row")] {
        let refusal = varying(&columns, rows).expect_err("too few rows");
        assert_eq!(refusal.code, "22023");
        assert!(refusal.detail.contains(word), "{refusal:?}");
    }
    assert_eq!(varying(&columns[..3], 4).expect_err("none varies").code, "22023");
    columns[5].deviation = f64::INFINITY;
    assert_eq!(varying(&columns, 4).expect_err("too large").code, "22003");
}

/// A missing cell, whatever it is missing by, is at the mean; absurd values give finite components.
#[test]
fn rows_of_any_kind_project() {
    let mut projector = opened(&small(40, 33));
    let means: Vec<f64> = projector.reducer().axes().means().to_vec();
    let at_means = projector.project(&cells(means.iter().copied())).to_vec();
    assert_eq!(at_means, vec![0.0; 33]);
    let odd = [
        Cell::Null,
        Cell::Float(f64::NAN),
        Cell::Float(f64::INFINITY),
        Cell::Float(f64::NEG_INFINITY),
        Cell::Text("7"),
        Cell::Bool(true),
    ];
    let row: Vec<Cell<'_>> = (0..40).map(|at| odd[at % odd.len()]).collect();
    assert_eq!(projector.project(&row), at_means);
    assert_eq!(projector.project(&[]), at_means);
    for extreme in [1e308, -1e308, 1e-308, f64::MIN_POSITIVE] {
        let row = vec![Cell::Float(extreme); 40];
        assert!(projector.project(&row).iter().all(|v| v.is_finite()), "{extreme}");
    }
    assert!(projector.project(&[Cell::Int(i64::MIN); 40]).iter().all(|v| v.is_finite()));
    assert!(projector.bytes() >= 8 * (40 + 33), "the row, and its components");
}

#[test]
fn kernels_give_the_same_bits() {
    for (columns, count) in [(1, 1), (5, 3), (40, 16), (70, 50), (200, 129)] {
        let bytes = small(columns, count).write().expect("a file");
        let reducer = Arc::new(Reducer::open(Arc::new(bytes)).expect("a reducer"));
        for row in 0..20 {
            let values = (0..columns).map(|at| 1e3 * uniform(row as u64, at) - 400.0);
            let row = cells(values);
            let bits = |kernel| -> Vec<u64> {
                let mut projector = Projector::new(Arc::clone(&reducer), kernel);
                projector.project(&row).iter().map(|v| v.to_bits()).collect()
            };
            let portable = bits(Kernel::Portable);
            assert_eq!(portable.len(), count);
            for kernel in Kernel::ALL {
                assert_eq!(bits(kernel), portable, "{kernel:?}, {columns} columns");
            }
        }
    }
}
