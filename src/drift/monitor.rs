//! riskft_monitor: one more point of a model's drift, and of its scores beside their outcomes.

use pgrx::{pg_extern, pg_sys};
use riskft_core::drift::period::{Calendar, LEAST_ROWS};
use riskft_core::drift::rule::{self, Readings};
use riskft_core::drift::Line;
use riskft_core::metrics;
use riskft_core::refusal::{code, Refusal, Result};

use super::pass::{Outcomes, Pass, Wanted, Watched};
use crate::argument::given;
use crate::audit::Author;
use crate::catalog::{self, Privilege};
use crate::error::{self, or_raise};
use crate::fallback;
use crate::labelled::warn_of_fitted_rows;
use crate::object::{self, Hold, Kind};
use crate::spi::{self, Param};

#[pg_extern(sql = false)]
fn riskft_monitor(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
    time_column: Option<&str>,
) -> i64 {
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_monitor()".as_ptr()) };
    or_raise(monitor(model, relation, target, time_column))
}

fn monitor(
    model: Option<&str>,
    relation: Option<&str>,
    target: Option<&str>,
    time_column: Option<&str>,
) -> Result<i64> {
    const CALL: &str = "SELECT riskft_monitor('model', 'relation', target => 'defaulted').";
    let (model, relation) = (given("model", model, CALL)?, given("relation", relation, CALL)?);
    let watched = Watched::find(model)?;
    let object = object::existing(&watched.name, Kind::Model)?;
    catalog::require(&object, Privilege::Train)?;
    if target.is_none() && time_column.is_some() {
        return Err(Refusal::new(code::INVALID_PARAMETER, "time_column needs a target")
            .detail("Periods are told of rows whose outcome is known, and no target is given.")
            .hint(CALL));
    }
    let wanted = target.map(|target| Wanted { target, time_column });
    let pass = Pass::over(&watched, relation, wanted.as_ref())?;
    let outcomes = match target {
        Some(_) => told(&watched, &pass.outcomes)?,
        None => Vec::new(),
    };
    let by = Author::current();
    let may_deploy = catalog::holds(&object, Privilege::Deploy)?;
    spi::as_owner(|| {
        let model_id = object::hold(&watched.name, Kind::Model, Hold::Existing)?;
        let point = Point {
            model_id,
            point_id: begin(model_id, &watched, &by.role, relation, target, pass.rows)?,
        };
        pass.lines.iter().try_for_each(|line| point.line(line))?;
        outcomes
            .iter()
            .zip(0..)
            .try_for_each(|(outcome, ordinal)| point.outcome(ordinal, outcome))?;
        if catalog::is_deployed(model_id, watched.files.version)? {
            let readings = Readings {
                lines: &pass.lines,
                rows: pass.rows,
                outcome: outcomes.first().map(Outcome::reading),
            };
            fallback::ask(&watched.name, model_id, &readings, &by, may_deploy)?;
        }
        Ok(point.point_id)
    })
}

/// Scores beside outcomes, of all rows or of a period.
struct Outcome {
    /// First day, days since 1970-01-01, and name.
    period: Option<(i32, String)>,
    rows: usize,
    auc: Option<f64>,
    mean_score: f64,
    mean_outcome: f64,
    ece: Option<f64>,
}

impl Outcome {
    fn of(period: Option<(i32, String)>, scores: &[f64], labels: &[bool]) -> Option<Self> {
        Some(Outcome {
            period,
            rows: labels.len(),
            auc: metrics::auc(scores, labels),
            mean_score: metrics::mean_score(scores, labels)?,
            mean_outcome: metrics::base_rate(labels)?,
            ece: metrics::ece(scores, labels),
        })
    }

    fn reading(&self) -> rule::Outcome {
        rule::Outcome {
            auc: self.auc,
            ece: self.ece,
            mean_score: self.mean_score,
            mean_outcome: self.mean_outcome,
        }
    }
}

/// All rows with an outcome, then their periods. Of few rows nothing is kept: whoever holds a
/// privilege on the model reads it, and it would tell of persons.
fn told(watched: &Watched, outcomes: &Outcomes) -> Result<Vec<Outcome>> {
    let Outcomes { hashes, scores, labels, days, unlabelled } = outcomes;
    if *unlabelled > 0 {
        error::notice!("{unlabelled} rows have no outcome yet");
    }
    if labels.len() < LEAST_ROWS {
        error::notice!(
            "{} rows have an outcome: no figures of fewer than {LEAST_ROWS} are kept",
            labels.len()
        );
        return Ok(Vec::new());
    }
    warn_of_fitted_rows("the model", &watched.files, hashes)?;
    if labels.iter().all(|label| label == &labels[0]) {
        error::notice!("auc is null: the {} rows with an outcome are of one class", labels.len());
    }
    let mut told: Vec<Outcome> = Outcome::of(None, scores, labels).into_iter().collect();
    let Some(calendar) = Calendar::of(days.iter().copied().flatten()) else { return Ok(told) };
    for period in calendar.periods(days.iter().copied()) {
        let scores: Vec<f64> = period.rows.iter().map(|row| scores[*row]).collect();
        let labels: Vec<bool> = period.rows.iter().map(|row| labels[*row]).collect();
        told.extend(Outcome::of(Some((period.begins, period.name)), &scores, &labels));
    }
    Ok(told)
}

/// Stores the point's own row; its number.
fn begin(
    model_id: i64,
    watched: &Watched,
    role: &str,
    relation: &str,
    target: Option<&str>,
    rows: u64,
) -> Result<i64> {
    let stored = spi::query(
        "INSERT INTO riskft.drift_point (model_id, version, role, relation, target, rows)
         VALUES ($1, $2, $3::name, $4, $5, $6) RETURNING point_id",
        &[
            Param::Int8(model_id),
            Param::Int4(watched.files.version),
            Param::Text(role),
            Param::Text(relation),
            Param::OptionalText(target),
            Param::Int8(count(rows)),
        ],
        false,
        |row| row.get::<i64>(1).unwrap_or_default(),
    )?;
    Ok(stored.into_iter().next().unwrap_or_default())
}

/// Adds rows to one point.
struct Point {
    point_id: i64,
    model_id: i64,
}

impl Point {
    fn line(&self, line: &Line) -> Result<()> {
        spi::execute(
            "INSERT INTO riskft.drift_line (point_id, model_id, column_name, kind, psi, alarm,
                     missing_share, missing_share_reference, unseen_share, rows)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                Param::Int8(self.point_id),
                Param::Int8(self.model_id),
                Param::Text(&line.column_name),
                Param::Text(line.kind.name()),
                Param::OptionalFloat8(line.psi),
                Param::OptionalText(line.alarm.as_deref()),
                Param::OptionalFloat8(line.missing_share),
                Param::OptionalFloat8(line.missing_share_reference),
                Param::OptionalFloat8(line.unseen_share),
                Param::Int8(count(line.rows)),
            ],
        )
    }

    fn outcome(&self, ordinal: i32, outcome: &Outcome) -> Result<()> {
        let (begins, name) = outcome.period.clone().unzip();
        spi::execute(
            "INSERT INTO riskft.drift_outcome (point_id, model_id, ordinal, begins, period, rows,
                     auc, mean_score, mean_outcome, ece)
             VALUES ($1, $2, $3, date '1970-01-01' + $4, $5, $6, $7, $8, $9, $10)",
            &[
                Param::Int8(self.point_id),
                Param::Int8(self.model_id),
                Param::Int4(ordinal),
                Param::OptionalInt4(begins),
                Param::OptionalText(name.as_deref()),
                Param::Int8(count(outcome.rows as u64)),
                Param::OptionalFloat8(outcome.auc),
                Param::Float8(outcome.mean_score),
                Param::Float8(outcome.mean_outcome),
                Param::OptionalFloat8(outcome.ece),
            ],
        )
    }
}

/// A count as bigint; what is beyond it is the largest.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
