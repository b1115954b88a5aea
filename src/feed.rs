//! Job header, a training's deployed version, and rows -> the trainer's standard input.

use std::collections::BTreeMap;

use riskft_core::artifact::Storage;
use riskft_core::cell::{Cell, SourceColumn};
use riskft_core::encode::value::{label, Scratch};
use riskft_core::protocol::{
    write_frame, BatchBuilder, EstimateHeader, JobHeader, ReductionHeader, SelectionHeader,
    UpdateHeader, FRAME_BATCH, FRAME_END, FRAME_ESTIMATE, FRAME_HEADER, FRAME_INCUMBENT_ENCODER,
    FRAME_INCUMBENT_TRAINING, FRAME_INCUMBENT_VERSION, FRAME_REDUCTION, FRAME_SELECTION,
    FRAME_UPDATE,
};
use riskft_core::refusal::{code, Refusal, Result};
use serde::Serialize;

use crate::catalog::{self, VersionFiles};
use crate::listener::Listener;
use crate::model_cache;
use crate::relation::Scan;
use crate::trainer_process::TrainerProcess;

/// Payload of one batch frame, bytes, beyond which it is sent.
const BATCH_BYTES: usize = 1 << 20;

/// Sends a training: header, deployed version, rows and end. Returns the number of the deployed
/// version that was sent along. `holds` tells whether the run's locks are held: the relation's
/// functions could release them.
pub fn training(
    header: &JobHeader,
    scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<Option<i32>> {
    send_header(FRAME_HEADER, header, process)?;
    let incumbent = send_incumbent(&header.model, process, listener)?;
    send_rows(scan, &header.columns, whole, process, listener, holds)?;
    Ok(incumbent)
}

/// What an update is fed with.
pub struct UpdateJob<'a> {
    pub header: &'a UpdateHeader,
    /// The version that it goes on from.
    pub files: &'a VersionFiles,
    /// Places of the header's columns in the scan.
    pub columns: &'a [usize],
    /// Where labels are not the relation's; the last of the header's columns takes them.
    pub labels: Option<Labels<'a>>,
}

/// Sends an update: header, the version that it goes on from, rows and end.
pub fn update(
    job: &UpdateJob<'_>,
    scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    let UpdateJob { header, files, columns, labels } = job;
    send_header(FRAME_UPDATE, header, process)?;
    let stored = [
        (FRAME_INCUMBENT_ENCODER, files.encoder_file.as_ref()),
        (FRAME_INCUMBENT_VERSION, Some(&files.version_file)),
        (FRAME_INCUMBENT_TRAINING, files.training_file.as_ref()),
    ];
    for (kind, file) in stored {
        let Some(file) = file else { continue };
        send_file(kind, &model_cache::open(file)?, process)?;
    }
    let mut scratch = Scratch::default();
    let row = |row: &[Cell<'_>], batch: &mut BatchBuilder| {
        let mut cells: Vec<Cell<'_>> = columns.iter().map(|column| row[*column]).collect();
        if let Some(labels) = labels {
            cells.push(labels.of(row, &mut scratch));
        }
        batch.push(&cells)
    };
    send_rows(scan, &header.columns, row, process, listener, holds)
}

/// Labels that are found by a key.
pub struct Labels<'a> {
    /// Place of the key among the scan's columns.
    pub key: usize,
    pub by_key: &'a BTreeMap<String, String>,
}

impl<'a> Labels<'a> {
    fn of(&self, row: &[Cell<'_>], scratch: &mut Scratch) -> Cell<'a> {
        let found = label(row[self.key], scratch).and_then(|key| self.by_key.get(key));
        found.map_or(Cell::Null, |label| Cell::Text(label))
    }
}

/// Sends a reduction: header, the cells of some of the scan's columns, and end.
pub fn reduction(
    header: &ReductionHeader,
    columns: &[usize],
    scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    send_header(FRAME_REDUCTION, header, process)?;
    let row = |row: &[Cell<'_>], batch: &mut BatchBuilder| {
        let cells: Vec<Cell<'_>> = columns.iter().map(|column| row[*column]).collect();
        batch.push(&cells)
    };
    send_rows(scan, &header.columns, row, process, listener, holds)
}

/// Sends a selection: header, rows and end.
pub fn selection(
    header: &SelectionHeader,
    scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    send_header(FRAME_SELECTION, header, process)?;
    send_rows(scan, &header.job.columns, whole, process, listener, holds)
}

/// Sends an estimate: header, rows and end.
pub fn estimate(
    header: &EstimateHeader,
    scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    send_header(FRAME_ESTIMATE, header, process)?;
    send_rows(scan, &header.job.columns, whole, process, listener, holds)
}

fn send_header(kind: u8, header: &impl Serialize, process: &mut TrainerProcess) -> Result<()> {
    let json = serde_json::to_vec(header).map_err(|e| {
        Refusal::new(code::PROTOCOL_VIOLATION, format!("cannot write the job: {e}"))
    })?;
    process.send(&frame(kind, &json)?)
}

/// All cells of a row.
fn whole(row: &[Cell<'_>], batch: &mut BatchBuilder) -> Result<()> {
    batch.push(row)
}

/// Sends what `add` makes of the scan's rows, in batches, and the end; no copy of the table is kept.
fn send_rows(
    mut scan: Scan,
    columns: &[SourceColumn],
    mut add: impl FnMut(&[Cell<'_>], &mut BatchBuilder) -> Result<()>,
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    let mut batch = BatchBuilder::new(columns);
    let mut more = true;
    while more {
        more = scan.next(|row| {
            add(row, &mut batch)?;
            if batch.size() >= BATCH_BYTES {
                process.send(&frame(FRAME_BATCH, &batch.payload())?)?;
                batch.clear();
            }
            Ok(())
        })?;
        require_locks(holds)?;
        while let Some(event) = process.try_event() {
            listener.hear(event)?;
        }
    }
    scan.close();
    require_locks(holds)?;
    if batch.rows() > 0 {
        process.send(&frame(FRAME_BATCH, &batch.payload())?)?;
    }
    process.send(&frame(FRAME_END, &[])?)?;
    process.close_input();
    Ok(())
}

/// Refuses to go on where a function of the relation has released a lock.
pub fn require_locks(holds: &dyn Fn() -> bool) -> Result<()> {
    if holds() {
        return Ok(());
    }
    Err(Refusal::new(code::NOT_IN_STATE, "the locks of the run were released")
        .detail("The relation calls pg_advisory_unlock_all().")
        .hint("Give a relation that does not."))
}

/// The deployed version travels along, to be scored on the new one's test rows; its number. One
/// that is damaged stays behind: training again is the way out of it.
fn send_incumbent(
    model: &str,
    process: &mut TrainerProcess,
    listener: &mut Listener,
) -> Result<Option<i32>> {
    let Some(files) = catalog::deployed(model)? else { return Ok(None) };
    let encoder = files.encoder_file.iter().map(|file| (FRAME_INCUMBENT_ENCODER, file));
    let stored = encoder.chain([(FRAME_INCUMBENT_VERSION, &files.version_file)]);
    let opened: Result<Vec<_>> =
        stored.map(|(kind, file)| Ok((kind, model_cache::open(file)?))).collect();
    let opened = match opened {
        Err(refusal) if refusal.code == code::DATA_CORRUPTED => {
            listener.notice(format!("the deployed version is not compared: {}", refusal.message));
            return Ok(Some(files.version));
        }
        opened => opened?,
    };
    for (kind, bytes) in opened {
        send_file(kind, &bytes, process)?;
    }
    Ok(Some(files.version))
}

fn send_file(kind: u8, bytes: &Storage, process: &mut TrainerProcess) -> Result<()> {
    let bytes: &[u8] = (**bytes).as_ref();
    bytes.chunks(BATCH_BYTES).try_for_each(|piece| process.send(&frame(kind, piece)?))
}

fn frame(kind: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() + 5);
    write_frame(&mut out, kind, payload).map_err(|e| {
        Refusal::new("54000", "row is too large to train on")
            .detail(format!("A batch of the relation cannot be sent: {e}."))
            .hint("Exclude very long text columns.")
    })?;
    Ok(out)
}
