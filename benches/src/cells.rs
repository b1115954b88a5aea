//! riskft's cells of the accuracy bench: for each fold or draw of an experiment, a training on the
//! fold's table and the scores of the rows that are not in it. The peers' side, and what becomes of
//! the cells, is in benches/accuracy.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use riskft_tests::{fixture, Cluster, Database, Session};
use serde::Deserialize;
use serde_json::{json, Map, Value};

const EXPERIMENTS: &str = include_str!("../accuracy/experiments.json");
/// All of a fold's training rows are fitted, as the peers fit them all: the bench has test rows of
/// its own.
const SPLIT: &str = r#"{"train": 0.7, "validation": 0.15, "calibration": 0.15, "test": 0.0}"#;

#[derive(Deserialize)]
struct Experiment {
    name: String,
    table: String,
    target: String,
    exclude: Vec<String>,
    time_column: Option<String>,
}

/// A way to call riskft.
struct Contestant {
    name: &'static str,
    /// None: the extension's default.
    method: Option<&'static str>,
    options: Value,
    /// The one column that it sees; None: all that the experiment leaves.
    only: Option<&'static str>,
}

/// One fold or draw, to be computed by one contestant.
struct Cell<'a> {
    number: i32,
    experiment: &'a Experiment,
    contestant: &'a Contestant,
}

/// Computes the cells that are not in `folder` yet, of the experiments named or of all.
pub fn run(folder: &Path, names: &[String]) {
    let experiments: Vec<Experiment> =
        serde_json::from_str(EXPERIMENTS).expect("read experiments.json");
    for name in names {
        assert!(experiments.iter().any(|e| e.name == *name), "no experiment \"{name}\"");
    }
    let cluster = Cluster::start();
    for experiment in experiments.iter().filter(|e| names.is_empty() || names.contains(&e.name)) {
        let database = Database::within(&cluster);
        measure(&database, folder, experiment);
    }
}

fn contestants(experiment: &Experiment) -> Vec<Contestant> {
    let whole = |name, method, options| Contestant { name, method, options, only: None };
    let mut all =
        vec![whole("riskft", None, json!({})), whole("riskft-none", Some("none"), json!({}))];
    if experiment.time_column.is_some() {
        all.push(whole("riskft-recent", None, json!({ "calibrate": "recent" })));
    }
    if experiment.table == "complaints" {
        all.push(whole("riskft-untuned", None, json!({ "epochs": 0 })));
        // The encoder alone, as in the papers that compare LoRA with full fine-tuning, by two folds in two
        // fifths of the time of five.
        let encoder = |name, method, epochs: Option<i32>| {
            let mut options = json!({ "keep_text": "always", "keep_tuned": "always", "trees": { "rounds": 0 }, "grams": "never", "folds": 2 });
            if let Some(epochs) = epochs {
                options["epochs"] = json!(epochs);
            }
            Contestant { name, method: Some(method), options, only: Some("narrative") }
        };
        all.push(encoder("riskft-frozen", "lora", Some(0)));
        all.push(encoder("riskft-lora", "lora", None));
        all.push(encoder("riskft-full", "full", None));
    }
    all
}

fn measure(database: &Database, folder: &Path, experiment: &Experiment) {
    let mut session = database.analyst();
    load(database, &mut session, folder, experiment);
    let cells: i32 = session.value("SELECT max(cell) + 1 FROM part");
    let mut contestants = contestants(experiment);
    if let Ok(only) = std::env::var("RISKFT_BENCH_CONTESTANT") {
        contestants.retain(|contestant| only.split(',').any(|name| name == contestant.name));
    }
    if let Ok(more) = std::env::var("RISKFT_BENCH_OPTIONS") {
        let more: Map<String, Value> = serde_json::from_str(&more).expect("an object of options");
        for options in contestants.iter_mut().filter_map(|c| c.options.as_object_mut()) {
            options.extend(more.iter().map(own));
        }
    }
    for number in 0..cells {
        for contestant in &contestants {
            let cell = Cell { number, experiment, contestant };
            let to = cell.path(folder);
            if std::env::var_os("RISKFT_BENCH_AGAIN").is_some() || !to.exists() {
                let text = cell.compute(&mut session);
                keep(&to, &text);
            }
        }
    }
}

/// The experiment's table, and table `part` (cell, key, part).
fn load(database: &Database, session: &mut Session, folder: &Path, experiment: &Experiment) {
    match experiment.table.as_str() {
        "loans" => fixture::loans(database, fixture::LOAN_ROWS),
        "complaints" => fixture::complaints(database, fixture::COMPLAINT_ROWS),
        name => fetched(session, &folder.join(format!("tables/{name}.csv")), experiment),
    }
    session.run("CREATE TABLE part (cell integer, key bigint, part text)");
    copy(session, "part", &folder.join(format!("parts/{}.csv", experiment.name)));
    session.run("ANALYZE part");
}

/// A table from a CSV file with a header: columns of numbers are numeric, the key is bigint and
/// the target boolean.
fn fetched(session: &mut Session, file: &Path, experiment: &Experiment) {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let header = text.lines().next().unwrap_or_default();
    let names: Vec<&str> = header.split(',').collect();
    let as_text: Vec<String> = names.iter().map(|name| format!("{name} text")).collect();
    session.run(&format!("CREATE TEMP TABLE whole ({})", as_text.join(", ")));
    copy(session, "whole", file);
    let typed: Vec<String> = names.iter().map(|name| column(session, name, experiment)).collect();
    let table = &experiment.table;
    session.run(&format!(
        "CREATE TABLE {table} AS SELECT {} FROM whole; DROP TABLE whole; ANALYZE {table}",
        typed.join(", ")
    ));
}

fn column(session: &mut Session, name: &str, experiment: &Experiment) -> String {
    let number = r"^-?\d+(\.\d+)?$";
    let kind = if name == experiment.key() {
        "bigint"
    } else if name == experiment.target {
        "boolean"
    } else if session.value(&format!("SELECT bool_and({name} ~ '{number}') FROM whole")) {
        "numeric"
    } else {
        "text"
    };
    format!("{name}::{kind}")
}

fn copy(session: &mut Session, table: &str, file: &Path) {
    let mut source = File::open(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let sql = format!("COPY {table} FROM STDIN (FORMAT csv, HEADER)");
    let mut sink = session.copy_in(&sql).expect("begin to copy");
    io::copy(&mut source, &mut sink).expect("copy the rows");
    sink.finish().expect("end the copy");
}

impl Experiment {
    /// The column that tells rows apart; it is never given to a model.
    fn key(&self) -> &str {
        self.exclude.first().map_or("id", String::as_str)
    }
}

impl Cell<'_> {
    fn path(&self, folder: &Path) -> PathBuf {
        let Cell { number, experiment, contestant } = self;
        folder.join(format!("cells/{}/{}/{number}.csv", experiment.name, contestant.name))
    }

    /// The text of the cell's file: a line of JSON with what it took, then key and score.
    fn compute(&self, session: &mut Session) -> String {
        let Experiment { table, name, .. } = self.experiment;
        let key = self.experiment.key();
        eprintln!("riskft-bench: {name} {}, {}", self.number, self.contestant.name);
        let rows = |part: &str| {
            format!(
                "{table} t JOIN part p ON p.key = t.{key}
                 WHERE p.cell = {} AND p.part = '{part}' ORDER BY t.{key}",
                self.number
            )
        };
        session.run(&format!(
            "DROP TABLE IF EXISTS train; CREATE TABLE train AS SELECT t.* FROM {}; ANALYZE train",
            rows("train")
        ));
        let call = self.call(session);
        let begun = Instant::now();
        let trained = session.query_one(&call, &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
        let training = begun.elapsed().as_secs_f64();
        let sql = format!("SELECT t.{key}::text, risk_score('m', t) FROM {}", rows("test"));
        let scores = session.query(&sql, &[]).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let notes = json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "training_seconds": training,
            "chosen": { "auc on its own test rows": trained.get::<_, Option<f64>>("auc") },
        });
        let mut text = self.costs(session, trained.get("run"), notes);
        text.push_str("\nkey,score\n");
        for row in &scores {
            let (key, score): (String, f64) = (row.get(0), row.get(1));
            let _ = writeln!(text, "{key},{score}");
        }
        session.run("SELECT riskft_drop('m')");
        text
    }

    fn call(&self, session: &mut Session) -> String {
        let Experiment { target, exclude, time_column, .. } = self.experiment;
        let exclude = match self.contestant.only {
            Some(only) => session.values(&format!(
                "SELECT column_name::text FROM information_schema.columns
                 WHERE table_name = 'train' AND column_name NOT IN ('{only}', '{target}')"
            )),
            None => exclude.clone(),
        };
        let mut options = Map::from_iter([("deploy".to_owned(), json!("always"))]);
        let split = serde_json::from_str(SPLIT).expect("the split is JSON");
        options.insert("split".to_owned(), split);
        options.extend(self.contestant.options.as_object().into_iter().flatten().map(own));
        let mut call = format!(
            "CALL riskft_train('m', 'train', '{target}', exclude => '{{{}}}', options => '{}'",
            exclude.join(","),
            Value::Object(options)
        );
        if let Some(method) = self.contestant.method {
            let _ = write!(call, ", method => '{method}'");
        }
        if let Some(column) = time_column {
            let _ = write!(call, ", time_column => '{column}'");
        }
        call + ")"
    }

    /// The notes with the processor's seconds and the memory of the trainer, on one line.
    fn costs(&self, session: &mut Session, run: i64, mut notes: Value) -> String {
        let row = session
            .query_one(
                "SELECT c.cpu_seconds, c.peak_memory_bytes, r.auc_frozen, r.auc_tuned, r.tuned_kept
                 FROM riskft.costs c JOIN riskft.runs r USING (run) WHERE c.run = $1",
                &[&run],
            )
            .unwrap_or_else(|e| panic!("costs of run {run}: {e:?}"));
        notes["cpu_seconds"] = json!(row.get::<_, f64>(0));
        notes["peak_memory_bytes"] = json!(row.get::<_, i64>(1));
        notes["chosen"]["auc frozen"] = json!(row.get::<_, Option<f64>>(2));
        notes["chosen"]["auc tuned"] = json!(row.get::<_, Option<f64>>(3));
        notes["chosen"]["tuned kept"] = json!(row.get::<_, Option<bool>>(4));
        notes.to_string()
    }
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Written whole or not at all, so that an interrupted bench goes on where it was.
fn keep(to: &Path, text: &str) {
    let unfinished = to.with_extension("new");
    let folder = to.parent().expect("a cell lies in a folder");
    fs::create_dir_all(folder).expect("create the contestant's folder");
    fs::write(&unfinished, text).expect("write the cell");
    fs::rename(&unfinished, to).expect("name the cell");
}
