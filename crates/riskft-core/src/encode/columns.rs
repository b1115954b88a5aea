//! The source columns that an encoding's inputs read.

use super::{CategorySource, Encoding, KeyPart, NumberSource, TextSource};

impl NumberSource {
    /// The source columns that a number is made of itself; none of a component, which is made of
    /// [`super::Components::columns`].
    pub fn columns(&mut self) -> impl Iterator<Item = &mut usize> {
        let (first, second) = match self {
            NumberSource::Value(c)
            | NumberSource::Year(c)
            | NumberSource::Month(c)
            | NumberSource::Weekday(c) => (Some(c), None),
            NumberSource::Ratio(a, b) => (Some(a), Some(b)),
            NumberSource::Component(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Encoding {
    /// Whether nothing of a row reaches the network.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.categories.is_empty() && self.texts.is_empty()
    }

    /// Drops the columns that no input reads. A row's whole text reads them all.
    pub fn without_unused_columns(mut self) -> Encoding {
        if self.texts.iter().any(|text| text.source == TextSource::Row) {
            return self;
        }
        if !self.reads_components() {
            self.components = None;
        }
        let mut used = vec![false; self.columns.len()];
        self.for_each_index(|index| used[*index] = true);
        let mut place = 0;
        let places: Vec<usize> = used
            .iter()
            .map(|used| {
                place += usize::from(*used);
                place.saturating_sub(1)
            })
            .collect();
        self.for_each_index(|index| *index = places[*index]);
        let mut used = used.into_iter();
        self.columns.retain(|_| used.next().unwrap_or(false));
        self
    }

    fn for_each_index(&mut self, mut visit: impl FnMut(&mut usize)) {
        self.numbers.iter_mut().flat_map(|number| number.source.columns()).for_each(&mut visit);
        self.components.iter_mut().flat_map(|c| &mut c.columns).for_each(&mut visit);
        for category in &mut self.categories {
            match &mut category.source {
                CategorySource::Value(c) | CategorySource::Prefix(c, _) => visit(c),
                CategorySource::Equal(a, b) => {
                    visit(a);
                    visit(b);
                }
            }
        }
        self.statistics
            .iter_mut()
            .flat_map(|s| &mut s.key)
            .flat_map(KeyPart::columns)
            .for_each(&mut visit);
        for text in &mut self.texts {
            if let TextSource::Column(c) = &mut text.source {
                visit(c);
            }
        }
    }
}
