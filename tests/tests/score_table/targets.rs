//! Relations and tables of all kinds: what is kept as it is named, and what is refused.

use super::*;

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
