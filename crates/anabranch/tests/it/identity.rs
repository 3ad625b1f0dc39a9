//! A file that was copied goes on under a new site id, so that both copies may be merged.

use std::fs;
use std::path::PathBuf;

use anabranch::{Error, Store, merge};

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
fn two_copies_that_both_went_on_under_one_name_are_refused() {
    let (_dir, a, b) = copied();
    // The bare extension does not look at files.
    let bare = |path: &PathBuf| {
        Store::from_connection(anabranch::rusqlite::Connection::open(path).unwrap()).unwrap()
    };
    let (a, b) = (bare(&a), bare(&b));
    run(&a, "INSERT INTO member VALUES('a')");
    run(&b, "INSERT INTO member VALUES('b')");
    let refused = merge(&a, &b, &mut |_, _| ());
    let Err(Error::SiteReused(message)) = refused else { panic!("{refused:?}") };
    assert!(message.contains(&a.site().unwrap().to_string()), "{message}");
    assert!(message.contains("version 4"), "{message}");
}
