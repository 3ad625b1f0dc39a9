//! The SQL functions, by name.
