//! The dashboard of docs/superset beside a real database, without Superset: each dataset has the columns
//! that its file tells, and what each chart asks for has rows. `scripts/superset.sh check` shows it in
//! Superset itself.

use std::fs;
use std::path::{Path, PathBuf};

use riskft_tests::fixture::{small_loans, small_training};
use riskft_tests::{Database, Session};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/superset")
}

/// The files of a part of the bundle.
fn files(part: &str) -> Vec<Value> {
    let entries = fs::read_dir(folder().join(part)).expect("read the bundle");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Models, drift, outcomes and a score table, as docs/superset.md tells to make them.
fn database() -> (Database<'static>, Session) {
    let database = Database::new();
    small_loans(&database, 600);
    let mut analyst = database.analyst();
    analyst.run(
        "ALTER TABLE loans ADD approved_on date;
         UPDATE loans SET approved_on = date '2020-01-01' + loan_id / 4;
         ALTER TABLE loans ALTER loan_id TYPE bigint",
    );
    analyst.run(&small_training("loan_risk", "loans", ""));
    analyst.run(
        "SELECT riskft_monitor('loan_risk', 'SELECT loan_id, amount * 2 AS amount, grade, approved_on, defaulted FROM loans',
                               'defaulted', 'approved_on');
         CALL riskft_score_table('loan_risk', 'loans', 'loan_scores', key => 'loan_id')",
    );
    (database, analyst)
}

/// A dataset as a subquery.
fn source(dataset: &Value) -> String {
    match dataset["sql"].as_str() {
        Some(sql) => format!("({sql})"),
        None => format!("{}.{}", text(dataset, "schema"), text(dataset, "table_name")),
    }
}

/// The name that Superset has of a type.
fn named(sql: &str) -> String {
    match sql {
        "name" => "VARCHAR(63)".to_owned(),
        other => other.to_uppercase(),
    }
}

#[test]
fn datasets_have_the_columns_that_they_tell() {
    let (_database, mut analyst) = database();
    let connection = read(&folder().join("databases/riskft.yaml"));
    for dataset in files("datasets/riskft") {
        let name = text(&dataset, "table_name");
        assert_eq!(dataset["database_uuid"], connection["uuid"], "{name}");
        let sql = format!("SELECT * FROM {} d", source(&dataset));
        let statement = analyst.prepare(&sql).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let mut there = Vec::new();
        for column in statement.columns() {
            let declared: String =
                analyst.value(&format!("SELECT format_type({}, NULL)", column.type_().oid()));
            there.push((column.name().to_owned(), named(&declared)));
        }
        let told: Vec<(String, String)> = dataset["columns"]
            .as_array()
            .expect("columns")
            .iter()
            .map(|c| (text(c, "column_name").to_owned(), text(c, "type").to_owned()))
            .collect();
        assert_eq!(told, there, "{name}");
        if let Some(time) = dataset["main_dttm_col"].as_str() {
            assert!(told.iter().any(|(column, _)| column == time), "{name}: {time}");
        }
    }
}

/// A column or expression of a chart, as SQL.
fn expression(of: &Value) -> String {
    match of.as_str() {
        Some(column) => format!("\"{column}\""),
        None => text(of, "sqlExpression").to_owned(),
    }
}

/// What a chart groups by, or lists, and what it computes.
fn asked(params: &Value) -> (Vec<String>, Vec<String>) {
    let list = |key: &str| -> Vec<String> {
        match &params[key] {
            Value::Array(of) => of.iter().map(expression).collect(),
            Value::Null => Vec::new(),
            one => vec![expression(one)],
        }
    };
    let columns = ["all_columns", "column", "x_axis", "groupby"].iter().flat_map(|key| list(key));
    let metrics = ["metric", "metrics"].iter().flat_map(|key| list(key));
    (columns.collect(), metrics.collect())
}

#[test]
fn charts_have_rows_and_a_place() {
    let (_database, mut analyst) = database();
    let datasets = files("datasets/riskft");
    let charts = files("charts");
    assert!(charts.len() >= 10, "{}", charts.len());
    for chart in &charts {
        let name = text(chart, "slice_name");
        let params = &chart["params"];
        assert_eq!(params["viz_type"], chart["viz_type"], "{name}");
        let dataset = datasets.iter().find(|d| d["uuid"] == chart["dataset_uuid"]);
        let dataset = dataset.unwrap_or_else(|| panic!("{name}: no such dataset"));
        let (columns, metrics) = asked(params);
        let filters: Vec<String> = params["adhoc_filters"]
            .as_array()
            .expect("filters")
            .iter()
            .map(|filter| format!("({})", expression(filter)))
            .collect();
        let mut sql = format!(
            "SELECT {} FROM {} d WHERE {}",
            [columns.clone(), metrics.clone()].concat().join(", "),
            source(dataset),
            if filters.is_empty() { "true".to_owned() } else { filters.join(" AND ") }
        );
        if !metrics.is_empty() && !columns.is_empty() {
            let places: Vec<String> = (1..=columns.len()).map(|place| place.to_string()).collect();
            sql += &format!(" GROUP BY {}", places.join(", "));
        }
        for order in params["order_by_cols"].as_array().into_iter().flatten() {
            let order: (String, bool) = serde_json::from_str(order.as_str().unwrap()).unwrap();
            sql += &format!(" ORDER BY \"{}\"", order.0);
        }
        let rows = analyst.query(&sql, &[]).unwrap_or_else(|e| panic!("{name}: {sql}: {e:?}"));
        assert!(!rows.is_empty(), "{name}: {sql}");
    }
    // Each chart has one place on the dashboard.
    let dashboard = read(&folder().join("dashboards/credit_risk_models.yaml"));
    let mut placed: Vec<&str> = dashboard["position"]
        .as_object()
        .expect("positions")
        .values()
        .filter_map(|place| place["meta"]["uuid"].as_str())
        .collect();
    let mut there: Vec<&str> = charts.iter().map(|chart| text(chart, "uuid")).collect();
    placed.sort_unstable();
    there.sort_unstable();
    assert_eq!(placed, there);
}
