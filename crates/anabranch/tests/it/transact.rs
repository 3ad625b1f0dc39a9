//! Transactions of the library: one change each, or nothing.

use anabranch::{Error, Result};

use crate::peers::{rows, run, store};

#[test]
fn a_transaction_is_one_change_with_its_words() {
    let store = store();
    store
        .transact(|tx| {
            tx.author("ada")?;
            tx.message("two tables")?;
            tx.sql().execute("INSERT INTO note(id) VALUES(1)", [])?;
            tx.sql().execute("INSERT INTO member VALUES('ada')", [])?;
            Ok(())
        })
        .unwrap();
    let log = store.log(0).unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].author.as_deref(), Some("ada"));
    assert_eq!(log[0].message.as_deref(), Some("two tables"));
    assert_eq!((log[0].tables.as_str(), log[0].rows), ("note,member", 2));
    // The message belonged to that change, the author to the connection.
    run(&store, "INSERT INTO note(id) VALUES(2)");
    let last = store.log(log[0].position).unwrap();
    assert_eq!((last[0].author.as_deref(), last[0].message.as_deref()), (Some("ada"), None));
}

#[test]
fn the_longest_words_travel_and_longer_ones_are_refused() {
    let (from, to) = (store(), store());
    from.transact(|tx| {
        tx.author(&"a".repeat(1 << 10))?;
        tx.message(&"m".repeat(1 << 16))?;
        tx.sql().execute("INSERT INTO note(id) VALUES(1)", [])?;
        Ok(())
    })
    .unwrap();
    let author = from.transact(|tx| tx.author(&"a".repeat((1 << 10) + 1)));
    assert!(matches!(author, Err(Error::Sql(_))), "{author:?}");
    let message = from.transact(|tx| tx.message(&"m".repeat((1 << 16) + 1)));
    assert!(matches!(message, Err(Error::Sql(_))), "{message:?}");
    for part in from.export(&to.version_vector().unwrap()).unwrap() {
        to.apply(&part).unwrap();
    }
    let last = to.log(0).unwrap().pop().unwrap();
    assert_eq!(last.author.map(|text| text.len()), Some(1 << 10));
    assert_eq!(last.message.map(|text| text.len()), Some(1 << 16));
}

#[test]
fn what_fails_is_undone_and_says_why() {
    let store = store();
    let failed: Result<()> = store.transact(|tx| {
        tx.sql().execute("INSERT INTO note(id) VALUES(1)", [])?;
        tx.sql().execute("INSERT INTO nowhere VALUES(1)", [])?;
        Ok(())
    });
    assert!(matches!(failed, Err(Error::Sql(_))), "{failed:?}");
    assert_eq!(rows(&store, "SELECT * FROM note"), Vec::<String>::new());
    assert_eq!(store.log(0).unwrap(), []);
    assert!(store.sql().is_autocommit());
}

#[test]
fn a_nested_failure_undoes_the_inner_part_only() {
    let store = store();
    store
        .transact(|tx| {
            tx.sql().execute("INSERT INTO note(id) VALUES(1)", [])?;
            let inner: Result<()> = store.transact(|tx| {
                tx.sql().execute("INSERT INTO note(id) VALUES(2)", [])?;
                Err(Error::Answer("the test"))
            });
            assert!(inner.is_err());
            Ok(())
        })
        .unwrap();
    assert_eq!(rows(&store, "SELECT id FROM note"), ["Integer(1)"]);
    assert_eq!(store.log(0).unwrap()[0].rows, 1);
}

#[test]
fn a_panic_inside_rolls_back() {
    let store = store();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.transact(|tx| -> Result<()> {
            tx.sql().execute("INSERT INTO note(id) VALUES(1)", [])?;
            panic!("the test's own")
        })
    }));
    assert!(caught.is_err());
    assert!(store.sql().is_autocommit());
    assert_eq!(rows(&store, "SELECT * FROM note"), Vec::<String>::new());
}

#[test]
fn a_locked_database_is_busy_and_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let (one, two) =
        (anabranch::Store::open(&path).unwrap(), anabranch::Store::open(&path).unwrap());
    two.sql().busy_timeout(std::time::Duration::ZERO).unwrap();
    run(&one, "BEGIN IMMEDIATE");
    let busy = two.transact(|_| Ok(()));
    assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");
    run(&one, "COMMIT");
    two.transact(|_| Ok(())).unwrap();
}
