//! Field cases of SQL as people and their tools write it: names, sessions, probes, large tables.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use postgres::NoTls;
use riskft_tests::{fails, process, refuses, Database, Session};

const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 3, "members": 1, "hidden": 16,
    "gate": {"auc_loss": 1, "flips": 1}}'"#;
/// Rows of table `big`.
const BIG: i64 = 1_000_000;
const AT_ONCE: Duration = Duration::from_secs(2);
const MIB: u64 = 1 << 20;

/// The rows of a test: the case's own number where RISKFT_SOAK is set, a part of them otherwise.
fn rows(part: i64, whole: i64) -> i64 {
    if std::env::var_os("RISKFT_SOAK").is_some() {
        whole
    } else {
        part
    }
}

/// Table `big` of a million rows of numbers, and model `m` on a part of it.
fn big() -> &'static Database<'static> {
    static DATABASE: OnceLock<Database<'static>> = OnceLock::new();
    DATABASE.get_or_init(|| {
        let database = Database::new();
        database.analyst().run(&format!(
            "CREATE TABLE big AS SELECT n AS id, (n * 7919 % 100003) / 1000.0::float8 AS a,
                 (n * 104729 % 97)::integer AS b, (n * 31 % 1009)::bigint AS c, n * 7919 % 100003 < 30000 AS y
             FROM generate_series(1, {BIG}::bigint) n;
             ANALYZE big;
             CALL riskft_train('m', 'SELECT a, b, c, y FROM big WHERE id % 500 = 0', 'y', {QUICK})"
        ));
        database
    })
}

const SCORED: &str = "SELECT id, risk_score('m', t) AS risk FROM big t";

/// The shortest of five runs: the machine may be busy.
fn shortest(mut run: impl FnMut()) -> Duration {
    let time = |run: &mut dyn FnMut()| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    (0..5).map(|_| time(&mut run)).min().unwrap_or_default()
}

/// F20: dates are read by the model's order and zone, never by the session's.
#[test]
fn dates_do_not_follow_the_session() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TABLE t AS SELECT n AS id, timestamptz '2014-03-31 23:30+00' + n * interval '7 hours' AS applied_at,
             timestamp '2014-03-31 23:30' + n * interval '5 hours' AS decided_at,
             to_char(date '2014-01-01' + n % 365, 'MM/DD/YYYY') AS opened,
             to_char(date '2013-01-01' + n % 700, 'YYYY-MM-DD\"T\"HH24:MI:SS') AS closed,
             round((n % 83) / 3.0, 6) AS amount, ((n % 83) / 3.0)::float8 AS share,
             (n % 83) / 3.0 > 14 AS y
         FROM generate_series(1, 600) n",
    );
    let train = |session: &mut Session, model: &str| {
        session
            .run(&format!("CALL riskft_train('{model}', 't', 'y', exclude => '{{id}}', {QUICK})"));
    };
    train(&mut analyst, "m");
    let dates: Vec<String> = analyst
        .values("SELECT column_name FROM riskft.features WHERE role = 'date' ORDER BY column_name");
    assert_eq!(dates, ["applied_at", "closed", "decided_at", "opened"]);
    let odd = "risk_score_json('m', jsonb_build_object('applied_at', '2014-03-31 23:30+00', 'decided_at', NULL,
        'opened', '03/04/2014', 'closed', '2013-05-06T00:00:00', 'amount', 3, 'share', 0.1))";
    analyst.run(&format!(
        "CREATE TABLE kept AS SELECT id, risk_score('m', t) AS risk FROM t
             UNION ALL SELECT 0, {odd}"
    ));
    let sessions = [
        "SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'",
        "SET timezone = 'America/St_Johns'; SET datestyle = 'Postgres, MDY'",
        "SET timezone = 'UTC'; SET datestyle = 'German, YMD'; SET extra_float_digits = -3",
        "SET timezone = 'Asia/Kathmandu'; SET datestyle = 'ISO, DMY'; SET extra_float_digits = 3",
        "SET intervalstyle = 'sql_standard'; SET lc_time = 'C'; SET lc_numeric = 'C'; SET bytea_output = 'escape'",
    ];
    for (number, settings) in sessions.iter().enumerate() {
        let mut session = database.analyst();
        session.run(settings);
        let differing: i64 = session.value(&format!(
            "SELECT count(*) FROM kept k LEFT JOIN t USING (id)
             WHERE float8send(risk) IS DISTINCT FROM
                 float8send(CASE WHEN id = 0 THEN {odd} ELSE risk_score('m', t) END)"
        ));
        assert_eq!(differing, 0, "scored after {settings}");
        // A training in such a session gives the same model.
        let again = format!("again_{number}");
        train(&mut session, &again);
        let differing: i64 = session.value(&format!(
            "SELECT count(*) FROM t JOIN kept USING (id)
             WHERE float8send(risk) <> float8send(risk_score('{again}', t))"
        ));
        assert_eq!(differing, 0, "trained after {settings}");
    }
}

/// F21 (a): a scan of a million rows takes no more memory than one of a hundred thousand.
#[test]
fn memory_does_not_grow_with_the_scan() {
    let mut analyst = big().analyst();
    let backend = analyst.pid();
    // Without the compiler, whose libraries take megabytes of their own.
    analyst.run("SET max_parallel_workers_per_gather = 0; SET jit = off");
    let first = "SELECT sum(risk_score('m', t)) FROM (SELECT * FROM big LIMIT 100000) t";
    assert!(analyst.value::<f64>(first) > 0.0);
    let before = process::private_memory(backend).expect("the backend's memory");
    let scan = thread::spawn(move || {
        let sum: f64 = analyst.value("SELECT sum(risk_score('m', t)) FROM big t");
        (analyst, sum)
    });
    let mut most = before;
    while !scan.is_finished() {
        most = most.max(process::private_memory(backend).unwrap_or(0));
        thread::sleep(Duration::from_millis(10));
    }
    let (_analyst, sum) = scan.join().expect("the scan ends");
    assert!(sum > 0.0 && sum < BIG as f64);
    let grown = most.saturating_sub(before);
    println!("{} MiB at 100,000 rows, {} KiB more at most", before / MIB, grown >> 10);
    assert!(grown < 32 * MIB, "{grown} bytes more at a million rows");
}

/// F21 (b): a table of long texts is fed as a stream, a bound on steps ends the training early, and
/// the trainer holds each distinct text once.
#[test]
fn long_notes_are_fed_in_bounded_memory() {
    let database = Database::new();
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    let rows = rows(20_000, 400_000);
    let relation = format!(
        "SELECT n % 97 AS a, n % 97 < 30 AS y, n || repeat('' long note'', 400) AS note FROM generate_series(1, {rows}) n"
    );
    analyst.run("SELECT 1");
    let before = process::private_memory(backend).expect("the backend's memory");
    let call = format!(
        "CALL riskft_train('m', '{relation}', 'y', method => 'none', options =>
             '{{\"max_steps\": 20, \"hidden\": 16, \"members\": 1, \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')"
    );
    let training = thread::spawn(move || {
        analyst.run(&call);
        analyst
    });
    let mut most = before;
    while !training.is_finished() {
        most = most.max(process::private_memory(backend).unwrap_or(0));
        thread::sleep(Duration::from_millis(10));
    }
    let mut analyst = training.join().expect("the training ends");
    let grown = most - before;
    assert!(grown < 64 * MIB, "the backend grew by {grown} bytes");
    let trained: i64 = analyst.value("SELECT rows FROM riskft.runs WHERE model = 'm'");
    assert_eq!(trained, rows);
    let peak: i64 = analyst.value("SELECT peak_memory_bytes FROM riskft.costs WHERE model = 'm'");
    let texts = (rows * 4005) as u64;
    println!(
        "backend grew {} MiB, trainer's peak {} MiB, texts {} MiB",
        grown / MIB,
        peak as u64 / MIB,
        texts / MIB
    );
    assert!((peak as u64) < texts * 3 / 2 + 400 * MIB, "the trainer took {peak} bytes");
}

/// F25: names are resolved as regclass does and kept byte for byte.
#[test]
fn odd_names_are_names() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE SCHEMA \"My Schema\"; CREATE SCHEMA decoy;
         CREATE TABLE \"My Schema\".\"Loans 2014\" AS
             SELECT CASE WHEN n % 3 = 0 THEN 'default' ELSE 'paid' END AS \"Loan Status\",
                 n % 41 AS \"distance, km\", (n % 3 + n % 7)::float8 AS \"a b\", (n % 3 - n % 11)::float8 AS a_b,
                 chr(65 + n % 4) AS \"select\", (n % 13)::numeric AS \"сумма\", n % 53 AS U&\"\\FEFFid\",
                 n % 19 AS \"quo\"\"te\", n % 23 AS \"it's\", n % 29 AS \"$1\", n % 31 AS \"a.b\", n % 37 AS \" \"
             FROM generate_series(1, 400) n;
         CREATE TABLE decoy.loans AS SELECT n % 5 AS x, n % 3 = 0 AS y FROM generate_series(1, 100) n;
         CREATE TABLE loans AS SELECT n % 5 AS x, n % 3 = 0 AS y FROM generate_series(1, 200) n;
         CREATE TABLE \"select\" AS SELECT * FROM loans; CREATE TABLE \"select x\" AS SELECT * FROM loans;
         CREATE TABLE \"a.\"\"b\" AS SELECT * FROM loans; CREATE TABLE selection AS SELECT * FROM loans",
    );
    let names: Vec<String> = analyst.values(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = '\"My Schema\".\"Loans 2014\"'::regclass AND attnum > 0 ORDER BY attname::text",
    );
    assert_eq!(names.len(), 12);
    let train = |session: &mut Session, model: &str, relation: &str, target: &str, more: &str| {
        session
            .run(&format!("CALL riskft_train('{model}', '{relation}', '{target}', {more}{QUICK})"));
        session.value::<i64>(&format!(
            "SELECT rows FROM riskft.runs WHERE model = '{model}' ORDER BY run DESC LIMIT 1"
        ))
    };
    let odd = "\"My Schema\".\"Loans 2014\"";
    assert_eq!(train(&mut analyst, "odd", odd, "Loan Status", ""), 400);
    let kept: Vec<String> = analyst.values(
        "SELECT column_name FROM riskft.features WHERE model = 'odd' ORDER BY column_name::name::text",
    );
    assert_eq!(kept, names, "the names are not kept byte for byte");
    let score = |session: &mut Session, change: &str| {
        session.value::<f64>(&format!(
            "SELECT risk_score('odd', jsonb_populate_record(t, '{change}')) FROM {odd} t LIMIT 1"
        ))
    };
    let plain = score(&mut analyst, "{}");
    assert_ne!(score(&mut analyst, r#"{"a b": 0}"#), score(&mut analyst, r#"{"a b": 8}"#));
    assert_ne!(score(&mut analyst, r#"{"a_b": -10}"#), score(&mut analyst, r#"{"a_b": 2}"#));
    let json: f64 =
        analyst.value(&format!("SELECT risk_score_json('odd', to_jsonb(t)) FROM {odd} t LIMIT 1"));
    assert_eq!(json.to_bits(), plain.to_bits());

    // Each argument that takes a name takes any name.
    let others = r#"exclude => ARRAY['distance, km', 'quo"te', ' '], "#;
    assert_eq!(train(&mut analyst, "fewer", odd, "Loan Status", others), 400);
    let used: i64 = analyst.value(
        "SELECT count(*) FROM riskft.features WHERE model = 'fewer' AND role IN ('number', 'category')",
    );
    assert_eq!(used, 8);
    analyst.run(&format!(
        "CALL riskft_train('roles', '{odd}', 'Loan Status', time_column => U&'\\FEFFid', method => 'none', options =>
             '{{\"head_epochs\": 2, \"members\": 1, \"roles\": {{\"сумма\": \"category\", \"it''s\": \"ignored\"}},
                \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')"
    ));
    let error = refuses(
        &mut analyst,
        &format!("CALL riskft_train('m', '{odd}', 'id', method => 'none')"),
        "42703",
    );
    assert!(error.hint().is_some_and(|h| h.contains("<U+FEFF>id")), "{error:?}");

    // The search path decides, as for regclass; a schema before the name has the last word.
    assert_eq!(train(&mut analyst, "path", "loans", "y", ""), 200);
    analyst.run("SET search_path = decoy, \"My Schema\", public");
    assert_eq!(train(&mut analyst, "path", "loans", "y", ""), 100);
    assert_eq!(train(&mut analyst, "path", "public.loans", "y", ""), 200);
    assert_eq!(train(&mut analyst, "path", "\"Loans 2014\"", "Loan Status", ""), 400);
    for relation in
        ["\"select\"", "\"select x\"", "public.\"a.\"\"b\"", "selection", "PUBLIC.Loans", "select"]
    {
        assert_eq!(train(&mut analyst, "path", relation, "y", ""), 200, "{relation}");
    }
    for (relation, code) in [
        ("Loans 2014", "22023"),
        ("My Schema.Loans 2014", "22023"),
        ("\"loans", "22023"),
        ("\"Loans\"", "42P01"),
        ("a..b", "22023"),
        ("", "22023"),
        ("\"\"", "42P01"),
        ("nowhere.loans", "42P01"),
        ("loans -- all", "22023"),
        ("a.b.c.d", "22023"),
        ("elsewhere.public.loans", "22023"),
    ] {
        refuses(&mut analyst, &format!("CALL riskft_train('m', '{relation}', 'y', {QUICK})"), code);
    }
}

/// F27: the probes of BI tools cost nothing, and a cursor scores what is fetched.
#[test]
fn probes_do_not_score_the_table() {
    let mut analyst = big().analyst();
    let statement = analyst.prepare(SCORED).expect("prepare only");
    assert_eq!(statement.columns()[1].type_().name(), "float8");
    for probe in [
        format!("SELECT * FROM ({SCORED}) q LIMIT 0"),
        format!("SELECT * FROM ({SCORED}) q WHERE 1 = 0"),
        format!("SELECT * FROM ({SCORED}) q WHERE NULL"),
        format!("EXPLAIN SELECT * FROM ({SCORED}) q"),
        format!("EXPLAIN (VERBOSE, FORMAT json) {SCORED}"),
    ] {
        for round in ["first", "second"] {
            let time = shortest(|| {
                analyst.simple_query(&probe).unwrap_or_else(|e| panic!("{probe}: {e:?}"));
            });
            assert!(time < Duration::from_millis(50), "{round} {probe}: {time:?}");
        }
    }
    analyst.run("BEGIN READ ONLY");
    analyst.run(&format!("DECLARE c CURSOR FOR SELECT * FROM ({SCORED}) q; FETCH 1 FROM c"));
    let written: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(written, None);
    analyst.run("COMMIT");

    // The sequence beside the score counts its calls.
    analyst.run(&format!(
        "CREATE TEMP SEQUENCE calls;
         BEGIN; DECLARE c CURSOR FOR SELECT *, nextval('calls') AS call FROM ({SCORED}) q"
    ));
    let time = shortest(|| analyst.run("FETCH 1 FROM c"));
    assert_eq!(analyst.value::<i64>("SELECT last_value FROM calls"), 5);
    assert!(time < Duration::from_millis(50), "FETCH 1: {time:?}");
    analyst.run("FETCH 100 FROM c");
    assert_eq!(analyst.value::<i64>("SELECT last_value FROM calls"), 105);
    analyst.run("COMMIT");
}

/// F29: workers score what the leader alone would; one without rows is no trouble, and an error
/// in one is an ordinary error.
#[test]
fn workers_score_as_the_leader_does() {
    let mut analyst = big().analyst();
    let rows = rows(200_000, BIG);
    analyst.run(&format!(
        "SET max_parallel_workers_per_gather = 0;
         CREATE TABLE fifth AS SELECT * FROM big WHERE id <= {rows};
         CREATE TABLE serial AS SELECT id, risk_score('m', t) AS risk FROM fifth t;
         CREATE TABLE nothing (LIKE fifth); CREATE TABLE one AS SELECT * FROM fifth LIMIT 1;
         SET max_parallel_workers_per_gather = 4; SET force_parallel_mode = on;
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"
    ));
    let scored = "SELECT id, risk_score('m', t) AS risk FROM fifth t";
    let plan = analyst.values::<String>(&format!("EXPLAIN {scored}")).join("\n");
    assert!(plan.contains("Gather"), "{plan}");
    analyst.run(&format!("CREATE TABLE parallel AS {scored}"));
    let differing: i64 = analyst.value(
        "SELECT count(*) FROM serial s FULL JOIN parallel p USING (id)
         WHERE float8send(s.risk) IS DISTINCT FROM float8send(p.risk)",
    );
    assert_eq!(differing, 0);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM parallel"), rows);

    let worker =
        refuses(&mut analyst, "SELECT sum(risk_score('unknown', t)) FROM fifth t", "42704");
    assert!(worker.message().contains("unknown"), "{worker:?}");
    let late =
        "SELECT sum(risk_score(CASE WHEN id = 199999 THEN 'unknown' ELSE 'm' END, t)) FROM fifth t";
    refuses(&mut analyst, late, "42704");

    for table in ["nothing", "one"] {
        let sum = format!("SELECT sum(risk_score('m', t)) FROM {table} t");
        let plan = analyst.values::<String>(&format!("EXPLAIN {sum}")).join("\n");
        assert!(plan.contains("Gather"), "{plan}");
        assert_eq!(analyst.value::<Option<f64>>(&sum).is_some(), table == "one");
        let rows: f64 = analyst.value(&format!(
            "SELECT value FROM riskft_evaluate('m', '{table}', 'y') WHERE metric = 'rows'"
        ));
        assert_eq!(rows, if table == "one" { 1.0 } else { 0.0 });
    }
    analyst.run("DROP TABLE serial, parallel, nothing, one, fifth");
}

/// F23 and F28: a session that has scored follows each change of the row's type, in a prepared
/// statement and in a function that keeps its plans.
#[test]
fn changed_row_types_are_read_anew() {
    let database = Database::new();
    let (mut a, mut b) = (database.analyst(), database.analyst());
    b.run(&format!(
        "CREATE TABLE t AS SELECT n AS id, n % 97 AS a, (n % 13)::text AS b, n % 97 < 30 AS y
             FROM generate_series(1, 500) n;
         CALL riskft_train('m', 't', 'y', exclude => '{{id}}', {QUICK});
         CREATE FUNCTION risk(key integer) RETURNS float8 LANGUAGE plpgsql STABLE AS
             'DECLARE r t; BEGIN SELECT * INTO r FROM t WHERE id = key; RETURN risk_score(''m'', r); END'"
    ));
    a.run("PREPARE s AS SELECT risk_score($1, t) FROM t WHERE id = 7");
    let both = |session: &mut Session| {
        let risks: [f64; 2] = [session.value("EXECUTE s('m')"), session.value("SELECT risk(7)")];
        assert_eq!(risks[0].to_bits(), risks[1].to_bits());
        risks[0]
    };
    let kept = both(&mut a);
    for change in [
        "ALTER TABLE t ADD COLUMN first text DEFAULT 'x'",
        "ALTER TABLE t DROP COLUMN first, ADD COLUMN later numeric DEFAULT 3",
        "ALTER TABLE t ALTER COLUMN a TYPE numeric",
        "ALTER TABLE t ALTER COLUMN a TYPE text",
        "ALTER TABLE t ALTER COLUMN a TYPE bigint USING a::bigint",
        "ALTER TABLE t RENAME COLUMN b TO c; ALTER TABLE t ADD COLUMN b text; UPDATE t SET b = c",
        "ALTER TABLE t DROP COLUMN c; ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t",
    ] {
        b.run(change);
        assert_eq!(both(&mut a).to_bits(), kept.to_bits(), "{change}");
    }
    b.run("ALTER TABLE t RENAME COLUMN b TO c");
    for query in ["EXECUTE s('m')", "SELECT risk(7)"] {
        let error = refuses(&mut a, query, "42703");
        assert!(error.message().contains("\"b\""), "{error:?}");
    }
    b.run("ALTER TABLE t RENAME COLUMN c TO b");
    assert_eq!(both(&mut a).to_bits(), kept.to_bits());
}

/// F30: a time-out of a training and a cancel of a scoring query are 57014 within two seconds, and
/// leave nothing.
#[test]
fn time_outs_and_cancels_leave_nothing() {
    let database = big();
    let mut analyst = database.analyst();
    let backend = analyst.pid();
    analyst.run("SET statement_timeout = '500ms'");
    let call = "CALL riskft_train('late', 'SELECT a, b, c, y FROM big WHERE id <= 200000', 'y', method => 'none')";
    let begun = Instant::now();
    fails(&mut analyst, call, "57014");
    let took = begun.elapsed();
    assert!(took < AT_ONCE + Duration::from_millis(500), "{took:?}");
    assert_eq!(process::children(backend), Vec::<i32>::new());
    analyst.run("SET statement_timeout = 0");
    let versions: i64 = analyst.value("SELECT count(*) FROM riskft.versions WHERE model = 'late'");
    assert_eq!(versions, 0);

    let cancel = analyst.cancel_token();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        cancel.cancel_query(NoTls).expect("ask to cancel");
        Instant::now()
    });
    fails(
        &mut analyst,
        "SELECT sum(risk_score('m', t)) FROM big t, generate_series(1, 100)",
        "57014",
    );
    let waited = canceller.join().expect("the canceller ends").elapsed();
    assert!(waited < AT_ONCE, "{waited:?}");
    analyst.run("SET statement_timeout = '300ms'");
    let begun = Instant::now();
    fails(&mut analyst, "SELECT * FROM riskft_evaluate('m', 'big', 'y')", "57014");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    analyst.run("SET statement_timeout = 0");
    assert_eq!(process::threads(backend), Some(1));
    assert!(analyst.value::<f64>("SELECT risk_score('m', t) FROM big t LIMIT 1") >= 0.0);
}

/// Short queries are not compiled: a compiler's start would cost more than they do.
#[test]
fn short_queries_are_not_compiled() {
    let mut analyst = big().analyst();
    assert_eq!(analyst.value::<String>("SHOW jit"), "on");
    for query in [
        format!("{SCORED} WHERE id = 1"),
        "SELECT id, risk_score('m', t) FROM (SELECT * FROM big LIMIT 1000) t".to_owned(),
        "SELECT sum(risk_score('m', t)) FROM (SELECT * FROM big LIMIT 1000) t".to_owned(),
        "SELECT risk_score_json('m', to_jsonb(t)) FROM (SELECT * FROM big LIMIT 1000) t".to_owned(),
    ] {
        let plan = analyst.values::<String>(&format!("EXPLAIN (ANALYZE) {query}")).join("\n");
        assert!(!plan.contains("JIT"), "{query}\n{plan}");
    }
}
