//! Trainings that are killed, cancelled and cut off, at moments all over them: the old version or
//! the new one is there whole, and nothing is left behind. `make soak` does the same many times.

use std::process::{Command, Stdio};
use std::time::Duration;

use riskft_tests::faults::{Arena, Blow, Moment, PHASES};
use riskft_tests::{leftovers, process, program, Cluster};

/// The issue of a test is that it ends at all in time; `make soak` keeps the figures.
const SOON: Duration = Duration::from_secs(5);

/// Strikes at `times` moments spread over a training, and once while it publishes.
fn all_over(blow: Blow, times: u32, publishing: bool) {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    let mut struck = 0;
    for round in 0..times {
        let moment = Moment::After(arena.whole * (2 * round + 1) / (2 * times));
        let round = arena.round(moment, blow).unwrap_or_else(|problem| panic!("{problem}"));
        println!("{blow:?} {round:?}");
        struck += u32::from(round.outcome != "done");
    }
    assert!(struck > 0, "every training was over before it was struck");
    if publishing {
        let round = arena.round(Moment::Publishing, blow).unwrap_or_else(|e| panic!("{e}"));
        assert_ne!(round.outcome, "done", "{round:?}");
    }
    arena.train();
}

#[test]
fn killed_trainers_leave_nothing() {
    all_over(Blow::KillTrainer, 4, false);
}

#[test]
fn killed_backends_leave_nothing() {
    all_over(Blow::KillBackend, 2, true);
}

#[test]
fn a_server_that_stops_at_once_leaves_nothing() {
    all_over(Blow::StopServer, 1, true);
}

#[test]
fn terminated_backends_leave_nothing() {
    all_over(Blow::Terminate, 2, true);
}

#[test]
fn every_phase_can_be_cancelled() {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    for phase in PHASES {
        let moment = match phase {
            "publish" => Moment::Publishing,
            _ => Moment::In(phase, Duration::ZERO),
        };
        let round = arena.round(moment, Blow::Cancel).unwrap_or_else(|e| panic!("{e}"));
        println!("{round:?}");
        assert!(round.lasted < SOON, "{round:?}");
    }
    arena.train();
}

#[test]
fn a_killed_worker_is_a_failed_run() {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    for half in 0..2 {
        let round = arena.worker_round(arena.whole * half / 2).unwrap_or_else(|e| panic!("{e}"));
        println!("{round:?}");
    }
    arena.train();
}

/// The server looks for interrupts, and converts to the client's encoding, in the middle of a
/// notice: an ERROR there must not leave the trainer and the locks behind.
#[test]
fn a_notice_that_cannot_be_told_leaves_nothing() {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    let odd = arena.call("").replace("'m'", "'\u{6a21}\u{578b}'");
    let plain = arena.call("");
    let output = Command::new(program("psql"))
        .args(["-X", "-h"])
        .arg(cluster.socket_folder())
        .args(["-U", "analyst", "-d", arena.database().name()])
        .args(["-c", &format!("SET client_encoding = 'UTF8'; {}", "SELECT 1"), "-c"])
        .arg(format!("DO $do$ BEGIN SET client_encoding = 'LATIN1'; END $do$; {odd}"))
        .args(["-c", "RESET client_encoding", "-c", &plain])
        .env("PGPORT", cluster.port().to_string())
        .env("PGCLIENTENCODING", "UTF8")
        .output()
        .expect("run psql");
    let told = String::from_utf8_lossy(&output.stderr);
    println!("{told}");
    assert!(output.status.success(), "the session does not go on: {told}");
    assert_eq!(leftovers(arena.database()), [""; 0]);
    let models: i64 = arena.database().superuser().value("SELECT count(*) FROM riskft.model");
    assert!(models <= 2);
}

#[test]
fn a_client_that_goes_away_ends_its_training() {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    let call =
        arena.call("").replace("\"head_epochs\": 8", "\"head_epochs\": 1000, \"patience\": 1000");
    let mut client = Command::new(program("psql"))
        .args(["-X", "-h"])
        .arg(cluster.socket_folder())
        .args(["-U", "analyst", "-d", arena.database().name(), "-c", &call])
        .env("PGPORT", cluster.port().to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("run psql");
    let mut trainers = Vec::new();
    assert!(process::await_true(Duration::from_secs(30), || {
        trainers = process::trainers_below(cluster.server_pid());
        !trainers.is_empty()
    }));
    client.kill().expect("kill psql");
    client.wait().expect("psql ends");
    // It is noticed when the next notice is sent, every few seconds at the latest.
    for trainer in trainers {
        assert!(process::await_end(trainer, Duration::from_secs(20)), "the trainer goes on");
    }
    assert_eq!(leftovers(arena.database()), [""; 0]);
    arena.train();
}
