//! int8 logits of many rows by core's own scorer, as the server will compute them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use riskft_core::artifact::Storage;
use riskft_core::encode::EncodedRow;
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::protocol::Progress;
use riskft_core::refusal::{code, Refusal, Result};

use crate::events::Reporter;
use crate::rows::Reader;

/// Bytes of one thread's cache of texts.
const CACHE_BYTES: usize = 64 << 20;
/// Rows that a thread takes at a time.
const CHUNK: usize = 64;
const LOOK: Duration = Duration::from_millis(50);

/// Opens a version that was just made, or came with the job.
pub fn open(version: Vec<u8>, encoder: Option<Vec<u8>>) -> Result<Arc<Model>> {
    let encoder = encoder.map(|bytes| Arc::new(bytes) as Storage);
    Model::open(Arc::new(version), encoder).map(Arc::new)
}

/// The branches' logits of dataset rows, in their order: [rows][branches].
///
/// # Errors
/// 38000 when a thread fails.
pub fn logits(
    model: &Arc<Model>,
    reader: &Reader<'_>,
    rows: &[u32],
    threads: usize,
    reporter: &Reporter,
) -> Result<Vec<Vec<f64>>> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let work = || score_chunks(model, reader, rows, &next, &done);
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(LOOK.min(Duration::from_millis(rows.len() as u64 / 16 + 1)));
            reporter.progress(Progress {
                phase: "evaluate".into(),
                done: done.load(Ordering::Relaxed) as u64,
                total: rows.len() as u64,
                ..Progress::default()
            });
        }
        workers.into_iter().map(|worker| worker.join().ok()).collect::<Option<Vec<_>>>()
    });
    let parts =
        parts.ok_or_else(|| Refusal::new(code::EXTERNAL_ROUTINE, "scoring the rows failed"))?;
    let mut logits = vec![Vec::new(); rows.len()];
    for (place, logit) in parts.into_iter().flatten() {
        logits[place] = logit;
    }
    Ok(logits)
}

fn score_chunks(
    model: &Arc<Model>,
    reader: &Reader<'_>,
    rows: &[u32],
    next: &AtomicUsize,
    done: &AtomicUsize,
) -> Vec<(usize, Vec<f64>)> {
    let mut scorer = Scorer::new(Arc::clone(model), Kernel::detect(), CACHE_BYTES);
    let (mut cells, mut encoded) = (Vec::new(), EncodedRow::default());
    let mut logits = Vec::new();
    loop {
        let start = next.fetch_add(CHUNK, Ordering::Relaxed);
        if start >= rows.len() {
            return logits;
        }
        for (place, row) in rows.iter().enumerate().skip(start).take(CHUNK) {
            reader.encode(*row as usize, &mut cells, &mut encoded);
            let branches = model.specification().branches.iter();
            let of = branches.map(|branch| scorer.branch_logit(branch.kind, &encoded));
            logits.push((place, of.collect()));
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}
