//! Verifies, stores and deploys: one transaction, the caller's own. A version is whole or absent.

use std::sync::Arc;

use riskft_core::artifact;
use riskft_core::model::Model;
use riskft_core::options::Deploy;
use riskft_core::protocol::{BlobHeader, BlobKind, TrainingResult, UpdateReport};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::Value;

use crate::alias;
use crate::approval;
use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege};
use crate::deployment;
use crate::figures;
use crate::object::{self, Kind, Object};
use crate::spi::{self, Param};

/// Bytes of one row of riskft.blob_chunk.
pub const CHUNK: usize = 256 * 1024;

/// What was stored.
pub struct Published {
    pub version: i32,
    pub run: i64,
}

/// What a version is stored as.
pub struct Order<'a> {
    pub run: i64,
    pub model: &'a str,
    pub deploy: Deploy,
    /// As the audit tells it.
    pub action: Action,
    pub detail: Value,
}

/// How a version came about.
#[derive(Debug, Clone, Copy)]
pub enum Candidate {
    /// As asked for: option deploy decides. `incumbent` was deployed when the training began.
    Whole { incumbent: Option<i32> },
    /// A cancel ended its search: it is not deployed.
    CutShort,
    /// Goes on from version `base`, which was deployed then; the AUC of old rows may fall by `loss`.
    Update { base: i32, loss: f64 },
}

/// The alias of an update that is not deployed.
const CHALLENGER: &str = "challenger";

/// A model file as the trainer returned it.
pub type Blob = (BlobHeader, Vec<u8>);

/// What was decided about a version's deployment.
pub struct Verdict {
    pub deployed: bool,
    pub words: String,
}

/// Stores a version of the run, whose row is there; also returns what was decided about its
/// deployment.
pub fn publish(
    order: &Order<'_>,
    result: &TrainingResult,
    blobs: &[Blob],
    candidate: Candidate,
) -> Result<(Published, Verdict)> {
    verify(blobs)?;
    let by = Author::current();
    let (published, model) = spi::as_owner(|| {
        let model = order.model;
        let stored = store(order.run, model, result, blobs, &by.role)?;
        let (action, detail) = (order.action, order.detail.clone());
        let version = Some(stored.0.version);
        audit::write(&by, Change { action, model, version, detail, reason: None })?;
        Ok(stored)
    })?;
    // The row is locked now: a model that another role made meanwhile is refused, or one whose
    // grant was taken back, and the statement's end takes the rows back.
    // What others have committed since the statement began counts.
    let may_deploy = spi::latest(|| {
        catalog::require_training(order.model, order.deploy)?;
        catalog::holds(&model, Privilege::Deploy)
    })?;
    let verdict = decide_deployment(order, result, &published, candidate, may_deploy)?;
    Ok((published, verdict))
}

/// Digests fit the bytes, and the version loads: an unsound file is never stored.
fn verify(blobs: &[Blob]) -> Result<()> {
    verify_digests(blobs)?;
    let storage = |kind| -> Option<artifact::Storage> {
        find(blobs, kind).map(|(_, bytes)| Arc::new(bytes.clone()) as artifact::Storage)
    };
    if find(blobs, BlobKind::Reducer).is_some() {
        return Err(no_file(BlobKind::Version));
    }
    let version = storage(BlobKind::Version).ok_or_else(|| no_file(BlobKind::Version))?;
    Model::open(version, storage(BlobKind::Encoder)).map(|_| ())
}

/// Refuses files that do not fit their digests.
pub fn verify_digests(blobs: &[Blob]) -> Result<()> {
    for (header, bytes) in blobs {
        if artifact::digest(bytes) != header.digest || bytes.len() as u64 != header.length {
            return Err(Refusal::new(code::DATA_CORRUPTED, "model file was damaged on its way")
                .detail(format!("The {} file does not fit its digest.", header.kind.name()))
                .hint("Train again."));
        }
    }
    Ok(())
}

/// The refusal of a trainer's result without the file that it is about.
pub fn no_file(kind: BlobKind) -> Refusal {
    let kind = kind.name();
    Refusal::new(code::PROTOCOL_VIOLATION, format!("trainer returned no {kind}"))
        .detail(format!("The result lists no file of kind {kind}, or others than that needs."))
        .hint("The trainer and the extension must be of the same version.")
}

fn find(blobs: &[Blob], kind: BlobKind) -> Option<&Blob> {
    blobs.iter().find(|(header, _)| header.kind == kind)
}

struct ModelRow {
    id: i64,
    owner: String,
    version: i32,
}

/// Stores a version, whose run has its row and whose files were verified, with the rights of the
/// catalogue's owner. Also returns the model, whose owner is `role` where it is new.
pub fn store<B: AsRef<[u8]>>(
    run: i64,
    model: &str,
    result: &TrainingResult,
    blobs: &[(BlobHeader, B)],
    role: &str,
) -> Result<(Published, Object)> {
    // The files before the model, as riskft_drop locks them. The lock keeps it from taking a shared
    // encoder away meanwhile.
    spi::execute("LOCK TABLE riskft.blob IN SHARE ROW EXCLUSIVE MODE", &[])?;
    let name = model;
    let model = next_version(name, role)?;
    for (header, bytes) in blobs {
        store_blob(header, bytes.as_ref())?;
    }
    store_version(&model, run, result)?;
    figures::store(model.id, model.version, &result.figures)?;
    let object = Object { kind: Kind::Model, name: name.to_owned(), owner: model.owner };
    Ok((Published { version: model.version, run }, object))
}

/// Makes the model if it is new, locks it, and takes its next number.
fn next_version(name: &str, role: &str) -> Result<ModelRow> {
    spi::execute(
        "INSERT INTO riskft.model (name, owner) VALUES ($1, $2::name) ON CONFLICT (name) DO NOTHING",
        &[Param::Text(name), Param::Text(role)],
    )?;
    let rows = spi::query(
        "UPDATE riskft.model SET last_version = last_version + 1
         WHERE name = $1 AND kind = 'model'
         RETURNING model_id, owner::text, last_version",
        &[Param::Text(name)],
        false,
        |row| ModelRow {
            id: row.get(1).unwrap_or_default(),
            owner: row.get(2).unwrap_or_default(),
            version: row.get(3).unwrap_or_default(),
        },
    )?;
    match rows.into_iter().next() {
        Some(row) => Ok(row),
        // A reducer that was made meanwhile has the name.
        None => spi::latest(|| object::existing(name, Kind::Model))
            .and_then(|_| Err(catalog::unknown_model(name))),
    }
}

/// Stores a file once.
pub fn store_blob(header: &BlobHeader, bytes: &[u8]) -> Result<()> {
    let new = spi::query(
        "INSERT INTO riskft.blob (digest, kind, length) VALUES ($1, $2, $3)
         ON CONFLICT (digest) DO NOTHING RETURNING 1",
        &[
            Param::Text(&header.digest),
            Param::Text(header.kind.name()),
            Param::Int8(header.length as i64),
        ],
        false,
        |_| (),
    )?;
    if new.is_empty() {
        return Ok(());
    }
    for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
        pgrx::check_for_interrupts!();
        spi::execute(
            "INSERT INTO riskft.blob_chunk (digest, number, bytes) VALUES ($1, $2, $3)",
            &[Param::Text(&header.digest), Param::Int4(number as i32), Param::Bytes(chunk)],
        )?;
    }
    Ok(())
}

/// SHA-256 of the result's file of a kind.
pub fn digest(result: &TrainingResult, kind: BlobKind) -> Option<&str> {
    result.blobs.iter().find(|header| header.kind == kind).map(|header| header.digest.as_str())
}

fn store_version(model: &ModelRow, run: i64, result: &TrainingResult) -> Result<()> {
    spi::execute(
        "INSERT INTO riskft.version (model_id, version, run_id, positive_label, negative_label,
                 threshold, version_digest, encoder_digest, training_digest, gate)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb)",
        &[
            Param::Int8(model.id),
            Param::Int4(model.version),
            Param::Int8(run),
            Param::Text(&result.positive_label),
            Param::Text(&result.negative_label),
            Param::Float8(result.threshold),
            Param::OptionalText(digest(result, BlobKind::Version)),
            Param::OptionalText(digest(result, BlobKind::Encoder)),
            Param::OptionalText(digest(result, BlobKind::Training)),
            Param::Text(&spi::json(&result.gate)?),
        ],
    )
}

fn decide_deployment(
    order: &Order<'_>,
    result: &TrainingResult,
    new: &Published,
    candidate: Candidate,
    may_deploy: bool,
) -> Result<Verdict> {
    let deployed = spi::as_owner(|| {
        let rows = spi::query(
            "SELECT deployed_version FROM riskft.model WHERE name = $1",
            &[Param::Text(order.model)],
            false,
            |row| row.get::<i32>(1),
        )?;
        Ok(rows.into_iter().next().flatten())
    })?;
    let name = order.model;
    let (mut deploy, mut why) = match candidate {
        Candidate::Whole { incumbent } => verdict(order.deploy, deployed, incumbent, result),
        Candidate::Update { base, loss } => {
            let report = result.update.clone().unwrap_or_default();
            of_update(order.deploy, deployed == Some(base), &report, base, loss)
        }
        Candidate::CutShort => {
            let call = format!("riskft_deploy({}, {})", catalog::literal(name), new.version);
            (false, format!("a cancel ended its search; SELECT {call} deploys it"))
        }
    };
    if deploy && !may_deploy {
        deploy = false;
        why += &format!("; role \"{}\" has no privilege deploy on it", catalog::current_role());
    }
    if deploy && approval::is_required() {
        deploy = false;
        why += &format!("; somebody else approves it first: {}", approval::call(name, new.version));
    }
    let version = new.version;
    if deploy {
        deployment::switch(name, version, Some(&why))?;
        let words = format!("version {version} of model \"{name}\" is deployed: {why}");
        return Ok(Verdict { deployed: true, words });
    }
    let mut words =
        format!("version {version} of model \"{name}\" is stored but not deployed: {why}");
    if matches!(candidate, Candidate::Update { .. }) && may_deploy {
        alias::set(name, CHALLENGER, version, Some(&why))?;
        words += &format!("; {name}@{CHALLENGER} means it now");
    }
    Ok(Verdict { deployed: false, words })
}

/// Whether an update is deployed, and why: not worse on old rows, better on new ones.
fn of_update(
    rule: Deploy,
    is_deployed: bool,
    report: &UpdateReport,
    base: i32,
    loss: f64,
) -> (bool, String) {
    match rule {
        Deploy::Always => return (true, "option deploy is \"always\"".to_owned()),
        Deploy::Never => return (false, "option deploy is \"never\"".to_owned()),
        Deploy::Auto if !is_deployed => {
            return (false, format!("version {base} is not the deployed one any more"));
        }
        Deploy::Auto => {}
    }
    let figure = |auc: Option<f64>| auc.map_or("unknown".to_owned(), |auc| format!("{auc:.4}"));
    let new = &report.new;
    let of_new = format!(
        "log-loss {:.4} against {:.4} of version {base} on {} new rows",
        new.log_loss_after, new.log_loss_before, new.rows
    );
    let Some(old) = &report.old else { return (new.is_better(), of_new) };
    let of_old = format!(
        "AUC {} against {} on {} old rows (limit of its fall {loss} and one standard error, {})",
        figure(old.auc_after),
        figure(old.auc_before),
        old.rows,
        figure(old.standard_error)
    );
    (new.is_better() && old.holds(loss), format!("{of_new}; {of_old}"))
}

/// Whether the new version is deployed, and why. "Not worse" means: its AUC on the test rows lies
/// at most one paired standard error below the deployed version's on the same rows.
fn verdict(
    rule: Deploy,
    deployed: Option<i32>,
    incumbent: Option<i32>,
    result: &TrainingResult,
) -> (bool, String) {
    let old = match (rule, deployed) {
        (Deploy::Always, _) => return (true, "option deploy is \"always\"".to_owned()),
        (Deploy::Never, _) => return (false, "option deploy is \"never\"".to_owned()),
        (Deploy::Auto, None) => return (true, "no version was deployed before".to_owned()),
        (Deploy::Auto, Some(old)) => old,
    };
    if incumbent != Some(old) {
        return (false, format!("version {old} was deployed while this one was trained"));
    }
    let report = result.incumbent.clone().unwrap_or_default();
    match (report.auc, report.difference, report.standard_error) {
        (Some(auc), Some(difference), Some(error)) => {
            let figures = format!(
                "test AUC {:.4} against {auc:.4} of version {old} on the same rows (standard error \
                 of the difference {error:.4})",
                auc + difference
            );
            (difference >= -error, figures)
        }
        _ => (
            false,
            format!("version {old} could not be compared on the test rows ({})", report.why_not),
        ),
    }
}
