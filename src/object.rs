//! What has a name: models and reducers. They share one name space, owners, privileges and
//! riskft_drop.

use riskft_core::refusal::{code, Refusal, Result};

use crate::catalog;
use crate::spi::{self, Param};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Model,
    Reducer,
}

impl Kind {
    /// As riskft.model stores it, and as messages say it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Reducer => "reducer",
        }
    }

    /// Undoes [`Kind::name`].
    pub fn of(name: &str) -> Self {
        match name {
            "reducer" => Kind::Reducer,
            _ => Kind::Model,
        }
    }

    /// The refusal of a name that nothing of this kind has.
    pub fn unknown(self, name: &str) -> Refusal {
        match self {
            Kind::Model => catalog::unknown_model(name),
            Kind::Reducer => Refusal::new(
                code::UNDEFINED_OBJECT,
                format!("reducer \"{name}\" does not exist"),
            )
            .detail(format!("There is no reducer named \"{name}\" in this database."))
            .hint("The view riskft.reducers lists your reducers; CALL riskft_reduce makes one."),
        }
    }
}

/// A model or a reducer.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: Kind,
    pub name: String,
    pub owner: String,
}

impl Object {
    /// Refuses one of another kind.
    pub fn of_kind(self, kind: Kind) -> Result<Self> {
        if self.kind == kind {
            return Ok(self);
        }
        let (found, wanted, name) = (self.kind.name(), kind.name(), &self.name);
        let hint = match self.kind {
            Kind::Model => "A model scores rows by risk_score; a name is a model or a reducer, never both.",
            Kind::Reducer => "A reducer projects rows by riskft_project; a name is a model or a reducer, never both.",
        };
        Err(Refusal::new(code::WRONG_OBJECT, format!("\"{name}\" is a {found}, not a {wanted}"))
            .detail(format!("The name \"{name}\" belongs to a {found}."))
            .hint(hint))
    }
}

/// What has the name, if anything does.
pub fn find(name: &str) -> Result<Option<Object>> {
    spi::as_owner(|| {
        let rows = spi::query(
            "SELECT kind, owner::text FROM riskft.model WHERE name = $1",
            &[Param::Text(name)],
            true,
            |row| Object {
                kind: Kind::of(&row.get::<String>(1).unwrap_or_default()),
                name: name.to_owned(),
                owner: row.get(2).unwrap_or_default(),
            },
        )?;
        Ok(rows.into_iter().next())
    })
}

/// The model or reducer of a name; another kind, or nothing, is refused.
pub fn existing(name: &str, kind: Kind) -> Result<Object> {
    find(name)?.ok_or_else(|| kind.unknown(name))?.of_kind(kind)
}

/// The model of a name, if there is one; a reducer is refused.
pub fn model(name: &str) -> Result<Option<Object>> {
    find(name)?.map(|object| object.of_kind(Kind::Model)).transpose()
}

/// What has the name; nothing is refused.
pub fn either(name: &str) -> Result<Object> {
    find(name)?.ok_or_else(|| {
        Refusal::new(code::UNDEFINED_OBJECT, format!("model or reducer \"{name}\" does not exist"))
            .detail(format!("Nothing in this database is named \"{name}\"."))
            .hint("The views riskft.models and riskft.reducers list what is yours.")
    })
}

/// What others may not do with a model or reducer meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It stays: it is not dropped.
    Existing,
    /// It stays as it is: nobody else deploys or drops it.
    Unchanged,
}

/// Number of a model or reducer that exists, locked to the transaction's end. Who waited for a drop
/// to commit is told that it does not exist. To be called as the catalogue's owner.
pub fn hold(name: &str, kind: Kind, how: Hold) -> Result<i64> {
    let lock = match how {
        Hold::Existing => "FOR KEY SHARE",
        Hold::Unchanged => "FOR NO KEY UPDATE",
    };
    let rows = spi::query(
        &format!("SELECT model_id FROM riskft.model WHERE name = $1 AND kind = $2 {lock}"),
        &[Param::Text(name), Param::Text(kind.name())],
        false,
        |row| row.get::<i64>(1).unwrap_or_default(),
    )?;
    rows.into_iter().next().ok_or_else(|| kind.unknown(name))
}
