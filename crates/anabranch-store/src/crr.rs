//! Making a table conflict-free and back: refusals, triggers, backfill.
