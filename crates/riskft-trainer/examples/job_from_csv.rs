//! A training job from a CSV file (plain or .gz), for trials without PostgreSQL:
//!
//! ```text
//! job_from_csv loans.csv.gz loans.job '{"target": "defaulted", "exclude": ["loan_id"],
//!     "method": "lora", "base_dir": "...", "options": {"seed": 1}}' defaulted=bool zip=text ...
//! riskft-trainer run loans.job --out /tmp/loans
//! ```
//!
//! Columns are text unless named as `name=bool|int|float|date|text`; an empty cell is NULL.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};

use flate2::read::MultiGzDecoder;
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::options::{Method, Options};
use riskft_core::protocol::{BatchBuilder, JobHeader, JobWriter, PROTOCOL};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, settings, types @ ..] = arguments.as_slice() else {
        return Err("usage: job_from_csv CSV JOBFILE SETTINGS [COLUMN=TYPE]...".into());
    };
    let file = BufReader::new(File::open(input)?);
    let text: Box<dyn Read> = match input.ends_with(".gz") {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut table = csv::Reader::from_reader(text);
    let columns = columns(table.headers()?, types)?;
    let header = header(&serde_json::from_str(settings)?, &columns)?;
    let mut job = JobWriter::new(BufWriter::new(File::create(output)?), &header)?;
    let mut batch = BatchBuilder::new(&columns);
    for record in table.records() {
        let record = record?;
        let cells = columns.iter().zip(&record).map(|(c, v)| cell(c.column_type, v));
        batch.push(&cells.collect::<Result<Vec<_>>>()?)?;
        if batch.rows() == 1000 {
            job.batch(&batch)?;
            batch.clear();
        }
    }
    job.batch(&batch)?;
    job.end()?;
    Ok(())
}

fn columns(names: &csv::StringRecord, types: &[String]) -> Result<Vec<SourceColumn>> {
    let given = |name: &str| {
        types.iter().filter_map(|t| t.split_once('=')).find(|(n, _)| *n == name).map(|(_, t)| t)
    };
    let column = |name: &str| {
        let declared = given(name).unwrap_or("text");
        let column_type = serde_json::from_value(Value::from(declared))?;
        Ok(SourceColumn {
            name: name.into(),
            column_type,
            hint: TypeHint::None,
            declared: declared.into(),
        })
    };
    names.iter().map(column).collect()
}

fn header(settings: &Value, columns: &[SourceColumn]) -> Result<JobHeader> {
    let text = |key: &str| settings[key].as_str().map(str::to_owned);
    let list = |key: &str| settings[key].as_array().cloned().unwrap_or_default();
    Ok(JobHeader {
        protocol: PROTOCOL,
        model: text("model").unwrap_or_else(|| "trial".into()),
        relation: text("relation").unwrap_or_else(|| "file".into()),
        target: text("target").ok_or("the settings name no target")?,
        positive: text("positive"),
        exclude: list("exclude").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        time_column: text("time_column"),
        method: Method::parse(&text("method").unwrap_or_else(|| "none".into()))?,
        base: text("base").unwrap_or_else(|| "minilm-l6".into()),
        base_dir: text("base_dir").unwrap_or_default(),
        options: Options::parse(&settings["options"])?,
        columns: columns.to_vec(),
        unread: Vec::new(),
        reference_date: settings["reference_date"].as_i64().unwrap_or(20_000) as i32,
    })
}

fn cell(kind: ColumnType, text: &str) -> Result<Cell<'_>> {
    if text.is_empty() {
        return Ok(Cell::Null);
    }
    Ok(match kind {
        ColumnType::Bool => Cell::Bool(matches!(text, "True" | "true" | "t" | "1")),
        ColumnType::Int => Cell::Int(text.parse()?),
        ColumnType::Float => Cell::Float(text.parse()?),
        ColumnType::Date => Cell::Date(days(text)?),
        ColumnType::Timestamp => Cell::Timestamp(i64::from(days(text)?) * 86_400_000_000),
        ColumnType::Text => Cell::Text(text),
    })
}

/// Days since 1970-01-01 of an ISO date (Hinnant's algorithm).
fn days(text: &str) -> Result<i32> {
    let mut parts = text.splitn(3, '-').map(str::parse::<i32>);
    let mut next = || parts.next().ok_or("a date is not ISO");
    let (year, month, day) = (next()??, next()??, next()??);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}
