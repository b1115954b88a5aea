//! riskft_feedback: what became of rows that were scored. The last word on a key counts.

use std::collections::BTreeMap;

use pgrx::{pg_extern, pg_sys};
use riskft_core::cell::Cell;
use riskft_core::dataset::target::Classes;
use riskft_core::encode::value::{label, Scratch};
use riskft_core::refusal::{code, Refusal, Result};

use crate::alias::{ModelName, Which};
use crate::argument::given;
use crate::catalog::{self, Privilege};
use crate::error::{self, or_raise};
use crate::object::{self, Hold, Kind};
use crate::relation::{Relation, Scan};
use crate::spi::{self, Param};

/// Longest key, bytes: an entry of the index has room for it beside the model.
const MAX_KEY: usize = 1000;
/// Keys of one INSERT.
const KEYS: usize = 10_000;

#[pg_extern(sql = false)]
fn riskft_feedback(
    model: Option<&str>,
    relation: Option<&str>,
    key: Option<&str>,
    outcome: Option<&str>,
) -> i64 {
    // SAFETY: raises 25006 in a read-only transaction, before anything is read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_feedback()".as_ptr()) };
    or_raise(record(model, relation, key, outcome))
}

fn record(
    model: Option<&str>,
    relation: Option<&str>,
    key: Option<&str>,
    outcome: Option<&str>,
) -> Result<i64> {
    const CALL: &str =
        "SELECT riskft_feedback('model', 'relation', key => 'loan_id', outcome => 'defaulted').";
    let model = given("model", model, CALL)?;
    let relation = given("relation", relation, CALL)?;
    let (key, outcome) = (given("key", key, CALL)?, given("outcome", outcome, CALL)?);
    catalog::require(&object::existing(model, Kind::Model)?, Privilege::Train)?;
    let classes = classes(model)?;
    let words = Words::read(relation, key, outcome)?;
    words.require_labels(&classes, outcome)?;
    words.tell();
    let role = catalog::current_role();
    spi::as_owner(|| {
        let model_id = object::hold(model, Kind::Model, Hold::Unchanged)?;
        words.store(model_id, &role)
    })?;
    Ok(i64::try_from(words.last.len()).unwrap_or(i64::MAX))
}

/// The labels of the deployed version.
fn classes(model: &str) -> Result<Classes> {
    let rows = spi::as_owner(|| {
        spi::query(
            "SELECT v.positive_label, v.negative_label
             FROM riskft.version v JOIN riskft.model m USING (model_id)
             WHERE m.name = $1 AND v.version = m.deployed_version",
            &[Param::Text(model)],
            true,
            |row| Classes {
                positive: row.get(1).unwrap_or_default(),
                negative: row.get(2).unwrap_or_default(),
            },
        )
    })?;
    match rows.into_iter().next() {
        Some(classes) => Ok(classes),
        None => Err(ModelName { name: model, which: Which::Deployed }.unknown()?),
    }
}

/// What a relation says of each key.
#[derive(Default)]
struct Words {
    last: BTreeMap<String, String>,
    /// Rows that say something else of their key than an earlier one.
    changed: u64,
    without_key: u64,
    without_outcome: u64,
}

impl Words {
    fn read(relation: &str, key: &str, outcome: &str) -> Result<Self> {
        let mut scan = Scan::open(&Relation::resolve(relation)?)?;
        let (key, outcome) = (scan.position(key)?, scan.position(outcome)?);
        let mut words = Words::default();
        let mut scratch = [Scratch::default(), Scratch::default()];
        while scan.next(|row| words.hear(row[key], row[outcome], &mut scratch))? {}
        scan.close();
        Ok(words)
    }

    fn hear(&mut self, key: Cell<'_>, outcome: Cell<'_>, scratch: &mut [Scratch; 2]) -> Result<()> {
        let [of_key, of_outcome] = scratch;
        let Some(outcome) = label(outcome, of_outcome) else {
            self.without_outcome += 1;
            return Ok(());
        };
        let Some(key) = label(key, of_key) else {
            self.without_key += 1;
            return Ok(());
        };
        if key.len() > MAX_KEY {
            return Err(Refusal::new(code::INVALID_PARAMETER, "key is too long")
                .detail(format!("A key has {} bytes, {MAX_KEY} are kept.", key.len()))
                .hint("Name a column that tells rows apart in fewer bytes."));
        }
        match self.last.get_mut(key) {
            Some(last) if last == outcome => {}
            Some(last) => {
                self.changed += 1;
                outcome.clone_into(last);
            }
            None => drop(self.last.insert(key.to_owned(), outcome.to_owned())),
        }
        Ok(())
    }

    fn require_labels(&self, classes: &Classes, column: &str) -> Result<()> {
        let unknown = |outcome: &&String| classes.of(outcome).is_none();
        let Some(first) = self.last.values().find(unknown) else { return Ok(()) };
        let keys = self.last.values().filter(unknown).count();
        Err(Refusal::new(
            code::INVALID_PARAMETER,
            format!("\"{}\" is no label of the model", riskft_core::protocol::cut(first, 40)),
        )
        .detail(format!(
            "Column \"{column}\" holds other labels than \"{}\" and \"{}\" for {keys} keys.",
            classes.positive, classes.negative
        ))
        .hint(
            "Give a SELECT that writes outcomes as the model's target does; nothing was recorded.",
        ))
    }

    /// What of the rows does not count.
    fn tell(&self) {
        if self.without_outcome > 0 {
            error::notice!("{} rows without an outcome are left out", self.without_outcome);
        }
        if self.without_key > 0 {
            error::notice!("{} rows without a key are left out", self.without_key);
        }
        if self.changed > 0 {
            error::notice!(
                "{} rows contradict an earlier row of the same key: the last one that was read counts",
                self.changed
            );
        }
    }

    fn store(&self, model_id: i64, role: &str) -> Result<()> {
        let all: Vec<(&String, &String)> = self.last.iter().collect();
        for some in all.chunks(KEYS) {
            pgrx::check_for_interrupts!();
            let some: BTreeMap<&String, &String> = some.iter().copied().collect();
            spi::execute(
                "INSERT INTO riskft.feedback (model_id, key, outcome, role)
                 SELECT $1, w.key, w.value, $3::name FROM jsonb_each_text($2::jsonb) w
                 ON CONFLICT (model_id, key) DO UPDATE SET outcome = excluded.outcome,
                     given_at = excluded.given_at, role = excluded.role",
                &[Param::Int8(model_id), Param::Text(&spi::json(&some)?), Param::Text(role)],
            )?;
        }
        Ok(())
    }
}

/// What was recorded for a model: outcomes by key. Rights are the caller's to check.
pub fn recorded(model: &str) -> Result<BTreeMap<String, String>> {
    let rows = spi::as_owner(|| {
        spi::query(
            "SELECT f.key, f.outcome FROM riskft.feedback f JOIN riskft.model m USING (model_id)
             WHERE m.name = $1",
            &[Param::Text(model)],
            true,
            |row| {
                (row.get::<String>(1).unwrap_or_default(), row.get::<String>(2).unwrap_or_default())
            },
        )
    })?;
    Ok(rows.into_iter().collect())
}
