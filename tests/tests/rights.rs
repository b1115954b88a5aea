//! Who may do what with a model: its owner, whom the owner granted it, and nobody else.

use std::time::Duration;

use riskft_tests::fixture::{small_model, small_training};
use riskft_tests::{fails, process, refuses, Session};

const SCORE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";

fn train(model: &str, options: &str) -> String {
    small_training(model, "loans", options)
}

fn messages(session: &mut Session) -> String {
    session.notices().iter().map(|n| format!("{}\n{}\n", n.message, n.detail)).collect()
}

/// What can be done with a model, and the privilege that allows it; None is for owners.
const ACTIONS: &[(&str, Option<&str>)] = &[
    (SCORE, Some("score")),
    ("SELECT risk_score('m@1', l) FROM loans l WHERE loan_id = 7", Some("score")),
    ("SELECT risk_score_json('m', '{\"amount\": 5, \"grade\": \"a\"}')", Some("score")),
    ("SELECT * FROM riskft_evaluate('m', 'loans', 'defaulted')", Some("score")),
    ("SELECT * FROM riskft_drift('m', 'loans')", Some("score")),
    ("SELECT e.* FROM loans l, risk_explain('m', l) e WHERE loan_id = 7", Some("score")),
    ("SELECT r.* FROM loans l, risk_reasons('m', l) r WHERE loan_id = 7", Some("score")),
    ("SELECT risk_points('m', l) FROM loans l WHERE loan_id = 7", Some("score")),
    ("SELECT risk_grade('m', l) FROM loans l WHERE loan_id = 7", Some("score")),
    ("SELECT * FROM riskft_importance('m')", Some("score")),
    ("SELECT * FROM riskft_effect('m', 'amount')", Some("score")),
    ("SELECT * FROM riskft_compare('m', '1', '2', 'loans', 'defaulted')", Some("score")),
    ("SELECT riskft_ab_arm('m', 7)", Some("score")),
    ("SELECT risk_score_both('m', l) FROM loans l WHERE loan_id = 7", Some("score")),
    (
        "SELECT riskft_ab_start('m', '1', 0.5, 'loan_id'); SELECT riskft_ab_stop('m')",
        Some("deploy"),
    ),
    ("TRAIN", Some("train")),
    ("SELECT riskft_deploy('m', 1)", Some("deploy")),
    ("SELECT riskft_rollback('m')", Some("deploy")),
    ("SELECT riskft_set_alias('m', 'a', 1); SELECT riskft_drop_alias('m', 'a')", Some("deploy")),
    ("SELECT riskft_approve('m', 1)", Some("deploy")),
    ("SELECT riskft_grant('m', 'public', 'score')", None),
    ("SELECT riskft_revoke('m', 'public', 'score')", None),
    ("SELECT riskft_set_owner('m', CURRENT_USER::text)", None),
    ("SELECT riskft_drop('m')", None),
];

#[test]
fn each_privilege_allows_its_own_and_nothing_else() {
    let (database, mut analyst) = small_model();
    analyst.run(&train("m", "\"deploy\": \"always\", "));
    database.superuser().run("INSERT INTO riskft.grade (grade, at_least) VALUES ('any', 0)");
    let role = database.role("low");
    let mut low = database.user(&role);
    for granted in [None, Some("score"), Some("train"), Some("deploy")] {
        if let Some(privilege) = granted {
            analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{privilege}')"));
        }
        for (action, needs) in ACTIONS {
            let action = action.replace("TRAIN", &train("m", ""));
            low.run("BEGIN");
            if needs.is_some() && *needs == granted {
                low.run(&action);
                low.run("ROLLBACK");
            } else {
                let error = refuses(&mut low, &action, "42501");
                assert!(error.message().contains("model m"), "{action}: {error:?}");
            }
        }
        if let Some(privilege) = granted {
            analyst.run(&format!("SELECT riskft_revoke('m', '{role}', '{privilege}')"));
        }
    }
    let error = refuses(&mut low, SCORE, "42501");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains(&format!("riskft_grant('m', '{role}', 'score')")), "{hint}");
}

/// `deploy => always` without the right is refused before anything is read; otherwise the version
/// is stored, and a NOTICE tells why it is not deployed.
#[test]
fn a_grantee_trains_but_does_not_deploy() {
    let (database, mut analyst) = small_model();
    let role = database.role("trainer");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'train')"));
    let mut low = database.user(&role);
    let always = train("m", "\"deploy\": \"always\", ").replace("'loans'", "'no_such_table'");
    refuses(&mut low, &always, "42501");
    let queued = always.replace("method =>", "wait => false, method =>");
    refuses(&mut low, &queued, "42501");
    let deployed = "SELECT deployed_version FROM riskft.models WHERE model = 'm'";
    // Some seed makes a version that is not worse.
    let told = (1..=8).any(|seed| {
        low.run(&train("m", &format!("\"seed\": {seed}, ")));
        let said = messages(&mut low);
        assert!(said.contains("is stored but not deployed"), "{said}");
        said.contains(&format!("role \"{role}\" has no privilege deploy on it"))
    });
    assert!(told, "no NOTICE names the missing privilege");
    assert_eq!(analyst.value::<i32>(deployed), 1);
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'deploy')"));
    low.run(&train("m", "\"deploy\": \"always\", "));
    let last: i32 = low.value("SELECT max(version) FROM riskft.versions WHERE model = 'm'");
    assert_eq!(analyst.value::<i32>(deployed), last);
    // The model stays its owner's, and a queued run has the same rights.
    assert_eq!(low.value::<String>("SELECT owner FROM riskft.models"), "analyst");
    let queued = train("m", "").replace("method =>", "wait => false, method =>");
    let run: i64 = low.query_one(&queued, &[]).unwrap().get("run");
    let revoked = format!("SELECT riskft_revoke('m', '{role}', 'train')");
    assert_eq!(low.value::<String>(&format!("SELECT riskft_wait({run})")), "done");
    analyst.run(&revoked);
    refuses(&mut low, &queued, "42501");
}

#[test]
fn grants_are_checked() {
    let (database, mut analyst) = small_model();
    let role = database.role("grantee");
    for function in ["riskft_grant", "riskft_revoke"] {
        for (arguments, code, word) in [
            (format!("'none', '{role}', 'score'"), "42704", "none"),
            (format!("'m', '{role}', 'scroe'"), "22023", "scroe"),
            (format!("'m', '{role}', 'SCORE'"), "22023", "SCORE"),
            (format!("NULL, '{role}', 'score'"), "22004", "model"),
            ("'m', NULL, 'score'".to_owned(), "22004", "role"),
            (format!("'m', '{role}', NULL"), "22004", "privilege"),
        ] {
            let error = refuses(&mut analyst, &format!("SELECT {function}({arguments})"), code);
            let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
            assert!(told.contains(word), "{arguments}: {told}");
        }
        analyst.run("BEGIN READ ONLY");
        fails(&mut analyst, &format!("SELECT {function}('m', '{role}', 'score')"), "25006");
    }
    refuses(&mut analyst, "SELECT riskft_grant('m', 'no_such_role', 'score')", "42704");
    refuses(&mut analyst, "SELECT riskft_set_owner('m', 'no_such_role')", "42704");
    refuses(&mut analyst, "SELECT riskft_set_owner('m', NULL)", "22004");
    for (sql, notice) in [
        ("SELECT riskft_grant('m', 'ROLE', 'score')", ""),
        ("SELECT riskft_grant('m', 'ROLE', 'score')", "already has privilege score"),
        ("SELECT riskft_revoke('m', 'ROLE', 'train')", "was not granted privilege train"),
        ("SELECT riskft_revoke('m', 'ROLE', 'score')", ""),
        ("SELECT riskft_revoke('m', 'ROLE', 'score')", "was not granted privilege score"),
        ("SELECT riskft_revoke('m', 'no_such_role', 'score')", "was not granted"),
        ("SELECT riskft_grant('m', 'PUBLIC', 'score')", ""),
        ("SELECT riskft_grant('m', 'public', 'score')", "already has privilege score"),
    ] {
        analyst.run(&sql.replace("ROLE", &role));
        let told = messages(&mut analyst);
        assert!(told.contains(notice) && told.is_empty() == notice.is_empty(), "{sql}: {told}");
    }
    // A grant that is rolled back was never given.
    analyst.run("SELECT riskft_revoke('m', 'public', 'score')");
    analyst.run(&format!("BEGIN; SELECT riskft_grant('m', '{role}', 'score')"));
    analyst.run("ROLLBACK");
    refuses(&mut database.user(&role), SCORE, "42501");
}

/// The call site of a prepared statement or of PL/pgSQL keeps what it resolved; not the right.
#[test]
fn a_revoke_is_seen_by_the_next_statement() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let give = format!("SELECT riskft_grant('m', '{role}', 'score')");
    let take = format!("SELECT riskft_revoke('m', '{role}', 'score')");
    let mut superuser = database.superuser();
    superuser.run(&format!("GRANT {role} TO analyst"));
    analyst.run(
        "CREATE FUNCTION expression() RETURNS float8 LANGUAGE plpgsql AS $f$
         DECLARE l loans; p float8;
         BEGIN l.amount := 5; l.grade := 'a'; p := risk_score('m', l); RETURN p; END $f$",
    );
    let mut low = database.user(&role);
    low.run(&format!("PREPARE scoring AS {SCORE}"));
    for sql in ["EXECUTE scoring", "SELECT expression()", SCORE] {
        refuses(&mut low, sql, "42501");
        analyst.run(&give);
        low.run(&format!("{sql}; {sql}"));
        analyst.run(&take);
        refuses(&mut low, sql, "42501");
        analyst.run(&give);
        low.run(&format!("BEGIN; {sql}"));
        analyst.run(&take);
        let error = low.batch_execute(sql).unwrap_err();
        assert_eq!(error.code().map(|c| c.code()), Some("42501"), "{sql}");
        low.run("ROLLBACK");
        // Grant and revoke within one transaction of the owner, who may take the role on.
        analyst.run(&format!(
            "BEGIN; {give}; SET LOCAL ROLE {role}; {sql_}; SET LOCAL ROLE analyst;
            {take}; SET LOCAL ROLE {role}",
            sql_ = sql.replace("EXECUTE scoring", SCORE)
        ));
        fails(&mut analyst, &sql.replace("EXECUTE scoring", SCORE), "42501");
    }
}

#[test]
fn membership_counts_as_the_servers_own_grants_do() {
    let (database, mut analyst) = small_model();
    let (group, member) = (database.role("risk"), database.role("member"));
    let (apart, stranger) = (database.role("apart"), database.role("stranger"));
    let mut superuser = database.superuser();
    superuser.run(&format!("GRANT {group} TO {member}, {apart}; ALTER ROLE {apart} NOINHERIT"));
    analyst.run(&format!("SELECT riskft_grant('m', '{group}', 'score')"));
    let mut inherits = database.user(&member);
    inherits.run(SCORE);
    let mut apart = database.user(&apart);
    refuses(&mut apart, SCORE, "42501");
    assert_eq!(apart.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    // SET ROLE changes what may be scored, within a session and within a transaction.
    apart.run(&format!("SET ROLE {group}; {SCORE}; RESET ROLE"));
    refuses(&mut apart, SCORE, "42501");
    apart.run(&format!("BEGIN; SET LOCAL ROLE {group}; {SCORE}; RESET ROLE"));
    refuses(&mut apart, SCORE, "42501");
    apart
        .run(&format!("PREPARE scoring AS {SCORE}; SET ROLE {group}; EXECUTE scoring; RESET ROLE"));
    refuses(&mut apart, "EXECUTE scoring", "42501");
    superuser.run(&format!("REVOKE {group} FROM {member}"));
    refuses(&mut inherits, SCORE, "42501");
    // PUBLIC is every role, and only for that privilege.
    let mut stranger = database.user(&stranger);
    refuses(&mut stranger, SCORE, "42501");
    analyst.run("SELECT riskft_grant('m', 'public', 'score')");
    stranger.run(SCORE);
    refuses(&mut stranger, "SELECT riskft_deploy('m', 1)", "42501");
    // Members of the owner own the model as well; superusers always do.
    superuser.run(&format!("GRANT analyst TO {member}"));
    inherits.run("SELECT riskft_deploy('m', 1)");
    superuser.run(SCORE);
}

#[test]
fn a_model_changes_hands() {
    let (database, mut analyst) = small_model();
    let (heir, other) = (database.role("heir"), database.role("other"));
    let mut superuser = database.superuser();
    let give = format!("SELECT riskft_set_owner('m', '{heir}')");
    refuses(&mut analyst, &give, "42501");
    let mut heir_session = database.user(&heir);
    refuses(&mut heir_session, &give, "42501");
    superuser.run(&format!("GRANT {heir} TO analyst"));
    analyst.run(&format!("SELECT riskft_grant('m', '{other}', 'score')"));
    analyst.run(&give);
    superuser.run(&format!("REVOKE {heir} FROM analyst"));
    refuses(&mut analyst, SCORE, "42501");
    heir_session.run(SCORE);
    // Its grants and its past go with the model.
    database.user(&other).run(SCORE);
    assert_eq!(heir_session.value::<i64>("SELECT count(*) FROM riskft.runs"), 1);

    // Owners and grantees are names: a renamed role has lost both, until they are given again.
    superuser.run(&format!("ALTER ROLE {heir} RENAME TO {heir}_new; DROP ROLE {other}"));
    refuses(&mut database.user(&format!("{heir}_new")), SCORE, "42501");
    let orphaned: Vec<String> = superuser.values("SELECT model FROM riskft.models");
    assert_eq!(orphaned, ["m"]);
    superuser.run(SCORE);
    superuser.run(&format!("SELECT riskft_set_owner('m', '{heir}_new')"));
    let mut heir_session = database.user(&format!("{heir}_new"));
    heir_session.run(SCORE);
    heir_session.run(&format!("SELECT riskft_revoke('m', '{other}', 'score')"));
    assert!(heir_session.notices().is_empty());
    assert_eq!(heir_session.value::<i64>("SELECT count(*) FROM riskft.privileges"), 0);
}

#[test]
fn a_rollback_undoes_deployments_one_by_one() {
    let (database, mut analyst) = small_model();
    refuses(&mut analyst, "SELECT riskft_rollback('m')", "55000");
    refuses(&mut analyst, "SELECT riskft_rollback('none')", "42704");
    refuses(&mut analyst, "SELECT riskft_rollback(NULL)", "22004");
    let never = "\"deploy\": \"never\", ";
    analyst.run(&format!("{}; {}", train("m", never), train("m", never)));
    refuses(&mut analyst, "SELECT riskft_rollback('m')", "55000");
    let kept: Vec<f64> = analyst.values("SELECT risk_score('m', l) FROM loans l ORDER BY loan_id");
    let role = database.role("keeper");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'deploy')"));
    let mut keeper = database.user(&role);
    analyst.run("SELECT riskft_deploy('m', 2); SELECT riskft_deploy('m', 2)");
    keeper.run("SELECT riskft_deploy('m', 3)");
    let deployed = "SELECT deployed_version FROM riskft.models";
    assert_eq!(keeper.value::<i32>("SELECT riskft_rollback('m')"), 2);
    assert_eq!(analyst.value::<i32>(deployed), 2);
    assert_eq!(keeper.value::<i32>("SELECT riskft_rollback('m')"), 1);
    assert_eq!(analyst.value::<i32>(deployed), 1);
    refuses(&mut keeper, "SELECT riskft_rollback('m')", "55000");
    let again: Vec<f64> = analyst.values("SELECT risk_score('m', l) FROM loans l ORDER BY loan_id");
    assert_eq!(kept, again);
    analyst.run("SELECT riskft_deploy('m', 3)");
    assert_eq!(analyst.value::<i32>("SELECT riskft_rollback('m')"), 1);
    let history: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', version, action, split_part(role, '_', 1)) FROM riskft.deployments
         ORDER BY deployed_at",
    );
    assert_eq!(
        history,
        [
            "1 deploy analyst",
            "2 deploy analyst",
            "3 deploy keeper",
            "2 rollback keeper",
            "1 rollback keeper",
            "3 deploy analyst",
            "1 rollback analyst"
        ]
    );
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, "SELECT riskft_rollback('m')", "25006");
    // What was rolled back with its transaction is no deployment.
    analyst.run("BEGIN; SELECT riskft_deploy('m', 2); ROLLBACK");
    refuses(&mut analyst, "SELECT riskft_rollback('m')", "55000");
}

/// A right is part of what a snapshot shows: as documented in docs/security.md.
#[test]
fn a_kept_snapshot_keeps_its_rights() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    let mut low = database.user(&role);
    low.run(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {SCORE}"));
    analyst.run(&format!("SELECT riskft_revoke('m', '{role}', 'score')"));
    low.run(SCORE);
    low.run("COMMIT");
    refuses(&mut low, SCORE, "42501");
}

#[test]
fn parallel_workers_ask_for_the_same_rights() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    low.run(
        "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0;
         SET parallel_tuple_cost = 0; SET parallel_leader_participation = off",
    );
    let all = "SELECT risk_score('m', l) AS p, loan_id FROM loans l";
    let plan: Vec<String> = low.values(&format!("EXPLAIN {all}"));
    assert!(plan[0].starts_with("Gather"), "{plan:?}");
    refuses(&mut low, all, "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    let sorted = format!("SELECT p FROM ({all} OFFSET 0) s ORDER BY loan_id");
    let parallel: Vec<f64> = low.values(&sorted);
    assert_eq!(parallel, analyst.values::<f64>(&sorted));
}

/// New models are anybody's to train, until the procedure itself is closed.
#[test]
fn training_can_be_closed_to_most() {
    let (database, _analyst) = small_model();
    let (inside, outside) = (database.role("inside"), database.role("outside"));
    database.superuser().run(&format!(
        "REVOKE EXECUTE ON PROCEDURE riskft_train FROM PUBLIC;
         GRANT EXECUTE ON PROCEDURE riskft_train TO {inside}"
    ));
    fails(&mut database.user(&outside), &train("own", ""), "42501");
    database.user(&inside).run(&train("own", ""));
}

/// Who waits for another session's drop to commit is told that there is no such model.
#[test]
fn a_model_dropped_meanwhile_is_unknown() {
    let (database, mut analyst) = small_model();
    analyst.run(&train("m", "\"deploy\": \"always\", "));
    analyst.run("BEGIN; SELECT riskft_drop('m')");
    let waiting: Vec<_> = [
        "SELECT riskft_grant('m', 'public', 'score')",
        "SELECT riskft_deploy('m', 1)",
        "SELECT riskft_rollback('m')",
        "SELECT riskft_set_alias('m', 'a', 1)",
        "SELECT riskft_drop_alias('m', 'a')",
        "SELECT riskft_set_owner('m', 'analyst')",
        "SELECT riskft_drop('m')",
    ]
    .into_iter()
    .map(|sql| {
        let mut session = database.analyst();
        std::thread::spawn(move || {
            refuses(&mut session, sql, "42704");
        })
    })
    .collect();
    let blocked = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut superuser = database.superuser();
    let all_wait = process::await_true(Duration::from_secs(20), || {
        superuser.value::<i64>(blocked) == waiting.len() as i64
    });
    assert!(all_wait, "{} of {} wait", superuser.value::<i64>(blocked), waiting.len());
    analyst.run("COMMIT");
    for thread in waiting {
        assert!(thread.join().is_ok());
    }
}
