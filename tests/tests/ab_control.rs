//! Who starts, changes and ends an A/B test, what ends one, and what cannot be one.

use riskft_tests::fixture::{small_training, two_versions};
use riskft_tests::{fails, refuses, Session};

fn start(session: &mut Session, share: &str) -> i32 {
    session.value(&format!("SELECT riskft_ab_start('m', 'challenger', {share}, key => 'loan_id')"))
}

const ARMS: &str = "SELECT riskft_ab_arm('m', loan_id) FROM loans ORDER BY loan_id";
const SCORES: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";

fn arms(session: &mut Session) -> Vec<Option<String>> {
    session.values(ARMS)
}

fn bits(session: &mut Session, query: &str) -> Vec<u64> {
    session.values::<f64>(query).into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_deployment_ends_it() {
    let (_database, mut analyst) = two_versions("challenger");
    let last = "SELECT concat_ws(' ', running, stopped_by, stop_reason) FROM riskft.ab_tests
                ORDER BY test DESC LIMIT 1";
    start(&mut analyst, "0.5");
    analyst.run("SELECT riskft_deploy('m', 1)");
    assert_eq!(analyst.value::<String>(last), "t", "version 1 was deployed already");
    analyst.notices();
    analyst.run("SELECT riskft_deploy('m', 2, 'it won')");
    assert!(analyst.told().contains("A/B test 1 of model \"m\" is stopped"));
    assert_eq!(analyst.value::<String>(last), "f analyst version 2 was deployed: it won");
    assert_eq!(bits(&mut analyst, SCORES), bits(&mut analyst, &SCORES.replace("'m'", "'m@2'")));
    analyst.run("SELECT riskft_ab_start('m', '1', 0.5, 'loan_id'); SELECT riskft_rollback('m')");
    assert_eq!(analyst.value::<String>(last), "f analyst version 1 was deployed");
    assert_eq!(bits(&mut analyst, SCORES), bits(&mut analyst, &SCORES.replace("'m'", "'m@1'")));
    start(&mut analyst, "0.5");
    analyst.run(&small_training("m", "loans", "\"seed\": 3, \"deploy\": \"always\", "));
    assert!(analyst.value::<String>(last).starts_with("f analyst version 3 was deployed: "));
    let audit: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', action, reason) FROM riskft.audit WHERE version = 2 AND action LIKE 'ab_stop'",
    );
    assert_eq!(audit.len(), 2);
    assert_eq!(audit[0], "ab_stop version 2 was deployed: it won");
    // They go with their model.
    analyst.run("SELECT riskft_drop('m')");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.ab_tests"), 0);
}

#[test]
fn only_who_may_deploy_starts_and_stops_one() {
    let (database, mut analyst) = two_versions("challenger");
    let (reader, deployer, none) =
        (database.role("reader"), database.role("deployer"), database.role("none"));
    analyst.run(&format!(
        "SELECT riskft_grant('m', '{reader}', 'score'); SELECT riskft_grant('m', '{deployer}', 'deploy')"
    ));
    let mut deployer = database.user(&deployer);
    start(&mut deployer, "0.5");
    for (role, may_score) in [(&reader, true), (&none, false)] {
        let mut session = database.user(role);
        for sql in [
            "SELECT riskft_ab_start('m', '2', 0.7, 'loan_id')",
            "SELECT riskft_ab_stop('m')",
            "SELECT riskft_ab_evaluate('m', 'loans', 'defaulted')",
        ] {
            refuses(&mut session, sql, "42501");
        }
        for table in ["ab_test", "ab_evaluation", "ab_result"] {
            fails(&mut session, &format!("SELECT FROM riskft.{table}"), "42501");
        }
        let seen: i64 = session.value("SELECT count(*) FROM riskft.ab_tests");
        assert_eq!(seen, i64::from(may_score));
        match may_score {
            true => assert!(arms(&mut session).iter().all(Option::is_some)),
            false => {
                refuses(&mut session, ARMS, "42501");
                refuses(&mut session, "SELECT risk_score_both('m', l) FROM loans l", "42501");
            }
        }
    }
    // To evaluate takes both privileges, since what is kept is read by all who have one.
    refuses(&mut deployer, "SELECT riskft_ab_evaluate('m', 'loans', 'defaulted')", "42501");
    deployer.run("SELECT riskft_ab_stop('m')");
}

#[test]
fn a_challenger_must_be_approved_where_versions_must() {
    let (database, _) = two_versions("challenger");
    database
        .superuser()
        .run(&format!("ALTER DATABASE {} SET riskft.require_approval = on", database.name()));
    let mut analyst = database.analyst();
    let call = "SELECT riskft_ab_start('m', '2', 0.5, 'loan_id')";
    let error = refuses(&mut analyst, call, "55000");
    assert_eq!(error.message(), "version 2 of model \"m\" is not approved");
    database.superuser().run("SELECT riskft_approve('m', 2)");
    analyst.run(call);
}

#[test]
fn what_cannot_be_a_test_is_refused() {
    let (_database, mut analyst) = two_versions("challenger");
    for (arguments, code) in [
        ("NULL, '2', 0.1, 'loan_id'", "22004"),
        ("'m', NULL, 0.1, 'loan_id'", "22004"),
        ("'m', '2', NULL, 'loan_id'", "22004"),
        ("'m', '2', 0.1", "22004"),
        ("'m', '2', 0.1, 'loan_id', NULL", "22004"),
        ("'m', '2', 'NaN', 'loan_id'", "22023"),
        ("'m', '2', 'Infinity', 'loan_id'", "22023"),
        ("'m', '2', 2, 'loan_id'", "22023"),
        ("'m', '2', -1, 'loan_id'", "22023"),
        ("'m', '2', -1e-300, 'loan_id'", "22023"),
        ("'m', '2', 0.1, ' '", "22023"),
        ("'m', '2', 0.1, repeat('x', 64)", "22023"),
        ("'m', '2', 0.1, 'loan_id', 'other'", "22023"),
        ("'m', '2', 0.1, 'loan_id', 'route', repeat('x', 5000)", "22023"),
        ("'m', '1', 0.1, 'loan_id'", "22023"),
        ("'m', 'champion', 0.1, 'loan_id'", "22023"),
        ("'m', '3', 0.1, 'loan_id'", "42704"),
        ("'m', '99999999999', 0.1, 'loan_id'", "42704"),
        ("'m', '', 0.1, 'loan_id'", "42704"),
        ("'m', 'challengr', 0.1, 'loan_id'", "42704"),
        ("'none', '2', 0.1, 'loan_id'", "42704"),
        ("'m@2', '2', 0.1, 'loan_id'", "42704"),
    ] {
        refuses(&mut analyst, &format!("SELECT riskft_ab_start({arguments})"), code);
    }
    for (sql, code) in [
        ("SELECT riskft_ab_stop('m')", "55000"),
        ("SELECT riskft_ab_stop(NULL)", "22004"),
        ("SELECT riskft_ab_stop('none')", "42704"),
        ("SELECT riskft_ab_evaluate('m', 'loans', 'defaulted')", "55000"),
        ("SELECT riskft_ab_evaluate('m', 'loans', 'defaulted', 1)", "42704"),
    ] {
        refuses(&mut analyst, sql, code);
    }
    analyst.notices();
    analyst.run("SELECT riskft_ab_start('m', '2', 0.1, 'loanid')");
    let said = analyst.told();
    assert!(said.contains("had no column \"loanid\" (is it \"loan_id\"?)"), "{said}");
    for other in ["'m', '2', 0.1, 'loan_id'", "'m', '2', 0.1, 'loanid', 'shadow'"] {
        let error = refuses(&mut analyst, &format!("SELECT riskft_ab_start({other})"), "55000");
        assert!(error.hint().is_some_and(|hint| hint.contains("riskft_ab_stop('m'")), "{error:?}");
    }
    for (arguments, code) in [
        ("NULL, 'loans', 'defaulted'", "22004"),
        ("'m', NULL, 'defaulted'", "22004"),
        ("'m', 'loans', NULL", "22004"),
        ("'m', 'nothing', 'defaulted'", "42P01"),
        ("'m', 'loans', 'nothing'", "42703"),
        // The key of the test is no column of the relation.
        ("'m', 'loans', 'defaulted'", "42703"),
        ("'m', 'SELECT *, now() AS loanid FROM loans', 'defaulted'", "42804"),
        ("'m', 'loans', 'defaulted', 7", "42704"),
        ("'none', 'loans', 'defaulted'", "42704"),
    ] {
        refuses(&mut analyst, &format!("SELECT riskft_ab_evaluate({arguments})"), code);
    }
    // Versions whose scores mean different things.
    analyst.run("SELECT riskft_ab_stop('m')");
    let other = small_training("m", "loans", "\"deploy\": \"never\", ")
        .replace("'defaulted', ", "'defaulted', positive => 'false', ");
    analyst.run(&other);
    refuses(&mut analyst, "SELECT riskft_ab_start('m', '3', 0.1, 'loan_id')", "22023");
}
