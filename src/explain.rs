//! risk_explain: what each column of a row adds to its score. riskft_importance and riskft_effect:
//! what columns move in all, as computed when the version was trained.

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::{name, pg_extern, FromDatum, IntoDatum};
use riskft_core::cell::Cell;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::explain::{Contribution, Explainer, Explanation};
use riskft_core::options::Role;
use riskft_core::protocol::{EffectReport, ImportanceReport};
use riskft_core::refusal::{code, Refusal, Result};

use crate::alias::ModelName;
use crate::argument;
use crate::catalog;
use crate::error::or_raise;
use crate::figures;
use crate::model_cache::SharedScorer;
use crate::score::{choose, finite, Chosen, Site};
use crate::spi;
use crate::table::Table;

crate::version_1!(pg_finfo_risk_explain);

/// The explainer of a call site, made at its first row.
#[derive(Default)]
pub struct Explaining(Option<Explainer>);

impl Explaining {
    /// Takes the score of a row apart. Cancels are heard between batches of its coalitions.
    pub fn explain(
        &mut self,
        shared: &SharedScorer,
        cells: &[Cell<'_>],
    ) -> Result<(&mut Explainer, Explanation)> {
        let mut scorer = shared.borrow_mut();
        let explainer = match &mut self.0 {
            Some(explainer) => explainer,
            none => none.insert(Explainer::new(&mut scorer)?),
        };
        let found = explainer.explain(&mut scorer, cells, &mut listen);
        finite(found.base)?;
        finite(found.log_odds)?;
        finite(found.total())?;
        Ok((explainer, found))
    }
}

fn listen() {
    pgrx::check_for_interrupts!();
}

/// `risk_explain(model text, t anyelement, tokens boolean) -> SETOF record`
///
/// # Safety
/// Called by the server with the arguments that sql/explain.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_explain(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says, argument 2 boolean; the rows have the types of the OUT parameters.
    unsafe {
        let mut table = Table::begin(fcinfo);
        let site = or_raise(Site::<Explaining>::of(fcinfo));
        let tokens = bool::from_datum(pg_getarg_datum_raw(fcinfo, 2), pg_arg_is_null(fcinfo, 2));
        let tokens =
            or_raise(argument::given("tokens", tokens, "True splits texts into their words."));
        if !pg_arg_is_null(fcinfo, 1) {
            let Chosen { scorer, cells, own, .. } = or_raise(choose(site, fcinfo));
            let lines = or_raise(lines(own, &scorer, &cells, tokens));
            for (line, rank) in lines.into_iter().zip(1i32..) {
                table.push([
                    rank.into_datum(),
                    line.column.into_datum(),
                    line.value.into_datum(),
                    line.contribution.into_datum(),
                    line.share.into_datum(),
                    line.error.into_datum(),
                    line.base.into_datum(),
                ]);
            }
        }
        Datum::from(0)
    }
}

/// A row of risk_explain.
struct Line {
    column: String,
    value: Option<String>,
    contribution: f64,
    share: f64,
    error: f64,
    base: f64,
}

fn lines(
    explaining: &mut Explaining,
    shared: &SharedScorer,
    cells: &[Cell<'_>],
    tokens: bool,
) -> Result<Vec<Line>> {
    let (explainer, found) = explaining.explain(shared, cells)?;
    let mut scorer = shared.borrow_mut();
    let model = scorer.model_arc();
    let mut scratch = Scratch::default();
    let mut lines = Vec::new();
    for column in found.ranked(&model) {
        let line = |value: Option<String>, contribution: f64, error: f64| Line {
            column: model.specification().encoding.columns[column.column].name.clone(),
            value,
            contribution,
            share: 0.0,
            error,
            base: found.base,
        };
        let words = match tokens {
            true => explainer.words(&mut scorer, cells, column.column, &mut listen),
            false => Vec::new(),
        };
        if words.is_empty() {
            let value = cells.get(column.column).and_then(|cell| label(*cell, &mut scratch));
            let value = value.map(str::to_owned);
            lines.push(line(value, column.contribution, column.error));
            continue;
        }
        let of_words: f64 = words.iter().map(|word| word.contribution).sum();
        lines.extend(words.into_iter().map(|w| line(Some(w.text), w.contribution, w.error)));
        // What the column adds beside its words, less what usual texts add.
        lines.push(line(None, column.contribution - of_words, column.error));
    }
    let total: f64 = lines.iter().map(|line| line.contribution.abs()).sum();
    finite(total)?;
    if total > 0.0 {
        lines.iter_mut().for_each(|line| line.share = line.contribution.abs() / total);
    }
    // Stable: equal ones keep the order of columns, and of words.
    lines.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(lines)
}

/// Which side of usual a column's value is on, as riskft.reason_code tells it.
pub fn direction(role: Role, cell: Cell<'_>, at: &Contribution) -> &'static str {
    if label(cell, &mut Scratch::default()).is_none() {
        return "missing";
    }
    match role {
        Role::Number | Role::Date if at.above > 0.0 => "high",
        Role::Number | Role::Date if at.above < 0.0 => "low",
        _ => "value",
    }
}

/// Name and number of the version that the current role may score and names so.
fn version_of(model: Option<&str>) -> Result<(String, i32)> {
    let text = argument::given("model", model, "The view riskft.models lists your models.")?;
    let wanted = ModelName::parse(text);
    let files = catalog::scorable(&wanted)?;
    Ok((wanted.name.to_owned(), files.version))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_importance(
    model: Option<&str>,
) -> TableIterator<
    'static,
    (name!(rank, i32), name!(column_name, String), name!(mean_abs_shap, f64), name!(share, f64)),
> {
    let found = or_raise(
        version_of(model)
            .and_then(|(name, version)| spi::as_owner(|| figures::importances(&name, version))),
    );
    let row = |(importance, rank): (ImportanceReport, i32)| {
        (rank, importance.column_name, importance.mean_abs_shap, importance.share)
    };
    TableIterator::new(found.into_iter().zip(1..).map(row))
}

#[pg_extern(sql = false)]
fn riskft_effect(
    model: Option<&str>,
    column_name: Option<&str>,
) -> TableIterator<'static, (name!(value, Option<String>), name!(mean_score, f64), name!(n, i64))> {
    let found = or_raise(effects_of(model, column_name));
    let row = |e: EffectReport| (e.value, e.mean_score, i64::try_from(e.rows).unwrap_or(i64::MAX));
    TableIterator::new(found.into_iter().map(row))
}

fn effects_of(model: Option<&str>, column_name: Option<&str>) -> Result<Vec<EffectReport>> {
    const HINT: &str = "The view riskft.importances lists the columns of a model.";
    let (name, version) = version_of(model)?;
    let column = argument::given("column_name", column_name, HINT)?;
    let (mut found, columns) = spi::as_owner(|| {
        Ok((figures::effects(&name, version)?, figures::features(&name, version)?))
    })?;
    found.retain(|effect| effect.column_name == column);
    if found.is_empty() && !columns.iter().any(|feature| feature.column_name == column) {
        return Err(Refusal::new(
            code::UNDEFINED_COLUMN,
            format!("column \"{column}\" does not exist in the model"),
        )
        .detail(format!("Version {version} of model \"{name}\" has seen no such column."))
        .hint(HINT));
    }
    Ok(found)
}
