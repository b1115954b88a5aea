//! Small data sets for tests and examples: built cell by cell, or read from a CSV file.
#![allow(dead_code)]

use std::path::Path;

use flate2::read::MultiGzDecoder;
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::{dates, prepare, Dataset};
use riskft_core::encode::{
    fit, EncodedColumn, EncodedRow, Encoding, NumberInput, NumberSource, TextFormat,
};
use riskft_core::options::{Method, Options, Role};
use riskft_core::protocol::{JobHeader, PROTOCOL};
use riskft_core::refusal::Refusal;

/// 2026-01-01
pub const REFERENCE: i32 = 20_454;

pub fn column(name: &str, column_type: ColumnType) -> SourceColumn {
    SourceColumn { name: name.into(), column_type, hint: TypeHint::None, declared: String::new() }
}

/// A data set of named, typed columns of cells.
pub fn dataset(columns: &[(&str, ColumnType, Vec<Cell<'_>>)]) -> Dataset {
    let sources: Vec<SourceColumn> = columns.iter().map(|(n, t, _)| column(n, *t)).collect();
    let mut data = Dataset::new(&sources);
    for (column, (name, _, cells)) in data.columns.iter_mut().zip(columns) {
        assert_eq!(cells.len(), columns[0].2.len(), "{name}");
        cells.iter().for_each(|cell| column.push(*cell));
    }
    data.rows = columns[0].2.len();
    data
}

pub fn header(data: &Dataset, target: &str) -> JobHeader {
    JobHeader {
        protocol: PROTOCOL,
        model: "m".into(),
        relation: "t".into(),
        target: target.into(),
        positive: None,
        exclude: Vec::new(),
        time_column: None,
        method: Method::None,
        base: String::new(),
        base_dir: String::new(),
        options: Options::default(),
        columns: data.columns.iter().map(|c| c.source.clone()).collect(),
        unread: Vec::new(),
        reference_date: REFERENCE,
    }
}

/// The encoded row of a data set.
pub fn encoded(data: &Dataset, encoding: &Encoding, row: usize) -> EncodedRow {
    let cell = |name: &str| data.column(name).map_or(Cell::Null, |column| column.cell(row));
    let cells: Vec<Cell<'_>> = encoding.columns.iter().map(|column| cell(&column.name)).collect();
    let mut out = EncodedRow::default();
    encoding.encode_row(&cells, &mut out);
    out
}

/// A CSV file (.gz) with the given types; other columns are text; an empty cell is NULL.
pub fn csv(path: &Path, types: &[(&str, ColumnType)]) -> Dataset {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
    let names = reader.headers().expect("a header line").clone();
    let kind = |name: &str| types.iter().find(|t| t.0 == name).map_or(ColumnType::Text, |t| t.1);
    let sources: Vec<SourceColumn> = names.iter().map(|name| column(name, kind(name))).collect();
    let mut data = Dataset::new(&sources);
    for record in reader.records() {
        let record = record.expect("a CSV record");
        for (column, text) in data.columns.iter_mut().zip(&record) {
            column.push(cell(column.source.column_type, text));
        }
        data.rows += 1;
    }
    data
}

fn cell(kind: ColumnType, text: &str) -> Cell<'_> {
    if text.is_empty() {
        return Cell::Null;
    }
    let micros = || dates::date(text, TextFormat::DateIso, REFERENCE);
    match kind {
        ColumnType::Bool => Cell::Bool(matches!(text, "True" | "true" | "t" | "1")),
        ColumnType::Int => text.parse().map_or(Cell::Null, Cell::Int),
        ColumnType::Float => text.parse().map_or(Cell::Null, Cell::Float),
        ColumnType::Date => {
            micros().map_or(Cell::Null, |m| Cell::Date((m / dates::MICROS_PER_DAY) as i32))
        }
        ColumnType::Timestamp => micros().map_or(Cell::Null, Cell::Timestamp),
        ColumnType::Text => Cell::Text(text),
    }
}

/// The folder of the sample tables.
pub fn data_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data")
}

/// The 20,000 loans as the demo loads them.
pub fn loans() -> Dataset {
    use ColumnType::{Bool, Date, Float, Int};
    let types = [
        ("loan_id", Int),
        ("approved_on", Date),
        ("fiscal_year", Int),
        ("employees", Int),
        ("new_business", Bool),
        ("jobs_created", Int),
        ("jobs_retained", Int),
        ("franchise_code", Int),
        ("revolving", Bool),
        ("low_doc", Bool),
        ("disbursed", Float),
        ("approved_gross", Float),
        ("sba_guaranteed", Float),
        ("defaulted", Bool),
    ];
    csv(&data_folder().join("sba_loans.csv.gz"), &types)
}

/// The 1,926 complaints.
pub fn complaints() -> Dataset {
    use ColumnType::{Bool, Int};
    let types = [("complaint_id", Int), ("fee_issue", Bool), ("relief", Bool)];
    csv(&data_folder().join("cfpb_complaints.csv.gz"), &types)
}

/// A uniform number in [0, 1) for each (seed, index).
pub fn uniform(seed: u64, index: usize) -> f64 {
    (riskft_core::dataset::hash::mix(seed << 32 ^ index as u64) >> 11) as f64 / (1u64 << 53) as f64
}

pub fn ints(values: impl Iterator<Item = i64>) -> Vec<Cell<'static>> {
    values.map(Cell::Int).collect()
}

pub fn floats(seed: u64, rows: usize) -> Vec<Cell<'static>> {
    (0..rows).map(|i| Cell::Float(uniform(seed, i) * 1000.0)).collect()
}

pub fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Cell<'a>> {
    values.map(Cell::Text).collect()
}

pub fn bools(values: impl Iterator<Item = bool>) -> Vec<Cell<'static>> {
    values.map(Cell::Bool).collect()
}

pub fn refused(data: &Dataset, target: &str, positive: Option<&str>) -> Refusal {
    let mut header = header(data, target);
    header.positive = positive.map(str::to_owned);
    prepare(data, &header).map(|_| ()).unwrap_err()
}

pub fn fitted_with(data: &Dataset, header: &JobHeader) -> Encoding {
    let prepared = prepare(data, header).expect("prepared");
    fit(data, &prepared, header)
}

pub fn fitted(data: &Dataset) -> Encoding {
    fitted_with(data, &header(data, "y"))
}

pub fn y(rows: usize) -> (&'static str, ColumnType, Vec<Cell<'static>>) {
    ("y", ColumnType::Bool, (0..rows).map(|i| Cell::Bool(uniform(1, i) < 0.3)).collect())
}

/// An encoding of one column, by hand.
pub fn single(kind: ColumnType, role: Role, format: TextFormat, edges: Vec<f64>) -> Encoding {
    Encoding {
        columns: vec![EncodedColumn { name: "x".into(), column_type: kind, role, format }],
        numbers: vec![NumberInput { name: "x".into(), source: NumberSource::Value(0), edges }],
        reference_date: REFERENCE,
        ..Encoding::default()
    }
}

pub fn position(encoding: &Encoding, cell: Cell<'_>) -> f32 {
    let mut row = EncodedRow::default();
    encoding.encode_row(&[cell], &mut row);
    row.positions[0]
}
