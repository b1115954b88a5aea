//! riskft_select: what carries the risk, and options.select, which leaves the rest out of a training.

use riskft_tests::{cancelled_in, fails, refuses, twin, Cluster, Database, Session};

/// Table `t`: `y` goes with `dti`, less with `grade`; the others say nothing, or what these say.
const TABLE: &str = "CREATE TABLE t AS SELECT n, u(1, n) AS dti, chr(97 + (5 * u(2, n))::int) AS grade,
        u(3, n) AS noise, (u(4, n) * 9)::int AS digit, date '2020-01-01' + (900 * u(5, n))::int AS day,
        u(1, n) + 0.3 * (5 * u(2, n))::int / 5 + 0.2 * u(6, n) > 0.8 AS y
    FROM generate_series(1, 3000) n";

/// A line of riskft_select.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    rank: i32,
    name: String,
    size: Option<f64>,
    share: Option<f64>,
    twin_of: Option<String>,
}

/// The call; `rest` are further arguments.
fn call(relation: &str, rest: &str) -> String {
    let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
    format!("SELECT * FROM riskft_select('{}', 'y'{rest})", relation.replace('\'', "''"))
}

fn lines(session: &mut Session, sql: &str) -> Vec<Line> {
    let rows = session.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let line = |row: &postgres::Row| Line {
        rank: row.get("rank"),
        name: row.get("column_name"),
        size: row.get("mean_abs_shap"),
        share: row.get("share"),
        twin_of: row.get("twin_of"),
    };
    rows.iter().map(line).collect()
}

fn select(session: &mut Session, relation: &str, rest: &str) -> Vec<Line> {
    lines(session, &call(relation, rest))
}

fn names(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.name.as_str()).collect()
}

#[test]
fn columns_are_ranked_and_the_run_is_kept() {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.notices();
    let found = select(&mut analyst, "t", "exclude => '{n}'");
    let mut all = names(&found);
    assert_eq!(all[..2], ["dti", "grade"], "{found:?}");
    all.sort_unstable();
    assert_eq!(all, ["day", "digit", "dti", "grade", "noise"]);
    assert!(found.is_sorted_by(|a, b| a.size >= b.size), "{found:?}");
    assert!(found.iter().zip(1..).all(|(line, rank)| line.rank == rank && line.twin_of.is_none()));
    let whole: f64 = found.iter().filter_map(|line| line.share).sum();
    assert!((whole - 1.0).abs() < 1e-9, "{whole}");
    assert!(analyst.told().contains("select"), "progress is told");

    // The same call gives the same, and so do the columns in another order, the first k alone, and
    // more than there are.
    assert_eq!(select(&mut analyst, "t", "exclude => '{n}'"), found);
    let shuffled = "SELECT y, noise, grade, day, n, digit, dti FROM t";
    assert_eq!(select(&mut analyst, shuffled, "exclude => '{n}'"), found);
    assert_eq!(select(&mut analyst, "t", "top_k => 2, exclude => '{n}'"), found[..2]);
    assert_eq!(select(&mut analyst, "t", "top_k => 2000000000, exclude => '{n}'"), found);
    assert_ne!(select(&mut analyst, "t", "exclude => '{n}', options => '{\"seed\": 5}'"), found);
    let timed = select(&mut analyst, "t", "exclude => '{n}', time_column => 'day'");
    assert_eq!(names(&timed)[..2], ["dti", "grade"]);

    let row =
        analyst.query_one("SELECT * FROM riskft.runs ORDER BY run LIMIT 1", &[]).expect("a run");
    assert_eq!(
        (row.get::<_, String>("kind"), row.get::<_, String>("state")),
        ("select".into(), "done".into())
    );
    assert_eq!(row.get::<_, Option<String>>("model"), None);
    assert_eq!(row.get::<_, Option<String>>("method"), None);
    assert_eq!(row.get::<_, String>("target"), "y");
    assert_eq!((row.get::<_, i64>("rows"), row.get::<_, i64>("rows_test")), (3000, 600));
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 7);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.costs WHERE wall_seconds > 0"), 7);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.progress"), 0);
    for table in ["model", "version", "blob", "reducer"] {
        let rows: i64 = database.superuser().value(&format!("SELECT count(*) FROM riskft.{table}"));
        assert_eq!(rows, 0, "riskft.{table}");
    }
    analyst.run("BEGIN");
    select(&mut analyst, "t", "exclude => '{n}'");
    analyst.run("ROLLBACK");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 7);
}

/// F42: a label of 200 random values has many parts, which say nothing together.
#[test]
fn a_source_column_has_one_line() {
    let (_database, mut analyst) = twin::database();
    analyst.run(
        "CREATE TABLE l AS SELECT 'bank ' || (200 * u(1, n))::int AS noise_bank, u(2, n) AS dti,
             u(2, n) + u(3, n) > 1 AS y FROM generate_series(1, 5000) n",
    );
    assert_eq!(names(&select(&mut analyst, "l", "top_k => 1")), ["dti"]);
    let found = select(&mut analyst, "l", "");
    assert_eq!(names(&found), ["dti", "noise_bank"]);
    let size = |at: usize| found[at].size.unwrap_or_default();
    println!("dti {}, noise_bank {}", size(0), size(1));
    assert!(size(1) < 0.2 * size(0), "{found:?}");
}

#[test]
fn columns_that_say_the_same_stand_together() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.run(
        "CREATE VIEW twins AS SELECT y, digit, noise, grade, dti,
             dti * 100 AS percent, 5 - ln(dti + 1e-9) AS falling,
             CASE WHEN n % 4 = 0 THEN NULL ELSE dti END AS a_gap, upper(grade) || ' class' AS a_class
         FROM t",
    );
    let alone = select(&mut analyst, "SELECT y, digit, noise, grade, dti FROM t", "");
    let found = select(&mut analyst, "twins", "top_k => 2");
    // Of those without a missing value the first by name.
    let told: Vec<(i32, &str, Option<&str>)> =
        found.iter().map(|l| (l.rank, l.name.as_str(), l.twin_of.as_deref())).collect();
    assert_eq!(
        told,
        [
            (1, "dti", None),
            (1, "a_gap", Some("dti")),
            (1, "falling", Some("dti")),
            (1, "percent", Some("dti")),
            (2, "a_class", None),
            (2, "grade", Some("a_class")),
        ]
    );
    for line in &found {
        assert_eq!(line.size.is_none(), line.twin_of.is_some(), "{line:?}");
        assert_eq!(line.share.is_none(), line.twin_of.is_some(), "{line:?}");
    }
    // Four columns that say it have about the share of one.
    let (one, four) = (alone[0].share.unwrap_or_default(), found[0].share.unwrap_or_default());
    println!("dti alone {one}, with its twins {four}");
    assert!((one - four).abs() < 0.1, "{one} and {four}");
    let shuffled =
        "SELECT a_class, a_gap, falling, percent, dti, grade, noise, digit, y FROM twins";
    assert_eq!(select(&mut analyst, shuffled, "top_k => 2"), found);
}

#[test]
fn wide_relations_are_ranked() {
    let (_database, mut analyst) = twin::database();
    let list = |of: &dyn Fn(i32) -> String| (1..=1200).map(of).collect::<Vec<_>>().join(", ");
    analyst.run(&format!(
        "CREATE TABLE wide (n int, {}); INSERT INTO wide SELECT n, {} FROM generate_series(1, 2000) n;
         CREATE VIEW wider AS SELECT {}, c700 + 0.5 * c31 > 0.75 AS y FROM wide",
        list(&|i| format!("c{i} real")),
        list(&|i| format!("(hashint4extended(n, {i}) % 10000)::real / 20000 + 0.5")),
        list(&|i| format!("c{i}::float8 AS c{i}"))
    ));
    let found = select(&mut analyst, "wider", "top_k => 5000");
    assert_eq!(found.len(), 1200);
    assert_eq!(names(&found)[..2], ["c700", "c31"], "{:?}", &found[..5]);
}

#[test]
fn odd_names_and_types_are_read() {
    let (_database, mut analyst) = twin::database();
    let long = "ñ".repeat(31) + "x";
    analyst.run(&format!(
        "CREATE TABLE \"My Table\" AS SELECT u(1, n) AS \"Größe %\", u(2, n) > 0.5 AS \"it's\",
             chr(97 + (9 * u(3, n))::int) AS \"say \"\"hi\"\"\", (u(4, n) * 90)::numeric::money AS \"{long}\",
             now() - u(5, n) * interval '900 days' AS \"select\", ARRAY[n] AS list, 7 AS same,
             md5(n::text)::uuid AS key,
             (SELECT string_agg(md5((n * 9 + i)::text), ' ') FROM generate_series(1, 9) i) AS \"the note\",
             u(1, n) + u(7, n) > 1 AS y
         FROM generate_series(1, 1200) n"
    ));
    analyst.notices();
    let found = select(&mut analyst, "\"My Table\"", "");
    let mut all = names(&found);
    assert_eq!(all[0], "Größe %");
    all.sort_unstable();
    let mut wanted = ["Größe %", "it's", "say \"hi\"", &long, "select"];
    wanted.sort_unstable();
    assert_eq!(all, wanted);
    let said = analyst.told();
    for part in
        ["as trees read no texts: \"the note\"", "\"list\" (integer[])", "\"same\"", "\"key\""]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn bad_arguments_are_refused() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    for (sql, code) in [
        (call("t", "top_k => 0"), "22023"),
        (call("t", "top_k => -3"), "22023"),
        (call("t", "top_k => NULL"), "22004"),
        ("SELECT * FROM riskft_select(NULL, 'y')".to_owned(), "22004"),
        ("SELECT * FROM riskft_select('t', NULL)".to_owned(), "22004"),
        ("SELECT * FROM riskft_select('t', 'yy')".to_owned(), "42703"),
        ("SELECT * FROM riskft_select('t', 'grade')".to_owned(), "22023"),
        (call("t", "positive => 'maybe'"), "22023"),
        (call("t", "exclude => '{nn}'"), "42703"),
        (call("t", "exclude => '{y}'"), "22023"),
        (call("t", "exclude => '{n,dti,grade,noise,digit,day}'"), "22023"),
        (call("t", "time_column => 'when'"), "42703"),
        (call("t", "options => '{\"seeds\": 1}'"), "22023"),
        (call("t", "options => '{\"rank\": 1}'"), "22023"),
        (call("t", "options => '{\"roles\": {\"nn\": \"flag\"}}'"), "42703"),
        (call("t", "options => '[]'"), "22023"),
        (call("SELECT * FROM t WHERE y", ""), "22023"),
        (call("SELECT * FROM t WHERE false", ""), "22023"),
        (call("SELECT * FROM t WHERE n <= 12", ""), "22023"),
        (call("SELECT dti, dti, y FROM t", ""), "42701"),
        (call("nowhere", ""), "42P01"),
        (call("t; DROP TABLE t", ""), "22023"),
        (call("DELETE FROM t RETURNING *", ""), "22023"),
        (call(&call("t", ""), ""), "55000"),
    ] {
        let error = refuses(&mut analyst, &sql, code);
        println!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
    }
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &call("t", ""), "25006");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
}

/// It needs SELECT on the rows alone, and reads those that the policies show.
#[test]
fn rows_are_read_as_the_caller() {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let (low, nosel) = (database.role("low"), database.role("nosel"));
    analyst.run(&format!(
        "GRANT SELECT ON t TO {low}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY third ON t FOR SELECT TO {low} USING (n % 3 = 0)"
    ));
    fails(&mut database.user(&nosel), &call("t", ""), "42501");
    let mut low = database.user(&low);
    assert_eq!(names(&select(&mut low, "t", "top_k => 1, exclude => '{n}'")), ["dti"]);
    assert_eq!(low.value::<i64>("SELECT rows FROM riskft.runs"), 1000);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    database.superuser().run(
        "REVOKE EXECUTE ON FUNCTION riskft_select(text, text, integer, text, text[], text, jsonb)
         FROM PUBLIC",
    );
    fails(&mut low, &call("t", ""), "42501");
}

#[test]
fn a_cancel_leaves_nothing() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut analyst = database.analyst();
    let columns: Vec<String> = (1..=300).map(|i| format!("random() * {i} AS c{i}")).collect();
    let relation = format!(
        "SELECT {}, random() < 0.5 AS y FROM generate_series(1, 60000)",
        columns.join(", ")
    );
    let sql = call(&relation, "");
    cancelled_in(&database, &mut analyst, &sql, &["load", "select"]);
}

/// options.select: the version needs the chosen columns alone, chosen by rows outside the test part.
#[test]
fn a_training_keeps_the_chosen_columns() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.run("CREATE VIEW more AS SELECT t.*, -dti AS dti_too, u(9, n) AS further FROM t");
    analyst.notices();
    let train = |shap: &str, roles: &str| {
        twin::QUICK.replace(
            "'{\"head",
            &format!("'{{\"select\": {{\"shap\": {shap}}}, \"roles\": {{{roles}\"n\": \"ignored\"}}, \"head"),
        )
    };
    twin::train(&mut analyst, "two", "more", &train("2", "\"digit\": \"number\", "));
    let said = analyst.told();
    assert!(said.contains("options.select leaves out 4 of 7 columns"), "{said}");
    let features = |session: &mut Session, condition: &str| -> Vec<String> {
        session.values(&format!(
            "SELECT column_name FROM riskft.features WHERE model = 'two' AND {condition} ORDER BY 1"
        ))
    };
    let kept = features(&mut analyst, "role NOT IN ('ignored', 'target')");
    assert_eq!(kept, ["digit", "dti", "grade"]);
    assert_eq!(
        features(&mut analyst, "why LIKE 'options.select: not among the 2 columns%'"),
        ["day", "further", "noise"]
    );
    let twin = features(&mut analyst, "why = 'options.select: it says the same as \"dti\"'");
    assert_eq!(twin, ["dti_too"]);
    let mut important: Vec<String> =
        analyst.values("SELECT column_name FROM riskft.importances WHERE model = 'two'");
    important.sort_unstable();
    assert_eq!(important, kept);
    let scored: i64 = analyst
        .value("SELECT count(risk_score('two', s)) FROM (SELECT digit, dti, grade FROM t) s");
    assert_eq!(scored, 3000);
    refuses(
        &mut analyst,
        "SELECT risk_score('two', s) FROM (SELECT digit, grade FROM t) s",
        "42703",
    );
    assert!(twin::test_auc(&mut analyst, "two") > 0.9);
    assert_eq!(analyst.value::<String>("SELECT options #>> '{select,shap}' FROM riskft.runs"), "2");

    // All, and more than there are: nothing is left out but what says the same.
    twin::train(&mut analyst, "all", "t", &train("0", ""));
    assert!(!analyst.told().contains("options.select"));
    twin::train(&mut analyst, "many", "more", &train("500", ""));
    assert!(analyst.told().contains("leaves out 1 of 7 columns"));
}

#[test]
fn the_function_says_what_it_is() {
    let database = Database::new();
    let row = database
        .superuser()
        .query_one(
            "SELECT provolatile, proparallel, obj_description(oid, 'pg_proc') FROM pg_proc
             WHERE proname = 'riskft_select'",
            &[],
        )
        .expect("one function");
    assert_eq!((row.get::<_, i8>(0) as u8, row.get::<_, i8>(1) as u8), (b'v', b'u'));
    assert!(row.get::<_, Option<String>>(2).is_some());
}
