//! Seconds and peak memory of prepare, fit and encode on a table of numbers:
//!
//! ```text
//! cargo run --release -p riskft-core --example encode_speed -- [ROWS] [COLUMNS]
//! ```

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{prepare, Dataset};
use riskft_core::encode::{fit, EncodedRow};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let rows = arguments.next().transpose()?.unwrap_or(1_000_000);
    let columns = arguments.next().transpose()?.unwrap_or(20);
    let mut sources: Vec<_> =
        (0..columns).map(|i| common::column(&format!("x{i}"), ColumnType::Float)).collect();
    sources.push(common::column("y", ColumnType::Bool));
    let mut data = Dataset::new(&sources);
    for row in 0..rows {
        for (index, column) in data.columns.iter_mut().enumerate() {
            let u = common::uniform(index as u64, row);
            let missing = u > 0.98;
            match index == columns {
                true => column.push(Cell::Bool(u < 0.2)),
                false if missing => column.push(Cell::Null),
                false => column.push(Cell::Float(u * 10f64.powi(index as i32 % 6))),
            }
        }
    }
    data.rows = rows;
    println!("{rows} rows x {columns} columns, {} MiB", peak_mib());
    let header = common::header(&data, "y");
    let start = Instant::now();
    let prepared = prepare(&data, &header)?;
    println!("prepare {:.2} s, peak {} MiB", start.elapsed().as_secs_f64(), peak_mib());
    let start = Instant::now();
    let encoding = fit(&data, &prepared, &header);
    println!(
        "fit {:.2} s: {} numbers, peak {} MiB",
        start.elapsed().as_secs_f64(),
        encoding.numbers.len(),
        peak_mib()
    );
    let mut plain = encoding.clone();
    plain.numbers.truncate(columns);
    for (what, encoding) in [("with ratios", &encoding), ("without", &plain)] {
        let mut out = EncodedRow::default();
        let mut sum = 0.0;
        let start = Instant::now();
        for row in 0..rows {
            let cells: Vec<Cell<'_>> =
                data.columns.iter().take(columns).map(|c| c.cell(row)).collect();
            encoding.encode_row(&cells, &mut out);
            sum += out.positions.iter().filter(|p| !p.is_nan()).sum::<f32>();
        }
        let rate = rows as f64 / start.elapsed().as_secs_f64();
        println!("encode {what}: {rate:.0} rows/s ({} numbers, {sum})", encoding.numbers.len());
    }
    Ok(())
}

/// Peak resident memory where the system tells it, else 0.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
        / 1024
}
