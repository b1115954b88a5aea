//! A test's own database, with riskft in it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::{shared, Cluster};
use crate::session::Session;

/// A database with the extension, in which `analyst`, no superuser, may create tables. It goes
/// with its cluster.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Database<'static> {
    /// A new database in the shared cluster.
    pub fn new() -> Self {
        Database::within(shared())
    }
}

impl Default for Database<'static> {
    fn default() -> Self {
        Database::new()
    }
}

impl<'a> Database<'a> {
    pub fn within(cluster: &'a Cluster) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster.superuser().run(&format!("CREATE DATABASE {name}"));
        let database = Database { cluster, name };
        let mut superuser = database.superuser();
        superuser.run("CREATE EXTENSION riskft");
        superuser.run("GRANT CREATE ON SCHEMA public TO analyst");
        superuser.run(&format!("GRANT CREATE ON DATABASE {} TO analyst", database.name));
        database
    }

    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn superuser(&self) -> Session {
        self.user("postgres")
    }

    /// The role that works with riskft in the tests: it may log in, and create tables.
    pub fn analyst(&self) -> Session {
        self.user("analyst")
    }

    /// A new role that may log in. Roles belong to the cluster: its name ends with the database's.
    pub fn role(&self, name: &str) -> String {
        let role = format!("{name}_{}", self.name);
        self.superuser().run(&format!("CREATE ROLE {role} LOGIN"));
        role
    }

    pub fn user(&self, role: &str) -> Session {
        self.cluster.connect(&self.name, role)
    }
}
