//! One million rows of twenty numbers, method none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use riskft_tests::{process, Cluster, Database};

use crate::training::wide;
use crate::verdict;

const ROWS: u64 = 1_000_000;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut session = database.analyst();
    session.run(&wide(ROWS));
    let backend = session.pid();
    let before = process::private_memory(backend).unwrap_or(0);
    let done = AtomicBool::new(false);
    let (highest, trainer_peak) = (AtomicU64::new(0), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let memory = process::private_memory(backend).unwrap_or(0);
                highest.fetch_max(memory, Ordering::Relaxed);
                if let Some(trainer) = process::trainer_of(backend) {
                    let peak = process::peak_memory(trainer).unwrap_or(0);
                    trainer_peak.fetch_max(peak, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let row =
            session.query_one("CALL riskft_train('wide', 'wide', 'y', method => 'none', options => '{\"head_epochs\": 3, \"batch_size\": 2048}')", &[]);
        done.store(true, Ordering::Relaxed);
        row
    });
    let row = result.unwrap_or_else(|e| panic!("training on {ROWS} rows: {e:?}"));
    let auc: f64 = row.get(1);
    let run: i64 = row.get(3);
    let wall: f64 =
        session.value_of("SELECT wall_seconds FROM riskft.costs WHERE run = $1", &[&run]);
    let feed: f64 = session.value_of(
        "SELECT sum(seconds) FROM riskft.phases WHERE run = $1 AND phase = 'load'",
        &[&run],
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let grown = mib(highest.load(Ordering::Relaxed).saturating_sub(before));
    let peak = mib(trainer_peak.load(Ordering::Relaxed)) / 1024.0;
    format!(
        "## Scale: {ROWS} rows x 20 numbers, method none, three epochs, batches of 2,048\n\n\
         * Feed: {:.0} rows/s ({feed:.1} s); whole training {wall:.0} s; test AUC {auc:.4}\n\
         * Peak memory of the trainer: **{peak:.2} GiB** (target 8 GiB): {}\n\
         * Private memory of the backend grew by {grown:.0} MiB while feeding a table of {:.0} MiB: \
         the feed holds no copy of it: {}\n",
        ROWS as f64 / feed,
        verdict(peak < 8.0),
        mib(session.value::<i64>("SELECT pg_table_size('wide')").unsigned_abs()),
        verdict(grown < 64.0),
    )
}
