//! Any job: its header tells which kind of work it is.

use std::io::Read;
use std::path::PathBuf;

use riskft_core::protocol::{BlobHeader, EstimateResult, Event};
use riskft_core::refusal::Result;

use crate::estimate;
use crate::events::Reporter;
use crate::job::{self, Header};
use crate::reduce;
use crate::run;
use crate::select;
use crate::update;

/// What came of a job.
pub enum Done {
    Version(Box<run::Outcome>),
    Reducer(Box<reduce::Outcome>),
    Columns(Box<select::Outcome>),
    Estimate(Box<EstimateResult>),
}

/// A file that is returned.
pub type Blob = (BlobHeader, Vec<u8>);

impl Done {
    /// The last event, and the files that follow it.
    pub fn answer(self) -> (Event, Vec<Blob>) {
        match self {
            Done::Version(done) => (Event::Result(Box::new(done.result)), done.blobs),
            Done::Reducer(done) => (Event::Reduction(Box::new(done.result)), done.blobs),
            Done::Columns(done) => (Event::Selection(Box::new(done.result)), Vec::new()),
            Done::Estimate(result) => (Event::Estimate(result), Vec::new()),
        }
    }
}

/// Reads a job and does it. `base_dir` is for trainings, see [`run::run`].
///
/// # Errors
/// 08P01 for what is no job, and every refusal of the steps.
pub fn work(
    input: impl Read + Send,
    base_dir: Option<PathBuf>,
    reporter: &Reporter,
) -> Result<Done> {
    let (header, mut input) = job::open(input)?;
    Ok(match header {
        Header::Training(header) => {
            Done::Version(Box::new(run::run(*header, &mut input, base_dir, reporter)?))
        }
        Header::Reduction(header) => {
            Done::Reducer(Box::new(reduce::run(*header, &mut input, reporter)?))
        }
        Header::Update(header) => {
            Done::Version(Box::new(update::run(*header, &mut input, reporter)?))
        }
        Header::Estimate(header) => {
            Done::Estimate(Box::new(estimate::run(*header, &mut input, base_dir, reporter)?))
        }
        Header::Selection(header) => {
            Done::Columns(Box::new(select::run(*header, &mut input, reporter)?))
        }
    })
}
