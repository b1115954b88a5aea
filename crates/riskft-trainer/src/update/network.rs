//! The members of the network, continued.

use riskft_core::options::Options;
use riskft_core::protocol::Ledger;
use riskft_core::refusal::{code, Refusal, Result};

use super::origin::Origin;
use super::rows::NewRows;
use crate::device::Compute;
use crate::evaluate::{judge, left_out, member_logits, MOST_JUDGED_ROWS};
use crate::events::Reporter;
use crate::fit::{all_parameters, fit_head, Lesson, Snapshot};
use crate::folds::Folds;
use crate::head::{Head, Plan};
use crate::rows::{sample, Rows};

/// The network of an update.
pub struct Network {
    pub head: Head,
    /// Logits of all new rows, NaN of those set aside, by members that did not learn from them; None
    /// where the members are as they were.
    pub out_of_fold: Option<Vec<f64>>,
}

/// Trains the members on, each on all rows but a fold of the new ones; they stay as they were where
/// that ranks the rows that they left out no better. None without a network.
///
/// # Errors
/// XX001 where the stored network does not fit the version; 22000 where it diverges.
pub fn fit(
    origin: &Origin,
    new: &NewRows,
    options: &Options,
    compute: &Compute,
    ledger: &mut Ledger,
    reporter: &Reporter,
) -> Result<Option<Network>> {
    if origin.network().is_none() {
        return Ok(None);
    }
    let head = stored(origin, compute)?.with_codes(&new.added);
    ledger.parameters = head.size() as u64;
    ledger.parameters_trainable = head.size() as u64;
    if options.head_epochs == 0 {
        return Ok(Some(Network { head, out_of_fold: None }));
    }
    let inputs = new.inputs.followed_by(&origin.replay.fitted);
    let rows = Rows::of_network(&inputs, compute.device);
    let first = new.source.len() as u32;
    let replayed: Vec<u32> = (first..inputs.labels.len() as u32).collect();
    let mut hashes = new.hashes.clone();
    hashes.resize(inputs.labels.len(), 0);
    let models = (head.plan.members as usize / options.members.max(1)).max(1);
    let fitted = new.fitted.clone();
    let folds = Folds::of_update(&rows, &hashes, (fitted, &replayed), models, options);
    let lesson =
        Lesson { rows: &rows, folds: &folds, offset: None, options, phase: "network", reporter };
    let parameters = all_parameters(&head);
    let before = Snapshot::take(&parameters);
    // The rows that an epoch is judged on.
    let judged = sample(folds.fitted.clone(), MOST_JUDGED_ROWS, options.seed);
    let logits = left_out(&folds, &member_logits(&head, &rows, &judged), &judged);
    let start = judge(&logits, &rows.labels_of(&judged));
    let reached = fit_head(&head, lesson)?;
    ledger.head_epochs = reached.epochs as u64;
    if reached.judgement.value <= start.value {
        before.restore(&parameters);
        reporter.notice(
            "the network learns nothing from the new rows that ranks them better: it stays as it is",
        );
        return Ok(Some(Network { head, out_of_fold: None }));
    }
    let mut out_of_fold = reached.out_of_fold;
    out_of_fold.truncate(new.source.len());
    Ok(Some(Network { head, out_of_fold: Some(out_of_fold) }))
}

/// The network as the training file keeps it.
fn stored(origin: &Origin, compute: &Compute) -> Result<Head> {
    let specification = origin.specification();
    let options = Options { hidden: specification.hidden, ..origin.options.clone() };
    let plan = Plan::tabular(&specification.encoding, &options, specification.members, 0.5);
    let find = |name: &str| origin.tensor(name).map(|tensor| tensor.data);
    Head::stored(plan, compute.device, find).ok_or_else(|| {
        Refusal::new(code::DATA_CORRUPTED, "training file is damaged")
            .detail("Its network does not fit its version.")
            .hint("Train the model again.")
    })
}
