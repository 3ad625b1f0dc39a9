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
/// memory, ten to thirty times as large. Larger files stay as they are.
pub(crate) const MAX_JOINED_BYTES: u64 = 4 << 20;
/// Changes of all files that are joined at a time: their headers take a few bytes encoded, and
/// some 200 decoded.
pub(crate) const MAX_JOINED_CHANGES: u64 = 1 << 16;
/// A file joins with newer ones as long as it is at most so many times as large as they are
/// together: each change is then written again once for each factor by which the directory
/// has grown, not once for each file.
pub(crate) const MAX_JOINED_RATIO: u64 = 4;
/// Files of fewer bytes count as this large: what a file costs besides its bytes.
pub(crate) const MIN_FILE_COST_BYTES: u64 = 64 << 10;
/// Bytes of one request that puts an object; larger ones go in parts.
#[cfg(feature = "s3")]
pub(crate) const MAX_PUT_BYTES: u64 = 16 << 20;
/// How old a joined file is before the files it replaces are deleted, in milliseconds: a
/// cloud drive may bring a deletion long before a large file.
pub(crate) const REPLACED_AFTER_MS: u64 = 60 * 60 * 1000;
/// How old a file being written must be before somebody else may take it for abandoned.
pub(crate) const ABANDONED_AFTER_MS: u64 = 24 * 60 * 60 * 1000;
/// How often a database is asked whether another connection or process has committed, in
/// milliseconds. A question costs some microseconds and a wake-up; nobody notices 20 ms.
pub(crate) const COMMIT_POLL_MS: u64 = 20;
/// How often a watched directory is listed, in milliseconds: most of them live on drives that
/// take seconds themselves, and a listing of a bucket costs money.
pub(crate) const DIRECTORY_POLL_MS: u64 = 2_000;
/// How long commits are gathered before they become one file of a directory, in milliseconds.
pub(crate) const DIRECTORY_GATHER_MS: u64 = 300;
/// How long a connection may take to be made: name, TCP, TLS and WebSocket handshakes.
pub(crate) const CONNECT_MS: u64 = 15_000;
/// Bytes that the system keeps before it has sent them: how closely it is seen that bytes
/// leave on a slow line. What is on its way comes on top.
#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) const MAX_UNSENT_BYTES: u32 = 128 << 10;
/// Bytes of a delta's parts that are held in memory until the peer has them; the rest waits in
/// a temporary file. As many as the store holds while it makes them.
pub(crate) const MAX_PART_BYTES_IN_MEMORY: u64 = 32 << 20;
/// Silence after which the relay is asked whether it is there, in milliseconds: below the
/// minute after which many routers forget a connection.
pub(crate) const PING_AFTER_MS: u64 = 20_000;
/// Silence after which a connection counts as broken, in milliseconds: two pings unanswered.
pub(crate) const DEAD_AFTER_MS: u64 = 50_000;
/// The first wait before connecting again is drawn from zero to this, in milliseconds.
pub(crate) const FIRST_WAIT_MS: u64 = 500;
/// The longest such wait: a relay that is back is found within a minute, and a thousand
/// clients that lost it together come some sixteen a second.
pub(crate) const LONGEST_WAIT_MS: u64 = 60_000;
/// Connections of one sync that ends when it is done: one that is cut is tried again as long
/// as something moved.
pub(crate) const MAX_CONNECTIONS_ONCE: u32 = 8;
/// Frames that are taken together, with one sync of the disk and one acknowledgement: so many
/// small changes that the sync is a small part of the cost, and so few that who sent them is
/// answered within milliseconds.
pub(crate) const MAX_FRAMES_TOGETHER: usize = 64;
/// After a refusal: how long nothing must move before a sync ends that ends when it is done.
pub(crate) const REFUSED_QUIET_MS: u64 = 1_000;
/// How often what a peer holds is written down while changes flow, in milliseconds: each time
/// is a commit of its own.
pub(crate) const NOTE_PEER_MS: u64 = 1_000;
/// How old "last answered" may be while nothing changes, in milliseconds: it is written once
/// in a minute, not at every look into a directory.
pub(crate) const SEEN_MS: u64 = 60_000;
/// Deltas staged in part that are offered to be gone on with.
pub(crate) const MAX_PARTIALS: usize = 16;
/// Changes held here and not shown that a relay is told of: as many as it remembers.
pub(crate) const MAX_TOLD_HELD: usize = anabranch_sync::limits::MAX_RECEIPT_HELD;
/// Events that wait for the application: beyond, it is asked to take some first.
pub(crate) const MAX_TOLD: usize = 1 << 12;
/// Reasons for leaving files out that one report lists; the others are only counted.
pub(crate) const MAX_SKIPPED_LISTED: usize = 20;
