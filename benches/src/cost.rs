//! CPU seconds of one epoch: ours against the traditional arm, and LoRA against full on one input.

use std::fmt::Write;

use riskft_tests::{fixture, Cluster, Database};

use crate::training::{gib, train, Training};
use crate::verdict;

/// Rows of a seeded sample: the traditional arm takes minutes on all of them. Cost is linear in rows from
/// here on; of fewer than 6,250 the encoder is tuned once for each fold.
const ROWS: usize = 6_500;

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, ROWS);
    let mut session = database.analyst();
    let mut arm = |method: &str, options: &str| {
        let options = format!("{{\"seed\": 1, \"deploy\": \"always\", \"epochs\": 1, \"keep_text\": \"always\", {options}}}");
        train(&mut session, "arm", method, &options)
    };
    let wide_gate = r#""gate": {"auc_loss": 1, "change_q999": 1, "change_max": 1, "flips": 1}"#;
    let ours = arm("lora", r#""text": "fields""#);
    let full = arm("full", &format!(r#""text": "fields", {wide_gate}"#));
    let row_lora =
        arm("lora", &format!(r#""text": "row", "layers": 0, "precision": "f32", {wide_gate}"#));
    let traditional = arm("full", &format!(r#""text": "row", "precision": "f32", {wide_gate}"#));
    report(&[
        ("field-wise text, LoRA, top 3 layers, bf16 (ours)", &ours),
        ("field-wise text, full fine-tuning, bf16", &full),
        ("whole-row text, LoRA, all layers, f32", &row_lora),
        ("whole-row text, full fine-tuning, f32 (traditional)", &traditional),
    ])
}

fn report(arms: &[(&str, &Training)]) -> String {
    let epoch = |t: &Training| t.tune_epoch_cpu_seconds.unwrap_or(f64::NAN);
    let base = arms.last().map_or(f64::NAN, |(_, t)| epoch(t));
    let mut out = String::from(
        "## Cost: one epoch of encoder tuning, 6,500 loans (4,160 training rows), one run\n\n\
         | arm | CPU s an epoch | of traditional | trainable parameters | share | whole training, CPU s | wall s | peak GiB | test AUC |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, t) in arms {
        let _ = writeln!(
            out,
            "| {name} | {:.1} | {:.1}% | {} | {:.2}% | {:.0} | {:.0} | {:.2} | {:.4} |",
            epoch(t),
            100.0 * epoch(t) / base,
            t.parameters_trainable,
            100.0 * t.parameters_trainable as f64 / t.parameters as f64,
            t.cpu_seconds,
            t.wall_seconds,
            gib(t.peak_memory),
            t.auc,
        );
    }
    let share = arms.first().map_or(f64::NAN, |(_, t)| epoch(t)) / base;
    let _ = write!(
        out,
        "\n* CPU seconds an epoch, ours against traditional: **{:.1}%** (target 10%): {}\n\
         * One epoch of tuning on 6,500 rows each (1,300 test rows: standard error about 0.016), so AUCs \
         here are not those of a training to its early stop.\n",
        100.0 * share,
        verdict(share <= 0.10),
    );
    out
}
