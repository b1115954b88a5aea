//! riskft_reduce: the CALL. The rows are read and the reducer is stored in the caller's transaction.

use std::sync::Arc;

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::protocol::{BlobHeader, BlobKind, Ledger, ReductionHeader, PROTOCOL};
use riskft_core::reduce::{self, Options, Reducer, Wanted};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::argument;
use crate::audit::{self, Action, Author, Change};
use crate::catalog;
use crate::error::or_raise;
use crate::feed;
use crate::json;
use crate::listener::Answer;
use crate::object::{self, Kind};
use crate::publish::{self, Blob};
use crate::relation::{Relation, Scan};
use crate::request::names;
use crate::run::{self, Entry};
use crate::spi::{self, Param};
use crate::train::require_own_will;
use crate::work::{self, Work};

crate::version_1!(pg_finfo_riskft_reduce);

/// `CALL riskft_reduce(...)`: see sql/reduce.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/reduce.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_reduce(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let request = or_raise(unsafe { Request::read(fcinfo) });
    or_raise(Work::require_none().and_then(|()| require_own_will()));
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_reduce()".as_ptr()) };
    let stored = or_raise(request.reduce());
    let values = [stored.kept.into_datum(), stored.share.into_datum(), stored.run.into_datum()];
    // SAFETY: sql/reduce.sql declares these three INOUT parameters.
    unsafe { argument::record(fcinfo, values) }
}

/// What is to be reduced.
struct Request {
    name: String,
    /// As the caller wrote it.
    relation: String,
    wanted: Wanted,
    exclude: Vec<String>,
    options: Options,
}

/// What was stored.
struct Stored {
    kept: i32,
    /// Of the variance.
    share: f64,
    run: i64,
}

impl Request {
    /// # Safety
    /// `fcinfo` is a call of riskft_reduce.
    unsafe fn read(fcinfo: FunctionCallInfo) -> Result<Self> {
        const CALL: &str =
            "CALL riskft_reduce(name => '...', relation => '...', components => 50).";
        // SAFETY: each argument is read as its declared type.
        unsafe {
            let name: String = argument::given("name", pg_getarg(fcinfo, 0), CALL)?;
            catalog::check_name(Kind::Reducer, &name)?;
            let components = argument::given("components", pg_getarg(fcinfo, 2), CALL)?;
            let options = json::value(fcinfo, 4, "options")?.unwrap_or_default();
            Ok(Request {
                name,
                relation: argument::given("relation", pg_getarg(fcinfo, 1), CALL)?,
                wanted: Wanted::of("Argument \"components\"", components)?,
                exclude: names(fcinfo, 3),
                options: Options::parse(&options)?,
            })
        }
    }

    /// All steps in the caller's transaction.
    fn reduce(&self) -> Result<Stored> {
        if let Some(taken) = object::find(&self.name)? {
            return Err(name_is_taken(taken.kind, &self.name));
        }
        let (run, status, alive) = work::within_statement(&self.name)?;
        let what = format!("reduction \"{}\"", self.name);
        let mut work = Work::new(what, run, status, alive)?;
        let outcome = self.start(&mut work).and_then(|()| self.finish(&mut work));
        work.end(outcome.as_ref().err());
        outcome
    }

    /// Reads the relation and feeds the trainer. The relation's locks come before the trainer's
    /// place, as for trainings.
    fn start(&self, work: &mut Work) -> Result<()> {
        let scan = Scan::open(&Relation::resolve(&self.relation)?)?;
        let plan = reduce::plan(&scan.columns, &scan.unread, &self.exclude)?;
        plan.notices.into_iter().for_each(|notice| work.listener.notice(notice));
        work.take_place();
        let header = ReductionHeader {
            protocol: PROTOCOL,
            reducer: self.name.clone(),
            relation: self.relation.clone(),
            wanted: self.wanted,
            options: self.options.clone(),
            columns: plan.columns.iter().map(|index| scan.columns[*index].clone()).collect(),
        };
        work.start(&self.relation, |process, listener, holds| {
            feed::reduction(&header, &plan.columns, scan, process, listener, holds)
        })
    }

    /// Waits for the trainer, verifies what it returns and stores it.
    fn finish(&self, work: &mut Work) -> Result<Stored> {
        let Answer::Reducer(result) = work.answer()? else {
            return Err(publish::no_file(BlobKind::Reducer));
        };
        let blobs = work.take_files(&result.blobs)?;
        let reducer = verify(&blobs)?;
        work.publishing();
        self.publish(work, &result.ledger, &blobs, &reducer)
    }

    fn publish(
        &self,
        work: &mut Work,
        ledger: &Ledger,
        blobs: &[Blob],
        reducer: &Reducer,
    ) -> Result<Stored> {
        let entry = Entry {
            kind: "reduce",
            name: Some(&self.name),
            relation: &self.relation,
            target: None,
            method: None,
            base: None,
            options: spi::json(&self.options)?,
        };
        run::begin(&work.run, &entry)?;
        let by = Author::current();
        spi::as_owner(|| {
            // The files before the name, as publishing a version and riskft_drop lock them.
            spi::execute("LOCK TABLE riskft.blob IN SHARE ROW EXCLUSIVE MODE", &[])?;
            let id = self.take_name(&by.role)?;
            for (header, bytes) in blobs {
                publish::store_blob(header, bytes)?;
                self.store(id, work.run.id, header, reducer)?;
            }
            let detail = json!({ "run": work.run.id });
            let (action, model, version) = (Action::Reduce, self.name.as_str(), None);
            audit::write(&by, Change { action, model, version, detail, reason: None })
        })?;
        run::complete(&work.run, ledger, &work.listener.notices())?;
        let share = reducer.components().last().map_or(0.0, |last| last.cumulative);
        Ok(Stored { kept: reducer.count() as i32, share, run: work.run.id })
    }

    /// Takes the name, which may have been given away since; its number.
    fn take_name(&self, role: &str) -> Result<i64> {
        let made = spi::query(
            "INSERT INTO riskft.model (name, owner, kind) VALUES ($1, $2::name, 'reducer')
             ON CONFLICT (name) DO NOTHING RETURNING model_id",
            &[Param::Text(&self.name), Param::Text(role)],
            false,
            |row| row.get::<i64>(1),
        )?;
        if let Some(id) = made.into_iter().flatten().next() {
            return Ok(id);
        }
        let kind = spi::latest(|| object::find(&self.name))?.map_or(Kind::Reducer, |o| o.kind);
        Err(name_is_taken(kind, &self.name))
    }

    fn store(&self, id: i64, run: i64, file: &BlobHeader, reducer: &Reducer) -> Result<()> {
        spi::execute(
            "INSERT INTO riskft.reducer (model_id, run_id, relation, rows, columns, digest)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[
                Param::Int8(id),
                Param::Int8(run),
                Param::Text(&self.relation),
                Param::Int8(i64::try_from(reducer.rows()).unwrap_or(i64::MAX)),
                Param::Int4(reducer.columns().len() as i32),
                Param::Text(&file.digest),
            ],
        )?;
        reducer.components().iter().zip(1..).try_for_each(|(component, number)| {
            spi::execute(
                "INSERT INTO riskft.component (model_id, component, variance, ratio, cumulative)
                 VALUES ($1, $2, $3, $4, $5)",
                &[
                    Param::Int8(id),
                    Param::Int4(number),
                    Param::Float8(component.variance),
                    Param::Float8(component.ratio),
                    Param::Float8(component.cumulative),
                ],
            )
        })
    }
}

/// The one file fits its digest and opens: an unsound one is never stored.
fn verify(blobs: &[Blob]) -> Result<Reducer> {
    publish::verify_digests(blobs)?;
    match blobs {
        [(header, bytes)] if header.kind == BlobKind::Reducer => {
            Reducer::open(Arc::new(bytes.clone()))
        }
        _ => Err(publish::no_file(BlobKind::Reducer)),
    }
}

fn name_is_taken(kind: Kind, name: &str) -> Refusal {
    let kind = kind.name();
    Refusal::new(code::DUPLICATE_OBJECT, format!("{kind} \"{name}\" exists already"))
        .detail(format!("The name belongs to a {kind}; a reducer is never changed."))
        .hint("Choose another name, or drop what has it with riskft_drop.")
}
