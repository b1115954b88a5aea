//! Whether a specification can be computed: sizes within bounds, indexes within the columns.

use super::Specification;
use crate::encode::{CategorySource, Encoding, NumberSource, TextSource, MAX_EDGES};

type Check = std::result::Result<(), String>;

pub(super) fn specification(s: &Specification) -> Check {
    within("members", s.members, 1, 64)?;
    within("hidden", s.hidden, 1, 4096)?;
    let figures = [s.calibration.slope, s.calibration.intercept, s.threshold];
    if !figures.iter().all(|v| v.is_finite()) {
        return Err("a figure in its specification is not finite".into());
    }
    encoding(&s.encoding)?;
    let Some(encoder) = &s.encoder else {
        return within("texts", s.encoding.texts.len(), 0, 0);
    };
    encoder.shape.check().map_err(|what| format!("its encoder cannot be used. {what}"))?;
    for text in &s.encoding.texts {
        within("max_tokens", text.max_tokens, 3, encoder.shape.max_tokens())?;
    }
    Ok(())
}

fn encoding(e: &Encoding) -> Check {
    // PostgreSQL has at most 1,600 columns; the others follow from pairs and prefixes of them.
    within("columns", e.columns.len(), 0, 1600)?;
    within("numbers", e.numbers.len(), 0, 16_000)?;
    within("categories", e.categories.len(), 0, 16_000)?;
    within("texts", e.texts.len(), 0, 1600)?;
    let column = |index: usize| {
        if index < e.columns.len() {
            return Ok(());
        }
        Err(format!("its specification names column {index} of {}", e.columns.len()))
    };
    for number in &e.numbers {
        match number.source {
            NumberSource::Value(c)
            | NumberSource::Year(c)
            | NumberSource::Month(c)
            | NumberSource::Weekday(c) => column(c)?,
            NumberSource::Ratio(a, b) => column(a).and(column(b))?,
        }
        within("edges", number.edges.len(), 2, MAX_EDGES)?;
        let rising = number.edges.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || !number.edges.iter().all(|edge| edge.is_finite()) {
            return Err(format!("the edges of \"{}\" do not rise", number.name));
        }
    }
    for category in &e.categories {
        match category.source {
            CategorySource::Value(c) | CategorySource::Prefix(c, _) => column(c)?,
            CategorySource::Equal(a, b) => column(a).and(column(b))?,
        }
    }
    for text in &e.texts {
        match text.source {
            TextSource::Column(c) => column(c)?,
            TextSource::Row => {}
        }
    }
    Ok(())
}

fn within(what: &str, value: usize, low: usize, high: usize) -> Check {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(format!("its {what} are {value}, not within {low} and {high}"))
}
