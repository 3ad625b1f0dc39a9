//! Deltas there and back, whole and in parts.

use anabranch_core::change::ChangeHeader;
use anabranch_core::clock::Chain;
use anabranch_core::delta::{CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key::pack;
use anabranch_core::limits::{MAX_MESSAGE_BYTES, MAX_PART_BYTES, MAX_PART_HEADERS, MAX_PART_ROWS};
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;
use anabranch_core::wire::{
    Decoder, Encoder, PartHead, WireError, aside, decode, encode, part_head, seal, split,
};

use rand::RngExt;

use crate::random;

fn refs(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

fn check(delta: &Delta) -> Vec<Vec<u8>> {
    let parts = encode(delta);
    for (i, part) in parts.iter().enumerate() {
        assert!(part.len() <= MAX_PART_BYTES);
        let (head, len) = part_head(part).unwrap();
        assert_eq!((head.part, head.of, len), (i as u32, parts.len() as u32, part.len()));
    }
    let back = decode(&refs(&parts)).unwrap();
    assert!(back == *delta, "what came back differs");
    parts
}

#[test]
fn random_deltas_come_back() {
    let mut rng = random::rng(30);
    check(&Delta::default());
    for _ in 0..500 {
        let parts = check(&random::delta(&mut rng));
        assert_eq!(parts.len(), 1);
    }
}

#[test]
fn a_nan_travels_as_null() {
    let mut delta = of_rows(1, |_| Value::Real(f64::NAN));
    let parts = encode(&delta);
    delta.tables[0].rows[0].cells[0].value = Value::Null;
    assert!(matches!(decode(&refs(&parts)).unwrap().tables[0].rows[0].cells[0].value, Value::Null));
}

/// A delta of one change with rows of one integer key and two cells.
fn of_rows(n_rows: i64, mut value: impl FnMut(i64) -> Value) -> Delta {
    let mut delta = random::delta(&mut random::rng(31));
    let dot = DeltaDot { site: SiteIdx(0), version: delta.to.version(delta.sites[0]) };
    let cell = |column, value| CellDelta { column, version: 1, dot, origin: SiteIdx(0), value };
    let rows = (0..n_rows)
        .map(|n| RowDelta {
            key: pack(&[ValueRef::Integer(n)]).unwrap(),
            causal_length: 1,
            births: Vec::new(),
            cells: vec![cell(0, value(n)), cell(1, Value::Integer(n))],
        })
        .collect();
    let columns = vec!["v".to_owned(), "n".to_owned()];
    delta.tables = vec![TableDelta { name: "t".to_owned(), columns, rows }];
    delta
}

#[test]
fn rows_that_do_not_compress_fill_several_parts() {
    let delta = of_rows(3_000, |n| Value::Blob(random::noise(n as u64, 4_000)));
    let parts = check(&delta);
    assert!((3..6).contains(&parts.len()), "{}", parts.len());
}

#[test]
fn rows_that_compress_to_nothing_stay_within_the_counts() {
    let n_rows = MAX_PART_ROWS as i64 + 10;
    let mut delta = of_rows(n_rows, |_| Value::Null);
    delta.tables[0].rows.iter_mut().for_each(|row| row.cells.truncate(1));
    // A quarter of what a reader takes is a part.
    assert_eq!(check(&delta).len(), 5);
}

#[test]
fn a_value_larger_than_a_part_is_cut() {
    let noise = random::noise(33, 9_000_000);
    let delta = of_rows(5, |n| match n {
        1 => Value::Blob(noise.clone()),
        3 => Value::Text(vec![b'x'; 600_000]),
        _ => Value::Text(b"small".to_vec()),
    });
    let parts = check(&delta);
    assert_eq!(parts.len(), 3);
    // A decoder that sees part after part gives the long row when it is complete.
    let mut decoder = Decoder::new();
    let n_rows: Vec<usize> = parts
        .iter()
        .map(|part| decoder.push(part).unwrap().tables.iter().map(|t| t.rows.len()).sum())
        .collect();
    assert_eq!(n_rows, [1, 0, 4]);
    decoder.finish().unwrap();
}

#[test]
fn a_key_larger_than_a_part_is_cut() {
    let noise = random::noise(34, 5_000_000);
    let mut delta = of_rows(3, |_| Value::Text(Vec::new()));
    delta.tables[0].rows[1].key = pack(&[ValueRef::Blob(&noise)]).unwrap();
    assert_eq!(check(&delta).len(), 2);
}

#[test]
fn a_table_of_2000_columns_travels() {
    let mut delta = of_rows(50, |_| Value::Null);
    let table = &mut delta.tables[0];
    table.columns = (0..2_000).map(|n| format!("column {n}")).collect();
    for (n, row) in table.rows.iter_mut().enumerate() {
        let template = row.cells[0].clone();
        let columns = (0..2_000).filter(|column| column % (n as u32 + 1) == 0);
        row.cells = columns.map(|column| CellDelta { column, ..template.clone() }).collect();
    }
    check(&delta);
}

#[test]
fn many_tables_and_headers_travel() {
    let mut delta = of_rows(1, |_| Value::Null);
    let table = delta.tables.remove(0);
    delta.tables = (0..70_000)
        .map(|n| TableDelta {
            name: format!("t{n:06}"),
            rows: if n % 100 == 0 { table.rows.clone() } else { Vec::new() },
            columns: table.columns.clone(),
        })
        .collect();
    assert_eq!(check(&delta).len(), 2);
}

#[test]
fn headers_fill_several_parts() {
    let mut delta = Delta { sites: vec![random::site(1)], ..Delta::default() };
    let site = random::site(1);
    let n_headers = MAX_PART_HEADERS as u64 + 10;
    delta.to.set(site, Held { version: n_headers, chain: Chain([1; 16]) });
    let header = random::delta(&mut random::rng(37)).headers.remove(0);
    let header =
        |version| ChangeHeader { site, version, deps: vec![], blobs: vec![], ..header.clone() };
    delta.headers = (1..=n_headers).map(header).collect();
    // Half of what a reader takes is a part.
    assert_eq!(check(&delta).len(), 3);
    // Messages that all differ and do not compress well: fewer headers a part.
    delta.headers.truncate(300);
    delta.to.set(site, Held { version: 300, chain: Chain([1; 16]) });
    for header in &mut delta.headers {
        let noise = random::noise(header.version, MAX_MESSAGE_BYTES / 2);
        header.message = Some(noise.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    assert!(check(&delta).len() > 4);
}

#[test]
fn parts_in_one_file_are_told_apart() {
    let delta = of_rows(3_000, |n| Value::Blob(random::noise(n as u64, 4_000)));
    let parts = encode(&delta);
    let file = parts.concat();
    assert_eq!(split(&file).unwrap(), refs(&parts));
    assert!(matches!(split(&file[..file.len() - 1]), Err(WireError::Truncated { .. })));
    assert!(matches!(split(&file[1..]), Err(WireError::NotAPart)));
    let (PartHead { of, .. }, len) = part_head(&file[..64]).unwrap();
    assert_eq!((of as usize, len), (parts.len(), parts[0].len()));
}

#[test]
fn parts_must_be_those_of_one_delta_in_order() {
    let noise = |seed| of_rows(2_000, |n| Value::Blob(random::noise(seed ^ n as u64, 4_000)));
    let (a, b) = (encode(&noise(1 << 32)), encode(&noise(2 << 32)));
    assert_eq!((a.len(), b.len()), (2, 2));
    let order = |parts: &[&[u8]]| match decode(parts).unwrap_err() {
        WireError::Order { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(order(&[&a[1], &a[0]]), "not the next one");
    assert_eq!(order(&[&a[0], &a[0]]), "not the next one");
    assert_eq!(order(&[&a[0], &b[1]]), "of another delta");
    assert_eq!(decode(&[&a[0]]), Err(WireError::Incomplete { found: 1, expected: 2 }));
    assert_eq!(decode(&[]), Err(WireError::Incomplete { found: 0, expected: 1 }));
    // Sealed together, but one content replaced: the name of the delta tells.
    let mut forged = b[1].clone();
    let (head, _) = part_head(&a[0]).unwrap();
    seal(&mut forged, &anabranch_core::wire::Seal { delta: head.delta, of: 2 });
    assert_eq!(decode(&[&a[0], &forged]), Err(WireError::Checksum));
}

#[test]
fn the_encoder_refuses_what_no_delta_holds() {
    let delta = of_rows(1, |_| Value::Null);
    let encoder = || Encoder::new(&delta.from, &delta.to, &delta.sites).unwrap();
    assert!(Encoder::new(&delta.to, &delta.from, &delta.sites).is_err());
    assert!(encoder().finish().is_err());
    assert!(encoder().table("t", &[]).is_err());
    assert!(encoder().header(&delta.headers[1]).is_err());
    let mut with_headers = encoder();
    delta.headers.iter().for_each(|header| with_headers.header(header).unwrap());
    with_headers.table("t", &[]).unwrap();
    assert!(with_headers.row(&delta.tables[0].rows[0]).is_err());
    // Unsealed parts are refused by name.
    let mut unsealed = encoder();
    delta.headers.iter().for_each(|header| unsealed.header(header).unwrap());
    let (parts, _) = unsealed.finish().unwrap();
    assert_eq!(part_head(&parts[0]), Err(WireError::Unsealed));
}

/// One small change costs little more than its head.
#[test]
fn one_change_is_small() {
    let delta = of_rows(1, |_| Value::Text(b"hello".to_vec()));
    let n_bytes: usize = encode(&delta).iter().map(Vec::len).sum();
    assert!(n_bytes < 500, "{n_bytes}");
    let many = of_rows(10_000, |_| Value::Text(b"hello".to_vec()));
    let n_bytes: usize = encode(&many).iter().map(Vec::len).sum();
    assert!(n_bytes < 2_000, "{n_bytes}");
}

/// Rows and headers that are put aside come back as they were; damage is found, or harmless.
#[test]
fn what_is_put_aside_comes_back() {
    let mut rng = random::rng(24);
    for case in 0..200 {
        let mut delta = random::delta(&mut rng);
        let bytes = aside::put_headers(&delta.headers, &delta.to);
        let again = aside::take_headers(&bytes, &delta.to).unwrap();
        assert_eq!(again, delta.headers, "case {case}");
        for table in &mut delta.tables {
            if case % 4 == 0
                && let Some(cell) = table.rows.iter_mut().find_map(|row| row.cells.first_mut())
            {
                cell.value = Value::Blob(random::noise(case, 100_000));
            }
            let bytes = aside::put_rows(table);
            let again = aside::take_rows(&bytes).unwrap();
            assert_eq!(again.rows, table.rows, "case {case}");
            assert!(table.rows.is_empty() || again.columns == table.columns, "case {case}");
            let n = rng.random_range(0..=bytes.len());
            let _ = aside::take_rows(&bytes[..n]);
        }
    }
}
