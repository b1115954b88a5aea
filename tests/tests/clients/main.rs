//! The same scores, to the bit, and the same errors through every client: psycopg, SQLAlchemy,
//! JDBC, psql, dbt and postgres_fdw. The programs are in tests/clients; `scripts/clients.sh`
//! installs what they need, and with RISKFT_SKIP_CLIENTS=1 their tests are skipped.

mod dbt;
mod documented;
mod fdw;
mod jdbc;
mod psql;
mod python;
mod report;
mod stage;
