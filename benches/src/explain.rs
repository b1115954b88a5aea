//! risk_explain: milliseconds a row, and how far base and contributions are from the score.

use std::time::Instant;

use riskft_tests::{Cluster, Session};

use crate::training::two_models;
use crate::{mean, median, verdict};

/// Rows that are explained one after the other, each in a statement.
const ROWS: i32 = 100;
/// Rows whose sums are compared with their scores.
const SUMMED: i32 = 1000;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = two_models(&cluster);
    let mut session = database.analyst();
    session.run(&format!(
        "CREATE TABLE chosen AS SELECT row_number() OVER (ORDER BY loan_id)::integer AS place, *
         FROM loans ORDER BY loan_id LIMIT {SUMMED}"
    ));
    let mut out = String::from("## Explanations of the 20,000 loans\n\n");
    for model in ["text", "numbers"] {
        out += &of(&mut session, model);
    }
    out
}

fn of(session: &mut Session, model: &str) -> String {
    // The terms of the texts are in the session's cache from here on.
    let columns: i64 = session.value(&format!(
        "SELECT count(DISTINCT column_name) FROM chosen s, risk_explain('{model}', s) WHERE place <= {ROWS}"
    ));
    let one = session
        .prepare(&format!(
            "SELECT count(*) FROM chosen s, risk_explain('{model}', s) WHERE place = $1"
        ))
        .unwrap_or_else(|e| panic!("prepare: {e:?}"));
    let times: Vec<f64> = (1..=ROWS)
        .map(|place| {
            let started = Instant::now();
            session.query_one(&one, &[&place]).unwrap_or_else(|e| panic!("row {place}: {e:?}"));
            1000.0 * started.elapsed().as_secs_f64()
        })
        .collect();
    let row = session
        .query_one(
            &format!(
                "SELECT max(abs(e.sum - ln(risk / (1 - risk)))), max(e.error), avg(e.largest)
                 FROM (SELECT s, risk_score('{model}', s) AS risk FROM chosen s OFFSET 0) r,
                     LATERAL (SELECT min(base) + sum(contribution) AS sum, max(error) AS error,
                              max(abs(contribution)) AS largest FROM risk_explain('{model}', r.s)) e"
            ),
            &[],
        )
        .unwrap_or_else(|e| panic!("sums of {model}: {e:?}"));
    let (off, error, largest): (f64, f64, f64) = (row.get(0), row.get(1), row.get(2));
    let middle = median(&times);
    format!(
        "* Model `{model}`, {columns} columns: median {middle:.1} ms a row, mean {:.1} ms of {ROWS} \
         rows, texts cached (target 50 ms): {}\n\
         * Model `{model}`: base and contributions differ from the log odds of the score by at most \
         {off:.1e} on {SUMMED} loans (target 1e-3): {}; largest standard error {error:.3}, mean \
         of the largest contributions {largest:.3}\n",
        mean(&times),
        verdict(middle < 50.0),
        verdict(off < 1e-3)
    )
}
