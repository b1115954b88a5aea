//! From the trained network to what is published: int8, calibration, figures, gate, files.

use std::sync::Arc;

use riskft_core::artifact::{digest, write, Tensor, TensorSet};
use riskft_core::calibrate::Platt;
use riskft_core::dataset::{Dataset, Part, Prepared};
use riskft_core::encode::Encoding;
use riskft_core::math::logit;
use riskft_core::metrics;
use riskft_core::model::{EncoderReference, Model, Specification};
use riskft_core::network::{FloatNetwork, TensorMap};
use riskft_core::options::Gate;
use riskft_core::protocol::{
    BlobHeader, BlobKind, GateReport, IncumbentReport, JobHeader, PartMetric,
};
use riskft_core::quantize;
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;
use tch::Kind;

use crate::base::Base;
use crate::bert::Bert;
use crate::device::Compute;
use crate::evaluate;
use crate::events::Reporter;
use crate::fold;
use crate::frozen::Tuned;
use crate::gate;
use crate::head::Head;
use crate::incumbent::{self, Contest};
use crate::rows::{Reader, Rows};
use crate::scoring;
use crate::tensors::to_float_tensor;
use crate::texts::Texts;
use crate::tuning::Tuning;

/// Most training rows whose figures are computed.
const MOST_TRAINING_ROWS: usize = 20_000;
/// Rows whose scores by the finished file are compared with those it was judged by.
const CHECKED_ROWS: usize = 64;

/// A trained network and all that it was trained on.
pub struct Trained<'a> {
    pub job: &'a JobHeader,
    pub dataset: &'a Dataset,
    pub prepared: &'a Prepared,
    pub encoding: &'a Encoding,
    pub base: Option<&'a Base>,
    pub texts: &'a Texts,
    pub rows: &'a Rows,
    pub head: &'a Head,
    /// [`Tuning::Frozen`] unless the tuned encoder was kept.
    pub tuning: &'a Tuning,
    pub compute: &'a Compute,
    pub reporter: &'a Reporter,
}

/// What is published.
pub struct Published {
    pub threshold: f64,
    pub metrics: Vec<PartMetric>,
    pub gate: GateReport,
    pub incumbent: Option<IncumbentReport>,
    pub blobs: Vec<(BlobHeader, Vec<u8>)>,
}

/// The quantized network, not yet calibrated.
pub struct Quantized {
    encoder: Option<Vec<u8>>,
    specification: Specification,
    network: FloatNetwork,
    overlay: TensorMap,
    model: Arc<Model>,
}

impl Trained<'_> {
    /// Merges in float, then quantizes once.
    pub fn quantize(&self) -> Result<Quantized> {
        let (encoder, reference) = match self.base {
            Some(base) => {
                let bytes =
                    quantize::base_encoder(&base.shape, &base.tensors, base.words.compiled())?;
                let reference = EncoderReference {
                    base: base.name.clone(),
                    digest: digest(&bytes),
                    shape: self.tuning.shape(&base.shape),
                };
                (Some(bytes), Some(reference))
            }
            None => (None, None),
        };
        let specification = Specification {
            format: 1,
            numerics: 1,
            encoding: self.encoding.clone(),
            members: self.head.plan.members as usize,
            hidden: self.head.plan.hidden as usize,
            encoder: reference,
            calibration: Platt { slope: 1.0, intercept: 0.0 },
            threshold: 0.5,
            positive_label: self.prepared.positive_label.clone(),
            negative_label: self.prepared.negative_label.clone(),
        };
        let network = fold::network(self.head);
        let overlay =
            self.base.map_or_else(TensorMap::new, |base| self.tuning.merged(&base.tensors));
        let version = quantize::version(&specification, &network, &overlay)?;
        let model = scoring::open(version, encoder.clone())?;
        Ok(Quantized { encoder, specification, network, overlay, model })
    }

    /// Calibrates, measures and gates the quantized network, and writes its files.
    ///
    /// # Errors
    /// 22000 when it misses the gate.
    pub fn publish(
        &self,
        quantized: Quantized,
        incumbent: Option<Result<Arc<Model>>>,
    ) -> Result<Published> {
        let judged = self.judge(&quantized)?;
        let (gate, limits) = self.gate(&quantized, &judged)?;
        if !gate.passed {
            return Err(gate::refusal(&gate, &limits));
        }
        let incumbent = incumbent.map(|model| {
            let test = judged.of(Part::Test);
            let contest = Contest {
                dataset: self.dataset,
                rows: &test.source,
                labels: &test.labels,
                scores: &test.scores,
                positive_label: &self.prepared.positive_label,
                threads: self.compute.threads,
            };
            incumbent::compare(model, &contest, self.reporter)
        });
        let metrics = judged.parts.iter().flat_map(|part| part.metrics(judged.threshold)).collect();
        let threshold = judged.threshold;
        let blobs = self.files(quantized, &judged)?;
        Ok(Published { threshold, metrics, gate, incumbent, blobs })
    }

    /// Scores all parts by the int8 network; fits calibration and threshold.
    fn judge(&self, quantized: &Quantized) -> Result<Judged> {
        let mut places: Vec<(Part, Vec<u32>)> = vec![(
            Part::Train,
            self.rows.sample(Part::Train, MOST_TRAINING_ROWS, self.job.options.seed),
        )];
        for part in [Part::Validation, Part::Calibration, Part::Test] {
            places.push((part, self.rows.part(part).to_vec()));
        }
        let source: Vec<u32> = places
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(|r| self.rows.source[*r as usize])
            .collect();
        let reader = Reader::new(self.dataset, self.encoding)?;
        let model = &quantized.model;
        let mut logits =
            scoring::logits(model, &reader, &source, self.compute.threads, self.reporter)?
                .into_iter();
        let mut source = source.into_iter();
        let mut parts: Vec<Judgement> = places
            .into_iter()
            .map(|(part, places)| Judgement {
                part,
                labels: self.rows.labels_of(&places),
                source: source.by_ref().take(places.len()).collect(),
                logits: logits.by_ref().take(places.len()).collect(),
                scores: Vec::new(),
                places,
            })
            .collect();
        let calibration = self.calibrate(&parts);
        for part in &mut parts {
            part.scores = part.logits.iter().map(|logit| calibration.apply(*logit)).collect();
        }
        let mut judged = Judged { parts, calibration, threshold: 0.5 };
        let validation = judged.of(Part::Validation);
        if let Some((threshold, _)) =
            metrics::best_f1_threshold(&validation.scores, &validation.labels)
        {
            judged.threshold = threshold;
        }
        Ok(judged)
    }

    fn calibrate(&self, parts: &[Judgement]) -> Platt {
        let of = |part: Part| parts.iter().find(|p| p.part == part && !p.logits.is_empty());
        if of(Part::Calibration).is_none() {
            self.reporter.notice(
                "there are no calibration rows; the calibration is fitted on the validation rows",
            );
        }
        match of(Part::Calibration).or_else(|| of(Part::Validation)) {
            Some(part) => Platt::fit(&part.logits, &part.labels),
            None => Platt { slope: 1.0, intercept: 0.0 },
        }
    }

    fn gate(&self, quantized: &Quantized, judged: &Judged) -> Result<(GateReport, Gate)> {
        let test = judged.of(Part::Test);
        if test.labels.len() < gate::MIN_ROWS || metrics::auc(&test.scores, &test.labels).is_none()
        {
            self.reporter.notice(format!(
                "the test part has {} rows or one class only; the int8 model is judged by its score changes alone",
                test.labels.len()
            ));
        }
        let float = self.float_scores(&test.places, &quantized.overlay)?;
        let float: Vec<f64> =
            float.into_iter().map(|p| judged.calibration.apply(logit(p))).collect();
        let limits = &self.job.options.gate;
        Ok(gate::compare(&float, &test.scores, &test.labels, judged.threshold, limits))
    }

    /// Probabilities before calibration by the float network, its encoder in f32.
    fn float_scores(&self, places: &[u32], overlay: &TensorMap) -> Result<Vec<f64>> {
        let Some(base) = self.base else {
            return Ok(evaluate::scores(self.head, self.rows, places, None, |n| n));
        };
        let mut tensors = base.tensors.clone();
        tensors.extend(overlay.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        let device = self.compute.device;
        let bert = Bert::new(&base.shape, &tensors, Kind::Float, device)?;
        drop(tensors);
        // LoRA and full tuning are in the merged weights; adapters stand beside them.
        let tuning = match self.tuning {
            Tuning::Adapters(_) => self.tuning,
            _ => &Tuning::Frozen,
        };
        let tuned = Tuned { bert: &bert, tuning, texts: self.texts, split: 0, lower: None, device };
        let numbers = self.rows.distinct(places);
        let vectors = tuned.vectors_in_runs(&numbers);
        let place = |n: usize| numbers.binary_search(&n).unwrap_or(0);
        Ok(evaluate::scores(self.head, self.rows, places, Some(&vectors), place))
    }

    fn files(&self, quantized: Quantized, judged: &Judged) -> Result<Vec<(BlobHeader, Vec<u8>)>> {
        let Quantized { encoder, mut specification, network, overlay, .. } = quantized;
        specification.calibration = judged.calibration;
        specification.threshold = judged.threshold;
        let version = quantize::version(&specification, &network, &overlay)?;
        self.check(&version, &encoder, judged.of(Part::Test))?;
        let mut blobs = Vec::new();
        blobs.extend(encoder.map(|bytes| blob(BlobKind::Encoder, bytes)));
        blobs.push(blob(BlobKind::Version, version));
        blobs.push(blob(BlobKind::Training, self.training_file()?));
        Ok(blobs)
    }

    /// The finished file must give the very scores that its figures were computed from.
    fn check(&self, version: &[u8], encoder: &Option<Vec<u8>>, test: &Judgement) -> Result<()> {
        let model = scoring::open(version.to_vec(), encoder.clone())?;
        let count = test.source.len().min(CHECKED_ROWS);
        let reader = Reader::new(self.dataset, self.encoding)?;
        let logits = scoring::logits(&model, &reader, &test.source[..count], 1, self.reporter)?;
        let platt = model.specification().calibration;
        for (logit, score) in logits.iter().zip(&test.scores) {
            if platt.apply(*logit).to_bits() != score.to_bits() {
                return Err(Refusal::new(
                    code::EXTERNAL_ROUTINE,
                    "the finished model scores differently",
                )
                .detail(format!("A test row has {} and had {score}.", platt.apply(*logit)))
                .hint("Nothing was stored; report this."));
            }
        }
        Ok(())
    }

    /// Sorted hashes of the rows that the version was fitted on, its calibration included.
    fn fitted_rows(&self) -> Result<Vec<u64>> {
        let reader = Reader::new(self.dataset, self.encoding)?;
        let parts = [Part::Train, Part::Validation, Part::Calibration];
        let places = parts.iter().flat_map(|part| self.rows.part(*part));
        let mut hashes: Vec<u64> =
            places.map(|place| reader.hash(self.rows.source[*place as usize] as usize)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Ok(hashes)
    }

    /// Float head and tuning, for later updates, and the rows that they were fitted on.
    fn training_file(&self) -> Result<Vec<u8>> {
        let tuning = self.tuning.tensors();
        let head = self
            .head
            .named()
            .into_iter()
            .map(|(name, t)| (format!("head.{name}"), to_float_tensor(t)));
        let mut tensors: TensorSet = tuning
            .into_iter()
            .map(|(name, tensor)| (format!("encoder.{name}"), tensor))
            .chain(head)
            .map(|(name, tensor)| (name, Tensor::new(&tensor.shape, &tensor.data)))
            .collect();
        let fitted = self.fitted_rows()?;
        tensors.insert("fitted_rows".into(), Tensor::new(&[fitted.len()], &fitted));
        let specification = json!({
            "format": 1,
            "method": self.job.method,
            "base": self.base.map(|base| &base.name),
            "tuned": !matches!(self.tuning, Tuning::Frozen),
            "options": self.job.options,
            "reference_date": self.job.reference_date,
        });
        Ok(write(BlobKind::Training, &specification.to_string(), &tensors))
    }
}

fn blob(kind: BlobKind, bytes: Vec<u8>) -> (BlobHeader, Vec<u8>) {
    (BlobHeader { kind, digest: digest(&bytes), length: bytes.len() as u64 }, bytes)
}

/// The int8 network's word on one part of the rows.
struct Judgement {
    part: Part,
    /// Places among the labelled rows.
    places: Vec<u32>,
    /// Rows of the dataset.
    source: Vec<u32>,
    labels: Vec<bool>,
    logits: Vec<f64>,
    scores: Vec<f64>,
}

impl Judgement {
    fn metrics(&self, threshold: f64) -> Vec<PartMetric> {
        metrics::evaluate(&self.scores, &self.labels, threshold)
            .into_iter()
            .map(|metric| PartMetric { part: self.part.name().to_owned(), metric })
            .collect()
    }
}

/// The parts in the order of [`Part::LABELLED`].
struct Judged {
    parts: Vec<Judgement>,
    calibration: Platt,
    threshold: f64,
}

impl Judged {
    fn of(&self, part: Part) -> &Judgement {
        &self.parts[Part::LABELLED.iter().position(|p| *p == part).unwrap_or(0)]
    }
}
