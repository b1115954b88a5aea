//! riskft_train: reads the relation as the caller, feeds the trainer, publishes what it returns.
//!
//! Within a statement the three steps of a [`Training`] follow each other in the caller's
//! transaction. A worker ([`crate::worker`]) takes the same steps: it reads in one transaction,
//! waits for the trainer in none, and publishes in another.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::IntoDatum;
use riskft_core::protocol::{
    write_frame, BatchBuilder, JobHeader, Progress, TrainingResult, FRAME_BATCH, FRAME_END,
    FRAME_HEADER, FRAME_INCUMBENT_ENCODER, FRAME_INCUMBENT_VERSION, PROTOCOL,
};
use riskft_core::refusal::{code, Refusal, Result};

use crate::base;
use crate::catalog;
use crate::error::or_raise;
use crate::listener::Listener;
use crate::lock::{Held, Lock};
use crate::model_cache;
use crate::progress::StatusFile;
use crate::publish::{self, Blob, Published};
use crate::queue;
use crate::relation::Scan;
use crate::request::Request;
use crate::run::{self, Run};
use crate::settings;
use crate::trainer_process::TrainerProcess;

/// Payload of one batch frame, bytes, beyond which it is sent.
const BATCH_BYTES: usize = 1 << 20;
/// Between two looks for a free place (riskft.max_trainers).
const PLACE_EVERY: Duration = Duration::from_millis(100);

crate::version_1!(pg_finfo_riskft_train);

/// `CALL riskft_train(...)`: see sql/functions.sql for the arguments.
///
/// # Safety
/// Called by the server with the arguments that sql/functions.sql declares.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_train(fcinfo: FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are of the declared types.
    let (request, wait) = or_raise(unsafe { Request::read(fcinfo) });
    or_raise(Alone::require());
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_train()".as_ptr()) };
    if !wait {
        let run = or_raise(queue::add(request));
        // SAFETY: fcinfo is the server's.
        return unsafe { answer(fcinfo, None, None, run) };
    }
    let (published, result) = or_raise(train(&request));
    // SAFETY: fcinfo is the server's.
    unsafe { answer(fcinfo, Some(published.version), Some(&result), published.run) }
}

fn train(request: &Request) -> Result<(Published, TrainingResult)> {
    let _alone = Alone::enter()?;
    let id = run::next_id()?;
    let _alive = Lock::Run(id).try_take();
    let status = StatusFile::new(id, &request.model, &catalog::current_role());
    let run =
        Run { id, role: catalog::current_role(), queued: false, started_at: status.started_at() };
    let mut training = Training::new(request.clone(), run, status);
    let outcome = in_one_transaction(&mut training);
    training.log_end(&outcome);
    outcome
}

fn in_one_transaction(training: &mut Training) -> Result<(Published, TrainingResult)> {
    training.check()?;
    training.take_place()?;
    training.start()?;
    let (result, blobs) = training.finish()?;
    let published = training.publish(&result, &blobs)?;
    Ok((published, result))
}

thread_local! {
    static TRAINING: Cell<bool> = const { Cell::new(false) };
}

/// A relation may call any function, riskft_train too: it would wait for its own trainer's place.
struct Alone;

impl Alone {
    fn require() -> Result<()> {
        if TRAINING.get() {
            return Err(Refusal::new(code::NOT_IN_STATE, "a training cannot start another one")
                .detail("The relation of a training calls riskft_train.")
                .hint("Train one after the other, with a CALL for each."));
        }
        Ok(())
    }

    fn enter() -> Result<Self> {
        Alone::require()?;
        TRAINING.set(true);
        Ok(Alone)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        TRAINING.set(false);
    }
}

/// One training, step by step.
pub struct Training {
    request: Request,
    run: Run,
    listener: Listener,
    begun: Instant,
    base_directory: String,
    /// One of the server's places for trainers (riskft.max_trainers).
    place: Option<Held>,
    header: Option<JobHeader>,
    process: Option<TrainerProcess>,
}

impl Training {
    pub fn new(request: Request, run: Run, status: StatusFile) -> Self {
        let listener = Listener::new(status);
        Training {
            request,
            run,
            listener,
            begun: Instant::now(),
            base_directory: String::new(),
            place: None,
            header: None,
            process: None,
        }
    }

    /// Refuses what can be known before any row is read. Needs a transaction, as the run's role.
    pub fn check(&mut self) -> Result<()> {
        catalog::require_training(&self.request.model, self.request.options.deploy)?;
        self.base_directory = base::needed_by(&self.request)?;
        Ok(())
    }

    /// Waits until there is a place for the trainer. Needs no transaction.
    pub fn take_place(&mut self) -> Result<()> {
        let mut told = false;
        while self.place.is_none() {
            let most = settings::max_trainers();
            self.place = (0..most).find_map(|place| Lock::Trainer(place).try_take());
            if self.place.is_some() {
                break;
            }
            if !std::mem::replace(&mut told, true) {
                self.listener.notice(format!(
                    "waits for another training to end (riskft.max_trainers is {most})"
                ));
                let phase = Progress { phase: "wait".to_owned(), ..Progress::default() };
                self.listener.status.report(&phase);
            }
            pgrx::check_for_interrupts!();
            std::thread::sleep(PLACE_EVERY);
        }
        Ok(())
    }

    /// Reads the relation and feeds the trainer. Needs a transaction, as the run's role.
    pub fn start(&mut self) -> Result<()> {
        let request = &self.request;
        let relation = request.resolve()?;
        let scan = Scan::open(&relation)?;
        let header = job_header(request, self.base_directory.clone(), &scan);
        pgrx::log!(
            "riskft run {}: training of model \"{}\" on {} starts, method {}",
            self.run.id,
            request.model,
            request.relation,
            request.method.name()
        );
        let mut process = TrainerProcess::start(&trainer_path(), &trainer_environment())?;
        feed(&header, scan, &mut process, &mut self.listener)?;
        self.header = Some(header);
        self.process = Some(process);
        Ok(())
    }

    /// Waits for the trainer's result and takes the files. Needs no transaction. The trainer's
    /// place is free afterwards, before publishing waits for any lock.
    pub fn finish(&mut self) -> Result<(TrainingResult, Vec<Blob>)> {
        let Some(mut process) = self.process.take() else { return Err(not_started()) };
        let result = loop {
            if let Some(result) = self.listener.hear(process.event()?)? {
                break result;
            }
        };
        let blobs = receive_blobs(&result, &mut process)?;
        drop(process);
        self.place = None;
        Ok((result, blobs))
    }

    /// Stores the version and ends the run. Needs a transaction, as the run's role.
    pub fn publish(&mut self, result: &TrainingResult, blobs: &[Blob]) -> Result<Published> {
        let phase = Progress { phase: "publish".to_owned(), ..Progress::default() };
        self.listener.progress(&phase);
        let Some(header) = &self.header else { return Err(not_started()) };
        run::begin(&self.run, &self.request)?;
        let (published, verdict) = publish::publish(self.run.id, header, result, blobs)?;
        self.listener.notice(verdict);
        run::complete(&self.run, result, &self.listener.notices())?;
        Ok(published)
    }

    /// What the run has said so far, as a JSON array.
    pub fn notices(&self) -> String {
        self.listener.notices()
    }

    /// The line that stays when the caller's transaction rolls back.
    pub fn log_end<T>(&self, outcome: &Result<T>) {
        let (id, model) = (self.run.id, &self.request.model);
        let seconds = self.begun.elapsed().as_secs_f64();
        match outcome {
            Ok(_) => {
                pgrx::log!(
                    "riskft run {id}: training of model \"{model}\" is done after {seconds:.1} s"
                )
            }
            Err(refusal) => pgrx::log!(
                "riskft run {id}: training of model \"{model}\" failed after {seconds:.1} s: {}",
                refusal.message
            ),
        }
    }
}

fn not_started() -> Refusal {
    Refusal::new(code::EXTERNAL_ROUTINE, "training was not started")
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
    send_incumbent(&header.model, process, listener)?;
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

/// The deployed version travels along, to be scored on the new one's test rows. One that is
/// damaged stays behind: training again is the way out of it.
fn send_incumbent(
    model: &str,
    process: &mut TrainerProcess,
    listener: &mut Listener,
) -> Result<()> {
    let Some(files) = catalog::deployed(model)? else { return Ok(()) };
    let encoder = files.encoder_file.iter().map(|file| (FRAME_INCUMBENT_ENCODER, file));
    let stored = encoder.chain([(FRAME_INCUMBENT_VERSION, &files.version_file)]);
    let opened: Result<Vec<_>> =
        stored.map(|(kind, file)| Ok((kind, model_cache::open(file)?))).collect();
    let opened = match opened {
        Err(refusal) if refusal.code == code::DATA_CORRUPTED => {
            listener.notice(format!("the deployed version is not compared: {}", refusal.message));
            return Ok(());
        }
        opened => opened?,
    };
    for (kind, bytes) in opened {
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

/// The INOUT parameters as one record.
///
/// # Safety
/// `fcinfo` is a call of riskft_train.
unsafe fn answer(
    fcinfo: FunctionCallInfo,
    version: Option<i32>,
    result: Option<&TrainingResult>,
    run: i64,
) -> Datum {
    let figure = |name: &str| {
        let of =
            |m: &&riskft_core::protocol::PartMetric| m.part == "test" && m.metric.metric == name;
        result?.metrics.iter().find(of).and_then(|m| m.metric.value)
    };
    let values = [
        version.into_datum(),
        figure("auc").into_datum(),
        figure("ks").into_datum(),
        run.into_datum(),
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
