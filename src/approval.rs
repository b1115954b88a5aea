//! riskft_approve: four eyes. Under riskft.require_approval a version is deployed only when a role
//! has approved it that has nothing of its trainer: neither the current role nor the session user.

use pgrx::{pg_extern, pg_sys};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::error::{self, or_raise};
use crate::lifecycle::given;
use crate::object::{self, Hold, Kind};
use crate::settings;
use crate::spi::{self, Param};

/// Whether versions must be approved before they are deployed.
pub fn is_required() -> bool {
    settings::REQUIRE_APPROVAL.get()
}

/// Refuses to deploy a version that must be approved and is not. To be called as the catalogue's
/// owner.
pub fn require(model: &str, version: i32) -> Result<()> {
    if !is_required() || is_approved(model, version)? {
        return Ok(());
    }
    Err(Refusal::new(
        code::NOT_IN_STATE,
        format!("version {version} of model \"{model}\" is not approved"),
    )
    .detail(
        "Setting riskft.require_approval is on: somebody else than the trainer approves a version first.",
    )
    .hint(format!("Ask another role with privilege deploy for {}.", call(model, version))))
}

/// The call that approves a version.
pub fn call(model: &str, version: i32) -> String {
    format!("SELECT riskft_approve({}, {version})", catalog::literal(model))
}

fn is_approved(model: &str, version: i32) -> Result<bool> {
    let rows = spi::query(
        "SELECT 1 FROM riskft.approval a JOIN riskft.model m USING (model_id)
         WHERE m.name = $1 AND a.version = $2",
        &[Param::Text(model), Param::Int4(version)],
        false,
        |_| (),
    )?;
    Ok(!rows.is_empty())
}

#[pg_extern(sql = false)]
fn riskft_approve(model: Option<&str>, version: Option<i32>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_approve()".as_ptr()) };
    or_raise(
        given("model", model)
            .and_then(|model| approve(model, given("version", version)?, audit::reason(reason)?)),
    );
}

fn approve(model: &str, version: i32, reason: Option<&str>) -> Result<()> {
    require_own_will()?;
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let by = Author::current();
    let new = spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Existing)?;
        catalog::require_version(model, version)?;
        require_other(model, version, &by)?;
        let new = spi::query(
            "INSERT INTO riskft.approval (model_id, version, role, login, reason)
             VALUES ($1, $2, $3::name, $4::name, $5) ON CONFLICT DO NOTHING RETURNING 1",
            &[
                Param::Int8(id),
                Param::Int4(version),
                Param::Text(&by.role),
                Param::Text(&by.login),
                Param::OptionalText(reason),
            ],
            false,
            |_| (),
        )?;
        if new.is_empty() {
            return Ok(false);
        }
        let (action, version, detail) = (Action::Approve, Some(version), json!({}));
        audit::write(&by, Change { action, model, version, detail, reason })?;
        Ok(true)
    })?;
    if !new {
        error::notice!("version {version} of model \"{model}\" is approved already");
    }
    Ok(())
}

/// Where the server runs a table owner's code for somebody else, the session user has not asked
/// for it: a trainer's index function would approve in the name of whoever maintains the table.
fn require_own_will() -> Result<()> {
    // SAFETY: reads a global of this process.
    if !unsafe { pg_sys::InSecurityRestrictedOperation() } {
        return Ok(());
    }
    Err(Refusal::new(
        code::INSUFFICIENT_PRIVILEGE,
        "cannot approve within a security-restricted operation",
    )
    .detail("An index, a materialized view or a relation that is read calls riskft_approve.")
    .hint("Call it in a statement of its own."))
}

/// Refuses whoever trained or imported the version, as one of the two roles that they were then.
fn require_other(model: &str, version: i32, by: &Author) -> Result<()> {
    let rows = spi::query(
        "SELECT r.owner::text, coalesce(r.login, r.owner)::text
         FROM riskft.version v JOIN riskft.model m USING (model_id) JOIN riskft.run r USING (run_id)
         WHERE m.name = $1 AND v.version = $2",
        &[Param::Text(model), Param::Int4(version)],
        false,
        |row| Author {
            role: row.get(1).unwrap_or_default(),
            login: row.get(2).unwrap_or_default(),
        },
    )?;
    // A version whose run is gone has nobody who could be told apart.
    let trainer = rows.into_iter().next();
    if trainer.as_ref().is_some_and(|trainer| !trainer.overlaps(by)) {
        return Ok(());
    }
    let trainer = trainer.unwrap_or_else(|| by.clone());
    Err(Refusal::new(
        code::INSUFFICIENT_PRIVILEGE,
        format!("version {version} of model \"{model}\" cannot be approved by its trainer"),
    )
    .detail(format!(
        "It was trained by session user \"{}\" as role \"{}\"; this is session user \"{}\" as role \"{}\".",
        trainer.login, trainer.role, by.login, by.role
    ))
    .hint("Ask somebody else who has privilege deploy, logged in and acting as another role."))
}
