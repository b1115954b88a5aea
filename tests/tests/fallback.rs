//! riskft_fallback: a rule over drift, the switch to alias backup and back, and who may.

use riskft_tests::fixture::{small_training, two_versions};
use riskft_tests::{fails, refuses, Session};

const SCORE: &str = "SELECT sum(risk_score('m', l)) FROM loans l";
const STATE: &str =
    "SELECT concat_ws(' ', active, backup_version, deployed_version, rule) FROM riskft.fallbacks";

fn score(session: &mut Session, model: &str) -> f64 {
    session.value(&SCORE.replace("'m'", &format!("'{model}'")))
}

fn actions(session: &mut Session) -> Vec<String> {
    session.values(
        "SELECT concat_ws(' ', action, version, reason) FROM riskft.audit
         WHERE action LIKE 'fallback%' ORDER BY entry",
    )
}

#[test]
fn the_bare_name_means_the_backup_while_it_is_active() {
    let (_database, mut analyst) = two_versions("backup");
    let (first, second) = (score(&mut analyst, "m@1"), score(&mut analyst, "m@2"));
    assert_ne!(first, second);
    analyst.run("SELECT riskft_fallback_start('m', 'the feed is broken')");
    assert_eq!(analyst.values::<String>(STATE), ["t 2 1"]);
    assert_eq!(score(&mut analyst, "m"), second);
    assert_eq!(score(&mut analyst, "m@champion"), first, "the deployed version keeps its name");
    let row = "SELECT * FROM loans LIMIT 1";
    let reasons = |session: &mut Session, model: &str| -> Vec<String> {
        session.values(&format!(
            "SELECT e::text FROM ({row}) l, risk_explain('{model}', l) e ORDER BY rank"
        ))
    };
    let (bare, backup) = (reasons(&mut analyst, "m"), reasons(&mut analyst, "m@2"));
    assert_eq!(bare, backup, "a score is explained by the version that gave it");
    let json =
        "SELECT risk_score_json('m', to_jsonb(l)) = risk_score('m@2', l) FROM loans l LIMIT 1";
    assert!(analyst.value::<bool>(json));
    // Again is a notice; back is back.
    analyst.notices();
    analyst.run("SELECT riskft_fallback_start('m')");
    assert_eq!(analyst.notices()[0].message, "the fallback of model \"m\" is active already");
    analyst.run("SELECT riskft_fallback_stop('m', 'the feed is mended')");
    assert_eq!(score(&mut analyst, "m"), first);
    assert_eq!(analyst.values::<String>(STATE), Vec::<String>::new());
    analyst.run("SELECT riskft_fallback_stop('m')");
    assert_eq!(analyst.notices()[0].message, "the fallback of model \"m\" is not active");
    assert_eq!(
        actions(&mut analyst),
        ["fallback_start 2 the feed is broken", "fallback_stop 2 the feed is mended"]
    );
}

#[test]
fn a_switch_is_seen_as_the_transaction_says() {
    let (database, mut analyst) = two_versions("backup");
    let (first, second) = (score(&mut analyst, "m@1"), score(&mut analyst, "m@2"));
    let mut reader = database.analyst();
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(score(&mut reader, "m"), first);
    analyst.run("BEGIN; SELECT riskft_fallback_start('m')");
    assert_eq!(score(&mut analyst, "m"), second);
    assert_eq!(score(&mut database.analyst(), "m"), first, "not committed yet");
    analyst.run("ROLLBACK");
    assert_eq!(score(&mut analyst, "m"), first);
    analyst.run("SELECT riskft_fallback_start('m')");
    assert_eq!(score(&mut reader, "m"), first, "a snapshot keeps its version");
    reader.run("COMMIT");
    assert_eq!(score(&mut reader, "m"), second);
    // What is deployed meanwhile scores when the fallback is over; trainings compare with it.
    analyst.run("SELECT riskft_deploy('m', 2); SELECT riskft_deploy('m', 1)");
    assert_eq!(score(&mut analyst, "m"), second);
}

#[test]
fn a_rule_switches_when_drift_is_measured_and_never_back() {
    let (_database, mut analyst) = two_versions("backup");
    analyst.run("SELECT riskft_fallback('m', 'psi > 100 or (csi(amount) > 0.25 and rows > 10)', 'policy 4')");
    analyst.run("SELECT riskft_monitor('m', 'loans')");
    assert_eq!(
        analyst.values::<String>(STATE),
        ["f 2 1 psi > 100 or (csi(amount) > 0.25 and rows > 10)"]
    );
    // A point of a version that is not deployed says nothing of the champion.
    analyst.run("CREATE TABLE shifted AS SELECT * FROM loans WHERE amount > 700");
    analyst.run("SELECT riskft_monitor('m@2', 'shifted')");
    assert!(analyst.value::<bool>("SELECT NOT active FROM riskft.fallbacks"));
    analyst.notices();
    analyst.run("SELECT riskft_monitor('m', 'shifted')");
    let said = analyst.notices();
    let warning =
        said.iter().find(|n| n.message == "model \"m\" scores by its alias backup from now on");
    let detail = warning.map(|n| n.detail.clone()).unwrap_or_else(|| panic!("{said:?}"));
    assert!(detail.contains("csi(\"amount\") "), "{detail}");
    assert!(analyst.value::<bool>("SELECT active FROM riskft.fallbacks"));
    assert_eq!(score(&mut analyst, "m"), score(&mut analyst, "m@2"));
    // Normal rows do not switch back, and the rule does not fire twice.
    analyst.run("SELECT riskft_monitor('m', 'loans'); SELECT riskft_monitor('m', 'shifted')");
    assert!(analyst.value::<bool>("SELECT active FROM riskft.fallbacks"));
    let done = actions(&mut analyst);
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(done[1].starts_with("fallback_start 2 psi "), "{done:?}");
    assert!(done[1].ends_with("where the rule is psi > 100 or (csi(amount) > 0.25 and rows > 10)"));
    // The rule outlives the switch back, and NULL takes it away.
    analyst.run("SELECT riskft_fallback_stop('m'); SELECT riskft_fallback('m', NULL)");
    assert_eq!(analyst.values::<String>(STATE), Vec::<String>::new());
}

#[test]
fn outcomes_decide_where_they_are_known() {
    let (_database, mut analyst) = two_versions("backup");
    analyst.run("CREATE TABLE turned AS SELECT l.*, NOT defaulted AS paid FROM loans l");
    analyst.run("SELECT riskft_fallback('m', 'auc < 0.5')");
    analyst.run("SELECT riskft_monitor('m', 'turned')");
    assert!(
        analyst.value::<bool>("SELECT NOT active FROM riskft.fallbacks"),
        "unknown is not true"
    );
    analyst.run("SELECT riskft_monitor('m', 'turned', target => 'paid')");
    assert!(analyst.value::<bool>("SELECT active FROM riskft.fallbacks"));
}

#[test]
fn who_may_not_deploy_switches_nothing() {
    let (database, mut analyst) = two_versions("backup");
    let watcher = database.role("watcher");
    analyst.run(&format!(
        "GRANT SELECT ON loans TO {watcher}; SELECT riskft_grant('m', '{watcher}', 'train')"
    ));
    analyst.run(&format!("SELECT riskft_grant('m', '{watcher}', 'score')"));
    analyst.run("SELECT riskft_fallback('m', 'rows > 0')");
    let mut session = database.user(&watcher);
    for call in [
        "SELECT riskft_fallback('m', 'psi > 1')",
        "SELECT riskft_fallback_start('m')",
        "SELECT riskft_fallback_stop('m')",
    ] {
        refuses(&mut session, call, "42501");
    }
    session.notices();
    session.run("SELECT riskft_monitor('m', 'loans')");
    let said = session.notices();
    let message = "the fallback rule of model \"m\" holds, but it is not switched";
    assert!(said.iter().any(|n| n.message == message), "{said:?}");
    assert!(analyst.value::<bool>("SELECT NOT active FROM riskft.fallbacks"));
    // Likewise where there is nothing to switch to; the point is kept.
    analyst.run("SELECT riskft_drop_alias('m', 'backup')");
    analyst.notices();
    let points = "SELECT count(DISTINCT point) FROM riskft.drift_history";
    let before: i64 = analyst.value(points);
    analyst.run("SELECT riskft_monitor('m', 'loans')");
    assert!(analyst.notices().iter().any(|n| n.message == message));
    assert_eq!(analyst.value::<i64>(points), before + 1);
}

#[test]
fn a_backup_in_use_stays() {
    let (database, mut analyst) = two_versions("backup");
    analyst.run("SELECT riskft_fallback_start('m')");
    let error = refuses(&mut analyst, "SELECT riskft_drop_alias('m', 'backup')", "55000");
    assert_eq!(error.message(), "alias \"backup\" is in use");
    // Four eyes hold for the backup as for what is deployed.
    analyst.run("SELECT riskft_fallback_stop('m')");
    database
        .superuser()
        .run(&format!("ALTER DATABASE {} SET riskft.require_approval = on", database.name()));
    let mut analyst = database.analyst();
    let error = refuses(&mut analyst, "SELECT riskft_fallback_start('m')", "55000");
    assert_eq!(error.message(), "version 2 of model \"m\" is not approved");
    // With the model goes its fallback.
    analyst.run("SELECT riskft_fallback('m', 'psi > 1'); SELECT riskft_drop('m')");
    let left: i64 = database.superuser().value("SELECT count(*) FROM riskft.fallback");
    assert_eq!(left, 0);
}

#[test]
fn bad_calls_are_clear_errors() {
    let (_database, mut analyst) = two_versions("backup");
    for (call, code, message) in [
        ("riskft_fallback(NULL, 'psi > 1')", "22004", "model must not be null"),
        ("riskft_fallback('n', 'psi > 1')", "42704", "model \"n\" does not exist"),
        ("riskft_fallback('m', 'psi >')", "42601", "syntax error in rule"),
        (
            "riskft_fallback('m', 'delete from loans')",
            "22023",
            "\"delete\" is no quantity of a rule",
        ),
        (
            "riskft_fallback('m', 'csi(nothing) > 1')",
            "42703",
            "column \"nothing\" of the rule is not watched",
        ),
        ("riskft_fallback_start(NULL)", "22004", "model must not be null"),
        ("riskft_fallback_stop('n')", "42704", "model \"n\" does not exist"),
    ] {
        let error = refuses(&mut analyst, &format!("SELECT {call}"), code);
        assert_eq!(error.message(), message, "{call}");
    }
    analyst.run("SELECT riskft_drop_alias('m', 'backup')");
    let error = refuses(&mut analyst, "SELECT riskft_fallback_start('m')", "55000");
    assert_eq!(error.message(), "model \"m\" has no alias backup");
    analyst.run("SET default_transaction_read_only = on");
    fails(&mut analyst, "SELECT riskft_fallback_start('m')", "25006");
}

/// The backup takes the place of both arms, and a score table follows what the bare name means.
#[test]
fn a_fallback_goes_before_a_test_of_versions() {
    let (_database, mut analyst) = two_versions("backup");
    analyst.run(&small_training("m", "loans", "\"seed\": 5, \"deploy\": \"never\", "));
    analyst.run("SELECT riskft_ab_start('m', '3', share => 1, key => 'loan_id')");
    let third = score(&mut analyst, "m@3");
    assert_eq!(score(&mut analyst, "m"), third);
    let kept = |session: &mut Session| -> i32 {
        session.run("CALL riskft_score_table('m', 'loans', 'kept', key => 'loan_id')");
        session.value("SELECT DISTINCT version FROM kept")
    };
    assert_eq!(kept(&mut analyst), 1, "a table is scored by one version");
    analyst.run("SELECT riskft_fallback_start('m')");
    let second = score(&mut analyst, "m@2");
    assert_eq!(score(&mut analyst, "m"), second);
    assert_eq!(kept(&mut analyst), 2);
    analyst.run("SELECT riskft_fallback_stop('m')");
    assert_eq!(score(&mut analyst, "m"), third, "the test goes on");
    assert_eq!(kept(&mut analyst), 1);
}
