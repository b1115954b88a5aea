//! Deployments, aliases and approvals: what the bare name and `model@alias` mean, to whom and when.

use std::thread;
use std::time::Duration;

use riskft_tests::fixture::{small_model, small_training};
use riskft_tests::{fails, process, refuses, Cluster, Database, Session};

const ONE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";
const BY_ALIAS: &str = "SELECT risk_score('m@challenger', l) FROM loans l WHERE loan_id = 7";
const PATIENCE: Duration = Duration::from_secs(30);

/// [`small_model`] with versions 2 and 3 beside the deployed 1; and the score of one loan by each.
fn three_versions() -> (Database<'static>, Session, Vec<f64>) {
    let (database, mut analyst) = small_model();
    for seed in [5, 9] {
        let options = format!("\"seed\": {seed}, \"deploy\": \"never\", ");
        analyst.run(&small_training("m", "loans", &options));
    }
    analyst.notices();
    let pinned = |version: i32| ONE.replace("'m'", &format!("'m@{version}'"));
    let scores: Vec<f64> = (1..=3).map(|v| analyst.value(&pinned(v))).collect();
    assert!(scores[0] != scores[1] && scores[1] != scores[2] && scores[0] != scores[2]);
    (database, analyst, scores)
}

fn set(alias: &str, version: i32) -> String {
    format!("SELECT riskft_set_alias('m', '{alias}', {version})")
}

fn told(session: &mut Session) -> String {
    session.notices().iter().map(|n| format!("{}\n{}\n", n.message, n.detail)).collect()
}

#[test]
fn an_alias_is_taken_by_every_function() {
    let (_database, mut analyst, scores) = three_versions();
    analyst.run(&set("challenger", 2));
    assert_eq!(analyst.value::<f64>(BY_ALIAS), scores[1]);
    analyst.run(
        "INSERT INTO loans SELECT 1000 + i, i, 'a', i % 2 = 0 FROM generate_series(1, 50) i;
         CREATE VIEW one AS SELECT * FROM loans WHERE loan_id = 7",
    );
    for query in [
        "SELECT risk_score('MODEL', l)::text FROM one l",
        "SELECT risk_score_json('MODEL', to_jsonb(l))::text FROM one l",
        "SELECT string_agg(e::text, ' ') FROM one l, risk_explain('MODEL', l) e",
        "SELECT string_agg(r::text, ' ') FROM one l, risk_reasons('MODEL', l) r",
        "SELECT risk_points('MODEL', l)::text FROM one l",
        "SELECT string_agg(i::text, ' ') FROM riskft_importance('MODEL') i",
        "SELECT string_agg(e::text, ' ') FROM riskft_effect('MODEL', 'amount') e",
        "SELECT string_agg(e::text, ' ') FROM riskft_evaluate('MODEL', 'loans', 'defaulted') e",
        "SELECT md5(riskft_export_model('MODEL'))",
        "SELECT riskft_plot('MODEL', 'calibration')",
    ] {
        let mut of = |model: &str| -> String { analyst.value(&query.replace("MODEL", model)) };
        let by_alias = of("m@challenger");
        assert_eq!(by_alias, of("m@2"), "{query}");
        assert_ne!(by_alias, of("m"), "{query}");
        assert_eq!(of("m@champion"), of("m"), "{query}");
    }
}

/// A cached plan, a PL/pgSQL expression and a parallel plan follow an alias with their next run.
#[test]
fn plans_follow_an_alias() {
    let (_database, mut analyst, scores) = three_versions();
    analyst.run(&set("challenger", 2));
    analyst.run(
        "CREATE FUNCTION expression() RETURNS float8 LANGUAGE plpgsql AS $f$
         DECLARE l loans; p float8;
         BEGIN
             SELECT * INTO l FROM loans WHERE loan_id = 7;
             p := risk_score('m@challenger', l); RETURN p;
         END $f$",
    );
    analyst.run("PREPARE scoring AS SELECT risk_score($1, l) FROM loans l WHERE loan_id = 7");
    let queries = [BY_ALIAS, "EXECUTE scoring('m@challenger')", "SELECT expression()"];
    for _ in 0..6 {
        queries.iter().for_each(|query| assert_eq!(analyst.value::<f64>(query), scores[1]));
    }
    analyst.run(&set("challenger", 3));
    queries.iter().for_each(|query| assert_eq!(analyst.value::<f64>(query), scores[2], "{query}"));
    analyst.run("BEGIN");
    analyst.run(&set("challenger", 1));
    queries.iter().for_each(|query| assert_eq!(analyst.value::<f64>(query), scores[0], "{query}"));
    analyst.run("ROLLBACK");
    queries.iter().for_each(|query| assert_eq!(analyst.value::<f64>(query), scores[2], "{query}"));
    analyst.run("SELECT riskft_drop_alias('m', 'challenger')");
    queries.iter().for_each(|query| {
        refuses(&mut analyst, query, "42704");
    });
    analyst.run(
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    );
    analyst.run(&set("challenger", 2));
    let sum = "SELECT sum(risk_score('MODEL', l))::numeric(20, 9)::text FROM loans l";
    let of_alias: String = analyst.value(&sum.replace("MODEL", "m@challenger"));
    assert_eq!(of_alias, analyst.value::<String>(&sum.replace("MODEL", "m@2")));
}

/// What another session has not committed, and what was rolled back, nobody has seen; a snapshot
/// that is kept keeps the version.
#[test]
fn changes_are_seen_with_their_transaction() {
    let (database, mut analyst, scores) = three_versions();
    analyst.run(&set("challenger", 2));
    let mut other = database.analyst();
    let mut kept = database.analyst();
    kept.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!((kept.value::<f64>(ONE), kept.value::<f64>(BY_ALIAS)), (scores[0], scores[1]));
    let both = |session: &mut Session| (session.value::<f64>(ONE), session.value::<f64>(BY_ALIAS));

    analyst.run("BEGIN; SELECT riskft_deploy('m', 3)");
    analyst.run(&set("challenger", 1));
    assert_eq!(both(&mut analyst), (scores[2], scores[0]));
    assert_eq!(both(&mut other), (scores[0], scores[1]), "not committed yet");
    analyst.run("ROLLBACK");
    assert_eq!(both(&mut analyst), (scores[0], scores[1]), "rolled back");
    assert_eq!(both(&mut other), (scores[0], scores[1]));
    let changes = "SELECT count(*) FROM riskft.audit WHERE action IN ('deploy', 'set_alias')";
    assert_eq!(other.value::<i64>(changes), 2, "the first deployment and the first alias");

    analyst.run("BEGIN; SELECT riskft_deploy('m', 3)");
    analyst.run(&format!("{}; COMMIT", set("challenger", 1)));
    assert_eq!(both(&mut other), (scores[2], scores[0]));
    assert_eq!(both(&mut kept), (scores[0], scores[1]), "a kept snapshot");
    assert_eq!(kept.value::<i32>("SELECT version FROM riskft.aliases WHERE alias = 'champion'"), 1);
    // Who wrote meanwhile wins; the kept snapshot cannot change what it does not see.
    fails(&mut kept, &set("challenger", 3), "40001");
    assert_eq!(both(&mut kept), (scores[2], scores[0]), "after the transaction");
    // A savepoint that is rolled back takes its change along.
    analyst.run("BEGIN; SELECT riskft_deploy('m', 2); SAVEPOINT s; SELECT riskft_rollback('m')");
    analyst.run("ROLLBACK TO s; COMMIT");
    assert_eq!(other.value::<f64>(ONE), scores[1]);
}

/// Two sessions that set one alias come one after the other, and both are in the audit.
#[test]
fn changes_of_one_alias_wait_for_each_other() {
    let (database, mut analyst, scores) = three_versions();
    analyst.run("BEGIN");
    analyst.run(&set("challenger", 2));
    let mut other = database.analyst();
    let waiting = thread::spawn(move || other.run(&set("challenger", 3)));
    let mut superuser = database.superuser();
    let blocked = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert!(process::await_true(PATIENCE, || superuser.value::<i64>(blocked) == 1));
    analyst.run("COMMIT");
    assert!(waiting.join().is_ok());
    assert_eq!(analyst.value::<f64>(BY_ALIAS), scores[2]);
    let changes: Vec<String> = analyst.values(
        "SELECT version || ' ' || coalesce(detail ->> 'before', 'none') FROM riskft.audit
         WHERE action = 'set_alias' ORDER BY entry",
    );
    assert_eq!(changes, ["2 none", "3 2"]);
}

#[test]
fn names_of_aliases_are_checked() {
    let (_database, mut analyst, scores) = three_versions();
    let long = "x".repeat(64);
    for bad in ["", "  ", "3", "007", "+3", "-3", "٣", "a@b", "@", "line\nbreak", long.as_str()] {
        let error = refuses(&mut analyst, &set(bad, 2), "22023");
        assert_eq!(error.message(), "invalid alias", "{bad}");
    }
    for good in [
        "o'clock",
        "\"quoted\"",
        "Herausforderer (größer)",
        "😀",
        "v2",
        "2024-Q1",
        "select",
        " x ",
        "m",
    ] {
        let quoted = good.replace('\'', "''");
        analyst.run(&set(&quoted, 2));
        let named = BY_ALIAS.replace("challenger", &quoted);
        assert_eq!(analyst.value::<f64>(&named), scores[1], "{good}");
        analyst.run(&format!("SELECT riskft_drop_alias('m', '{quoted}')"));
        refuses(&mut analyst, &named, "42704");
    }
    analyst.run(&set("x".repeat(63).as_str(), 3));
    analyst.run(&set("Challenger", 3));
    // Names are told apart by case; the nearest one is named.
    let error = refuses(&mut analyst, BY_ALIAS, "42704");
    assert_eq!(error.message(), "alias \"challenger\" of model \"m\" does not exist");
    assert!(error.hint().is_some_and(|h| h.contains("\"Challenger\"")), "{error:?}");
    let error = refuses(&mut analyst, &BY_ALIAS.replace("challenger", "champoin"), "42704");
    assert!(error.hint().is_some_and(|h| h.contains("\"champion\"")), "{error:?}");
    for (model, code, word) in [
        ("m@", "42704", "alias \"\""),
        ("m@4", "42704", "version 4"),
        ("m@0", "42704", "version 0"),
        ("m@99999999999999999999", "42704", "version 99999999999999999999"),
        ("m@-1", "42704", "alias \"-1\""),
        ("m@+3", "42704", "alias \"+3\""),
        ("m@3@2", "42704", "model \"m@3\""),
        ("@Challenger", "42704", "model \"\""),
        ("none@Challenger", "42704", "model \"none\""),
    ] {
        let error = refuses(&mut analyst, &ONE.replace("'m'", &format!("'{model}'")), code);
        assert!(error.message().contains(word), "{model}: {error:?}");
    }
    assert_eq!(analyst.value::<f64>(&ONE.replace("'m'", "'m@003'")), scores[2]);
}

#[test]
fn bad_calls_are_refused() {
    let (database, mut analyst, _) = three_versions();
    let long = "x".repeat(4097);
    for (sql, code, word) in [
        ("SELECT riskft_set_alias(NULL, 'a', 1)", "22004", "model"),
        ("SELECT riskft_set_alias('m', NULL, 1)", "22004", "alias"),
        ("SELECT riskft_set_alias('m', 'a', NULL)", "22004", "version"),
        ("SELECT riskft_set_alias('m', 'a', 4)", "42704", "version 4"),
        ("SELECT riskft_set_alias('m', 'a', -1)", "42704", "version -1"),
        ("SELECT riskft_set_alias('none', 'a', 1)", "42704", "none"),
        ("SELECT riskft_set_alias('m', 'champion', 1)", "42939", "champion"),
        ("SELECT riskft_drop_alias('m', 'champion')", "42939", "champion"),
        ("SELECT riskft_drop_alias('m', 'a')", "42704", "alias \"a\""),
        ("SELECT riskft_drop_alias(NULL, 'a')", "22004", "model"),
        ("SELECT riskft_drop_alias('m', NULL)", "22004", "alias"),
        ("SELECT riskft_approve(NULL, 1)", "22004", "model"),
        ("SELECT riskft_approve('m', NULL)", "22004", "version"),
        ("SELECT riskft_approve('m', 4)", "42704", "version 4"),
        ("SELECT riskft_approve('none', 1)", "42704", "none"),
        ("SELECT riskft_deploy('m', 4, 'why')", "42704", "version 4"),
        ("SELECT riskft_deploy('m', 2, 'LONG')", "22023", "reason"),
        ("SELECT riskft_rollback('m', 'LONG')", "22023", "reason"),
        ("SELECT riskft_set_alias('m', 'a', 2, 'LONG')", "22023", "reason"),
    ] {
        let error = refuses(&mut analyst, &sql.replace("LONG", &long), code);
        assert!(error.message().contains(word), "{sql}: {error:?}");
    }
    let error = refuses(&mut analyst, "SELECT riskft_set_alias('m', 'champion', 2)", "42939");
    assert!(error.hint().is_some_and(|h| h.contains("riskft_deploy('m', 2)")), "{error:?}");
    analyst.run("CALL riskft_reduce('pca', 'SELECT loan_id, amount FROM loans', 2)");
    for sql in [
        "SELECT riskft_set_alias('pca', 'a', 1)",
        "SELECT riskft_drop_alias('pca', 'a')",
        "SELECT riskft_approve('pca', 1)",
    ] {
        refuses(&mut analyst, sql, "42809");
    }
    for sql in [
        set("a", 2).as_str(),
        "SELECT riskft_drop_alias('m', 'a')",
        "SELECT riskft_approve('m', 1)",
        "SELECT riskft_deploy('m', 1, 'why')",
    ] {
        fails(&mut analyst, &format!("BEGIN READ ONLY; {sql}"), "25006");
    }
    // Privilege deploy alone sets aliases and approves.
    let role = database.role("low");
    let mut low = database.user(&role);
    let calls = [set("a", 2), "SELECT riskft_drop_alias('m', 'a')".to_owned()];
    for granted in ["score", "train"] {
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{granted}')"));
        for sql in calls.iter().map(String::as_str).chain(["SELECT riskft_approve('m', 1)"]) {
            refuses(&mut low, sql, "42501");
        }
    }
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'deploy')"));
    calls.iter().for_each(|sql| low.run(sql));
    low.run("SELECT riskft_approve('m', 1)");
}

#[test]
fn aliases_are_shown_with_the_champion() {
    let (_database, mut analyst, _) = three_versions();
    let shown = "SELECT concat_ws(' ', alias, version, role, reason) FROM riskft.aliases
                 WHERE model = 'm' ORDER BY alias";
    assert_eq!(
        analyst.values::<String>(shown),
        ["champion 1 analyst no version was deployed before"]
    );
    analyst.run("SELECT riskft_deploy('m', 2, 'ticket 12')");
    analyst.run("SELECT riskft_set_alias('m', 'shadow', 3, '  ')");
    assert_eq!(
        analyst.values::<String>(shown),
        ["champion 2 analyst ticket 12", "shadow 3 analyst"]
    );
    let reasons: Vec<Option<String>> =
        analyst.values("SELECT reason FROM riskft.deployments ORDER BY deployed_at");
    assert_eq!(reasons[1].as_deref(), Some("ticket 12"));
    // What it means already is no change.
    analyst.notices();
    analyst.run("SELECT riskft_deploy('m', 2, 'again')");
    assert!(told(&mut analyst).contains("is deployed already"));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.deployments"), 2);
    analyst.run("SELECT riskft_rollback('m', 'worse in Texas')");
    assert_eq!(
        analyst.values::<String>(shown),
        ["champion 1 analyst worse in Texas", "shadow 3 analyst"]
    );
    analyst.run("SELECT riskft_drop('m')");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.aliases"), 0);
}

/// A standby scores by alias, and follows its changes.
#[test]
fn a_standby_scores_by_alias() {
    let primary = Cluster::start();
    let database = Database::within(&primary);
    riskft_tests::fixture::small_loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"never\", "));
    analyst.run(&set("challenger", 2));
    let standby = primary.standby(&[]);
    standby.await_replay(&primary);
    let mut reader = standby.connect(database.name(), "analyst");
    let (here, there): (f64, f64) = (reader.value(BY_ALIAS), analyst.value(BY_ALIAS));
    assert_eq!(here.to_bits(), there.to_bits());
    assert_ne!(here, reader.value::<f64>(ONE));
    analyst.run(&set("challenger", 1));
    standby.await_replay(&primary);
    assert_eq!(reader.value::<f64>(BY_ALIAS), reader.value::<f64>(ONE));
    refuses(&mut reader, &BY_ALIAS.replace("challenger", "none"), "42704");
    for sql in [set("a", 1).as_str(), "SELECT riskft_drop_alias('m', 'challenger')"] {
        fails(&mut reader, sql, "25006");
    }
    reader.run("SELECT riskft_compare('m', 'champion', '2', 'loans', 'defaulted')");
    reader.run("SELECT * FROM riskft.audit");
}
