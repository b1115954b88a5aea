//! Ways into queued runs that must stay closed, and waits that must not lock each other up.

use std::time::Duration;

use riskft_tests::{fails, fixture, process, refuses, Cluster, Database, Session};

const PATIENCE: Duration = Duration::from_secs(60);
const OPTIONS: &str = "options =>
    '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}'";

fn call(model: &str, relation: &str, wait: bool) -> String {
    format!(
        "CALL riskft_train('{model}', $relation${relation}$relation$, 'defaulted',
             exclude => '{{loan_id}}', method => 'none', wait => {wait}, {OPTIONS})"
    )
}

fn queue(session: &mut Session, model: &str, relation: &str) -> i64 {
    session.query_one(&call(model, relation, false), &[]).expect("queue a run").get("run")
}

fn wait(session: &mut Session, run: i64) -> String {
    session.value(&format!("SELECT riskft_wait({run}, '2 minutes')"))
}

fn runs(database: &Database) -> i64 {
    database.superuser().value("SELECT count(*) FROM riskft.run")
}

/// The server runs a table owner's index function for whoever maintains the table.
#[test]
fn maintenance_of_a_table_queues_nothing_as_its_superuser() {
    let database = Database::new();
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE FUNCTION bait(x bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN RETURN x; END $$;
         CREATE TABLE trap AS SELECT g::bigint AS x FROM generate_series(1, 5) g;
         CREATE INDEX ON trap (bait(x))",
    );
    analyst.run(&format!(
        "CREATE OR REPLACE FUNCTION bait(x bigint) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $f$
         DECLARE v integer; a float8; k float8; r bigint;
         BEGIN CALL riskft_train('m', 'public.loans', 'defaulted', method => 'none', wait => false,
             version => v, auc => a, ks => k, run => r, {OPTIONS}); RETURN x; END $f$"
    ));
    let mut superuser = database.superuser();
    for maintenance in ["ANALYZE trap", "REINDEX TABLE trap"] {
        fails(&mut superuser, maintenance, "42501");
    }
    assert_eq!(runs(&database), 0);
}

/// What a relation's function leaves behind would run at commit, with other rights.
#[test]
fn a_relation_leaves_nothing_behind_for_later() {
    let database = Database::new();
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TABLE seen (who text);
         CREATE FUNCTION later() RETURNS integer LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO seen VALUES (session_user); RETURN 1; END $$;
         CREATE FUNCTION leave() RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT later()'; RETURN true; END $$",
    );
    let relation = "SELECT *, leave() AS x FROM loans";
    fails(&mut analyst, &call("m", relation, true), "42501");
    let run = queue(&mut analyst, "m", relation);
    assert_eq!(wait(&mut analyst, run), "failed");
    let code: String =
        analyst.value(&format!("SELECT sqlstate FROM riskft.runs WHERE run = {run}"));
    assert_eq!(code, "42501");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM seen"), 0);
}

/// pg_write_all_data writes any table; it must not run anything as anybody.
#[test]
fn queue_rows_cannot_be_forged() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 300);
    cluster.superuser().run("CREATE ROLE writer LOGIN IN ROLE pg_write_all_data, pg_read_all_data");
    let mut analyst = database.analyst();
    let run = queue(&mut analyst, "m", "loans");
    assert_eq!(wait(&mut analyst, run), "done");
    let mut writer = database.user("writer");
    for forged in [
        "INSERT INTO riskft.run (model_name, owner, state, relation, target, method, options, login)
             VALUES ('m', 'postgres', 'queued', 'x', 'y', 'none', '{}', 'postgres')",
        "UPDATE riskft.run SET state = 'queued', owner = 'postgres', login = 'postgres'",
    ] {
        refuses(&mut writer, forged, "42501");
    }
    // A superuser's restore of a dump goes on as ever.
    database.superuser().run("UPDATE riskft.run SET device_hour_price = 1");
}

/// Without the extension, a schema of its name is nobody's catalogue.
#[test]
fn a_schema_without_the_extension_is_no_catalogue() {
    let database = Database::new();
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    analyst.run(&call("m", "loans", true));
    // The functions outlive the catalogue where they are called by hand, as here.
    let library = "LANGUAGE c STABLE AS '$libdir/riskft', 'risk_score'";
    database.superuser().run(&format!(
        "DROP EXTENSION riskft;
         CREATE FUNCTION public.risk_score(text, anyelement) RETURNS float8 {library}"
    ));
    analyst.run(
        "CREATE SCHEMA riskft;
         CREATE TABLE riskft.model (model_id bigint, name text, owner name, deployed_version integer)",
    );
    refuses(&mut analyst, "SELECT risk_score('m', l) FROM loans l LIMIT 1", "3F000");
}

#[test]
fn a_relation_that_releases_the_locks_of_its_run_is_refused() {
    let database = Database::new();
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    let relation = "SELECT *, pg_advisory_unlock_all() IS NULL AS x FROM loans";
    refuses(&mut analyst, &call("m", relation, true), "55000");
    let run = queue(&mut analyst, "m", relation);
    assert_eq!(wait(&mut analyst, run), "failed");
    analyst.run(&call("m", "loans", true));
}

/// A cancel that is not committed holds its row, and nothing else.
#[test]
fn an_open_cancel_does_not_hold_up_other_runs() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    let mut other = database.analyst();
    analyst.run("BEGIN");
    let (held, next) = (queue(&mut analyst, "held", "loans"), queue(&mut analyst, "next", "loans"));
    // The workers start at the commit; the cancel is there before it.
    analyst.run("COMMIT AND CHAIN");
    let cancelled: bool = analyst.value(&format!("SELECT riskft_cancel({held})"));
    assert_eq!(wait(&mut other, next), "done");
    analyst.run("ROLLBACK");
    if cancelled && other.value::<i64>("SELECT count(*) FROM riskft.progress") > 0 {
        // Taken back: the run goes on.
        assert!(["done", "cancelled"].contains(&wait(&mut other, held).as_str()));
    }
}

/// Who holds a table's lock may wait for a trainer's place: no run waits for the lock with it.
#[test]
fn a_trainers_place_and_a_tables_lock_do_not_wait_for_each_other() {
    let cluster = Cluster::start_with(&[("riskft.max_trainers", "1")]);
    let database = Database::within(&cluster);
    fixture::loans(&database, 300);
    let mut analyst = database.analyst();
    analyst.run("CREATE TABLE locked AS TABLE loans");
    let mut other = database.analyst();
    analyst.run("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE");
    let run = queue(&mut other, "waits", "SELECT * FROM public.loans");
    assert_eq!(wait(&mut other, run), "done");
    // Queued while the lock is held: resolved before, so put there by hand.
    let run = queue_on_locked(&mut other, &mut analyst);
    // The holder trains meanwhile: the place is free for it.
    analyst.run("SET statement_timeout = '60s'");
    analyst.run(&call("first", "locked", true));
    // And it may not wait for the run, which needs its lock on the files.
    let error = analyst.query(&format!("SELECT riskft_wait({run})"), &[]).unwrap_err();
    assert_eq!(error.code().map(|c| c.code()), Some("55000"));
    analyst.run("ROLLBACK");
    assert_eq!(wait(&mut other, run), "done");
}

/// A run on the locked table: the lock is given up for its CALL and taken again before its worker
/// reads, since another run has the only place.
fn queue_on_locked(other: &mut Session, holder: &mut Session) -> i64 {
    holder.run("ROLLBACK");
    other.run("BEGIN");
    let run = queue(other, "second", "locked");
    other.run("SAVEPOINT s");
    // The CALL has let go of its cursor, but the transaction keeps its lock until COMMIT; a lock
    // that is asked for now comes with it.
    let commit = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| holder.run("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE"));
        std::thread::sleep(Duration::from_millis(300));
        other.run("COMMIT");
        waiting.join()
    });
    assert!(commit.is_ok());
    run
}

/// A training within a statement can be waited for until its transaction ends.
#[test]
fn a_training_within_a_transaction_is_waited_for_to_its_end() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 1_500);
    let mut watcher = database.analyst();
    for (end, expected) in [("COMMIT", Some("done")), ("ROLLBACK", None)] {
        let mut analyst = database.analyst();
        analyst.run("BEGIN");
        let trained = std::thread::spawn(move || {
            analyst.run(&call("m", "loans", true));
            analyst
        });
        let mut run = None;
        process::await_true(PATIENCE, || {
            run = watcher.values::<i64>("SELECT run FROM riskft.progress").first().copied();
            run.is_some()
        });
        let run = run.expect("the training is seen");
        let mut waiting = database.analyst();
        let state = std::thread::spawn(move || {
            waiting.value::<Option<String>>(&format!("SELECT riskft_wait({run}, '1 minute')"))
        });
        let mut analyst = trained.join().expect("it trains");
        std::thread::sleep(Duration::from_millis(300));
        assert!(!state.is_finished(), "the transaction goes on");
        analyst.run(end);
        assert_eq!(state.join().expect("it waits").as_deref(), expected);
    }
}

/// Another session's version, deployed while this one was trained, is not replaced unseen.
#[test]
fn a_version_deployed_meanwhile_is_not_replaced_by_comparison_with_an_older_one() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 1_500);
    let mut analyst = database.analyst();
    analyst.run(&call("m", "loans", true));
    // Held at its publishing by the lock on the files.
    let mut holder = database.superuser();
    holder.run("BEGIN; LOCK TABLE riskft.blob IN SHARE ROW EXCLUSIVE MODE");
    let run = queue(&mut analyst, "m", "loans");
    let publishes = process::await_true(PATIENCE, || {
        analyst.value::<bool>("SELECT EXISTS (SELECT FROM riskft.progress WHERE phase = 'publish')")
    });
    assert!(publishes, "the run comes to its publishing");
    holder.run(
        "INSERT INTO riskft.version (model_id, version, run_id, positive_label, negative_label,
             threshold, version_digest, encoder_digest, training_digest, gate)
         SELECT model_id, 100, run_id, positive_label, negative_label, threshold, version_digest,
             encoder_digest, training_digest, gate FROM riskft.version WHERE version = 1;
         UPDATE riskft.model SET deployed_version = 100; COMMIT",
    );
    assert_eq!(wait(&mut analyst, run), "done");
    assert_eq!(analyst.value::<i32>("SELECT deployed_version FROM riskft.models"), 100);
    let notices: String =
        analyst.value(&format!("SELECT notices::text FROM riskft.runs WHERE run = {run}"));
    assert!(notices.contains("was deployed while this one was trained"), "{notices}");
}

/// A role of the same name as a dropped one is another role.
#[test]
fn a_new_role_of_an_old_name_runs_nothing_of_the_old_one() {
    let cluster = Cluster::start_with(&[("riskft.max_trainers", "1")]);
    let database = Database::within(&cluster);
    fixture::loans(&database, 1_500);
    let mut superuser = database.superuser();
    superuser.run("CREATE ROLE temp LOGIN; GRANT SELECT ON loans TO temp");
    let mut analyst = database.analyst();
    let long = analyst
        .query_one(
            "CALL riskft_train('long', 'loans', 'defaulted', method => 'none', wait => false,
                 options => '{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}')",
            &[],
        )
        .unwrap()
        .get::<_, i64>("run");
    let under_way = process::await_true(PATIENCE, || {
        analyst.value::<bool>("SELECT EXISTS (SELECT FROM riskft.progress WHERE phase = 'network')")
    });
    assert!(under_way);
    let run = {
        let mut temp = database.user("temp");
        queue(&mut temp, "m", "loans")
    };
    superuser.run("DROP OWNED BY temp");
    let dropped =
        process::await_true(PATIENCE, || superuser.batch_execute("DROP ROLE temp").is_ok());
    assert!(dropped);
    superuser.run("CREATE ROLE temp LOGIN; GRANT SELECT ON loans TO temp");
    assert!(analyst.value::<bool>(&format!("SELECT riskft_cancel({long})")));
    let mut temp = database.user("temp");
    assert_eq!(wait(&mut temp, run), "failed");
    assert_eq!(temp.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}
