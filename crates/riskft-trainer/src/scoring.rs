//! Many rows by core's own scorer, as the server will compute them, in threads.

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
/// Places that a thread takes at a time.
const CHUNK: usize = 16;
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
    let crew = Crew { phase: "evaluate", threads, reporter };
    crew.each(rows.len(), || {
        let mut scorer = scorer(model);
        let (mut cells, mut encoded) = (Vec::new(), EncodedRow::default());
        move |place: usize| {
            reader.encode(rows[place] as usize, &mut cells, &mut encoded);
            let branches = scorer.model_arc();
            let branches = branches.specification().branches.iter();
            branches.map(|branch| scorer.branch_logit(branch.kind, &encoded)).collect()
        }
    })
}

/// A scorer as threads use it.
pub fn scorer(model: &Arc<Model>) -> Scorer {
    Scorer::new(Arc::clone(model), Kernel::detect(), CACHE_BYTES)
}

/// Threads that work on a list, and say how far they are.
#[derive(Clone, Copy)]
pub struct Crew<'a> {
    pub phase: &'static str,
    pub threads: usize,
    pub reporter: &'a Reporter,
}

impl Crew<'_> {
    /// What comes of each of `count` places, in their order; each thread has a worker of its own.
    ///
    /// # Errors
    /// 38000 when a thread fails.
    pub fn each<T: Send, W: FnMut(usize) -> T>(
        &self,
        count: usize,
        worker: impl Fn() -> W + Sync,
    ) -> Result<Vec<T>> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut worker = worker();
            let mut results = Vec::new();
            loop {
                let start = next.fetch_add(CHUNK, Ordering::Relaxed);
                if start >= count {
                    return results;
                }
                for place in start..count.min(start + CHUNK) {
                    results.push((place, worker(place)));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let parts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                std::thread::sleep(LOOK.min(Duration::from_millis(count as u64 / 16 + 1)));
                self.reporter.progress(Progress {
                    phase: self.phase.into(),
                    done: done.load(Ordering::Relaxed) as u64,
                    total: count as u64,
                    ..Progress::default()
                });
            }
            threads.into_iter().map(|thread| thread.join().ok()).collect::<Option<Vec<_>>>()
        });
        let failed = || Refusal::new(code::EXTERNAL_ROUTINE, "scoring the rows failed");
        let mut results: Vec<(usize, T)> =
            parts.ok_or_else(failed)?.into_iter().flatten().collect();
        results.sort_unstable_by_key(|(place, _)| *place);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}
