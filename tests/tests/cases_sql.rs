//! Field cases of SQL as people write it: sessions of all kinds, odd names, tables that change.

use riskft_tests::{fails, refuses, Database, Session};

const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 3, "members": 1, "hidden": 16,
    "gate": {"auc_loss": 1, "flips": 1}}'"#;

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
        let largest: f64 = session.value(&format!(
            "SELECT max(abs(risk - risk_score('{again}', t))) FROM t JOIN kept USING (id)"
        ));
        let branches: Vec<String> = session.values(&format!(
            "SELECT concat_ws(' ', model, branch, weight, auc, test_auc) FROM riskft.branches
             WHERE model IN ('m', '{again}') ORDER BY branch, model DESC"
        ));
        assert_eq!(largest, 0.0, "trained after {settings}; {branches:#?}");
    }
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

/// F27 and F28: a score is a float8 like any other, wherever a query may put a value.
#[test]
fn scores_go_where_values_go() {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(&format!(
        "CREATE TABLE t AS SELECT n AS id, n % 97 AS a, (n % 13)::text AS b, n % 97 < 30 AS y, NULL::float8 AS risk
             FROM generate_series(1, 300) n;
         CALL riskft_train('m', 'SELECT a, b, y FROM t', 'y', {QUICK});
         CREATE TABLE kept AS SELECT id, risk_score('m', t) AS risk FROM t;
         CREATE DOMAIN loan AS t; CREATE TABLE nested AS SELECT id, t AS inside, t::loan AS domain FROM t;
         CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.risk := risk_score(''m'', NEW); RETURN NEW; END';
         CREATE TABLE filled (LIKE t);
         CREATE TRIGGER fill BEFORE INSERT ON filled FOR EACH ROW EXECUTE FUNCTION fill();
         INSERT INTO filled SELECT * FROM t;
         CREATE VIEW viewed AS SELECT id, risk_score('m', t) AS risk FROM t;
         CREATE VIEW guarded WITH (security_barrier) AS SELECT * FROM viewed;
         CREATE MATERIALIZED VIEW stored AS SELECT * FROM viewed;
         REFRESH MATERIALIZED VIEW stored;
         CREATE TABLE bare AS SELECT id, risk_score('m', t) AS risk FROM t WITH NO DATA;
         INSERT INTO bare SELECT id, risk_score('m', t) FROM t;
         CREATE FUNCTION of_row(r t) RETURNS float8 STABLE RETURN risk_score('m', r);
         UPDATE t SET risk = risk_score('m', t)",
    ));
    for query in [
        "SELECT id, risk FROM t",
        "SELECT id, risk FROM filled",
        "SELECT id, risk FROM guarded",
        "SELECT id, risk FROM stored",
        "SELECT id, risk FROM bare",
        "SELECT id, of_row(t) AS risk FROM t",
        "SELECT id, risk_score('m', inside) AS risk FROM nested",
        "SELECT id, risk_score('m', domain) AS risk FROM nested",
        "SELECT id, risk_score('m', t.*) AS risk FROM t",
        "SELECT id, risk_score(model => 'm', t => t) AS risk FROM t",
        "SELECT t.id, s.risk FROM t, LATERAL risk_score('m', t) AS s (risk)",
        "WITH s AS MATERIALIZED (SELECT id, a, b FROM t) SELECT id, risk_score('m', s) AS risk FROM s",
        "SELECT id, (array_agg(risk_score('m', t)) OVER (PARTITION BY id))[1] AS risk FROM t",
        "SELECT id, max(risk_score('m', t)) AS risk FROM t GROUP BY id",
        "SELECT id, risk_score('m', (SELECT x FROM (SELECT t.a, t.b) x)) AS risk FROM t",
        "SELECT id, risk_score('m', v) AS risk FROM (VALUES (0, 0, 'x')) v (id, a, b) WHERE id > 0
             UNION ALL SELECT id, risk_score('m', r) FROM t, LATERAL (SELECT t.b, t.a) r",
        "SELECT id, CASE WHEN a < 0 THEN risk_score('none', t) ELSE risk_score('m', t) END AS risk FROM t",
        "SELECT id, risk_score('m', jsonb_populate_record(NULL::t, to_jsonb(t))) AS risk FROM t",
        "SELECT DISTINCT ON (id) id, risk_score('m', t) AS risk FROM t ORDER BY id, risk_score('m', t) DESC",
        "SELECT id, risk_score('m', t) AS risk FROM t WHERE risk_score('m', t) >= 0 ORDER BY 2",
        "SELECT id, percentile_disc(0.5) WITHIN GROUP (ORDER BY risk_score('m', t)) AS risk FROM t GROUP BY id",
        "SELECT l.id, risk_score('m', r) AS risk FROM t l LEFT JOIN t r ON l.id = r.id",
    ] {
        let differing: i64 = analyst.value(&format!(
            "SELECT count(*) FROM kept k FULL JOIN ({query}) q USING (id)
             WHERE float8send(k.risk) IS DISTINCT FROM float8send(q.risk)"
        ));
        assert_eq!(differing, 0, "{query}");
    }
    let unmatched: Option<f64> =
        analyst.value("SELECT risk_score('m', r) FROM t l LEFT JOIN t r ON false LIMIT 1");
    assert_eq!(unmatched, None, "a row that an outer join did not find has no score");
    // It follows deployments, so it may not be kept where PostgreSQL wants what never changes.
    for sql in [
        "CREATE INDEX ON t (risk_score('m', t))",
        "CREATE TABLE g (a integer, b text, risk float8 GENERATED ALWAYS AS (risk_score('m', ROW(a, b))) STORED)",
    ] {
        fails(&mut analyst, sql, "42P17");
    }
    for sql in ["SELECT risk_score('m', 1)", "SELECT risk_score('m', ARRAY[t]) FROM t"] {
        refuses(&mut analyst, sql, "42804");
    }
    for (sql, code) in [
        ("SELECT risk_score('m')", "42883"),
        ("SELECT risk_score('m', NULL)", "42804"),
        ("SELECT risk_score('m', 'text')", "42804"),
        ("SELECT risk_score('m', t, 1) FROM t", "42883"),
    ] {
        fails(&mut analyst, sql, code);
    }
}
