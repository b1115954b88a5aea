use super::{Outcome, Readings, Rule, MAX_BYTES, MAX_DEPTH};
use crate::drift::{Kind, Line};

fn line(column_name: &str, kind: Kind, psi: f64, missing: f64, unseen: Option<f64>) -> Line {
    let share = (kind != Kind::Score).then_some(missing);
    Line {
        column_name: column_name.into(),
        kind,
        psi: Some(psi),
        alarm: (psi > 0.25).then(|| "large".into()),
        missing_share: share,
        missing_share_reference: share.map(|_| 0.1),
        unseen_share: unseen,
        rows: 1000,
    }
}

fn lines() -> Vec<Line> {
    vec![
        line("score", Kind::Score, 0.3, 0.0, None),
        line("bank", Kind::Label, 0.12, 0.1, Some(0.05)),
        line("Loan \"Amount\"", Kind::Number, 0.4, 0.35, None),
    ]
}

const OUTCOME: Outcome =
    Outcome { auc: Some(0.68), ece: Some(0.04), mean_score: 0.2, mean_outcome: 0.25 };

fn holds(rule: &str, outcome: Option<Outcome>) -> Option<bool> {
    let lines = lines();
    let rule = Rule::parse(rule).unwrap_or_else(|e| panic!("{rule}: {e:?}"));
    rule.holds(&Readings { lines: &lines, rows: 1000, outcome })
}

#[test]
fn quantities_are_those_of_the_point() {
    for (rule, expected) in [
        ("psi > 0.25", true),
        ("psi > 0.3", false),
        ("psi >= 0.3", true),
        ("PSI < 3e-1", false),
        ("psi <= +.3", true),
        ("csi = 0.4", true),
        ("csi(bank) = 0.12", true),
        ("csi(BANK) <> 0.12", false),
        ("csi(\"Loan \"\"Amount\"\"\") > 0.39", true),
        ("missing > 0.249", true),
        ("missing(bank) = 0", true),
        ("unseen = 5e-2", true),
        ("unseen (bank) != 0.05", false),
        ("alarms = 2", true),
        ("rows >= 1000", true),
        ("auc < 0.7", true),
        ("ece>0.03", true),
        ("mean_score = 0.2 and mean_outcome = 0.25", true),
        ("calibration = 0.8", true),
        ("calibration > -1", true),
    ] {
        assert_eq!(holds(rule, Some(OUTCOME)), Some(expected), "{rule}");
    }
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    for (rule, expected) in [
        ("psi > 1 and psi > 1 or psi > 0", true),
        ("psi > 0 or psi > 1 and psi > 1", true),
        ("(psi > 0 or psi > 1) and psi > 1", false),
        ("not psi > 1 and psi > 0", true),
        ("not (psi > 1 or psi > 0)", false),
        ("not not psi > 0", true),
        ("Not psi > 1 AND rows > 0", true),
    ] {
        assert_eq!(holds(rule, None), Some(expected), "{rule}");
    }
}

/// SQL's three values: what is unknown decides nothing, and what is known may decide without it.
#[test]
fn unknown_spreads_as_null_does() {
    for (rule, expected) in [
        ("auc < 0.7", None),
        ("not auc < 0.7", None),
        ("auc < 0.7 or psi > 0", Some(true)),
        ("auc < 0.7 or psi > 1", None),
        ("auc < 0.7 and psi > 1", Some(false)),
        ("auc < 0.7 and psi > 0", None),
        ("csi(no_such_column) > 0", None),
    ] {
        assert_eq!(holds(rule, None), expected, "{rule}");
    }
    let one_class = Outcome { auc: None, mean_outcome: 0.0, ..OUTCOME };
    assert_eq!(holds("auc < 2", Some(one_class)), None);
    assert_eq!(holds("calibration > 0", Some(one_class)), None);
}

#[test]
fn a_reason_tells_the_values() {
    let rule = Rule::parse("psi > 0.25 or csi(bank) > 1 or psi > 2 or auc < 0.1").expect("a rule");
    let lines = lines();
    let told = rule.values(&Readings { lines: &lines, rows: 10, outcome: None });
    assert_eq!(told, "psi 0.3, csi(\"bank\") 0.12, auc unknown");
}

#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    for (rule, code, detail) in [
        ("", "42601", "Expected is a quantity, not, or an opening parenthesis."),
        ("psi", "42601", "Expected is a comparison: <, <=, >, >=, = or <> at the end of \"psi\"."),
        ("psi > ", "42601", "Expected is a number at the end of \"psi >\"."),
        ("psi > csi", "42601", "Expected is a number at the end of \"psi > csi\"."),
        ("psi > 1 psi", "42601", "Expected is and, or, or the rule's end at the end of \"psi > 1 psi\"."),
        ("(psi > 1", "42601", "Expected is a closing parenthesis at the end of \"(psi > 1\"."),
        ("psi > 1)", "42601", "Expected is and, or, or the rule's end at the end of \"psi > 1)\"."),
        ("psi(bank) > 1", "42601", "psi is not told of a column."),
        ("csi() > 1", "42601", "Expected is a column at the end of \"csi()\"."),
        ("csi(\"bank) > 1", "42601", "A column between double quotes has no end."),
        ("psi > 1; DROP TABLE loans", "42601", "\";\" has no meaning in a rule."),
        ("psi > 1e", "42601", "\"1e\" is no number."),
        ("psi > 1.2.3", "42601", "\"1.2.3\" is no number."),
        ("psi > 1e999", "22023", "1e999 is beyond float8."),
        ("psi > +inf", "22023", "+inf is beyond float8."),
        (
            "ps > 1",
            "22023",
            "Rules read psi, csi, missing, unseen, alarms, rows, auc, ece, mean_score, mean_outcome, calibration.",
        ),
    ] {
        let refusal = Rule::parse(rule).expect_err(rule);
        assert_eq!((refusal.code.as_str(), refusal.detail.as_str()), (code, detail), "{rule}");
        assert!(!refusal.hint.is_empty());
    }
}

#[test]
fn a_rule_has_bounds() {
    let deep = |depth: usize| format!("{}psi > 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Rule::parse(&deep(MAX_DEPTH - 1)).is_ok());
    assert_eq!(Rule::parse(&deep(MAX_DEPTH)).expect_err("deep").code, "54000");
    assert_eq!(Rule::parse(&"not ".repeat(400)).expect_err("nots").code, "54000");
    assert_eq!(Rule::parse(&"x".repeat(MAX_BYTES + 1)).expect_err("long").code, "54000");
    let wide = vec!["psi > 1"; 150].join(" or ");
    assert!(Rule::parse(&wide).is_ok());
}
