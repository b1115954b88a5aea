//! Target, names and split on small tables. Case numbers are those of the field cases in the
//! project's issues.

mod common;

use common::{bools, dataset, floats, header, ints, refused, texts, uniform};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{prepare, Part};
use riskft_core::options::Options;
use serde_json::json;
use ColumnType::{Bool, Date, Float, Int, Text};

/// F01: the positive class by word, by the caller, never by alphabet or size.
#[test]
fn the_positive_class() {
    let status = |i: usize| if i.is_multiple_of(5) { "CHGOFF" } else { "P I F" };
    let data = dataset(&[
        ("amount", Float, floats(1, 300)),
        ("status", Text, texts((0..300).map(status))),
        ("code", Int, ints((0..300).map(|i| if i % 10 < 7 { 1 } else { 2 }))),
        ("kind", Text, texts((0..300).map(|i| ["A", "B", "C"][i % 3]))),
        ("flag", Int, ints((0..300).map(|i| i64::from(i % 4 == 0)))),
        ("late", Bool, bools((0..300).map(|i| i % 4 == 0))),
    ]);
    let prepared = prepare(&data, &header(&data, "status")).expect("a bad word decides");
    assert_eq!(
        (prepared.positive_label.as_str(), prepared.negative_label.as_str()),
        ("CHGOFF", "P I F")
    );
    assert_eq!(prepared.labels[0], Some(true));
    assert!(prepared.notices.iter().any(|n| n.contains("CHGOFF")), "{:?}", prepared.notices);

    let refusal = refused(&data, "code", None);
    assert_eq!(refusal.code, "22023");
    assert_eq!(refusal.detail, "The labels are \"1\" (210 rows) and \"2\" (90 rows).");
    assert!(refusal.hint.contains("positive => '1' or positive => '2'"), "{}", refusal.hint);
    let mut given = header(&data, "code");
    given.positive = Some("2".into());
    assert_eq!(prepare(&data, &given).expect("given").positive_label, "2");

    assert!(refused(&data, "kind", None).message.contains("more than two labels"));
    let mut given = header(&data, "kind");
    given.positive = Some("B".into());
    let prepared = prepare(&data, &given).expect("one against the rest");
    assert_eq!(prepared.negative_label, "not B");
    assert!(prepared.notices[0].contains("the other 2 labels are negative"));
    let refusal = refused(&data, "kind", Some("b"));
    assert!(refusal.hint.contains("'B'"), "{}", refusal.hint);

    let prepared = prepare(&data, &header(&data, "flag")).expect("0 and 1");
    assert_eq!(prepared.positive_label, "1");
    let prepared = prepare(&data, &header(&data, "late")).expect("boolean");
    assert_eq!(prepared.positive_label, "true");
    let mut given = header(&data, "late");
    given.positive = Some("f".into());
    assert_eq!(prepare(&data, &given).expect("given").positive_label, "false");
}

/// F02: rows without a label change nothing but their count.
#[test]
fn unlabelled_rows_leave() {
    let amount: Vec<Cell<'_>> = floats(2, 1000);
    let label = |i: usize| match (i % 10, i % 3) {
        (0, 0) => Cell::Null,
        (0, 1) => Cell::Text(""),
        (0, _) => Cell::Text("  "),
        (_, 0) => Cell::Text("bad"),
        _ => Cell::Text("good"),
    };
    let data =
        dataset(&[("amount", Float, amount.clone()), ("y", Text, (0..1000).map(label).collect())]);
    let prepared = prepare(&data, &header(&data, "y")).expect("two labels");
    let count = |part| prepared.rows(part).len();
    assert_eq!(count(Part::Unlabelled), 100);
    assert_eq!(Part::LABELLED.map(count).iter().sum::<usize>(), 900);
    assert!(prepared.notices[0].contains("100 rows without a label"), "{:?}", prepared.notices);

    let kept: Vec<usize> = (0..1000).filter(|i| i % 10 != 0).collect();
    let smaller = dataset(&[
        ("amount", Float, kept.iter().map(|i| amount[*i]).collect()),
        ("y", Text, kept.iter().map(|i| label(*i)).collect()),
    ]);
    let alone = prepare(&smaller, &header(&smaller, "y")).expect("two labels");
    for (place, row) in kept.iter().enumerate() {
        assert_eq!(alone.parts[place], prepared.parts[*row]);
    }
    let h = header(&data, "y");
    assert_eq!(
        riskft_core::encode::fit(&data, &prepared, &h),
        riskft_core::encode::fit(&smaller, &alone, &h)
    );
}

#[test]
fn targets_that_cannot_be_trained() {
    let data = dataset(&[
        ("x", Float, floats(3, 60)),
        ("one", Bool, bools((0..60).map(|_| true))),
        ("none", Bool, vec![Cell::Null; 60]),
        ("few", Bool, bools((0..60).map(|i| i < 9))),
        ("ten", Bool, bools((0..60).map(|i| i < 10))),
        ("real", Float, floats(4, 60)),
        ("nan", Float, vec![Cell::Float(f64::NAN); 60]),
    ]);
    for (target, message) in [
        ("one", "one label only"),
        ("none", "no row"),
        ("few", "too few rows"),
        ("real", "more than two labels"),
        ("nan", "no row"),
    ] {
        let refusal = refused(&data, target, None);
        assert_eq!(refusal.code, "22023", "{target}");
        assert!(refusal.message.contains(message), "{target}: {}", refusal.message);
        assert!(!refusal.detail.is_empty(), "{target}");
    }
    assert!(prepare(&data, &header(&data, "ten")).is_ok());
    assert!(refused(&data, "one", Some("true")).message.contains("one class only"));
}

/// F25: names are compared byte for byte, and a near miss is shown with its hidden characters.
#[test]
fn names_that_do_not_exist() {
    let y = || bools((0..60).map(|i| i % 2 == 0));
    let data = dataset(&[
        ("\u{feff}id", Bool, y()),
        ("a b", Float, floats(5, 60)),
        ("a_b", Float, floats(6, 60)),
        ("сумма", Float, floats(7, 60)),
    ]);
    let refusal = refused(&data, "id", None);
    assert_eq!(refusal.code, "42703");
    assert!(refusal.hint.contains("<U+FEFF>id"), "{}", refusal.hint);

    let mut wrong = header(&data, "\u{feff}id");
    wrong.exclude = vec!["сума".into()];
    let refusal = prepare(&data, &wrong).map(|_| ()).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.hint.as_str()),
        ("42703", "Perhaps you meant \"сумма\".")
    );
    let mut wrong = header(&data, "\u{feff}id");
    wrong.time_column = Some("when".into());
    assert_eq!(prepare(&data, &wrong).map(|_| ()).unwrap_err().code, "42703");
    let mut wrong = header(&data, "\u{feff}id");
    wrong.options = Options::parse(&json!({"roles": {"a-b": "number"}})).expect("options");
    let refusal = prepare(&data, &wrong).map(|_| ()).unwrap_err();
    assert!(refusal.detail.contains("options.roles"), "{refusal:?}");
    let mut wrong = header(&data, "\u{feff}id");
    wrong.exclude = vec!["\u{feff}id".into()];
    assert_eq!(prepare(&data, &wrong).map(|_| ()).unwrap_err().code, "22023");

    let prepared = prepare(&data, &header(&data, "\u{feff}id")).expect("three features");
    assert_eq!(prepared.reports.len(), 4);
    let twice =
        dataset(&[("y", Bool, y()), ("a", Float, floats(5, 60)), ("a", Float, floats(6, 60))]);
    assert!(refused(&twice, "y", None).message.contains("not unique"));
}

/// F05: neither the order of rows, nor of columns, nor of batches matters; the seed does.
#[test]
fn the_split_follows_the_values_alone() {
    let rows = 1000;
    let x = floats(8, rows);
    let t: Vec<String> = (0..rows).map(|i| format!("name {i}")).collect();
    let y: Vec<bool> = (0..rows).map(|i| uniform(9, i) < 0.2).collect();
    let build = |order: &[usize], swapped: bool| {
        let x = ("x", Float, order.iter().map(|i| x[*i]).collect());
        let t = ("t", Text, order.iter().map(|i| Cell::Text(&t[*i])).collect());
        let y = ("y", Bool, order.iter().map(|i| Cell::Bool(y[*i])).collect());
        if swapped {
            dataset(&[y, t, x])
        } else {
            dataset(&[x, t, y])
        }
    };
    let plain: Vec<usize> = (0..rows).collect();
    let mut sorted = plain.clone();
    sorted.sort_by_key(|i| (y[*i], std::cmp::Reverse(*i)));
    let first = build(&plain, false);
    let second = build(&sorted, true);
    let a = prepare(&first, &header(&first, "y")).expect("prepared");
    let b = prepare(&second, &header(&second, "y")).expect("prepared");
    for (place, row) in sorted.iter().enumerate() {
        assert_eq!(a.parts[*row], b.parts[place]);
        assert_eq!(a.row_hashes[*row], b.row_hashes[place]);
    }
    for part in Part::LABELLED {
        let of =
            |class: bool| a.rows(part).iter().filter(|r| y[**r as usize] == class).count() as f64;
        let (rows, share) = (of(true) + of(false), of(true) / (of(true) + of(false)));
        let base = y.iter().filter(|y| **y).count() as f64 / 1000.0;
        assert!(rows >= 99.0 && (share - base).abs() < 0.01, "{part:?} {rows} {share}");
    }
    let mut seeded = header(&first, "y");
    seeded.options.seed = 1;
    assert_ne!(prepare(&first, &seeded).expect("prepared").parts, a.parts);
}

#[test]
fn zero_and_minus_zero_hash_alike() {
    let of = |value: f64| {
        let data = dataset(&[("x", Float, vec![Cell::Float(value)])]);
        riskft_core::dataset::hash::row_hashes(&data, 0, |_| true)[0]
    };
    assert_eq!(of(0.0), of(-0.0));
    assert_eq!(of(f64::NAN), of(-f64::NAN));
    assert_ne!(of(0.0), of(f64::NAN));
    // Frozen: stored hashes of training rows must stay comparable.
    assert_eq!(of(1.0), 0xf323_8274_ff41_7f34);
}

#[test]
fn a_time_column_orders_the_parts() {
    let day = |i: usize| (i * 7919 % 400) as i32;
    let data = dataset(&[
        ("x", Float, floats(10, 400)),
        ("when", Date, (0..400).map(|i| Cell::Date(day(i))).collect()),
        ("y", Bool, bools((0..400).map(|i| i % 3 == 0))),
        ("note", Text, texts((0..400).map(|_| "nothing to see"))),
    ]);
    let mut timed = header(&data, "y");
    timed.time_column = Some("when".into());
    let prepared = prepare(&data, &timed).expect("prepared");
    let latest = |part| prepared.rows(part).iter().map(|r| day(*r as usize)).max();
    let oldest = |part| prepared.rows(part).iter().map(|r| day(*r as usize)).min();
    for pair in Part::LABELLED.windows(2) {
        assert!(latest(pair[0]) < oldest(pair[1]));
    }
    assert_eq!(prepared.rows(Part::Test).len(), 80);
    timed.time_column = Some("note".into());
    assert_eq!(prepare(&data, &timed).map(|_| ()).unwrap_err().code, "22023");
}
