//! riskft.costs and riskft.cost_comparison: what trainings and scores cost, worked out again by hand.

use riskft_tests::fixture::{small_model, small_text_model, small_text_training};
use riskft_tests::Database;

#[test]
fn a_score_has_a_price() {
    let (database, _analyst) = small_model();
    let shown = "SELECT score_microseconds, cost_per_1000_scores, cost, device_hours, test_auc,
                     cost_per_auc_point FROM riskft.costs WHERE model = 'm'";
    let role = database.name();
    database.superuser().run(&format!("ALTER DATABASE {role} SET riskft.core_hour_price = 0.36"));
    // A session that has not loaded the library knows the price all the same.
    let mut fresh = database.analyst();
    let row = fresh.query_one(shown, &[]).expect("the run's costs");
    let (microseconds, price): (f64, f64) = (row.get(0), row.get(1));
    assert!(microseconds > 0.0 && microseconds < 1e6, "{microseconds}");
    assert!((price - microseconds * 1e-6 * 1000.0 / 3600.0 * 0.36).abs() <= 1e-12 * price);
    let (cost, auc): (f64, f64) = (row.get(2), row.get(4));
    assert_eq!(cost, 0.0, "no price of a device hour was set");
    assert_eq!(row.get::<_, Option<f64>>(5).is_some(), auc > 0.5);
    // A training has the price of its day.
    fresh.run("SET riskft.device_hour_price = 3.6");
    fresh.run(&riskft_tests::fixture::small_training("m", "loans", "\"deploy\": \"never\", "));
    fresh.run("SET riskft.device_hour_price = 100");
    let row = fresh
        .query_one(
            "SELECT cost, device_seconds, device_hours, test_auc, cost_per_auc_point
             FROM riskft.costs WHERE model = 'm' AND version = 2",
            &[],
        )
        .expect("the second run's costs");
    let [cost, seconds, hours, auc] = [0, 1, 2, 3].map(|column| row.get::<_, f64>(column));
    assert!((cost - seconds * 0.001).abs() <= 1e-12 && (hours - seconds / 3600.0).abs() <= 1e-12);
    let each: Option<f64> = row.get(4);
    match auc > 0.5 {
        true => assert!((each.expect("a cost") - cost / (100.0 * (auc - 0.5))).abs() <= 1e-9),
        false => assert_eq!(each, None),
    }
}

#[test]
fn arms_are_told_beside_full_fine_tuning() {
    let database = Database::new();
    let base = small_text_model(&database);
    let mut analyst = database.analyst();
    let full = small_text_training("t", &base).replace("base =>", "method => 'full', base =>");
    for options in ["", "\"text\": \"row\", "] {
        analyst.run(&full.replace("'{\"roles\"", &format!("'{{{options}\"roles\"")));
    }
    let shown: Vec<String> = analyst.values(
        "SELECT concat_ws('|', version, arm, traditional_version, traditional_arm, cpu_seconds IS NULL)
         FROM riskft.cost_comparison ORDER BY version, arm",
    );
    // Whole-row text is what the others are compared with; it is all that its version reads.
    assert_eq!(
        shown,
        [
            "1|lora, fields|3|full, row|f",
            "1|trees alone|3|full, row|t",
            "2|full, fields|3|full, row|f",
            "2|trees alone|3|full, row|t",
            "3|full, row|3|full, row|f"
        ]
    );
    let wrong: i64 = analyst.value(
        "SELECT count(*) FROM riskft.cost_comparison a
         JOIN riskft.cost_comparison f ON f.version = 3 AND f.arm = 'full, row'
         WHERE abs(a.saved_share - (1 - a.seconds / f.seconds)) > 1e-12
            OR abs(a.auc_difference - (a.test_auc - f.test_auc)) > 1e-12
            OR a.version = 3 AND a.arm = 'full, row' AND (a.saved_share <> 0 OR a.auc_difference <> 0)
            OR (a.saved_share_of_an_epoch IS NULL) <> (a.arm = 'trees alone')",
    );
    assert_eq!(wrong, 0);
    // Nobody else sees them; a model without full fine-tuning has nothing to compare with.
    let other = database.role("other");
    let mut stranger = database.user(&other);
    assert_eq!(stranger.value::<i64>("SELECT count(*) FROM riskft.cost_comparison"), 0);
    let (_elsewhere, mut plain) = small_model();
    let alone: Vec<String> = plain.values(
        "SELECT arm FROM riskft.cost_comparison WHERE saved_share IS NULL AND traditional_arm IS NULL
         ORDER BY arm",
    );
    assert!(alone.contains(&"none, fields".to_owned()), "{alone:?}");
}
