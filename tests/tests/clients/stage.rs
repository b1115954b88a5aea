//! A cluster that clients reach through TCP with a password, a model, and what the tests'
//! own client, tokio-postgres, gets from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use postgres::error::DbError;
use riskft_tests::{fixture, refuses, Cluster, Database};

pub const SCORES: &str = "SELECT risk_score('loan_risk', l) FROM loans l ORDER BY loan_id";
const ROWS: usize = 400;

/// A cluster with a database in it.
pub struct Stage {
    pub database: Database<'static>,
    /// The analyst's.
    pub password: &'static str,
    /// Bits of the scores in the order of loan_id, in hexadecimal.
    pub bits: Vec<String>,
    /// What each statement of refusals.txt is answered with.
    pub refusals: Vec<DbError>,
}

/// The stage that the tests of this binary share.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::set)
}

impl Stage {
    /// Analyst's table `loans` and model `loan_risk`; model `hidden` of somebody else.
    fn set() -> Self {
        let mut stage = Stage::bare();
        fixture::loans(&stage.database, ROWS);
        let training = |model| {
            format!(
                "CALL riskft_train('{model}', 'loans', 'defaulted', exclude => '{{loan_id,disbursed}}',
                     method => 'none', options => '{{\"head_epochs\": 3, \"hidden\": 16,
                     \"members\": 1, \"gate\": {{\"auc_loss\": 1, \"flips\": 1}}}}')"
            )
        };
        stage.database.superuser().run(&training("hidden"));
        let mut analyst = stage.database.analyst();
        analyst.run(&training("loan_risk"));
        stage.bits = analyst.values(SCORES).into_iter().map(hexadecimal).collect();
        assert_eq!(stage.bits.len(), ROWS);
        stage.refusals =
            statements().map(|(code, sql)| refuses(&mut analyst, &sql, &code)).collect();
        stage
    }

    /// A database without loans and models.
    pub fn bare() -> Self {
        let cluster = riskft_tests::shared_listening();
        let password = password(cluster);
        let database = Database::within(cluster);
        Stage { database, password, bits: Vec::new(), refusals: Vec::new() }
    }

    /// A program of tests/clients that finds the server in its environment, and nothing else.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(clients())
            .env_clear()
            .envs([("LC_ALL", "C.UTF-8"), ("PATH", "/usr/bin:/bin"), ("PGHOST", "127.0.0.1")])
            .env("PGPORT", self.database.cluster().port().to_string())
            .env("PGDATABASE", self.database.name())
            .envs([("PGUSER", "analyst"), ("PGPASSWORD", self.password)])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

pub fn hexadecimal(score: f64) -> String {
    format!("{:016x}", score.to_bits())
}

/// The lines of refusals.txt: an SQLSTATE, and the statement that must fail with it.
pub fn statements() -> impl Iterator<Item = (String, String)> {
    let text = fs::read_to_string(clients().join("refusals.txt")).expect("read refusals.txt");
    let split = |line: &str| line.split_once(' ').map(|(code, sql)| (code.into(), sql.into()));
    text.lines()
        .map(|line| split(line).expect("a code and a statement"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Folder tests/clients.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Whether the clients' tests are to be left out, which is then printed.
pub fn skipped(client: &str) -> bool {
    let skip = std::env::var_os("RISKFT_SKIP_CLIENTS").is_some_and(|value| !value.is_empty());
    if skip {
        println!("skipped: {client}, for RISKFT_SKIP_CLIENTS is set");
    }
    skip
}

/// A file that `scripts/clients.sh` installs.
pub fn installed(client: &str, file: PathBuf) -> PathBuf {
    assert!(
        file.exists(),
        "{client} is not installed ({} is missing): run scripts/clients.sh, or set \
         RISKFT_SKIP_CLIENTS=1 to leave its tests out",
        file.display()
    );
    file
}

/// A program of the Python environment.
pub fn python(client: &str, program: &str) -> PathBuf {
    let cache = std::env::var_os("RISKFT_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("riskft")
    });
    installed(client, cache.join("clients-venv/bin").join(program))
}

/// The analyst's password, 122 random bits: the port is open to everybody on the machine.
fn password(cluster: &Cluster) -> &'static str {
    static PASSWORD: OnceLock<String> = OnceLock::new();
    PASSWORD.get_or_init(|| {
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("random bits");
        let password = random.trim().to_owned();
        cluster.superuser().run(&format!("ALTER ROLE analyst PASSWORD '{password}'"));
        password
    })
}
