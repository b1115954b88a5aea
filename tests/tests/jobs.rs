//! Runs that do not wait: queued at COMMIT, run by a worker, watched, cancelled, never left as
//! running when nobody works on them.

use std::time::Duration;

use riskft_tests::{fails, fixture, process, refuses, Cluster, Database, Session};

const PATIENCE: Duration = Duration::from_secs(60);
const SMALL: &str = "method => 'none', wait => false, options =>
    '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}'";
/// Longer than any of these tests waits.
const LONG: &str = "method => 'none', wait => false, options =>
    '{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}'";

fn database(cluster: &Cluster, rows: usize) -> Database<'_> {
    let database = Database::within(cluster);
    fixture::loans(&database, rows);
    database
}

fn call(model: &str, how: &str) -> String {
    format!("CALL riskft_train('{model}', 'loans', 'defaulted', exclude => '{{loan_id}}', {how})")
}

/// Queues a training and returns its run.
fn queue(session: &mut Session, model: &str, how: &str) -> i64 {
    let row = session.query_one(&call(model, how), &[]).expect("queue a run");
    assert_eq!(row.get::<_, Option<i32>>("version"), None);
    row.get("run")
}

fn wait(session: &mut Session, run: i64) -> String {
    session.value(&format!("SELECT riskft_wait({run}, '2 minutes')"))
}

fn state(session: &mut Session, run: i64) -> String {
    session.value(&format!("SELECT state FROM riskft.runs WHERE run = {run}"))
}

/// Waits until the run trains; the worker's process id.
fn await_worker(session: &mut Session, run: i64) -> i32 {
    let mut found = None;
    process::await_true(PATIENCE, || {
        let pids = session.values::<i32>(&format!(
            "SELECT pid FROM riskft.progress WHERE run = {run} AND phase = 'network'"
        ));
        found = pids.first().copied();
        found.is_some()
    });
    found.expect("the run trains")
}

fn nothing_runs(session: &mut Session) {
    let ended = process::await_true(PATIENCE, || {
        session.value::<i64>("SELECT count(*) FROM riskft.progress") == 0
    });
    assert!(ended, "a run is still under way");
}

#[test]
fn a_queued_run_starts_at_commit_and_gives_the_same_scores() {
    let cluster = Cluster::start();
    let database = database(&cluster, 500);
    let mut analyst = database.analyst();
    let mut other = database.analyst();
    analyst.run("BEGIN");
    let run = queue(&mut analyst, "later", SMALL);
    let told = analyst.notices();
    assert!(told.iter().any(|n| n.message.contains("starts when this transaction commits")));
    // Nobody else sees it, and nobody works on it.
    assert_eq!(other.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    assert_eq!(other.value::<i64>("SELECT count(*) FROM riskft.progress"), 0);
    refuses(&mut other, &format!("SELECT riskft_wait({run})"), "42704");
    assert_eq!(state(&mut analyst, run), "queued");
    analyst.run("SAVEPOINT s");
    let error = analyst.query(&format!("SELECT riskft_wait({run})"), &[]).unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("55000"));
    analyst.run("ROLLBACK TO s; COMMIT");
    assert_eq!(wait(&mut analyst, run), "done");
    assert_eq!(state(&mut other, run), "done");

    analyst.run(&call("now", &SMALL.replace("false", "true")));
    let differing: i64 = analyst.value(
        "SELECT count(*) FROM loans l WHERE risk_score('later', l) IS DISTINCT FROM risk_score('now', l)",
    );
    assert_eq!(differing, 0);
    let versions: Vec<i64> =
        other.values("SELECT run FROM riskft.versions WHERE model = 'later' AND deployed");
    assert_eq!(versions, [run]);
    let notices: i32 =
        other.value(&format!("SELECT cardinality(notices) FROM riskft.runs WHERE run = {run}"));
    assert!(notices > 0, "the run keeps what it said");
    nothing_runs(&mut other);
}

#[test]
fn a_rolled_back_call_queues_nothing() {
    let database = database(riskft_tests::shared(), 300);
    let mut analyst = database.analyst();
    for end in ["ROLLBACK", "SAVEPOINT s; ROLLBACK TO s; COMMIT"] {
        let (before, after) = match end.split_once("; ROLLBACK TO") {
            Some((savepoint, rest)) => (savepoint, format!("ROLLBACK TO{rest}")),
            None => ("SELECT 1", end.to_owned()),
        };
        analyst.run(&format!("BEGIN; {before}"));
        let run = queue(&mut analyst, "m", SMALL);
        analyst.run(&after);
        refuses(&mut analyst, &format!("SELECT riskft_wait({run})"), "42704");
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    analyst.run("BEGIN");
    queue(&mut analyst, "m", SMALL);
    refuses(&mut analyst, "PREPARE TRANSACTION 'p'", "0A000");
    analyst.run("ROLLBACK");
}

#[test]
fn what_can_be_known_at_once_is_refused_at_once() {
    let database = database(riskft_tests::shared(), 300);
    let mut analyst = database.analyst();
    analyst.run("CREATE TEMP TABLE scratch AS SELECT * FROM loans");
    let train = |relation: &str, target: &str| {
        format!("CALL riskft_train('m', $$ {relation} $$, '{target}', {SMALL})")
    };
    for (relation, target, code) in [
        ("scratch", "defaulted", "0A000"),
        ("SELECT * FROM loans JOIN scratch USING (loan_id, defaulted)", "defaulted", "0A000"),
        ("nowhere", "defaulted", "42P01"),
        ("loans", "Defaulted", "42703"),
        ("DELETE FROM loans RETURNING *", "defaulted", "22023"),
    ] {
        let relation = relation.trim();
        refuses(&mut analyst, &train(relation, target), code);
    }
    fails(&mut analyst, &train("SELECT absent FROM loans", "defaulted"), "42703");
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &train("loans", "defaulted"), "25006");
    analyst.run("ROLLBACK");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    for (sql, code) in [
        ("SELECT riskft_wait(NULL)", "22004"),
        ("SELECT riskft_cancel(NULL)", "22004"),
        ("SELECT riskft_wait(-1)", "42704"),
        ("SELECT riskft_cancel(4711)", "42704"),
        ("CALL riskft_train('m', 'loans', 'defaulted', wait => NULL)", "22004"),
    ] {
        refuses(&mut analyst, sql, code);
    }
    let run = queue(&mut analyst, "m", SMALL);
    refuses(&mut analyst, &format!("SELECT riskft_wait({run}, '-1 second')"), "22023");
    assert_eq!(wait(&mut analyst, run), "done");
}

#[test]
fn a_failed_run_keeps_its_reason() {
    let database = database(riskft_tests::shared(), 300);
    let mut analyst = database.analyst();
    analyst.run("CREATE VIEW broken AS SELECT *, 1 / (employees - employees) AS x FROM loans");
    analyst.run("CREATE TABLE one_class AS SELECT employees, false AS defaulted FROM loans");
    for (relation, code) in [("broken", "22012"), ("one_class", "22023")] {
        let sql = format!("CALL riskft_train('m', '{relation}', 'defaulted', {SMALL})");
        let run: i64 = analyst.query_one(&sql, &[]).unwrap().get("run");
        assert_eq!(wait(&mut analyst, run), "failed");
        let row = analyst
            .query_one(
                "SELECT state, sqlstate, error, ended_at >= started_at AND started_at >= queued_at
                 FROM riskft.runs WHERE run = $1",
                &[&run],
            )
            .unwrap();
        assert_eq!(row.get::<_, String>(0), "failed");
        assert_eq!(row.get::<_, String>(1), code, "{}", row.get::<_, String>(2));
        assert_eq!(row.get::<_, Option<bool>>(3), Some(true));
        // It ended already: nothing to cancel.
        assert!(!analyst.value::<bool>(&format!("SELECT riskft_cancel({run})")));
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}

#[test]
fn runs_are_watched_and_cancelled_from_other_sessions() {
    let cluster = Cluster::start();
    cluster.superuser().run(
        "CREATE ROLE stranger LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
         CREATE ROLE operator LOGIN IN ROLE pg_signal_backend",
    );
    let database = database(&cluster, 2_000);
    let mut analyst = database.analyst();
    let run = queue(&mut analyst, "m", LONG);
    let worker = await_worker(&mut analyst, run);
    let trainer = process::trainer_of(worker).expect("the worker has a trainer");
    assert_eq!(state(&mut analyst, run), "running");
    assert_eq!(
        analyst.value::<String>(&format!("SELECT riskft_wait({run}, '200 milliseconds')")),
        "running"
    );
    // A training holds no snapshot while the trainer works.
    let held: bool = database.superuser().value(&format!(
        "SELECT backend_xmin IS NOT NULL OR xact_start IS NOT NULL FROM pg_stat_activity WHERE pid = {worker}"
    ));
    assert!(!held, "the worker holds a snapshot while it trains");
    let figures = process::await_true(PATIENCE, || {
        analyst.value::<bool>(
            "SELECT bool_or(epoch > 1 AND loss > 0 AND validation_auc > 0 AND total >= done
                    AND elapsed >= '0' AND model = 'm' AND owner = 'analyst')
             FROM riskft.progress",
        )
    });
    let shown: Vec<String> = analyst.values("SELECT p::text FROM riskft.progress p");
    assert!(figures, "progress shows the figures of the epochs: {shown:?}");
    let seen = |role: &str| {
        database.user(role).value::<i64>("SELECT count(*) FROM riskft.progress WHERE pid > 0")
    };
    assert_eq!((seen("stranger"), seen("watcher"), seen("postgres")), (0, 1, 1));
    for sql in [format!("SELECT riskft_cancel({run})"), format!("SELECT riskft_wait({run})")] {
        refuses(&mut database.user("stranger"), &sql, "42501");
    }
    assert!(database.user("operator").value::<bool>(&format!("SELECT riskft_cancel({run})")));
    assert!(process::await_end(trainer, PATIENCE) && process::await_end(worker, PATIENCE));
    assert_eq!(wait(&mut analyst, run), "cancelled");
    assert_eq!(
        analyst.value::<String>(&format!("SELECT sqlstate FROM riskft.runs WHERE run = {run}")),
        "57014"
    );

    // A training within a statement is watched and cancelled alike.
    let mut waiting = database.analyst();
    let training = std::thread::scope(|scope| {
        let call = call("m", &LONG.replace("false", "true"));
        let training = scope.spawn(move || fails(&mut waiting, &call, "57014"));
        let mut run = None;
        process::await_true(PATIENCE, || {
            run = analyst
                .values::<i64>("SELECT run FROM riskft.progress WHERE phase = 'network'")
                .first()
                .copied();
            run.is_some()
        });
        let run = run.expect("the training shows its progress");
        assert!(analyst.value::<bool>(&format!("SELECT riskft_cancel({run})")));
        training.join()
    });
    assert!(training.is_ok());
    nothing_runs(&mut analyst);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}

#[test]
fn trainers_are_limited_and_the_rest_waits_its_turn() {
    let cluster = Cluster::start_with(&[("riskft.max_trainers", "1")]);
    let database = database(&cluster, 1_000);
    let mut analyst = database.analyst();
    let long = queue(&mut analyst, "long", LONG);
    await_worker(&mut analyst, long);
    let next = queue(&mut analyst, "next", SMALL);
    let dropped = queue(&mut analyst, "dropped", SMALL);
    let last = queue(&mut analyst, "last", SMALL);
    std::thread::sleep(Duration::from_millis(500));
    let phases: Vec<String> = analyst.values(
        "SELECT CASE phase WHEN 'queued' THEN phase ELSE 'under way' END FROM riskft.progress ORDER BY run",
    );
    assert_eq!(phases, ["under way", "queued", "queued", "queued"]);
    assert!(analyst.value::<bool>(&format!("SELECT riskft_cancel({dropped})")));
    assert_eq!(wait(&mut analyst, dropped), "cancelled");
    // A training within a statement waits for the place as well, and says so.
    let mut waiting = database.analyst();
    waiting.run("SET statement_timeout = '1s'");
    fails(&mut waiting, &call("w", &SMALL.replace("false", "true")), "57014");
    assert!(waiting.notices().iter().any(|n| n.message.contains("riskft.max_trainers is 1")));
    // A second database shares the limit.
    let second = Database::within(&cluster);
    fixture::loans(&second, 300);
    let elsewhere = queue(&mut second.analyst(), "m", SMALL);
    assert_eq!(state(&mut second.analyst(), elsewhere), "queued");
    assert!(analyst.value::<bool>(&format!("SELECT riskft_cancel({long})")));
    for run in [next, last] {
        assert_eq!(wait(&mut analyst, run), "done");
    }
    assert_eq!(wait(&mut second.analyst(), elsewhere), "done");
    let order: bool = analyst.value(&format!(
        "SELECT a.started_at < b.started_at FROM riskft.runs a, riskft.runs b
         WHERE a.run = {next} AND b.run = {last}"
    ));
    assert!(order, "the oldest run starts first");
}

#[test]
fn a_run_whose_worker_is_gone_has_failed() {
    let cluster = Cluster::start();
    let database = database(&cluster, 1_000);
    let mut analyst = database.analyst();
    let run = queue(&mut analyst, "m", LONG);
    let worker = await_worker(&mut analyst, run);
    let trainer = process::trainer_of(worker).expect("the worker has a trainer");
    database.superuser().run(&format!("SELECT pg_terminate_backend({worker})"));
    assert!(process::await_end(worker, PATIENCE) && process::await_end(trainer, PATIENCE));
    assert_eq!(state(&mut analyst, run), "failed");
    assert_eq!(wait(&mut analyst, run), "failed");

    // kill -9 of a worker restarts the server, as PostgreSQL does for any of its processes.
    cluster.log().allow("was terminated by signal 9");
    let killed = queue(&mut analyst, "m", LONG);
    let worker = await_worker(&mut analyst, killed);
    let trainer = process::trainer_of(worker).expect("the worker has a trainer");
    process::signal(worker, process::KILL);
    assert!(process::await_end(trainer, PATIENCE), "the trainer outlives its worker");
    cluster.await_recovery();
    let mut analyst = database.analyst();
    assert_eq!(state(&mut analyst, killed), "failed");
    let reason: String = analyst
        .value(&format!("SELECT sqlstate || ' ' || error FROM riskft.runs WHERE run = {killed}"));
    assert!(reason.starts_with("57P01") && reason.contains("ended"), "{reason}");
    // The next run writes the ends down, and trains.
    let next = queue(&mut analyst, "m", SMALL);
    assert_eq!(wait(&mut analyst, next), "done");
    let stored: Vec<String> =
        database.superuser().values("SELECT state FROM riskft.run ORDER BY run_id");
    assert_eq!(stored, ["failed", "failed", "done"]);
    let code: String =
        analyst.value(&format!("SELECT sqlstate FROM riskft.runs WHERE run = {killed}"));
    assert_eq!(code, "57P01");
}

#[test]
fn the_queue_survives_a_restart_and_a_running_run_does_not() {
    let cluster = Cluster::start_with(&[("riskft.max_trainers", "1")]);
    let database = database(&cluster, 1_000);
    let mut analyst = database.analyst();
    let running = queue(&mut analyst, "m", LONG);
    await_worker(&mut analyst, running);
    let queued = queue(&mut analyst, "n", SMALL);
    drop(analyst);
    cluster.restart();
    let mut analyst = database.analyst();
    assert_eq!(state(&mut analyst, running), "failed");
    assert_eq!(state(&mut analyst, queued), "queued");
    assert_eq!(wait(&mut analyst, running), "failed");
    assert_eq!(wait(&mut analyst, queued), "done");
    nothing_runs(&mut analyst);
}

#[test]
fn a_run_executes_as_the_role_that_queued_it() {
    let cluster = Cluster::start();
    let database = database(&cluster, 600);
    let mut superuser = database.superuser();
    superuser.run(
        "CREATE ROLE team; GRANT team TO analyst; GRANT CREATE ON SCHEMA public TO team;
         CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest;
         CREATE SCHEMA vault; GRANT USAGE, CREATE ON SCHEMA vault TO team",
    );
    let mut analyst = database.analyst();
    analyst.run(
        "ALTER TABLE loans ENABLE ROW LEVEL SECURITY; ALTER TABLE loans FORCE ROW LEVEL SECURITY;
         CREATE POLICY team_sees ON loans FOR SELECT TO team USING (loan_id % 2 = 0);
         CREATE POLICY all_to_me ON loans FOR SELECT TO analyst USING (current_user = 'analyst');
         GRANT SELECT ON loans TO team",
    );
    let half: i64 = analyst.value("SELECT count(*) FROM loans WHERE loan_id % 2 = 0");
    let rows = |session: &mut Session, run: i64| {
        session.value::<i64>(&format!("SELECT rows FROM riskft.runs WHERE run = {run}"))
    };
    // A NOLOGIN role, reached with SET ROLE; a search path of the session.
    analyst.run("SET ROLE team; SET search_path = vault, public");
    analyst.run("CREATE VIEW vault.mine AS SELECT * FROM public.loans");
    superuser.run("ALTER VIEW vault.mine SET (security_invoker)");
    let sql = format!("CALL riskft_train('of_team', 'mine', 'defaulted', {SMALL})");
    let run: i64 = analyst.query_one(&sql, &[]).unwrap().get("run");
    assert_eq!(wait(&mut analyst, run), "done");
    assert_eq!(rows(&mut analyst, run), half);
    assert_eq!(
        analyst.value::<String>("SELECT owner::text FROM riskft.models WHERE model = 'of_team'"),
        "team"
    );
    analyst.run("RESET ROLE; RESET search_path");

    // Within a SECURITY DEFINER function the run is its owner's, not the caller's.
    analyst.run(&format!(
        "SET ROLE team;
         CREATE PROCEDURE vault.retrain(INOUT run bigint) LANGUAGE plpgsql SECURITY DEFINER
             SET search_path = public AS $p$
         DECLARE version integer; auc float8; ks float8;
         BEGIN CALL riskft_train('definer', 'loans', 'defaulted', version => version, auc => auc,
             ks => ks, run => run, {SMALL}); END $p$;
         RESET ROLE"
    ));
    superuser.run("GRANT USAGE ON SCHEMA vault TO guest");
    let mut guest = database.user("guest");
    let run: i64 = guest.value("CALL vault.retrain(NULL)");
    refuses(&mut guest, &format!("SELECT riskft_wait({run})"), "42501");
    assert_eq!(wait(&mut analyst, run), "done");
    assert_eq!(rows(&mut analyst, run), half);

    // A function that the relation calls cannot change the role.
    superuser.run(
        "CREATE FUNCTION public.escape() RETURNS boolean LANGUAGE plpgsql AS
         $$ BEGIN SET ROLE NONE; RETURN true; END $$",
    );
    let sql = format!(
        "CALL riskft_train('e', 'SELECT *, escape() AS x FROM loans', 'defaulted', {SMALL})"
    );
    let run: i64 = analyst.query_one(&sql, &[]).unwrap().get("run");
    assert_eq!(wait(&mut analyst, run), "failed");

    // A role that may not log in any more cannot be connected as.
    superuser.run("CREATE ROLE leaver LOGIN; GRANT team TO leaver");
    let mut leaver = database.user("leaver");
    leaver.run("SET ROLE team; BEGIN");
    let run = queue(&mut leaver, "left", SMALL);
    superuser.run("ALTER ROLE leaver NOLOGIN");
    leaver.run("COMMIT");
    assert_eq!(wait(&mut analyst, run), "failed");
    let why: String =
        analyst.value(&format!("SELECT error_detail FROM riskft.runs WHERE run = {run}"));
    assert!(why.contains("leaver"), "{why}");
}

#[test]
fn a_training_cannot_start_another_one_within_itself() {
    let database = database(riskft_tests::shared(), 300);
    let mut analyst = database.analyst();
    analyst.run(&format!(
        "CREATE FUNCTION again() RETURNS boolean LANGUAGE plpgsql AS $f$
         DECLARE v integer; a float8; k float8; r bigint;
         BEGIN CALL riskft_train('inner', 'loans', 'defaulted', version => v, auc => a, ks => k,
             run => r, {}); RETURN true; END $f$",
        SMALL.replace("false", "true")
    ));
    fails(
        &mut analyst,
        &format!(
            "CALL riskft_train('outer', 'SELECT *, again() AS x FROM loans', 'defaulted', {})",
            SMALL.replace("false", "true")
        ),
        "55000",
    );
    // The next training is not hindered.
    analyst.run(&call("m", &SMALL.replace("false", "true")));
}
