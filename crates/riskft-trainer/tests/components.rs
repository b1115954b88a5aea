//! `options.reduce`: number columns that a training condenses, by its fitted rows alone.

mod common;

use std::sync::Arc;

use common::{job_of, timed_job_of, tiny_base, train, Answer};
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::hash::mix;
use riskft_core::encode::{EncodedRow, NumberSource};
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::options::{Method, Role};
use riskft_core::protocol::{BatchBuilder, Event, JobWriter, ReductionHeader, PROTOCOL};
use riskft_core::reduce::{Options, Projector, Reducer, Wanted};
use serde_json::{json, Value};

const ROWS: usize = 1500;
/// Number columns; the last one says what the first one says.
const WIDTH: usize = 12;

fn unit(seed: usize, row: usize) -> f64 {
    (mix((seed << 32 | row) as u64) >> 11) as f64 / 2f64.powi(53)
}

fn names() -> Vec<String> {
    (0..WIDTH).map(|at| format!("v{at:02}")).collect()
}

/// Three things that cannot be seen, and the columns that tell of them; NaN = missing.
fn values(row: usize) -> Vec<f64> {
    let hidden = |k: usize| unit(100 + k, row) - 0.5;
    let value = |at: usize| {
        let weights = [1.0, (at % 3) as f64 - 1.0, (at % 5) as f64 / 4.0];
        let sum: f64 = (0..3).map(|k| weights[k] * hidden(k)).sum();
        (sum + 0.2 * unit(at, row)) * 10f64.powi(at as i32 % 4)
    };
    let mut values: Vec<f64> = (0..WIDTH).map(value).collect();
    values[WIDTH - 1] = 5.0 - 2.0 * values[0];
    if row.is_multiple_of(9) {
        values[4] = f64::NAN;
    }
    values
}

fn is_bad(row: usize) -> bool {
    let risk: f64 = (0..3).map(|k| unit(100 + k, row) - 0.5).sum();
    risk + 0.4 * (unit(200, row) - 0.5) > 0.35
}

/// A job of one row a day; `change` alters the values of rows.
fn job(timed: bool, options: &Value, change: impl Fn(usize, &mut Vec<f64>)) -> Vec<u8> {
    let mut all = json!({"head_epochs": 3, "hidden": 16, "trees": {"rounds": 30}, "folds": 3,
        "repeats": 1, "threads": 2, "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}});
    for (name, value) in options.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let names = names();
    let mut columns: Vec<(&str, ColumnType)> =
        names.iter().map(|name| (name.as_str(), ColumnType::Float)).collect();
    columns.extend([("grade", ColumnType::Text), ("day", ColumnType::Date)]);
    columns.push(("bad", ColumnType::Bool));
    let unlabelled = all["unlabelled"] == json!("self_train");
    let base = tiny_base("components");
    timed_job_of(timed.then_some("day"), (Method::None, &base), &all, &columns, |batch| {
        for row in 0..ROWS {
            let mut values = values(row);
            change(row, &mut values);
            let number = |v: &f64| if v.is_nan() { Cell::Null } else { Cell::Float(*v) };
            let mut cells: Vec<Cell<'_>> = values.iter().map(number).collect();
            cells.push(Cell::Text(["a", "b", "c"][row % 3]));
            cells.push(Cell::Date(15_000 + row as i32));
            let label = Cell::Bool(is_bad(row));
            cells.push(if unlabelled && row % 4 == 1 { Cell::Null } else { label });
            batch.push(&cells).expect("a row of the types");
        }
    })
}

fn plain(options: &Value) -> Answer {
    train(&job(false, options, |_, _| ()))
}

#[track_caller]
fn model(answer: &Answer) -> Arc<Model> {
    let version = answer.blobs()[0].clone();
    Arc::new(Model::open(Arc::new(version), None).map_err(|r| r.detail).expect("a version"))
}

/// The names of the columns that are read themselves, and of those that are condensed.
fn read(model: &Model) -> (Vec<String>, Vec<String>) {
    let encoding = &model.specification().encoding;
    let condensed = encoding.components.as_ref().map_or(&[][..], |c| &c.columns);
    let name = |column: usize| encoding.columns[column].name.clone();
    let own = (0..encoding.columns.len()).filter(|column| !condensed.contains(column)).map(name);
    let mut own: Vec<String> = own.collect();
    own.sort_unstable();
    (own, condensed.iter().map(|column| name(*column)).collect())
}

/// The reducer that riskft_reduce fits on some rows.
fn reduced(rows: std::ops::Range<usize>, wanted: Wanted) -> Arc<Reducer> {
    let column = |name: &String| SourceColumn {
        name: name.clone(),
        column_type: ColumnType::Float,
        hint: TypeHint::None,
        declared: String::new(),
    };
    let columns: Vec<SourceColumn> = names().iter().map(column).collect();
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
        let number = |v: &f64| if v.is_nan() { Cell::Null } else { Cell::Float(*v) };
        let cells: Vec<Cell<'_>> = values(row).iter().map(number).collect();
        batch.push(&cells).expect("a row of the types");
    }
    writer.batch(&batch).expect("a vector takes all");
    let answer = train(&writer.end().expect("a vector takes all"));
    assert!(matches!(answer.events.last(), Some(Event::Reduction(_))));
    Arc::new(Reducer::open(Arc::new(answer.rest)).map_err(|r| r.detail).expect("a reducer"))
}

/// In time order the newest fifth is the test part: the components are those that riskft_reduce finds
/// in the older rows, and whatever the newest hold changes nothing of how rows are read.
#[test]
fn components_are_those_of_the_fitted_rows() {
    let options = json!({"reduce": {"pca": 5}});
    let answer = train(&job(true, &options, |_, _| ()));
    assert!(answer.notices().contains("options.reduce: 5 of 11 components keep"));
    assert!(answer.notices().contains("of the variance of 12 columns"), "{}", answer.notices());
    let version = model(&answer);
    let encoding = &version.specification().encoding;
    assert_eq!(read(&version), (vec!["day".to_owned(), "grade".to_owned()], names()));
    let sources = encoding.numbers.iter().map(|number| number.source);
    let components = sources.filter(|source| matches!(source, NumberSource::Component(_)));
    assert_eq!(
        components.collect::<Vec<_>>(),
        (0..5).map(NumberSource::Component).collect::<Vec<_>>()
    );

    let fitted = ROWS - ROWS / 5;
    let mut projector = Projector::new(reduced(0..fitted, Wanted::Count(5)), Kernel::detect());
    let first = encoding.numbers.iter().position(|n| n.source == NumberSource::Component(0));
    let mut row = EncodedRow::default();
    for at in (0..ROWS).step_by(7) {
        let number = |v: f64| if v.is_nan() { Cell::Null } else { Cell::Float(v) };
        let own: Vec<Cell<'_>> = values(at).into_iter().map(number).collect();
        let place = |name: &str| names().iter().position(|other| other == name);
        let cell = |name: &String| place(name).map_or(Cell::Null, |place| own[place]);
        let cells: Vec<Cell<'_>> = encoding.columns.iter().map(|c| cell(&c.name)).collect();
        encoding.encode_row(&cells, &mut row);
        let found = &row.features[first.expect("a component")..][..5];
        for (found, wanted) in found.iter().zip(projector.project(&own)) {
            assert!((found - wanted).abs() < 1e-9, "row {at}: {found} and {wanted}");
        }
    }

    let other = train(&job(true, &options, |row, values| {
        if row >= fitted {
            values.iter_mut().enumerate().for_each(|(at, v)| *v = 1e6 * unit(at + 300, row));
        }
    }));
    assert_eq!(model(&other).specification().encoding, *encoding);
    let changed = train(&job(true, &options, |row, values| {
        if row == 0 {
            values[3] += 1.0;
        }
    }));
    assert_ne!(model(&changed).specification().encoding.components, encoding.components);
}

#[test]
fn other_options_go_with_it() {
    for (timed, options, says) in [
        (false, json!({"balance": "smote"}), ""),
        (
            false,
            json!({"balance": "weights", "reduce": {"pca": 0.8}}),
            "options.reduce: 2 of 11 components",
        ),
        (false, json!({"unlabelled": "self_train"}), ""),
        (true, json!({"calibrate": "recent"}), ""),
        (false, json!({"search": {"trials": 3}}), ""),
        (false, json!({"head_epochs": 0}), ""),
        (false, json!({"trees": {"rounds": 0}}), ""),
        (false, json!({"reduce": {"pca": 100}}), "100 components were asked for, the columns have"),
    ] {
        let mut whole = options.clone();
        if whole.get("reduce").is_none() {
            whole["reduce"] = json!({"pca": 4});
        }
        let answer = train(&job(timed, &whole, |_, _| ()));
        assert_eq!(answer.status, Some(0), "{options}: {:?}", answer.events.last());
        assert!(answer.notices().contains(says), "{options}: {}", answer.notices());
        let version = model(&answer);
        assert_eq!(read(&version).1, names(), "{options}");
        let auc = answer.metric("test", "auc").expect("an AUC");
        println!("{options}: AUC {auc:.3}");
        assert!(auc > 0.85, "{options}: {auc}");
        let mut scorer = Scorer::new(Arc::clone(&version), Kernel::detect(), 0);
        let missing = vec![Cell::Null; version.specification().encoding.columns.len()];
        assert!((0.0..=1.0).contains(&scorer.score(&missing)), "{options}");
        let ledger = &answer.result().ledger;
        assert!(ledger.phases.iter().any(|(phase, _)| phase == "reduce"), "{options}");
    }
}

/// Chosen columns stay as they are, the other amounts are condensed; what says the same as another
/// column, and what is no amount, is left out.
#[test]
fn a_selection_comes_first() {
    let options = json!({"select": {"shap": 3}, "reduce": {"pca": 2}});
    let answer = plain(&options);
    let version = model(&answer);
    let (own, condensed) = read(&version);
    assert_eq!((own.len(), condensed.len()), (3, 9 - usize::from(!own.contains(&"grade".into()))));
    println!("kept {own:?}, condensed {condensed:?}");
    let figures = &answer.result().figures;
    for feature in &figures.features {
        let name = &feature.column_name;
        match name.as_str() {
            "bad" => assert_eq!(feature.role, Role::Target),
            // v00 and v11 are twins.
            "v11" => assert!(feature.why.contains("it says the same as \"v00\""), "{feature:?}"),
            _ if own.contains(name) => assert!(!feature.why.contains("options."), "{feature:?}"),
            _ if condensed.contains(name) => {
                assert_eq!(feature.role, Role::Number);
                assert_eq!(feature.why, "options.reduce: condensed into 2 components");
            }
            _ => {
                assert!(["grade", "day"].contains(&name.as_str()), "{feature:?}");
                assert_eq!(feature.role, Role::Ignored);
            }
        }
    }
    // Importances are those of source columns.
    let mut important: Vec<String> =
        figures.importances.iter().map(|i| i.column_name.clone()).collect();
    important.sort_unstable();
    let mut all = [own, condensed].concat();
    all.sort_unstable();
    assert_eq!(important, all);
    assert!(figures.importances.iter().filter(|i| i.mean_abs_shap > 0.0).count() > 9);

    // A role of the caller's keeps a column as it is, with a selection and without.
    let options = json!({"reduce": {"pca": 2}, "roles": {"v03": "number", "day": "ignored"}});
    let (own, condensed) = read(&model(&plain(&options)));
    assert_eq!((own, condensed.len()), (vec!["grade".to_owned(), "v03".to_owned()], WIDTH - 1));
    let answer = plain(&json!({"select": {"shap": 100}, "reduce": {"pca": 2}}));
    assert!(answer.notices().contains("options.reduce has nothing to condense"));
    assert_eq!(read(&model(&answer)).1, [""; 0]);
}

#[test]
fn what_cannot_be_condensed_is_refused_or_told() {
    let base = tiny_base("uncondensed");
    let columns =
        [("grade", ColumnType::Text), ("flag", ColumnType::Bool), ("bad", ColumnType::Bool)];
    let options = json!({"reduce": {"pca": 2}});
    let answer = train(&job_of(Method::None, &base, &options, &columns, |batch| {
        for row in 0..300 {
            let cells = [
                Cell::Text(["a", "b"][row % 2]),
                Cell::Bool(row % 3 == 0),
                Cell::Bool(is_bad(row)),
            ];
            batch.push(&cells).expect("a row of the types");
        }
    }));
    let (code, text) = answer.refusal();
    assert_eq!(code, "22023");
    assert!(text.contains("no number column is left to reduce"), "{text}");
    assert!(text.contains("\"grade\"") && text.contains("\"flag\""), "{text}");

    // A column that does not vary outside the test part is left out.
    let answer = train(&job(true, &options, |row, values| {
        values[7] = if row < ROWS - 10 { 3.5 } else { row as f64 };
    }));
    let said = answer.notices();
    assert!(said.contains("options.reduce: left out, as they do not vary: \"v07\""), "{said}");
    assert_eq!(read(&model(&answer)).1.len(), WIDTH - 1);
    let features = &answer.result().figures.features;
    let feature = features.iter().find(|feature| feature.column_name == "v07").expect("v07");
    assert_eq!(feature.role, Role::Ignored);
    assert!(feature.why.contains("does not vary outside the test part"), "{feature:?}");
    let answer = train(&job(true, &options, |row, values| {
        for value in values {
            *value = if row < ROWS - 10 { 3.5 } else { row as f64 };
        }
    }));
    assert!(answer.notices().contains("no number column varies outside the test part"));
    let (own, condensed) = read(&model(&answer));
    assert!(condensed.is_empty() && own.contains(&"grade".to_owned()), "{own:?} {condensed:?}");
}

/// The same rows in another order give the same components, to the bit.
#[test]
fn the_order_of_rows_has_no_say() {
    let options = json!({"reduce": {"pca": 4}, "trees": {"rounds": 5}, "head_epochs": 1});
    let names = names();
    let mut columns: Vec<(&str, ColumnType)> =
        names.iter().map(|name| (name.as_str(), ColumnType::Float)).collect();
    columns.push(("bad", ColumnType::Bool));
    let base = tiny_base("ordered");
    let of = |order: &dyn Fn(usize) -> usize| {
        let bytes = job_of(Method::None, &base, &options, &columns, |batch| {
            for row in (0..ROWS).map(order) {
                let number = |v: &f64| if v.is_nan() { Cell::Null } else { Cell::Float(*v) };
                let mut cells: Vec<Cell<'_>> = values(row).iter().map(number).collect();
                cells.push(Cell::Bool(is_bad(row)));
                batch.push(&cells).expect("a row of the types");
            }
        });
        model(&train(&bytes)).specification().encoding.components.clone()
    };
    let first = of(&|row| row);
    assert!(first.is_some());
    assert_eq!(of(&|row| ROWS - 1 - row), first);
    assert_eq!(of(&|row| row * 7 % ROWS), first);
}
