//! A version as bytes: riskft_export_model in one database, riskft_import_model in another.

use postgres::error::DbError;
use riskft_tests::fixture::{self, small_loans, small_model, small_training};
use riskft_tests::{refuses, Cluster, Database, Session};

const EXPORT: &str = "SELECT riskft_export_model('m')";
const IMPORT: &str = "SELECT riskft_import_model('m', $1)";
const SCORES: &str = "SELECT risk_score('m', l) FROM loans l ORDER BY loan_id";

fn bits(session: &mut Session, query: &str) -> Vec<u64> {
    session.values::<f64>(query).into_iter().map(f64::to_bits).collect()
}

fn export(session: &mut Session, model: &str) -> Vec<u8> {
    session.value(&format!("SELECT riskft_export_model('{model}')"))
}

fn import(session: &mut Session, model: &str, bytes: &[u8]) -> i32 {
    session.value_of("SELECT riskft_import_model($1, $2)", &[&model, &bytes])
}

/// The refusal of an import, after which the session goes on.
fn refused(session: &mut Session, model: &str, bytes: &[u8]) -> DbError {
    let sql = "SELECT riskft_import_model($1, $2)";
    let error = session.query_one(sql, &[&model, &bytes]).expect_err("the import is refused");
    let error = error.as_db_error().expect("the connection is lost").clone();
    assert!(error.detail().is_some() && error.hint().is_some(), "{error:?}");
    assert_eq!(session.value::<i32>("SELECT 1"), 1);
    error
}

/// What the views tell of a version, but numbers, times and owners of this database.
fn described(session: &mut Session) -> Vec<String> {
    let mut all = Vec::new();
    for query in [
        "SELECT to_jsonb(v) - '{run,created_at}'::text[] FROM riskft.versions v WHERE version = 1",
        "SELECT to_jsonb(t) FROM riskft.metrics t WHERE version = 1",
        "SELECT to_jsonb(f) FROM riskft.features f WHERE version = 1",
        "SELECT to_jsonb(b) FROM riskft.branches b WHERE version = 1",
        "SELECT to_jsonb(p) FROM riskft.metrics_by_period p WHERE version = 1",
        "SELECT to_jsonb(t) FROM riskft.trials t WHERE version = 1",
        "SELECT to_jsonb(i) FROM riskft.importances i WHERE version = 1",
        "SELECT to_jsonb(e) FROM riskft.effects e WHERE version = 1",
        "SELECT to_jsonb(d) FROM riskft.drift_bins d WHERE version = 1",
        "SELECT to_jsonb(c) FROM riskft.curves c WHERE version = 1",
        "SELECT to_jsonb(g) FROM riskft.gates g WHERE version = 1",
        "SELECT jsonb_build_array(relation, target, method, base, options, state)
         FROM riskft.runs WHERE model = 'm'",
    ] {
        all.extend(
            session.values::<String>(&format!("SELECT x::text FROM ({query}) q(x) ORDER BY 1")),
        );
    }
    all
}

#[test]
fn a_version_moves_to_another_database_and_another_cluster() {
    let (database, mut analyst) = small_model();
    fixture::more_figures(&database);
    for view in [
        "branches",
        "metrics_by_period",
        "trials",
        "importances",
        "effects",
        "drift_bins",
        "curves",
    ] {
        let rows: i64 = analyst.value(&format!("SELECT count(*) FROM riskft.{view}"));
        assert!(rows > 0, "riskft.{view} is empty");
    }
    let (scores, told) = (bits(&mut analyst, SCORES), described(&mut analyst));
    let bytes = export(&mut analyst, "m");
    assert_eq!(export(&mut analyst, "m@1"), bytes, "the same version gives the same bytes");

    let elsewhere = Cluster::start();
    for database in [Database::new(), Database::within(&elsewhere)] {
        small_loans(&database, 400);
        let mut analyst = database.analyst();
        assert_eq!(import(&mut analyst, "m", &bytes), 1);
        let notices = analyst.notices();
        assert!(notices.iter().any(|n| n.message.contains("version 1 of model \"m\" is deployed")));
        assert_eq!(bits(&mut analyst, SCORES), scores);
        assert_eq!(bits(&mut database.analyst(), SCORES), scores, "in a new session");
        assert_eq!(described(&mut analyst), told);
        assert_eq!(export(&mut analyst, "m"), bytes, "nothing is lost on the way");
        let owner: String = analyst.value("SELECT owner::text FROM riskft.models");
        assert_eq!(owner, "analyst");

        // Nothing was read, computed and paid for here, and the run says where it comes from.
        let spent: i64 = analyst.value(
            "SELECT count(*) FROM riskft.costs
             WHERE coalesce(rows, tokens, parameters) IS NOT NULL OR wall_seconds IS NOT NULL",
        );
        assert_eq!(spent, 0);
        let notice: String = analyst.value("SELECT notices[1] FROM riskft.runs");
        assert_eq!(notice, "imported from version 1 of model \"m\"");

        // The next training compares itself with the imported version.
        analyst.run(&small_training("m", "loans", ""));
        let versions: Vec<i32> = analyst.values("SELECT version FROM riskft.versions ORDER BY 1");
        assert_eq!(versions, [1, 2]);
    }
}

#[test]
fn a_version_with_text_takes_its_encoder_along() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::small_text_model(&database);
    let query = "SELECT risk_score('t', n) FROM notes n ORDER BY note_id";
    let mut analyst = database.analyst();
    let (scores, bytes) = (bits(&mut analyst, query), export(&mut analyst, "t"));
    let kinds = |session: &mut Session| -> Vec<String> {
        session.values("SELECT kind FROM riskft.blob ORDER BY 1")
    };
    let stored = kinds(&mut database.superuser());
    assert_eq!(stored, ["encoder", "training", "version"]);

    let elsewhere = Database::new();
    let mut analyst = elsewhere.analyst();
    analyst.run(
        "CREATE TABLE notes AS SELECT i AS note_id, (i * 7919 % 1000)::float8 AS amount,
             (ARRAY['new york', 'a loan', 'of the bank', 'for a shop'])[1 + i % 4] || ' ' || i % 97 AS note
         FROM generate_series(1, 300) i",
    );
    import(&mut analyst, "t", &bytes);
    assert_eq!(bits(&mut analyst, query), scores);
    assert_eq!(kinds(&mut elsewhere.superuser()), stored);
}

#[test]
fn importing_twice_adds_versions_and_shares_files() {
    let (database, mut analyst) = small_model();
    let (bytes, scores) = (export(&mut analyst, "m"), bits(&mut analyst, SCORES));
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"always\", "));
    let deployed = bits(&mut analyst, SCORES);
    assert_ne!(deployed, scores);
    let files = |database: &Database| -> i64 {
        database.superuser().value("SELECT count(*) FROM riskft.blob")
    };
    let before = files(&database);
    analyst.notices();
    for version in [3, 4] {
        assert_eq!(import(&mut analyst, "m", &bytes), version);
        let notices = analyst.notices();
        let told = format!("version {version} of model \"m\" is stored but not deployed");
        assert!(notices.iter().any(|n| n.message.contains(&told)), "{notices:?}");
        let pinned = format!("SELECT risk_score('m@{version}', l) FROM loans l ORDER BY loan_id");
        assert_eq!(bits(&mut analyst, &pinned), scores);
    }
    assert_eq!(files(&database), before);
    assert_eq!(bits(&mut analyst, SCORES), deployed);
    analyst.run("SELECT riskft_deploy('m', 4)");
    assert_eq!(bits(&mut analyst, SCORES), scores);

    // A dropped model takes no file away that another one uses.
    assert_eq!(import(&mut analyst, "another name", &bytes), 1);
    analyst.run("SELECT riskft_drop('m')");
    let other = "SELECT risk_score('another name', l) FROM loans l ORDER BY loan_id";
    assert_eq!(bits(&mut database.analyst(), other), scores);
    analyst.run("SELECT riskft_drop('another name')");
    assert_eq!(files(&database), 0);
}

/// A drop in a transaction whose snapshot is older than another model that shares the files.
#[test]
fn a_drop_leaves_files_that_another_model_came_to_share() {
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let (database, mut analyst) = small_model();
        let (bytes, scores) = (export(&mut analyst, "m"), bits(&mut analyst, SCORES));
        analyst
            .run(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM riskft.models"));
        assert_eq!(import(&mut database.analyst(), "other", &bytes), 1);
        analyst.run("SELECT riskft_drop('m'); COMMIT");
        let mut superuser = database.superuser();
        let files: i64 = superuser.value(
            "SELECT count(DISTINCT digest) FROM riskft.blob JOIN riskft.blob_chunk USING (digest)",
        );
        assert_eq!(files, 2, "{isolation}: a version file and a training file");
        let other = "SELECT risk_score('other', l) FROM loans l ORDER BY loan_id";
        assert_eq!(bits(&mut superuser, other), scores, "{isolation}");
        let exported = export(&mut superuser, "other");
        assert_eq!(import(&mut superuser, "again", &exported), 1, "{isolation}");
        superuser.run("SELECT riskft_drop('other'), riskft_drop('again')");
        let rows: i64 = superuser.value(
            "SELECT (SELECT count(*) FROM riskft.blob) + (SELECT count(*) FROM riskft.blob_chunk)",
        );
        assert_eq!(rows, 0, "{isolation}");
    }
}

#[test]
fn only_owners_export_and_import() {
    let (database, mut analyst) = small_model();
    let bytes = export(&mut analyst, "m");
    let role = database.role("low");
    let mut low = database.user(&role);
    for privilege in ["score", "train", "deploy"] {
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{privilege}')"));
    }
    refuses(&mut low, EXPORT, "42501");
    let error = refused(&mut low, "m", &bytes);
    assert_eq!(error.code().code(), "42501");
    // A rolled-back import leaves nothing.
    low.run("BEGIN");
    assert_eq!(import(&mut low, "mine", &bytes), 1);
    low.run("ROLLBACK");
    refuses(&mut low, "SELECT riskft_export_model('mine')", "42704");
    assert_eq!(import(&mut low, "mine", &bytes), 1);
    let owner: String = low.value("SELECT owner::text FROM riskft.models WHERE model = 'mine'");
    assert_eq!(owner, role);
    refuses(&mut analyst, "SELECT riskft_export_model('mine')", "42501");
    database.superuser().run(&format!("GRANT {role} TO analyst"));
    let again = export(&mut analyst, "mine");
    assert_eq!(import(&mut analyst, "mine", &again), 2);
    let owner: String = low.value("SELECT owner::text FROM riskft.models WHERE model = 'mine'");
    assert_eq!(owner, role, "a member adds to the owner's model");
}

#[test]
fn bad_arguments_are_refused() {
    let (_database, mut analyst) = small_model();
    let bytes = export(&mut analyst, "m");
    for (sql, code) in [
        ("SELECT riskft_export_model(NULL)", "22004"),
        ("SELECT riskft_export_model('none')", "42704"),
        ("SELECT riskft_export_model('m@2')", "42704"),
        ("SELECT riskft_export_model('m@latest')", "42704"),
        ("SELECT riskft_import_model(NULL, '')", "22004"),
        ("SELECT riskft_import_model('x', NULL)", "22004"),
        ("SELECT riskft_import_model('x', '')", "22023"),
        ("SELECT riskft_import_model('x', 'riskft-model')", "22023"),
        ("SELECT riskft_import_model('m@2', riskft_export_model('m'))", "22023"),
        ("SELECT riskft_import_model(' ', riskft_export_model('m'))", "22023"),
    ] {
        refuses(&mut analyst, sql, code);
    }
    analyst.run("BEGIN READ ONLY");
    assert_eq!(export(&mut analyst, "m"), bytes);
    let assigned: Option<String> = analyst.value("SELECT pg_current_xact_id_if_assigned()::text");
    assert_eq!(assigned, None);
    let error = analyst.query_one(IMPORT, &[&bytes]).expect_err("read-only");
    assert_eq!(error.code().map(|code| code.code()), Some("25006"));
    analyst.run("ROLLBACK");
}

#[test]
fn a_large_file_is_refused_where_the_setting_forbids_it() {
    let (database, mut analyst) = small_model();
    analyst.run(
        "CALL riskft_train('large', 'loans', 'defaulted', method => 'none', exclude => '{loan_id}',
             options => '{\"head_epochs\": 1, \"members\": 1, \"hidden\": 512,
                 \"gate\": {\"auc_loss\": 1, \"flips\": 1}}')",
    );
    let bytes = export(&mut analyst, "large");
    let mut superuser = database.superuser();
    superuser.run("SET riskft.max_model_size = '64kB'");
    let error = refused(&mut superuser, "x", &bytes);
    assert_eq!(error.code().code(), "54000");
    assert!(error.hint().is_some_and(|hint| hint.contains("riskft.max_model_size")), "{error:?}");
    superuser.run("RESET riskft.max_model_size");
    assert_eq!(import(&mut superuser, "x", &bytes), 1);
}

#[test]
fn damaged_bytes_are_refused_and_nothing_is_stored() {
    let (database, mut analyst) = small_model();
    let bytes = export(&mut analyst, "m");
    let rows = "SELECT (SELECT count(*) FROM riskft.model) + (SELECT count(*) FROM riskft.run)
                     + (SELECT count(*) FROM riskft.version) + (SELECT count(*) FROM riskft.blob)
                     + (SELECT count(*) FROM riskft.blob_chunk)";
    let mut superuser = database.superuser();
    let before: i64 = superuser.value(rows);
    for cut in 0..100 {
        let length = bytes.len() * cut / 100;
        let code = refused(&mut analyst, "x", &bytes[..length]).code().code().to_owned();
        assert_eq!(code, if length < 16 { "22023" } else { "XX001" }, "cut to {length}");
    }
    let mut damaged = bytes.clone();
    for number in 0..200 {
        // Spread over the whole, the header's 56 bytes more densely.
        let place = if number < 56 { number } else { number * 7_919_777 % bytes.len() };
        let bit = 1 << (number % 8);
        damaged[place] ^= bit;
        let code = refused(&mut analyst, "x", &damaged).code().code().to_owned();
        let wanted: &[&str] = match place {
            0..16 => &["22023"],
            16..20 => &["XX001", "0A000"],
            _ => &["XX001"],
        };
        assert!(wanted.contains(&code.as_str()), "bit of byte {place}: {code}");
        damaged[place] ^= bit;
    }
    damaged.push(0);
    assert_eq!(refused(&mut analyst, "x", &damaged).code().code(), "XX001");
    assert_eq!(superuser.value::<i64>(rows), before);
    assert_eq!(import(&mut analyst, "x", &bytes), 1);
}

/// A version that no bytea can hold, by what the catalogue says; and a damaged file.
#[test]
fn a_huge_or_damaged_version_is_not_exported() {
    let (database, mut analyst) = small_model();
    let mut superuser = database.superuser();
    superuser.run("BEGIN; UPDATE riskft.blob SET length = 1 << 30 WHERE kind = 'training'");
    let error = refuses(&mut superuser, EXPORT, "54000");
    assert!(error.hint().is_some_and(|hint| hint.contains("pg_dump")), "{error:?}");
    database.superuser().run(
        "UPDATE riskft.blob_chunk SET bytes = set_byte(bytes, 2000, 255 - get_byte(bytes, 2000))
         WHERE digest = (SELECT training_digest FROM riskft.version)",
    );
    refuses(&mut analyst, EXPORT, "XX001");
    assert_eq!(bits(&mut analyst, SCORES).len(), 400, "scoring does not read that file");
}
