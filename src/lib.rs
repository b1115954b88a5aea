//! riskft: train and score credit-risk models inside PostgreSQL.
pgrx::pg_module_magic!();
