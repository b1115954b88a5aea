//! riskft_score_table: a table of scores, written, refreshed, broken off and gone on with.

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

#[test]
fn what_cannot_be_written_is_refused() {
    let (_database, mut analyst) = small_model();
    analyst.run(
        "CALL riskft_reduce('axes', 'SELECT loan_id, amount FROM loans', 1);
         CREATE VIEW seen AS SELECT 1 AS loan_id;
         CREATE TABLE bare (loan_id integer PRIMARY KEY);
         CREATE TABLE keyless (loan_id integer, score float8, version integer, scored_at timestamptz, row_hash bigint);
         CREATE TABLE partial_key (LIKE keyless); CREATE UNIQUE INDEX ON partial_key (loan_id) WHERE score > 0;
         CREATE TABLE wide (LIKE keyless, UNIQUE (loan_id));
         ALTER TABLE wide ALTER loan_id TYPE bigint;
         CREATE TABLE real_score (LIKE keyless, UNIQUE (loan_id)); ALTER TABLE real_score ALTER score TYPE real;
         CREATE TABLE computed (loan_id integer UNIQUE, score float8 GENERATED ALWAYS AS (0.5) STORED,
             version integer, scored_at timestamptz, row_hash bigint)",
    );
    for (arguments, code) in [
        ("NULL, 'loans', 's', 'loan_id'", "22004"),
        ("'m', NULL, 's', 'loan_id'", "22004"),
        ("'m', 'loans', NULL, 'loan_id'", "22004"),
        ("'m', 'loans', 's', NULL", "22004"),
        ("'m', 'loans', 's', 'loan_id', NULL", "22004"),
        ("'m', 'loans', 's', 'loan_id', 0", "22023"),
        ("'m', 'loans', 's', 'loan_id', -7", "22023"),
        ("'none', 'loans', 's', 'loan_id'", "42704"),
        ("'m@7', 'loans', 's', 'loan_id'", "42704"),
        ("'axes', 'loans', 's', 'loan_id'", "42809"),
        ("'m', 'nowhere', 's', 'loan_id'", "42P01"),
        ("'m', 'DELETE FROM loans RETURNING *', 's', 'loan_id'", "22023"),
        ("'m', 'loans; DROP TABLE loans', 's', 'loan_id'", "22023"),
        ("'m', 'SELECT loan_id, amount FROM loans', 's', 'loan_id'", "42703"),
        ("'m', 'SELECT *, 1 AS loan_id FROM loans', 's', 'loan_id'", "42701"),
        ("'m', 'loans', 's', 'loan id'", "42703"),
        ("'m', 'SELECT *, loan_id AS score FROM loans', 's', 'score'", "42701"),
        ("'m', 'SELECT *, ''1''::xid AS x FROM loans', 's', 'x'", "42804"),
        ("'m', 'SELECT *, to_json(loan_id) AS x FROM loans', 's', 'x'", "42804"),
        ("'m', 'SELECT *, nullif(loan_id, 7) AS x FROM loans', 's', 'x'", "22004"),
        ("'m', 'SELECT *, loan_id / 2 AS x FROM loans', 's', 'x'", "23505"),
        ("'m', 'loans', '', 'loan_id'", "42602"),
        ("'m', 'loans', 'a.b.c.d', 'loan_id'", "42602"),
        ("'m', 'loans', 'a\"b', 'loan_id'", "42602"),
        ("'m', 'loans', 's; DROP TABLE loans', 'loan_id'", "42602"),
        ("'m', 'loans', 'seen', 'loan_id'", "42809"),
        ("'m', 'loans', 'loans', 'loan_id'", "42P16"),
        ("'m', 'loans', 'bare', 'loan_id'", "42P16"),
        ("'m', 'loans', 'keyless', 'loan_id'", "42P16"),
        ("'m', 'loans', 'partial_key', 'loan_id'", "42P16"),
        ("'m', 'loans', 'computed', 'loan_id'", "42P16"),
        ("'m', 'loans', 'wide', 'loan_id'", "42804"),
        ("'m', 'loans', 'real_score', 'loan_id'", "42804"),
    ] {
        refuses(&mut analyst, &format!("CALL riskft_score_table({arguments})"), code);
        assert_eq!(
            analyst.value::<Option<String>>("SELECT to_regclass('s')::text"),
            None,
            "{arguments}"
        );
    }
    // The server's own words: no such schema, no right to make a table, a temporary file too long.
    fails(&mut analyst, "CALL riskft_score_table('m', 'loans', 'nowhere.s', 'loan_id')", "3F000");
    fails(
        &mut analyst,
        "CALL riskft_score_table('m', 'loans', 'pg_catalog.s', 'loan_id')",
        "42501",
    );
    let error = refuses(
        &mut analyst,
        "CALL riskft_score_table('m', 'SELECT *, ''k'' || loan_id / 2 AS x FROM loans', 's', 'x')",
        "23505",
    );
    assert_eq!(error.detail(), Some("The key is k1."));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 400);
}

/// Names byte for byte, keys of other types, and a search path that would lead astray.
#[test]
fn odd_names_and_keys_are_kept() {
    let (database, mut analyst) = small_model();
    database
        .superuser()
        .run("CREATE SCHEMA \"My Schema\"; GRANT ALL ON SCHEMA \"My Schema\" TO PUBLIC");
    analyst.run(
        "CREATE TABLE \"My Schema\".\"Loans \"\"2014\"\"\" AS
             SELECT 'é ' || loan_id AS \"Loan \"\"No\"\", %s $1\", amount, grade FROM loans",
    );
    let odd = "'m', '\"My Schema\".\"Loans \"\"2014\"\"\"', '\"My Schema\".\"Scores; --\"', 'Loan \"No\", %s $1'";
    assert_eq!(call(&mut analyst, odd), (400, 0, 0, 1));
    assert_eq!(call(&mut analyst, odd), (0, 400, 0, 1));
    let off: i64 = analyst.value(
        "SELECT count(*) FROM \"My Schema\".\"Scores; --\" s FULL JOIN loans l
             ON s.\"Loan \"\"No\"\", %s $1\" = 'é ' || l.loan_id
         WHERE s.score IS DISTINCT FROM risk_score('m', l)",
    );
    assert_eq!(off, 0);

    // Keys of other types: each is found again, and a row that is gone is removed.
    analyst.run(
        "CREATE DOMAIN number AS integer CHECK (VALUE > 0); CREATE TYPE kind AS ENUM ('x', 'y', 'z');
         CREATE TABLE few AS SELECT * FROM loans WHERE loan_id <= 3",
    );
    for (place, key) in [
        "loan_id::number",
        "loan_id::numeric / 3",
        "'loan ' || loan_id",
        "loan_id::text::varchar(9)",
        "('name' || loan_id)::name",
        "date '2020-01-01' + loan_id",
        "ARRAY[loan_id, 7]",
        "('00000000-0000-0000-0000-00000000000' || loan_id)::uuid",
        "('10.0.0.' || loan_id)::inet",
        "(ARRAY['x', 'y', 'z'])[loan_id]::kind",
        "int4range(loan_id, 9)",
        "loan_id::text COLLATE \"C\"",
        "loan_id::bpchar(4)",
        "loan_id::text::bytea",
        "loan_id::smallint",
        "(loan_id / 7.0)::float8",
        "interval '1 day' * loan_id",
        "to_jsonb(loan_id)",
    ]
    .iter()
    .enumerate()
    {
        let relation = format!("SELECT {key} AS k, f.* FROM few f").replace('\'', "''");
        let arguments = format!("'m', '{relation}', 'keyed{place}', 'k'");
        assert_eq!(call(&mut analyst, &arguments), (3, 0, 0, 1), "{key}");
        let fewer = arguments.replace("few f", "few f WHERE loan_id <> 2 -- the end;");
        assert_eq!(call(&mut analyst, &fewer), (0, 2, 1, 1), "{key}");
    }

    // Operators and functions of the same names before those of pg_catalog.
    analyst.run(
        "CREATE SCHEMA bait; SET search_path = bait, public, pg_catalog;
         CREATE FUNCTION bait.lie(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT 1 / 0 > 0';
         CREATE OPERATOR bait.= (FUNCTION = bait.lie, LEFTARG = integer, RIGHTARG = integer, HASHES, MERGES);
         CREATE FUNCTION bait.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''infinity''::timestamptz';
         CREATE FUNCTION bait.lag(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1 / 0';
         CREATE DOMAIN bait.float8 AS text; CREATE DOMAIN bait.int8 AS text",
    );
    assert_eq!(
        call(&mut analyst, "'m', 'public.loans', 'public.scores', 'loan_id'"),
        (400, 0, 0, 1)
    );
    analyst.run("DELETE FROM public.loans WHERE loan_id OPERATOR(pg_catalog.=) 7");
    assert_eq!(
        call(
            &mut analyst,
            "'m', 'public.loans; -- all', 'public.scores', 'loan_id'"
                .replace("; -- all", "")
                .as_str()
        ),
        (0, 399, 1, 1)
    );
    assert_eq!(
        call(&mut analyst, "'m', 'SELECT * FROM public.loans;', 'here', 'loan_id'"),
        (399, 0, 0, 1)
    );
    assert_eq!(
        analyst.value::<Option<String>>("SELECT to_regclass('bait.here')::text"),
        Some("here".into())
    );
    analyst.run("RESET search_path; CREATE TEMP TABLE t AS SELECT * FROM loans");
    assert_eq!(call(&mut analyst, "'m', 't', 'pg_temp.s', 'loan_id'"), (399, 0, 0, 1));
    assert_eq!(call(&mut analyst, "'m', 't', 's', 'loan_id'"), (0, 399, 0, 1));
}

/// Partitions, policies, columns of the table's own; texts that are long.
#[test]
fn other_tables_will_do() {
    let (_database, mut analyst) = small_model();
    let columns = "loan_id integer PRIMARY KEY, score float8, version integer, scored_at timestamptz, row_hash bigint";
    analyst.run(&format!(
        "CREATE TABLE parts ({columns}, band integer GENERATED ALWAYS AS (width_bucket(score, 0, 1, 10)) STORED,
             note text DEFAULT 'own') PARTITION BY RANGE (loan_id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (200);
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (200) TO (MAXVALUE)"
    ));
    let parts = "'m', 'loans', 'parts', 'loan_id', 70";
    assert_eq!(call(&mut analyst, parts), (400, 0, 0, 1));
    analyst.run("UPDATE parts SET note = 'kept'; UPDATE loans SET amount = 1 WHERE loan_id IN (5, 300); DELETE FROM loans WHERE loan_id = 6");
    assert_eq!(call(&mut analyst, parts), (2, 397, 1, 1));
    let off: i64 = analyst.value(
        "SELECT count(*) FROM parts p FULL JOIN loans l USING (loan_id)
         WHERE p.score IS DISTINCT FROM risk_score('m', l) OR band IS NULL OR note <> 'kept'",
    );
    assert_eq!(off, 0);
    fails(
        &mut analyst,
        "CREATE TABLE gap (LIKE parts INCLUDING ALL) PARTITION BY LIST (loan_id);
        CALL riskft_score_table('m', 'loans', 'gap', 'loan_id')",
        "23514",
    );

    // A trigger that skips a row is believed: the row is not counted.
    analyst.run(&format!(
        "CREATE TABLE skipped ({columns});
         CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS
             $f$ BEGIN IF NEW.loan_id < 11 THEN RETURN NULL; END IF; RETURN NEW; END $f$;
         CREATE TRIGGER skip BEFORE INSERT ON skipped FOR EACH ROW EXECUTE FUNCTION skip()"
    ));
    assert_eq!(call(&mut analyst, "'m', 'loans', 'skipped', 'loan_id'"), (390, 0, 0, 1));
}

#[test]
fn long_texts_outlive_the_transaction_that_read_them() {
    let database = Database::new();
    fixture::small_text_model(&database);
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TABLE long AS SELECT note_id, amount, (SELECT string_agg(md5(note_id::text || i), ' ')
             FROM generate_series(1, 200) i) AS note FROM notes WHERE note_id <= 60;
         SET work_mem = '64kB'",
    );
    let sql = "'t', 'long', 'scores', 'note_id', 7";
    assert_eq!(call(&mut analyst, sql), (60, 0, 0, 1));
    let off: i64 = analyst.value(
        "SELECT count(*) FROM scores s FULL JOIN long l USING (note_id)
         WHERE s.score IS DISTINCT FROM risk_score('t', l)",
    );
    assert_eq!(off, 0);
    assert_eq!(call(&mut analyst, sql), (0, 60, 0, 1));
}

/// The caller needs `score`, SELECT on the relation and all four rights on the table; policies hold.
#[test]
fn rights_hold() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    let mut low = database.user(&role);
    let sql = "CALL riskft_score_table('m', 'loans', 'scores', 'loan_id')";
    refresh(&mut analyst);
    refuses(&mut low, sql, "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
        let error = refuses(&mut low, sql, "42501");
        assert!(error.message().contains("scores"), "{right}: {error:?}");
        analyst.run(&format!("GRANT {right} ON scores TO {role}"));
    }
    assert_eq!(refresh(&mut low), (0, 400, 0, 1));
    analyst.run("REVOKE SELECT ON loans FROM PUBLIC");
    fails(&mut low, sql, "42501");
    analyst.run(&format!(
        "GRANT SELECT ON loans TO {role}; ALTER TABLE loans ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON loans FOR SELECT TO {role} USING (loan_id % 4 = 0)"
    ));
    // Of the table it sees the same quarter: it neither writes nor removes the others.
    analyst.run(&format!(
        "ALTER TABLE scores ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON scores TO {role} USING (loan_id % 4 = 0);
         UPDATE loans SET amount = 3 WHERE loan_id IN (3, 4)"
    ));
    assert_eq!(refresh(&mut low), (1, 99, 0, 1));
    assert_eq!(refresh(&mut analyst), (1, 399, 0, 1));
    // What it sees of the relation and not of the table it cannot put there: that is told.
    analyst.run(&format!("DROP POLICY quarter ON loans; CREATE POLICY whole ON loans FOR SELECT TO {role} USING (true)"));
    fails(&mut low, sql, "42501");
    // A function of the relation writes nothing, with nobody's rights.
    analyst.run(
        "CREATE TABLE taken (a integer);
         CREATE FUNCTION peek() RETURNS float8 LANGUAGE plpgsql AS
             $f$ BEGIN INSERT INTO taken VALUES (1); RETURN 1; END $f$;
         CREATE VIEW bait AS SELECT *, peek() AS peeked FROM loans",
    );
    for relation in ["SELECT l.* FROM bait l WHERE peeked > 0", "SELECT *, peek() AS k FROM loans"]
    {
        fails(
            &mut analyst,
            &format!("CALL riskft_score_table('m', '{relation}', 'scores', 'loan_id')"),
            "25006",
        );
    }
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
