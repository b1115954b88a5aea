//! Every SQL block of the documentation runs, in order, in one database that holds the loans.
//! A block that opens with "```sql skip" is not run; it is counted and named.

use std::fs;
use std::path::Path;

use riskft_tests::{fixture, Database};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "docs/operate.md",
    "docs/reference.md",
    "docs/clients.md",
    "docs/security.md",
    "docs/superset.md",
];

struct Block {
    line: usize,
    sql: String,
    skipped: bool,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start();
        if inside && fence.starts_with("```") {
            inside = false;
        } else if inside {
            if let Some(block) = found.last_mut() {
                block.sql += line;
                block.sql.push('\n');
            }
        } else if fence == "```sql" || fence == "```sql skip" {
            inside = true;
            found.push(Block {
                line: number + 2,
                sql: String::new(),
                skipped: fence.ends_with("skip"),
            });
        }
    }
    found
}

#[test]
fn the_documents_tell_what_works() {
    let database = Database::new();
    fixture::loans(&database, 2_000);
    let mut analyst = database.analyst();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut run = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(folder.join(document)).unwrap();
        for block in blocks(&text) {
            if block.skipped {
                println!("skipped: {document}:{} is marked so", block.line);
                continue;
            }
            let outcome = analyst.batch_execute(&block.sql);
            assert!(
                outcome.is_ok(),
                "{document}:{}: {:?}\n{}",
                block.line,
                outcome.err(),
                block.sql
            );
            run += 1;
        }
    }
    assert!(run >= 5, "only {run} blocks were found");
}

#[test]
fn blocks_are_found() {
    let text = "a\n```sql\nSELECT 1;\n```\n```sh\nls\n```\n```sql skip\nSELECT 2;\n```\n";
    let found = blocks(text);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].line, found[0].sql.as_str(), found[0].skipped), (3, "SELECT 1;\n", false));
    assert!(found[1].skipped);
}
