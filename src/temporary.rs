//! Files that must not outlive what made them.
//!
//! A value's end and an ERROR drop them. A FATAL (pg_terminate_backend, a client that went away)
//! ends the process without unwinding, so the server's own exit callback removes them as well. A
//! killed process leaves them to the server, which clears the folder when it starts again.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};

use pgrx::pg_sys::{self, Datum};

thread_local! {
    static PATHS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// A path whose file goes when this goes, or the process. The file need not exist.
pub struct Temporary(PathBuf);

impl Temporary {
    pub fn new(path: PathBuf) -> Self {
        if !REGISTERED.replace(true) {
            // SAFETY: registers a function of this library, which is never unloaded.
            unsafe { pg_sys::on_proc_exit(Some(remove_all), Datum::from(0)) };
        }
        PATHS.with_borrow_mut(|paths| paths.push(path.clone()));
        Temporary(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        PATHS.with_borrow_mut(|paths| paths.retain(|path| *path != self.0));
    }
}

unsafe extern "C-unwind" fn remove_all(_code: i32, _argument: Datum) {
    PATHS.with(|paths| {
        // Nobody holds it where interrupts are looked at.
        let Ok(paths) = paths.try_borrow() else { return };
        for path in paths.iter() {
            let _ = fs::remove_file(path);
        }
    });
}
