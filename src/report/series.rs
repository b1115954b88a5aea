//! What the pictures show besides a version's own figures.

use riskft_core::refusal::Result;
use riskft_core::report::{ArmFigure, DriftPoint, TrainingCost};

use super::Version;
use crate::spi::{self, Param};

impl Version<'_> {
    /// The last 50 points, the oldest first.
    pub(super) fn drift(&self) -> Result<Vec<DriftPoint>> {
        spi::as_caller(|| {
            spi::query(
                "SELECT day, score, worst, psi FROM (
                     SELECT point,
                         to_char(min(measured_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day,
                         min(psi) FILTER (WHERE kind = 'score') AS score,
                         (array_agg(column_name ORDER BY psi DESC, column_name COLLATE \"C\")
                             FILTER (WHERE kind <> 'score' AND psi IS NOT NULL))[1] AS worst,
                         max(psi) FILTER (WHERE kind <> 'score') AS psi
                     FROM riskft.drift_history WHERE model = $1 AND version = $2
                     GROUP BY point ORDER BY point DESC LIMIT 50) p
                 ORDER BY point",
                &[Param::Text(self.model), Param::Int4(self.version)],
                true,
                |row| DriftPoint {
                    day: row.get(1).unwrap_or_default(),
                    score: row.get(2),
                    worst: row.get::<String>(3).zip(row.get(4)),
                },
            )
        })
    }

    /// The arms' AUC at the last evaluation of each test, by test and arm.
    pub(super) fn arms(&self) -> Result<Vec<ArmFigure>> {
        spi::as_caller(|| {
            spi::query(
                "SELECT test, arm = 'challenger', version, value, ci_low, ci_high
                 FROM riskft.ab_results
                 WHERE model = $1 AND latest AND metric = 'auc' AND version IS NOT NULL
                     AND value IS NOT NULL
                 ORDER BY test, arm COLLATE \"C\"",
                &[Param::Text(self.model)],
                true,
                |row| ArmFigure {
                    test: row.get(1).unwrap_or_default(),
                    is_challenger: row.get(2).unwrap_or_default(),
                    version: row.get(3).unwrap_or_default(),
                    auc: row.get(4).unwrap_or(f64::NAN),
                    interval: row.get(5).zip(row.get(6)),
                },
            )
        })
    }

    /// Wall seconds of the model's trainings, and of their trees alone.
    pub(super) fn costs(&self) -> Result<Vec<TrainingCost>> {
        spi::as_caller(|| {
            spi::query(
                "SELECT 'v' || version || ': ' || arm, seconds FROM riskft.cost_comparison
                 WHERE model = $1 ORDER BY version, arm COLLATE \"C\"",
                &[Param::Text(self.model)],
                true,
                |row| TrainingCost {
                    name: row.get(1).unwrap_or_default(),
                    seconds: row.get(2).unwrap_or(f64::NAN),
                },
            )
        })
    }
}
