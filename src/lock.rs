//! Locks of riskft in the server's lock table: which run is alive, who starts queued runs, how
//! many trainers there are.
//!
//! They are advisory locks of classes of their own: the class of a lock that SQL takes is 1 or 2,
//! so no user can take one of these; pg_locks shows them (objsubid is the class). They belong to
//! the session, not to its transaction, and end with the process that holds them. SQL can release
//! them in one way, pg_advisory_unlock_all(): who runs foreign SQL asks [`Held::is_held`] after it.

use pgrx::pg_sys::{self, Oid};
use riskft_core::refusal::Result;

use crate::spi::{self, Param};

const RUN: u16 = 21_062;
const DISPATCHER: u16 = 21_063;
const TRAINER: u16 = 21_064;
const ROW: u16 = 21_065;
const SCORE_TABLE: u16 = 21_066;

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// A run of this database that is alive.
    Run(i64),
    /// A run of this database whose row others do not see yet: its transaction goes on.
    Row(i64),
    /// Starting the queued runs of this database.
    Dispatcher,
    /// One of the server's places for a trainer (riskft.max_trainers).
    Trainer(u32),
    /// Writing a table of scores of this database.
    ScoreTable(Oid),
}

/// A lock that this process holds; dropping it releases it.
pub struct Held {
    tag: pg_sys::LOCKTAG,
}

impl Lock {
    fn tag(self) -> pg_sys::LOCKTAG {
        // SAFETY: reads a global of this process.
        let database = u32::from(unsafe { pg_sys::MyDatabaseId });
        let (database, high, low, class) = match self {
            Lock::Run(run) => (database, (run >> 32) as u32, run as u32, RUN),
            Lock::Row(run) => (database, (run >> 32) as u32, run as u32, ROW),
            Lock::Dispatcher => (database, 0, 0, DISPATCHER),
            Lock::Trainer(place) => (0, 0, place, TRAINER),
            Lock::ScoreTable(table) => (database, 0, u32::from(table), SCORE_TABLE),
        };
        pg_sys::LOCKTAG {
            locktag_field1: database,
            locktag_field2: high,
            locktag_field3: low,
            locktag_field4: class,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        }
    }

    /// The lock, unless any process holds it, this one included.
    pub fn try_take(self) -> Option<Held> {
        let tag = self.tag();
        // SAFETY: a session lock of a well-formed tag; an ERROR (lock table full) leaves as one.
        unsafe {
            match pg_sys::LockAcquire(&tag, EXCLUSIVE, true, true) {
                pg_sys::LockAcquireResult::LOCKACQUIRE_OK => Some(Held { tag }),
                pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL => None,
                // Held here already: taken twice now, so given back once.
                _ => {
                    pg_sys::LockRelease(&tag, EXCLUSIVE, true);
                    None
                }
            }
        }
    }
}

impl Lock {
    /// Takes the lock until the end of the transaction, or of the subtransaction that rolls back,
    /// unless another process holds it; whether it is held then.
    pub fn take_for_transaction(self) -> bool {
        // SAFETY: a transaction's lock of a well-formed tag.
        let taken = unsafe { pg_sys::LockAcquire(&self.tag(), EXCLUSIVE, false, true) };
        taken != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

const EXCLUSIVE: pg_sys::LOCKMODE = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;

impl Held {
    /// Whether the lock was not released behind our back.
    pub fn is_held(&self) -> bool {
        // SAFETY: looks at this process's own locks.
        unsafe { pg_sys::LockHeldByMe(&self.tag, EXCLUSIVE) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_held() {
            // SAFETY: releases what `try_take` took.
            unsafe { pg_sys::LockRelease(&self.tag, EXCLUSIVE, true) };
        }
    }
}

/// (run, process id) of the runs of this database that are alive.
pub fn runs_alive() -> Result<Vec<(i64, i32)>> {
    holders(RUN)
}

/// Whether somebody starts the queued runs of this database.
pub fn has_dispatcher() -> Result<bool> {
    Ok(!holders(DISPATCHER)?.is_empty())
}

/// Whether the transaction of a run that trains within a statement goes on.
pub fn is_uncommitted(run: i64) -> Result<bool> {
    Ok(holders(ROW)?.iter().any(|(open, _)| *open == run))
}

fn holders(class: u16) -> Result<Vec<(i64, i32)>> {
    // SAFETY: reads a global of this process.
    let database: Oid = unsafe { pg_sys::MyDatabaseId };
    spi::as_owner(|| {
        spi::query(
            "SELECT (classid::bigint << 32) | objid::bigint, pid FROM pg_catalog.pg_locks
             WHERE locktype = 'advisory' AND objsubid = $1 AND database = $2::text::oid AND granted",
            &[Param::Int4(i32::from(class)), Param::Text(&u32::from(database).to_string())],
            true,
            |row| (row.get(1).unwrap_or_default(), row.get(2).unwrap_or_default()),
        )
    })
}

/// Process id that works on a run of this database; None when none does.
pub fn runner_of(run: i64) -> Result<Option<i32>> {
    Ok(runs_alive()?.into_iter().find(|(alive, _)| *alive == run).map(|(_, pid)| pid))
}
