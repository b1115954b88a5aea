//! The dispatcher: starts a runner for each queued run of its database, oldest first.

use std::collections::HashMap;
use std::time::Duration;

use pgrx::pg_sys::{Datum, Oid};
use riskft_core::refusal::{code, Refusal, Result};

use super::{caught, connect, in_transaction, show, start, Order, Started, AFTER_ERROR};
use crate::catalog;
use crate::error;
use crate::lock::Lock;
use crate::pause::pause;
use crate::run::{self, Queued};
use crate::settings;

/// Between two looks at the queue.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Runners that may end without taking on their run, before the run is given up.
const MOST_LOST: u32 = 3;

/// Main function of the dispatcher.
///
/// # Safety
/// Called by the server in a background worker.
#[no_mangle]
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn riskft_dispatcher(_argument: Datum) {
    let order = Order::mine();
    connect(order);
    show("starts queued runs");
    // The queue is looked at again after the lock is free: a run that was queued between the last
    // look and then found the lock taken.
    loop {
        let Ok(Some(held)) = caught(|| Ok(Lock::Dispatcher.try_take())) else { return };
        let done = Dispatcher { database: order.database, lost: HashMap::new() }.dispatch();
        drop(held);
        match done.and_then(|()| in_transaction(run::has_queued)) {
            Ok(false) => return,
            Ok(true) => {}
            // The extension was dropped.
            Err(refusal) if [code::NO_CATALOGUE, "42P01"].contains(&refusal.code.as_str()) => {
                error::log!("riskft dispatcher ends: {}", refusal.message);
                return;
            }
            // A run must not stay queued because of what goes by: the lock table was full, say.
            Err(refusal) => {
                error::log!("riskft dispatcher tries again: {}", refusal.message);
                pause(AFTER_ERROR);
            }
        }
    }
}

/// Starts the queued runs, oldest first, each when there is a place for its trainer.
struct Dispatcher {
    database: Oid,
    /// Runners that ended without taking on their run, for each run.
    lost: HashMap<i64, u32>,
}

impl Dispatcher {
    /// Until the queue is empty.
    fn dispatch(&mut self) -> Result<()> {
        in_transaction(run::settle)?;
        while in_transaction(run::has_queued)? {
            let started = caught(|| Ok(has_free_place()))? && self.start_next()?;
            if !started {
                caught(|| {
                    pause(LOOK_EVERY);
                    Ok(())
                })?;
            }
            in_transaction(run::settle)?;
        }
        Ok(())
    }

    /// Starts a runner for the oldest queued run; false where none could be started.
    fn start_next(&mut self) -> Result<bool> {
        let Some(queued) = in_transaction(run::queued)?.into_iter().next() else {
            // Their rows are locked: somebody is about to cancel them.
            return Ok(false);
        };
        let same = in_transaction(|| Ok(catalog::role_id(&queued.login) == Some(queued.login_id)))?;
        if !same {
            self.give_up(&queued, "The role was dropped meanwhile.")?;
            return Ok(true);
        }
        let order = Order { database: self.database, login: queued.login_id, run: queued.id };
        let name = format!("riskft run {}", queued.id);
        match start(order, &name, "riskft_runner", true) {
            Some(runner) => self.await_claim(&queued, &runner).map(|()| true),
            None => Ok(false),
        }
    }

    /// Waits until the runner has taken the run on, or has ended.
    fn await_claim(&mut self, queued: &Queued, runner: &Started) -> Result<()> {
        loop {
            // In this order: what a runner did before it stopped is seen.
            let stopped = runner.has_stopped();
            let state = in_transaction(|| run::state(queued.id))?;
            if state.is_none_or(|row| row.state != "queued") {
                return Ok(());
            }
            if stopped {
                let lost = self.lost.entry(queued.id).or_default();
                *lost += 1;
                if *lost >= MOST_LOST {
                    self.give_up(queued, "The server log says why; may the role log in?")?;
                }
                return Ok(());
            }
            caught(|| {
                pause(LOOK_EVERY);
                Ok(())
            })?;
        }
    }

    fn give_up(&mut self, queued: &Queued, why: &str) -> Result<()> {
        let refusal = Refusal::new(code::NOT_IN_STATE, "the run's worker could not start")
            .detail(format!(
                "It connects as role \"{}\", which queued the run. {why}",
                queued.login
            ))
            .hint("Queue the training again as a role that can log in.");
        self.lost.remove(&queued.id);
        in_transaction(|| run::fail(queued.id, "queued", &refusal, &[]))
    }
}

fn has_free_place() -> bool {
    (0..settings::max_trainers()).any(|place| Lock::Trainer(place).try_take().is_some())
}
