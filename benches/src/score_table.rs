//! riskft_score_table over the loans: written, refreshed unchanged, and after some rows changed.

use std::time::Instant;

use riskft_tests::{fixture, Cluster, Database, Session};

use crate::median;
use crate::training::{train, EXCLUDE};

const CALL: &str = "CALL riskft_score_table('numbers', 'loans', 'scores', 'loan_id')";

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    let mut session = database.analyst();
    train(&mut session, "numbers", "none", r#"{"seed": 1}"#);
    let alone: Vec<f64> = (0..3).map(|_| scoring(&mut session)).collect();
    let mut written = Vec::new();
    for _ in 0..3 {
        session.run("DROP TABLE IF EXISTS scores");
        written.push(call(&mut session, (fixture::LOAN_ROWS as i64, 0)));
    }
    let unchanged: Vec<f64> =
        (0..3).map(|_| call(&mut session, (0, fixture::LOAN_ROWS as i64))).collect();
    let mut changed = Vec::new();
    for _ in 0..3 {
        session.run("UPDATE loans SET approved_gross = approved_gross + 1 WHERE loan_id % 100 = 7");
        let rows: i64 = session.value("SELECT count(*) FROM loans WHERE loan_id % 100 = 7");
        changed.push(call(&mut session, (rows, fixture::LOAN_ROWS as i64 - rows)));
    }
    format!(
        "## Tables of scores: riskft_score_table over 20,000 loans, method none, without {EXCLUDE}\n\n\
         Medians of three, one backend, batches of 10,000 rows that commit.\n\n\
         * Written: {:.2} s, of which risk_score alone takes {:.2} s\n\
         * Refreshed, no row changed: {:.2} s; one row of a hundred changed: {:.2} s\n",
        median(&written),
        median(&alone),
        median(&unchanged),
        median(&changed)
    )
}

/// Seconds of a call that is to score and to leave as many rows.
fn call(session: &mut Session, rows: (i64, i64)) -> f64 {
    let start = Instant::now();
    let row = session.query_one(CALL, &[]).unwrap_or_else(|e| panic!("{CALL}: {e:?}"));
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!((row.get::<_, i64>("scored"), row.get::<_, i64>("unchanged")), rows);
    seconds
}

/// Seconds of scoring all rows and keeping none.
fn scoring(session: &mut Session) -> f64 {
    let start = Instant::now();
    session.run("SELECT sum(risk_score('numbers', l)) FROM loans l");
    start.elapsed().as_secs_f64()
}
