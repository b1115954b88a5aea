//! riskft_update. F48: few rows, a new label, a key that comes five times.

use std::thread;
use std::time::Duration;

use postgres::NoTls;
use riskft_tests::fixture::{
    small_loans, small_model, small_text_model, small_text_training, small_training,
};
use riskft_tests::{fails, leftovers, process, refuses, Cluster, Database, Session};

/// 600 rows of another level: four of five default, not half.
const NEW: &str = "SELECT i AS loan_id, (i * 7919 % 1000)::float8 AS amount,
    (ARRAY['a', 'b', 'c'])[1 + i % 3] AS grade, i * 7919 % 1000 + i * 10473 % 700 > 550 AS defaulted
    FROM generate_series(1001, 1600) i";
/// The tiny networks of tests are rough in int8.
const GATE: &str = r#""gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}"#;

fn new_loans(session: &mut Session) {
    session.run(&format!("CREATE TABLE new_loans AS {NEW}; GRANT SELECT ON new_loans TO PUBLIC"));
}

/// The call of an update; `options` go before the gate, each with its comma.
fn update(relation: &str, more: &str, options: &str) -> String {
    let relation = relation.replace('\'', "''");
    format!("CALL riskft_update('m', '{relation}', {more}options => '{{{options}{GATE}}}')")
}

struct Updated {
    version: i32,
    deployed: bool,
    old: (Option<f64>, Option<f64>),
    new: (Option<f64>, Option<f64>),
}

fn call(session: &mut Session, sql: &str) -> Updated {
    let row = session.query_one(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    Updated {
        version: row.get("version"),
        deployed: row.get("deployed"),
        old: (row.get("old_auc_before"), row.get("old_auc_after")),
        new: (row.get("new_auc_before"), row.get("new_auc_after")),
    }
}

fn bits(session: &mut Session, model: &str, relation: &str) -> Vec<u64> {
    let sql = format!("SELECT risk_score('{model}', t) FROM {relation} t ORDER BY loan_id");
    session.values::<f64>(&sql).into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_version_goes_on_from_new_rows() {
    let (database, mut analyst) = small_model();
    new_loans(&mut analyst);
    let before = bits(&mut analyst, "m", "new_loans");
    let done = call(&mut analyst, &update("new_loans", "", ""));
    assert_eq!((done.version, done.deployed), (2, true));
    let aucs = [done.old.0, done.old.1, done.new.0, done.new.1];
    assert!(aucs.iter().all(|auc| auc.is_some_and(|auc| auc > 0.7)), "{aucs:?}");
    assert_eq!(bits(&mut analyst, "m@1", "new_loans"), before, "the old version stays");
    assert_ne!(bits(&mut analyst, "m", "new_loans"), before);
    // The level follows: an update that did not calibrate would predict too little.
    let level =
        "SELECT avg(risk_score('MODEL', t)) / avg(defaulted::integer)::float8 FROM new_loans t";
    let stale: f64 = analyst.value(&level.replace("MODEL", "m@1"));
    let fresh: f64 = analyst.value(&level.replace("MODEL", "m"));
    assert!(stale < 0.8 && (fresh - 1.0).abs() < 0.1, "{stale} {fresh}");
    // A version as any other.
    let told: String = analyst.value(
        "SELECT concat_ws(' ', r.kind, r.state, r.target, r.method, r.rows_test > 0, v.method, v.deployed)
         FROM riskft.runs r JOIN riskft.versions v USING (run) WHERE v.version = 2",
    );
    assert_eq!(told, "update done defaulted none t none t");
    let parts: Vec<String> =
        analyst.values("SELECT DISTINCT part FROM riskft.metrics WHERE version = 2 ORDER BY 1");
    assert_eq!(parts, ["replay", "test", "validation"]);
    for view in
        ["features", "branches", "drift_bins", "curves", "gates", "costs", "importances", "effects"]
    {
        let count = format!("SELECT count(*) FROM riskft.{view} WHERE model = 'm' AND version = 2");
        assert!(analyst.value::<i64>(&count) > 0, "{view} is empty");
    }
    let audit: Vec<String> = analyst.values(
        "SELECT concat_ws(' ', action, version, detail ->> 'base') FROM riskft.audit
         WHERE version = 2 ORDER BY entry",
    );
    assert_eq!(audit, ["update 2 1", "deploy 2"]);
    for function in ["riskft_drift('m', 'new_loans')", "risk_explain('m', t)"] {
        analyst.run(&format!("SELECT count(*) FROM new_loans t, LATERAL {function} LIMIT 1"));
    }
    // It goes on from there, and may be exported as any other.
    let next = call(&mut analyst, &update("new_loans", "", "\"seed\": 4, "));
    assert_eq!(next.version, 3);
    analyst.run("SELECT riskft_import_model('copy', riskft_export_model('m@3'))");
    let copied: Vec<u64> = bits(&mut analyst, "copy", "new_loans");
    assert_eq!(copied, bits(&mut analyst, "m@3", "new_loans"));
    analyst.run("SELECT riskft_drop('m'); SELECT riskft_drop('copy')");
    assert_eq!(leftovers(&database), [""; 0]);
}

/// F48: outcomes come by key; a key that comes five times is one row.
#[test]
fn outcomes_are_found_by_their_key() {
    let (_database, mut analyst) = small_model();
    new_loans(&mut analyst);
    analyst.run(
        "CREATE VIEW unlabelled AS SELECT loan_id, amount, grade FROM new_loans;
         SELECT riskft_feedback('m', 'SELECT loan_id, false AS y FROM new_loans LIMIT 20', 'loan_id', 'y')",
    );
    let by_key = |options: &str| update("unlabelled", "key => 'loan_id', ", options);
    let few = refuses(&mut analyst, &by_key(""), "22023");
    assert_eq!(few.message(), "too few rows to update with");
    assert_eq!(few.detail(), Some("0 rows are positive and 20 are negative."));
    refuses(&mut analyst, &update("unlabelled", "", ""), "42703");
    refuses(&mut analyst, &update("unlabelled", "key => 'nr', ", ""), "42703");
    analyst.run(
        "SELECT riskft_feedback('m', 'SELECT l.* FROM new_loans l, generate_series(1, 5) ORDER BY loan_id',
             'loan_id', 'defaulted')",
    );
    analyst.notices();
    let done = call(&mut analyst, &by_key(""));
    assert_eq!((done.version, done.deployed), (2, true));
    let rows: String = analyst.value(
        "SELECT concat_ws(' ', rows, rows_unlabelled) FROM riskft.runs WHERE kind = 'update'",
    );
    assert_eq!(rows, "600 0");
    // By the target's own column it is the same version.
    analyst.run("SELECT riskft_deploy('m', 1)");
    call(&mut analyst, &update("new_loans", "", ""));
    assert_eq!(bits(&mut analyst, "m@2", "new_loans"), bits(&mut analyst, "m@3", "new_loans"));
}

/// F48: a new label, and not one step.
#[test]
fn without_steps_nothing_changes() {
    let (_database, mut analyst) = small_model();
    analyst.run(&format!(
        "CREATE TABLE with_f AS SELECT loan_id, amount, defaulted,
             CASE WHEN loan_id % 4 = 0 THEN 'F' ELSE grade END AS grade FROM ({NEW}) n"
    ));
    let frozen = "\"epochs\": 0, \"recalibrate\": false, ";
    let done = call(&mut analyst, &update("with_f", "", frozen));
    assert!(!done.deployed, "it is not better");
    assert_eq!((done.old.0, done.new.0), (done.old.1, done.new.1));
    let notices: Vec<String> = analyst.notices().into_iter().map(|n| n.message).collect();
    let named = |n: &String| n == "1 new labels of \"grade\" have a code of their own: \"F\"";
    assert!(notices.iter().any(named), "{notices:?}");
    for relation in ["with_f", "loans"] {
        let (old, new) = (bits(&mut analyst, "m", relation), bits(&mut analyst, "m@2", relation));
        assert_eq!(old, new, "{relation}");
    }
    // With steps the label has a say of its own: here its rows always default.
    analyst.run("UPDATE with_f SET defaulted = true WHERE grade = 'F'");
    let taught = "\"epochs\": 20, \"learning_rate\": 0.01, ";
    assert_eq!(call(&mut analyst, &update("with_f", "", taught)).version, 3);
    let apart = "SELECT avg(risk_score('m@VERSION', jsonb_populate_record(t, '{\"grade\": \"F\"}'))
                     - risk_score('m@VERSION', jsonb_populate_record(t, '{\"grade\": \"Z\"}'))) FROM with_f t";
    assert_eq!(analyst.value::<f64>(&apart.replace("VERSION", "2")), 0.0);
    assert!(analyst.value::<f64>(&apart.replace("VERSION", "3")) > 0.02);
}

#[test]
fn a_worse_one_is_kept_as_challenger() {
    let (database, mut analyst) = small_model();
    new_loans(&mut analyst);
    // Labels that contradict what the model knows: better on new rows, worse on old ones.
    let flipped = "SELECT loan_id, amount, grade, NOT defaulted AS defaulted FROM new_loans";
    let wild = "\"epochs\": 30, \"learning_rate\": 0.01, ";
    let done = call(&mut analyst, &update(flipped, "", wild));
    assert!(!done.deployed);
    let alias: String = analyst.value(
        "SELECT concat_ws(' ', alias, version, reason LIKE '%old rows%') FROM riskft.aliases
         WHERE alias = 'challenger'",
    );
    assert_eq!(alias, format!("challenger {} t", done.version));
    let told =
        analyst.notices().into_iter().map(|n| n.message).find(|m| m.contains("not deployed"));
    assert!(told.is_some_and(|told| told.contains("m@challenger means it now")));
    // As asked for, and under four eyes.
    for (setting, options) in [("off", "\"deploy\": \"never\", "), ("on", "")] {
        database.superuser().run(&format!(
            "ALTER DATABASE {} SET riskft.require_approval = {setting}",
            database.name()
        ));
        let mut analyst = database.analyst();
        let done = call(&mut analyst, &update("new_loans", "", options));
        assert!(!done.deployed, "{setting}");
        let meant: i32 =
            analyst.value("SELECT version FROM riskft.aliases WHERE alias = 'challenger'");
        assert_eq!(meant, done.version);
    }
    assert_eq!(analyst.value::<i32>("SELECT deployed_version FROM riskft.models"), 1);
}

#[test]
fn who_may_train_updates() {
    let (database, mut analyst) = small_model();
    new_loans(&mut analyst);
    let role = database.role("trainer");
    let mut trainer = database.user(&role);
    refuses(&mut trainer, &update("new_loans", "", ""), "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    refuses(&mut trainer, &update("new_loans", "", ""), "42501");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'train')"));
    refuses(&mut trainer, &update("new_loans", "", "\"deploy\": \"always\", "), "42501");
    let done = call(&mut trainer, &update("new_loans", "", ""));
    assert!(!done.deployed);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.aliases"), 1, "champion alone");
    analyst.run("CREATE TABLE closed AS SELECT * FROM new_loans");
    fails(&mut trainer, &update("closed", "", ""), "42501");
}

#[test]
fn what_cannot_be_updated_is_refused() {
    let (database, mut analyst) = small_model();
    new_loans(&mut analyst);
    for (call, code) in [
        (update("new_loans", "", "\"epoch\": 1, "), "22023"),
        (update("new_loans", "", "\"old_loss\": -1, "), "22023"),
        (update("nowhere", "", ""), "42P01"),
        (update("SELECT loan_id, grade, defaulted FROM new_loans", "", ""), "42703"),
        (update("SELECT *, 'x' AS more FROM new_loans LIMIT 49", "", ""), "22023"),
        (update("SELECT amount, grade, 'late' AS defaulted FROM new_loans", "", ""), "22023"),
        (update("new_loans", "", "").replace("'m'", "'none'"), "42704"),
        (update("new_loans", "", "").replace("'m'", "NULL"), "22004"),
        (update("new_loans", "", "").replace(GATE, "\"gate\": {\"change_max\": 0}"), "22000"),
    ] {
        refuses(&mut analyst, &call, code);
    }
    analyst.run("BEGIN READ ONLY");
    fails(&mut analyst, &update("new_loans", "", ""), "25006");
    // As it was before updates existed.
    let mut superuser = database.superuser();
    superuser.run("UPDATE riskft.version SET training_digest = NULL");
    let old = refuses(&mut analyst, &update("new_loans", "", ""), "55000");
    assert_eq!(old.message(), "version 1 of model \"m\" cannot be updated");
    superuser.run("UPDATE riskft.model SET deployed_version = NULL");
    refuses(&mut analyst, &update("new_loans", "", ""), "55000");
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.versions"), 1);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.runs WHERE kind = 'update'"), 0);
}

/// The encoder stays, and a version without a network has its weights and calibration fitted.
#[test]
fn every_kind_of_version_is_updated() {
    let database = Database::new();
    small_text_model(&database);
    let mut analyst = database.analyst();
    let notes = "SELECT note_id + 1000 AS note_id, amount + 3 AS amount, note || '' new'' AS note,
                     NOT defaulted AND amount > 300 OR amount > 600 AS defaulted FROM notes";
    let call = format!(
        "CALL riskft_update('t', '{notes}', options => '{{\"deploy\": \"always\", {GATE}}}')"
    );
    analyst.run(&call);
    let told: String = analyst.value(
        "SELECT concat_ws(' ', deployed, method, base IS NOT NULL) FROM riskft.versions WHERE version = 2",
    );
    assert_eq!(told, "t lora t");
    analyst.run("SELECT sum(risk_score('t', n)) FROM notes n");
    let encoders: i64 =
        database.superuser().value("SELECT count(*) FROM riskft.blob WHERE kind = 'encoder'");
    assert_eq!(encoders, 1);
    small_loans(&database, 400);
    new_loans(&mut analyst);
    analyst
        .run(&small_training("m", "loans", "").replace("\"head_epochs\": 2", "\"head_epochs\": 0"));
    assert!(crate::call(&mut analyst, &update("new_loans", "", "")).deployed);
    // Without a test part there are no old rows to be worse on.
    let all =
        "\"split\": {\"train\": 0.7, \"validation\": 0.2, \"calibration\": 0.1, \"test\": 0}, ";
    analyst.run("SELECT riskft_drop('m')");
    analyst.run(&small_training("m", "loans", all));
    let done = crate::call(&mut analyst, &update("new_loans", "", ""));
    assert_eq!((done.old, done.deployed), ((None, None), true));
}

/// A word that no old row has: the scores of rows that say it follow.
#[test]
fn new_words_have_a_say() {
    let database = Database::new();
    let base = small_text_model(&database);
    let mut analyst = database.analyst();
    let notes = |first: i32, word: &str, risk: &str| {
        format!(
            "SELECT i AS note_id, (i * 7919 % 1000)::float8 AS amount,
                 CASE WHEN i % 3 = 0 THEN '{word} ' ELSE '' END
                     || (ARRAY['paid', 'late'])[1 + (hashint4(i) & 1)] || ' ' || i % 97 AS note,
                 (hashint4(-i) & 65535) % 100 < CASE WHEN i % 3 = 0 THEN {risk} WHEN hashint4(i) & 1 = 1 THEN 70 ELSE 20 END
                     AS defaulted
             FROM generate_series({first}, {first} + 599) i"
        )
    };
    analyst.run(&format!(
        "DROP TABLE notes; CREATE TABLE notes AS {}; CREATE TABLE later AS {}",
        notes(1, "small", "45"),
        notes(1001, "flooded", "90")
    ));
    analyst.run(&small_text_training("u", &base).replace("\"epochs\": 1", "\"epochs\": 0"));
    analyst.notices();
    analyst.run(&format!("CALL riskft_update('u', 'later', options => '{{{GATE}}}')"));
    let mut mean = |version: i32, word: &str| -> f64 {
        analyst.value(&format!(
            "SELECT avg(risk_score('u@{version}', n)) FROM (SELECT amount, '{word} paid 5' AS note FROM notes) n"
        ))
    };
    let (before, after, known) = (mean(1, "flooded"), mean(2, "flooded"), mean(2, "small"));
    assert!(after > before + 0.1 && after > known + 0.1, "{before} {after} {known}");
    let continued: i64 = analyst.value(
        "SELECT count(*) FROM riskft.branches WHERE version = 2 AND why = 'weights of the version before, continued'",
    );
    assert!(continued > 0);
    analyst.run("SELECT riskft_import_model('copy', riskft_export_model('u@2'))");
    let apart: i64 = analyst
        .value("SELECT count(*) FROM later l WHERE risk_score('u@2', l) <> risk_score('copy', l)");
    assert_eq!(apart, 0);
}

/// Cancelled at any time; and a rollback takes all back.
#[test]
fn a_cancel_leaves_nothing() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    new_loans(&mut analyst);
    analyst.run(&small_training("m", "loans", ""));
    let long = update(
        "SELECT t.* FROM new_loans t, generate_series(1, 100)",
        "",
        "\"epochs\": 1000, \"patience\": 1000, ",
    );
    let (backend, cancel) = (analyst.pid(), analyst.cancel_token());
    for after in [0, 1_500] {
        thread::scope(|scope| {
            let (long, analyst) = (&long, &mut analyst);
            let updating = scope.spawn(move || fails(analyst, long, "57014"));
            process::await_trainer(backend, Duration::from_secs(30)).expect("a trainer");
            thread::sleep(Duration::from_millis(after));
            cancel.cancel_query(NoTls).expect("cancel");
            updating.join().expect("the update is cancelled");
        });
        assert_eq!(leftovers(&database), [""; 0]);
    }
    analyst.run("BEGIN");
    call(&mut analyst, &update("new_loans", "", ""));
    analyst.run("ROLLBACK");
    assert_eq!(leftovers(&database), [""; 0]);
    assert_eq!(analyst.value::<i64>("SELECT count(*) FROM riskft.versions"), 1);
}
