//! Starts, feeds, watches and kills the trainer, a process of its own.
//!
//! The backend never blocks without asking for interrupts: pipes are non-blocking and every wait
//! is a poll of at most 200 ms. What the trainer says is read in portions, so that one that never
//! stops talking can be cancelled as well. Whatever ends the statement (a cancel, a time-out, an ERROR) drops
//! [`TrainerProcess`], which kills and reaps the child; if the backend itself dies, the kernel
//! kills the child (PR_SET_PDEATHSIG).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pgrx::check_for_interrupts;
use riskft_core::protocol::{Event, MAX_LINE};
use riskft_core::refusal::{code, Refusal, Result};

use crate::error;
use crate::pause::pause;

/// Longest wait between two looks at interrupts, milliseconds.
const POLL_MS: i32 = 200;
/// Bytes of the trainer's standard error that are kept for messages.
const ERROR_TAIL: usize = 4096;
/// Buffers taken from a pipe between two looks at interrupts.
const PORTION: usize = 16;
/// A trainer that has closed its output should end by itself this soon.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// Between two looks at whether it has.
const BREATH_EVERY: Duration = Duration::from_millis(10);

pub struct TrainerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
    inbox: Vec<u8>,
    /// Bytes at the inbox's beginning that hold no line's end.
    searched: usize,
    error_tail: Vec<u8>,
    events: VecDeque<Event>,
    /// Bytes after the result line are blobs, not lines.
    result_seen: bool,
    output_ended: bool,
}

impl TrainerProcess {
    pub fn start(path: &str, environment: &[(String, String)]) -> Result<Self> {
        let mut command = Command::new(path);
        command
            .env_clear()
            .envs(environment.iter().map(|(k, v)| (k, v)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let backend = std::process::id();
        // SAFETY: the closure runs between fork and exec and calls async-signal-safe functions
        // only; it allocates nothing.
        unsafe { command.pre_exec(move || prepare_child(backend)) };
        let mut child = command.spawn().map_err(|e| {
            let (code, hint) = match e.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                    ("53000", "The server's user has no process or file left; try again later.")
                }
                _ => (
                    code::UNDEFINED_FILE,
                    "Install riskft-trainer there, or set riskft.trainer_path.",
                ),
            };
            Refusal::new(code, "trainer program cannot be started")
                .detail(format!("Starting \"{path}\" failed: {e}."))
                .hint(hint)
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Refusal::new(code::EXTERNAL_ROUTINE, "trainer program has no pipes"));
        };
        for descriptor in [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()] {
            set_nonblocking(descriptor)?;
        }
        Ok(TrainerProcess {
            child,
            stdin: Some(stdin),
            stdout,
            stderr,
            inbox: Vec::new(),
            searched: 0,
            error_tail: Vec::new(),
            events: VecDeque::new(),
            result_seen: false,
            output_ended: false,
        })
    }

    /// Writes all bytes, reading what the trainer says meanwhile. Stops early, without an error,
    /// when the trainer has ended or refused: its last event tells why.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() && !self.output_ended && !self.has_refused() {
            let Some(stdin) = self.stdin.as_mut() else { return Ok(()) };
            match stdin.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(true)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {
                    check_for_interrupts!();
                }
                // The trainer closed its end; what it said last is the reason.
                Err(_) => {
                    self.stdin = None;
                    return Ok(());
                }
            }
        }
        self.read_output()
    }

    /// No more bytes follow.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The next event if there is one already.
    pub fn try_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next event, or None after a short wait; the trainer's end without one is an error.
    pub fn event(&mut self) -> Result<Option<Event>> {
        if self.events.is_empty() {
            if self.output_ended {
                return Err(self.ended_early());
            }
            self.wait(false)?;
        }
        Ok(self.events.pop_front())
    }

    /// Asks the trainer to end its search with the best so far. Only once it has said that it
    /// searches: at its start the signal would end it.
    pub fn end_search(&mut self) {
        // SAFETY: a plain system call; the child is not reaped, so its pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGUSR1) };
    }

    /// The next `length` bytes after the result line.
    pub fn blob(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.inbox.len() < length {
            if self.output_ended {
                return Err(self.ended_early());
            }
            self.wait(false)?;
        }
        let rest = self.inbox.split_off(length);
        Ok(std::mem::replace(&mut self.inbox, rest))
    }

    fn has_refused(&self) -> bool {
        self.events.iter().any(|e| matches!(e, Event::Refused(_)))
    }

    fn wait(&mut self, for_write: bool) -> Result<()> {
        let mut descriptors = vec![
            poll_entry(self.stdout.as_raw_fd(), libc::POLLIN),
            poll_entry(self.stderr.as_raw_fd(), libc::POLLIN),
        ];
        if let (true, Some(stdin)) = (for_write, self.stdin.as_ref()) {
            descriptors.push(poll_entry(stdin.as_raw_fd(), libc::POLLOUT));
        }
        // SAFETY: the array is valid for its length during the call.
        unsafe { libc::poll(descriptors.as_mut_ptr(), descriptors.len() as _, POLL_MS) };
        pause(Duration::ZERO);
        self.read_output()
    }

    fn read_output(&mut self) -> Result<()> {
        let mut buffer = [0u8; 64 * 1024];
        for _ in 0..PORTION {
            match self.stdout.read(&mut buffer) {
                Ok(0) => {
                    self.output_ended = true;
                    break;
                }
                Ok(count) => {
                    self.inbox.extend_from_slice(&buffer[..count]);
                    // Blobs are taken as asked for: the pipe holds the rest back.
                    if self.result_seen {
                        break;
                    }
                    self.take_lines()?;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {
                    check_for_interrupts!();
                }
                Err(_) => break,
            }
        }
        for _ in 0..PORTION {
            let Ok(count @ 1..) = self.stderr.read(&mut buffer) else { break };
            self.error_tail.extend_from_slice(&buffer[..count]);
            let surplus = self.error_tail.len().saturating_sub(ERROR_TAIL);
            self.error_tail.drain(..surplus);
        }
        Ok(())
    }

    fn take_lines(&mut self) -> Result<()> {
        while !self.result_seen {
            let fresh = self.inbox.get(self.searched..).unwrap_or_default();
            let Some(end) = fresh.iter().position(|b| *b == b'\n') else {
                self.searched = self.inbox.len();
                if self.inbox.len() > MAX_LINE {
                    return Err(malformed("a line is longer than allowed".to_owned()));
                }
                return Ok(());
            };
            let rest = self.inbox.split_off(self.searched + end + 1);
            self.searched = 0;
            let line = std::mem::replace(&mut self.inbox, rest);
            let event: Event = serde_json::from_slice(&line)
                .map_err(|e| malformed(format!("a line is no event: {e}")))?;
            self.result_seen = matches!(
                event,
                Event::Result(_) | Event::Reduction(_) | Event::Selection(_) | Event::Estimate(_)
            );
            self.events.push_back(event);
        }
        Ok(())
    }

    /// How the trainer ended; None where it closed its output but had to be killed.
    fn last_breath(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let closed = Instant::now();
        while closed.elapsed() < LAST_BREATH {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pause(BREATH_EVERY);
        }
        self.kill();
        Ok(None)
    }

    /// Only while the child is not reaped: its pid is its own until then.
    fn kill(&mut self) {
        // SAFETY: a plain system call; the process group is the child's own (setsid).
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        // Before setsid there is no group of its own yet.
        let _ = self.child.kill();
    }

    fn ended_early(&mut self) -> Refusal {
        use std::os::unix::process::ExitStatusExt;
        let how = match self.last_breath() {
            Ok(None) => "It closed its output and went on, so it was ended".to_owned(),
            Ok(Some(status)) => match (status.code(), status.signal()) {
                (_, Some(libc::SIGKILL)) => {
                    "It was killed by signal 9, perhaps by the kernel for want of memory".to_owned()
                }
                (_, Some(signal)) => format!("It was ended by signal {signal}"),
                (Some(code), None) => format!("It exited with code {code}"),
                (None, None) => "It ended".to_owned(),
            },
            Err(e) => format!("Its end could not be read: {e}"),
        };
        let tail = String::from_utf8_lossy(&self.error_tail);
        let last = tail.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("");
        let said = if last.is_empty() {
            String::new()
        } else {
            format!(" Its last words were \"{last}\".")
        };
        error::log!("riskft trainer ended without a result. {how}. {tail}");
        Refusal::new(code::EXTERNAL_ROUTINE, "trainer ended without a result")
            .detail(format!("{how}.{said}"))
            .hint("Nothing was stored. The server log holds what the trainer wrote last.")
    }
}

impl Drop for TrainerProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        let _ = self.child.wait();
    }
}

fn malformed(detail: String) -> Refusal {
    Refusal::new(code::PROTOCOL_VIOLATION, "malformed answer from the trainer")
        .detail(format!("In reading the answer, {detail}."))
        .hint("The trainer and the extension must be of the same version.")
}

fn poll_entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

fn set_nonblocking(descriptor: RawFd) -> Result<()> {
    // SAFETY: fcntl on a descriptor that is open.
    let done = unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if done == -1 {
        return Err(Refusal::new(code::EXTERNAL_ROUTINE, "pipe to the trainer cannot be set up")
            .detail(format!("{}.", std::io::Error::last_os_error())));
    }
    Ok(())
}

/// Between fork and exec: default signals, a session of its own, death with the backend, no
/// inherited descriptors, first in line for the out-of-memory killer.
fn prepare_child(backend: u32) -> std::io::Result<()> {
    // SAFETY: async-signal-safe system calls only.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 != backend {
            libc::_exit(1);
        }
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        if score >= 0 {
            libc::write(score, c"1000".as_ptr().cast(), 4);
            libc::close(score);
        }
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}
