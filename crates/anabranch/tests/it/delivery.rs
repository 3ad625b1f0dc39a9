//! The law: any mix of doors, orders, repeats and hops gives equal tables on all copies.

use anabranch::rusqlite::types::Value;
use anabranch::{Store, VersionVector};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::peers::{give, is_clean, run, store};

/// Everything a peer with nothing gets, through `crsql_changes`, as every client does it.
fn give_changes(from: &Store, to: &Store) {
    let site = to.site().unwrap();
    let mut read = from
        .sql()
        .prepare(
            "SELECT \"table\", pk, cid, val, col_version, db_version, site_id, cl, seq
             FROM crsql_changes WHERE site_id IS NOT ?1 ORDER BY db_version, seq",
        )
        .unwrap();
    let row = |row: &anabranch::rusqlite::Row<'_>| {
        (0..9).map(|i| row.get(i)).collect::<Result<Vec<Value>, _>>()
    };
    let rows: Vec<Vec<Value>> =
        read.query_map([site.as_bytes()], row).unwrap().map(Result::unwrap).collect();
    to.transact(|tx| {
        let mut insert =
            tx.sql().prepare("INSERT INTO crsql_changes VALUES(?,?,?,?,?,?,?,?,?)").unwrap();
        for row in rows {
            insert.execute(anabranch::rusqlite::params_from_iter(row)).unwrap();
        }
        Ok(())
    })
    .unwrap();
}

/// One local statement on a small key space, so that copies meet.
fn edit(store: &Store, random: &mut StdRng) {
    let (key, number) = (random.random_range(1..5), random.random_range(0..6));
    let texts = ["'x'", "'X'", "NULL", "2", "2.0", "x'00'", "-0.0", "0.0", "9e999", "''"];
    let text = texts[random.random_range(0..texts.len())];
    let sql = match random.random_range(0..14) {
        0 | 1 => format!("INSERT OR IGNORE INTO note VALUES({key}, {text}, {number}, {number})"),
        2 => format!("INSERT OR REPLACE INTO note(id, body) VALUES({key}, {text})"),
        3 | 4 => format!("UPDATE note SET title = {text} WHERE id = {key}"),
        5 => format!("UPDATE note SET body = {text}, rank = {number} WHERE id = {key}"),
        6 => format!("DELETE FROM note WHERE id = {key}"),
        7 => format!("UPDATE OR IGNORE note SET id = {number} + 1 WHERE id = {key}"),
        8 => format!("INSERT OR IGNORE INTO tag VALUES('k{key}', {text})"),
        9 => format!("UPDATE tag SET colour = {text} WHERE name = 'K{key}'"),
        10 => format!("DELETE FROM tag WHERE name = 'k{key}'"),
        11 => format!("INSERT OR IGNORE INTO pair VALUES({key}, 'b', {number})"),
        12 => format!("INSERT OR IGNORE INTO member VALUES('m{key}')"),
        _ => format!("DELETE FROM member WHERE who = 'm{key}'"),
    };
    run(store, &sql);
}

/// One transaction with work of its own before and after a delta, and parts of it undone.
fn mixed_transaction(store: &Store, delta: &[u8], random: &mut StdRng) {
    run(store, "BEGIN");
    edit(store, random);
    run(store, "SAVEPOINT s");
    if let Err(error) = store.apply(delta) {
        assert!(matches!(error, anabranch::Error::Missing(_)), "{error}");
    }
    edit(store, random);
    if random.random() {
        run(store, "ROLLBACK TO s");
    }
    edit(store, random);
    is_clean(store);
    run(store, if random.random_range(0..3) > 0 { "COMMIT" } else { "ROLLBACK" });
}

/// Runs one history; says nothing if the law holds.
fn history(seed: u64, has_changes_door: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let stores: Vec<Store> = (0..random.random_range(2..5)).map(|_| store()).collect();
    let mut old_deltas: Vec<Vec<u8>> = Vec::new();
    for _ in 0..40 {
        let at = random.random_range(0..stores.len());
        let other = random.random_range(0..stores.len());
        match random.random_range(0..11) {
            0..6 => edit(&stores[at], &mut random),
            6 => {
                run(&stores[at], "BEGIN");
                (0..3).for_each(|_| edit(&stores[at], &mut random));
                run(&stores[at], if random.random() { "COMMIT" } else { "ROLLBACK" });
            }
            7 if has_changes_door && at != other => give_changes(&stores[at], &stores[other]),
            7 | 8 => {
                let from = stores[other].version_vector().unwrap();
                let delta = stores[at].export(&from).unwrap().concat();
                stores[other].apply(&delta).unwrap();
                old_deltas.push(delta);
            }
            9 => {
                let delta = stores[other].export(&VersionVector::new()).unwrap().concat();
                mixed_transaction(&stores[at], &delta, &mut random);
            }
            _ => {
                // Late, again, to whoever: taken, known, or missing what it builds on.
                if let Some(delta) = old_deltas.get(random.random_range(0..old_deltas.len().max(1)))
                    && let Err(error) = stores[at].apply(delta)
                {
                    assert!(matches!(error, anabranch::Error::Missing(_)), "seed {seed}: {error}");
                }
            }
        }
        is_clean(&stores[at]);
    }
    for _ in 0..2 {
        for i in 0..stores.len() {
            for j in 0..stores.len() {
                if i != j {
                    give(&stores[i], &stores[j]);
                }
            }
        }
    }
    let digest = stores[0].digest().unwrap();
    let vector = stores[0].version_vector().unwrap();
    for store in &stores {
        assert_eq!(store.digest().unwrap(), digest, "seed {seed}");
        assert_eq!(store.version_vector().unwrap(), vector, "seed {seed}");
        is_clean(store);
    }
}

#[test]
fn deltas_in_any_order_converge() {
    (0..25).for_each(|seed| history(seed, false));
}

#[test]
fn both_doors_mixed_converge() {
    (1000..1025).for_each(|seed| history(seed, true));
}

#[test]
fn a_delta_given_twice_is_held_once() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note(id) VALUES(1)");
    let delta = a.export(&VersionVector::new()).unwrap().concat();
    assert_eq!(b.apply(&delta).unwrap(), 1);
    assert_eq!(b.apply(&delta).unwrap(), 0);
    assert_eq!(b.log(0).unwrap().len(), 1);
}

#[test]
fn parts_may_come_in_any_order_and_are_applied_with_the_last() {
    let (a, b) = (store(), store());
    // Random bytes do not compress: a part holds about 4 MiB of them.
    run(
        &a,
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
         INSERT INTO note(id, body) SELECT i, randomblob(1 << 20) FROM n",
    );
    let mut parts = a.export(&VersionVector::new()).unwrap();
    assert!(parts.len() > 2, "{} parts", parts.len());
    assert!(parts.iter().all(|part| part.len() <= 4 << 20));
    parts.reverse();
    let (last, first) = parts.split_last().unwrap();
    for part in first {
        assert_eq!(b.apply(part).unwrap(), 0);
        assert_eq!(b.apply(part).unwrap(), 0);
        assert!(b.version_vector().unwrap().is_empty());
    }
    assert_eq!(b.apply(last).unwrap(), 1);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    let staged: i64 =
        b.sql().query_row("SELECT count(*) FROM ana_part", [], |row| row.get(0)).unwrap();
    assert_eq!(staged, 0);
}
