//! Every bound of this crate, each with its reason.

use std::time::Duration;

use anabranch_sync::frame::Capabilities;

/// Jobs that wait for the writing thread; the next one waits outside. Each is at most one
/// inline part, so 1,024 of them are bounded memory, and far more than one commit takes in
/// the time of an fsync.
pub(crate) const MAX_WAITING_JOBS: usize = 1024;
/// Jobs of one transaction: those who wait for the first of them do not wait for seconds.
pub(crate) const MAX_GROUP_JOBS: usize = 512;
/// Stores whose vectors the writing thread keeps: memory follows those that are active.
pub(crate) const MAX_WARM_STORES: usize = 512;
/// Salts of one row: a chain in the middle is found by so many hashes at most, 1 ms.
pub(crate) const MAX_SPAN_SALTS: usize = 4096;
/// Questions to the database at a time, each on a connection of 2 MiB of cache.
pub(crate) const MAX_READERS: usize = 4;
/// Parts up to this size are kept in the database: a change is one row, and a row this size
/// is read and written as fast as a file. Larger ones become files.
pub(crate) const MAX_INLINE_BYTES: usize = 64 << 10;
/// What a file counts for at least while no delta names it: parts that come as files are
/// mostly larger, and a store's files are so few that adding them up takes milliseconds.
pub(crate) const MIN_LOOSE_BYTES: u32 = MAX_INLINE_BYTES as u32;
/// How long a blob that nothing names is kept: a backup of the database that is restored
/// within this time finds its blobs.
pub(crate) const BLOB_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Longest token in bytes, as the protocol has it: a JWT with some dozens of claims.
pub(crate) const MAX_TOKEN_BYTES: usize = 6 << 10;
/// Shortest secret of HS256: as long as its hash (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;
/// How far apart the clocks of a token's maker and of the relay may be.
pub(crate) const CLOCK_SKEW_S: u64 = 60;
/// Longest subject in bytes: a name, an address, a UUID.
pub(crate) const MAX_SUBJECT_BYTES: usize = 256;
/// Longest token id in bytes.
pub(crate) const MAX_TOKEN_ID_BYTES: usize = 128;
/// Most audiences of a token: more stores are better named by a pattern.
pub(crate) const MAX_AUDIENCES: usize = 256;
/// Largest key file in bytes, and most keys in it: a company's issuers, not a directory.
pub(crate) const MAX_JWKS_BYTES: u64 = 1 << 20;
/// See [`MAX_JWKS_BYTES`].
pub(crate) const MAX_KEYS: usize = 256;
/// Longest name of a key in bytes.
pub(crate) const MAX_KID_BYTES: usize = 256;
/// Seconds between two looks at the key file: what a new key waits at most.
pub(crate) const JWKS_REREAD_S: u64 = 10;
/// How often keys are fetched by URL: what a key that was taken back may still be used for.
pub(crate) const JWKS_REFETCH: Duration = Duration::from_secs(5 * 60);
/// The first pause after they could not be fetched, and the shortest between two fetches.
pub(crate) const JWKS_RETRY: Duration = Duration::from_secs(5);
/// How long one fetch may take.
pub(crate) const JWKS_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds in which a ticket must be used.
pub(crate) const TICKET_LIFE_S: u64 = 30;
/// Most tickets that wait for their use: each is some hundred bytes.
pub(crate) const MAX_TICKETS: usize = 10_000;
/// Most of them of one subject: pages that one person opens at a time, and no more than a
/// hundredth of what all have.
pub(crate) const MAX_SUBJECT_TICKETS: usize = 100;
/// Connections at a time, unless configured: 16 KiB each, and below what a process may have
/// open on most systems.
pub(crate) const MAX_CONNECTIONS: u64 = 16_384;
/// Connections of one address that have shown no valid token yet, unless configured: each has
/// five seconds for it, so these are 50 new ones a second, from behind one proxy or router too.
pub(crate) const MAX_ADDRESS_CONNECTIONS: u64 = 256;
/// Connections at a time on one store, unless configured.
pub(crate) const MAX_STORE_CONNECTIONS: u64 = 10_000;
/// Bytes of deltas in one store, unless configured: what a SQLite database of some hundred
/// million rows comes to.
pub(crate) const MAX_STORE_BYTES: u64 = 16 << 30;
/// Bytes of blobs that one store names, unless configured: some ten thousand pictures.
pub(crate) const MAX_STORE_BLOB_BYTES: u64 = 64 << 30;
/// Blobs that one delta may name: 32 MiB of hashes.
pub(crate) const MAX_DELTA_BLOBS: usize = 1 << 20;
/// Values of a complete delta that are looked up as hashes of blobs: a file system answers so
/// many in a second.
pub(crate) const MAX_MENTIONED_BLOBS: usize = 1 << 16;
/// Blobs that a channel did not bring from which on nobody is asked for what a complete delta's
/// cells only mention: many values look like the name of a blob, and each 64 that are none cost
/// that the delta is sent once more.
pub(crate) const MAX_ASKED_BLOBS: usize = 256;
/// Blobs that a channel is known not to bring; then it is asked for no more of them before a delta
/// is taken. Each 64 cost that it is sent once more.
pub(crate) const MAX_ABSENT_BLOBS: usize = 1 << 12;
/// Bytes of what proves chunks of blobs that is kept in memory: of 64 GiB of blobs.
pub(crate) const MAX_PROOF_BYTES: u64 = 64 << 20;
/// Changes a second on one store, unless configured: more than a person or a program makes
/// one by one; a run of changes is one delta, which waits until its share has passed.
pub(crate) const MAX_CHANGES_PER_SECOND: u64 = 100_000;
/// Parts up to this size are decoded where they arrive: less than a millisecond. Larger ones
/// go to a thread that may be busy.
pub(crate) const MAX_QUICK_PART_BYTES: usize = 16 << 10;
/// Deltas that an open store keeps in memory for its readers, and their bytes: some seconds
/// of busy editing; who is further behind reads from disk.
pub(crate) const MAX_RING_DELTAS: usize = 1024;
/// See [`MAX_RING_DELTAS`].
pub(crate) const MAX_RING_BYTES: u64 = 1 << 20;
/// Subjects that are counted apart.
pub(crate) const MAX_COUNTED_SUBJECTS: usize = 1000;
/// How long the first admin token lives: a year, in which others are made.
pub(crate) const FIRST_TOKEN_LIFE_S: u64 = 365 * 24 * 60 * 60;
/// Presences that wait for a connection to show them; they are worth nothing when they are old.
pub(crate) const MAX_WAITING_PRESENCE: usize = 256;
/// Largest JSON body in bytes: a token's order with its audiences.
pub(crate) const MAX_JSON_BYTES: usize = 64 << 10;
/// How long a token lives if its order does not say: a month.
pub(crate) const DEFAULT_TOKEN_LIFE_S: u64 = 30 * 24 * 60 * 60;
/// How long a token may live: ten years.
pub(crate) const MAX_TOKEN_LIFE_S: u64 = 10 * 365 * 24 * 60 * 60;
/// How often what a peer has is written down while it acknowledges, in milliseconds: each time is
/// a row of its vector; what is lost with a crash it says again in its next Have.
pub(crate) const REMEMBER_MS: u64 = 10_000;
/// Stores of one answer.
pub(crate) const MAX_LISTED_STORES: u32 = 1000;
/// Runs of deliverers of one answer.
pub(crate) const MAX_LISTED_DELIVERERS: usize = 10_000;
/// Deltas read from disk at once, and bytes of those that are in the database.
pub(crate) const MAX_READ_DELTAS: u32 = 256;
/// See [`MAX_READ_DELTAS`].
pub(crate) const MAX_READ_BYTES: u64 = 1 << 20;
/// How long a client may take for a request's head, or for the handshake of TLS.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of a request in bytes: a token of 6 KiB and what proxies add.
pub(crate) const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most headers of a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// How long connections may take to end once the relay stops; the process ends within 10 s.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long accepting waits after it failed.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often blobs are collected and old deltas joined.
pub(crate) const TEND_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// What a relay can do, of what the protocol knows.
pub(crate) const CAPABILITIES: Capabilities = Capabilities::ALL;
/// Bytes before a valid token, as the protocol has it; also the largest message then.
pub(crate) const MAX_UNVERIFIED_BYTES: usize = anabranch_sync::limits::MAX_UNVERIFIED_BYTES;
/// Bytes that wait for a socket before the session is asked for no more: enough for one
/// system call, so that a slow reader keeps its backlog in the store.
pub(crate) const MAX_WRITE_BYTES: usize = 64 << 10;
/// Bytes of a socket that the system keeps before it has sent them: what a peer that reads
/// slowly, or not at all, costs there, and how closely it is seen that bytes leave. What is
/// on its way comes on top, so a fast line is not slowed.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// Silence after which a peer is asked for a sign of life: below what proxies cut at.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silence after which a peer is gone.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long last words may take.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// When to come again after the storage failed, or the relay stopped.
pub(crate) const STORAGE_RETRY_MS: u64 = 1000;
/// Deltas up to this size are joined with their neighbours; larger ones are left alone, so that
/// a byte is written again a few times only.
pub(crate) const MAX_SMALL_DELTA_BYTES: u64 = 256 << 10;
/// A delta is joined with what comes after it once that has so many times its bytes. Joining
/// takes away four fifths of what single changes take, so it grows by half or more each time.
pub(crate) const MIN_JOIN_RATIO: u64 = 4;
/// Most bytes of deltas that are joined at once.
pub(crate) const MAX_JOIN_BYTES: u64 = 4 << 20;
/// Most cells of deltas that are joined at once: a hundred bytes each in memory.
pub(crate) const MAX_JOINED_CELLS: usize = 1 << 20;
/// What came so long ago becomes part of a checkpoint: whoever was away for less is sent only
/// what he lacks.
pub(crate) const CHECKPOINT_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Checkpoints are made of at least so much: less is a matter of one round trip.
pub(crate) const MIN_CHECKPOINT_BYTES: u64 = 4 << 20;
/// And of at most so much, some ten times that on the disk while it is sorted; larger stores
/// have several.
pub(crate) const MAX_CHECKPOINT_BYTES: u64 = 1 << 30;
/// How often a stretch is cut at what does not join before it is left for another time: each cut
/// reads from there on again.
pub(crate) const MAX_CHECKPOINT_CUTS: usize = 64;
/// A checkpoint is kept if it is smaller by so many parts of a whole: its small neighbours serve
/// those better who hold some of them.
pub(crate) const MIN_CHECKPOINT_GAIN: u64 = 4;
/// Bytes of rows that are sorted in memory at a time.
pub(crate) const MAX_SORTED_BYTES: usize = 32 << 20;
/// Bytes of sorted rows that are read at a time of each run: a GiB makes some hundreds of runs.
pub(crate) const SORTED_CHUNK_BYTES: usize = 64 << 10;
/// Most runs of sorted rows, each with a chunk in memory when they are merged: 128 MiB of chunks,
/// several times what a GiB of usual rows makes.
pub(crate) const MAX_SORTED_RUNS: usize = 2048;

/// Most bytes of names of tables and columns of one checkpoint: some hundred thousand names. A
/// part of some hundred KiB may hold 64 MiB of them.
pub(crate) const MAX_JOINED_NAME_BYTES: usize = 32 << 20;

/// How many times its bytes a stretch may take of the disk while it is sorted: rows there are not
/// compressed, and those of a hostile delta are thousands of times as much.
pub(crate) const MAX_SCRATCH_RATIO: u64 = 16;

/// Headers that are kept in memory before they are put aside: two hundred bytes each.
pub(crate) const HEADERS_ASIDE: usize = 1 << 16;
/// Neighbours that are worth joining.
pub(crate) const MIN_JOIN_DELTAS: usize = 256;
/// How long a request's body, or the reader of an answer, may stall.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
