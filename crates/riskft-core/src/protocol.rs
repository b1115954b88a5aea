//! The job and the answer, between the server and the trainer.
//!
//! Job (the trainer's stdin, or a job file): frames of `u8 kind, u32 LE length, payload`: a header as
//! JSON, whose kind is the kind of job ([`JobHeader`] of a training, [`ReductionHeader`] of a reduction,
//! [`SelectionHeader`] of a selection, [`UpdateHeader`] of an update, [`EstimateHeader`] of an estimate), then
//! column batches, then an end frame. A stream that stops short of the end frame is no job.
//!
//! Answer (the trainer's stdout): [`Event`]s, one JSON object a line. The last line is `refused`, `selection`,
//! `estimate`, `result` or `reduction`; after the latter two the blobs it lists follow as raw bytes, in order.
//!
//! Every length is checked against a bound before memory is taken for it.

mod batch;
mod environment;
mod estimate;
mod numbers;
mod reduction;
mod reports;
mod selection;
mod update;

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::cell::SourceColumn;
use crate::metrics::Metric;
use crate::options::{Method, Options};
use crate::refusal::{code, Refusal, Result};
pub use batch::*;
pub use environment::*;
pub use estimate::*;
pub use numbers::*;
pub use reduction::*;
pub use reports::*;
pub use selection::*;
pub use update::*;

/// 1 had trainings alone.
pub const PROTOCOL: u32 = 2;
/// Phase of a search. From its first event on, until one of another phase, the trainer takes SIGUSR1
/// as a request to end the search with the best so far.
pub const SEARCH: &str = "search";
/// Largest frame either end accepts, bytes.
pub const MAX_FRAME: usize = 64 << 20;
/// Longest line of the answer, bytes.
pub const MAX_LINE: usize = 16 << 20;
/// Longest text cell that is handed over, bytes; longer ones are cut at a character.
/// The encoder reads at most 4,096 tokens, which fit.
pub const MAX_TEXT: usize = 64 << 10;

pub const FRAME_HEADER: u8 = 1;
pub const FRAME_BATCH: u8 = 2;
pub const FRAME_END: u8 = 3;
/// The deployed version's file, and its base encoder's, to be scored on the same test rows. Each
/// comes as one or more frames, before the first batch; payloads of one kind are joined.
pub const FRAME_INCUMBENT_VERSION: u8 = 4;
pub const FRAME_INCUMBENT_ENCODER: u8 = 5;
/// Header of a reduction; that of a training is [`FRAME_HEADER`].
pub const FRAME_REDUCTION: u8 = 6;
/// Header of a selection.
pub const FRAME_SELECTION: u8 = 7;
/// Header of an update.
pub const FRAME_UPDATE: u8 = 8;
/// The deployed version's training file, which an update goes on from; joined as its other files.
pub const FRAME_INCUMBENT_TRAINING: u8 = 9;
/// Header of an estimate.
pub const FRAME_ESTIMATE: u8 = 10;

/// What is to be trained, and on which columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobHeader {
    pub protocol: u32,
    pub model: String,
    /// As the user wrote it; for messages only.
    pub relation: String,
    pub target: String,
    /// Text of the positive label, when the caller gave one.
    pub positive: Option<String>,
    /// Columns to leave out.
    pub exclude: Vec<String>,
    pub time_column: Option<String>,
    pub method: Method,
    /// Name of the base model, e.g. `minilm-l6`.
    pub base: String,
    /// Folder with `config.json`, `tokenizer.json`, `model.safetensors`; empty without text.
    pub base_dir: String,
    pub options: Options,
    /// All readable columns of the relation, the target and the excluded ones among them.
    pub columns: Vec<SourceColumn>,
    /// Columns whose type is not read: (name, declared type).
    #[serde(default)]
    pub unread: Vec<(String, String)>,
    /// The day of the training, days since 1970-01-01: reads two-digit years.
    pub reference_date: i32,
}

/// One line of the trainer's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Progress(Progress),
    /// A NOTICE for the caller.
    Notice(String),
    /// A WARNING for the caller: (message, detail).
    Warning(String, String),
    Refused(Refusal),
    Result(Box<TrainingResult>),
    Reduction(Box<ReductionResult>),
    Selection(Box<SelectionResult>),
    Estimate(Box<EstimateResult>),
}

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// load | prepare | select | encode | search | network | trees | grams | text | tune | baseline | quantize |
    /// evaluate | explain; of an update load | prepare | network | evaluate | explain; of a reduction load | solve; of a selection load | prepare | select
    pub phase: String,
    pub done: u64,
    pub total: u64,
    pub epoch: u64,
    pub loss: Option<f64>,
    pub validation_auc: Option<f64>,
    pub seconds_left: Option<f64>,
}

/// A metric on one part of the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartMetric {
    /// train | validation | calibration | test
    pub part: String,
    #[serde(flatten)]
    pub metric: Metric,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// The int8 base encoder, shared by all versions.
    Encoder,
    /// The scoring part of a version.
    Version,
    /// Float adapters and head, for later updates; never read by scoring.
    Training,
    /// A fitted reducer ([`crate::reduce`]).
    Reducer,
}

impl BlobKind {
    pub const ALL: [BlobKind; 4] =
        [BlobKind::Encoder, BlobKind::Version, BlobKind::Training, BlobKind::Reducer];

    pub fn name(self) -> &'static str {
        match self {
            BlobKind::Encoder => "encoder",
            BlobKind::Version => "version",
            BlobKind::Training => "training",
            BlobKind::Reducer => "reducer",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHeader {
    pub kind: BlobKind,
    /// Lower-case hex of the SHA-256 of the bytes.
    pub digest: String,
    pub length: u64,
}

/// All that the server stores of a training, but the blobs' bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingResult {
    pub positive_label: String,
    pub negative_label: String,
    /// Decision threshold on the probability: best F1 on the validation rows.
    pub threshold: f64,
    #[serde(flatten)]
    pub figures: Figures,
    pub gate: GateReport,
    pub ledger: Ledger,
    /// None where no version was deployed before.
    #[serde(default)]
    pub incumbent: Option<IncumbentReport>,
    /// Of an update alone.
    #[serde(default)]
    pub update: Option<UpdateReport>,
    pub blobs: Vec<BlobHeader>,
}

/// Writes a job: header, batches, end.
pub struct JobWriter<W: Write> {
    out: W,
}

impl<W: Write> JobWriter<W> {
    pub fn new(out: W, header: &JobHeader) -> io::Result<Self> {
        JobWriter::begin(out, FRAME_HEADER, header)
    }
    pub fn reduction(out: W, header: &ReductionHeader) -> io::Result<Self> {
        JobWriter::begin(out, FRAME_REDUCTION, header)
    }
    pub fn update(out: W, header: &UpdateHeader) -> io::Result<Self> {
        JobWriter::begin(out, FRAME_UPDATE, header)
    }
    pub fn selection(out: W, header: &SelectionHeader) -> io::Result<Self> {
        JobWriter::begin(out, FRAME_SELECTION, header)
    }
    pub fn estimate(out: W, header: &EstimateHeader) -> io::Result<Self> {
        JobWriter::begin(out, FRAME_ESTIMATE, header)
    }
    fn begin(mut out: W, kind: u8, header: &impl Serialize) -> io::Result<Self> {
        write_frame(&mut out, kind, &serde_json::to_vec(header)?)?;
        Ok(JobWriter { out })
    }
    /// A file of the deployed version, before the first batch.
    pub fn file(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(MAX_FRAME).try_for_each(|piece| write_frame(&mut self.out, kind, piece))
    }
    pub fn batch(&mut self, batch: &BatchBuilder) -> io::Result<()> {
        write_frame(&mut self.out, FRAME_BATCH, &batch.payload())
    }
    pub fn end(mut self) -> io::Result<W> {
        write_frame(&mut self.out, FRAME_END, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

pub fn write_frame(out: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too long"));
    }
    out.write_all(&[kind])?;
    out.write_all(&(payload.len() as u32).to_le_bytes())?;
    out.write_all(payload)
}

/// Reads one frame; the payload replaces the contents of `payload`.
pub fn read_frame(input: &mut impl Read, payload: &mut Vec<u8>) -> Result<u8> {
    let mut head = [0u8; 5];
    input.read_exact(&mut head).map_err(|e| broken(&format!("the job ends early: {e}")))?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_FRAME {
        return Err(broken("a frame is longer than allowed"));
    }
    payload.clear();
    let read = input
        .take(length as u64)
        .read_to_end(payload)
        .map_err(|e| broken(&format!("the job cannot be read: {e}")))?;
    if read != length {
        return Err(broken("the job ends within a frame"));
    }
    Ok(head[0])
}

pub fn broken(detail: &str) -> Refusal {
    Refusal::new(code::PROTOCOL_VIOLATION, "malformed training job")
        .detail(format!("In reading the job, {detail}."))
        .hint("The trainer and the extension must be of the same version; run make install.")
}
