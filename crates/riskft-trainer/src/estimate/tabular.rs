//! Steps of the network and rounds of the trees.

use riskft_core::refusal::Result;

use super::{nowhere, timed, Pilot};
use crate::evaluate::MOST_JUDGED_ROWS;
use crate::fit::batch_size;
use crate::forest::{self, Ground};
use crate::run::{Fitted, Run};

/// Steps of the network that are timed, after one that is not.
const STEPS: usize = 24;
/// Epoch after which the network does typically not improve: on the tables of the bench 4 to 12.
const BEST_EPOCH: usize = 8;
/// A fit that takes longer than so many seconds is not repeated for what it sets up.
const LONG: f64 = 2.0;
/// Rounds of the trees that are timed, beyond as many that are timed apart: the first ones bring the
/// tables into LightGBM's form.
const FIRST_ROUNDS: usize = 5;
const ROUNDS: usize = 10;
/// Share of `trees.rounds` after which trees have typically stopped: 155 to 255 of 400 on the tables of the
/// bench.
const GROWN: f64 = 0.6;

impl Pilot<'_> {
    /// Seconds of the phase `network`.
    pub(super) fn network(&self) -> Result<f64> {
        self.tell("network");
        let folds = self.run.folds;
        let rows = folds.trained().len();
        let epoch = rows.div_ceil(batch_size(self.options(), folds.size()).max(1));
        let mut first = self.steps(1)?;
        if first < LONG {
            // It has set up threads and kernels.
            first = self.steps(1)?;
        }
        let taken = epoch.min(1 + STEPS);
        if first == 0.0 || taken == 0 {
            return Ok(first);
        }
        let step = match taken {
            1 => first,
            taken => ((self.steps(taken)? - first) / (taken - 1) as f64).max(0.0),
        };
        // Besides its step, the first one judges an epoch and scores the fitted rows.
        let (fitted, judged) = (folds.fitted.len(), folds.fitted.len().min(MOST_JUDGED_ROWS));
        let pass = (first - step).max(0.0) / (fitted + judged).max(1) as f64;
        let options = self.options();
        let epochs = (BEST_EPOCH + options.patience).min(options.head_epochs);
        let mut steps = (epochs * epoch) as f64;
        if options.max_steps > 0 {
            steps = steps.min(options.max_steps as f64);
        }
        let judgements = (steps / epoch as f64).ceil();
        Ok(steps * step + (judgements * judged as f64 + fitted as f64) * pass)
    }

    /// Seconds of a fit of so many steps; 0 where there is no network.
    fn steps(&self, most: usize) -> Result<f64> {
        let header = self.with(|options| {
            options.head_epochs = options.head_epochs.min(1);
            options.max_steps = most;
        });
        let run = Run { header: &header, ..self.run };
        let (mut fitted, (mut meter, mut ledger)) = (Fitted::default(), nowhere());
        let (seconds, ()) = timed(|| run.network(&mut fitted, &mut meter, &mut ledger))?;
        Ok(if fitted.network.is_some() { seconds } else { 0.0 })
    }

    /// Seconds of the phase `trees`.
    pub(super) fn trees(&self) -> Result<f64> {
        self.tell("trees");
        let most = self.options().trees.rounds;
        let first = self.rounds(FIRST_ROUNDS.min(most))?;
        if first == 0.0 || most <= FIRST_ROUNDS {
            return Ok(first);
        }
        let taken = most.min(FIRST_ROUNDS + ROUNDS);
        let round = (self.rounds(taken)? - first).max(0.0) / (taken - FIRST_ROUNDS) as f64;
        let grown = (most as f64 * GROWN).max(taken as f64);
        Ok(first + round * (grown - FIRST_ROUNDS as f64))
    }

    /// Seconds of so many rounds of all models; 0 where there are no trees.
    fn rounds(&self, rounds: usize) -> Result<f64> {
        let header = self.with(|options| options.trees.rounds = rounds);
        let run = Run { header: &header, ..self.run };
        let asked = run.rows.unlabelled();
        let (seconds, grown) = timed(|| forest::fit(&Ground::of(&run, &asked), run.reporter))?;
        Ok(if grown.is_some() { seconds } else { 0.0 })
    }
}
