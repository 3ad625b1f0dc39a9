//! The digest's canonical bytes, spelled out, and what it must tell apart.

use anabranch_core::digest::Digest;
use anabranch_core::value::ValueRef::{self, Blob, Integer, Null, Real, Text};

fn digest(table: &str, columns: &[&str], rows: &[&[ValueRef<'_>]]) -> [u8; 32] {
    let mut digest = Digest::new();
    digest.table(table, columns);
    rows.iter().for_each(|row| digest.row(row.iter().copied()));
    digest.finish()
}

#[test]
fn hashes_the_documented_bytes() {
    let mut bytes = b"anabranch digest 1\n".to_vec();
    bytes.extend(b"\x01\x01\0\0\0\0\0\0\0t");
    bytes.extend(b"\x02\0\0\0\0\0\0\0");
    bytes.extend(b"\x01\0\0\0\0\0\0\0a\x02\0\0\0\0\0\0\0bc");
    bytes.extend(b"\x02\x00\x01\xfe\xff\xff\xff\xff\xff\xff\xff");
    bytes.extend(b"\x02\x02\0\0\0\0\0\0\xf8\x3f\x03\x01\0\0\0\0\0\0\0x");
    bytes.extend(b"\x02\x04\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0");
    let rows: [&[ValueRef<'_>]; 3] =
        [&[Null, Integer(-2)], &[Real(1.5), Text(b"x")], &[Blob(b""), Real(-0.0)]];
    assert_eq!(digest("t", &["a", "bc"], &rows), *blake3::hash(&bytes).as_bytes());
}

#[test]
fn tells_apart_what_differs() {
    let one = |value| digest("t", &["a"], &[&[value]]);
    let values = [Null, Integer(2), Real(2.0), Text(b"2"), Blob(b"2"), Text(b""), Blob(b"")];
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate() {
            assert_eq!(one(*a) == one(*b), i == j, "{a:?} and {b:?}");
        }
    }
    assert_eq!(one(Real(f64::NAN)), one(Null));
    assert_ne!(digest("t", &["a"], &[]), digest("u", &["a"], &[]));
    assert_ne!(digest("t", &["a"], &[]), digest("t", &["b"], &[]));
}

#[test]
#[should_panic(expected = "columns by name")]
fn refuses_columns_out_of_order() {
    Digest::new().table("t", &["b", "a"]);
}
