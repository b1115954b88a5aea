//! What users can put in riskft's way, or in each other's: search paths, temporary objects, views,
//! functions, policies. None of it gives a right that its author lacks.

use riskft_tests::fixture::{small_model, small_training};
use riskft_tests::{fails, refuses, Database, Session};

const SCORE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";
const ALL: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";

fn evaluation(relation: &str) -> String {
    let relation = relation.replace('\'', "''");
    format!("SELECT * FROM riskft_evaluate('m', '{relation}', 'defaulted')")
}

/// Rows that riskft_evaluate counts.
fn evaluated(session: &mut Session, relation: &str) -> f64 {
    let sql = evaluation(relation).replacen('*', "value", 1);
    session.value(&format!("{sql} WHERE metric OPERATOR(pg_catalog.=) 'rows'"))
}

/// A role that may log in, create tables and score `m`, and no more.
fn scorer(database: &Database, analyst: &mut Session, name: &str) -> (String, Session) {
    let role = database.role(name);
    database.superuser().run(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    let session = database.user(&role);
    (role, session)
}

#[test]
fn column_grants_hold() {
    let (database, mut analyst) = small_model();
    let (role, mut low) = scorer(&database, &mut analyst, "low");
    analyst.run(&format!(
        "REVOKE SELECT ON loans FROM PUBLIC; GRANT SELECT (amount, grade, defaulted) ON loans TO {role}"
    ));
    let allowed = "SELECT amount, grade, defaulted FROM loans";
    let training =
        |relation: &str| small_training("own", relation, "").replace("exclude => '{loan_id}',", "");
    low.run(&training(allowed));
    assert_eq!(low.value::<i64>("SELECT rows FROM riskft.runs"), 400);
    assert_eq!(evaluated(&mut low, allowed), 400.0);
    low.run("SELECT risk_score('m', s) FROM (SELECT amount, grade FROM loans) s");
    for sql in [
        training("loans"),
        training("SELECT * FROM loans"),
        training("SELECT amount, grade, defaulted FROM loans WHERE loan_id > 0"),
        training("SELECT l.amount, l.defaulted, l FROM loans l"),
        training("SELECT loan_id, defaulted FROM loans")
            .replace("method =>", "wait => false, method =>"),
        evaluation("loans"),
        evaluation("SELECT *, loan_id AS x FROM loans"),
        // A row is all its columns.
        SCORE.to_owned(),
        "SELECT risk_score('m', l) FROM loans l".to_owned(),
        "SELECT risk_score_json('m', to_jsonb(l)) FROM loans l".to_owned(),
    ] {
        fails(&mut low, &sql, "42501");
    }
}

#[test]
fn a_role_without_select_learns_nothing() {
    let (database, mut analyst) = small_model();
    let (_, mut nosel) = scorer(&database, &mut analyst, "nosel");
    analyst.run("REVOKE SELECT ON loans FROM PUBLIC");
    for sql in [
        small_training("n", "loans", ""),
        small_training("n", "loans", "").replace("method =>", "wait => false, method =>"),
        small_training("n", "SELECT * FROM public.loans", ""),
        evaluation("loans"),
        SCORE.to_owned(),
    ] {
        fails(&mut nosel, &sql, "42501");
    }
    assert_eq!(nosel.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
}

/// F46: rows that a policy hides are in no training, no evaluation and no score.
#[test]
fn row_level_security_holds() {
    let (database, mut analyst) = small_model();
    let (role, mut low) = scorer(&database, &mut analyst, "low");
    analyst.run(&format!(
        "ALTER TABLE loans ENABLE ROW LEVEL SECURITY;
         CREATE POLICY quarter ON loans FOR SELECT TO {role} USING (loan_id % 4 = 0)"
    ));
    for (number, relation) in
        ["loans", "SELECT * FROM loans", "SELECT * FROM (TABLE loans) l"].iter().enumerate()
    {
        let model = format!("own{number}");
        low.run(&small_training(&model, relation, ""));
        let rows = format!("SELECT rows FROM riskft.runs WHERE model = '{model}'");
        assert_eq!(low.value::<i64>(&rows), 100, "{relation}");
        assert_eq!(evaluated(&mut low, relation), 100.0, "{relation}");
    }
    assert_eq!(low.values::<f64>(ALL).len(), 100);
    let queued =
        small_training("later", "loans", "").replace("method =>", "wait => false, method =>");
    let run: i64 = low.query_one(&queued, &[]).unwrap().get("run");
    assert_eq!(low.value::<String>(&format!("SELECT riskft_wait({run})")), "done");
    let rows = format!("SELECT rows FROM riskft.runs WHERE run = {run}");
    assert_eq!(low.value::<i64>(&rows), 100);
    // The owner is not bound by the policy until it says so.
    assert_eq!(evaluated(&mut analyst, "loans"), 400.0);
    analyst.run("ALTER TABLE loans FORCE ROW LEVEL SECURITY");
    analyst.run("CREATE POLICY tenth ON loans FOR SELECT TO analyst USING (loan_id % 10 = 0)");
    assert_eq!(evaluated(&mut analyst, "loans"), 40.0);
    low.run("SET row_security = off");
    for sql in [small_training("n", "loans", ""), evaluation("loans"), ALL.to_owned()] {
        fails(&mut low, &sql, "42501");
    }
}

#[test]
fn a_text_that_is_no_relation_does_nothing() {
    let (_database, mut analyst) = small_model();
    for (relation, codes) in [
        ("loans; DROP TABLE loans --", &["22023"][..]),
        ("loans\"; DROP TABLE loans --", &["22023"]),
        ("\"loans; DROP TABLE loans --\"", &["42P01"]),
        ("SELECT * FROM loans; DROP TABLE loans", &["22023"]),
        ("SELECT 1 WHERE false; DROP TABLE loans; SELECT * FROM loans", &["22023"]),
        ("DELETE FROM loans RETURNING *", &["22023"]),
        ("WITH d AS (DELETE FROM loans RETURNING *) SELECT * FROM d", &["22023"]),
        ("SELECT * FROM (WITH d AS (DELETE FROM loans RETURNING *) TABLE d) x", &["0A000"]),
        ("SELECT * INTO stolen FROM loans", &["22023"]),
        ("TABLE loans UNION ALL SELECT * FROM loans FOR UPDATE", &["22023", "0A000"]),
        ("(SELECT * FROM loans FOR UPDATE)", &["22023"]),
        ("SELECT * FROM (SELECT * FROM loans FOR UPDATE) l", &["0A000"]),
        ("SELECT *, nextval('s') AS n FROM loans", &["25006"]),
        ("SELECT *, set_config('role', 'postgres', false) AS n FROM loans", &["42501"]),
        ("(SELECT 1", &["42601"]),
        ("public.loans CASCADE", &["22023"]),
        ("pg_catalog.pg_authid", &["42501"]),
        ("riskft.model", &["42501"]),
    ] {
        analyst.run("CREATE SEQUENCE IF NOT EXISTS s");
        for sql in [small_training("n", relation, ""), evaluation(relation)] {
            let error = analyst.batch_execute(&sql).expect_err(&sql);
            let code = error.code().map_or("none", |c| c.code());
            assert!(codes.contains(&code), "{sql}: {error:?}");
        }
        assert_eq!(analyst.value::<i64>("SELECT count(*) FROM loans"), 400, "{relation}");
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM pg_class WHERE relname = 'stolen'"), 0);
    assert!(!analyst.value::<bool>("SELECT is_called FROM s"), "a sequence was advanced");
}

/// Functions, operators, types and tables that shout when they are used.
const DECOYS: &str = r#"
CREATE SCHEMA evil;
CREATE FUNCTION evil.shout() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a decoy was called' USING ERRCODE = 'P0666'; END $$;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.eq(oid, regclass) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.joined(text, text) RETURNS text LANGUAGE sql AS 'SELECT evil.shout()::pg_catalog.text';
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.eq);
CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = evil.eq);
CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.joined);
CREATE FUNCTION evil.is_own(name) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.shout()';
CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS
    'SELECT evil.shout()::pg_catalog.text::pg_catalog.regclass';
CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE sql AS 'SELECT evil.shout()::int::bigint';
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
    'SELECT evil.shout()::pg_catalog.text::timestamptz';
CREATE FUNCTION evil.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT evil.shout()::int::bigint';
CREATE FUNCTION evil.jsonb_array_elements(jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
    'SELECT to_jsonb(evil.shout())';
CREATE DOMAIN evil.name AS pg_catalog.int4;
CREATE DOMAIN evil.jsonb AS pg_catalog.int4;
CREATE TABLE evil.model (model_id bigint, name pg_catalog.text, owner pg_catalog.text);
CREATE TABLE evil.privilege (model_id bigint);
CREATE VIEW evil.pg_roles AS SELECT 1 AS rolname;
CREATE DOMAIN evil.text AS pg_catalog.int4;
"#;

/// A path that leads to decoys first, temporary ones among them, changes nothing.
#[test]
fn decoys_on_the_search_path_are_not_found() {
    let (database, mut analyst) = small_model();
    let (role, mut low) = scorer(&database, &mut analyst, "low");
    let kept: Vec<f64> = analyst.values(ALL);
    analyst.run(DECOYS);
    analyst.run("GRANT USAGE ON SCHEMA evil TO PUBLIC");
    let owned = analyst.value::<i64>("SELECT count(*) FROM riskft.metrics");
    for session in [&mut analyst, &mut low] {
        session.run(
            "CREATE TEMP TABLE model (model_id bigint, name text, owner name, deployed_version int);
             CREATE TEMP TABLE version (model_id bigint); CREATE TEMP TABLE blob (digest text);
             CREATE TEMP TABLE blob_chunk (digest text); CREATE TEMP TABLE privilege (role name);
             CREATE TEMP TABLE run (run_id bigint); CREATE TEMP TABLE deployment (model_id bigint);
             CREATE TEMP TABLE alias (alias text); CREATE TEMP TABLE approval (version int);
             CREATE TEMP TABLE audit_entry (action text); CREATE TEMP TABLE pg_class (oid oid); CREATE TEMP TABLE pg_namespace (oid oid);
             CREATE TEMP TABLE pg_roles (rolname name, oid oid, rolsuper bool);
             INSERT INTO model SELECT 1, 'm', CURRENT_USER, 1",
        );
        session.run("SET search_path = pg_temp, evil, public, pg_catalog");
        let scores: Vec<f64> = session.values(ALL);
        assert_eq!(scores, kept);
        assert_eq!(evaluated(session, "loans"), 400.0);
        for view in [
            "models", "versions", "runs", "metrics", "gates", "costs", "phases", "aliases", "audit",
        ] {
            session.run(&format!("SELECT * FROM riskft.{view}"));
        }
    }
    analyst.run(&small_training("m", "loans", ""));
    analyst.run("SELECT riskft_deploy('m', 2); SELECT riskft_deploy('m', 1)");
    analyst.run("SELECT riskft_set_alias('m', 'a', 1); SELECT riskft_drop_alias('m', 'a')");
    analyst.run(&format!("SELECT riskft_revoke('m', '{role}', 'score')"));
    let queued = small_training("q", "loans", "").replace("method =>", "wait => false, method =>");
    let run: i64 = analyst.query_one(&queued, &[]).unwrap().get("run");
    analyst.run(&format!("SELECT riskft_wait({run})"));
    analyst.run("RESET search_path");
    let state = format!("SELECT state FROM riskft.runs WHERE run = {run}");
    assert_eq!(analyst.value::<String>(&state), "done");
    assert!(analyst.value::<i64>("SELECT count(*) FROM riskft.metrics") > owned);
    // A role's own temporary catalogue gives it no right.
    refuses(&mut low, ALL, "42501");
    low.run("RESET search_path");
    assert_eq!(low.value::<i64>("SELECT count(*) FROM riskft.models"), 0);
    analyst.run("SET search_path = pg_temp, evil, public, pg_catalog; SELECT riskft_drop('m')");
}

/// The catalogue's views and functions use the server's own functions and operators, even where
/// the extension's schema holds others that would fit better.
#[test]
fn an_extension_created_among_decoys_uses_none() {
    let database = Database::new();
    let mut superuser = database.superuser();
    superuser.run("DROP EXTENSION riskft; CREATE SCHEMA odd");
    superuser.run(&DECOYS.replace("evil", "odd").replace("CREATE SCHEMA odd;", ""));
    superuser.run(
        "CREATE FUNCTION odd.over(float8, integer) RETURNS float8 LANGUAGE sql AS 'SELECT 0.0::float8';
         CREATE OPERATOR odd./ (LEFTARG = float8, RIGHTARG = integer, FUNCTION = odd.over);
         CREATE FUNCTION odd.eq(float8, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR odd.= (LEFTARG = float8, RIGHTARG = integer, FUNCTION = odd.eq);
         CREATE FUNCTION odd.make_interval(secs float8) RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval'",
    );
    superuser.run("CREATE EXTENSION riskft SCHEMA odd");
    let foreign: Vec<String> = superuser.values(
        "SELECT pg_describe_object(d.classid, d.objid, d.objsubid) || ' uses '
                || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
         FROM pg_depend d
         WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
           AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_attrdef'::regclass,
                             'pg_constraint'::regclass, 'pg_class'::regclass)
           AND (d.classid, d.objid) IN (
               SELECT 'pg_rewrite'::regclass::oid, r.oid FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
               WHERE c.relnamespace = 'riskft'::regnamespace
               UNION ALL
               SELECT 'pg_class'::regclass::oid, oid FROM pg_class WHERE relnamespace = 'riskft'::regnamespace
               UNION ALL
               SELECT 'pg_proc'::regclass::oid, oid FROM pg_proc WHERE pronamespace = 'riskft'::regnamespace
               UNION ALL
               SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint
               WHERE connamespace = 'riskft'::regnamespace)
           AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.refclassid
               AND e.objid = d.refobjid AND e.deptype = 'e')",
    );
    assert_eq!(foreign, Vec::<String>::new());
}

/// Whoever reads a view runs its functions. What they try here, they may not do while riskft reads.
#[test]
fn a_malicious_view_gains_nothing() {
    let (database, mut analyst) = small_model();
    let thief = database.role("thief");
    let mut superuser = database.superuser();
    superuser.run(&format!("GRANT CREATE ON SCHEMA public TO {thief}; GRANT {thief} TO analyst"));
    let mut thief_session = database.user(&thief);
    thief_session.run("CREATE TABLE taken (amount float8); GRANT ALL ON taken TO PUBLIC");
    let attempts: &[(&str, &str)] = &[
        ("SET ROLE NONE", "42501"),
        ("RESET ROLE", "42501"),
        ("SET ROLE THIEF", "42501"),
        ("SET SESSION AUTHORIZATION THIEF", "42501"),
        ("RESET SESSION AUTHORIZATION", "42501"),
        ("PERFORM set_config('role', 'THIEF', true)", "42501"),
        ("INSERT INTO taken VALUES (1)", "25006"),
        ("DELETE FROM loans", "25006"),
        ("GRANT analyst TO THIEF", "25006"),
        ("CREATE TABLE mine AS SELECT * FROM loans", "25006"),
        ("SET transaction_read_only = off; INSERT INTO taken VALUES (1)", "25001"),
        ("PERFORM set_config('transaction_read_only', 'off', true)", "25001"),
        ("PERFORM riskft_grant('m', 'THIEF', 'score')", "25006"),
        ("PERFORM riskft_set_owner('m', 'THIEF')", "25006"),
        ("PERFORM riskft_drop('m')", "25006"),
        ("PERFORM riskft_deploy('m', 1)", "25006"),
        ("PERFORM riskft_approve('m', 1)", "25006"),
        ("PERFORM riskft_set_alias('m', 'a', 1)", "25006"),
        ("COMMIT", "2D000"),
        (
            "BEGIN INSERT INTO taken VALUES (1); EXCEPTION WHEN OTHERS THEN SET ROLE NONE; END",
            "42501",
        ),
    ];
    for (attempt, code) in attempts {
        let attempt = attempt.replace("THIEF", &thief);
        thief_session.run(&format!(
            "CREATE OR REPLACE FUNCTION peek() RETURNS float8 LANGUAGE plpgsql AS
                 $f$ BEGIN {attempt}; RETURN 1; END $f$;
             CREATE OR REPLACE VIEW bait AS SELECT *, peek() AS peeked FROM loans;
             GRANT SELECT ON bait TO PUBLIC"
        ));
        // Both where the role that logged in reads, and where it took on another one before.
        for before in ["RESET ROLE", "SET ROLE analyst"] {
            for sql in [small_training("n", "bait", ""), evaluation("bait")] {
                analyst.run(before);
                fails(&mut analyst, &sql, code);
                assert_eq!(analyst.value::<String>("SELECT CURRENT_USER::text"), "analyst");
            }
        }
    }
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM taken"), 0);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.privileges"), 0);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.models"), 1);
    // A function that scores or evaluates does no harm, and its settings end with the read.
    thief_session.run(
        "CREATE OR REPLACE FUNCTION peek() RETURNS float8 LANGUAGE plpgsql AS $f$ BEGIN
             PERFORM set_config('search_path', 'nowhere', false);
             RETURN public.risk_score_json('m', '{\"amount\": 5, \"grade\": \"a\"}'); END $f$",
    );
    assert_eq!(evaluated(&mut analyst, "bait"), 400.0);
    analyst.run(SCORE);
    // Writing is allowed again afterwards, in the same transaction.
    analyst.run(&format!("BEGIN; {}; INSERT INTO taken VALUES (2); COMMIT", evaluation("loans")));
    analyst.run(&format!(
        "BEGIN; SAVEPOINT s; {}; RELEASE s; INSERT INTO taken VALUES (2); COMMIT",
        evaluation("loans")
    ));
}
