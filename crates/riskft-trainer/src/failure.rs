//! What breaks the run (a C++ exception, a panic) ends as a refusal, not as an abort.
//!
//! libtorch's exceptions reach Rust as panics of the `tch` crate, their text within.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use riskft_core::refusal::{code, Refusal, Result};

/// Runs `work`; a panic within it becomes a refusal.
pub fn contain<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The default hook would print to stderr, which the server logs line by line.
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(refusal(&payload)))
}

fn refusal(payload: &Box<dyn Any + Send>) -> Refusal {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    if is_memory(text) {
        return out_of_memory(text);
    }
    Refusal::new(code::EXTERNAL_ROUTINE, "the trainer failed")
        .detail(format!("It reported: {}", first_line(text)))
        .hint("The server log has the trainer's messages; options.device = 'cpu' avoids a GPU that fails.")
}

fn is_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    ["out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc"]
        .iter()
        .any(|sign| text.contains(sign))
}

fn out_of_memory(text: &str) -> Refusal {
    Refusal::new(code::OUT_OF_MEMORY, "the trainer ran out of memory")
        .detail(format!("It reported: {}", first_line(text)))
        .hint("Train on fewer rows, or set options.batch_size, options.max_tokens or options.members lower.")
}

/// The message alone: libtorch adds a trace of C++ frames in further lines, which an unwrapped
/// error's text shows with its line ends escaped.
fn first_line(text: &str) -> String {
    let lines = text.lines().flat_map(|line| line.split("\\n"));
    let line = lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or("no message");
    line.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    fn refused(work: impl FnOnce()) -> Refusal {
        contain(|| {
            work();
            Ok(())
        })
        .expect_err("the work panics")
    }

    #[test]
    fn an_exception_of_libtorch_is_a_refusal() {
        let refusal = refused(|| {
            let a = Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu));
            let _ = a.matmul(&a);
        });
        assert_eq!(refusal.code, code::EXTERNAL_ROUTINE);
        assert!(refusal.detail.contains("shapes"), "{}", refusal.detail);
        assert!(!refusal.detail.contains('\n'));
    }

    #[test]
    fn memory_that_cannot_be_had_is_53200() {
        let refusal = refused(|| {
            let _ = Tensor::zeros([1 << 46], (Kind::Float, tch::Device::Cpu));
        });
        assert_eq!(refusal.code, code::OUT_OF_MEMORY, "{}", refusal.detail);
    }

    #[test]
    fn an_unwrapped_error_comes_without_its_trace() {
        let text = "called `Result::unwrap()` on an `Err` value: Torch(\"can't allocate memory\\nframe #0: c10\")";
        let refusal = refused(|| panic!("{text}"));
        assert_eq!(refusal.code, code::OUT_OF_MEMORY);
        assert!(refusal.detail.ends_with("allocate memory"), "{}", refusal.detail);
    }
}
