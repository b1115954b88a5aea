//! The audit: one entry for each change of a model or reducer, in the transaction that makes it.
//!
//! Entries are added alone, as the catalogue's owner, and outlive what they are about.

use riskft_core::refusal::{code, Refusal, Result};
use serde_json::Value;

use crate::catalog;
use crate::spi::{self, Param};

/// Longest reason, bytes.
const MAX_REASON: usize = 4096;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Train,
    Update,
    Reduce,
    Import,
    Deploy,
    Rollback,
    SetAlias,
    DropAlias,
    AbStart,
    AbShare,
    AbStop,
    Approve,
    Fallback,
    FallbackStart,
    FallbackStop,
    Grant,
    Revoke,
    SetOwner,
    Export,
    Drop,
}

impl Action {
    /// As riskft.audit shows it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Train => "train",
            Action::Update => "update",
            Action::Reduce => "reduce",
            Action::Import => "import",
            Action::Deploy => "deploy",
            Action::Rollback => "rollback",
            Action::SetAlias => "set_alias",
            Action::DropAlias => "drop_alias",
            Action::AbStart => "ab_start",
            Action::AbShare => "ab_share",
            Action::AbStop => "ab_stop",
            Action::Approve => "approve",
            Action::Fallback => "fallback",
            Action::FallbackStart => "fallback_start",
            Action::FallbackStop => "fallback_stop",
            Action::Grant => "grant",
            Action::Revoke => "revoke",
            Action::SetOwner => "set_owner",
            Action::Export => "export",
            Action::Drop => "drop",
        }
    }
}

/// Who acts. To be asked before the rights of the catalogue's owner are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Session user.
    pub login: String,
    /// Current role.
    pub role: String,
}

impl Author {
    pub fn current() -> Self {
        Author { login: catalog::session_role(), role: catalog::current_role() }
    }

    /// Whether the two have a role in common, whichever was logged in and whichever current.
    pub fn overlaps(&self, other: &Author) -> bool {
        [&self.login, &self.role].into_iter().any(|own| [&other.login, &other.role].contains(&own))
    }
}

/// A change.
pub struct Change<'a> {
    pub action: Action,
    /// Name of the model or reducer.
    pub model: &'a str,
    pub version: Option<i32>,
    /// What else the action has, an object.
    pub detail: Value,
    pub reason: Option<&'a str>,
}

/// Adds an entry. To be called as the catalogue's owner, while the model exists.
pub fn write(by: &Author, change: Change<'_>) -> Result<()> {
    spi::execute(
        "INSERT INTO riskft.audit_entry (login, role, action, model_id, model, owner, version,
                 detail, reason)
         SELECT $1::name, $2::name, $3, m.model_id, m.name, m.owner, $5, $6::jsonb, $7
         FROM riskft.model m WHERE m.name = $4",
        &[
            Param::Text(&by.login),
            Param::Text(&by.role),
            Param::Text(change.action.name()),
            Param::Text(change.model),
            Param::OptionalInt4(change.version),
            Param::Text(&change.detail.to_string()),
            Param::OptionalText(change.reason),
        ],
    )
}

/// A reason as it is stored: a blank one is none.
pub fn reason(given: Option<&str>) -> Result<Option<&str>> {
    let given = given.filter(|text| !text.trim().is_empty());
    match given.map_or(0, str::len) {
        length if length > MAX_REASON => {
            Err(Refusal::new(code::INVALID_PARAMETER, "reason is too long")
                .detail(format!("It has {length} bytes, {MAX_REASON} are kept."))
                .hint("Name the document that tells the rest."))
        }
        _ => Ok(given),
    }
}
