//! The functions that triggers call: what changed, compared natively.
