//! Hot standbys of throw-away clusters.

use std::time::Duration;

use crate::cluster::{Cluster, SOCKET_PORT};
use crate::process;

/// Longest wait for a standby to replay what the primary has written.
const REPLAY: Duration = Duration::from_secs(60);

impl Cluster {
    /// A hot standby of this cluster, made by pg_basebackup and fed through the socket. It has a
    /// folder, a log and a server of its own.
    pub fn standby(&self, settings: &[(&str, &str)]) -> Cluster {
        let standby = Cluster::prepare(SOCKET_PORT, settings);
        self.base_backup(&standby);
        standby.launch();
        standby
    }

    fn base_backup(&self, into: &Cluster) {
        let output = self
            .command("pg_basebackup")
            .arg("--pgdata")
            .arg(into.data())
            .args([
                "--wal-method=stream",
                "--checkpoint=fast",
                "--write-recovery-conf",
                "--no-sync",
            ])
            .args(["--username=postgres", "--port"])
            .arg(self.port().to_string())
            .arg("--host")
            .arg(self.socket_folder())
            .output()
            .expect("run pg_basebackup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until this standby shows what the primary has committed by now.
    pub fn await_replay(&self, primary: &Cluster) {
        let written: String = primary.superuser().value("SELECT pg_current_wal_lsn()::text");
        let mut here = self.superuser();
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        let replayed = process::await_true(REPLAY, || here.value(&sql));
        assert!(replayed, "the standby does not reach {written}:\n{}", self.log().tail(20));
    }

    /// Makes a primary of this standby.
    pub fn promote(&self) {
        assert!(self.superuser().value::<bool>("SELECT pg_promote(true, 60)"), "promote");
    }
}
