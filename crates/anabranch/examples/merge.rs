//! Two databases, edited apart and merged. Run: `cargo run -p anabranch --example merge`.

use anabranch::Store;

fn main() -> anabranch::Result<()> {
    let dir = std::env::temp_dir().join(format!("anabranch-merge-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary folder");
    let (a, b) = (Store::open(dir.join("a.db"))?, Store::open(dir.join("b.db"))?);
    for store in [&a, &b] {
        store.sql().execute_batch("CREATE TABLE todo(id TEXT NOT NULL PRIMARY KEY, what TEXT)")?;
        store.make_conflict_free("todo")?;
    }
    a.sql().execute("INSERT INTO todo VALUES('1', 'buy milk')", [])?;
    b.sql().execute("INSERT INTO todo VALUES('2', 'call mum')", [])?;
    let report = anabranch::merge(&a, &b, &mut |_, _| ())?;
    println!("a got {}, b got {}, equal: {}", report.a.changes, report.b.changes, report.is_equal);
    drop((a, b));
    std::fs::remove_dir_all(&dir).expect("our own folder");
    Ok(())
}
