//! Prints the roles and the encoding of a sample table, to look at the decisions:
//!
//! ```text
//! cargo run --release -p riskft-core --example describe -- loans|complaints [EXCLUDED]...
//! ```

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use riskft_core::dataset::{prepare, Part};
use riskft_core::encode::fit;
use riskft_core::options::Method;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (data, target) = match arguments.first().map(String::as_str) {
        Some("loans") => (common::loans(), "defaulted"),
        Some("complaints") => (common::complaints(), "fee_issue"),
        _ => return Err("usage: describe loans|complaints [EXCLUDED]...".into()),
    };
    let mut header = common::header(&data, target);
    header.exclude = arguments[1..].to_vec();
    header.method = Method::Lora;
    let start = Instant::now();
    let prepared = prepare(&data, &header)?;
    println!("prepare: {:.2} s", start.elapsed().as_secs_f64());
    for report in &prepared.reports {
        println!(
            "{:16} {:10} missing {:.3} distinct {:6} alone {:5.3}  {}",
            report.column_name,
            format!("{:?}", report.role),
            report.missing_share,
            report.distinct_values,
            report.alone_auc.unwrap_or(f64::NAN),
            report.why
        );
    }
    prepared.notices.iter().for_each(|notice| println!("NOTICE {notice}"));
    prepared.warnings.iter().for_each(|(m, d)| println!("WARNING {m}: {d}"));
    for part in Part::LABELLED {
        println!("{}: {} rows", part.name(), prepared.rows(part).len());
    }
    let start = Instant::now();
    let encoding = fit(&data, &prepared, &header);
    println!("fit: {:.2} s", start.elapsed().as_secs_f64());
    for number in &encoding.numbers {
        println!("number   {:40} {:2} edges {:?}", number.name, number.edges.len(), number.edges);
    }
    for category in &encoding.categories {
        println!(
            "category {:40} {:4} codes, width {}",
            category.name,
            category.codes(),
            category.dimension()
        );
    }
    for text in &encoding.texts {
        println!("text     {:40} {:3} tokens", text.name, text.max_tokens);
    }
    let start = Instant::now();
    let mut sum = 0.0;
    for row in 0..data.rows {
        sum += common::encoded(&data, &encoding, row)
            .positions
            .iter()
            .filter(|p| !p.is_nan())
            .sum::<f32>();
    }
    println!("encoded {} rows in {:.3} s ({sum})", data.rows, start.elapsed().as_secs_f64());
    Ok(())
}
