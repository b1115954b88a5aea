//! riskft_import_base: a Hugging Face folder on the server -> a base model.
//!
//! The files are copied first and checked as copied, so that nobody changes them in between. They
//! get their name when all of them are whole and on disk. Nothing in them can run code.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use pgrx::pg_extern;
use riskft_core::network::base::{check_tensors, foreign, read_shape};
use riskft_core::network::EncoderShape;
use riskft_core::refusal::{code, Refusal, Result};
use riskft_core::tokenize::{compile_tokenizer_json, tokenizer_json, Layout};

use crate::argument;
use crate::base::{self, CONFIG, TOKENIZER, WEIGHTS};
use crate::catalog;
use crate::error::{self, or_raise};
use crate::settings;

/// Largest tokenizer.json or vocab.txt, bytes; that of 250,000 tokens has 17 MB.
const MAX_TOKENIZER: u64 = 32 << 20;
/// Largest config.json or tokenizer_config.json, bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Copied between two looks for an interrupt, bytes.
const PIECE: usize = 1 << 20;
/// Pieces between two times that they are forced onto the disk, which no interrupt ends.
const PIECES_SYNCED: usize = 64;
/// Begins the name of a folder that is not whole yet; the process's id follows.
const UNFINISHED: &str = ".import-";

const WORDS: &str = "vocab.txt";
const SETTINGS: &str = "tokenizer_config.json";

#[pg_extern(sql = false)]
fn riskft_import_base(name: Option<&str>, path: Option<&str>) {
    or_raise(given("name", name).and_then(|name| import(name, given("path", path)?)));
}

fn given<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str> {
    argument::given(name, value, "SELECT riskft_import_base('name', '/path/of/the/folder').")
}

fn import(name: &str, path: &str) -> Result<()> {
    if !catalog::has_rights_of("pg_read_server_files") {
        return Err(Refusal::new(
            code::INSUFFICIENT_PRIVILEGE,
            "permission denied to import a base model",
        )
        .detail("The folder is read as the server's user.")
        .hint("Ask a superuser, or a member of role pg_read_server_files."));
    }
    base::check_name(name)?;
    if base::find(name).is_some() {
        return Err(taken(name));
    }
    let source = source_folder(path)?;
    let config = small_file(&source, CONFIG)?;
    let shape = read_shape(&config)?;
    let tokenizer = tokenizer(&source)?;
    check_tokenizer(&tokenizer, &shape)?;
    let weights = weights(&source)?;

    let directory = base::import_directory();
    let unfinished = Unfinished::new(&directory)?;
    unfinished.write(CONFIG, &mut &config[..])?;
    unfinished.write(TOKENIZER, &mut &tokenizer[..])?;
    let copy = unfinished.write(WEIGHTS, &mut weights.take(max_size() + 1))?;
    check_weights(&copy, &shape)?;
    unfinished.name(name)?;
    error::log!("riskft base model \"{name}\" is imported by role \"{}\"", catalog::current_role());
    Ok(())
}

fn taken(name: &str) -> Refusal {
    Refusal::new(code::DUPLICATE_OBJECT, format!("base model \"{name}\" already exists"))
        .detail("Versions that were trained on it name it.")
        .hint("Choose another name, or remove its folder first.")
}

fn max_size() -> u64 {
    settings::bytes(&settings::MAX_MODEL_SIZE) as u64
}

fn source_folder(path: &str) -> Result<PathBuf> {
    let folder = PathBuf::from(path);
    if !folder.is_absolute() {
        return Err(Refusal::new(
            code::INVALID_PARAMETER,
            "path of the base model is not absolute",
        )
        .detail(format!("The path is \"{path}\"."))
        .hint("Name the folder on the server from the root on."));
    }
    match fs::metadata(&folder) {
        Ok(metadata) if metadata.is_dir() => Ok(folder),
        Ok(_) => Err(Refusal::new(code::INVALID_PARAMETER, "path of the base model is no folder")
            .detail(format!("\"{path}\" is a file."))
            .hint("Name the folder that holds config.json and model.safetensors.")),
        Err(error) => Err(unreadable(&folder, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::NotFound => code::UNDEFINED_FILE,
        io::ErrorKind::PermissionDenied => code::INSUFFICIENT_PRIVILEGE,
        _ => code::IO_ERROR,
    };
    Refusal::new(code, "a file of the base model cannot be read")
        .detail(format!("\"{}\": {error}.", path.display()))
        .hint("The folder must lie on the server, and be readable for the server's user.")
}

/// Opens a regular file; a link counts as what it leads to. Of a pipe or a device nothing is read.
fn open(folder: &Path, file: &str) -> Result<File> {
    let path = folder.join(file);
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let opened = opened.map_err(|e| unreadable(&path, &e))?;
    if opened.metadata().map_err(|e| unreadable(&path, &e))?.is_file() {
        return Ok(opened);
    }
    Err(Refusal::new(code::INVALID_PARAMETER, "a file of the base model is no regular file")
        .detail(format!("\"{}\" is a folder, a pipe or a device.", path.display()))
        .hint("Copy the model's files into a folder of their own."))
}

/// A file that is parsed, as a whole.
pub fn small_file(folder: &Path, file: &str) -> Result<Vec<u8>> {
    let most = if [TOKENIZER, WORDS].contains(&file) { MAX_TOKENIZER } else { MAX_CONFIG };
    let mut bytes = Vec::new();
    let read = open(folder, file)?.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|e| unreadable(&folder.join(file), &e))?;
    if bytes.len() as u64 > most {
        return Err(Refusal::new(code::LIMIT_EXCEEDED, "a file of the base model is too large")
            .detail(format!("Its {file} has more than {most} bytes."))
            .hint("Use a base model whose tokenizer and config are smaller."));
    }
    Ok(bytes)
}

/// The folder's tokenizer.json, or one made of its vocab.txt.
fn tokenizer(source: &Path) -> Result<Vec<u8>> {
    let has = |file: &str| source.join(file).exists();
    let checked = |file: &str| {
        let bytes = small_file(source, file)?;
        foreign(&bytes, file).map_or(Ok(bytes), Err)
    };
    if has(TOKENIZER) {
        return checked(TOKENIZER);
    }
    if !has(WORDS) {
        return Err(Refusal::new(code::UNDEFINED_FILE, "base model has no tokenizer that is read")
            .detail("Its folder has neither tokenizer.json nor vocab.txt.")
            .hint(
                "Write one with Python: AutoTokenizer.from_pretrained('folder')\
                 .save_pretrained('folder').",
            ));
    }
    let words = String::from_utf8(checked(WORDS)?).map_err(|_| {
        Refusal::new(code::NOT_SUPPORTED, "tokenizer of the base model is not supported")
            .detail("Its vocab.txt is not in UTF-8.")
            .hint("Copy the file again from where the model comes from.")
    })?;
    let settings = if has(SETTINGS) { checked(SETTINGS)? } else { b"{}".to_vec() };
    tokenizer_json(&words, &settings).map(String::into_bytes)
}

fn check_tokenizer(json: &[u8], shape: &EncoderShape) -> Result<()> {
    let tokens = Layout::check(&compile_tokenizer_json(json)?).map(|layout| layout.tokens());
    if tokens.is_some_and(|tokens| tokens <= shape.vocabulary) {
        return Ok(());
    }
    Err(Refusal::new(code::NOT_SUPPORTED, "tokenizer does not fit the base model")
        .detail(format!(
            "It has {} tokens, the model has embeddings for {}.",
            tokens.unwrap_or_default(),
            shape.vocabulary
        ))
        .hint("Take both from the same folder."))
}

/// The weights' file, open.
fn weights(source: &Path) -> Result<File> {
    if !source.join(WEIGHTS).exists() {
        if let Some(refusal) = other_weights(source) {
            return Err(refusal);
        }
    }
    let file = open(source, WEIGHTS)?;
    let length = file.metadata().map_err(|e| unreadable(&source.join(WEIGHTS), &e))?.len();
    if length > max_size() {
        return Err(too_large(length));
    }
    Ok(file)
}

fn too_large(length: u64) -> Refusal {
    Refusal::new(code::LIMIT_EXCEEDED, "base model is too large")
        .detail(format!(
            "Its model.safetensors has {length} bytes or more, riskft.max_model_size allows {}.",
            max_size()
        ))
        .hint("Raise riskft.max_model_size, or use a smaller base model.")
}

/// Why a folder without model.safetensors has none.
fn other_weights(source: &Path) -> Option<Refusal> {
    let names: Vec<String> = fs::read_dir(source)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let ending = |endings: &[&str]| {
        names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)))
    };
    let (what, name) = if let Some(name) = ending(&[".safetensors.index.json"]) {
        ("in several parts", name)
    } else if let Some(name) = ending(&[".bin", ".pt", ".pth", ".ckpt"]) {
        ("a pickle, which could run code", name)
    } else {
        ("of another framework", ending(&[".h5", ".msgpack", ".onnx", ".gguf"])?)
    };
    Some(
        Refusal::new(code::NOT_SUPPORTED, "base model is not supported")
            .detail(format!("Its folder has no model.safetensors; its {name} is {what}."))
            .hint(
                "Convert the model with Python: AutoModel.from_pretrained('folder')\
                 .save_pretrained('new', safe_serialization=True, max_shard_size='100GB').",
            ),
    )
}

/// Checks the copied weights where they lie; they are mapped, not read into memory.
fn check_weights(copy: &File, shape: &EncoderShape) -> Result<()> {
    let broken = |e: io::Error| unwritable(Path::new(WEIGHTS), &e);
    let length = copy.metadata().map_err(broken)?.len();
    if length > max_size() {
        return Err(too_large(length));
    }
    // SAFETY: the file lies in a folder of the server's user under a name that only this process
    // uses; it is whole, on disk, and nobody changes it.
    let map = unsafe { Mmap::map(copy) }.map_err(broken)?;
    check_tensors(shape, &map)
}

/// A folder that is not whole yet; what is left of it goes when this goes.
struct Unfinished {
    directory: PathBuf,
    folder: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Unfinished {
    fn new(directory: &Path) -> Result<Self> {
        // A folder that a setting names is its owner's to make.
        if settings::text(&settings::MODEL_DIRECTORY).is_none() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|e| unwritable(directory, &e))?;
        }
        sweep(directory);
        let folder = directory.join(format!("{UNFINISHED}{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|e| unwritable(&folder, &e))?;
        Ok(Unfinished { directory: directory.to_owned(), folder })
    }

    /// Copies into a new file and onto the disk.
    fn write(&self, file: &str, from: &mut impl Read) -> Result<File> {
        let path = self.folder.join(file);
        let failed = |e: &io::Error| unwritable(&path, e);
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed(&e))?;
        let mut piece = vec![0; PIECE];
        for number in 1.. {
            pgrx::check_for_interrupts!();
            if number % PIECES_SYNCED == 0 {
                out.sync_data().map_err(|e| failed(&e))?;
            }
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => out.write_all(&piece[..length]).map_err(|e| failed(&e))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(Path::new(file), &e)),
            }
        }
        out.sync_all().map_err(|e| failed(&e))?;
        Ok(out)
    }

    /// Gives the folder its name, if no other has it.
    fn name(&self, name: &str) -> Result<()> {
        let to = self.directory.join(name);
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all());
        sync(&self.folder).map_err(|e| unwritable(&self.folder, &e))?;
        match fs::rename(&self.folder, &to) {
            Ok(()) => sync(&self.directory).map_err(|e| unwritable(&self.directory, &e)),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY)) => {
                Err(taken(name))
            }
            Err(e) => Err(unwritable(&to, &e)),
        }
    }
}

/// Removes what processes left that were killed while they imported.
fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(UNFINISHED).and_then(|pid| pid.parse::<i32>().ok());
        // SAFETY: signal 0 only asks whether the process exists.
        let gone = |pid: i32| pid > 0 && unsafe { libc::kill(pid, 0) } != 0;
        if pid.is_some_and(gone) && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Refusal {
    let (code, hint) = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => (
            code::DISK_FULL,
            "Free space, or let riskft.model_directory name a folder on another disk.",
        ),
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => (
            code::INSUFFICIENT_PRIVILEGE,
            "Let riskft.model_directory name a folder that the server's user may write.",
        ),
        _ => (
            code::IO_ERROR,
            "Let riskft.model_directory name a folder that exists and that the server's user may write.",
        ),
    };
    Refusal::new(code, "base model cannot be written")
        .detail(format!("\"{}\": {error}.", path.display()))
        .hint(hint)
}
