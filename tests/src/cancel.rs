//! Calls that are cancelled on their way.

use std::thread;
use std::time::Duration;

use postgres::NoTls;

use crate::database::Database;
use crate::leftovers::leftovers;
use crate::process;
use crate::refusal::fails;
use crate::session::Session;

/// Cancels a call of nobody's model in each of some phases, as riskft.progress tells them: it fails with
/// 57014, and neither a process, a file nor a run stays.
pub fn cancelled_in(database: &Database, session: &mut Session, sql: &str, phases: &[&str]) {
    let (backend, cancel) = (session.pid(), session.cancel_token());
    let phase = || {
        database.analyst().values::<String>("SELECT phase FROM riskft.progress WHERE model IS NULL")
    };
    for wanted in phases {
        thread::scope(|scope| {
            let session = &mut *session;
            let call = scope.spawn(move || fails(session, sql, "57014"));
            process::await_trainer(backend, Duration::from_secs(30)).expect("a trainer");
            while phase() != [*wanted] && !call.is_finished() {
                thread::sleep(Duration::from_millis(20));
            }
            cancel.cancel_query(NoTls).expect("cancel");
            call.join().expect("the call is cancelled");
        });
        assert_eq!(leftovers(database), [""; 0]);
        assert_eq!(session.value::<i64>("SELECT count(*) FROM riskft.runs"), 0);
    }
}
