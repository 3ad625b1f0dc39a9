//! Every bound of this crate, each with its reason.

use anabranch_core::limits::MAX_PART_BYTES;

/// Largest frame in bytes: the largest part of a delta, and room for what stands before it.
pub const MAX_FRAME_BYTES: usize = MAX_PART_BYTES + 64;
/// Largest Hello in bytes: a token of 6 KiB, a ticket, names.
pub const MAX_HELLO_BYTES: usize = 8 << 10;
/// Longest token in bytes: a JWT with some dozens of claims.
pub const MAX_TOKEN_BYTES: usize = 6 << 10;
/// Longest resume ticket in bytes: a relay that puts more into it keeps it beside instead.
pub const MAX_TICKET_BYTES: usize = 1 << 10;
/// Longest name of a store in bytes: fits a file name with its suffixes.
pub const MAX_STORE_NAME_BYTES: usize = 128;
/// Most channels of one connection: a device syncs some hundreds of stores at most, and each
/// channel costs its vectors.
pub const MAX_CHANNELS: u32 = 1 << 10;
/// Most channels whose token is being verified at once: each keeps one Hello.
pub const MAX_UNVERIFIED_CHANNELS: usize = 8;
/// Most bytes accepted before the first token was found valid.
pub const MAX_UNVERIFIED_BYTES: usize = 64 << 10;
/// How long a connection may stay without a valid token.
pub const UNVERIFIED_MS: u64 = 5_000;
/// How long a verified channel may wait for the peer's next step of the handshake.
pub const HANDSHAKE_MS: u64 = 30_000;
/// How long before its end a token is asked to be renewed.
pub const RENEW_TOKEN_MS: u64 = 30_000;

/// Most entries of a vector in one frame: about 170 KiB; a longer vector takes several.
pub const MAX_FRAME_ENTRIES: usize = 1 << 12;
/// Most half-received deltas that a Have names: one is usual, the store stages no more.
pub const MAX_PARTIALS: usize = 16;
/// Most changes that one Ack or Receipts frame names.
pub const MAX_FRAME_DOTS: usize = 1 << 8;
/// Most places that are named for one change: peers that a person would look at.
pub const MAX_PLACES: usize = 1 << 6;
/// Most versions that one Chains frame names: bisection in sixteens ends after 14 rounds.
pub const MAX_CHAIN_VERSIONS: usize = 32;
/// Versions asked at once while the last common version is sought.
pub const BISECTION_WAYS: u64 = 16;
/// Most questions about chains or receipts of a peer that wait for the store.
pub const MAX_QUESTIONS: usize = 4;
/// Longest text of an Error in bytes.
pub const MAX_ERROR_TEXT_BYTES: usize = 1 << 10;
/// Most Errors about refused frames that wait to be sent: a peer that causes more of them
/// than it reads is disconnected.
pub const MAX_QUEUED_ERRORS: usize = 16;
/// Largest number of further disks that an Ack may claim.
pub const MAX_REPLICAS: u64 = 255;

/// Bytes of deltas and chunks queued on one channel, above which nothing is added: two parts.
pub const MAX_QUEUED_BYTES: usize = 2 * MAX_PART_BYTES;
/// The same for all channels of a connection together.
pub const MAX_CONNECTION_QUEUED_BYTES: usize = 2 * MAX_QUEUED_BYTES;
/// Answers queued on one channel: a peer that asks and does not read is disconnected.
pub const MAX_QUEUED_ANSWERS: usize = 64;
/// Farewells of closed channels that wait to be sent, for the same reason.
pub const MAX_FAREWELLS: usize = 64;
/// Frames queued on one channel: small live changes, which bytes alone would let pile up.
pub const MAX_QUEUED_FRAMES: usize = 512;
/// Deltas sent and not yet acknowledged: each keeps its name and its vector.
pub const MAX_DELTAS_IN_FLIGHT: usize = 1 << 10;
/// Bytes of received parts that the store has not answered yet, of all channels together.
pub const MAX_TAKING_BYTES: usize = 4 * MAX_PART_BYTES;
/// Received parts that the store has not answered yet, of all channels together.
pub const MAX_TAKING_PARTS: usize = 1 << 8;
/// How far beyond these two a peer may be when its frames had been read already.
pub const MAX_OVERRUN: usize = 2;
/// Requests that the driver has not polled, above which it is told to read no more frames.
pub const MAX_REQUESTS: usize = 1 << 8;
/// Events that the driver has not polled, for the same reason.
pub const MAX_EVENTS: usize = 1 << 10;
/// First delay after a delta was refused that may be sent again at once; doubles each time.
pub const RETRY_MS: u64 = 1_000;
/// Longest of these delays.
pub const MAX_RETRY_MS: u64 = 60_000;
/// Shortest time between two tickets of one channel: each may be a write at the relay.
pub const TICKET_INTERVAL_MS: u64 = 10_000;

/// Bytes of a blob's chunk: a power of two of BLAKE3's chunks, so that it is one subtree.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Largest blob in bytes.
pub const MAX_BLOB_BYTES: u64 = 1 << 40;
/// Most siblings on a chunk's way to the root: 2^40 bytes are 2^24 chunks.
pub const MAX_PATH: usize = 24;
/// Most chunks of all blobs of one channel on their way at once: 1 MiB.
pub const MAX_CHUNKS_IN_FLIGHT: usize = 16;
/// Most blobs wanted on one channel at once; who wants more waits.
pub const MAX_WANTED_BLOBS: usize = 64;

/// Largest presence in bytes: a cursor and a name, not a document.
pub const MAX_PRESENCE_BYTES: usize = 4 << 10;
/// How long a presence lives after it was last heard of.
pub const PRESENCE_MS: u64 = 30_000;
/// How often a presence that does not change is repeated.
pub const HEARTBEAT_MS: u64 = 10_000;
/// Presences a peer may send in a burst.
pub const PRESENCE_BURST: u64 = 40;
/// Time after which one more may be sent: 20 a second.
pub const PRESENCE_REFILL_MS: u64 = 50;
/// Most participants of one channel whose presence is kept.
pub const MAX_PRESENT: usize = 1 << 10;

/// Most sites that a store's receipts are kept of: more peers than a person tells apart.
pub const MAX_RECEIPT_SITES: usize = 1 << 10;
/// Most changes per site that receipts know as held and not shown.
pub const MAX_RECEIPT_HELD: usize = 1 << 10;

const _: () = assert!(CHUNK_BYTES.is_power_of_two());
const _: () = assert!(MAX_BLOB_BYTES / CHUNK_BYTES as u64 == 1 << MAX_PATH);
const _: () = assert!(MAX_HELLO_BYTES > MAX_TOKEN_BYTES + MAX_TICKET_BYTES);
const _: () = assert!(MAX_CHAIN_VERSIONS as u64 >= BISECTION_WAYS);
