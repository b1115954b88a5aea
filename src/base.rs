//! Base models on the server: where their float weights lie, and which there are.
//!
//! Imported models lie in riskft.model_directory or, where that is not set, in `riskft_models` of
//! the data directory, which the server's user can write and a base backup carries along. Models
//! that were installed with the extension lie in the share directory. A name is looked for in this
//! order.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use riskft_core::network::base::{parameters, read_architecture, read_shape};
use riskft_core::options::{Method, TextMode};
use riskft_core::refusal::{code, Refusal, Result};

use crate::import;
use crate::request::Request;
use crate::settings;

/// Below the data directory.
const FOLDER: &str = "riskft_models";
/// Longest name of a base model, bytes.
const MAX_NAME: usize = 100;

pub const WEIGHTS: &str = "model.safetensors";
pub const CONFIG: &str = "config.json";
pub const TOKENIZER: &str = "tokenizer.json";

/// Folder of the base model that a training needs, or nothing where the method needs none.
pub fn needed_by(request: &Request) -> Result<String> {
    if request.method == Method::None {
        if request.options.text == TextMode::Row {
            return Err(Refusal::new(code::INVALID_PARAMETER, "method none reads no text")
                .detail("Option \"text\" is \"row\".")
                .hint("Use method lora, adapter or full with it."));
        }
        return Ok(String::new());
    }
    let name = &request.base;
    let found = if is_name(name) { find(name) } else { None };
    found.map(|folder| folder.to_string_lossy().into_owned()).ok_or_else(|| {
        Refusal::new(code::UNDEFINED_FILE, format!("base model \"{name}\" is not installed"))
            .detail(
                "Neither riskft.model_directory nor the server's share directory has a \
                 model.safetensors for it.",
            )
            .hint(
                "The view riskft.bases lists those that are there. Install minilm-l6 with make \
                 install, import another with riskft_import_base, or train with method => 'none'.",
            )
    })
}

/// Whether a name can be a folder's and nothing else.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Refuses a name that cannot be a base model's.
pub fn check_name(name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Refusal::new(code::INVALID_PARAMETER, "name of a base model is not allowed")
        .detail(format!("The name is \"{name}\"."))
        .hint(format!(
            "Use letters, digits, \"-\", \"_\" and \".\", at most {MAX_NAME}, not beginning with \".\"."
        )))
}

/// The folder of a base model, if there is one of that name.
pub fn find(name: &str) -> Option<PathBuf> {
    let folders = [import_directory(), share_directory()].map(|directory| directory.join(name));
    folders.into_iter().find(|folder| is_base(folder))
}

fn is_base(folder: &Path) -> bool {
    folder.join(WEIGHTS).is_file()
}

/// Where imported base models go.
pub fn import_directory() -> PathBuf {
    settings::text(&settings::MODEL_DIRECTORY).map_or_else(
        || {
            // SAFETY: a zero-terminated path that the server set at its start.
            let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
            Path::new(data.to_string_lossy().as_ref()).join(FOLDER)
        },
        PathBuf::from,
    )
}

fn share_directory() -> PathBuf {
    let mut share = [0 as std::ffi::c_char; pg_sys::MAXPGPATH as usize];
    // SAFETY: writes at most MAXPGPATH bytes, zero-terminated.
    let share = unsafe {
        pg_sys::get_share_path(&raw const pg_sys::my_exec_path as *const _, share.as_mut_ptr());
        CStr::from_ptr(share.as_ptr())
    };
    Path::new(share.to_string_lossy().as_ref()).join("riskft/models")
}

/// A row of riskft.bases.
struct Found {
    name: String,
    folder: PathBuf,
    place: &'static str,
}

/// All base models by name; of two of one name, the one that is found first.
fn all() -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for (directory, place) in [(import_directory(), "imported"), (share_directory(), "installed")] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = found.iter().any(|other| other.name == name);
            if is_name(&name) && is_base(&entry.path()) && !known {
                found.push(Found { name, folder: entry.path(), place });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn riskft_found_bases() -> TableIterator<
    'static,
    (
        name!(name, String),
        name!(architecture, Option<String>),
        name!(layers, Option<i32>),
        name!(width, Option<i32>),
        name!(parameters, Option<i64>),
        name!(vocabulary, Option<i32>),
        name!(max_tokens, Option<i32>),
        name!(place, String),
    ),
> {
    TableIterator::new(all().into_iter().map(|found| {
        let config = import::small_file(&found.folder, CONFIG).unwrap_or_default();
        let shape = read_shape(&config).ok();
        let architecture = read_architecture(&config).ok().filter(|_| shape.is_some());
        let of = |value: fn(&riskft_core::network::EncoderShape) -> usize| {
            shape.as_ref().and_then(|shape| i32::try_from(value(shape)).ok())
        };
        (
            found.name,
            architecture.map(|architecture| architecture.name().to_owned()),
            of(|shape| shape.layers),
            of(|shape| shape.width),
            shape.as_ref().and_then(|shape| i64::try_from(parameters(shape)).ok()),
            of(|shape| shape.vocabulary),
            of(|shape| shape.max_tokens()),
            found.place.to_owned(),
        )
    }))
}
