//! riskft_ab_evaluate against figures that SQL computes from arms and scores.

use riskft_tests::fixture::{small_model, small_training};
use riskft_tests::{Database, Session};

/// A test of versions 1 and 2 of model `m` at even shares, and table `scored`: each loan with its arm and the
/// score of its version.
fn tested() -> (Database<'static>, Session) {
    let (database, mut analyst) = small_model();
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"never\", "));
    analyst.run(
        "SELECT riskft_ab_start('m', '2', 0.5, 'loan_id');
         CREATE TABLE scored AS SELECT loan_id, defaulted, riskft_ab_arm('m', loan_id) AS arm,
             risk_score('m', l) AS s FROM loans l",
    );
    analyst.notices();
    (database, analyst)
}

const EVALUATE: &str = "riskft_ab_evaluate('m', 'loans', 'defaulted')";

fn near(what: &str, got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 1e-9, "{what}: {got} instead of {wanted}");
}

#[test]
fn figures_are_those_of_the_rows_of_each_arm() {
    let (_database, mut analyst) = tested();
    analyst.run(&format!("CREATE TABLE found AS SELECT * FROM {EVALUATE}"));
    assert!(!analyst.told().contains("left out"));
    for (arm, version) in [("champion", 1), ("challenger", 2)] {
        for (metric, sql) in [
            ("rows", "SELECT count(*)::float8 FROM s"),
            ("positive_rate", "SELECT avg(defaulted::int)::float8 FROM s"),
            ("mean_score", "SELECT avg(s) FROM s"),
            ("brier", "SELECT avg((s - defaulted::int) ^ 2) FROM s"),
            (
                "auc",
                "SELECT avg(CASE WHEN p.s > n.s THEN 1 WHEN p.s = n.s THEN 0.5 ELSE 0 END)::float8
                 FROM s p, s n WHERE p.defaulted AND NOT n.defaulted",
            ),
            ("threshold", "SELECT t::float8 FROM s LIMIT 1"),
            (
                "f1",
                "SELECT 2.0 * count(*) FILTER (WHERE defaulted AND s >= t)::float8
                     / (count(*) FILTER (WHERE defaulted) + count(*) FILTER (WHERE s >= t)) FROM s",
            ),
        ] {
            let wanted: f64 = analyst.value(&format!(
                "WITH s AS (SELECT c.*, v.threshold AS t FROM scored c, riskft.versions v
                            WHERE c.arm = '{arm}' AND v.version = {version}) {sql}"
            ));
            let got: f64 = analyst.value(&format!(
                "SELECT value FROM found WHERE arm = '{arm}' AND metric = '{metric}' AND version = {version}"
            ));
            near(metric, got, wanted);
        }
    }
    let sums: Vec<bool> = analyst.values(
        "SELECT d.value = b.value - a.value AND d.version IS NULL
         FROM found a JOIN found b USING (metric) JOIN found d USING (metric)
         WHERE (a.arm, b.arm, d.arm) = ('champion', 'challenger', 'difference')",
    );
    assert_eq!(sums, [true; 8]);
    // Welch by its definition: variances of both means, added.
    let error: f64 = analyst.value(
        "SELECT sqrt(sum(v)) FROM (SELECT var_samp(s) / count(*) AS v FROM scored GROUP BY arm) x",
    );
    let half: f64 = analyst.value(
        "SELECT (ci_high - ci_low) / 2 FROM found WHERE arm = 'difference' AND metric = 'mean_score'",
    );
    near("error", half, 1.959_963_984_540_054 * error);
}

#[test]
fn what_is_kept_is_what_was_told() {
    let (database, mut analyst) = tested();
    let lines = "arm, version, metric, value, ci_low, ci_high, p_value";
    analyst.run(&format!("CREATE TABLE found AS SELECT * FROM {EVALUATE}"));
    let differ: i64 = analyst.value(&format!(
        "SELECT count(*) FROM (SELECT {lines} FROM found EXCEPT ALL SELECT {lines} FROM riskft.ab_results) d"
    ));
    assert_eq!(differ, 0);
    let shown: Vec<String> = analyst.values(
        "SELECT DISTINCT concat_ws(' ', model, test, latest, role, relation, target, count(*) OVER ())
         FROM riskft.ab_results",
    );
    assert_eq!(shown, ["m 1 t analyst loans defaulted 24"]);
    // Arms of a stopped test are computed from the keys again; rows without one take no part.
    analyst.run("SELECT riskft_ab_stop('m')");
    analyst.notices();
    let keyless = "SELECT * FROM loans UNION ALL SELECT NULL, amount, grade, defaulted FROM loans";
    let again: i64 = analyst.value(&format!(
        "SELECT count(*) FROM (SELECT {lines} FROM riskft_ab_evaluate('m', '{keyless}', 'defaulted', 1)
         EXCEPT SELECT {lines} FROM found) d"
    ));
    assert_eq!(again, 0);
    assert!(analyst.told().contains("400 rows without a key in column \"loan_id\" are left out"));
    let latest: Vec<bool> =
        analyst.values("SELECT DISTINCT latest FROM riskft.ab_results ORDER BY 1");
    assert_eq!(latest, [false, true]);
    // Whoever holds a privilege sees them, and nobody else.
    let (reader, none) = (database.role("reader"), database.role("none"));
    analyst.run(&format!("SELECT riskft_grant('m', '{reader}', 'score')"));
    for (role, rows) in [(reader, 48i64), (none, 0)] {
        let count: i64 = database.user(&role).value("SELECT count(*) FROM riskft.ab_results");
        assert_eq!(count, rows);
    }
}

#[test]
fn what_does_not_exist_is_null_and_few_rows_are_not_kept() {
    let (_database, mut analyst) = tested();
    let run = |session: &mut Session, relation: &str| -> Vec<String> {
        session.values(&format!(
            "SELECT concat_ws(' ', arm, metric, value = 'NaN') FROM riskft_ab_evaluate('m', $q${relation}$q$, 'defaulted')
             WHERE value IS NULL OR value = 'NaN' OR ci_low = 'NaN' OR p_value = 'NaN' ORDER BY 1"
        ))
    };
    let none = [
        "challenger auc",
        "challenger f1",
        "challenger ks",
        "difference auc",
        "difference f1",
        "difference ks",
    ];
    let one_class =
        "SELECT * FROM loans WHERE NOT defaulted OR riskft_ab_arm('m', loan_id) = 'champion'";
    assert_eq!(run(&mut analyst, one_class), none);
    assert!(analyst.told().contains("auc, ks and f1 of the challenger are null"));
    let empty = "SELECT * FROM loans WHERE riskft_ab_arm('m', loan_id) = 'champion'";
    let missing = run(&mut analyst, empty);
    assert!(none.iter().all(|line| missing.iter().any(|m| m == line)), "{missing:?}");
    assert!(missing.contains(&"challenger positive_rate".to_owned()), "{missing:?}");
    let said = analyst.told();
    assert!(
        said.contains("an arm has 0 rows with an outcome: figures of fewer than 50 are not kept"),
        "{said}"
    );
    let kept: i64 = analyst.value("SELECT count(DISTINCT evaluation) FROM riskft.ab_results");
    assert_eq!(kept, 1);
    run(&mut analyst, "SELECT loan_id, amount, grade, NULL::boolean AS defaulted FROM loans");
    assert!(analyst.told().contains("400 rows without a label are left out"));
    assert_eq!(run(&mut analyst, "SELECT * FROM loans").len(), 0);
}
