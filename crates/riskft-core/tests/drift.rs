//! Drift: the index worked out by hand, references of columns, counts of other rows, samples,
//! periods.

mod common;

use common::{dataset, uniform, REFERENCE};
use riskft_core::cell::{Cell, ColumnType};
use riskft_core::dataset::{dates, Dataset};
use riskft_core::drift::period::{Calendar, LEAST_ROWS};
use riskft_core::drift::*;
use riskft_core::encode::{EncodedColumn, Encoding, TextFormat};
use riskft_core::options::Role;
use ColumnType::{Date, Float, Int, Text};

type Change<'a> = &'a dyn Fn(&mut Reference);

fn near(found: f64, known: f64) {
    assert!((found - known).abs() < 1e-8, "{found} instead of {known}");
}

/// An encoding that reads columns in these roles.
fn encoding(data: &Dataset, roles: &[Role]) -> Encoding {
    let column = |(column, role): (&riskft_core::dataset::Column, &Role)| EncodedColumn {
        name: column.source.name.clone(),
        column_type: column.source.column_type,
        role: *role,
        format: TextFormat::Plain,
    };
    Encoding {
        columns: data.columns.iter().zip(roles).map(column).collect(),
        reference_date: REFERENCE,
        ..Encoding::default()
    }
}

/// The reference of one column of cells in a role, on all of them.
fn reference(kind: ColumnType, role: Role, cells: Vec<Cell<'_>>) -> Reference {
    let data = dataset(&[("c", kind, cells)]);
    let rows: Vec<u32> = (0..data.rows as u32).collect();
    columns(&data, &encoding(&data, &[role]), &rows).remove(0)
}

/// The line of other cells of that column.
fn line(reference: &Reference, kind: ColumnType, role: Role, cells: &[Cell<'_>]) -> Line {
    let data = dataset(&[("c", kind, cells.to_vec())]);
    let encoding = encoding(&data, &[role]);
    let reference = std::slice::from_ref(reference);
    let mut counter = Counter::new(reference, &encoding);
    cells.iter().for_each(|cell| counter.row(&[*cell]));
    assert_eq!(counter.rows(), cells.len() as u64);
    counter.lines().remove(0)
}

/// As many cells of each text.
fn labels<'a>(of: &[(&'a str, usize)]) -> Vec<Cell<'a>> {
    of.iter().flat_map(|(label, count)| vec![Cell::Text(label); *count]).collect()
}

/// F38: A 50, B 50; now A 42, B 40, C 18.
/// -0.08 ln 0.84 - 0.1 ln 0.8 + 0.175 ln 36, the new bin being half a row of a hundred before.
#[test]
fn the_index_by_hand() {
    near(psi(&[50, 50], &[42, 40]).unwrap_or_default(), {
        let (p, q) = (42.0 / 82.0, 40.0 / 82.0);
        (p - 0.5) * f64::ln(p / 0.5) + (q - 0.5) * f64::ln(q / 0.5)
    });
    near(
        psi(&[50, 50, 0], &[42, 40, 18]).unwrap_or_default(),
        0.013948271 + 0.022314355 + 0.627115814,
    );
    // 0 -> 30% in the last bin: -0.3 ln 0.7 + 0.295 ln 60.
    near(psi(&[100, 0], &[70, 30]).unwrap_or_default(), 0.107002483 + 1.207831646);
    assert_eq!(psi(&[50, 50], &[0, 0]), None);
    assert_eq!(psi(&[0, 0], &[50, 50]), None);
    assert_eq!(psi(&[], &[]), None);
}

/// Equal shares give 0 to the bit, whatever the numbers; all others something finite above 0, the
/// same both ways.
#[test]
fn the_index_of_any_counts() {
    for round in 0..2_000u64 {
        let bins = 2 + (round % 11) as usize;
        let draw = |which: u64| -> Vec<u64> {
            let count = |bin| (uniform(which, (round as usize) * 16 + bin) * 50.0) as u64;
            (0..bins).map(|bin| count(bin).saturating_sub(15)).collect()
        };
        let (a, b) = (draw(1), draw(2));
        let times = |by: u64| a.iter().map(|count| count * by).collect::<Vec<u64>>();
        if a.iter().sum::<u64>() == 0 {
            continue;
        }
        assert_eq!(psi(&a, &times(7)), Some(0.0), "{a:?}");
        assert_eq!(psi(&times(3), &times(1_000_003)), Some(0.0), "{a:?}");
        let Some(found) = psi(&a, &b) else { continue };
        assert!(found.is_finite() && found >= 0.0, "{a:?} {b:?}: {found}");
        near(found, psi(&b, &a).unwrap_or(f64::NAN));
    }
    // All rows in one bin, and all in another one, of very many.
    assert!(psi(&[u64::MAX / 4, 0], &[0, u64::MAX / 4]).is_some_and(f64::is_finite));
}

/// Counts of one distribution exceed what chance makes of them in about one case of 20.
#[test]
fn chance_alone_rarely_exceeds_its_bound() {
    let draw = |which: u64, rows: usize, round: usize| {
        let mut counts = [0u64; 10];
        for row in 0..rows {
            counts[(uniform(which, round * rows + row) * 10.0) as usize] += 1;
        }
        counts
    };
    let rounds = 2_000;
    let beyond = (0..rounds).filter(|round| {
        let (a, b) = (draw(11, 500, *round), draw(12, 200, *round));
        psi(&a, &b) > by_chance(&a, &b)
    });
    let share = beyond.count() as f64 / rounds as f64;
    assert!((0.02..0.09).contains(&share), "{share}");
}

#[test]
fn numbers_have_deciles() {
    let mut cells: Vec<Cell<'_>> = (1..=1000).map(Cell::Int).collect();
    cells.extend([Cell::Null; 50]);
    let of = reference(Int, Role::Number, cells.clone());
    assert_eq!((of.kind, of.column_name.as_str()), (Kind::Number, "c"));
    let edges: Vec<f64> = (1..10).map(|n| f64::from(n) * 100.0 + 0.5).collect();
    assert_eq!(of.bins.edges, edges);
    assert_eq!(of.bins.counts, [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 50]);
    let same = line(&of, Int, Role::Number, &cells);
    assert_eq!((same.psi, same.alarm, same.rows), (Some(0.0), None, 1050));
    assert_eq!((same.missing_share, same.unseen_share), (Some(50.0 / 1050.0), None));

    // Cents in place of dollars: all but nine lie beyond the last edge.
    let cents: Vec<Cell<'_>> = (1..=1000).map(|n| Cell::Int(100 * n)).collect();
    let line = line(&of, Int, Role::Number, &cents);
    assert!(line.psi.is_some_and(|psi| psi > 4.0), "{line:?}");
    assert_eq!(line.alarm.as_deref(), Some("large"));
}

#[test]
fn odd_numbers_and_dates() {
    // Ties take their bins together: nine of ten are 0.
    let skewed: Vec<Cell<'_>> =
        (0..1000).map(|n| Cell::Float(if n % 10 == 0 { n as f64 } else { 0.0 })).collect();
    let of = reference(Float, Role::Number, skewed);
    assert_eq!(of.bins.edges.len(), 1);
    assert_eq!(of.bins.counts, [901, 99, 0]);

    // What never varied has bins on both sides.
    let of = reference(Int, Role::Number, vec![Cell::Int(5); 100]);
    assert_eq!(of.bins.counts, [0, 100, 0, 0]);
    for other in [4, 6] {
        let line = line(&of, Int, Role::Number, &[Cell::Int(other); 100]);
        assert_eq!(line.alarm.as_deref(), Some("large"), "{other}");
    }
    assert_eq!(line(&of, Int, Role::Number, &[Cell::Int(5); 30]).psi, Some(0.0));

    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.0];
    let cells: Vec<Cell<'_>> = odd.iter().cycle().take(600).map(|v| Cell::Float(*v)).collect();
    let of = reference(Float, Role::Number, cells);
    assert_eq!(of.check(), Ok(()));
    assert_eq!(of.bins.counts.last(), Some(&300));

    let days: Vec<Cell<'_>> = (0..400).map(|n| Cell::Date(14_000 + n)).collect();
    let of = reference(Date, Role::Date, days);
    assert_eq!((of.bins.edges.len(), of.bins.counts[0]), (9, 40));
    let of = reference(Date, Role::Date, vec![Cell::Null; 40]);
    assert_eq!((of.bins.edges.len(), of.bins.counts), (0, vec![0, 40]));
}

/// F38, as a column: a new label, and a tenth of cells that become empty.
#[test]
fn labels_have_their_frequent_values() {
    let before = labels(&[("A", 500), ("B", 500)]);
    let of = reference(Text, Role::Category, before.clone());
    assert_eq!(
        (of.kind, of.bins.values.as_slice()),
        (Kind::Label, &["A".to_owned(), "B".into()][..])
    );
    assert_eq!(of.bins.counts, [500, 500, 0, 0]);
    assert_eq!(line(&of, Text, Role::Category, &before).psi, Some(0.0));

    let now = line(&of, Text, Role::Category, &labels(&[("A", 42), ("B", 40), ("C", 18)]));
    near(now.psi.unwrap_or_default(), 0.013948271 + 0.022314355 + 0.1795 * f64::ln(360.0));
    assert_eq!(now.alarm.as_deref(), Some("large, new values"));
    assert_eq!((now.unseen_share, now.missing_share), (Some(0.18), Some(0.0)));

    let mut half = labels(&[("A", 350), ("B ", 350)]);
    half.extend(vec![Cell::Null; 200]);
    half.extend(labels(&[("", 50), ("  ", 50)]));
    let now = line(&of, Text, Role::Category, &half);
    assert_eq!(now.alarm.as_deref(), Some("large, missing"));
    assert_eq!((now.missing_share, now.missing_share_reference), (Some(0.3), Some(0.0)));
    assert!(now.psi.is_some_and(|psi| psi > LARGE));

    let unseen = line(&of, Text, Role::Category, &labels(&[("Z", 100)]));
    assert_eq!(unseen.unseen_share, Some(1.0));
    assert!(unseen.psi.is_some_and(|psi| psi.is_finite() && psi > LARGE));
    let one = line(&of, Text, Role::Category, &labels(&[("A", 1)]));
    assert_eq!(one.alarm.as_deref(), Some("few rows"), "{one:?}");
    let none = line(&of, Text, Role::Category, &[]);
    assert_eq!((none.psi, none.alarm.as_deref(), none.rows), (None, Some("no rows"), 0));
    assert_eq!((none.missing_share, none.unseen_share), (None, None));
}

/// Numbers that are labels are told alike whatever type they come in.
#[test]
fn a_label_has_one_name_in_every_type() {
    let zips: Vec<Cell<'_>> = (0..100).map(|n| Cell::Int(10_000 + n % 4)).collect();
    let of = reference(Int, Role::Category, zips);
    assert_eq!(of.bins.values.len(), 4);
    let written = labels(&[("10000", 25), ("10001", 25), (" 10002 ", 25), ("10003", 25)]);
    assert_eq!(line(&of, Text, Role::Category, &written).psi, Some(0.0));
}

/// No value of fewer than ten rows, and none that is long, is named; the most frequent twenty are.
#[test]
fn rare_values_are_not_named() {
    let names: Vec<String> = (0..60).map(|n| format!("bank {n:02}")).collect();
    let long = "x".repeat(MOST_LABEL_BYTES + 1);
    // Bank n has n rows.
    let mut cells: Vec<Cell<'_>> =
        (0..60).flat_map(|n| vec![Cell::Text(names[n].as_str()); n]).collect();
    cells.extend(vec![Cell::Text(long.as_str()); 500]);
    let of = reference(Text, Role::Category, cells);
    let named: Vec<String> = (40..60).rev().map(|n| format!("bank {n}")).collect();
    assert_eq!(of.bins.values, named);
    let by_name: u64 = (40..60).sum();
    assert_eq!(of.bins.counts[20..], [(0..60).sum::<u64>() - by_name + 500, 0]);
    let few = labels(&[("a", 9), ("b", 10), ("c", 9)]);
    assert_eq!(reference(Text, Role::Category, few).bins.values, ["b"]);
}

#[test]
fn texts_have_their_values_or_their_lengths() {
    let few = labels(&[("car", 60), ("house", 30), ("my own story", 5)]);
    let of = reference(Text, Role::Text, few);
    assert_eq!((of.kind, of.bins.values.len()), (Kind::Label, 2));
    assert_eq!(of.bins.counts, [60, 30, 5, 0]);

    let notes: Vec<String> = (0..400).map(|n| format!("{n} {}", "word ".repeat(n % 20))).collect();
    let mut cells: Vec<Cell<'_>> = notes.iter().map(|note| Cell::Text(note)).collect();
    cells.push(Cell::Null);
    cells.push(Cell::Text("  "));
    let of = reference(Text, Role::Text, cells);
    assert_eq!(of.kind, Kind::Length);
    assert!(of.bins.values.is_empty());
    // Words 1 to 20, in pairs; two cells are missing.
    assert_eq!(of.bins.counts, [40, 40, 40, 40, 40, 40, 40, 40, 40, 40, 2]);
    let short = line(&of, Text, Role::Text, &labels(&[("one", 300)]));
    assert_eq!(short.alarm.as_deref(), Some("large"));
}

#[test]
fn a_column_that_is_not_asked_for_has_no_line() {
    let of = reference(Int, Role::Number, (0..100).map(Cell::Int).collect());
    let mut other = of.clone();
    other.column_name = "gone".into();
    let scores: Vec<f64> = (0..1000).map(|n| f64::from(n) / 1000.0).collect();
    let reference = [score(&scores), other, of];
    let data = dataset(&[("c", Int, vec![Cell::Int(1)])]);
    let encoding = encoding(&data, &[Role::Number]);
    let mut counter = Counter::new(&reference, &encoding);
    counter.row(&[Cell::Int(1)]);
    counter.row(&[]);
    scores.iter().for_each(|score| counter.score(*score));
    let lines = counter.lines();
    let names: Vec<(&str, Kind)> =
        lines.iter().map(|line| (line.column_name.as_str(), line.kind)).collect();
    assert_eq!(names, [("score", Kind::Score), ("c", Kind::Number)]);
    assert_eq!((lines[0].psi, lines[0].rows, lines[0].missing_share), (Some(0.0), 1000, None));
    assert_eq!(lines[1].missing_share, Some(0.5));
}

#[test]
fn a_reference_is_read_as_it_was_written_and_lies_are_refused() {
    let number = reference(Int, Role::Number, (0..500).map(|n| Cell::Int(n * n)).collect());
    let label = reference(Text, Role::Category, labels(&[("é \"x\"", 20), ("b", 30), ("c", 1)]));
    for of in [&number, &label, &score(&[0.1, 0.2, 0.7])] {
        let json = serde_json::to_string(of).unwrap();
        assert_eq!(&serde_json::from_str::<Reference>(&json).unwrap(), of);
        assert_eq!(of.check(), Ok(()));
    }
    let lies: [(&str, Change<'_>); 9] = [
        ("edges that fall", &|of| of.bins.edges.swap(0, 1)),
        ("an edge that is infinite", &|of| of.bins.edges[8] = f64::INFINITY),
        ("an edge that is no number", &|of| of.bins.edges[3] = f64::NAN),
        ("a count too few", &|of| of.bins.counts.truncate(10)),
        ("more rows than there can be", &|of| of.bins.counts[0] = u64::MAX),
        ("more rows than a bigint holds", &|of| of.bins.counts[0] = i64::MAX as u64),
        ("values of a number", &|of| {
            of.bins.values.push("a".into());
            of.bins.counts.push(0);
        }),
        ("too many edges", &|of| {
            of.bins.edges.push(1e9);
            of.bins.counts.push(0);
        }),
        ("edges of a label", &|of| of.kind = Kind::Label),
    ];
    for (lie, change) in lies {
        let mut of = number.clone();
        change(&mut of);
        assert!(of.check().is_err_and(|what| what.contains("\"c\" (")), "{lie}");
    }
    for values in [vec!["a", "a"], vec!["a", ""]] {
        let mut of = label.clone();
        of.bins.values = values.into_iter().map(str::to_owned).collect();
        assert!(of.check().is_err());
    }
    let mut of = label.clone();
    of.bins.values[0] = "x".repeat(MOST_LABEL_BYTES + 1);
    assert!(of.check().is_err());
    let mut of = label;
    of.bins.values = (0..=MOST_VALUES).map(|n| n.to_string()).collect();
    of.bins.counts = vec![1; MOST_VALUES + 3];
    assert!(of.check().is_err());
}

#[test]
fn a_sample_is_all_of_few_rows_and_a_fair_part_of_many() {
    let mut all = Sample::new(10, 1 << 20);
    (0..10).for_each(|n| all.offer(&[Cell::Int(n), Cell::Text("é"), Cell::Null]));
    assert!(!all.is_partial());
    let rows = all.rows();
    assert!(rows.iter().all(|row| row.cells()[1..] == [Cell::Text("é"), Cell::Null]));
    for n in 0..10 {
        assert_eq!(rows.iter().filter(|row| row.cells()[0] == Cell::Int(n)).count(), 1, "{n}");
    }

    // Rows of three kinds only, one after the other: each has its share.
    let mut sample = Sample::new(3_000, 1 << 20);
    (0..90_000).for_each(|n| sample.offer(&[Cell::Int(n / 30_000)]));
    assert!(sample.is_partial());
    let rows = sample.rows();
    assert_eq!(rows.len(), 3_000);
    for kind in 0..3 {
        let count = rows.iter().filter(|row| row.cells()[0] == Cell::Int(kind)).count();
        assert!((880..1120).contains(&count), "{kind}: {count}");
    }
}

/// Long texts make the sample smaller, not the memory larger; the rows are still a fair part.
#[test]
fn a_sample_of_long_texts_is_bounded() {
    let text = "x".repeat(1000);
    let mut sample = Sample::new(1_000, 100_000);
    (0..20_000).for_each(|n| sample.offer(&[Cell::Int(n / 10_000), Cell::Text(&text)]));
    let rows = sample.rows();
    assert_eq!(rows.len(), 100);
    let late = rows.iter().filter(|row| row.cells()[0] == Cell::Int(1)).count();
    assert!((25..75).contains(&late), "{late}");
    // One row is kept however long it is.
    let mut sample = Sample::new(10, 10);
    (0..5).for_each(|_| sample.offer(&[Cell::Text(&text)]));
    assert_eq!(sample.rows().len(), 1);
}

#[test]
fn periods_are_months_quarters_or_years() {
    let day = |year, month, day| dates::days_from_civil(year, month, day);
    assert!(Calendar::of(std::iter::empty()).is_none());
    let of = |days: &[Option<i32>]| {
        let calendar = Calendar::of(days.iter().copied().flatten()).unwrap();
        let periods = calendar.periods(days.iter().copied());
        periods.into_iter().map(|p| (p.name, p.begins, p.rows.len())).collect::<Vec<_>>()
    };
    let many = |days: &[Option<i32>]| -> Vec<Option<i32>> {
        days.iter().flat_map(|day| vec![*day; LEAST_ROWS]).collect()
    };
    let mut year = many(&[day(2006, 1, 31), day(2006, 2, 1), None]);
    year.extend(vec![day(2006, 3, 1); LEAST_ROWS - 1]);
    let begins = |year, month| day(year, month, 1).unwrap();
    assert_eq!(
        of(&year),
        [("2006-01".to_owned(), begins(2006, 1), 50), ("2006-02".into(), begins(2006, 2), 50)]
    );
    let quarters = of(&many(&[day(2004, 12, 31), day(2009, 1, 1), day(2009, 3, 31)]));
    assert_eq!(
        quarters,
        [("2004-Q4".to_owned(), begins(2004, 10), 50), ("2009-Q1".into(), begins(2009, 1), 100)]
    );
    let years = of(&many(&[day(1969, 6, 1), day(2001, 1, 1)]));
    assert_eq!(
        years,
        [("1969".to_owned(), begins(1969, 1), 50), ("2001".into(), begins(2001, 1), 50)]
    );
}
