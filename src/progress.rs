//! Where the trainings of this database stand, for other sessions to see.
//!
//! A row of a table would be visible at the end of the training's transaction only. So each
//! training keeps a small status file beside the cache of model files, replaced as a whole at each
//! report. A file counts only while its run is alive ([`crate::lock`]); a full disk costs the
//! report, never the training.

use std::fs;
use std::path::PathBuf;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use riskft_core::protocol::Progress;
use riskft_core::refusal::Result;
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::error::or_raise;
use crate::lock;
use crate::model_cache;
use crate::reprieve::Grace;
use crate::temporary::Temporary;

const PREFIX: &str = "status";
/// Ends the name of a file that is not whole yet.
const NEW: &str = ".new";

/// What a status file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub run: i64,
    pub model: String,
    pub owner: String,
    /// Microseconds since 2000-01-01, as PostgreSQL counts.
    pub started_at: i64,
    pub progress: Progress,
    /// What a cancel does now.
    pub grace: Grace,
}

/// The status file of a training; it goes with its end.
pub struct StatusFile {
    file: Temporary,
    status: Status,
}

fn database() -> u32 {
    // SAFETY: reads a global of this process.
    u32::from(unsafe { pg_sys::MyDatabaseId })
}

impl StatusFile {
    pub fn new(run: i64, model: &str, owner: &str) -> Self {
        // SAFETY: reads the clock.
        let started_at = unsafe { pg_sys::GetCurrentTimestamp() };
        let status = Status {
            run,
            model: model.to_owned(),
            owner: owner.to_owned(),
            started_at,
            progress: Progress { phase: "start".to_owned(), ..Progress::default() },
            grace: Grace::None,
        };
        let path = model_cache::folder().join(format!("{PREFIX}.{}.{run}", database()));
        let file = StatusFile { file: Temporary::new(path), status };
        file.write();
        file
    }

    pub fn started_at(&self) -> i64 {
        self.status.started_at
    }

    /// Figures come at the end of an epoch; they stay until the next ones of the same phase.
    pub fn report(&mut self, progress: &Progress) {
        let last = std::mem::replace(&mut self.status.progress, progress.clone());
        let now = &mut self.status.progress;
        if last.phase == now.phase {
            now.loss = now.loss.or(last.loss);
            now.validation_auc = now.validation_auc.or(last.validation_auc);
            now.seconds_left = now.seconds_left.or(last.seconds_left);
        }
        self.write();
    }

    /// What a cancel does from now on.
    pub fn show(&mut self, grace: Grace) {
        if grace != self.status.grace {
            self.status.grace = grace;
            self.write();
        }
    }

    fn write(&self) {
        let Ok(json) = serde_json::to_vec(&self.status) else { return };
        let path = self.file.path();
        let temporary = path.with_extension(format!("{}{NEW}", self.status.run));
        let written = model_cache::make_folder()
            .and_then(|()| fs::write(&temporary, &json))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
}

/// The status files of this database, with the process of each; files of dead runs are removed.
pub fn alive() -> Result<Vec<(Status, i32)>> {
    let prefix = format!("{PREFIX}.{}.", database());
    let Ok(entries) = fs::read_dir(model_cache::folder()) else { return Ok(Vec::new()) };
    // Files first: a run that begins after this line is missed, none is taken for dead.
    let files: Vec<(PathBuf, Status)> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&prefix) && !name.ends_with(NEW)
        })
        .filter_map(|entry| {
            let status = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            Some((entry.path(), status))
        })
        .collect();
    let alive = lock::runs_alive()?;
    let mut found = Vec::new();
    for (path, status) in files {
        match alive.iter().find(|(run, _)| *run == status.run) {
            Some((_, pid)) => found.push((status, *pid)),
            None => {
                let _ = fs::remove_file(path);
            }
        }
    }
    found.sort_by_key(|(status, _)| status.run);
    Ok(found)
}

/// What a cancel does to a run; None where the run is not alive.
pub fn grace_of(run: i64) -> Result<Option<Grace>> {
    Ok(alive()?.into_iter().find(|(status, _)| status.run == run).map(|(status, _)| status.grace))
}

/// Rows of riskft.progress that are being worked on: those of roles whose privileges the caller
/// has, all of them for members of pg_read_all_stats.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_working() -> TableIterator<
    'static,
    (
        name!(run, i64),
        name!(pid, i32),
        name!(model, Option<String>),
        name!(owner, String),
        name!(phase, String),
        name!(done, i64),
        name!(total, i64),
        name!(epoch, i64),
        name!(loss, Option<f64>),
        name!(validation_auc, Option<f64>),
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(seconds_left, Option<f64>),
    ),
> {
    let rows =
        or_raise(alive()).into_iter().filter(|(status, _)| catalog::may_watch(&status.owner));
    TableIterator::new(rows.map(|(status, pid)| {
        let progress = status.progress;
        (
            status.run,
            pid,
            // A selection has no name, nor has an estimate.
            Some(status.model).filter(|model| !model.is_empty()),
            status.owner,
            progress.phase,
            progress.done as i64,
            progress.total as i64,
            progress.epoch as i64,
            progress.loss,
            progress.validation_auc,
            TimestampWithTimeZone::try_from(status.started_at).ok(),
            progress.seconds_left,
        )
    }))
}
