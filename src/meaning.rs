//! What a model's name means for a row. A version, most of the time; the bare name of a model with an A/B
//! test means the version of the row's arm, and while a fallback is active the backup, whatever test runs. All functions of a model and a row ask here.

use std::cell::OnceCell;

use riskft_core::ab::Arm;
use riskft_core::gemm::Kernel;
use riskft_core::refusal::Result;

use crate::ab::test::Test;
use crate::alias::{ModelName, Which};
use crate::call_site::Named;
use crate::catalog::{self, Scorable, VersionFiles};
use crate::fallback::BACKUP;
use crate::model_cache::{self, SharedScorer};

/// The versions that a name means.
pub struct Meaning {
    version: Version,
    tested: Option<Tested>,
}

/// What the bare name of a model with an A/B test means besides.
struct Tested {
    test: Test,
    challenger: Version,
}

impl Named for Meaning {
    const ARGUMENT: &'static str = "model";
    const NAMES: &'static str = "Name a model; the view riskft.models lists yours.";

    fn find(name: &str, kernel: Kernel) -> Result<Self> {
        let wanted = ModelName::parse(name);
        let scorable = catalog::scorable_and_beside(&wanted)?;
        if let Some(backup) = backup(&wanted, &scorable)? {
            return Ok(Meaning { version: Version::new(backup, kernel), tested: None });
        }
        let running = scorable.running_test.filter(|_| wanted.which == Which::Bare);
        let tested = running.map(|test| Tested::find(wanted.name, test, kernel)).transpose()?;
        Ok(Meaning { version: Version::new(scorable.files, kernel), tested })
    }
}

/// The version that scores all rows of a table: of a bare name the deployed one, whatever test runs, or the
/// backup while a fallback is active.
pub fn whole(wanted: &ModelName<'_>) -> Result<VersionFiles> {
    let scorable = catalog::scorable_and_beside(wanted)?;
    Ok(backup(wanted, &scorable)?.unwrap_or(scorable.files))
}

/// What a bare name means while a fallback is active.
fn backup(wanted: &ModelName<'_>, scorable: &Scorable) -> Result<Option<VersionFiles>> {
    if wanted.which != Which::Bare || !scorable.falls_back {
        return Ok(None);
    }
    let backup = ModelName { name: wanted.name, which: Which::Alias(BACKUP) };
    catalog::scorable(&backup).map(Some)
}

impl Tested {
    fn find(model: &str, test: i32, kernel: Kernel) -> Result<Self> {
        let test = Test::existing(model, test)?;
        let number = test.challenger.to_string();
        let wanted = ModelName { name: model, which: Which::Number(&number) };
        Ok(Tested { test, challenger: Version::new(catalog::scorable(&wanted)?, kernel) })
    }
}

impl Meaning {
    /// The column whose value decides which version scores a row; None where one scores them all.
    pub fn key_column(&self) -> Option<&str> {
        self.test().filter(|test| test.routes).map(|test| test.key_column.as_str())
    }

    /// The arm of a row by its key: without one it is the champion's.
    pub fn arm(&self, key: Option<&str>) -> Arm {
        match self.test().zip(key) {
            Some((test, key)) => test.split.arm(key),
            None => Arm::Champion,
        }
    }

    /// The version of an arm; without a test there is one alone.
    pub fn scorer(&self, arm: Arm) -> Result<SharedScorer> {
        match (arm, &self.tested) {
            (Arm::Challenger, Some(tested)) => tested.challenger.scorer(),
            _ => self.version.scorer(),
        }
    }

    /// The test that runs on the bare name, whether it routes or not.
    pub fn test(&self) -> Option<&Test> {
        self.tested.as_ref().map(|tested| &tested.test)
    }
}

/// A version that is opened when the first row needs it: a challenger that cannot be opened does not keep the
/// champion from scoring.
struct Version {
    files: VersionFiles,
    kernel: Kernel,
    scorer: OnceCell<SharedScorer>,
}

impl Version {
    fn new(files: VersionFiles, kernel: Kernel) -> Self {
        Version { files, kernel, scorer: OnceCell::new() }
    }

    fn scorer(&self) -> Result<SharedScorer> {
        if let Some(known) = self.scorer.get() {
            return Ok(known.clone());
        }
        let found = model_cache::scorer(&self.files, self.kernel)?;
        Ok(self.scorer.get_or_init(|| found).clone())
    }
}
