//! Rows per second of boosted trees, on one core, and what bounds them:
//!
//! ```text
//! cargo run --release -p riskft-core --example tree_speed -- [TREES] [LEAVES] [FEATURES]
//! ```

#[path = "../tests/forest/mod.rs"]
mod forest;

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use flate2::read::GzDecoder;
use forest::{Kind, Random};
use riskft_core::artifact::{self, Artifact, TensorSet};
use riskft_core::protocol::BlobKind;
use riskft_core::trees::{lightgbm, Ensemble, Node, Places, Stored};
use safetensors::SafeTensors;

const ROWS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let count = arguments.next().transpose()?.unwrap_or(300);
    let leaves = arguments.next().transpose()?.unwrap_or(31);
    let features = arguments.next().transpose()?.unwrap_or(40);
    for category in [0.0, 0.1, 0.3, 0.6] {
        let kind = Kind { features, leaves, category, zero_missing: 0.0 };
        let mut random = Random(1);
        let trees = forest::trees(kind, count, &mut random);
        let rows: Vec<Vec<f64>> = (0..ROWS).map(|_| forest::row(kind, 0.05, &mut random)).collect();
        let ensemble = forest::ensemble(kind, &trees);
        println!("{count} trees of {leaves} leaves, {features} features, {category} by category");
        let steps = rows[..100].iter().map(|row| steps(&trees, row)).sum::<usize>() / 100;
        let kib = (8 * ensemble.nodes() + 4 * ensemble.len()) / 1024;
        println!("  a row reads {steps} nodes (one line each) of {kib} KiB, as many features");
        let rate = best(&rows, &ensemble)?;
        println!("  {rate:.0} rows/s, {:.2} ns for each node", 1e9 / rate / steps as f64);
    }
    loans()
}

/// The golden tests' 80 trees, which LightGBM trained on real loans: eight categories, nine numbers.
fn loans() -> Result<(), Box<dyn std::error::Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/trees.safetensors.gz");
    let mut file = Vec::new();
    GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut file)?;
    let tensors = SafeTensors::deserialize(&file)?;
    let ensemble = lightgbm::read(std::str::from_utf8(tensors.tensor("loans.model")?.data())?)?;
    let values = tensors.tensor("loans.rows")?.data().as_chunks::<8>().0;
    let values: Vec<f64> = values.iter().map(|value| f64::from_le_bytes(*value)).collect();
    let rows: Vec<Vec<f64>> =
        values.chunks_exact(ensemble.features()).map(<[f64]>::to_vec).collect();
    let rate = best(&rows, &ensemble)?;
    let (trees, nodes) = (ensemble.len(), ensemble.nodes());
    println!("loans: {trees} trees of {nodes} nodes: {rate:.0} rows/s");
    println!("  {:.1} ns for each tree", 1e9 / rate / trees as f64);
    Ok(())
}

/// Rows per second out of a model file, the best of five rounds.
fn best(rows: &[Vec<f64>], ensemble: &Ensemble) -> Result<f64, Box<dyn std::error::Error>> {
    let mut tensors = TensorSet::new();
    ensemble.store("trees", &mut tensors)?;
    let file = Artifact::open(Arc::new(artifact::write(BlobKind::Version, "{}", &tensors)))?;
    let stored = Stored::open(&file, "trees", ensemble.features()).map_err(|r| r.message)?;
    let trees = stored.of((**file.storage()).as_ref());
    let mut places = Places::default();
    let mut round = |_| {
        let start = Instant::now();
        let sum: f64 = rows.iter().map(|row| trees.score(row, &mut places)).sum();
        assert!(std::hint::black_box(sum).is_finite());
        rows.len() as f64 / start.elapsed().as_secs_f64()
    };
    Ok((0..5).map(&mut round).fold(0.0, f64::max))
}

/// Nodes on a row's ways, leaves included.
fn steps(trees: &[Vec<Node>], row: &[f64]) -> usize {
    trees.iter().map(|tree| forest::way(tree, row).len()).sum()
}
