//! Base models of each architecture: imported, trained on, scored; and what is refused.
//!
//! The models are tiny and random (crates/riskft-core/golden/bases.py made them): what they compute
//! is compared with transformers there, here it is their way through SQL.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use riskft_tests::{fails, fixture, process, refuses, BaseFolder, Cluster, Database, Session};

const TINY: [(&str, &str); 3] =
    [("tiny_finbert", "bert"), ("tiny_roberta", "roberta"), ("tiny_distilbert", "distilbert")];
/// A small training that keeps its text whatever it brings.
const OPTIONS: &str = r#"{"keep_text": "always", "epochs": 1, "layers": 1, "rank": 4, "head_epochs": 3,
    "hidden": 16, "members": 1, "gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}}"#;

fn scores(session: &mut Session, model: &str) -> Vec<u64> {
    let scores: Vec<f64> =
        session.values(&format!("SELECT risk_score('{model}', l) FROM loans l ORDER BY loan_id"));
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    scores.into_iter().map(f64::to_bits).collect()
}

#[test]
fn each_architecture_is_imported_trained_on_and_scored() {
    let database = Database::new();
    fixture::loans(&database, 300);
    let (mut superuser, mut analyst) = (database.superuser(), database.analyst());
    for (model, architecture) in TINY {
        let base = format!("{}.{model}", database.name());
        superuser.run(&BaseFolder::copy(&database, model, model).import(&base));
        let row = analyst
            .query_one(
                "SELECT architecture, layers, width, vocabulary, max_tokens, parameters, place
                 FROM riskft.bases WHERE name = $1",
                &[&base],
            )
            .unwrap();
        assert_eq!(row.get::<_, String>(0), architecture);
        let sizes: Vec<i32> = (1..5).map(|i| row.get(i)).collect();
        assert_eq!(sizes, [2, 48, 700, 64], "{model}");
        let parameters: i64 = row.get(5);
        assert_eq!(row.get::<_, String>(6), "imported");
        analyst.run(&format!(
            "CALL riskft_train('{model}', 'SELECT loan_id, borrower, employees, defaulted FROM loans',
                 'defaulted', exclude => '{{loan_id}}', base => '{base}', options => '{OPTIONS}')"
        ));
        // The tuned matrices are query and value, whatever the architecture calls them.
        let tuned: i64 = analyst.value(&format!(
            "SELECT parameters_trainable - 2 * 2 * 4 * 48 FROM riskft.costs WHERE model = '{model}'"
        ));
        let all: i64 =
            analyst.value(&format!("SELECT parameters FROM riskft.costs WHERE model = '{model}'"));
        assert!(tuned > 0 && all > parameters, "{model}: {tuned} of {all}");
        let first = scores(&mut analyst, model);
        let mut other = database.analyst();
        other.run("SET riskft.kernel = 'portable'");
        assert_eq!(scores(&mut other, model), first, "{model} in another session");
        let texts: i64 = analyst.value(&format!(
            "SELECT count(DISTINCT risk_score('{model}', o)) FROM
                 (SELECT jsonb_populate_record(l, jsonb_build_object('borrower', b.borrower)) AS o
                  FROM (SELECT * FROM loans ORDER BY loan_id LIMIT 1) l, loans b) s"
        ));
        assert!(texts > 50, "{model}: {texts} different scores by the borrower's name");
    }
    let run: String = analyst.value("SELECT base FROM riskft.runs WHERE model = 'tiny_roberta'");
    assert_eq!(run, format!("{}.tiny_roberta", database.name()));
}

type Damage = fn(&BaseFolder);

/// What is wrong with the folder of a DistilBERT, the SQLSTATE, and words of detail or hint.
const DAMAGES: &[(&str, Damage, &str, &str)] = &[
    ("no config", |f| f.remove("config.json"), "58P01", "config.json"),
    ("a broken config", |f| f.write("config.json", b"{\"model_type\""), "0A000", "config.json"),
    (
        "another model",
        |f| f.replace("config.json", "distilbert\"", "electra\""),
        "0A000",
        "electra",
    ),
    ("another activation", |f| f.replace("config.json", "\"gelu\"", "\"relu\""), "0A000", "relu"),
    ("another width", |f| f.replace("config.json", "\"dim\": 48", "\"dim\": 52"), "0A000", "52"),
    (
        "more layers",
        |f| f.replace("config.json", "_layers\": 2", "_layers\": 3"),
        "0A000",
        "layer.2",
    ),
    ("endless layers", |f| f.replace("config.json", "rs\": 2", "rs\": 99999999999"), "0A000", "96"),
    ("LFS pointer as config", |f| f.write("config.json", LFS), "0A000", "git lfs pull"),
    ("LFS pointer as weights", |f| f.write(WEIGHTS, LFS), "0A000", "git lfs pull"),
    ("LFS pointer as tokenizer", |f| f.write("tokenizer.json", LFS), "0A000", "git lfs pull"),
    ("pickle", |f| f.write(WEIGHTS, b"\x80\x02}q\x00(X\x03\x00"), "0A000", "save_pretrained"),
    ("zip", |f| f.write(WEIGHTS, b"PK\x03\x04\0\0archive/data.pkl"), "0A000", "save_pretrained"),
    ("ELF", |f| f.write(WEIGHTS, b"\x7fELF\x02\x01\x01\0\0\0"), "0A000", "ELF"),
    ("nothing in it", |f| f.write(WEIGHTS, b""), "0A000", WEIGHTS),
    ("half of it", |f| f.write(WEIGHTS, &f.read(WEIGHTS)[..150_000]), "0A000", WEIGHTS),
    ("a huge header", |f| f.write(WEIGHTS, &[0xff; 4096]), "0A000", "header"),
    ("not a number", not_a_number, "0A000", "finite"),
    ("no such tensor", |f| f.replace(WEIGHTS, "0.ffn.lin1", "0.ffn.lin9"), "0A000", "absent"),
    ("integers", |f| f.replace(WEIGHTS, "\"F32\"", "\"I32\""), "0A000", "I32"),
    ("only pickled weights", only_pickled, "0A000", "pytorch_model.bin"),
    ("weights in parts", in_parts, "0A000", "parts"),
    ("no weights", |f| f.remove(WEIGHTS), "58P01", WEIGHTS),
    ("a folder as weights", folder_as_weights, "22023", WEIGHTS),
    ("a pipe as weights", pipe_as_weights, "22023", WEIGHTS),
    ("a link to nowhere", link_to_nowhere, "58P01", WEIGHTS),
    ("unreadable", |f| f.mode(WEIGHTS, 0), "42501", WEIGHTS),
    ("unreadable folder", |f| f.mode(".", 0), "42501", "config.json"),
    ("no tokenizer", |f| f.remove("tokenizer.json"), "58P01", "AutoTokenizer"),
    (
        "another tokenizer",
        |f| f.replace("tokenizer.json", "\"WordPiece\",\"unk", "\"Unigram\",\"unk"),
        "0A000",
        "Unigram",
    ),
    ("too few words", |f| f.replace("config.json", "700", "600"), "0A000", "600"),
];

const WEIGHTS: &str = "model.safetensors";
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 440449768\n";

fn not_a_number(folder: &BaseFolder) {
    let mut bytes = folder.read(WEIGHTS);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write(WEIGHTS, &bytes);
}

fn only_pickled(folder: &BaseFolder) {
    folder.remove(WEIGHTS);
    folder.write("pytorch_model.bin", b"PK\x03\x04");
}

fn in_parts(folder: &BaseFolder) {
    folder.remove(WEIGHTS);
    folder.write("model.safetensors.index.json", b"{}");
    folder.write("model-00001-of-00002.safetensors", b"{}");
}

fn folder_as_weights(folder: &BaseFolder) {
    folder.remove(WEIGHTS);
    fs::create_dir(folder.file(WEIGHTS)).expect("create a folder");
}

fn pipe_as_weights(folder: &BaseFolder) {
    folder.remove(WEIGHTS);
    let made = std::process::Command::new("mkfifo").arg(folder.file(WEIGHTS)).status();
    assert!(made.expect("run mkfifo").success());
    folder.mode(WEIGHTS, 0o644);
}

fn link_to_nowhere(folder: &BaseFolder) {
    folder.remove(WEIGHTS);
    symlink("/nowhere/model.safetensors", folder.file(WEIGHTS)).expect("create a link");
}

#[test]
fn a_bad_folder_is_refused_and_leaves_nothing() {
    let database = Database::new();
    let mut superuser = database.superuser();
    for (number, (what, damage, code, word)) in DAMAGES.iter().enumerate() {
        let folder = BaseFolder::copy(&database, "tiny_distilbert", &format!("bad{number}"));
        damage(&folder);
        let error = refuses(&mut superuser, &folder.import(&format!("bad{number}")), code);
        let told = format!(
            "{} {} {}",
            error.message(),
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default()
        );
        assert!(told.contains(word), "{what}: \"{word}\" is not in: {told}");
    }
    println!("{} bad folders were refused", DAMAGES.len());
    let names: Vec<String> = superuser.values("SELECT name FROM riskft.bases");
    assert!(!names.iter().any(|name| name.starts_with("bad")), "{names:?}");
    no_remains(&mut superuser);
}

/// Other tests import at the same time: their folders go within moments.
fn no_remains(superuser: &mut Session) {
    let none = process::await_true(Duration::from_secs(10), || {
        superuser.value(
            "SELECT count(*) = 0 FROM pg_ls_dir('riskft_models', true, true) AS name
             WHERE name LIKE '.import-%'",
        )
    });
    assert!(none, "an unfinished import stays");
}

#[test]
fn bad_arguments_are_refused() {
    let database = Database::new();
    let mut superuser = database.superuser();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "arguments");
    let path = folder.path();
    for (name, path, code, word) in [
        ("'a'", "'relative/path'".to_owned(), "22023", "relative/path"),
        ("'a'", "''".to_owned(), "22023", "absolute"),
        ("'a'", "'/nowhere/at/all'".to_owned(), "58P01", "/nowhere"),
        ("'a'", format!("'{path}/config.json'"), "22023", "folder"),
        ("NULL", format!("'{path}'"), "22004", "name"),
        ("'a'", "NULL".to_owned(), "22004", "path"),
        ("'../a'", format!("'{path}'"), "22023", "../a"),
        ("'.a'", format!("'{path}'"), "22023", ".a"),
        ("''", format!("'{path}'"), "22023", "letters"),
        ("'a/b'", format!("'{path}'"), "22023", "a/b"),
        ("repeat('a', 101)", format!("'{path}'"), "22023", "100"),
    ] {
        let sql = format!("SELECT riskft_import_base({name}, {path})");
        let error = refuses(&mut superuser, &sql, code);
        let told = format!("{error:?}");
        assert!(told.contains(word), "{sql}: \"{word}\" is not in {told}");
    }
    superuser.run("SET riskft.max_model_size = '64kB'");
    let error = refuses(&mut superuser, &folder.import("large"), "54000");
    assert!(error.hint().is_some_and(|hint| hint.contains("riskft.max_model_size")));
}

#[test]
fn importing_needs_the_right_to_read_server_files() {
    let database = Database::new();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "rights");
    let import = folder.import(&format!("{}.rights", database.name()));
    let error = refuses(&mut database.analyst(), &import, "42501");
    assert!(error.hint().is_some_and(|hint| hint.contains("pg_read_server_files")));
    // Whether a folder exists is not told either.
    let nowhere = "SELECT riskft_import_base('a', '/nowhere')";
    refuses(&mut database.analyst(), nowhere, "42501");
    let mut superuser = database.superuser();
    superuser.run("CREATE ROLE reader LOGIN; GRANT pg_read_server_files TO reader");
    let mut reader = database.user("reader");
    reader.run("BEGIN");
    reader.run(&import);
    reader.run("ROLLBACK");
    let there: i64 = database.analyst().value(&format!(
        "SELECT count(*) FROM riskft.bases WHERE name = '{}.rights'",
        database.name()
    ));
    assert_eq!(there, 1, "files know no rollback");
}

#[test]
fn a_name_is_given_once() {
    let database = Database::new();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "once");
    let name = format!("{}.once", database.name());
    let mut superuser = database.superuser();
    superuser.run(&folder.import(&name));
    refuses(&mut superuser, &folder.import(&name), "42710");
    refuses(&mut superuser, &folder.import("minilm-l6"), "42710");

    let import = folder.import(&format!("{}.race", database.name()));
    let won: usize = std::thread::scope(|scope| {
        let import = &import;
        let racers: Vec<_> = (0..6)
            .map(|_| {
                let mut session = database.superuser();
                scope.spawn(move || match session.batch_execute(import) {
                    Ok(()) => 1,
                    Err(error) => {
                        let code = error.as_db_error().map(|e| e.code().code().to_owned());
                        assert_eq!(code.as_deref(), Some("42710"), "{error}");
                        0
                    }
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().expect("a racer ends")).sum()
    });
    assert_eq!(won, 1);
    no_remains(&mut superuser);
}

#[test]
fn links_are_followed_as_in_a_cache_of_downloads() {
    let database = Database::new();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "links");
    let blob = folder.file("blob");
    fs::rename(folder.file(WEIGHTS), &blob).unwrap();
    symlink(&blob, folder.file(WEIGHTS)).unwrap();
    let name = format!("{}.links", database.name());
    database.superuser().run(&folder.import(&name));
    let place: String =
        database.analyst().value(&format!("SELECT place FROM riskft.bases WHERE name = '{name}'"));
    assert_eq!(place, "imported");
}

#[test]
fn a_directory_of_ones_own_is_used_or_refused() {
    let database = Database::new();
    let mut superuser = database.superuser();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "source");
    let other = BaseFolder::copy(&database, "tiny_roberta", "directory");
    let hint = |session: &mut Session, code: &str| {
        let error = refuses(session, &folder.import("own"), code);
        assert!(error.hint().is_some_and(|h| h.contains("riskft.model_directory")), "{error:?}");
    };
    superuser.run(&format!("SET riskft.model_directory = '{}'", other.file("none").display()));
    hint(&mut superuser, "58030");
    superuser
        .run(&format!("SET riskft.model_directory = '{}'", other.file("config.json").display()));
    hint(&mut superuser, "58030");
    superuser.run(&format!("SET riskft.model_directory = '{}'", other.path()));
    other.mode(".", 0o555);
    hint(&mut superuser, "42501");
    other.mode(".", 0o777);
    superuser.run(&folder.import("own"));
    assert!(other.file("own").join(WEIGHTS).is_file());
    let found = "SELECT count(*) FROM riskft.bases WHERE name IN ('own', 'minilm-l6')";
    assert_eq!(superuser.value::<i64>(found), 2, "both directories are looked into");
    superuser.run("RESET riskft.model_directory");
    assert_eq!(superuser.value::<i64>(found), 1);
}

/// A disk that fills up in the middle: 53100, nothing is left, and the next try succeeds.
#[test]
fn a_full_disk_is_53100_and_a_later_try_succeeds() {
    let database = Database::new();
    let mut superuser = database.superuser();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "full");
    let Some(disk) = SmallDisk::mount(&folder.file("disk"), "200k") else {
        println!("skipped: a_full_disk_is_53100: no tmpfs can be mounted here");
        return;
    };
    superuser.run(&format!("SET riskft.model_directory = '{}'", disk.0.display()));
    refuses(&mut superuser, &folder.import("full"), "53100");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
    assert!(SmallDisk::command("mount", &["-o", "remount,size=2m"], &disk.0));
    superuser.run(&folder.import("full"));
    assert!(disk.0.join("full").join(WEIGHTS).is_file());
}

/// A tmpfs, unmounted when it goes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).expect("create the mount point");
        let options = format!("size={size},mode=0777");
        let mounted = SmallDisk::command("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], at);
        mounted.then(|| SmallDisk(at.to_owned()))
    }
    fn command(program: &str, arguments: &[&str], at: &Path) -> bool {
        let done = std::process::Command::new(program).args(arguments).arg(at).output();
        done.is_ok_and(|output| output.status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        SmallDisk::command("umount", &[], &self.0);
    }
}

/// Cancelled while it copies: 57014 at once, and nothing is left.
#[test]
fn a_cancelled_import_leaves_nothing() {
    let database = Database::new();
    let mut superuser = database.superuser();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "cancel");
    // A file with a hole takes no space here, but time to copy.
    let weights = fs::OpenOptions::new().write(true).open(folder.file(WEIGHTS)).unwrap();
    weights.set_len(1 << 30).unwrap();
    superuser.run("SET statement_timeout = '100ms'");
    let begun = Instant::now();
    fails(&mut superuser, &folder.import("cancelled"), "57014");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    no_remains(&mut superuser);
    let there: i64 = superuser.value("SELECT count(*) FROM riskft.bases WHERE name = 'cancelled'");
    assert_eq!(there, 0);
}

/// What a killed import left is removed by the next one.
#[test]
fn remains_of_a_killed_import_go() {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut superuser = database.superuser();
    let folder = BaseFolder::copy(&database, "tiny_roberta", "killed");
    superuser.run(&folder.import("first"));
    let mut dead = std::process::Command::new("true").spawn().expect("run a process");
    dead.wait().expect("it ends");
    let data: String = superuser.value("SHOW data_directory");
    let remains = Path::new(&data).join(format!("riskft_models/.import-{}", dead.id()));
    fs::create_dir(&remains).unwrap();
    fs::write(remains.join(WEIGHTS), b"half").unwrap();
    fs::set_permissions(&remains, fs::Permissions::from_mode(0o777)).unwrap();
    superuser.run(&folder.import("second"));
    assert!(!remains.exists());
    no_remains(&mut superuser);
    let bases: Vec<String> =
        superuser.values("SELECT name FROM riskft.bases WHERE place = 'imported'");
    assert_eq!(bases, ["first", "second"]);
}
