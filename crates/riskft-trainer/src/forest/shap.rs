//! What each feature adds to the logits of rows, by the models that left them out: TreeSHAP (Lundberg et
//! al. 2020) as LightGBM computes it.

use riskft_core::refusal::Result;

use super::{Ground, Share};
use crate::events::Reporter;

impl Ground<'_> {
    /// Contributions of the features to the logits of some rows (places, ascending), row by row in no
    /// particular order. A row is explained by each model that left it out, up to the round that is
    /// best for the rows of that model. None where there is nothing to grow from.
    ///
    /// # Errors
    /// 38000 when LightGBM fails.
    pub fn contributions(
        &self,
        places: &[u32],
        phase: &str,
        reporter: &Reporter,
    ) -> Result<Option<Vec<Vec<f64>>>> {
        let width = self.encoding.features();
        if width == 0 || !self.both_classes() {
            return Ok(None);
        }
        let of_models = self.each_model(phase, reporter, |model, done| {
            let growth = self.growth(model, done)?;
            let held = |place: &u32| self.folds.share(model, *place) == Share::Held;
            let asked: Vec<u32> = places.iter().copied().filter(held).collect();
            let features = self.unseen(growth.kind, &asked, &self.own_estimates(model));
            growth.booster.contributions(&features, width, growth.best)
        })?;
        let rows = of_models.iter().flat_map(|model| model.chunks_exact(width + 1));
        Ok(Some(rows.map(<[f64]>::to_vec).collect()))
    }
}
