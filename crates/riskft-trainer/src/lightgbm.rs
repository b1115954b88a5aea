//! LightGBM (Ke et al. 2017) through its C interface: data, boosting round by round, the model as
//! text. Handles stay in the thread that made them.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::ptr::null_mut;

use lightgbm3_sys as sys;
use riskft_core::refusal::{code, Refusal, Result};

/// Rows of numbers, row-major, with labels and weights.
pub struct Table<'a> {
    pub features: &'a [f64],
    pub width: usize,
    pub labels: &'a [f32],
    /// One for each row, or none: all weigh 1.
    pub weights: &'a [f32],
}

/// Rows in LightGBM's bins.
struct Data(sys::DatasetHandle);

/// Trees that grow on some rows and are watched on others.
pub struct Booster {
    handle: sys::BoosterHandle,
    // A booster reads its data until it is freed.
    _train: Data,
    _held: Data,
    held: usize,
}

fn failed(what: &str) -> Refusal {
    // SAFETY: LightGBM returns its thread's own message, a C string that lives until the next call.
    let text = unsafe { CStr::from_ptr(sys::LGBM_GetLastError()) };
    Refusal::new(code::EXTERNAL_ROUTINE, "growing the boosted trees failed")
        .detail(format!("LightGBM reported, {what}: {}", text.to_string_lossy()))
        .hint("Set options.trees.rounds to 0 to train without trees.")
}

fn checked(status: c_int, what: &str) -> Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(failed(what)),
    }
}

/// Parameters as LightGBM reads them, `key=value` by blanks.
fn words(parameters: &str) -> Result<CString> {
    CString::new(parameters).map_err(|_| failed("a parameter with a NUL"))
}

unsafe extern "C" fn silent(_: *const c_char) {}

/// LightGBM prints to stdout, which belongs to the server; its messages are dropped, in this thread.
pub fn silence() {
    // SAFETY: `silent` has the wanted signature and lives for ever.
    unsafe { sys::LGBM_RegisterLogCallback(Some(silent)) };
}

impl Data {
    fn new(table: &Table<'_>, parameters: &str, like: Option<&Data>) -> Result<Self> {
        let rows = table.labels.len();
        let sound = table.width > 0
            && table.features.len() == rows * table.width
            && (table.weights.is_empty() || table.weights.len() == rows)
            && i32::try_from(rows).is_ok();
        if !sound {
            return Err(failed("a table of another shape"));
        }
        let (mut handle, words) = (null_mut(), words(parameters)?);
        // SAFETY: `features` holds rows * width floats, which the call copies; `words` is a C string;
        // the reference is null or a live handle; `handle` is a place for the new one.
        let status = unsafe {
            sys::LGBM_DatasetCreateFromMat(
                table.features.as_ptr().cast::<c_void>(),
                sys::C_API_DTYPE_FLOAT64 as c_int,
                rows as i32,
                table.width as i32,
                1,
                words.as_ptr(),
                like.map_or(null_mut(), |data| data.0),
                &mut handle,
            )
        };
        checked(status, "reading the rows")?;
        let data = Data(handle);
        data.set(c"label", table.labels)?;
        if !table.weights.is_empty() {
            data.set(c"weight", table.weights)?;
        }
        Ok(data)
    }

    fn set(&self, field: &CStr, values: &[f32]) -> Result<()> {
        // SAFETY: a live handle, a C string, and as many floats as are said, which the call copies.
        let status = unsafe {
            sys::LGBM_DatasetSetField(
                self.0,
                field.as_ptr(),
                values.as_ptr().cast::<c_void>(),
                values.len() as c_int,
                sys::C_API_DTYPE_FLOAT32 as c_int,
            )
        };
        checked(status, "reading the labels")
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // SAFETY: the handle is live and dropped once; boosters that read it are freed before.
        unsafe { sys::LGBM_DatasetFree(self.0) };
    }
}

impl Booster {
    /// No trees yet. `parameters` hold those of the data as well (`categorical_feature`, `max_bin`).
    ///
    /// # Errors
    /// 38000 with LightGBM's message.
    pub fn new(train: &Table<'_>, held: &Table<'_>, parameters: &str) -> Result<Self> {
        let data = Data::new(train, parameters, None)?;
        let other = Data::new(held, parameters, Some(&data))?;
        let (mut handle, words) = (null_mut(), words(parameters)?);
        // SAFETY: live data, a C string, a place for the handle.
        let status = unsafe { sys::LGBM_BoosterCreate(data.0, words.as_ptr(), &mut handle) };
        checked(status, "beginning")?;
        let booster = Booster { handle, _train: data, held: held.labels.len(), _held: other };
        // SAFETY: live handles; the booster keeps the data.
        let status = unsafe { sys::LGBM_BoosterAddValidData(booster.handle, booster._held.0) };
        checked(status, "reading the rows left out")?;
        Ok(booster)
    }

    /// Grows one tree; false when no split is left.
    pub fn grow(&mut self) -> Result<bool> {
        let mut finished = 0;
        // SAFETY: a live handle and a place for the answer.
        let status = unsafe { sys::LGBM_BoosterUpdateOneIter(self.handle, &mut finished) };
        checked(status, "growing a tree")?;
        Ok(finished == 0)
    }

    /// Probabilities of the rows that were left out, by all trees so far.
    pub fn held_scores(&self, out: &mut Vec<f64>) -> Result<()> {
        let mut count = 0;
        // SAFETY: a live handle and a place for the answer.
        let status = unsafe { sys::LGBM_BoosterGetNumPredict(self.handle, 1, &mut count) };
        checked(status, "counting scores")?;
        if count != self.held as i64 {
            return Err(failed("another number of scores"));
        }
        out.resize(self.held, 0.0);
        // SAFETY: the call writes `count` floats, for which there is room.
        let status =
            unsafe { sys::LGBM_BoosterGetPredict(self.handle, 1, &mut count, out.as_mut_ptr()) };
        checked(status, "scoring")
    }

    /// What each feature adds to the logits of some rows, by the first `rounds` trees (0 = all):
    /// [rows, width + 1], of which the last one is the mean logit that the others add to.
    pub fn contributions(&self, features: &[f64], width: usize, rounds: usize) -> Result<Vec<f64>> {
        let rows = features.len() / width.max(1);
        let sound = width > 0 && features.len() == rows * width && i32::try_from(rows).is_ok();
        if !sound {
            return Err(failed("rows of another shape"));
        }
        if rows == 0 {
            return Ok(Vec::new());
        }
        let mut out = vec![0.0; rows * (width + 1)];
        let (mut count, parameters) = (0, words("num_threads=1 verbosity=-1")?);
        // SAFETY: a live handle; `features` holds rows * width floats; LightGBM refuses rows whose
        // width is not the data's, and writes width + 1 floats a row, for which there is room.
        let status = unsafe {
            sys::LGBM_BoosterPredictForMat(
                self.handle,
                features.as_ptr().cast::<c_void>(),
                sys::C_API_DTYPE_FLOAT64 as c_int,
                rows as i32,
                width as i32,
                1,
                sys::C_API_PREDICT_CONTRIB as c_int,
                0,
                rounds as c_int,
                parameters.as_ptr(),
                &mut count,
                out.as_mut_ptr(),
            )
        };
        checked(status, "explaining rows")?;
        match usize::try_from(count) {
            Ok(count) if count == out.len() => Ok(out),
            _ => Err(failed("another number of contributions")),
        }
    }

    /// The first `rounds` trees as text, for [`riskft_core::trees::lightgbm::read`].
    pub fn text(&self, rounds: usize) -> Result<String> {
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            let mut length = 0;
            // SAFETY: the call writes at most as many bytes as the buffer has, and says how many
            // it would need.
            let status = unsafe {
                sys::LGBM_BoosterSaveModelToString(
                    self.handle,
                    0,
                    rounds as c_int,
                    0,
                    buffer.len() as i64,
                    &mut length,
                    buffer.as_mut_ptr().cast::<c_char>(),
                )
            };
            checked(status, "writing the model")?;
            if length as usize <= buffer.len() {
                // With its NUL.
                buffer.truncate((length as usize).saturating_sub(1));
                return String::from_utf8(buffer).map_err(|_| failed("a text that is not UTF-8"));
            }
            buffer = vec![0u8; length as usize];
        }
    }
}

impl Drop for Booster {
    fn drop(&mut self) {
        // SAFETY: the handle is live and dropped once; its data are dropped after it.
        unsafe { sys::LGBM_BoosterFree(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use riskft_core::trees::lightgbm;

    const PARAMETERS: &str = "objective=binary verbosity=-1 num_threads=1 num_leaves=7 \
        min_data_in_leaf=5 categorical_feature=1 learning_rate=0.2 seed=3";

    /// A number, of which some are missing, and a category of five codes.
    fn rows(count: usize) -> (Vec<f64>, Vec<f32>) {
        let features = (0..count).flat_map(|i| {
            let x = ((i * 7919) % 1009) as f64 / 1009.0;
            [if i % 11 == 0 { f64::NAN } else { x }, (i % 5) as f64]
        });
        let labels = (0..count).map(|i| {
            let x = ((i * 7919) % 1009) as f64 / 1009.0;
            f32::from(u8::from(x + if i % 5 == 3 { 0.4 } else { 0.0 } > 0.7))
        });
        (features.collect(), labels.collect())
    }

    fn booster() -> Booster {
        let (features, labels) = rows(1000);
        let table = |range: std::ops::Range<usize>| {
            (features[2 * range.start..2 * range.end].to_vec(), labels[range].to_vec())
        };
        let (train, held) = (table(0..800), table(800..1000));
        let table = |rows: &(Vec<f64>, Vec<f32>)| Table {
            features: Vec::leak(rows.0.clone()),
            width: 2,
            labels: Vec::leak(rows.1.clone()),
            weights: &[],
        };
        Booster::new(&table(&train), &table(&held), PARAMETERS).map_err(|r| r.detail).expect("data")
    }

    /// What is watched while growing is what the flat trees score, category splits included.
    #[test]
    fn the_text_scores_as_the_library_does() {
        silence();
        let mut booster = booster();
        for _ in 0..20 {
            assert_eq!(booster.grow(), Ok(true));
        }
        let mut scores = Vec::new();
        assert_eq!(booster.held_scores(&mut scores), Ok(()));
        let text = booster.text(20).expect("a text");
        let trees = lightgbm::read(&text).map_err(|r| r.detail).expect("trees");
        assert_eq!((trees.len(), trees.features()), (20, 2));
        assert!(text.contains("num_cat=1"), "a split by category");
        let (features, _) = rows(1000);
        for (row, score) in features[1600..].chunks_exact(2).zip(&scores) {
            let ours = riskft_core::math::logistic(trees.score(row));
            assert!((ours - score).abs() < 1e-12, "{ours} {score}");
        }
        assert_eq!(lightgbm::read(&booster.text(5).expect("a text")).map(|t| t.len()), Ok(5));
    }

    /// A row's contributions and the mean add up to its logit, of all trees and of some.
    #[test]
    fn contributions_add_up_to_the_logit() {
        silence();
        let mut booster = booster();
        let (features, _) = rows(1000);
        let mut scores = Vec::new();
        for _ in 0..20 {
            assert_eq!(booster.grow(), Ok(true));
        }
        assert_eq!(booster.held_scores(&mut scores), Ok(()));
        let of = |rounds| booster.contributions(&features[1600..], 2, rounds).expect("rows");
        let (all, few) = (of(20), of(7));
        assert_eq!((all.len(), of(0)), (200 * 3, all.clone()));
        for (row, score) in all.chunks_exact(3).zip(&scores) {
            let logit = riskft_core::math::logit(*score);
            assert!((row.iter().sum::<f64>() - logit).abs() < 1e-9, "{row:?} {logit}");
        }
        let trees = lightgbm::read(&booster.text(7).expect("a text")).expect("trees");
        for (row, few) in features[1600..].chunks_exact(2).zip(few.chunks_exact(3)) {
            assert!((few.iter().sum::<f64>() - trees.score(row)).abs() < 1e-9);
        }
        assert!(all.chunks_exact(3).any(|row| row[0] > 0.5) && all.iter().all(|v| v.is_finite()));
        assert_eq!(booster.contributions(&[], 2, 0), Ok(Vec::new()));
        for (features, width) in [(&[1.0, 2.0, 3.0][..], 3), (&[1.0, 2.0, 3.0][..], 2), (&[], 0)] {
            assert!(booster.contributions(features, width, 0).is_err());
        }
    }

    #[test]
    fn what_the_library_refuses_is_a_refusal() {
        silence();
        let table = Table { features: &[1.0, 2.0], width: 1, labels: &[0.0, 1.0], weights: &[1.0] };
        assert!(Booster::new(&table, &table, PARAMETERS).is_err());
        let table = Table { weights: &[], ..table };
        let refusal = Booster::new(&table, &table, "objective=nonsense verbosity=-1").err();
        assert_eq!(refusal.map(|r| r.code), Some(code::EXTERNAL_ROUTINE.to_owned()));
    }
}
