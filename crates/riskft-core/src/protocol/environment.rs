//! The environment of the trainer.

/// Variables that the trainer's libraries read when they are loaded. The server sets them; a trainer
/// that lacks them starts itself anew.
///
/// OpenMP's threads wait passively: spinning ones fight for the cores with everything else on the
/// machine (a head took 14 to 20 s spinning, beside other work on two cores, and 2 s waiting).
/// oneDNN and libtorch's wrapper of it keep 32 compiled kernels, not 1,024: there is one for each
/// size of a product, and texts have many (one epoch of LoRA on 20,000 loans: 1.3 GB in place of
/// 2.1, the same figures, CPU time within the noise).
///
/// MKL works with fixed schedules and reductions (its conditional numerical reproducibility) and a fixed number of
/// threads, so that a training that is repeated on a machine gives the same bits: by default its threads divide
/// products as they find time.
pub const TRAINER_ENVIRONMENT: [(&str, &str); 5] = [
    ("MKL_CBWR", "AUTO"),
    ("MKL_DYNAMIC", "FALSE"),
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32"),
    ("LRU_CACHE_CAPACITY", "32"),
];
