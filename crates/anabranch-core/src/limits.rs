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
/// Largest decoded size of one part: bounds what one zstd frame may claim. Keys and texts
/// that a part shortens by repetition may together grow to as much again, no more.
pub const MAX_PART_DECODED_BYTES: usize = 64 << 20;
/// Most parts of a delta: 2^20 of 4 MiB are more than a SQLite file of any default size.
pub const MAX_PARTS: u32 = 1 << 20;
/// Most rows in one part: run lengths claim rows at no cost in bytes, memory does not.
pub const MAX_PART_ROWS: usize = 1 << 18;
/// Most cells in one part, for the same reason.
pub const MAX_PART_CELLS: usize = 1 << 20;
/// Most births in one part, for the same reason.
pub const MAX_PART_BIRTHS: usize = 1 << 18;
/// Most headers in one part, for the same reason.
pub const MAX_PART_HEADERS: usize = 1 << 17;
/// Most table sections in one part: an empty one is a few bytes, in memory a hundred.
pub const MAX_PART_TABLES: usize = 1 << 16;
/// Most column names in one part, for the same reason.
pub const MAX_PART_COLUMNS: usize = 1 << 18;
/// Most columns of a table: what SQLite can be compiled for at most.
pub const MAX_COLUMNS: usize = 32_767;
/// Largest key or value in bytes, and largest sum of one row: SQLite's own limit on both.
pub const MAX_ROW_BYTES: u64 = (1 << 31) - 1;
/// Longest author of a change in bytes: a name and an address.
pub const MAX_AUTHOR_BYTES: usize = 1 << 10;
/// Most blobs that one change names: the pictures of an album; a transaction that puts more
/// is refused the next one.
pub const MAX_CHANGE_BLOBS: usize = 1 << 10;
/// Longest message of a change in bytes: a page, not a document.
pub const MAX_MESSAGE_BYTES: usize = 1 << 16;
/// How far a change's time may lie ahead of the receiver's clock, in milliseconds.
pub const MAX_CLOCK_AHEAD_MS: u64 = 10 * 60 * 1000;
/// Most edges of one root's tree: each is a copy of a file that went on writing, and each is
/// looked at when a name is read. A peer that makes up forks is refused beyond it.
pub const MAX_BRANCHES: usize = 1 << 10;
