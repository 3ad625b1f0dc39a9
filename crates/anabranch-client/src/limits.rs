//! Every bound of this crate, each with its reason.

/// Files of a directory that one round looks at, oldest names first: what is listed is held
/// in memory, some hundred bytes each, and a folder of more is not ours.
pub(crate) const MAX_FILES: usize = 1 << 16;
/// Longest file name looked at, in bytes: what file systems allow.
pub(crate) const MAX_FILE_NAME_BYTES: usize = 255;
/// Files that are joined at a time. Fewer would rewrite the same changes more often, more
/// would leave more files to read for a newcomer.
pub(crate) const MIN_JOINED_FILES: usize = 8;
/// Encoded bytes of all files that are joined at a time: joining holds them decoded in
/// memory. Larger files stay as they are.
pub(crate) const MAX_JOINED_BYTES: u64 = 16 << 20;
/// A file joins with newer ones as long as it is at most so many times as large as they are
/// together: each change is then written again once for each factor by which the directory
/// has grown, not once for each file.
pub(crate) const MAX_JOINED_RATIO: u64 = 4;
/// Files of fewer bytes count as this large: what a file costs besides its bytes.
pub(crate) const MIN_FILE_COST_BYTES: u64 = 64 << 10;
/// How old a joined file is before the files it replaces are deleted, in milliseconds: a
/// cloud drive may bring a deletion long before a large file.
pub(crate) const REPLACED_AFTER_MS: u64 = 60 * 60 * 1000;
/// How old a file being written must be before somebody else may take it for abandoned.
pub(crate) const ABANDONED_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
/// Reasons for leaving files out that one report lists; the others are only counted.
pub(crate) const MAX_SKIPPED_LISTED: usize = 20;
