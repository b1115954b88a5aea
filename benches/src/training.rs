//! One training of the loans, and what the ledger says of it.

use riskft_tests::{fixture, Cluster, Database, Session};

/// Columns that no figure may use: the key, and the amount that is known only after the decision.
pub const EXCLUDE: &str = "{loan_id,disbursed}";

/// A database of all loans with two models of them: `text`, whose frozen encoder is kept, and
/// `numbers`.
pub fn two_models(cluster: &Cluster) -> Database<'_> {
    let database = Database::within(cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    let mut session = database.analyst();
    train(&mut session, "text", "lora", r#"{"seed": 1, "epochs": 0, "keep_text": "always"}"#);
    train(&mut session, "numbers", "none", r#"{"seed": 1}"#);
    database
}

pub struct Training {
    pub auc: f64,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_memory: i64,
    pub tune_epoch_cpu_seconds: Option<f64>,
    pub parameters: i64,
    pub parameters_trainable: i64,
    pub auc_loss: Option<f64>,
    pub change_q999: f64,
    pub change_max: f64,
    pub flips: Option<f64>,
    pub auc_frozen: Option<f64>,
    pub auc_tuned: Option<f64>,
    pub kept: Option<bool>,
    pub auc_without_text: Option<f64>,
    pub text_kept: Option<bool>,
}

/// Trains `model` on table loans with the method and options, and reads the ledger.
pub fn train(session: &mut Session, model: &str, method: &str, options: &str) -> Training {
    eprintln!("riskft-bench: training {model}, method {method}, options {options}");
    let call = format!(
        "CALL riskft_train('{model}', 'loans', 'defaulted', exclude => '{EXCLUDE}',
                           method => '{method}', options => '{options}')"
    );
    let row = session.query_one(&call, &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    let (version, run): (i32, i64) = (row.get(0), row.get(3));
    let row = session
        .query_one(
            "SELECT c.wall_seconds, c.cpu_seconds, c.peak_memory_bytes, c.tune_epoch_cpu_seconds,
                    c.parameters, c.parameters_trainable, g.auc_loss, g.change_q999, g.change_max,
                    g.flips, r.auc_frozen, r.auc_tuned, r.tuned_kept, r.auc_without_text,
                    r.text_kept
             FROM riskft.costs c JOIN riskft.runs r USING (run)
             JOIN riskft.gates g ON g.model = c.model AND g.version = c.version
             WHERE c.run = $1 AND c.version = $2",
            &[&run, &version],
        )
        .unwrap_or_else(|e| panic!("ledger of run {run}: {e:?}"));
    let auc = session.value_of(
        "SELECT value FROM riskft.metrics
         WHERE model = $1 AND version = $2 AND part = 'test' AND metric = 'auc'",
        &[&model, &version],
    );
    Training {
        auc,
        wall_seconds: row.get(0),
        cpu_seconds: row.get(1),
        peak_memory: row.get(2),
        tune_epoch_cpu_seconds: row.get(3),
        parameters: row.get(4),
        parameters_trainable: row.get(5),
        auc_loss: row.get(6),
        change_q999: row.get(7),
        change_max: row.get(8),
        flips: row.get(9),
        auc_frozen: row.get(10),
        auc_tuned: row.get(11),
        kept: row.get(12),
        auc_without_text: row.get(13),
        text_kept: row.get(14),
    }
}

pub fn gib(bytes: i64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Makes table `wide` of twenty numbers, of which half matter, two of them only together.
pub fn wide(rows: u64) -> String {
    let columns: Vec<String> =
        (1..=20).map(|i| format!("(random() * {i})::real AS x{i}")).collect();
    format!(
        "SELECT setseed(0.5);
         CREATE TABLE wide AS
         SELECT *, random() < 1 / (1 + exp(2.5 - x1 - x2 / 2 + x3 / 3 - x10 * x11 / 60)) AS y
         FROM (SELECT {} FROM generate_series(1, {rows})) AS x;
         ANALYZE wide",
        columns.join(", ")
    )
}
