//! Field cases of large tables and of the tools that look at them: memory, probes, workers, time-outs.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use postgres::NoTls;
use riskft_tests::{fails, process, refuses, Database};

const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 3, "members": 1, "hidden": 16,
    "gate": {"auc_loss": 1, "flips": 1}}'"#;
/// Rows of table `big`.
const BIG: i64 = 1_000_000;
const SCORED: &str = "SELECT id, risk_score('m', t) AS risk FROM big t";
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

/// The shortest of five runs: the machine may be busy.
fn shortest(mut run: impl FnMut()) -> Duration {
    let time = |run: &mut dyn FnMut()| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    (0..5).map(|_| time(&mut run)).min().unwrap_or_default()
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
    // While it is fed, prepared and trained: a time-out ends it at once.
    for milliseconds in [50, 150, 300] {
        analyst.run(&format!("SET statement_timeout = {milliseconds}"));
        let begun = Instant::now();
        match analyst.batch_execute(&call) {
            Err(error) => assert_eq!(error.code().map(|c| c.code()), Some("57014"), "{error}"),
            Ok(()) => panic!("{rows} rows are trained on within {milliseconds} ms"),
        }
        let took = begun.elapsed();
        assert!(took < AT_ONCE + Duration::from_millis(milliseconds), "{took:?}");
        assert_eq!(process::children(backend), Vec::<i32>::new());
    }
    analyst.run("SET statement_timeout = 0");
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
    assert!((peak as u64) < texts * 5 / 4 + 300 * MIB, "the trainer took {peak} bytes");
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
