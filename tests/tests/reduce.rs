//! Reducers: riskft_reduce, riskft_project and their views.

use std::thread;
use std::time::Duration;

use postgres::NoTls;
use riskft_tests::{fails, leftovers, process, refuses, twin, Cluster, Database, Session};

/// Table `t` of the analyst with `n`, six columns of numbers that hang together, and others.
const TABLE: &str = "CREATE TABLE t AS SELECT n, u(1, n) AS a, 3 * u(1, n) + u(2, n) AS b,
        (1000 * u(3, n))::int AS c, (u(2, n) - u(3, n))::numeric(12, 6) AS d,
        (u(4, n) * 90)::real AS e, (100 * u(1, n) + 50 * u(5, n))::numeric::money AS f,
        u(6, n) < 0.3 AS flag, date '2020-01-01' + n AS day, 'x' || n AS note, ARRAY[n] AS list
    FROM generate_series(1, 600) n";
const EXCLUDE: &str = "exclude => '{n,flag,day,note,list}'";

/// A database with table `t`, and reducer `r` of three components on it.
fn reduced() -> (Database<'static>, Session) {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.run(&reduce("r", "t", "3", EXCLUDE));
    analyst.notices();
    (database, analyst)
}

fn reduce(name: &str, relation: &str, components: &str, rest: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
    format!("CALL riskft_reduce('{}', '{}', {components}{rest})", quoted(name), quoted(relation))
}

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

/// Bits of all projections, by n.
fn bits(session: &mut Session, reducer: &str, query: &str) -> String {
    session.value(&format!(
        "SELECT md5(string_agg(n || ':' || p::text, ' ' ORDER BY n))
         FROM (SELECT n, array_send(riskft_project('{reducer}', s)) AS p FROM ({query}) s) p"
    ))
}

fn told(session: &mut Session) -> String {
    session.notices().iter().map(|n| format!("{}\n", n.message)).collect()
}

#[test]
fn a_table_is_reduced_and_projected() {
    let (_database, mut analyst) = twin::database();
    analyst.run(TABLE);
    let row = analyst.query_one(&reduce("r", "t", "3", "exclude => '{n}'"), &[]).expect("a call");
    let (kept, share, run): (i32, f64, i64) = (row.get("kept"), row.get("share"), row.get("run"));
    assert_eq!(kept, 3);
    assert!(share > 0.5 && share < 1.0, "{share}");
    let said = told(&mut analyst);
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
    assert!(leftovers_of_runs(&mut analyst));

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

fn leftovers_of_runs(session: &mut Session) -> bool {
    session.value::<i64>("SELECT count(*) FROM riskft.progress") == 0
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
        let said = told(&mut analyst);
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
