//! riskft_feedback: outcomes by key, the last word counts.

use riskft_tests::fixture::small_model;
use riskft_tests::{fails, leftovers, refuses};

#[test]
fn the_last_word_on_a_key_counts_once() {
    let (_database, mut analyst) = small_model();
    let five = "SELECT 7 AS id, false AS y FROM generate_series(1, 5)";
    let record = |relation: &str| format!("SELECT riskft_feedback('m', '{relation}', 'id', 'y')");
    let told = "SELECT string_agg(key || ' ' || outcome, ', ' ORDER BY key) FROM riskft.feedbacks
                WHERE model = 'm' AND role = 'analyst'";
    assert_eq!(analyst.value::<i64>(&record(five)), 1);
    assert_eq!(analyst.value::<String>(told), "7 false");
    assert_eq!(analyst.notices().len(), 0);
    // Later words of one relation, and of a later call. A key is the same in every type.
    let rows = "VALUES (1.0, false), (2, true), (1, true), (NULL, true), (3, NULL) LIMIT 5";
    let some = format!("SELECT column1 AS id, column2 AS y FROM ({rows}) v");
    assert_eq!(analyst.value::<i64>(&record(&some)), 2);
    assert_eq!(analyst.value::<String>(told), "1 true, 2 true, 7 false");
    let notices: Vec<String> = analyst.notices().into_iter().map(|n| n.message).collect();
    assert_eq!(
        notices,
        [
            "1 rows without an outcome are left out",
            "1 rows without a key are left out",
            "1 rows contradict an earlier row of the same key: the last one that was read counts"
        ]
    );
    let text = "SELECT ''7'' AS id, ''true'' AS y";
    assert_eq!(analyst.value::<i64>(&record(text)), 1);
    assert_eq!(analyst.value::<String>(told), "1 true, 2 true, 7 true");
    assert_eq!(analyst.value::<i64>(&record("SELECT 1 AS id, true AS y WHERE false")), 0);
    let many = "SELECT i AS id, i % 2 = 0 AS y FROM generate_series(1, 25000) i";
    assert_eq!(analyst.value::<i64>(&record(many)), 25_000);
    let wrong: i64 = analyst.value(
        "SELECT count(*) FROM riskft.feedbacks
         WHERE (outcome = 'true') <> (key::integer % 2 = 0) OR given_at > clock_timestamp()",
    );
    assert_eq!(wrong, 0);
}

#[test]
fn what_is_no_outcome_is_refused_and_nothing_recorded() {
    let (database, mut analyst) = small_model();
    let record = |relation: &str, columns: &str| {
        format!("SELECT riskft_feedback('m', '{relation}', {columns})")
    };
    let some = "SELECT 1 AS id, ''false'' AS y, ARRAY[1] AS a UNION ALL SELECT 2, ''late'', NULL";
    let refusal = refuses(&mut analyst, &record(some, "'id', 'y'"), "22023");
    assert_eq!(refusal.message(), "\"late\" is no label of the model");
    assert!(refusal.detail().is_some_and(|d| d.contains("\"true\" and \"false\" for 1 keys")));
    refuses(&mut analyst, &record(some, "'nr', 'y'"), "42703");
    refuses(&mut analyst, &record(some, "'a', 'y'"), "42703");
    refuses(&mut analyst, &record(some, "NULL, 'y'"), "22004");
    let long = "SELECT repeat(''x'', 2000) AS id, true AS y";
    refuses(&mut analyst, &record(long, "'id', 'y'"), "22023");
    refuses(
        &mut analyst,
        "SELECT riskft_feedback('none', 'loans', 'loan_id', 'defaulted')",
        "42704",
    );
    let deleting = "WITH d AS (DELETE FROM loans RETURNING 1) SELECT 1 AS id, true AS y FROM d";
    fails(&mut analyst, &record(deleting, "'id', 'y'"), "22023");
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &record("loans", "'loan_id', 'defaulted'"), "25006");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.feedbacks"), 0);
    // A hostile search path stands in for nothing.
    analyst.run(
        "CREATE SCHEMA own; CREATE TABLE own.feedback (model_id bigint, key text, outcome text);
         SET search_path = own, public;
         SELECT riskft_feedback('m', 'loans', 'loan_id', 'defaulted'); RESET search_path",
    );
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.feedbacks"), 400);
    analyst.run("SELECT riskft_drop('m')");
    assert_eq!(database.superuser().value::<i64>("SELECT count(*) FROM riskft.feedback"), 0);
    assert_eq!(leftovers(&database), [""; 0]);
}

/// Keys and outcomes are for those who own or train the model.
#[test]
fn who_may_train_records_and_sees() {
    let (database, mut analyst) = small_model();
    analyst.run("SELECT riskft_feedback('m', 'loans', 'loan_id', 'defaulted')");
    let role = database.role("clerk");
    let mut clerk = database.user(&role);
    let count = "SELECT count(*) FROM riskft.feedbacks";
    let record = "SELECT riskft_feedback('m', 'SELECT 5000 AS id, true AS y', 'id', 'y')";
    refuses(&mut clerk, record, "42501");
    for (privilege, seen) in [("score", 0), ("deploy", 0), ("train", 401)] {
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{privilege}')"));
        match privilege {
            "train" => clerk.run(record),
            _ => drop(refuses(&mut clerk, record, "42501")),
        }
        assert_eq!(clerk.value::<i64>(count), seen, "{privilege}");
    }
    let by: String = analyst.value("SELECT role::text FROM riskft.feedbacks WHERE key = '5000'");
    assert_eq!(by, role);
}
