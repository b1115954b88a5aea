//! riskft_drift, riskft_monitor and their views. F38: new labels, missing cells, no rows.

mod monitor;

use std::sync::OnceLock;

use riskft_tests::fixture::{self, small_model, small_training};
use riskft_tests::{fails, refuses, Database, Session};

/// All rows are fitted, so that the reference is of the whole table.
const ALL_FITTED: &str =
    "\"split\": {\"train\": 0.7, \"validation\": 0.2, \"calibration\": 0.1, \"test\": 0}, ";

/// Model `m` of all 1,000 rows of `old`: numbers, half A and half B, flags, dates, texts of two words or
/// of many, and a column that is named as the score is.
fn fitted() -> &'static Database<'static> {
    static FITTED: OnceLock<Database<'static>> = OnceLock::new();
    FITTED.get_or_init(|| {
        let database = Database::new();
        let mut analyst = database.analyst();
        analyst.run(
            "CREATE TABLE old AS SELECT i AS loan_id, (i * 7919 % 1000)::float8 AS amount,
                 (ARRAY['A', 'B'])[1 + i % 2] AS grade, i % 3 = 0 AS \"Has House\",
                 date '2020-01-01' + i % 700 AS approved_on, i * 31 % 400 + 300 AS score,
                 i * 7919 % 1000 + i * 10473 % 700 > 800 AS defaulted
             FROM generate_series(1, 1000) i;
             ANALYZE old",
        );
        analyst.run(&small_training("m", "old", ALL_FITTED));
        database
    })
}

struct Line {
    psi: Option<f64>,
    alarm: Option<String>,
    missing: Option<f64>,
    unseen: Option<f64>,
    rows: i64,
}

/// A line of riskft_drift.
fn line(session: &mut Session, model: &str, relation: &str, column: &str, kind: &str) -> Line {
    let row = session
        .query_one(
            "SELECT psi, alarm, missing_share, unseen_share, rows FROM riskft_drift($1, $2)
             WHERE column_name = $3 AND kind = $4",
            &[&model, &relation, &column, &kind],
        )
        .unwrap_or_else(|e| panic!("{relation}, {column}: {e:?}"));
    Line {
        psi: row.get(0),
        alarm: row.get(1),
        missing: row.get(2),
        unseen: row.get(3),
        rows: row.get(4),
    }
}

/// The index of a column or the score, worked out by SQL from riskft.drift_bins; `value` is the row's.
fn by_sql(session: &mut Session, relation: &str, column: &str, kind: &str, value: &str) -> f64 {
    session.value(&format!(
        "WITH now AS MATERIALIZED (SELECT {value} AS v FROM ({relation}) r),
         bins AS (SELECT b.rows AS before, (SELECT count(*) FROM now n WHERE CASE b.holds
                 WHEN 'missing' THEN n.v IS NULL
                 WHEN 'range' THEN n.v > coalesce(b.above, '-infinity') AND n.v <= coalesce(b.up_to, 'infinity')
                 END) AS after
             FROM riskft.drift_bins b
             WHERE b.model = 'm' AND b.column_name = '{column}' AND b.kind = '{kind}'),
         shares AS (SELECT greatest(before, 0.5) / sum(before) OVER () AS p,
                 greatest(after, 0.5) / sum(after) OVER () AS q
             FROM bins WHERE before + after > 0)
         SELECT sum((q - p) * ln(q / p))::float8 FROM shares"
    ))
}

#[test]
fn the_fitted_rows_have_not_drifted() {
    let mut analyst = fitted().analyst();
    for relation in ["old", "SELECT * FROM old UNION ALL SELECT * FROM old ORDER BY amount"] {
        let drifted: Vec<String> = analyst.values(&format!(
            "SELECT concat_ws(' ', column_name, kind, psi, alarm) FROM riskft_drift('m', '{relation}')
             WHERE psi IS DISTINCT FROM 0 AND kind <> 'score' OR alarm IS NOT NULL"
        ));
        assert_eq!(drifted, Vec::<String>::new(), "{relation}");
    }
    let lines: Vec<String> = analyst
        .values("SELECT concat_ws(' ', kind, column_name, rows) FROM riskft_drift('m', 'old')");
    assert_eq!(
        lines,
        [
            "score score 1000",
            "number amount 1000",
            "label grade 1000",
            "number Has House 1000",
            "number approved_on 1000",
            "number score 1000"
        ]
    );
    // Whoever may see the model sees the bins: their rows are those of the table.
    let sums: Vec<i64> = analyst.values(
        "SELECT sum(rows)::bigint FROM riskft.drift_bins GROUP BY column_name, kind
         HAVING abs(sum(share) - 1) < 1e-9",
    );
    assert_eq!(sums, [1000; 6]);
    let named: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', bin, holds, value, rows) FROM riskft.drift_bins
         WHERE column_name = 'grade' ORDER BY bin",
    );
    assert_eq!(named, ["1 value A 500", "2 value B 500", "3 rest 0", "4 missing 0"]);
}

/// F38: A 50, B 50; now A 42, B 40, C 18. The new label was half a row of 1,000 before.
#[test]
fn a_new_label_is_told() {
    let mut analyst = fitted().analyst();
    let now = "SELECT amount, \"Has House\", approved_on, score,
                   CASE WHEN loan_id % 100 < 42 THEN 'A' WHEN loan_id % 100 < 82 THEN 'B' ELSE 'C' END AS grade
               FROM old";
    let grade = line(&mut analyst, "m", now, "grade", "label");
    let known = 0.013948271 + 0.022314355 + 0.1795 * f64::ln(360.0);
    assert!((grade.psi.unwrap() - known).abs() < 1e-8, "{:?}", grade.psi);
    assert_eq!(grade.alarm.as_deref(), Some("large, new values"));
    assert_eq!((grade.unseen, grade.missing, grade.rows), (Some(0.18), Some(0.0), 1000));
    assert_eq!(line(&mut analyst, "m", now, "amount", "number").psi, Some(0.0));
    // A pinned version is told of as the deployed one.
    assert_eq!(line(&mut analyst, "m@1", now, "grade", "label").psi, grade.psi);

    let unseen = "SELECT amount, \"Has House\", approved_on, score, 'new' AS grade FROM old";
    let grade = line(&mut analyst, "m", unseen, "grade", "label");
    assert!(grade.psi.is_some_and(|psi| psi.is_finite() && psi > 0.25));
    assert_eq!(grade.unseen, Some(1.0));
}

/// F38: missing cells are a bin of their own, in each kind of column.
#[test]
fn missing_cells_are_told() {
    let mut analyst = fitted().analyst();
    let now = "SELECT CASE WHEN loan_id % 10 > 2 THEN amount END AS amount,
                   CASE WHEN loan_id % 10 > 2 THEN grade ELSE '' END AS grade,
                   CASE WHEN loan_id % 10 > 2 THEN \"Has House\" END AS \"Has House\",
                   CASE WHEN loan_id % 10 > 2 THEN approved_on ELSE 'infinity' END AS approved_on,
                   CASE WHEN loan_id % 10 > 2 THEN score::float8 ELSE 'NaN' END AS score
               FROM old";
    for (column, kind) in [
        ("amount", "number"),
        ("grade", "label"),
        ("Has House", "number"),
        ("approved_on", "number"),
        ("score", "number"),
    ] {
        let of = line(&mut analyst, "m", now, column, kind);
        assert!(of.psi.is_some_and(|psi| psi > 0.25 && psi.is_finite()), "{column}: {:?}", of.psi);
        assert_eq!(of.alarm.as_deref(), Some("large, missing"), "{column}");
        assert_eq!(of.missing, Some(0.3), "{column}");
    }
    let nothing =
        "SELECT NULL::float8 AS amount, NULL::text AS grade, NULL::boolean AS \"Has House\",
                       NULL::date AS approved_on, NULL::integer AS score FROM old";
    let amount = line(&mut analyst, "m", nothing, "amount", "number");
    assert_eq!((amount.missing, amount.alarm.as_deref()), (Some(1.0), Some("large, missing")));
}

/// The same figures by SQL, of numbers, dates and scores.
#[test]
fn the_index_is_that_of_the_bins() {
    let mut analyst = fitted().analyst();
    let now = "SELECT amount * 1.3 AS amount, grade, NOT \"Has House\" OR loan_id % 5 = 0 AS \"Has House\",
                   approved_on + 200 AS approved_on, score - 50 AS score, defaulted
               FROM old WHERE loan_id % 7 <> 0";
    for (column, kind, value) in [
        ("amount", "number", "amount"),
        ("Has House", "number", "(\"Has House\"::integer)::float8"),
        ("approved_on", "number", "(approved_on - date '1970-01-01')::float8"),
        ("score", "number", "score::float8"),
        ("score", "score", "risk_score('m', r)"),
    ] {
        let psi = line(&mut analyst, "m", now, column, kind).psi.unwrap();
        let known = by_sql(&mut analyst, now, column, kind, value);
        assert!((psi - known).abs() < 1e-9, "{column}: {psi} instead of {known}");
        assert!(psi > 0.0, "{column}");
    }
}

/// F38: no rows are no stability; and few rows are few.
#[test]
fn no_rows_and_few_rows_are_told() {
    let mut analyst = fitted().analyst();
    let lines: Vec<bool> = analyst.values(
        "SELECT psi IS NULL AND alarm = 'no rows' AND rows = 0 AND missing_share IS NULL
         FROM riskft_drift('m', 'SELECT * FROM old WHERE false')",
    );
    assert_eq!(lines, [true; 6]);
    let alarms: Vec<Option<String>> = analyst.values(
        "SELECT DISTINCT alarm FROM riskft_drift('m', 'SELECT * FROM old WHERE loan_id = 7')",
    );
    assert!(alarms.iter().all(|a| a.as_deref().is_none_or(|a| a == "few rows")), "{alarms:?}");
    assert!(alarms.contains(&Some("few rows".into())));
}

#[test]
fn what_cannot_be_told_is_refused() {
    let database = fitted();
    let mut analyst = database.analyst();
    analyst.run("CREATE TABLE strange AS SELECT * FROM old LIMIT 0");
    analyst.run("CALL riskft_reduce('axes', 'SELECT amount, score FROM old', 2)");
    for (model, relation, code) in [
        ("NULL", "'old'", "22004"),
        ("'m'", "NULL", "22004"),
        ("'none'", "'old'", "42704"),
        ("'m@9'", "'old'", "42704"),
        ("'axes'", "'old'", "42809"),
        ("'m'", "'nowhere'", "42P01"),
        ("'m'", "'DELETE FROM old RETURNING *'", "22023"),
        ("'m'", "'old; DROP TABLE old'", "22023"),
        ("'m'", "'SELECT amount, grade FROM old'", "42703"),
        ("'m'", "'SELECT *, amount AS amount FROM old'", "42701"),
        (
            "'m'",
            "'SELECT amount, grade AS \"Grade\", \"Has House\", approved_on, score FROM old'",
            "42703",
        ),
        (
            "'m'",
            "'SELECT ARRAY[amount] AS amount, grade, \"Has House\", approved_on, score FROM old'",
            "42703",
        ),
    ] {
        let call = format!("({model}, {relation})");
        refuses(&mut analyst, &format!("SELECT * FROM riskft_drift{call}"), code);
        refuses(&mut analyst, &format!("SELECT riskft_monitor{call}"), code);
    }
    analyst.run("ALTER TABLE strange RENAME grade TO mark");
    let error = refuses(&mut analyst, "SELECT * FROM riskft_drift('m', 'strange')", "42703");
    assert!(error.message().contains("\"grade\""), "{error:?}");
    for (arguments, code) in [
        ("'m', 'old', 'nowhere'", "42703"),
        ("'m', 'old', 'defaulted', 'nowhere'", "42703"),
        ("'m', 'old', 'defaulted', 'amount'", "22023"),
        ("'m', 'old', 'defaulted', 'grade'", "22023"),
        ("'m', 'old', time_column => 'approved_on'", "22023"),
    ] {
        refuses(&mut analyst, &format!("SELECT riskft_monitor({arguments})"), code);
    }
    let kept: i64 = analyst.value(
        "SELECT count(*) FROM riskft.drift_history WHERE relation <> 'old' AND relation NOT LIKE '%matured%'",
    );
    assert_eq!(kept, 0);
}

/// A version without a reference, and one whose reference is damaged.
#[test]
fn a_reference_that_is_missing_or_damaged_is_told() {
    let (database, mut analyst) = small_model();
    let mut superuser = database.superuser();
    let drift = "SELECT * FROM riskft_drift('m', 'loans')";
    analyst.run(drift);
    for bins in [
        "{}",
        "{\"counts\": []}",
        "{\"counts\": [1, 2, 3], \"edges\": [2, 1]}",
        "{\"counts\": [-1, 2]}",
        "{\"counts\": [9223372036854775807, 1], \"edges\": []}",
        "[1]",
        "{\"counts\": [1, 2], \"edges\": [\"a\"]}",
    ] {
        superuser.run(&format!("BEGIN; UPDATE riskft.reference SET bins = '{bins}'; COMMIT"));
        let error = refuses(&mut analyst, drift, "XX001");
        assert!(
            error.detail().is_some_and(|d| d.contains("riskft.reference")),
            "{bins}: {error:?}"
        );
    }
    superuser.run("DELETE FROM riskft.reference");
    for sql in [drift, "SELECT riskft_monitor('m', 'loans')"] {
        refuses(&mut analyst, sql, "55000");
    }
    // A version is scored and exported without one.
    analyst.run("SELECT risk_score('m', l) FROM loans l; SELECT riskft_export_model('m')");
}

/// Of many rows the score's line is of a sample, which is said, and near the whole.
#[test]
fn the_scores_of_many_rows_are_sampled() {
    let mut analyst = fitted().analyst();
    let many = "SELECT o.amount * 1.2 AS amount, o.grade, o.\"Has House\", o.approved_on, o.score
                FROM old o, generate_series(1, 25)";
    analyst.notices();
    let score = line(&mut analyst, "m", many, "score", "score");
    let told: Vec<String> = analyst.notices().into_iter().map(|n| n.message).collect();
    assert_eq!(told, ["the score's line is of a sample of 10000 of 25000 rows"]);
    assert_eq!(score.rows, 10_000);
    assert_eq!(line(&mut analyst, "m", many, "amount", "number").rows, 25_000);
    let once = many.replace(", generate_series(1, 25)", "");
    let whole = by_sql(&mut analyst, &once, "score", "score", "risk_score('m', r)");
    // Four standard errors of a PSI of 0.15 from 10,000 rows, sqrt(4 psi / n).
    assert!((score.psi.unwrap() - whole).abs() < 0.03, "{:?} beside {whole}", score.psi);
}

#[test]
fn texts_are_told_of_by_their_words() {
    let database = Database::new();
    fixture::small_text_model(&database);
    let mut analyst = database.analyst();
    let kinds: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', column_name, kind, alarm) FROM riskft_drift('t', 'notes')
         WHERE kind <> 'score'",
    );
    assert_eq!(kinds, ["amount number", "note length"]);
    let long = "SELECT amount, note || repeat(' and more', 40) AS note FROM notes";
    let note: Option<String> = analyst.value(&format!(
        "SELECT alarm FROM riskft_drift('t', '{}') WHERE column_name = 'note'",
        long.replace('\'', "''")
    ));
    assert_eq!(note.as_deref(), Some("large"));
    // No word of a text is kept.
    let kept: i64 = analyst.value("SELECT count(value) FROM riskft.drift_bins WHERE model = 't'");
    assert_eq!(kept, 0);
}

/// riskft_drift needs `score` and SELECT; riskft_monitor `train` besides. Policies hold.
#[test]
fn rights_hold() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    let (drift, monitor) =
        ("SELECT * FROM riskft_drift('m', 'loans')", "SELECT riskft_monitor('m', 'loans')");
    let mut give = |verb: &str, privilege: &str| {
        analyst.run(&format!("SELECT riskft_{verb}('m', '{role}', '{privilege}')"));
    };
    for (privilege, drifts) in [("train", false), ("deploy", false), ("score", true)] {
        give("grant", privilege);
        if drifts {
            low.run(drift);
        } else {
            refuses(&mut low, drift, "42501");
        }
        let error = refuses(&mut low, monitor, "42501");
        let missing = if drifts { "privilege train" } else { "privilege score" };
        assert!(error.detail().is_some_and(|d| d.contains(missing)), "{privilege}: {error:?}");
        give("revoke", privilege);
    }
    give("grant", "score");
    give("grant", "train");
    low.run(monitor);
    analyst.run(&format!(
        "ALTER TABLE loans ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON loans FOR SELECT TO {role} USING (loan_id % 4 = 0)"
    ));
    low.run(monitor);
    let rows: Vec<i64> = analyst.values(
        "SELECT rows FROM riskft.drift_history WHERE column_name = 'amount' ORDER BY point",
    );
    assert_eq!(rows, [400, 100]);
    analyst.run("REVOKE SELECT ON loans FROM PUBLIC");
    for sql in [drift, monitor] {
        fails(&mut low, sql, "42501");
    }
    // What a view of the relation does, it does without the power to write.
    fixture::bait(&mut analyst);
    for sql in [drift, monitor] {
        fails(&mut analyst, &sql.replace("'loans'", "'bait'"), "25006");
    }
}
