//! dbt-postgres: models that score, and hooks that train, deploy and queue.

use std::fs;
use std::path::{Path, PathBuf};

use riskft_tests::{fixture, Session};

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

/// Each run trains one version before its models and queues one after them.
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
    let mut run = |vars: &str| {
        let outcome = dbt(&stage, &program, &work.0, vars);
        await_queue(&mut analyst);
        outcome
    };
    let mut witness = stage.database.analyst();

    let (good, text) = run("{seed: 1}");
    assert!(good, "{text}");
    published(&mut witness, 1);
    scored_once(&mut witness, &[(1, 400)]);
    witness.run(
        "INSERT INTO loans SELECT (jsonb_populate_record(l, jsonb_build_object('loan_id', -loan_id))).*
         FROM loans l ORDER BY loan_id LIMIT 20",
    );
    let (good, text) = run("{seed: 2}");
    assert!(good, "{text}");
    published(&mut witness, 3);
    scored_once(&mut witness, &[(1, 400), (3, 20)]);

    // A check that fails after the deployment, in its transaction, and a model that cannot score:
    // the table stays as it was, and so does the meaning of the bare name.
    for (vars, message) in [
        ("{seed: 3, highest_mean: 0}", "mean risk is too high"),
        ("{seed: 4, scored_by: none}", "model \"none\" does not exist"),
    ] {
        let (good, text) = run(vars);
        assert!(!good && text.contains(message), "{text}");
        published(&mut witness, 3);
    }
    assert_eq!(witness.value::<i64>("SELECT count(*) FROM riskft.versions"), 2 * 4);
    assert_eq!(witness.value::<i64>("SELECT count(*) FROM riskft.progress"), 0);
}

/// The table and the view hold the scores of this version, not those of a newer one that was
/// trained and not published; it is what the bare name means.
fn published(analyst: &mut Session, version: i32) {
    let deployed: i32 =
        analyst.value("SELECT deployed_version FROM riskft.models WHERE model = 'dbt_risk'");
    assert_eq!(deployed, version);
    let scores = |version: i32| {
        format!("SELECT risk_score('dbt_risk@{version}', l) FROM loans l ORDER BY loan_id")
    };
    let expected = bits(analyst, &scores(version));
    for table in ["scored_loans", "scored_loans_live"] {
        let got = bits(analyst, &format!("SELECT risk FROM marts.{table} ORDER BY loan_id"));
        assert!(got == expected, "marts.{table} is not of version {version}");
    }
    let newest: i32 = analyst.value("SELECT max(version) FROM riskft.versions");
    if newest > version + 1 {
        assert!(bits(analyst, &scores(newest - 1)) != expected, "two seeds, the same scores");
    }
}

/// Rows of the incremental model by the version that scored them, which it did to the bit.
fn scored_once(analyst: &mut Session, expected: &[(i32, i64)]) {
    let rows = analyst
        .query(
            "SELECT s.version, count(*) FILTER (WHERE float8send(s.risk)
                 = float8send(risk_score('dbt_risk@' || s.version, l)))
             FROM marts.scores_once s JOIN loans l USING (loan_id) GROUP BY 1 ORDER BY 1",
            &[],
        )
        .expect("read the incremental model");
    let found: Vec<(i32, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, expected);
}
