//! The server that keeps and forwards deltas.
//!
//! Reading order: [`storage`] (what a relay keeps, and the embedded backend), [`token`] (who
//! may do what), [`hub`] (stores that somebody is connected to), [`connection`] (one
//! WebSocket: the session of `anabranch-sync` decides, this crate owns socket, clock and
//! storage), [`http`] (everything else that can be asked), [`server`] (how it starts and
//! stops). What they share is in [`relay`].
//!
//! Invariant: what a client was told to be stored is on disk; nothing a client sends before
//! its token was found valid opens a store, or costs more than 64 KiB and five seconds.
#![forbid(unsafe_code)]

mod limits;

mod config;
mod log;
mod secret_file;
mod store_id;

mod absent;
mod blobs;
mod outline;
mod patience;
mod storage;

mod make_token;
mod token;

mod doorstep;
mod forgotten;
mod hub;
mod intake;
mod joining;
mod metrics;
mod rates;
mod relay;
mod resume;
mod tasks;

mod connection;
mod http;
mod server;
#[cfg(test)]
mod test_relay;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod websocket;

pub use config::{Config, ConfigError, DEFAULT_DATA, DEFAULT_LISTEN, Settings, TlsFiles};
pub use log::{LogFormat, start_log};
pub use make_token::{MadeToken, TokenOrder, TokenOrderError, make_token};
pub use relay::StartError;
pub use server::{Server, bind, serve};
pub use token::{JwksPlace, JwksUrl, KeyError};
