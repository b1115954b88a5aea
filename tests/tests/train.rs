//! Training without text: from a relation to a stored, scoring version.

use riskft_tests::{fixture, refuses, Database, Session};

/// Short trainings: the tests ask whether things are right, not how good they get. The parts of the
/// gate that count rows are wide, for one row in a hundred is more than they allow.
const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 6, "members": 2, "hidden": 32,
    "gate": {"auc_loss": 1, "flips": 1}}'"#;

fn train(session: &mut Session, model: &str, relation: &str, more: &str) -> i32 {
    let sql = format!("CALL riskft_train($1, $2, 'defaulted', {more}{QUICK})");
    let row = session
        .query_one(&sql.replace("$1", &quoted(model)).replace("$2", &quoted(relation)), &[])
        .unwrap_or_else(|e| panic!("{sql} on {relation}: {e:?}"));
    row.get("version")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn loans(rows: usize) -> (Database<'static>, Session) {
    let database = Database::new();
    fixture::loans(&database, rows);
    let analyst = database.analyst();
    (database, analyst)
}

#[test]
fn a_training_stores_a_whole_version() {
    let (_database, mut analyst) = loans(2_000);
    let row = analyst
        .query_one(
            &format!("CALL riskft_train('m', 'loans', 'defaulted', exclude => '{{loan_id,disbursed}}', {QUICK})"),
            &[],
        )
        .unwrap();
    assert_eq!(row.get::<_, i32>("version"), 1);
    let auc: f64 = row.get("auc");
    let ks: f64 = row.get("ks");
    assert!((0.6..0.95).contains(&auc), "{auc}");
    assert!((0.05..0.95).contains(&ks), "{ks}");
    let run: i64 = row.get("run");

    let parts: Vec<String> = analyst.values("SELECT DISTINCT part FROM riskft.metrics ORDER BY 1");
    assert_eq!(parts, ["test", "train", "validation"]);
    let rows: f64 = analyst.value(
        "SELECT sum(value) FROM riskft.metrics
         WHERE metric = 'rows' AND part IN ('validation', 'test')",
    );
    assert_eq!(rows, 2_000.0, "every row has figures that it took no part in");
    let blended: Vec<String> = analyst.values(
        "SELECT branch FROM riskft.branches
         WHERE weight > 0 AND auc > 0.5 AND test_auc > 0.5 ORDER BY ordinal",
    );
    assert!(!blended.is_empty());
    let stored: f64 = analyst.value("SELECT test_auc FROM riskft.versions WHERE model = 'm'");
    assert_eq!(stored, auc);
    assert!(analyst.value::<bool>("SELECT passed FROM riskft.gates WHERE model = 'm'"));
    let state: String = analyst.value_of("SELECT state FROM riskft.runs WHERE run = $1", &[&run]);
    assert_eq!(state, "done");
    let seconds: f64 = analyst.value("SELECT wall_seconds FROM riskft.costs");
    assert!(seconds > 0.0);

    let used: Vec<String> = analyst.values(
        "SELECT column_name FROM riskft.features WHERE role NOT IN ('ignored', 'identifier', 'target')",
    );
    for absent in ["loan_id", "disbursed", "defaulted"] {
        assert!(!used.iter().any(|c| c == absent), "{absent} is used");
    }
    for present in ["approved_gross", "employees", "state"] {
        assert!(used.iter().any(|c| c == present), "{present} is not used");
    }
    let all: i64 = analyst.value("SELECT count(*) FROM riskft.features WHERE model = 'm'");
    assert_eq!(all, 22);

    let odd: i64 = analyst.value(
        "SELECT count(*) FROM loans l WHERE NOT coalesce(risk_score('m', l) BETWEEN 0 AND 1, false)",
    );
    assert_eq!(odd, 0);
    let told: bool = analyst.value(
        "SELECT avg(risk_score('m', l)) FILTER (WHERE defaulted)
              > avg(risk_score('m', l)) FILTER (WHERE NOT defaulted) FROM loans l",
    );
    assert!(told, "the true class does not score higher");
}

/// F34: the figures of the version are those of a new session's scores on its test rows. In time
/// order the test rows can be named in SQL: they are the newest.
#[test]
fn the_reported_auc_is_the_auc_of_the_scores() {
    let (database, mut analyst) = loans(2_000);
    train(&mut analyst, "m", "loans", "time_column => 'approved_on', exclude => '{loan_id}', ");
    let test_rows: i64 = analyst.value("SELECT rows_test FROM riskft.runs WHERE model = 'm'");
    assert!((300..=500).contains(&test_rows), "{test_rows}");
    for metric in ["auc", "ks", "brier", "log_loss", "f1"] {
        let reported: f64 = analyst.value(&format!(
            "SELECT value FROM riskft.metrics WHERE part = 'test' AND metric = '{metric}'"
        ));
        let measured: f64 = database.analyst().value(&format!(
            "SELECT value FROM riskft_evaluate('m',
                 'SELECT * FROM loans ORDER BY approved_on DESC LIMIT {test_rows}', 'defaulted')
             WHERE metric = '{metric}'"
        ));
        assert!((reported - measured).abs() < 1e-9, "{metric}: {reported} and {measured}");
    }
    // Each period tells of the test rows whose day lies in it.
    let periods = analyst
        .query_one(
            &format!(
                "WITH newest AS (SELECT l.*, risk_score('m', l) AS risk FROM loans l
                                 ORDER BY approved_on DESC LIMIT {test_rows})
                 SELECT count(*), bool_and(p.rows = n.rows AND abs(p.mean_score - n.score) < 1e-9
                     AND abs(p.mean_outcome - n.outcome) < 1e-9) AS same
                 FROM riskft.metrics_by_period p, LATERAL (
                     SELECT count(*) AS rows, avg(risk) AS score, avg(defaulted::int) AS outcome
                     FROM newest WHERE p.begins = date_trunc(
                         CASE WHEN p.period LIKE '%Q%' THEN 'quarter'
                              WHEN p.period LIKE '%-%' THEN 'month' ELSE 'year' END, approved_on)) n
                 WHERE p.part = 'test'"
            ),
            &[],
        )
        .unwrap();
    assert!(periods.get::<_, i64>("count") > 0);
    assert!(periods.get::<_, bool>("same"), "a period tells of other rows");
}

/// Whatever a model is worth, its mean score on the calibration rows is their base rate. In time
/// order, one weak column may rank those rows backwards.
#[test]
fn even_a_useless_model_is_calibrated() {
    let (_database, mut analyst) = loans(2_000);
    for column in ["approved_on", "employees", "state"] {
        let relation = format!("SELECT approved_on AS day, {column}, defaulted FROM loans");
        analyst.run(&format!(
            "CALL riskft_train('{column}', '{relation}', 'defaulted', time_column => 'day',
                 method => 'none', options => '{{\"head_epochs\": 3, \"members\": 1, \"hidden\": 16,
                 \"calibrate\": \"recent\", \"roles\": {{\"day\": \"ignored\"}}, \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')"
        ));
        let apart: f64 = analyst.value(&format!(
            "SELECT max(value) FILTER (WHERE metric = 'mean_score')
                  - max(value) FILTER (WHERE metric = 'base_rate')
             FROM riskft.metrics WHERE model = '{column}' AND part = 'calibration'"
        ));
        assert!(apart.abs() < 0.02, "{column}: {apart}");
    }
}

/// A table of a few hundred rows, as anyone tries first, passes the gate as it is by default.
#[test]
fn small_tables_pass_the_default_gate() {
    let (_database, mut analyst) = loans(600);
    for seed in 1..=4 {
        analyst.run(&format!(
            "CALL riskft_train('small', 'loans', 'defaulted', exclude => '{{loan_id}}', method => 'none',
                 options => '{{\"seed\": {seed}, \"deploy\": \"always\"}}')"
        ));
    }
    let passed: i64 = analyst.value("SELECT count(*) FROM riskft.gates WHERE passed");
    assert_eq!(passed, 4);
}

/// F05: a table sorted by its target, and the same with its columns in another order.
#[test]
fn neither_row_order_nor_column_order_matters() {
    let (_database, mut analyst) = loans(8_000);
    analyst.run(
        "CREATE TABLE sorted AS
             SELECT employees, defaulted, state, approved_gross, naics, new_business
             FROM loans ORDER BY defaulted;
         CREATE TABLE permuted AS
             SELECT new_business, naics, approved_gross, state, employees, defaulted
             FROM loans ORDER BY defaulted;
         CREATE TABLE shuffled AS
             SELECT employees, defaulted, state, approved_gross, naics, new_business
             FROM loans ORDER BY md5(loan_id::text)",
    );
    let mut figures = Vec::new();
    for table in ["sorted", "permuted", "shuffled"] {
        train(&mut analyst, table, table, "");
        let classes: i64 = analyst.value(&format!(
            "SELECT count(*) FROM riskft.metrics WHERE model = '{table}' AND metric = 'base_rate'
             AND value > 0 AND value < 1"
        ));
        assert_eq!(classes, 3, "{table}: a part lacks a class");
        let features: Vec<String> = analyst.values(&format!(
            "SELECT column_name FROM riskft.features WHERE model = '{table}'
             AND role NOT IN ('ignored', 'identifier', 'target') ORDER BY 1"
        ));
        assert_eq!(features, ["approved_gross", "employees", "naics", "new_business", "state"]);
        figures.push(analyst.value::<f64>(&format!(
            "SELECT test_auc FROM riskft.versions WHERE model = '{table}'"
        )));
    }
    for auc in &figures {
        assert!((auc - figures[2]).abs() < 0.03, "{figures:?}");
    }
}

/// F02: rows without a label are in no part and in no figure.
#[test]
fn rows_without_a_label_leave_the_training() {
    let (_database, mut analyst) = loans(1_000);
    analyst.run(
        "CREATE TABLE partly AS SELECT employees, approved_gross, state,
             CASE WHEN row_number() OVER (ORDER BY loan_id) > 100 THEN defaulted END AS defaulted
         FROM loans",
    );
    train(&mut analyst, "partly", "partly", "");
    let told = analyst.notices().iter().any(|n| n.message.contains("100"));
    assert!(told, "no NOTICE counts the unlabelled rows");
    train(&mut analyst, "labelled", "SELECT * FROM partly WHERE defaulted IS NOT NULL", "");
    let parts: i64 =
        analyst.value("SELECT rows_validation + rows_test FROM riskft.runs WHERE model = 'partly'");
    assert_eq!(parts, 900);
    let unlabelled: i64 =
        analyst.value("SELECT rows_unlabelled FROM riskft.runs WHERE model = 'partly'");
    assert_eq!(unlabelled, 100);
    let apart: f64 = analyst.value(
        "SELECT max(abs(risk_score('partly', s) - risk_score('labelled', s))) FROM partly s",
    );
    assert!(apart < 1e-6, "{apart}");
}

#[test]
fn a_rolled_back_training_leaves_nothing() {
    let (_database, mut analyst) = loans(500);
    let before = rows_in_catalogue(&mut analyst);
    analyst.run("BEGIN");
    let version = train(&mut analyst, "m", "loans", "");
    assert_eq!(version, 1);
    let score: f64 = analyst.value("SELECT risk_score('m', l) FROM loans l LIMIT 1");
    assert!((0.0..=1.0).contains(&score));
    analyst.run("ROLLBACK");
    assert_eq!(rows_in_catalogue(&mut analyst), before);
    refuses(&mut analyst, "SELECT risk_score('m', l) FROM loans l", "42704");
    // The rolled-back number is given again, to other weights.
    let changed = "SELECT *, NOT defaulted AS repaid FROM loans";
    let sql = format!(
        "CALL riskft_train('m', '{changed}', 'repaid', exclude => '{{defaulted}}', {QUICK})"
    );
    analyst.batch_execute(&sql).unwrap();
    let again: f64 = analyst.value("SELECT risk_score('m', l) FROM loans l LIMIT 1");
    assert!((score - again).abs() > 1e-12, "the cache kept a rolled-back version");
}

fn rows_in_catalogue(session: &mut Session) -> i64 {
    session.value("SELECT (SELECT count(*) FROM riskft.models) + (SELECT count(*) FROM riskft.runs)
                        + (SELECT count(*) FROM riskft.metrics) + (SELECT count(*) FROM riskft.features)")
}

#[test]
fn versions_are_pinned_switched_and_dropped() {
    let (database, mut analyst) = loans(600);
    let first = "SELECT risk_score('m@1', l) FROM loans l ORDER BY loan_id";
    let deployed = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";
    train(&mut analyst, "m", "loans", "exclude => '{loan_id}', ");
    let kept: Vec<f64> = analyst.values(deployed);
    let sql = "CALL riskft_train('m', 'loans', 'defaulted', method => 'none',
                   options => '{\"head_epochs\": 3, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}, \"seed\": 5, \"deploy\": \"always\"}')";
    let version: i32 = analyst.query_one(sql, &[]).unwrap().get("version");
    assert_eq!(version, 2);
    let switched: Vec<f64> = analyst.values(deployed);
    assert_ne!(switched, kept);
    assert_eq!(analyst.values::<f64>(first), kept);
    analyst.run("SELECT riskft_deploy('m', 1)");
    assert_eq!(analyst.values::<f64>(deployed), kept);
    refuses(&mut analyst, "SELECT riskft_deploy('m', 3)", "42704");
    refuses(&mut analyst, "SELECT risk_score('m@9', l) FROM loans l", "42704");
    analyst.run("SELECT riskft_drop('m')");
    refuses(&mut analyst, deployed, "42704");
    let mut superuser = database.superuser();
    assert_eq!(superuser.value::<i64>("SELECT count(*) FROM riskft.blob"), 0);
    assert_eq!(superuser.value::<i64>("SELECT count(*) FROM riskft.blob_chunk"), 0);
}

#[test]
fn every_kind_of_relation_is_read() {
    let (database, mut analyst) = loans(600);
    analyst.run(
        "CREATE VIEW a_view AS SELECT * FROM loans;
         CREATE MATERIALIZED VIEW a_materialised AS SELECT * FROM loans;
         CREATE TEMP TABLE a_temporary AS SELECT * FROM loans;
         CREATE TABLE a_partitioned (LIKE loans) PARTITION BY RANGE (fiscal_year);
         CREATE TABLE early PARTITION OF a_partitioned FOR VALUES FROM (MINVALUE) TO (2004);
         CREATE TABLE late PARTITION OF a_partitioned FOR VALUES FROM (2004) TO (MAXVALUE);
         INSERT INTO a_partitioned SELECT * FROM loans;
         CREATE SCHEMA \"Odd Schema\" AUTHORIZATION CURRENT_USER;
         CREATE TABLE \"Odd Schema\".\"Loans 2014\" AS
             SELECT employees AS \"a b\", approved_gross AS a_b, state AS \"select\",
                    naics AS \"сумма\", low_doc AS \"distance, km\", defaulted FROM loans",
    );
    let _ = &database;
    for (number, relation) in [
        "public.loans",
        "a_view",
        "a_materialised",
        "a_temporary",
        "a_partitioned",
        "\"Odd Schema\".\"Loans 2014\"",
        "  select * from loans where employees > 0",
        "WITH l AS (SELECT * FROM loans) SELECT * FROM l",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(train(&mut analyst, &format!("m{number}"), relation, ""), 1, "{relation}");
    }
    let names: Vec<String> =
        analyst.values("SELECT column_name FROM riskft.features WHERE model = 'm5' ORDER BY 1");
    for name in ["a b", "a_b", "select", "сумма", "distance, km"] {
        assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
    }
    let sql = "SELECT risk_score('m5', l) FROM \"Odd Schema\".\"Loans 2014\" l LIMIT 1";
    assert!((0.0..=1.0).contains(&analyst.value::<f64>(sql)));
}

/// F33 (b): a constant column and an all-zero column, then another constant at scoring.
#[test]
fn a_constant_that_changes_still_scores() {
    let (_database, mut analyst) = loans(800);
    analyst.run(
        "CREATE TABLE c AS SELECT employees, approved_gross, state, defaulted, 7 AS constant,
             0::float8 AS zero, NULL::text AS nothing FROM loans",
    );
    train(&mut analyst, "c", "c", "");
    let range: Vec<f64> = analyst.values(
        "SELECT risk_score('c', x) FROM (SELECT employees, approved_gross, state,
             (-1000000) AS constant, 1e30::float8 AS zero, 'text'::text AS nothing FROM c) x",
    );
    assert_eq!(range.len(), 800);
    assert!(range.iter().all(|p| (0.0..=1.0).contains(p)));
}
