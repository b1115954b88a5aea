//! riskft_export_model and riskft_import_model: a version as bytes, between databases.
//!
//! What goes along is the version: its files, labels, figures, features, and how it was trained.
//! What belongs to a database stays: owner, privileges, deployments, costs.

use pgrx::{pg_extern, pg_sys};
use riskft_core::bundle::{Bundle, Manifest};
use riskft_core::options::Method;
use riskft_core::protocol::{BlobHeader, BlobKind, Figures, Ledger, TrainingResult};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::alias::ModelName;
use crate::approval;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, StoredFile, VersionFiles};
use crate::deployment;
use crate::error::{self, or_raise};
use crate::figures::{self, stored};
use crate::lifecycle::given;
use crate::model_cache;
use crate::object::{self, Kind};
use crate::publish;
use crate::run;
use crate::settings;
use crate::spi::{self, Param};

/// Most bytes that a bytea can hold: the server's largest allocation without the length word.
const MAX_BYTES: u64 = 0x3fff_ffff - 4;

#[pg_extern(sql = false)]
fn riskft_export_model(model: Option<&str>) -> Vec<u8> {
    or_raise(given("model", model).and_then(export))
}

#[pg_extern(sql = false)]
fn riskft_import_model(model: Option<&str>, bytes: Option<&[u8]>) -> i32 {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_import_model()".as_ptr()) };
    let version = given("model", model).and_then(|model| import(model, given("bytes", bytes)?));
    let (version, verdict) = or_raise(version);
    error::notice!("{verdict}");
    version
}

fn export(text: &str) -> Result<Vec<u8>> {
    let wanted = ModelName::parse(text);
    let name = wanted.name;
    catalog::require_owner(&object::existing(name, Kind::Model)?)?;
    let files = catalog::scorable(&wanted)?;
    let manifest = spi::as_owner(|| describe(name, &files))?;
    let mut bytes = manifest.head()?;
    let length = manifest.files.iter().fold(bytes.len() as u64, |sum, file| sum + file.length);
    if length > MAX_BYTES {
        return Err(Refusal::new(code::LIMIT_EXCEEDED, "model is too large to export")
            .detail(format!("It takes {length} bytes, a bytea holds {MAX_BYTES}."))
            .hint("Move the database with pg_dump, or train the model again there."));
    }
    bytes.try_reserve_exact(length as usize - bytes.len()).map_err(|_| {
        Refusal::new(code::OUT_OF_MEMORY, "out of memory")
            .detail(format!("The exported model takes {length} bytes."))
            .hint("Export it when the server has more free memory.")
    })?;
    for (_, file) in of_kinds(&files) {
        model_cache::read(file, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), Refusal>(())
        })?;
    }
    tell_of_export(name, &files)?;
    Ok(bytes)
}

/// In the server's log, and in the audit but where nothing can be written: in a read-only
/// transaction, and on a standby.
fn tell_of_export(model: &str, files: &VersionFiles) -> Result<()> {
    let (by, version) = (Author::current(), files.version);
    error::log!(
        "riskft: version {version} of model \"{model}\" is exported by role \"{}\"",
        by.role
    );
    // SAFETY: reads a global of this process.
    if unsafe { pg_sys::XactReadOnly } {
        return Ok(());
    }
    let detail = json!({ "digest": files.version_file.digest });
    let (action, version) = (Action::Export, Some(version));
    spi::as_owner(|| audit::write(&by, Change { action, model, version, detail, reason: None }))
}

/// The files that a version has.
fn of_kinds(files: &VersionFiles) -> impl Iterator<Item = (BlobKind, &StoredFile)> {
    let version = std::iter::once((BlobKind::Version, &files.version_file));
    let encoder = files.encoder_file.iter().map(|file| (BlobKind::Encoder, file));
    version.chain(encoder).chain(files.training_file.iter().map(|file| (BlobKind::Training, file)))
}

fn describe(model: &str, files: &VersionFiles) -> Result<Manifest> {
    let rows = spi::query(
        "SELECT r.method, r.base, r.relation, r.target, r.options::text,
                coalesce(r.ledger -> 'imported' -> 'ledger', r.ledger)::text,
                v.positive_label, v.negative_label, v.threshold, v.gate::text
         FROM riskft.version v
         JOIN riskft.model m USING (model_id)
         JOIN riskft.run r USING (run_id)
         WHERE m.name = $1 AND v.version = $2",
        &[Param::Text(model), Param::Int4(files.version)],
        true,
        |row| {
            let text = |column| row.get::<String>(column).unwrap_or_default();
            Ok(Manifest {
                model: model.to_owned(),
                version: files.version,
                method: Method::parse(&text(1))?,
                base: row.get(2),
                relation: text(3),
                target: text(4),
                options: stored("options", &text(5))?,
                ledger: stored("ledger", &text(6))?,
                positive_label: text(7),
                negative_label: text(8),
                threshold: row.get(9).unwrap_or_default(),
                gate: stored("gate", &text(10))?,
                figures: Figures::default(),
                files: of_kinds(files).map(|(kind, file)| header(kind, file)).collect(),
            })
        },
    )?;
    let mut manifest =
        rows.into_iter().next().unwrap_or_else(|| Err(catalog::unknown_model(model)))?;
    manifest.figures = figures::read(model, files.version)?;
    Ok(manifest)
}

fn header(kind: BlobKind, file: &StoredFile) -> BlobHeader {
    BlobHeader { kind, digest: file.digest.clone(), length: file.length }
}

/// Verifies all of it, then stores it; the new version's number, and what became of it in words.
fn import(name: &str, bytes: &[u8]) -> Result<(i32, String)> {
    catalog::check_name(Kind::Model, name)?;
    if let Some(model) = object::model(name)? {
        catalog::require_owner(&model)?;
    }
    let bundle = Bundle::open(bytes, settings::bytes(&settings::MAX_MODEL_SIZE) as u64)?;
    bundle.model()?;
    let manifest = &bundle.manifest;
    let files: Vec<(BlobHeader, &[u8])> =
        manifest.files.iter().cloned().zip(bundle.files.iter().copied()).collect();
    let by = Author::current();
    let run = run::next_id()?;
    let (published, model) = spi::as_owner(|| {
        store_run(run, name, manifest, &by)?;
        let result = result(manifest);
        let stored = publish::store(run, name, &result, &files, &by.role)?;
        let detail = json!({
            "run": run, "from_model": manifest.model, "from_version": manifest.version,
            "digest": publish::digest(&result, BlobKind::Version)
        });
        let (action, version) = (Action::Import, Some(stored.0.version));
        audit::write(&by, Change { action, model: name, version, detail, reason: None })?;
        Ok(stored)
    })?;
    // The model's row is locked now: one that another role made meanwhile is refused, and the
    // statement's end takes the rows back.
    catalog::require_owner(&model)?;
    let version = published.version;
    error::log!("riskft run {run}: version {version} of model \"{name}\" is imported");
    let stored = format!("version {version} of model \"{name}\" is stored but not deployed:");
    if version > 1 {
        return Ok((version, format!("{stored} it is imported")));
    }
    if approval::is_required() {
        let call = approval::call(name, version);
        return Ok((version, format!("{stored} somebody else approves it first: {call}")));
    }
    deployment::switch(name, version, Some("it is the first"))?;
    Ok((version, format!("version {version} of model \"{name}\" is deployed: it is the first")))
}

/// What the training returned, but what it cost: nothing of that was spent here.
fn result(manifest: &Manifest) -> TrainingResult {
    TrainingResult {
        positive_label: manifest.positive_label.clone(),
        negative_label: manifest.negative_label.clone(),
        threshold: manifest.threshold,
        figures: manifest.figures.clone(),
        gate: manifest.gate.clone(),
        ledger: Ledger::default(),
        incumbent: None,
        update: None,
        blobs: manifest.files.clone(),
    }
}

/// The run of an import: method, relation and options as trained, and a ledger that says that the
/// training took place elsewhere. The views show no rows, seconds and costs of it.
fn store_run(run: i64, name: &str, manifest: &Manifest, by: &Author) -> Result<()> {
    let ledger = json!({ "imported": {
        "model": manifest.model, "version": manifest.version, "ledger": manifest.ledger
    } });
    let notice =
        format!("imported from version {} of model \"{}\"", manifest.version, manifest.model);
    spi::execute(
        "INSERT INTO riskft.run (run_id, model_name, owner, state, relation, target, method, base,
                 options, started_at, ended_at, notices, ledger, login)
         VALUES ($1, $2, $3::name, 'done', $4, $5, $6, $7, $8::jsonb, clock_timestamp(),
                 clock_timestamp(), ARRAY[$9], $10::jsonb, $11::name)",
        &[
            Param::Int8(run),
            Param::Text(name),
            Param::Text(&by.role),
            Param::Text(&manifest.relation),
            Param::Text(&manifest.target),
            Param::Text(manifest.method.name()),
            Param::OptionalText(manifest.base.as_deref()),
            Param::Text(&manifest.options.to_string()),
            Param::Text(&notice),
            Param::Text(&ledger.to_string()),
            Param::Text(&by.login),
        ],
    )
}
