//! Whether a specification can be computed: sizes within bounds, indexes within the columns.

use super::{Branch, BranchKind, Specification, MOST_LANDMARKS};
use crate::encode::statistic::MOST_LABELS;
use crate::encode::{
    CategorySource, Encoding, NumberSource, TextSource, MAX_EDGES, MOST_ADDED, MOST_TOKENS,
};
use crate::quantize::head::tabular_inputs;

type Check = std::result::Result<(), String>;

pub(super) fn specification(s: &Specification) -> Check {
    branches(s)?;
    let network = s.branch(BranchKind::Network).is_some();
    within("members", s.members, usize::from(network), if network { 64 } else { 0 })?;
    within("hidden", s.hidden, 1, 4096)?;
    let figures = [s.calibration.slope, s.calibration.intercept, s.threshold];
    if !figures.iter().all(|v| v.is_finite()) {
        return Err("a figure in its specification is not finite".into());
    }
    encoding(&s.encoding)?;
    s.background.check(&s.encoding)?;
    let texts = if s.encoder.is_some() { s.encoding.texts.len() } else { 0 };
    within("texts with landmarks", s.landmarks.len(), 0, texts)?;
    for count in &s.landmarks {
        within("landmarks", *count, 0, MOST_LANDMARKS)?;
    }
    let Some(encoder) = &s.encoder else {
        return match &s.grams {
            Some(grams) => within("texts", grams.texts.len(), 0, s.encoding.texts.len()),
            None => within("texts", s.encoding.texts.len(), 0, 0),
        };
    };
    encoder.shape.check().map_err(|what| format!("its encoder cannot be used. {what}"))?;
    for text in &s.encoding.texts {
        within("max_tokens", text.max_tokens, 3, MOST_TOKENS)?;
    }
    Ok(())
}

fn branches(s: &Specification) -> Check {
    if s.branches.is_empty() || !s.branches.is_sorted_by(|a, b| a.kind < b.kind) {
        return Err("its branches are not in order".into());
    }
    let weighs = |branch: &Branch| (0.0..=Branch::MOST).contains(&branch.weight);
    if let Some(branch) = s.branches.iter().find(|branch| !weighs(branch)) {
        return Err(format!("the weight of its branch {} is out of range", branch.kind.name()));
    }
    if s.branch(BranchKind::Network).is_some() && tabular_inputs(&s.encoding) == 0 {
        return Err("its network reads nothing".into());
    }
    if s.branch(BranchKind::Text).is_some() != s.encoder.is_some() {
        return Err("its branch text and its encoder do not go together".into());
    }
    let grams = s.grams.as_ref();
    if s.branch(BranchKind::Grams).is_some() != grams.is_some() {
        return Err("its branch grams and what it reads do not go together".into());
    }
    match grams.is_none_or(|g| g.texts.iter().all(|text| *text < s.encoding.texts.len())) {
        true => Ok(()),
        false => Err("its n-grams are of a text that it does not read".into()),
    }
}

fn encoding(e: &Encoding) -> Check {
    // PostgreSQL has at most 1,600 columns; the others follow from pairs and prefixes of them.
    within("columns", e.columns.len(), 0, 1600)?;
    within("numbers", e.numbers.len(), 0, 16_000)?;
    within("categories", e.categories.len(), 0, 16_000)?;
    within("texts", e.texts.len(), 0, 1600)?;
    within("statistics", e.statistics.len(), 0, 16_000)?;
    let column = |index: usize| {
        if index < e.columns.len() {
            return Ok(());
        }
        Err(format!("its specification names column {index} of {}", e.columns.len()))
    };
    let mut components = 0;
    if let Some(condensed) = &e.components {
        within("condensed columns", condensed.columns.len(), 1, e.columns.len())?;
        within("components", condensed.count, 1, condensed.columns.len())?;
        condensed.columns.iter().try_for_each(|c| column(*c))?;
        components = condensed.count;
    }
    for number in &e.numbers {
        let mut source = number.source;
        source.columns().try_for_each(|c| column(*c))?;
        if matches!(source, NumberSource::Component(c) if c >= components) {
            return Err(format!("\"{}\" is none of its {components} components", number.name));
        }
        within("edges", number.edges.len(), 2, MAX_EDGES)?;
        let rising = number.edges.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || !number.edges.iter().all(|edge| edge.is_finite()) {
            return Err(format!("the edges of \"{}\" do not rise", number.name));
        }
    }
    for category in &e.categories {
        within("added values", category.added.len(), 0, MOST_ADDED)?;
        match category.source {
            CategorySource::Value(c) | CategorySource::Prefix(c, _) => column(c)?,
            CategorySource::Equal(a, b) => column(a).and(column(b))?,
        }
    }
    for (index, statistic) in e.statistics.iter().enumerate() {
        within("labels of a key", statistic.key.len(), 1, MOST_LABELS)?;
        if statistic.parent.is_some_and(|parent| parent >= index) {
            return Err(format!("the parent of \"{}\" does not come before it", statistic.name));
        }
        for mut part in statistic.key.iter().copied() {
            part.columns().try_for_each(|c| column(*c))?;
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
