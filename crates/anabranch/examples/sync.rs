//! Two databases that meet at a relay or in a folder. Run:
//! `cargo run -p anabranch --example sync dir:/media/stick`, or with the address of a relay,
//! `ws://HOST:7440/sync/todo`, and its token in `ANABRANCH_TOKEN`.

use anabranch::rusqlite::Connection;
use anabranch::{Store, Sync};

fn main() -> anabranch::Result<()> {
    let url = std::env::args().nth(1).expect("an argument: dir:FOLDER, or a relay's address");
    for line in meet(&url, &std::env::var("ANABRANCH_TOKEN").unwrap_or_default())? {
        println!("{line}");
    }
    Ok(())
}

/// Brings two new databases together; what each then has.
pub(crate) fn meet(url: &str, token: &str) -> anabranch::Result<[String; 2]> {
    let open = || Store::from_connection(Connection::open_in_memory()?);
    let (a, b) = (open()?, open()?);
    for store in [&a, &b] {
        store.sql().execute_batch("CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)")?;
        store.make_conflict_free("todo")?;
    }
    a.sql().execute("INSERT INTO todo VALUES('1', 'buy milk')", [])?;
    b.sql().execute("INSERT INTO todo VALUES('2', 'call mum')", [])?;
    let sync = Sync::to(url)?.token(token);
    for store in [&a, &b, &a] {
        let report = sync.run(store, &mut |_| ())?;
        assert!(report.is_converged(), "{:?}", report.end);
    }
    let [a, b] = [a.status()?, b.status()?];
    Ok([a, b].map(|status| format!("{} {}", status.tables[0].1, status.words)))
}

#[test]
fn it_runs() -> anabranch::Result<()> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let [a, b] = meet(&format!("dir:{}", folder.path().display()), "")?;
    assert_eq!(a, b);
    Ok(())
}
