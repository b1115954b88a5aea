//! Roles by type and by values, chosen roles, and the leak check.

mod common;

use common::{bools, dataset, floats, header, ints, refused, texts, uniform};
use riskft_core::cell::{Cell, ColumnType, TypeHint};
use riskft_core::dataset::{prepare, Prepared};
use riskft_core::options::{Options, Role};
use serde_json::json;
use ColumnType::{Bool, Date, Float, Int, Text};

fn role(prepared: &Prepared, name: &str) -> (Role, String) {
    let report = prepared.reports.iter().find(|r| r.column_name == name).expect("a report");
    (report.role, report.why.clone())
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
    // Names alone say nothing to a method without an encoder.
    let names: Vec<String> = (0..rows).map(|i| format!("shop of {}", words(i))).collect();
    let named = dataset(&[
        ("name", Text, texts(names.iter().map(String::as_str))),
        ("y", Bool, bools((0..rows).map(|i| i % 3 == 0))),
    ]);
    assert!(refused(&named, "y", None).hint.contains("method that reads texts"));
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
