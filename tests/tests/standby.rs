//! F26: read-only transactions and hot standbys. They score with the primary's bits and write
//! nothing to the database.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use riskft_tests::fixture::{self, small_loans, small_training};
use riskft_tests::{fails, process, refuses, Cluster, Database, Session};

const SCORES: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";
const NOTES: &str = "SELECT risk_score('t', n) FROM notes n ORDER BY note_id";
const PATIENCE: Duration = Duration::from_secs(60);

fn bits(session: &mut Session, query: &str) -> Vec<u64> {
    session.values::<f64>(query).into_iter().map(f64::to_bits).collect()
}

/// A database of a cluster with model `m` on loans.
fn database(cluster: &Cluster) -> Database<'_> {
    let database = Database::within(cluster);
    small_loans(&database, 400);
    database.analyst().run(&small_training("m", "loans", ""));
    database
}

/// Files of the cache of a cluster's model files.
fn cache(cluster: &Cluster) -> Vec<PathBuf> {
    let folder = cluster.data().join("base/pgsql_tmp/pgsql_tmp_riskft");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

fn no_transaction_id(session: &mut Session) {
    let id: Option<String> = session.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(id, None);
}

/// What works in a transaction that cannot write.
fn reads_without_writing(session: &mut Session, exported: &[u8]) {
    session.run("BEGIN READ ONLY");
    session.run(
        "SELECT risk_score('m', l), risk_score('m@1', l), risk_score('t', n) FROM loans l, notes n
             WHERE loan_id < 5;
         SELECT risk_score_json('m', '{\"amount\": 7, \"grade\": \"a\"}');
         SELECT * FROM riskft_evaluate('m', 'loans', 'defaulted');
         SELECT * FROM riskft_drift('m', 'loans'); SELECT * FROM riskft_drift('t', 'notes');
         SELECT e.* FROM loans l, risk_explain('m', l) e WHERE loan_id < 5;
         SELECT r.* FROM notes n, risk_reasons('t', n) r WHERE note_id < 5;
         SELECT risk_points('m', l) FROM loans l WHERE loan_id < 5;
         SELECT * FROM riskft_importance('m'); SELECT * FROM riskft_effect('m', 'amount');
         SELECT riskft_report('m'), riskft_plot('m', 'roc');
         SET LOCAL force_parallel_mode = on; SELECT avg(risk_score('m', l)) FROM loans l",
    );
    for view in [
        "models",
        "versions",
        "runs",
        "progress",
        "phases",
        "features",
        "metrics",
        "gates",
        "costs",
        "deployments",
        "aliases",
        "audit",
        "privileges",
        "bases",
        "curves",
        "drift_bins",
        "drift_history",
        "outcome_history",
        "ab_tests",
        "ab_results",
    ] {
        session.run(&format!("SELECT * FROM riskft.{view}"));
    }
    assert_eq!(session.value::<Vec<u8>>("SELECT riskft_export_model('m')"), exported);
    no_transaction_id(session);
    session.run("COMMIT");
}

/// Refused before anything is read: the relation would take a minute.
fn writing_is_refused_at_once(session: &mut Session) {
    session.run("SET statement_timeout = '20s'");
    let slow = "SELECT l.*, pg_sleep(60) IS NULL AS slept FROM loans l";
    let train = |wait: bool| {
        small_training("m", slow, "").replace("method =>", &format!("wait => {wait}, method =>"))
    };
    for sql in [
        train(true).as_str(),
        train(false).as_str(),
        &format!("SELECT riskft_monitor('m', '{slow}')"),
        "CALL riskft_score_table('m', 'loans', 'scores', 'loan_id')",
        "SELECT riskft_deploy('m', 1)",
        "SELECT riskft_rollback('m')",
        "SELECT riskft_set_alias('m', 'a', 1)",
        "SELECT riskft_drop_alias('m', 'a')",
        "SELECT riskft_approve('m', 1)",
        "SELECT riskft_drop('m')",
        "SELECT riskft_grant('m', 'public', 'score')",
        "SELECT riskft_revoke('m', 'public', 'score')",
        "SELECT riskft_set_owner('m', CURRENT_USER::text)",
        "SELECT riskft_import_model('n', riskft_export_model('m'))",
    ] {
        fails(session, sql, "25006");
    }
    session.run("RESET statement_timeout");
}

#[test]
fn a_standby_scores_with_the_primarys_bits() {
    let primary = Cluster::start();
    let database = database(&primary);
    fixture::small_text_model(&database);
    let mut analyst = database.analyst();
    let scores = [bits(&mut analyst, SCORES), bits(&mut analyst, NOTES)];
    let exported: Vec<u8> = analyst.value("SELECT riskft_export_model('m')");
    let cached = cache(&primary);
    assert_eq!(cached.len(), 3, "two versions and an encoder");
    reads_without_writing(&mut analyst, &exported);

    let standby = primary.standby(&[]);
    assert!(
        !standby.data().join("base/pgsql_tmp/pgsql_tmp_riskft").exists(),
        "a backup skips the cache"
    );
    standby.await_replay(&primary);
    let mut reader = standby.connect(database.name(), "analyst");
    assert!(reader.value::<bool>("SELECT pg_is_in_recovery()"));
    assert_eq!([bits(&mut reader, SCORES), bits(&mut reader, NOTES)], scores);
    let own = cache(&standby);
    assert_eq!(own.len(), cached.len(), "the standby writes its own cache");
    for (here, there) in own.iter().zip(&cached) {
        assert_eq!(here.file_name(), there.file_name());
        assert_eq!(fs::read(here).unwrap(), fs::read(there).unwrap());
    }
    for kernel in ["portable", "auto"] {
        reader.run(&format!("SET riskft.kernel = '{kernel}'"));
        assert_eq!([bits(&mut reader, SCORES), bits(&mut reader, NOTES)], scores, "{kernel}");
    }
    reads_without_writing(&mut reader, &exported);
    writing_is_refused_at_once(&mut reader);
    fails(&mut reader, "SELECT riskft_cancel(1)", "25006");
    // On a primary, a read-only transaction refuses the same.
    analyst.run("SET default_transaction_read_only = on");
    writing_is_refused_at_once(&mut analyst);

    // The cache can go at any time there too.
    for file in cache(&standby) {
        fs::remove_file(file).unwrap();
    }
    let mut other = standby.connect(database.name(), "analyst");
    assert_eq!(bits(&mut other, NOTES), scores[1]);
    let refused = refuses(&mut other, "SELECT risk_score('none', l) FROM loans l", "42704");
    assert!(refused.message().contains("none"));
}

#[test]
fn a_standby_follows_versions_drops_and_rights() {
    let primary = Cluster::start();
    let database = database(&primary);
    let standby = primary.standby(&[]);
    standby.await_replay(&primary);
    let role = database.role("low");
    let mut analyst = database.analyst();
    let mut reader = standby.connect(database.name(), "analyst");
    let first = bits(&mut reader, SCORES);
    assert_eq!(first, bits(&mut analyst, SCORES));

    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"always\", "));
    let second = bits(&mut analyst, SCORES);
    assert_ne!(second, first);
    standby.await_replay(&primary);
    assert_eq!(bits(&mut reader, SCORES), second, "an open session sees the new version");
    let pinned = "SELECT risk_score('m@1', l) FROM loans l ORDER BY loan_id";
    assert_eq!(bits(&mut reader, pinned), first);
    analyst.run("SELECT riskft_rollback('m')");
    standby.await_replay(&primary);
    assert_eq!(bits(&mut reader, SCORES), first);

    let one = "SELECT risk_score_json('m', '{\"amount\": 7, \"grade\": \"a\"}')";
    standby.await_replay(&primary);
    let mut low = standby.connect(database.name(), &role);
    refuses(&mut low, one, "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    standby.await_replay(&primary);
    low.run(one);
    analyst.run(&format!("SELECT riskft_revoke('m', '{role}', 'score')"));
    standby.await_replay(&primary);
    refuses(&mut low, one, "42501");

    // Within one snapshot the model stays; the next statement misses it.
    analyst.run("SELECT riskft_drop('m')");
    standby.await_replay(&primary);
    refuses(&mut reader, SCORES, "42704");
    assert_eq!(reader.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
}

/// Runs that are under way on the primary are shown as they stand in the table; their processes
/// are not the standby's. After a promotion nobody works on them.
#[test]
fn a_promoted_standby_trains() {
    let primary = Cluster::start();
    let database = database(&primary);
    let mut analyst = database.analyst();
    let scores = bits(&mut analyst, SCORES);
    let standby = primary.standby(&[]);
    analyst.run(
        "CALL riskft_train('long', 'loans', 'defaulted', method => 'none', wait => false,
             options => '{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}')",
    );
    let state = "SELECT state FROM riskft.runs WHERE model = 'long'";
    let runs = process::await_true(PATIENCE, || analyst.value::<String>(state) == "running");
    assert!(runs, "the queued run does not start");
    standby.await_replay(&primary);
    let mut here = standby.connect(database.name(), "analyst");
    assert_eq!(here.value::<String>(state), "running");
    let run: i64 = here.value("SELECT max(run) FROM riskft.runs WHERE model = 'long'");
    let waited: String = here.value(&format!("SELECT riskft_wait({run}, '100 ms')"));
    assert_eq!(waited, "running");
    assert_eq!(bits(&mut here, SCORES), scores);
    standby.promote();
    assert_eq!(here.value::<String>(state), "failed");
    assert!(analyst.value::<bool>(&format!("SELECT riskft_cancel({run})")));
    here.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"always\", "));
    assert_ne!(bits(&mut here, SCORES), scores);
    let versions: Vec<i32> = here.values("SELECT version FROM riskft.versions ORDER BY 1");
    assert_eq!(versions, [1, 2]);
    assert_eq!(bits(&mut analyst, SCORES), scores, "the old primary is another server now");
}

/// A query that replay must end gets PostgreSQL's own error, in whatever state scoring is.
#[test]
fn a_recovery_conflict_is_an_ordinary_error() {
    let primary = Cluster::start();
    let database = database(&primary);
    let standby = primary.standby(&[("max_standby_streaming_delay", "0")]);
    standby.await_replay(&primary);
    let mut reader = standby.connect(database.name(), "analyst");
    let scores = bits(&mut reader, SCORES);
    let mut kept = 0;
    let mut superuser = database.superuser();
    superuser.run("CREATE TABLE passing AS SELECT generate_series(1, 1000) AS i");
    standby.await_replay(&primary);
    for _ in 0..3 {
        let mut watch = standby.superuser();
        let backend = reader.pid();
        thread::scope(|scope| {
            let conflict = scope.spawn(|| {
                let active = format!(
                    "SELECT coalesce(bool_or(state = 'active' AND backend_xmin IS NOT NULL), false)
                     FROM pg_stat_activity WHERE pid = {backend}"
                );
                assert!(process::await_true(PATIENCE, || watch.value(&active)));
                thread::sleep(Duration::from_millis(200));
                superuser.run("UPDATE passing SET i = i + 1");
                superuser.run("VACUUM passing");
            });
            let endless =
                "SELECT sum(risk_score('m', l)) FROM loans l, generate_series(1, 100000000)";
            let error = reader.batch_execute(endless).expect_err("the query is cancelled");
            let error = error.as_db_error().expect("an error of the server").clone();
            assert_eq!(error.code().code(), "40001", "{error:?}");
            assert!(error.message().contains("conflict with recovery"), "{error:?}");
            conflict.join().expect("the conflict is provoked");
        });
        // PostgreSQL signals until the snapshot is gone; a signal that a backend notices while it waits
        // for its next command ends the session (ProcessInterrupts, DoingCommandRead).
        if reader.batch_execute("SELECT 1").is_err() && reader.batch_execute("SELECT 1").is_err() {
            reader = standby.connect(database.name(), "analyst");
        } else {
            assert_eq!(reader.pid(), backend);
            kept += 1;
        }
        assert_eq!(bits(&mut reader, SCORES), scores);
    }
    assert!(kept > 0, "no session outlived its conflict");
}
