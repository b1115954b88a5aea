//! Functions of a name: what a call site has resolved.
//!
//! A call site keeps what its name means in its FmgrInfo. That can outlive a statement, so the name is
//! resolved again whenever the snapshot changes.

use std::ffi::c_void;

use pgrx::fcinfo::{pg_arg_is_null, pg_getarg_datum_raw};
use pgrx::pg_sys::{self, FunctionCallInfo, Oid};
use pgrx::FromDatum;
use riskft_core::gemm::Kernel;
use riskft_core::refusal::{code, Refusal, Result};

use crate::argument;
use crate::settings;

/// What a name means.
pub trait Named: Sized + 'static {
    /// Name of the first argument.
    const ARGUMENT: &'static str;
    /// Where names are found.
    const NAMES: &'static str;

    /// What the name means now, for the current role.
    fn find(name: &str, kernel: Kernel) -> Result<Self>;
}

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

/// What one call site has resolved; `own` is the function's, made anew whenever the name is resolved.
pub struct CallSite<N: Named, T = ()> {
    name: String,
    key: Option<(SnapshotKey, Kernel)>,
    found: Option<N>,
    own: T,
}

impl<N: Named, T: Default + 'static> CallSite<N, T> {
    /// The call site's state, made at its first call and dropped with the FmgrInfo's memory, with its
    /// name resolved.
    ///
    /// # Safety
    /// `fcinfo` is a call of the function that the name is for, whose argument 0 is text; the returned borrow ends
    /// with the call.
    pub unsafe fn of<'a>(fcinfo: FunctionCallInfo) -> Result<&'a mut Self> {
        unsafe extern "C-unwind" fn release<N: Named, T>(site: *mut c_void) {
            // SAFETY: the pointer came from Box::into_raw below; the callback runs once.
            drop(unsafe { Box::from_raw(site.cast::<CallSite<N, T>>()) });
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
                let new: CallSite<N, T> =
                    CallSite { name: String::new(), key: None, found: None, own: T::default() };
                let site = Box::into_raw(Box::new(new));
                (*callback).func = Some(release::<N, T>);
                (*callback).arg = site.cast();
                pg_sys::MemoryContextRegisterResetCallback((*info).fn_mcxt, callback);
                (*info).fn_extra = site.cast();
            }
            let site = &mut *(*info).fn_extra.cast::<CallSite<N, T>>();
            site.resolve(fcinfo)?;
            Ok(site)
        }
    }

    /// Finds what the first argument means now.
    ///
    /// # Safety
    /// As for [`CallSite::of`].
    unsafe fn resolve(&mut self, fcinfo: FunctionCallInfo) -> Result<()> {
        // SAFETY: argument 0 is text; it lives for the call.
        let name = unsafe {
            let name = match pg_arg_is_null(fcinfo, 0) {
                true => None,
                false => <&str>::from_datum(pg_getarg_datum_raw(fcinfo, 0), false),
            };
            argument::given(N::ARGUMENT, name, N::NAMES)?
        };
        let key = (SnapshotKey::current(), settings::kernel()?);
        if self.key == Some(key) && self.name == name && self.found.is_some() {
            return Ok(());
        }
        self.key = None;
        self.found = Some(N::find(name, key.1)?);
        self.own = T::default();
        name.clone_into(&mut self.name);
        self.key = Some(key);
        Ok(())
    }

    /// Whether the name is one without a version.
    pub fn is_bare(&self) -> bool {
        !self.name.contains('@')
    }

    /// What the name means, the name without a version, and what is the function's own.
    pub fn parts(&mut self) -> Result<(&N, &str, &mut T)> {
        let none = || Refusal::new(code::DATA_CORRUPTED, "call site is not resolved");
        let bare = self.name.rsplit_once('@').map_or(self.name.as_str(), |(name, _)| name);
        Ok((self.found.as_ref().ok_or_else(none)?, bare, &mut self.own))
    }
}
