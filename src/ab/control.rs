//! riskft_ab_start and riskft_ab_stop. What a test gives to the challenger changes what the bare name
//! means, so the rights are those of a deployment, and a deployment ends a test.

use pgrx::{pg_extern, pg_sys};
use riskft_core::dataset::names::{listed, nearest};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use super::test::{self, mode, Test, MODES};
use crate::alias::{self, ModelName, Which};
use crate::approval;
use crate::argument;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::compare::different_labels;
use crate::deployment;
use crate::error::{self, or_raise};
use crate::model_cache;
use crate::object::{self, Hold, Kind};
use crate::settings;
use crate::spi::{self, Param};

#[pg_extern(sql = false)]
fn riskft_ab_start(
    model: Option<&str>,
    challenger: Option<&str>,
    share: Option<f64>,
    key: Option<&str>,
    mode: Option<&str>,
    reason: Option<&str>,
) -> i32 {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_ab_start()".as_ptr()) };
    or_raise(given("model", model).and_then(|model| {
        let wanted = Wanted {
            challenger: given("challenger", challenger)?,
            share: share_of(given("share", share)?)?,
            key: key_of(given("key", key)?)?,
            routes: routes(given("mode", mode)?)?,
            reason: audit::reason(reason)?,
        };
        wanted.start(model)
    }))
}

fn given<T>(name: &str, value: Option<T>) -> Result<T> {
    const CALL: &str =
        "SELECT riskft_ab_start('model', 'challenger', share => 0.1, key => 'loan_id').";
    argument::given(name, value, CALL)
}

fn share_of(share: f64) -> Result<f64> {
    // NaN is in no range.
    if (0.0..=1.0).contains(&share) {
        return Ok(share + 0.0);
    }
    Err(Refusal::new(code::INVALID_PARAMETER, "invalid share")
        .detail(format!("Argument \"share\" is {share}."))
        .hint("Give the challenger's share of the keys, from 0 to 1."))
}

fn key_of(key: &str) -> Result<&str> {
    if !key.trim().is_empty() && key.len() < pg_sys::NAMEDATALEN as usize {
        return Ok(key);
    }
    Err(Refusal::new(code::INVALID_PARAMETER, "invalid key")
        .detail(format!("Argument \"key\" is \"{key}\", which no column is named."))
        .hint("Name the column that tells one case from another, such as 'loan_id'."))
}

fn routes(mode: &str) -> Result<bool> {
    match MODES.iter().position(|known| *known == mode) {
        Some(place) => Ok(place == 0),
        None => Err(Refusal::new(code::INVALID_PARAMETER, "unknown mode")
            .detail(format!("Argument \"mode\" is \"{mode}\"."))
            .hint("Use 'route', or 'shadow' to score all rows by the champion.")),
    }
}

/// A test as it is asked for.
struct Wanted<'a> {
    challenger: &'a str,
    share: f64,
    key: &'a str,
    routes: bool,
    reason: Option<&'a str>,
}

impl Wanted<'_> {
    fn start(&self, model: &str) -> Result<i32> {
        catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
        // An alias is pinned to the version that it means now.
        let which = Which::parse(self.challenger);
        let challenger = catalog::readable(&ModelName { name: model, which })?;
        let by = Author::current();
        let (number, told) = spi::as_owner(|| {
            let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
            catalog::require_version(model, challenger)?;
            let champion = deployment::deployed(id)?.ok_or_else(|| alias::not_deployed(model))?;
            if champion == challenger {
                return Err(is_champion(challenger));
            }
            approval::require(model, challenger)?;
            match test::running(id)? {
                Some(test) => self.change(&by, model, id, &test, challenger),
                None => self.begin(&by, model, id, champion, challenger),
            }
        })?;
        told.into_iter().for_each(error::note);
        Ok(number)
    }

    /// Gives another share of the keys to the challenger of a test that runs.
    fn change(
        &self,
        by: &Author,
        model: &str,
        id: i64,
        test: &Test,
        challenger: i32,
    ) -> Result<(i32, Vec<String>)> {
        let same = (challenger, self.key, self.routes);
        if same != (test.challenger, test.key_column.as_str(), test.routes) {
            return Err(another_runs(model, test));
        }
        if self.share == test.share {
            let told = format!("test {} of model \"{model}\" has this share already", test.number);
            return Ok((test.number, vec![told]));
        }
        spi::execute(
            "UPDATE riskft.ab_test SET share = $3 WHERE model_id = $1 AND test = $2",
            &[Param::Int8(id), Param::Int4(test.number), Param::Float8(self.share)],
        )?;
        let detail = json!({ "test": test.number, "share": self.share, "before": test.share });
        let (action, version, reason) = (Action::AbShare, Some(challenger), self.reason);
        audit::write(by, Change { action, model, version, detail, reason })?;
        Ok((test.number, Vec::new()))
    }

    fn begin(
        &self,
        by: &Author,
        model: &str,
        id: i64,
        champion: i32,
        challenger: i32,
    ) -> Result<(i32, Vec<String>)> {
        // The model may have been waited for: what is deployed by now need not be in the snapshot.
        let told = spi::latest(|| self.check(model, id, champion, challenger))?;
        let number = spi::query(
            "INSERT INTO riskft.ab_test (model_id, test, champion, challenger, key_column, mode, share,
                 started_by, start_reason)
             SELECT $1, coalesce(max(t.test), 0) + 1, $2, $3, $4, $5, $6, $7::name, $8
             FROM riskft.ab_test t WHERE t.model_id = $1
             RETURNING test",
            &[
                Param::Int8(id),
                Param::Int4(champion),
                Param::Int4(challenger),
                Param::Text(self.key),
                Param::Text(mode(self.routes)),
                Param::Float8(self.share),
                Param::Text(&by.role),
                Param::OptionalText(self.reason),
            ],
            false,
            |row| row.get::<i32>(1).unwrap_or_default(),
        )?;
        let number = number.into_iter().next().unwrap_or_default();
        set_running(id, Some(number))?;
        let detail = json!({
            "test": number, "champion": champion, "share": self.share, "key": self.key,
            "mode": mode(self.routes),
        });
        let (action, version, reason) = (Action::AbStart, Some(challenger), self.reason);
        audit::write(by, Change { action, model, version, detail, reason })?;
        Ok((number, told))
    }

    /// Refuses versions that cannot stand beside each other; NOTICEs of what rows will need.
    fn check(&self, model: &str, id: i64, champion: i32, challenger: i32) -> Result<Vec<String>> {
        let open = |version: i32| {
            let number = version.to_string();
            let wanted = ModelName { name: model, which: Which::Number(&number) };
            let files = catalog::scorable(&wanted)?;
            let scorer = model_cache::scorer(&files, settings::kernel()?)?;
            let model = scorer.borrow().model_arc();
            Result::Ok(model)
        };
        let (ours, theirs) = (open(champion)?, open(challenger)?);
        let (ours, theirs) = (ours.specification(), theirs.specification());
        if ours.positive_label != theirs.positive_label {
            return Err(different_labels(
                (champion, &ours.positive_label),
                (challenger, &theirs.positive_label),
            ));
        }
        let read = |of: &riskft_core::model::Specification| -> Vec<String> {
            of.encoding.columns.iter().map(|column| column.name.clone()).collect()
        };
        let (ours, mut more) = (read(ours), read(theirs));
        more.retain(|name| !ours.contains(name));
        let mut told = Vec::new();
        if !more.is_empty() {
            told.push(format!(
                "version {challenger} reads columns that version {champion} does not, so rows need them: {}",
                listed(&more)
            ));
        }
        told.extend(self.tell_of_key(id, challenger)?);
        Ok(told)
    }

    /// A key that is misspelt leaves every row to the champion, without an error.
    fn tell_of_key(&self, id: i64, challenger: i32) -> Result<Option<String>> {
        let known = spi::query(
            "SELECT column_name FROM riskft.feature WHERE model_id = $1 AND version = $2",
            &[Param::Int8(id), Param::Int4(challenger)],
            false,
            |row| row.get::<String>(1).unwrap_or_default(),
        )?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        if known.is_empty() || known.contains(&self.key) {
            return Ok(None);
        }
        let near = match nearest(self.key, &known) {
            Some(near) => format!(" (is it \"{near}\"?)"),
            None => String::new(),
        };
        Ok(Some(format!(
            "the relation of version {challenger} had no column \"{}\"{near}; rows without it are the champion's",
            self.key
        )))
    }
}

fn is_champion(version: i32) -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "the challenger is the champion")
        .detail(format!("Version {version} is deployed."))
        .hint("Name another version, by its number or an alias.")
}

fn another_runs(model: &str, test: &Test) -> Refusal {
    Refusal::new(code::NOT_IN_STATE, format!("another A/B test of model \"{model}\" is running"))
        .detail(format!(
            "Test {} has challenger {}, key \"{}\" and mode \"{}\".",
            test.number,
            test.challenger,
            test.key_column,
            mode(test.routes)
        ))
        .hint(format!(
            "Give these to change its share, or stop it: SELECT riskft_ab_stop({}, 'reason').",
            catalog::literal(model)
        ))
}

fn set_running(model: i64, test: Option<i32>) -> Result<()> {
    spi::execute(
        "UPDATE riskft.model SET running_test = $2 WHERE model_id = $1",
        &[Param::Int8(model), Param::OptionalInt4(test)],
    )
}

#[pg_extern(sql = false)]
fn riskft_ab_stop(model: Option<&str>, reason: Option<&str>) -> i32 {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_ab_stop()".as_ptr()) };
    or_raise(given("model", model).and_then(|model| stop(model, audit::reason(reason)?)))
}

fn stop(model: &str, reason: Option<&str>) -> Result<i32> {
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Deploy)?;
    let by = Author::current();
    let stopped = spi::as_owner(|| {
        let id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        end(&by, model, id, reason)
    })?;
    stopped.ok_or_else(|| test::not_running(model))
}

/// Ends the running test of a model that is held, where there is one; returns its number. To be called as
/// the catalogue's owner.
pub fn end(by: &Author, model: &str, id: i64, reason: Option<&str>) -> Result<Option<i32>> {
    let Some(test) = test::running(id)? else { return Ok(None) };
    spi::execute(
        "UPDATE riskft.ab_test SET stopped_at = clock_timestamp(), stopped_by = $3::name, stop_reason = $4
         WHERE model_id = $1 AND test = $2",
        &[
            Param::Int8(id),
            Param::Int4(test.number),
            Param::Text(&by.role),
            Param::OptionalText(reason),
        ],
    )?;
    set_running(id, None)?;
    let detail = json!({ "test": test.number });
    let (action, version) = (Action::AbStop, Some(test.challenger));
    audit::write(by, Change { action, model, version, detail, reason })?;
    Ok(Some(test.number))
}
