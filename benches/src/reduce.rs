//! riskft_reduce beside scikit-learn's PCA on the same rows, and riskft_project.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use riskft_tests::{process, Cluster, Database, Session};
use serde_json::Value;

use crate::verdict;

const ROWS: usize = 100_000;
const COLUMNS: usize = 1_000;
const COMPONENTS: usize = 50;
/// What the columns have in common.
const HIDDEN: usize = 60;
/// Python with numpy and scikit-learn; `benches/run` names the bench's own.
const PYTHON: &str = "RISKFT_BENCH_PYTHON";

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    let mut session = database.analyst();
    let data = cluster.socket_folder().join("wide.f32");
    load(&mut session, &data);
    let own = fit(&mut session);
    let mut out = format!(
        "## Reduce: {COLUMNS} columns to {COMPONENTS} components, {ROWS} rows\n\n\
         * riskft_reduce: {:.1} s as a whole, of which {:.1} s PostgreSQL needs to read the rows alone; \
         peak memory of the trainer **{:.0} MiB** (target 200 MiB): {}\n",
        own.whole,
        own.reading,
        mib(own.peak),
        verdict(mib(own.peak) < 200.0)
    );
    out += &beside(&mut session, &data, &own);
    out += &projection(&mut session);
    out
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Finaliser of SplitMix64, as a number in -1..1.
fn noise(at: u64) -> f32 {
    let value = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((value ^ (value >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Table `wide` and the same numbers in a file: hidden columns of falling size, mixed, and noise.
fn load(session: &mut Session, file: &Path) {
    let columns: Vec<String> = (0..COLUMNS).map(|at| format!("c{at:04} real")).collect();
    session.run(&format!("CREATE TABLE wide ({})", columns.join(", ")));
    let mixing: Vec<f32> = (0..HIDDEN * COLUMNS)
        .map(|at| noise(at as u64) * 3.0 / (1.0 + (at % HIDDEN) as f32 / 8.0))
        .collect();
    let mut plain = BufWriter::new(File::create(file).expect("create the file"));
    let mut sink = session.copy_in("COPY wide FROM STDIN (FORMAT binary)").expect("begin to copy");
    sink.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0").expect("copy the header");
    let mut record = Vec::with_capacity(2 + 8 * COLUMNS);
    for row in 0..ROWS {
        let base = (1 << 40) + (row * (HIDDEN + COLUMNS)) as u64;
        let hidden: Vec<f32> = (0..HIDDEN).map(|at| noise(base + at as u64)).collect();
        record.clear();
        record.extend_from_slice(&(COLUMNS as i16).to_be_bytes());
        for (at, mix) in mixing.chunks_exact(HIDDEN).enumerate() {
            let sum: f32 = hidden.iter().zip(mix).map(|(h, m)| h * m).sum();
            let value =
                (sum + noise(base + (HIDDEN + at) as u64)) * (1 + at % 9) as f32 + at as f32;
            record.extend_from_slice(&4i32.to_be_bytes());
            record.extend_from_slice(&value.to_be_bytes());
            plain.write_all(&value.to_le_bytes()).expect("write the file");
        }
        sink.write_all(&record).expect("copy a row");
    }
    sink.write_all(&(-1i16).to_be_bytes()).expect("copy the end");
    sink.finish().expect("end the copy");
    plain.flush().expect("write the file");
    session.run("ANALYZE wide");
}

struct Fit {
    whole: f64,
    /// Of a scan of all cells without riskft.
    reading: f64,
    peak: u64,
}

fn fit(session: &mut Session) -> Fit {
    let all: Vec<String> = (0..COLUMNS).map(|at| format!("max(c{at:04})")).collect();
    let started = Instant::now();
    session.run(&format!("SELECT {} FROM wide", all.join(", ")));
    let reading = started.elapsed().as_secs_f64();
    let backend = session.pid();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        let mut seen = process::await_trainer(backend, Duration::from_secs(60));
        while let Some(trainer) = seen {
            peak = process::peak_memory(trainer).unwrap_or(0).max(peak);
            std::thread::sleep(Duration::from_millis(5));
            seen = process::trainer_of(backend);
        }
        peak
    });
    let started = Instant::now();
    session.run(&format!("CALL riskft_reduce('wide', 'wide', {COMPONENTS})"));
    let whole = started.elapsed().as_secs_f64();
    Fit { whole, reading, peak: watcher.join().unwrap_or(0) }
}

/// The peer's figures, and how far apart both results are.
fn beside(session: &mut Session, data: &Path, own: &Fit) -> String {
    let Ok(python) = std::env::var(PYTHON) else {
        return format!("* scikit-learn: not measured, {PYTHON} names no Python with it\n");
    };
    let out = data.with_extension("f64");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reduce.py");
    let told = Command::new(python)
        .arg(script)
        .args([ROWS, COLUMNS, COMPONENTS].map(|count| count.to_string()))
        .args([data, &out])
        .output()
        .expect("run scikit-learn");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let figures: Value = serde_json::from_slice(&told.stdout).expect("one JSON object");
    let figure = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
    let bytes = fs::read(&out).expect("the peer's components");
    let peer: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let (variances, components) = peer.split_at(COMPONENTS);
    let mine: Vec<f64> =
        session.values("SELECT variance FROM riskft.components ORDER BY component");
    let apart = mine.iter().zip(variances).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
    let loadings: Vec<f64> =
        session.values("SELECT loading FROM riskft.loadings ORDER BY component, column_name");
    let angle =
        loadings.chunks_exact(COLUMNS).map(|own| outside(own, components)).fold(0.0, f64::max);
    format!(
        "* scikit-learn, StandardScaler and PCA(svd_solver='covariance_eigh') on rows in memory: fit {:.1} s, \
         projection of all rows {:.1} s, peak memory {:.0} MiB; riskft without reading {:.1} s, {:.2} times as long \
         (at most the peer's time): {}\n\
         * Largest relative difference of a variance {apart:.1e} (target 1e-6): {}; largest part of a component \
         outside the peer's space {angle:.1e} (target 1e-6): {}\n",
        figure("fit"),
        figure("project"),
        figure("peak") / f64::from(1 << 20),
        own.whole - own.reading,
        (own.whole - own.reading) / figure("fit"),
        verdict(own.whole - own.reading <= figure("fit")),
        verdict(apart < 1e-6),
        verdict(angle < 1e-6)
    )
}

/// Length of what a unit vector has outside the space of some others, of which each is a row.
fn outside(own: &[f64], basis: &[f64]) -> f64 {
    let mut rest = own.to_vec();
    for other in basis.chunks_exact(own.len()) {
        let along: f64 = own.iter().zip(other).map(|(a, b)| a * b).sum();
        rest.iter_mut().zip(other).for_each(|(rest, other)| *rest -= along * other);
    }
    rest.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// A reducer of one component reads the same cells, and computes a quarter of the product.
fn projection(session: &mut Session) -> String {
    session.run("CALL riskft_reduce('one', 'wide', 1)");
    let mut seconds = |reducer: &str| {
        let sql = format!("SELECT sum((riskft_project('{reducer}', w))[1]) FROM wide w");
        session.value::<f64>(&sql);
        let started = Instant::now();
        session.value::<f64>(&sql);
        started.elapsed().as_secs_f64()
    };
    let (whole, one) = (seconds("wide"), seconds("one"));
    let product = (whole - one) / 0.75;
    format!(
        "* riskft_project, one backend: {:.0} rows/s with reading; the product alone {:.0} rows/s (target \
         50,000): {}\n",
        ROWS as f64 / whole,
        ROWS as f64 / product,
        verdict(ROWS as f64 / product >= 50_000.0)
    )
}
