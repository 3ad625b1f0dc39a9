//! The reference model on its own: what it says in plain cases, and that copies converge
//! in it. A model that does not converge proves nothing about the store.

use anabranch_sim::model::{Broken, Copy, Fold, Table, Value, pack, unpack};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn int(value: i64) -> Value {
    Value::Integer(value)
}

fn text(value: &str) -> Value {
    Value::Text(value.as_bytes().to_vec())
}

fn table() -> Table {
    Table::new("t", &[Fold::Binary], &[("b", Value::Null), ("c", int(9))])
}

fn copy(site: u8) -> Copy {
    let named = Table::new("n", &[Fold::NoCase], &[("b", Value::Null)]);
    let bare = Table::new("p", &[Fold::Binary], &[]);
    Copy::new(vec![site; 16], vec![table(), named, bare], Broken::Nothing)
}

/// `cid=val@version v<db_version> cl<length> #seq` of every change.
fn shown(copy: &Copy) -> String {
    let line = |change: &anabranch_sim::model::Change| {
        let cid = change.column.map_or("-1", |column| ["b", "c"][column]);
        let key = match &change.key[0] {
            Value::Integer(i) => i.to_string(),
            other => format!("{other:?}"),
        };
        let seq = change.seq.map_or("?".to_string(), |seq| seq.to_string());
        format!(
            "{key}.{cid}@{} v{} cl{} #{seq}",
            change.version, change.db_version, change.causal_length
        )
    };
    copy.changes().iter().map(line).collect::<Vec<_>>().join(", ")
}

#[test]
fn imports_nothing_but_std() {
    let source = include_str!("../../src/model.rs");
    for line in source.lines().map(str::trim) {
        assert!(!line.starts_with("use ") || line.starts_with("use std::"), "{line}");
        assert!(!line.contains("anabranch_"), "{line}");
        assert!(!line.contains("rusqlite") && !line.contains("crate::"), "{line}");
    }
}

#[test]
fn local_writes_are_recorded_as_the_reference_does() {
    let (b, c) = (text("x"), text("y"));
    let mut a = copy(1);
    let mut step = |label: &str, expected: &str, work: &mut dyn FnMut(&mut Copy)| {
        work(&mut a);
        a.commit();
        assert_eq!(shown(&a), expected, "{label}");
    };
    step("insert", "1.b@1 v1 cl1 #0, 1.c@1 v1 cl1 #1", &mut |a| {
        a.insert(0, &[int(1)], &[b.clone(), c.clone()]);
    });
    step("update", "1.c@1 v1 cl1 #1, 1.b@2 v2 cl1 #0", &mut |a| {
        a.update(0, (&[int(1)], &[int(1)]), &[b.clone(), c.clone()], &[c.clone(), c.clone()]);
    });
    step("the same value", "1.c@1 v1 cl1 #1, 1.b@2 v2 cl1 #0", &mut |a| {
        a.update(0, (&[int(1)], &[int(1)]), &[c.clone(), c.clone()], &[c.clone(), c.clone()]);
    });
    step("replace", "1.b@3 v3 cl1 #1, 1.c@2 v3 cl1 #2", &mut |a| {
        a.insert(0, &[int(1)], &[b.clone(), c.clone()]);
    });
    step("delete", "1.-1@2 v4 cl2 #0", &mut |a| a.delete(0, &[int(1)]));
    step("again", "1.-1@3 v5 cl3 #0, 1.b@1 v5 cl3 #1, 1.c@1 v5 cl3 #2", &mut |a| {
        a.insert(0, &[int(1)], &[b.clone(), c.clone()]);
    });
    step(
        "update the key",
        "3.b@2 v6 cl1 #0, 3.c@2 v6 cl1 #1, 1.-1@4 v6 cl4 #2, 3.-1@1 v6 cl1 #3",
        &mut |a| {
            a.update(0, (&[int(1)], &[int(3)]), &[b.clone(), c.clone()], &[b.clone(), c.clone()]);
        },
    );
}

#[test]
fn keys_pack_and_unpack() {
    let cases: [(&[Value], &str); 5] = [
        (&[int(1)], "010901"),
        (&[text("k"), int(1)], "020b016b0901"),
        (&[int(-1)], "0141ffffffffffffffff"),
        (&[int(0), Value::Null, Value::Blob(vec![])], "03010504"),
        (&[Value::Real(1.5)], "01023ff8000000000000"),
    ];
    for (key, hex) in cases {
        let packed = pack(key);
        assert_eq!(packed.iter().map(|b| format!("{b:02x}")).collect::<String>(), hex);
        assert_eq!(unpack(&packed).as_deref(), Some(key));
    }
    assert_eq!(unpack(&[]), None);
    assert_eq!(unpack(&[1, 9]), None);
}

/// Random histories on copies of the model alone, both doors mixed.
#[test]
fn copies_of_the_model_converge() {
    for seed in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut copies: Vec<Copy> = (0..rng.random_range(2..5)).map(|n| copy(n + 1)).collect();
        for _ in 0..rng.random_range(5..60) {
            let n = rng.random_range(0..copies.len());
            match rng.random_range(0..10) {
                0..6 => write(&mut copies[n], &mut rng),
                other => {
                    let from = rng.random_range(0..copies.len());
                    deliver(&mut copies, from, n, other < 8, true, &mut rng);
                }
            }
        }
        let n = copies.len();
        for _ in 0..n + 1 {
            for (from, into) in (0..n * n).map(|pair| (pair / n, pair % n)) {
                let is_delta = rng.random();
                deliver(&mut copies, from, into, is_delta, false, &mut rng);
            }
        }
        for other in &copies[1..] {
            for table in 0..3 {
                let rows = [copies[0].live_rows(table), other.live_rows(table)];
                // Concurrent spellings of one key may stay apart through crsql_changes.
                let rows = rows.map(|rows| match table {
                    1 => rows.into_iter().map(|row| (vec![], row.1)).collect(),
                    _ => rows,
                });
                assert_eq!(rows[0], rows[1], "seed {seed}, table {table}: the model diverges");
            }
        }
    }
}

fn write(copy: &mut Copy, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        let table = rng.random_range(0..3);
        let mut key = || match table {
            1 => [text(["a", "A", "b", "B"][rng.random_range(0..4)])],
            _ => [int(rng.random_range(1..4))],
        };
        let (key, other) = (key(), key());
        let folded = copy.tables[table].fold(&key);
        let live = copy.tables[table].rows.get(&folded).filter(|row| row.causal_length % 2 == 1);
        let live = live.map(|row| (row.spelling.clone(), row.shown.clone()));
        let n = copy.tables[table].columns.len();
        let values: Vec<Value> = (0..n).map(|_| int(rng.random_range(0..4))).collect();
        match (live, rng.random_range(0..6)) {
            (Some((spelling, _)), 0) => copy.delete(table, &spelling),
            (Some((spelling, old)), 1) => copy.update(table, (&spelling, &other), &old, &values),
            (Some((spelling, old)), 2..5) => {
                copy.update(table, (&spelling, &spelling), &old, &values);
            }
            _ => copy.insert(table, &key, &values),
        }
    }
    copy.commit();
}

fn deliver(
    copies: &mut [Copy],
    from: usize,
    into: usize,
    is_delta: bool,
    is_partial: bool,
    rng: &mut StdRng,
) {
    if is_delta {
        let held = copies[into].vector.clone();
        let delta = copies[from].export(&held);
        assert!(copies[into].apply(&delta).is_some());
    } else {
        let mut changes = copies[from].changes();
        if is_partial {
            changes.retain(|_| rng.random_ratio(2, 3));
        }
        for mut change in changes {
            if change.site == copies[into].site {
                change.site.clear();
            }
            copies[into].merge(&change);
        }
    }
    copies[into].commit();
}
