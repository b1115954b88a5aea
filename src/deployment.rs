//! What a model's bare name means: switched, and switched back, with who did it and why.

use riskft_core::refusal::Result;
use serde_json::json;

use crate::ab;
use crate::approval;
use crate::audit::{self, Action, Author, Change};
use crate::error;
use crate::object::{self, Hold, Kind};
use crate::spi::{self, Param};

/// Lets the bare model name mean this version, and writes it down: who deployed it and why, and
/// what it took the place of. False where it means it already.
pub fn switch(model: &str, version: i32, reason: Option<&str>) -> Result<bool> {
    let by = Author::current();
    spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        let before = deployed(id)?;
        if before == Some(version) {
            return Ok(false);
        }
        approval::require(model, version)?;
        spi::execute(
            "INSERT INTO riskft.deployment (model_id, version, action, role, reason, before)
             VALUES ($1, $2, 'deploy', $3::name, $4,
                 (SELECT max(d.deployment_id) FROM riskft.deployment d WHERE d.model_id = $1))",
            &[
                Param::Int8(id),
                Param::Int4(version),
                Param::Text(&by.role),
                Param::OptionalText(reason),
            ],
        )?;
        set_deployed(id, version)?;
        write(&by, Action::Deploy, model, version, before, reason)?;
        end_test(&by, model, id, version, reason)?;
        Ok(true)
    })
}

/// Lets the bare model name mean the version that it meant before the present one was deployed;
/// None where there is none. A rollback undoes a deployment: the next one goes a step further.
pub fn switch_back(model: &str, reason: Option<&str>) -> Result<Option<i32>> {
    let by = Author::current();
    spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        let before = deployed(id)?;
        let back = spi::query(
            "INSERT INTO riskft.deployment (model_id, version, action, role, reason, before)
             SELECT b.model_id, b.version, 'rollback', $2::name, $3, b.before
             FROM riskft.deployment d JOIN riskft.deployment b ON b.deployment_id = d.before
             WHERE d.deployment_id =
                 (SELECT max(l.deployment_id) FROM riskft.deployment l WHERE l.model_id = $1)
             RETURNING version",
            &[Param::Int8(id), Param::Text(&by.role), Param::OptionalText(reason)],
            false,
            |row| row.get::<i32>(1),
        )?;
        let version = back.into_iter().next().flatten();
        if let Some(version) = version {
            approval::require(model, version)?;
            set_deployed(id, version)?;
            write(&by, Action::Rollback, model, version, before, reason)?;
            end_test(&by, model, id, version, reason)?;
        }
        Ok(version)
    })
}

/// The version that the bare name of a model means. To be called as the catalogue's owner.
pub fn deployed(model: i64) -> Result<Option<i32>> {
    let rows = spi::query(
        "SELECT deployed_version FROM riskft.model WHERE model_id = $1",
        &[Param::Int8(model)],
        false,
        |row| row.get::<i32>(1),
    )?;
    Ok(rows.into_iter().next().flatten())
}

fn set_deployed(model: i64, version: i32) -> Result<()> {
    spi::execute(
        "UPDATE riskft.model SET deployed_version = $2 WHERE model_id = $1",
        &[Param::Int8(model), Param::Int4(version)],
    )
}

fn write(
    by: &Author,
    action: Action,
    model: &str,
    version: i32,
    before: Option<i32>,
    reason: Option<&str>,
) -> Result<()> {
    let detail = json!({ "before": before });
    audit::write(by, Change { action, model, version: Some(version), detail, reason })
}

/// A test of what was deployed before is over: its champion does not score any more. It never keeps anybody
/// from deploying, least of all from rolling back.
fn end_test(by: &Author, model: &str, id: i64, version: i32, reason: Option<&str>) -> Result<()> {
    let why = match reason {
        Some(reason) => format!("version {version} was deployed: {reason}"),
        None => format!("version {version} was deployed"),
    };
    if let Some(test) = ab::end(by, model, id, Some(&why))? {
        error::notice!(
            "A/B test {test} of model \"{model}\" is stopped: version {version} is deployed"
        );
    }
    Ok(())
}
