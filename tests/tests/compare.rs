//! riskft_compare against figures that SQL computes from the scores of both versions.

use std::sync::OnceLock;

use riskft_tests::fixture::{self, small_model, small_training};
use riskft_tests::{fails, refuses, Database, Session};

/// Model `m` on few columns of 1,000 loans, version 1 deployed; version 2, the challenger, without
/// trees and with another seed.
fn database() -> &'static Database<'static> {
    static DATABASE: OnceLock<Database<'static>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let database = Database::new();
        fixture::loans(&database, 1_000);
        let call = |options: &str| {
            format!(
                "CALL riskft_train('m', 'SELECT employees, approved_gross, state, defaulted FROM loans',
                     'defaulted', method => 'none', options => '{{{options} \"head_epochs\": 5,
                     \"hidden\": 32, \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')"
            )
        };
        let mut analyst = database.analyst();
        analyst.run(&call(""));
        analyst.run(&call("\"deploy\": \"never\", \"seed\": 4, \"trees\": {\"rounds\": 0},"));
        analyst.run(
            "SELECT riskft_set_alias('m', 'challenger', 2);
             CREATE TABLE scored AS SELECT loan_id, defaulted, risk_score('m@1', l) AS a,
                 risk_score('m@2', l) AS b FROM loans l",
        );
        database
    })
}

const LINE: &str = "SELECT COLUMN FROM riskft_compare('m', 'champion', 'challenger', 'loans',
                    'defaulted') WHERE metric = 'METRIC'";

fn figure(session: &mut Session, metric: &str, column: &str) -> f64 {
    session.value(&LINE.replace("COLUMN", column).replace("METRIC", metric))
}

fn near(what: &str, got: f64, wanted: f64, tolerance: f64) {
    assert!((got - wanted).abs() <= tolerance, "{what}: {got} instead of {wanted}");
}

#[test]
fn figures_are_those_that_sql_computes() {
    let mut analyst = database().analyst();
    let threshold = |version: i32| {
        format!("(SELECT threshold FROM riskft.versions WHERE model = 'm' AND version = {version})")
    };
    for (column, version) in [("a", 1), ("b", 2)] {
        let queries = [
            ("rows", "SELECT count(*)::float8 FROM scored".to_owned()),
            ("positives", "SELECT count(*)::float8 FROM scored WHERE defaulted".to_owned()),
            (
                "auc",
                format!(
                    "SELECT avg(CASE WHEN p.{column} > n.{column} THEN 1 WHEN p.{column} = n.{column}
                         THEN 0.5 ELSE 0 END)::float8
                     FROM scored p, scored n WHERE p.defaulted AND NOT n.defaulted"
                ),
            ),
            (
                "ks",
                format!(
                    "SELECT max(abs(p - n)) FROM (SELECT
                         (count(*) FILTER (WHERE defaulted) OVER w)::float8
                             / (SELECT count(*) FROM scored WHERE defaulted)::float8 AS p,
                         (count(*) FILTER (WHERE NOT defaulted) OVER w)::float8
                             / (SELECT count(*) FROM scored WHERE NOT defaulted)::float8 AS n
                     FROM scored WINDOW w AS (ORDER BY {column})) x"
                ),
            ),
            (
                "f1",
                format!(
                    "SELECT 2.0 * count(*) FILTER (WHERE defaulted AND {column} >= {t})::float8
                         / (count(*) FILTER (WHERE defaulted) + count(*) FILTER (WHERE {column} >= {t}))
                     FROM scored",
                    t = threshold(version)
                ),
            ),
            ("threshold", format!("SELECT {}", threshold(version))),
            (
                "brier",
                format!("SELECT avg(({column} - defaulted::int) ^ 2) FROM scored"),
            ),
            (
                "log_loss",
                format!(
                    "SELECT avg(-ln(CASE WHEN defaulted THEN {column} ELSE 1 - {column} END)) FROM scored"
                ),
            ),
            (
                "ece",
                // No two scores near a cut are equal here, so that bins are shares of the rows.
                format!(
                    "SELECT sum(abs(s)) / (SELECT count(*) FROM scored) FROM (
                         SELECT sum({column} - defaulted::int) AS s FROM (
                             SELECT *, row_number() OVER (ORDER BY {column}) - 1 AS n FROM scored) r
                         GROUP BY (SELECT count(*) FROM generate_series(1, 14) k WHERE n >= 1000 * k / 15)
                     ) bins"
                ),
            ),
            ("mean_score", format!("SELECT avg({column}) FROM scored")),
            (
                "training_cpu_seconds",
                format!("SELECT cpu_seconds FROM riskft.costs WHERE model = 'm' AND version = {version}"),
            ),
        ];
        for (metric, sql) in queries {
            let wanted: f64 = analyst.value(&sql);
            near(metric, figure(&mut analyst, metric, column), wanted, 1e-9);
        }
        assert!(figure(&mut analyst, "score_microseconds", column) > 0.0);
    }
    let lines: Vec<bool> = analyst.values(
        "SELECT difference = b - a FROM riskft_compare('m', '1', '2', 'loans', 'defaulted')",
    );
    assert_eq!(lines, [true; 12]);
}

/// DeLong by its definition: for each row the share of rows of the other class on its right side,
/// and the covariances of these shares.
#[test]
fn areas_differ_by_delongs_error() {
    let mut analyst = database().analyst();
    let error: f64 = analyst.value(
        "WITH pair AS (
             SELECT p.loan_id AS p, n.loan_id AS n,
                 CASE WHEN p.a > n.a THEN 1.0::float8 WHEN p.a = n.a THEN 0.5 ELSE 0 END AS a,
                 CASE WHEN p.b > n.b THEN 1.0::float8 WHEN p.b = n.b THEN 0.5 ELSE 0 END AS b
             FROM scored p, scored n WHERE p.defaulted AND NOT n.defaulted),
         positive AS (SELECT avg(b) - avg(a) AS d FROM pair GROUP BY p),
         negative AS (SELECT avg(b) - avg(a) AS d FROM pair GROUP BY n)
         SELECT sqrt((SELECT var_samp(d) / count(*) FROM positive)
                     + (SELECT var_samp(d) / count(*) FROM negative))",
    );
    let (low, high) =
        (figure(&mut analyst, "auc", "ci_low"), figure(&mut analyst, "auc", "ci_high"));
    let difference = figure(&mut analyst, "auc", "difference");
    near("error", (high - low) / 2.0 / 1.959_963_984_540_054, error, 1e-9);
    near("middle", (high + low) / 2.0, difference, 1e-12);
    // Two sides: a p value below 5% and an interval without 0 are the same.
    for metric in ["auc", "brier", "log_loss", "mean_score"] {
        let p = figure(&mut analyst, metric, "p_value");
        let (low, high) =
            (figure(&mut analyst, metric, "ci_low"), figure(&mut analyst, metric, "ci_high"));
        assert_eq!(p < 0.05, low > 0.0 || high < 0.0, "{metric}: {p}, {low} to {high}");
    }
    let brier: f64 = analyst.value(
        "SELECT stddev_samp(d) / sqrt(count(*)) FROM
             (SELECT (b - defaulted::int) ^ 2 - (a - defaulted::int) ^ 2 AS d FROM scored) s",
    );
    let half =
        figure(&mut analyst, "brier", "ci_high") - figure(&mut analyst, "brier", "difference");
    near("brier", half / 1.959_963_984_540_054, brier, 1e-9);
    let (low, middle, high) = (
        figure(&mut analyst, "f1", "ci_low"),
        figure(&mut analyst, "f1", "difference"),
        figure(&mut analyst, "f1", "ci_high"),
    );
    assert!(low < middle && middle < high, "{low} {middle} {high}");
}

#[test]
fn repeated_and_mirrored_calls_agree() {
    let mut analyst = database().analyst();
    let all = |a: &str, b: &str| {
        format!(
            "SELECT concat_ws(' ', metric, a, b, difference, ci_low, ci_high, p_value)
             FROM riskft_compare('m', '{a}', '{b}', 'SELECT * FROM loans ORDER BY loan_id', 'defaulted')
             WHERE metric <> 'score_microseconds'"
        )
    };
    let first: Vec<String> = analyst.values(&all("1", "2"));
    assert_eq!(first, analyst.values::<String>(&all("champion", "challenger")));
    assert_eq!(first.len(), 11);
    let same: Vec<f64> = analyst.values(
        "SELECT difference FROM riskft_compare('m', '2', 'challenger', 'loans', 'defaulted')
         WHERE metric <> 'score_microseconds'",
    );
    assert_eq!(same, [0.0; 11]);
    let mirrored: Vec<f64> = analyst.values(
        "SELECT x.difference + y.difference
         FROM riskft_compare('m', '1', '2', 'loans', 'defaulted') x
         JOIN riskft_compare('m', '2', '1', 'loans', 'defaulted') y USING (metric)
         WHERE metric <> 'score_microseconds'",
    );
    assert_eq!(mirrored, [0.0; 11]);
}

#[test]
fn rows_that_a_version_has_seen_are_told() {
    let mut analyst = database().analyst();
    analyst.notices();
    analyst.run("SELECT * FROM riskft_compare('m', '1', '2', 'loans', 'defaulted')");
    let warned: Vec<String> = analyst
        .notices()
        .into_iter()
        .filter(|n| n.severity == "WARNING")
        .map(|n| n.message.split(" was fitted").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(warned, ["version 1", "version 2"]);
    let healthy = "SELECT metric FROM riskft_compare('m', '1', '2',
                       'SELECT * FROM loans WHERE NOT defaulted', 'defaulted')
                   WHERE a IS NULL AND b IS NULL AND difference IS NULL AND p_value IS NULL";
    assert_eq!(analyst.values::<String>(healthy), ["auc", "ks", "f1"]);
    assert!(analyst.notices().iter().any(|n| n.message.contains("one class")));
    let none = "SELECT a FROM riskft_compare('m', '1', '2', 'SELECT * FROM loans WHERE false',
                    'defaulted') WHERE metric = 'rows'";
    assert_eq!(analyst.value::<f64>(none), 0.0);
}

#[test]
fn bad_comparisons_are_refused() {
    let (database, mut analyst) = small_model();
    analyst.run(&small_training("m", "loans", "\"deploy\": \"never\", "));
    let turned = small_training("m", "loans", "\"deploy\": \"never\", ")
        .replace("method =>", "positive => 'false', method =>");
    analyst.run("ALTER TABLE loans ADD label text; UPDATE loans SET label = defaulted::text");
    analyst.run(
        &turned
            .replace("'loans'", "'SELECT amount, grade, loan_id, label AS defaulted FROM loans'"),
    );
    let compare = "SELECT * FROM riskft_compare('m', '1', '2', 'loans', 'defaulted')";
    analyst.run(compare);
    for (from, to, code) in [
        ("'m'", "NULL", "22004"),
        ("'1'", "NULL", "22004"),
        ("'2'", "NULL", "22004"),
        ("'loans'", "NULL", "22004"),
        ("'defaulted'", "NULL", "22004"),
        ("'m'", "'none'", "42704"),
        ("'m'", "'m@1'", "42704"),
        ("'2'", "'4'", "42704"),
        ("'2'", "'challenger'", "42704"),
        ("'2'", "'m@2'", "42704"),
        ("'2'", "''", "42704"),
        ("'2'", "'3'", "22023"),
        ("'loans'", "'no_table'", "42P01"),
        ("'loans'", "'DELETE FROM loans RETURNING *'", "22023"),
        ("'loans'", "'SELECT amount, defaulted FROM loans'", "42703"),
        ("'defaulted'", "'nothing'", "42703"),
    ] {
        refuses(&mut analyst, &compare.replace(from, to), code);
    }
    let role = database.role("low");
    let mut low = database.user(&role);
    for granted in ["train", "deploy"] {
        refuses(&mut low, compare, "42501");
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{granted}')"));
    }
    refuses(&mut low, compare, "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    low.run(compare);
    analyst.run("REVOKE SELECT ON loans FROM PUBLIC");
    fails(&mut low, compare, "42501");
    analyst.run("SET statement_timeout = '300ms'");
    fails(
        &mut analyst,
        &compare.replace("'loans'", "'SELECT l.*, pg_sleep(0.1) IS NULL AS s FROM loans l'"),
        "57014",
    );
    analyst.run("RESET statement_timeout; BEGIN READ ONLY");
    analyst.run(compare);
    let id: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(id, None);
    analyst.run("COMMIT");
}
