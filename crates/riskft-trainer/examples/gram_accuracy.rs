//! What n-grams alone tell: AUC on rows not trained on, by the columns that earn their place, and
//! seconds.
//!
//! ```text
//! cargo run --release -p riskft-trainer --example gram_accuracy -- [REPEATS]
//! ```

use std::time::Instant;

use flate2::read::GzDecoder;
use riskft_core::grams::View;
use riskft_core::metrics;
use riskft_trainer::grams::{choose, Matrix, Sample, Texts, GRID};
use riskft_trainer::random::Random;

const FOLDS: usize = 5;

/// A table, its target, the columns that are offered, and the number of training rows.
struct Task {
    file: &'static str,
    target: &'static str,
    columns: &'static [&'static str],
    train: usize,
}

const COMPLAINTS: &str = "cfpb_complaints";
const TASKS: &[Task] = &[
    Task { file: COMPLAINTS, target: "fee_issue", columns: &["narrative"], train: 1025 },
    Task { file: COMPLAINTS, target: "fee_issue", columns: &["narrative", "company"], train: 1025 },
    Task { file: COMPLAINTS, target: "relief", columns: &["narrative"], train: 1025 },
    Task { file: COMPLAINTS, target: "relief", columns: &["narrative", "company"], train: 1025 },
    Task { file: "sba_loans", target: "defaulted", columns: NAMES, train: 1000 },
    Task { file: "sba_loans", target: "defaulted", columns: NAMES, train: 14_000 },
];
const NAMES: &[&str] = &["borrower", "bank", "city"];

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let repeats = std::env::args().nth(1).map_or(Ok(5), |a| a.parse())?;
    TASKS.iter().try_for_each(|task| measure(task, repeats))
}

fn measure(task: &Task, repeats: u64) -> Outcome<()> {
    let path = format!("{}/../../tests/data/{}.csv.gz", env!("CARGO_MANIFEST_DIR"), task.file);
    let mut table = csv::Reader::from_reader(GzDecoder::new(std::fs::File::open(path)?));
    let headers = table.headers()?.clone();
    let records = table.records().collect::<Result<Vec<_>, _>>()?;
    let column = |name: &str| -> Vec<&str> {
        let place = headers.iter().position(|header| header == name).unwrap_or(0);
        records.iter().map(|record| record.get(place).unwrap_or("")).collect()
    };
    let columns: Vec<Vec<&str>> = task.columns.iter().map(|name| column(name)).collect();
    let cells = (0..records.len()).flat_map(|row| columns.iter().map(move |c| c[row])).collect();
    let texts = Texts { columns: (0..columns.len() as u32).collect(), cells };
    let labels: Vec<bool> =
        column(task.target).iter().map(|label| ["t", "True"].contains(label)).collect();
    println!("{} from {}, {} rows", task.target, task.columns.join(", "), task.train);
    let tested = (0..repeats).map(|seed| repeat(task, &texts, &labels, seed));
    let tested = tested.collect::<Outcome<Vec<f64>>>()?;
    println!("  mean {:.4}", tested.iter().sum::<f64>() / tested.len() as f64);
    Ok(())
}

/// The AUC on the rows that were not trained on.
fn repeat(task: &Task, texts: &Texts<'_>, labels: &[bool], seed: u64) -> Outcome<f64> {
    let weights = vec![1.0; labels.len()];
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    Random::new(seed).shuffle(&mut order);
    let (rows, test) = order.split_at(task.train.min(order.len()));
    let start = Instant::now();
    let matrix = Matrix::read(View::default(), texts, rows)?;
    let read = start.elapsed().as_secs_f64();
    let places: Vec<usize> = (0..task.columns.len()).collect();
    let sample = Sample::new(&matrix, rows, labels, &weights, &places);
    let folds: Vec<u8> = (0..rows.len()).map(|row| (row % FOLDS) as u8).collect();
    let fit = choose(sample, &folds, GRID)?.ok_or("no column tells anything")?;
    let seconds = start.elapsed().as_secs_f64();
    let auc = |rows: &[u32], logits: &[f64]| {
        let labels: Vec<bool> = rows.iter().map(|row| labels[*row as usize]).collect();
        metrics::auc(logits, &labels).unwrap_or(f64::NAN)
    };
    let score = |row: &u32| fit.model.score(&matrix, &fit.columns, *row);
    let tested = auc(test, &test.iter().map(score).collect::<Vec<f64>>());
    let chosen: Vec<&str> = fit.columns.iter().map(|place| task.columns[*place]).collect();
    println!(
        "  {}, C {}: out of fold {:.4}, test {tested:.4}; {} buckets, {read:.1} of {seconds:.1} s",
        chosen.join(" + "),
        fit.c,
        auc(rows, &fit.out_of_fold),
        matrix.buckets()
    );
    Ok(tested)
}
