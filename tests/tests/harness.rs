//! The harness itself: what the other tests rely on.

use std::time::Duration;

use riskft_tests::{fails, fixture, process, Cluster, Database};

#[test]
fn a_cluster_comes_and_goes() {
    let cluster = Cluster::start();
    let pid = cluster.server_pid();
    let folder = cluster.socket_folder().to_owned();
    assert_eq!(cluster.superuser().value::<String>("SELECT current_user::text"), "postgres");
    let mut analyst = cluster.connect("postgres", "analyst");
    assert!(!analyst.value::<bool>("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"));
    fails(&mut analyst, "SELECT 1 / 0", "22012");
    analyst.run("DO $$ BEGIN RAISE NOTICE 'seen'; END $$");
    assert_eq!(analyst.notices()[0].message, "seen");
    drop(analyst);
    drop(cluster);
    assert!(!process::exists(pid));
    assert!(!folder.exists());
}

#[test]
fn a_lost_backend_is_found_in_the_log() {
    let cluster = Cluster::start();
    assert_eq!(cluster.log().check(), Ok(()));
    let mut session = cluster.superuser();
    process::signal(session.pid(), process::KILL);
    assert!(session.batch_execute("SELECT 1").is_err());
    // The server writes of the end when it has reaped the backend, which may come later.
    assert!(process::await_true(Duration::from_secs(10), || cluster.log().check().is_err()));
    cluster.await_recovery();
    cluster.log().allow("was terminated by signal 9");
    assert_eq!(cluster.log().check(), Ok(()));
}

#[test]
fn the_fixtures_are_whole() {
    let database = Database::new();
    fixture::loans(&database, fixture::LOAN_ROWS);
    fixture::complaints(&database, fixture::COMPLAINT_ROWS);
    let mut analyst = database.analyst();
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 20_000);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans WHERE defaulted"), 5_014);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM complaints WHERE fee_issue"), 468);
}
