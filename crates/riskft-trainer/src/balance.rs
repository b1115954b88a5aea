//! `options.balance`: a rare class counts for more while branches are fitted.
//!
//! Both ways change the odds of the classes among the rows that train, and so the logits of what is
//! fitted on them, by [`Folds::shift`]. That shift is taken out of each branch where it is fitted
//! (`fit.rs`, `forest.rs`, `grams/branch.rs`), so that out-of-fold logits, early stopping, blend and
//! calibration all speak of the table's own shares, whatever the option. It is exact for weights;
//! for made-up rows as far as they are distributed as the rows that they stand for.
//!
//! Terms of the encoder's texts are fitted on top of those logits, with natural weights.

use riskft_core::encode::Encoding;
use riskft_core::options::{Balance, Method, TextMode};
use riskft_core::protocol::{JobHeader, Progress};

use crate::events::Reporter;
use crate::folds::{Folds, Share};
use crate::rows::{Made, Rows};
use crate::smote::{Layout, Smote};

/// Rows of the frequent class for each rare one that SMOTE leaves. At 1:2 every rare row counts, but
/// made-up rows, which know nothing that the rare ones do not, are a third of the rows at most.
const RATIO: usize = 2;
/// Most made-up rows of one model.
const MOST_MADE: usize = 50_000;

/// Folds with weights or made-up rows; None = the rows as they were.
pub struct Balanced {
    pub folds: Folds,
    pub rows: Option<Rows>,
}

/// Does what `options.balance` asks for, and says so.
pub fn of(
    rows: &Rows,
    folds: &Folds,
    encoding: &Encoding,
    header: &JobHeader,
    reporter: &Reporter,
) -> Balanced {
    let (options, seed) = (&header.options, header.options.seed);
    let mut balanced = Balanced { folds: folds.clone(), rows: None };
    let text_alone = options.text == TextMode::Row && header.method != Method::None;
    match options.balance {
        Balance::None => {}
        _ if text_alone => {
            reporter.notice("balance: texts are fitted on the table's own shares: nothing changes")
        }
        Balance::Weights => weigh(rows, &mut balanced.folds, reporter),
        Balance::Smote => {
            let made = make(rows, &mut balanced.folds, encoding, seed, reporter);
            balanced.rows = (!made.is_empty()).then(|| rows.with(&made, encoding));
        }
    }
    balanced
}

/// Weight of a row of each class, false and true, so that both weigh the same in sum and 1 in the
/// mean; None with one class only.
fn weights(rows: &Rows, folds: &Folds) -> Option<[f64; 2]> {
    let count = folds.fitted.len() as f64;
    let positive = folds.fitted.iter().filter(|place| rows.labels[**place as usize]).count() as f64;
    let each = [count / 2.0 / (count - positive), count / 2.0 / positive];
    each.iter().all(|weight| weight.is_finite()).then_some(each)
}

fn weigh(rows: &Rows, folds: &mut Folds, reporter: &Reporter) {
    let Some(each) = weights(rows, folds) else { return };
    for place in &folds.fitted {
        let class = usize::from(rows.labels[*place as usize]);
        folds.weights[*place as usize] = each[class] as f32;
    }
    reporter.notice(format!(
        "balance: while fitting, a positive row weighs {:.3} and a negative one {:.3}",
        each[1], each[0]
    ));
}

/// Made-up rows of all models, and their places in the folds.
fn make(
    rows: &Rows,
    folds: &mut Folds,
    encoding: &Encoding,
    seed: u64,
    reporter: &Reporter,
) -> Vec<Made> {
    let layout = Layout::of(encoding);
    let models = folds.models();
    let (mut made, mut counts) = (Vec::new(), Vec::with_capacity(models));
    for model in 0..models {
        reporter.progress(Progress {
            phase: "balance".into(),
            done: model as u64,
            total: models as u64,
            ..Progress::default()
        });
        let own = make_for(rows, folds, &layout, (model, seed));
        own.iter().for_each(|_| folds.append(&[model], 1.0));
        counts.push(own.len());
        made.extend(own);
    }
    let (least, most) = (counts.iter().min(), counts.iter().max());
    reporter.notice(match most {
        None | Some(0) => format!(
            "balance: nothing is made up: the classes are 1:{RATIO} or nearer, or the rarer one has fewer \
             than two rows"
        ),
        Some(most) => format!(
            "balance: {} to {most} rows are made up between rare rows and their neighbours for the \
             training rows of each of {models} models",
            least.unwrap_or(&0)
        ),
    });
    made
}

/// The rows that one model lacks to 1:[`RATIO`], from its own training rows.
fn make_for(rows: &Rows, folds: &Folds, layout: &Layout, (model, seed): (usize, u64)) -> Vec<Made> {
    let train = folds.places(model, Share::Train);
    let (positive, negative): (Vec<u32>, Vec<u32>) =
        train.iter().partition(|place| rows.labels[**place as usize]);
    let label = positive.len() < negative.len();
    let (rare, other) = if label { (positive, negative) } else { (negative, positive) };
    let lacking = (other.len() / RATIO).saturating_sub(rare.len()).min(MOST_MADE);
    if lacking == 0 {
        return Vec::new();
    }
    let features = |place: u32| rows.features.of(place);
    let Some(smote) = Smote::new(layout, features, &train, rare, (model, seed)) else {
        return Vec::new();
    };
    let made = smote.rows(lacking).into_iter();
    made.map(|(own, features)| Made { own, label, features }).collect()
}
