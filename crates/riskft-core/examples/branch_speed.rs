//! Rows a second of each branch of a version without an encoder, on made-up rows:
//! `cargo run --release -p riskft-core --example branch_speed VERSION.safetensors`.

use std::sync::Arc;
use std::time::Instant;

use riskft_core::dataset::hash::mix;
use riskft_core::encode::{EncodedRow, Encoding};
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};

/// Few enough for a run between two turns of other processes.
const ROWS: usize = 512;
const RUNS: usize = 201;

/// A row whose values lie among the edges, its keys unseen.
fn row(encoding: &Encoding, seed: u64) -> EncodedRow {
    let unit = |k: u64| (mix(mix(seed) ^ k) >> 11) as f64 / (1u64 << 53) as f64;
    let mut row = EncodedRow::default();
    for (k, number) in (0u64..).zip(&encoding.numbers) {
        let (low, high) = (number.edges[0], number.edges[number.edges.len() - 1]);
        let value = if unit(k) < 0.05 { f64::NAN } else { low + unit(k + 999) * (high - low) };
        row.features.push(value);
        row.positions.push(number.position(value));
    }
    for (k, category) in (5000u64..).zip(&encoding.categories) {
        let code = (unit(k) * category.codes() as f64) as u32;
        row.codes.push(code);
        row.features.push(f64::from(code));
    }
    row.keys = (0..encoding.statistics.len() as u64).map(|k| mix(seed ^ mix(k))).collect();
    row.texts = vec![String::new(); encoding.texts.len()];
    row
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a version's file")?;
    let model = Model::open(Arc::new(std::fs::read(path)?), None).map_err(|r| r.message)?;
    let model = Arc::new(model);
    let rows: Vec<EncodedRow> =
        (0..ROWS as u64).map(|seed| row(&model.specification().encoding, seed)).collect();
    let mut scorer = Scorer::new(Arc::clone(&model), Kernel::detect(), 0);
    for branch in &model.specification().branches {
        let mut times: Vec<f64> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                let sum: f64 = rows.iter().map(|row| scorer.branch_logit(branch.kind, row)).sum();
                assert!(sum.is_finite());
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let [median, best] = [RUNS / 2, 0].map(|k| ROWS as f64 / times[k]);
        let name = branch.kind.name();
        println!("{name:8} {median:8.0} rows/s (median of {RUNS}; best {best:.0})");
    }
    Ok(())
}
