//! A runner: executes one queued run as its role.

use std::time::Duration;

use pgrx::pg_sys::{self, Datum};
use riskft_core::refusal::{code, Refusal, Result};

use super::{caught, connect, in_transaction, show, Order, AFTER_ERROR};
use crate::catalog;
use crate::error;
use crate::lock::Lock;
use crate::pause::pause;
use crate::progress::StatusFile;
use crate::run::{self, Claimed, Run};
use crate::settings;
use crate::spi;
use crate::training::Training;

/// Longest wait for a lock of the relation while a trainer's place is held.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Tries to store a finished training.
const ATTEMPTS: u32 = 5;

/// Main function of a runner.
///
/// # Safety
/// Called by the server in a background worker.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_runner(_argument: Datum) {
    let order = Order::mine();
    connect(order);
    let Ok(Some(alive)) = caught(|| Ok(Lock::Run(order.run).try_take())) else { return };
    let mut claimed = match in_transaction(|| run::claim(order.run)) {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return,
        Err(refusal) => {
            error::log!("riskft run {} cannot be taken on: {}", order.run, refusal.message);
            return;
        }
    };
    let Some(request) = claimed.request.take() else { return };
    show(&format!("run {}: training of model {}", order.run, request.model));
    let status = StatusFile::new(order.run, &request.model, &claimed.role);
    let role = claimed.role.clone();
    let run = Run { id: order.run, role, queued: true, started_at: status.started_at() };
    // The run's row says "running" from here on; what ends below ends it.
    let mut training = match Training::new(request, run, status, Some(alive)) {
        Ok(training) => training,
        Err(refusal) => return end(order.run, &refusal, &[]),
    };
    let outcome = execute(&mut training, &claimed);
    training.end(outcome.as_ref().err());
    if let Err(refusal) = outcome {
        end(order.run, &refusal, &training.notices());
    }
}

/// One transaction to read, none to train, one to publish: a long training holds no snapshot.
fn execute(training: &mut Training, claimed: &Claimed) -> Result<()> {
    let role = in_transaction(|| {
        settings::take_over(&claimed.search_path, claimed.device_hour_price)?;
        let role = catalog::role_id(&claimed.role).filter(|role| *role == claimed.role_id);
        role.ok_or_else(|| {
            Refusal::new(
                code::UNDEFINED_OBJECT,
                format!("role \"{}\" does not exist", claimed.role),
            )
            .detail("The run's role was dropped after the run was queued.")
            .hint("Queue the training again as another role.")
        })
    })?;
    in_transaction(|| spi::as_role(role, || training.check()))?;
    loop {
        caught(|| training.take_place())?;
        let started = in_transaction(|| {
            // Who holds the relation's lock may wait for this run's place.
            settings::limit_lock_waits(LOCK_WAIT)?;
            spi::as_role(role, || training.start())
        });
        match started {
            Err(refusal) if refusal.code == code::LOCK_NOT_AVAILABLE => training.give_place_back(),
            outcome => break outcome?,
        }
        caught(|| {
            pause(AFTER_ERROR);
            Ok(())
        })?;
    }
    let (result, blobs) = caught(|| training.finish())?;
    // The result of hours is in memory: what goes by does not lose it.
    for attempt in 1.. {
        match in_transaction(|| spi::as_role(role, || training.publish(&result, &blobs))) {
            Err(refusal) if attempt < ATTEMPTS && goes_by(&refusal) => {}
            outcome => return outcome.map(|_| ()),
        }
    }
    Ok(())
}

fn goes_by(refusal: &Refusal) -> bool {
    [code::DEADLOCK, code::SERIALIZATION_FAILURE, code::LOCK_NOT_AVAILABLE]
        .contains(&refusal.code.as_str())
}

fn end(run: i64, refusal: &Refusal, notices: &[String]) {
    // A second cancel would only cancel this note.
    // SAFETY: this process's own signal and flag.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        (&raw mut pg_sys::QueryCancelPending).write_volatile(0);
    }
    if let Err(error) = in_transaction(|| run::fail(run, "running", refusal, notices)) {
        error::log!("riskft run {run}: its end could not be written: {}", error.message);
    }
}
