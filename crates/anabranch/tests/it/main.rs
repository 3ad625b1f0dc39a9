//! The library's face: stores that are edited, merged, copied and refused.

mod check;
mod delivery;
mod identity;
mod merge;
mod peers;
mod refusals;
mod transact;
