//! The relay through real sockets on the loopback, port 0: one binary for all tests.

mod client;
mod deltas;
mod exchange;
mod world;
