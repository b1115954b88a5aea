//! One training, step by step: check, take a place, start, finish, publish.
//!
//! `CALL riskft_train` takes the steps in the caller's transaction. A runner ([`crate::worker`])
//! takes the same ones: it reads in one transaction, waits for the trainer in none, and publishes
//! in another.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use riskft_core::protocol::{
    Event, JobHeader, Progress, TrainingResult, PROTOCOL, SEARCH, TRAINER_ENVIRONMENT,
};
use riskft_core::refusal::{code, Refusal, Result};

use crate::base;
use crate::catalog;
use crate::error;
use crate::feed::feed;
use crate::listener::Listener;
use crate::lock::{Held, Lock};
use crate::pause::pause;
use crate::progress::StatusFile;
use crate::publish::{self, Blob, Candidate, Published};
use crate::relation::Scan;
use crate::reprieve::Reprieve;
use crate::request::Request;
use crate::run::{self, Run};
use crate::settings;
use crate::trainer_process::TrainerProcess;

/// Between two looks for a free place (riskft.max_trainers).
const PLACE_EVERY: Duration = Duration::from_millis(100);

thread_local! {
    static UNDER_WAY: Cell<bool> = const { Cell::new(false) };
}

pub struct Training {
    request: Request,
    run: Run,
    listener: Listener,
    begun: Instant,
    base_directory: String,
    /// The run's lock, while it is held ([`Lock::Run`]).
    alive: Option<Held>,
    /// One of the server's places for trainers (riskft.max_trainers).
    place: Option<Held>,
    header: Option<JobHeader>,
    /// The version that was deployed when the training started: the new one is compared with it.
    incumbent: Option<i32>,
    /// Whether a cancel has ended the search ([`Reprieve`]).
    is_cut_short: bool,
    process: Option<TrainerProcess>,
    /// Whether its end was logged.
    ended: bool,
}

impl Training {
    /// A relation may call any function, riskft_train too: that would wait for the place of its
    /// own trainer.
    pub fn require_none() -> Result<()> {
        if UNDER_WAY.get() {
            return Err(Refusal::new(code::NOT_IN_STATE, "a training cannot start another one")
                .detail("The relation of a training calls riskft_train.")
                .hint("Train one after the other, with a CALL for each."));
        }
        Ok(())
    }

    pub fn new(
        request: Request,
        run: Run,
        status: StatusFile,
        alive: Option<Held>,
    ) -> Result<Self> {
        Training::require_none()?;
        UNDER_WAY.set(true);
        Ok(Training {
            request,
            run,
            listener: Listener::new(status),
            begun: Instant::now(),
            base_directory: String::new(),
            alive,
            place: None,
            header: None,
            incumbent: None,
            is_cut_short: false,
            process: None,
            ended: false,
        })
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
            pause(PLACE_EVERY);
        }
        Ok(())
    }

    /// Gives the place to others, until it is taken again.
    pub fn give_place_back(&mut self) {
        self.place = None;
    }

    /// Reads the relation and feeds the trainer. Needs a transaction, as the run's role.
    ///
    /// The relation's locks come before the trainer's place: who waits for a lock must not hold
    /// what its holder may wait for, since nobody would detect that deadlock.
    pub fn start(&mut self) -> Result<()> {
        let relation = self.request.resolve()?;
        let scan = Scan::open(&relation)?;
        self.take_place()?;
        let request = &self.request;
        let header = job_header(request, self.base_directory.clone(), &scan);
        error::log!(
            "riskft run {}: training of model \"{}\" on {} starts, method {}",
            self.run.id,
            request.model,
            request.relation,
            request.method.name()
        );
        let mut process = TrainerProcess::start(&trainer_path(), &trainer_environment())?;
        let (alive, place) = (&self.alive, &self.place);
        let holds =
            || [alive, place].into_iter().all(|lock| lock.as_ref().is_some_and(Held::is_held));
        self.incumbent = feed(&header, scan, &mut process, &mut self.listener, holds)?;
        self.header = Some(header);
        self.process = Some(process);
        Ok(())
    }

    /// Waits for the trainer's result and takes the files. Needs no transaction. The trainer's
    /// place is free afterwards, before publishing waits for any lock.
    pub fn finish(&mut self) -> Result<(TrainingResult, Vec<Blob>)> {
        let Some(mut process) = self.process.take() else { return Err(not_started()) };
        let search = &self.request.options.search;
        let mut reprieve = Reprieve::new(search.trials > 0 && search.keep_on_cancel);
        let result = loop {
            if reprieve.is_called() {
                process.end_search();
                self.cut_short();
            }
            self.listener.status.show(reprieve.grace());
            let Some(event) = process.event()? else { continue };
            if let Event::Progress(progress) = &event {
                reprieve.follow(progress.phase == SEARCH);
                self.listener.status.show(reprieve.grace());
            }
            if let Some(result) = self.listener.hear(event)? {
                break result;
            }
        };
        reprieve.end();
        let blobs = receive_blobs(&result, &mut process)?;
        drop(process);
        self.place = None;
        Ok((result, blobs))
    }

    /// What a cancel leaves of a search: a version that is not deployed.
    fn cut_short(&mut self) {
        self.is_cut_short = true;
        self.listener.warning(
            "the cancel has ended the search, not the training",
            "The best settings so far are trained, and stored as a version that is not deployed. \
             Another cancel ends the training, and nothing is stored.",
        );
    }

    /// Stores the version and ends the run. Needs a transaction, as the run's role.
    pub fn publish(&mut self, result: &TrainingResult, blobs: &[Blob]) -> Result<Published> {
        let phase = Progress { phase: "publish".to_owned(), ..Progress::default() };
        self.listener.progress(&phase);
        let Some(header) = &self.header else { return Err(not_started()) };
        run::begin(&self.run, &self.request)?;
        let candidate = match self.is_cut_short {
            true => Candidate::CutShort,
            false => Candidate::Whole { incumbent: self.incumbent },
        };
        let (published, verdict) = publish::publish(self.run.id, header, result, blobs, candidate)?;
        let mut notices = self.listener.notices();
        notices.push(verdict.clone());
        run::complete(&self.run, result, &notices)?;
        self.listener.notice(verdict);
        Ok(published)
    }

    /// What the run has said so far.
    pub fn notices(&self) -> Vec<String> {
        self.listener.notices()
    }

    /// The line that stays when the caller's transaction rolls back.
    pub fn end(&mut self, refusal: Option<&Refusal>) {
        self.ended = true;
        self.log(refusal.map_or("is done", |_| "failed"), refusal.map(|r| r.message.as_str()));
    }

    fn log(&self, how: &str, why: Option<&str>) {
        let seconds = self.begun.elapsed().as_secs_f64();
        error::log!(
            "riskft run {}: training of model \"{}\" {how} after {seconds:.1} s{}{}",
            self.run.id,
            self.request.model,
            if why.is_some() { ": " } else { "" },
            why.unwrap_or_default()
        );
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        UNDER_WAY.set(false);
        // An ERROR (a cancel, a fault in the relation's SQL) came this way; a second one, out of
        // the report, would end the process.
        if !self.ended {
            let _held = HeldInterrupts::begin();
            self.log(
                "was ended",
                Some("by the error that follows, or by the handler that caught it"),
            );
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
    let mut variables = vec![("LC_ALL".to_owned(), "C".to_owned())];
    variables.extend(TRAINER_ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(libtorch) = settings::text(&settings::LIBTORCH) {
        variables.push(("RISKFT_LIBTORCH".to_owned(), libtorch.clone()));
        variables.push(("LD_LIBRARY_PATH".to_owned(), format!("{libtorch}/lib")));
    }
    variables
}

/// No interrupt is served while this lives.
struct HeldInterrupts;

impl HeldInterrupts {
    fn begin() -> Self {
        // SAFETY: this process's own counter, as HOLD_INTERRUPTS raises it.
        unsafe { pg_sys::InterruptHoldoffCount += 1 };
        HeldInterrupts
    }
}

impl Drop for HeldInterrupts {
    fn drop(&mut self) {
        // SAFETY: undoes `begin`; an ERROR in between would have set it to zero.
        unsafe {
            pg_sys::InterruptHoldoffCount = pg_sys::InterruptHoldoffCount.saturating_sub(1);
        }
    }
}
