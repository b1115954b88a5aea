//! A search over options: successive halving of settings of network and trees, then a few of the
//! encoder's tuning.
//!
//! The first setting is always the given one, and goes through every round. All are judged out of
//! fold; the test part takes no part. The best replaces the given settings only if its log-loss is
//! lower by more than the paired standard error.

mod bench;
mod draw;
mod halving;
mod text;

use std::time::{Duration, Instant};

use riskft_core::options::Options;
use riskft_core::protocol::{JobHeader, Progress, TrialReport, SEARCH};
use riskft_core::refusal::Result;
use serde_json::Value;

use crate::base::Base;
use crate::ledger::Meter;
use crate::run::Run;
use crate::stop;
use bench::{changed, reseed, Bench, Figures};
use draw::{Draw, Setting};

/// What a search found.
pub struct Found {
    /// The job with the best options.
    pub header: JobHeader,
    pub trials: Vec<TrialReport>,
}

/// Searches as the options say; without a search the job is as it was.
///
/// # Errors
/// What the given options are refused for.
pub fn search(run: &Run<'_>, base: Option<&Base>, meter: &mut Meter) -> Result<Found> {
    let options = &run.header.options;
    if options.search.trials == 0 {
        return Ok(Found { header: run.header.clone(), trials: Vec::new() });
    }
    meter.phase("search");
    let mut search = Search::new(run);
    run.reporter.progress(Progress { phase: SEARCH.into(), ..Progress::default() });
    let last = if run.is_text_alone() { None } else { search.halve()? };
    if let Some(base) = base {
        search.tune(base, last.as_ref())?;
    }
    if stop::is_asked() {
        run.reporter.notice("search: ended on request, with the best so far");
    }
    let header = changed(run.header, &search.best.changes())?;
    reseed(&header);
    Ok(Found { header, trials: search.reports() })
}

/// Wall seconds of the trials of network and trees that options ask for, where all models of one setting
/// take `whole` seconds.
pub fn seconds(options: &Options, models: usize, whole: f64) -> f64 {
    let (trials, minutes) = (options.search.trials, options.search.minutes);
    if trials == 0 {
        return 0.0;
    }
    let rungs = if trials > 1 { halving::rungs(models) } else { vec![models] };
    let tried = halving::tried(trials - 1, &rungs);
    let fits: usize = tried.into_iter().zip(rungs).map(|(tried, models)| tried * models).sum();
    let all = fits as f64 * whole / models.max(1) as f64;
    if minutes > 0.0 {
        all.min(60.0 * minutes)
    } else {
        all
    }
}

/// A setting that was tried.
struct Trial {
    setting: Setting,
    rungs: u32,
    auc: Option<f64>,
    log_loss: Option<f64>,
    seconds: f64,
    state: &'static str,
}

impl Trial {
    fn new(setting: Setting) -> Self {
        Trial { setting, rungs: 0, auc: None, log_loss: None, seconds: 0.0, state: "dropped" }
    }
}

struct Search<'a> {
    run: Run<'a>,
    begun: Instant,
    /// None = no bound.
    bound: Option<Duration>,
    draw: Draw,
    trials: Vec<Trial>,
    best: Setting,
    done: usize,
    total: usize,
}

/// Trials with their figures of one round, the given settings' first.
type Standing = Vec<(usize, Figures)>;

impl<'a> Search<'a> {
    fn new(run: &Run<'a>) -> Self {
        let options = &run.header.options;
        let minutes = options.search.minutes;
        Search {
            run: *run,
            begun: Instant::now(),
            bound: (minutes > 0.0).then(|| Duration::from_secs_f64(60.0 * minutes)),
            draw: Draw::new(options, run.folds.models()),
            trials: Vec::new(),
            best: Setting::default(),
            done: 0,
            total: 0,
        }
    }

    /// Time that is left; None = no bound.
    fn left(&self) -> Option<Duration> {
        self.bound.map(|bound| bound.saturating_sub(self.begun.elapsed()))
    }

    /// Whether the clock or a request has ended the search.
    fn is_over(&self) -> bool {
        stop::is_asked() || self.left() == Some(Duration::ZERO)
    }

    /// Network and trees. Returns the last round's judge if all rounds were run.
    fn halve(&mut self) -> Result<Option<Bench<'a>>> {
        let wanted = self.run.header.options.search.trials;
        self.trials = self.draw.tabular(wanted).into_iter().map(Trial::new).collect();
        let models = self.run.folds.models();
        let rungs = if self.trials.len() > 1 { halving::rungs(models) } else { vec![models] };
        let mut racing: Vec<usize> = (0..self.trials.len()).collect();
        self.plan(racing.len() - 1, &rungs);
        let mut standing = Standing::new();
        let mut last = None;
        for rung in &rungs {
            let mut bench = Bench::new(&self.run, *rung);
            let now = self.round(&mut bench, &mut racing, &rungs)?;
            let whole = now.len() == racing.len();
            if whole || now.len() > 1 || standing.is_empty() {
                standing = now;
            }
            if whole && *rung == models {
                last = Some(bench);
            } else if standing.is_empty() || self.is_over() {
                break;
            }
            racing = go_on(&standing);
        }
        if let Some(bench) = &mut last {
            self.cross(bench, &mut standing)?;
        }
        self.trials.retain(|trial| trial.rungs > 0);
        self.settle(&standing);
        Ok(last)
    }

    fn plan(&mut self, challengers: usize, rungs: &[usize]) {
        self.total = halving::tried(challengers, rungs).iter().sum();
    }

    /// Judges the trials that are left, until the clock ends it. Those without figures drop out;
    /// without figures of the given settings there is nothing to compare with.
    fn round(
        &mut self,
        bench: &mut Bench<'_>,
        racing: &mut Vec<usize>,
        rungs: &[usize],
    ) -> Result<Standing> {
        let mut standing = Standing::new();
        let mut next = 0;
        while next < racing.len() {
            if next > 0 && self.is_over() {
                break;
            }
            let index = racing[next];
            match self.judge(bench, index)? {
                Some(figures) => {
                    standing.push((index, figures));
                    next += 1;
                }
                None if index == 0 => return Ok(Standing::new()),
                None => drop(racing.remove(next)),
            }
            if index == 0 && self.trials[0].rungs == 1 {
                self.limit(racing, rungs);
            }
        }
        Ok(standing)
    }

    /// Leaves as many settings as there is time for, by what the given ones took.
    fn limit(&mut self, racing: &mut Vec<usize>, rungs: &[usize]) {
        let Some(left) = self.left() else { return };
        let first = rungs.first().copied().unwrap_or(1);
        let model = Duration::from_secs_f64(self.trials[0].seconds / first as f64);
        let affordable = halving::affordable(racing.len() - 1, rungs, model, left);
        racing.truncate(1 + affordable);
        self.trials.truncate(racing.len());
        self.plan(affordable, rungs);
    }

    fn judge(&mut self, bench: &mut Bench<'_>, index: usize) -> Result<Option<Figures>> {
        let begun = Instant::now();
        let figures = bench.judge(&self.trials[index].setting)?;
        let trial = &mut self.trials[index];
        trial.rungs += 1;
        trial.seconds += begun.elapsed().as_secs_f64();
        if let Some(figures) = &figures {
            (trial.auc, trial.log_loss) = (figures.auc, Some(figures.log_loss));
        }
        self.report();
        Ok(figures)
    }

    fn report(&mut self) {
        self.done += 1;
        let done = self.done as f64;
        let left = self.begun.elapsed().as_secs_f64() / done * (self.total as f64 - done);
        let bound = self.left().map_or(f64::INFINITY, |left| left.as_secs_f64());
        self.run.reporter.progress(Progress {
            phase: SEARCH.into(),
            done: self.done as u64,
            total: self.total.max(self.done) as u64,
            validation_auc: self.trials.iter().filter_map(|trial| trial.auc).reduce(f64::max),
            seconds_left: Some(left.max(0.0).min(bound)),
            ..Progress::default()
        });
    }

    /// The network of one survivor and the trees of another cost nothing more: the best of these
    /// pairs is a further trial, if it is better than all that were drawn.
    fn cross(&mut self, bench: &mut Bench<'_>, standing: &mut Standing) -> Result<()> {
        let mut best: Option<(Setting, Figures)> = None;
        let lowest = |standing: &Standing| {
            standing.iter().map(|(_, figures)| figures.log_loss).fold(f64::INFINITY, f64::min)
        };
        for (one, _) in standing.iter() {
            for (other, _) in standing.iter() {
                let network = self.trials[*one].setting.network.clone();
                let trees = self.trials[*other].setting.trees.clone();
                let setting = Setting { network, trees, ..Setting::default() };
                if self.trials.iter().any(|trial| trial.setting == setting) {
                    continue;
                }
                let Some(figures) = bench.judge(&setting)? else { continue };
                let bar = best.as_ref().map_or(lowest(standing), |(_, best)| best.log_loss);
                if figures.log_loss < bar {
                    best = Some((setting, figures));
                }
            }
        }
        if let Some((setting, figures)) = best {
            let (auc, log_loss) = (figures.auc, Some(figures.log_loss));
            standing.push((self.trials.len(), figures));
            self.trials.push(Trial { rungs: 1, auc, log_loss, ..Trial::new(setting) });
        }
        Ok(())
    }

    /// Names the best, says by how much, and takes its settings if that is more than chance.
    fn settle(&mut self, standing: &Standing) {
        let Some(((_, given), others)) = standing.split_first() else {
            self.trials[0].state = "best";
            return;
        };
        standing.iter().for_each(|(index, _)| self.trials[*index].state = "kept");
        let best = others.iter().min_by(|a, b| a.1.log_loss.total_cmp(&b.1.log_loss));
        let gain = best.and_then(|(index, figures)| Some((*index, figures.gain_over(given)?)));
        let Some((index, (gain, error))) = gain else {
            self.trials[0].state = "best";
            return;
        };
        let better = gain > error && gain > 0.0;
        let winner = if better { index } else { 0 };
        self.trials[winner].state = "best";
        self.best = self.trials[winner].setting.clone();
        let figures = format!(
            "its log-loss out of fold is {} than that of the given settings (standard error \
             {error:.5})",
            in_words(gain)
        );
        self.run.reporter.notice(match better {
            true => format!(
                "search: trial {} of {} is the best, {figures}; its settings are used: {}",
                index + 1,
                self.trials.len(),
                Value::Object(self.best.changes())
            ),
            false => format!(
                "search: none of {} trials is better by more than chance; of trial {}, the best of \
                 the others, {figures}; the given settings are used",
                self.trials.len(),
                index + 1
            ),
        });
    }

    fn reports(&self) -> Vec<TrialReport> {
        let report = |(index, trial): (usize, &Trial)| TrialReport {
            trial: index as u32 + 1,
            rungs: trial.rungs,
            options: Value::Object(trial.setting.changes()),
            auc: trial.auc,
            log_loss: trial.log_loss,
            seconds: trial.seconds,
            state: trial.state.to_owned(),
        };
        self.trials.iter().enumerate().map(report).collect()
    }
}

fn in_words(gain: f64) -> String {
    format!("{:.5} {}", gain.abs(), if gain < 0.0 { "higher" } else { "lower" })
}

/// The given settings, and the better half of the others.
fn go_on(standing: &Standing) -> Vec<usize> {
    let mut others: Vec<&(usize, Figures)> = standing.iter().skip(1).collect();
    others.sort_by(|a, b| a.1.log_loss.total_cmp(&b.1.log_loss));
    others.truncate(halving::survivors(others.len()));
    let mut racing: Vec<usize> = others.into_iter().map(|(index, _)| *index).collect();
    racing.insert(0, 0);
    racing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_foretold_by_its_rounds() {
        let mut options = Options::default();
        assert_eq!(seconds(&options, 5, 10.0), 0.0);
        options.search.trials = 1;
        assert_eq!(seconds(&options, 5, 10.0), 10.0);
        // 12 settings on one model, 7 on two, 4 on five.
        options.search.trials = 12;
        assert_eq!(seconds(&options, 5, 10.0), 92.0);
        options.search.minutes = 1.0;
        assert_eq!(seconds(&options, 5, 10.0), 60.0);
    }
}
