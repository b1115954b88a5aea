//! The data sets of the tests.

use std::fs;
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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

/// [`small_model`] with a second version, which scores differently and is not deployed, under an alias.
pub fn two_versions(alias: &str) -> (Database<'static>, Session) {
    let (database, mut analyst) = small_model();
    second_version(&mut analyst, alias);
    (database, analyst)
}

/// Trains version 2 of model `m` of [`small_model`], and gives it an alias.
pub fn second_version(analyst: &mut Session, alias: &str) {
    analyst.run(&small_training("m", "loans", "\"seed\": 9, \"deploy\": \"never\", "));
    analyst.run(&format!("SELECT riskft_set_alias('m', '{alias}', 2)"));
    analyst.notices();
}

/// Gives each version in the database the figures that not every training has: a second branch, and
/// periods and trials, the periods on both sides of 1970-01-01.
pub fn more_figures(database: &Database) {
    database.superuser().run(
        "INSERT INTO riskft.branch
             SELECT model_id, version, max(ordinal) + 1, 'grams', 0.1::float8 + 0.2, 0.7, NULL, 1 / 3::float8, 0.01,
                 NULL, 0.5, 0.25, 'n-grams, éß'
             FROM riskft.version JOIN riskft.branch USING (model_id, version)
             GROUP BY model_id, version
             ON CONFLICT DO NOTHING;
         INSERT INTO riskft.period_metric
             SELECT v.model_id, v.version, part, begins, to_char(begins, 'YYYY-\"Q\"Q'), 50,
                 CASE part WHEN 'test' THEN 2 / 3::float8 END, 0.1::float8 + 0.2, 1 / 7::float8
             FROM riskft.version v, unnest(ARRAY['validation', 'test']) part,
                 generate_series(timestamp '1969-07-01', '1970-04-01', '3 months') begins
             ON CONFLICT DO NOTHING;
         INSERT INTO riskft.trial
             SELECT v.model_id, v.version, trial, 2, '{\"trees\": {\"leaves\": 15}, \"alpha\": 0.1}',
                 0.7, NULL, 1 / 3::float8, 'dropped'
             FROM riskft.version v, generate_series(1, 3) trial
             ON CONFLICT DO NOTHING",
    );
}

/// Table `notes` of the analyst, whose column `note` is text, and the analyst's model `t` on it,
/// trained on a tiny random encoder that a superuser imports as base model of the returned name.
pub fn small_text_model(database: &Database) -> String {
    let base = format!("tiny.{}", database.name());
    database.superuser().run(&format!(
        "SELECT riskft_import_base('{base}', '{}')",
        tiny_base(database, &base).display()
    ));
    database.analyst().run(&format!(
        "CREATE TABLE notes AS SELECT i AS note_id, (i * 7919 % 1000)::float8 AS amount,
             (ARRAY['new york', 'a loan', 'of the bank', 'for a shop'])[1 + i % 4] || ' ' || i % 97 AS note,
             i * 7919 % 1000 + i * 10473 % 700 > 800 AS defaulted
         FROM generate_series(1, 300) i;
         ANALYZE notes;
         {}",
        small_text_training("t", &base)
    ));
    base
}

/// The call of a training on the notes of [`small_text_model`] that keeps its text in any case.
pub fn small_text_training(model: &str, base: &str) -> String {
    format!(
        "CALL riskft_train('{model}', 'notes', 'defaulted', exclude => '{{note_id}}', base => '{base}',
             options => '{{\"roles\": {{\"note\": \"text\"}}, \"keep_text\": \"always\", \"epochs\": 1,
             \"layers\": 1, \"rank\": 4, \"head_epochs\": 2, \"hidden\": 16, \"members\": 1,
             \"gate\": {{\"auc_loss\": 1, \"change_q999\": 1, \"change_max\": 1, \"flips\": 1}}}}')"
    )
}

/// A copy of the core's tiny encoder where the server's user can read it.
fn tiny_base(database: &Database, name: &str) -> PathBuf {
    let to = database.cluster().socket_folder().join(name);
    let from =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/riskft-core/golden/tiny_finbert");
    fs::create_dir(&to).expect("create the base model's folder");
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("open the folder");
    for file in ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"] {
        fs::copy(from.join(file), to.join(file)).expect("copy the base model");
        let mode = fs::Permissions::from_mode(0o644);
        fs::set_permissions(to.join(file), mode).expect("open the file");
    }
    to
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

/// View `bait` of `loans`, whose function `peek()` writes to a table where it may.
pub fn bait(session: &mut Session) {
    session.run(
        "CREATE TABLE taken (a integer);
         CREATE FUNCTION peek() RETURNS float8 LANGUAGE plpgsql AS
             $f$ BEGIN INSERT INTO taken VALUES (1); RETURN 1; END $f$;
         CREATE VIEW bait AS SELECT *, peek() AS peeked FROM loans",
    );
}
