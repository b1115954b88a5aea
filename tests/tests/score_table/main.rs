//! riskft_score_table: a table of scores, written, refreshed, broken off and gone on with.

mod rights;
mod targets;

use riskft_tests::fixture::{self, small_model, small_training};
use riskft_tests::{fails, refuses, Cluster, Database, Session};

/// (scored, unchanged, removed, version) of a call.
type Done = (i64, i64, i64, i32);

/// Whether the table is what the model says of the relation, row for row.
const DIFFER: &str =
    "SELECT count(*) FROM (SELECT loan_id, risk_score('m', l) AS score FROM loans l) l
    FULL JOIN scores s USING (loan_id) WHERE l.score IS DISTINCT FROM s.score OR s.version IS NULL";

fn call(session: &mut Session, arguments: &str) -> Done {
    let sql = format!("CALL riskft_score_table({arguments})");
    let row = session.query_one(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    (row.get("scored"), row.get("unchanged"), row.get("removed"), row.get("version"))
}

fn refresh(session: &mut Session) -> Done {
    call(session, "'m', 'loans', 'scores', 'loan_id', batch_rows => 100")
}

fn differ(session: &mut Session) -> i64 {
    session.value(DIFFER)
}

#[test]
fn a_table_is_written_and_refreshed() {
    let (database, mut analyst) = small_model();
    assert_eq!(refresh(&mut analyst), (400, 0, 0, 1));
    assert_eq!(differ(&mut analyst), 0);
    let columns: Vec<String> = analyst.values(
        "SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
             || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
             || coalesce(' ' || (SELECT contype::text FROM pg_constraint WHERE conrelid = 'scores'::regclass
                                 AND conkey = ARRAY[a.attnum]), '')
         FROM pg_attribute a WHERE a.attrelid = 'scores'::regclass AND a.attnum > 0
           AND col_description(a.attrelid, a.attnum) IS NOT NULL ORDER BY a.attnum",
    );
    assert_eq!(
        columns,
        [
            "loan_id integer not null p",
            "score double precision not null",
            "version integer not null",
            "scored_at timestamp with time zone not null",
            "row_hash bigint not null",
        ]
    );

    // Nothing new; then columns that the model does not read, and other settings of the session.
    assert_eq!(refresh(&mut analyst), (0, 400, 0, 1));
    analyst.run(
        "ALTER TABLE loans ADD note text DEFAULT 'new'; SET timezone = 'Pacific/Auckland';
         SET datestyle = 'German'; SET extra_float_digits = -3",
    );
    assert_eq!(refresh(&mut analyst), (0, 400, 0, 1));

    // A changed row, a new one, two that are gone.
    let before: Vec<String> = analyst
        .values("SELECT scored_at::text FROM scores WHERE loan_id IN (8, 9) ORDER BY loan_id");
    analyst.run(
        "UPDATE loans SET amount = amount + 100 WHERE loan_id = 8;
         INSERT INTO loans VALUES (0, 5, 'b', NULL); DELETE FROM loans WHERE loan_id IN (1, 400)",
    );
    assert_eq!(refresh(&mut analyst), (2, 397, 2, 1));
    assert_eq!(differ(&mut analyst), 0);
    let after: Vec<String> = analyst
        .values("SELECT scored_at::text FROM scores WHERE loan_id IN (8, 9) ORDER BY loan_id");
    assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");

    // Another version scores all; the alias of the first one them again.
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"always\", "));
    assert_eq!(refresh(&mut analyst), (399, 0, 0, 2));
    assert_eq!(differ(&mut analyst), 0);
    analyst.run("SELECT riskft_set_alias('m', 'first', 1)");
    assert_eq!(call(&mut analyst, "'m@first', 'loans', 'scores', 'loan_id'"), (399, 0, 0, 1));
    // The number of a model that was dropped is used again, and tells nothing.
    analyst.run("SELECT riskft_drop('m')");
    analyst.run(&small_training("m", "loans", "\"seed\": 5, "));
    assert_eq!(refresh(&mut analyst), (399, 0, 0, 1));
    assert_eq!(differ(&mut analyst), 0);

    // No rows at all: a relation without any, and a table that is made for none.
    let none = "'SELECT * FROM loans WHERE false'";
    assert_eq!(call(&mut analyst, &format!("'m', {none}, 'scores', 'loan_id'")), (0, 0, 399, 1));
    assert_eq!(call(&mut analyst, &format!("'m', {none}, 'empty', 'loan_id'")), (0, 0, 0, 1));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM empty"), 0);
    let mut superuser = database.superuser();
    assert_eq!(superuser.value::<i64>("SELECT count(*) FROM riskft.progress"), 0);
    assert_eq!(
        superuser.value::<i64>(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE locktype = 'advisory' AND datname = current_database()"
        ),
        0
    );
}

/// Breaks off at loan 250: by an error, by a time-out, and by the end of the session.
#[test]
fn what_is_finished_stays_and_the_next_call_goes_on() {
    let (database, mut analyst) = small_model();
    assert_eq!(
        call(&mut analyst, "'m', 'SELECT * FROM loans WHERE loan_id < 0', 'scores', 'loan_id'").0,
        0
    );
    let stop_at = |session: &mut Session, what: &str| {
        session.run(&format!(
            "CREATE OR REPLACE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
                 $f$ BEGIN IF NEW.loan_id = 250 THEN {what}; END IF; RETURN NEW; END $f$;
             CREATE OR REPLACE TRIGGER stop BEFORE INSERT ON scores FOR EACH ROW EXECUTE FUNCTION stop()"
        ));
    };
    let sql = "CALL riskft_score_table('m', 'loans', 'scores', 'loan_id', 100)";
    let rows = "SELECT count(*) FROM scores";
    stop_at(&mut analyst, "RAISE EXCEPTION 'stop' USING ERRCODE = 'check_violation'");
    fails(&mut analyst, sql, "23514");
    assert_eq!(analyst.value::<i64>(rows), 200);
    stop_at(&mut analyst, "PERFORM pg_sleep(600)");
    analyst.run("SET statement_timeout = '1s'");
    fails(&mut analyst, sql, "57014");
    analyst.run("RESET statement_timeout");
    assert_eq!(analyst.value::<i64>(rows), 200);

    // While one call is under way another one is refused, and sees how far it is.
    let (mut other, pid) = (database.analyst(), analyst.pid());
    let calling = std::thread::spawn(move || analyst.batch_execute(sql).is_err());
    let scores = "SELECT count(*) FROM riskft.progress WHERE model = 'm' AND phase = 'score' AND done = 0 AND total = 200";
    let under_way = riskft_tests::process::await_true(std::time::Duration::from_secs(60), || {
        other.value::<i64>(
            &format!("SELECT ({scores}) * (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep')"),
        ) > 0
    });
    assert!(under_way, "the call is not under way");
    refuses(&mut other, sql, "55P03");
    other.run("BEGIN");
    refuses(&mut other, sql, "55P03");
    other.run(&format!("SELECT pg_terminate_backend({pid})"));
    assert!(calling.join().expect("the caller ends"));
    riskft_tests::process::await_true(std::time::Duration::from_secs(60), || {
        other.value::<i64>(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")) == 0
    });
    assert_eq!(other.value::<i64>(rows), 200);
    other.run("DROP TRIGGER stop ON scores");
    assert_eq!(refresh(&mut other), (200, 200, 0, 1));
    assert_eq!(differ(&mut other), 0);
}

#[test]
fn a_transaction_block_is_one_transaction() {
    let (database, mut analyst) = small_model();
    let mut other = database.analyst();
    analyst.run("BEGIN");
    assert_eq!(refresh(&mut analyst), (400, 0, 0, 1));
    assert_eq!(other.value::<Option<String>>("SELECT to_regclass('scores')::text"), None);
    analyst.run("ROLLBACK");
    assert_eq!(analyst.value::<Option<String>>("SELECT to_regclass('scores')::text"), None);
    analyst.run("BEGIN");
    refresh(&mut analyst);
    analyst.run("COMMIT; BEGIN; UPDATE loans SET amount = amount + 1");
    assert_eq!(refresh(&mut analyst).0, 400);
    let sql = "CALL riskft_score_table('m', 'loans', 'scores', 'loan_id')";
    refuses(&mut other, sql, "55P03");
    analyst.run("ROLLBACK");
    assert_eq!(refresh(&mut other), (0, 400, 0, 1));
    // Within a block that catches errors nothing can be committed; below a procedure it can.
    analyst.run(
        "TRUNCATE scores;
         DO $$ DECLARE a bigint; b bigint; c bigint; d integer; BEGIN
             CALL riskft_score_table('m', 'loans', 'scores', 'loan_id', 100, a, b, c, d);
             ASSERT a = 400 AND d = 1; RAISE EXCEPTION 'undo';
         EXCEPTION WHEN raise_exception THEN ASSERT a IS NULL OR a = 400; END $$",
    );
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM scores"), 0);
    fails(
        &mut analyst,
        "DO $$ DECLARE a bigint; b bigint; c bigint; d integer; l record; BEGIN
             FOR l IN SELECT 1 FROM loans LIMIT 3 LOOP
                 CALL riskft_score_table('m', 'loans', 'scores', 'loan_id', 100, a, b, c, d);
             END LOOP; RAISE EXCEPTION 'done' USING ERRCODE = 'RK002'; END $$",
        "RK002",
    );
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM scores"), 400);
    // In a read-only transaction it is refused at once.
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, "CALL riskft_score_table('m', 'nowhere', 'scores', 'loan_id')", "25006");
}

/// A dump takes a score table along like any table, and a refresh after the restore finds nothing new.
#[test]
fn a_dump_takes_it_along() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::small_loans(&database, 200);
    let mut analyst = database.analyst();
    analyst.run(&small_training("m", "loans", ""));
    assert_eq!(refresh(&mut analyst), (200, 0, 0, 1));
    let dump = cluster.client("pg_dump").arg(database.name()).output().expect("run pg_dump");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    cluster.superuser().run("CREATE DATABASE restored");
    restore(&cluster, &dump.stdout);
    let mut analyst = cluster.connect("restored", "analyst");
    assert_eq!(refresh(&mut analyst), (0, 200, 0, 1));
    assert_eq!(differ(&mut analyst), 0);
}

fn restore(cluster: &Cluster, dump: &[u8]) {
    use std::io::Write;
    let mut psql = cluster
        .client("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "restored"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("run psql");
    psql.stdin.take().expect("its input").write_all(dump).expect("write the dump");
    assert!(psql.wait().expect("psql ends").success());
}
