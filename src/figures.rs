//! What a version reached and what it saw, in rows: metrics, features, branches, periods,
//! trials, importances, effects; with `drift`'s own, the reference, and `curve`'s.
//!
//! Written by publishing and importing, read back by exporting. Dates of the core are days since
//! 1970-01-01.

use riskft_core::metrics::Metric;
use riskft_core::options::Role;
use riskft_core::protocol::{
    BranchReport, EffectReport, FeatureReport, Figures, ImportanceReport, PartMetric, PeriodReport,
    TrialReport,
};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::Value;

use crate::curve;
use crate::drift;
use crate::spi::{self, Param, Row};

/// Stores the figures of a version, with the rights of the catalogue's owner.
pub fn store(model_id: i64, version: i32, figures: &Figures) -> Result<()> {
    let of = Writer { model_id, version };
    of.metrics(&figures.metrics)?;
    of.features(&figures.features)?;
    of.branches(&figures.branches)?;
    of.periods(&figures.periods)?;
    of.trials(&figures.trials)?;
    of.importances(&figures.importances)?;
    of.effects(&figures.effects)?;
    drift::store(model_id, version, &figures.reference)?;
    curve::store(model_id, version, &figures.curve)
}

/// Adds rows to one version.
struct Writer {
    model_id: i64,
    version: i32,
}

impl Writer {
    /// `$1` and `$2` are the model and the version, `rest` follows.
    fn insert(&self, sql: &str, rest: Vec<Param<'_>>) -> Result<()> {
        let mut params = vec![Param::Int8(self.model_id), Param::Int4(self.version)];
        params.extend(rest);
        spi::execute(sql, &params)
    }

    fn metrics(&self, metrics: &[PartMetric]) -> Result<()> {
        metrics.iter().try_for_each(|part| {
            self.insert(
                "INSERT INTO riskft.metric (model_id, version, part, metric, value, ci_low, ci_high)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                vec![
                    Param::Text(&part.part),
                    Param::Text(&part.metric.metric),
                    Param::OptionalFloat8(part.metric.value),
                    Param::OptionalFloat8(part.metric.ci_low),
                    Param::OptionalFloat8(part.metric.ci_high),
                ],
            )
        })
    }

    fn features(&self, features: &[FeatureReport]) -> Result<()> {
        features.iter().zip(1..).try_for_each(|(feature, ordinal)| {
            let role = serde_json::to_value(feature.role).unwrap_or_default();
            self.insert(
                "INSERT INTO riskft.feature (model_id, version, ordinal, column_name, role, why,
                         missing_share, distinct_values, alone_auc)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                vec![
                    Param::Int4(ordinal),
                    Param::Text(&feature.column_name),
                    Param::Text(role.as_str().unwrap_or("ignored")),
                    Param::Text(&feature.why),
                    Param::Float8(feature.missing_share),
                    Param::Int8(count(feature.distinct_values)),
                    Param::OptionalFloat8(feature.alone_auc),
                ],
            )
        })
    }

    fn branches(&self, branches: &[BranchReport]) -> Result<()> {
        branches.iter().zip(1..).try_for_each(|(branch, ordinal)| {
            self.insert(
                "INSERT INTO riskft.branch (model_id, version, ordinal, branch, weight, auc,
                         auc_without, gain, gain_se, test_auc, test_log_loss, seconds, why)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                vec![
                    Param::Int4(ordinal),
                    Param::Text(&branch.branch),
                    Param::Float8(branch.weight),
                    Param::OptionalFloat8(branch.auc),
                    Param::OptionalFloat8(branch.auc_without),
                    Param::OptionalFloat8(branch.gain),
                    Param::OptionalFloat8(branch.gain_se),
                    Param::OptionalFloat8(branch.test_auc),
                    Param::OptionalFloat8(branch.test_log_loss),
                    Param::Float8(branch.seconds),
                    Param::Text(&branch.why),
                ],
            )
        })
    }

    fn periods(&self, periods: &[PeriodReport]) -> Result<()> {
        periods.iter().try_for_each(|period| {
            self.insert(
                "INSERT INTO riskft.period_metric (model_id, version, part, begins, period, rows,
                         auc, mean_score, mean_outcome)
                 VALUES ($1, $2, $3, date '1970-01-01' + $4, $5, $6, $7, $8, $9)",
                vec![
                    Param::Text(&period.part),
                    Param::Int4(period.begins),
                    Param::Text(&period.period),
                    Param::Int8(count(period.rows)),
                    Param::OptionalFloat8(period.auc),
                    Param::Float8(period.mean_score),
                    Param::Float8(period.mean_outcome),
                ],
            )
        })
    }

    fn trials(&self, trials: &[TrialReport]) -> Result<()> {
        trials.iter().try_for_each(|trial| {
            self.insert(
                "INSERT INTO riskft.trial (model_id, version, trial, rungs, options, auc, log_loss,
                         seconds, state)
                 VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9)",
                vec![
                    Param::Int4(whole(trial.trial)),
                    Param::Int4(whole(trial.rungs)),
                    Param::Text(&spi::json(&trial.options)?),
                    Param::OptionalFloat8(trial.auc),
                    Param::OptionalFloat8(trial.log_loss),
                    Param::Float8(trial.seconds),
                    Param::Text(&trial.state),
                ],
            )
        })
    }

    fn importances(&self, importances: &[ImportanceReport]) -> Result<()> {
        importances.iter().zip(1..).try_for_each(|(importance, rank)| {
            self.insert(
                "INSERT INTO riskft.importance (model_id, version, rank, column_name,
                         mean_abs_shap, share)
                 VALUES ($1, $2, $3, $4, $5, $6)",
                vec![
                    Param::Int4(rank),
                    Param::Text(&importance.column_name),
                    Param::Float8(importance.mean_abs_shap),
                    Param::Float8(importance.share),
                ],
            )
        })
    }

    fn effects(&self, effects: &[EffectReport]) -> Result<()> {
        effects.iter().try_for_each(|effect| {
            self.insert(
                "INSERT INTO riskft.effect (model_id, version, column_name, ordinal, value,
                         mean_score, n)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                vec![
                    Param::Text(&effect.column_name),
                    Param::Int4(whole(effect.ordinal)),
                    Param::OptionalText(effect.value.as_deref()),
                    Param::Float8(effect.mean_score),
                    Param::Int8(count(effect.rows)),
                ],
            )
        })
    }
}

/// A count as bigint; what is beyond it is the largest.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as integer, likewise.
fn whole(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Reads what [`store`] wrote, with the rights of the catalogue's owner.
pub fn read(model: &str, version: i32) -> Result<Figures> {
    let of = Reader { model, version };
    Ok(Figures {
        metrics: of.metrics()?,
        features: of.features()?,
        branches: of.branches()?,
        periods: of.periods()?,
        trials: of.trials()?,
        importances: of.importances()?,
        effects: of.effects()?,
        reference: drift::read(model, version)?,
        curve: curve::read(model, version)?,
    })
}

/// The importances of a version, likewise.
pub fn importances(model: &str, version: i32) -> Result<Vec<ImportanceReport>> {
    Reader { model, version }.importances()
}

/// The effects of a version, likewise.
pub fn effects(model: &str, version: i32) -> Result<Vec<EffectReport>> {
    Reader { model, version }.effects()
}

/// The columns that a version saw, likewise.
pub fn features(model: &str, version: i32) -> Result<Vec<FeatureReport>> {
    Reader { model, version }.features()
}

/// Reads the rows of one version.
struct Reader<'a> {
    model: &'a str,
    version: i32,
}

impl Reader<'_> {
    /// The columns of a table's rows of the version, `t` being the table.
    fn select<T>(
        &self,
        columns: &str,
        table: &str,
        order: &str,
        map: impl FnMut(&Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let sql = format!(
            "SELECT {columns} FROM riskft.{table} t JOIN riskft.model m USING (model_id)
             WHERE m.name = $1 AND t.version = $2 ORDER BY {order}"
        );
        let rows =
            spi::query(&sql, &[Param::Text(self.model), Param::Int4(self.version)], true, map)?;
        rows.into_iter().collect()
    }

    fn metrics(&self) -> Result<Vec<PartMetric>> {
        self.select(
            "t.part, t.metric, t.value, t.ci_low, t.ci_high",
            "metric",
            "t.part COLLATE \"C\", t.metric COLLATE \"C\"",
            |row| {
                Ok(PartMetric {
                    part: row.get(1).unwrap_or_default(),
                    metric: Metric {
                        metric: row.get(2).unwrap_or_default(),
                        value: row.get(3),
                        ci_low: row.get(4),
                        ci_high: row.get(5),
                    },
                })
            },
        )
    }

    fn features(&self) -> Result<Vec<FeatureReport>> {
        self.select(
            "t.column_name, t.role, t.why, t.missing_share, t.distinct_values, t.alone_auc",
            "feature",
            "t.ordinal",
            |row| {
                Ok(FeatureReport {
                    column_name: row.get(1).unwrap_or_default(),
                    role: role(row.get(2).unwrap_or_default())?,
                    why: row.get(3).unwrap_or_default(),
                    missing_share: row.get(4).unwrap_or_default(),
                    distinct_values: row.get::<i64>(5).unwrap_or_default().try_into().unwrap_or(0),
                    alone_auc: row.get(6),
                })
            },
        )
    }

    fn branches(&self) -> Result<Vec<BranchReport>> {
        self.select(
            "t.branch, t.weight, t.auc, t.auc_without, t.gain, t.gain_se, t.test_auc,
                 t.test_log_loss, t.seconds, t.why",
            "branch",
            "t.ordinal",
            |row| {
                Ok(BranchReport {
                    branch: row.get(1).unwrap_or_default(),
                    weight: row.get(2).unwrap_or_default(),
                    auc: row.get(3),
                    auc_without: row.get(4),
                    gain: row.get(5),
                    gain_se: row.get(6),
                    test_auc: row.get(7),
                    test_log_loss: row.get(8),
                    seconds: row.get(9).unwrap_or_default(),
                    why: row.get(10).unwrap_or_default(),
                })
            },
        )
    }

    fn periods(&self) -> Result<Vec<PeriodReport>> {
        self.select(
            "t.part, t.begins - date '1970-01-01', t.period, t.rows, t.auc, t.mean_score,
                 t.mean_outcome",
            "period_metric",
            "t.part COLLATE \"C\", t.begins",
            |row| {
                Ok(PeriodReport {
                    part: row.get(1).unwrap_or_default(),
                    begins: row.get(2).unwrap_or_default(),
                    period: row.get(3).unwrap_or_default(),
                    rows: row.get::<i64>(4).unwrap_or_default().try_into().unwrap_or(0),
                    auc: row.get(5),
                    mean_score: row.get(6).unwrap_or_default(),
                    mean_outcome: row.get(7).unwrap_or_default(),
                })
            },
        )
    }

    fn trials(&self) -> Result<Vec<TrialReport>> {
        self.select(
            "t.trial, t.rungs, t.options::text, t.auc, t.log_loss, t.seconds, t.state",
            "trial",
            "t.trial",
            |row| {
                Ok(TrialReport {
                    trial: row.get::<i32>(1).unwrap_or_default().try_into().unwrap_or(0),
                    rungs: row.get::<i32>(2).unwrap_or_default().try_into().unwrap_or(0),
                    options: stored("riskft.trial", &row.get::<String>(3).unwrap_or_default())?,
                    auc: row.get(4),
                    log_loss: row.get(5),
                    seconds: row.get(6).unwrap_or_default(),
                    state: row.get(7).unwrap_or_default(),
                })
            },
        )
    }

    fn importances(&self) -> Result<Vec<ImportanceReport>> {
        self.select("t.column_name, t.mean_abs_shap, t.share", "importance", "t.rank", |row| {
            Ok(ImportanceReport {
                column_name: row.get(1).unwrap_or_default(),
                mean_abs_shap: row.get(2).unwrap_or_default(),
                share: row.get(3).unwrap_or_default(),
            })
        })
    }

    fn effects(&self) -> Result<Vec<EffectReport>> {
        self.select(
            "t.column_name, t.ordinal, t.value, t.mean_score, t.n",
            "effect",
            "t.column_name COLLATE \"C\", t.ordinal",
            |row| {
                Ok(EffectReport {
                    column_name: row.get(1).unwrap_or_default(),
                    ordinal: row.get::<i32>(2).unwrap_or_default().try_into().unwrap_or(0),
                    value: row.get(3),
                    mean_score: row.get(4).unwrap_or_default(),
                    rows: row.get::<i64>(5).unwrap_or_default().try_into().unwrap_or(0),
                })
            },
        )
    }
}

fn role(name: String) -> Result<Role> {
    serde_json::from_value(Value::String(name)).map_err(|e| unreadable("riskft.feature", &e))
}

/// JSON of the catalogue; `what` names where it stands.
pub fn stored<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| unreadable(what, &e))
}

fn unreadable(what: &str, error: &serde_json::Error) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "stored version cannot be read")
        .detail(format!("In its {what}: {error}."))
        .hint("Restore schema riskft from a backup.")
}
