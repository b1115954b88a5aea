//! The curve of a version: its rows, written and read.

use riskft_core::curve::{check, CurveBin};
use riskft_core::refusal::{code, Refusal, Result};

use crate::spi::{self, Param};

/// Stores it, with the rights of the catalogue's owner.
pub fn store(model_id: i64, version: i32, bins: &[CurveBin]) -> Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    bins.iter().zip(1..).try_for_each(|(bin, place)| {
        spi::execute(
            "INSERT INTO riskft.curve (model_id, version, bin, upper, mean_score, rows, positives)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                Param::Int8(model_id),
                Param::Int4(version),
                Param::Int4(place),
                Param::Float8(bin.upper),
                Param::Float8(bin.mean_score),
                Param::Int8(count(bin.rows)),
                Param::Int8(count(bin.positives)),
            ],
        )
    })
}

/// Reads what [`store`] wrote, likewise, by rising score.
pub fn read(model: &str, version: i32) -> Result<Vec<CurveBin>> {
    let bins = spi::query(
        "SELECT c.upper, c.mean_score, c.rows, c.positives
         FROM riskft.curve c JOIN riskft.model m USING (model_id)
         WHERE m.name = $1 AND c.version = $2 ORDER BY c.bin",
        &[Param::Text(model), Param::Int4(version)],
        true,
        |row| {
            let count = |column| row.get::<i64>(column).unwrap_or_default().try_into().unwrap_or(0);
            CurveBin {
                upper: row.get(1).unwrap_or_default(),
                mean_score: row.get(2).unwrap_or_default(),
                rows: count(3),
                positives: count(4),
            }
        },
    )?;
    match check(&bins) {
        Ok(()) => Ok(bins),
        Err(what) => Err(Refusal::new(code::DATA_CORRUPTED, "stored version cannot be read")
            .detail(format!("In its riskft.curve: {what}."))
            .hint("Restore schema riskft from a backup.")),
    }
}
