//! riskft_fallback, riskft_fallback_start, riskft_fallback_stop: the version that a bare name means
//! while the deployed one is not to be trusted, and the rule that decides it when drift is measured.
//!
//! A rule only ever switches to the backup: nobody but a person switches back, so that figures near
//! a limit cannot make scores go to and fro.

use pgrx::{pg_extern, pg_sys};
use riskft_core::drift::rule::{Readings, Rule};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::approval;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::error::{self, or_raise};
use crate::lifecycle::given;
use crate::object::{self, Hold, Kind};
use crate::spi::{self, Param};

/// The alias of the version that is fallen back to.
pub const BACKUP: &str = "backup";

/// A model's row of riskft.fallback.
struct State {
    rule: Option<String>,
    active: bool,
}

#[pg_extern(sql = false)]
fn riskft_fallback(model: Option<&str>, rule: Option<&str>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_fallback()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| set_rule(m, rule, audit::reason(reason)?)));
}

fn set_rule(model: &str, rule: Option<&str>, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let read = rule.map(Rule::parse).transpose()?;
    let by = Author::current();
    spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        if let Some(read) = &read {
            require_columns(model, id, read)?;
            if backup(id)?.is_none() {
                error::notice!(
                    "model \"{model}\" has no alias backup yet: the rule can switch to nothing"
                );
            }
        }
        let before = state(id)?;
        if before.rule.as_deref() == rule {
            return Ok(());
        }
        store(id, &State { rule: rule.map(str::to_owned), active: before.active }, &by, reason)?;
        let detail = json!({ "rule": rule, "before": before.rule });
        let (action, version) = (Action::Fallback, None);
        audit::write(&by, Change { action, model, version, detail, reason })
    })
}

/// Refuses columns that the deployed version's drift does not tell of.
fn require_columns(model: &str, id: i64, rule: &Rule) -> Result<()> {
    let known = spi::query(
        "SELECT r.column_name FROM riskft.reference r JOIN riskft.model m USING (model_id)
         WHERE m.model_id = $1 AND r.version = m.deployed_version AND r.kind <> 'score'",
        &[Param::Int8(id)],
        false,
        |row| row.get::<String>(1).unwrap_or_default(),
    )?;
    let asked = rule.measures().into_iter().filter_map(|measure| measure.column.as_ref());
    match asked.into_iter().find(|column| !known.contains(column)) {
        None => Ok(()),
        Some(column) => Err(Refusal::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{column}\" of the rule is not watched"),
        )
        .detail(format!(
            "The drift of model \"{model}\" as it is deployed is not told of column \"{column}\"."
        ))
        .hint("The view riskft.drift_bins lists the columns that are.")),
    }
}

#[pg_extern(sql = false)]
fn riskft_fallback_start(model: Option<&str>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_fallback_start()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| start(m, audit::reason(reason)?)));
}

fn start(model: &str, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let by = Author::current();
    let switched = spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        switch_on(model, id, &by, reason)
    })?;
    if !switched {
        error::notice!("the fallback of model \"{model}\" is active already");
    }
    Ok(())
}

/// Lets the bare name mean the backup; false where it does already. To be called as the
/// catalogue's owner, with the model held unchanged.
fn switch_on(model: &str, id: i64, by: &Author, reason: Option<&str>) -> Result<bool> {
    let version = backup(id)?.ok_or_else(|| no_backup(model))?;
    let before = state(id)?;
    if before.active {
        return Ok(false);
    }
    approval::require(model, version)?;
    store(id, &State { active: true, ..before }, by, reason)?;
    let (action, detail) = (Action::FallbackStart, json!({}));
    audit::write(by, Change { action, model, version: Some(version), detail, reason })?;
    Ok(true)
}

fn no_backup(model: &str) -> Refusal {
    Refusal::new(code::NOT_IN_STATE, format!("model \"{model}\" has no alias backup"))
        .detail("A fallback scores by the version that alias backup means.")
        .hint(format!(
            "Name one: SELECT riskft_set_alias({}, 'backup', 1).",
            catalog::literal(model)
        ))
}

#[pg_extern(sql = false)]
fn riskft_fallback_stop(model: Option<&str>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_fallback_stop()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| stop(m, audit::reason(reason)?)));
}

fn stop(model: &str, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let by = Author::current();
    let switched = spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        let before = state(id)?;
        if !before.active {
            return Ok(false);
        }
        store(id, &State { active: false, ..before }, &by, reason)?;
        let (action, version) = (Action::FallbackStop, backup(id)?);
        let detail = json!({});
        audit::write(&by, Change { action, model, version, detail, reason })?;
        Ok(true)
    })?;
    if !switched {
        error::notice!("the fallback of model \"{model}\" is not active");
    }
    Ok(())
}

/// Asks a model's rule of a new point of its deployed version, and switches to the backup where it
/// holds. To be called as the catalogue's owner; `may_deploy` is of the role that measured.
///
/// The point stays whatever comes of it: what keeps the fallback from becoming active is a warning.
pub fn ask(
    model: &str,
    id: i64,
    readings: &Readings<'_>,
    by: &Author,
    may_deploy: bool,
) -> Result<()> {
    let State { rule: Some(text), active: false } = state(id)? else { return Ok(()) };
    let rule = Rule::parse(&text)?;
    if rule.holds(readings) != Some(true) {
        return Ok(());
    }
    let reason = format!("{} where the rule is {text}", rule.values(readings));
    if !may_deploy {
        error::warn(
            &format!("the fallback rule of model \"{model}\" holds, but it is not switched"),
            &format!("{reason}. Role \"{}\" lacks privilege deploy.", by.role),
        );
        return Ok(());
    }
    object::hold(model, Kind::Model, Hold::Unchanged)?;
    match switch_on(model, id, by, Some(&reason)) {
        Ok(true) => error::warn(
            &format!("model \"{model}\" scores by its alias backup from now on"),
            &format!("The fallback rule holds: {reason}. riskft_fallback_stop switches back."),
        ),
        Ok(false) => {}
        Err(refusal) if refusal.code == code::NOT_IN_STATE => error::warn(
            &format!("the fallback rule of model \"{model}\" holds, but it is not switched"),
            &format!("{reason}. {}", refusal.detail),
        ),
        Err(refusal) => return Err(refusal),
    }
    Ok(())
}

/// Refuses to take alias backup from a fallback that is active. To be called as the catalogue's
/// owner.
pub fn require_inactive(model: &str, id: i64) -> Result<()> {
    if !state(id)?.active {
        return Ok(());
    }
    Err(Refusal::new(code::NOT_IN_STATE, "alias \"backup\" is in use")
        .detail(format!("The fallback of model \"{model}\" is active: its bare name means it."))
        .hint(format!("SELECT riskft_fallback_stop({}) first.", catalog::literal(model))))
}

/// Whether the fallback is active. To be called as the catalogue's owner.
pub fn is_active(id: i64) -> Result<bool> {
    Ok(state(id)?.active)
}

fn state(id: i64) -> Result<State> {
    let rows = spi::query(
        "SELECT rule, active FROM riskft.fallback WHERE model_id = $1",
        &[Param::Int8(id)],
        false,
        |row| State { rule: row.get(1), active: row.get(2).unwrap_or(false) },
    )?;
    Ok(rows.into_iter().next().unwrap_or(State { rule: None, active: false }))
}

/// Writes the state; one that says nothing leaves no row.
fn store(id: i64, state: &State, by: &Author, reason: Option<&str>) -> Result<()> {
    if state.rule.is_none() && !state.active {
        return spi::execute("DELETE FROM riskft.fallback WHERE model_id = $1", &[Param::Int8(id)]);
    }
    spi::execute(
        "INSERT INTO riskft.fallback (model_id, rule, active, role, reason)
         VALUES ($1, $2, $3::integer = 1, $4::name, $5)
         ON CONFLICT (model_id) DO UPDATE SET rule = excluded.rule, active = excluded.active,
             changed_at = excluded.changed_at, role = excluded.role, reason = excluded.reason",
        &[
            Param::Int8(id),
            Param::OptionalText(state.rule.as_deref()),
            Param::Int4(i32::from(state.active)),
            Param::Text(&by.role),
            Param::OptionalText(reason),
        ],
    )
}

fn backup(id: i64) -> Result<Option<i32>> {
    crate::alias::meant(id, BACKUP)
}
