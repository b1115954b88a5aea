//! Curves of test rows, pictures and the page of a report.

use riskft_core::curve::{bins, check, wilson, Curve, CurveBin};
use riskft_core::drift;
use riskft_core::metrics::{self, Metric};
use riskft_core::options::Role;
use riskft_core::protocol::{EffectReport, FeatureReport, Figures, ImportanceReport, PartMetric};
use riskft_core::report::{
    page, picture, text, ArmFigure, Beside, DriftPoint, Kind, Report, Table, TrainingCost,
};
use roxmltree::{Document, ParsingOptions};

/// What must never come out of a page as it went in.
const HOSTILE: &str =
    "</title><script>alert('x')</script>\" onload=\"y\" & é漢 \u{202e}\u{1}\u{fffe}]]>";

fn bin(upper: f64, mean_score: f64, rows: u64, positives: u64) -> CurveBin {
    CurveBin { upper, mean_score, rows, positives }
}

/// Scores and outcomes of many rows, where risk grows with the score.
fn sample(rows: usize) -> (Vec<f64>, Vec<bool>) {
    let score = |i: usize| (i * 7919 % 1000) as f64 / 1000.0;
    let label = |i: usize| (i * 104_729 % 997) as f64 / 997.0 < score(i) * score(i);
    ((0..rows).map(score).collect(), (0..rows).map(label).collect())
}

fn figures() -> Figures {
    let (scores, labels) = sample(5_000);
    let metrics = metrics::evaluate(&scores, &labels, 0.5);
    let of = |metric: Metric| PartMetric { part: "test".into(), metric };
    let effect = |ordinal: u32, value: Option<&str>, mean_score| EffectReport {
        column_name: HOSTILE.into(),
        ordinal,
        value: value.map(str::to_owned),
        mean_score,
        rows: 20,
    };
    Figures {
        metrics: metrics.into_iter().map(of).collect(),
        curve: bins(&scores, &labels),
        features: vec![FeatureReport {
            column_name: HOSTILE.into(),
            role: Role::Number,
            why: HOSTILE.into(),
            missing_share: 0.7,
            distinct_values: 3,
            alone_auc: None,
        }],
        importances: vec![ImportanceReport {
            column_name: HOSTILE.into(),
            mean_abs_shap: 0.4,
            share: 1.0,
        }],
        effects: vec![
            effect(1, Some("1"), 0.2),
            effect(2, Some(HOSTILE), 0.3),
            effect(3, None, 0.1),
        ],
        reference: vec![drift::score(&scores)],
        ..Figures::default()
    }
}

fn points() -> Vec<DriftPoint> {
    let point =
        |score| DriftPoint { day: HOSTILE.into(), score, worst: Some((HOSTILE.into(), 0.2)) };
    vec![point(Some(0.05)), point(None), point(Some(0.3))]
}

fn beside() -> Beside {
    let arm = |test, is_challenger, auc| ArmFigure {
        test,
        is_challenger,
        version: 1 + i32::from(is_challenger),
        auc,
        interval: (test > 1).then_some((auc - 0.02, auc + 0.02)),
    };
    let cost = TrainingCost { name: HOSTILE.into(), seconds: 12.5 };
    Beside {
        drift: points(),
        arms: vec![arm(1, false, 0.7), arm(2, false, 0.71), arm(2, true, 0.74)],
        costs: vec![cost.clone(), TrainingCost { seconds: 0.5, ..cost }],
    }
}

fn report() -> Report {
    let table = Table {
        heads: vec![HOSTILE.into(), "b".into()],
        rows: vec![vec![Some(HOSTILE.into()), None]],
    };
    Report {
        model: HOSTILE.into(),
        version: 7,
        made_at: "2026-01-01 00:00:00 UTC".into(),
        version_facts: table.clone(),
        run_facts: table.clone(),
        cost: table.clone(),
        phases: table.clone(),
        gate: table.clone(),
        outcomes: table.clone(),
        versions: table.clone(),
        deployments: table.clone(),
        aliases: table.clone(),
        ab_tests: table.clone(),
        ab_results: table.clone(),
        cost_comparison: table.clone(),
        privileges: table.clone(),
        audit: table,
        figures: figures(),
        beside: beside(),
    }
}

/// Parses as a browser's strictest mode would; panics with the place where it is not well formed.
fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// No script, no handler, no address, whatever went in.
fn harmless(text: &str) {
    let document = parsed(text);
    for node in document.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(!["script", "iframe", "object", "image", "use", "link", "foreignObject"]
            .contains(&name));
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{} of {name}", attribute.name());
            assert!(attribute.name() != "src", "{name} loads something");
            let local = attribute.name() != "href" || attribute.value().starts_with('#');
            assert!(local, "{} leads out", attribute.value());
        }
    }
    let rest = text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    assert!(!rest.contains("http"), "an address");
    for letter in ['\u{202e}', '\u{1}', '\u{fffe}'] {
        assert!(!text.contains(letter));
    }
}

#[test]
fn points_of_the_curves_are_those_worked_out_by_hand() {
    let three = [bin(0.2, 0.1, 10, 1), bin(0.5, 0.4, 10, 3), bin(0.9, 0.7, 20, 16)];
    let curve = Curve::of(&three).unwrap();
    assert_eq!((curve.rows(), curve.base_rate()), (40.0, 0.5));
    assert_eq!(curve.roc(), [(0.0, 0.0), (0.2, 0.8), (0.55, 0.95), (1.0, 1.0)]);
    assert_eq!(curve.precision_recall(), [(0.8, 0.8), (0.95, 19.0 / 30.0), (1.0, 0.5)]);
    let steps = [(0.0, 0.0, 0.0), (0.2, 0.45, 0.05), (0.5, 0.8, 0.2), (0.9, 1.0, 1.0)];
    assert_eq!(curve.cumulative(), steps);
    // The middles of the bins lie at 1/8, 3/8 and 3/4 of the rows.
    let two = curve.groups(2);
    assert_eq!(two, [bin(0.5, 0.25, 20, 4), bin(0.9, 0.7, 20, 16)]);
    assert_eq!(curve.groups(10).len(), 3);
    // The first bin covers 0 to 0.2, the second 0.2 to 0.5, the third 0.5 to 0.9.
    let halves = curve.spread(2);
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() + (a.1 - b.1).abs() < 1e-12;
    assert!(near(halves[0], (0.8, 0.2)) && near(halves[1], (0.2, 0.8)), "{halves:?}");
    assert!(Curve::of(&[bin(0.2, 0.1, 10, 10)]).is_none());
    assert!(Curve::of(&[]).is_none());
    // The bounds are the shares p with |3 / 10 - p| = z sqrt(p (1 - p) / 10).
    let (low, high) = wilson(3, 10).unwrap();
    for bound in [low, high] {
        let z = (0.3 - bound).abs() / (bound * (1.0 - bound) / 10.0).sqrt();
        assert!((z - 1.959_964).abs() < 1e-6, "{bound}");
    }
    assert!(low < 0.3 && high > 0.3);
    assert_eq!(wilson(0, 0), None);
}

/// The area below the drawn curve, by trapezoids.
fn area(points: &[(f64, f64)]) -> f64 {
    points.windows(2).map(|p| (p[1].0 - p[0].0) * (p[0].1 + p[1].1) / 2.0).sum()
}

#[test]
fn the_drawn_curve_has_nearly_the_area_of_all_rows() {
    let (scores, labels) = sample(5_000);
    let bins = bins(&scores, &labels);
    assert_eq!(bins.len(), 50);
    assert!(bins.iter().all(|bin| bin.rows == 100), "equal counts");
    let curve = Curve::of(&bins).unwrap();
    let (drawn, whole) = (area(&curve.roc()), metrics::auc(&scores, &labels).unwrap());
    assert!((drawn - whole).abs() < 2e-3, "{drawn} {whole}");
    let widest = curve.cumulative().iter().map(|s| (s.1 - s.2).abs()).fold(0.0, f64::max);
    let ks = metrics::ks(&scores, &labels).unwrap();
    assert!(widest <= ks + 1e-12 && widest > ks - 0.02, "{widest} {ks}");
    let total: f64 = curve.spread(20).iter().map(|share| share.0 + share.1).sum();
    assert!((total - 2.0).abs() < 1e-9, "{total}");
}

/// Whatever the ties, bins are what `check` takes, and no row is lost.
#[test]
fn bins_hold_all_rows_and_never_few() {
    for rows in [0_usize, 9, 10, 11, 19, 20, 29, 101, 499, 511, 5_000] {
        for values in [1, 2, 3, 7, 60, 100_000] {
            let scores: Vec<f64> =
                (0..rows).map(|i| (i * 7919 % values) as f64 / values as f64).collect();
            let labels: Vec<bool> = (0..rows).map(|i| i % 3 == 0).collect();
            let bins = bins(&scores, &labels);
            assert_eq!(check(&bins), Ok(()), "{rows} rows of {values} scores");
            let sum: u64 = bins.iter().map(|bin| bin.rows).sum();
            let positives: u64 = bins.iter().map(|bin| bin.positives).sum();
            let expected = if rows < 10 { (0, 0) } else { (rows as u64, rows.div_ceil(3) as u64) };
            assert_eq!((sum, positives), expected, "{rows} rows of {values} scores");
            for (place, bin) in bins.iter().enumerate() {
                let lower = if place == 0 { -1.0 } else { bins[place - 1].upper };
                let last = place + 1 == bins.len();
                let of = |s: &&f64| **s > lower && (last || **s <= bin.upper);
                let within = scores.iter().filter(of).count();
                assert_eq!(within as u64, bin.rows, "rows of one score are in one bin");
            }
        }
    }
    // An edge is no row's score, but where two bins' scores are neighbours among the floats.
    let two = bins(&[[0.25; 10], [0.5; 10]].concat(), &[true; 20]);
    assert_eq!(two, [bin(0.375, 0.25, 10, 10), bin(0.625, 0.5, 10, 10)]);
    let next = 0.25_f64.next_up();
    let two = bins(&[[0.25; 10], [next; 10]].concat(), &[false; 20]);
    assert_eq!((two[0].upper, check(&two)), (0.25, Ok(())));
    assert!(bins(&[f64::NAN; 20], &[true; 20]).is_empty());
    assert!(bins(&[0.5; 20], &[true; 19]).is_empty());
}

#[test]
fn every_picture_is_well_formed_and_says_what_it_is() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of(kind.name()), Some(kind));
        let svg = picture(kind, &figures(), &beside()).unwrap();
        harmless(&svg);
        let document = parsed(&svg);
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "svg");
        assert_eq!(root.attribute("role"), Some("img"));
        let children: Vec<_> = root.children().filter(|node| node.is_element()).collect();
        assert_eq!(children[0].tag_name().name(), "title");
        assert!(children[0].text().is_some_and(|title| title.len() > 5), "{kind:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{kind:?}");
        assert_eq!(picture(kind, &figures(), &beside()).unwrap(), svg, "the same twice");
    }
    let svg = picture(Kind::Roc, &figures(), &Beside::default()).unwrap();
    let auc = metrics::auc(&sample(5_000).0, &sample(5_000).1).unwrap();
    assert!(svg.contains(&format!("AUC {auc:.3}")), "the picture tells the AUC of all rows");
    assert!(svg.contains("5000 test rows, drawn from 50 bins"));
}

#[test]
fn what_cannot_be_drawn_says_why() {
    let none = Figures::default();
    for kind in Kind::ALL {
        let why = picture(kind, &none, &Beside::default()).unwrap_err();
        assert!(why.ends_with('.'), "{kind:?}: {why}");
    }
    let one = Figures { curve: vec![bin(0.2, 0.1, 10, 10)], ..Figures::default() };
    assert_eq!(
        picture(Kind::Roc, &one, &Beside::default()).unwrap_err(),
        "The test rows are of one class."
    );
    // Of figures that no training gives, too.
    let mut odd = figures();
    odd.effects.iter_mut().for_each(|effect| effect.mean_score = f64::INFINITY);
    odd.importances[0].mean_abs_shap = f64::NAN;
    odd.curve = vec![bin(1.0, 1.0, 10, 5)];
    let mut far = beside();
    far.drift = vec![DriftPoint { score: Some(f64::INFINITY), ..DriftPoint::default() }];
    far.arms[0].auc = f64::NAN;
    far.arms[1].interval = Some((f64::NEG_INFINITY, f64::INFINITY));
    far.costs[0].seconds = f64::INFINITY;
    for kind in Kind::ALL {
        parsed(&picture(kind, &odd, &far).unwrap());
    }
}

#[test]
fn a_page_holds_every_section_and_nothing_that_runs() {
    let html = page(&report());
    harmless(&html);
    let document = parsed(&html);
    let headings: Vec<_> = document
        .descendants()
        .filter(|node| node.tag_name().name() == "h2")
        .filter_map(|node| node.attribute("id"))
        .collect();
    let expected = [
        "version",
        "lineage",
        "performance",
        "branches",
        "inputs",
        "periods",
        "quantization",
        "drift",
        "versions",
        "comparison",
        "changes",
        "cost",
        "limits",
    ];
    assert_eq!(headings, expected);
    let pictures = document.descendants().filter(|node| node.tag_name().name() == "svg").count();
    assert_eq!(pictures, Kind::ALL.len());
    assert_eq!(page(&report()), html, "nothing differs between two calls");
    // The cells say what went in, as far as a page can.
    let shown = text::plain(HOSTILE);
    let cells = document.descendants().filter(|node| node.tag_name().name() == "td");
    assert!(cells.filter(|cell| cell.text() == Some(&shown)).count() > 8);
    let empty = page(&Report::default());
    harmless(&empty);
    assert!(empty.contains("No picture of roc: The version keeps no scores"));
    let long = Report { model: "é".repeat(100_000), ..Report::default() };
    harmless(&page(&long));
}

#[test]
fn texts_are_escaped_and_cut_at_characters() {
    assert_eq!(
        text::escape("<a href='x'>&\"</a>"),
        "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;"
    );
    assert_eq!(text::escape("a\0b\u{7f}\u{85}c\nd\re"), "a\u{fffd}b\u{fffd}\u{fffd}c\nd e");
    assert_eq!(text::short("éßø", 3), "éßø");
    assert_eq!(text::short("éßøx", 3), "éß…");
    assert_eq!(text::figure(None, 2), "–");
    assert_eq!(text::figure(Some(f64::NAN), 2), "–");
    assert_eq!(text::figure(Some(0.125), 4), "0.1250");
}
