//! riskft_train: reads the relation as the caller, feeds the trainer, publishes what it returns.

use std::ffi::CStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgrx::datum::JsonB;
use pgrx::fcinfo::{pg_arg_is_null, pg_getarg};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::options::{Method, Options, TextMode};
use riskft_core::protocol::{
    write_frame, BatchBuilder, Event, JobHeader, Progress, TrainingResult, FRAME_BATCH, FRAME_END,
    FRAME_HEADER, FRAME_INCUMBENT_ENCODER, FRAME_INCUMBENT_VERSION, PROTOCOL,
};
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error::{or_raise, warn};
use crate::model_cache;
use crate::publish::{self, Blob, Published};
use crate::relation::{Relation, Scan};
use crate::settings;
use crate::trainer_process::TrainerProcess;

/// Payload of one batch frame, bytes, beyond which it is sent.
const BATCH_BYTES: usize = 1 << 20;
/// Least time between two NOTICEs of one phase: those with an epoch's figures, and the others.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
const NOTICE_EVERY: Duration = Duration::from_secs(5);

/// The arguments of a CALL.
struct Request {
    model: String,
    relation: String,
    target: String,
    positive: Option<String>,
    exclude: Vec<String>,
    time_column: Option<String>,
    method: Method,
    base: String,
    options: Options,
}

crate::version_1!(pg_finfo_riskft_train);

/// `CALL riskft_train(...)`: see sql/functions.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/functions.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_train(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let request = or_raise(unsafe { read_request(fcinfo) });
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_train()".as_ptr()) };
    let (published, result) = or_raise(train(&request));
    // SAFETY: fcinfo is the server's.
    unsafe { answer(fcinfo, &published, &result) }
}

/// # Safety
/// `fcinfo` is a call of riskft_train.
unsafe fn read_request(fcinfo: FunctionCallInfo) -> Result<Request> {
    // SAFETY: each argument is read as its declared type.
    unsafe {
        let required = |index: usize, name: &str| {
            pg_getarg::<String>(fcinfo, index).ok_or_else(|| {
                Refusal::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null"))
                    .detail(format!("Argument \"{name}\" of riskft_train is null."))
                    .hint("CALL riskft_train(model => '...', relation => '...', target => '...').")
            })
        };
        let model = required(0, "model")?;
        catalog::check_model_name(&model)?;
        if pg_getarg::<bool>(fcinfo, 9) != Some(true) || pg_arg_is_null(fcinfo, 9) {
            return Err(Refusal::new(code::NOT_SUPPORTED, "wait => false is not supported yet")
                .detail("Argument \"wait\" is not true.")
                .hint("Call with wait => true; the training then runs within the call."));
        }
        let options = pg_getarg::<JsonB>(fcinfo, 8).map_or(serde_json::Value::Null, |j| j.0);
        Ok(Request {
            model,
            relation: required(1, "relation")?,
            target: required(2, "target")?,
            positive: pg_getarg(fcinfo, 3),
            exclude: pg_getarg::<Vec<Option<String>>>(fcinfo, 4)
                .unwrap_or_default()
                .into_iter()
                .flatten()
                .collect(),
            time_column: pg_getarg(fcinfo, 5),
            method: Method::parse(&required(6, "method")?)?,
            base: required(7, "base")?,
            options: Options::parse(&options)?,
        })
    }
}

fn train(request: &Request) -> Result<(Published, TrainingResult)> {
    if let Some(owner) = catalog::model_owner(&request.model)? {
        catalog::require_owner(&request.model, &owner)?;
    }
    let base_directory = base_directory(request)?;
    let relation = Relation::resolve(&request.relation)?;
    let scan = Scan::open(&relation)?;
    let header = job_header(request, base_directory, &scan);
    pgrx::log!(
        "riskft training of model \"{}\" on {} starts, method {}",
        request.model,
        request.relation,
        request.method.name()
    );
    let started = Instant::now();
    let outcome = run(&header, scan);
    let outcome = outcome.and_then(|(result, blobs)| {
        publish::publish(&header, &result, &blobs).map(|published| (published, result))
    });
    match &outcome {
        Ok((published, _)) => pgrx::log!(
            "riskft training of model \"{}\" is done after {:.1} s: version {}, run {}",
            request.model,
            started.elapsed().as_secs_f64(),
            published.version,
            published.run
        ),
        Err(refusal) => pgrx::log!(
            "riskft training of model \"{}\" failed after {:.1} s: {}",
            request.model,
            started.elapsed().as_secs_f64(),
            refusal.message
        ),
    }
    outcome
}

fn job_header(request: &Request, base_dir: String, scan: &Scan) -> JobHeader {
    JobHeader {
        protocol: PROTOCOL,
        model: request.model.clone(),
        relation: request.relation.clone(),
        target: request.target.clone(),
        positive: request.positive.clone(),
        exclude: request.exclude.clone(),
        time_column: request.time_column.clone(),
        method: request.method,
        base: request.base.clone(),
        base_dir,
        options: request.options.clone(),
        columns: scan.columns.clone(),
        unread: scan.unread.clone(),
        reference_date: today(),
    }
}

/// Days since 1970-01-01 of the transaction's start, UTC.
fn today() -> i32 {
    // SAFETY: reads the transaction's start time, microseconds since 2000-01-01.
    let microseconds = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    (microseconds.div_euclid(86_400_000_000) + 10_957) as i32
}

fn run(header: &JobHeader, scan: Scan) -> Result<(TrainingResult, Vec<Blob>)> {
    let mut process = TrainerProcess::start(&trainer_path(), &trainer_environment())?;
    let mut listener = Listener::default();
    feed(header, scan, &mut process, &mut listener)?;
    let result = loop {
        if let Some(result) = listener.hear(process.event()?)? {
            break result;
        }
    };
    let blobs = receive_blobs(&result, &mut process)?;
    Ok((result, blobs))
}

/// Sends header, rows and end. The rows pass through in batches; no copy of the table is kept.
fn feed(
    header: &JobHeader,
    mut scan: Scan,
    process: &mut TrainerProcess,
    listener: &mut Listener,
) -> Result<()> {
    let json = serde_json::to_vec(header).map_err(|e| {
        Refusal::new(code::PROTOCOL_VIOLATION, format!("cannot write the job: {e}"))
    })?;
    process.send(&frame(FRAME_HEADER, &json)?)?;
    send_incumbent(&header.model, process)?;
    let mut batch = BatchBuilder::new(&header.columns);
    let mut more = true;
    while more {
        more = scan.next(|row| {
            batch.push(row)?;
            if batch.size() >= BATCH_BYTES {
                process.send(&frame(FRAME_BATCH, &batch.payload())?)?;
                batch.clear();
            }
            Ok(())
        })?;
        while let Some(event) = process.try_event() {
            listener.hear(event)?;
        }
    }
    scan.close();
    if batch.rows() > 0 {
        process.send(&frame(FRAME_BATCH, &batch.payload())?)?;
    }
    process.send(&frame(FRAME_END, &[])?)?;
    process.close_input();
    Ok(())
}

/// The deployed version travels along, to be scored on the new one's test rows.
fn send_incumbent(model: &str, process: &mut TrainerProcess) -> Result<()> {
    let Some(files) = catalog::deployed(model)? else { return Ok(()) };
    let encoder = files.encoder_file.iter().map(|file| (FRAME_INCUMBENT_ENCODER, file));
    for (kind, file) in encoder.chain([(FRAME_INCUMBENT_VERSION, &files.version_file)]) {
        let bytes = model_cache::open(file)?;
        for piece in (*bytes).as_ref().chunks(BATCH_BYTES) {
            process.send(&frame(kind, piece)?)?;
        }
    }
    Ok(())
}

fn frame(kind: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() + 5);
    write_frame(&mut out, kind, payload).map_err(|e| {
        Refusal::new("54000", "row is too large to train on")
            .detail(format!("A batch of the relation cannot be sent: {e}."))
            .hint("Exclude very long text columns.")
    })?;
    Ok(out)
}

fn receive_blobs(result: &TrainingResult, process: &mut TrainerProcess) -> Result<Vec<Blob>> {
    let most = settings::bytes(&settings::MAX_MODEL_SIZE) as u64;
    let mut blobs = Vec::with_capacity(result.blobs.len());
    for header in &result.blobs {
        if header.length > most {
            return Err(Refusal::new("54000", "model file is too large")
                .detail(format!(
                    "The {} file has {} bytes, riskft.max_model_size allows {most}.",
                    header.kind.name(),
                    header.length
                ))
                .hint("Train a smaller network, or raise riskft.max_model_size."));
        }
        blobs.push((header.clone(), process.blob(header.length as usize)?));
    }
    Ok(blobs)
}

/// Turns the trainer's events into NOTICEs, WARNINGs and the end.
#[derive(Default)]
struct Listener {
    last: Option<(String, Instant)>,
}

impl Listener {
    fn hear(&mut self, event: Event) -> Result<Option<TrainingResult>> {
        match event {
            Event::Progress(progress) => self.progress(&progress),
            Event::Notice(text) => pgrx::notice!("{text}"),
            Event::Warning(message, detail) => warn(&message, &detail),
            Event::Refused(refusal) => return Err(refusal),
            Event::Result(result) => return Ok(Some(*result)),
        }
        Ok(None)
    }

    /// One NOTICE for each phase, each epoch's figures, and every few seconds between them.
    fn progress(&mut self, progress: &Progress) {
        let now = Instant::now();
        let least = match progress.validation_auc {
            Some(_) => FIGURES_EVERY,
            None => NOTICE_EVERY,
        };
        let soon = |(phase, at): &(String, Instant)| *phase == progress.phase && now - *at < least;
        if self.last.as_ref().is_some_and(soon) {
            return;
        }
        self.last = Some((progress.phase.clone(), now));
        pgrx::notice!("{}", describe(progress));
    }
}

fn describe(progress: &Progress) -> String {
    let mut text = progress.phase.clone();
    if progress.epoch > 0 {
        text += &format!(", epoch {}", progress.epoch);
    }
    if let Some(percent) = (100 * progress.done).checked_div(progress.total) {
        text += &format!(", {percent}%");
    }
    if let Some(loss) = progress.loss {
        text += &format!(", loss {loss:.4}");
    }
    if let Some(auc) = progress.validation_auc {
        text += &format!(", validation AUC {auc:.4}");
    }
    if let Some(seconds) = progress.seconds_left {
        text += &format!(", at most {seconds:.0} s left");
    }
    text
}

fn trainer_path() -> String {
    settings::text(&settings::TRAINER_PATH).unwrap_or_else(|| {
        // SAFETY: a zero-terminated path that the server set at its start.
        let library = unsafe { CStr::from_ptr(&raw const pg_sys::pkglib_path as *const _) };
        format!("{}/riskft/riskft-trainer", library.to_string_lossy())
    })
}

/// The trainer sees no variable of the server's but these.
fn trainer_environment() -> Vec<(String, String)> {
    // A waiting thread of OpenMP sleeps: spinning would take the processors from the server.
    let mut variables = vec![
        ("LC_ALL".to_owned(), "C".to_owned()),
        ("OMP_WAIT_POLICY".to_owned(), "PASSIVE".to_owned()),
    ];
    if let Some(libtorch) = settings::text(&settings::LIBTORCH) {
        variables.push(("RISKFT_LIBTORCH".to_owned(), libtorch.clone()));
        variables.push(("LD_LIBRARY_PATH".to_owned(), format!("{libtorch}/lib")));
    }
    variables
}

/// Folder of the base model, or nothing where the method needs none.
fn base_directory(request: &Request) -> Result<String> {
    if request.method == Method::None {
        if request.options.text == TextMode::Row {
            return Err(Refusal::new(code::INVALID_PARAMETER, "method none reads no text")
                .detail("Option \"text\" is \"row\".")
                .hint("Use method lora, adapter or full with it."));
        }
        return Ok(String::new());
    }
    let name = &request.base;
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !name.starts_with('.');
    let directory = model_directory().join(name);
    if plain && directory.join("model.safetensors").is_file() {
        return Ok(directory.to_string_lossy().into_owned());
    }
    Err(Refusal::new(code::UNDEFINED_FILE, format!("base model \"{name}\" is not installed"))
        .detail(format!("There is no model.safetensors for it in {}.", model_directory().display()))
        .hint("Install minilm-l6 with make install, or train with method => 'none'."))
}

fn model_directory() -> PathBuf {
    settings::text(&settings::MODEL_DIRECTORY).map_or_else(
        || {
            let mut share = [0 as std::ffi::c_char; pg_sys::MAXPGPATH as usize];
            // SAFETY: writes at most MAXPGPATH bytes, zero-terminated.
            let share = unsafe {
                pg_sys::get_share_path(
                    &raw const pg_sys::my_exec_path as *const _,
                    share.as_mut_ptr(),
                );
                CStr::from_ptr(share.as_ptr())
            };
            PathBuf::from(share.to_string_lossy().into_owned()).join("riskft/models")
        },
        PathBuf::from,
    )
}

/// The INOUT parameters as one record.
///
/// # Safety
/// `fcinfo` is a call of riskft_train.
unsafe fn answer(
    fcinfo: FunctionCallInfo,
    published: &Published,
    result: &TrainingResult,
) -> Datum {
    let figure = |name: &str| {
        let of =
            |m: &&riskft_core::protocol::PartMetric| m.part == "test" && m.metric.metric == name;
        result.metrics.iter().find(of).and_then(|m| m.metric.value)
    };
    let values = [
        published.version.into_datum(),
        figure("auc").into_datum(),
        figure("ks").into_datum(),
        published.run.into_datum(),
    ];
    let mut nulls = values.map(|v| v.is_none());
    let mut values = values.map(|v| v.unwrap_or(Datum::from(0)));
    // SAFETY: the description has the four INOUT parameters that sql/functions.sql declares.
    unsafe {
        let mut description = std::ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut description);
        let description = pg_sys::BlessTupleDesc(description);
        let tuple = pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}
