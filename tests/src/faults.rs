//! Trainings that are struck: killed, cancelled, cut off; and what must hold afterwards.
//!
//! An [`Arena`] has a deployed model whose scores are known to the bit, on a tiny text encoder, so
//! that a training passes through all its phases in about a second. Each [`Arena::round`] trains
//! the next version, strikes at a chosen moment, and checks that the old version or the new one is
//! there whole, with its digests and its scores, and that nothing is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{CancelToken, NoTls};

use crate::base_folder::BaseFolder;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::fixture;
use crate::leftovers::leftovers;
use crate::process;
use crate::session::{Notice, Session};

/// The phases of a training, as its notices name them.
pub const PHASES: [&str; 9] =
    ["load", "prepare", "encode", "network", "trees", "text", "tune", "evaluate", "publish"];
/// Longest wait for a phase, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// A process that was struck, or whose parent was, ends this soon.
const AT_ONCE: Duration = Duration::from_secs(5);

/// When a training is struck.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// So long after its call.
    After(Duration),
    /// So long after it says that it enters a phase.
    In(&'static str, Duration),
    /// While it publishes; a lock that another session holds makes it wait there.
    Publishing,
}

/// What strikes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    KillTrainer,
    KillBackend,
    /// SIGQUIT to the postmaster, which is then started again.
    StopServer,
    /// As a client asks for it.
    Cancel,
    /// pg_terminate_backend.
    Terminate,
}

/// What came of a round.
#[derive(Debug, Clone)]
pub struct Round {
    /// The phase that was struck.
    pub phase: String,
    /// From the blow to the statement's end.
    pub lasted: Duration,
    /// SQLSTATE of the statement; "lost" when its connection was; "done" when it was too late.
    pub outcome: String,
}

/// A cluster's database with a model to train again and again.
pub struct Arena<'a> {
    database: Database<'a>,
    seed: u32,
    /// How long a training lasts that nobody strikes.
    pub whole: Duration,
}

/// What the bare name of the model means.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    version: i32,
    scores: String,
}

impl<'a> Arena<'a> {
    pub fn new(cluster: &'a Cluster) -> Self {
        cluster.log().allow("was terminated by signal 9");
        let database = Database::within(cluster);
        fixture::loans(&database, 300);
        let tiny = BaseFolder::copy(&database, "tiny_finbert", "tiny");
        database.superuser().run(&tiny.import("tiny"));
        let mut arena = Arena { database, seed: 0, whole: Duration::ZERO };
        arena.train();
        arena.whole = arena.train();
        arena
    }

    pub fn database(&self) -> &Database<'a> {
        &self.database
    }

    /// Trains once in peace; how long it took.
    pub fn train(&mut self) -> Duration {
        let begun = Instant::now();
        let call = self.call("");
        self.database.analyst().run(&call);
        begun.elapsed()
    }

    /// The call of the next training, which gives other scores than the last.
    pub fn call(&mut self, how: &str) -> String {
        self.seed += 1;
        format!(
            r#"CALL riskft_train('m', 'SELECT loan_id, borrower, city, employees, bank, defaulted FROM loans',
                'defaulted', exclude => '{{loan_id}}', base => 'tiny', {how} options => '{{"seed": {},
                "keep_text": "always", "deploy": "always", "epochs": 2, "layers": 1, "rank": 4,
                "head_epochs": 8, "hidden": 16, "members": 1, "threads": 1,
                "gate": {{"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}}}}')"#,
            self.seed
        )
    }

    fn standing(&self) -> Standing {
        let mut analyst = self.database.analyst();
        Standing {
            version: analyst.value("SELECT deployed_version FROM riskft.models WHERE model = 'm'"),
            scores: analyst.value(
                "SELECT md5(string_agg(float8send(risk_score('m', l))::text, '' ORDER BY loan_id))
                 FROM loans l",
            ),
        }
    }

    /// One training, struck; what did not hold afterwards, in words.
    pub fn round(&mut self, moment: Moment, blow: Blow) -> Result<Round, String> {
        let before = self.standing();
        let cluster = self.database.cluster();
        let server = cluster.server_pid();
        let recoveries = cluster.recoveries();
        let call = self.call("");
        let mut session = self.database.analyst();
        let backend = session.pid();
        let holder = matches!(moment, Moment::Publishing).then(|| {
            let mut holder = self.database.superuser();
            holder.run("BEGIN; LOCK TABLE riskft.blob IN SHARE MODE");
            holder
        });
        let striker = Striker {
            moment,
            blow,
            backend,
            server,
            cancel: session.cancel_token(),
            heard: session.heard(),
            over: Arc::new(AtomicBool::new(false)),
            called: Instant::now(),
        };
        let over = Arc::clone(&striker.over);
        let (outcome, ended, struck) = thread::scope(|scope| {
            let strike = scope.spawn(|| striker.strike());
            let outcome = session.batch_execute(&call);
            let ended = Instant::now();
            over.store(true, Ordering::Relaxed);
            (outcome, ended, strike.join())
        });
        let struck = struck.map_err(|_| "the striker failed".to_owned())?;
        drop(holder);
        let outcome = told_as(outcome);
        match blow {
            Blow::StopServer if struck.at.is_some() => cluster.crash(),
            Blow::KillBackend if struck.at.is_some() => {
                process::await_true(PATIENCE, || cluster.recoveries() > recoveries);
                cluster.await_recovery();
            }
            _ => {}
        }
        let round = Round {
            phase: struck.phase,
            lasted: struck.at.map_or(Duration::ZERO, |at| ended.saturating_duration_since(at)),
            outcome,
        };
        self.check(&round, blow, &before, &mut session, struck.trainer)?;
        Ok(round)
    }

    /// A queued training whose worker is killed so long after it took the run on.
    pub fn worker_round(&mut self, after: Duration) -> Result<Round, String> {
        let before = self.standing();
        let cluster = self.database.cluster();
        let recoveries = cluster.recoveries();
        let call = self.call("wait => false,");
        let mut analyst = self.database.analyst();
        let run: i64 = analyst.query_one(&call, &[]).map_err(|e| e.to_string())?.get("run");
        let mut seen = Vec::new();
        let progress = format!("SELECT pid FROM riskft.progress WHERE run = {run} AND pid > 0");
        process::await_true(PATIENCE, || {
            seen = analyst.values::<i32>(&progress);
            !seen.is_empty()
        });
        let Some(worker) = seen.first() else { return Err("the run has no worker".to_owned()) };
        thread::sleep(after);
        let phase = analyst
            .values::<String>(&format!("SELECT phase FROM riskft.progress WHERE run = {run}"))
            .pop()
            .unwrap_or_else(|| "done".to_owned());
        let trainer = process::trainer_of(*worker);
        let struck = Instant::now();
        let alive = process::exists(*worker);
        process::signal(*worker, process::KILL);
        if alive {
            process::await_true(PATIENCE, || cluster.recoveries() > recoveries);
            cluster.await_recovery();
        }
        if trainer.is_some_and(|pid| !process::await_end(pid, AT_ONCE)) {
            return Err(format!("run {run}, {phase}: the trainer goes on"));
        }
        let outcome = self.run_told(run);
        let round = Round { phase, lasted: struck.elapsed(), outcome };
        let left = leftovers(&self.database);
        let after = self.standing();
        let whole = match round.outcome.as_str() {
            "57P01" => after == before,
            "done" => after.version > before.version && after.scores != before.scores,
            _ => false,
        };
        if !whole || !left.is_empty() {
            return Err(format!("{round:?}: {before:?} became {after:?}; left behind: {left:?}"));
        }
        Ok(round)
    }

    /// SQLSTATE of a failed run that has a reason, else its state.
    fn run_told(&self, run: i64) -> String {
        self.database.analyst().value(&format!(
            "SELECT CASE WHEN state = 'failed' AND error <> '' THEN sqlstate ELSE state END
             FROM riskft.runs WHERE run = {run}"
        ))
    }

    fn check(
        &self,
        round: &Round,
        blow: Blow,
        before: &Standing,
        session: &mut Session,
        trainer: Option<i32>,
    ) -> Result<(), String> {
        let expected = match blow {
            Blow::KillTrainer => ["38000", "38000", "done"],
            Blow::Cancel => ["57014", "57014", "done"],
            Blow::Terminate => ["57P01", "lost", "done"],
            Blow::KillBackend | Blow::StopServer => ["57P02", "lost", "done"],
        };
        if !expected.contains(&round.outcome.as_str()) {
            return Err(format!("{round:?}: one of {expected:?} was expected"));
        }
        if trainer.is_some_and(|pid| !process::await_end(pid, AT_ONCE)) {
            return Err(format!("{round:?}: the trainer goes on"));
        }
        let goes_on = matches!(blow, Blow::KillTrainer | Blow::Cancel);
        if goes_on && session.batch_execute("SELECT 1").is_err() {
            return Err(format!("{round:?}: the session does not go on"));
        }
        let left = leftovers(&self.database);
        if !left.is_empty() {
            return Err(format!("{round:?}: left behind: {}", left.join(", ")));
        }
        let after = self.standing();
        let published = after.version > before.version && after.scores != before.scores;
        let whole = match round.outcome.as_str() {
            "done" => published,
            "lost" | "57P01" | "57P02" => published || after == *before,
            _ => after == *before,
        };
        if !whole {
            return Err(format!("{round:?}: {before:?} became {after:?}"));
        }
        Ok(())
    }
}

/// SQLSTATE, "lost" or "done".
fn told_as(outcome: Result<(), postgres::Error>) -> String {
    match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) => match error.as_db_error() {
            Some(db) => db.code().code().to_owned(),
            None => "lost".to_owned(),
        },
    }
}

struct Striker {
    moment: Moment,
    blow: Blow,
    backend: i32,
    server: i32,
    cancel: CancelToken,
    heard: Arc<Mutex<Vec<Notice>>>,
    over: Arc<AtomicBool>,
    called: Instant,
}

struct Struck {
    /// None when the training was over before.
    at: Option<Instant>,
    phase: String,
    trainer: Option<i32>,
}

impl Striker {
    fn strike(&self) -> Struck {
        let in_time = self.await_moment();
        let trainer = process::trainer_of(self.backend);
        let aim = match self.blow {
            Blow::KillTrainer => trainer,
            Blow::StopServer => Some(self.server),
            Blow::KillBackend | Blow::Cancel | Blow::Terminate => Some(self.backend),
        };
        let phase = self.phase().unwrap_or("start").to_owned();
        let Some(aim) = aim.filter(|_| in_time) else { return Struck { at: None, phase, trainer } };
        let at = Instant::now();
        match self.blow {
            Blow::KillTrainer | Blow::KillBackend => process::signal(aim, process::KILL),
            Blow::StopServer => process::signal(aim, libc::SIGQUIT),
            Blow::Terminate => process::signal(aim, libc::SIGTERM),
            Blow::Cancel => {
                let _ = self.cancel.cancel_query(NoTls);
            }
        }
        Struck { at: Some(at), phase, trainer }
    }

    /// Whether the moment came while the training was under way.
    fn await_moment(&self) -> bool {
        let (phase, then) = match self.moment {
            Moment::After(then) => (None, then),
            Moment::In(phase, then) => (Some(phase), then),
            // By then it waits for the lock.
            Moment::Publishing => (Some("publish"), Duration::from_millis(100)),
        };
        let mut since = self.called;
        if let Some(phase) = phase {
            while !self.has_entered(phase) {
                if self.is_over() || self.called.elapsed() > PATIENCE {
                    return false;
                }
                thread::sleep(Duration::from_millis(1));
            }
            since = Instant::now();
        }
        while since.elapsed() < then && !self.is_over() {
            thread::sleep(Duration::from_millis(1));
        }
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The phase that the training said last.
    fn phase(&self) -> Option<&'static str> {
        self.phases().pop()
    }

    /// It may be a phase further by now.
    fn has_entered(&self, phase: &str) -> bool {
        self.phases().contains(&phase)
    }

    fn phases(&self) -> Vec<&'static str> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = |notice: &Notice| {
            let word = notice.message.split([',', ' ']).next()?;
            PHASES.into_iter().find(|phase| *phase == word)
        };
        heard.iter().filter_map(phase).collect()
    }
}
