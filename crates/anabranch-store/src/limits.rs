//! Every bound of this crate, each with its reason.

/// Operations of one log entry: what is decoded to resolve one stamp.
pub(crate) const MAX_ENTRY_RECORDS: usize = 4096;
/// Bytes of a clock block: four fit a page of 4096; above 1,002 SQLite spills a row of a
/// WITHOUT ROWID table to overflow pages.
pub(crate) const MAX_BLOCK_BYTES: usize = 980;
/// Bytes up to which blocks are filled with rows that are new: the rest is room for two or three
/// updates of all of them, each a group more for the pattern, so that blocks need not be cut.
pub(crate) const MAX_FILLED_BYTES: usize = MAX_BLOCK_BYTES - 24;
/// Rows of a clock block: what is decoded to find one key.
pub(crate) const MAX_BLOCK_ROWS: usize = 128;
/// Clock blocks that are read ahead of those being merged: what one query is spread over.
pub(crate) const MAX_READ_AHEAD: usize = 16;
/// Patterns of clocks that are kept while no row that is being merged has one: more are slower
/// to look through than to find anew.
pub(crate) const MAX_KEPT_PATTERNS: usize = 32;
/// Rows whose clocks live in the log and in memory only, before they are folded.
pub(crate) const MAX_UNFOLDED_ROWS: usize = 256;
/// Operations buffered before an early flush: keeps a transaction of any size within memory.
pub(crate) const MAX_BUFFERED_OPS: usize = if cfg!(test) { 1 << 10 } else { 1 << 19 };
/// Bytes of keys buffered before an early flush.
pub(crate) const MAX_BUFFERED_BYTES: usize = 32 << 20;
/// Statements kept for one table: one for each set of columns written together; honest use
/// has a few, and compiling one costs some ten microseconds.
pub(crate) const MAX_KEPT_STATEMENTS: usize = 64;
/// Versions of an author between stored chains and log positions: what is walked to find
/// one change.
pub(crate) const CHAIN_STEP: u64 = 64;
/// Versions of an author that are walked from a stored chain to one that is asked for: a sound
/// file needs some hundreds ([`CHAIN_STEP`], and as many as are unfolded), a damaged one ends
/// with an error within a second.
pub(crate) const MAX_CHAIN_WALK: u64 = 1 << 16;
/// Operations of a local transaction that may stay unfolded: more are cheaper to fold at
/// once, sorted, than one by one through memory.
pub(crate) const MAX_UNFOLDED_OPS: usize = 64;
/// Keys noted in a transaction as written over another spelling: of those whose write is still
/// to come there is one for each level of triggers, and the oldest that nobody took up go first.
pub(crate) const MAX_NOTED_SPELLINGS: usize = 64;
/// Bytes of a delta being made that stay in memory, eight parts; what is beyond them waits in a
/// temporary file for the last part, which says what stands in the heads of all.
pub(crate) const MAX_PART_BYTES_IN_MEMORY: usize = 32 << 20;
/// Records of the log that are sorted at a time for an export of a small part of it, some 200
/// bytes each; more go into a temporary file, run by run.
pub(crate) const MAX_SORTED_RECORDS: usize = if cfg!(test) { 1 << 6 } else { 1 << 16 };
/// Bytes of headers that stay in memory while a delta is made or taken, some 100,000 of them.
/// What is beyond waits in a temporary file: all headers come before the first row.
pub(crate) const MAX_SPOOL_BYTES_IN_MEMORY: usize = 2 << 20;
/// Bytes of one stream of headers that are written and read at a time.
pub(crate) const MAX_SPOOL_PIECE_BYTES: usize = 8 << 10;
/// The same for all streams together: with many sites, pieces are smaller.
pub(crate) const MAX_SPOOL_PIECES_BYTES: usize = 4 << 20;
/// Largest blob that `ana_export` makes: SQLite's own default bound on a blob is 10^9, and
/// a host holds it twice while it reads it.
pub(crate) const MAX_EXPORT_BYTES: usize = 256 << 20;
/// Bytes of parts that may be staged. A delta is applied when it is whole, so this is also the
/// largest that can come in parts: 16,384 of 4 MiB, the first copy of a database of some
/// hundred million rows. What a peer may make this copy keep on disk before any of it is known
/// to be worth it is no more than that; above it, other deltas' parts go first.
pub(crate) const MAX_STAGED_BYTES: u64 = 64 << 30;
/// Deltas staged at a time: one for each peer that sends at once; the parts of one that
/// never ends must go some day.
pub(crate) const MAX_STAGED_DELTAS: u64 = 16;
/// Bytes of a chunk of a blob, but for the last: what the sync protocol carries at a time.
pub(crate) const BLOB_CHUNK_BYTES: usize = 64 << 10;
/// Bytes of a blob that one call takes or gives: SQLite's own default bound on a value.
pub(crate) const MAX_BLOB_BYTES: usize = 1_000_000_000;
/// How often a delta is applied anew without the changes that this copy cannot show. Each time
/// finds what only the absence of the others makes impossible, which two or three times do;
/// after the last all of the delta is held.
pub(crate) const MAX_HOLD_PASSES: usize = 8;
/// Changes of one delta that are held one by one, some 200 bytes of memory each; with more all
/// of it is held.
pub(crate) const MAX_HELD_APART: usize = 1 << 14;
/// Operations that are held up to which every delta tries to show them: trying costs as much
/// as applying them. More are tried when tables change, and by `ana_retry()`.
pub(crate) const MAX_CELLS_TRIED_AT_APPLY: u64 = 1 << 12;
/// Rows that are held which are read at a time.
pub(crate) const MAX_HELD_ROWS_READ: usize = 256;
/// Bytes of the reason that is kept of a change that is held: what a trigger says may be long.
pub(crate) const MAX_REASON_BYTES: usize = 1 << 10;
/// Findings of `ana_check` that are listed: a damage that repeats in every row is not
/// better understood by more lines.
pub(crate) const MAX_FINDINGS: usize = 1000;
/// Merged records buffered before an early flush: each brings a row with its key and clock,
/// some hundreds of bytes.
pub(crate) const MAX_BUFFERED_MERGED: usize = 1 << 16;
/// Distinct masks that a new operation's is compared with: statements of a transaction
/// change few sets of columns, and a missed match costs one more copy of a mask.
pub(crate) const MAX_MASKS_COMPARED: usize = 16;
/// Words (64 columns each) of all column sets of one decoded block: a row of 2,000 columns,
/// each written by a record of its own, needs 63,000; a damaged block takes 8 MiB at most.
pub(crate) const MAX_BLOCK_MASK_WORDS: usize = 1 << 20;
/// Groups of all rows of one decoded block, for the same reason.
pub(crate) const MAX_BLOCK_GROUPS: usize = 1 << 16;
/// Bytes of keys after which an entry is cut: what one decoded entry may hold of them, but
/// for its last key.
pub(crate) const MAX_ENTRY_KEY_BYTES: usize = 1 << 20;
/// Records of log entries that are kept decoded: what a walk over rows in key order, written
/// in another order, comes back to. About 40 bytes each, 20 MiB.
pub(crate) const MAX_KEPT_RECORDS: usize = 1 << 19;
/// As how many records an entry counts beyond its own: what keeping the smallest one takes.
pub(crate) const KEPT_ENTRY_RECORDS: usize = 12;
/// Largest column version or causal length that a clock may hold; the core refuses what is
/// above it at every door.
///
/// No smaller bound for what comes from others would leave an honest writer room above it: his
/// next version is to the others what the hostile one was to him. A new life of the row does.
pub(crate) const MAX_COLUMN_VERSION: u64 = anabranch_core::limits::MAX_COLUMN_VERSION;
/// Bytes of keys for which a connection keeps memory between transactions.
pub(crate) const MAX_KEPT_BUFFER_BYTES: usize = 1 << 20;
/// Rows of clock blocks that are kept decoded while a scan or a merge runs: about 200 bytes each.
pub(crate) const MAX_KEPT_ROWS: usize = 1 << 17;
/// Blocks of which it is counted how often single rows were asked for: 1 MiB, and blocks of some
/// five million rows. Beyond, it is counted anew.
pub(crate) const MAX_ASKED_BLOCKS: usize = 1 << 16;
/// Rows of users' tables that are read at a time, to be shown or exported: enough that setting a
/// statement up is paid for by many, few enough to stay in the processor's cache.
pub(crate) const MAX_IMAGES: usize = 128;
/// Bytes of texts and blobs after which a scan reads no further row ahead.
pub(crate) const MAX_IMAGE_BYTES: usize = 1 << 18;
/// Rows of a user's table that a merge reads ahead of a tie, while ties come in the order of the
/// rows: enough that setting a statement up is paid for by many.
pub(crate) const MAX_RECENT_ROWS: usize = 64;
/// Bytes of a row's texts and blobs up to which rows of its table are read whole for one value
/// that a tie asks for: a page of overflow or two cost less than a second look-up.
pub(crate) const MAX_RECENT_ROW_BYTES: usize = 1 << 14;
/// Rows that a delta inserts in one statement: with more, a row costs hardly less (measured:
/// 1.6 us alone, 1.0 us among 32, 0.9 us among 64), and compiling the statement more.
pub(crate) const MAX_ROWS_AT_ONCE: usize = 32;
/// Values bound in such a statement: what every SQLite allows
/// (SQLITE_MAX_VARIABLE_NUMBER before 3.32).
pub(crate) const MAX_VALUES_AT_ONCE: usize = 999;
/// Bytes of log rows after which a scan reads no further one ahead: small transactions are read
/// many at a time, and a row of the largest kind is read alone.
pub(crate) const MAX_LOG_BYTES_AHEAD: usize = 1 << 16;
