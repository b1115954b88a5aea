//! Arms of a million keys, in two fresh sessions.

use std::time::Instant;

use riskft_tests::fixture::{small_loans, small_training};
use riskft_tests::{Cluster, Database};

use crate::{median, verdict};

const KEYS: u64 = 1_000_000;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    small_loans(&database, 400);
    let mut session = database.analyst();
    session.run(&small_training("m", "loans", ""));
    session.run(&small_training("m", "loans", "\"deploy\": \"never\", \"seed\": 9, "));
    session.run("SELECT riskft_ab_start('m', '2', 0.1, 'loan_id')");
    session.run(&format!(
        "CREATE TABLE key AS SELECT i AS number, 'LOAN-' || i AS text FROM generate_series(1, {KEYS}) i;
         ANALYZE key"
    ));
    let mut lines = String::new();
    for column in ["number", "text"] {
        let sql =
            format!("SELECT md5(string_agg(left(riskft_ab_arm('m', {column}), 4), '')) FROM key");
        let one = |_| {
            let mut fresh = database.analyst();
            fresh.run("SET max_parallel_workers_per_gather = 0");
            let begun = Instant::now();
            let arms: i64 = fresh.value(&format!(
                "SELECT count(*) FILTER (WHERE riskft_ab_arm('m', {column}) = 'challenger') FROM key"
            ));
            let seconds = begun.elapsed().as_secs_f64();
            (seconds, arms, fresh.value::<String>(&sql))
        };
        let runs: Vec<(f64, i64, String)> = (0..3).map(one).collect();
        assert!(runs.iter().all(|run| run.2 == runs[0].2), "sessions differ");
        let seconds = median(&runs.iter().map(|run| run.0).collect::<Vec<f64>>());
        lines += &format!(
            "* Keys of type {}: median **{seconds:.2} s** of three, each in a fresh session, on one core (target \
             1 s): {}; {} of them are the challenger's, the same in all sessions\n",
            if column == "number" { "integer" } else { "text" },
            verdict(seconds < 1.0),
            runs[0].1,
        );
    }
    format!("## A/B tests: riskft_ab_arm of {KEYS} keys, share 0.1\n\n{lines}")
}
