//! What a search may change, and how settings are drawn.

use riskft_core::options::{Options, MOST_NETWORKS};
use serde_json::{json, Map, Value};

use crate::random::Random;

/// Options of one branch that are changed, as the caller would write them.
pub type Changes = Map<String, Value>;

/// One setting: what is changed of the given options, by the branch that it concerns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Setting {
    pub network: Changes,
    pub trees: Changes,
    pub text: Changes,
}

impl Setting {
    /// All changes.
    pub fn changes(&self) -> Changes {
        [&self.network, &self.trees, &self.text].into_iter().flatten().fold(
            Changes::new(),
            |mut all, (name, value)| {
                all.insert(name.clone(), value.clone());
                all
            },
        )
    }
}

/// The values of one option.
enum Values {
    /// log(value) is uniform, two digits.
    Real(f64, f64),
    /// log(value) is uniform, rounded.
    Whole(f64, f64),
    OneOf(&'static [usize]),
    Words(&'static [&'static str]),
}

use Values::{OneOf, Real, Whole, Words};

type Key = (&'static str, Values);

const NETWORK: [Key; 3] = [
    ("hidden", OneOf(&[64, 128, 256, 512])),
    ("head_learning_rate", Real(3e-4, 3e-3)),
    ("members", OneOf(&[1, 2])),
];

const TREES: [Key; 5] = [
    ("trees.learning_rate", Real(0.02, 0.1)),
    ("trees.leaves", Whole(6.0, 64.0)),
    ("trees.columns", Real(0.15, 0.9)),
    ("trees.min_rows", Whole(5.0, 100.0)),
    ("trees.categories", Words(&["mixed", "native", "statistics"])),
];

const TEXT: [Key; 3] = [
    ("rank", OneOf(&[4, 8, 16, 32])),
    ("learning_rate", Real(1.5e-4, 1.5e-3)),
    ("layers", OneOf(&[1, 2, 3, 4, 6])),
];

/// Tries to draw a setting that was not drawn before.
const TRIES: usize = 20;

/// The values that are searched: those of options that equal their default.
pub struct Draw {
    random: Random,
    network: Vec<&'static Key>,
    trees: Vec<&'static Key>,
    text: Vec<&'static Key>,
    given: Options,
}

impl Draw {
    /// `models` are the fold models of the run.
    pub fn new(given: &Options, models: usize) -> Self {
        let default = Options::default();
        let free = |keys: &'static [Key]| -> Vec<&'static Key> {
            let is_free = |key: &&Key| {
                given.value(key.0) == default.value(key.0)
                    && (key.0 != "members" || 2 * models <= MOST_NETWORKS)
            };
            keys.iter().filter(is_free).collect()
        };
        let no_network = given.head_epochs == 0;
        let no_trees = given.trees.rounds == 0;
        Draw {
            random: Random::new(given.seed ^ 0x5345_4152_4348),
            network: if no_network { Vec::new() } else { free(&NETWORK) },
            trees: if no_trees { Vec::new() } else { free(&TREES) },
            text: free(&TEXT),
            given: given.clone(),
        }
    }

    /// Settings of network and trees: the given ones, then others, all different; fewer than
    /// `count` where there are no more. One changes the network, the trees, or both.
    pub fn tabular(&mut self, count: usize) -> Vec<Setting> {
        let mut settings = vec![Setting::default()];
        while settings.len() < count {
            let fresh = (0..TRIES).find_map(|_| {
                let side = self.random.below(3);
                let network = if side == 1 { Changes::new() } else { self.network() };
                let trees = if side == 0 { Changes::new() } else { self.trees() };
                let setting = Setting { network, trees, ..Setting::default() };
                (!settings.contains(&setting)).then_some(setting)
            });
            let Some(setting) = fresh else { break };
            settings.push(setting);
        }
        settings
    }

    /// Settings of the encoder's tuning, other than the given ones. `layers` has the encoder.
    pub fn text(&mut self, count: usize, layers: usize) -> Vec<Changes> {
        let mut drawn = vec![Changes::new()];
        while drawn.len() <= count {
            let keys = self.text.clone();
            let fresh = (0..TRIES).find_map(|_| {
                let mut changes = self.changes(&keys);
                if changes.get("layers").and_then(Value::as_u64) > Some(layers as u64) {
                    changes.remove("layers");
                }
                (!drawn.contains(&changes)).then_some(changes)
            });
            let Some(changes) = fresh else { break };
            drawn.push(changes);
        }
        drawn.split_off(1)
    }

    fn network(&mut self) -> Changes {
        let keys = self.network.clone();
        self.changes(&keys)
    }

    /// A lower rate gets more rounds, unless their number was given.
    fn trees(&mut self) -> Changes {
        let keys = self.trees.clone();
        let mut changes = self.changes(&keys);
        let default = Options::default().trees;
        if let Some(Value::Object(trees)) = changes.get_mut("trees") {
            let rate = trees.get("learning_rate").and_then(Value::as_f64);
            let rate = rate.filter(|rate| *rate < default.learning_rate);
            if let Some(rate) = rate.filter(|_| self.given.trees.rounds == default.rounds) {
                let rounds = default.rounds as f64 * default.learning_rate / rate;
                trees.insert("rounds".into(), json!(rounds.round() as usize));
            }
        }
        changes
    }

    /// Each option is changed with probability 1/2.
    fn changes(&mut self, keys: &[&'static Key]) -> Changes {
        let mut changes = Changes::new();
        for (name, values) in keys {
            if self.random.below(2) == 0 {
                continue;
            }
            let value = self.value(values);
            if self.given.value(name).as_ref() == Some(&value) {
                continue;
            }
            match name.split_once('.') {
                None => drop(changes.insert((*name).to_owned(), value)),
                Some((whole, part)) => {
                    let inner = changes.entry(whole).or_insert_with(|| json!({}));
                    if let Some(inner) = inner.as_object_mut() {
                        inner.insert(part.to_owned(), value);
                    }
                }
            }
        }
        changes
    }

    fn value(&mut self, values: &Values) -> Value {
        match values {
            Real(low, high) => json!(two_digits(self.between(*low, *high))),
            Whole(low, high) => json!(self.between(*low, *high).round() as usize),
            OneOf(list) => json!(list[self.random.below(list.len())]),
            Words(list) => json!(list[self.random.below(list.len())]),
        }
    }

    /// Uniform in the logarithm.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.random.unit())
    }
}

/// So that the value reads well, and is the same when it is written down and read again.
fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(given: &Options, count: usize) -> Vec<Setting> {
        Draw::new(given, 5).tabular(count)
    }

    #[test]
    fn the_seed_alone_decides_and_the_given_settings_are_first() {
        let given = Options::default();
        let drawn = settings(&given, 40);
        assert_eq!(drawn.len(), 40);
        assert_eq!(drawn, settings(&given, 40));
        assert_eq!(drawn[..10], settings(&given, 10));
        assert_ne!(drawn, settings(&Options { seed: 1, ..given.clone() }, 40));
        assert_eq!(drawn[0], Setting::default());
        for (index, setting) in drawn.iter().enumerate() {
            assert!(!drawn[..index].contains(setting));
        }
    }

    #[test]
    fn drawn_values_lie_within_their_ranges() {
        let given = Options::default();
        let mut moved = std::collections::BTreeSet::new();
        for setting in settings(&given, 200) {
            let options = given.with(&setting.changes()).expect("options in their ranges");
            for (name, values) in NETWORK.iter().chain(&TREES) {
                let value = options.value(name).expect("a known option");
                if Some(&value) == given.value(name).as_ref() {
                    continue;
                }
                moved.insert(*name);
                let number = value.as_f64().unwrap_or(f64::NAN);
                let fits = match values {
                    Real(low, high) | Whole(low, high) => (*low..=*high).contains(&number),
                    OneOf(list) => list.iter().any(|one| *one as f64 == number),
                    Words(list) => list.iter().any(|word| value == *word),
                };
                assert!(fits, "{name} is {value}");
            }
            if options.trees.learning_rate < given.trees.learning_rate {
                assert!(options.trees.rounds > given.trees.rounds);
            } else {
                assert_eq!(options.trees.rounds, given.trees.rounds);
            }
        }
        assert_eq!(moved.len(), NETWORK.len() + TREES.len());
    }

    #[test]
    fn what_was_given_stays() {
        let mut given = Options { hidden: 32, head_learning_rate: 2e-3, ..Options::default() };
        given.trees.leaves = 12;
        given.trees.rounds = 90;
        for setting in settings(&given, 100) {
            let options = given.with(&setting.changes()).expect("options in their ranges");
            assert_eq!((options.hidden, options.head_learning_rate), (32, 2e-3));
            assert_eq!((options.trees.leaves, options.trees.rounds), (12, 90));
        }
        // Nothing but the number of members is free, and it has two values.
        let mut few = Draw::new(&Options { trees: no_trees(), ..given.clone() }, 5);
        assert_eq!(few.tabular(20).len(), 2);
        let mut none = Draw::new(&Options { trees: no_trees(), ..given }, 40);
        assert_eq!(none.tabular(20).len(), 1);
    }

    fn no_trees() -> riskft_core::options::Trees {
        riskft_core::options::Trees { rounds: 0, ..Options::default().trees }
    }

    #[test]
    fn no_more_layers_than_the_encoder_has() {
        let given = Options::default();
        let drawn = Draw::new(&given, 5).text(30, 4);
        assert_eq!(drawn.len(), 30);
        for changes in &drawn {
            let options = given.with(changes).expect("options in their ranges");
            assert!(options.layers <= 4 && !changes.is_empty(), "{changes:?}");
            assert!((4..=32).contains(&options.rank));
        }
    }
}
