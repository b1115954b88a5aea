//! Harness of the end-to-end tests: one throw-away cluster for each test binary.
