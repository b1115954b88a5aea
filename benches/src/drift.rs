//! riskft_drift and riskft_monitor over a million rows of twenty columns.

use std::time::Instant;

use riskft_tests::{process, Cluster, Database, Session};

use crate::{median, verdict};

const ROWS: u64 = 1_000_000;
/// Rows that the version is fitted on.
const FITTED: u64 = 20_000;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut session = database.analyst();
    session.run(&table());
    session.run(&format!(
        "CALL riskft_train('wide', 'SELECT * FROM wide LIMIT {FITTED}', 'y', method => 'none')"
    ));
    let columns: i64 = session.value("SELECT count(*) - 1 FROM riskft_drift('wide', 'wide')");
    let read = seconds(&mut session, "SELECT count(w) FROM wide w WHERE w IS NULL");
    let drift = seconds(&mut session, "SELECT count(*) FROM riskft_drift('wide', 'wide')");
    let backend = session.pid();
    let memory = process::private_memory(backend).unwrap_or(0) as f64 / f64::from(1 << 20);
    let monitor = seconds(&mut session, "SELECT riskft_monitor('wide', 'wide')");
    let one = format!("SELECT * FROM wide LIMIT {}", ROWS / 10);
    let outcomes = seconds(&mut session, &format!("SELECT riskft_monitor('wide', '{one}', 'y')"));
    format!(
        "## Drift: {ROWS} rows x 20 columns, of which the version reads {columns}, method none\n\n\
         * riskft_drift: median **{drift:.1} s** of three on one core (target 20 s): {}; to read the rows alone \
         takes {read:.1} s\n\
         * riskft_monitor: {monitor:.1} s; with the outcomes of {} rows, all of which are scored, {outcomes:.1} s\n\
         * Private memory of the backend afterwards: {memory:.0} MiB\n",
        verdict(drift < 20.0),
        ROWS / 10,
    )
}

/// Of three runs the middle one.
fn seconds(session: &mut Session, sql: &str) -> f64 {
    let one = |_| {
        let begun = Instant::now();
        session.run(sql);
        begun.elapsed().as_secs_f64()
    };
    median(&(0..3).map(one).collect::<Vec<f64>>())
}

fn table() -> String {
    let numbers: Vec<String> = (1..=14)
        .map(|i| match i % 3 {
            0 => format!("(random() * {i}00)::integer AS x{i}"),
            1 => format!("(random() * {i})::numeric(12, 2) AS x{i}"),
            _ => format!("CASE WHEN random() > 0.05 THEN random() * {i} END AS x{i}"),
        })
        .collect();
    let labels: Vec<String> = [5, 50, 500, 5000]
        .iter()
        .map(|of| format!("'label ' || (random() * random() * {of})::integer AS c{of}"))
        .collect();
    format!(
        "SELECT setseed(0.5);
         CREATE TABLE wide AS
         SELECT *, random() < 1 / (1 + exp(2.5 - x1 - x2 / 2)) AS y
         FROM (SELECT {}, {}, date '2015-01-01' + (random() * 3000)::integer AS d1,
                   timestamp '2010-01-01' + random() * interval '3000 days' AS d2
               FROM generate_series(1, {ROWS})) AS x;
         ANALYZE wide",
        numbers.join(", "),
        labels.join(", ")
    )
}
