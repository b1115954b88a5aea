//! options.reduce: trainings that condense number columns, and what scores, explains and moves them.

use riskft_tests::{fails, refuses, twin, Database, Session};

/// Table `t` of 2,000 rows: twelve columns tell of three hidden ones, of which `y` is made; `copy` says what
/// `v1` says, `code` is a category.
const TABLE: &str = "CREATE TABLE t AS
    WITH h AS (SELECT n, u(1, n) - 0.5 AS a, u(2, n) - 0.5 AS b, u(3, n) - 0.5 AS c
               FROM generate_series(1, 2000) n)
    SELECT n, a + 0.1 * u(11, n) AS v1, b + 0.1 * u(12, n) AS v2, c + 0.1 * u(13, n) AS v3,
        ((a + b) * 1000)::real AS v4, (a - c)::numeric(12, 6) AS v5, (1e6 * (b - c))::bigint AS v6,
        CASE WHEN n % 8 = 0 THEN NULL ELSE a + b + c END AS v7, (a * 200)::numeric::money AS v8,
        '$' || (1000 + 500 * b)::int || '.50' AS v9, CASE WHEN n % 50 = 0 THEN 'NaN' ELSE c - a + 0.1 * u(16, n) END AS v10,
        u(14, n) AS noise, 3 - 2 * (a + 0.1 * u(11, n)) AS copy, chr(97 + (n * 7 % 4)::int) AS code,
        7 AS same, a + b + c + 0.4 * (u(15, n) - 0.5) > 0.3 AS y
    FROM h";

/// Arguments of a quick training with further options.
fn quick(options: &str) -> String {
    twin::QUICK
        .replace("'{\"head", &format!("'{{{options}, \"roles\": {{\"n\": \"ignored\"}}, \"head"))
}

fn bits(session: &mut Session, model: &str, relation: &str) -> Vec<u64> {
    let sql = format!("SELECT risk_score('{model}', t) FROM ({relation}) t ORDER BY t.n");
    session.values::<f64>(&sql).into_iter().map(f64::to_bits).collect()
}

fn named(session: &mut Session, model: &str, condition: &str) -> Vec<String> {
    session.values(&format!(
        "SELECT column_name FROM riskft.features WHERE model = '{model}' AND {condition} ORDER BY 1"
    ))
}

/// The largest difference between log odds of scores and base plus contributions.
fn off(session: &mut Session, model: &str, rows: &str) -> f64 {
    session.value(&format!(
        "SELECT max(abs(s.sum - ln(r.risk / (1 - r.risk))))
         FROM ({rows}) t, LATERAL (SELECT risk_score('{model}', t) AS risk OFFSET 0) r,
             LATERAL (SELECT min(base) + sum(contribution) AS sum FROM risk_explain('{model}', t)) s"
    ))
}

#[test]
fn a_training_condenses_its_number_columns() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.notices();
    twin::train(&mut analyst, "m", "t", &quick("\"reduce\": {\"pca\": 4}"));
    let said = analyst.told();
    assert!(said.contains("options.reduce: 4 of "), "{said}");
    assert!(said.contains("of the variance of 12 columns"), "{said}");
    assert!(said.contains("\"same\""), "the constant is left out: {said}");
    let condensed = ["copy", "noise", "v1", "v10", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"];
    let why = "role = 'number' AND why = 'options.reduce: condensed into 4 components'";
    assert_eq!(named(&mut analyst, "m", why), condensed);
    assert_eq!(named(&mut analyst, "m", "role = 'category'"), ["code"]);
    assert!(twin::test_auc(&mut analyst, "m") > 0.9);
    assert_eq!(twin::odd_scores(&mut analyst, "m", "t"), 0);
    let pca: f64 = analyst.value("SELECT (options #>> '{reduce,pca}')::float8 FROM riskft.runs");
    assert_eq!(pca, 4.0);
    let phases: i64 = analyst.value("SELECT count(*) FROM riskft.phases WHERE phase = 'reduce'");
    assert_eq!(phases, 1);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.reducers"), 0);

    // The same bits alone, in a parallel plan, on another kernel, and of a row of NULLs.
    let before = bits(&mut analyst, "m", "SELECT * FROM t");
    for settings in [
        "SET riskft.kernel = 'portable'; SET extra_float_digits = -3; SET lc_monetary = 'C'",
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    ] {
        analyst.run(settings);
        assert_eq!(bits(&mut analyst, "m", "SELECT * FROM t"), before, "{settings}");
    }
    analyst.run("RESET ALL");
    let alone = bits(&mut analyst, "m", "SELECT * FROM t WHERE n = 5");
    assert_eq!(alone, before[4..5]);
    let json: f64 = analyst.value(
        "SELECT risk_score_json('m', to_jsonb(t) - 'v8' || '{\"v8\": null}') FROM t WHERE n = 3",
    );
    let row: f64 = analyst.value(
        "SELECT risk_score('m', s) FROM (SELECT n, v1, v2, v3, v4, v5, v6, v7, NULL::money AS v8, v9, v10,
             noise, copy, code FROM t WHERE n = 3) s",
    );
    assert!((json - row).abs() < 1e-9, "{json} and {row}");
    let empty: f64 =
        analyst.value("SELECT risk_score('m', jsonb_populate_record(NULL::t, '{\"n\": 1}'))");
    assert!((0.0..=1.0).contains(&empty), "{empty}");
}

/// A contribution is a source column's: no component has a line, and the lines sum to the score.
#[test]
fn explanations_are_of_source_columns() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    twin::train(
        &mut analyst,
        "m",
        "t",
        &quick("\"reduce\": {\"pca\": 0.9}, \"explain\": {\"rows\": 40}"),
    );
    let rows = "SELECT * FROM t WHERE n <= 30";
    let apart = off(&mut analyst, "m", rows);
    println!("largest difference of a log odds over 30 rows: {apart:.2e}");
    assert!(apart < 1e-3, "{apart}");
    let wanted =
        ["code", "copy", "noise", "v1", "v10", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"];
    let names: Vec<String> = analyst.values(&format!(
        "SELECT DISTINCT e.column_name FROM ({rows}) t, risk_explain('m', t) e ORDER BY 1"
    ));
    assert_eq!(names, wanted);
    let mut important: Vec<String> =
        analyst.values("SELECT column_name FROM riskft_importance('m')");
    assert!(important.iter().position(|name| name == "noise") > Some(4), "{important:?}");
    important.sort_unstable();
    assert_eq!(important, wanted);
    // What a column does in the score is what its line says: risk rises with v7 here.
    let effect: Vec<f64> =
        analyst.values("SELECT mean_score FROM riskft_effect('m', 'v7') WHERE value IS NOT NULL");
    assert!(effect.len() > 3 && effect[0] < effect[effect.len() - 1], "{effect:?}");
    let reasons: i64 = analyst.value(&format!(
        "SELECT count(*) FROM ({rows}) t, risk_reasons('m', t) r
         WHERE r.column_name = ANY ('{{{}}}')",
        wanted.join(",")
    ));
    let all: i64 =
        analyst.value(&format!("SELECT count(*) FROM ({rows}) t, risk_reasons('m', t) r"));
    assert!(reasons > 0 && reasons == all, "{reasons} of {all}");
}

#[test]
fn selected_columns_stay_beside_the_components() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.notices();
    let options = "\"select\": {\"shap\": 2}, \"reduce\": {\"pca\": 3}";
    twin::train(&mut analyst, "both", "t", &quick(options));
    let said = analyst.told();
    assert!(said.contains("options.select leaves out 2 of 13 columns"), "{said}");
    assert!(said.contains("options.reduce: 3 of "), "{said}");
    let kept = named(
        &mut analyst,
        "both",
        "role NOT IN ('ignored', 'target') AND why NOT LIKE 'options.%'",
    );
    assert_eq!(kept.len(), 2, "{kept:?}");
    let condensed =
        named(&mut analyst, "both", "why = 'options.reduce: condensed into 3 components'");
    assert_eq!(condensed.len(), 9, "{condensed:?}");
    assert_eq!(named(&mut analyst, "both", "why LIKE '%says the same as \"copy\"'"), ["v1"]);
    let scored = kept.iter().chain(&condensed).map(String::as_str).collect::<Vec<_>>().join(", ");
    let count: i64 = analyst
        .value(&format!("SELECT count(risk_score('both', s)) FROM (SELECT {scored} FROM t) s"));
    assert_eq!(count, 2000);
    assert!(twin::test_auc(&mut analyst, "both") > 0.9);
    assert!(off(&mut analyst, "both", "SELECT * FROM t WHERE n <= 20") < 1e-3);

    // A version that is exported scores the same bits elsewhere.
    let before = bits(&mut analyst, "both", "SELECT * FROM t");
    let bytes: Vec<u8> = analyst.value("SELECT riskft_export_model('both')");
    let other = Database::new();
    let mut elsewhere = other.analyst();
    elsewhere.run(
        "CREATE FUNCTION u(seed integer, i bigint) RETURNS float8 IMMUTABLE PARALLEL SAFE
         RETURN ('x' || substr(md5(seed || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0",
    );
    elsewhere.run(TABLE);
    let _: i32 = elsewhere.value_of("SELECT riskft_import_model('both', $1)", &[&bytes]);
    assert_eq!(bits(&mut elsewhere, "both", "SELECT * FROM t"), before);
    assert_eq!(named(&mut elsewhere, "both", "why LIKE 'options.reduce:%'"), condensed);
}

#[test]
fn changed_tables_score_by_name() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    twin::train(&mut analyst, "m", "t", &quick("\"reduce\": {\"pca\": 4}"));
    let all = "SELECT * FROM t";
    let before = bits(&mut analyst, "m", all);
    analyst.run("ALTER TABLE t ADD COLUMN later int DEFAULT 3; ALTER TABLE t DROP COLUMN same");
    assert_eq!(bits(&mut analyst, "m", all), before);
    let shuffled = "SELECT copy, code, v9, v8, v7, v6, v5::float8, v4::float8, v3, v2, v1, v10, noise, n FROM t";
    assert_eq!(bits(&mut analyst, "m", shuffled), before);
    analyst.run("PREPARE p AS SELECT count(risk_score('m', t)) FROM t");
    analyst.value::<i64>("EXECUTE p");
    analyst.run("BEGIN; ALTER TABLE t RENAME COLUMN v3 TO w3");
    for query in ["SELECT risk_score('m', t) FROM t", "EXECUTE p"] {
        analyst.run("SAVEPOINT s");
        let error = analyst.query(query, &[]).expect_err("v3 is gone");
        let error = error.as_db_error().expect("an error of the server").clone();
        assert_eq!(error.code().code(), "42703");
        assert!(error.message().contains("\"v3\""), "{error:?}");
        analyst.run("ROLLBACK TO s");
    }
    analyst.run("ROLLBACK; ALTER TABLE t DROP COLUMN v5");
    let error = refuses(&mut analyst, "SELECT risk_score('m', t) FROM t", "42703");
    assert!(error.message().contains("\"v5\""), "{error:?}");
}

/// As many columns as a table holds, none of them a text.
#[test]
fn wide_tables_train_and_score() {
    let (_database, mut analyst) = twin::database();
    let list = |of: &dyn Fn(i32) -> String| (1..=1598).map(of).collect::<Vec<_>>().join(", ");
    analyst.run(&format!(
        "CREATE TABLE wide ({}, n int, y boolean);
         INSERT INTO wide SELECT {}, n, false FROM (
             SELECT n, u(1, n)::real AS a, u(2, n)::real AS b, u(3, n)::real AS c
             FROM generate_series(1, 800) n OFFSET 0) h;
         UPDATE wide SET y = c1 + c2 + c3 > 2.4",
        list(&|i| format!("c{i} real")),
        list(&|i| {
            let hidden = ["a", "b", "c"][i as usize % 3];
            format!("{hidden} + (hashint4extended(n, {i}) % 1000)::real / 3000")
        })
    ));
    analyst.notices();
    let options = quick("\"reduce\": {\"pca\": 50}, \"select\": {\"shap\": 20}");
    twin::train(
        &mut analyst,
        "m",
        "wide",
        &options.replace("method => 'none'", "method => 'lora'"),
    );
    let said = analyst.told();
    assert!(said.contains("options.reduce: 50 of "), "{said}");
    assert!(said.contains("of the variance of 1578 columns"), "{said}");
    assert!(said.contains("there is no text column"), "{said}");
    assert!(twin::test_auc(&mut analyst, "m") > 0.9);
    assert_eq!(twin::odd_scores(&mut analyst, "m", "wide"), 0);
    let before = bits(&mut analyst, "m", "SELECT * FROM wide");
    let some = bits(&mut analyst, "m", "SELECT * FROM wide WHERE n % 7 = 0");
    assert_eq!(some, before.iter().skip(6).step_by(7).copied().collect::<Vec<_>>());
    let row = "SELECT * FROM wide WHERE n = 17";
    let apart = off(&mut analyst, "m", row);
    assert!(apart < 1e-3, "{apart}");
    let lines: i64 = analyst.value(&format!(
        "SELECT count(*) FROM ({row}) w, risk_explain('m', w) e WHERE e.column_name LIKE 'c%'"
    ));
    assert_eq!(lines, 1598);
}

#[test]
fn what_cannot_be_condensed_is_one_clear_error() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let call = |relation: &str, options: &str| {
        format!(
            "CALL riskft_train('m', '{}', 'y', {})",
            relation.replace('\'', "''"),
            quick(options)
        )
    };
    let plain = "\"reduce\": {\"pca\": 4}";
    for (relation, options, code) in [
        ("t", "\"reduce\": {\"pca\": -1}", "22023"),
        ("t", "\"reduce\": {\"pca\": 1.5}", "22023"),
        ("t", "\"reduce\": {\"pca\": \"4\"}", "22023"),
        ("t", "\"reduce\": {\"pcs\": 4}", "22023"),
        ("t", "\"reduce\": 4", "22023"),
        ("t", "\"reduce\": {\"pca\": 4}, \"text\": \"row\"", "22023"),
        ("SELECT n, code, y FROM t", plain, "22023"),
        ("SELECT * FROM t WHERE n <= 5", plain, "22023"),
        ("SELECT n, same, 1.5 AS flat, y FROM t", plain, "22023"),
    ] {
        let error = refuses(&mut analyst, &call(relation, options), code);
        println!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
    }
    fails(&mut analyst, "SELECT risk_score('m', t) FROM t", "42704");
    // Constant columns and copies are no obstacle, and more components than there are come to them.
    analyst.notices();
    let relation = "SELECT n, same, v1, copy, 2 * v1 AS twice, NULL::float8 AS none, y FROM t";
    analyst.run(&call(relation, "\"reduce\": {\"pca\": 50}"));
    let said = analyst.told();
    assert!(said.contains("50 components were asked for, the columns have 1"), "{said}");
    assert!(said.contains("1 of 1 components keep 100.0% of the variance of 3 columns"), "{said}");
    let odd: i64 = analyst.value(
        "SELECT count(*) FROM (SELECT n, v1, copy, 2 * v1 AS twice FROM t) t
         WHERE NOT coalesce(risk_score('m', t) BETWEEN 0 AND 1, false)",
    );
    assert_eq!(odd, 0);
}
