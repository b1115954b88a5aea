//! F44: what pg_dump takes along, and what is there after a restore. DROP EXTENSION besides.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use postgres::NoTls;
use riskft_tests::fixture::{self, small_loans, small_text_training, small_training};
use riskft_tests::{fails, process, refuses, Cluster, Database, Session};

const SCORES: &[&str] = &[
    "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id",
    "SELECT risk_score('m@1', l) FROM loans l ORDER BY loan_id",
    "SELECT risk_score('m@challenger', l) FROM loans l ORDER BY loan_id",
    "SELECT risk_score('t', n) FROM notes n ORDER BY note_id",
];
const TABLES: &[&str] = &[
    "model",
    "version",
    "run",
    "metric",
    "feature",
    "branch",
    "period_metric",
    "trial",
    "importance",
    "effect",
    "reference",
    "curve",
    "drift_point",
    "drift_line",
    "drift_outcome",
    "feedback",
    "reason_code",
    "grade",
    "blob",
    "blob_chunk",
    "ab_test",
    "ab_evaluation",
    "ab_result",
    "deployment",
    "alias",
    "fallback",
    "approval",
    "audit_entry",
    "privilege",
    "reducer",
    "component",
];
const OUTLIVES_A_MODEL: &[&str] = &["run", "reason_code", "grade", "audit_entry"];
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a dump takes.
const LONG: &str =
    "CALL riskft_train('long', 'loans', 'defaulted', exclude => '{loan_id}', method => 'none',
     options => '{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}')";

/// A database with two versions of `m`, the second deployed, a model with text, a reducer, a grant
/// to `reader`, and a run that failed. Also returns the name of the text model's base.
fn origin(cluster: &Cluster) -> (Database<'_>, String) {
    let database = Database::within(cluster);
    small_loans(&database, 400);
    let base = fixture::small_text_model(&database);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"always\", "));
    fixture::more_figures(&database);
    analyst.run("SELECT riskft_monitor('m', 'loans', 'defaulted')");
    analyst.run("SELECT riskft_feedback('m', 'loans', 'loan_id', 'defaulted')");
    analyst.run("CALL riskft_reduce('pca', 'SELECT loan_id, amount FROM loans', 2)");
    analyst.run("SELECT riskft_set_alias('m', 'challenger', 1, 'it was the first')");
    analyst.run("SELECT riskft_fallback('m', 'psi > 1000', 'é')");
    // From here on the bare name routes.
    analyst.run(
        "SELECT riskft_ab_start('m', 'challenger', 0.5, 'loan_id', reason => 'é');
         SELECT riskft_ab_evaluate('m', 'loans', 'defaulted')",
    );
    database.superuser().run("SELECT riskft_approve('m', 2, 'validated')");
    database.superuser().run(
        "INSERT INTO riskft.reason_code (model, column_name, direction, code, reason)
             VALUES ('m', 'amount', 'high', 'R1', 'The amount is high'), (NULL, 'grade', 'any', 'R2', 'é');
         INSERT INTO riskft.grade (model, grade, at_least) VALUES ('m', 'A', 0), (NULL, 'B', 0)",
    );
    database.superuser().run("CREATE ROLE reader LOGIN");
    analyst
        .run("SELECT riskft_grant('m', 'reader', 'score'); GRANT SELECT ON loans, notes TO reader");
    // Each row keeps its score, so that a restored database can be compared by itself.
    analyst.run(
        "CREATE TABLE kept AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l;
         CREATE VIEW scored AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l",
    );
    let failed = small_training("m", "SELECT * FROM loans WHERE false", "")
        .replace("method =>", "wait => false, method =>");
    analyst.run(&failed);
    let run: i64 = analyst.value("SELECT max(run) FROM riskft.runs");
    let state: String = analyst.value(&format!("SELECT riskft_wait({run}, '60 s')"));
    assert_eq!(state, "failed");
    (database, base)
}

fn scores(session: &mut Session) -> Vec<Vec<u64>> {
    let bits = |query: &&str| {
        session.values::<f64>(query).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    SCORES.iter().map(bits).collect()
}

/// Every row of every table of the catalogue, and where the sequences stand.
fn contents(session: &mut Session) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for table in TABLES {
        let rows: String = session.value(&format!(
            "SELECT count(*) || ' rows, ' || coalesce(string_agg(md5(r::text), ' ' ORDER BY md5(r::text)), '')
             FROM riskft.{table} r"
        ));
        all.push(format!("{table}: {rows}"));
    }
    let sequences = "SELECT format('%s: %s', sequencename, last_value) FROM pg_sequences
                     WHERE schemaname = 'riskft' ORDER BY 1";
    all.extend(session.values::<String>(sequences));
    all
}

/// Runs a client program; what it wrote to its error output, if it failed or not.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// [`run`], of what must end well and without a word.
fn succeeds(command: &mut Command) {
    let (ended_well, told) = run(command);
    assert!(ended_well && told.is_empty(), "{command:?}: {told}");
}

/// Writes a dump into the cluster's folder.
fn dump(database: &Database, name: &str, options: &[&str]) -> PathBuf {
    let file = database.cluster().socket_folder().join(name);
    let mut command = database.cluster().client("pg_dump");
    succeeds(command.args(options).arg("--file").arg(&file).args(["--dbname", database.name()]));
    file
}

/// An empty database, without the extension.
fn empty(cluster: &Cluster, name: &str) {
    cluster.superuser().run(&format!("CREATE DATABASE {name}"));
}

/// psql, which stops at the first error.
fn psql(cluster: &Cluster, into: &str, file: &PathBuf) -> Command {
    let mut command = cluster.client("psql");
    command
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null"])
        .args(["--dbname", into, "--file"])
        .arg(file);
    command
}

fn pg_restore(cluster: &Cluster, into: &str, file: &PathBuf, options: &[&str]) -> Command {
    let mut command = cluster.client("pg_restore");
    command.args(options).args(["--dbname", into]).arg(file);
    command
}

/// The next training has the next numbers, and no number twice.
fn trains_on(session: &mut Session, version: i32) {
    let runs: i64 = session.value("SELECT max(run_id) FROM riskft.run");
    let row = session
        .query_one(&small_training("m", "loans", "\"seed\": 3, \"deploy\": \"always\", "), &[])
        .unwrap_or_else(|e| panic!("train after the restore: {e:?}"));
    assert_eq!(row.get::<_, i32>("version"), version);
    assert!(row.get::<_, i64>("run") > runs);
    session.run(&small_training("new", "loans", ""));
    // By the outcomes that were restored.
    session.run(
        r#"CALL riskft_update('m', 'loans', key => 'loan_id', options =>
               '{"epochs": 1, "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}}')"#,
    );
}

#[test]
fn plain_and_custom_dumps_keep_everything() {
    let cluster = Cluster::start();
    let (database, _) = origin(&cluster);
    let mut superuser = database.superuser();
    let (kept, told) = (scores(&mut superuser), contents(&mut superuser));
    assert!(told.iter().all(|line| !line.contains(": 0 rows")), "{told:?}");

    let plain = dump(&database, "plain.sql", &[]);
    empty(&cluster, "plain");
    succeeds(&mut psql(&cluster, "plain", &plain));
    let custom = dump(&database, "custom", &["--format=custom"]);
    empty(&cluster, "custom");
    succeeds(&mut pg_restore(&cluster, "custom", &custom, &["--exit-on-error"]));
    let folder = dump(&database, "folder", &["--format=directory", "--jobs=2"]);
    empty(&cluster, "parallel");
    succeeds(&mut pg_restore(&cluster, "parallel", &folder, &["--exit-on-error", "--jobs=2"]));

    for name in ["plain", "custom", "parallel"] {
        let mut superuser = cluster.connect(name, "postgres");
        assert_eq!(contents(&mut superuser), told, "{name}");
        assert_eq!(scores(&mut superuser), kept, "{name}");
        let mut reader = cluster.connect(name, "reader");
        assert_eq!(reader.values::<f64>(SCORES[0]).len(), 400, "{name}: the grant is there");
        refuses(&mut reader, SCORES[3], "42501");
        let mut analyst = cluster.connect(name, "analyst");
        let approved = "SELECT approved_by FROM riskft.versions WHERE model = 'm' AND version = 2";
        assert_eq!(analyst.value::<String>(approved), "postgres", "{name}");
        let entries: i64 = analyst.value("SELECT max(entry) FROM riskft.audit");
        let differing: i64 = analyst.value(
            "SELECT count(*) FROM kept JOIN scored USING (loan_id)
             WHERE float8send(kept.risk) IS DISTINCT FROM float8send(scored.risk)",
        );
        assert_eq!(differing, 0, "{name}");
        assert_eq!(analyst.value::<i32>("SELECT riskft_rollback('m')"), 1);
        refuses(&mut analyst, "SELECT riskft_rollback('m')", "55000");
        analyst.run("SELECT riskft_deploy('m', 2)");
        // The rollback, the test that it ended, and the deployment.
        assert_eq!(analyst.value::<i64>("SELECT max(entry) FROM riskft.audit"), entries + 3);
        superuser.run("GRANT CREATE ON SCHEMA public TO analyst");
        let mut trainer = cluster.connect(name, "postgres");
        trains_on(&mut trainer, 3);
        for model in ["m", "t", "pca"] {
            analyst.run(&format!("SELECT riskft_drop('{model}')"));
        }
        superuser.run("SELECT riskft_drop('new')");
        for table in TABLES.iter().filter(|table| !OUTLIVES_A_MODEL.contains(table)) {
            let rows: i64 = superuser.value(&format!("SELECT count(*) FROM riskft.{table}"));
            assert_eq!(rows, 0, "{name}: dropped models leave rows in riskft.{table}");
        }
    }
}

/// pg_restore --jobs loads the tables of an extension in any order.
#[test]
fn no_order_of_loading_matters() {
    let database = Database::new();
    let keys: i64 = database.superuser().value(
        "SELECT count(*) FROM pg_constraint
         WHERE contype = 'f' AND connamespace = 'riskft'::regnamespace",
    );
    assert_eq!(keys, 0);
}

/// Neither the owner nor the base weights are there: scoring needs none of both.
#[test]
fn a_dump_restores_into_another_cluster() {
    let cluster = Cluster::start();
    let (database, base) = origin(&cluster);
    let mut superuser = database.superuser();
    let (kept, told) = (scores(&mut superuser), contents(&mut superuser));
    let custom = dump(&database, "custom", &["--format=custom"]);
    let plain = dump(&database, "plain.sql", &["--no-owner", "--no-privileges"]);

    let elsewhere = Cluster::start();
    elsewhere.superuser().run("DROP ROLE analyst");
    empty(&elsewhere, "plain");
    succeeds(&mut psql(&elsewhere, "plain", &plain));
    empty(&elsewhere, "clean");
    let options = ["--exit-on-error", "--no-owner", "--no-privileges"];
    succeeds(&mut pg_restore(&elsewhere, "clean", &custom, &options));
    // With owners, pg_restore counts the roles that are missing and goes on.
    empty(&elsewhere, "owned");
    let (ended_well, complaints) = run(&mut pg_restore(&elsewhere, "owned", &custom, &[]));
    assert!(!ended_well);
    let errors = complaints.lines().filter(|line| line.contains("ERROR:"));
    let others: Vec<&str> = errors
        .filter(|line| !line.ends_with("\" does not exist") || !line.contains("role"))
        .collect();
    assert!(others.is_empty(), "{others:?}");

    for name in ["plain", "clean", "owned"] {
        let mut superuser = elsewhere.connect(name, "postgres");
        assert_eq!(contents(&mut superuser), told, "{name}");
        assert_eq!(scores(&mut superuser), kept, "{name}");
        let owner: String =
            superuser.value("SELECT owner::text FROM riskft.models WHERE model = 'm'");
        assert_eq!(owner, "analyst", "the owner's name stays");
        let error = refuses(&mut superuser, &small_text_training("t", &base), "58P01");
        assert!(error.message().contains(&base), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("riskft_import_base")), "{error:?}");
        trains_on(&mut superuser, 3);
    }

    // Whoever then gets the owner's name has the owner's rights, and the grantee the grantee's.
    elsewhere.superuser().run("CREATE ROLE analyst LOGIN; CREATE ROLE reader LOGIN");
    elsewhere.connect("plain", "postgres").run("GRANT SELECT ON loans TO analyst, reader");
    let scored = "SELECT count(risk_score('m', l)) FROM loans l";
    let (mut analyst, mut reader) =
        (elsewhere.connect("plain", "analyst"), elsewhere.connect("plain", "reader"));
    assert_eq!(reader.value::<i64>(scored), 400);
    refuses(&mut reader, "SELECT riskft_drop('m')", "42501");
    analyst.run("SELECT riskft_drop('m')");
    refuses(&mut reader, scored, "42704");
}

#[test]
fn schema_and_data_can_be_dumped_apart() {
    let cluster = Cluster::start();
    let (database, _) = origin(&cluster);
    let mut superuser = database.superuser();
    let (kept, told) = (scores(&mut superuser), contents(&mut superuser));
    let schema = dump(&database, "schema.sql", &["--schema-only"]);
    let data = dump(&database, "data.sql", &["--data-only"]);

    empty(&cluster, "apart");
    succeeds(&mut psql(&cluster, "apart", &schema));
    let mut superuser = cluster.connect("apart", "postgres");
    for table in TABLES {
        let rows: i64 = superuser.value(&format!("SELECT count(*) FROM riskft.{table}"));
        assert_eq!(rows, 0, "{table}: the schema alone holds no model");
    }
    refuses(&mut superuser, "SELECT risk_score_json('m', '{}')", "42704");
    succeeds(&mut psql(&cluster, "apart", &data));
    assert_eq!(contents(&mut superuser), told);
    assert_eq!(scores(&mut superuser), kept);
    trains_on(&mut superuser, 3);
}

/// The dump's snapshot shows a run's version whole or not at all; a run under way stays behind.
#[test]
fn a_dump_during_a_training_is_whole() {
    let cluster = Cluster::start();
    let (database, _) = origin(&cluster);
    let mut superuser = database.superuser();
    let (kept, told) = (scores(&mut superuser), contents(&mut superuser));
    let mut analyst = database.analyst();
    let (backend, cancel) = (analyst.pid(), analyst.cancel_token());
    let mut other = database.analyst();
    other.run(&LONG.replace("method =>", "wait => false, method =>"));
    let queued: i64 = other.value("SELECT max(run) FROM riskft.runs");
    thread::scope(|scope| {
        let training = scope.spawn(|| fails(&mut analyst, LONG, "57014"));
        process::await_trainer(backend, PATIENCE).expect("a trainer");
        dump(&database, "during.sql", &[]);
        cancel.cancel_query(NoTls).expect("cancel");
        training.join().expect("the training is cancelled");
    });
    assert!(other.value::<bool>(&format!("SELECT riskft_cancel({queued})")));
    empty(&cluster, "during");
    succeeds(&mut psql(&cluster, "during", &cluster.socket_folder().join("during.sql")));
    let mut superuser = cluster.connect("during", "postgres");
    let without_sequences = |lines: &[String]| lines[..TABLES.len()].to_vec();
    let restored = contents(&mut superuser);
    assert_eq!(without_sequences(&restored), without_sequences(&told));
    assert_eq!(scores(&mut superuser), kept);
    trains_on(&mut superuser, 3);
}

/// Model files are readable through the views and functions alone; a dump reads the tables.
#[test]
fn a_dump_needs_the_right_to_read_all_data() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    let file = cluster.socket_folder().join("own.sql");
    let mut as_analyst = cluster.client("pg_dump");
    as_analyst
        .env("PGUSER", "analyst")
        .arg("--file")
        .arg(&file)
        .args(["--dbname", database.name()]);
    let (ended_well, told) = run(&mut as_analyst);
    assert!(!ended_well && told.contains("permission denied"), "{told}");
    database.superuser().run("GRANT pg_read_all_data TO analyst");
    succeeds(&mut as_analyst);
    empty(&cluster, "own");
    succeeds(&mut psql(&cluster, "own", &file));
    let mut superuser = cluster.connect("own", "postgres");
    assert_eq!(contents(&mut superuser), contents(&mut database.superuser()));
}

#[test]
fn the_extension_is_dropped_with_what_depends_named() {
    let database = Database::new();
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    analyst.run("CREATE VIEW scored AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l");
    assert_eq!(analyst.values::<f64>("SELECT risk FROM scored").len(), 400);
    let mut superuser = database.superuser();
    let error = fails(&mut superuser, "DROP EXTENSION riskft", "2BP01");
    assert!(error.detail().is_some_and(|detail| detail.contains("view scored")), "{error:?}");
    assert_eq!(analyst.values::<f64>("SELECT risk FROM scored").len(), 400);
    analyst.run("DROP VIEW scored");
    superuser.run("DROP EXTENSION riskft");
    fails(&mut analyst, "SELECT risk_score('m', l) FROM loans l", "42883");
    fails(&mut analyst, "SELECT * FROM riskft.models", "42P01");

    // A new catalogue begins empty, in open sessions too.
    superuser.run("CREATE EXTENSION riskft");
    refuses(&mut analyst, "SELECT risk_score('m', l) FROM loans l", "42704");
    analyst.run(&small_training("m", "loans", ""));
    assert_eq!(analyst.value::<i32>("SELECT max(version) FROM riskft.versions"), 1);
    analyst.run("CREATE VIEW scored AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l");
    superuser.run("DROP EXTENSION riskft CASCADE");
    fails(&mut analyst, "SELECT risk FROM scored", "42P01");
}
