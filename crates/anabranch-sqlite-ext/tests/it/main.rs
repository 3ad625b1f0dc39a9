//! The built extension, from outside: what the library holds and shows, and hosts that
//! load it.
//!
//! Hosts are programs of the machine. One that cannot be had is told on stderr; where
//! `ANABRANCH_REQUIRE_HOSTS` is set (CI does), it is a failure.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hosts;
mod library;
mod shim;
