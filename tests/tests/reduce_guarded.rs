//! Reducers: arguments, rights, names, transactions, cancels, dumps and damage.

use std::thread;
use std::time::Duration;

use postgres::NoTls;
use riskft_tests::reduction::{bits, reduce, reduced, EXCLUDE, TABLE};
use riskft_tests::{fails, leftovers, process, refuses, Cluster, Database, Session};

#[test]
fn bad_arguments_are_refused() {
    let (database, mut analyst) = reduced();
    let loans = "SELECT note FROM t";
    for (call, code) in [
        (reduce("q", "t", "0", ""), "22023"),
        (reduce("q", "t", "-1", ""), "22023"),
        (reduce("q", "t", "1.5", ""), "22023"),
        (reduce("q", "t", "'NaN'", ""), "22023"),
        (reduce("q", "t", "'Infinity'", ""), "22023"),
        (reduce("q", "t", "NULL", ""), "22004"),
        ("CALL riskft_reduce(NULL, 't', 2)".to_owned(), "22004"),
        ("CALL riskft_reduce('q', NULL, 2)".to_owned(), "22004"),
        (reduce("", "t", "2", ""), "22023"),
        (reduce("a@1", "t", "2", ""), "22023"),
        (reduce(&"x".repeat(64), "t", "2", ""), "22023"),
        (reduce("q", "nowhere", "2", ""), "42P01"),
        (reduce("q", "t; DROP TABLE t", "2", ""), "22023"),
        (reduce("q", "DELETE FROM t RETURNING *", "2", ""), "22023"),
        (reduce("q", loans, "2", ""), "22023"),
        (reduce("q", "SELECT a, a FROM t", "2", ""), "42701"),
        (reduce("q", "SELECT 1 AS a FROM t", "2", ""), "22023"),
        (reduce("q", "t", "2", "exclude => '{aa}'"), "42703"),
        (reduce("q", "t", "2", "options => '{\"thread\": 1}'"), "22023"),
        (reduce("q", "t", "2", "options => '{\"threads\": -1}'"), "22023"),
        (reduce("q", "t", "2", "options => '[]'"), "22023"),
        (reduce("r", "t", "2", EXCLUDE), "42710"),
        ("SELECT riskft_project(NULL, t) FROM t".to_owned(), "22004"),
        ("SELECT riskft_project('none', t) FROM t".to_owned(), "42704"),
        ("SELECT riskft_project('r@1', t) FROM t".to_owned(), "42704"),
        ("SELECT riskft_project('r', 1)".to_owned(), "42804"),
        ("SELECT riskft_project('r', to_jsonb(t)) FROM t".to_owned(), "42804"),
        ("SELECT riskft_project('r', ROW(1, 2))".to_owned(), "42703"),
        ("SELECT riskft_project('r', s) FROM (SELECT t.*, 1 AS a FROM t) s".to_owned(), "42702"),
    ] {
        refuses(&mut analyst, &call, code);
    }
    let nothing: Option<Vec<f64>> = analyst.value("SELECT riskft_project('r', NULL::t)");
    assert_eq!(nothing, None);
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &reduce("q", "t", "2", EXCLUDE), "25006");
    analyst.run("BEGIN READ ONLY");
    assert_eq!(analyst.value::<i64>("SELECT count(riskft_project('r', t)) FROM t"), 600);
    let id: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(id, None);
    analyst.run("COMMIT");
    assert_eq!(leftovers(&database), [""; 0]);
}

#[test]
fn only_who_may_projects() {
    let (database, mut analyst) = reduced();
    analyst.run("GRANT SELECT ON t TO PUBLIC");
    let role = database.role("low");
    let mut low = database.user(&role);
    let project = "SELECT count(riskft_project('r', t)) FROM t";
    let views = ["reducers", "components", "loadings", "runs", "privileges"];
    let count = |session: &mut Session, view: &str| {
        session.value::<i64>(&format!("SELECT count(*) FROM riskft.{view}"))
    };
    for sql in [
        project,
        "SELECT riskft_drop('r')",
        "SELECT riskft_grant('r', 'public', 'score')",
        "SELECT riskft_set_owner('r', CURRENT_USER::text)",
    ] {
        let error = refuses(&mut low, sql, "42501");
        assert!(error.message().contains("reducer r"), "{error:?}");
    }
    for view in views {
        assert_eq!(count(&mut low, view), 0, "riskft.{view} shows what is another's");
    }
    assert_eq!(count(&mut low, "stored_loadings('r')"), 0);
    let hint = refuses(&mut low, project, "42501").hint().unwrap_or_default().to_owned();
    assert!(hint.contains(&format!("riskft_grant('r', '{role}', 'score')")), "{hint}");

    low.run(&format!("PREPARE p AS {project}"));
    analyst.run(&format!("SELECT riskft_grant('r', '{role}', 'score')"));
    assert_eq!(low.value::<i64>("EXECUTE p"), 600);
    for view in ["reducers", "components", "loadings", "privileges"] {
        assert_eq!(count(&mut low, view), count(&mut analyst, view), "riskft.{view}");
        assert!(count(&mut low, view) > 0, "riskft.{view}");
    }
    refuses(&mut low, "SELECT riskft_drop('r')", "42501");
    for privilege in ["train", "deploy"] {
        refuses(
            &mut analyst,
            &format!("SELECT riskft_grant('r', '{role}', '{privilege}')"),
            "22023",
        );
    }
    analyst.run(&format!("SELECT riskft_revoke('r', '{role}', 'score')"));
    refuses(&mut low, "EXECUTE p", "42501");
    // The name is the owner's; another's rows are read as the caller.
    refuses(&mut low, &reduce("r", "t", "2", EXCLUDE), "42710");
    analyst.run("REVOKE SELECT ON t FROM PUBLIC");
    fails(&mut low, &reduce("own", "t", "2", EXCLUDE), "42501");
    analyst.run(&format!(
        "GRANT SELECT ON t TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY tenth ON t FOR SELECT TO {role} USING (n % 10 = 0)"
    ));
    low.run(&reduce("own", "t", "2", EXCLUDE));
    assert_eq!(low.value::<i64>("SELECT rows FROM riskft.reducers WHERE reducer = 'own'"), 60);
    database.superuser().run(&format!("GRANT {role} TO analyst"));
    analyst.run(&format!("SELECT riskft_set_owner('r', '{role}')"));
    assert_eq!(low.value::<i64>(project), 60);
}

/// A name is a model or a reducer; each is refused where the other is meant.
#[test]
fn names_are_shared_with_models() {
    let (database, mut analyst) = reduced();
    riskft_tests::fixture::small_loans(&database, 300);
    analyst.run(&riskft_tests::fixture::small_training("m", "loans", ""));
    let export: Vec<u8> = analyst.value("SELECT riskft_export_model('m')");
    for (call, code) in [
        (reduce("m", "t", "2", EXCLUDE), "42710"),
        (riskft_tests::fixture::small_training("r", "loans", ""), "42809"),
        (
            riskft_tests::fixture::small_training("r", "loans", "")
                .replace("method =>", "wait => false, method =>"),
            "42809",
        ),
        ("SELECT risk_score('r', l) FROM loans l".to_owned(), "42809"),
        ("SELECT risk_score_json('r', '{}')".to_owned(), "42809"),
        ("SELECT * FROM riskft_evaluate('r', 'loans', 'defaulted')".to_owned(), "42809"),
        ("SELECT riskft_deploy('r', 1)".to_owned(), "42809"),
        ("SELECT riskft_rollback('r')".to_owned(), "42809"),
        ("SELECT riskft_export_model('r')".to_owned(), "42809"),
        ("SELECT riskft_project('m', t) FROM t".to_owned(), "42809"),
    ] {
        let error = refuses(&mut analyst, &call, code);
        println!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
    }
    let error = analyst
        .query_one("SELECT riskft_import_model('r', $1)", &[&export])
        .expect_err("the name is a reducer's");
    assert_eq!(error.code().map(|code| code.code()), Some("42809"));
    assert_eq!(analyst.values::<String>("SELECT model FROM riskft.models"), ["m"]);
    assert_eq!(analyst.values::<String>("SELECT reducer FROM riskft.reducers"), ["r"]);
    analyst.run("SELECT riskft_drop('m')");
    assert_eq!(analyst.value::<i64>("SELECT count(riskft_project('r', t)) FROM t"), 600);
    assert_eq!(leftovers(&database), [""; 0]);
}

#[test]
fn a_reducer_is_dropped_with_all_that_is_its_own() {
    let (database, mut analyst) = reduced();
    let before = bits(&mut analyst, "r", "SELECT * FROM t");
    // The same rows give the same file, which both share.
    analyst.run(&reduce("twin", "t", "3", EXCLUDE));
    let digests: i64 = analyst.value("SELECT count(DISTINCT digest) FROM riskft.reducers");
    assert_eq!(digests, 1);
    analyst.run("SELECT riskft_drop('r')");
    assert_eq!(bits(&mut analyst, "twin", "SELECT * FROM t"), before);
    refuses(&mut analyst, "SELECT riskft_project('r', t) FROM t", "42704");
    refuses(&mut analyst, "SELECT riskft_drop('r')", "42704");
    analyst.run("BEGIN; SELECT riskft_drop('twin')");
    analyst.run(&reduce("twin", "t", "2", EXCLUDE));
    assert_eq!(
        analyst.value::<i32>("SELECT array_length(riskft_project('twin', t), 1) FROM t LIMIT 1"),
        2
    );
    analyst.run("ROLLBACK");
    assert_eq!(bits(&mut analyst, "twin", "SELECT * FROM t"), before);
    analyst.run("SELECT riskft_drop('twin')");
    let mut superuser = database.superuser();
    for table in ["model", "reducer", "component", "blob", "blob_chunk", "privilege"] {
        let rows: i64 = superuser.value(&format!("SELECT count(*) FROM riskft.{table}"));
        assert_eq!(rows, 0, "riskft.{table}");
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 2);
}

#[test]
fn a_dump_keeps_reducers() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE FUNCTION u(seed integer, i bigint) RETURNS float8 IMMUTABLE PARALLEL SAFE
         RETURN ('x' || substr(md5(seed || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0",
    );
    analyst.run(TABLE);
    analyst.run(&reduce("r", "t", "3", EXCLUDE));
    database.superuser().run("CREATE ROLE reader LOGIN");
    analyst.run("SELECT riskft_grant('r', 'reader', 'score'); GRANT SELECT ON t TO reader");
    let before = bits(&mut analyst, "r", "SELECT * FROM t");
    let all = "SELECT string_agg(l::text, ' ' ORDER BY l::text) FROM riskft.loadings l";
    let told: String = analyst.value(all);
    let file = cluster.socket_folder().join("dump.sql");
    let dumped = cluster
        .client("pg_dump")
        .arg("--file")
        .arg(&file)
        .args(["--dbname", database.name()])
        .output()
        .expect("run pg_dump");
    assert!(dumped.status.success() && dumped.stderr.is_empty(), "{dumped:?}");
    cluster.superuser().run("CREATE DATABASE restored");
    let restored = cluster
        .client("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null"])
        .args(["--dbname", "restored", "--file"])
        .arg(&file)
        .output()
        .expect("run psql");
    assert!(restored.status.success() && restored.stderr.is_empty(), "{restored:?}");
    let mut reader = cluster.connect("restored", "reader");
    assert_eq!(bits(&mut reader, "r", "SELECT * FROM t"), before);
    let mut analyst = cluster.connect("restored", "analyst");
    assert_eq!(analyst.value::<String>(all), told);
    assert_eq!(analyst.value::<String>("SELECT kind FROM riskft.runs"), "reduce");
    cluster.connect("restored", "postgres").run("GRANT CREATE ON SCHEMA public TO analyst");
    analyst.run(&reduce("next", "t", "3", EXCLUDE));
    analyst.run("SELECT riskft_drop('r')");
    refuses(&mut reader, "SELECT riskft_project('r', t) FROM t", "42704");
}

/// Cancelled while rows are read and while the trainer solves; killed trainers.
#[test]
fn a_cancel_leaves_nothing() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut analyst = database.analyst();
    let columns: Vec<String> = (1..=400).map(|i| format!("random() * {i} AS c{i}")).collect();
    let relation = format!("SELECT {} FROM generate_series(1, 1000000)", columns.join(", "));
    let call = reduce("long", &relation, "10", "");
    let (backend, cancel) = (analyst.pid(), analyst.cancel_token());
    for after in [0, 300, 1_500] {
        thread::scope(|scope| {
            let call = &call;
            let analyst = &mut analyst;
            let reducing = scope.spawn(move || fails(analyst, call, "57014"));
            process::await_trainer(backend, Duration::from_secs(30)).expect("a trainer");
            thread::sleep(Duration::from_millis(after));
            let phase: String = database.analyst().value("SELECT phase FROM riskft.progress");
            println!("cancelled in phase {phase}");
            cancel.cancel_query(NoTls).expect("cancel");
            reducing.join().expect("the reduction is cancelled");
        });
        assert_eq!(leftovers(&database), [""; 0]);
        assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.reducers"), 0);
    }
    cluster.log().allow("was terminated by signal 9");
    thread::scope(|scope| {
        let call = &call;
        let analyst = &mut analyst;
        let reducing = scope.spawn(move || refuses(analyst, call, "38000"));
        let trainer = process::await_trainer(backend, Duration::from_secs(30)).expect("a trainer");
        thread::sleep(Duration::from_millis(200));
        process::signal(trainer, process::KILL);
        reducing.join().expect("the reduction fails");
    });
    analyst.run("SET statement_timeout = '500ms'");
    fails(&mut analyst, &call, "57014");
    analyst.run("RESET statement_timeout");
    assert_eq!(leftovers(&database), [""; 0]);
    assert_eq!(database.superuser().value::<i64>("SELECT count(*) FROM riskft.model"), 0);
    analyst.run(&reduce("short", "SELECT i, i * i AS j FROM generate_series(1, 99) i", "2", ""));
}

/// A relation may call any function, but no second trainer; and a rollback takes all back.
#[test]
fn a_reduction_stays_within_its_transaction() {
    let (database, mut analyst) = reduced();
    analyst.run("BEGIN");
    analyst.run(&reduce("gone", "t", "2", EXCLUDE));
    assert_eq!(analyst.value::<i64>("SELECT count(riskft_project('gone', t)) FROM t"), 600);
    analyst.run("ROLLBACK");
    refuses(&mut analyst, "SELECT riskft_project('gone', t) FROM t", "42704");
    analyst.run(
        "CREATE TEMP TABLE own AS SELECT a, b FROM t;
         CREATE FUNCTION nested() RETURNS float8 LANGUAGE plpgsql AS $f$
         DECLARE k integer; s float8; r bigint; BEGIN
             CALL riskft_reduce('inner', 't', 2, kept => k, share => s, run => r); RETURN s;
         END $f$",
    );
    analyst.run(&reduce("own", "own", "2", ""));
    refuses(&mut analyst, &reduce("q", "SELECT a, nested() AS b FROM t", "2", ""), "55000");
    analyst.run(
        "DO $$ DECLARE k integer; s float8; r bigint; BEGIN
             CALL riskft_reduce('variables', 'own', 0.9, kept => k, share => s, run => r);
             ASSERT k BETWEEN 1 AND 2 AND s > 0.9 AND r > 0;
         END $$",
    );
    assert_eq!(leftovers(&database), [""; 0]);
}

/// A stored file that does not fit its digest projects nothing.
#[test]
fn a_damaged_file_is_refused() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut analyst = database.analyst();
    analyst.run("CREATE TABLE s AS SELECT i::float8 AS a, (i * i % 17)::float8 AS b FROM generate_series(1, 50) i");
    analyst.run(&reduce("r", "s", "2", ""));
    database.superuser().run(
        "UPDATE riskft.blob_chunk SET bytes = set_byte(bytes, 300, 255 - get_byte(bytes, 300))",
    );
    let mut superuser = database.superuser();
    let data: String = superuser.value("SHOW data_directory");
    let _ = std::fs::remove_dir_all(format!("{data}/base/pgsql_tmp/pgsql_tmp_riskft"));
    refuses(&mut database.analyst(), "SELECT riskft_project('r', s) FROM s", "XX001");
    superuser.run("DELETE FROM riskft.blob");
    refuses(&mut database.analyst(), "SELECT riskft_project('r', s) FROM s", "XX001");
    analyst.run("SELECT riskft_drop('r')");
}
