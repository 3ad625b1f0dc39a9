//! Tables, laws and stories of the protocol; every random case names its seed.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod beside;
mod blobs;
mod frames;
mod hostile;
mod pair;
mod protocol;
mod receipts;
mod scopes;
mod talk;
mod toy;
mod world;
