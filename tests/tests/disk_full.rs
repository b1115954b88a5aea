//! Full disks, each a small file system of its own: 53100, nothing half there, and the same call
//! works once there is space again.

use riskft_tests::disk::Disk;
use riskft_tests::{fails, fixture, leftovers, refuses, Cluster, Database, Session};

const CALL: &str = "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
    options => '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 128, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')";
const SCORES: &str =
    "SELECT md5(string_agg(float8send(risk_score('m', l))::text, '' ORDER BY loan_id)) FROM loans l";

fn database(cluster: &Cluster) -> (Database<'_>, Session) {
    let database = Database::within(cluster);
    fixture::loans(&database, 1_000);
    let analyst = database.analyst();
    (database, analyst)
}

#[test]
fn a_full_cache() {
    let cluster = Cluster::start();
    let (database, mut analyst) = database(&cluster);
    analyst.run(CALL);
    let scores: String = analyst.value(SCORES);
    let folder = cluster.data().join("base/pgsql_tmp/pgsql_tmp_riskft");
    let Some(disk) = Disk::mount(&folder, 16_384) else { return };
    disk.fill_but(4);
    // The mapped file stays in use; a new session finds no file and no space.
    assert_eq!(analyst.value::<String>(SCORES), scores);
    let mut new = database.analyst();
    refuses(&mut new, SCORES, "53100");
    refuses(&mut new, SCORES, "53100");
    assert_eq!(leftovers(&database), [""; 0]);
    // The status file is only a report: training goes on without it, but for its comparison with
    // the deployed version, whose file this session has mapped.
    disk.free();
    assert_eq!(new.value::<String>(SCORES), scores);
    disk.fill_but(0);
    new.run(&CALL.replace("'m'", "'other'"));
    disk.free();
    assert_eq!(leftovers(&database), [""; 0]);
}

#[test]
fn a_full_tablespace_while_publishing() {
    let cluster = Cluster::start();
    let (database, mut analyst) = database(&cluster);
    analyst.run(CALL);
    let scores: String = analyst.value(SCORES);
    let folder = cluster.socket_folder().join("space");
    let Some(disk) = Disk::mount(&folder, 65_536) else { return };
    let mut superuser = database.superuser();
    superuser.run(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display()));
    superuser.run(
        "ALTER TABLE riskft.blob_chunk SET TABLESPACE small;
         ALTER INDEX riskft.blob_chunk_pkey SET TABLESPACE small",
    );
    disk.fill_but(40);
    for _ in 0..2 {
        fails(&mut analyst, &CALL.replace("128", "127"), "53100");
        assert_eq!(leftovers(&database), [""; 0]);
        assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.versions"), 1);
        assert_eq!(analyst.value::<String>(SCORES), scores);
    }
    let queued: i64 = analyst
        .query_one(&CALL.replace("128", "127").replace("options", "wait => false, options"), &[])
        .expect("queue a run")
        .get("run");
    let state: String = analyst.value(&format!("SELECT riskft_wait({queued}, '1 minute')"));
    assert_eq!(state, "failed");
    let code: String =
        analyst.value(&format!("SELECT sqlstate FROM riskft.runs WHERE run = {queued}"));
    assert_eq!(code, "53100");
    disk.free();
    analyst.run(&CALL.replace("128", "127"));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.versions"), 2);
    assert_eq!(leftovers(&database), [""; 0]);
}

#[test]
fn a_full_temporary_space_while_reading() {
    let cluster = Cluster::start();
    let (database, mut analyst) = database(&cluster);
    let Some(disk) = Disk::mount(&cluster.data().join("base/pgsql_tmp"), 2_048) else { return };
    disk.fill_but(100);
    analyst.run("SET work_mem = '64kB'");
    let call = CALL
        .replace("'loans'", "'SELECT l.* FROM loans l, generate_series(1, 8) ORDER BY random()'");
    fails(&mut analyst, &call, "53100");
    assert_eq!(leftovers(&database), [""; 0]);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    analyst.run("SET work_mem = '64MB'");
    disk.free();
    analyst.run(&call);
    assert_eq!(leftovers(&database), [""; 0]);
}
