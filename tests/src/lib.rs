//! Harness of the end-to-end tests: one throw-away cluster for each test binary.
//!
//! The tests use the extension that is installed in the system's PostgreSQL (`make install`) and
//! install nothing themselves. A test takes a [`Database`] of its own in the binary's shared
//! cluster, or starts a [`Cluster`] of its own when it kills processes.
//!
//! ```no_run
//! let database = riskft_tests::Database::new();
//! riskft_tests::fixture::loans(&database, 2_000);
//! let mut analyst = database.analyst();
//! riskft_tests::refuses(&mut analyst, "SELECT risk_score('none', l) FROM loans l", "42704");
//! ```
//!
//! A harness may panic: it runs in tests only, and its panic is the test's failure.

mod base_folder;
mod cancel;
mod cluster;
mod database;
pub mod disk;
pub mod faults;
pub mod fixture;
mod leftovers;
mod log;
pub mod process;
pub mod reduction;
mod refusal;
mod session;
mod standby;
pub mod twin;

pub use base_folder::BaseFolder;
pub use cancel::cancelled_in;
pub use cluster::{give_to_server, is_root, program, shared, shared_listening, Cluster};
pub use database::Database;
pub use leftovers::leftovers;
pub use refusal::{fails, refuses};
pub use session::{Notice, Session};
