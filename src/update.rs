//! riskft_update: the deployed version learns on from new rows, within the caller's statement.

use std::collections::BTreeMap;

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::artifact::Artifact;
use riskft_core::cell::{ColumnType, SourceColumn, TypeHint};
use riskft_core::drift;
use riskft_core::model::Model;
use riskft_core::options::Method;
use riskft_core::protocol::{BlobKind, TrainingResult, UpdateHeader, PROTOCOL};
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::update::Options;
use serde_json::json;

use crate::alias::{ModelName, Which};
use crate::argument;
use crate::audit::Action;
use crate::catalog::{self, VersionFiles};
use crate::error::or_raise;
use crate::feed::{self, Labels, UpdateJob};
use crate::feedback;
use crate::figures;
use crate::json;
use crate::listener::Answer;
use crate::model_cache;
use crate::object::{self, Kind};
use crate::publish::{self, Candidate, Order, Published};
use crate::relation::{Relation, Scan};
use crate::run::{self, Entry};
use crate::settings;
use crate::spi::{self, Param};
use crate::train::require_own_will;
use crate::work::{self, Work};

crate::version_1!(pg_finfo_riskft_update);

/// `CALL riskft_update(...)`: see sql/feedback.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/feedback.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_update(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let request = or_raise(unsafe { Request::read(fcinfo) });
    or_raise(Work::require_none().and_then(|()| require_own_will()));
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_update()".as_ptr()) };
    let (published, deployed, result) = or_raise(request.update());
    let report = result.update.unwrap_or_default();
    let old = report.old.unwrap_or_default();
    let values = [
        published.version.into_datum(),
        deployed.into_datum(),
        old.auc_before.into_datum(),
        old.auc_after.into_datum(),
        report.new.auc_before.into_datum(),
        report.new.auc_after.into_datum(),
        published.run.into_datum(),
    ];
    // SAFETY: sql/feedback.sql declares these seven INOUT parameters.
    unsafe { argument::record(fcinfo, values) }
}

/// What is asked for.
struct Request {
    model: String,
    relation: String,
    key: Option<String>,
    options: Options,
}

/// The version that it goes on from.
struct Base {
    files: VersionFiles,
    target: String,
    method: Method,
    encoder: Option<String>,
    /// Names of the columns that it reads.
    columns: Vec<String>,
}

impl Request {
    /// # Safety
    /// `fcinfo` is a call of riskft_update.
    unsafe fn read(fcinfo: FunctionCallInfo) -> Result<Self> {
        const CALL: &str = "CALL riskft_update(model => '...', relation => '...').";
        // SAFETY: each argument is read as its declared type.
        unsafe {
            let options = json::value(fcinfo, 3, "options")?.unwrap_or_default();
            Ok(Request {
                model: argument::given("model", pg_getarg(fcinfo, 0), CALL)?,
                relation: argument::given("relation", pg_getarg(fcinfo, 1), CALL)?,
                key: pg_getarg(fcinfo, 2),
                options: Options::parse(&options)?,
            })
        }
    }

    /// All steps in the caller's transaction.
    fn update(&self) -> Result<(Published, bool, TrainingResult)> {
        object::existing(&self.model, Kind::Model)?;
        catalog::require_training(&self.model, self.options.deploy)?;
        let base = Base::of(&self.model)?;
        let (run, status, alive) = work::within_statement(&self.model)?;
        let what = format!("update of model \"{}\"", self.model);
        let mut work = Work::new(what, run, status, alive)?;
        let outcome = self.start(&base, &mut work).and_then(|()| self.finish(&base, &mut work));
        work.end(outcome.as_ref().err());
        outcome
    }

    /// Reads the relation and feeds the trainer. The relation's locks come before the trainer's place,
    /// as for trainings.
    fn start(&self, base: &Base, work: &mut Work) -> Result<()> {
        let recorded = match self.key {
            Some(_) => feedback::recorded(&self.model)?,
            None => BTreeMap::new(),
        };
        let scan = Scan::open(&Relation::resolve(&self.relation)?)?;
        let mut places: Vec<usize> =
            base.columns.iter().map(|name| scan.position(name)).collect::<Result<_>>()?;
        let mut columns: Vec<SourceColumn> =
            places.iter().map(|place| scan.columns[*place].clone()).collect();
        let labels = match &self.key {
            Some(key) => {
                columns.push(SourceColumn {
                    name: base.target.clone(),
                    column_type: ColumnType::Text,
                    hint: TypeHint::None,
                    declared: "text".to_owned(),
                });
                Some(Labels { key: scan.position(key)?, by_key: &recorded })
            }
            None => {
                let target = scan.position(&base.target).map_err(|refusal| {
                    refusal.hint(format!(
                        "Give labelled rows, with \"{}\", or a key => by which riskft_feedback knows their outcomes.",
                        base.target
                    ))
                })?;
                columns.push(scan.columns[target].clone());
                places.push(target);
                None
            }
        };
        let header = UpdateHeader {
            protocol: PROTOCOL,
            model: self.model.clone(),
            relation: self.relation.clone(),
            target: base.target.clone(),
            options: self.options.clone(),
            columns,
        };
        work.take_place();
        work.start(&self.relation, |process, listener, holds| {
            let job = UpdateJob { header: &header, files: &base.files, columns: &places, labels };
            feed::update(&job, scan, process, listener, holds)
        })
    }

    /// Waits for the trainer and stores the version.
    fn finish(&self, base: &Base, work: &mut Work) -> Result<(Published, bool, TrainingResult)> {
        let Answer::Version(mut result) = work.answer()? else {
            return Err(publish::no_file(BlobKind::Version));
        };
        let blobs = work.take_files(&result.blobs)?;
        work.publishing();
        run::begin(&work.run, &self.entry(base)?)?;
        self.take_over(base, &mut result)?;
        let (run, version) = (work.run.id, base.files.version);
        let order = Order {
            run,
            model: &self.model,
            deploy: self.options.deploy,
            action: Action::Update,
            detail: json!({
                "run": run,
                "base": version,
                "digest": publish::digest(&result, BlobKind::Version),
                "report": result.update,
            }),
        };
        let candidate = Candidate::Update { base: version, loss: self.options.old_loss };
        let (published, verdict) = publish::publish(&order, &result, &blobs, candidate)?;
        let mut notices = work.listener.notices();
        notices.push(verdict.words.clone());
        run::complete(&work.run, &result.ledger, &notices)?;
        work.listener.notice(verdict.words);
        Ok((published, verdict.deployed, *result))
    }

    /// The columns, and what their drift is told against, are those of the version before.
    fn take_over(&self, base: &Base, result: &mut TrainingResult) -> Result<()> {
        let (model, version) = (&self.model, base.files.version);
        let before = spi::as_owner(|| figures::read(model, version))?;
        result.figures.features = before.features;
        let columns = before.reference.into_iter().filter(|of| of.kind != drift::Kind::Score);
        let columns: Vec<_> = columns.collect();
        let score = std::mem::replace(&mut result.figures.reference, columns);
        result.figures.reference.extend(score);
        Ok(())
    }

    fn entry<'a>(&'a self, base: &'a Base) -> Result<Entry<'a>> {
        Ok(Entry {
            kind: "update",
            name: Some(&self.model),
            relation: &self.relation,
            target: Some(&base.target),
            method: Some(base.method.name()),
            base: base.encoder.as_deref(),
            options: spi::json(&self.options)?,
        })
    }
}

impl Base {
    /// The deployed version of a model.
    fn of(model: &str) -> Result<Self> {
        let unknown = || ModelName { name: model, which: Which::Deployed }.unknown();
        let Some(files) = catalog::deployed(model)? else { return Err(unknown()?) };
        let version = files.version;
        let rows = spi::as_owner(|| {
            spi::query(
                "SELECT r.target, r.method, r.base
                 FROM riskft.version v JOIN riskft.model m USING (model_id) JOIN riskft.run r USING (run_id)
                 WHERE m.name = $1 AND v.version = $2",
                &[Param::Text(model), Param::Int4(version)],
                true,
                |row| {
                    let text = |column| row.get::<String>(column).unwrap_or_default();
                    (text(1), text(2), row.get::<String>(3))
                },
            )
        })?;
        let Some((target, method, encoder)) = rows.into_iter().next() else {
            return Err(too_old(model, version));
        };
        let Some(training) = &files.training_file else { return Err(too_old(model, version)) };
        let training = Artifact::open(model_cache::open(training)?)?;
        if !training.contains("replay.test.logits") {
            return Err(too_old(model, version));
        }
        let scorer = model_cache::scorer(&files, settings::kernel()?)?;
        let model = scorer.borrow().model_arc();
        let columns = |model: &Model| {
            let columns = &model.specification().encoding.columns;
            columns.iter().map(|column| column.name.clone()).collect()
        };
        Ok(Base {
            target,
            method: Method::parse(&method)?,
            encoder,
            columns: columns(&model),
            files,
        })
    }
}

fn too_old(model: &str, version: i32) -> Refusal {
    Refusal::new(
        code::NOT_IN_STATE,
        format!("version {version} of model \"{model}\" cannot be updated"),
    )
    .detail("It was trained before updates existed, and keeps no old rows.")
    .hint("Train the model again: CALL riskft_train(...).")
}
