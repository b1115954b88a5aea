//! risk_reasons: why a row's risk is high, in the words of the compliance team.

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::{FromDatum, IntoDatum};
use riskft_core::cell::Cell;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::explain::Contribution;
use riskft_core::protocol::cut;
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::error::or_raise;
use crate::explain::{direction, Explaining};
use crate::score::{choose, Chosen, Site};
use crate::spi::{self, Param};
use crate::table::Table;

/// Bytes of a value that a generated reason quotes.
const QUOTED: usize = 80;

crate::version_1!(pg_finfo_risk_reasons);

/// What a call site keeps.
#[derive(Default)]
struct Reasons {
    explaining: Explaining,
    texts: Option<Vec<Text>>,
}

/// A row of riskft.reason_code that may count for the model.
struct Text {
    of_model: bool,
    column: String,
    direction: String,
    code: String,
    reason: String,
}

/// A row of risk_reasons.
struct Reason {
    code: Option<String>,
    reason: String,
    column: String,
    effect: f64,
}

/// `risk_reasons(model text, t anyelement, at_most integer) -> SETOF record`
///
/// # Safety
/// Called by the server with the arguments that sql/explain.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn risk_reasons(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: fcinfo is the server's; argument 0 is text, argument 1 of the type that the call
    // site's expression says, argument 2 integer; the rows have the types of the OUT parameters.
    unsafe {
        let mut table = Table::begin(fcinfo);
        let site = or_raise(Site::<Reasons>::of(fcinfo));
        let most = i32::from_datum(pg_getarg_datum_raw(fcinfo, 2), pg_arg_is_null(fcinfo, 2));
        let most = or_raise(at_most(most));
        if !pg_arg_is_null(fcinfo, 1) {
            let chosen = or_raise(choose(site, fcinfo));
            let found = or_raise(reasons(chosen));
            for (found, rank) in found.into_iter().take(most).zip(1i32..) {
                table.push([
                    rank.into_datum(),
                    found.code.into_datum(),
                    found.reason.into_datum(),
                    found.column.into_datum(),
                    found.effect.into_datum(),
                ]);
            }
        }
        Datum::from(0)
    }
}

fn at_most(most: Option<i32>) -> Result<usize> {
    let most = argument::given("at_most", most, "Give the number of reasons wanted, such as 4.")?;
    usize::try_from(most).ok().filter(|most| *most > 0).ok_or_else(|| {
        Refusal::new(code::INVALID_PARAMETER, "invalid number of reasons")
            .detail(format!("Argument \"at_most\" is {most}."))
            .hint("It must be at least 1.")
    })
}

/// What raises the risk by more than the error of its sampling, the largest first.
fn reasons(chosen: Chosen<'_, '_, Reasons>) -> Result<Vec<Reason>> {
    let Chosen { scorer, cells, model: name, own } = chosen;
    let model = scorer.borrow().model_arc();
    if own.texts.is_none() {
        own.texts = Some(spi::as_owner(|| read(name))?);
    }
    let (_, found) = own.explaining.explain(&scorer, &cells)?;
    let texts = own.texts.as_deref().unwrap_or_default();
    let columns = &model.specification().encoding.columns;
    let raising = found.ranked(&model).into_iter().filter(|c| c.contribution > c.error);
    let reason = |at: Contribution| {
        let (column, cell) = (&columns[at.column], cells[at.column]);
        let direction = direction(column.role, cell, &at);
        let text = find(texts, &column.name, direction);
        Reason {
            code: text.map(|text| text.code.clone()),
            reason: text
                .map_or_else(|| generated(&column.name, direction, cell), |t| t.reason.clone()),
            column: column.name.clone(),
            effect: at.contribution,
        }
    };
    Ok(raising.map(reason).collect())
}

/// The text for a column: the model's own before that of any model, and within these the direction's
/// before that of any direction.
fn find<'a>(texts: &'a [Text], column: &str, direction: &str) -> Option<&'a Text> {
    let fits = |text: &&Text| {
        text.column == column && (text.direction == direction || text.direction == "any")
    };
    texts.iter().filter(fits).max_by_key(|text| (text.of_model, text.direction == direction))
}

/// A reason for a column without a text.
fn generated(column: &str, direction: &str, cell: Cell<'_>) -> String {
    let name = column.replace('_', " ");
    match direction {
        "high" | "low" => format!("{name} is {direction}"),
        "missing" => format!("{name} is not known"),
        _ => {
            let mut scratch = Scratch::default();
            let value = label(cell, &mut scratch).unwrap_or_default();
            match cut(value, QUOTED) {
                short if short.len() < value.len() => format!("{name} is {short}..."),
                whole => format!("{name} is {whole}"),
            }
        }
    }
}

fn read(model: &str) -> Result<Vec<Text>> {
    spi::query(
        "SELECT model IS NOT NULL, column_name, direction, code, reason FROM riskft.reason_code
         WHERE model IS NULL OR model = $1",
        &[Param::Text(model)],
        true,
        |row| Text {
            of_model: row.get(1).unwrap_or_default(),
            column: row.get(2).unwrap_or_default(),
            direction: row.get(3).unwrap_or_default(),
            code: row.get(4).unwrap_or_default(),
            reason: row.get(5).unwrap_or_default(),
        },
    )
}
