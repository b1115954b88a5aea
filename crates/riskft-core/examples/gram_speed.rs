//! Texts per second through a table of n-grams, on one core: real narratives and real names.
//!
//! ```text
//! cargo run --release -p riskft-core --example gram_speed
//! ```

use std::time::Instant;

use flate2::read::GzDecoder;
use riskft_core::grams::{Reader, Table, View};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    measure("narratives", &column("cfpb_complaints", "narrative")?)?;
    for name in ["borrower", "bank", "city"] {
        measure(name, &column("sba_loans", name)?)?;
    }
    Ok(())
}

fn column(file: &str, name: &str) -> Outcome<Vec<String>> {
    let path = format!("{}/../../tests/data/{file}.csv.gz", env!("CARGO_MANIFEST_DIR"));
    let mut table = csv::Reader::from_reader(GzDecoder::new(std::fs::File::open(path)?));
    let index = table.headers()?.iter().position(|header| header == name);
    let index = index.ok_or("no such column")?;
    let cell = |row: csv::StringRecord| row.get(index).unwrap_or("").to_owned();
    table.records().map(|row| Ok(cell(row?))).collect()
}

/// Every bucket that a text has is known.
fn measure(what: &str, texts: &[String]) -> Outcome<()> {
    let view = View::default();
    let mut reader = Reader::default();
    let (mut known, mut grams) = (vec![false; view.buckets()], 0);
    for text in texts {
        reader.read(&view, 0, text, |buckets| {
            grams += buckets.len();
            buckets.iter().for_each(|bucket| known[*bucket as usize] = true);
        });
    }
    let known: Vec<(u32, f32)> =
        (0..).zip(&known).filter(|(_, known)| **known).map(|(bucket, _)| (bucket, 2.0)).collect();
    let mut table = Table::new(view, &known)?;
    table.set_weights(&vec![0.1; known.len()], 0.0)?;
    let bytes: usize = texts.iter().map(String::len).sum();
    let (count, buckets) = (texts.len(), known.len());
    println!("{count} {what}, {} bytes and {} n-grams each", bytes / count, grams / count);
    let rounds = 1 + 20_000_000 / bytes.max(1);
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let start = Instant::now();
        let mut sum = 0.0;
        for _ in 0..rounds {
            sum += texts.iter().map(|text| table.grams().term(0, text, &mut reader)).sum::<f64>();
        }
        assert!(std::hint::black_box(sum).is_finite());
        best = best.max((rounds * count) as f64 / start.elapsed().as_secs_f64());
    }
    println!(
        "  {best:.0} texts/s over {buckets} buckets, {:.1} MB/s",
        best * bytes as f64 / count as f64 / 1e6
    );
    Ok(())
}
