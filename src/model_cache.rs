//! Stored model files -> memory maps, shared by all backends; scorers and projectors of this backend.
//!
//! A file is written once for the server into a folder of temporary files, which backups skip and
//! a restart clears, and mapped read-only from then on. Its name is the SHA-256 of its bytes,
//! verified when it is written; it is never changed in place and never truncated. Digesting an
//! encoder costs more than the first score may, so no backend does it again: the file's time of
//! change is a seal instead, set from its name when it is whole. Whatever writes to it breaks the
//! seal, and the next backend replaces the file from the database.

use std::any::Any;
use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use memmap2::Mmap;
use riskft_core::artifact::{self, Storage};
use riskft_core::gemm::Kernel;
use riskft_core::model::{Model, Scorer};
use riskft_core::reduce::{Projector, Reducer};
use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog::{StoredFile, VersionFiles};
use crate::settings;
use crate::spi::{self, Param};
use crate::temporary::Temporary;

/// Below the data directory, which is a backend's working directory. The server removes entries
/// of base/pgsql_tmp whose name begins with pgsql_tmp at its start; pg_basebackup skips them.
const FOLDER: &str = "base/pgsql_tmp/pgsql_tmp_riskft";

/// Tries to write a file whose folder vanishes before the file is in it.
const ATTEMPTS: u32 = 10;

pub type SharedScorer = Rc<RefCell<Scorer>>;
pub type SharedProjector = Rc<RefCell<Projector>>;

struct Entry {
    digest: String,
    kernel: Kernel,
    /// A [`SharedScorer`] or a [`SharedProjector`].
    worker: Rc<dyn Any>,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
struct Cache {
    entries: Vec<Entry>,
    clock: u64,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// The scorer of a version in this backend, made at its first use.
pub fn scorer(files: &VersionFiles, kernel: Kernel) -> Result<SharedScorer> {
    cached(&files.version_file.digest, kernel, || {
        let version = open(&files.version_file)?;
        let encoder = files.encoder_file.as_ref().map(open).transpose()?;
        let model = Model::open(version, encoder)?;
        let bytes = model.bytes();
        let scorer = Scorer::new(Arc::new(model), kernel, settings::bytes(&settings::TEXT_CACHE));
        Ok((RefCell::new(scorer), bytes))
    })
}

/// The projector of a reducer in this backend, made at its first use.
pub fn projector(file: &StoredFile, kernel: Kernel) -> Result<SharedProjector> {
    cached(&file.digest, kernel, || {
        let reducer = Reducer::open(open(file)?)?;
        let bytes = reducer.bytes();
        let projector = Projector::new(Arc::new(reducer), kernel);
        let bytes = bytes + projector.bytes();
        Ok((RefCell::new(projector), bytes))
    })
}

/// What works by a file and a kernel in this backend; `make` also tells its bytes.
fn cached<W: 'static>(
    digest: &str,
    kernel: Kernel,
    make: impl FnOnce() -> Result<(W, usize)>,
) -> Result<Rc<W>> {
    let known = CACHE.with_borrow_mut(|cache| cache.find(digest, kernel));
    if let Some(Ok(worker)) = known.map(Rc::downcast::<W>) {
        return Ok(worker);
    }
    let (worker, bytes) = make()?;
    let worker = Rc::new(worker);
    CACHE.with_borrow_mut(|cache| cache.insert(digest, kernel, worker.clone(), bytes));
    Ok(worker)
}

impl Cache {
    fn find(&mut self, digest: &str, kernel: Kernel) -> Option<Rc<dyn Any>> {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.entries.iter_mut().find(|e| e.digest == digest && e.kernel == kernel)?;
        entry.used = clock;
        Some(Rc::clone(&entry.worker))
    }

    /// Adds an entry; the longest unused ones leave while the setting's bytes are exceeded.
    fn insert(&mut self, digest: &str, kernel: Kernel, worker: Rc<dyn Any>, bytes: usize) {
        let most = settings::bytes(&settings::MODEL_CACHE);
        while !self.entries.is_empty()
            && self.entries.iter().map(|e| e.bytes).sum::<usize>() + bytes > most
        {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, e)| e.used);
            let Some((index, _)) = oldest else { break };
            self.entries.swap_remove(index);
        }
        self.entries.push(Entry {
            digest: digest.to_owned(),
            kernel,
            worker,
            bytes,
            used: self.clock,
        });
    }
}

/// The bytes of a stored file, mapped read-only.
pub fn open(file: &StoredFile) -> Result<Storage> {
    if file.length > settings::bytes(&settings::MAX_MODEL_SIZE) as u64 {
        return Err(Refusal::new("54000", "model file is too large")
            .detail(format!("It has {} bytes.", file.length))
            .hint("Raise riskft.max_model_size."));
    }
    let path = Path::new(FOLDER).join(&file.digest);
    if let Some(found) = find(&path, file) {
        return map(&path, &found);
    }
    // The folder is one of temporary files, which an administrator may clear at any time.
    for _ in 1..ATTEMPTS {
        match write(&path, file) {
            Err(Unwritten::Vanished(_)) => continue,
            written => return map(&path, &written.map_err(Unwritten::refusal)?),
        }
    }
    map(&path, &write(&path, file).map_err(Unwritten::refusal)?)
}

/// Why a file did not reach the cache.
enum Unwritten {
    /// The folder was removed meanwhile.
    Vanished(Refusal),
    Refused(Refusal),
}

impl Unwritten {
    fn refusal(self) -> Refusal {
        match self {
            Unwritten::Vanished(refusal) | Unwritten::Refused(refusal) => refusal,
        }
    }
}

impl From<Refusal> for Unwritten {
    fn from(refusal: Refusal) -> Self {
        Unwritten::Refused(refusal)
    }
}

/// A file's time of change while nobody has touched it: one of the years 1970 to 2038.
fn seal(digest: &str) -> SystemTime {
    let number = digest.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(number.unwrap_or(0) >> 1))
}

/// The file of the cache; None where it is absent, no plain file, of another length, or changed.
fn find(path: &Path, stored: &StoredFile) -> Option<File> {
    // Opening a pipe would wait for its other end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let found = file.metadata().ok()?;
    let sealed = found.modified().is_ok_and(|time| time == seal(&stored.digest));
    (found.is_file() && found.len() == stored.length && sealed).then_some(file)
}

fn map(path: &Path, file: &File) -> Result<Storage> {
    // SAFETY: files in this folder are complete before they get here, and are not written or
    // truncated afterwards; the folder belongs to the server's user.
    let map = unsafe { Mmap::map(file) }.map_err(|e| failed(path, &e))?;
    Ok(Arc::new(map))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Unwritten {
    let refusal = failed(path, error);
    if error.kind() == ErrorKind::NotFound {
        return Unwritten::Vanished(refusal);
    }
    Unwritten::Refused(refusal)
}

fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
    let (code, hint) = match full {
        true => {
            (code::DISK_FULL, "Free space in the data directory and try again; no model is lost.")
        }
        false => ("58030", "Remove the folder of the cache and try again; no model is lost."),
    };
    Refusal::new(code, "model file cannot be written to the cache")
        .detail(format!("\"{}\": {error}.", path.display()))
        .hint(hint)
}

/// The folder, which may not exist yet.
pub fn folder() -> &'static Path {
    Path::new(FOLDER)
}

pub fn make_folder() -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(FOLDER)
}

/// Writes the file from the database and gives it its name. It can be mapped even if the name was
/// taken from it again.
fn write(path: &Path, file: &StoredFile) -> std::result::Result<File, Unwritten> {
    make_folder().map_err(|e| unwritten(path, &e))?;
    let temporary = Temporary::new(path.with_extension(std::process::id().to_string()));
    let _ = fs::remove_file(temporary.path());
    let mut out = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary.path())
        .map_err(|e| unwritten(path, &e))?;
    allocate(&out, file.length).map_err(|e| unwritten(path, &e))?;
    read(file, |chunk| out.write_all(chunk).map_err(|e| unwritten(path, &e)))?;
    // A seal that cannot be set costs the next backend the time to write the file again.
    let _ = out.set_modified(seal(&file.digest));
    match take_name(temporary.path(), path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(path, &e).into()),
        _ => Ok(out),
    }
}

/// Gives the whole file its name, whatever had that name before.
fn take_name(from: &Path, to: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(to).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir_all(to)?;
    }
    fs::rename(from, to)
}

/// Takes the space before anything is written: a sparse file could end in SIGBUS when mapped.
fn allocate(file: &File, length: u64) -> std::io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    // SAFETY: the descriptor is open for writing.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length as libc::off_t) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

/// Hands on the stored bytes of a file piece by piece, and checks length and digest at the end.
pub fn read<E: From<Refusal>>(
    file: &StoredFile,
    mut sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut hash = artifact::Digest::default();
    let mut length = 0u64;
    for number in 0.. {
        pgrx::check_for_interrupts!();
        let Some(chunk) = read_chunk(&file.digest, number)? else { break };
        hash.update(&chunk);
        length += chunk.len() as u64;
        if length > file.length {
            return Err(damaged(&file.digest).into());
        }
        sink(&chunk)?;
    }
    if length != file.length || hash.finish() != file.digest {
        return Err(damaged(&file.digest).into());
    }
    Ok(())
}

fn read_chunk(digest: &str, number: i32) -> Result<Option<Vec<u8>>> {
    let rows = spi::as_owner(|| {
        spi::query(
            "SELECT bytes FROM riskft.blob_chunk WHERE digest = $1 AND number = $2",
            &[Param::Text(digest), Param::Int4(number)],
            true,
            |row| row.get::<Vec<u8>>(1).unwrap_or_default(),
        )
    })?;
    Ok(rows.into_iter().next())
}

fn damaged(digest: &str) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "stored model file is damaged")
        .detail(format!("The chunks of {digest} do not fit their digest."))
        .hint("Restore riskft.blob_chunk from a backup, or train again.")
}
