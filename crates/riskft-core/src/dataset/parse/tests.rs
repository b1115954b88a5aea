use super::*;

fn value(text: &str) -> Option<f64> {
    number(text).map(|n| n.value)
}

#[test]
fn money_percent_and_units_are_numbers() {
    for (text, wanted) in [
        ("$60,000.00", 60000.0),
        ("60000", 60000.0),
        ("($1,250.00)", -1250.0),
        ("$ 7,000", 7000.0),
        ("-$5", -5.0),
        ("$-5.25", -5.25),
        ("1,250.00-", -1250.0),
        (" 13.5%", 13.5),
        (" 36 months", 36.0),
        ("10+ years", 10.0),
        ("< 1 year", 0.5),
        ("> 10", 15.0),
        ("<0", -0.5),
        ("<= 5", 5.0),
        ("1 year", 1.0),
        ("1e5", 1e5),
        ("1.5E-3", 0.0015),
        ("60k", 60000.0),
        ("1.2M", 1.2e6),
        ("€1.234,56", 1234.56),
        ("1.234.567", 1234567.0),
        ("12,34,567", 1234567.0),
        ("60 000", 60000.0),
        ("1'000'000", 1e6),
        ("100 USD", 100.0),
        ("5€", 5.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("\u{feff}42\u{a0}", 42.0),
    ] {
        assert_eq!(value(text), Some(wanted), "{text:?}");
    }
}

#[test]
fn decimal_commas() {
    for (text, wanted) in [
        ("12,5", Some(12.5)),
        ("0,75", Some(0.75)),
        ("1.234", Some(1234.0)),
        ("1.234,56", Some(1234.56)),
        ("1,234.56", Some(1234.56)),
        ("60.000,00 €", Some(60000.0)),
        ("(€ 1.250,00)", Some(-1250.0)),
        ("1 234 567,8", Some(1234567.8)),
        ("1\u{a0}234\u{202f}567,8", Some(1234567.8)),
        ("13,5%", Some(13.5)),
        ("60000", Some(60000.0)),
        ("12.5", None),
        ("1,2,3", None),
        ("$12,0x", None),
    ] {
        let value = number_with(text, Decimal::Comma).map(|n| n.value);
        assert_eq!(value, wanted, "{text:?}");
    }
    for (text, wanted) in [
        ("12,5", Some(Decimal::Comma)),
        ("1.234,56", Some(Decimal::Comma)),
        ("12.5", Some(Decimal::Point)),
        ("$1,234.56", Some(Decimal::Point)),
        ("1,234", None),
        ("1.234", None),
        ("36 months", None),
        ("junk", None),
    ] {
        assert_eq!(shown_decimal(text), wanted, "{text:?}");
    }
}

#[test]
fn junk_is_no_number() {
    for text in [
        "",
        "   ",
        "$12,0x",
        "12,0",
        "1,23",
        "1.2.3",
        "01.02.2014",
        "2014-03-31",
        "5/8",
        "12 Main St",
        "NaN",
        "inf",
        "Infinity",
        "1e999",
        "0x10",
        "--5",
        "$",
        "-",
        "()",
        "(",
        "1976A",
        "10m",
        "12 oaks",
        "1,2,3",
        "5%%",
        "😀",
        "٣",
    ] {
        assert_eq!(value(text), None, "{text:?}");
    }
    assert_eq!(value(&"9".repeat(65)), None);
}

#[test]
fn units_and_money_are_told() {
    assert_eq!(number("36 months").map(|n| n.unit), Some(Unit::Month));
    assert_eq!(number("3 yrs").map(|n| n.unit), Some(Unit::Year));
    assert_eq!(number("5").map(|n| (n.unit, n.money)), Some((Unit::None, false)));
    assert_eq!(number("$5").map(|n| n.money), Some(true));
}

#[test]
fn missing_words() {
    assert!(["", "  ", "n/a", "N/A", " null ", "-"].iter().all(|t| is_missing_word(t)));
    assert!(!["0", "no", "x"].iter().any(|t| is_missing_word(t)));
}
