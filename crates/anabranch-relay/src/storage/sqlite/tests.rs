//! Group commit, and what an append checks.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use anabranch_core::branch::{Branch, branch_site};
use anabranch_core::clock::Hlc;
use anabranch_core::vector::Held;
use bytes::Bytes;

use super::*;
use crate::hub::Hub;
use crate::outline::Outline;
use crate::storage::{Appended, Body, Owners, awaited};

#[derive(Default)]
struct Heard(Mutex<Vec<u64>>);

impl Observer for Heard {
    fn renamed(&self, _: &StoreId, _: VersionVector) {}

    fn committed(&self, _: &StoreId, deltas: Vec<Arc<StoredDelta>>) {
        self.0.lock().unwrap().extend(deltas.iter().map(|delta| delta.id));
    }

    fn announce(&self) {}
}

struct World {
    storage: SqliteStorage,
    heard: Arc<Heard>,
    folder: tempfile::TempDir,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = Arc::clone(&heard) as _;
    let place = Place { path: folder.path().join("relay.db"), vfs: None };
    let storage = SqliteStorage::open(place, observer).unwrap();
    World { storage, heard, folder }
}

/// Hands a delta over; ready when it is answered.
fn append(storage: &SqliteStorage, incoming: Incoming) -> Pending<'static, Appended> {
    let (answer, answered) = awaited();
    let waiting = storage.append(incoming, answer);
    Box::pin(async move {
        if let Some(waiting) = waiting {
            waiting.await?;
        }
        answered.await
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn site(name: u8) -> SiteId {
    SiteId::new(&[name; 16]).unwrap()
}

fn chain(name: u8, version: u64, salt: u64) -> Chain {
    (1..=version).fold(Chain::default(), |chain, v| chain.next(site(name), v, salt))
}

fn vector(entries: &[(u8, u64, u64)]) -> VersionVector {
    let mut vector = VersionVector::new();
    for (name, version, salt) in entries {
        let held = Held { version: *version, chain: chain(*name, *version, *salt) };
        vector.set(site(*name), held);
    }
    vector
}

/// A delta from one vector to another, of (site, version, salt) each.
fn incoming(from: &[(u8, u64, u64)], to: &[(u8, u64, u64)]) -> Incoming {
    let (from, to) = (vector(from), vector(to));
    let salts = to_salts(&from, to.iter().map(|(site, held)| (site, held.version)), 7);
    incoming_of(Outline::new(from, to, Hlc(0), salts))
}

fn to_salts(
    from: &VersionVector,
    to: impl Iterator<Item = (SiteId, u64)>,
    salt: u64,
) -> BTreeMap<SiteId, Vec<u64>> {
    let n = |(site, version)| (site, vec![salt; (version - from.version(site)) as usize]);
    to.map(n).filter(|(_, salts)| !salts.is_empty()).collect()
}

fn incoming_of(outline: Outline) -> Incoming {
    Incoming {
        blobs: Vec::new(),
        max_store_blob_bytes: u64::MAX,
        store: StoreId::new("s").unwrap(),
        subject: "ann".into(),
        name: [1; 16],
        outline,
        body: Body::Inline(Bytes::from_static(b"part")),
        owners: Owners::Any,
        max_store_bytes: 1000,
        now_ms: 1,
    }
}

/// Counted, not timed: a hundred appends that wait are one transaction.
#[test]
fn all_that_waits_is_one_commit() {
    let world = world();
    block_on(append(&world.storage, incoming(&[], &[(1, 1, 7)]))).unwrap();
    let before = world.storage.n_commits();
    // Somebody else holds the database, so that the next transaction cannot begin.
    let other = rusqlite::Connection::open(world.folder.path().join("relay.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting: Vec<_> = (1..=100)
        .map(|version| append(&world.storage, incoming(&[(1, version, 7)], &[(1, version + 1, 7)])))
        .collect();
    let mut context = Context::from_waker(Waker::noop());
    for append in &mut waiting {
        assert!(matches!(append.as_mut().poll(&mut context), Poll::Pending));
    }
    other.execute_batch("COMMIT").unwrap();
    for append in waiting {
        assert!(matches!(block_on(append), Ok(Appended::Stored(_))));
    }
    assert_eq!(world.storage.n_commits() - before, 1);
    assert_eq!(*world.heard.0.lock().unwrap(), (1..=101).collect::<Vec<u64>>(), "in order");
}

/// What a transaction has not written yet is compared with like what is on disk.
#[test]
fn deltas_of_one_commit_may_overlap() {
    let world = world();
    let other = rusqlite::Connection::open(world.folder.path().join("relay.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut bob = incoming(&[(1, 4, 7)], &[(1, 6, 7)]);
    bob.subject = "bob".into();
    let deltas = [
        incoming(&[], &[(1, 2, 7)]),
        incoming(&[(1, 2, 7)], &[(1, 3, 7)]),
        // Begins below what is only in memory, and brings one more.
        incoming(&[(1, 1, 7)], &[(1, 4, 7)]),
        bob,
        incoming(&[(1, 5, 7)], &[(1, 7, 7), (2, 1, 7)]),
        incoming(&[], &[(1, 5, 7)]),
    ];
    let waiting: Vec<_> = deltas.into_iter().map(|delta| append(&world.storage, delta)).collect();
    let before = world.storage.n_commits();
    other.execute_batch("COMMIT").unwrap();
    let ended: Vec<Appended> = waiting.into_iter().map(|wait| block_on(wait).unwrap()).collect();
    assert!(world.storage.n_commits() - before <= 2);
    let (stored, last) = ended.split_at(5);
    assert!(stored.iter().all(|one| matches!(one, Appended::Stored(_))), "{stored:?}");
    assert!(matches!(last, [Appended::Covered(_)]), "{last:?}");
    let store = StoreId::new("s").unwrap();
    assert_eq!(block_on(world.storage.vector(&store)).unwrap(), vector(&[(1, 7, 7), (2, 1, 7)]));
    let chains = block_on(world.storage.chains(&store, site(1), (1..=7).collect())).unwrap();
    assert_eq!(chains, (1..=7).map(|v| (v, chain(1, v, 7))).collect::<Vec<_>>());
    let facts = block_on(world.storage.facts(&store)).unwrap().unwrap();
    assert_eq!((facts.n_deltas, facts.n_changes, facts.n_bytes), (5, 8, 20));
    let runs = block_on(world.storage.deliverers(&store)).unwrap();
    let runs: Vec<_> = runs.iter().map(|run| (&*run.subject, run.first, run.last)).collect();
    assert_eq!(runs, [("ann", 1, 4), ("bob", 5, 6), ("ann", 7, 7), ("ann", 1, 1)]);
}

#[test]
fn what_an_append_checks() {
    let world = world();
    let append = |incoming| block_on(append(&world.storage, incoming));
    append(incoming(&[], &[(1, 3, 7), (2, 1, 7)])).unwrap();
    let held = || block_on(world.storage.vector(&StoreId::new("s").unwrap())).unwrap();
    let before = held();
    type Check = fn(&StorageError) -> bool;
    let refused: [(&str, Incoming, Check); 6] = [
        ("begins above what is held", incoming(&[(1, 4, 7)], &[(1, 5, 7)]), |error| {
            matches!(error, StorageError::Gap { from: 4, held: 3, .. })
        }),
        ("begins at a site that is not held", incoming(&[(3, 1, 7)], &[(3, 2, 7)]), |error| {
            matches!(error, StorageError::Gap { from: 1, held: 0, .. })
        }),
        (
            "begins with another history",
            {
                let (from, to) = (vector(&[(1, 2, 8)]), vector(&[(1, 4, 8)]));
                let salts = to_salts(&from, [(site(1), 4)].into_iter(), 8);
                incoming_of(Outline::new(from, to, Hlc(0), salts))
            },
            |error| matches!(error, StorageError::SiteReused { version: 2, .. }),
        ),
        (
            "leads to a chain that its salts do not",
            {
                let (from, to) = (vector(&[(1, 3, 7)]), vector(&[(1, 4, 8)]));
                let salts = to_salts(&from, [(site(1), 4)].into_iter(), 7);
                incoming_of(Outline::new(from, to, Hlc(0), salts))
            },
            |error| matches!(error, StorageError::Wire(_)),
        ),
        (
            "comes from the future",
            {
                let (from, to) = (vector(&[(1, 3, 7)]), vector(&[(1, 4, 7)]));
                let salts = to_salts(&from, [(site(1), 4)].into_iter(), 7);
                incoming_of(Outline::new(from, to, Hlc(700_000 << 16), salts))
            },
            |error| matches!(error, StorageError::ClockAhead(_)),
        ),
        (
            "is more than may be kept",
            Incoming { max_store_bytes: 7, ..incoming(&[(1, 3, 7)], &[(1, 4, 7)]) },
            |error| matches!(error, StorageError::StoreFull { limit: 7, .. }),
        ),
    ];
    for (what, incoming, check) in refused {
        let error = append(incoming).expect_err(what);
        assert!(check(&error), "{what}: {error:?}");
        assert_eq!(held(), before, "{what}");
    }
    for (what, incoming) in [
        ("the same again", incoming(&[], &[(1, 3, 7), (2, 1, 7)])),
        ("a part of it", incoming(&[(1, 1, 7)], &[(1, 2, 7)])),
        ("nothing", incoming(&[], &[])),
    ] {
        assert!(matches!(append(incoming), Ok(Appended::Covered(_))), "{what}");
    }
    assert_eq!(world.heard.0.lock().unwrap().len(), 1);
    append(incoming(&[(1, 2, 7)], &[(1, 4, 7)])).unwrap();
    assert_eq!(held(), vector(&[(1, 4, 7), (2, 1, 7)]));
}

/// A second history from the beginning: both are kept, each under the name of its first change.
#[test]
fn a_second_history_is_kept_beside_the_first() {
    let world = world();
    let append = |incoming| block_on(append(&world.storage, incoming)).unwrap();
    append(incoming(&[], &[(1, 3, 7), (2, 1, 7)]));
    let (from, to) = (vector(&[]), vector(&[(1, 4, 8)]));
    let salts = to_salts(&from, [(site(1), 4)].into_iter(), 8);
    let second = || incoming_of(Outline::new(from.clone(), to.clone(), Hlc(0), salts.clone()));
    assert!(matches!(append(second()), Appended::Stored(Some(_))));
    let held = block_on(world.storage.vector(&StoreId::new("s").unwrap())).unwrap();
    for (n_changes, salt) in [(3, 7), (4, 8)] {
        let name = branch_site(site(1), 1, chain(1, 1, salt));
        let (version, chain) = (n_changes, chain(1, n_changes, salt));
        assert_eq!(held.get(name), Some(Held { version, chain }), "salt {salt}");
    }
    assert_eq!(held.version(site(1)), 0);
    assert!(matches!(append(second()), Appended::Covered(_)));
}

/// A copy is cloned, the clones write, and a relay that knows what they have in common sees the
/// fork, or hears of it from who has healed it: it calls both branches after their first changes,
/// and who follows the store hears the same names.
#[test]
fn a_branch_that_begins_here_is_named_as_anywhere() {
    let common = || incoming(&[], &[(1, 2, 7)]);
    let low = chain(1, 2, 7);
    let branch = Branch { root: site(1), base: 2, chain: low };
    // What the branch of a clone that writes with this salt is called and holds.
    let branch_of = |salt| {
        let chain = low.next(site(1), 3, salt);
        (branch_site(site(1), 3, chain), Held { version: 1, chain })
    };
    let forked = |salts: &[u64]| {
        let mut forked = vector(&[(1, 2, 7)]);
        for (name, held) in salts.iter().map(|salt| branch_of(*salt)) {
            forked.set(name, held);
            forked.set_branch(name, branch);
        }
        forked
    };
    let clone = |salt| {
        let (from, mut to) = (vector(&[(1, 2, 7)]), vector(&[]));
        to.set(site(1), Held { version: 3, chain: branch_of(salt).1.chain });
        let salts = BTreeMap::from([(site(1), vec![salt])]);
        incoming_of(Outline::new(from, to, Hlc(0), salts))
    };
    let healed = |salts: &[u64]| {
        let runs = salts.iter().map(|salt| (branch_of(*salt).0, vec![*salt])).collect();
        incoming_of(Outline::new(vector(&[(1, 2, 7)]), forked(salts), Hlc(0), runs))
    };
    let cases = [
        ("seen here", vec![common(), clone(7), clone(8)], forked(&[7, 8])),
        ("a third clone", vec![common(), clone(7), clone(8), clone(9)], forked(&[7, 8, 9])),
        ("healed elsewhere", vec![common(), healed(&[7, 8])], forked(&[7, 8])),
        ("healed before all of it", vec![common(), clone(8), healed(&[7, 8])], forked(&[7, 8])),
    ];
    for (what, deltas, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (hub, store) = (Arc::new(Hub::default()), StoreId::new("s").unwrap());
        let place = Place { path: folder.path().join("relay.db"), vfs: None };
        let storage = SqliteStorage::open(place, Arc::clone(&hub) as _).unwrap();
        let followed = hub.open(&store);
        for delta in deltas {
            block_on(append(&storage, delta)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let held = block_on(storage.vector(&store)).unwrap();
            assert_eq!(*followed.vector(), held, "{what}: who follows hears other names");
        }
        assert_eq!(*followed.vector(), expected, "{what}");
    }
}

/// The database fails in the middle of a group: all of it is undone and told so, and what
/// is in memory is what is on disk.
#[test]
fn a_group_that_fails_is_undone_whole() {
    let world = world();
    let store = StoreId::new("s").unwrap();
    block_on(append(&world.storage, incoming(&[], &[(1, 1, 7)]))).unwrap();
    let other = rusqlite::Connection::open(world.folder.path().join("relay.db")).unwrap();
    let fail = "CREATE TRIGGER fail BEFORE INSERT ON span WHEN NEW.last = 3 \
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    other.execute_batch(fail).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let group = || -> Vec<_> {
        let deltas = [incoming(&[(1, 1, 7)], &[(1, 2, 7)]), incoming(&[(1, 2, 7)], &[(1, 3, 7)])];
        deltas.into_iter().map(|delta| append(&world.storage, delta)).collect()
    };
    let waiting = group();
    other.execute_batch("COMMIT").unwrap();
    for append in waiting {
        assert!(matches!(block_on(append), Err(StorageError::Backend(_))));
    }
    assert_eq!(block_on(world.storage.vector(&store)).unwrap(), vector(&[(1, 1, 7)]));
    assert_eq!(*world.heard.0.lock().unwrap(), [1]);
    other.execute_batch("DROP TRIGGER fail").unwrap();
    for append in group() {
        assert!(matches!(block_on(append), Ok(Appended::Stored(_))));
    }
    assert_eq!(block_on(world.storage.vector(&store)).unwrap(), vector(&[(1, 3, 7)]));
}

/// Parts of a delta that never came to its end, and room for so many only.
#[test]
fn parts_are_staged() {
    let world = world();
    let store = StoreId::new("s").unwrap();
    let part = |delta: u8, part: u32, at: u64| StagedPart {
        delta: [delta; 16],
        part,
        of: 9,
        hash: BlobHash([part as u8; 32]),
        n_bytes: 10,
        now_ms: at,
    };
    let stage = |staged| block_on(world.storage.stage(&store, staged));
    for (delta, number) in [(1, 0), (1, 1), (2, 0), (1, 3)] {
        stage(part(delta, number, 1)).unwrap();
    }
    let staged = block_on(world.storage.staged(&store)).unwrap();
    let found: Vec<_> = staged.iter().map(|staged| (staged.delta[0], staged.parts.len())).collect();
    assert_eq!(found, [(1, 2), (2, 1)], "up to the first gap");
    for delta in 10..40 {
        stage(part(delta, 0, u64::from(delta))).unwrap();
    }
    let staged = block_on(world.storage.staged(&store)).unwrap();
    let max = anabranch_sync::limits::MAX_PARTIALS;
    assert_eq!((staged.len(), staged[max - 1].delta[0]), (max, 39), "the last to begin");
    let named = block_on(world.storage.unnamed(vec![BlobHash([0; 32]), BlobHash([8; 32])]));
    assert_eq!(named.unwrap(), [BlobHash([8; 32])], "what is staged is named");
    block_on(world.storage.unstage(100)).unwrap();
    assert!(block_on(world.storage.staged(&store)).unwrap().is_empty());
}

/// Files count for their store from before they are written until they are collected.
#[test]
fn files_that_no_delta_names_are_counted() {
    let world = world();
    let (store, other) = (StoreId::new("s").unwrap(), StoreId::new("t").unwrap());
    let file = |name: u8, n_bytes| LooseFile {
        hash: BlobHash([name; 32]),
        n_bytes,
        max_store_bytes: 1_000_000,
        now_ms: u64::from(name),
    };
    let reserve = |store, file| block_on(world.storage.reserve(store, file));
    for name in [1, 2, 2, 2] {
        reserve(&store, file(name, 400_000)).unwrap();
    }
    for n_bytes in [400_000, 200_001] {
        let refused = reserve(&store, file(3, n_bytes));
        assert!(matches!(refused, Err(StorageError::StoreFull { limit: 1_000_000, .. })));
    }
    reserve(&other, file(3, 400_000)).unwrap();
    for name in 3..6 {
        reserve(&store, file(name, 1)).unwrap();
    }
    assert!(reserve(&store, file(6, 1)).is_err(), "a small file counts for more");
    block_on(world.storage.unstage(2)).unwrap();
    reserve(&store, file(7, 400_000)).unwrap();
}

/// A reader is given what it lacks in order of arrival, and chains of any version.
#[test]
fn deltas_above_a_vector() {
    let world = world();
    let store = StoreId::new("s").unwrap();
    for (from, to) in [
        (&[][..], &[(1, 1, 7)][..]),
        (&[], &[(2, 5000, 7)]),
        (&[(1, 1, 7)], &[(1, 2, 7)]),
        (&[(2, 5000, 7)], &[(2, 5001, 7)]),
    ] {
        block_on(append(&world.storage, incoming(from, to))).unwrap();
    }
    let above = |held: &[(u8, u64, u64)], after| {
        let wanted = Wanted { held: Arc::new(vector(held)), after, max_deltas: 9, max_bytes: 999 };
        let found = block_on(world.storage.deltas(&store, wanted)).unwrap();
        found.iter().map(|delta| delta.id).collect::<Vec<_>>()
    };
    for (held, after, expected) in [
        (&[][..], None, &[1, 2, 3, 4][..]),
        (&[], Some(2), &[3, 4]),
        (&[(1, 1, 7)], None, &[2, 3, 4]),
        (&[(2, 4999, 7)], None, &[1, 2, 3, 4]),
        (&[(2, 5000, 7)], None, &[1, 3, 4]),
        (&[(1, 2, 7), (2, 5000, 7)], None, &[4]),
        (&[(1, 2, 7), (2, 5001, 7)], None, &[]),
        (&[(1, 9, 7), (2, 9999, 7)], Some(0), &[]),
    ] {
        assert_eq!(above(held, after), expected, "{held:?} {after:?}");
    }
    let versions = vec![1, 4096, 4097, 5001, 5002];
    let chains = block_on(world.storage.chains(&store, site(2), versions)).unwrap();
    let expected: Vec<_> = [1, 4096, 4097, 5001].into_iter().map(|v| (v, chain(2, v, 7))).collect();
    assert_eq!(chains, expected);
}
