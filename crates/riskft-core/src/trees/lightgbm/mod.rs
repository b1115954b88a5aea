//! LightGBM's text model (`version=v4`, as `Booster.save_model` writes it) -> an [`Ensemble`].
//!
//! A header of `key=value` lines, a section for each tree, `end of trees`; what follows (importances,
//! parameters) is not read. The rules of a split are those of LightGBM's documentation ("Missing
//! value handle", "Categorical feature support") and of its predictions, which the golden tests
//! hold to the bit:
//!
//! | missing type | NaN | zero |
//! |---|---|---|
//! | none | counts as 0 | a value |
//! | zero | the default side | the default side |
//! | nan | the default side | a value |
//!
//! At a category split NaN, negative codes and codes that the training did not see go right.
//! Values within [`super::ZERO`] of zero are zero before the first split.

mod section;
mod tree;

use super::{Ensemble, MAX_FEATURES};
use crate::refusal::{code, Refusal, Result};
use section::{Lines, Section};

/// Longest text, bytes: ten times the largest ensemble that pays on a credit table.
pub const MAX_TEXT: usize = 256 << 20;

/// Why a text is not read.
enum Fault {
    /// It is not what LightGBM writes.
    Broken(String),
    /// It is a model that riskft does not score.
    Foreign(String),
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Fault::Broken(what)
    }
}

type Read<T> = std::result::Result<T, Fault>;

/// Reads the trees of a binary model whose raw score is a logit (`objective=binary sigmoid:1`).
///
/// [`Ensemble::score`] is then `predict(raw_score=True)` of all its trees, to the bit. A model of
/// another kind is 0A000: other objectives or sigmoids, several classes, linear leaves, averaged
/// output (random forests), other versions of the format. A text that breaks off or contradicts
/// itself is 22000. Takes at most about ten times the text's memory.
pub fn read(text: &str) -> Result<Ensemble> {
    parse(text).map_err(|fault| match fault {
        Fault::Broken(what) => {
            Refusal::new(code::DATA_EXCEPTION, "text of the boosted trees is broken")
                .detail(format!("The text cannot be read: {what}."))
                .hint("Train the model again.")
        }
        Fault::Foreign(what) => {
            Refusal::new(code::NOT_SUPPORTED, "boosted trees are of a kind that is not scored")
                .detail(format!("The model has {what}."))
                .hint("Train with the objective \"binary\", sigmoid 1 and constant leaves.")
        }
    })
}

fn parse(text: &str) -> Read<Ensemble> {
    if text.len() > MAX_TEXT {
        return Err(Fault::Broken(format!("it has more than {MAX_TEXT} bytes")));
    }
    let mut lines = Lines::new(text);
    let header = lines.section()?;
    let mut ensemble = Ensemble::new(known(&header)?)?;
    while let Some(name) = lines.tree() {
        let k = ensemble.len();
        if name.parse() != Ok(k) {
            return Err(Fault::Broken(format!("tree {name} stands where tree {k} should")));
        }
        let section = lines.section().map_err(|fault| within(k, fault))?;
        let nodes = tree::nodes(&section).map_err(|fault| within(k, fault))?;
        ensemble.push(&nodes).map_err(|what| within(k, Fault::Broken(what)))?;
    }
    let sizes = header.get("tree_sizes")?.split_ascii_whitespace().count();
    if !lines.ended() || sizes != ensemble.len() {
        let found = ensemble.len();
        return Err(Fault::Broken(format!("it breaks off after {found} of {sizes} trees")));
    }
    Ok(ensemble)
}

/// The same fault, naming the tree.
fn within(tree: usize, fault: Fault) -> Fault {
    match fault {
        Fault::Broken(what) => Fault::Broken(format!("in tree {tree}, {what}")),
        foreign => foreign,
    }
}

/// Refuses what is not scored; the number of features.
fn known(header: &Section<'_>) -> Read<usize> {
    if header.find("tree").is_none() {
        return Err(Fault::Broken("it does not begin as a LightGBM model".into()));
    }
    if header.find("average_output").is_some() {
        return Err(Fault::Foreign("an average as its output".into()));
    }
    let wanted = [
        ("version", "v4"),
        ("num_class", "1"),
        ("num_tree_per_iteration", "1"),
        ("objective", "binary sigmoid:1"),
    ];
    for (key, value) in wanted {
        let found = header.get(key)?;
        if found != value {
            return Err(Fault::Foreign(format!("{key}={found}, not {value}")));
        }
    }
    let last: usize = header.number("max_feature_idx")?;
    match last < MAX_FEATURES {
        true => Ok(last + 1),
        false => Err(Fault::Broken(format!("feature {last} is beyond {MAX_FEATURES}"))),
    }
}
