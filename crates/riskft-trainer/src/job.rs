//! The job: from the server's pipe or a file, into typed columns.

use std::io::{BufReader, Read};

use riskft_core::cell::SourceColumn;
use riskft_core::dataset::Dataset;
use riskft_core::protocol::{
    broken, read_frame, EstimateHeader, JobHeader, Progress, ReductionHeader, SelectionHeader,
    UpdateHeader, FRAME_BATCH, FRAME_END, FRAME_ESTIMATE, FRAME_HEADER, FRAME_INCUMBENT_ENCODER,
    FRAME_INCUMBENT_TRAINING, FRAME_INCUMBENT_VERSION, FRAME_REDUCTION, FRAME_SELECTION,
    FRAME_UPDATE, PROTOCOL,
};
use riskft_core::refusal::{code, Refusal, Result};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::events::Reporter;

/// Most bytes of one incumbent file.
const MAX_INCUMBENT: usize = 4 << 30;

/// The first frame of a job: what is to be done.
pub enum Header {
    Training(Box<JobHeader>),
    Reduction(Box<ReductionHeader>),
    Selection(Box<SelectionHeader>),
    Estimate(Box<EstimateHeader>),
    Update(Box<UpdateHeader>),
}

/// The job of a training or a selection as read.
pub struct Job {
    pub header: JobHeader,
    pub dataset: Dataset,
    /// The deployed version's file; empty without one.
    pub incumbent_version: Vec<u8>,
    /// Its base encoder's; empty for a version without text.
    pub incumbent_encoder: Vec<u8>,
}

/// Reads a job's header; what follows it is left in the returned input.
///
/// # Errors
/// 08P01 for a stream that is no job, or one of another version.
pub fn open<R: Read>(input: R) -> Result<(Header, BufReader<R>)> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut payload = Vec::new();
    let header = match read_frame(&mut input, &mut payload)? {
        FRAME_HEADER => Header::Training(header(&payload)?),
        FRAME_REDUCTION => Header::Reduction(header(&payload)?),
        FRAME_SELECTION => Header::Selection(header(&payload)?),
        FRAME_ESTIMATE => Header::Estimate(header(&payload)?),
        FRAME_UPDATE => Header::Update(header(&payload)?),
        _ => return Err(broken("the first frame is not a header")),
    };
    Ok((header, input))
}

/// What follows the header of a training, a selection or an update.
pub struct Body {
    pub dataset: Dataset,
    pub incumbent_version: Vec<u8>,
    pub incumbent_encoder: Vec<u8>,
    /// Of an update alone.
    pub incumbent_training: Vec<u8>,
}

/// Reads the rest of the job of a training or a selection.
///
/// # Errors
/// 08P01 for a stream that is no job or stops before its end frame.
pub fn read(header: JobHeader, input: &mut impl Read, reporter: &Reporter) -> Result<Job> {
    let Body { dataset, incumbent_version, incumbent_encoder, .. } =
        body(&header.columns, input, reporter)?;
    Ok(Job { header, dataset, incumbent_version, incumbent_encoder })
}

/// Reads files of the deployed version and rows of these columns, up to the end.
///
/// # Errors
/// Those of [`read`].
pub fn body(columns: &[SourceColumn], input: &mut impl Read, reporter: &Reporter) -> Result<Body> {
    let mut payload = Vec::new();
    let mut body = Body {
        dataset: Dataset::new(columns),
        incumbent_version: Vec::new(),
        incumbent_encoder: Vec::new(),
        incumbent_training: Vec::new(),
    };
    loop {
        match read_frame(input, &mut payload)? {
            FRAME_BATCH => body.dataset.append(&payload)?,
            FRAME_INCUMBENT_VERSION => join(&mut body.incumbent_version, &payload)?,
            FRAME_INCUMBENT_ENCODER => join(&mut body.incumbent_encoder, &payload)?,
            FRAME_INCUMBENT_TRAINING => join(&mut body.incumbent_training, &payload)?,
            FRAME_END => return Ok(body),
            other => return Err(unknown_frame(other)),
        }
        let done = body.dataset.rows as u64;
        reporter.progress(Progress { phase: "load".into(), done, ..Progress::default() });
    }
}

pub fn unknown_frame(kind: u8) -> Refusal {
    broken(&format!("a frame is of the unknown kind {kind}"))
}

/// What every header begins with: the rest of one of another version may be anything.
#[derive(Deserialize)]
struct Version {
    protocol: u32,
}

fn header<H: DeserializeOwned>(payload: &[u8]) -> Result<Box<H>> {
    let unread = |e: serde_json::Error| broken(&format!("the header cannot be parsed: {e}"));
    let Version { protocol } = serde_json::from_slice(payload).map_err(unread)?;
    if protocol == PROTOCOL {
        return serde_json::from_slice(payload).map(Box::new).map_err(unread);
    }
    Err(Refusal::new(code::PROTOCOL_VIOLATION, "the trainer is of another version")
        .detail(format!("The job has protocol {protocol}, the trainer {PROTOCOL}."))
        .hint("Install the extension and riskft-trainer from the same release."))
}

fn join(file: &mut Vec<u8>, payload: &[u8]) -> Result<()> {
    if file.len() + payload.len() > MAX_INCUMBENT {
        return Err(broken("the deployed version is larger than allowed"));
    }
    file.extend_from_slice(payload);
    Ok(())
}
