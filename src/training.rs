//! One training, step by step: check, take a place, start, finish, publish.
//!
//! `CALL riskft_train` takes the steps in the caller's transaction. A runner ([`crate::worker`])
//! takes the same ones: it reads in one transaction, waits for the trainer in none, and publishes
//! in another.

use pgrx::pg_sys;
use riskft_core::protocol::{BlobKind, Event, JobHeader, TrainingResult, PROTOCOL, SEARCH};
use riskft_core::refusal::{Refusal, Result};
use serde_json::json;

use crate::audit::Action;
use crate::base;
use crate::catalog;
use crate::feed;
use crate::listener::Answer;
use crate::lock::Held;
use crate::progress::StatusFile;
use crate::publish::{self, Blob, Candidate, Order, Published};
use crate::relation::Scan;
use crate::reprieve::Reprieve;
use crate::request::Request;
use crate::run::{self, Run};
use crate::work::{not_started, Work};

pub struct Training {
    request: Request,
    work: Work,
    base_directory: String,
    header: Option<JobHeader>,
    /// The version that was deployed when the training started: the new one is compared with it.
    incumbent: Option<i32>,
    /// Whether a cancel has ended the search ([`Reprieve`]).
    is_cut_short: bool,
}

impl Training {
    pub fn new(
        request: Request,
        run: Run,
        status: StatusFile,
        alive: Option<Held>,
    ) -> Result<Self> {
        let what = format!("training of model \"{}\"", request.model);
        Ok(Training {
            work: Work::new(what, run, status, alive)?,
            request,
            base_directory: String::new(),
            header: None,
            incumbent: None,
            is_cut_short: false,
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
        self.work.take_place();
        Ok(())
    }

    /// Gives the place to others, until it is taken again.
    pub fn give_place_back(&mut self) {
        self.work.give_place_back();
    }

    /// Reads the relation and feeds the trainer. Needs a transaction, as the run's role.
    ///
    /// The relation's locks come before the trainer's place: who waits for a lock must not hold
    /// what its holder may wait for, since nobody would detect that deadlock.
    pub fn start(&mut self) -> Result<()> {
        let relation = self.request.resolve()?;
        let scan = Scan::open(&relation)?;
        self.work.take_place();
        let request = &self.request;
        let header = job_header(request, self.base_directory.clone(), &scan);
        let on = format!("{}, method {},", request.relation, request.method.name());
        self.incumbent = self.work.start(&on, |process, listener, holds| {
            feed::training(&header, scan, process, listener, holds)
        })?;
        self.header = Some(header);
        Ok(())
    }

    /// Waits for the trainer's result and takes the files. Needs no transaction. The trainer's
    /// place is free afterwards, before publishing waits for any lock.
    pub fn finish(&mut self) -> Result<(TrainingResult, Vec<Blob>)> {
        let search = &self.request.options.search;
        let mut reprieve = Reprieve::new(search.trials > 0 && search.keep_on_cancel);
        let answer = loop {
            if reprieve.is_called() {
                self.work.end_search();
                self.cut_short();
            }
            self.work.listener.status.show(reprieve.grace());
            let Some(event) = self.work.event()? else { continue };
            if let Event::Progress(progress) = &event {
                reprieve.follow(progress.phase == SEARCH);
                self.work.listener.status.show(reprieve.grace());
            }
            if let Some(answer) = self.work.listener.hear(event)? {
                break answer;
            }
        };
        reprieve.end();
        let Answer::Version(result) = answer else {
            return Err(publish::no_file(BlobKind::Version));
        };
        let blobs = self.work.take_files(&result.blobs)?;
        Ok((*result, blobs))
    }

    /// What a cancel leaves of a search: a version that is not deployed.
    fn cut_short(&mut self) {
        self.is_cut_short = true;
        self.work.listener.warning(
            "the cancel has ended the search, not the training",
            "The best settings so far are trained, and stored as a version that is not deployed. \
             Another cancel ends the training, and nothing is stored.",
        );
    }

    /// Stores the version and ends the run. Needs a transaction, as the run's role.
    pub fn publish(&mut self, result: &TrainingResult, blobs: &[Blob]) -> Result<Published> {
        self.work.publishing();
        let Some(header) = &self.header else { return Err(not_started()) };
        run::begin(&self.work.run, &self.request.entry()?)?;
        let candidate = match self.is_cut_short {
            true => Candidate::CutShort,
            false => Candidate::Whole { incumbent: self.incumbent },
        };
        let run = self.work.run.id;
        let order = Order {
            run,
            model: &header.model,
            deploy: header.options.deploy,
            action: Action::Train,
            detail: json!({
                "run": run,
                "method": header.method.name(),
                "digest": publish::digest(result, BlobKind::Version),
            }),
        };
        let (published, verdict) = publish::publish(&order, result, blobs, candidate)?;
        let mut notices = self.work.listener.notices();
        notices.push(verdict.words.clone());
        run::complete(&self.work.run, &result.ledger, &notices)?;
        self.work.listener.notice(verdict.words);
        Ok(published)
    }

    /// What the run has said so far.
    pub fn notices(&self) -> Vec<String> {
        self.work.listener.notices()
    }

    /// The line that stays when the caller's transaction rolls back.
    pub fn end(&mut self, refusal: Option<&Refusal>) {
        self.work.end(refusal);
    }
}

/// The header of a request's job.
pub fn job_header(request: &Request, base_dir: String, scan: &Scan) -> JobHeader {
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
