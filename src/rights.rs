//! riskft_grant, riskft_revoke and riskft_set_owner: who else may use a model or reducer.
//!
//! Roles are stored by name, so that a dump restores where a role is missing. What a privilege
//! allows is asked in [`crate::catalog::require`].

use pgrx::{pg_extern, pg_sys};
use riskft_core::refusal::{code, Refusal, Result};
use serde_json::json;

use crate::audit::{self, Action, Author, Change};
use crate::catalog::{self, Privilege, PUBLIC};
use crate::error::{self, or_raise};
use crate::lifecycle::given;
use crate::object::{self, Hold, Kind, Object};
use crate::spi::{self, Param};

#[pg_extern(sql = false)]
fn riskft_grant(model: Option<&str>, role: Option<&str>, privilege: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_grant()".as_ptr()) };
    or_raise(Grant::read(model, role, privilege).and_then(|grant| grant.give()));
}

#[pg_extern(sql = false)]
fn riskft_revoke(model: Option<&str>, role: Option<&str>, privilege: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_revoke()".as_ptr()) };
    or_raise(Grant::read(model, role, privilege).and_then(|grant| grant.take_back()));
}

/// A privilege on a model or reducer for a role, as the owner asks for it.
struct Grant<'a> {
    object: Object,
    role: &'a str,
    privilege: Privilege,
}

impl<'a> Grant<'a> {
    fn read(
        model: Option<&'a str>,
        role: Option<&'a str>,
        privilege: Option<&str>,
    ) -> Result<Self> {
        let model = given("model", model)?;
        let role = given("role", role)?;
        let privilege = privilege_of(given("privilege", privilege)?)?;
        let object = object::either(model)?;
        catalog::require_owner(&object)?;
        if object.kind == Kind::Reducer && privilege != Privilege::Score {
            return Err(no_privilege(&object, privilege));
        }
        Ok(Grant { object, role: grantee(role), privilege })
    }

    fn give(&self) -> Result<()> {
        if self.role != PUBLIC {
            existing_role(self.role)?;
        }
        let by = Author::current();
        let new = spi::as_owner(|| {
            let id = object::hold(&self.object.name, self.object.kind, Hold::Existing)?;
            let new = spi::query(
                "INSERT INTO riskft.privilege (model_id, role, privilege, granted_by)
                 VALUES ($1, $2::name, $3, $4::name) ON CONFLICT DO NOTHING RETURNING 1",
                &[
                    Param::Int8(id),
                    Param::Text(self.role),
                    Param::Text(self.privilege.name()),
                    Param::Text(&by.role),
                ],
                false,
                |_| (),
            )?;
            self.audit(&by, Action::Grant, &new)?;
            Ok(new)
        })?;
        if new.is_empty() {
            self.notice("already has");
        }
        Ok(())
    }

    fn take_back(&self) -> Result<()> {
        let by = Author::current();
        let gone = spi::as_owner(|| {
            let gone = spi::query(
                "DELETE FROM riskft.privilege p USING riskft.model m
                 WHERE p.model_id = m.model_id AND m.name = $1
                   AND p.role::text = $2 AND p.privilege = $3 RETURNING 1",
                &[
                    Param::Text(&self.object.name),
                    Param::Text(self.role),
                    Param::Text(self.privilege.name()),
                ],
                false,
                |_| (),
            )?;
            self.audit(&by, Action::Revoke, &gone)?;
            Ok(gone)
        })?;
        if gone.is_empty() {
            self.notice("was not granted");
        }
        Ok(())
    }

    /// An entry where rows were changed.
    fn audit(&self, by: &Author, action: Action, changed: &[()]) -> Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let detail = json!({ "role": self.role, "privilege": self.privilege.name() });
        let (model, version) = (self.object.name.as_str(), None);
        audit::write(by, Change { action, model, version, detail, reason: None })
    }

    fn notice(&self, verb: &str) {
        error::notice!(
            "role \"{}\" {verb} privilege {} on {} \"{}\"",
            self.role,
            self.privilege.name(),
            self.object.kind.name(),
            self.object.name
        );
    }
}

/// PUBLIC in any case is every role, unless a role has that very name.
fn grantee(role: &str) -> &str {
    let every = role.eq_ignore_ascii_case(PUBLIC) && catalog::role_id(role).is_none();
    if every {
        PUBLIC
    } else {
        role
    }
}

fn privilege_of(name: &str) -> Result<Privilege> {
    Privilege::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
        let known = Privilege::ALL.map(|p| format!("'{}'", p.name())).join(", ");
        Refusal::new(code::INVALID_PARAMETER, "unknown privilege")
            .detail(format!("There is no privilege \"{name}\" on models."))
            .hint(format!("The privileges are {known}."))
    })
}

fn no_privilege(object: &Object, privilege: Privilege) -> Refusal {
    Refusal::new(
        code::INVALID_PARAMETER,
        format!("a reducer has no privilege {}", privilege.name()),
    )
    .detail(format!("\"{}\" is a reducer: it is neither trained nor deployed.", object.name))
    .hint("The privilege to project rows by a reducer is 'score'.")
}

fn existing_role(name: &str) -> Result<pg_sys::Oid> {
    catalog::role_id(name).ok_or_else(|| {
        Refusal::new(code::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
            .detail(format!("The server has no role named \"{name}\"."))
            .hint("Role names are case-sensitive here; 'public' is every role.")
    })
}

#[pg_extern(sql = false)]
fn riskft_set_owner(model: Option<&str>, role: Option<&str>) {
    // SAFETY: raises 25006 in a read-only transaction.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"riskft_set_owner()".as_ptr()) };
    or_raise(given("model", model).and_then(|m| set_owner(m, given("role", role)?)));
}

fn set_owner(model: &str, role: &str) -> Result<()> {
    let object = object::either(model)?;
    catalog::require_owner(&object)?;
    let id = existing_role(role)?;
    // SAFETY: a catalogue lookup; the rule is that of ALTER TABLE ... OWNER TO.
    if !unsafe { pg_sys::is_member_of_role(pg_sys::GetUserId(), id) } {
        return Err(Refusal::new(
            code::INSUFFICIENT_PRIVILEGE,
            format!("must be member of role \"{role}\""),
        )
        .detail(format!("Role \"{}\" is none.", catalog::current_role()))
        .hint("Ask a member of both roles, or a superuser."));
    }
    let by = Author::current();
    spi::as_owner(|| {
        let id = object::hold(model, object.kind, Hold::Unchanged)?;
        spi::execute(
            "UPDATE riskft.model SET owner = $2::name WHERE model_id = $1",
            &[Param::Int8(id), Param::Text(role)],
        )?;
        let detail = json!({ "before": object.owner });
        let (action, version) = (Action::SetOwner, None);
        audit::write(&by, Change { action, model, version, detail, reason: None })
    })
}
