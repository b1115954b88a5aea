//! Models on made-up tables, and twins: the same data in another representation.
//!
//! A twin is split by time ([`TIMED`]), so that both trainings see the same rows in the same parts,
//! and its scores are compared row by row. The target of such tables is column `y`.

use crate::database::Database;
use crate::session::Session;

/// Seconds each: the tests ask whether data is understood, not how good a model gets. The gate on
/// AUC and decisions is wide, for one row in a hundred is more than it allows.
pub const QUICK: &str = r#"method => 'none', options => '{"head_epochs": 12, "members": 1, "hidden": 32,
    "head_learning_rate": 0.01, "gate": {"auc_loss": 1, "flips": 1}}'"#;

/// The same, split by the order of column `day`; the model sees neither it nor `n`.
pub const TIMED: &str = r#"time_column => 'day', method => 'none', options => '{"head_epochs": 12,
    "members": 1, "hidden": 32, "head_learning_rate": 0.01, "roles": {"day": "ignored", "n": "ignored"},
    "gate": {"auc_loss": 1, "flips": 1}}'"#;

/// A database with `u(seed, i)`, uniform in 0..1 and the same on every machine.
pub fn database() -> (Database<'static>, Session) {
    let database = Database::new();
    let mut analyst = database.analyst();
    analyst.run(
        "CREATE FUNCTION u(seed integer, i bigint) RETURNS float8 IMMUTABLE PARALLEL SAFE
         RETURN ('x' || substr(md5(seed || ':' || i), 1, 8))::bit(32)::bigint / 4294967296.0",
    );
    (database, analyst)
}

/// Trains on target `y`.
pub fn train(session: &mut Session, model: &str, relation: &str, options: &str) {
    let relation = relation.replace('\'', "''");
    session.run(&format!("CALL riskft_train('{model}', '{relation}', 'y', {options})"));
}

/// Whether a notice since the last call says this.
pub fn told(session: &mut Session, part: &str) -> bool {
    session.notices().iter().any(|n| n.message.contains(part) || n.detail.contains(part))
}

/// Score of a row with some columns of the table's first row replaced.
pub fn score(session: &mut Session, model: &str, table: &str, changed: &str) -> f64 {
    session.value(&format!(
        "SELECT risk_score('{model}', jsonb_populate_record(t, '{changed}'))
         FROM (SELECT * FROM {table} LIMIT 1) t",
    ))
}

/// Columns that have a role, by name.
pub fn roles(session: &mut Session, model: &str, role: &str) -> Vec<String> {
    session.values(&format!(
        "SELECT column_name FROM riskft.features WHERE model = '{model}' AND role = '{role}'
         ORDER BY column_name"
    ))
}

/// The stored AUC of a model's only version on its test rows.
pub fn test_auc(session: &mut Session, model: &str) -> f64 {
    session.value(&format!("SELECT test_auc FROM riskft.versions WHERE model = '{model}'"))
}

/// Scores of two tables with the same rows under column `n`, by two models: the largest difference.
pub fn apart(
    session: &mut Session,
    (model, table): (&str, &str),
    (other, twin): (&str, &str),
) -> f64 {
    session.value(&format!(
        "SELECT max(abs(risk_score('{model}', a) - risk_score('{other}', b)))
         FROM {table} a JOIN {twin} b USING (n)"
    ))
}

/// Scores of a model on a table that are no probability.
pub fn odd_scores(session: &mut Session, model: &str, table: &str) -> i64 {
    session.value(&format!(
        "SELECT count(*) FROM {table} t
         WHERE NOT coalesce(risk_score('{model}', t) BETWEEN 0 AND 1, false)"
    ))
}
