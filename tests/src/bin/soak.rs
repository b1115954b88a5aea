//! `make soak`: the faults of tests/tests/faults.rs, many times over.
//!
//! Each round adds a line to the file of figures that is the argument: fault, round, verdict, phase
//! that was struck, milliseconds from the blow to the statement's end, outcome, lost backends and
//! internal errors in the server's log. Rounds that are in the file already are not run again, so
//! that a run which was cut off goes on. The table at the end is of all lines in the file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use riskft_tests::faults::{Arena, Blow, Moment, Round, PHASES};
use riskft_tests::Cluster;

/// Rounds in which a blow may come too late before it counts as a failure.
const TRIES: u32 = 5;

struct Campaign {
    name: String,
    rounds: u32,
    blow: Blow,
    moment: At,
}

#[derive(Clone, Copy)]
enum At {
    /// Spread evenly over the whole training, and in turn with that right after each phase began.
    Anywhere,
    /// Right after a phase was entered, or up to so many milliseconds later.
    Phase(&'static str, u64),
    Publishing,
    /// Spread evenly over a queued run, whose worker is struck.
    Queued,
}

fn campaigns() -> Vec<Campaign> {
    let campaign =
        |name: &str, rounds, blow, moment| Campaign { name: name.to_owned(), rounds, blow, moment };
    let mut all = vec![
        campaign("trainer killed", 20, Blow::KillTrainer, At::Anywhere),
        campaign("backend killed, training", 20, Blow::KillBackend, At::Anywhere),
        campaign("backend killed, publishing", 20, Blow::KillBackend, At::Publishing),
        campaign("server stopped at once, training", 5, Blow::StopServer, At::Anywhere),
        campaign("server stopped at once, publishing", 5, Blow::StopServer, At::Publishing),
        campaign("backend terminated", 20, Blow::Terminate, At::Anywhere),
    ];
    all.push(campaign("worker killed", 20, Blow::KillBackend, At::Queued));
    for phase in PHASES {
        let moment = match phase {
            "publish" => At::Publishing,
            _ => At::Phase(phase, 20),
        };
        all.push(campaign(&format!("cancelled in {phase}"), 50, Blow::Cancel, moment));
    }
    all
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: soak FILE");
        return ExitCode::from(2);
    };
    let path = Path::new(&path);
    for campaign in campaigns() {
        run(&campaign, path);
    }
    let failed = table(path);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Lines of a campaign, each split into its fields.
fn lines(path: &Path, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
        .filter(|fields| fields.len() == 8 && fields[0] == name)
        .collect()
}

fn run(campaign: &Campaign, path: &Path) {
    let done = lines(path, &campaign.name).len() as u32;
    if done >= campaign.rounds {
        return;
    }
    eprintln!("{}: rounds {} to {}", campaign.name, done + 1, campaign.rounds);
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    let mut file = File::options().create(true).append(true).open(path).expect("open the figures");
    for round in done..campaign.rounds {
        let before = signs(&cluster);
        let outcome = strike(campaign, &mut arena, round);
        let after = signs(&cluster);
        let (verdict, phase, lasted, told) = match outcome {
            Ok(round) => ("passed", round.phase, round.lasted, round.outcome),
            Err(problem) => {
                eprintln!("{} round {}: {problem}", campaign.name, round + 1);
                ("failed", String::new(), Duration::ZERO, problem.replace(['\t', '\n'], " "))
            }
        };
        let own = usize::from(campaign.blow == Blow::KillBackend);
        let lost = (after.0 - before.0).saturating_sub(own);
        writeln!(
            file,
            "{}\t{round}\t{verdict}\t{phase}\t{}\t{told}\t{lost}\t{}",
            campaign.name,
            lasted.as_millis(),
            after.1 - before.1
        )
        .expect("write the figures");
    }
}

/// Backends that a signal ended, and internal errors, in the server's log so far.
fn signs(cluster: &Cluster) -> (usize, usize) {
    let text = cluster.log().text();
    (text.matches("was terminated by signal").count(), text.matches(" XX000 ").count())
}

/// One round whose blow came in time.
fn strike(campaign: &Campaign, arena: &mut Arena, round: u32) -> Result<Round, String> {
    let mut last = Err("the blow came too late each time".to_owned());
    for attempt in 0..TRIES {
        let moment = match campaign.moment {
            At::Anywhere if round % 2 == 1 => {
                // Publishing has rounds of its own.
                let phases = &PHASES[..PHASES.len() - 1];
                Moment::In(phases[round as usize / 2 % phases.len()], Duration::ZERO)
            }
            At::Anywhere => {
                let whole = arena.whole / (attempt + 1);
                Moment::After(whole * (2 * round + 1) / (2 * campaign.rounds))
            }
            At::Phase(phase, most) => {
                let spread = most * u64::from(round) / u64::from(campaign.rounds);
                Moment::In(phase, Duration::from_millis(spread / u64::from(attempt + 1)))
            }
            At::Publishing => Moment::Publishing,
            At::Queued => Moment::After(arena.whole * round / (campaign.rounds * (attempt + 1))),
        };
        last = match (campaign.moment, moment) {
            (At::Queued, Moment::After(after)) => arena.worker_round(after),
            _ => arena.round(moment, campaign.blow),
        };
        match &last {
            Ok(round) if round.outcome == "done" => {}
            _ => return last,
        }
    }
    last.and_then(|round| Err(format!("the blow came too late each time: {round:?}")))
}

/// Prints the table; the rounds that failed.
fn table(path: &Path) -> usize {
    println!("| fault | rounds | passed | median s | slowest s | lost backends | XX000 |");
    println!("|---|---|---|---|---|---|---|");
    let mut failed = 0;
    for campaign in campaigns() {
        let rounds = lines(path, &campaign.name);
        let passed = rounds.iter().filter(|fields| fields[2] == "passed").count();
        let number = |fields: &Vec<String>, at: usize| fields[at].parse::<u64>().unwrap_or(0);
        let mut lasted: Vec<u64> = rounds.iter().map(|fields| number(fields, 4)).collect();
        lasted.sort_unstable();
        let seconds = |ms: Option<&u64>| ms.map_or(0.0, |ms| *ms as f64 / 1000.0);
        let sum = |at: usize| rounds.iter().map(|fields| number(fields, at)).sum::<u64>();
        println!(
            "| {} | {} | {passed} | {:.2} | {:.2} | {} | {} |",
            campaign.name,
            rounds.len(),
            seconds(lasted.get(lasted.len() / 2)),
            seconds(lasted.last()),
            sum(6),
            sum(7)
        );
        failed += rounds.len() - passed;
    }
    failed
}
