//! What a fault must not leave behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::database::Database;
use crate::process;
use crate::session::Session;

/// Longest wait for what ends by itself: a killed process, a worker on its way out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions to the catalogue, each with the answer 0 when all is well.
const QUESTIONS: [(&str, &str); 10] = [
    (
        "files without a version or reducer",
        "SELECT count(*) FROM riskft.blob b WHERE NOT EXISTS (SELECT FROM riskft.version v
         WHERE b.digest IN (v.version_digest, v.encoder_digest, v.training_digest))
         AND NOT EXISTS (SELECT FROM riskft.reducer r WHERE r.digest = b.digest)",
    ),
    (
        "versions without a file of theirs",
        "SELECT count(*) FROM riskft.version v,
             unnest(ARRAY[v.version_digest, v.encoder_digest, v.training_digest]) digest
         WHERE digest IS NOT NULL AND NOT EXISTS
             (SELECT FROM riskft.blob b WHERE b.digest = digest.digest)",
    ),
    (
        "chunks without a file",
        "SELECT count(*) FROM riskft.blob_chunk c WHERE NOT EXISTS
             (SELECT FROM riskft.blob b WHERE b.digest = c.digest)",
    ),
    (
        "figures without a version",
        "SELECT count(*) FROM (SELECT model_id, version FROM riskft.metric
             UNION SELECT model_id, version FROM riskft.feature
             UNION SELECT model_id, version FROM riskft.branch
             UNION SELECT model_id, version FROM riskft.period_metric
             UNION SELECT model_id, version FROM riskft.trial
             UNION SELECT model_id, version FROM riskft.deployment) f
         WHERE (model_id, version) NOT IN (SELECT model_id, version FROM riskft.version)",
    ),
    (
        "files that do not fit their digest",
        "SELECT count(*) FROM riskft.blob b LEFT JOIN LATERAL
             (SELECT encode(sha256(string_agg(c.bytes, '' ORDER BY c.number)), 'hex') AS digest,
                  sum(length(c.bytes)) AS length
              FROM riskft.blob_chunk c WHERE c.digest = b.digest) s ON true
         WHERE (s.digest = b.digest AND s.length = b.length) IS NOT TRUE",
    ),
    (
        "models without a version",
        "SELECT count(*) FROM riskft.model m WHERE m.kind = 'model' AND NOT EXISTS
             (SELECT FROM riskft.version v WHERE v.model_id = m.model_id)",
    ),
    (
        "reducers that are not whole",
        "SELECT count(*) FROM riskft.model m FULL JOIN riskft.reducer f USING (model_id)
         WHERE (m.kind = 'reducer' OR f.model_id IS NOT NULL) AND (m.kind = 'reducer'
             AND EXISTS (SELECT FROM riskft.blob b WHERE b.digest = f.digest)
             AND EXISTS (SELECT FROM riskft.component c WHERE c.model_id = f.model_id)
             AND EXISTS (SELECT FROM riskft.run r WHERE r.run_id = f.run_id AND r.state = 'done'))
             IS NOT TRUE",
    ),
    (
        "versions whose run is not done",
        "SELECT count(*) FROM riskft.version v JOIN riskft.run r USING (run_id) WHERE r.state <> 'done'",
    ),
    (
        "runs that nobody works on",
        "SELECT count(*) FROM riskft.runs r WHERE r.state = 'running'",
    ),
    (
        "locks of runs and trainers",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid BETWEEN 21062 AND 21064",
    ),
];

/// What is left of trainings in this database that have ended, one way or another; each in words.
/// Nothing else may train in the cluster meanwhile.
pub fn leftovers(database: &Database) -> Vec<String> {
    let mut found = Vec::new();
    let mut superuser = database.superuser();
    process::await_true(PATIENCE, || {
        found = look(database, &mut superuser);
        found.is_empty()
    });
    found
}

fn look(database: &Database, superuser: &mut Session) -> Vec<String> {
    let cluster = database.cluster();
    let trainers = process::trainers_below(cluster.server_pid());
    let mut found: Vec<String> = trainers.iter().map(|pid| format!("trainer {pid}")).collect();
    for (what, question) in QUESTIONS {
        let count: i64 = superuser.value(question);
        if count != 0 {
            found.push(format!("{what}: {count}"));
        }
    }
    temporary_files(&cluster.data().join("base/pgsql_tmp"), &mut found);
    found
}

/// All but whole files of the cache, whose names are digests.
fn temporary_files(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let whole = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if entry.path().is_dir() && name == "pgsql_tmp_riskft" {
            temporary_files(&entry.path(), found);
        } else if !whole && name != "ballast" {
            found.push(format!("temporary file {name}"));
        }
    }
}
