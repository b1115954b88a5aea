//! Reducers: what riskft_reduce finds, and what riskft_project and the views tell of it.

use riskft_tests::reduction::{bits, reduce, reduced, EXCLUDE, TABLE};
use riskft_tests::{leftovers, refuses, twin, Database, Session};

/// Components of a reducer: column -> loading, by component.
fn loadings(session: &mut Session, reducer: &str) -> Vec<(i32, String, f64)> {
    let sql = "SELECT component, column_name, loading FROM riskft.loadings
               WHERE reducer = $1 ORDER BY 1, 2";
    let rows = session.query(sql, &[&reducer]).expect("the loadings");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[track_caller]
fn same_components(session: &mut Session, one: &str, other: &str, tolerance: f64) {
    let (a, b) = (loadings(session, one), loadings(session, other));
    assert_eq!(a.len(), b.len(), "{one} and {other}");
    for (a, b) in a.iter().zip(&b) {
        assert!((a.0, &a.1) == (b.0, &b.1), "{a:?} and {b:?}");
        assert!((a.2 - b.2).abs() <= tolerance, "{one} and {other}: {a:?} and {b:?}");
    }
    let apart: f64 = session.value(&format!(
        "SELECT max(abs(a.ratio - b.ratio)) FROM riskft.components a
         JOIN riskft.components b USING (component)
         WHERE a.reducer = '{one}' AND b.reducer = '{other}'"
    ));
    assert!(apart <= tolerance, "{one} and {other}: ratios differ by {apart}");
}

#[test]
fn a_table_is_reduced_and_projected() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let row = analyst.query_one(&reduce("r", "t", "3", "exclude => '{n}'"), &[]).expect("a call");
    let (kept, share, run): (i32, f64, i64) = (row.get("kept"), row.get("share"), row.get("run"));
    assert_eq!(kept, 3);
    assert!(share > 0.5 && share < 1.0, "{share}");
    let said = analyst.told();
    for part in ["\"flag\" (boolean)", "\"day\" (date)", "\"note\" (text)", "\"list\" (integer[])"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("3 of 6 components"), "{said}");

    let row = analyst.query_one("SELECT * FROM riskft.reducers", &[]).expect("one reducer");
    assert_eq!(row.get::<_, String>("reducer"), "r");
    assert_eq!(row.get::<_, i64>("components"), 3);
    assert_eq!(row.get::<_, i32>("columns"), 6);
    assert_eq!(row.get::<_, i64>("rows"), 600);
    assert_eq!(row.get::<_, i64>("run"), run);
    assert_eq!(row.get::<_, f64>("share").to_bits(), share.to_bits());
    let row = analyst.query_one("SELECT * FROM riskft.runs", &[]).expect("one run");
    assert_eq!(
        (row.get::<_, String>("kind"), row.get::<_, String>("state")),
        ("reduce".into(), "done".into())
    );
    assert_eq!(row.get::<_, i64>("rows"), 600);
    assert_eq!(row.get::<_, Option<String>>("target"), None);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.costs WHERE wall_seconds > 0"), 1);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.progress"), 0);

    // A component is what riskft.loadings says, its variance that of the projected rows, and the
    // components do not hang together.
    let apart: f64 = analyst.value(
        "WITH z AS (SELECT n, component, sum(loading * (x.value - mean) / scale) AS value
             FROM t, LATERAL (VALUES ('a', a), ('b', b), ('c', c), ('d', d::float8), ('e', e),
                 ('f', f::numeric::float8)) x(column_name, value)
             JOIN riskft.loadings USING (column_name) GROUP BY 1, 2)
         SELECT max(abs(value - (riskft_project('r', t))[component])) FROM z JOIN t USING (n)",
    );
    assert!(apart < 1e-9, "{apart}");
    let apart: f64 = analyst.value(
        "SELECT max(abs(v / variance - 1)) FROM riskft.components c, LATERAL
             (SELECT var_samp((riskft_project('r', t))[c.component]) AS v FROM t) s",
    );
    assert!(apart < 1e-9, "{apart}");
    let together: f64 = analyst.value(
        "SELECT abs(corr(p[1], p[2])) + abs(corr(p[1], p[3])) + abs(corr(p[2], p[3]))
         FROM (SELECT riskft_project('r', t) AS p FROM t) s",
    );
    assert!(together < 1e-9, "{together}");
    let unit: f64 = analyst.value(
        "SELECT max(abs(s - 1)) FROM (SELECT sum(loading ^ 2) AS s FROM riskft.loadings
         GROUP BY component) s",
    );
    assert!(unit < 1e-12, "{unit}");
}

/// F40: rank two out of five columns, one constant and one empty.
#[test]
fn components_follow_from_the_data_alone() {
    let (_database, mut analyst) = twin::database();
    analyst.run(
        "CREATE TABLE w AS SELECT n, u(1, n) AS x, 2 * u(1, n) AS x2, round(u(2, n)::numeric * 900, 2) AS z,
             7 AS same, NULL::float8 AS none FROM generate_series(1, 500) n",
    );
    for (name, relation, components) in [
        ("k3", "SELECT x, x2, z, same, none FROM w", "3"),
        ("k10", "SELECT x, x2, z, same, none FROM w", "10"),
        ("again", "SELECT x, x2, z, same, none FROM w", "10"),
        ("reverse", "SELECT x, x2, z, same, none FROM w ORDER BY n DESC", "10"),
        ("sorted", "SELECT x, x2, z, same, none FROM w ORDER BY z", "10"),
        ("columns", "SELECT none, z, same, x2, x FROM w", "10"),
        ("cents", "SELECT x, x2, z * 100 AS z, same, none FROM w", "10"),
        (
            "thousands",
            "SELECT x, x2 * 1000 AS x2, z / 1000 AS z, same * 1e9 AS same, none FROM w",
            "10",
        ),
        ("far", "SELECT x + 1e9 AS x, x2 + 1e9 AS x2, z + 1e9 AS z, same, none FROM w", "10"),
        (
            "money",
            "SELECT x, x2, z::money AS z, same::bigint AS same, none::real AS none FROM w",
            "10",
        ),
        ("share", "SELECT x, x2, z, same, none FROM w", "0.999"),
    ] {
        let row = analyst.query_one(&reduce(name, relation, components, ""), &[]).expect(name);
        assert_eq!(row.get::<_, i32>("kept"), 2, "{name}");
        let said = analyst.told();
        assert!(said.contains("as they do not vary: \"same\""), "{name}: {said}");
        assert!(said.contains("as no row has a value: \"none\""), "{name}: {said}");
        let clamped = said.contains("components were asked for, the columns have 2");
        assert_eq!(clamped, name != "share", "{name}: {said}");
        // +1e9 leaves ten of a float8's sixteen digits to the values.
        let tolerance = if name == "far" { 1e-6 } else { 1e-9 };
        same_components(&mut analyst, "k3", name, tolerance);
    }
    let odd: i64 = analyst.value(
        "SELECT count(*) FROM (SELECT reducer, max(cumulative) AS whole, sum(ratio) AS sum,
             min(ratio) AS least FROM riskft.components GROUP BY 1) s
         WHERE NOT (whole <= 1 + 1e-9 AND sum <= 1 + 1e-9 AND least > 0 AND abs(whole - 1) < 1e-6)",
    );
    assert_eq!(odd, 0);
    let signs: i64 = analyst.value(
        "SELECT count(*) FROM (SELECT DISTINCT ON (reducer, component) loading FROM riskft.loadings
             ORDER BY reducer, component, round(abs(loading)::numeric, 9) DESC, column_name) s
         WHERE loading < 0",
    );
    assert_eq!(signs, 0);
    // Without any correlation each column is a component, in the order of their names.
    analyst.run(
        "CREATE TABLE square AS SELECT n, (n & 1) AS b, (n >> 1 & 1) * 10 AS a, (n >> 2 & 1) - 0.5 AS c
         FROM generate_series(0, 63) n",
    );
    for (name, order) in [("square", "n"), ("shuffled", "n % 7, n")] {
        analyst.run(&reduce(
            name,
            &format!("SELECT a, b, c FROM square ORDER BY {order}"),
            "3",
            "",
        ));
        let told = loadings(&mut analyst, name);
        let ones: Vec<&str> =
            told.iter().filter(|l| (l.2 - 1.0).abs() < 1e-12).map(|l| l.1.as_str()).collect();
        assert_eq!(ones, ["a", "b", "c"], "{told:?}");
    }
}

#[test]
fn missing_cells_are_at_the_mean() {
    let (_database, mut analyst) = twin::database();
    analyst.run(
        "CREATE TABLE gaps AS SELECT n, CASE WHEN n % 5 = 0 THEN NULL ELSE u(1, n) END AS x,
             CASE n % 7 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN NULL
                 ELSE 3 * u(1, n) + u(2, n) END::float8 AS y,
             CASE WHEN n % 3 = 0 THEN 'NaN' ELSE u(3, n)::numeric END AS z
         FROM generate_series(1, 1500) n;
         CREATE TABLE filled AS SELECT n, coalesce(x, mx) AS x,
             CASE WHEN n % 7 < 3 THEN my ELSE y END AS y, CASE WHEN n % 3 = 0 THEN mz ELSE z END::float8 AS z
         FROM gaps, (SELECT avg(x) AS mx, avg(y) FILTER (WHERE n % 7 > 2) AS my,
             avg(z) FILTER (WHERE n % 3 > 0) AS mz FROM gaps) m",
    );
    for name in ["gaps", "filled"] {
        analyst.run(&reduce(name, name, "3", "exclude => '{n}'"));
    }
    same_components(&mut analyst, "gaps", "filled", 1e-9);
    let apart: f64 = analyst.value(
        "SELECT max(abs(a - b)) FROM gaps g JOIN filled f USING (n),
             LATERAL unnest(riskft_project('gaps', g), riskft_project('filled', f)) p(a, b)",
    );
    assert!(apart < 1e-8, "{apart}");
    let zero: Vec<f64> = analyst.value(
        "SELECT riskft_project('gaps', s) FROM (SELECT NULL::float8 AS x, 'NaN'::real AS y, NULL::int AS z) s",
    );
    assert_eq!(zero, [0.0; 3]);
}

#[test]
fn wide_and_short_relations_are_reduced() {
    let (database, mut analyst) = twin::database();
    let list = |of: &dyn Fn(i32) -> String| (1..=1600).map(of).collect::<Vec<_>>().join(", ");
    // A row of a table holds no 1,600 float8, but 1,600 float4.
    analyst.run(&format!(
        "CREATE TABLE wide ({}); INSERT INTO wide SELECT {} FROM generate_series(1, 40) n;
         CREATE VIEW wider AS SELECT {} FROM wide",
        list(&|i| format!("c{i} real")),
        list(&|i| format!("u({i}, n)")),
        list(&|i| format!("c{i}::float8 * {i} AS c{i}"))
    ));
    for (name, relation, components, kept) in
        [("narrow", "wide", "5", 5), ("all", "wider", "1600", 39), ("share", "wider", "0.5", 0)]
    {
        let row = analyst.query_one(&reduce(name, relation, components, ""), &[]).expect(name);
        let found: i32 = row.get("kept");
        assert!(found == kept || kept == 0 && (5..39).contains(&found), "{name}: {found}");
    }
    let lengths: Vec<i32> =
        analyst.values("SELECT DISTINCT array_length(riskft_project('all', w), 1) FROM wider w");
    assert_eq!(lengths, [39]);
    assert_eq!(
        analyst.value::<i64>("SELECT count(*) FROM riskft.loadings WHERE reducer = 'all'"),
        1600 * 39
    );
    let whole: f64 = analyst.value("SELECT share FROM riskft.reducers WHERE reducer = 'all'");
    assert!((whole - 1.0).abs() < 1e-9, "{whole}");

    analyst.run(TABLE);
    for (rows, code) in [(5, ""), (2, ""), (1, "22023"), (0, "22023")] {
        let relation = format!("SELECT a, b, c, d, e FROM t WHERE n <= {rows}");
        let call = reduce(&format!("rows{rows}"), &relation, "5", "");
        if code.is_empty() {
            let kept: i32 = analyst.query_one(&call, &[]).expect("few rows").get("kept");
            assert_eq!(kept, rows - 1, "{rows} rows");
        } else {
            let error = refuses(&mut analyst, &call, code);
            assert!(error.message().contains("too few rows"), "{error:?}");
        }
    }
    let kept: i32 = analyst
        .query_one(&reduce("one", "SELECT a FROM t", "1", ""), &[])
        .expect("a column")
        .get("kept");
    assert_eq!(kept, 1);
    assert_eq!(leftovers(&database), [""; 0]);
}

#[test]
fn a_share_keeps_the_fewest_components_that_reach_it() {
    let (_database, mut analyst) = reduced();
    for share in ["0.3", "0.8", "0.95", "0.999999"] {
        let name = format!("s{share}");
        let row = analyst.query_one(&reduce(&name, "t", share, EXCLUDE), &[]).expect("a call");
        let (kept, found): (i32, f64) = (row.get("kept"), row.get("share"));
        let wanted: f64 = share.parse().expect("a number");
        assert!(found >= wanted - 1e-9, "{share}: {found}");
        let before: f64 = analyst.value(&format!(
            "SELECT coalesce(max(cumulative), 0) FROM riskft.components
             WHERE reducer = '{name}' AND component < {kept}"
        ));
        assert!(before < wanted, "{share}: {before}");
    }
}

/// What has changed in the table since is found by name, or refused by name.
#[test]
fn changed_tables_project_by_name() {
    let (_database, mut analyst) = reduced();
    let all = "SELECT * FROM t";
    let before = bits(&mut analyst, "r", all);
    assert_eq!(bits(&mut analyst, "r", "SELECT f, e, d, c, b, a, n, 'x' AS more FROM t"), before);
    analyst.run("ALTER TABLE t ADD COLUMN later int DEFAULT 3; ALTER TABLE t DROP COLUMN flag");
    assert_eq!(bits(&mut analyst, "r", all), before);
    analyst.run("ALTER TABLE t ALTER COLUMN c TYPE bigint");
    assert_eq!(bits(&mut analyst, "r", all), before);
    analyst.run("PREPARE p AS SELECT sum((riskft_project('r', t))[1]) FROM t");
    analyst.value::<f64>("EXECUTE p");
    for (change, back, code) in [
        ("ALTER TABLE t RENAME COLUMN b TO bb", "ALTER TABLE t RENAME COLUMN bb TO b", "42703"),
        (
            "ALTER TABLE t ALTER COLUMN b TYPE text",
            "ALTER TABLE t ALTER COLUMN b TYPE float8 USING b::float8",
            "42804",
        ),
        (
            "ALTER TABLE t ALTER COLUMN b TYPE boolean USING true",
            "ALTER TABLE t DROP COLUMN b",
            "42804",
        ),
    ] {
        analyst.run(change);
        for query in ["SELECT riskft_project('r', t) FROM t", "EXECUTE p"] {
            let error = refuses(&mut analyst, query, code);
            assert!(error.message().contains("\"b\""), "{error:?}");
        }
        analyst.run(back);
    }
    let error = refuses(&mut analyst, "SELECT riskft_project('r', t) FROM t", "42703");
    assert!(error.message().contains("\"b\""), "{error:?}");
}

#[test]
fn odd_names_are_names() {
    let (_database, mut analyst) = twin::database();
    let long = "ñ".repeat(31) + "x";
    analyst.run(&format!(
        "CREATE TABLE \"My Table\" AS SELECT n, u(1, n) AS \"Größe %\", u(2, n) AS \"it's\",
             u(1, n) + u(3, n) AS \"say \"\"hi\"\"\", u(4, n) AS \"{long}\", u(5, n) AS \"select\",
             u(6, n) AS \"a b\", u(7, n) AS a_b, u(8, n) AS \"сумма\"
         FROM generate_series(1, 300) n"
    ));
    for name in ["Größe %", "it's \"quoted\"", &long, "select"] {
        assert!(name.len() <= 63);
        analyst.run(&reduce(name, "\"My Table\"", "3", "exclude => '{n}'"));
        let quoted = name.replace('\'', "''");
        let mut names: Vec<String> = analyst.values(&format!(
            "SELECT DISTINCT column_name FROM riskft.loadings WHERE reducer = '{quoted}'"
        ));
        names.sort_unstable();
        let mut wanted = ["Größe %", "it's", "say \"hi\"", &long, "select", "a b", "a_b", "сумма"];
        wanted.sort_unstable();
        assert_eq!(names, wanted);
        let count: i64 = analyst
            .value(&format!("SELECT count(riskft_project('{quoted}', t)) FROM \"My Table\" t"));
        assert_eq!(count, 300);
    }
}

#[test]
fn projections_have_the_same_bits_everywhere() {
    let (_database, mut analyst) = reduced();
    let all = "SELECT * FROM t";
    let before = bits(&mut analyst, "r", all);
    for settings in [
        "SET riskft.kernel = 'portable'",
        "SET riskft.kernel = 'auto'; SET extra_float_digits = -3; SET lc_monetary = 'C'",
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    ] {
        analyst.run(settings);
        assert_eq!(bits(&mut analyst, "r", all), before, "{settings}");
    }
    let plan: Vec<String> = analyst.values("EXPLAIN SELECT riskft_project('r', t) FROM t");
    assert!(plan.join("\n").contains("Gather"), "no parallel plan: {plan:?}");
    refuses(&mut analyst, "SELECT count(riskft_project('none', t)) FROM t", "42704");
    analyst.run("RESET ALL");
    let alone: Vec<f64> = analyst.value("SELECT riskft_project('r', t) FROM t WHERE n = 5");
    let among: Vec<f64> = analyst.value(
        "SELECT p FROM (SELECT n, riskft_project('r', t) AS p FROM t ORDER BY random()) s WHERE n = 5",
    );
    assert_eq!(alone, among);
    let (volatility, parallel): (i8, i8) = {
        let sql = "SELECT provolatile, proparallel FROM pg_proc WHERE proname = 'riskft_project'";
        let row = analyst.query_one(sql, &[]).expect("one function");
        (row.get(0), row.get(1))
    };
    assert_eq!((volatility as u8, parallel as u8), (b's', b's'));
}

/// Everything of this part of the SQL surface says what it is.
#[test]
fn all_is_commented() {
    let database = Database::new();
    let silent: Vec<String> = database.superuser().values(
        "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'riskft'::regnamespace AND a.attnum > 0
             AND c.relname IN ('reducer', 'component', 'reducers', 'components', 'loadings')
             AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)
         UNION ALL SELECT proname FROM pg_proc
         WHERE proname IN ('riskft_reduce', 'riskft_project', 'stored_loadings')
             AND obj_description(oid, 'pg_proc') IS NULL",
    );
    assert_eq!(silent, [""; 0]);
}
