//! docs/clients.md shows lines of the programs that these tests run, and no others.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stage::clients;

/// Fences name the file after the language; one without a file is not checked here.
fn source(fence: &str) -> Option<PathBuf> {
    Some(clients().join(fence.strip_prefix("```")?.split_once(' ')?.1))
}

#[test]
fn documented_lines_are_those_that_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let text = fs::read_to_string(path).expect("read docs/clients.md");
    let mut inside: Option<String> = None;
    let mut checked = 0;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            let read = |path: PathBuf| {
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            };
            inside = source(line).map(read);
        } else if let Some(program) = inside.as_ref().filter(|_| !line.trim().is_empty()) {
            let found = program.lines().any(|l| l.trim() == line.trim());
            assert!(found, "docs/clients.md:{}: no program has this line: {line}", number + 1);
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} lines were found");
}
