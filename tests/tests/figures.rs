//! Figures through SQL: one class, ties, few positives (F36, F37).

use std::sync::OnceLock;

use riskft_tests::{fixture, Database, Session};

/// Model `m`, trained on employees, amount and state of 1,000 loans.
fn database() -> &'static Database<'static> {
    static DATABASE: OnceLock<Database<'static>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let database = Database::new();
        fixture::loans(&database, 1_000);
        database.analyst().run(
            "CALL riskft_train('m', 'SELECT employees, approved_gross, state, defaulted FROM loans',
                 'defaulted', method => 'none', options => '{\"head_epochs\": 5, \"hidden\": 32, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
        );
        database
    })
}

fn figure(session: &mut Session, relation: &str, metric: &str) -> Option<f64> {
    session.value(&format!(
        "SELECT value FROM riskft_evaluate('m', '{}', 'defaulted') WHERE metric = '{metric}'",
        relation.replace('\'', "''")
    ))
}

/// F36: one class has no ranking figures, and a NOTICE says why.
#[test]
fn one_class_has_no_auc() {
    let mut analyst = database().analyst();
    let healthy = "SELECT * FROM loans WHERE NOT defaulted LIMIT 50";
    analyst.notices();
    for metric in ["auc", "ks", "f1", "average_precision"] {
        assert_eq!(figure(&mut analyst, healthy, metric), None, "{metric}");
    }
    let told = analyst.notices().iter().any(|n| n.message.contains("one class"));
    assert!(told, "no NOTICE says why");
    assert_eq!(figure(&mut analyst, healthy, "rows"), Some(50.0));
    assert_eq!(figure(&mut analyst, healthy, "base_rate"), Some(0.0));
    assert!(figure(&mut analyst, healthy, "log_loss").is_some_and(f64::is_finite));
}

/// F36: 45 healthy and 5 bad rows, none of which reaches the threshold.
#[test]
fn no_prediction_of_the_positive_class_is_an_f1_of_zero() {
    let mut analyst = database().analyst();
    // The 45 healthy and the 5 bad loans of lowest risk: all lie under the version's threshold.
    let low = "(SELECT * FROM loans l WHERE NOT defaulted ORDER BY risk_score('m', l) LIMIT 45)
               UNION ALL (SELECT * FROM loans l WHERE defaulted ORDER BY risk_score('m', l) LIMIT 5)";
    let threshold: f64 = analyst.value("SELECT threshold FROM riskft.versions WHERE model = 'm'");
    let highest: f64 = analyst.value(&format!("SELECT max(risk_score('m', l)) FROM ({low}) l"));
    assert!(highest < threshold, "{highest} is not under {threshold}");
    assert_eq!(figure(&mut analyst, low, "f1"), Some(0.0));
    assert!(figure(&mut analyst, low, "auc").is_some_and(|v| (0.0..=1.0).contains(&v)));
}

/// F37: all scores alike.
#[test]
fn constant_scores_have_an_auc_of_one_half() {
    let mut analyst = database().analyst();
    let same = "SELECT 4 AS employees, 50000::numeric AS approved_gross, 'CA'::text AS state,
                       n % 3 = 0 AS defaulted FROM generate_series(1, 60) n";
    assert_eq!(figure(&mut analyst, same, "auc"), Some(0.5));
    assert_eq!(figure(&mut analyst, same, "ks"), Some(0.0));
    assert_eq!(figure(&mut analyst, same, "rows"), Some(60.0));
}

/// F37: six rows, three distinct scores: labels 1 | 1 1 0 0 | 0 from the riskiest down.
#[test]
fn ties_count_alike_in_every_order() {
    let mut analyst = database().analyst();
    analyst.run(
        "CREATE TEMP TABLE risky AS SELECT employees, approved_gross, state, risk_score('m', l) AS risk FROM loans l;
         CREATE TEMP TABLE three AS
             (SELECT * FROM risky ORDER BY risk DESC LIMIT 1) UNION ALL
             (SELECT * FROM risky ORDER BY abs(risk - (SELECT avg(risk) FROM risky)) LIMIT 1) UNION ALL
             (SELECT * FROM risky ORDER BY risk LIMIT 1);
         CREATE TEMP TABLE six AS
             SELECT t.*, label AS defaulted FROM
                 (SELECT *, row_number() OVER (ORDER BY risk DESC) AS place FROM three) t
             JOIN (VALUES (1, true), (2, true), (2, true), (2, false), (2, false), (3, false)) v (place, label)
                 USING (place)",
    );
    assert_eq!(analyst.value::<i64>("SELECT count(DISTINCT risk) FROM six"), 3);
    for order in [
        "risk",
        "risk DESC",
        "defaulted, risk",
        "defaulted DESC, risk",
        "md5(defaulted::text || risk)",
    ] {
        let relation = format!("SELECT * FROM six ORDER BY {order}");
        let auc = figure(&mut analyst, &relation, "auc").unwrap();
        let ks = figure(&mut analyst, &relation, "ks").unwrap();
        assert!((auc - 7.0 / 9.0).abs() < 1e-12, "{order}: {auc}");
        assert!((ks - 1.0 / 3.0).abs() < 1e-12, "{order}: {ks}");
    }
}

/// Evaluating on the training table is told, with the share; on new rows nothing is said.
#[test]
fn rows_of_the_training_are_told() {
    let mut analyst = database().analyst();
    analyst.notices();
    figure(&mut analyst, "loans", "auc");
    let notices = analyst.notices();
    let warning = notices.iter().find(|n| n.severity == "WARNING").expect("a warning");
    // 80% are train, validation and calibration rows; equal rows of the test part add to them.
    let share: f64 = warning.detail.split(['(', '%']).nth(1).unwrap().parse().unwrap();
    assert!((79.0..90.0).contains(&share), "{}", warning.detail);
    figure(
        &mut analyst,
        "SELECT 7 AS employees, 1234567.89 AS approved_gross, 'ZZ' AS state, true AS defaulted",
        "rows",
    );
    assert!(analyst.notices().iter().all(|n| n.severity != "WARNING"));
}
