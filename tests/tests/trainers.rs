//! Trainers that misbehave: each is a clear error of the statement, within seconds, and the next
//! training works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use riskft_tests::{
    fixture, give_to_server, leftovers, process, refuses, Cluster, Database, Session,
};

const SOON: Duration = Duration::from_secs(20);

/// Sets a shell script as the trainer; `REAL` in it stands for the real one.
fn trainer(database: &Database, superuser: &mut Session, name: &str, script: &str) {
    let library: String = superuser.value("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    let script = script.replace("REAL", &format!("{library}/riskft/riskft-trainer"));
    let folder = database.cluster().socket_folder();
    let path = folder.join(format!("{name}-{}", database.name()));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("let it run");
    give_to_server(&path);
    superuser.run(&format!("SET riskft.trainer_path = '{}'", path.display()));
}

fn nothing_but(database: &Database, versions: i64) {
    assert_eq!(leftovers(database), [""; 0]);
    let stored: i64 = database.superuser().value("SELECT count(*) FROM riskft.version");
    assert_eq!(stored, versions);
}

#[test]
fn trainers_that_misbehave_are_clear_errors() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    // More than a pipe holds.
    fixture::loans(&database, 3_000);
    let mut superuser = database.superuser();
    let call = "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
        options => '{\"head_epochs\": 2, \"repeats\": 1, \"hidden\": 16, \"trees\": {\"rounds\": 10}, \"explain\": {\"rows\": 0},
            \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')";
    superuser.run("SET statement_timeout = '60s'");
    for (name, script, code) in [
        ("garbage", "echo this is no event", "08P01"),
        ("binary", "head -c 100000 /dev/urandom; echo", "08P01"),
        ("unknown", "echo '{\"victory\": {}}'", "08P01"),
        ("long-line", "head -c 100000000 /dev/zero | tr '\\0' a", "08P01"),
        ("silent", "cat >/dev/null", "38000"),
        ("deaf", "exit 0", "38000"),
        ("failed", "echo out of luck >&2; exit 3", "38000"),
        ("aborted", "kill -ABRT $$", "38000"),
        ("closed", "exec >&-; exec sleep 1000", "38000"),
        ("cut", "REAL | head -c -1000", "38000"),
        ("damaged", "REAL | { head -c -1000; head -c 1000 /dev/zero; }", "XX001"),
        ("half", "REAL | head -c 2000", "38000"),
        ("loud", "head -c 50000000 /dev/zero | tr '\\0' '\\n' >&2; exit 1", "38000"),
        ("no-memory", "ulimit -v 100000; exec REAL", "38000"),
    ] {
        trainer(&database, &mut superuser, name, script);
        let begun = Instant::now();
        let error = refuses(&mut superuser, call, code);
        println!("{name}: {} {:?} after {:?}", error.message(), error.detail(), begun.elapsed());
        // How long a whole training takes is the machine's affair.
        let trains = script.contains("REAL");
        assert!(trains || begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
        nothing_but(&database, 0);
    }
    // It closes nothing and ends never: a time-out ends it.
    superuser.run("SET statement_timeout = '1s'");
    let endless = [
        ("hung", "exec sleep 1000"),
        ("babbling", "exec yes '{\"notice\": \"and another thing\"}'"),
        ("progressing", "exec yes '{\"progress\": {\"phase\": \"head\", \"done\": 1, \"total\": 2, \"epoch\": 1}}'"),
        ("howling", "exec yes >&2"),
    ];
    for (name, script) in endless {
        trainer(&database, &mut superuser, name, script);
        let begun = Instant::now();
        riskft_tests::fails(&mut superuser, call, "57014");
        superuser.notices();
        println!("{name}: cancelled after {:?}", begun.elapsed());
        assert!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
        nothing_but(&database, 0);
    }
    superuser.run("RESET riskft.trainer_path; RESET statement_timeout");
    superuser.run(call);
    nothing_but(&database, 1);
}

/// The address space at which a training fails lies somewhere: each limit up to the one that is
/// enough fails the run, and nothing but the run.
#[test]
fn a_trainer_without_memory_fails_its_run_alone() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 2_000);
    let mut superuser = database.superuser();
    let backend = superuser.pid();
    let mut analyst = database.analyst();
    let call =
        "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
        options => '{\"head_epochs\": 2, \"members\": 8, \"hidden\": 1024, \"threads\": 1,
        \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')";
    let mut failed = Vec::new();
    for mib in [300, 600, 700, 800, 900, 1_000, 1_200] {
        let script = format!("ulimit -v {}; exec REAL", mib * 1024);
        trainer(&database, &mut superuser, &format!("small-{mib}"), &script);
        match superuser.batch_execute(call) {
            Ok(()) => break,
            Err(error) => {
                let code = error.code().map(|c| c.code().to_owned()).unwrap_or_default();
                println!("{mib} MiB: {error:?}");
                assert!(["38000", "53200"].contains(&code.as_str()), "{mib} MiB: {error:?}");
                failed.push(code);
            }
        }
        nothing_but(&database, 0);
        assert_eq!(superuser.pid(), backend);
        assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 2_000);
    }
    assert!(!failed.is_empty(), "no limit was too low");
}

/// The kernel takes the trainer before any process of the server.
#[test]
fn the_trainer_is_the_first_to_go_when_memory_runs_out() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 2_000);
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    let watcher = std::thread::spawn(move || {
        let trainer = process::await_trainer(backend, Duration::from_secs(30))?;
        score(trainer).ok()
    });
    analyst.run(
        "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
             options => '{\"head_epochs\": 20, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
    let seen = watcher.join().expect("the watcher ends").expect("a trainer was seen");
    assert_eq!(seen.trim(), "1000");
    let own = fs::read_to_string(format!("/proc/{backend}/oom_score_adj")).expect("the backend's");
    assert_ne!(own.trim(), "1000");
}

/// The server's user may start no more processes, or the backend open no more files.
#[test]
fn a_trainer_that_cannot_be_started_for_want_of_resources() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::small_loans(&database, 300);
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let call = fixture::small_training("m", "loans", "");
    for (low, high) in [("--nproc=1:", "--nproc=4096:"), ("--nofile=4:", "--nofile=1024:")] {
        cluster.limit(backend, low);
        let error = refuses(&mut analyst, &call, "53000");
        println!("{:?}", error.detail());
        cluster.limit(backend, high);
        nothing_but(&database, 0);
    }
    analyst.run(&call);
    nothing_but(&database, 1);
}
