//! Relations to reduce, and what is asked of their reducers.

use crate::database::Database;
use crate::session::Session;
use crate::twin;

/// Table `t` of the analyst with `n`, six columns of numbers that hang together, and others.
pub const TABLE: &str = "CREATE TABLE t AS SELECT n, u(1, n) AS a, 3 * u(1, n) + u(2, n) AS b,
        (1000 * u(3, n))::int AS c, (u(2, n) - u(3, n))::numeric(12, 6) AS d,
        (u(4, n) * 90)::real AS e, (100 * u(1, n) + 50 * u(5, n))::numeric::money AS f,
        u(6, n) < 0.3 AS flag, date '2020-01-01' + n AS day, 'x' || n AS note, ARRAY[n] AS list
    FROM generate_series(1, 600) n";

/// What of it is no number, or names rows.
pub const EXCLUDE: &str = "exclude => '{n,flag,day,note,list}'";

/// A database with table `t`, and reducer `r` of three components on it.
pub fn reduced() -> (Database<'static>, Session) {
    let (database, mut analyst) = twin::database();
    analyst.run(TABLE);
    analyst.run(&reduce("r", "t", "3", EXCLUDE));
    analyst.notices();
    (database, analyst)
}

/// The call of a reduction; `rest` are further arguments.
pub fn reduce(name: &str, relation: &str, components: &str, rest: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let rest = if rest.is_empty() { String::new() } else { format!(", {rest}") };
    format!("CALL riskft_reduce('{}', '{}', {components}{rest})", quoted(name), quoted(relation))
}

/// Bits of all projections, by n.
pub fn bits(session: &mut Session, reducer: &str, query: &str) -> String {
    session.value(&format!(
        "SELECT md5(string_agg(n || ':' || p::text, ' ' ORDER BY n))
         FROM (SELECT n, array_send(riskft_project('{reducer}', s)) AS p FROM ({query}) s) p"
    ))
}
