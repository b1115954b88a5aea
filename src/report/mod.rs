//! riskft_report and riskft_plot: what the catalogue keeps of a version, as a page and as pictures.
//!
//! Rows come through the views, with the current role's rights: a page never tells more than they
//! do.

mod series;
mod tables;

use pgrx::pg_extern;
use riskft_core::protocol::Figures;
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::report::{page, picture, Beside, Kind, Report, Table};

use crate::alias::ModelName;
use crate::argument::given;
use crate::catalog;
use crate::error::or_raise;
use crate::figures;
use crate::spi::{self, Param};
use tables::*;

const CALL: &str = "SELECT riskft_report('model'), riskft_plot('model', 'roc').";

#[pg_extern(sql = false)]
fn riskft_report(model: Option<&str>) -> String {
    or_raise(given("model", model, CALL).and_then(report))
}

#[pg_extern(sql = false)]
fn riskft_plot(model: Option<&str>, kind: Option<&str>) -> String {
    or_raise(given("model", model, CALL).and_then(|m| plot(m, given("kind", kind, CALL)?)))
}

/// A version that the current role may read the figures of.
struct Version<'a> {
    model: &'a str,
    version: i32,
}

fn plot(model: &str, kind: &str) -> Result<String> {
    let kind = Kind::of(kind).ok_or_else(|| unknown_kind(kind))?;
    let of = Version::find(model)?;
    let beside = match kind {
        Kind::Drift => Beside { drift: of.drift()?, ..Beside::default() },
        Kind::Ab => Beside { arms: of.arms()?, ..Beside::default() },
        Kind::Cost => Beside { costs: of.costs()?, ..Beside::default() },
        _ => Beside::default(),
    };
    picture(kind, &of.figures()?, &beside).map_err(|why| {
        Refusal::new(
            code::NOT_IN_STATE,
            format!("version {} of model \"{}\" has no such picture", of.version, of.model),
        )
        .detail(why)
        .hint("SELECT riskft_report('model') shows the pictures that there are.")
    })
}

fn unknown_kind(kind: &str) -> Refusal {
    let known = Kind::ALL.map(Kind::name).join(", ");
    Refusal::new(code::INVALID_PARAMETER, "unknown kind of picture")
        .detail(format!("There is no picture \"{kind}\"."))
        .hint(format!("Use one of: {known}."))
}

fn report(model: &str) -> Result<String> {
    let of = Version::find(model)?;
    let table = |shown: &Shown| of.table(shown);
    Ok(page(&Report {
        model: of.model.to_owned(),
        version: of.version,
        made_at: of.made_at()?,
        version_facts: table(&VERSION)?,
        run_facts: table(&RUN)?,
        cost: table(&COST)?,
        phases: table(&PHASES)?,
        figures: of.figures()?,
        gate: table(&GATE)?,
        beside: Beside { drift: of.drift()?, arms: of.arms()?, costs: of.costs()? },
        outcomes: table(&OUTCOMES)?,
        versions: table(&VERSIONS)?,
        deployments: table(&DEPLOYMENTS)?,
        aliases: table(&ALIASES)?,
        ab_tests: table(&AB_TESTS)?,
        ab_results: table(&AB_RESULTS)?,
        cost_comparison: table(&COST_COMPARISON)?,
        privileges: table(&PRIVILEGES)?,
        audit: table(&AUDIT)?,
    }))
}

impl<'a> Version<'a> {
    fn find(text: &'a str) -> Result<Self> {
        let wanted = ModelName::parse(text);
        let version = catalog::readable(&wanted)?;
        Ok(Version { model: wanted.name, version })
    }

    fn figures(&self) -> Result<Figures> {
        spi::as_owner(|| figures::read(self.model, self.version))
    }

    /// The transaction's time, so that one transaction makes one page.
    fn made_at(&self) -> Result<String> {
        let sql = format!("SELECT {}", time("now()"));
        let rows = spi::as_caller(|| {
            spi::query(&sql, &[], true, |row| row.get::<String>(1).unwrap_or_default())
        })?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    fn table(&self, shown: &Shown) -> Result<Table> {
        let columns: Vec<String> = shown.columns.iter().map(|(_, sql)| sql.text()).collect();
        let sql = format!("SELECT ARRAY[{}]::text[] FROM {}", columns.join(", "), shown.from);
        let rows = spi::as_caller(|| {
            spi::query(&sql, &[Param::Text(self.model), Param::Int4(self.version)], true, |row| {
                row.get::<Vec<Option<String>>>(1).unwrap_or_default()
            })
        })?;
        Ok(Table {
            heads: shown.columns.iter().map(|(head, _)| (*head).to_owned()).collect(),
            rows,
        })
    }
}
