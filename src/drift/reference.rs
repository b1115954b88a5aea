//! The reference of a version: its rows, written and read.

use riskft_core::drift::{Kind, Reference};
use riskft_core::refusal::{code, Refusal, Result};

use crate::figures::stored;
use crate::spi::{self, Param};

/// Stores it, with the rights of the catalogue's owner.
pub fn store(model_id: i64, version: i32, reference: &[Reference]) -> Result<()> {
    reference.iter().try_for_each(|of| {
        spi::execute(
            "INSERT INTO riskft.reference (model_id, version, column_name, kind, bins)
             VALUES ($1, $2, $3, $4, $5::jsonb)",
            &[
                Param::Int8(model_id),
                Param::Int4(version),
                Param::Text(&of.column_name),
                Param::Text(of.kind.name()),
                Param::Text(&spi::json(&of.bins)?),
            ],
        )
    })
}

/// Reads what [`store`] wrote, likewise, by column.
pub fn read(model: &str, version: i32) -> Result<Vec<Reference>> {
    let rows = spi::query(
        "SELECT r.column_name, r.kind, r.bins::text
         FROM riskft.reference r JOIN riskft.model m USING (model_id)
         WHERE m.name = $1 AND r.version = $2
         ORDER BY r.column_name COLLATE \"C\", r.kind COLLATE \"C\"",
        &[Param::Text(model), Param::Int4(version)],
        true,
        |row| {
            let text = |column| row.get::<String>(column).unwrap_or_default();
            let kind = Kind::of(&text(2)).ok_or_else(|| unreadable("it is of an unknown kind"))?;
            let bins = stored("riskft.reference", &text(3))?;
            let reference = Reference { column_name: text(1), kind, bins };
            reference.check().map_err(|what| unreadable(&what))?;
            Ok(reference)
        },
    )?;
    rows.into_iter().collect()
}

fn unreadable(what: &str) -> Refusal {
    Refusal::new(code::DATA_CORRUPTED, "stored version cannot be read")
        .detail(format!("In its riskft.reference: {what}."))
        .hint("Restore schema riskft from a backup.")
}
