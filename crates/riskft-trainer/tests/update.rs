//! Updates without a server: a version goes on from its files and new rows.

mod common;

use std::path::Path;

use common::{plain_job, train, Answer};
use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::hash::mix;
use riskft_core::protocol::{
    BatchBuilder, BlobKind, JobWriter, UpdateHeader, FRAME_INCUMBENT_TRAINING,
    FRAME_INCUMBENT_VERSION, PROTOCOL,
};
use riskft_core::update::Options;
use serde_json::{json, Value};

fn file(answer: &Answer, kind: BlobKind) -> Vec<u8> {
    let place = answer.result().blobs.iter().position(|header| header.kind == kind);
    answer.blobs()[place.expect("a file of the kind")].clone()
}

/// New rows of [`plain_job`]'s columns, of which so many of a hundred default; every fourth grade is
/// new.
fn job(version: &[u8], training: &[u8], rows: usize, bad: u64, options: &Value) -> Vec<u8> {
    let columns =
        [("noise", ColumnType::Float), ("grade", ColumnType::Text), ("bad", ColumnType::Bool)].map(
            |(name, column_type)| SourceColumn {
                name: name.into(),
                column_type,
                hint: TypeHint::None,
                declared: String::new(),
            },
        );
    let header = UpdateHeader {
        protocol: PROTOCOL,
        model: "tiny".into(),
        relation: "new".into(),
        target: "bad".into(),
        options: Options::parse(options).expect("options"),
        columns: columns.to_vec(),
    };
    let mut writer = JobWriter::update(Vec::new(), &header).expect("a vector takes all");
    writer.file(FRAME_INCUMBENT_VERSION, version).expect("a vector takes all");
    writer.file(FRAME_INCUMBENT_TRAINING, training).expect("a vector takes all");
    let mut batch = BatchBuilder::new(&columns);
    for row in 0..rows {
        let grade = ["a", "b", "a", "new"][row % 4];
        let noise = Cell::Float((mix(row as u64 ^ 0x77) % 1009) as f64);
        let bad = Cell::Bool(mix(row as u64 ^ 0x99) % 100 < bad);
        batch.push(&[noise, Cell::Text(grade), bad]).expect("a row of the types");
    }
    writer.batch(&batch).expect("a vector takes all");
    writer.end().expect("a vector takes all")
}

#[test]
fn a_version_goes_on_from_its_files() {
    let gate = json!({"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1});
    let options = json!({"hidden": 16, "head_epochs": 2, "trees": {"rounds": 20}, "gate": gate});
    let first = train(&plain_job(600, Path::new(""), &options));
    let (version, training) = (file(&first, BlobKind::Version), file(&first, BlobKind::Training));
    let options = json!({"gate": gate, "epochs": 3});
    let second = train(&job(&version, &training, 400, 80, &options));
    let report = second.result().update.clone().expect("a report");
    assert!(report.old.is_some() && report.new.rows == 80);
    assert!(report.new.log_loss_after < report.new.log_loss_before);
    assert_eq!(report.added, [("grade".to_owned(), 1)]);
    let mean = second.metric("test", "mean_score").zip(second.metric("test", "base_rate"));
    assert!(mean.is_some_and(|(score, outcome)| (score - outcome).abs() < 0.1), "{mean:?}");
    // The same job gives the same bytes, and its version goes on as the first did.
    let again = train(&job(&version, &training, 400, 80, &options));
    assert_eq!(again.blobs(), second.blobs());
    let (version, training) = (file(&second, BlobKind::Version), file(&second, BlobKind::Training));
    let third = train(&job(&version, &training, 300, 20, &options));
    assert!(third.result().update.as_ref().is_some_and(|report| report.added.is_empty()));
    for (rows, bad) in [(49, 50), (400, 0), (400, 1)] {
        let refused = train(&job(&version, &training, rows, bad, &options));
        assert_eq!(refused.refusal().0, "22023", "{rows} rows, {bad}%");
    }
    let (code, text) = train(&job(&version, b"", 400, 50, &options)).refusal();
    assert_eq!(code, "XX001", "{text}");
}
