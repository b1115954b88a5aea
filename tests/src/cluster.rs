//! A throw-away cluster: its own folder, socket and server process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{chown, DirBuilderExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::disk;
use crate::log::ServerLog;
use crate::process;
use crate::session::Session;

/// Folder names: riskft-test-PID-NUMBER, PID being the test process.
const PREFIX: &str = "riskft-test-";
/// Longest wait for the server to start, or to recover from a crash.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// Of a server that listens on no port: it only names the socket.
pub(crate) const SOCKET_PORT: u16 = 5432;

/// A running server. Dropping it stops the server, removes its folder and, unless the test
/// already fails, checks its log for crashes and internal errors.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    log: ServerLog,
}

impl Cluster {
    /// A new cluster with a superuser `postgres` and a plain role `analyst`, reached through a
    /// socket in a folder that no other user can enter.
    pub fn start() -> Self {
        Cluster::start_with(&[])
    }

    /// A cluster with some settings of its own, besides [`SETTINGS`].
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Cluster::start_at(SOCKET_PORT, settings)
    }

    /// As [`Cluster::start`], for clients that know no sockets: the server also listens on a free
    /// port of 127.0.0.1, where a password is asked for (SCRAM-SHA-256) and no role has one yet.
    pub fn listening() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
        let port = free.expect("find a free port").port();
        let settings = [("listen_addresses", "127.0.0.1"), ("port", &port.to_string())];
        Cluster::start_at(port, &settings)
    }

    fn start_at(port: u16, settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::prepare(port, settings);
        cluster.initialise();
        cluster.launch();
        cluster.superuser().batch_execute("CREATE ROLE analyst LOGIN").expect("create the analyst");
        cluster
    }

    /// A cluster's folder, without data and server.
    pub(crate) fn prepare(port: u16, settings: &[(&str, &str)]) -> Self {
        sweep();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&folder).expect("create the cluster's folder");
        give_to_server(&folder);
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Cluster {
            log: ServerLog::new(folder.join("log")),
            folder,
            port,
            settings: settings.iter().map(own).collect(),
            server: Mutex::new(None),
        }
    }

    /// A session of the superuser in database `postgres`.
    pub fn superuser(&self) -> Session {
        self.connect("postgres", "postgres")
    }

    pub fn connect(&self, database: &str, user: &str) -> Session {
        Session::open(&self.folder, self.port(), database, user).expect("connect")
    }

    /// The folder of the server's socket, for clients of other kinds.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The server's port, which also names its socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn log(&self) -> &ServerLog {
        &self.log
    }

    /// Process id of the postmaster.
    pub fn server_pid(&self) -> i32 {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Child::id).expect("the server runs").cast_signed()
    }

    /// Stops the server in good order and starts it again.
    pub fn restart(&self) {
        self.halt();
        self.launch();
    }

    /// Stops the server as a loss of power would, without a word to its sessions (SIGQUIT), and
    /// starts it again.
    pub fn crash(&self) {
        self.stop_at_once();
        self.start_again();
    }

    /// The first half of [`Cluster::crash`].
    pub fn stop_at_once(&self) {
        let server = self.server_pid();
        process::signal(server, libc::SIGQUIT);
        self.halt();
    }

    /// The second half of [`Cluster::crash`].
    pub fn start_again(&self) {
        self.launch();
    }

    /// Waits until the server takes connections again, after a crash that the test provoked.
    pub fn await_recovery(&self) {
        self.await_connections();
    }

    /// How many times the server has restarted all its processes after a crash of one.
    pub fn recoveries(&self) -> usize {
        self.log.text().matches("all server processes terminated; reinitializing").count()
    }

    /// Sets the soft limit of a resource of one of the server's processes, in the words of
    /// prlimit(1): `--nproc=1:`.
    pub fn limit(&self, pid: i32, resource: &str) {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(pid.to_string()).arg(resource);
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        let output = command.output().expect("run prlimit");
        assert!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn initialise(&self) {
        let output = self
            .command("initdb")
            .args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--username=postgres", "--pgdata"])
            .arg(self.data())
            .output()
            .expect("run initdb");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A client program of the server's own (psql, pg_dump), told where the server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self::program(program));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres");
        command
    }

    pub(crate) fn launch(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("open the server's log");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        for (name, value) in SETTINGS {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start postgres");
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        self.await_connections();
    }

    fn await_connections(&self) {
        let started = Instant::now();
        loop {
            match Session::open(&self.folder, self.port(), "postgres", "postgres") {
                Ok(_) => return,
                Err(error) if started.elapsed() > START => {
                    panic!("the server does not start: {error}\n{}", self.log.tail(20))
                }
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Ends the server by the id of the process that this cluster started.
    fn halt(&self) {
        let child = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut child) = child else { return };
        for (signal, patience) in [(libc::SIGINT, STOP), (libc::SIGQUIT, STOP)] {
            process::signal(child.id().cast_signed(), signal);
            let asked = Instant::now();
            while asked.elapsed() < patience {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                sleep(Duration::from_millis(10));
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Stops the server, removes the folder and says what the log holds that it should not.
    fn finish(&self) -> Result<(), String> {
        self.halt();
        let verdict = self.log.check();
        let _ = fs::remove_dir_all(&self.folder);
        verdict
    }

    /// The server's data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A server program, to be run as the server's user.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self::program(program));
        command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(problem) = self.finish() {
            if std::thread::panicking() {
                eprintln!("{problem}");
            } else {
                panic!("{problem}");
            }
        }
    }
}

/// A throw-away cluster need not outlive the machine, but must recover from a crash of its own:
/// commits stay synchronous.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", ""),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "40"),
    ("max_parallel_workers", "4"),
    ("log_line_prefix", "%m [%p] %e %u@%d "),
    ("log_min_messages", "log"),
    ("log_checkpoints", "off"),
    ("riskft.max_trainers", "4"),
    ("timezone", "UTC"),
];

/// The cluster that all tests of this binary share; it is stopped and checked when the process
/// exits, with exit code 101 if its log is not clean.
pub fn shared() -> &'static Cluster {
    shared_as(Cluster::start)
}

/// [`shared`], listening on a port of 127.0.0.1 as well; a binary's tests agree on one of the two.
pub fn shared_listening() -> &'static Cluster {
    shared_as(Cluster::listening)
}

fn shared_as(start: fn() -> Cluster) -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    extern "C" fn finish() {
        let Some(cluster) = SHARED.get() else { return };
        if let Err(problem) = cluster.finish() {
            eprintln!("{problem}");
            // SAFETY: ends the process at once; nothing is left to be done at exit.
            unsafe { libc::_exit(101) }
        }
    }
    SHARED.get_or_init(|| {
        // SAFETY: registers a function without arguments that does not unwind.
        unsafe { libc::atexit(finish) };
        start()
    })
}

/// Hands a file or folder to the user that the server runs as.
pub fn give_to_server(path: &Path) {
    if let Some((user, group)) = server_user() {
        chown(path, Some(user), Some(group)).expect("hand it to the server's user");
    }
}

/// Whether the tests run as root, and the server as another user.
pub fn is_root() -> bool {
    server_user().is_some()
}

/// User and group that the server runs as; None when the tests do not run as root, for then it
/// runs as the tests do.
fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        // SAFETY: takes no arguments and always succeeds.
        if unsafe { libc::geteuid() } != 0 {
            return None;
        }
        Some((identity("-u"), identity("-g")))
    })
}

fn identity(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output().expect("run id");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("the machine has a user postgres")
}

/// A program of the PostgreSQL that the tests run.
pub fn program(name: &str) -> PathBuf {
    program_folder().join(name)
}

/// Folder of initdb and postgres.
fn program_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let config = std::env::var("PG_CONFIG")
            .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin/pg_config".to_owned());
        let output = Command::new(config).arg("--bindir").output().expect("run pg_config");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// Clears what a killed test process left: its folder, and a server that runs in it.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next()) else {
            continue;
        };
        if owner.parse().is_ok_and(|pid| !process::exists(pid)) {
            let data = entry.path().join("data");
            let pid = fs::read_to_string(data.join("postmaster.pid"))
                .ok()
                .and_then(|text| text.lines().next()?.parse::<i32>().ok());
            if let Some(pid) = pid.filter(|pid| process::runs_with(*pid, &data)) {
                process::signal(pid, libc::SIGQUIT);
                process::await_end(pid, STOP);
            }
            disk::unmount_below(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
