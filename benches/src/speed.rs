//! risk_score: rows a second, the first score of a session, memory.

use std::time::Instant;

use riskft_tests::{fixture, process, Cluster, Database, Session};

use crate::training::two_models;
use crate::{median, verdict};

const RUNS: usize = 5;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = two_models(&cluster);
    // The columns that a numbers-only user would have: no name, no code.
    let mut out = String::from("## Speed: risk_score over the 20,000 loans\n\n");
    for model in ["text", "numbers"] {
        out += &throughput(&database, model);
    }
    out += &first_score(&database);
    out += &memory(&database);
    out
}

fn scan(session: &mut Session, model: &str) -> f64 {
    let started = Instant::now();
    let sum: f64 = session.value(&format!("SELECT sum(risk_score('{model}', l)) FROM loans l"));
    assert!(sum.is_finite());
    fixture::LOAN_ROWS as f64 / started.elapsed().as_secs_f64()
}

fn throughput(database: &Database, model: &str) -> String {
    let mut session = database.analyst();
    let cold = scan(&mut session, model);
    let warm: Vec<f64> = (0..RUNS).map(|_| scan(&mut session, model)).collect();
    let both: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut session = database.analyst();
                        scan(&mut session, model)
                    });
                }
            });
            2.0 * fixture::LOAN_ROWS as f64 / started.elapsed().as_secs_f64()
        })
        .collect();
    format!(
        "* Model `{model}`: first scan of a session {cold:.0} rows/s, later scans {:.0} rows/s \
         (median of {RUNS}); two processes, each a new session, together {:.0} rows/s\n",
        median(&warm),
        median(&both),
    )
}

fn first_score(database: &Database) -> String {
    let times: Vec<f64> = (0..2 * RUNS)
        .map(|_| {
            let mut session = database.analyst();
            let _: i32 = session.value("SELECT 1");
            let started = Instant::now();
            let _: f64 = session.value("SELECT risk_score('text', l) FROM loans l LIMIT 1");
            1000.0 * started.elapsed().as_secs_f64()
        })
        .collect();
    let longest = times.iter().copied().fold(0.0, f64::max);
    format!(
        "* First score of a new session: median {:.1} ms, longest {longest:.1} ms of {} \
         (target 100 ms): {}\n",
        median(&times),
        times.len(),
        verdict(longest < 100.0)
    )
}

fn memory(database: &Database) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let private = |session: &mut Session| {
        let pid = session.pid();
        process::private_memory(pid).unwrap_or(0)
    };
    // The same scan without riskft is PostgreSQL's own share.
    let mut plain = database.analyst();
    let _: i64 = plain.value("SELECT sum(length(l::text)) FROM loans l");
    let own = private(&mut plain);
    let mut scoring = database.analyst();
    scan(&mut scoring, "text");
    let beyond = mib(private(&mut scoring).saturating_sub(own));
    let mut numbers = database.analyst();
    scan(&mut numbers, "numbers");
    let before = private(&mut numbers);
    let calls: i64 = numbers
        .value("SELECT count(risk_score('numbers', l)) FROM loans l, generate_series(1, 50)");
    let grown = mib(private(&mut numbers).saturating_sub(before));
    format!(
        "* Private memory of a scoring backend beyond PostgreSQL's own: {beyond:.1} MiB \
         (target 16 MiB): {}\n\
         * Growth over {calls} calls of `numbers`: {grown:.1} MiB (target 32 MiB): {}\n",
        verdict(beyond < 16.0),
        verdict(grown < 32.0)
    )
}
