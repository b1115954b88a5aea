//! The job: from the server's pipe or a file, into typed columns.

use std::io::{BufReader, Read};

use riskft_core::dataset::Dataset;
use riskft_core::protocol::{
    broken, read_frame, JobHeader, Progress, FRAME_BATCH, FRAME_END, FRAME_HEADER, PROTOCOL,
};
use riskft_core::refusal::{code, Refusal, Result};

use crate::events::Reporter;

/// Reads a whole job.
///
/// # Errors
/// 08P01 for a stream that is no job or stops before its end frame.
pub fn read(input: impl Read, reporter: &Reporter) -> Result<(JobHeader, Dataset)> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut payload = Vec::new();
    if read_frame(&mut input, &mut payload)? != FRAME_HEADER {
        return Err(broken("the first frame is not a header"));
    }
    let header: JobHeader = serde_json::from_slice(&payload)
        .map_err(|e| broken(&format!("the header cannot be parsed: {e}")))?;
    if header.protocol != PROTOCOL {
        return Err(Refusal::new(code::PROTOCOL_VIOLATION, "the trainer is of another version")
            .detail(format!("The job has protocol {}, the trainer {PROTOCOL}.", header.protocol))
            .hint("Install the extension and riskft-trainer from the same release."));
    }
    let mut dataset = Dataset::new(&header.columns);
    loop {
        match read_frame(&mut input, &mut payload)? {
            FRAME_BATCH => dataset.append(&payload)?,
            FRAME_END => return Ok((header, dataset)),
            other => return Err(broken(&format!("a frame is of the unknown kind {other}"))),
        }
        let done = dataset.rows as u64;
        reporter.progress(Progress { phase: "load".into(), done, ..Progress::default() });
    }
}
