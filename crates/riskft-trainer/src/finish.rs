//! From the fitted branches to what is published: int8, calibration, figures, gate.

use std::sync::Arc;

use riskft_core::artifact::digest;
use riskft_core::calibrate::Platt;
use riskft_core::curve::{self, CurveBin};
use riskft_core::dataset::Part;
use riskft_core::drift::{self, Reference};
use riskft_core::explain::Background;
use riskft_core::metrics;
use riskft_core::model::{BranchKind, EncoderReference, Model, Specification, FORMAT};
use riskft_core::network::TensorMap;
use riskft_core::options::Gate;
use riskft_core::protocol::{
    BlobHeader, BranchReport, EffectReport, GateReport, ImportanceReport, IncumbentReport,
    PartMetric, PeriodReport,
};
use riskft_core::quantize::{self, Parts};
use riskft_core::refusal::Result;
use tch::Kind;

use crate::backtest;
use crate::base::Base;
use crate::baseline::Baseline;
use crate::bert::Bert;
use crate::blend::{self, Blend};
use crate::evaluate::{member_logits, network_logits};
use crate::explain::Shown;
use crate::figures::{self, Judgement};
use crate::fold;
use crate::frozen::Tuned;
use crate::gate;
use crate::head::Head;
use crate::incumbent::{self, Contest};
use crate::job::Job;
use crate::ledger::{timed, Meter};
use crate::rows::{sample, Reader};
use crate::run::{Fitted, Run};
use crate::scoring;
use crate::stage::Seen;
use crate::text::Text;
use crate::tuning::Tuning;

/// Most fitted rows whose own figures are computed.
pub const MOST_TRAINING_ROWS: usize = 20_000;

/// The fitted branches, and all that they were fitted on.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    pub run: Run<'a>,
    pub job: &'a Job,
    pub base: Option<&'a Base>,
    pub fitted: &'a Fitted,
    pub blend: &'a Blend,
    pub baseline: Option<&'a Baseline>,
    /// Logits of the rows that the calibration is fitted on, by place, NaN elsewhere; None = all, out
    /// of fold.
    pub backtest: Option<&'a [f64]>,
}

/// What is published.
pub struct Published {
    pub threshold: f64,
    pub metrics: Vec<PartMetric>,
    pub branches: Vec<BranchReport>,
    pub periods: Vec<PeriodReport>,
    pub importances: Vec<ImportanceReport>,
    pub effects: Vec<EffectReport>,
    pub reference: Vec<Reference>,
    pub curve: Vec<CurveBin>,
    pub gate: GateReport,
    pub incumbent: Option<IncumbentReport>,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// The quantized version, not yet calibrated.
pub struct Quantized {
    pub(crate) encoder: Option<Vec<u8>>,
    pub(crate) specification: Specification,
    pub(crate) parts: Parts,
    pub(crate) overlay: TensorMap,
    pub(crate) model: Arc<Model>,
}

/// The version's figures.
pub(crate) struct Judged {
    train: Judgement,
    validation: Judgement,
    calibration: Option<Judgement>,
    pub(crate) test: Judgement,
    pub(crate) platt: Platt,
    pub(crate) threshold: f64,
}

impl Judged {
    /// The test rows; fitted ones where there is no test part.
    pub(crate) fn shown(&self) -> &Judgement {
        if self.test.labels.is_empty() {
            &self.train
        } else {
            &self.test
        }
    }

    /// Fitted rows by models that had not seen them.
    pub(crate) fn validation(&self) -> &Judgement {
        &self.validation
    }

    fn parts(&self) -> impl Iterator<Item = &Judgement> {
        [&self.train, &self.validation].into_iter().chain(&self.calibration).chain([&self.test])
    }
}

impl<'a> Trained<'a> {
    fn has(&self, kind: BranchKind) -> bool {
        self.blend.branches.iter().any(|branch| branch.kind == kind)
    }

    pub(crate) fn network(&self) -> Option<&'a Head> {
        self.fitted.network.as_ref().filter(|_| self.has(BranchKind::Network))
    }

    /// The text branch with its encoder.
    pub(crate) fn text(&self) -> Option<(&'a Text, &'a Base)> {
        self.fitted.text.as_ref().filter(|_| self.has(BranchKind::Text)).zip(self.base)
    }

    /// Merges in float, then quantizes once.
    pub fn quantize(&self) -> Result<Quantized> {
        let (encoder, reference) = match self.text() {
            Some((text, base)) => {
                let bytes =
                    quantize::base_encoder(&base.shape, &base.tensors, base.words.compiled())?;
                let reference = EncoderReference {
                    base: base.name.clone(),
                    digest: digest(&bytes),
                    shape: text.tuning.shape(&base.shape),
                };
                (Some(bytes), Some(reference))
            }
            None => (None, None),
        };
        let mut encoding = self.run.encoding.clone();
        let grams = self.fitted.grams.as_ref().filter(|_| self.has(BranchKind::Grams));
        if encoder.is_none() && grams.is_none() {
            encoding.texts.clear();
        }
        let mut parts = Parts {
            network: fold::network(self.network(), self.text().map(|(text, _)| &text.terms)),
            grams: grams.map(|branch| branch.table.clone()),
            ..Parts::default()
        };
        match self.fitted.forest.as_ref().filter(|_| self.has(BranchKind::Trees)) {
            Some(forest) => {
                parts.trees = Some(forest.trees.clone());
                parts.statistics = forest.statistics.clone();
            }
            None => encoding.statistics.clear(),
        }
        let specification = Specification {
            format: FORMAT,
            numerics: 1,
            encoding: encoding.without_unused_columns(),
            branches: self.blend.branches.clone(),
            members: parts.network.members.len(),
            hidden: self.run.header.options.hidden,
            encoder: reference,
            grams: grams.map(|branch| branch.input.clone()),
            landmarks: parts.network.landmarks.iter().map(|own| own.weights.len()).collect(),
            calibration: Platt::IDENTITY,
            threshold: 0.5,
            positive_label: self.run.prepared.positive_label.clone(),
            negative_label: self.run.prepared.negative_label.clone(),
            background: Background::default(),
        };
        let merged = |(text, base): (&Text, &Base)| text.tuning.merged(&base.tensors);
        let overlay = self.text().map_or_else(TensorMap::new, merged);
        let version = quantize::version(&specification, &parts, &overlay)?;
        let model = scoring::open(version, encoder.clone())?;
        Ok(Quantized { encoder, specification, parts, overlay, model })
    }

    /// Calibrates, measures and gates the quantized version, and writes its files.
    ///
    /// # Errors
    /// 22000 when it misses the gate.
    pub fn publish(
        &self,
        quantized: Quantized,
        incumbent: Option<Result<Arc<Model>>>,
        meter: &mut Meter,
    ) -> Result<Published> {
        let judged = self.judge(&quantized, meter)?;
        let (gate, limits) = self.gate(&quantized, &judged)?;
        if !gate.passed {
            return Err(gate::refusal(&gate, &limits));
        }
        let incumbent = incumbent.map(|model| {
            let test = &judged.test;
            let contest = Contest {
                dataset: &self.job.dataset,
                rows: &self.source(&test.places),
                labels: &test.labels,
                scores: &test.scores,
                positive_label: &self.run.prepared.positive_label,
                threads: self.run.compute.threads,
            };
            incumbent::compare(model, &contest, self.run.reporter)
        });
        let periods = figures::periods(&self.run, &[&judged.validation, &judged.test]);
        let calibrate = self.run.header.options.calibrate;
        if let Some((message, detail)) = figures::drift(&periods, calibrate) {
            self.run.reporter.warning(message, detail);
        }
        let metrics = judged.parts().flat_map(|part| part.metrics(judged.threshold)).collect();
        let (branches, threshold) = (self.branches(&judged), judged.threshold);
        let (blobs, model) = self.files(quantized, &judged)?;
        meter.phase("explain");
        let shown = Shown {
            model: &model,
            dataset: &self.job.dataset,
            rows: self.source(&judged.shown().places),
            options: &self.run.header.options,
            threads: self.run.compute.threads,
            reporter: self.run.reporter,
        };
        let (importances, effects) = shown.figures()?;
        let reference = self.reference(&model, &judged);
        Ok(Published {
            threshold,
            metrics,
            branches,
            periods,
            importances,
            effects,
            reference,
            curve: curve::bins(&judged.test.scores, &judged.test.labels),
            gate,
            incumbent,
            blobs,
        })
    }

    /// How its columns are distributed on the fitted rows, and its scores on the test rows; out of
    /// fold where there is no test part.
    fn reference(&self, model: &Model, judged: &Judged) -> Vec<Reference> {
        let scores = match judged.test.scores.as_slice() {
            [] => &judged.validation.scores,
            scores => scores,
        };
        let (data, encoding) = (&self.job.dataset, &model.specification().encoding);
        let mut reference = drift::columns(data, encoding, &self.run.prepared.fitted());
        reference.push(drift::score(scores));
        reference
    }

    pub(crate) fn source(&self, places: &[u32]) -> Vec<u32> {
        places.iter().map(|place| self.run.rows.source[*place as usize]).collect()
    }

    /// Rows scored by the int8 version.
    fn scored(&self, quantized: &Quantized, part: Part, places: Vec<u32>) -> Result<Judgement> {
        let encoding = &quantized.specification.encoding;
        let reader = Reader::new(&self.job.dataset, encoding)?;
        let (threads, reporter) = (self.run.compute.threads, self.run.reporter);
        let source = self.source(&places);
        let branches = scoring::logits(&quantized.model, &reader, &source, threads, reporter)?;
        let blend = |row: &Vec<f64>| quantized.specification.blend(row.iter().copied());
        Ok(Judgement {
            part,
            labels: self.run.rows.labels_of(&places),
            logits: branches.iter().map(blend).collect(),
            branches,
            scores: Vec::new(),
            places,
        })
    }

    /// Fits calibration and threshold on out-of-fold rows, and scores the other parts.
    fn judge(&self, quantized: &Quantized, meter: &mut Meter) -> Result<Judged> {
        let (run, seed) = (&self.run, self.run.header.options.seed);
        let train = sample(run.folds.fitted.clone(), MOST_TRAINING_ROWS, seed);
        let mut scored = |part, places: Vec<u32>| {
            let rows = places.len();
            let (judgement, seconds) = timed(|| self.scored(quantized, part, places));
            if rows > 0 {
                meter.score_cpu_seconds = Some(seconds / rows as f64);
            }
            judgement
        };
        let train = scored(Part::Train, train)?;
        let test = scored(Part::Test, run.rows.part(Part::Test).to_vec())?;
        let known = |part, logits| Judgement::known(run, part, logits);
        let validation = known(Part::Validation, &self.blend.out_of_fold);
        let calibration = self.backtest.map(|logits| known(Part::Calibration, logits));
        let platt = backtest::calibration(&validation, calibration.as_ref());
        let mut judged = Judged { train, validation, calibration, test, platt, threshold: 0.5 };
        for part in [&mut judged.train, &mut judged.validation, &mut judged.test]
            .into_iter()
            .chain(&mut judged.calibration)
        {
            part.calibrate(platt);
        }
        let validation = &judged.validation;
        if let Some((threshold, _)) =
            metrics::best_f1_threshold(&validation.scores, &validation.labels)
        {
            judged.threshold = threshold;
        }
        Ok(judged)
    }

    /// What each branch is worth, out of fold and on the test rows.
    fn branches(&self, judged: &Judged) -> Vec<BranchReport> {
        let labels = self.run.labels();
        let fitted = &self.run.folds.fitted;
        let mut reports = blend::reports(&self.fitted.candidates, self.blend, fitted, &labels);
        for (index, branch) in self.blend.branches.iter().enumerate() {
            let name = branch.kind.name();
            let Some(report) = reports.iter_mut().find(|report| report.branch == name) else {
                continue;
            };
            let logits: Vec<f64> = judged.test.branches.iter().map(|row| row[index]).collect();
            report.test_auc = metrics::auc(&logits, &judged.test.labels);
            let candidate = self.fitted.candidates.iter().find(|c| c.kind == branch.kind);
            // What is fitted on top of the others gives no probabilities alone.
            if let Some(candidate) = candidate.filter(|candidate| !candidate.on_top) {
                let known = blend::known(&candidate.logits, fitted, &labels);
                report.test_log_loss = figures::log_loss_alone(known, &logits, &judged.test.labels);
            }
        }
        let of = |baseline: &Baseline| baseline.report(&self.run, &judged.test.labels);
        reports.extend(self.baseline.map(of));
        reports
    }

    /// Compares the version with its float branches on the test rows, or on fitted ones where there
    /// is no test part.
    fn gate(&self, quantized: &Quantized, judged: &Judged) -> Result<(GateReport, Gate)> {
        let rows = judged.shown();
        if rows.labels.len() < gate::MIN_ROWS || metrics::auc(&rows.scores, &rows.labels).is_none()
        {
            self.run.reporter.notice(format!(
                "the test part has {} rows or one class only; the int8 model is judged by its score changes alone",
                judged.test.labels.len()
            ));
        }
        let float = self.float_logits(rows, &quantized.overlay)?;
        let float: Vec<f64> = float.into_iter().map(|z| judged.platt.apply(z)).collect();
        let limits = &self.run.header.options.gate;
        Ok(gate::compare(&float, &rows.scores, &rows.labels, judged.threshold, limits))
    }

    /// Logits of the float branches, the encoder in f32. Trees and n-grams have one arithmetic only.
    fn float_logits(&self, rows: &Judgement, overlay: &TensorMap) -> Result<Vec<f64>> {
        let network = self
            .network()
            .map(|head| network_logits(&member_logits(head, self.run.rows, &rows.places)));
        let text = match self.text() {
            Some((text, base)) => Some(self.float_text(text, base, &rows.places, overlay)?),
            None => None,
        };
        let of = |row: usize| {
            let logits = self.blend.branches.iter().enumerate().map(|(index, branch)| {
                let own = match branch.kind {
                    BranchKind::Network => network.as_ref().map(|z| z[row]),
                    BranchKind::Text => text.as_ref().map(|z| z[row]),
                    BranchKind::Trees | BranchKind::Grams => None,
                };
                branch.weight * own.unwrap_or(rows.branches[row][index])
            });
            logits.sum()
        };
        Ok((0..rows.places.len()).map(of).collect())
    }

    fn float_text(
        &self,
        text: &Text,
        base: &Base,
        places: &[u32],
        overlay: &TensorMap,
    ) -> Result<Vec<f64>> {
        let mut tensors = base.tensors.clone();
        tensors.extend(overlay.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        let device = self.run.compute.device;
        let bert = Bert::new(&base.shape, &tensors, Kind::Float, device)?;
        drop(tensors);
        // LoRA and full tuning are in the merged weights; adapters stand beside them.
        let tuning = match text.tuning {
            Tuning::Adapters(_) => &text.tuning,
            _ => &Tuning::Frozen,
        };
        let (rows, texts) = (self.run.rows, self.run.texts);
        let tuned = Tuned { bert: &bert, tuning, texts, split: 0, lower: None, device };
        Ok(Seen::of(&tuned, rows, places).logits(&text.terms, rows, places))
    }
}
