//! Every riskft.* setting: unit, range, context.

use std::ffi::{CStr, CString};

use pgrx::{pg_sys, GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use riskft_core::gemm::Kernel;
use riskft_core::refusal::{code, Refusal, Result};

/// The int8 kernel that scoring uses; all give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum KernelChoice {
    Auto,
    Portable,
    Avx2,
    Avx512vnni,
}

pub static TRAINER_PATH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
pub static MODEL_DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
pub static LIBTORCH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
pub static KERNEL: GucSetting<KernelChoice> = GucSetting::<KernelChoice>::new(KernelChoice::Auto);
pub static TEXT_CACHE: GucSetting<i32> = GucSetting::<i32>::new(4096);
pub static MODEL_CACHE: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);
pub static MAX_MODEL_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
pub static MAX_TRAINERS: GucSetting<i32> = GucSetting::<i32>::new(1);
pub static REQUIRE_APPROVAL: GucSetting<bool> = GucSetting::<bool>::new(false);
pub static DEVICE_HOUR_PRICE: GucSetting<f64> = GucSetting::<f64>::new(0.0);
pub static CORE_HOUR_PRICE: GucSetting<f64> = GucSetting::<f64>::new(0.0);

/// What only the configuration file or a superuser may set.
const PRIVILEGED: [&str; 6] = [
    "riskft.trainer_path",
    "riskft.model_directory",
    "riskft.libtorch",
    "riskft.max_model_size",
    "riskft.max_trainers",
    "riskft.require_approval",
];

pub fn register() -> Result<()> {
    refuse_client_values()?;
    let memory = GucFlags::UNIT_KB;
    string(
        c"riskft.trainer_path",
        c"Path of the trainer program.",
        c"Empty means riskft/riskft-trainer in the server's library directory.",
        &TRAINER_PATH,
    );
    string(
        c"riskft.model_directory",
        c"Directory of imported base models' float weights.",
        c"Empty means riskft_models in the data directory. Base models that were installed are found in riskft/models of the server's share directory besides.",
        &MODEL_DIRECTORY,
    );
    string(
        c"riskft.libtorch",
        c"Folder of an external libtorch for the trainer.",
        c"Empty means the one that is installed beside the trainer. Name a CUDA build to train on a GPU.",
        &LIBTORCH,
    );
    GucRegistry::define_enum_guc(
        c"riskft.kernel",
        c"The int8 kernel that scoring uses.",
        c"All kernels give the same bits; auto takes the fastest that the processor has.",
        &KERNEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    int(
        c"riskft.text_cache",
        c"Memory of one backend for the terms of texts already scored, for each model in use.",
        &TEXT_CACHE,
        (64, 1024 * 1024),
        GucContext::Userset,
        memory,
    );
    int(
        c"riskft.model_cache",
        c"Bytes of mapped model files that one backend keeps open.",
        &MODEL_CACHE,
        (1024, i32::MAX),
        GucContext::Userset,
        memory,
    );
    int(
        c"riskft.max_model_size",
        c"Largest model file that is stored or loaded.",
        &MAX_MODEL_SIZE,
        (64, i32::MAX),
        GucContext::Suset,
        memory,
    );
    int(
        c"riskft.max_trainers",
        c"Most trainings that run on the server at the same time; further ones wait.",
        &MAX_TRAINERS,
        (1, 64),
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"riskft.require_approval",
        c"Deploys a version only after another role than its trainer's has approved it.",
        c"riskft_approve approves; trainings and imports store versions without deploying them.",
        &REQUIRE_APPROVAL,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"riskft.device_hour_price",
        c"Price of one hour of the training device, in the currency of your books.",
        c"Stored with each run; riskft.costs multiplies it with the run's device seconds.",
        &DEVICE_HOUR_PRICE,
        0.0,
        1e9,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"riskft.core_hour_price",
        c"Price of one hour of a core of the database server, in the currency of your books.",
        c"riskft.costs multiplies it with the CPU time of 1,000 scores.",
        &CORE_HOUR_PRICE,
        0.0,
        1e9,
        GucContext::Userset,
        GucFlags::default(),
    );
    reserve_prefix();
    Ok(())
}

/// Until the library is loaded, anybody may give its settings a value when connecting (PGOPTIONS),
/// which takes the place of the administrator's as the session's default. When it is loaded the
/// server refuses that value, but the administrator's is lost, and the built-in default would hold.
/// So the session is refused, as the server does with settings that it knows.
fn refuse_client_values() -> Result<()> {
    let mut count = 0;
    // SAFETY: the server's table of settings and how many they are; its only thread reads it.
    let known = unsafe {
        let table = table_of_settings(&mut count);
        std::slice::from_raw_parts(table, usize::try_from(count).unwrap_or(0))
    };
    for setting in known {
        // SAFETY: as above; the entries are valid, and their names end with a zero byte.
        let (name, context) =
            unsafe { (CStr::from_ptr((**setting).name), (**setting).reset_scontext) };
        let of_a_client =
            [pg_sys::GucContext::PGC_BACKEND, pg_sys::GucContext::PGC_USERSET].contains(&context);
        let name = name.to_string_lossy();
        if of_a_client && PRIVILEGED.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
            return Err(Refusal::new(
                code::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set parameter \"{name}\""),
            )
            .detail("The connection's options set it, which only a superuser's may.")
            .hint("Connect without it."));
        }
    }
    Ok(())
}

/// # Safety
/// Called by the server's only thread.
#[cfg(feature = "pg15")]
unsafe fn table_of_settings(count: &mut i32) -> *mut *mut pg_sys::config_generic {
    // SAFETY: reads the server's own memory.
    unsafe {
        *count = pg_sys::GetNumConfigOptions();
        pg_sys::get_guc_variables()
    }
}

/// # Safety
/// Called by the server's only thread.
#[cfg(not(feature = "pg15"))]
unsafe fn table_of_settings(count: &mut i32) -> *mut *mut pg_sys::config_generic {
    // SAFETY: a copy of the server's table, in the current memory context.
    unsafe { pg_sys::get_guc_variables(count) }
}

/// Paths decide what runs as the server's user: the configuration file or a superuser only.
fn string(
    name: &'static CStr,
    short: &'static CStr,
    long: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
) {
    GucRegistry::define_string_guc(
        name,
        short,
        long,
        setting,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
}

fn int(
    name: &'static CStr,
    short: &'static CStr,
    setting: &'static GucSetting<i32>,
    (low, high): (i32, i32),
    context: GucContext,
    flags: GucFlags,
) {
    GucRegistry::define_int_guc(name, short, c"", setting, low, high, context, flags);
}

/// A misspelt riskft.* setting is an error instead of a silent placeholder.
fn reserve_prefix() {
    // SAFETY: called once from _PG_init with a constant C string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"riskft".as_ptr()) }
}

/// A string setting; None when it is empty.
pub fn text(setting: &'static GucSetting<Option<CString>>) -> Option<String> {
    setting.get().and_then(|v| v.into_string().ok()).filter(|v| !v.is_empty())
}

/// A size setting in bytes.
pub fn bytes(setting: &'static GucSetting<i32>) -> usize {
    usize::try_from(setting.get()).unwrap_or(0).saturating_mul(1024)
}

/// Places for trainers.
pub fn max_trainers() -> u32 {
    u32::try_from(MAX_TRAINERS.get()).unwrap_or(1).max(1)
}

pub fn kernel() -> Result<Kernel> {
    let kernel = match KERNEL.get() {
        KernelChoice::Auto => return Ok(Kernel::detect()),
        KernelChoice::Portable => Kernel::Portable,
        KernelChoice::Avx2 => Kernel::Avx2,
        KernelChoice::Avx512vnni => Kernel::Avx512Vnni,
    };
    if kernel.available() {
        return Ok(kernel);
    }
    Err(Refusal::new("0A000", "this processor lacks the chosen int8 kernel")
        .detail(format!("riskft.kernel is {kernel:?}."))
        .hint("Set riskft.kernel to auto."))
}

/// The session's search path, as SHOW prints it.
pub fn search_path() -> String {
    // SAFETY: the server's own string, copied.
    unsafe {
        let path = pg_sys::GetConfigOption(c"search_path".as_ptr(), true, false);
        if path.is_null() {
            return String::new();
        }
        CStr::from_ptr(path).to_string_lossy().into_owned()
    }
}

/// Sets what a queued run takes over from the session that queued it.
pub fn take_over(search_path: &str, device_hour_price: f64) -> Result<()> {
    let price = device_hour_price.to_string();
    // A lock_timeout of the role would throw a finished training away.
    for (name, value) in [
        (c"search_path", search_path),
        (c"riskft.device_hour_price", price.as_str()),
        (c"lock_timeout", "0"),
    ] {
        let value =
            CString::new(value).map_err(|_| Refusal::new("22021", "setting holds a zero byte"))?;
        // SAFETY: plain call; a value that is not allowed is an ERROR.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
    Ok(())
}

/// Ends waits for locks in this transaction with 55P03 after so long.
pub fn limit_lock_waits(longest: std::time::Duration) -> Result<()> {
    let value = CString::new(longest.as_millis().to_string()).unwrap_or_default();
    // SAFETY: plain call; the value is a number of milliseconds.
    unsafe {
        pg_sys::set_config_option(
            c"lock_timeout".as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
    Ok(())
}
