//! dbt-postgres: models that score, and hooks that train, deploy and queue.

use std::fs;
use std::path::{Path, PathBuf};

use riskft_tests::{fixture, process, Session};

use crate::stage::{clients, hexadecimal, python, skipped, Stage};

/// One `dbt run` of tests/clients/dbt; whether it succeeded, and what it printed.
fn dbt(stage: &Stage, program: &Path, work: &Path, vars: &str) -> (bool, String) {
    let output = stage
        .command(program)
        .current_dir(clients().join("dbt"))
        .args(["--no-use-colors", "run", "--profiles-dir", ".", "--target-path"])
        .arg(work.join("target"))
        .arg("--log-path")
        .arg(work.join("log"))
        .args(["--vars", vars])
        .envs([("DO_NOT_TRACK", "1"), ("HOME", &work.to_string_lossy())])
        .output()
        .expect("run dbt");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

/// A folder for dbt's logs and compiled files; it goes with the test.
struct Work(PathBuf);

impl Work {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("riskft-dbt-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("create a folder");
        Work(folder)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bits(session: &mut Session, sql: &str) -> Vec<String> {
    session.values::<f64>(sql).into_iter().map(hexadecimal).collect()
}

/// The run that the last hook has queued ends well.
fn await_queue(analyst: &mut Session) {
    let run: i64 = analyst.value("SELECT max(run) FROM riskft.runs");
    assert_eq!(analyst.value::<String>(&format!("SELECT riskft_wait({run}, '2 minutes')")), "done");
}

fn deployed(analyst: &mut Session) -> i32 {
    analyst.value("SELECT deployed_version FROM riskft.models WHERE model = 'dbt_risk'")
}

#[test]
fn dbt_scores_and_publishes() {
    if skipped("dbt") {
        return;
    }
    let program = python("dbt", "dbt");
    let stage = Stage::bare();
    fixture::loans(&stage.database, 400);
    let work = Work::new();
    let mut analyst = stage.database.analyst();
    for (round, version) in [1, 3].into_iter().enumerate() {
        let (good, text) = dbt(&stage, &program, &work.0, "{}");
        assert!(good, "{text}");
        await_queue(&mut analyst);
        assert_eq!(deployed(&mut analyst), version, "run {round}");
        let expected = bits(
            &mut analyst,
            &format!("SELECT risk_score('dbt_risk@{version}', l) FROM loans l ORDER BY loan_id"),
        );
        for table in ["scored_loans", "scored_loans_live"] {
            let got =
                bits(&mut analyst, &format!("SELECT risk FROM marts.{table} ORDER BY loan_id"));
            assert!(got == expected, "marts.{table} after run {round}");
        }
        // The loans that come before the second run are scored by its version, the others not again.
        let once = analyst.value::<i64>(
            "SELECT count(*) FROM marts.scores_once s JOIN loans l USING (loan_id)
             WHERE float8send(s.risk) = float8send(risk_score('dbt_risk@' || s.version, l))",
        );
        let versions: Vec<i64> = analyst
            .values("SELECT count(*) FROM marts.scores_once GROUP BY version ORDER BY version");
        assert_eq!(once, versions.iter().sum::<i64>());
        assert_eq!(versions, if round == 0 { vec![400] } else { vec![400, 20] });
        if round == 0 {
            analyst.run(
                "INSERT INTO loans SELECT (jsonb_populate_record(l, jsonb_build_object('loan_id', -loan_id))).*
                 FROM loans l ORDER BY loan_id LIMIT 20",
            );
        }
    }

    // A model that cannot score: its table stays, the rest of the run goes on, and nothing is
    // deployed, for the hook belongs to the same transaction.
    let before = bits(&mut analyst, "SELECT risk FROM marts.scored_loans ORDER BY loan_id");
    let (good, text) = dbt(&stage, &program, &work.0, "{scored_by: none}");
    assert!(!good && text.contains("model \"none\" does not exist"), "{text}");
    await_queue(&mut analyst);
    assert_eq!(bits(&mut analyst, "SELECT risk FROM marts.scored_loans ORDER BY loan_id"), before);
    assert_eq!(deployed(&mut analyst), 3);
    let quiet = process::await_true(std::time::Duration::from_secs(20), || {
        analyst.value::<i64>("SELECT count(*) FROM riskft.progress") == 0
    });
    assert!(quiet, "a run is still under way");
}
