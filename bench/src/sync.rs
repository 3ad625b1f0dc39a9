//! Sync, measured: a real relay in a process of its own, real sockets on loopback, and load
//! generators that are part of this crate.
//!
//! [`options`] says what is wanted, [`usage`] reads what a process costs, [`relay`] runs
//! `ana serve`, [`writer`] makes changes, [`peer`] is a connection that syncs them; the other
//! modules are the rows of the report. Everything is bounded in count, so a slow machine takes
//! longer and no measurement depends on a clock.

pub mod options;

pub mod http;
pub mod peer;
pub mod relay;
pub mod usage;
pub mod writer;

pub mod appends;
pub mod delivery;
pub mod first_sync;
pub mod hocuspocus;
pub mod idle;
pub mod stores;
