//! The doors for deltas: `ana_export`, `ana_parts`, `ana_apply`.
