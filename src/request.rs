//! The arguments of riskft_train, as a CALL gives them and as a queued run keeps them.

use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::FunctionCallInfo;
use riskft_core::options::{Method, Options};
use riskft_core::refusal::{code, Refusal, Result};
use serde::{Deserialize, Serialize};

use crate::catalog;
use crate::json;
use crate::object::Kind;
use crate::relation::Relation;
use crate::run::Entry;
use crate::spi;

/// What is to be trained.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub model: String,
    /// As the caller wrote it.
    pub relation: String,
    /// The one SELECT that it meant when the run was queued; None within a statement.
    pub select: Option<String>,
    pub target: String,
    pub positive: Option<String>,
    pub exclude: Vec<String>,
    pub time_column: Option<String>,
    pub method: Method,
    pub base: String,
    pub options: Options,
}

impl Request {
    /// The arguments of a call, and whether it waits.
    ///
    /// # Safety
    /// `fcinfo` is a call of riskft_train.
    pub unsafe fn read(fcinfo: FunctionCallInfo) -> Result<(Self, bool)> {
        // SAFETY: each argument is read as its declared type.
        unsafe {
            let missing = |name: &str| {
                Refusal::new(code::NULL_NOT_ALLOWED, format!("{name} must not be null"))
                    .detail(format!("Argument \"{name}\" of riskft_train is null."))
                    .hint("CALL riskft_train(model => '...', relation => '...', target => '...').")
            };
            let required = |index: usize, name: &str| {
                pg_getarg::<String>(fcinfo, index).ok_or_else(|| missing(name))
            };
            let model = required(0, "model")?;
            catalog::check_name(Kind::Model, &model)?;
            let wait = pg_getarg::<bool>(fcinfo, 9).ok_or_else(|| missing("wait"))?;
            let options = json::value(fcinfo, 8, "options")?.unwrap_or_default();
            let request = Request {
                model,
                relation: required(1, "relation")?,
                select: None,
                target: required(2, "target")?,
                positive: pg_getarg(fcinfo, 3),
                exclude: names(fcinfo, 4),
                time_column: pg_getarg(fcinfo, 5),
                method: Method::parse(&required(6, "method")?)?,
                base: required(7, "base")?,
                options: Options::parse(&options)?,
            };
            Ok((request, wait))
        }
    }

    /// The base model, where the method needs one.
    pub fn needed_base(&self) -> Option<&str> {
        (self.method != Method::None).then_some(self.base.as_str())
    }

    /// What the run's row tells of it.
    pub fn entry(&self) -> Result<Entry<'_>> {
        Ok(Entry {
            kind: "train",
            name: Some(&self.model),
            relation: &self.relation,
            target: Some(&self.target),
            method: Some(self.method.name()),
            base: self.needed_base(),
            options: spi::json(&self.options)?,
        })
    }

    /// Opens what the caller wrote, or what it meant when the run was queued.
    pub fn resolve(&self) -> Result<Relation> {
        match &self.select {
            Some(select) => Relation::of_select(select),
            None => Relation::resolve(&self.relation),
        }
    }
}

/// The names in an array, NULL being none.
///
/// # Safety
/// The argument is declared as text[].
pub unsafe fn names(fcinfo: FunctionCallInfo, index: usize) -> Vec<String> {
    // SAFETY: as promised.
    let names = unsafe { pg_getarg::<Vec<Option<String>>>(fcinfo, index) };
    names.unwrap_or_default().into_iter().flatten().collect()
}
