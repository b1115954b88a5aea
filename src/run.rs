//! The runs' rows, and their states: queued -> running -> done | failed | cancelled.
//!
//! A row says 'running' only while the process that works on it holds the run's lock. Where a
//! process ended without a word, [`settle`] writes what became of it, and the views say so before.

use pgrx::pg_extern;
use pgrx::pg_sys::{self, Oid};
use riskft_core::protocol::Ledger;
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::error::or_raise;
use crate::lock;
use crate::request::Request;
use crate::settings;
use crate::spi::{self, Param};

/// What a run ended with whose process is gone.
const LOST: &str = "the process that worked on the run ended";
const LOST_DETAIL: &str = "It was killed or terminated, or the server stopped.";

/// A run as a statement or a worker works on it.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: i64,
    /// Role that the run executes as.
    pub role: String,
    /// Whether its row is there already.
    pub queued: bool,
    /// Microseconds since 2000-01-01.
    pub started_at: i64,
}

/// A row of riskft.run, as far as its state goes.
pub struct State {
    pub owner: String,
    pub state: String,
    /// Whether this transaction wrote it.
    pub is_ours: bool,
}

/// The next run's number. Numbers of runs that roll back are not used again.
pub fn next_id() -> Result<i64> {
    spi::as_owner(|| {
        let sql = "SELECT nextval('riskft.run_run_id_seq')";
        let rows = spi::query(sql, &[], false, |row| row.get::<i64>(1).unwrap_or_default())?;
        Ok(rows.first().copied().unwrap_or_default())
    })
}

/// What a run's row tells of its arguments.
pub struct Entry<'a> {
    /// train | update | reduce | select
    pub kind: &'static str,
    /// Of the model or reducer; a selection or estimate has none.
    pub name: Option<&'a str>,
    pub relation: &'a str,
    /// A training's or a selection's.
    pub target: Option<&'a str>,
    /// These two are a training's; the base is one that its method needs.
    pub method: Option<&'a str>,
    pub base: Option<&'a str>,
    /// JSON
    pub options: String,
}

/// Stores a run as queued, for `login` to connect and the current role to execute.
pub fn queue(id: i64, request: &Request, search_path: &str) -> Result<()> {
    let (role, login) = (catalog::current_role(), catalog::session_role());
    // SAFETY: reads globals of this process.
    let (role_id, login_id) = unsafe { (pg_sys::GetUserId(), pg_sys::GetSessionUserId()) };
    spi::as_owner(|| {
        spi::execute(
            "INSERT INTO riskft.run (run_id, model_name, owner, state, relation, target, method,
                     base, options, device_hour_price, login, request, search_path, owner_id,
                     login_id)
             VALUES ($1, $2, $3::name, 'queued', $4, $5, $6, $7, $8::jsonb, $9, $10::name,
                     $11::jsonb, $12, $13, $14)",
            &[
                Param::Int8(id),
                Param::Text(&request.model),
                Param::Text(&role),
                Param::Text(&request.relation),
                Param::Text(&request.target),
                Param::Text(request.method.name()),
                Param::OptionalText(request.needed_base()),
                Param::Text(&spi::json(&request.options)?),
                Param::Float8(settings::DEVICE_HOUR_PRICE.get()),
                Param::Text(&login),
                Param::Text(&spi::json(request)?),
                Param::Text(search_path),
                Param::Role(role_id),
                Param::Role(login_id),
            ],
        )
    })
}

/// The row of a run within a statement; a queued one has its row.
pub fn begin(run: &Run, entry: &Entry<'_>) -> Result<()> {
    if run.queued {
        return Ok(());
    }
    let login = catalog::session_role();
    spi::as_owner(|| {
        spi::execute(
            "INSERT INTO riskft.run (run_id, model_name, owner, state, relation, target, method,
                     base, options, device_hour_price, queued_at, started_at, kind, login)
             VALUES ($1, $2, $3::name, 'running', $4, $5, $6, $7, $8::jsonb, $9, $10, $10, $11,
                     $12::name)",
            &[
                Param::Int8(run.id),
                Param::OptionalText(entry.name),
                Param::Text(&run.role),
                Param::Text(entry.relation),
                Param::OptionalText(entry.target),
                Param::OptionalText(entry.method),
                Param::OptionalText(entry.base),
                Param::Text(&entry.options),
                Param::Float8(settings::DEVICE_HOUR_PRICE.get()),
                Param::Timestamp(run.started_at),
                Param::Text(entry.kind),
                Param::Text(&login),
            ],
        )
    })
}

/// What a worker takes on.
pub struct Claimed {
    pub role: String,
    pub role_id: Oid,
    pub request: Option<Request>,
    pub search_path: String,
    pub device_hour_price: f64,
}

/// Turns a queued run into a running one; None when it is not queued any more, or another
/// transaction holds its row (a cancel that may yet roll back).
pub fn claim(id: i64) -> Result<Option<Claimed>> {
    let rows = spi::as_owner(|| {
        spi::query(
            "UPDATE riskft.run SET state = 'running', started_at = clock_timestamp()
             WHERE run_id = (SELECT run_id FROM riskft.run WHERE run_id = $1 AND state = 'queued'
                             FOR NO KEY UPDATE SKIP LOCKED)
             RETURNING owner::text, owner_id, request::text, search_path, device_hour_price",
            &[Param::Int8(id)],
            false,
            |row| {
                (
                    row.get::<String>(3).unwrap_or_default(),
                    Claimed {
                        role: row.get(1).unwrap_or_default(),
                        role_id: row.get(2).unwrap_or(Oid::INVALID),
                        request: None,
                        search_path: row.get(4).unwrap_or_default(),
                        device_hour_price: row.get(5).unwrap_or_default(),
                    },
                )
            },
        )
    })?;
    let Some((request, mut claimed)) = rows.into_iter().next() else { return Ok(None) };
    claimed.request = serde_json::from_str(&request).map_err(|e| {
        Refusal::new(code::DATA_CORRUPTED, "stored request of the run cannot be read")
            .detail(format!("Run {id}: {e}."))
            .hint("Queue the training again.")
    })?;
    Ok(Some(claimed))
}

/// The run's end, in the transaction that stores its version or reducer.
pub fn complete(run: &Run, ledger: &Ledger, notices: &[String]) -> Result<()> {
    let changed = spi::as_owner(|| {
        spi::query(
            "UPDATE riskft.run SET state = 'done', ended_at = clock_timestamp(),
                 ledger = $2::jsonb, notices = ARRAY(SELECT jsonb_array_elements_text($3::jsonb))
             WHERE run_id = $1 AND owner = $4::name AND state = 'running' RETURNING 1",
            &[
                Param::Int8(run.id),
                Param::Text(&spi::json(ledger)?),
                Param::Text(&spi::json(&notices)?),
                Param::Text(&run.role),
            ],
            false,
            |_| (),
        )
    })?;
    if changed.len() == 1 {
        return Ok(());
    }
    Err(Refusal::new(code::NOT_IN_STATE, "the run is not running any more")
        .detail(format!("The row of run {} was changed or removed meanwhile.", run.id))
        .hint("Nothing was stored; train again."))
}

/// The end of a run without a version, unless it has left the state that it is in.
pub fn fail(id: i64, from: &str, refusal: &Refusal, notices: &[String]) -> Result<()> {
    let state = if refusal.code == code::QUERY_CANCELED { "cancelled" } else { "failed" };
    spi::as_owner(|| {
        spi::execute(
            "UPDATE riskft.run SET state = $2, ended_at = clock_timestamp(), sqlstate = $3,
                 error = $4, error_detail = nullif($5, ''), error_hint = nullif($6, ''),
                 notices = ARRAY(SELECT jsonb_array_elements_text($7::jsonb))
             WHERE run_id = $1 AND state = $8",
            &[
                Param::Int8(id),
                Param::Text(state),
                Param::Text(&refusal.code),
                Param::Text(&refusal.message),
                Param::Text(&refusal.detail),
                Param::Text(&refusal.hint),
                Param::Text(&spi::json(&notices)?),
                Param::Text(from),
            ],
        )
    })
}

/// Cancels a run that no worker has taken on; false where one has, or it ended.
pub fn cancel_queued(id: i64) -> Result<bool> {
    let rows = spi::as_owner(|| {
        spi::query(
            "UPDATE riskft.run SET state = 'cancelled', ended_at = clock_timestamp(),
                 sqlstate = $2, error = 'the run was cancelled before it started'
             WHERE run_id = $1 AND state = 'queued' RETURNING 1",
            &[Param::Int8(id), Param::Text(code::QUERY_CANCELED)],
            false,
            |_| (),
        )
    })?;
    Ok(!rows.is_empty())
}

/// Writes down the end of runs whose process is gone.
pub fn settle() -> Result<()> {
    let running = spi::as_owner(|| {
        spi::query("SELECT run_id FROM riskft.run WHERE state = 'running'", &[], true, |row| {
            row.get::<i64>(1).unwrap_or_default()
        })
    })?;
    if running.is_empty() {
        return Ok(());
    }
    // Asked after the rows were read: who ended meanwhile has changed its row, which the UPDATE
    // sees, and who holds its lock goes on.
    let alive = lock::runs_alive()?;
    for id in running.into_iter().filter(|id| !alive.iter().any(|(run, _)| run == id)) {
        fail(id, "running", &lost(), &[])?;
    }
    Ok(())
}

fn lost() -> Refusal {
    Refusal::new(code::ADMIN_SHUTDOWN, LOST)
        .detail(LOST_DETAIL)
        .hint("Nothing was stored; queue the training again.")
}

/// A run's row, as committed by now.
pub fn state(id: i64) -> Result<Option<State>> {
    spi::as_owner(|| {
        let rows = spi::latest(|| {
            spi::query(
                "SELECT owner::text, state, xmin::text FROM riskft.run WHERE run_id = $1",
                &[Param::Int8(id)],
                true,
                |row| State {
                    owner: row.get(1).unwrap_or_default(),
                    state: row.get(2).unwrap_or_default(),
                    is_ours: row.get::<String>(3).is_some_and(|xmin| is_this_transaction(&xmin)),
                },
            )
        })?;
        Ok(rows.into_iter().next())
    })
}

fn is_this_transaction(xmin: &str) -> bool {
    let Ok(xmin) = xmin.parse::<u32>() else { return false };
    // SAFETY: looks at this transaction's own state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::TransactionId::from(xmin)) }
}

/// A queued run, and the role that its worker connects as.
#[derive(Debug, Clone)]
pub struct Queued {
    pub id: i64,
    pub login: String,
    pub login_id: Oid,
}

/// The queued runs, oldest first; those whose row another transaction holds are left out.
pub fn queued() -> Result<Vec<Queued>> {
    spi::as_owner(|| {
        spi::query(
            "SELECT run_id, login::text, login_id FROM riskft.run WHERE state = 'queued'
             ORDER BY run_id FOR NO KEY UPDATE SKIP LOCKED",
            &[],
            false,
            |row| Queued {
                id: row.get(1).unwrap_or_default(),
                login: row.get(2).unwrap_or_default(),
                login_id: row.get(3).unwrap_or(Oid::INVALID),
            },
        )
    })
}

/// Whether any run is queued.
pub fn has_queued() -> Result<bool> {
    spi::as_owner(|| {
        let sql = "SELECT EXISTS (SELECT FROM riskft.run WHERE state = 'queued')";
        let rows = spi::query(sql, &[], true, |row| row.get::<bool>(1).unwrap_or_default())?;
        Ok(rows.first().copied().unwrap_or_default())
    })
}

/// State of a run whose row says 'running', for riskft.runs: 'failed' where its process is gone.
/// On a standby, which does not see the primary's locks, the row's word stands.
#[pg_extern(sql = false)]
fn riskft_running_state(run: i64) -> Option<String> {
    // SAFETY: reads shared memory.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Some("running".to_owned());
    }
    if or_raise(lock::runner_of(run)).is_some() {
        return Some("running".to_owned());
    }
    // It may have ended between the caller's snapshot and now.
    let now = or_raise(state(run))?;
    if !catalog::may_watch(&now.owner) {
        return Some("running".to_owned());
    }
    Some(if now.state == "running" { "failed".to_owned() } else { now.state })
}
