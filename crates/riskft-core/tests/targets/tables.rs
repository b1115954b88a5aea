//! Jobs of the protocol, and tables with anything in them.

use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::{prepare, Dataset};
use riskft_core::encode::{fit, EncodedRow, Encoding};
use riskft_core::options::{Method, Options, Role};
use riskft_core::protocol::{
    read_frame, BatchBuilder, Event, JobHeader, JobWriter, FRAME_BATCH, FRAME_END, FRAME_HEADER,
    PROTOCOL,
};
use riskft_core::refusal::{code, Result};

use super::bytes::Bytes;
use super::sound;

const TYPES: [ColumnType; 6] = [
    ColumnType::Bool,
    ColumnType::Int,
    ColumnType::Float,
    ColumnType::Text,
    ColumnType::Date,
    ColumnType::Timestamp,
];
const CODES: &[&str] = &[code::INVALID_PARAMETER, code::UNDEFINED_COLUMN, "42701"];

/// Bytes as a job, or as a line of the trainer's answer.
pub fn protocol(input: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<Event>(input) {
        assert!(serde_json::to_string(&event).is_ok());
    }
    match job(input) {
        Ok((header, data)) => trained(&data, &header),
        Err(refusal) => sound(&refusal, &[code::PROTOCOL_VIOLATION]),
    }
}

/// Reads a job as the trainer does.
fn job(mut input: &[u8]) -> Result<(JobHeader, Dataset)> {
    let mut payload = Vec::new();
    let broken = |what: &str| riskft_core::protocol::broken(what);
    if read_frame(&mut input, &mut payload)? != FRAME_HEADER {
        return Err(broken("the first frame is not a header"));
    }
    let header: JobHeader = serde_json::from_slice(&payload)
        .map_err(|e| broken(&format!("the header cannot be parsed: {e}")))?;
    let mut data = Dataset::new(&header.columns);
    loop {
        match read_frame(&mut input, &mut payload)? {
            FRAME_BATCH => data.append(&payload)?,
            FRAME_END => return Ok((header, data)),
            _ => {}
        }
    }
}

/// All decisions on a table, and every row encoded.
fn trained(data: &Dataset, header: &JobHeader) {
    let prepared = match prepare(data, header) {
        Ok(prepared) => prepared,
        Err(refusal) => return sound(&refusal, CODES),
    };
    assert_eq!(prepared.parts.len(), data.rows);
    assert_eq!(prepared.labels.len(), data.rows);
    let encoding = fit(data, &prepared, header);
    let json = serde_json::to_string(&encoding).unwrap();
    assert_eq!(serde_json::from_str::<Encoding>(&json).ok().as_ref(), Some(&encoding));
    let mut row = EncodedRow::default();
    for at in 0..data.rows {
        let of = |name: &str| data.column(name).map_or(Cell::Null, |column| column.cell(at));
        let cells: Vec<Cell<'_>> = encoding.columns.iter().map(|c| of(&c.name)).collect();
        encoding.encode_row(&cells, &mut row);
        for (input, position) in encoding.numbers.iter().zip(&row.positions) {
            let most = (input.edges.len() - 1) as f32;
            assert!(position.is_nan() || (0.0..=most).contains(position), "{position}");
        }
        for (input, code) in encoding.categories.iter().zip(&row.codes) {
            assert!((*code as usize) < input.codes());
        }
        assert!(encoding.serialised_row(&cells).len() < 1 << 20);
    }
}

/// Bytes as decisions on a small table: names, types, cells, and what the caller says of them.
pub fn dataset(input: &[u8]) {
    let mut bytes = Bytes(input);
    let columns: Vec<SourceColumn> =
        (0..2 + bytes.below(5)).map(|i| column(&mut bytes, i)).collect();
    let mut data = Dataset::new(&columns);
    let header = header(&mut bytes, columns);
    let rows = 40 + bytes.below(160);
    for column in &mut data.columns {
        let cells: Vec<Owned> = (0..1 + bytes.below(12))
            .map(|_| Owned::draw(&mut bytes, column.source.column_type))
            .collect();
        let stride = 1 + bytes.below(9);
        for row in 0..rows {
            // Columns are cycles of their cells, or drawn from the bytes.
            let at = if bytes.done() { row * stride / 3 } else { bytes.below(256) };
            column.push(cells[at % cells.len()].cell());
        }
    }
    data.rows = rows;
    trained(&data, &header);
}

fn column(bytes: &mut Bytes<'_>, index: usize) -> SourceColumn {
    let name = match bytes.below(8) {
        0 => bytes.text(70),
        1 => "y".to_owned(),
        _ => format!("c{index}"),
    };
    let hints =
        [TypeHint::None, TypeHint::None, TypeHint::Money, TypeHint::Label, TypeHint::Identifier];
    SourceColumn {
        name,
        column_type: TYPES[bytes.below(TYPES.len())],
        hint: hints[bytes.below(hints.len())],
        declared: String::new(),
    }
}

fn header(bytes: &mut Bytes<'_>, columns: Vec<SourceColumn>) -> JobHeader {
    let any = |bytes: &mut Bytes<'_>| columns[bytes.below(columns.len())].name.clone();
    let maybe = |bytes: &mut Bytes<'_>| bytes.below(4) == 0;
    let mut options = Options { seed: bytes.word(), ..Options::default() };
    let roles = [
        Role::Number,
        Role::Category,
        Role::Text,
        Role::Date,
        Role::Flag,
        Role::Ignored,
        Role::Target,
    ];
    if maybe(bytes) {
        options.roles.insert(any(bytes), roles[bytes.below(roles.len())]);
    }
    JobHeader {
        protocol: PROTOCOL,
        model: "m".into(),
        relation: "t".into(),
        target: any(bytes),
        positive: maybe(bytes).then(|| bytes.text(12)),
        exclude: if maybe(bytes) { vec![any(bytes)] } else { Vec::new() },
        time_column: if maybe(bytes) { Some(any(bytes)) } else { None },
        method: if maybe(bytes) { Method::Lora } else { Method::None },
        base: String::new(),
        base_dir: String::new(),
        options,
        columns: columns.clone(),
        unread: Vec::new(),
        reference_date: if maybe(bytes) { bytes.word() as i32 } else { 20_454 },
    }
}

enum Owned {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Date(i32),
    Timestamp(i64),
}

impl Owned {
    fn draw(bytes: &mut Bytes<'_>, kind: ColumnType) -> Self {
        if bytes.below(8) == 0 {
            return Owned::Null;
        }
        let number = match bytes.below(4) {
            0 => bytes.word(),
            1 => u64::from(bytes.byte()),
            2 => (bytes.byte() as i8) as u64,
            _ => [0, 1, i64::MAX as u64, i64::MIN as u64, 20_454, 7 << 60][bytes.below(6)],
        };
        match kind {
            ColumnType::Bool => Owned::Bool(number % 2 == 1),
            ColumnType::Int => Owned::Int(number as i64),
            ColumnType::Float if bytes.below(2) == 0 => Owned::Float(f64::from_bits(number)),
            ColumnType::Float => Owned::Float(number as i64 as f64 / 4.0),
            ColumnType::Date => Owned::Date(number as i32),
            ColumnType::Timestamp => Owned::Timestamp(number as i64),
            ColumnType::Text => Owned::Text(text(bytes, number as i64)),
        }
    }

    fn cell(&self) -> Cell<'_> {
        match self {
            Owned::Null => Cell::Null,
            Owned::Bool(v) => Cell::Bool(*v),
            Owned::Int(v) => Cell::Int(*v),
            Owned::Float(v) => Cell::Float(*v),
            Owned::Text(v) => Cell::Text(v),
            Owned::Date(v) => Cell::Date(*v),
            Owned::Timestamp(v) => Cell::Timestamp(*v),
        }
    }
}

/// Free text, or what parsers of numbers and dates take for theirs.
fn text(bytes: &mut Bytes<'_>, number: i64) -> String {
    let (a, b, c) = (bytes.byte(), bytes.byte(), bytes.byte());
    match bytes.below(10) {
        0 => format!("${number},000.{a}"),
        1 => format!("({a}.{b})%"),
        2 => format!("{number} months"),
        3 => format!("{a:04}-{b}-{c}"),
        4 => format!("{b}/{c}/{number}"),
        5 => format!("{a:05}"),
        6 => format!("{number}e{a}"),
        7 => {
            ["t", "no", "NaN", "inf", "-0", "+", "1,000,00", "\u{feff}", "٣"][bytes.below(9)].into()
        }
        8 => format!("{} {}", bytes.text(20), bytes.text(20)),
        _ => bytes.text(200),
    }
}

pub fn jobs() -> Vec<Vec<u8>> {
    let source = |name: &str, column_type| SourceColumn {
        name: name.into(),
        column_type,
        hint: TypeHint::None,
        declared: String::new(),
    };
    let mut columns: Vec<SourceColumn> =
        TYPES.iter().enumerate().map(|(i, kind)| source(&format!("c{i}"), *kind)).collect();
    columns.push(source("y", ColumnType::Bool));
    let mut header = header(&mut Bytes(&[1; 64]), columns.clone());
    header.target = "y".into();
    let mut batch = BatchBuilder::new(&columns);
    for i in 0..60i64 {
        let text = ["CA", "NY", "$1,000.00", "2026-01-31"][i as usize % 4];
        let row = [
            Cell::Bool(i % 3 == 0),
            Cell::Int(i * i),
            if i % 7 == 0 { Cell::Null } else { Cell::Float(i as f64 / 3.0) },
            Cell::Text(text),
            Cell::Date(20_000 + i as i32),
            Cell::Timestamp(i << 40),
            Cell::Bool(i % 2 == 0),
        ];
        batch.push(&row).unwrap();
    }
    let mut out = JobWriter::new(Vec::new(), &header).unwrap();
    out.batch(&batch).unwrap();
    let job = out.end().unwrap();
    let lines = [
        r#"{"progress": {"phase": "head", "done": 1, "total": 2, "epoch": 1, "loss": 0.5}}"#,
        r#"{"warning": ["a", "b"]}"#,
        r#"{"refused": {"code": "22000", "message": "a"}}"#,
    ];
    [job].into_iter().chain(lines.map(|line| line.as_bytes().to_vec())).collect()
}

pub fn tables() -> Vec<Vec<u8>> {
    (1..6u8).map(|k| (0..200u8).map(|i| i.wrapping_mul(k).wrapping_mul(37)).collect()).collect()
}
