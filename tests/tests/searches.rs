//! Searches over options that are cancelled: with `keep_on_cancel` the best so far becomes a version
//! that is not deployed, without it nothing does.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{CancelToken, Error, NoTls, Row};
use riskft_tests::{fails, fixture, process, refuses, Cluster, Database, Notice, Session};

const PATIENCE: Duration = Duration::from_secs(60);
/// A trial takes part of a second, a search more than any of these tests waits.
const QUICK: &str = r#""threads": 1, "folds": 3, "repeats": 1, "head_epochs": 2, "hidden": 16"#;
/// A trial takes a second or so, the training after the search several times that.
const LONG_REST: &str = r#""threads": 1, "folds": 20, "repeats": 3, "head_epochs": 60, "patience": 60,
    "batch_size": 32, "hidden": 64"#;
/// A trial takes longer than any of these tests waits.
const LONG: &str = r#""threads": 1, "head_epochs": 1000, "patience": 1000, "hidden": 512,
    "repeats": 1, "members": 8"#;
const KEEP: &str = r#", "search": {"trials": 1000, "keep_on_cancel": true}"#;
const LOSE: &str = r#", "search": {"trials": 1000}"#;
const LOOSE: &str = r#", "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}"#;

fn options(speed: &str, search: &str) -> String {
    format!("{{{speed}{search}{LOOSE}}}")
}

fn call(model: &str, options: &str, wait: bool) -> String {
    format!(
        "CALL riskft_train('{model}', 'loans', 'defaulted', method => 'none',
             exclude => '{{loan_id}}', wait => {wait}, options => '{options}')"
    )
}

fn database(cluster: &Cluster) -> Database<'_> {
    let database = Database::within(cluster);
    fixture::loans(&database, 400);
    database
}

/// Waits until so many trials are done; the run and the process that works on it.
fn await_trials(watcher: &mut Session, trials: i64) -> (i64, i32) {
    let mut found = None;
    process::await_true(PATIENCE, || {
        let sql = "SELECT run, pid FROM riskft.progress WHERE phase = 'search' AND done >= $1";
        let row = watcher.query_opt(sql, &[&trials]).expect("ask for the progress");
        found = row.map(|row| (row.get(0), row.get(1)));
        found.is_some()
    });
    found.expect("the search goes on")
}

fn await_end_of_search(watcher: &mut Session) {
    let is_over = process::await_true(PATIENCE, || {
        watcher.value("SELECT count(*) = 1 AND bool_and(phase <> 'search') FROM riskft.progress")
    });
    assert!(is_over, "the search does not end");
}

/// As a client's own cancel does: the server signals the process and its group.
fn cancel(token: &CancelToken) {
    token.cancel_query(NoTls).expect("ask to cancel");
}

/// Runs a statement in a session of its own, and something else meanwhile; the statement's outcome,
/// and the session that goes on.
fn beside(
    mut session: Session,
    sql: &str,
    meanwhile: impl FnOnce(CancelToken),
) -> (Result<Row, Error>, Session) {
    // A test that fails does not wait for the search.
    session.run(
        "SELECT set_config('statement_timeout', '2min', false)
         WHERE current_setting('statement_timeout') = '0'",
    );
    let token = session.cancel_token();
    thread::scope(|scope| {
        let statement = scope.spawn(|| {
            let outcome = session.query_one(sql, &[]);
            (outcome, session)
        });
        meanwhile(token);
        statement.join().expect("the statement's thread")
    })
}

fn code(outcome: &Result<Row, Error>) -> Option<&str> {
    outcome.as_ref().err().and_then(|error| error.code()).map(|code| code.code())
}

fn heard<'a>(notices: &'a [Notice], severity: &str, part: &str) -> &'a Notice {
    let fits = |n: &&Notice| n.severity == severity && n.message.contains(part);
    notices.iter().find(fits).unwrap_or_else(|| panic!("no {severity} {part}: {notices:?}"))
}

fn is_cancelled_as_ever(session: &mut Session) {
    session.run("SET statement_timeout = '100ms'");
    fails(session, "SELECT pg_sleep(60)", "57014");
    session.run("RESET statement_timeout");
}

fn stored(database: &Database<'_>) -> i64 {
    database.superuser().value("SELECT count(*) FROM riskft.version")
}

fn await_trainer_end(trainer: i32) {
    assert!(process::await_end(trainer, PATIENCE), "the trainer goes on");
}

#[test]
fn a_cancel_keeps_the_best_of_a_search_undeployed() {
    let database = database(riskft_tests::shared());
    let mut watcher = database.analyst();
    let mut analyst = database.analyst();
    analyst.run("BEGIN");
    let sql = call("m", &options(QUICK, KEEP), true);
    let (outcome, mut analyst) = beside(analyst, &sql, |token| {
        let (_, pid) = await_trials(&mut watcher, 4);
        cancel(&token);
        // The server's second signal for one request may come late.
        thread::sleep(Duration::from_millis(100));
        process::signal(pid, process::INTERRUPT);
    });
    let row = outcome.expect("the call returns the version");
    assert_eq!(row.get::<_, i32>("version"), 1);
    let auc: f64 = row.get("auc");
    let notices = analyst.notices();
    let warning = heard(&notices, "WARNING", "ended the search, not the training");
    assert!(warning.detail.contains("Another cancel ends the training"), "{warning:?}");
    let verdict = heard(&notices, "NOTICE", "stored but not deployed: a cancel ended its search");
    let (_, deploy) = verdict.message.split_once("SELECT ").expect("how to deploy it");
    let deploy = deploy.strip_suffix(" deploys it").expect("the call alone").to_owned();
    // The transaction is not aborted, and cancels count as before.
    analyst.run("COMMIT");
    is_cancelled_as_ever(&mut analyst);
    let kept: bool = analyst.value(
        "SELECT state = 'done' AND array_to_string(notices, ' ') LIKE '%ended the search%'
         FROM riskft.runs",
    );
    assert!(kept, "the run keeps what was said");
    refuses(&mut analyst, "SELECT risk_score('m', l) FROM loans l", "55000");

    let (trials, best): (i64, i64) = {
        let sql = "SELECT count(*), count(*) FILTER (WHERE state = 'best') FROM riskft.trials
                   WHERE model = 'm' AND version = 1 AND rungs > 0 AND seconds > 0 AND auc > 0";
        let row = analyst.query_one(sql, &[]).expect("the trials");
        (row.get(0), row.get(1))
    };
    assert!((4..500).contains(&trials) && best == 1, "{trials} trials, {best} of them the best");

    // The best settings given by hand, with no search: the figures of the test part are the same,
    // and the scores.
    let given = options(QUICK, "");
    let best: String = analyst.value(&format!(
        "SELECT ('{given}'::jsonb || options)::text FROM riskft.trials WHERE state = 'best'"
    ));
    let twin = analyst.query_one(&call("twin", &best, true), &[]).expect("train the twin");
    assert_eq!(twin.get::<_, f64>("auc"), auc);
    let differing: i64 = analyst.value(
        "SELECT count(*) FROM riskft.metrics a JOIN riskft.metrics b USING (part, metric)
         WHERE a.model = 'm' AND b.model = 'twin' AND part = 'test'
             AND (a.value, a.ci_low, a.ci_high) IS DISTINCT FROM (b.value, b.ci_low, b.ci_high)",
    );
    let shown: f64 = analyst.value(
        "SELECT value FROM riskft.metrics WHERE model = 'm' AND part = 'test' AND metric = 'auc'",
    );
    assert_eq!((differing, shown), (0, auc));
    analyst.run(&format!("SELECT {deploy}"));
    let differing: i64 = analyst.value(
        "SELECT count(*) FROM loans l WHERE risk_score('m', l) IS DISTINCT FROM risk_score('twin', l)",
    );
    assert_eq!(differing, 0);
}

#[test]
fn without_the_option_a_cancel_keeps_nothing() {
    let database = database(riskft_tests::shared());
    let mut watcher = database.analyst();
    let sql = call("m", &options(QUICK, LOSE), true);
    let (outcome, mut analyst) = beside(database.analyst(), &sql, |token| {
        await_trials(&mut watcher, 2);
        cancel(&token);
    });
    assert_eq!(code(&outcome), Some("57014"));
    assert_eq!(stored(&database), 0);
    analyst.run(&call("m", &options(QUICK, ""), true));
}

#[test]
fn a_cancel_before_the_search_keeps_nothing() {
    let database = database(riskft_tests::shared());
    let mut watcher = database.analyst();
    let sql = call("m", &options(QUICK, KEEP), true)
        .replace("'loans'", "'SELECT l.*, pg_sleep(0.05) IS NULL AS slept FROM loans l'");
    let (outcome, mut analyst) = beside(database.analyst(), &sql, |token| {
        let is_reading = process::await_true(PATIENCE, || {
            watcher.value("SELECT count(*) > 0 FROM riskft.progress")
        });
        assert!(is_reading, "the training does not begin");
        cancel(&token);
    });
    assert_eq!(code(&outcome), Some("57014"));
    assert_eq!(stored(&database), 0);
    assert_eq!(analyst.value::<i32>("SELECT 1"), 1);
}

#[test]
fn a_second_cancel_ends_the_run() {
    let database = database(riskft_tests::shared());
    let mut watcher = database.analyst();
    // After the search, and while the trial goes on that was under way at the first cancel.
    for (speed, trials, is_over) in [(LONG_REST, 2, true), (LONG, 0, false)] {
        let sql = call("m", &options(speed, KEEP), true);
        let mut trainer = 0;
        let (outcome, mut analyst) = beside(database.analyst(), &sql, |token| {
            let (_, pid) = await_trials(&mut watcher, trials);
            trainer = process::trainer_of(pid).expect("a trainer");
            cancel(&token);
            if is_over {
                await_end_of_search(&mut watcher);
            } else {
                thread::sleep(Duration::from_secs(1));
            }
            assert!(process::exists(trainer), "the first cancel ended the training");
            cancel(&token);
        });
        assert_eq!(code(&outcome), Some("57014"));
        heard(&analyst.notices(), "WARNING", "ended the search");
        await_trainer_end(trainer);
        assert_eq!(stored(&database), 0);
        is_cancelled_as_ever(&mut analyst);
    }
}

#[test]
fn a_time_out_is_no_request_to_keep() {
    let database = database(riskft_tests::shared());
    let mut watcher = database.analyst();
    for is_cancelled in [false, true] {
        let mut analyst = database.analyst();
        analyst.run("SET statement_timeout = '8s'");
        let sql = call("m", &options(LONG, KEEP), true);
        let (outcome, mut analyst) = beside(analyst, &sql, |token| {
            await_trials(&mut watcher, 0);
            if is_cancelled {
                cancel(&token);
            }
        });
        assert_eq!(code(&outcome), Some("57014"));
        let error = outcome.expect_err("the time-out");
        let message = error.as_db_error().map(|error| error.message()).unwrap_or_default();
        assert!(message.contains("statement timeout"), "{message}");
        let told = analyst.notices().iter().any(|n| n.message.contains("ended the search"));
        assert_eq!(told, is_cancelled);
        assert_eq!(stored(&database), 0);
    }
}

#[test]
fn a_queued_search_is_ended_from_another_session() {
    let cluster = Cluster::start();
    cluster.superuser().run("CREATE ROLE operator LOGIN IN ROLE pg_signal_backend");
    let database = database(&cluster);
    let mut analyst = database.analyst();
    analyst.run(&call("m", &options(QUICK, ""), true));
    let queue = |analyst: &mut Session, speed: &str, trials: i64| {
        let sql = call("m", &options(speed, KEEP), false);
        let run: i64 = analyst.query_one(&sql, &[]).expect("queue a run").get("run");
        assert_eq!(await_trials(analyst, trials).0, run);
        run
    };
    let run = queue(&mut analyst, QUICK, 3);
    let mut operator = database.user("operator");
    assert!(operator.value::<bool>(&format!("SELECT riskft_cancel({run})")));
    heard(&operator.notices(), "NOTICE", "goes on: the cancel has ended its search");
    let wait = format!("SELECT riskft_wait({run}, '2 minutes')");
    assert_eq!(analyst.value::<String>(&wait), "done");
    let versions: Vec<i32> = analyst.values("SELECT version FROM riskft.versions WHERE deployed");
    assert_eq!(versions, [1], "the deployed version stays");
    let trials: i64 = analyst.value("SELECT count(*) FROM riskft.trials WHERE version = 2");
    assert!(trials >= 3, "{trials}");
    let told: bool = analyst.value(&format!(
        "SELECT array_to_string(notices, ' ') LIKE '%riskft_deploy(''m'', 2)%' FROM riskft.runs
         WHERE run = {run}"
    ));
    assert!(told, "the run says how its version is deployed");

    // Twice, as fast as one can: the second is not taken for the first.
    let run = queue(&mut analyst, LONG, 0);
    let worker: i32 = analyst.value("SELECT pid FROM riskft.progress");
    let trainer = process::trainer_of(worker).expect("a trainer");
    let both = format!("SELECT riskft_cancel({run}) AND riskft_cancel({run})");
    assert!(operator.value::<bool>(&both));
    let told = operator.notices();
    assert_eq!(told.iter().filter(|n| n.message.contains("goes on")).count(), 1, "{told:?}");
    let wait = format!("SELECT riskft_wait({run}, '2 minutes')");
    assert_eq!(analyst.value::<String>(&wait), "cancelled");
    await_trainer_end(trainer);
    assert_eq!(stored(&database), 2);
}

#[test]
fn the_end_of_a_session_or_server_ends_a_search_that_is_kept() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let mut watcher = database.analyst();
    let sql = call("m", &options(LONG, KEEP), true);
    for is_cancelled in [false, true] {
        let mut trainer = 0;
        let mut analyst = database.analyst();
        let token = analyst.cancel_token();
        let statement = thread::scope(|scope| {
            let statement = scope.spawn(|| analyst.batch_execute(&sql));
            let (_, pid) = await_trials(&mut watcher, 0);
            trainer = process::trainer_of(pid).expect("a trainer");
            if is_cancelled {
                cancel(&token);
                thread::sleep(Duration::from_millis(200));
            }
            database.superuser().run(&format!("SELECT pg_terminate_backend({pid})"));
            statement.join().expect("the statement's thread")
        });
        assert!(statement.is_err());
        await_trainer_end(trainer);
    }
    fails(&mut watcher, "SELECT risk_score('m', l) FROM loans l", "42704");

    let run: i64 =
        watcher.query_one(&call("m", &options(LONG, KEEP), false), &[]).unwrap().get("run");
    let (_, worker) = await_trials(&mut watcher, 0);
    let trainer = process::trainer_of(worker).expect("a trainer");
    assert!(watcher.value::<bool>(&format!("SELECT riskft_cancel({run})")));
    drop(watcher);
    let begun = Instant::now();
    cluster.restart();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    await_trainer_end(trainer);
    let mut analyst = database.analyst();
    let state: String = analyst.value("SELECT state FROM riskft.runs");
    assert_eq!((state.as_str(), stored(&database)), ("failed", 0));
}
