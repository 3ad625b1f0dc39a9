//! `ana_check`: every invariant, looked at.
