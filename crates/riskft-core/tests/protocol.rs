//! The job format: what goes in comes out; whatever else arrives is refused, never a panic.

mod common;

use common::{column, uniform, REFERENCE};
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::Dataset;
use riskft_core::metrics::Metric;
use riskft_core::options::{Method, Options, Role};
use riskft_core::protocol::*;
use riskft_core::reduce::{self, Wanted};
use riskft_core::refusal::{Refusal, Result};
use riskft_core::select::Ranked;

const KINDS: [ColumnType; 6] = [
    ColumnType::Bool,
    ColumnType::Int,
    ColumnType::Float,
    ColumnType::Text,
    ColumnType::Date,
    ColumnType::Timestamp,
];

fn columns() -> Vec<SourceColumn> {
    KINDS.iter().map(|kind| column(&format!("{kind:?}"), *kind)).collect()
}

fn header() -> JobHeader {
    JobHeader {
        protocol: PROTOCOL,
        model: "m".into(),
        relation: "public.\"My Loans\"".into(),
        target: "Bool".into(),
        positive: Some("t".into()),
        exclude: vec!["Int".into()],
        time_column: None,
        method: Method::Lora,
        base: "minilm-l6".into(),
        base_dir: String::new(),
        options: Options::default(),
        columns: columns(),
        unread: vec![("doc".into(), "jsonb".into())],
        reference_date: REFERENCE,
    }
}

fn row(i: usize, text: &str) -> [Cell<'_>; 6] {
    let n = (uniform(1, i) * 1e6) as i64;
    let cells = [
        Cell::Bool(i.is_multiple_of(3)),
        Cell::Int(i64::MIN + n),
        Cell::Float([f64::NAN, f64::INFINITY, -0.0, 1.5][i % 4]),
        Cell::Text(text),
        Cell::Date(i32::MAX - n as i32),
        Cell::Timestamp(n - i64::MAX),
    ];
    let mut out = cells;
    out[i % 6] = if i.is_multiple_of(2) { Cell::Null } else { out[i % 6] };
    out
}

fn job(rows: usize, per_batch: usize) -> Vec<u8> {
    let mut writer = JobWriter::new(Vec::new(), &header()).expect("a Vec takes all");
    let mut batch = BatchBuilder::new(&columns());
    for i in 0..rows {
        batch.push(&row(i, ["", "é😀", "a,b\n", "x"][i % 4])).expect("cells of the right types");
        if batch.rows() as usize == per_batch {
            writer.batch(&batch).expect("a Vec takes all");
            batch.clear();
        }
    }
    writer.batch(&batch).expect("a Vec takes all");
    writer.end().expect("a Vec takes all")
}

/// Reads a job as the trainer does.
fn read(mut bytes: &[u8]) -> Result<(JobHeader, Dataset)> {
    let mut payload = Vec::new();
    let kind = read_frame(&mut bytes, &mut payload)?;
    if kind != FRAME_HEADER {
        return Err(broken("the first frame is no header"));
    }
    let header: JobHeader = serde_json::from_slice(&payload).map_err(|e| broken(&e.to_string()))?;
    let mut data = Dataset::new(&header.columns);
    loop {
        match read_frame(&mut bytes, &mut payload)? {
            FRAME_BATCH => data.append(&payload)?,
            FRAME_END => return Ok((header, data)),
            _ => return Err(broken("a frame is of an unknown kind")),
        }
    }
}

fn same(a: Cell<'_>, b: Cell<'_>) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

#[test]
fn a_job_goes_round_in_any_batches() {
    for per_batch in [1, 7, 1000] {
        let (read_header, data) = read(&job(50, per_batch)).expect("a whole job");
        assert_eq!(read_header, header());
        assert_eq!(data.rows, 50);
        for i in 0..50 {
            let wanted = row(i, ["", "é😀", "a,b\n", "x"][i % 4]);
            for (column, wanted) in data.columns.iter().zip(wanted) {
                assert!(same(column.cell(i), wanted), "row {i}, {}", column.source.name);
            }
        }
    }
}

#[test]
fn a_job_cut_short_is_refused_at_every_byte() {
    let whole = job(20, 8);
    for length in 0..whole.len() {
        let refusal = read(&whole[..length]).map(|_| ()).unwrap_err();
        assert_eq!(refusal.code, "08P01", "at {length}");
        assert!(refusal.detail.ends_with('.'), "{}", refusal.detail);
    }
}

/// A changed byte gives other cells or a refusal; it never panics and never takes more memory
/// than the job's own size allows.
#[test]
fn bit_flips_never_panic() {
    let whole = job(20, 8);
    let mut refused = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            match read(&bytes) {
                Ok((_, data)) => assert!(data.columns.iter().all(|c| c.present.len() == data.rows)),
                Err(refusal) => {
                    assert_eq!(refusal.code, "08P01");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > whole.len(), "{refused} of {} flips were refused", whole.len() * 8);
}

#[test]
fn lengths_are_bounded_before_memory_is_taken() {
    let mut huge = vec![FRAME_BATCH];
    huge.extend_from_slice(&u32::MAX.to_le_bytes());
    let refusal = read_frame(&mut huge.as_slice(), &mut Vec::new()).unwrap_err();
    assert!(refusal.detail.contains("longer than allowed"), "{}", refusal.detail);
    // A batch of four billion rows in eight bytes, and a text of four gigabytes.
    let rows = [u32::MAX.to_le_bytes(), [0; 4]].concat();
    assert!(read_batch(&rows, &[ColumnType::Bool], |_, _, _| Ok(())).is_err());
    let mut text = 1u32.to_le_bytes().to_vec();
    text.push(1);
    text.extend_from_slice(&u32::MAX.to_le_bytes());
    let refusal = read_batch(&text, &[ColumnType::Text], |_, _, _| Ok(())).unwrap_err();
    assert!(refusal.detail.contains("longer than allowed"), "{}", refusal.detail);
    assert!(write_frame(&mut Vec::new(), FRAME_BATCH, &vec![0; MAX_FRAME + 1]).is_err());
}

#[test]
fn cells_of_a_wrong_type_or_number_are_refused() {
    let mut batch = BatchBuilder::new(&columns());
    assert_eq!(batch.push(&[Cell::Null]).unwrap_err().code, "08P01");
    let mut wrong = row(1, "x");
    wrong[0] = Cell::Int(1);
    assert_eq!(batch.push(&wrong).unwrap_err().code, "08P01");
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let columns = [column("t", ColumnType::Text)];
    let mut batch = BatchBuilder::new(&columns);
    let long = "ﷺ".repeat(MAX_TEXT);
    batch.push(&[Cell::Text(&long)]).expect("a text");
    let mut data = Dataset::new(&columns);
    data.append(&batch.payload()).expect("a batch");
    let Cell::Text(text) = data.columns[0].cell(0) else { panic!("a text") };
    assert!(text.len() <= MAX_TEXT && text.len() > MAX_TEXT - 3 && long.starts_with(text));
}

#[test]
fn events_are_one_line_each() {
    let refusal = Refusal::new("22023", "too few rows").detail("It has\nnone.");
    let metric = Metric { metric: "auc".into(), value: None, ci_low: None, ci_high: Some(0.5) };
    let events = [
        Event::Progress(Progress { phase: "head".into(), loss: Some(0.5), ..Progress::default() }),
        Event::Notice("two\nlines".into()),
        Event::Warning("w".into(), "d".into()),
        Event::Refused(refusal),
        Event::Result(Box::new(TrainingResult {
            positive_label: "t".into(),
            negative_label: "f".into(),
            threshold: 0.4,
            figures: Figures {
                features: vec![FeatureReport {
                    column_name: "сумма".into(),
                    role: Role::Number,
                    why: "numbers".into(),
                    missing_share: 0.25,
                    distinct_values: 7,
                    alone_auc: Some(0.6),
                }],
                metrics: vec![PartMetric { part: "test".into(), metric }],
                branches: vec![BranchReport {
                    branch: "trees".into(),
                    weight: 0.5,
                    ..BranchReport::default()
                }],
                periods: vec![PeriodReport::default()],
                trials: vec![TrialReport::default()],
                importances: vec![ImportanceReport::default()],
                effects: vec![EffectReport::default()],
                reference: vec![riskft_core::drift::score(&[0.1, 0.2])],
                curve: riskft_core::curve::bins(&[0.1; 12], &[true; 12]),
            },
            gate: GateReport::default(),
            ledger: Ledger::default(),
            incumbent: None,
            update: None,
            blobs: vec![BlobHeader { kind: BlobKind::Version, digest: "ab".into(), length: 3 }],
        })),
        Event::Reduction(Box::new(ReductionResult {
            ledger: Ledger { rows: 7, ..Ledger::default() },
            blobs: vec![BlobHeader { kind: BlobKind::Reducer, digest: "cd".into(), length: 5 }],
        })),
        Event::Selection(Box::new(SelectionResult {
            columns: vec![Ranked {
                rank: 1,
                column_name: "Größe".into(),
                mean_abs_shap: Some(0.1 + 0.2),
                share: None,
                twin_of: Some("größe".into()),
            }],
            ledger: Ledger { rows: 7, ..Ledger::default() },
        })),
        Event::Estimate(Box::new(EstimateResult {
            phases: vec![PhaseEstimate {
                phase: "tune".into(),
                seconds: 0.1 + 0.2,
                seconds_if_text_adds: 0.1,
            }],
            memory_bytes: 1 << 40,
            ledger: Ledger { rows: 7, ..Ledger::default() },
        })),
    ];
    for event in events {
        let line = serde_json::to_string(&event).expect("an event serialises");
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Event>(&line).expect("and parses"), event);
    }
    assert!(serde_json::from_str::<Event>("{\"pickle\":1}").is_err());
    assert_eq!(TypeHint::default(), TypeHint::None);
}

#[test]
fn each_kind_of_job_says_what_it_is_in_its_first_frame() {
    for wanted in [Wanted::Count(50), Wanted::Share(0.95)] {
        let header = ReductionHeader {
            protocol: PROTOCOL,
            reducer: "Größe".into(),
            relation: "SELECT 1 AS a".into(),
            wanted,
            options: reduce::Options { threads: 2 },
            columns: vec![column("a", ColumnType::Int), column("b", ColumnType::Float)],
        };
        let job = JobWriter::reduction(Vec::new(), &header).and_then(JobWriter::end);
        let job = job.expect("a Vec takes all");
        let mut payload = Vec::new();
        let kind = read_frame(&mut job.as_slice(), &mut payload).expect("a frame");
        assert_eq!(kind, FRAME_REDUCTION);
        let read: ReductionHeader = serde_json::from_slice(&payload).expect("a header");
        assert_eq!(read, header);
        // Neither is taken for the other.
        assert!(serde_json::from_slice::<JobHeader>(&payload).is_err());
    }
    let training = serde_json::to_vec(&self::header()).expect("JSON");
    let header = SelectionHeader { protocol: PROTOCOL, job: self::header(), most: 20 };
    let job = JobWriter::selection(Vec::new(), &header).and_then(JobWriter::end);
    let mut payload = Vec::new();
    let kind = read_frame(&mut job.expect("a Vec takes all").as_slice(), &mut payload);
    assert_eq!(kind, Ok(FRAME_SELECTION));
    assert_eq!(serde_json::from_slice::<SelectionHeader>(&payload).ok(), Some(header));
    assert!(serde_json::from_slice::<JobHeader>(&payload).is_err());
    assert!(serde_json::from_slice::<SelectionHeader>(&training).is_err());
    assert!(serde_json::from_slice::<ReductionHeader>(&training).is_err());
    let header = EstimateHeader { protocol: PROTOCOL, job: self::header() };
    let job = JobWriter::estimate(Vec::new(), &header).and_then(JobWriter::end);
    let kind = read_frame(&mut job.expect("a Vec takes all").as_slice(), &mut payload);
    assert_eq!(kind, Ok(FRAME_ESTIMATE));
    assert_eq!(serde_json::from_slice::<EstimateHeader>(&payload).ok(), Some(header));
    assert!(serde_json::from_slice::<JobHeader>(&payload).is_err());
    assert!(serde_json::from_slice::<EstimateHeader>(&training).is_err());
}
