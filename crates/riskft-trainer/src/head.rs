//! The network in libtorch, as `riskft_core::network` has it, all members in one batched computation.

use riskft_core::encode::{Encoding, MAX_BINS};
use riskft_core::network::NUMBER_WIDTH;
use riskft_core::options::Options;
use tch::{Device, Kind, Tensor};

const EMBEDDING_WIDTH: i64 = 6;
const EMBEDDING_DEVIATION: f64 = 0.3;
const EMBEDDING_DROPOUT: f64 = 0.3;
const HIDDEN_DROPOUT: f64 = 0.3;

/// Sizes of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub members: i64,
    pub hidden: i64,
    /// Bins of each number.
    pub bins: Vec<usize>,
    /// Codes and embedding width of each category.
    pub categories: Vec<(usize, usize)>,
    /// Logit at which the members start: that of the training rows' base rate.
    pub start: f64,
}

impl Plan {
    /// The network: numbers and categories.
    pub fn tabular(encoding: &Encoding, options: &Options, members: usize, base_rate: f64) -> Self {
        Plan {
            members: members as i64,
            hidden: options.hidden as i64,
            bins: encoding.numbers.iter().map(|n| n.edges.len().saturating_sub(1)).collect(),
            categories: encoding.categories.iter().map(|c| (c.codes(), c.dimension())).collect(),
            start: riskft_core::math::logit(base_rate),
        }
    }

    fn numbers(&self) -> i64 {
        self.bins.len() as i64
    }

    /// Width of the tabular input.
    pub fn inputs(&self) -> i64 {
        let embedded: usize = self.categories.iter().map(|(_, width)| width).sum();
        self.numbers() * NUMBER_WIDTH as i64 + embedded as i64
    }

    /// Where each category's codes start in the joint table, and the table's length.
    pub fn offsets(&self) -> (Vec<i64>, i64) {
        let mut next = 0;
        let starts = self.categories.iter().map(|(codes, _)| {
            let start = next;
            next += *codes as i64;
            start
        });
        let starts = starts.collect();
        (starts, next)
    }
}

/// Rows as the head reads them, on the device.
pub struct Batch {
    /// [rows, numbers]; NaN = missing
    pub positions: Tensor,
    /// [rows, categories], integers
    pub codes: Tensor,
}

/// Parameters of all members; M = members, C = numbers, K = categories.
pub struct Head {
    pub plan: Plan,
    /// [C, MAX_BINS, M * NUMBER_WIDTH]
    pub(crate) number_weight: Tensor,
    /// [C, 1, M * NUMBER_WIDTH]
    pub(crate) number_missing: Tensor,
    pub(crate) number_bias: Tensor,
    /// [codes of all categories, M * EMBEDDING_WIDTH]; a category uses its first columns
    pub(crate) embedding: Tensor,
    /// [M, inputs, outputs] and [M, 1, outputs]: two hidden layers and the output
    pub(crate) layers: Vec<(Tensor, Tensor)>,
    bins: Tensor,
    offsets: Tensor,
    used: Tensor,
}

fn leaf(tensor: Tensor) -> Tensor {
    tensor.detach().set_requires_grad(true)
}

fn uniform(size: &[i64], bound: f64, device: Device) -> Tensor {
    let mut tensor = Tensor::zeros(size, (Kind::Float, device));
    let _ = tensor.uniform_(-bound, bound);
    tensor
}

impl Head {
    /// A head with fresh parameters from libtorch's generator.
    pub fn new(plan: Plan, device: Device) -> Self {
        let options = (Kind::Float, device);
        let m = plan.members;
        let (offsets, codes) = plan.offsets();
        let number_width = m * NUMBER_WIDTH as i64;
        let (number_weight, number_missing) = number_tables(&plan, number_width, device);
        let used: Vec<i64> = plan
            .categories
            .iter()
            .enumerate()
            .flat_map(|(k, (_, width))| {
                (0..*width as i64).map(move |d| k as i64 * EMBEDDING_WIDTH + d)
            })
            .collect();
        Head {
            number_weight: leaf(number_weight),
            number_missing: leaf(number_missing),
            number_bias: leaf(Tensor::zeros([plan.numbers(), 1, number_width], options)),
            embedding: leaf(
                Tensor::randn([codes, m * EMBEDDING_WIDTH], options) * EMBEDDING_DEVIATION,
            ),
            layers: layers(&plan, device),
            bins: Tensor::arange(MAX_BINS as i64, options),
            offsets: Tensor::from_slice(&offsets).to_device(device),
            used: Tensor::from_slice(&used).to_device(device),
            plan,
        }
    }

    /// A head with stored parameters, by the names of [`Head::named`]; None where one is not there, or
    /// of another size.
    pub fn stored(
        plan: Plan,
        device: Device,
        find: impl Fn(&str) -> Option<Vec<f32>>,
    ) -> Option<Self> {
        let head = Head::new(plan, device);
        let _guard = tch::no_grad_guard();
        for (name, tensor) in head.named() {
            let values = find(&name).filter(|values| values.len() == tensor.numel())?;
            tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view_as(tensor));
        }
        Some(head)
    }

    /// The same head with more codes at the end of each category, whose embeddings are those of the
    /// category's code 0.
    pub fn with_codes(self, added: &[usize]) -> Self {
        let _guard = tch::no_grad_guard();
        let (starts, _) = self.plan.offsets();
        let own = |((start, (codes, _)), more): ((&i64, &(usize, usize)), &usize)| {
            let table = self.embedding.narrow(0, *start, *codes as i64);
            let rare = table.narrow(0, 0, 1).repeat([*more as i64, 1]);
            Tensor::cat(&[table, rare], 0)
        };
        let tables: Vec<Tensor> =
            starts.iter().zip(&self.plan.categories).zip(added).map(own).collect();
        if tables.is_empty() {
            return self;
        }
        let mut plan = self.plan.clone();
        plan.categories.iter_mut().zip(added).for_each(|((codes, _), more)| *codes += more);
        let (offsets, _) = plan.offsets();
        Head {
            plan,
            embedding: leaf(Tensor::cat(&tables, 0)),
            offsets: Tensor::from_slice(&offsets).to_device(self.offsets.device()),
            ..self
        }
    }

    /// Logits [members, rows].
    pub fn forward(&self, batch: &Batch, train: bool) -> Tensor {
        let rows = batch.positions.size()[0];
        let Some(((weight, bias), hidden)) = self.layers.split_last() else {
            let device = batch.positions.device();
            return Tensor::zeros([self.plan.members, rows], (Kind::Float, device));
        };
        let mut parts = Vec::with_capacity(2);
        if !self.plan.bins.is_empty() {
            parts.push(self.numbers(&batch.positions));
        }
        if !self.plan.categories.is_empty() {
            parts.push(self.categories(&batch.codes, train));
        }
        let mut x = Tensor::cat(&parts, 2);
        for (weight, bias) in hidden {
            x = bias.baddbmm(&x, weight, 1, 1).relu().dropout(HIDDEN_DROPOUT, train);
        }
        bias.baddbmm(&x, weight, 1, 1).squeeze_dim(2)
    }

    /// [rows, C] -> [M, rows, C * NUMBER_WIDTH]
    fn numbers(&self, positions: &Tensor) -> Tensor {
        let rows = positions.size()[0];
        let columns = positions.transpose(0, 1).unsqueeze(2);
        let missing = columns.isnan().to_kind(Kind::Float);
        let filled = (columns.nan_to_num(0.0, None, None) - &self.bins).clamp(0.0, 1.0);
        let x =
            filled.bmm(&self.number_weight) + missing * &self.number_missing + &self.number_bias;
        let (c, m, w) = (self.plan.numbers(), self.plan.members, NUMBER_WIDTH as i64);
        x.relu().view([c, rows, m, w]).permute([2, 1, 0, 3]).reshape([m, rows, c * w])
    }

    /// [rows, K] -> [M, rows, sum of embedding widths]
    fn categories(&self, codes: &Tensor, train: bool) -> Tensor {
        let size = codes.size();
        let flat = (codes.to_kind(Kind::Int64) + &self.offsets).view([-1]);
        let vectors = Tensor::embedding(&self.embedding, &flat, -1, false, false);
        let (rows, k, m) = (size[0], size[1], self.plan.members);
        vectors
            .view([rows, k, m, EMBEDDING_WIDTH])
            .permute([2, 0, 1, 3])
            .reshape([m, rows, k * EMBEDDING_WIDTH])
            .index_select(2, &self.used)
            .dropout(EMBEDDING_DROPOUT, train)
    }

    /// Parameters with weight decay (matrices and embeddings), and those without.
    pub fn parameters(&self) -> (Vec<Tensor>, Vec<Tensor>) {
        let mut decayed = vec![&self.number_weight, &self.number_missing, &self.embedding];
        let mut plain = vec![&self.number_bias];
        for (weight, bias) in &self.layers {
            decayed.push(weight);
            plain.push(bias);
        }
        let filled = |list: Vec<&Tensor>| -> Vec<Tensor> {
            list.into_iter().filter(|t| t.numel() > 0).map(Tensor::shallow_clone).collect()
        };
        (filled(decayed), filled(plain))
    }

    /// All parameters by name, as libtorch holds them.
    pub fn named(&self) -> Vec<(String, &Tensor)> {
        let mut named = vec![
            ("number.weight".to_owned(), &self.number_weight),
            ("number.missing".to_owned(), &self.number_missing),
            ("number.bias".to_owned(), &self.number_bias),
            ("embedding".to_owned(), &self.embedding),
        ];
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            named.push((format!("layer.{i}.weight"), weight));
            named.push((format!("layer.{i}.bias"), bias));
        }
        named.retain(|(_, tensor)| tensor.numel() > 0);
        named
    }

    /// Number of values that count: the parts of shared tables that no column uses do not.
    pub fn size(&self) -> usize {
        let (decayed, plain) = self.parameters();
        let all: usize = decayed.iter().chain(&plain).map(Tensor::numel).sum();
        let members = self.plan.members as usize;
        let bins: usize = self.plan.bins.iter().map(|b| MAX_BINS - b.min(&MAX_BINS)).sum();
        let codes: usize = self
            .plan
            .categories
            .iter()
            .map(|(n, width)| n * (EMBEDDING_WIDTH as usize - width))
            .sum();
        all - members * (bins * NUMBER_WIDTH + codes)
    }
}

/// Weights of numbers: normal, deviation 1 / sqrt(bins + 1), zero beyond a number's bins.
fn number_tables(plan: &Plan, width: i64, device: Device) -> (Tensor, Tensor) {
    let options = (Kind::Float, device);
    let deviation: Vec<f32> =
        plan.bins.iter().map(|bins| 1.0 / ((bins + 1) as f32).sqrt()).collect();
    let deviation = Tensor::from_slice(&deviation).to_device(device).view([-1, 1, 1]);
    let bins: Vec<f32> = plan.bins.iter().map(|bins| *bins as f32).collect();
    let bins = Tensor::from_slice(&bins).to_device(device).view([-1, 1, 1]);
    let own = Tensor::arange(MAX_BINS as i64, options).view([1, -1, 1]).lt_tensor(&bins);
    let c = plan.numbers();
    let weight = Tensor::randn([c, MAX_BINS as i64, width], options) * &deviation * own;
    let missing = Tensor::randn([c, 1, width], options) * &deviation;
    (weight, missing)
}

/// The tabular layers as PyTorch's Linear starts them (bound 1 / sqrt(inputs)); none without
/// numbers and categories.
fn layers(plan: &Plan, device: Device) -> Vec<(Tensor, Tensor)> {
    let m = plan.members;
    let start = Tensor::full([m, 1, 1], plan.start, (Kind::Float, device));
    let inputs = plan.inputs();
    if inputs == 0 {
        return Vec::new();
    }
    let sizes = [(inputs, plan.hidden), (plan.hidden, plan.hidden), (plan.hidden, 1)];
    sizes
        .into_iter()
        .map(|(inputs, outputs)| {
            let bound = 1.0 / (inputs as f64).sqrt();
            let weight = leaf(uniform(&[m, inputs, outputs], bound, device));
            let bias =
                if outputs == 1 { &start + 0.0 } else { uniform(&[m, 1, outputs], bound, device) };
            (weight, leaf(bias))
        })
        .collect()
}
