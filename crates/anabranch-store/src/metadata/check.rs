//! The invariants of log and clocks, looked at one by one: what `ana_check` reports.
