//! riskft_estimate: what a training would take, beside the training itself.

use std::collections::BTreeMap;

use riskft_tests::fixture::{small_text_model, small_text_training};
use riskft_tests::{cancelled_in, fails, leftovers, refuses, twin, Cluster, Database, Session};

const TABLE: &str =
    "CREATE TABLE t AS SELECT n, u(1, n) AS dti, chr(97 + (5 * u(2, n))::int) AS grade,
        date '2020-01-01' + (900 * u(5, n))::int AS day, u(1, n) + 0.2 * u(6, n) > 0.8 AS y
    FROM generate_series(1, 3000) n";

/// The call; `rest` are further arguments.
fn call(relation: &str, rest: &str) -> String {
    let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
    format!("SELECT * FROM riskft_estimate('{}', 'y'{rest})", relation.replace('\'', "''"))
}

#[derive(Debug)]
struct Estimate {
    /// All of them, those that are fitted on, and those of the test part.
    rows: [i64; 3],
    tokens: [i64; 2],
    minutes: [f64; 2],
    memory: i64,
    phases: BTreeMap<String, f64>,
    run: i64,
}

fn estimate(session: &mut Session, sql: &str) -> Estimate {
    let sql = sql.replace("SELECT *", "SELECT *, phases::text AS told");
    let row = session.query_one(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    Estimate {
        rows: ["rows", "rows_train", "rows_test"].map(|name| row.get(name)),
        tokens: ["tokens", "tokens_distinct"].map(|name| row.get(name)),
        minutes: ["minutes", "minutes_least"].map(|name| row.get(name)),
        memory: row.get("memory_bytes"),
        phases: serde_json::from_str(row.get("told")).expect("an object of numbers"),
        run: row.get("run"),
    }
}

/// Rows and tokens are the training's own; how long it takes is benches/src/estimate.rs' affair.
#[test]
fn a_training_is_foretold() {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let quick =
        "exclude => '{n}', method => 'none', options => '{\"seed\": 1, \"head_epochs\": 3}'";
    let found = estimate(&mut analyst, &call("t", quick));
    println!("{found:?}");
    assert_eq!((found.rows, found.tokens), ([3000, 2400, 600], [0, 0]));
    assert_eq!(found.minutes[0], found.minutes[1], "there is no text that could add something");
    let sum: f64 = found.phases.values().sum();
    assert!(sum > 0.0 && (found.minutes[0] * 60.0 - sum).abs() < 1e-6 * sum);
    for phase in ["load", "prepare", "encode", "network", "trees", "baseline", "evaluate"] {
        assert!(found.phases.contains_key(phase), "{phase}");
    }
    assert!(found.memory > 10 << 20, "{} bytes", found.memory);
    analyst.run(&format!("CALL riskft_train('m', 't', 'y', {quick})"));
    let row = analyst
        .query_one(
            "SELECT c.rows, r.rows_train, r.rows_test FROM riskft.costs c JOIN riskft.runs r USING (run)
             WHERE c.model = 'm'",
            &[],
        )
        .expect("the training's costs");
    assert_eq!([0, 1, 2].map(|column| row.get::<_, i64>(column)), found.rows);

    // A line of the run, and nothing else; none where the transaction rolls back.
    let told: String = analyst.value_of(
        "SELECT concat_ws(' ', kind, state, model, method, target) FROM riskft.runs WHERE run = $1",
        &[&found.run],
    );
    assert_eq!(told, "estimate done none y");
    let versions = "SELECT count(*) FROM riskft.versions";
    assert_eq!(analyst.value::<i64>(versions), 1);
    analyst.run("BEGIN");
    estimate(&mut analyst, &call("t", quick));
    analyst.run("ROLLBACK");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 2);
    assert_eq!(leftovers(&database), [""; 0]);

    // What makes a training longer makes its estimate longer; each is told of its own phase.
    let timed = "exclude => '{n}', method => 'none', time_column => 'day',
        options => '{\"calibrate\": \"recent\", \"head_epochs\": 3}'";
    let timed = estimate(&mut analyst, &call("t", timed));
    assert!(timed.phases.contains_key("backtest"), "{timed:?}");
    let bare = "exclude => '{n}', method => 'none', options => '{\"head_epochs\": 0}'";
    assert!(!estimate(&mut analyst, &call("t", bare)).phases.contains_key("network"));
}

#[test]
fn tuning_is_told_apart() {
    let database = Database::new();
    let base = small_text_model(&database);
    let mut analyst = database.analyst();
    let options = "{\"roles\": {\"note\": \"text\"}, \"epochs\": 1, \"layers\": 1, \"rank\": 4,
        \"head_epochs\": 2, \"hidden\": 16, \"members\": 1}";
    let text = format!(
        "SELECT * FROM riskft_estimate('notes', 'defaulted', exclude => '{{note_id}}', base => '{base}',
             options => '{options}')"
    );
    let found = estimate(&mut analyst, &text);
    println!("{found:?}");
    let tune = found.phases["tune"];
    assert!(tune > 0.0 && found.phases["text"] > 0.0 && found.phases["encode"] > 0.0);
    assert!(found.minutes[1] <= found.minutes[0] - tune / 60.0 + 1e-9);
    let tokens: Vec<i64> = analyst.values(
        "SELECT unnest(ARRAY[tokens, tokens_distinct]) FROM riskft.costs WHERE model = 't'",
    );
    assert_eq!(found.tokens[..], tokens[..], "those of the training of the same notes");
    // What is kept in any case is tuned in any case.
    let forced = text.replace("\"epochs\"", "\"keep_tuned\": \"always\", \"epochs\"");
    let forced = estimate(&mut analyst, &forced);
    assert_eq!(forced.minutes[0], forced.minutes[1]);
    let none = estimate(&mut analyst, &text.replace("\"epochs\": 1", "\"epochs\": 0"));
    assert!(!none.phases.contains_key("tune"), "{none:?}");
    for method in ["full", "adapter"] {
        let sql = text.replace("exclude =>", &format!("method => '{method}', exclude =>"));
        assert!(estimate(&mut analyst, &sql).phases["tune"] > 0.0, "{method}");
        let row = sql.replace("{\"roles\"", "{\"text\": \"row\", \"roles\"");
        let row = estimate(&mut analyst, &row);
        assert!(!row.phases.contains_key("trees") && row.phases["tune"] > 0.0, "{row:?}");
    }
    // A training after it is as one without it.
    analyst.run(&small_text_training("t", &base));
    let same: i64 = analyst.value(
        "SELECT count(*) FROM notes t WHERE float8send(risk_score('t@1', t)) <> float8send(risk_score('t@2', t))",
    );
    assert_eq!(same, 0);
}

#[test]
fn bad_arguments_are_refused() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let quick = "method => 'none'";
    for (sql, code) in [
        ("SELECT * FROM riskft_estimate(NULL, 'y')".to_owned(), "22004"),
        ("SELECT * FROM riskft_estimate('t', NULL)".to_owned(), "22004"),
        (call("t", "method => NULL"), "22004"),
        (call("t", "method => 'none', base => NULL"), "22004"),
        (call("t", "method => 'qlora'"), "22023"),
        (call("t", "base => 'nowhere'"), "58P01"),
        (call("t", "method => 'none', options => '{\"rankk\": 1}'"), "22023"),
        (call("t", "method => 'none', options => '{\"text\": \"row\"}'"), "22023"),
        (call("t", "method => 'none', exclude => '{nn}'"), "42703"),
        (call("t", "method => 'none', time_column => 'when'"), "42703"),
        ("SELECT * FROM riskft_estimate('t', 'yy', method => 'none')".to_owned(), "42703"),
        ("SELECT * FROM riskft_estimate('t', 'grade', method => 'none')".to_owned(), "22023"),
        (call("SELECT * FROM t WHERE y", quick), "22023"),
        (call("SELECT * FROM t WHERE false", quick), "22023"),
        (call("nowhere", quick), "42P01"),
        (call("t; DROP TABLE t", quick), "22023"),
        (call(&call("t", quick), quick), "55000"),
    ] {
        let error = refuses(&mut analyst, &sql, code);
        println!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
    }
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &call("t", quick), "25006");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
}

#[test]
fn rows_are_read_as_the_caller() {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let (low, nosel) = (database.role("low"), database.role("nosel"));
    analyst.run(&format!(
        "GRANT SELECT ON t TO {low}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY third ON t FOR SELECT TO {low} USING (n % 3 = 0)"
    ));
    let quick = "exclude => '{n}', method => 'none', options => '{\"head_epochs\": 1}'";
    fails(&mut database.user(&nosel), &call("t", quick), "42501");
    let mut low = database.user(&low);
    assert_eq!(estimate(&mut low, &call("t", quick)).rows[0], 1000);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    database.superuser().run(
        "REVOKE EXECUTE ON FUNCTION
             riskft_estimate(text, text, text, text, text[], text, text, jsonb) FROM PUBLIC",
    );
    fails(&mut low, &call("t", quick), "42501");
}

#[test]
fn a_cancel_leaves_nothing() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut analyst = database.analyst();
    let columns: Vec<String> = (1..=100).map(|i| format!("random() * {i} AS c{i}")).collect();
    let relation = format!(
        "SELECT {}, random() < 0.5 AS y FROM generate_series(1, 60000)",
        columns.join(", ")
    );
    let sql = call(&relation, "method => 'none'");
    cancelled_in(&database, &mut analyst, &sql, &["load", "network", "trees"]);
}
