//! The relay through real sockets on the loopback, port 0: one binary for all tests.

mod auth;
mod client;
mod deltas;
mod exchange;
mod hostile;
mod http;
mod kill;
mod tls;
mod world;
