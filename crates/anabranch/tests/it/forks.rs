//! Copies of one file that all wrote under its name: the bare extension looks at no files, so
//! it leaves the site id alone. Whoever meets whom first, all end alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anabranch::{Store, Sync, VersionVector, merge};
use anabranch_core::site::SiteId;
use anabranch_core::vector::Held;
use anabranch_core::wire;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A store without the library's look at its file.
fn bare(path: &Path) -> Store {
    Store::from_connection(anabranch::rusqlite::Connection::open(path).unwrap()).unwrap()
}

fn run(store: &Store, sql: &str) {
    store.sql().execute_batch(sql).unwrap();
}

fn is_clean(store: &Store) {
    assert_eq!(store.check().unwrap(), []);
}

/// A file with some changes, and `n` copies of it.
fn copies(n: usize) -> (tempfile::TempDir, Vec<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("first.db");
    let first = bare(&path);
    run(
        &first,
        "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
         SELECT crsql_as_crr('note');
         INSERT INTO note VALUES(1, 'one', 'x');
         INSERT INTO note VALUES(2, 'two', 'y');",
    );
    drop(first);
    let copy = |n: usize| {
        let to = dir.path().join(format!("{n}.db"));
        std::fs::copy(&path, &to).unwrap();
        bare(&to)
    };
    let stores = (0..n).map(copy).collect();
    (dir, stores)
}

fn titles(store: &Store) -> Vec<String> {
    let mut statement = store
        .sql()
        .prepare("SELECT id || ' ' || title || ' ' || body FROM note ORDER BY id")
        .unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn are_alike(stores: &[Store]) {
    let vector = stores[0].version_vector().unwrap();
    let n_changes: u64 = vector.iter().map(|(_, held)| held.version).sum();
    for store in stores {
        assert_eq!(store.digest().unwrap(), stores[0].digest().unwrap());
        assert_eq!(store.version_vector().unwrap(), vector);
        let log = store.log(0).unwrap();
        let changes: BTreeSet<_> = log.iter().map(|r| (r.site, r.version)).collect();
        assert_eq!((log.len() as u64, changes.len() as u64), (n_changes, n_changes));
        for (site, version) in changes {
            assert!(version <= vector.version(site));
        }
        is_clean(store);
    }
}

#[test]
fn two_copies_that_wrote_under_one_name_are_healed() {
    let (_dir, stores) = copies(2);
    let root = stores[0].site().unwrap();
    run(
        &stores[0],
        "UPDATE note SET title = 'a' WHERE id = 1; INSERT INTO note VALUES(3, 'a', '')",
    );
    run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1; INSERT INTO note VALUES(4, 'b', '')");
    run(&stores[1], "DELETE FROM note WHERE id = 2");
    let report = merge(&stores[0], &stores[1], &mut |_, _| ()).unwrap();
    assert!(report.is_equal);
    let bases: Vec<_> = report.forked.iter().map(|branch| (branch.root, branch.base)).collect();
    assert_eq!(bases, [(root, 2), (root, 2)]);
    assert_eq!(titles(&stores[0]), ["1 a b", "3 a ", "4 b "]);
    are_alike(&stores);
    // Each goes on under its branch.
    let sites: BTreeSet<_> = stores.iter().map(|store| store.site().unwrap()).collect();
    assert_eq!(sites, report.forked.iter().map(|branch| branch.site).collect());
    run(&stores[0], "UPDATE note SET title = 'a again' WHERE id = 3");
    run(&stores[1], "UPDATE note SET title = 'b again' WHERE id = 3");
    let report = merge(&stores[1], &stores[0], &mut |_, _| ()).unwrap();
    assert!(report.is_equal && report.forked.is_empty());
    are_alike(&stores);
}

#[test]
fn a_name_that_forked_before_its_first_change_is_healed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("first.db");
    drop(bare(&path));
    let stores: Vec<Store> = (0..3)
        .map(|n| {
            let to = dir.path().join(format!("{n}.db"));
            std::fs::copy(&path, &to).unwrap();
            let store = bare(&to);
            run(
                &store,
                "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
                 SELECT crsql_as_crr('note')",
            );
            store
        })
        .collect();
    run(&stores[0], "INSERT INTO note VALUES(1, 'a', '')");
    run(&stores[1], "INSERT INTO note VALUES(2, 'b', '')");
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        assert!(merge(&stores[a], &stores[b], &mut |_, _| ()).unwrap().is_equal);
    }
    are_alike(&stores);
    run(&stores[2], "INSERT INTO note VALUES(3, 'c', '')");
    for (a, b) in [(2, 1), (1, 0)] {
        assert!(merge(&stores[a], &stores[b], &mut |_, _| ()).unwrap().is_equal);
    }
    are_alike(&stores);
    assert_eq!(titles(&stores[0]), ["1 a ", "2 b ", "3 c "]);
}

/// A third copy holds only one branch, or only what is common, or a third branch.
#[test]
fn a_third_copy_learns_of_the_fork_in_every_order() {
    for third in ["nothing", "one branch", "a branch of a branch", "a third branch"] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (dir, mut stores) = copies(2);
            run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
            run(&stores[0], "UPDATE note SET title = 'aa' WHERE id = 2");
            run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
            let path = dir.path().join("third.db");
            let from =
                if third == "nothing" || third == "a third branch" { "first.db" } else { "0.db" };
            std::fs::copy(dir.path().join(from), &path).unwrap();
            stores.push(bare(&path));
            if third.starts_with("a ") {
                run(&stores[2], "INSERT INTO note VALUES(9, 'third', '')");
            }
            run(&stores[0], "UPDATE note SET title = 'more' WHERE id = 2");
            let [a, b, c] = order;
            for (x, y) in [(a, b), (b, c), (a, c), (a, b)] {
                let merged = merge(&stores[x], &stores[y], &mut |_, _| ());
                let merged = merged.unwrap_or_else(|error| panic!("{third}, {order:?}: {error}"));
                assert!(merged.is_equal, "{third}, {order:?}");
            }
            are_alike(&stores);
            // Who was made whole by a twin goes on under its name, and both fork once more.
            for store in &stores {
                run(store, "INSERT INTO note(title, body) VALUES('after', '')");
            }
            for (x, y) in [(a, b), (b, c), (a, c), (a, b)] {
                let merged = merge(&stores[x], &stores[y], &mut |_, _| ()).unwrap();
                assert!(merged.is_equal, "{third}, {order:?}");
            }
            are_alike(&stores);
        }
    }
}

#[test]
fn a_newcomer_takes_a_forked_history_whole() {
    let (_dir, stores) = copies(2);
    run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
    run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
    merge(&stores[0], &stores[1], &mut |_, _| ()).unwrap();
    let newcomer = bare(&_dir.path().join("newcomer.db"));
    run(
        &newcomer,
        "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
         SELECT crsql_as_crr('note')",
    );
    let delta = stores[0].export(&VersionVector::new()).unwrap().concat();
    newcomer.apply(&delta).unwrap();
    let mut stores = stores;
    stores.push(newcomer);
    are_alike(&stores);
}

#[test]
fn a_fork_inside_a_transaction_that_has_written_waits() {
    let (_dir, stores) = copies(2);
    run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
    run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
    let mut below = stores[1].version_vector().unwrap();
    let (site, mut held) = below.iter().next().unwrap();
    let chain = "SELECT ana_internal_chain(?1, 2)";
    let chain: Vec<u8> =
        stores[0].sql().query_row(chain, [site.as_bytes()], |row| row.get(0)).unwrap();
    (held.version, held.chain.0) = (2, chain.try_into().unwrap());
    below.set(site, held);
    let delta = stores[0].export(&below).unwrap().concat();
    run(&stores[1], "BEGIN; INSERT INTO note VALUES(7, '', '')");
    let refused = stores[1].apply(&delta).unwrap_err().to_string();
    assert!(refused.contains("commit first"), "{refused}");
    // Undone or not, the name is found again.
    run(&stores[1], "ROLLBACK; BEGIN");
    stores[1].apply(&delta).unwrap();
    run(&stores[1], "INSERT INTO note VALUES(8, '', ''); ROLLBACK; BEGIN");
    stores[1].apply(&delta).unwrap();
    run(&stores[1], "INSERT INTO note VALUES(8, '', ''); COMMIT");
    assert!(merge(&stores[0], &stores[1], &mut |_, _| ()).unwrap().is_equal);
    are_alike(&stores);
}

/// Every pair of copies that wrote meets through a directory; a newcomer reads it at the end.
#[test]
fn forks_are_healed_through_a_directory() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let (dir, mut stores) = copies(3);
        std::fs::create_dir(dir.path().join("stick")).unwrap();
        let stick = format!("dir:{}", dir.path().join("stick").display());
        run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
        run(&stores[0], "UPDATE note SET title = 'aa' WHERE id = 2");
        run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
        run(&stores[2], "INSERT INTO note VALUES(3, 'c', '')");
        for _ in 0..2 {
            for n in order {
                let report = Sync::once(&stores[n], &stick).unwrap();
                assert!(report.is_converged(), "{order:?}, {n}: {report:?}");
            }
        }
        for (n, store) in stores.iter().enumerate() {
            run(store, &format!("INSERT INTO note VALUES({}, 'after', '')", 10 + n));
        }
        for _ in 0..2 {
            for n in order {
                assert!(Sync::once(&stores[n], &stick).unwrap().is_converged());
            }
        }
        let newcomer = bare(&dir.path().join("newcomer.db"));
        run(
            &newcomer,
            "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
             SELECT crsql_as_crr('note')",
        );
        assert!(Sync::once(&newcomer, &stick).unwrap().is_converged());
        stores.push(newcomer);
        are_alike(&stores);
        let report = Sync::once(&stores[0], &stick).unwrap();
        assert_eq!((report.took.changes, report.gave.changes), (0, 0));
    }
}

/// Random copies of copies that write, are put back to old backups and meet, in any order: all
/// end alike, every change that was not lost with a disk is there once, and no name is shared.
#[test]
fn whoever_meets_whom_all_end_alike() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (dir, mut stores) = copies(2);
        let mut backups: Vec<(usize, PathBuf)> = Vec::new();
        for act in 0..30 {
            let n = rng.random_range(0..stores.len());
            match rng.random_range(0..10) {
                0 | 1 if stores.len() < 5 => {
                    let to = dir.path().join(format!("{seed}.{act}.db"));
                    copy(&stores[n], &to);
                    stores.push(bare(&to));
                }
                2 => {
                    let to = dir.path().join(format!("{seed}.{act}.backup"));
                    copy(&stores[n], &to);
                    backups.push((n, to));
                }
                3 => {
                    if let Some((n, backup)) = backups.pop() {
                        stores[n] = bare(&backup);
                    }
                }
                4 | 5 => {
                    let m = rng.random_range(0..stores.len());
                    if n != m {
                        let merged = merge(&stores[n], &stores[m], &mut |_, _| ());
                        let merged = merged.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                        assert!(merged.is_equal, "seed {seed}");
                        is_clean(&stores[n]);
                        is_clean(&stores[m]);
                    }
                }
                6 => run(&stores[n], "DELETE FROM note WHERE id = (SELECT max(id) FROM note)"),
                7 => run(&stores[n], "UPDATE note SET title = title || 'x' WHERE id % 3 = 1"),
                _ => {
                    let id: u32 = rng.random();
                    run(&stores[n], &format!("INSERT INTO note VALUES({id}, 't{act}', '')"));
                }
            }
        }
        // Twice around the ring: whatever anybody has reaches everybody.
        for n in (0..2 * stores.len()).map(|n| n % stores.len()) {
            let m = (n + 1) % stores.len();
            merge(&stores[n], &stores[m], &mut |_, _| ()).unwrap();
        }
        are_alike(&stores);
    }
}

/// Who has forgotten, and who did not know of a fork: either may know of fewer than the other.
#[test]
fn a_complete_delta_crosses_a_fork() {
    for [maker_knows, taker_knows] in [[false, false], [true, false], [false, true]] {
        let (_dir, stores) = copies(4);
        run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
        run(&stores[0], "DELETE FROM note WHERE id = 2");
        run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
        run(&stores[1], "INSERT INTO note VALUES(5, 'b', '')");
        run(&stores[2], "INSERT INTO note VALUES(3, 'c', '')");
        let [maker, taker, other] = [&stores[0], &stores[1], &stores[2]];
        for knows in [(maker, maker_knows), (taker, taker_knows)] {
            if let (store, true) = knows {
                assert!(merge(store, other, &mut |_, _| ()).unwrap().is_equal);
            }
        }
        run(maker, "SELECT ana_compact(ana_version_vector())");
        // The last has written nothing: its edge ends where the others went on. Who takes a
        // complete delta may write itself (decision 8), so they meet twice.
        for store in [taker, &stores[3], other, taker, &stores[3], other] {
            merge(maker, store, &mut |_, _| ()).unwrap();
        }
        for (n, store) in stores.iter().enumerate() {
            let told = format!("{n}, {maker_knows}, {taker_knows}");
            assert_eq!(titles(store), ["1 a b", "3 c ", "5 b "], "{told}");
            assert_eq!(store.digest().unwrap(), maker.digest().unwrap());
            assert_eq!(store.version_vector().unwrap(), maker.version_vector().unwrap());
            is_clean(store);
        }
    }
}

/// Branches that are not called after their first changes: refused by name, nothing changed.
#[test]
fn false_branches_are_refused() {
    let (dir, stores) = copies(3);
    run(&stores[0], "UPDATE note SET title = 'a' WHERE id = 1");
    run(&stores[1], "UPDATE note SET body = 'b' WHERE id = 1");
    merge(&stores[0], &stores[1], &mut |_, _| ()).unwrap();
    let newcomer = bare(&dir.path().join("newcomer.db"));
    let schema = "CREATE TABLE note(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
                  SELECT crsql_as_crr('note')";
    run(&newcomer, schema);
    for taker in [&stores[2], &newcomer] {
        let below = taker.version_vector().unwrap();
        let parts = stores[0].export(&below).unwrap();
        let honest = wire::decode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for (branch, origin) in honest.to.branches() {
            // One bit off, so that nothing changes its place.
            let mut name = branch.as_bytes().to_vec();
            name[15] ^= 1;
            let name = SiteId::new(&name).unwrap();
            let mut delta = honest.clone();
            let held = delta.to.get(branch).unwrap();
            delta.to.set(branch, Held { version: 0, ..held });
            delta.to.set(name, held);
            delta.to.set_branch(name, origin);
            delta.sites.iter_mut().filter(|site| **site == branch).for_each(|site| *site = name);
            let of_it = delta.headers.iter_mut().filter(|header| header.site == branch);
            of_it.for_each(|header| header.site = name);
            let digest = taker.digest().unwrap();
            let refused = taker.apply(&wire::encode(&delta).concat()).unwrap_err();
            assert!(matches!(refused, anabranch::Error::SiteReused(_)), "{refused}");
            assert!(refused.to_string().contains("no branch of that name"), "{refused}");
            assert_eq!(taker.version_vector().unwrap(), below);
            assert_eq!(taker.digest().unwrap(), digest);
            is_clean(taker);
        }
        taker.apply(&parts.concat()).unwrap();
        is_clean(taker);
    }
}

/// A copy as a tool makes it that knows nothing of us.
fn copy(store: &Store, to: &Path) {
    let to = to.display().to_string();
    store.sql().execute("VACUUM INTO ?1", [to]).unwrap();
}

/// Words alone rename nothing: vectors that claim branches, chains of nobody's.
#[test]
fn nobodys_word_renames() {
    let (_dir, stores) = copies(1);
    let store = &stores[0];
    let before = store.version_vector().unwrap();
    let (site, held) = before.iter().next().unwrap();
    let other = "ab".repeat(16);
    for claim in [
        format!(r#"{{"{site}":[1,"{other}"]}}"#),
        format!(r#"{{"{site}":[9,"{other}"]}}"#),
        format!(r#"{{"{other}":[1,"{other}","{site}",1,"{other}"]}}"#),
        format!(r#"{{"{other}":[1,"{other}","{site}",{},"{}"]}}"#, held.version, held.chain),
        format!(r#"{{"{site}":[1,"{other}","{other}",0,"{other}"]}}"#),
    ] {
        let claimed = VersionVector::from_json(&claim).unwrap();
        // Refused or answered: nothing here is called otherwise for it.
        let _ = store.export(&claimed);
        let read: String = store
            .sql()
            .query_row("SELECT ana_internal_read(?1)", [&claim], |row| row.get(0))
            .unwrap();
        VersionVector::from_json(&read).unwrap();
        assert_eq!(store.version_vector().unwrap(), before, "{claim}");
    }
    is_clean(store);
}
