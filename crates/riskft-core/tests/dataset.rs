//! Target, names, split, roles and leak check on small tables. Case numbers are those of the
//! field cases in the project's issues.

mod common;

use common::{dataset, header, uniform};
use riskft_core::cell::{Cell, ColumnType, TypeHint};
use riskft_core::dataset::{prepare, Dataset, Part, Prepared};
use riskft_core::options::{Options, Role};
use riskft_core::refusal::Refusal;
use serde_json::json;
use ColumnType::{Bool, Date, Float, Int, Text};

fn ints(values: impl Iterator<Item = i64>) -> Vec<Cell<'static>> {
    values.map(Cell::Int).collect()
}

fn floats(seed: u64, rows: usize) -> Vec<Cell<'static>> {
    (0..rows).map(|i| Cell::Float(uniform(seed, i) * 1000.0)).collect()
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Vec<Cell<'a>> {
    values.map(Cell::Text).collect()
}

fn bools(values: impl Iterator<Item = bool>) -> Vec<Cell<'static>> {
    values.map(Cell::Bool).collect()
}

fn refused(data: &Dataset, target: &str, positive: Option<&str>) -> Refusal {
    let mut header = header(data, target);
    header.positive = positive.map(str::to_owned);
    prepare(data, &header).map(|_| ()).unwrap_err()
}

fn role(prepared: &Prepared, name: &str) -> (Role, String) {
    let report = prepared.reports.iter().find(|r| r.column_name == name).expect("a report");
    (report.role, report.why.clone())
}

/// F01: the positive class by word, by the caller, never by alphabet or size.
#[test]
fn the_positive_class() {
    let status = |i: usize| if i % 5 == 0 { "CHGOFF" } else { "P I F" };
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

/// Roles by values: F06, F09, F14, F15, F18.
#[test]
fn roles_of_text_columns() {
    let rows = 400;
    let own = |f: &dyn Fn(usize) -> String| (0..rows).map(f).collect::<Vec<String>>();
    let amount = own(&|i| match i {
        7 => "$12,0x".into(),
        i if i % 9 == 0 => format!("($1,{:03}.00)", i),
        i => format!("${},{:03}.50", 1 + i % 70, i % 1000),
    });
    let employees = own(&|i| ["10+ years", "< 1 year", "n/a", "3 years", "1 year"][i % 5].into());
    let zip = own(&|i| format!("0{}", 1000 + i % 37));
    let naics =
        own(&|i| if i % 8 == 0 { "0".into() } else { format!("{}", 722_110 + i % 50 * 1000) });
    let year = own(&|i| if i == 3 { "1976A".into() } else { format!("{}", 1997 + i % 16) });
    let revline = own(&|i| ["Y", "N", "0", "1", "T", "`", ""][i % 7].into());
    let date = own(&|i| format!("{:02}-Jul-{:02}", 1 + i % 28, (i * 7) % 100));
    let american = own(&|i| format!("{:02}/{:02}/2014", 1 + i % 12, 1 + i % 28));
    let european = own(&|i| format!("{}.{}.2014", 1 + i % 28, 1 + i % 12));
    let vague = own(&|i| format!("{}/{}/2014", 1 + i % 12, 1 + i % 7));
    let uuid = own(&|i| format!("{:08x}-1111-4222-8333-{:012x}", i * 65_537, i * i + 7));
    let loan = own(&|i| format!("LN-{:06}", i * 13));
    let name =
        own(&|i| format!("{} Store of {}", ["Pete's", "The", "Old", "Main"][i % 4], words(i)));
    let story = own(&|i| format!("I called the bank {} times about {}. ", i, words(i)).repeat(4));
    let bank = own(&|i| {
        if i % 2 == 0 {
            ["FIRST BANK", "SECOND BANK", "THIRD BANK"][i / 2 % 3].into()
        } else {
            format!("BANK OF {}", words(i))
        }
    });
    let mixed = own(&|i| format!("{} {}", i % 30, if i % 3 == 0 { "years" } else { "months" }));
    let columns: Vec<(&str, &Vec<String>, Role, &str)> = vec![
        ("amount", &amount, Role::Number, "numbers"),
        ("employees", &employees, Role::Number, "numbers"),
        ("zip", &zip, Role::Category, "leading zeros"),
        ("naics", &naics, Role::Category, "one length (6)"),
        ("year", &year, Role::Number, "numbers"),
        ("revline", &revline, Role::Category, "labels"),
        ("date", &date, Role::Date, "dates"),
        ("american", &american, Role::Date, "month first"),
        ("european", &european, Role::Date, "day first"),
        ("vague", &vague, Role::Date, "month first"),
        ("uuid", &uuid, Role::Identifier, "codes"),
        ("loan", &loan, Role::Identifier, "codes"),
        ("name", &name, Role::Text, "names"),
        ("story", &story, Role::Text, "sentences"),
        ("bank", &bank, Role::Text, "3 frequent"),
        ("mixed", &mixed, Role::Category, "labels"),
    ];
    let mut cells: Vec<(&str, ColumnType, Vec<Cell<'_>>)> = columns
        .iter()
        .map(|(name, values, _, _)| (*name, Text, texts(values.iter().map(String::as_str))))
        .collect();
    cells.push(("y", Bool, bools((0..rows).map(|i| uniform(11, i) < 0.3))));
    let data = dataset(&cells);
    let prepared = prepare(&data, &header(&data, "y")).expect("prepared");
    for (name, _, wanted, why) in columns {
        let (role, because) = role(&prepared, name);
        assert!(role == wanted && because.contains(why), "{name}: {role:?}, {because}");
    }
    let notices = prepared.notices.join("\n");
    for part in [
        "\"amount\": 1 of 400 cells is no number and counts as missing, such as \"$12,0x\"",
        "\"year\": 1 of 400 cells is no number",
        "\"vague\": dates fit day first and month first",
        "\"date\": years of two digits are read as 1947 to 2046",
        "left out as identifiers: \"uuid\"",
    ] {
        assert!(notices.contains(part), "{part} is not in\n{notices}");
    }
    assert!(!notices.contains("\"employees\""), "n/a is missing, not junk:\n{notices}");
}

/// Different words for each number, so that digits are not all that differs.
fn words(i: usize) -> String {
    let letters = |n: usize| (b'a' + (n % 26) as u8) as char;
    format!("{}{}{}{}", letters(i), letters(i / 26 + 4), letters(i * 7), letters(i / 3))
}

#[test]
fn roles_of_typed_columns() {
    let rows = 600;
    let data = dataset(&[
        ("row_no", Int, ints((0..rows as i64).map(|i| i * 1_000_003))),
        ("dense", Int, ints((0..rows as i64).rev())),
        ("income", Int, ints((0..rows).map(|i| (uniform(12, i) * 1e9) as i64))),
        ("big", Int, ints((0..rows).map(|i| 100_000_001 + 2 * i64::from(i % 2 == 0)))),
        ("flag", Int, ints((0..rows).map(|i| i64::from(i % 2 == 0)))),
        ("price", Float, floats(13, rows)),
        ("fixed", Float, vec![Cell::Float(3.0); rows]),
        ("empty", Text, vec![Cell::Null; rows]),
        ("blank", Text, vec![Cell::Text("  "); rows]),
        ("sic_code", Int, ints((0..rows).map(|i| 1111 + (i % 7) as i64))),
        ("y", Bool, bools((0..rows).map(|i| uniform(14, i) < 0.3))),
    ]);
    let prepared = prepare(&data, &header(&data, "y")).expect("prepared");
    for (name, wanted) in [
        ("row_no", Role::Identifier),
        ("dense", Role::Identifier),
        ("income", Role::Number),
        ("big", Role::Number),
        ("flag", Role::Flag),
        ("price", Role::Number),
        ("fixed", Role::Ignored),
        ("empty", Role::Ignored),
        ("blank", Role::Ignored),
        ("sic_code", Role::Number),
        ("y", Role::Target),
    ] {
        assert_eq!(role(&prepared, name).0, wanted, "{name}");
    }
    let mut hinted = dataset(&[
        ("label", Text, texts((0..rows).map(|i| ["x", "y"][i % 2]))),
        ("y", Bool, bools((0..rows).map(|i| i % 3 == 0))),
    ]);
    hinted.columns[0].source.hint = TypeHint::Identifier;
    let refusal = refused(&hinted, "y", None);
    assert!(refusal.message.contains("no column is left"), "{refusal:?}");
}

#[test]
fn roles_can_be_chosen_where_they_fit() {
    let data = dataset(&[
        ("n", Int, ints((0..300).map(|i| i % 40))),
        ("t", Text, texts((0..300).map(|i| ["red", "green", "blue"][i % 3]))),
        ("money", Text, texts((0..300).map(|i| ["$5", "$6", "much"][i % 3]))),
        ("id", Int, ints(0..300)),
        ("y", Bool, bools((0..300).map(|i| uniform(15, i) < 0.3))),
    ]);
    let with = |roles: serde_json::Value| {
        let mut header = header(&data, "y");
        header.options = Options::parse(&json!({ "roles": roles })).expect("options");
        prepare(&data, &header)
    };
    let prepared = with(json!({"n": "category", "t": "text", "money": "number", "id": "number"}))
        .expect("fit");
    for (name, wanted) in
        [("n", Role::Category), ("t", Role::Text), ("money", Role::Number), ("id", Role::Number)]
    {
        assert_eq!(role(&prepared, name), (wanted, "chosen in options.roles".to_owned()));
    }
    for (name, bad) in [
        ("n", "text"),
        ("n", "flag"),
        ("n", "date"),
        ("t", "number"),
        ("t", "date"),
        ("n", "target"),
        ("y", "number"),
    ] {
        let refusal = with(json!({ name: bad })).map(|_| ()).unwrap_err();
        assert_eq!(refusal.code, "22023", "{name} as {bad}");
        assert!(refusal.message.contains(name), "{name} as {bad}: {}", refusal.message);
    }
}

/// A column that tells the target, wholly or for a part of the rows, is named with its figure.
#[test]
fn leaks_are_named() {
    let rows = 2000;
    let y: Vec<bool> = (0..rows).map(|i| uniform(16, i) < 0.25).collect();
    let loss = |i: usize| if y[i] { 100.0 + uniform(17, i) } else { uniform(17, i) };
    let data = dataset(&[
        (
            "fair",
            Float,
            (0..rows)
                .map(|i| {
                    Cell::Float(uniform(18, i) + uniform(19, i) + 0.2 * f64::from(u8::from(y[i])))
                })
                .collect(),
        ),
        ("loss", Float, (0..rows).map(|i| Cell::Float(loss(i))).collect()),
        (
            "closed",
            Text,
            (0..rows)
                .map(|i| if y[i] && i % 2 == 0 { Cell::Text("legal") } else { Cell::Text("no") })
                .collect(),
        ),
        (
            "charged_on",
            Date,
            (0..rows).map(|i| if y[i] { Cell::Date(i as i32 % 50) } else { Cell::Null }).collect(),
        ),
        (
            "loan_id",
            Int,
            (0..rows).map(|i| Cell::Int(i as i64 + if y[i] { 100_000 } else { 0 })).collect(),
        ),
        ("noise", Text, texts((0..rows).map(|i| ["a", "b", "c"][i % 3]))),
        ("y", Bool, bools(y.iter().copied())),
    ]);
    let prepared = prepare(&data, &header(&data, "y")).expect("prepared");
    let warned =
        |name: &str| prepared.warnings.iter().find(|w| w.0.contains(&format!("\"{name}\"")));
    for (name, figure) in [
        ("loss", "AUC of 1.000"),
        ("closed", "\"legal\""),
        ("charged_on", "AUC of 1.000"),
        ("loan_id", "AUC of 1.000"),
    ] {
        let (_, detail) =
            warned(name).unwrap_or_else(|| panic!("{name} in {:?}", prepared.warnings));
        assert!(detail.contains(figure), "{name}: {detail}");
    }
    assert!(warned("fair").is_none() && warned("noise").is_none(), "{:?}", prepared.warnings);
    let alone = |name: &str| {
        prepared.reports.iter().find(|r| r.column_name == name).and_then(|r| r.alone_auc)
    };
    assert!(alone("noise").is_some_and(|auc| auc < 0.6) && alone("loss") == Some(1.0));
}

#[test]
fn sample_tables_get_sensible_roles() {
    let data = common::loans();
    let mut loans = header(&data, "defaulted");
    loans.method = riskft_core::options::Method::Lora;
    let prepared = prepare(&data, &loans).expect("prepared");
    for (name, wanted) in [
        ("loan_id", Role::Identifier),
        ("borrower", Role::Text),
        ("city", Role::Text),
        ("state", Role::Category),
        ("zip", Role::Category),
        ("bank", Role::Text),
        ("naics", Role::Category),
        ("approved_on", Role::Date),
        ("employees", Role::Number),
        ("revolving", Role::Flag),
        ("urban_rural", Role::Category),
        ("approved_gross", Role::Number),
    ] {
        assert_eq!(role(&prepared, name).0, wanted, "{name}");
    }
    assert_eq!(prepared.warnings, Vec::new());
    let data = common::complaints();
    let prepared = prepare(&data, &header(&data, "fee_issue")).expect("prepared");
    for (name, wanted) in [
        ("complaint_id", Role::Identifier),
        ("received_on", Role::Date),
        ("company", Role::Text),
        ("zip", Role::Category),
        ("narrative", Role::Text),
    ] {
        assert_eq!(role(&prepared, name).0, wanted, "{name}");
    }
    assert!(prepared.warnings.iter().any(|w| w.0.contains("issue")), "{:?}", prepared.warnings);
}
