//! Bad input: one clear refusal each, nothing stored, and the session goes on.

use riskft_tests::{fails, fixture, refuses, Database};

/// A table with something wrong, the arguments after model and relation, the SQLSTATE, and a word
/// that the DETAIL or the message must name.
const BAD_TRAININGS: &[(&str, &str, &str, &str)] = &[
    ("no_table", "'defaulted', method => 'none'", "42P01", "no_table"),
    ("loans", "'defalted', method => 'none'", "42703", "defaulted"),
    ("loans", "'defaulted', method => 'none', exclude => '{emplyees}'", "42703", "employees"),
    ("loans", "'defaulted', method => 'none', time_column => 'nothing'", "42703", "nothing"),
    (
        "loans",
        "'defaulted', method => 'none', options => '{\"roles\": {\"sate\": \"text\"}}'",
        "42703",
        "state",
    ),
    ("loans", "'defaulted', method => 'magic'", "22023", "magic"),
    ("loans", "'defaulted', method => 'none', options => '{\"rnak\": 4}'", "22023", "rank"),
    ("loans", "'defaulted', method => 'none', options => '{\"members\": 0}'", "22023", "members"),
    ("loans", "'defaulted', method => 'none', options => '[1]'", "22023", "JSON object"),
    (
        "loans",
        "'defaulted', method => 'none', options => '{\"split\": {\"train\": 0.9}}'",
        "22023",
        "sum",
    ),
    ("loans", "'defaulted', method => 'none', options => '{\"text\": \"row\"}'", "22023", "row"),
    ("loans", "'defaulted', base => 'no-such-base'", "58P01", "no-such-base"),
    ("loans", "'defaulted', base => '../../etc'", "58P01", "etc"),
    ("loans", "NULL, method => 'none'", "22004", "target"),
    ("loans", "'defaulted', method => NULL", "22004", "method"),
    ("loans", "'state', method => 'none'", "22023", "positive"),
    ("loans", "'urban_rural', method => 'none', positive => 'moon'", "22023", "moon"),
    ("SELECT * FROM loans WHERE false", "'defaulted', method => 'none'", "22023", "rows"),
    ("SELECT * FROM loans WHERE defaulted", "'defaulted', method => 'none'", "22023", "class"),
    ("SELECT * FROM loans LIMIT 12", "'defaulted', method => 'none'", "22023", "rows"),
    ("SELECT defaulted FROM loans", "'defaulted', method => 'none'", "22023", "column"),
    ("SELECT *, employees FROM loans", "'defaulted', method => 'none'", "42701", "employees"),
    ("loans; DROP TABLE loans", "'defaulted', method => 'none'", "22023", "SELECT"),
    ("DELETE FROM loans RETURNING *", "'defaulted', method => 'none'", "22023", "SELECT"),
    ("SELECT 1; DROP TABLE loans", "'defaulted', method => 'none'", "22023", "2 statements"),
    ("SELECT * FROM loans FOR UPDATE", "'defaulted', method => 'none'", "22023", "SELECT"),
    (
        "WITH d AS (DELETE FROM loans RETURNING *) SELECT * FROM d",
        "'defaulted', method => 'none'",
        "22023",
        "WITH",
    ),
    ("", "'defaulted', method => 'none'", "22023", "relation"),
];

#[test]
fn a_bad_training_is_refused_and_stores_nothing() {
    let database = Database::new();
    fixture::loans(&database, 400);
    let mut analyst = database.analyst();
    let mut faults = Vec::new();
    for (relation, arguments, code, word) in BAD_TRAININGS {
        let relation = relation.replace('\'', "''");
        let sql = format!("CALL riskft_train('m', '{relation}', {arguments})");
        let mut session = database.analyst();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            refuses(&mut session, &sql, code)
        }));
        match outcome {
            Err(fault) => faults.push(fault.downcast_ref::<String>().cloned().unwrap_or_default()),
            Ok(error) => {
                let whole = format!(
                    "{} {} {}",
                    error.message(),
                    error.detail().unwrap_or_default(),
                    error.hint().unwrap_or_default()
                );
                if !whole.contains(word) {
                    faults.push(format!("{sql}: \"{word}\" is not in: {whole}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 400);
    let mut superuser = database.superuser();
    assert_eq!(superuser.value::<i64>("SELECT count(*) FROM riskft.blob"), 0);
}

#[test]
fn bad_model_names_are_refused() {
    let database = Database::new();
    fixture::loans(&database, 100);
    let mut analyst = database.analyst();
    let long = "x".repeat(64);
    for name in ["", "  ", "a@b", "tab\there", long.as_str()] {
        let sql = format!("CALL riskft_train('{name}', 'loans', 'defaulted', method => 'none')");
        refuses(&mut analyst, &sql, "22023");
    }
    refuses(&mut analyst, "CALL riskft_train(NULL, 'loans', 'defaulted')", "22004");
    refuses(&mut analyst, "CALL riskft_train('m', NULL, 'defaulted')", "22004");
}

#[test]
fn a_bad_score_is_refused() {
    let database = Database::new();
    fixture::loans(&database, 500);
    let mut analyst = database.analyst();
    analyst.run(
        "CALL riskft_train('m', 'SELECT employees, state, defaulted FROM loans', 'defaulted',
             method => 'none', options => '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
    for (sql, code) in [
        ("SELECT risk_score('none', l) FROM loans l", "42704"),
        ("SELECT risk_score(NULL, l) FROM loans l", "22004"),
        ("SELECT risk_score('m@x', l) FROM loans l", "42704"),
        ("SELECT risk_score('m@2', l) FROM loans l", "42704"),
        ("SELECT risk_score('m', ROW(1, 'q'))", "42703"),
        ("SELECT risk_score('m', s) FROM (SELECT state FROM loans) s", "42703"),
        ("SELECT risk_score('m', 5)", "42804"),
        ("SELECT risk_score('m', now())", "42804"),
        ("SELECT risk_score('m', s) FROM (SELECT '{1}'::int[] AS employees, 'CA'::text AS state) s", "42804"),
        ("SELECT risk_score_json('m', '{\"state\": \"CA\"}')", "42703"),
        ("SELECT risk_score_json('m', '[1]')", "22023"),
        ("SELECT risk_score_json('m', '{\"state\": [1], \"employees\": 1}')", "22023"),
        ("SELECT risk_score_json(NULL, '{}')", "22004"),
        ("SELECT * FROM riskft_evaluate('m', 'loans', 'nothing')", "42703"),
        ("SELECT * FROM riskft_evaluate('m', 'SELECT state, defaulted FROM loans', 'defaulted')", "42703"),
        ("SELECT * FROM riskft_evaluate('m', 'no_table', 'defaulted')", "42P01"),
        ("SELECT * FROM riskft_evaluate(NULL, 'loans', 'defaulted')", "22004"),
        ("SELECT riskft_drop('none')", "42704"),
        ("SELECT riskft_drop(NULL)", "22004"),
        ("SELECT riskft_deploy('none', 1)", "42704"),
        ("SELECT riskft_deploy('m', NULL)", "22004"),
    ] {
        refuses(&mut analyst, sql, code);
    }
    fails(&mut analyst, "SET riskft.kernel = 'fastest'", "22023");
    fails(&mut analyst, "SET riskft.no_such_setting = 1", "42602");
    let named =
        fails(&mut analyst, "SELECT risk_score('m', s) FROM (SELECT state FROM loans) s", "42703");
    assert!(named.message().contains("employees"), "{}", named.message());
    assert_eq!(analyst.value::<Option<f64>>("SELECT risk_score('m', NULL::loans)"), None);
    assert_eq!(analyst.value::<Option<f64>>("SELECT risk_score_json('m', NULL)"), None);
}

#[test]
fn a_read_only_transaction_refuses_to_train_before_it_reads() {
    let database = Database::new();
    let mut analyst = database.analyst();
    // The relation does not exist: 25006 shows that it was not even looked for.
    for statement in [
        "CALL riskft_train('m', 'nothing', 'defaulted')",
        "SELECT riskft_drop('m')",
        "SELECT riskft_deploy('m', 1)",
    ] {
        fails(&mut analyst, &format!("BEGIN READ ONLY; {statement}"), "25006");
    }
}
