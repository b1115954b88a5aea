//! Damaged files: the cache is rebuilt with the same scores, a damaged stored file is XX001 and
//! never a score.

use std::fs;
use std::os::unix::fs::{chown, symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use riskft_tests::faults::Arena;
use riskft_tests::{give_to_server, leftovers, refuses, Cluster, Session};

const SCORES: &str =
    "SELECT md5(string_agg(float8send(risk_score('m', l))::text, '' ORDER BY loan_id)) FROM loans l";

fn cache(cluster: &Cluster) -> PathBuf {
    cluster.data().join("base/pgsql_tmp/pgsql_tmp_riskft")
}

/// The cache's files of the version that is deployed: its own and its encoder's.
fn files(arena: &Arena) -> Vec<PathBuf> {
    let digests: Vec<String> = arena.database().superuser().values(
        "SELECT unnest(ARRAY[v.version_digest, v.encoder_digest]) FROM riskft.version v
         JOIN riskft.model m ON (v.model_id, v.version) = (m.model_id, m.deployed_version)",
    );
    digests.iter().map(|digest| cache(arena.database().cluster()).join(digest)).collect()
}

/// Writes a changed copy of a file under its name; processes that map it keep the old one.
fn rewrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read a file of the cache");
    change(&mut bytes);
    fs::remove_file(path).expect("remove it");
    fs::write(path, bytes).expect("write the changed one");
}

fn flip(path: &Path, at: usize) {
    rewrite(path, |bytes| {
        let place = at * 7919 % bytes.len();
        bytes[place] ^= 1 << (at % 8);
    });
}

#[test]
fn damaged_cache_files_are_written_again() {
    let cluster = Cluster::start();
    let arena = Arena::new(&cluster);
    let database = arena.database();
    let scores: String = database.analyst().value(SCORES);
    assert_eq!(files(&arena).len(), 2);
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 12] = [
        ("missing", |path| fs::remove_file(path).expect("remove")),
        ("empty", |path| rewrite(path, Vec::clear)),
        ("truncated", |path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 1))),
        ("extended", |path| rewrite(path, |bytes| bytes.push(0))),
        ("zeroed", |path| rewrite(path, |bytes| bytes.fill(0))),
        ("header", |path| rewrite(path, |bytes| bytes[..16].fill(0xFF))),
        ("middle", |path| {
            rewrite(path, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
        }),
        ("unreadable", |path| {
            chown(path, Some(0), Some(0)).expect("take it away");
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("lock it");
        }),
        ("a folder", |path| {
            fs::remove_file(path).expect("remove");
            fs::create_dir(path).expect("create a folder");
            fs::write(path.join("within"), b"x").expect("write a file within");
            give_to_server(path);
        }),
        ("a dangling link", |path| {
            fs::remove_file(path).expect("remove");
            symlink("/nonexistent/file", path).expect("link");
        }),
        ("a link to a device", |path| {
            fs::remove_file(path).expect("remove");
            symlink("/dev/zero", path).expect("link");
        }),
        ("a pipe", |path| {
            fs::remove_file(path).expect("remove");
            let made = Command::new("mkfifo").arg(path).status().expect("run mkfifo");
            assert!(made.success());
        }),
    ];
    for (name, damage) in damages {
        for file in files(&arena) {
            if name == "unreadable" && !riskft_tests::is_root() {
                eprintln!("skipped: a file of another user needs root");
                continue;
            }
            damage(&file);
            let again: String = database.analyst().value(SCORES);
            assert_eq!(again, scores, "{name}");
            assert!(file.symlink_metadata().is_ok_and(|found| found.is_file()), "{name}");
        }
        assert_eq!(leftovers(database), [""; 0], "{name}");
    }
    for at in 0..20 {
        for file in files(&arena) {
            flip(&file, at);
        }
        assert_eq!(database.analyst().value::<String>(SCORES), scores, "bit flip {at}");
    }
    // The whole folder: gone, or a file in its place.
    fs::remove_dir_all(cache(&cluster)).expect("remove the folder");
    assert_eq!(database.analyst().value::<String>(SCORES), scores);
    fs::remove_dir_all(cache(&cluster)).expect("remove the folder");
    fs::write(cache(&cluster), b"").expect("put a file there");
    refuses(&mut database.analyst(), SCORES, "58030");
    fs::remove_file(cache(&cluster)).expect("remove the file");
    assert_eq!(database.analyst().value::<String>(SCORES), scores);
}

#[test]
fn the_cache_vanishes_while_sessions_score() {
    let cluster = Cluster::start();
    let arena = Arena::new(&cluster);
    let database = arena.database();
    let scores: String = database.analyst().value(SCORES);
    let over = AtomicBool::new(false);
    let asked: usize = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = 0;
                    while !over.load(Ordering::Relaxed) {
                        // Each session maps the files anew.
                        assert_eq!(database.analyst().value::<String>(SCORES), scores);
                        times += 1;
                    }
                    times
                })
            })
            .collect();
        for _ in 0..150 {
            let _ = fs::remove_dir_all(cache(&cluster));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        over.store(true, Ordering::Relaxed);
        askers.into_iter().map(|asker| asker.join().expect("scores")).sum()
    });
    println!("{asked} sessions scored while the cache went 150 times");
    assert!(asked > 3);
    assert_eq!(leftovers(database), [""; 0]);
}

#[test]
fn a_damaged_stored_file_is_never_scored() {
    let cluster = Cluster::start();
    let mut arena = Arena::new(&cluster);
    let mut superuser = arena.database().superuser();
    let scores: String = superuser.value(SCORES);
    let damage = |kind: &str, sql: &str| {
        sql.replace(
            "DIGEST",
            &format!("(SELECT {kind}_digest FROM riskft.version ORDER BY version DESC LIMIT 1)"),
        )
    };
    let damages = [
        "UPDATE riskft.blob_chunk SET bytes = set_byte(bytes, length(bytes) / 2, 1 + get_byte(bytes, length(bytes) / 2) % 255) WHERE digest = DIGEST",
        "UPDATE riskft.blob_chunk SET bytes = substr(bytes, 1, length(bytes) - 1) WHERE digest = DIGEST",
        "UPDATE riskft.blob_chunk SET bytes = bytes || '\\x00' WHERE digest = DIGEST",
        "UPDATE riskft.blob_chunk SET bytes = '' WHERE digest = DIGEST AND number = 0",
        "DELETE FROM riskft.blob_chunk WHERE digest = DIGEST AND number = 0",
        "DELETE FROM riskft.blob_chunk WHERE digest = DIGEST",
        "INSERT INTO riskft.blob_chunk SELECT digest, number + 1, bytes FROM riskft.blob_chunk WHERE digest = DIGEST ORDER BY number DESC LIMIT 1",
        "UPDATE riskft.blob_chunk SET number = number + 1 WHERE digest = DIGEST",
        "UPDATE riskft.blob SET length = length + 1 WHERE digest = DIGEST",
        "UPDATE riskft.blob SET length = length - 1 WHERE digest = DIGEST",
        "UPDATE riskft.blob SET length = 0 WHERE digest = DIGEST",
    ];
    let mut count = 0;
    for kind in ["version", "encoder"] {
        for sql in damages {
            fs::remove_dir_all(cache(&cluster)).expect("clear the cache");
            let mut session = arena.database().superuser();
            session.run("BEGIN");
            let rows =
                session.execute(&damage(kind, sql), &[]).unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert!(rows > 0, "{sql}");
            in_savepoint(&mut session, kind, sql);
            session.run("ROLLBACK");
            assert_eq!(leftovers(arena.database()), [""; 0], "{sql}");
            assert_eq!(session.value::<String>(SCORES), scores, "{sql}");
            count += 1;
        }
    }
    println!("{count} damages");

    // Training again is the way out, though the damaged version was the deployed one.
    superuser.run(&damage("version", damages[0]));
    fs::remove_dir_all(cache(&cluster)).expect("clear the cache");
    refuses(&mut arena.database().analyst(), SCORES, "XX001");
    arena.train();
    assert_ne!(arena.database().analyst().value::<String>(SCORES), scores);
}

fn in_savepoint(session: &mut Session, kind: &str, sql: &str) {
    session.run("SAVEPOINT s");
    let error = session.query_one(SCORES, &[]).expect_err("a damaged file gives no score");
    let code = error.code().map(|c| c.code().to_owned());
    assert_eq!(code.as_deref(), Some("XX001"), "{kind}: {sql}: {error:?}");
    session.run("ROLLBACK TO s");
}
