//! The relay through real sockets on the loopback, port 0: one binary for all tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auth;
mod blobs;
mod bounded;
mod client;
mod deltas;
mod exchange;
mod frames;
mod hostile;
mod http;
mod keys;
mod kill;
mod load;
mod slow;
mod tls;
mod world;
