//! Folders of base models, to be imported.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::database::Database;

/// A copy of a tiny model of crates/riskft-core/golden where the server's user can read it, and one
/// test alone change it. It goes with its cluster.
pub struct BaseFolder(PathBuf);

impl BaseFolder {
    /// `model` is the folder in golden; `name` tells copies of a database apart.
    pub fn copy(database: &Database, model: &str, name: &str) -> Self {
        let to = database.cluster().socket_folder().join(format!("{name}-{}", database.name()));
        fs::create_dir(&to).expect("create the folder");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/riskft-core/golden");
        let folder = BaseFolder(to);
        for entry in fs::read_dir(from.join(model)).expect("a tiny model").flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file != "golden.safetensors" {
                folder.write(&file, &fs::read(entry.path()).expect("a file of it"));
            }
        }
        folder.mode(".", 0o755);
        folder
    }

    pub fn file(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Of the folder.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.file(file)).expect("read the copy")
    }

    pub fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.file(file), bytes).expect("write the copy");
        self.mode(file, 0o644);
    }

    pub fn mode(&self, file: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.file(file), mode).expect("set the mode");
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.file(file)).expect("remove the file");
    }

    /// Replaces a part of a file by one of the same length, or of any length in a text.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let bytes = self.read(file);
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{file} has no {from}"));
        let rest = &bytes[at + from.len()..];
        self.write(file, &[&bytes[..at], to.as_bytes(), rest].concat());
    }

    /// The statement that imports the folder.
    pub fn import(&self, name: &str) -> String {
        format!("SELECT riskft_import_base('{name}', '{}')", self.path())
    }
}
