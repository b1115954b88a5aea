//! The data sets of the tests.

use std::io::{self, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::database::Database;
use crate::session::Session;

const LOANS: &str = include_str!("../sql/loans.sql");
const COMPLAINTS: &str = include_str!("../sql/complaints.sql");

/// Rows of the whole data sets.
pub const LOAN_ROWS: usize = 20_000;
pub const COMPLAINT_ROWS: usize = 1_926;

/// Table `loans` of the analyst: the first `rows` by a fixed shuffle, in that order.
pub fn loans(database: &Database, rows: usize) {
    load(database, "loans", LOANS, "sba_loans.csv.gz", "loan_id", rows);
}

/// Table `complaints` of the analyst, likewise.
pub fn complaints(database: &Database, rows: usize) {
    load(database, "complaints", COMPLAINTS, "cfpb_complaints.csv.gz", "complaint_id", rows);
}

/// Table `loans` of the analyst with `rows` invented rows: loan_id, amount, grade, defaulted. For
/// tests in which the data is not the point.
pub fn small_loans(database: &Database, rows: usize) {
    database.analyst().run(&format!(
        "CREATE TABLE loans AS SELECT i AS loan_id, (i * 7919 % 1000)::float8 AS amount,
             (ARRAY['a', 'b', 'c'])[1 + i % 3] AS grade,
             i * 7919 % 1000 + i * 10473 % 700 > 800 AS defaulted
         FROM generate_series(1, {rows}) i;
         ANALYZE loans"
    ));
}

/// The call of a training of a second or less on [`small_loans`]; `options` go before the usual
/// ones, each with its comma.
pub fn small_training(model: &str, relation: &str, options: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    format!(
        "CALL riskft_train('{}', '{}', 'defaulted', method => 'none', exclude => '{{loan_id}}',
             options => '{{{options}\"head_epochs\": 2, \"members\": 1, \"hidden\": 16,
             \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')",
        quoted(model),
        quoted(relation)
    )
}

/// A database in which everyone may read [`small_loans`], and the analyst owns model `m` on them.
pub fn small_model() -> (Database<'static>, Session) {
    let database = Database::new();
    small_loans(&database, 400);
    let mut analyst = database.analyst();
    analyst.run("GRANT SELECT ON loans TO PUBLIC");
    analyst.run(&small_training("m", "loans", ""));
    analyst.notices();
    (database, analyst)
}

fn load(database: &Database, table: &str, definition: &str, file: &str, key: &str, rows: usize) {
    let mut analyst = database.analyst();
    analyst.run(definition);
    analyst.run(&format!("CREATE TEMP TABLE whole (LIKE {table}); SET datestyle = 'ISO, MDY'"));
    copy(&mut analyst, "COPY whole FROM STDIN (FORMAT csv, HEADER)", file);
    analyst.run(&format!(
        "INSERT INTO {table} SELECT * FROM whole ORDER BY md5({key}::text) LIMIT {rows};
         DROP TABLE whole; ANALYZE {table}"
    ));
}

fn copy(session: &mut postgres::Client, sql: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file);
    let mut unpacked = Command::new("gzip")
        .arg("-dc")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("run gzip");
    let mut source = BufReader::new(unpacked.stdout.take().expect("gzip's output"));
    let mut sink = session.copy_in(sql).expect("begin to copy");
    io::copy(&mut source, &mut sink).expect("copy the rows");
    sink.finish().expect("end the copy");
    let status = unpacked.wait().expect("gzip ends");
    assert!(status.success(), "gzip cannot read {}", path.display());
}
