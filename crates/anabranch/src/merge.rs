//! Two stores, merged both ways.

use anabranch_core::site::SiteId;

use crate::error::Result;
use crate::store::Store;

/// What one side got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeSide {
    /// Changes newly held.
    pub changes: u64,
    /// Encoded bytes of the delta it was given.
    pub bytes: u64,
    /// For each table: rows inserted, updated, deleted here.
    pub tables: Vec<(String, u64, u64, u64)>,
}

/// A cell that both sides had written without knowing of each other.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrentCell {
    /// Table.
    pub table: String,
    /// Key values as SQL literals.
    pub key: String,
    /// Column; `None`: the row itself (deleted on one side, written on the other).
    pub column: Option<String>,
    /// The value that stands, as a SQL literal.
    pub stands: String,
    /// Who wrote it.
    pub stands_site: SiteId,
    /// The value that does not, as a SQL literal.
    pub lost: String,
    /// Who wrote that.
    pub lost_site: SiteId,
}

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MergeReport {
    /// What the first store got.
    pub a: MergeSide,
    /// What the second store got.
    pub b: MergeSide,
    /// Cells written on both sides.
    pub concurrent: Vec<ConcurrentCell>,
    /// Whether both digests are equal afterwards.
    pub is_equal: bool,
}

/// Merges both ways: afterwards both hold the union of the changes. Each side takes the
/// other's delta whole or not at all; a crash between the two leaves both consistent, and
/// merging again finishes it. `progress` is told of finished steps and bytes.
pub fn merge(_a: &Store, _b: &Store, _progress: &mut dyn FnMut(&str, u64)) -> Result<MergeReport> {
    todo!()
}
