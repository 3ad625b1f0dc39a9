//! What the tests of Anabranch stand on: a reference model, random histories, faulty disks.
//!
//! [`model`] says what must be; [`shapes`] are the tables that histories play on;
//! [`history`] drives real databases and the model side by side; [`world`] lets stores,
//! clients and relays meet on a network that fails.

pub mod crash;
pub mod fuzz;
pub mod history;
pub mod kill;
pub mod model;
pub mod replica;
pub mod shapes;
mod statements;
pub mod world;
