//! Errors that a test expects.

use postgres::error::DbError;

use crate::session::{told, Session};

/// Runs statements that must fail with this SQLSTATE, and checks that the session goes on.
pub fn fails(session: &mut Session, sql: &str, code: &str) -> DbError {
    let error = match session.batch_execute(sql) {
        Ok(()) => panic!("{sql}: no error, {code} was expected"),
        Err(error) => error,
    };
    let Some(db) = error.as_db_error() else { panic!("{sql}: the connection is lost: {error}") };
    assert_eq!(db.code().code(), code, "{sql}: {}", told(&error));
    let db = db.clone();
    if session.batch_execute("SELECT 1").is_err() {
        session.run("ROLLBACK");
    }
    assert_eq!(session.value::<i32>("SELECT 1"), 1, "{sql}: the session is not usable afterwards");
    db
}

/// [`fails`], for a refusal of riskft's own: it is told in the house's manner.
pub fn refuses(session: &mut Session, sql: &str, code: &str) -> DbError {
    let error = fails(session, sql, code);
    if let Err(fault) = manner(error.message(), error.detail(), error.hint()) {
        panic!("{sql}: {fault}: {error:?}");
    }
    error
}

/// One primary message, lower case and without full stop; detail and hint whole sentences.
fn manner(message: &str, detail: Option<&str>, hint: Option<&str>) -> Result<(), String> {
    let first = message.chars().next();
    if first.is_none_or(char::is_uppercase) || message.ends_with('.') || message.contains('\n') {
        return Err(format!("the message \"{message}\" is not in PostgreSQL's manner"));
    }
    sentence("detail", detail)?;
    sentence("hint", hint)
}

fn sentence(part: &str, text: Option<&str>) -> Result<(), String> {
    let Some(text) = text.filter(|t| !t.trim().is_empty()) else {
        return Err(format!("there is no {part}"));
    };
    let opens = text.chars().next().is_some_and(|c| !c.is_lowercase());
    let closes = ['.', '?', ')', ';'].iter().any(|end| text.ends_with(*end));
    if opens && closes {
        return Ok(());
    }
    Err(format!("the {part} \"{text}\" is no whole sentence"))
}

#[cfg(test)]
mod tests {
    use super::manner;

    #[test]
    fn the_manner_is_checked() {
        let good = manner("unknown option", Some("There is no option \"x\"."), Some("Drop it."));
        assert_eq!(good, Ok(()));
        for (message, detail, hint) in [
            ("Unknown option", "There is none.", "Drop it."),
            ("unknown option.", "There is none.", "Drop it."),
            ("unknown option", "", "Drop it."),
            ("unknown option", "there is none.", "Drop it."),
            ("unknown option", "There is none.", "Drop it"),
        ] {
            assert!(
                manner(message, Some(detail), Some(hint)).is_err(),
                "{message} {detail} {hint}"
            );
        }
        assert!(manner("unknown option", None, Some("Drop it.")).is_err());
    }
}
