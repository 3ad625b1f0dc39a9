//! A file that was copied goes on under a new site id, so that both copies may be merged.

use std::fs;
use std::path::PathBuf;

use anabranch::{Store, merge};

use crate::peers::{is_clean, rows, run, with_schema};

/// A database with three changes, closed, and the path of its copy.
fn copied() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let store = with_schema(Store::open(&a).unwrap());
    run(&store, "INSERT INTO note(id, title) VALUES(1, 'one'), (2, 'two')");
    run(&store, "UPDATE note SET title = 'uno' WHERE id = 1");
    run(&store, "INSERT INTO tag VALUES('x', 'red')");
    drop(store);
    fs::copy(&a, &b).unwrap();
    (dir, a, b)
}

#[test]
fn copy_edit_both_and_merge_just_works() {
    let (_dir, a, b) = copied();
    let (a, b) = (Store::open(a).unwrap(), Store::open(b).unwrap());
    run(&a, "UPDATE note SET title = 'from a' WHERE id = 2; INSERT INTO member VALUES('a')");
    run(&b, "UPDATE note SET body = 'from b' WHERE id = 2; DELETE FROM tag");
    run(&b, "INSERT INTO note(id, title) VALUES(3, 'three')");
    assert_ne!(a.site().unwrap(), b.site().unwrap());
    let report = merge(&a, &b, &mut |_, _| ()).unwrap();
    assert!(report.is_equal);
    assert_eq!(report.concurrent, []);
    is_clean(&a);
    is_clean(&b);
    assert_eq!(
        rows(&a, "SELECT id, title, body FROM note"),
        rows(&b, "SELECT id, title, body FROM note")
    );
}

#[test]
fn the_copy_keeps_what_the_original_wrote_under_its_name() {
    let (_dir, a, b) = copied();
    let a = Store::open(a).unwrap();
    let before = a.site().unwrap();
    let log = a.log(0).unwrap();
    let shown = "SELECT \"table\", pk, cid, val, col_version, db_version, site_id, cl, seq
                 FROM crsql_changes WHERE site_id IS NOT x'00' ORDER BY db_version, seq";
    let changes = rows(&a, shown);
    let b = Store::open(b).unwrap();
    // Reading changes nothing yet.
    assert_eq!(b.site().unwrap(), before);
    run(&b, "INSERT INTO member VALUES('b')");
    assert_ne!(b.site().unwrap(), before);
    assert_eq!(b.log(0).unwrap()[..log.len()], log[..]);
    let now = rows(&b, shown);
    assert_eq!(now[..changes.len()], changes[..]);
    assert!(
        now[changes.len()]
            .contains(&format!("{:?}", b.site().unwrap().as_bytes()).replace("Blob(", ""))
    );
    is_clean(&b);
    // Both a delta and a late reader of the original's changes find their place.
    assert_eq!(
        a.export(&b.version_vector().unwrap()).map(|parts| b.apply(&parts[0]).unwrap()).unwrap(),
        0
    );
}

#[test]
fn a_copy_of_a_copy_of_a_copy() {
    let (dir, a, _) = copied();
    let mut stores = vec![Store::open(&a).unwrap()];
    let mut last = a;
    for n in 0..3 {
        let next = dir.path().join(format!("copy{n}.db"));
        fs::copy(&last, &next).unwrap();
        let store = Store::open(&next).unwrap();
        run(&store, &format!("INSERT INTO member VALUES('copy {n}')"));
        run(&store, &format!("UPDATE note SET rank = rank + {n} WHERE id = 1"));
        stores.push(store);
        last = next;
    }
    for _ in 0..2 {
        for i in 1..stores.len() {
            merge(&stores[0], &stores[i], &mut |_, _| ()).unwrap();
        }
    }
    let digest = stores[0].digest().unwrap();
    for store in &stores {
        assert_eq!(store.digest().unwrap(), digest);
        is_clean(store);
    }
}

#[test]
fn a_rolled_back_write_takes_no_new_name() {
    let (_dir, _, b) = copied();
    let b = Store::open(b).unwrap();
    let before = b.site().unwrap();
    run(&b, "BEGIN; INSERT INTO member VALUES('b'); ROLLBACK");
    assert_eq!(b.site().unwrap(), before);
    run(&b, "INSERT INTO member VALUES('b')");
    assert_ne!(b.site().unwrap(), before);
    is_clean(&b);
}

#[test]
fn a_file_that_stays_keeps_its_name() {
    let (_dir, a, _) = copied();
    let before = Store::open(&a).unwrap().site().unwrap();
    let store = Store::open(&a).unwrap();
    run(&store, "INSERT INTO member VALUES('again')");
    assert_eq!(store.site().unwrap(), before);
}

#[test]
fn a_name_undone_with_its_savepoint_is_taken_again() {
    for undo in ["ROLLBACK TO s", "ROLLBACK TO s; RELEASE s; SAVEPOINT s"] {
        let (_dir, a, b) = copied();
        let (a, b) = (Store::open(a).unwrap(), Store::open(b).unwrap());
        let before = b.site().unwrap();
        run(
            &b,
            &format!(
                "BEGIN; SAVEPOINT s; INSERT INTO member VALUES('b'); {undo};
                 INSERT INTO member VALUES('c'); COMMIT"
            ),
        );
        assert_ne!(b.site().unwrap(), before, "{undo}");
        is_clean(&b);
        run(&a, "INSERT INTO member VALUES('a')");
        assert!(merge(&a, &b, &mut |_, _| ()).unwrap().is_equal, "{undo}");
        is_clean(&a);
        is_clean(&b);
    }
}

#[test]
fn a_copy_takes_a_name_before_it_takes_a_delta() {
    let (_dir, a, b) = copied();
    let (a, b) = (Store::open(a).unwrap(), Store::open(b).unwrap());
    run(&a, "INSERT INTO member VALUES('a')");
    // What the original wrote meanwhile must not become this copy's own history.
    let delta = a.export(&b.version_vector().unwrap()).unwrap().concat();
    assert_eq!(b.apply(&delta).unwrap(), 1);
    run(&b, "INSERT INTO member VALUES('b')");
    run(&a, "INSERT INTO member VALUES('a again')");
    assert!(merge(&a, &b, &mut |_, _| ()).unwrap().is_equal);
    is_clean(&b);
}

#[test]
fn another_connection_notices_the_new_name() {
    let (_dir, _, b) = copied();
    let (one, two) = (Store::open(&b).unwrap(), Store::open(&b).unwrap());
    run(&one, "INSERT INTO member VALUES('one')");
    assert_eq!(one.site().unwrap(), two.site().unwrap());
    run(&two, "INSERT INTO member VALUES('two')");
    run(&one, "INSERT INTO member VALUES('three')");
    assert_eq!(one.site().unwrap(), two.site().unwrap());
    let own: Vec<u64> = one
        .log(0)
        .unwrap()
        .iter()
        .filter(|record| record.site == one.site().unwrap())
        .map(|record| record.version)
        .collect();
    assert_eq!(own, [1, 2, 3]);
    is_clean(&one);
    is_clean(&two);
}

#[test]
fn an_old_backup_is_made_whole_by_a_peer_and_goes_on() {
    // Nobody else writes under the name any more: that is what a restored backup means.
    let (_dir, a, b) = copied();
    let bare = |path: &PathBuf| {
        Store::from_connection(anabranch::rusqlite::Connection::open(path).unwrap()).unwrap()
    };
    let (lost, backup, peer) = (bare(&a), bare(&b), crate::peers::store());
    run(&lost, "INSERT INTO member VALUES('later'); UPDATE note SET title = 'later' WHERE id = 1");
    crate::peers::give(&lost, &peer);
    crate::peers::give(&peer, &backup);
    assert_eq!(backup.version_vector().unwrap(), peer.version_vector().unwrap());
    run(&backup, "INSERT INTO member VALUES('after the restore')");
    crate::peers::give(&backup, &peer);
    assert_eq!(backup.digest().unwrap(), peer.digest().unwrap());
    is_clean(&backup);
    is_clean(&peer);
    let log = backup.log(0).unwrap();
    assert_eq!(log.iter().map(|record| record.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
