//! riskft-trainer: a job on stdin, events and model files on stdout.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::exit;

use riskft_trainer::device::{self, Compute};
use riskft_trainer::events::{Listener, Reporter};
use riskft_trainer::failure::contain;
use riskft_trainer::lifeline;
use riskft_trainer::run::Outcome;
use riskft_trainer::stop;
use riskft_trainer::work::{work, Done};
use riskft_trainer::{EXIT_REFUSED, EXIT_USAGE};

const USAGE: &str = "\
usage: riskft-trainer                                   a job on stdin, its answer on stdout
       riskft-trainer run JOBFILE [--out DIR] [--base DIR]
                                                        a saved job; files into DIR
       riskft-trainer check                             libtorch, device and precision in use
       riskft-trainer --version

The signal SIGUSR1 ends a search with the best so far.
RISKFT_LIBTORCH names a libtorch folder (with lib/) to use in place of the installed one.";

fn main() {
    device::settle_environment();
    stop::listen();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => serve(),
        ["run", rest @ ..] => run_file(rest),
        ["check"] => check(),
        ["--version"] => println!("riskft-trainer {}", env!("CARGO_PKG_VERSION")),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    exit(EXIT_USAGE);
}

/// For the server.
fn serve() {
    lifeline::follow_listener();
    let reporter = Reporter::new(Listener::Server);
    match contain(|| work(io::stdin(), None, &reporter)) {
        Ok(done) => {
            if answer(&reporter, done).is_err() {
                lifeline::end_now();
            }
        }
        Err(refusal) => {
            reporter.refused(&refusal);
            exit(EXIT_REFUSED);
        }
    }
}

fn answer(reporter: &Reporter, done: Done) -> io::Result<()> {
    let (event, blobs) = done.answer();
    reporter.send(&event);
    let mut out = io::stdout().lock();
    for (_, bytes) in &blobs {
        out.write_all(bytes)?;
    }
    out.flush()
}

/// For a person with a saved job.
fn run_file(arguments: &[&str]) {
    let (mut file, mut out, mut base) = (None, None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--out" => out = rest.next().map(PathBuf::from),
            "--base" => base = rest.next().map(PathBuf::from),
            name if file.is_none() && !name.starts_with('-') => file = Some(name),
            _ => usage(),
        }
    }
    let Some(file) = file else { usage() };
    let input = File::open(file).unwrap_or_else(|error| {
        eprintln!("{file} cannot be opened: {error}");
        exit(EXIT_USAGE);
    });
    let reporter = Reporter::new(Listener::Person);
    match contain(|| work(input, base, &reporter)) {
        Ok(done) => {
            if let Done::Version(outcome) = &done {
                print_figures(outcome);
            }
            if let Some(Err(error)) = out.map(|folder| save(&folder, done)) {
                eprintln!("the files cannot be written: {error}");
                exit(EXIT_REFUSED);
            }
        }
        Err(refusal) => {
            reporter.refused(&refusal);
            exit(EXIT_REFUSED);
        }
    }
}

fn print_figures(outcome: &Outcome) {
    let result = &outcome.result;
    for part in &result.figures.metrics {
        let metric = &part.metric;
        let Some(value) = metric.value else { continue };
        match metric.ci_low.zip(metric.ci_high) {
            Some((low, high)) => {
                println!(
                    "{:12} {:18} {value:.4} ({low:.4} to {high:.4})",
                    part.part, metric.metric
                );
            }
            None => println!("{:12} {:18} {value:.4}", part.part, metric.metric),
        }
    }
    for branch in &result.figures.branches {
        let figure = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
        println!(
            "branch {:9} weight {:.3}, out of fold {}, blend without it {}, test {}, {:.0} s: {}",
            branch.branch,
            branch.weight,
            figure(branch.auc),
            figure(branch.auc_without),
            figure(branch.test_auc),
            branch.seconds,
            branch.why
        );
    }
    let ledger = serde_json::to_string_pretty(&result.ledger).unwrap_or_default();
    let gate = serde_json::to_string(&result.gate).unwrap_or_default();
    println!("gate {gate}\nledger {ledger}");
}

fn save(folder: &Path, done: Done) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let result = match &done {
        Done::Version(outcome) => serde_json::to_vec_pretty(&outcome.result)?,
        Done::Reducer(outcome) => serde_json::to_vec_pretty(&outcome.result)?,
        Done::Columns(outcome) => serde_json::to_vec_pretty(&outcome.result)?,
        Done::Estimate(result) => serde_json::to_vec_pretty(&result)?,
    };
    for (header, bytes) in &done.answer().1 {
        fs::write(folder.join(format!("{}.safetensors", header.kind.name())), bytes)?;
    }
    fs::write(folder.join("result.json"), result)
}

/// What a run with default options would use.
fn check() {
    let cuda = device::load_cuda();
    println!("riskft-trainer {}", env!("CARGO_PKG_VERSION"));
    println!("libtorch       {}", device::libtorch_path().unwrap_or_else(|| "unknown".into()));
    println!("cuda library   {}", if cuda { "loaded" } else { "not there" });
    println!("bf16 products  {}", if device::cpu_multiplies_bf16() { "yes" } else { "no" });
    match contain(|| Compute::choose(&riskft_core::options::Options::default())) {
        Ok(compute) => println!(
            "device         {}, {} threads, {}",
            compute.name,
            compute.threads,
            compute.precision()
        ),
        Err(refusal) => {
            println!("device         none: {}", refusal.message);
            exit(EXIT_REFUSED);
        }
    }
}
