//! `ana_log`: the log as a table.
