//! riskft_estimate beside the trainings that it speaks of.

use std::fmt::Write;

use riskft_tests::{fixture, Cluster, Database, Session};

use crate::training::{gib, wide};
use crate::verdict;

/// Largest ratio of an estimate to what came, and of what came to an estimate.
const TARGET: f64 = 1.5;

struct Case {
    name: &'static str,
    /// Arguments after the model's name, from the relation on.
    arguments: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "20,000 loans, none",
        arguments: "'loans', 'defaulted', exclude => '{loan_id,disbursed}', method => 'none'",
    },
    Case {
        name: "20,000 loans, lora",
        arguments: "'loans', 'defaulted', exclude => '{loan_id,disbursed}'",
    },
    Case {
        name: "1,000 loans, none",
        arguments: "'SELECT * FROM loans ORDER BY loan_id LIMIT 1000', 'defaulted',
            exclude => '{loan_id,disbursed}', method => 'none'",
    },
    Case {
        name: "1,926 complaints, fee_issue, frozen encoder",
        arguments: "'complaints', 'fee_issue', exclude => '{complaint_id,issue,sub_issue,relief}',
            options => '{\"epochs\": 0}'",
    },
    Case {
        name: "200,000 rows of 20 numbers, none",
        arguments: "'wide', 'y', method => 'none', options => '{\"batch_size\": 2048}'",
    },
];

/// What was foretold of a training, and what it took.
struct Pair {
    minutes: (f64, f64),
    memory: (i64, i64),
    /// Minutes of the estimate itself.
    own: f64,
}

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    fixture::complaints(&database, fixture::COMPLAINT_ROWS);
    let mut session = database.analyst();
    session.run(&wide(200_000));
    let mut out = String::from(
        "## Estimates: riskft_estimate beside the training that it speaks of, one run\n\n\
         | training | estimate, min | training, min | ratio | estimate, GiB | training, GiB | ratio | the estimate itself, min |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut worst: f64 = 1.0;
    for (number, case) in CASES.iter().enumerate() {
        let pair = pair(&mut session, number, case);
        let ratio = pair.minutes.0 / pair.minutes.1;
        let memory = pair.memory.0 as f64 / pair.memory.1 as f64;
        worst = [ratio, memory].into_iter().fold(worst, |worst, r| worst.max(r).max(1.0 / r));
        let _ = writeln!(
            out,
            "| {} | {:.2} | {:.2} | {ratio:.2} | {:.2} | {:.2} | {memory:.2} | {:.2} |",
            case.name,
            pair.minutes.0,
            pair.minutes.1,
            gib(pair.memory.0),
            gib(pair.memory.1),
            pair.own
        );
    }
    let _ = write!(
        out,
        "\n* Farthest from what came: a factor of **{worst:.2}** (target: at most {TARGET}): {}\n\
         * The estimate is `minutes`, or `minutes_least` where the training found that text adds nothing\n",
        verdict(worst <= TARGET)
    );
    out
}

fn pair(session: &mut Session, number: usize, case: &Case) -> Pair {
    eprintln!("riskft-bench: {}", case.name);
    let call = format!(
        "SELECT minutes, minutes_least, memory_bytes, run, phases::text FROM riskft_estimate({})",
        case.arguments
    );
    let row = session.query_one(&call, &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    let (most, least): (f64, f64) = (row.get(0), row.get(1));
    let (memory, run): (i64, i64) = (row.get(2), row.get(3));
    eprintln!("riskft-bench: foretold {}", row.get::<_, String>(4));
    let own: f64 =
        session.value_of("SELECT wall_seconds / 60 FROM riskft.costs WHERE run = $1", &[&run]);
    let call = format!("CALL riskft_train('m{number}', {})", case.arguments);
    let row = session.query_one(&call, &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    let run: i64 = row.get(3);
    let row = session
        .query_one(
            "SELECT c.wall_seconds / 60, c.peak_memory_bytes,
                 r.text_kept OR EXISTS (SELECT FROM riskft.phases p WHERE p.run = c.run AND p.phase = 'tune'),
                 (SELECT jsonb_object_agg(p.phase, round(p.seconds::numeric, 2))::text FROM riskft.phases p WHERE p.run = c.run)
             FROM riskft.costs c JOIN riskft.runs r USING (run) WHERE c.run = $1",
            &[&run],
        )
        .unwrap_or_else(|e| panic!("ledger of run {run}: {e:?}"));
    eprintln!("riskft-bench: it took {}", row.get::<_, String>(3));
    let foretold = if row.get(2) { most } else { least };
    Pair { minutes: (foretold, row.get(0)), memory: (memory, row.get(1)), own }
}
