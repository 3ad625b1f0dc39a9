//! Packed keys against the reference's own answers, and strict reading.

use ValueRef::{Blob, Integer, Null, Real, Text};
use anabranch_core::key::{
    Affinity, Collation, KeyColumn, KeyError, check_packed, fold, is_spelling_unique, pack, unfold,
    unpack,
};
use anabranch_core::value::{Value, ValueRef};

use crate::random;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// What cr-sqlite 0.16.3 packs.
#[test]
fn packs_as_the_reference_does() {
    let check = |values: &[ValueRef<'_>], expected: &str| {
        let packed = pack(values).unwrap();
        assert_eq!(hex(&packed), expected, "{values:?}");
        let back = unpack(&packed).unwrap();
        assert_eq!(back.len(), values.len());
        assert!(back.iter().zip(values).all(|(a, b)| a.is_same(*b)), "{values:?}");
    };
    check(&[Null], "0105");
    check(&[Integer(0)], "0101");
    check(&[Integer(1)], "010901");
    check(&[Integer(127)], "01097f");
    check(&[Integer(128)], "010980");
    check(&[Integer(255)], "0109ff");
    check(&[Integer(256)], "01110100");
    check(&[Integer(65_535)], "0111ffff");
    check(&[Integer(65_536)], "0119010000");
    check(&[Integer(16_777_215)], "0119ffffff");
    check(&[Integer(16_777_216)], "012101000000");
    check(&[Integer(2_147_483_647)], "01217fffffff");
    check(&[Integer(2_147_483_648)], "012180000000");
    check(&[Integer(4_294_967_295)], "0121ffffffff");
    check(&[Integer(4_294_967_296)], "01290100000000");
    check(&[Integer(1 << 40)], "0131010000000000");
    check(&[Integer(1 << 48)], "013901000000000000");
    check(&[Integer(1 << 55)], "013980000000000000");
    check(&[Integer(1 << 56)], "01410100000000000000");
    check(&[Integer(i64::MAX)], "01417fffffffffffffff");
    check(&[Integer(-1)], "0141ffffffffffffffff");
    check(&[Integer(-128)], "0141ffffffffffffff80");
    check(&[Integer(-2_147_483_648)], "0141ffffffff80000000");
    check(&[Integer(i64::MIN)], "01418000000000000000");
    check(&[Real(0.0)], "01020000000000000000");
    check(&[Real(-0.0)], "01028000000000000000");
    check(&[Real(1.5)], "01023ff8000000000000");
    check(&[Real(1e300)], "01027e37e43c8800759c");
    check(&[Real(f64::INFINITY)], "01027ff0000000000000");
    check(&[Text(b"")], "0103");
    check(&[Text(b"a")], "010b0161");
    check(&[Text("é".as_bytes())], "010b02c3a9");
    check(&[Text(&[b'x'; 255])], &format!("010bff{}", "78".repeat(255)));
    check(&[Text(&[b'x'; 256])], &format!("01130100{}", "78".repeat(256)));
    check(&[Blob(b"")], "0104");
    check(&[Blob(&[0])], "010c0100");
    check(&[Blob(&[1; 300])], &format!("0114012c{}", "01".repeat(300)));
    let several = [Integer(1), Text(b"two"), Blob(&[3]), Real(4.0), Null];
    check(&several, "0509010b0374776f0c010302401000000000000005");
    check(&[], "00");
    assert_eq!(pack(&[Null; 256]), Err(KeyError::TooMany));
}

#[test]
fn unpacks_strictly() {
    let check = |bytes: &str, expected: Result<usize, (usize, &str)>| {
        let found = check_packed(&unhex(bytes)).map_err(|error| match error {
            KeyError::Malformed { at, reason } => (at, reason),
            other => panic!("{other}"),
        });
        assert_eq!(found, expected, "{bytes}");
        assert_eq!(unpack(&unhex(bytes)).is_ok(), expected.is_ok(), "{bytes}");
    };
    check("", Err((0, "no count of values")));
    check("01", Err((1, "a value is missing")));
    check("0109", Err((1, "a number ends early")));
    check("010901ff", Err((3, "bytes after the last value")));
    check("0149ffffffffffffffffff", Err((1, "a number of more than 8 bytes")));
    check("01023ff80000", Err((1, "a real ends early")));
    check("010a3ff8000000000000", Err((1, "a size where none belongs")));
    check("010d00", Err((1, "a size where none belongs")));
    check("010b0561", Err((1, "a length beyond the end")));
    check("0143ffffffffffffffff", Err((1, "a length beyond the end")));
    check("0100", Err((1, "an unknown type")));
    check("0106", Err((1, "an unknown type")));
    // What the reference accepts although it never packs it: leading zeros.
    check("01110001", Ok(1));
    check("01130001 61", Ok(1));
}

const UNTYPED: KeyColumn =
    KeyColumn { affinity: Affinity::Blob, collation: Collation::Binary, is_rowid: false };
const ROWID: KeyColumn =
    KeyColumn { affinity: Affinity::Integer, collation: Collation::Binary, is_rowid: true };

#[test]
fn folds_a_rowid_in_numeric_order() {
    let folded = |integer| fold(&[Integer(integer)], &[ROWID]).unwrap();
    assert_eq!(hex(&folded(0)), "8000000000000000");
    assert_eq!(hex(&folded(-1)), "7fffffffffffffff");
    let numbers = [i64::MIN, -300, -1, 0, 1, 300, i64::MAX];
    assert!(numbers.map(folded).is_sorted());
    for number in numbers {
        let back = unfold(&folded(number), &[ROWID]).unwrap();
        assert_eq!(back, [Value::Integer(number)]);
    }
    assert_eq!(fold(&[Text(b" 5e0 ")], &[ROWID]).unwrap(), folded(5));
    assert_eq!(fold(&[Real(5.0)], &[ROWID]).unwrap(), folded(5));
}

#[test]
fn refuses_what_no_key_column_holds() {
    let wrong = |index, found| Err(KeyError::WrongType { index, found });
    assert_eq!(fold(&[Null], &[ROWID]), wrong(0, "NULL"));
    assert_eq!(fold(&[Real(5.5)], &[ROWID]), wrong(0, "a real"));
    assert_eq!(fold(&[Text(b"x")], &[ROWID]), wrong(0, "a text"));
    assert_eq!(fold(&[Blob(b"x")], &[ROWID]), wrong(0, "a blob"));
    assert_eq!(fold(&[Integer(1), Null], &[UNTYPED, UNTYPED]), wrong(1, "NULL"));
    assert_eq!(fold(&[Real(f64::NAN)], &[UNTYPED]), wrong(0, "NULL"));
    let count = KeyError::WrongCount { found: 1, expected: 2 };
    assert_eq!(fold(&[Integer(1)], &[UNTYPED, UNTYPED]), Err(count));
    assert!(unfold(b"1234567", &[ROWID]).is_err());
    assert!(unfold(b"123456789", &[ROWID]).is_err());
    assert!(unfold(&[0x09], &[UNTYPED]).is_err());
    assert!(unfold(&[0x01, 0x01], &[UNTYPED]).is_err());
}

#[test]
fn knows_which_keys_have_one_spelling() {
    let with = |affinity, collation| KeyColumn { affinity, collation, is_rowid: false };
    assert!(is_spelling_unique(&[ROWID]));
    assert!(is_spelling_unique(&[]));
    assert!(!is_spelling_unique(&[UNTYPED]));
    for affinity in [Affinity::Text, Affinity::Integer, Affinity::Numeric, Affinity::Real] {
        assert!(is_spelling_unique(&[with(affinity, Collation::Binary)]));
        assert!(!is_spelling_unique(&[ROWID, with(affinity, Collation::NoCase)]));
        assert!(!is_spelling_unique(&[with(affinity, Collation::RTrim)]));
    }
}

/// Where a spelling is unique, unfolding gives the stored values back.
#[test]
fn unfolds_what_was_stored() {
    let affinities = [Affinity::Text, Affinity::Integer, Affinity::Numeric, Affinity::Real];
    let mut rng = random::rng(11);
    for case in 0..5_000 {
        let affinity = affinities[case % 4];
        let column = KeyColumn { affinity, collation: Collation::Binary, is_rowid: false };
        let value = random::value(&mut rng);
        let Ok(folded) = fold(&[value.as_ref()], &[column]) else { continue };
        let stored = anabranch_core::key::apply_affinity(value.as_ref(), affinity);
        let is_exception =
            matches!(&stored, Value::Real(real) if *real == -9_223_372_036_854_775_808.0);
        let back = unfold(&folded, &[column]).unwrap();
        if !is_exception || affinity == Affinity::Real {
            assert_eq!(back, [stored], "{value:?} in {affinity:?}");
        }
        assert_eq!(fold(&[back[0].as_ref()], &[column]).unwrap(), folded, "{value:?}");
    }
}
