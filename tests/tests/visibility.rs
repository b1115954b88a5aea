//! What a role sees of the catalogue: what it owns and what was granted to it, nothing else.

use std::time::Instant;

use riskft_tests::fixture::{more_figures, small_model, small_training};
use riskft_tests::{fails, Session};

const SCORE: &str = "SELECT risk_score('m', l) FROM loans l WHERE loan_id = 7";
const VIEWS_OF_MODELS: &[&str] = &[
    "models",
    "versions",
    "features",
    "metrics",
    "branches",
    "metrics_by_period",
    "trials",
    "importances",
    "effects",
    "curves",
    "drift_bins",
    "drift_history",
    "outcome_history",
    "gates",
    "deployments",
    "aliases",
    "audit",
];
const VIEWS_OF_RUNS: &[&str] = &["runs", "phases", "costs"];

fn count(session: &mut Session, view: &str) -> i64 {
    session.value(&format!("SELECT count(*) FROM riskft.{view}"))
}

#[test]
fn views_show_what_is_owned_or_granted() {
    let (database, mut analyst) = small_model();
    more_figures(&database);
    analyst.run("SELECT riskft_monitor('m', 'loans', 'defaulted')");
    let role = database.role("low");
    let mut low = database.user(&role);
    for view in VIEWS_OF_MODELS.iter().chain(VIEWS_OF_RUNS).chain(&["privileges", "progress"]) {
        assert_eq!(count(&mut low, view), 0, "{view} shows what is another's");
    }
    for privilege in ["score", "train", "deploy"] {
        analyst.run(&format!("SELECT riskft_grant('m', '{role}', '{privilege}')"));
        for view in VIEWS_OF_MODELS {
            let (own, theirs) = (count(&mut analyst, view), count(&mut low, view));
            assert!(own > 0 && own == theirs, "{privilege}: {view} shows {theirs} of {own}");
        }
        for view in VIEWS_OF_RUNS {
            assert_eq!(count(&mut low, view), 0, "{privilege}: {view} shows another's runs");
        }
        let seen: Vec<String> = low.values(
            "SELECT concat_ws(' ', model, role, privilege, granted_by) FROM riskft.privileges",
        );
        assert_eq!(seen, [format!("m {role} {privilege} analyst")]);
        analyst.run(&format!("SELECT riskft_revoke('m', '{role}', '{privilege}')"));
    }
    // The owner of a model sees the runs of others on it.
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'train')"));
    low.run(&small_training("m", "loans", ""));
    assert_eq!(count(&mut low, "runs"), 1);
    let owners: Vec<String> = analyst.values("SELECT owner FROM riskft.runs ORDER BY run");
    assert_eq!(owners, ["analyst".to_owned(), role.clone()]);
    // A later model of the same name does not open the runs of the earlier one.
    analyst.run("SELECT riskft_drop('m')");
    low.run(&small_training("m", "loans", ""));
    assert_eq!(count(&mut low, "runs"), 2);
    assert_eq!(count(&mut analyst, "runs"), 1);
    assert_eq!(count(&mut low, "privileges"), 0);
}

#[test]
fn the_catalogue_is_closed_to_plain_roles() {
    let (database, mut analyst) = small_model();
    let role = database.role("low");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    let mut superuser = database.superuser();
    let hidden: Vec<String> = superuser.values(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'riskft'::regnamespace
         AND relkind IN ('r', 'v') AND NOT has_table_privilege('analyst', oid, 'SELECT')
         ORDER BY 1",
    );
    for name in [
        "alias",
        "approval",
        "audit_entry",
        "blob",
        "blob_chunk",
        "branch",
        "component",
        "curve",
        "deployment",
        "drift_line",
        "drift_outcome",
        "drift_point",
        "effect",
        "feature",
        "feedback",
        "grade",
        "importance",
        "metric",
        "model",
        "period_metric",
        "privilege",
        "reducer",
        "reason_code",
        "reference",
        "run",
        "trial",
        "version",
    ] {
        assert!(hidden.iter().any(|h| h == name), "{name} can be read by any role");
    }
    let tables: Vec<String> = superuser.values(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'riskft'::regnamespace
         AND relkind = 'r'",
    );
    let writable: i64 = superuser.value(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'riskft'::regnamespace
         AND relkind IN ('r', 'v')
         AND has_table_privilege('analyst', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')",
    );
    assert_eq!(writable, 0);
    for mut session in [database.user(&role), database.analyst()] {
        for name in &hidden {
            fails(&mut session, &format!("SELECT FROM riskft.{name}"), "42501");
        }
        for name in &tables {
            fails(&mut session, &format!("DELETE FROM riskft.{name}"), "42501");
            fails(&mut session, &format!("TRUNCATE riskft.{name}"), "42501");
            fails(&mut session, &format!("INSERT INTO riskft.{name} DEFAULT VALUES"), "42501");
        }
        fails(&mut session, "UPDATE riskft.model SET owner = CURRENT_USER", "42501");
        fails(&mut session, "SELECT nextval('riskft.run_run_id_seq')", "42501");
        fails(&mut session, "CREATE TABLE riskft.mine (a int)", "42501");
        fails(&mut session, "COPY riskft.blob_chunk TO STDOUT", "42501");
    }
}

/// Before the library is loaded, anybody can set a placeholder of any name; it must not last.
#[test]
fn settings_of_the_superuser_cannot_be_set_early() {
    let (database, mut analyst) = small_model();
    let role = database.role("reader");
    analyst.run(&format!("SELECT riskft_grant('m', '{role}', 'score')"));
    database.superuser().run(&format!("GRANT pg_read_all_settings TO {role}"));
    for setting in
        ["trainer_path", "libtorch", "model_directory", "max_model_size", "require_approval"]
    {
        let show = format!("SELECT current_setting('riskft.{setting}')");
        let (mut early, mut usual) = (database.user(&role), database.user(&role));
        early.run(&format!("SET riskft.{setting} = '1'; {SCORE}"));
        usual.run(SCORE);
        let (now, kept): (String, String) = (early.value(&show), usual.value(&show));
        assert_eq!(now, kept, "riskft.{setting} was set before the library was loaded");
        fails(&mut early, &format!("SET riskft.{setting} = '1'"), "42501");
    }
}

/// With 1,000 models of 20 owners, a view asks for each role once, not for each row.
#[test]
fn views_stay_quick_with_many_models() {
    let (database, _analyst) = small_model();
    more_figures(&database);
    let role = database.role("low");
    let mut superuser = database.superuser();
    superuser.run(&format!(
        "INSERT INTO riskft.model (name, owner)
             SELECT 'm' || i, CASE WHEN i % 20 = 0 THEN '{role}' ELSE 'owner_' || i % 20 END
             FROM generate_series(1, 1000) i;
         INSERT INTO riskft.privilege (model_id, role, privilege, granted_by)
             SELECT model_id, CASE WHEN model_id % 2 = 0 THEN '{role}' ELSE 'other' END, 'score', owner
             FROM riskft.model WHERE name <> 'm';
         INSERT INTO riskft.version
             SELECT m.model_id, 1, v.run_id, v.positive_label, v.negative_label, v.threshold,
                 v.version_digest, v.encoder_digest, v.training_digest, v.gate
             FROM riskft.version v, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.metric
             SELECT m.model_id, t.version, t.part, t.metric, t.value, t.ci_low, t.ci_high
             FROM riskft.metric t, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.feature
             SELECT m.model_id, f.version, f.ordinal, f.column_name, f.role, f.why, f.missing_share,
                 f.distinct_values, f.alone_auc
             FROM riskft.feature f, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.branch
             SELECT m.model_id, b.version, b.ordinal, b.branch, b.weight, b.auc, b.auc_without, b.gain,
                 b.gain_se, b.test_auc, b.test_log_loss, b.seconds, b.why
             FROM riskft.branch b, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.period_metric
             SELECT m.model_id, p.version, p.part, p.begins, p.period, p.rows, p.auc, p.mean_score,
                 p.mean_outcome
             FROM riskft.period_metric p, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.trial
             SELECT m.model_id, t.version, t.trial, t.rungs, t.options, t.auc, t.log_loss, t.seconds,
                 t.state
             FROM riskft.trial t, riskft.model m WHERE m.name <> 'm';
         INSERT INTO riskft.deployment (model_id, version, action, role)
             SELECT model_id, 1, 'deploy', owner FROM riskft.model WHERE name <> 'm';
         INSERT INTO riskft.alias (model_id, alias, version, role)
             SELECT model_id, 'challenger', 1, owner FROM riskft.model WHERE name <> 'm';
         INSERT INTO riskft.audit_entry (login, role, action, model_id, model, owner, version)
             SELECT owner, owner, 'train', model_id, name, owner, i
             FROM riskft.model, generate_series(1, 20) i WHERE name <> 'm';
         ANALYZE riskft.model, riskft.privilege, riskft.version, riskft.metric, riskft.feature,
             riskft.branch, riskft.period_metric, riskft.trial, riskft.deployment"
    ));
    let mut low = database.user(&role);
    assert_eq!(count(&mut low, "models"), 500 + low.value::<i64>(
        "SELECT count(*) FROM riskft.models m WHERE m.owner = CURRENT_USER
         AND NOT EXISTS (SELECT FROM riskft.privileges p WHERE p.model = m.model AND p.role = CURRENT_USER)",
    ));
    for view in VIEWS_OF_MODELS.iter().chain(VIEWS_OF_RUNS) {
        let begun = Instant::now();
        let rows = count(&mut low, view);
        let seconds = begun.elapsed().as_secs_f64();
        println!("riskft.{view}: {rows} rows in {seconds:.3} s");
        assert!(seconds < 5.0, "{view} takes {seconds} s");
    }
}
