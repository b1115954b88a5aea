//! A connection that keeps its notices.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres::types::{FromSqlOwned, ToSql};
use postgres::{Client, Config, NoTls};

/// A NOTICE or WARNING as it reached the client.
#[derive(Debug, Clone)]
pub struct Notice {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub detail: String,
}

/// A client connection; everything of [`postgres::Client`] can be called on it.
pub struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Session {
    pub(crate) fn open(
        folder: &Path,
        port: u16,
        database: &str,
        user: &str,
    ) -> Result<Self, postgres::Error> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        let client = Config::new()
            .host_path(folder)
            .port(port)
            .dbname(database)
            .user(user)
            .connect_timeout(Duration::from_secs(10))
            .notice_callback(move |error| {
                let notice = Notice {
                    severity: error.severity().to_owned(),
                    code: error.code().code().to_owned(),
                    message: error.message().to_owned(),
                    detail: error.detail().unwrap_or_default().to_owned(),
                };
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
            })
            .connect(NoTls)?;
        Ok(Session { client, notices })
    }

    /// Takes the notices that came since the last call.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The messages of [`Session::notices`], a line for each.
    pub fn told(&mut self) -> String {
        self.notices().iter().map(|notice| format!("{}\n", notice.message)).collect()
    }

    /// The notices that were not taken yet, for a thread that listens while a statement runs.
    pub fn heard(&self) -> Arc<Mutex<Vec<Notice>>> {
        Arc::clone(&self.notices)
    }

    /// Process id of this session's backend.
    pub fn pid(&mut self) -> i32 {
        self.value("SELECT pg_backend_pid()")
    }

    /// The single value of a query; panics with the query when it fails.
    pub fn value<T: FromSqlOwned>(&mut self, sql: &str) -> T {
        self.value_of(sql, &[])
    }

    pub fn value_of<T: FromSqlOwned>(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> T {
        let row =
            self.client.query_one(sql, with).unwrap_or_else(|e| panic!("{sql}: {}", told(&e)));
        row.get(0)
    }

    /// The first column of a query's rows.
    pub fn values<T: FromSqlOwned>(&mut self, sql: &str) -> Vec<T> {
        let rows = self.client.query(sql, &[]).unwrap_or_else(|e| panic!("{sql}: {}", told(&e)));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs statements; panics with them when one fails.
    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {}", told(&e)));
    }
}

/// A server error with its code, detail and hint, for a failed test's output.
pub(crate) fn told(error: &postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return error.to_string() };
    format!(
        "{} {} (detail: {}; hint: {})",
        db.code().code(),
        db.message(),
        db.detail().unwrap_or("none"),
        db.hint().unwrap_or("none")
    )
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
