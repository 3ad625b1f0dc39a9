//! The pure heart of Anabranch: what a change is, and how two of them join.
//!
//! Reading order: [`value`] and [`key`] (what a cell and a row's identity are),
//! [`site`] and [`clock`] (who wrote, and when), [`vector`] (what a copy holds), [`branch`]
//! and [`forest`] (what is called how once a site's history has forked),
//! [`merge`] (the one merge function), [`change`] and [`delta`] (what moves between
//! copies) with their bytes in [`wire`], [`digest`] and [`words`] (whether two copies are
//! equal, and how people compare that).
//!
//! Nothing here does I/O, reads a clock, draws randomness or is unsafe: time and
//! randomness are arguments. Bytes are described in `docs/format.md`.
#![forbid(unsafe_code)]

pub mod limits;

pub mod branch;
pub mod change;
pub mod clock;
pub mod delta;
pub mod digest;
pub mod forest;
pub mod key;
pub mod merge;
pub mod site;
pub mod value;
pub mod vector;
pub mod wire;
pub mod words;
