//! The page: sections of facts, tables and pictures.

use std::fmt::Write as _;

use super::limits::{self, metric};
use super::pictures::picture;
use super::text::{escape, figure, short};
use super::{Kind, Report, Table};

/// Characters of a fact, and of a cell of a table, beyond which it is cut.
const MOST_FACT: usize = 10_000;
const MOST_CELL: usize = 500;
/// Features beyond which the table of them is cut: a relation has at most 1,664 columns.
const MOST_ROWS: usize = 1_700;

const STYLE: &str = "body{font:15px/1.45 sans-serif;color:#111;max-width:1020px;margin:24px auto;\
padding:0 16px}h1{font-size:26px;margin-bottom:4px}h2{font-size:19px;margin:32px 0 8px;\
border-bottom:2px solid #0072b2;padding-bottom:3px}h3{font-size:15px;margin:18px 0 4px}\
table{border-collapse:collapse;font-size:13px;margin:8px 0}th,td{border:1px solid #ccc;\
padding:3px 8px;text-align:left;vertical-align:top;overflow-wrap:break-word;\
white-space:pre-wrap}th{background:#f0f4f8}.wide{overflow-x:auto}\
figure{display:inline-block;margin:8px 12px 8px 0}svg{max-width:100%;height:auto}\
.none{color:#555;font-style:italic}nav a{margin-right:12px;white-space:nowrap}\
.facts th{width:180px}.facts td{overflow-wrap:anywhere}\
@media print{h2{break-after:avoid}figure,tr{break-inside:avoid}}";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut page = Page::default();
    for (name, heading, body) in SECTIONS {
        page.heading(name, heading);
        body(&mut page, report);
    }
    let (model, made_at) = (escape(&report.model), escape(&report.made_at));
    let title = format!("Model file of {model}, version {}", report.version);
    let links = SECTIONS.iter().fold(String::new(), |mut links, (name, heading, _)| {
        let _ = write!(links, "<a href=\"#{name}\">{heading}</a> ");
        links
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p>Made by riskft at {made_at}, from what the database keeps of this \
         version. It holds what a validator asks for under SR 11-7; it is no approval.</p>\n\
         <nav>{links}</nav>\n{}</body>\n</html>\n",
        page.html
    )
}

type Body = fn(&mut Page, &Report);

/// Anchor, heading, body.
const SECTIONS: [(&str, &str, Body); 13] = [
    ("version", "Version", version),
    ("lineage", "Data lineage", lineage),
    ("performance", "Performance", performance),
    ("branches", "Branches and the baseline", branches),
    ("inputs", "Inputs", inputs),
    ("periods", "Stability over time", periods),
    ("quantization", "Quantization", quantization),
    ("drift", "Drift since", drift),
    ("versions", "Versions, approvals and deployments", versions),
    ("comparison", "A/B comparison", comparison),
    ("changes", "Changes and rights", changes),
    ("cost", "Cost", cost),
    ("limits", "Limits of use", limits_of_use),
];

#[derive(Default)]
struct Page {
    html: String,
}

impl Page {
    /// `name` and `heading` are of this file, not of users.
    fn heading(&mut self, name: &str, heading: &str) {
        let _ = writeln!(self.html, "<h2 id=\"{name}\">{heading}</h2>");
    }

    fn sub(&mut self, heading: &str) {
        let _ = writeln!(self.html, "<h3>{}</h3>", escape(heading));
    }

    fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.html, "<p>{}</p>", escape(text));
    }

    fn none(&mut self, why: &str) {
        let _ = writeln!(self.html, "<p class=\"none\">{}</p>", escape(why));
    }

    /// One row as names and values.
    fn facts(&mut self, table: &Table, none: &str) {
        let Some(row) = table.rows.first() else { return self.none(none) };
        self.html.push_str("<table class=\"facts\">\n");
        for (head, value) in table.heads.iter().zip(row) {
            let value = value.as_deref().unwrap_or("–");
            let (head, value) = (escape(head), escape(&short(value, MOST_FACT)));
            let _ = writeln!(self.html, "<tr><th>{head}</th><td>{value}</td></tr>");
        }
        self.html.push_str("</table>\n");
    }

    fn table(&mut self, table: &Table, none: &str) {
        if table.rows.is_empty() {
            return self.none(none);
        }
        self.html.push_str("<div class=\"wide\"><table>\n<tr>");
        for head in &table.heads {
            let _ = write!(self.html, "<th>{}</th>", escape(head));
        }
        self.html.push_str("</tr>\n");
        for row in table.rows.iter().take(MOST_ROWS) {
            self.html.push_str("<tr>");
            for cell in row {
                let cell = short(cell.as_deref().unwrap_or("–"), MOST_CELL);
                let _ = write!(self.html, "<td>{}</td>", escape(&cell));
            }
            self.html.push_str("</tr>\n");
        }
        self.html.push_str("</table></div>\n");
    }

    /// A picture, or the line that says why there is none.
    fn picture(&mut self, report: &Report, kind: Kind) {
        match picture(kind, &report.figures, &report.beside) {
            Ok(svg) => {
                let _ = writeln!(self.html, "<figure>{svg}</figure>");
            }
            Err(why) => self.none(&format!("No picture of {}: {why}", kind.name())),
        }
    }
}

fn table<const N: usize>(
    heads: [&str; N],
    rows: impl Iterator<Item = [Option<String>; N]>,
) -> Table {
    Table { heads: heads.map(str::to_owned).to_vec(), rows: rows.map(|row| row.to_vec()).collect() }
}

const OWNERS: &str = "Runs are shown to the model's owner, and to whom asked for them, alone.";

fn version(page: &mut Page, report: &Report) {
    page.facts(&report.version_facts, "The version is gone.");
}

fn lineage(page: &mut Page, report: &Report) {
    page.facts(&report.run_facts, OWNERS);
    page.sub("Parts of the rows, and their classes");
    page.paragraph(
        "The test part is set aside first; nothing is fitted on it. Part validation holds \
         out-of-fold scores, part train at most 20,000 of the rows that the version learnt from.",
    );
    let figures = &report.figures;
    let parts = ["train", "validation", "calibration", "test"].into_iter().filter_map(|part| {
        let rows = metric(figures, part, "rows")?.value?;
        let rate = metric(figures, part, "base_rate").and_then(|m| m.value);
        let positives = rate.map(|rate| (rate * rows).round());
        Some([
            Some(part.to_owned()),
            Some(format!("{rows}")),
            positives.map(|count| format!("{count}")),
            positives.map(|count| format!("{}", rows - count)),
            Some(figure(rate, 4)),
        ])
    });
    let heads = ["part", "rows", "positive rows", "negative rows", "share of positive rows"];
    page.table(&table(heads, parts), "The version has no figures.");
}

fn performance(page: &mut Page, report: &Report) {
    let figures = &report.figures;
    page.paragraph(
        "AUC with DeLong's 95% interval (DeLong et al. 1988); ECE in 15 bins of equal mass; F1 at \
         the version's threshold. The pictures are drawn from the bins of riskft.curves: scores of \
         single rows are not kept.",
    );
    let names = ["auc", "average_precision", "ks", "f1", "brier", "log_loss", "ece", "mean_score"];
    let rows = names.into_iter().map(|name| {
        let of = |part| {
            metric(figures, part, name).map(|found| {
                let value = figure(found.value, 4);
                match found.ci_low.zip(found.ci_high) {
                    Some((low, high)) => format!("{value} [{low:.4}, {high:.4}]"),
                    None => value,
                }
            })
        };
        [Some(name.to_owned()), of("train"), of("validation"), of("calibration"), of("test")]
    });
    let heads = ["metric", "train (in sample)", "validation (out of fold)", "calibration", "test"];
    page.table(&table(heads, rows), "The version has no figures.");
    let kinds =
        [Kind::Roc, Kind::PrecisionRecall, Kind::Calibration, Kind::Ks, Kind::Scores, Kind::Lift];
    if figures.curve.is_empty() {
        // One line for all of them.
        return page.picture(report, Kind::Roc);
    }
    for kind in kinds {
        page.picture(report, kind);
    }
}

fn branches(page: &mut Page, report: &Report) {
    page.paragraph(
        "What the version is blended of, and the scorecard that was trained beside it. A gain is \
         the out-of-fold AUC of the version above that without the branch.",
    );
    let rows = report.figures.branches.iter().map(|branch| {
        [
            Some(branch.branch.clone()),
            Some(figure(Some(branch.weight), 3)),
            Some(figure(branch.auc, 4)),
            Some(figure(branch.test_auc, 4)),
            Some(figure(branch.gain, 4)),
            Some(figure(branch.gain_se, 4)),
            Some(branch.why.clone()),
        ]
    });
    let heads =
        ["branch", "weight", "AUC out of fold", "test AUC", "gain", "its standard error", "why"];
    page.table(&table(heads, rows), "The version tells of no branches.");
}

fn inputs(page: &mut Page, report: &Report) {
    page.picture(report, Kind::Importance);
    page.picture(report, Kind::Effect);
    page.sub("Columns of the relation");
    let rows = report.figures.features.iter().map(|feature| {
        let role = serde_json::to_value(feature.role).unwrap_or_default();
        [
            Some(feature.column_name.clone()),
            role.as_str().map(str::to_owned),
            Some(figure(Some(feature.missing_share), 3)),
            Some(feature.distinct_values.to_string()),
            Some(figure(feature.alone_auc, 3)),
            Some(feature.why.clone()),
        ]
    });
    let heads = ["column", "role", "missing share", "distinct values", "AUC alone", "why"];
    page.table(&table(heads, rows), "The version tells of no columns.");
}

fn periods(page: &mut Page, report: &Report) {
    let rows = report.figures.periods.iter().map(|period| {
        [
            Some(period.part.clone()),
            Some(period.period.clone()),
            Some(period.rows.to_string()),
            Some(figure(period.auc, 4)),
            Some(figure(Some(period.mean_score), 4)),
            Some(figure(Some(period.mean_outcome), 4)),
        ]
    });
    let heads = ["part", "period", "rows", "AUC", "mean score", "share of positive rows"];
    let none =
        "The version was trained without a time column: its test rows are drawn by hash from \
                all times, and nothing is known of its stability.";
    page.table(&table(heads, rows), none);
}

fn quantization(page: &mut Page, report: &Report) {
    page.paragraph(
        "What int8 changed against the float model; a version that misses the limits is not \
         published.",
    );
    page.facts(&report.gate, "The version tells of no gate.");
}

fn drift(page: &mut Page, report: &Report) {
    page.paragraph(
        "Population stability index against the rows that the version was fitted on: above 0.1 \
         moderate, above 0.25 large. The last 50 points of riskft_monitor.",
    );
    page.picture(report, Kind::Drift);
    page.sub("Scores beside matured outcomes");
    page.table(&report.outcomes, "riskft_monitor was given no outcomes for this version.");
}

fn versions(page: &mut Page, report: &Report) {
    page.table(&report.versions, "There are no versions.");
    page.sub("Deployments, the newest first");
    page.table(&report.deployments, "No version was deployed.");
    page.sub("Aliases");
    page.table(&report.aliases, "The model has no aliases.");
}

fn comparison(page: &mut Page, report: &Report) {
    page.paragraph(
        "A training compares its version with the deployed one on the same test rows, by DeLong's \
         paired standard error; the verdict is the reason of the deployment above, and stands in \
         the notices of the run. The figures below are each version's own, on its own test rows. \
         riskft_compare tests two versions on the same rows; it stores nothing, so its result \
         belongs beside this page.",
    );
    let versions = &report.versions;
    let wanted = ["version", "deployed", "test AUC", "test KS", "test Brier", "test ECE"];
    let places: Vec<usize> =
        wanted.iter().filter_map(|name| versions.heads.iter().position(|h| h == name)).collect();
    let pick = |row: &Vec<Option<String>>| -> Vec<Option<String>> {
        places.iter().map(|place| row.get(*place).cloned().flatten()).collect()
    };
    let heads = places.iter().map(|place| versions.heads[*place].clone()).collect();
    let picked = Table { heads, rows: versions.rows.iter().map(pick).collect() };
    match picked.rows.len() {
        0 | 1 => page.none("The model has one version."),
        _ => page.table(&picked, ""),
    }
    page.sub("A/B tests, the newest first");
    page.table(&report.ab_tests, "No A/B test of the model was started.");
    if !report.ab_tests.rows.is_empty() {
        page.picture(report, Kind::Ab);
        page.table(&report.ab_results, "No test was evaluated by riskft_ab_evaluate.");
    }
}

fn changes(page: &mut Page, report: &Report) {
    page.sub("The last 100 entries of the audit, the newest first");
    page.table(&report.audit, "The audit has no entries.");
    page.sub("Granted privileges");
    page.table(&report.privileges, "Nothing is granted that you may see.");
}

fn cost(page: &mut Page, report: &Report) {
    page.facts(&report.cost, OWNERS);
    page.table(&report.phases, "The phases of the run are not shown.");
    page.sub("Beside full fine-tuning");
    page.paragraph(
        "Each version of the model, and its trees alone, beside the latest version by full \
         fine-tuning, of whole-row text where there is one. A saved share of 0.9 is a tenth of its \
         wall time.",
    );
    page.table(&report.cost_comparison, OWNERS);
    if !report.cost_comparison.rows.is_empty() {
        page.picture(report, Kind::Cost);
    }
}

fn limits_of_use(page: &mut Page, report: &Report) {
    page.html.push_str("<ul>\n");
    for sentence in limits::sentences(&report.figures) {
        let _ = writeln!(page.html, "<li>{}</li>", escape(&sentence));
    }
    page.html.push_str("</ul>\n");
    page.sub("What the version has seen");
    page.table(
        &limits::ranges(&report.figures),
        "The version keeps no reference of its fitted rows.",
    );
}
