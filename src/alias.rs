//! What `model`, `model@3` and `model@alias` mean; riskft_set_alias and riskft_drop_alias.

use pgrx::{pg_extern, pg_sys};
use riskft_core::dataset::names::nearest;
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::approval;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::error::or_raise;
use crate::fallback;
use crate::lifecycle::given;
use crate::object::{self, Hold, Kind};
use crate::spi::{self, Param};

/// The alias of whatever version is deployed: nobody sets it but by deploying.
pub const CHAMPION: &str = "champion";

/// `name`, `name@3` or `name@alias`, as the user writes a model.
pub struct ModelName<'a> {
    pub name: &'a str,
    pub which: Which<'a>,
}

/// Which version of a model is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// None is said: the deployed one, or in an A/B test that of the row's arm.
    Bare,
    /// The champion, whatever test runs.
    Deployed,
    /// Decimal digits.
    Number(&'a str),
    Alias(&'a str),
}

impl<'a> ModelName<'a> {
    pub fn parse(text: &'a str) -> Self {
        match text.rsplit_once('@') {
            None => ModelName { name: text, which: Which::Bare },
            Some((name, suffix)) => ModelName { name, which: Which::parse(suffix) },
        }
    }

    /// The refusal of a version or alias that the model does not have.
    pub fn unknown(&self) -> Result<Refusal> {
        match self.which {
            Which::Bare | Which::Deployed => Ok(not_deployed(self.name)),
            Which::Number(version) => Ok(catalog::unknown_version(self.name, version)),
            Which::Alias(alias) => unknown_alias(self.name, alias),
        }
    }
}

impl<'a> Which<'a> {
    /// What stands behind the `@`.
    pub fn parse(suffix: &'a str) -> Self {
        if suffix == CHAMPION {
            return Which::Deployed;
        }
        match !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()) {
            true => Which::Number(suffix),
            false => Which::Alias(suffix),
        }
    }

    /// The number; 0, which no version has, where it is beyond integer.
    pub fn number(self) -> Option<i32> {
        match self {
            Which::Number(digits) => Some(digits.parse().unwrap_or(0)),
            Which::Bare | Which::Deployed | Which::Alias(_) => None,
        }
    }

    pub fn alias(self) -> Option<&'a str> {
        match self {
            Which::Alias(alias) => Some(alias),
            Which::Bare | Which::Deployed | Which::Number(_) => None,
        }
    }
}

pub fn not_deployed(model: &str) -> Refusal {
    let quoted = catalog::literal(model);
    let refusal =
        Refusal::new(code::NOT_IN_STATE, format!("model \"{model}\" has no deployed version"))
            .detail("Versions are stored, but none is deployed.");
    match crate::approval::is_required() {
        true => refusal.hint(format!(
            "Another role than the trainer's approves one, SELECT riskft_approve({quoted}, 1), and \
             SELECT riskft_deploy({quoted}, 1) deploys it."
        )),
        false => refusal.hint(format!("Deploy one: SELECT riskft_deploy({quoted}, 1).")),
    }
}

/// Told to whoever may use the model.
fn unknown_alias(model: &str, alias: &str) -> Result<Refusal> {
    let mut known = spi::as_owner(|| {
        spi::query(
            "SELECT a.alias FROM riskft.alias a JOIN riskft.model m USING (model_id)
             WHERE m.name = $1",
            &[Param::Text(model)],
            true,
            |row| row.get::<String>(1).unwrap_or_default(),
        )
    })?;
    known.push(CHAMPION.to_owned());
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let near = nearest(alias, &known).unwrap_or(CHAMPION);
    Ok(Refusal::new(
        code::UNDEFINED_OBJECT,
        format!("alias \"{alias}\" of model \"{model}\" does not exist"),
    )
    .detail(format!("Model \"{model}\" has no alias \"{alias}\"."))
    .hint(format!(
        "Perhaps you meant \"{near}\"; the view riskft.aliases lists those of your models."
    )))
}

#[pg_extern(sql = false)]
fn riskft_set_alias(
    model: Option<&str>,
    alias: Option<&str>,
    version: Option<i32>,
    reason: Option<&str>,
) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_set_alias()".as_ptr()) };
    or_raise(given("model", model).and_then(|model| {
        set(model, given("alias", alias)?, given("version", version)?, audit::reason(reason)?)
    }));
}

/// Lets an alias mean a version, for a role that may deploy the model.
pub fn set(model: &str, alias: &str, version: i32, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    check(model, alias, version)?;
    let by = Author::current();
    spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        catalog::require_version(model, version)?;
        let before = meant(id, alias)?;
        if alias == fallback::BACKUP && fallback::is_active(id)? {
            approval::require(model, version)?;
        }
        spi::execute(
            "INSERT INTO riskft.alias (model_id, alias, version, role, reason)
             VALUES ($1, $2, $3, $4::name, $5)
             ON CONFLICT (model_id, alias) DO UPDATE SET version = excluded.version,
                 role = excluded.role, set_at = excluded.set_at, reason = excluded.reason",
            &[
                Param::Int8(id),
                Param::Text(alias),
                Param::Int4(version),
                Param::Text(&by.role),
                Param::OptionalText(reason),
            ],
        )?;
        audit::write(
            &by,
            Change {
                action: Action::SetAlias,
                model,
                version: Some(version),
                detail: json!({ "alias": alias, "before": before }),
                reason,
            },
        )
    })
}

/// Refuses a name that no alias can have.
fn check(model: &str, alias: &str, version: i32) -> Result<()> {
    if alias == CHAMPION {
        return Err(Refusal::new(code::RESERVED_NAME, "alias \"champion\" cannot be set")
            .detail("It means the deployed version, whichever that is.")
            .hint(format!("SELECT riskft_deploy({}, {version}).", catalog::literal(model))));
    }
    let digits = alias.trim_start_matches(['+', '-']);
    if catalog::is_name(alias) && !digits.chars().all(char::is_numeric) {
        return Ok(());
    }
    Err(Refusal::new(code::INVALID_PARAMETER, "invalid alias")
        .detail(format!("The alias is \"{alias}\"."))
        .hint("Use 1 to 63 bytes, not blank, not digits alone, without @ and control characters."))
}

/// The version that an alias means. To be called as the catalogue's owner.
pub fn meant(model: i64, alias: &str) -> Result<Option<i32>> {
    let rows = spi::query(
        "SELECT version FROM riskft.alias WHERE model_id = $1 AND alias = $2",
        &[Param::Int8(model), Param::Text(alias)],
        false,
        |row| row.get::<i32>(1),
    )?;
    Ok(rows.into_iter().next().flatten())
}

#[pg_extern(sql = false)]
fn riskft_drop_alias(model: Option<&str>, alias: Option<&str>, reason: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_drop_alias()".as_ptr()) };
    or_raise(
        given("model", model)
            .and_then(|model| remove(model, given("alias", alias)?, audit::reason(reason)?)),
    );
}

fn remove(model: &str, alias: &str, reason: Option<&str>) -> Result<()> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    if alias == CHAMPION {
        return Err(Refusal::new(code::RESERVED_NAME, "alias \"champion\" cannot be dropped")
            .detail("It means the deployed version, whichever that is.")
            .hint("Deploy another version, or drop the model with riskft_drop."));
    }
    let by = Author::current();
    let version = spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        let version = meant(id, alias)?;
        if alias == fallback::BACKUP {
            fallback::require_inactive(model, id)?;
        }
        if version.is_some() {
            spi::execute(
                "DELETE FROM riskft.alias WHERE model_id = $1 AND alias = $2",
                &[Param::Int8(id), Param::Text(alias)],
            )?;
            let detail = json!({ "alias": alias });
            let action = Action::DropAlias;
            audit::write(&by, Change { action, model, version, detail, reason })?;
        }
        Ok(version)
    })?;
    match version {
        Some(_) => Ok(()),
        None => Err(unknown_alias(model, alias)?),
    }
}
