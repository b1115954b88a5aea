//! One section of the figures, as Markdown on standard output: `riskft-bench SECTION`; or
//! `riskft-bench cells FOLDER [EXPERIMENT...]`, riskft's side of benches/accuracy.

mod ab;
mod accuracy;
mod cells;
mod cost;
mod drift;
mod estimate;
mod explain;
mod reduce;
mod scale;
mod score_table;
mod speed;
mod training;
mod update;

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let section = arguments.first().map_or("", String::as_str);
    let text = match section {
        "cells" => {
            let folder = arguments.get(1).map_or("", String::as_str);
            return cells::run(Path::new(folder), arguments.get(2..).unwrap_or_default());
        }
        "ab" => ab::measure(),
        "accuracy" => accuracy::measure(),
        "cost" => cost::measure(),
        "drift" => drift::measure(),
        "estimate" => estimate::measure(),
        "reduce" => reduce::measure(),
        "explain" => explain::measure(),
        "scale" => scale::measure(),
        "score_table" => score_table::measure(),
        "speed" => speed::measure(),
        "update" => update::measure(),
        other => {
            eprintln!(
                "riskft-bench: no section \"{other}\"; ab, accuracy, cells, cost, drift, estimate, explain, reduce, scale, score_table, speed or update"
            );
            std::process::exit(2);
        }
    };
    print!("{text}");
}

/// The middle value; the mean of the two middle ones for an even count.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// `reached` or `MISSED`: a figure that misses its target is written down as a miss.
fn verdict(reached: bool) -> &'static str {
    if reached {
        "reached"
    } else {
        "MISSED"
    }
}
