//! riskft_deploy, riskft_rollback and riskft_drop.

use pgrx::{pg_extern, pg_sys};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::argument;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::deployment;
use crate::error::{self, or_raise};
use crate::object::{self, Hold, Kind};
use crate::spi::{self, Param};

/// Tables whose rows belong to a model or a reducer. It goes first itself: that waits for whoever
/// holds it to add a row to the others.
const OF_A_MODEL: [&str; 25] = [
    "model",
    "version",
    "reducer",
    "component",
    "metric",
    "feature",
    "branch",
    "period_metric",
    "trial",
    "importance",
    "effect",
    "reference",
    "curve",
    "drift_point",
    "drift_line",
    "drift_outcome",
    "ab_test",
    "ab_evaluation",
    "ab_result",
    "feedback",
    "deployment",
    "alias",
    "fallback",
    "approval",
    "privilege",
];

#[pg_extern(sql = false)]
fn riskft_deploy(model: Option<&str>, version: Option<i32>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_deploy()".as_ptr()) };
    or_raise(
        given("model", model)
            .and_then(|m| deploy(m, given("version", version)?, audit::reason(reason)?)),
    );
}

/// The argument, or its refusal where it is NULL.
pub fn given<T>(name: &str, value: Option<T>) -> Result<T> {
    argument::given(
        name,
        value,
        "The views riskft.versions and riskft.reducers list your models, their versions, and your reducers.",
    )
}

fn deploy(model: &str, version: i32, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    spi::as_owner(|| catalog::require_version(model, version))?;
    if !deployment::switch(model, version, reason)? {
        error::notice!("version {version} of model \"{model}\" is deployed already");
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn riskft_rollback(model: Option<&str>, reason: Option<&str>) -> i32 {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_rollback()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| rollback(m, audit::reason(reason)?)))
}

fn rollback(model: &str, reason: Option<&str>) -> Result<i32> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    deployment::switch_back(model, reason)?.ok_or_else(|| {
        Refusal::new(
            code::NOT_IN_STATE,
            format!("no version of model \"{model}\" was deployed before this one"),
        )
        .detail("There is no deployment that a rollback could return to.")
        .hint(
            "The view riskft.deployments lists what was deployed; riskft_deploy takes any version.",
        )
    })
}

#[pg_extern(sql = false)]
fn riskft_drop(model: Option<&str>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_drop()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| drop_object(m, audit::reason(reason)?)));
}

/// Removes the model with its versions, or the reducer, and the files that nothing else uses. It
/// locks the files before the model, as publishing does.
fn drop_object(name: &str, reason: Option<&str>) -> Result<()> {
    let object = object::either(name)?;
    catalog::require_owner(&object)?;
    let by = Author::current();
    spi::as_owner(|| {
        spi::execute("LOCK TABLE riskft.blob IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let id = object::hold(name, object.kind, Hold::Unchanged)?;
        let detail = json!({ "kind": object.kind.name() });
        let (action, model, version) = (Action::Drop, name, None);
        audit::write(&by, Change { action, model, version, detail, reason })?;
        for table in OF_A_MODEL {
            let sql = format!("DELETE FROM riskft.{table} WHERE model_id = $1");
            spi::execute(&sql, &[Param::Int8(id)])?;
        }
        for digest in unused_files()? {
            for table in ["blob_chunk", "blob"] {
                let sql = format!("DELETE FROM riskft.{table} WHERE digest = $1");
                spi::execute(&sql, &[Param::Text(&digest)])?;
            }
        }
        Ok(())
    })
}

/// Digests of the files that no version and no reducer uses. Asked of what is committed by now, whatever the
/// transaction's snapshot shows: something else may have come to share a file since.
fn unused_files() -> Result<Vec<String>> {
    spi::latest(|| {
        spi::query(
            "SELECT b.digest FROM riskft.blob b WHERE NOT EXISTS (
                 SELECT FROM riskft.version v
                 WHERE b.digest IN (v.version_digest, v.encoder_digest, v.training_digest))
             AND NOT EXISTS (SELECT FROM riskft.reducer r WHERE r.digest = b.digest)",
            &[],
            true,
            |row| row.get::<String>(1).unwrap_or_default(),
        )
    })
}
