//! One section of the figures, as Markdown on standard output: `riskft-bench SECTION`.

mod accuracy;
mod cost;
mod scale;
mod speed;
mod training;

fn main() {
    let section = std::env::args().nth(1).unwrap_or_default();
    let text = match section.as_str() {
        "accuracy" => accuracy::measure(),
        "cost" => cost::measure(),
        "scale" => scale::measure(),
        "speed" => speed::measure(),
        other => {
            eprintln!("riskft-bench: no section \"{other}\"; accuracy, cost, scale or speed");
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
