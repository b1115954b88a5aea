use std::sync::Arc;
use riskft_core::artifact::Artifact;
use riskft_core::encoder::{Encoder, Scratch};
use riskft_core::gemm::Kernel;
use riskft_core::network::base::{read_shape, read_tensors};
use riskft_core::{quantize, tokenize};
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let k = Kernel::parse(&std::env::args().nth(2).unwrap()).unwrap();
    let f = std::path::PathBuf::from(std::env::var_os("RISKFT_BASE_DIR").unwrap());
    let r = |x: &str| std::fs::read(f.join(x)).unwrap();
    let base = std::path::Path::new("/tmp/eng/base.bin");
    let shape = read_shape(&r("config.json")).unwrap();
    if !base.exists() {
        let t = read_tensors(&shape, &r("model.safetensors")).unwrap();
        let v = tokenize::compile_tokenizer_json(&r("tokenizer.json")).unwrap();
        std::fs::write(base, quantize::base_encoder(&shape, &t, &v).unwrap()).unwrap();
    }
    let file = Artifact::open(Arc::new(std::fs::read(base).unwrap())).unwrap();
    let e = Encoder::open(&file, None, &shape).unwrap();
    let mut s = Scratch::default();
    let ids: Vec<u32> = (0..n).map(|i| (i * 131 % 30_000 + 200) as u32).collect();
    let mut best = f64::MAX;
    let reps = 1.max(3000 / n);
    for _ in 0..reps {
        let t = std::time::Instant::now();
        e.pooled(k, &ids, &[n], &mut s);
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("{n} tokens: best {:.3} ms", best * 1e3);
}
