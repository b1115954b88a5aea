//! Typed access to the riskft.* tables: versions and their files, rights.

use std::ffi::CString;

use pgrx::pg_sys::{self, Oid};
use riskft_core::options::Deploy;
use riskft_core::refusal::{code, Refusal, Result};

use crate::alias::{ModelName, Which};
use crate::object::{self, Kind, Object};
use crate::spi::{self, Param};

/// A version as scoring needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFiles {
    pub version: i32,
    pub version_file: StoredFile,
    pub encoder_file: Option<StoredFile>,
    pub training_file: Option<StoredFile>,
}

/// A model file in riskft.blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// SHA-256, lower-case hex.
    pub digest: String,
    pub length: u64,
}

/// Refuses a name that nothing of this kind can have.
pub fn check_name(kind: Kind, name: &str) -> Result<()> {
    if is_name(name) {
        return Ok(());
    }
    Err(Refusal::new(code::INVALID_PARAMETER, format!("invalid {} name", kind.name()))
        .detail(format!("The name is \"{name}\"."))
        .hint("Use 1 to 63 bytes, not blank, without @ and control characters."))
}

/// Whether a model, a reducer or an alias can have the name.
pub fn is_name(name: &str) -> bool {
    !name.trim().is_empty()
        && name.len() <= 63
        && !name.contains('@')
        && !name.chars().any(char::is_control)
}

struct ModelRow {
    object: Object,
    files: Option<VersionFiles>,
    running_test: Option<i32>,
    falls_back: bool,
}

/// What the current role may score.
pub struct Scorable {
    pub files: VersionFiles,
    /// Number of the A/B test that runs on the model's bare name.
    pub running_test: Option<i32>,
    /// Whether the bare name means alias backup instead.
    pub falls_back: bool,
}

/// The files of a version that the current role may score.
pub fn scorable(wanted: &ModelName<'_>) -> Result<VersionFiles> {
    scorable_and_beside(wanted).map(|scorable| scorable.files)
}

/// [`scorable`], with what stands beside the version on the bare name.
pub fn scorable_and_beside(wanted: &ModelName<'_>) -> Result<Scorable> {
    let row = spi::as_owner(|| read_model(wanted))?;
    let row = row.ok_or_else(|| unknown_model(wanted.name))?;
    require(&row.object.of_kind(Kind::Model)?, Privilege::Score)?;
    match row.files {
        Some(files) => {
            Ok(Scorable { files, running_test: row.running_test, falls_back: row.falls_back })
        }
        None => Err(wanted.unknown()?),
    }
}

/// Number of a version whose figures the current role may read, as the views show them: with any
/// privilege on the model.
pub fn readable(wanted: &ModelName<'_>) -> Result<i32> {
    let row = spi::as_owner(|| read_model(wanted))?;
    let row = row.ok_or_else(|| unknown_model(wanted.name))?;
    require_any(&row.object.of_kind(Kind::Model)?)?;
    match row.files {
        Some(files) => Ok(files.version),
        None => Err(wanted.unknown()?),
    }
}

/// Refuses a version that a model does not have. To be called as the catalogue's owner.
pub fn require_version(model: &str, version: i32) -> Result<()> {
    let found = spi::query(
        "SELECT 1 FROM riskft.version v JOIN riskft.model m USING (model_id)
         WHERE m.name = $1 AND v.version = $2",
        &[Param::Text(model), Param::Int4(version)],
        false,
        |_| (),
    )?;
    match found.is_empty() {
        true => Err(unknown_version(model, &version.to_string())),
        false => Ok(()),
    }
}

/// Whether a version is its model's deployed one. To be called as the catalogue's owner.
pub fn is_deployed(model_id: i64, version: i32) -> Result<bool> {
    let found = spi::query(
        "SELECT 1 FROM riskft.model WHERE model_id = $1 AND deployed_version = $2",
        &[Param::Int8(model_id), Param::Int4(version)],
        false,
        |_| (),
    )?;
    Ok(!found.is_empty())
}

/// The refusal of a version that a model does not have.
pub fn unknown_version(model: &str, version: &str) -> Refusal {
    Refusal::new(
        code::UNDEFINED_OBJECT,
        format!("version {version} of model \"{model}\" does not exist"),
    )
    .detail(format!("The version asked for is {version}."))
    .hint("The view riskft.versions lists the versions of your models.")
}

/// The files of a model's deployed version, where it has one. Rights are the caller's to check.
pub fn deployed(name: &str) -> Result<Option<VersionFiles>> {
    let row = spi::as_owner(|| read_model(&ModelName { name, which: Which::Deployed }))?;
    Ok(row.and_then(|row| row.files))
}

fn read_model(wanted: &ModelName<'_>) -> Result<Option<ModelRow>> {
    let rows = spi::query(
        "SELECT m.owner::text, m.kind, v.version, v.version_digest, b.length,
                v.encoder_digest, e.length, v.training_digest, t.length, m.running_test,
                (SELECT f.active FROM riskft.fallback f WHERE f.model_id = m.model_id)
         FROM riskft.model m
         LEFT JOIN riskft.alias a ON a.model_id = m.model_id AND a.alias = $3
         LEFT JOIN riskft.version v ON v.model_id = m.model_id
             AND v.version = CASE WHEN $3 IS NULL THEN coalesce($2, m.deployed_version)
                             ELSE a.version END
         LEFT JOIN riskft.blob b ON b.digest = v.version_digest
         LEFT JOIN riskft.blob e ON e.digest = v.encoder_digest
         LEFT JOIN riskft.blob t ON t.digest = v.training_digest
         WHERE m.name = $1",
        &[
            Param::Text(wanted.name),
            Param::OptionalInt4(wanted.which.number()),
            Param::OptionalText(wanted.which.alias()),
        ],
        true,
        |row| {
            let file = |digest: i32, length: i32| {
                Some(StoredFile {
                    digest: row.get::<String>(digest)?,
                    length: u64::try_from(row.get::<i64>(length)?).ok()?,
                })
            };
            let files =
                row.get::<i32>(3).zip(file(4, 5)).map(|(version, version_file)| VersionFiles {
                    version,
                    version_file,
                    encoder_file: file(6, 7),
                    training_file: file(8, 9),
                });
            let object = Object {
                kind: Kind::of(&row.get::<String>(2).unwrap_or_default()),
                name: wanted.name.to_owned(),
                owner: row.get(1).unwrap_or_default(),
            };
            let falls_back = row.get(11).unwrap_or(false);
            ModelRow { object, files, running_test: row.get(10), falls_back }
        },
    )?;
    Ok(rows.into_iter().next())
}

pub fn unknown_model(name: &str) -> Refusal {
    Refusal::new(code::UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
        .detail(format!("There is no model named \"{name}\" in this database."))
        .hint("The view riskft.models lists your models; CALL riskft_train trains one.")
}

/// What the owner of a model or reducer may grant to other roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Score and evaluate every version; project by a reducer, which has no other privilege.
    Score,
    /// Store new versions.
    Train,
    /// Choose the version that the bare name means.
    Deploy,
}

impl Privilege {
    pub const ALL: [Privilege; 3] = [Privilege::Score, Privilege::Train, Privilege::Deploy];

    /// As riskft.privilege stores it.
    pub fn name(self) -> &'static str {
        match self {
            Privilege::Score => "score",
            Privilege::Train => "train",
            Privilege::Deploy => "deploy",
        }
    }
}

/// The grantee that stands for every role; PostgreSQL lets no role have this name.
pub const PUBLIC: &str = "public";

/// Refuses a role that is neither a member of the owner nor granted the privilege.
///
/// The role is the current one: the owner of a SECURITY DEFINER function within it.
pub fn require(object: &Object, privilege: Privilege) -> Result<()> {
    if holds(object, privilege)? {
        return Ok(());
    }
    let (role, privilege) = (current_role(), privilege.name());
    let Object { kind, name, owner } = object;
    Err(permission_denied(object)
        .detail(format!(
            "Role \"{role}\" has no privilege {privilege} on {} \"{name}\", which belongs to role \"{owner}\".",
            kind.name()
        ))
        .hint(format!(
            "Ask a member of role \"{owner}\" for SELECT riskft_grant({}, {}, '{privilege}').",
            literal(name),
            literal(&role)
        )))
}

/// Refuses a role that is neither a member of the owner nor granted anything.
fn require_any(object: &Object) -> Result<()> {
    for privilege in [Privilege::Train, Privilege::Deploy] {
        if holds(object, privilege)? {
            return Ok(());
        }
    }
    require(object, Privilege::Score)
}

/// Whether the current role has the privilege on it: as a member of the owner, or of a grantee.
pub fn holds(object: &Object, privilege: Privilege) -> Result<bool> {
    if has_rights_of(&object.owner) {
        return Ok(true);
    }
    let grantees = spi::as_owner(|| {
        spi::query(
            "SELECT p.role::text FROM riskft.privilege p JOIN riskft.model m USING (model_id)
             WHERE m.name = $1 AND p.privilege = $2",
            &[Param::Text(&object.name), Param::Text(privilege.name())],
            true,
            |row| row.get::<String>(1).unwrap_or_default(),
        )
    })?;
    Ok(grantees.iter().any(|role| role == PUBLIC || is_member(role)))
}

/// Whether the current role has the privileges of an existing role.
fn is_member(role: &str) -> bool {
    // SAFETY: catalogue lookups from the server's only thread.
    role_id(role).is_some_and(|id| unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), id) })
}

/// Refuses a role that may not add a version to the model, or not deploy it where that is asked
/// for. A model that does not exist yet is anybody's to train.
pub fn require_training(model: &str, deploy: Deploy) -> Result<()> {
    let Some(model) = object::model(model)? else { return Ok(()) };
    require(&model, Privilege::Train)?;
    match deploy {
        Deploy::Always => require(&model, Privilege::Deploy),
        Deploy::Auto | Deploy::Never => Ok(()),
    }
}

/// Refuses a role that has not the privileges of the owner.
pub fn require_owner(object: &Object) -> Result<()> {
    let Object { kind, name, owner } = object;
    if has_rights_of(owner) {
        return Ok(());
    }
    Err(permission_denied(object)
        .detail(format!("The {} \"{name}\" belongs to role \"{owner}\".", kind.name()))
        .hint(format!("Ask a member of role \"{owner}\"; this cannot be granted.")))
}

fn permission_denied(object: &Object) -> Refusal {
    Refusal::new(
        code::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for {} {}", object.kind.name(), object.name),
    )
}

/// A string constant, as SQL writes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether the current role has the privileges of the named one; a role that does not exist any
/// more leaves them to superusers.
pub fn has_rights_of(owner: &str) -> bool {
    // SAFETY: catalogue lookups from the server's only thread.
    unsafe {
        match role_id(owner) {
            Some(role) => pg_sys::has_privs_of_role(pg_sys::GetUserId(), role),
            None => pg_sys::superuser(),
        }
    }
}

/// Whether the current role may see how a run of `owner` stands.
pub fn may_watch(owner: &str) -> bool {
    has_rights_of(owner) || has_rights_of("pg_read_all_stats")
}

/// Whether the current role may cancel a run of `owner`; as for pg_cancel_backend.
pub fn may_signal(owner: &str) -> bool {
    // SAFETY: a catalogue lookup.
    let is_superuser = role_id(owner).is_some_and(|role| unsafe { pg_sys::superuser_arg(role) });
    has_rights_of(owner) || (!is_superuser && has_rights_of("pg_signal_backend"))
}

/// The role of a name.
pub fn role_id(name: &str) -> Option<Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: a catalogue lookup; an absent role gives InvalidOid.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != pg_sys::InvalidOid).then_some(role)
}

/// Name of the role that logged in, or that SET SESSION AUTHORIZATION chose.
pub fn session_role() -> String {
    // SAFETY: as for `current_role`.
    unsafe { role_name(pg_sys::GetSessionUserId()) }
}

/// Name of the current role.
pub fn current_role() -> String {
    // SAFETY: the current user exists.
    unsafe { role_name(pg_sys::GetUserId()) }
}

/// # Safety
/// The role exists.
unsafe fn role_name(role: Oid) -> String {
    // SAFETY: the name is palloc'd and copied.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, false);
        std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
