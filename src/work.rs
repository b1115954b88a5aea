//! What trainings, reductions, selections and estimates share: one piece of work that the trainer does for a
//! run. Its place among the trainers, its process, what it says, and the line of the log that tells
//! its end.

use std::cell::Cell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use riskft_core::protocol::{BlobHeader, Event, Progress, TRAINER_ENVIRONMENT};
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error;
use crate::listener::{Answer, Listener};
use crate::lock::{Held, Lock};
use crate::pause::pause;
use crate::progress::StatusFile;
use crate::publish::Blob;
use crate::run::{self, Run};
use crate::settings;
use crate::trainer_process::TrainerProcess;

/// Between two looks for a free place (riskft.max_trainers).
const PLACE_EVERY: Duration = Duration::from_millis(100);

thread_local! {
    static UNDER_WAY: Cell<bool> = const { Cell::new(false) };
}

/// A run within the caller's statement, with its lock: its number, its status for other sessions.
pub fn within_statement(name: &str) -> Result<(Run, StatusFile, Option<Held>)> {
    let id = run::next_id()?;
    let alive = Lock::Run(id).try_take();
    // Nobody else has this number.
    let _ = Lock::Row(id).take_for_transaction();
    let role = catalog::current_role();
    let status = StatusFile::new(id, name, &role);
    let run = Run { id, role, queued: false, started_at: status.started_at() };
    Ok((run, status, alive))
}

pub struct Work {
    pub run: Run,
    pub listener: Listener,
    /// What is done, as the log says it: `training of model "m"`.
    what: String,
    begun: Instant,
    /// The run's lock, while it is held ([`Lock::Run`]).
    alive: Option<Held>,
    /// One of the server's places for trainers (riskft.max_trainers).
    place: Option<Held>,
    process: Option<TrainerProcess>,
    /// Whether its end was logged.
    ended: bool,
}

impl Work {
    /// A relation may call any function, riskft_train too: that would wait for the place of its
    /// own trainer.
    pub fn require_none() -> Result<()> {
        if UNDER_WAY.get() {
            return Err(Refusal::new(code::NOT_IN_STATE, "a training cannot start another one")
                .detail(
                    "The relation of a training, reduction, selection or estimate calls riskft_train, \
                     riskft_reduce, riskft_select or riskft_estimate.",
                )
                .hint("Call one after the other, each by itself."));
        }
        Ok(())
    }

    pub fn new(what: String, run: Run, status: StatusFile, alive: Option<Held>) -> Result<Self> {
        Work::require_none()?;
        UNDER_WAY.set(true);
        Ok(Work {
            run,
            listener: Listener::new(status),
            what,
            begun: Instant::now(),
            alive,
            place: None,
            process: None,
            ended: false,
        })
    }

    /// Waits until there is a place for the trainer. Needs no transaction.
    pub fn take_place(&mut self) {
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
    }

    /// Gives the place to others, until it is taken again.
    pub fn give_place_back(&mut self) {
        self.place = None;
    }

    /// Starts the trainer and lets `feed` write the job; the last argument tells whether the run's
    /// locks are held.
    pub fn start<T>(
        &mut self,
        on: &str,
        feed: impl FnOnce(&mut TrainerProcess, &mut Listener, &dyn Fn() -> bool) -> Result<T>,
    ) -> Result<T> {
        error::log!("riskft run {}: {} on {on} starts", self.run.id, self.what);
        let mut process = TrainerProcess::start(&trainer_path(), &trainer_environment())?;
        let (alive, place) = (&self.alive, &self.place);
        let holds =
            || [alive, place].into_iter().all(|lock| lock.as_ref().is_some_and(Held::is_held));
        let fed = feed(&mut process, &mut self.listener, &holds)?;
        self.process = Some(process);
        Ok(fed)
    }

    /// What the trainer says next, or None after a short wait. Needs no transaction.
    pub fn event(&mut self) -> Result<Option<Event>> {
        self.process.as_mut().ok_or_else(not_started)?.event()
    }

    /// Waits for the trainer's answer.
    pub fn answer(&mut self) -> Result<Answer> {
        loop {
            let Some(event) = self.event()? else { continue };
            if let Some(answer) = self.listener.hear(event)? {
                return Ok(answer);
            }
        }
    }

    /// Asks the trainer to end its search with the best so far.
    pub fn end_search(&mut self) {
        if let Some(process) = &mut self.process {
            process.end_search();
        }
    }

    /// Takes the files that follow the answer, and lets the trainer and its place go, before
    /// publishing waits for any lock.
    pub fn take_files(&mut self, headers: &[BlobHeader]) -> Result<Vec<Blob>> {
        let Some(mut process) = self.process.take() else { return Err(not_started()) };
        let blobs = receive(headers, &mut process)?;
        drop(process);
        self.place = None;
        Ok(blobs)
    }

    /// Says that the result is being stored.
    pub fn publishing(&mut self) {
        let phase = Progress { phase: "publish".to_owned(), ..Progress::default() };
        self.listener.progress(&phase);
    }

    /// The line that stays when the caller's transaction rolls back.
    pub fn end(&mut self, refusal: Option<&Refusal>) {
        self.ended = true;
        self.log(refusal.map_or("is done", |_| "failed"), refusal.map(|r| r.message.as_str()));
    }

    fn log(&self, how: &str, why: Option<&str>) {
        let seconds = self.begun.elapsed().as_secs_f64();
        error::log!(
            "riskft run {}: {} {how} after {seconds:.1} s{}{}",
            self.run.id,
            self.what,
            if why.is_some() { ": " } else { "" },
            why.unwrap_or_default()
        );
    }
}

impl Drop for Work {
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

pub fn not_started() -> Refusal {
    Refusal::new(code::EXTERNAL_ROUTINE, "training was not started")
}

fn receive(headers: &[BlobHeader], process: &mut TrainerProcess) -> Result<Vec<Blob>> {
    let most = settings::bytes(&settings::MAX_MODEL_SIZE) as u64;
    let mut blobs = Vec::with_capacity(headers.len());
    for header in headers {
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
