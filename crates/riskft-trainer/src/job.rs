//! The job: from the server's pipe or a file, into typed columns.

use std::io::{BufReader, Read};

use riskft_core::dataset::Dataset;
use riskft_core::protocol::{
    broken, read_frame, JobHeader, Progress, FRAME_BATCH, FRAME_END, FRAME_HEADER,
    FRAME_INCUMBENT_ENCODER, FRAME_INCUMBENT_VERSION, PROTOCOL,
};
use riskft_core::refusal::{code, Refusal, Result};

use crate::events::Reporter;

/// Most bytes of one incumbent file.
const MAX_INCUMBENT: usize = 4 << 30;

/// A job as read.
pub struct Job {
    pub header: JobHeader,
    pub dataset: Dataset,
    /// The deployed version's file; empty without one.
    pub incumbent_version: Vec<u8>,
    /// Its base encoder's; empty for a version without text.
    pub incumbent_encoder: Vec<u8>,
}

/// Reads a whole job.
///
/// # Errors
/// 08P01 for a stream that is no job or stops before its end frame.
pub fn read(input: impl Read, reporter: &Reporter) -> Result<Job> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut payload = Vec::new();
    if read_frame(&mut input, &mut payload)? != FRAME_HEADER {
        return Err(broken("the first frame is not a header"));
    }
    let header = header(&payload)?;
    let mut job = Job {
        dataset: Dataset::new(&header.columns),
        header,
        incumbent_version: Vec::new(),
        incumbent_encoder: Vec::new(),
    };
    loop {
        match read_frame(&mut input, &mut payload)? {
            FRAME_BATCH => job.dataset.append(&payload)?,
            FRAME_INCUMBENT_VERSION => join(&mut job.incumbent_version, &payload)?,
            FRAME_INCUMBENT_ENCODER => join(&mut job.incumbent_encoder, &payload)?,
            FRAME_END => return Ok(job),
            other => return Err(broken(&format!("a frame is of the unknown kind {other}"))),
        }
        let done = job.dataset.rows as u64;
        reporter.progress(Progress { phase: "load".into(), done, ..Progress::default() });
    }
}

fn header(payload: &[u8]) -> Result<JobHeader> {
    let header: JobHeader = serde_json::from_slice(payload)
        .map_err(|e| broken(&format!("the header cannot be parsed: {e}")))?;
    if header.protocol == PROTOCOL {
        return Ok(header);
    }
    Err(Refusal::new(code::PROTOCOL_VIOLATION, "the trainer is of another version")
        .detail(format!("The job has protocol {}, the trainer {PROTOCOL}.", header.protocol))
        .hint("Install the extension and riskft-trainer from the same release."))
}

fn join(file: &mut Vec<u8>, payload: &[u8]) -> Result<()> {
    if file.len() + payload.len() > MAX_INCUMBENT {
        return Err(broken("the deployed version is larger than allowed"));
    }
    file.extend_from_slice(payload);
    Ok(())
}
