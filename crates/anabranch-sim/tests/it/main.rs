//! The tests of the whole: the store against the reference model, bad input, faults.

mod bad_input;
mod crash;
mod histories;
mod kill;
mod leftovers;
mod model;
mod order;
mod pairs;
mod spellings;
mod undone;
mod worlds;
