//! Selections as the server asks for them: a job on stdin, ranked columns on stdout; and options.select
//! of a training.

mod common;

use std::path::Path;

use common::{job_of, tiny_base, train, Answer};
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::hash::mix;
use riskft_core::options::{Method, Options, Role};
use riskft_core::protocol::{
    BatchBuilder, Event, JobHeader, JobWriter, SelectionHeader, SelectionResult, PROTOCOL,
};
use serde_json::{json, Value};

const COLUMNS: [(&str, ColumnType); 5] = [
    ("amount", ColumnType::Float),
    ("bank", ColumnType::Text),
    ("debt", ColumnType::Float),
    ("twin", ColumnType::Float),
    ("bad", ColumnType::Bool),
];

fn unit(seed: u64, row: usize) -> f64 {
    mix(seed << 32 | row as u64) as f64 / u64::MAX as f64
}

/// Cells of a row: `debt`, which `twin` says again, tells the label, `amount` a little of it.
fn with_row(row: usize, take: impl FnOnce([Cell<'_>; 5])) {
    let (amount, debt) = (unit(1, row), unit(2, row));
    let bank = format!("bank {}", (200.0 * unit(3, row)) as u32);
    let bad = debt + 0.3 * amount + 0.4 * unit(4, row) > 0.9;
    take([
        Cell::Float(amount),
        Cell::Text(&bank),
        Cell::Float(debt),
        Cell::Float(9.0 - debt),
        Cell::Bool(bad),
    ]);
}

/// A selection from the columns in some order.
fn job(order: &[usize], rows: usize, most: u32, options: &Value) -> Vec<u8> {
    let columns: Vec<SourceColumn> = order
        .iter()
        .map(|column| SourceColumn {
            name: COLUMNS[*column].0.into(),
            column_type: COLUMNS[*column].1,
            hint: TypeHint::None,
            declared: String::new(),
        })
        .collect();
    let job = JobHeader {
        protocol: PROTOCOL,
        model: String::new(),
        relation: "loans".into(),
        target: "bad".into(),
        positive: None,
        exclude: Vec::new(),
        time_column: None,
        method: Method::None,
        base: String::new(),
        base_dir: String::new(),
        options: Options::parse(options).map_err(|r| r.detail).expect("options"),
        columns: columns.clone(),
        unread: Vec::new(),
        reference_date: 20_000,
    };
    let header = SelectionHeader { protocol: PROTOCOL, job, most };
    let mut writer = JobWriter::selection(Vec::new(), &header).expect("a vector takes all");
    let mut batch = BatchBuilder::new(&columns);
    for row in 0..rows {
        with_row(row, |cells| {
            let cells: Vec<Cell<'_>> = order.iter().map(|column| cells[*column]).collect();
            batch.push(&cells).expect("a row of the types");
        });
    }
    writer.batch(&batch).expect("a vector takes all");
    writer.end().expect("a vector takes all")
}

#[track_caller]
fn result(answer: &Answer) -> &SelectionResult {
    assert_eq!((answer.status, answer.rest.len()), (Some(0), 0));
    match answer.events.last() {
        Some(Event::Selection(result)) => result,
        other => panic!("no columns, but {other:?}"),
    }
}

#[test]
fn columns_are_ranked_whatever_their_order() {
    let threads = |count: usize| json!({"threads": count});
    let first = train(&job(&[0, 1, 2, 3, 4], 3000, 20, &threads(1)));
    let columns = &result(&first).columns;
    let names: Vec<&str> = columns.iter().map(|c| c.column_name.as_str()).collect();
    assert_eq!(names, ["debt", "twin", "amount", "bank"]);
    assert_eq!(columns[1].twin_of.as_deref(), Some("debt"));
    assert_eq!(columns.iter().map(|c| c.rank).collect::<Vec<_>>(), [1, 1, 2, 3]);
    assert!((columns.iter().filter_map(|c| c.share).sum::<f64>() - 1.0).abs() < 1e-9);
    for (order, count) in [([4, 3, 2, 1, 0], 1), ([2, 4, 0, 3, 1], 3)] {
        let answer = train(&job(&order, 3000, 20, &threads(count)));
        assert_eq!(&result(&answer).columns, columns, "{order:?}");
    }
    let ledger = &result(&first).ledger;
    assert_eq!((ledger.rows, ledger.rows_train, ledger.rows_test), (3000, 2400, 600));
    let phases: Vec<&str> = ledger.phases.iter().map(|(phase, _)| phase.as_str()).collect();
    assert_eq!(phases, ["load", "prepare", "select"]);
    let few = train(&job(&[0, 1, 2, 3, 4], 3000, 1, &threads(1)));
    assert_eq!(result(&few).columns, columns[..2]);
}

/// A label that tells rows apart would carry the risk if a model explained rows that it has learnt from.
#[test]
fn rows_are_explained_out_of_fold() {
    let options = json!({"roles": {"debt": "ignored", "twin": "ignored", "amount": "ignored"}});
    let alone = train(&job(&[0, 1, 2, 3, 4], 3000, 20, &options));
    let of = |answer: &Answer, name: &str| {
        let found = result(answer).columns.iter().find(|c| c.column_name == name).cloned();
        found.and_then(|c| c.mean_abs_shap).unwrap_or_default()
    };
    let all = train(&job(&[0, 1, 2, 3, 4], 3000, 20, &json!({})));
    println!("bank alone {}, beside debt {}", of(&alone, "bank"), of(&all, "bank"));
    assert!(of(&alone, "bank") < 0.2 * of(&all, "debt"));
}

#[test]
fn what_cannot_be_selected_from_is_refused() {
    let refused =
        |rows: usize, options: Value| train(&job(&[0, 1, 2, 3, 4], rows, 20, &options)).refusal().0;
    assert_eq!(refused(0, json!({})), "22023");
    assert_eq!(refused(9, json!({})), "22023");
    assert_eq!(refused(3000, json!({"roles": {"nobody": "flag"}})), "42703");
    let whole = job(&[0, 1, 2, 3, 4], 50, 20, &json!({}));
    assert_eq!(train(&whole[..whole.len() - 5]).refusal().0, "08P01");
    assert_eq!(train(&whole[..60]).refusal().0, "08P01");
}

#[test]
fn a_training_is_left_the_columns_that_carry_the_risk() {
    let base = tiny_base("selected");
    let train_with = |method, base: &Path, options: Value| {
        let mut whole = json!({"head_epochs": 2, "hidden": 16, "epochs": 0, "trees": {"rounds": 20},
            "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}});
        for (name, value) in options.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        train(&job_of(method, base, &whole, &COLUMNS, |batch| {
            (0..1500).for_each(|row| {
                with_row(row, |cells| batch.push(&cells).expect("a row of the types"));
            });
        }))
    };
    let used = |answer: &Answer| -> Vec<String> {
        let figures = &answer.result().figures;
        let used = |role| !matches!(role, Role::Ignored | Role::Target | Role::Identifier);
        let features = figures.features.iter().filter(|f| used(f.role));
        let mut names: Vec<String> = features.map(|f| f.column_name.clone()).collect();
        let mut important: Vec<&str> =
            figures.importances.iter().map(|i| i.column_name.as_str()).collect();
        names.sort_unstable();
        important.sort_unstable();
        assert_eq!(important, names);
        names
    };
    let one = train_with(Method::None, &base, json!({"select": {"shap": 1}}));
    assert_eq!(used(&one), ["debt"]);
    assert!(one.notices().contains("options.select leaves out 3 of 4 columns"));
    let given = json!({"select": {"shap": 1}, "roles": {"twin": "number", "bank": "text"}});
    let answer = train_with(Method::Lora, &base, given);
    assert_eq!(used(&answer), ["bank", "debt", "twin"]);
    let all = train_with(Method::None, &base, json!({}));
    assert_eq!(used(&all), ["amount", "bank", "debt", "twin"]);
    assert!(!all.notices().contains("options.select"));
}
