//! Two databases, edited apart and merged. Run: `cargo run -p anabranch --example merge`.

use anabranch::Store;
use anabranch::rusqlite::Connection;

fn main() -> anabranch::Result<()> {
    let open = || Store::from_connection(Connection::open_in_memory()?);
    let (a, b) = (open()?, open()?);
    for store in [&a, &b] {
        store.sql().execute_batch("CREATE TABLE todo(id TEXT PRIMARY KEY NOT NULL, what TEXT)")?;
        store.make_conflict_free("todo")?;
    }
    a.sql().execute("INSERT INTO todo VALUES('1', 'buy milk')", [])?;
    b.sql().execute("INSERT INTO todo VALUES('2', 'call mum')", [])?;
    anabranch::merge(&a, &b, &mut |_, _| ())?;
    for store in [&a, &b] {
        println!("{} {}", store.status()?.tables[0].1, store.status()?.words);
    }
    assert_eq!(a.digest()?, b.digest()?);
    Ok(())
}

#[test]
fn it_runs() -> anabranch::Result<()> {
    main()
}
