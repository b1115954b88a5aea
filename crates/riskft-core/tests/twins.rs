//! The same data in another representation encodes alike; odd numbers do not disturb the rest.

mod common;

use common::{dataset, encoded, fitted, fitted_with, header, position, single, texts, uniform, y};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{dates, prepare};
use riskft_core::encode::*;
use riskft_core::options::Role;
use ColumnType::{Bool, Date, Float, Int, Text, Timestamp};

/// F06: text that holds numbers encodes as its numeric twin, bit for bit.
#[test]
fn money_text_equals_its_numeric_twin() {
    let rows = 600;
    let amounts: Vec<f64> =
        (0..rows).map(|i| ((uniform(2, i) * 1e7).round() - 2e6) / 100.0).collect();
    let written: Vec<String> = amounts
        .iter()
        .enumerate()
        .map(|(i, a)| match i {
            5 => "$12,0x".into(),
            _ if *a < 0.0 => format!("(${})", grouped(-a)),
            _ => format!(" ${} ", grouped(*a)),
        })
        .collect();
    let terms: Vec<String> = (0..rows).map(|i| format!(" {} months", 12 + i % 50)).collect();
    let rates: Vec<String> = (0..rows).map(|i| format!("{:.2}%", uniform(3, i) * 30.0)).collect();
    let text = dataset(&[
        ("amount", Text, texts(written.iter().map(String::as_str))),
        ("term", Text, texts(terms.iter().map(String::as_str))),
        ("rate", Text, texts(rates.iter().map(String::as_str))),
        y(rows),
    ]);
    let twin = dataset(&[
        (
            "amount",
            Float,
            (0..rows).map(|i| if i == 5 { Cell::Null } else { Cell::Float(amounts[i]) }).collect(),
        ),
        ("term", Int, (0..rows).map(|i| Cell::Int(12 + i as i64 % 50)).collect()),
        (
            "rate",
            Float,
            rates
                .iter()
                .map(|r| Cell::Float(r.trim_end_matches('%').parse().expect("a rate")))
                .collect(),
        ),
        y(rows),
    ]);
    // The parts follow the values as they are written, so the twin borrows the text's.
    let prepared = prepare(&text, &header(&text, "y")).expect("prepared");
    let mut of_twin = prepare(&twin, &header(&twin, "y")).expect("prepared");
    of_twin.parts = prepared.parts.clone();
    let (a, b) =
        (fit(&text, &prepared, &header(&text, "y")), fit(&twin, &of_twin, &header(&twin, "y")));
    assert_eq!(a.numbers, b.numbers);
    for row in 0..rows {
        let (a, b) = (encoded(&text, &a, row).positions, encoded(&twin, &b, row).positions);
        assert!(
            a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()),
            "row {row}: {a:?} {b:?}"
        );
    }
    assert!(encoded(&text, &a, 5).positions[0].is_nan());
}

fn grouped(value: f64) -> String {
    let cents = (value * 100.0).round() as i64;
    let (whole, cents) = (cents / 100, cents % 100);
    if whole >= 1000 {
        format!("{},{:03}.{cents:02}", whole / 1000, whole % 1000)
    } else {
        format!("{whole}.{cents:02}")
    }
}

/// F08: odd numbers leave the edges finite and the rest as it was.
#[test]
fn odd_numbers_leave_the_rest_alone() {
    let rows = 1000;
    let odd = |i: usize| match i {
        3 => f64::INFINITY,
        4 => 1e308,
        5 => -1e308,
        i if i % 100 == 0 => f64::NAN,
        i => uniform(4, i) * 1e5,
    };
    let data =
        dataset(&[("income", Float, (0..rows).map(|i| Cell::Float(odd(i))).collect()), y(rows)]);
    let e = fitted(&data);
    assert!(e.numbers[0].edges.iter().all(|edge| edge.is_finite()));
    let spread: Vec<f32> =
        (10..rows).map(|i| encoded(&data, &e, i).positions[0]).filter(|p| !p.is_nan()).collect();
    let distinct: std::collections::BTreeSet<u32> = spread.iter().map(|p| p.to_bits()).collect();
    assert!(distinct.len() > 900, "{} distinct positions", distinct.len());
    assert!(position(&e, Cell::Float(1e308)).is_finite());
}

/// F09: neighbouring big integers stay apart.
#[test]
fn big_integers_stay_apart() {
    let rows = 1000;
    let big = |i: usize| 100_000_001 + 2 * i64::from(i.is_multiple_of(2));
    let data = dataset(&[
        ("a", Int, (0..rows).map(|i| Cell::Int(big(i))).collect()),
        ("b", Int, (0..rows).map(|i| Cell::Int(1_000_000_000 + i as i64 / 2 % 2)).collect()),
        ("y", Bool, (0..rows).map(|i| Cell::Bool(i % 2 == 0)).collect()),
    ]);
    let e = fitted(&data);
    let a = &e.numbers[0];
    assert_eq!((a.position(100_000_001.0), a.position(100_000_003.0)), (0.0, 2.0));
    let b = &e.numbers[1];
    assert!(b.position(1_000_000_001.0) - b.position(1_000_000_000.0) >= 1.0);
}

/// F18: a text date equals its date-typed twin; a real far date stays.
#[test]
fn text_dates_equal_typed_dates() {
    let rows = 500;
    let day = |i: usize| (i as i32 * 97) % 25_000 - 3_000;
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let written: Vec<String> = (0..rows)
        .map(|i| {
            let (y, m, d) = dates::civil_from_days(i64::from(day(i)));
            format!("{d:02}-{}-{:02}", months[m as usize - 1], y % 100)
        })
        .collect();
    let text = dataset(&[("opened", Text, texts(written.iter().map(String::as_str))), y(rows)]);
    let typed =
        dataset(&[("opened", Date, (0..rows).map(|i| Cell::Date(day(i))).collect()), y(rows)]);
    let stamped = dataset(&[
        (
            "opened",
            Timestamp,
            (0..rows).map(|i| Cell::Timestamp(i64::from(day(i)) * 86_400_000_000)).collect(),
        ),
        y(rows),
    ]);
    let e = fitted(&typed);
    let mut as_text = e.clone();
    (as_text.columns[0].column_type, as_text.columns[0].format) = (Text, TextFormat::DateIso);
    for (row, text_date) in written.iter().enumerate() {
        let wanted = encoded(&typed, &e, row);
        assert_eq!(encoded(&text, &as_text, row), wanted, "{text_date}");
        assert_eq!(encoded(&stamped, &e, row), wanted);
    }
    let names: Vec<&str> = e.numbers.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["opened", "opened (year)", "opened (month)", "opened (weekday)"]);
    let far = single(Date, Role::Date, TextFormat::Plain, vec![0.0, 100_000.0]);
    assert!((position(&far, Cell::Date(35_245)) - 0.35245).abs() < 1e-6);
    assert!(
        position(&far, Cell::Date(i32::MAX)).is_nan()
            && position(&far, Cell::Timestamp(i64::MIN)).is_nan()
    );
}

/// F20: order and zone of text dates are the model's.
#[test]
fn text_dates_follow_the_model() {
    let first = |format| {
        position(
            &single(Text, Role::Date, format, vec![16_000.0, 17_000.0]),
            Cell::Text("03/04/2014"),
        )
    };
    // 2014-03-04 and 2014-04-03 are days 16133 and 16163.
    assert!((first(TextFormat::DateMonthFirst) - 0.133).abs() < 1e-6);
    assert!((first(TextFormat::DateDayFirst) - 0.163).abs() < 1e-6);
    let e = single(Timestamp, Role::Date, TextFormat::Plain, vec![16_000.0, 17_000.0]);
    let at = |text: &str| position(&e, Cell::Text(text));
    assert_eq!(at("2014-03-31 23:30+00"), at("2014-04-01 12:30:00+13"));
}

/// The loans as they come from the server and as text from JSON encode alike.
#[test]
fn cells_of_other_types_encode_alike() {
    let data = common::loans();
    let mut exclude = header(&data, "defaulted");
    exclude.exclude = vec!["loan_id".into(), "disbursed".into()];
    let e = fitted_with(&data, &exclude);
    for row in (0..data.rows).step_by(97) {
        let wanted = encoded(&data, &e, row);
        let printed: Vec<Option<String>> = e
            .columns
            .iter()
            .map(|c| match data.column(&c.name).map_or(Cell::Null, |column| column.cell(row)) {
                Cell::Null => None,
                Cell::Bool(v) => Some(v.to_string()),
                Cell::Int(v) => Some(v.to_string()),
                Cell::Float(v) => Some(v.to_string()),
                Cell::Text(v) => Some(v.to_owned()),
                Cell::Date(v) => {
                    let (y, m, d) = dates::civil_from_days(i64::from(v));
                    Some(format!("{y:04}-{m:02}-{d:02}"))
                }
                Cell::Timestamp(_) => unreachable!("the loans have no timestamp"),
            })
            .collect();
        let cells: Vec<Cell<'_>> =
            printed.iter().map(|t| t.as_deref().map_or(Cell::Null, Cell::Text)).collect();
        let mut got = EncodedRow::default();
        e.encode_row(&cells, &mut got);
        assert_eq!(got.codes, wanted.codes);
        let same =
            got.positions.iter().zip(&wanted.positions).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "row {row}");
    }
}
