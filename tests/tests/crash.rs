//! Killed trainers and backends, time-outs and cancels: the server goes on, nothing half is
//! stored, no process is left.

use std::thread;
use std::time::{Duration, Instant};

use postgres::NoTls;
use riskft_tests::{fails, fixture, process, refuses, Cluster, Database};

/// Longer than any of these tests waits.
const LONG: &str =
    "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
     options => '{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}')";
const PATIENCE: Duration = Duration::from_secs(30);
const AT_ONCE: Duration = Duration::from_secs(2);

fn database(cluster: &Cluster) -> Database<'_> {
    let database = Database::within(cluster);
    fixture::loans(&database, 4_000);
    database
}

fn nothing_is_stored(database: &Database) {
    let mut superuser = database.superuser();
    for table in ["model", "version", "blob", "blob_chunk", "metric", "feature"] {
        let rows: i64 = superuser.value(&format!("SELECT count(*) FROM riskft.{table}"));
        assert_eq!(rows, 0, "riskft.{table}");
    }
}

fn training_works(database: &Database) {
    database.analyst().run(
        "CALL riskft_train('after', 'SELECT employees, state, defaulted FROM loans', 'defaulted',
             method => 'none', options => '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
}

#[test]
fn a_killed_trainer_is_an_error_of_the_statement() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let server = cluster.server_pid();
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let killer = thread::spawn(move || {
        let trainer = process::await_trainer(backend, PATIENCE)?;
        thread::sleep(Duration::from_millis(300));
        process::signal(trainer, process::KILL);
        Some(trainer)
    });
    let error = refuses(&mut analyst, LONG, "38000");
    let trainer = killer.join().unwrap().expect("a trainer was seen");
    assert!(error.detail().is_some_and(|d| d.contains("signal 9")), "{error:?}");
    assert!(!process::exists(trainer));
    assert_eq!(analyst.pid(), backend);
    assert_eq!(cluster.server_pid(), server);
    nothing_is_stored(&database);
    training_works(&database);
}

#[test]
fn a_killed_backend_takes_its_trainer_along() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    cluster.log().allow("was terminated by signal 9");
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let killer = thread::spawn(move || {
        let trainer = process::await_trainer(backend, PATIENCE)?;
        thread::sleep(Duration::from_millis(300));
        process::signal(backend, process::KILL);
        Some(trainer)
    });
    let lost = analyst.batch_execute(LONG);
    assert!(lost.is_err_and(|e| e.as_db_error().is_none_or(|d| d.code().code() == "57P02")));
    let trainer = killer.join().unwrap().expect("a trainer was seen");
    assert!(process::await_end(trainer, AT_ONCE), "the trainer outlives its backend");
    cluster.await_recovery();
    nothing_is_stored(&database);
    training_works(&database);
}

#[test]
fn a_terminated_backend_ends_its_trainer() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let mut superuser = cluster.superuser();
    let killer = thread::spawn(move || {
        let trainer = process::await_trainer(backend, PATIENCE)?;
        superuser.run(&format!("SELECT pg_terminate_backend({backend})"));
        Some(trainer)
    });
    assert!(analyst.batch_execute(LONG).is_err());
    let trainer = killer.join().unwrap().expect("a trainer was seen");
    assert!(process::await_end(trainer, AT_ONCE));
    nothing_is_stored(&database);
}

#[test]
fn a_time_out_and_a_cancel_end_a_training_within_two_seconds() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let mut analyst = database.analyst();
    let backend = analyst.pid();

    analyst.run("SET statement_timeout = '1500ms'");
    let asked = Instant::now();
    fails(&mut analyst, LONG, "57014");
    assert!(asked.elapsed() < Duration::from_millis(1_500) + AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(process::trainer_of(backend), None);

    analyst.run("SET statement_timeout = 0");
    let cancel = analyst.cancel_token();
    let canceller = thread::spawn(move || {
        let trainer = process::await_trainer(backend, PATIENCE)?;
        thread::sleep(Duration::from_millis(300));
        cancel.cancel_query(NoTls).ok()?;
        Some((trainer, Instant::now()))
    });
    fails(&mut analyst, LONG, "57014");
    let ended = Instant::now();
    let (trainer, asked) = canceller.join().unwrap().expect("a trainer was seen");
    assert!(ended.saturating_duration_since(asked) < AT_ONCE);
    assert!(!process::exists(trainer));
    nothing_is_stored(&database);
    training_works(&database);
}

#[test]
fn a_missing_or_wrong_trainer_is_a_clear_error() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let mut superuser = database.superuser();
    superuser.run("SET riskft.trainer_path = '/nonexistent/trainer'");
    refuses(&mut superuser, LONG, "58P01");
    superuser.run("SET riskft.trainer_path = '/bin/false'");
    refuses(&mut superuser, LONG, "38000");
    superuser.run("SET riskft.trainer_path = '/bin/cat'");
    refuses(&mut superuser, LONG, "08P01");
    superuser.run("SET riskft.model_directory = '/nonexistent'");
    refuses(
        &mut superuser,
        "CALL riskft_train('m', 'loans', 'defaulted', base => 'absent')",
        "58P01",
    );
    nothing_is_stored(&database);
}

/// libtorch, OpenMP and CUDA never enter a PostgreSQL process, and no backend starts a thread.
#[test]
fn the_backend_stays_a_backend() {
    let cluster = Cluster::start();
    let database = database(&cluster);
    let mut analyst = database.analyst();
    training_works(&database);
    analyst.run(
        "CALL riskft_train('m', 'loans', 'defaulted', method => 'none', options => '{\"head_epochs\": 2}');
         SELECT sum(risk_score('m', l)) FROM loans l",
    );
    let backend = analyst.pid();
    assert_eq!(process::threads(backend), Some(1));
    for library in ["libtorch", "libgomp", "libc10", "libcuda"] {
        assert!(!process::maps(backend, library), "{library} is in the backend");
    }
    assert!(process::maps(backend, "riskft.so"));
    assert_eq!(process::trainer_of(backend), None);
}
