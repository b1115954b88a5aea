//! Job header, a training's deployed version, and rows -> the trainer's standard input.

use riskft_core::cell::{Cell, SourceColumn};
use riskft_core::protocol::{
    write_frame, BatchBuilder, JobHeader, ReductionHeader, SelectionHeader, FRAME_BATCH, FRAME_END,
    FRAME_HEADER, FRAME_INCUMBENT_ENCODER, FRAME_INCUMBENT_VERSION, FRAME_REDUCTION,
    FRAME_SELECTION,
};
use riskft_core::refusal::{code, Refusal, Result};
use serde::Serialize;

use crate::catalog;
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
    send_rows(scan, (&header.columns, None), process, listener, holds)?;
    Ok(incumbent)
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
    send_rows(scan, (&header.columns, Some(columns)), process, listener, holds)
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
    send_rows(scan, (&header.job.columns, None), process, listener, holds)
}

fn send_header(kind: u8, header: &impl Serialize, process: &mut TrainerProcess) -> Result<()> {
    let json = serde_json::to_vec(header).map_err(|e| {
        Refusal::new(code::PROTOCOL_VIOLATION, format!("cannot write the job: {e}"))
    })?;
    process.send(&frame(kind, &json)?)
}

/// Sends the scan's columns, or those at some places, row by row in batches, and the end; no copy of
/// the table is kept.
fn send_rows(
    mut scan: Scan,
    (columns, places): (&[SourceColumn], Option<&[usize]>),
    process: &mut TrainerProcess,
    listener: &mut Listener,
    holds: &dyn Fn() -> bool,
) -> Result<()> {
    let mut batch = BatchBuilder::new(columns);
    let mut more = true;
    while more {
        more = scan.next(|row| {
            match places {
                None => batch.push(row)?,
                Some(places) => {
                    let cells: Vec<Cell<'_>> = places.iter().map(|place| row[*place]).collect();
                    batch.push(&cells)?;
                }
            }
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

fn require_locks(holds: &dyn Fn() -> bool) -> Result<()> {
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
        for piece in (*bytes).as_ref().chunks(BATCH_BYTES) {
            process.send(&frame(kind, piece)?)?;
        }
    }
    Ok(Some(files.version))
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
