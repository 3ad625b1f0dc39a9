//! Every bound of this crate, each with its reason.
//!
//! Clocks are bounded far below 2^63 so that no honest later write can overflow, and
//! what a hostile peer sends beyond a bound is refused by name.

/// Largest `db_version`, `version` and time counter accepted from outside: 2^53, exact
/// in every language a client is written in, and out of reach of honest use.
pub const MAX_VERSION: u64 = 1 << 53;
/// Largest column version and causal length: a cell rewritten a million times a second
/// for 300 years stays below it.
pub const MAX_COLUMN_VERSION: u64 = 1 << 53;
/// Largest `seq`: cells of one transaction.
pub const MAX_SEQ: u64 = 1 << 48;
/// Longest site id in bytes; our own have exactly this many.
pub const MAX_SITE_ID_BYTES: usize = 16;
/// Most sites of a version vector or a delta: every copy that ever wrote to one store, and
/// still so few that a vector with its chains fits one part of a delta.
pub const MAX_SITES: usize = 1 << 15;
/// Longest table or column name in bytes, as the reference has it.
pub const MAX_NAME_BYTES: usize = 2048;
/// Most columns of a packed key: its count is one byte.
pub const MAX_KEY_COLUMNS: usize = 255;
/// Largest part of a delta, encoded: fits one message of any transport.
pub const MAX_PART_BYTES: usize = 4 << 20;
/// Largest decoded size of one part: bounds what one zstd frame may claim.
pub const MAX_PART_DECODED_BYTES: usize = 64 << 20;
/// How far a change's time may lie ahead of the receiver's clock, in milliseconds.
pub const MAX_CLOCK_AHEAD_MS: u64 = 10 * 60 * 1000;
