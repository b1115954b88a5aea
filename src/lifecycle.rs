//! riskft_deploy, riskft_rollback and riskft_drop.

use pgrx::{pg_extern, pg_sys};
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::catalog::{self, Privilege};
use crate::error::or_raise;
use crate::object::{self, Hold, Kind};
use crate::publish;
use crate::spi::{self, Param};

/// Tables whose rows belong to a model or a reducer. It goes first itself: that waits for whoever
/// holds it to add a row to the others.
const OF_A_MODEL: [&str; 13] = [
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
    "deployment",
    "privilege",
];

#[pg_extern(sql = false)]
fn riskft_deploy(model: Option<&str>, version: Option<i32>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_deploy()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| deploy(m, given("version", version)?)));
}

/// The argument, or its refusal where it is NULL.
pub fn given<T>(name: &str, value: Option<T>) -> Result<T> {
    argument::given(
        name,
        value,
        "The views riskft.versions and riskft.reducers list your models, their versions, and your reducers.",
    )
}

fn deploy(model: &str, version: i32) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let found = spi::as_owner(|| {
        spi::query(
            "SELECT 1 FROM riskft.version v JOIN riskft.model m USING (model_id)
             WHERE m.name = $1 AND v.version = $2",
            &[Param::Text(model), Param::Int4(version)],
            false,
            |_| (),
        )
    })?;
    if found.is_empty() {
        return Err(Refusal::new(
            code::UNDEFINED_OBJECT,
            format!("version {version} of model \"{model}\" does not exist"),
        )
        .detail(format!("The version asked for is {version}."))
        .hint("The view riskft.versions lists the versions of your models."));
    }
    publish::switch(model, version)
}

#[pg_extern(sql = false)]
fn riskft_rollback(model: Option<&str>) -> i32 {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_rollback()".as_ptr()) };
    or_raise(given("model", model).and_then(rollback))
}

fn rollback(model: &str) -> Result<i32> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    publish::switch_back(model)?.ok_or_else(|| {
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
fn riskft_drop(model: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_drop()".as_ptr()) };
    or_raise(given("model", model).and_then(drop_object));
}

/// Removes the model with its versions, or the reducer, and the files that nothing else uses. It
/// locks the files before the model, as publishing does.
fn drop_object(name: &str) -> Result<()> {
    let object = object::either(name)?;
    catalog::require_owner(&object)?;
    spi::as_owner(|| {
        spi::execute("LOCK TABLE riskft.blob IN SHARE ROW EXCLUSIVE MODE", &[])?;
        let id = object::hold(name, object.kind, Hold::Unchanged)?;
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
