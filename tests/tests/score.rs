//! Scoring: the same row and version give the same bits, however the row arrives.

use std::sync::OnceLock;

use riskft_tests::{fails, fixture, refuses, Database, Session};

/// One model on 2,000 loans, and a text-free model beside it on few columns; read by all tests.
fn scored() -> &'static Database<'static> {
    static SCORED: OnceLock<Database<'static>> = OnceLock::new();
    SCORED.get_or_init(|| {
        let database = Database::new();
        fixture::loans(&database, 2_000);
        let mut analyst = database.analyst();
        analyst.run(
            "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{loan_id,disbursed}',
                 method => 'none', options => '{\"head_epochs\": 5, \"hidden\": 32, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}');
             CREATE TABLE kept AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l",
        );
        database
    })
}

/// Rows of `query` (loan_id, risk) whose score is not the kept one to the bit; -1 when some loan
/// is missing.
fn differing(session: &mut Session, query: &str) -> i64 {
    session.value(&format!(
        "WITH again AS MATERIALIZED ({query})
         SELECT CASE WHEN count(*) = (SELECT count(*) FROM kept)
                THEN count(*) FILTER (WHERE float8send(again.risk) <> float8send(kept.risk))
                ELSE -1 END
         FROM again JOIN kept USING (loan_id)"
    ))
}

const PLAIN: &str = "SELECT loan_id, risk_score('m', l) AS risk FROM loans l";

/// F12: alone, in a scan, in random order, through an index, beside others.
#[test]
fn the_bits_do_not_depend_on_batch_mates() {
    let mut analyst = scored().analyst();
    for query in [
        PLAIN,
        "SELECT loan_id, risk_score('m', l) AS risk FROM loans l ORDER BY random()",
        "SELECT k.loan_id, (SELECT risk_score('m', l) FROM loans l WHERE l.loan_id = k.loan_id) AS risk
         FROM kept k",
        "SELECT l.loan_id, risk_score('m', l) AS risk FROM loans l JOIN kept USING (loan_id)",
        "SELECT loan_id, risk_score('m@1', l) AS risk FROM loans l",
        "SELECT loan_id, risk_score_json('m', to_jsonb(l)) AS risk FROM loans l",
    ] {
        assert_eq!(differing(&mut analyst, query), 0, "{query}");
    }
    let mut alone = scored().analyst();
    let one: f64 = alone.value("SELECT risk_score('m', l) FROM loans l ORDER BY loan_id LIMIT 1");
    let kept: f64 = alone.value("SELECT risk FROM kept ORDER BY loan_id LIMIT 1");
    assert_eq!(one.to_bits(), kept.to_bits());
}

#[test]
fn parallel_workers_give_the_same_bits() {
    let mut analyst = scored().analyst();
    analyst.run(
        "SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    );
    let plan: Vec<String> = analyst.values(&format!("EXPLAIN {PLAIN}"));
    assert!(plan.join("\n").contains("Gather"), "no parallel plan: {plan:?}");
    assert_eq!(differing(&mut analyst, PLAIN), 0);
    // A worker's refusal is an ordinary error.
    refuses(&mut analyst, "SELECT sum(risk_score('none', l)) FROM loans l", "42704");
}

/// F32: rows far outside the training data, on each kernel that this processor has.
#[test]
fn kernels_give_the_same_bits() {
    let database = scored();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TEMP TABLE extreme AS
         SELECT l.*, loan_id AS id, row_number() OVER (ORDER BY loan_id) AS n FROM loans l;
         UPDATE extreme SET
             approved_gross = (CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END) * 20 * 1e7 * (n % 7 + 1),
             sba_guaranteed = (CASE WHEN n % 3 = 0 THEN 1 ELSE -1 END) * 20 * 1e7,
             employees = (CASE WHEN n % 5 = 0 THEN 1 ELSE -1 END) * 2000000,
             jobs_created = (CASE WHEN n % 7 = 0 THEN -1 ELSE 1 END) * 2000000,
             approved_on = CASE WHEN n % 2 = 0 THEN date '2999-01-01' ELSE date '0001-01-01' END",
    );
    let all = "SELECT risk_score('m', e) FROM extreme e ORDER BY id";
    let mut reference: Option<Vec<u64>> = None;
    let mut tried = Vec::new();
    for kernel in ["portable", "avx2", "avx512vnni", "auto"] {
        analyst.run(&format!("SET riskft.kernel = '{kernel}'"));
        let rows = match analyst.query(all, &[]) {
            Ok(rows) => rows,
            Err(error) => {
                let code = error.as_db_error().map(|e| e.code().code().to_owned());
                assert_eq!(code.as_deref(), Some("0A000"), "{kernel}: {error:?}");
                println!("skipped: this processor has no {kernel}");
                continue;
            }
        };
        let bits: Vec<u64> = rows.iter().map(|row| row.get::<_, f64>(0).to_bits()).collect();
        assert!(bits.iter().all(|b| (0.0..=1.0).contains(&f64::from_bits(*b))), "{kernel}");
        assert_eq!(differing(&mut analyst, PLAIN), 0, "{kernel}");
        let first = reference.get_or_insert_with(|| bits.clone());
        assert!(*first == bits, "{kernel} differs from portable on extreme rows");
        tried.push(kernel);
    }
    assert!(tried.contains(&"portable") && tried.contains(&"auto"), "{tried:?}");
    // The gate of the publication, on which the figures are stored.
    let loss: Option<f64> = analyst.value("SELECT auc_loss FROM riskft.gates WHERE model = 'm'");
    assert!(loss.is_some_and(|l| l <= 0.005), "{loss:?}");
}

/// F20, the part that needs no text: nothing follows the session's settings.
#[test]
fn session_settings_do_not_matter() {
    let mut analyst = scored().analyst();
    for settings in [
        "SET timezone = 'Pacific/Auckland'; SET datestyle = 'SQL, DMY'",
        "SET extra_float_digits = -3; SET datestyle = 'German'",
        "SET extra_float_digits = 3; SET timezone = 'UTC'; SET lc_monetary = 'C'",
    ] {
        analyst.run(settings);
        assert_eq!(differing(&mut analyst, PLAIN), 0, "{settings}");
    }
}

/// F24: columns are found by name.
#[test]
fn rows_are_matched_by_name() {
    let mut analyst = scored().analyst();
    let columns: String = analyst.value(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum DESC)
         FROM pg_attribute WHERE attrelid = 'loans'::regclass AND attnum > 0",
    );
    let reordered = format!(
        "SELECT loan_id, risk_score('m', s) AS risk FROM (SELECT {columns}, 1 AS extra FROM loans) s"
    );
    assert_eq!(differing(&mut analyst, &reordered), 0);
    let fewer = columns.replace("employees, ", "");
    let error = refuses(
        &mut analyst,
        &format!("SELECT risk_score('m', s) FROM (SELECT {fewer} FROM loans) s"),
        "42703",
    );
    assert!(error.message().contains("employees"), "{}", error.message());
    refuses(&mut analyst, "SELECT risk_score('m', ROW(1, 'q'))", "42703");
    // Which of two columns of one name is meant cannot be told; two of another name do not matter.
    let twice = "SELECT risk_score('m', s) FROM (SELECT l.*, 1 AS employees FROM loans l) s";
    assert!(refuses(&mut analyst, twice, "42702").message().contains("employees"));
    let unused = "SELECT loan_id, risk_score('m', s) AS risk FROM (SELECT l.*, 1 AS x, 2 AS x FROM loans l) s";
    assert_eq!(differing(&mut analyst, unused), 0);
    let nothing: Option<f64> = analyst.value("SELECT risk_score('m', NULL::loans)");
    assert_eq!(nothing, None);
    let all_null: f64 = analyst.value(
        "SELECT risk_score('m', l) FROM (SELECT) one LEFT JOIN loans l ON false
         UNION ALL SELECT risk_score('m', jsonb_populate_record(NULL::loans, '{\"loan_id\": 1}'))
         OFFSET 1",
    );
    assert!((0.0..=1.0).contains(&all_null), "a row of NULLs has a score: {all_null}");
}

/// F23: partitions of other layouts, dropped and later columns.
#[test]
fn layouts_do_not_matter() {
    let database = Database::new();
    fixture::loans(&database, 500);
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE TABLE p (a integer, b numeric, c text, y boolean, id bigint) PARTITION BY LIST (y);
         CREATE TABLE p1 (id bigint, y boolean, junk text, c text, b numeric, a integer);
         ALTER TABLE p1 DROP COLUMN junk;
         ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (true);
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (false);
         INSERT INTO p SELECT employees, approved_gross, state, defaulted, loan_id FROM loans;
         CALL riskft_train('p', 'p', 'y', exclude => '{id}', method => 'none',
             options => '{\"head_epochs\": 3, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}');
         CREATE TABLE twin AS SELECT * FROM p;
         CREATE TABLE kept AS SELECT id AS loan_id, risk_score('p', t) AS risk FROM twin t",
    );
    let through = "SELECT id AS loan_id, risk_score('p', p) AS risk FROM p";
    let each = "SELECT id AS loan_id, risk_score('p', p1) AS risk FROM p1
                UNION ALL SELECT id, risk_score('p', p2) FROM p2";
    assert_eq!(differing(&mut analyst, through), 0);
    assert_eq!(differing(&mut analyst, each), 0);
    analyst.run("ALTER TABLE p ADD COLUMN later integer DEFAULT 3");
    assert_eq!(differing(&mut analyst, through), 0);
    analyst.run("ALTER TABLE p DROP COLUMN b");
    let error = refuses(&mut analyst, through, "42703");
    assert!(error.message().contains("\"b\""), "{}", error.message());
}

/// F26, on the primary: scoring needs no transaction id and writes nothing.
#[test]
fn read_only_transactions_score() {
    let mut analyst = scored().analyst();
    analyst.run("BEGIN READ ONLY");
    assert_eq!(differing(&mut analyst, PLAIN), 0);
    let id: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(id, None);
    analyst.run("COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE");
    assert_eq!(differing(&mut analyst, PLAIN), 0);
    analyst.run("COMMIT");
    let id: Option<String> = analyst.value(
        "SELECT pg_current_xact_id_if_assigned()::text FROM (SELECT sum(risk_score('m', l)) FROM loans l) s",
    );
    assert_eq!(id, None);
}

/// F27 and F28: probes, cursors, prepared statements.
#[test]
fn every_way_to_run_a_query_scores() {
    let mut analyst = scored().analyst();
    let statement =
        analyst.prepare("SELECT risk_score($1, l) FROM loans l WHERE loan_id = $2").unwrap();
    assert_eq!(statement.columns()[0].type_().name(), "float8");
    let id: i64 = analyst.value("SELECT min(loan_id) FROM loans");
    let kept: f64 = analyst.value_of("SELECT risk FROM kept WHERE loan_id = $1", &[&id]);
    for _ in 0..7 {
        let risk: f64 = analyst.query_one(&statement, &[&"m", &id]).unwrap().get(0);
        assert_eq!(risk.to_bits(), kept.to_bits());
    }
    assert!(analyst.values::<f64>(&format!("SELECT risk FROM ({PLAIN}) s LIMIT 0")).is_empty());
    assert!(analyst.values::<f64>(&format!("SELECT risk FROM ({PLAIN}) s WHERE 1 = 0")).is_empty());
    analyst.run(&format!("BEGIN; DECLARE c CURSOR FOR SELECT risk FROM ({PLAIN}) s"));
    for _ in 0..3 {
        let one: f64 = analyst.value("FETCH 1 FROM c");
        assert!((0.0..=1.0).contains(&one));
    }
    analyst.run("COMMIT");
    let volatility: i8 =
        analyst.value("SELECT provolatile FROM pg_proc WHERE proname = 'risk_score'");
    assert_eq!(volatility as u8, b's');
    analyst.run(
        "CREATE TEMP TABLE picked AS SELECT loan_id FROM loans ORDER BY loan_id LIMIT 5;
         DO $$ DECLARE r record; p float8; BEGIN
             FOR r IN SELECT l FROM loans l JOIN picked USING (loan_id) LOOP
                 p := risk_score('m', r.l);
                 ASSERT p BETWEEN 0 AND 1;
             END LOOP;
         END $$",
    );
}

/// A prepared statement meets a new version and a new column.
#[test]
fn a_prepared_statement_follows_the_deployed_version() {
    let database = Database::new();
    fixture::loans(&database, 500);
    let (mut a, mut b) = (database.analyst(), database.analyst());
    let train = |session: &mut Session, seed: i32| {
        session.run(&format!(
            "CALL riskft_train('m', 'SELECT employees, state, approved_gross, defaulted FROM loans',
                 'defaulted', method => 'none', options =>
                 '{{\"head_epochs\": 3, \"hidden\": 16, \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}, \"seed\": {seed}, \"deploy\": \"always\"}}')"
        ));
    };
    train(&mut b, 1);
    a.run("PREPARE s AS SELECT risk_score($1, t) FROM loans t ORDER BY loan_id LIMIT 1");
    let first: Vec<f64> = (0..6).map(|_| a.value("EXECUTE s('m')")).collect();
    assert!(first.iter().all(|p| p.to_bits() == first[0].to_bits()));
    train(&mut b, 2);
    let fresh = "SELECT risk_score('m', t) FROM loans t ORDER BY loan_id LIMIT 1";
    let second: f64 = a.value("EXECUTE s('m')");
    assert_eq!(second.to_bits(), database.analyst().value::<f64>(fresh).to_bits());
    assert_ne!(second.to_bits(), first[0].to_bits());
    b.run("ALTER TABLE loans ADD COLUMN x text");
    assert_eq!(a.value::<f64>("EXECUTE s('m')").to_bits(), second.to_bits());
    // A snapshot keeps the version that it saw first.
    a.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let before: f64 = a.value(fresh);
    train(&mut b, 3);
    assert_eq!(a.value::<f64>(fresh).to_bits(), before.to_bits());
    a.run("COMMIT");
    assert_ne!(a.value::<f64>(fresh).to_bits(), before.to_bits());
}

/// F34: the scores outlive the session, the server, and a further version with a way back.
#[test]
fn scores_survive_restart_and_return() {
    let cluster = riskft_tests::Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 500);
    let options = "method => 'none', options => '{\"head_epochs\": 3, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}, \"deploy\": \"always\"}'";
    let call = format!(
        "CALL riskft_train('m', 'loans', 'defaulted', exclude => '{{loan_id}}', {options})"
    );
    database.analyst().run(&call);
    database
        .analyst()
        .run("CREATE TABLE kept AS SELECT loan_id, risk_score('m', l) AS risk FROM loans l");
    assert_eq!(differing(&mut database.analyst(), PLAIN), 0);
    cluster.restart();
    assert_eq!(differing(&mut database.analyst(), PLAIN), 0);
    database.analyst().run(&call.replace("exclude => '{loan_id}'", "exclude => '{loan_id,state}'"));
    assert_ne!(differing(&mut database.analyst(), PLAIN), 0);
    database.analyst().run("SELECT riskft_deploy('m', 1)");
    assert_eq!(differing(&mut database.analyst(), PLAIN), 0);
}

/// Model files are data, not code: what does not match its digest is refused, not run.
#[test]
fn a_damaged_model_is_refused() {
    let cluster = riskft_tests::Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run(
        "CALL riskft_train('m', 'SELECT employees, state, defaulted FROM loans', 'defaulted',
             method => 'none', options => '{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16, \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
    let score = "SELECT risk_score('m', l) FROM loans l LIMIT 1";
    let mut superuser = database.superuser();
    superuser.run(
        "UPDATE riskft.blob_chunk SET bytes = set_byte(bytes, length(bytes) / 2, 255 - get_byte(bytes, length(bytes) / 2))
         WHERE number = 0 OR number = 1",
    );
    // The cache file of an earlier score may serve; a server without one must notice.
    let folder: String = superuser.value("SHOW data_directory");
    let cache = format!("{folder}/base/pgsql_tmp/pgsql_tmp_riskft");
    let _ = std::fs::remove_dir_all(cache);
    refuses(&mut database.analyst(), score, "XX001");
    superuser.run("DELETE FROM riskft.blob_chunk");
    refuses(&mut database.analyst(), score, "XX001");
    fails(&mut analyst, "SELECT 1 / 0", "22012");
}
