//! riskft_monitor: points over time, and outcomes by vintage.

use super::*;

#[test]
fn a_point_is_added_and_goes_with_its_model() {
    let (database, mut analyst) = small_model();
    let first: i64 = analyst.value("SELECT riskft_monitor('m', 'loans')");
    let later = "SELECT * FROM loans WHERE loan_id % 2 = 0";
    let second: i64 = analyst.value(&format!("SELECT riskft_monitor('m@1', '{later}')"));
    assert!(second > first);
    let mut differ = |point: i64, relation: &str| -> Vec<String> {
        let of = "column_name, kind, psi, alarm, missing_share, missing_share_reference, unseen_share, rows";
        analyst.values(&format!(
            "SELECT h.column_name FROM (SELECT {of} FROM riskft.drift_history
                 WHERE point = {point} AND model = 'm' AND version = 1 AND role = 'analyst'
                 AND relation = '{relation}' AND measured_at <= clock_timestamp()) h
             FULL JOIN (SELECT {of} FROM riskft_drift('m', '{relation}')) d USING (column_name, kind)
             WHERE h IS DISTINCT FROM d"
        ))
    };
    assert_eq!(differ(first, "loans"), Vec::<String>::new());
    assert_eq!(differ(second, later), Vec::<String>::new());
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.outcome_history"), 0);

    // A feed that has dried up is a point as well; one that is rolled back is none.
    let empty: i64 = analyst.value("SELECT riskft_monitor('m', 'SELECT * FROM loans WHERE false')");
    let alarms: Vec<String> = analyst
        .values(&format!("SELECT DISTINCT alarm FROM riskft.drift_history WHERE point = {empty}"));
    assert_eq!(alarms, ["no rows"]);
    let points = "SELECT count(DISTINCT point) FROM riskft.drift_history";
    analyst.run("BEGIN; SELECT riskft_monitor('m', 'loans', 'defaulted'); ROLLBACK");
    assert_eq!(analyst.value::<i64>(points), 3);
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, "SELECT riskft_monitor('m', 'loans')", "25006");
    analyst.run("BEGIN READ ONLY; SELECT * FROM riskft_drift('m', 'loans'); COMMIT");
    // A time-out leaves no point, and a session that goes on.
    analyst.run("SET statement_timeout = '300ms'");
    let slow = "SELECT l.*, pg_sleep(0.1) IS NULL AS slept FROM loans l";
    for call in ["riskft_drift", "riskft_monitor"] {
        fails(&mut analyst, &format!("SELECT * FROM {call}('m', '{slow}')"), "57014");
    }
    analyst.run("RESET statement_timeout");
    assert_eq!(analyst.value::<i64>(points), 3);

    analyst.run("SELECT riskft_drop('m')");
    let mut superuser = database.superuser();
    for table in ["reference", "drift_point", "drift_line", "drift_outcome"] {
        let left: i64 = superuser.value(&format!("SELECT count(*) FROM riskft.{table}"));
        assert_eq!(left, 0, "{table}");
    }
}

/// Figures of matured outcomes are those of riskft_evaluate, and of SQL by vintage.
#[test]
fn outcomes_are_told_by_vintage() {
    let mut analyst = fitted().analyst();
    analyst.run(
        "CREATE TABLE matured AS SELECT loan_id + 1000 AS loan_id, amount, grade, \"Has House\",
             approved_on - 300 AS approved_on, score,
             CASE WHEN loan_id % 10 > 0 THEN defaulted END AS defaulted FROM old WHERE loan_id <= 800",
    );
    analyst.notices();
    let point: i64 =
        analyst.value("SELECT riskft_monitor('m', 'matured', 'defaulted', 'approved_on')");
    let told: Vec<String> = analyst.notices().into_iter().map(|n| n.message).collect();
    assert!(told.iter().any(|m| m == "80 rows have no outcome yet"), "{told:?}");
    let whole = analyst
        .query_one(
            "SELECT o.auc - e.auc, o.ece - e.ece, o.mean_score - e.mean_score,
                    o.mean_outcome - e.base_rate, o.rows, o.ratio - e.mean_score / e.base_rate
             FROM riskft.outcome_history o,
                  (SELECT min(value) FILTER (WHERE metric = 'auc') AS auc,
                          min(value) FILTER (WHERE metric = 'ece') AS ece,
                          min(value) FILTER (WHERE metric = 'mean_score') AS mean_score,
                          min(value) FILTER (WHERE metric = 'base_rate') AS base_rate
                   FROM riskft_evaluate('m', 'matured', 'defaulted')) e
             WHERE o.point = $1 AND o.period IS NULL AND o.target = 'defaulted'",
            &[&point],
        )
        .unwrap();
    for column in [0, 1, 2, 3, 5] {
        assert_eq!(whole.get::<_, Option<f64>>(column), Some(0.0), "column {column}");
    }
    assert_eq!(whole.get::<_, i64>(4), 720);
    let off: Vec<String> = analyst.values(&format!(
        "SELECT concat_ws(' ', h.period, t.period, h.mean_score - t.mean_score)
         FROM (SELECT * FROM riskft.outcome_history WHERE point = {point} AND period IS NOT NULL) h
         FULL JOIN (SELECT to_char(approved_on, 'YYYY-MM') AS period, count(*) AS rows,
                        date_trunc('month', approved_on)::date AS begins,
                        avg(risk_score('m', t)) AS mean_score, avg(defaulted::integer)::float8 AS mean_outcome
                    FROM matured t WHERE defaulted IS NOT NULL GROUP BY 1, 3 HAVING count(*) >= 50) t
             USING (period, rows, begins)
         WHERE abs(h.mean_score - t.mean_score) < 1e-12 IS NOT TRUE
            OR abs(h.mean_outcome - t.mean_outcome) < 1e-12 IS NOT TRUE"
    ));
    assert_eq!(off, Vec::<String>::new());
    // Of fewer than 50 outcomes nothing is kept: it would tell of persons.
    let few = "SELECT * FROM matured ORDER BY loan_id LIMIT 54";
    let point: i64 = analyst.value(&format!("SELECT riskft_monitor('m', '{few}', 'defaulted')"));
    let kept = format!("SELECT count(*) FROM riskft.outcome_history WHERE point = {point}");
    assert_eq!(analyst.value::<i64>(&kept), 0);
    let told: Vec<String> = analyst.notices().into_iter().map(|n| n.message).collect();
    assert!(told.iter().any(|m| m.starts_with("49 rows have an outcome")), "{told:?}");
    // Monitoring the fitted rows is said to flatter.
    analyst.run("SELECT riskft_monitor('m', 'old', 'defaulted')");
    assert!(analyst.notices().iter().any(|n| n.severity == "WARNING"));
}
