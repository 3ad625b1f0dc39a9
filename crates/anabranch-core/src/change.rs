//! A change: one committed transaction of one site, atomic, with its causal dependencies.

use crate::clock::{Chain, Hlc};
use crate::site::SiteId;

/// What kind of transaction a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// At least one local write.
    Edit,
    /// Only cells taken over through `crsql_changes`.
    Import,
    /// A schema change.
    Schema,
    /// A restored past.
    Restore,
}

/// One entry of a change's dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dep {
    /// Whose history.
    pub site: SiteId,
    /// Up to which version it was held when the change was made.
    pub version: u64,
    /// The chain at that version.
    pub chain: Chain,
}

/// The header of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHeader {
    /// Author.
    pub site: SiteId,
    /// The author's dense counter, from 1.
    pub version: u64,
    /// Random; what makes two changes of one (site, version) tell apart.
    pub salt: u64,
    /// When it was committed.
    pub time: Hlc,
    /// Vector entries of other sites that moved since this site's previous change, by site.
    pub deps: Vec<Dep>,
    /// Who, as the application says.
    pub author: Option<String>,
    /// Why, as the application says.
    pub message: Option<String>,
    /// What kind of transaction it was.
    pub kind: ChangeKind,
    /// The blobs that it names, by BLAKE3 hash: who has the change wants them too.
    pub blobs: Vec<[u8; 32]>,
}
