//! The laws and tables of the core; every random case names its seed.

mod random;

mod delta;
mod digest;
mod format;
mod key;
mod key_sqlite;
mod merge;
mod vector;
mod wire;
mod wire_hostile;
