//! A search over options, as the server runs it.

mod common;

use std::sync::Arc;

use common::{job, tiny_base, train, train_heard, Answer};
use riskft_core::artifact::Artifact;
use riskft_core::options::{Method, Options};
use riskft_core::protocol::{BlobKind, Event, TrialReport, SEARCH};
use serde_json::{json, Value};

const ROWS: usize = 1200;

/// Few trees, each of which sees one column, beside a network of one epoch: other settings are better.
fn hurried(search: Value) -> Value {
    json!({
        "threads": 1, "head_epochs": 1, "batch_size": 64, "hidden": 32, "folds": 3, "repeats": 1,
        "trees": {"rounds": 5}, "search": search,
        "gate": {"auc_loss": 0.02, "change_q999": 0.2, "change_max": 0.2, "flips": 0.1}
    })
}

fn best(answer: &Answer) -> TrialReport {
    let trials = &answer.result().figures.trials;
    let best: Vec<&TrialReport> = trials.iter().filter(|trial| trial.state == "best").collect();
    assert_eq!(best.len(), 1, "{trials:?}");
    best[0].clone()
}

fn digest(answer: &Answer, kind: BlobKind) -> String {
    let blob = answer.result().blobs.iter().find(|blob| blob.kind == kind);
    blob.expect("a file").digest.clone()
}

/// The options that the stored training names.
fn used(answer: &Answer) -> Value {
    let bytes = answer.blobs().pop().expect("the training's file");
    let training = Artifact::open(Arc::new(bytes)).map_err(|e| e.to_string()).expect("a file");
    assert_eq!(training.kind(), BlobKind::Training);
    let specification: Value =
        serde_json::from_str(training.specification()).expect("its specification");
    specification["options"].clone()
}

/// The given options with a trial's changes, and no search.
fn by_hand(given: &Value, trial: &TrialReport) -> Value {
    let mut given = given.clone();
    given["search"] = json!({});
    let changes = trial.options.as_object().expect("an object");
    let options = Options::parse(&given).and_then(|options| options.with(changes));
    let options = options.map_err(|r| r.detail).expect("options of a trial");
    serde_json::to_value(&options).expect("options are JSON")
}

#[test]
fn the_best_setting_trains_the_version() {
    let base = tiny_base("search");
    let given = hurried(json!({"trials": 10}));
    let answer = train(&job(ROWS, Method::None, &base, &given));
    assert_eq!(answer.status, Some(0));
    let trials = &answer.result().figures.trials;
    // A pair of a drawn network and drawn trees may be one more.
    assert!(trials.len() == 10 || trials.len() == 11, "{trials:?}");
    assert_eq!(trials[0].options, json!({}));
    for (index, trial) in trials.iter().enumerate() {
        println!("{trial:?}");
        assert_eq!(trial.trial as usize, index + 1);
        assert!(trial.auc.is_some_and(|auc| auc > 0.6) && trial.log_loss.is_some());
        assert!((1..=3).contains(&trial.rungs) && trial.seconds >= 0.0);
        assert!(index == 0 || trial.options != json!({}));
    }
    // Of nine beside the given settings five go on, then three.
    for (rung, count) in [(2, 6), (3, 4)] {
        assert_eq!(trials.iter().filter(|trial| trial.rungs >= rung).count(), count);
    }
    let best = best(&answer);
    assert_ne!(best.trial, 1, "{}", answer.notices());
    assert!(best.log_loss < trials[0].log_loss);
    assert!(answer.notices().contains("its settings are used"), "{}", answer.notices());
    let counts = answer.events.iter().filter_map(|event| match event {
        Event::Progress(p) if p.phase == "search" => Some((p.done, p.total)),
        _ => None,
    });
    assert!(counts.clone().all(|(done, total)| done <= total) && counts.count() >= 10);

    // The version is, byte for byte, that of the best setting given by hand.
    let again = train(&job(ROWS, Method::None, &base, &by_hand(&given, &best)));
    assert_eq!(digest(&answer, BlobKind::Version), digest(&again, BlobKind::Version));
    assert!(again.result().figures.trials.is_empty());
    for (name, value) in best.options.as_object().into_iter().flatten() {
        assert_eq!(&used(&answer)[name], &used(&again)[name], "{name} is not {value}");
    }
}

#[test]
fn a_clock_that_has_run_out_leaves_the_given_settings() {
    let base = tiny_base("clock");
    let answer =
        train(&job(ROWS, Method::None, &base, &hurried(json!({"trials": 500, "minutes": 1e-4}))));
    assert_eq!(answer.status, Some(0));
    assert_eq!(answer.result().figures.trials.len(), 1);
    assert_eq!((best(&answer).trial, best(&answer).options), (1, json!({})));
    let without = train(&job(ROWS, Method::None, &base, &hurried(json!({"trials": 0}))));
    assert!(without.result().figures.trials.is_empty());
    assert!(without.result().ledger.phases.iter().all(|(name, _)| name != "search"));
    assert_eq!(digest(&answer, BlobKind::Version), digest(&without, BlobKind::Version));
}

#[test]
fn settings_of_the_encoder_are_tried_on_top() {
    let base = tiny_base("search-text");
    let mut options = hurried(json!({"trials": 1}));
    options["epochs"] = json!(2);
    options["keep_text"] = json!("always");
    let answer = train(&job(600, Method::Lora, &base, &options));
    assert_eq!(answer.status, Some(0), "{:?}", answer.events.last());
    let trials = &answer.result().figures.trials;
    assert!(trials.len() >= 3 && trials.len() <= 5, "{trials:?}");
    for trial in &trials[2..] {
        let keys = trial.options.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        assert!(keys.clone().count() > 0, "{trial:?}");
        assert!(keys.clone().all(|name| ["rank", "learning_rate", "layers"].contains(&name)));
    }
    best(&answer);
}

/// Asks for the end of the search after so many trials.
fn train_until(trials: u64, job: &[u8]) -> Answer {
    let answer = train_heard(job, |trainer, event| {
        if matches!(event, Event::Progress(p) if p.phase == SEARCH && p.done == trials) {
            // SAFETY: a plain system call; the child is not reaped, so its pid is its own.
            unsafe { libc::kill(trainer.cast_signed(), libc::SIGUSR1) };
        }
    });
    assert_eq!(answer.status, Some(0), "{:?}", answer.events.last());
    assert!(answer.notices().contains("ended on request"), "{}", answer.notices());
    answer
}

#[test]
fn a_signal_ends_the_search_with_the_best_so_far() {
    let base = tiny_base("signal");
    let given = hurried(json!({"trials": 500}));
    let of = |options: &Value| job(ROWS, Method::None, &base, options);
    // At its first event, and when some were tried.
    for trials in [0, 6] {
        let answer = train_until(trials, &of(&given));
        let tried = answer.result().figures.trials.len();
        assert!((1.max(trials as usize)..100).contains(&tried), "{tried}");
        let again = train(&of(&by_hand(&given, &best(&answer))));
        assert_eq!(digest(&answer, BlobKind::Version), digest(&again, BlobKind::Version));
    }
}

#[test]
fn a_signal_ends_the_search_of_the_encoder_too() {
    let base = tiny_base("signal-text");
    let mut options = hurried(json!({"trials": 1}));
    options["epochs"] = json!(2);
    options["keep_text"] = json!("always");
    // The given settings of network and trees, and of the encoder.
    let answer = train_until(2, &job(600, Method::Lora, &base, &options));
    let tried = answer.result().figures.trials.len();
    assert!((2..5).contains(&tried), "{tried}");
    best(&answer);
}
