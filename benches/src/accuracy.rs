//! Test AUC over five split seeds, methods none and lora, and what one training takes.

use std::fmt::Write;

use riskft_tests::{fixture, Cluster, Database};

use crate::training::{gib, train, Training, EXCLUDE};
use crate::{mean, median, verdict};

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

pub fn measure() -> String {
    let cluster = Cluster::start();
    let database = Database::within(&cluster);
    fixture::loans(&database, fixture::LOAN_ROWS);
    let mut session = database.analyst();
    let mut of = |method: &str| -> Vec<Training> {
        SEEDS
            .iter()
            .map(|seed| {
                let options = format!("{{\"seed\": {seed}, \"deploy\": \"always\"}}");
                train(&mut session, method, method, &options)
            })
            .collect()
    };
    report(&of("none"), &of("lora"))
}

fn report(none: &[Training], lora: &[Training]) -> String {
    let mut out = format!(
        "## Accuracy: 20,000 loans, exclude => '{EXCLUDE}', 4,000 test rows, five split seeds\n\n\
         | seed | none | lora | validation: without text | frozen text | tuned text | tuned kept | text kept | AUC lost to int8 | largest change | seconds | GiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for ((seed, n), l) in SEEDS.iter().zip(none).zip(lora) {
        let _ = writeln!(
            out,
            "| {seed} | {:.4} | {:.4} | {} | {} | {} | {} | {} | {} | {:.4} | {:.0} | {:.2} |",
            n.auc,
            l.auc,
            figure(l.auc_without_text),
            figure(l.auc_frozen),
            figure(l.auc_tuned),
            answer(l.kept),
            answer(l.text_kept),
            figure(l.auc_loss),
            l.change_max,
            l.wall_seconds,
            gib(l.peak_memory),
        );
    }
    let aucs = |t: &[Training]| t.iter().map(|t| t.auc).collect::<Vec<_>>();
    let (mean_none, mean_lora) = (mean(&aucs(none)), mean(&aucs(lora)));
    let walls: Vec<f64> = lora.iter().map(|t| t.wall_seconds).collect();
    let longest = walls.iter().copied().fold(0.0, f64::max);
    let peak = lora.iter().map(|t| gib(t.peak_memory)).fold(0.0, f64::max);
    let passed = none.iter().chain(lora).all(|t| {
        t.auc_loss.is_none_or(|v| v <= 0.001)
            && t.change_q999 <= 0.03
            && t.change_max <= 0.05
            && t.flips.is_none_or(|v| v <= 0.005)
    });
    let _ = write!(
        out,
        "\n* Mean test AUC, method lora: **{mean_lora:.4}** (target 0.775): {}\n\
         * lora against none ({mean_none:.4}): {:+.4} (target: not below -0.002): {}\n\
         * int8 inside the publish gate in all ten trainings: {}\n\
         * One lora training: median {:.0} s, longest {longest:.0} s (target 360 s): {}\n\
         * Peak memory of the trainer: {peak:.2} GiB (target 4 GiB): {}\n",
        verdict(mean_lora >= 0.775),
        mean_lora - mean_none,
        verdict(mean_lora - mean_none >= -0.002),
        verdict(passed),
        median(&walls),
        verdict(longest < 360.0),
        verdict(peak < 4.0),
    );
    out
}

fn answer(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"))
}
