//! Exact int8 matrix products.
