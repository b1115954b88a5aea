//! What one call site of a function on a row, `f(model text, t anyelement, ...)`, has resolved.
//!
//! It is kept in the call's FmgrInfo. That can outlive a statement, so the version is resolved again
//! whenever the snapshot changes.

use std::rc::Rc;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::pg_sys::{self, FunctionCallInfo, Oid};
use pgrx::FromDatum;
use riskft_core::cell::Cell;
use riskft_core::gemm::Kernel;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::model_cache::{self, SharedScorer};
use crate::row::Layout;
use crate::settings;

/// Identifies what a statement sees: equal keys see the same catalogue rows.
///
/// snapXactCompletionCount changes when any transaction with an id ends, here or (on a standby) in
/// replay; curcid changes with the own transaction's commands; a parallel worker lives for one
/// statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SnapshotKey {
    xmin: u32,
    xmax: u32,
    curcid: u32,
    completed: u64,
    local_transaction: u32,
    user: Oid,
}

impl SnapshotKey {
    fn current() -> Self {
        // SAFETY: a statement that calls a function has an active snapshot and a PGPROC.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            SnapshotKey {
                xmin: u32::from((*snapshot).xmin),
                xmax: u32::from((*snapshot).xmax),
                curcid: (*snapshot).curcid,
                completed: (*snapshot).snapXactCompletionCount,
                local_transaction: (*pg_sys::MyProc).lxid,
                user: pg_sys::GetUserId(),
            }
        }
    }
}

/// The state of a call site; `own` is the function's, made anew for each version and snapshot.
#[derive(Default)]
pub struct CallSite<T> {
    model: String,
    key: Option<(SnapshotKey, Kernel)>,
    scorer: Option<SharedScorer>,
    layout: Option<Layout>,
    pub own: T,
}

impl<T: Default> CallSite<T> {
    /// The call site's state, made at its first call and dropped with the FmgrInfo's memory.
    ///
    /// # Safety
    /// `fcinfo` is the server's; the returned borrow ends with the call.
    pub unsafe fn of<'a>(fcinfo: FunctionCallInfo) -> &'a mut Self {
        unsafe extern "C-unwind" fn release<T>(site: *mut std::ffi::c_void) {
            // SAFETY: the pointer came from Box::into_raw below; the callback runs once.
            drop(unsafe { Box::from_raw(site.cast::<CallSite<T>>()) });
        }
        // SAFETY: fn_extra is ours alone: null, or what was put there here.
        unsafe {
            let info = (*fcinfo).flinfo;
            if (*info).fn_extra.is_null() {
                let callback = pg_sys::MemoryContextAllocZero(
                    (*info).fn_mcxt,
                    size_of::<pg_sys::MemoryContextCallback>(),
                )
                .cast::<pg_sys::MemoryContextCallback>();
                let site = Box::into_raw(Box::<CallSite<T>>::default());
                (*callback).func = Some(release::<T>);
                (*callback).arg = site.cast();
                pg_sys::MemoryContextRegisterResetCallback((*info).fn_mcxt, callback);
                (*info).fn_extra = site.cast();
            }
            &mut *(*info).fn_extra.cast::<CallSite<T>>()
        }
    }

    /// Finds the scorer that the model argument means now.
    ///
    /// # Safety
    /// Argument 0 of `fcinfo` is the model.
    pub unsafe fn resolve(&mut self, fcinfo: FunctionCallInfo) -> Result<()> {
        // SAFETY: the function has a first argument.
        if unsafe { pg_arg_is_null(fcinfo, 0) } {
            return Err(Refusal::new(code::NULL_NOT_ALLOWED, "model must not be null")
                .detail("Argument \"model\" is null.")
                .hint("Name a model; the view riskft.models lists yours."));
        }
        // SAFETY: argument 0 is text; it lives for the call.
        let model = unsafe { <&str>::from_datum(pg_getarg_datum_raw(fcinfo, 0), false) };
        let model = model.unwrap_or_default();
        let key = (SnapshotKey::current(), settings::kernel()?);
        if self.key == Some(key) && self.model == model && self.scorer.is_some() {
            return Ok(());
        }
        self.key = None;
        let files = catalog::scorable(model)?;
        let scorer = model_cache::scorer(&files, key.1)?;
        if !self.scorer.as_ref().is_some_and(|known| Rc::ptr_eq(known, &scorer)) {
            self.layout = None;
        }
        self.own = T::default();
        self.scorer = Some(scorer);
        model.clone_into(&mut self.model);
        self.key = Some(key);
        Ok(())
    }

    /// The scorer that [`CallSite::resolve`] found.
    pub fn scorer(&self) -> Result<SharedScorer> {
        let none = || Refusal::new(code::DATA_CORRUPTED, "call site is not resolved");
        self.scorer.clone().ok_or_else(none)
    }

    /// The name of the model that [`CallSite::resolve`] found, without a version.
    pub fn model_name(&self) -> &str {
        self.model.rsplit_once('@').map_or(&self.model, |(name, _)| name)
    }

    /// The cells of the model's columns in the row that is argument 1.
    ///
    /// # Safety
    /// Argument 1 of `fcinfo` is not NULL, and of the type that the call site says; the current memory
    /// context outlives the cells.
    pub unsafe fn cells<'a>(&mut self, fcinfo: FunctionCallInfo) -> Result<Vec<Cell<'a>>> {
        let scorer = self.scorer()?;
        // SAFETY: as promised.
        unsafe { Layout::cells(&mut self.layout, &scorer, fcinfo) }
    }
}
