//! Small jobs for the trainer's tests: made-up loans and the tiny random BERT of core's golden
//! numbers, with a tokenizer of letters.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use riskft_core::cell::{Cell, ColumnType, SourceColumn, TypeHint};
use riskft_core::dataset::hash::mix;
use riskft_core::options::{Method, Options};
use riskft_core::protocol::{BatchBuilder, Event, JobHeader, JobWriter, TrainingResult, PROTOCOL};
use riskft_core::refusal::Result;
use riskft_trainer::events::Reporter;
use riskft_trainer::job::{self, Header, Job};
use serde_json::{json, Value};

/// A folder with the tiny base, made once for each name.
pub fn tiny_base(name: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../riskft-core/golden/tiny_bert");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(file), folder.join(file)).expect("the golden base");
    }
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).expect("a tokenizer");
    folder
}

fn tokenizer() -> Value {
    let letters = || ('a'..='z').chain('0'..='9');
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
    let pieces = letters().map(String::from).chain(letters().map(|c| format!("##{c}")));
    let vocabulary: serde_json::Map<String, Value> = special
        .into_iter()
        .chain(pieces)
        .enumerate()
        .map(|(id, token)| (token, Value::from(id)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary}
    })
}

/// A job over made-up loans: `amount`, `grade` and the words of `note` tell the label in part.
pub fn job(rows: usize, method: Method, base: &Path, options: &Value) -> Vec<u8> {
    let mut options = options.clone();
    options["roles"] = json!({"note": "text", "grade": "category"});
    let columns = [
        ("amount", ColumnType::Float),
        ("grade", ColumnType::Text),
        ("note", ColumnType::Text),
        ("bad", ColumnType::Bool),
    ];
    job_of(method, base, &options, &columns, |batch| {
        for row in 0..rows {
            let spread = (row * 7919) % 1009;
            let amount = spread as f64 * 13.5 + 100.0;
            let grade = ["a", "b", "c"][(row / 3) % 3];
            let sad = (row * 31) % 5 < 2;
            let note =
                format!("{} shop {}", if sad { "late debt" } else { "fine home" }, spread % 97);
            let risk =
                spread as f64 / 1009.0 + if sad { 0.5 } else { 0.0 } + (row % 3) as f64 * 0.2;
            let bad = risk + ((row * 613) % 101) as f64 / 200.0 > 1.25;
            let amount = if row % 50 == 0 { Cell::Null } else { Cell::Float(amount) };
            let note = if row % 40 == 7 { Cell::Text("") } else { Cell::Text(&note) };
            batch
                .push(&[amount, Cell::Text(grade), note, Cell::Bool(bad)])
                .expect("a row of the types");
        }
    })
}

/// A job whose text has three words, each of which flips what the others mean: bad is an odd
/// number of `up`, `loan` and `new`, and a sum over words tells nothing.
pub fn flipped_job(rows: usize, method: Method, base: &Path, options: &Value) -> Vec<u8> {
    let mut options = options.clone();
    options["roles"] = json!({"note": "text"});
    let columns =
        [("noise", ColumnType::Float), ("note", ColumnType::Text), ("bad", ColumnType::Bool)];
    job_of(method, base, &options, &columns, |batch| {
        for row in 0..rows {
            let word = |bit: usize, yes, no| if (row >> bit) & 1 == 1 { yes } else { no };
            let note = format!(
                "{} {} {} {}",
                word(0, "up", "down"),
                word(1, "loan", "debt"),
                word(2, "new", "old"),
                (row * 7919) % 1009
            );
            let noise = Cell::Float(((row * 613) % 101) as f64);
            let bad = ((row & 7).count_ones() % 2 == 1) != ((row * 31) % 20 == 0);
            batch.push(&[noise, Cell::Text(&note), Cell::Bool(bad)]).expect("a row of the types");
        }
    })
}

/// A job whose one category tells all that there is to know.
pub fn plain_job(rows: usize, base: &Path, options: &Value) -> Vec<u8> {
    let columns =
        [("noise", ColumnType::Float), ("grade", ColumnType::Text), ("bad", ColumnType::Bool)];
    job_of(Method::None, base, options, &columns, |batch| {
        for row in 0..rows {
            let good = row % 2 == 0;
            let bad = mix(row as u64) % 101 < if good { 20 } else { 60 };
            let grade = Cell::Text(if good { "a" } else { "b" });
            let noise = Cell::Float((mix(row as u64 ^ 0xA5A5) % 1009) as f64);
            batch.push(&[noise, grade, Cell::Bool(bad)]).expect("a row of the types");
        }
    })
}

pub fn job_of(
    method: Method,
    base: &Path,
    options: &Value,
    columns: &[(&str, ColumnType)],
    fill: impl FnOnce(&mut BatchBuilder),
) -> Vec<u8> {
    timed_job_of(None, (method, base), options, columns, fill)
}

/// Columns of these names and types.
pub fn source_columns(columns: &[(&str, ColumnType)]) -> Vec<SourceColumn> {
    let column = |(name, column_type): &(&str, ColumnType)| SourceColumn {
        name: (*name).into(),
        column_type: *column_type,
        hint: TypeHint::None,
        declared: String::new(),
    };
    columns.iter().map(column).collect()
}

/// A job with a time column or without.
pub fn timed_job_of(
    time_column: Option<&str>,
    (method, base): (Method, &Path),
    options: &Value,
    columns: &[(&str, ColumnType)],
    fill: impl FnOnce(&mut BatchBuilder),
) -> Vec<u8> {
    let columns = source_columns(columns);
    let header = JobHeader {
        protocol: PROTOCOL,
        model: "tiny".into(),
        relation: "loans".into(),
        target: "bad".into(),
        positive: None,
        exclude: Vec::new(),
        time_column: time_column.map(str::to_owned),
        method,
        base: "tiny".into(),
        base_dir: base.to_string_lossy().into_owned(),
        options: Options::parse(options).map_err(|r| r.detail).expect("options"),
        columns: columns.clone(),
        unread: Vec::new(),
        reference_date: 20_000,
    };
    let mut writer = JobWriter::new(Vec::new(), &header).expect("a vector takes all");
    let mut batch = BatchBuilder::new(&columns);
    fill(&mut batch);
    writer.batch(&batch).expect("a vector takes all");
    writer.end().expect("a vector takes all")
}

/// The job of a training, as the trainer reads it.
pub fn read_job(bytes: &[u8], reporter: &Reporter) -> Result<Job> {
    match job::open(bytes)? {
        (Header::Training(header), mut input) => job::read(*header, &mut input, reporter),
        _ => panic!("the job of a training"),
    }
}

/// What the trainer answered.
pub struct Answer {
    pub events: Vec<Event>,
    /// Bytes after the last line.
    pub rest: Vec<u8>,
    pub status: Option<i32>,
}

pub fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_riskft-trainer"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the trainer starts")
}

/// Runs the trainer as the server does.
pub fn train(job: &[u8]) -> Answer {
    train_heard(job, |_, _| {})
}

/// [`train`]; `hear` is told the trainer's process and each event as it comes.
pub fn train_heard(job: &[u8], mut hear: impl FnMut(u32, &Event)) -> Answer {
    let mut child = start();
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let job = job.to_vec();
    // A trainer that refuses early closes the pipe.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&job)));
    let mut answer = Answer { events: Vec::new(), rest: Vec::new(), status: None };
    loop {
        let mut line = Vec::new();
        stdout.read_until(b'\n', &mut line).expect("the trainer's output");
        if line.last() != Some(&b'\n') {
            answer.rest = line;
            break;
        }
        let event: Event = serde_json::from_slice(&line).expect("a line is an event");
        hear(child.id(), &event);
        let last = !matches!(event, Event::Progress(_) | Event::Notice(_) | Event::Warning(..));
        answer.events.push(event);
        if last {
            break;
        }
    }
    stdout.read_to_end(&mut answer.rest).expect("the trainer's files");
    answer.status = child.wait().expect("the trainer ends").code();
    feeder.join().expect("the feeder ends");
    answer
}

impl Answer {
    #[track_caller]
    pub fn result(&self) -> &TrainingResult {
        match self.events.last() {
            Some(Event::Result(result)) => result,
            other => panic!("no result, but {other:?}"),
        }
    }
    /// The refusal's code and its whole text.
    #[track_caller]
    pub fn refusal(&self) -> (String, String) {
        assert_eq!(self.status, Some(1));
        match self.events.last() {
            Some(Event::Refused(r)) => {
                (r.code.clone(), format!("{}. {} {}", r.message, r.detail, r.hint))
            }
            other => panic!("no refusal, but {other:?}"),
        }
    }
    pub fn notices(&self) -> String {
        let text = |event: &Event| match event {
            Event::Notice(text) => Some(text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect::<Vec<_>>().join("\n")
    }
    /// The files, each checked against its header.
    #[track_caller]
    pub fn blobs(&self) -> Vec<Vec<u8>> {
        let mut rest = self.rest.as_slice();
        let mut blobs = Vec::new();
        for header in &self.result().blobs {
            let (blob, tail) = rest.split_at(header.length as usize);
            assert_eq!(riskft_core::artifact::digest(blob), header.digest);
            blobs.push(blob.to_vec());
            rest = tail;
        }
        assert!(rest.is_empty());
        blobs
    }
    pub fn metric(&self, part: &str, metric: &str) -> Option<f64> {
        let found = self
            .result()
            .figures
            .metrics
            .iter()
            .find(|m| m.part == part && m.metric.metric == metric);
        found.and_then(|m| m.metric.value)
    }
}
