//! Encodings: positions, labels, odd cells, sane widths.

mod common;

use common::{dataset, encoded, fitted, fitted_with, header, position, single, texts, uniform, y};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::encode::*;
use riskft_core::options::{Method, Options, Role};
use serde_json::json;
use ColumnType::{Bool, Date, Float, Int, Text, Timestamp};

#[test]
fn positions_are_bins_and_fractions() {
    let e = single(Float, Role::Number, TextFormat::Plain, vec![0.0, 10.0, 20.0, 60.0]);
    for (value, wanted) in [
        (-5.0, 0.0),
        (0.0, 0.0),
        (5.0, 0.5),
        (10.0, 1.0),
        (15.0, 1.5),
        (30.0, 2.25),
        (60.0, 3.0),
        (1e308, 3.0),
    ] {
        assert_eq!(position(&e, Cell::Float(value)), wanted, "{value}");
    }
    assert_eq!(position(&e, Cell::Int(5)), 0.5);
    // F08: NaN, infinity and NULL are one.
    for cell in [
        Cell::Null,
        Cell::Float(f64::NAN),
        Cell::Float(f64::INFINITY),
        Cell::Float(f64::NEG_INFINITY),
    ] {
        assert!(position(&e, cell).is_nan(), "{cell:?}");
    }
}

/// F13, F14, F15: unseen labels share one code; '0' is not 'N', '01221' is not '1221'.
#[test]
fn labels_are_kept_apart() {
    let rows = 2000;
    let flags: Vec<&str> = (0..rows).map(|i| ["Y", "N", "0", "1", "T", "`", ""][i % 7]).collect();
    let zips: Vec<&str> = (0..rows).map(|i| ["01221", "1221", "12334"][i % 3]).collect();
    let years: Vec<String> = (0..rows)
        .map(|i| if i == 9 { "1976A".into() } else { format!("{}", 1997 + i % 16) })
        .collect();
    let data = dataset(&[
        (
            "revline",
            Text,
            flags.iter().map(|f| if f.is_empty() { Cell::Null } else { Cell::Text(f) }).collect(),
        ),
        ("zip", Text, zips.iter().map(|z| Cell::Text(z)).collect()),
        ("fy", Text, texts(years.iter().map(String::as_str))),
        y(rows),
    ]);
    let e = fitted(&data);
    let code = |name: &str, text: Cell<'_>| {
        let index = e.categories.iter().position(|c| c.name == name).expect("a category");
        let cells: Vec<Cell<'_>> =
            e.columns.iter().map(|c| if c.name == name { text } else { Cell::Null }).collect();
        let mut row = EncodedRow::default();
        e.encode_row(&cells, &mut row);
        row.codes[index]
    };
    let seen: std::collections::BTreeSet<u32> =
        ["Y", "N", "0", "1", "T", "`"].iter().map(|t| code("revline", Cell::Text(t))).collect();
    assert_eq!(seen.into_iter().collect::<Vec<u32>>(), vec![2, 3, 4, 5, 6, 7]);
    assert_eq!(code("revline", Cell::Text("ZZ")), 0);
    assert_eq!(code("revline", Cell::Text("QQ")), 0);
    assert_eq!(code("revline", Cell::Text("")), 1);
    assert_eq!(code("revline", Cell::Text("  ")), 1);
    assert_eq!(code("revline", Cell::Null), 1);
    assert_eq!(code("revline", Cell::Text(" Y ")), code("revline", Cell::Text("Y")));
    assert_eq!(code("revline", Cell::Int(0)), code("revline", Cell::Text("0")));
    assert_eq!(code("revline", Cell::Float(1.0)), code("revline", Cell::Text("1")));
    let codes: Vec<u32> =
        ["01221", "1221", "12334"].iter().map(|z| code("zip", Cell::Text(z))).collect();
    assert!(
        codes[0] != codes[1] && codes[1] != codes[2] && codes.iter().all(|c| *c >= 2),
        "{codes:?}"
    );
    let fy = e.numbers.iter().find(|n| n.name == "fy").expect("a number");
    assert_eq!((fy.edges[0], *fy.edges.last().expect("edges")), (1997.0, 2012.0));
}

/// Any cell in any column gives a value or "missing", never a panic.
#[test]
fn every_cell_fits_every_column() {
    let long = "ﷺ".repeat(20_000);
    let cells = [
        Cell::Null,
        Cell::Bool(true),
        Cell::Int(i64::MIN),
        Cell::Int(i64::MAX),
        Cell::Float(-0.0),
        Cell::Float(f64::MAX),
        Cell::Float(f64::MIN_POSITIVE),
        Cell::Text(""),
        Cell::Text("\u{301}"),
        Cell::Text("+"),
        Cell::Text("1e"),
        Cell::Text("Jan"),
        Cell::Text("é1-é2-2014"),
        Cell::Text("2014-03-31 +é"),
        Cell::Text("99999999999999999999-01-01"),
        Cell::Text(&long),
        Cell::Date(i32::MIN),
        Cell::Date(i32::MAX),
        Cell::Timestamp(i64::MIN),
        Cell::Timestamp(i64::MAX),
    ];
    for kind in [Bool, Int, Float, Text, Date, Timestamp] {
        for role in [Role::Number, Role::Flag, Role::Date, Role::Category, Role::Text] {
            for format in [TextFormat::Plain, TextFormat::Number, TextFormat::DateMonthFirst] {
                let mut e = single(kind, role, format, vec![-1.0, 0.5, 1e9]);
                for source in [
                    NumberSource::Year(0),
                    NumberSource::Month(0),
                    NumberSource::Weekday(0),
                    NumberSource::Ratio(0, 0),
                ] {
                    e.numbers.push(NumberInput { name: "n".into(), source, edges: vec![0.0, 1.0] });
                }
                for source in [
                    CategorySource::Value(0),
                    CategorySource::Prefix(0, 2),
                    CategorySource::Equal(0, 0),
                ] {
                    e.categories.push(CategoryInput {
                        name: "c".into(),
                        source,
                        values: vec!["true".into()],
                        added: Vec::new(),
                    });
                }
                e.texts = vec![
                    TextInput { name: "t".into(), source: TextSource::Column(0), max_tokens: 32 },
                    TextInput { name: "r".into(), source: TextSource::Row, max_tokens: 32 },
                ];
                let mut row = EncodedRow::default();
                for cell in cells {
                    e.encode_row(&[cell], &mut row);
                    assert!(
                        row.positions.iter().all(|p| p.is_nan() || (0.0..=2.0).contains(p)),
                        "{cell:?}"
                    );
                    assert!(row.codes.iter().all(|c| *c <= 2), "{cell:?}");
                }
                e.encode_row(&[], &mut row);
                assert!(row.positions.iter().all(|p| p.is_nan()) && row.codes == [1, 1, 1]);
            }
        }
    }
}

#[test]
fn a_row_serialises_by_name() {
    let data = dataset(&[
        ("loan_amount", Float, vec![Cell::Float(50_000.0); 60]),
        ("state", Text, (0..60).map(|i| Cell::Text(["CA ", "NY", ""][i % 3])).collect()),
        ("opened", Date, (0..60).map(|i| Cell::Date(11_017 + i)).collect()),
        y(60),
    ]);
    let mut row_wise = header(&data, "y");
    row_wise.method = Method::Full;
    row_wise.options = Options::parse(&json!({"text": "row"})).expect("options");
    let mut data = data;
    if let riskft_core::dataset::ColumnData::Float(v) = &mut data.columns[0].data {
        v[1] = 1.5;
    }
    let e = fitted_with(&data, &row_wise);
    assert!(e.numbers.is_empty() && e.categories.is_empty());
    assert_eq!(e.texts.len(), 1);
    let text = |row| encoded(&data, &e, row).texts[0].clone();
    assert_eq!(text(0), "loan amount is 50000; state is CA; opened is 2000-03-01");
    assert_eq!(text(1), "loan amount is 1.5; state is NY; opened is 2000-03-02");
    assert_eq!(text(2), "loan amount is 50000; opened is 2000-03-03");
}

/// Widths stay sane: no columns explode, whatever the table's width.
#[test]
fn widths_are_bounded() {
    for columns in [5usize, 1000] {
        let names: Vec<String> = (0..columns).map(|i| format!("c{i:04}")).collect();
        let mut cells: Vec<(&str, ColumnType, Vec<Cell<'_>>)> = names
            .iter()
            .enumerate()
            .map(|(c, name)| {
                let cells = (0..300).map(|i| Cell::Float(1e4 * uniform(c as u64 + 7, i)));
                (name.as_str(), Float, cells.collect())
            })
            .collect();
        cells.push(y(300));
        let data = dataset(&cells);
        let e = fitted(&data);
        let pairs = columns.min(8) * (columns.min(8) - 1) / 2;
        assert_eq!(e.numbers.len(), columns + pairs);
        assert!(e
            .numbers
            .iter()
            .all(|n| n.edges.len() <= MAX_EDGES && n.edges.windows(2).all(|w| w[0] < w[1])));
    }
}

#[test]
fn only_needed_columns_are_kept() {
    let names: Vec<String> =
        (0..300).map(|i| format!("{} shop {}", ["red", "old"][i % 2], word(i))).collect();
    let half: Vec<Cell<'_>> =
        (0..300).map(|i| if i % 2 == 0 { Cell::Float(7.0) } else { Cell::Null }).collect();
    let data = dataset(&[
        ("name", Text, texts(names.iter().map(String::as_str))),
        ("half", Float, half),
        ("x", Float, (0..300).map(|i| Cell::Float(uniform(9, i))).collect()),
        y(300),
    ]);
    let of = |method| {
        let mut header = header(&data, "y");
        header.method = method;
        fitted_with(&data, &header)
    };
    let none: Vec<String> = of(Method::None).columns.into_iter().map(|c| c.name).collect();
    assert_eq!(none, ["half", "x"]);
    let lora = of(Method::Lora);
    assert_eq!(lora.columns.len(), 3);
    assert_eq!(lora.texts[0].max_tokens, 32);
    assert_eq!(encoded(&data, &lora, 4).texts, [names[4].as_str()]);
    // A constant that is missing at times tells by that alone.
    assert_eq!(lora.numbers[0].edges, [7.0, 8.0]);
    let json = serde_json::to_string(&lora).expect("an encoding serialises");
    assert_eq!(serde_json::from_str::<Encoding>(&json).expect("and parses"), lora);
}

fn word(i: usize) -> String {
    let letters = |n: usize| (b'a' + (n % 26) as u8) as char;
    format!("{}{}{}{}", letters(i), letters(i / 26 + 4), letters(i * 7), letters(i / 3))
}

#[test]
fn columns_of_the_same_labels_are_compared() {
    let states = ["CA", "NY", "TX", "FL"];
    let at = |seed: u64, i: usize| states[(uniform(seed, i) * 4.0) as usize];
    let data = dataset(&[
        ("state", Text, (0..2000).map(|i| Cell::Text(at(20, i))).collect()),
        ("bank_state", Text, (0..2000).map(|i| Cell::Text(at(21, i))).collect()),
        ("colour", Text, (0..2000).map(|i| Cell::Text(["red", "green", "blue"][i % 3])).collect()),
        y(2000),
    ]);
    let e = fitted(&data);
    let pairs: Vec<&str> =
        e.categories.iter().map(|c| c.name.as_str()).filter(|n| n.contains('=')).collect();
    assert_eq!(pairs, ["state = bank_state"]);
    for row in 0..50 {
        let wanted = if at(20, row) == at(21, row) { 3 } else { 2 };
        assert_eq!(encoded(&data, &e, row).codes[3], wanted);
    }
}
