//! The key columns of a table as `ana_registry` keeps them, one byte each: how its folded keys
//! are read once the table itself is gone.
//!
//! ```text
//! bits 0-2  affinity: BLOB, TEXT, NUMERIC, INTEGER, REAL
//! bits 3-4  collation: BINARY, NOCASE, RTRIM
//! bit  5    the key is the rowid
//! ```

use anabranch_core::key::{Affinity, Collation, KeyColumn};

const AFFINITIES: [Affinity; 5] =
    [Affinity::Blob, Affinity::Text, Affinity::Numeric, Affinity::Integer, Affinity::Real];
const COLLATIONS: [Collation; 3] = [Collation::Binary, Collation::NoCase, Collation::RTrim];
const IS_ROWID: u8 = 1 << 5;

/// The bytes of key columns, in PRIMARY KEY order.
pub(super) fn encode(columns: &[KeyColumn]) -> Vec<u8> {
    let byte = |column: &KeyColumn| {
        let affinity = AFFINITIES.iter().position(|known| *known == column.affinity);
        let collation = COLLATIONS.iter().position(|known| *known == column.collation);
        let (affinity, collation) = affinity.zip(collation).expect("the lists have them all");
        affinity as u8 | (collation as u8) << 3 | if column.is_rowid { IS_ROWID } else { 0 }
    };
    columns.iter().map(byte).collect()
}

/// The key columns; `None` if the bytes are not those of any.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<KeyColumn>> {
    let column = |byte: &u8| {
        Some(KeyColumn {
            affinity: *AFFINITIES.get(usize::from(byte & 7))?,
            collation: *COLLATIONS.get(usize::from(byte >> 3 & 3))?,
            is_rowid: byte & IS_ROWID != 0,
        })
    };
    bytes.iter().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::{AFFINITIES, COLLATIONS, decode, encode};
    use anabranch_core::key::KeyColumn;

    #[test]
    fn all_columns_come_back() {
        let mut columns = Vec::new();
        for affinity in AFFINITIES {
            for collation in COLLATIONS {
                for is_rowid in [false, true] {
                    columns.push(KeyColumn { affinity, collation, is_rowid });
                }
            }
        }
        assert_eq!(decode(&encode(&columns)), Some(columns));
        assert_eq!(decode(&[5]), None);
        assert_eq!(decode(&[24]), None);
    }
}
