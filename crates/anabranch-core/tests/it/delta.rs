//! What a delta must satisfy, and when two of them join.

use anabranch_core::change::{ChangeHeader, ChangeKind, Dep};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{
    Birth, CellDelta, Complete, Delta, DeltaDot, DeltaError, Gather, JoinError, RowDelta, SaltRun,
    SiteIdx, TableDelta, TableFloor, join,
};
use anabranch_core::limits::MAX_COLUMN_VERSION;
use anabranch_core::site::SiteId;
use anabranch_core::value::Value;
use anabranch_core::vector::Held;
use anabranch_core::wire::Bounds;

use rand::RngExt;
use std::collections::BTreeMap;

use crate::random;

#[test]
fn random_deltas_keep_their_invariants() {
    let mut rng = random::rng(20);
    for _ in 0..300 {
        let delta = random::delta(&mut rng);
        delta.check_invariants().unwrap();
        delta.verify_chains().unwrap();
    }
}

/// One row of one change of one site.
fn small() -> Delta {
    run(0, &[(10, "x", 1)])
}

/// The changes `from + 1 ..` of site 1: each a salt, and one cell with its version.
fn run(from: u64, changes: &[(u64, &str, u64)]) -> Delta {
    let site = random::site(1);
    let chain_at =
        |version: u64| (1..=version).fold(Chain::default(), |chain, v| chain.next(site, v, 9 + v));
    let mut delta = Delta { sites: vec![site], ..Delta::default() };
    let mut chain = chain_at(from);
    delta.from.set(site, Held { version: from, chain });
    let mut table = TableDelta { name: "t".into(), columns: vec!["c".into()], rows: Vec::new() };
    for (version, (salt, value, column_version)) in (from + 1..).zip(changes) {
        chain = chain.next(site, version, *salt);
        delta.to.set(site, Held { version, chain });
        delta.headers.push(header(site, version, *salt));
        let dot = DeltaDot { site: SiteIdx(0), version };
        let cell = CellDelta {
            column: 0,
            version: *column_version,
            dot,
            origin: SiteIdx(0),
            value: Value::Text(value.as_bytes().to_vec()),
        };
        let births = if version == 1 { vec![Birth { dot, origin: SiteIdx(0) }] } else { vec![] };
        table.rows =
            vec![RowDelta { key: vec![1, 1], causal_length: 1, births, cells: vec![cell] }];
    }
    delta.tables.push(table);
    delta
}

fn header(site: SiteId, version: u64, salt: u64) -> ChangeHeader {
    let (time, kind) = (Hlc(version), ChangeKind::Edit);
    ChangeHeader {
        site,
        version,
        salt,
        time,
        deps: vec![],
        author: None,
        message: None,
        kind,
        blobs: vec![],
    }
}

#[test]
fn finds_what_is_broken() {
    small().check_invariants().unwrap();
    small().verify_chains().unwrap();
    let check = |damage: fn(&mut Delta), expected: &str| {
        let mut delta = small();
        damage(&mut delta);
        let found = delta.check_invariants().expect_err(expected).to_string();
        assert!(found.contains(expected), "{found} is not: {expected}");
    };
    check(|d| d.headers.clear(), "break off before version 1");
    check(|d| d.headers[0].version = 2, "break off before version 1");
    check(|d| d.headers.push(d.headers[0].clone()), "does not span here");
    check(|d| d.headers[0].author = Some("a".repeat(1025)), "author is longer");
    check(|d| d.headers[0].message = Some("a".repeat(65_537)), "message is longer");
    check(
        |d| {
            d.headers[0].deps =
                vec![Dep { site: random::site(1), version: 1, chain: Chain([0; 16]) }]
        },
        "depends on its own site",
    );
    check(
        |d| {
            d.headers[0].deps =
                vec![Dep { site: random::site(2), version: 1, chain: Chain([0; 16]) }]
        },
        "above what the delta leads to",
    );
    check(|d| d.sites.push(random::site(1)), "listed twice");
    check(
        |d| d.from.set(random::site(2), Held { version: 1, chain: Chain([0; 16]) }),
        "above its to",
    );
    check(
        |d| d.from.set(random::site(1), Held { version: 1, chain: Chain([1; 16]) }),
        "above its to, or of another history",
    );
    check(
        |d| d.to.set(random::site(1), Held { version: (1 << 53) + 1, chain: Chain([0; 16]) }),
        "not within 1 and 2^53",
    );
    check(|d| d.tables.push(d.tables[0].clone()), "order of their names");
    check(|d| d.tables[0].name = "x".repeat(2049), "a name longer");
    check(|d| d.tables[0].columns.push("c".into()), "named twice");
    check(|d| d.tables[0].columns[0] = "x".repeat(2049), "a name longer");
    check(
        |d| {
            let row = d.tables[0].rows[0].clone();
            d.tables[0].rows.push(row);
        },
        "its key occurs twice",
    );
    check(|d| d.tables[0].rows[0].key = vec![1], "no packed key");
    check(|d| d.tables[0].rows[0].causal_length = 0, "causal length");
    check(|d| d.tables[0].rows[0].causal_length = MAX_COLUMN_VERSION + 1, "causal length");
    check(|d| d.tables[0].rows[0].causal_length = 2, "a deleted row has cells");
    check(|d| d.tables[0].rows[0].cells[0].column = 1, "column that the table does not name");
    check(|d| d.tables[0].rows[0].cells[0].version = 0, "column version");
    check(|d| d.tables[0].rows[0].cells[0].version = MAX_COLUMN_VERSION + 1, "column version");
    check(|d| d.tables[0].rows[0].cells[0].dot.version = 2, "does not span");
    check(|d| d.tables[0].rows[0].cells[0].dot.version = 0, "does not span");
    check(|d| d.tables[0].rows[0].cells[0].dot.site = SiteIdx(1), "not listed");
    check(|d| d.tables[0].rows[0].cells[0].origin = SiteIdx(1), "an origin that is not listed");
    check(
        |d| {
            let cell = d.tables[0].rows[0].cells[0].clone();
            d.tables[0].rows[0].cells.push(cell);
        },
        "not in the order of their columns",
    );
    check(
        |d| {
            let birth = d.tables[0].rows[0].births[0];
            d.tables[0].rows[0].births.push(birth);
        },
        "births are not in order",
    );
}

#[test]
fn finds_a_chain_that_leads_elsewhere() {
    let mut delta = small();
    delta.headers[0].salt += 1;
    let site = random::site(1);
    assert_eq!(delta.verify_chains(), Err(DeltaError::Chain { site, version: 1 }));
}

#[test]
fn joins_what_is_chained() {
    let first = run(0, &[(10, "x", 1), (11, "y", 2)]);
    let second = run(2, &[(12, "z", 3)]);
    let joined = join(&first, &second).unwrap();
    joined.check_invariants().unwrap();
    joined.verify_chains().unwrap();
    assert_eq!((&joined.from, &joined.to), (&first.from, &second.to));
    assert_eq!(joined.tables[0].rows[0].cells[0].value, Value::Text(b"z".to_vec()));
    // Overlapping, and the same twice.
    assert_eq!(join(&joined, &second).unwrap(), joined);
    assert_eq!(join(&joined, &first).unwrap(), joined);
    assert_eq!(join(&first, &run(1, &[(11, "y", 2), (12, "z", 3)])).unwrap(), joined);
    // Associative.
    let third = run(3, &[(13, "w", 4)]);
    let right = join(&first, &join(&second, &third).unwrap()).unwrap();
    assert_eq!(join(&joined, &third).unwrap(), right);
}

#[test]
fn refuses_to_join_across_a_gap_or_a_fork() {
    let site = random::site(1);
    let first = run(0, &[(10, "x", 1)]);
    let gap = run(2, &[(12, "z", 3)]);
    assert_eq!(join(&first, &gap), Err(JoinError::NotChained { site }));
    assert_eq!(join(&gap, &first), Err(JoinError::NotChained { site }));
    let mut fork = run(0, &[(10, "x", 1), (99, "y", 2)]);
    let reused = |version| Err(JoinError::SiteReused { site, version });
    assert_eq!(join(&run(0, &[(10, "x", 1), (11, "y", 2)]), &fork), reused(2));
    assert_eq!(join(&fork, &gap), reused(2));
    fork.to = run(0, &[(10, "x", 1), (11, "y", 2)]).to;
    assert_eq!(join(&run(0, &[(10, "x", 1), (11, "y", 2)]), &fork), reused(2));
}

/// Joining in other dictionaries: sites and columns in another order.
#[test]
fn joins_by_name() {
    let first = run(0, &[(10, "x", 1)]);
    let mut second = run(1, &[(11, "y", 2)]);
    second.sites = vec![SiteId::new(b"zz").unwrap(), random::site(1)];
    second.tables[0].columns = vec!["b".into(), "c".into()];
    for row in &mut second.tables[0].rows {
        row.cells[0].column = 1;
        row.cells[0].dot.site = SiteIdx(1);
        row.cells[0].origin = SiteIdx(0);
    }
    second.check_invariants().unwrap();
    let joined = join(&first, &second).unwrap();
    joined.check_invariants().unwrap();
    assert_eq!(joined.tables[0].columns, ["c", "b"]);
    assert_eq!(joined.sites, [random::site(1), SiteId::new(b"zz").unwrap()]);
    let cell = &joined.tables[0].rows[0].cells[0];
    assert_eq!((cell.column, cell.dot.site, cell.origin), (0, SiteIdx(0), SiteIdx(1)));
}

/// One copy that hears of changes in some order, and can say what lies between two moments.
struct History {
    /// The rows after each change, with what was then.
    states: Vec<BTreeMap<u8, RowDelta>>,
    vectors: Vec<anabranch_core::vector::VersionVector>,
    headers: Vec<ChangeHeader>,
}

const N_AUTHORS: u32 = 3;

impl History {
    fn random(rng: &mut rand::rngs::StdRng, n_changes: usize) -> History {
        let mut history = History {
            states: vec![BTreeMap::new()],
            vectors: vec![Default::default()],
            headers: Vec::new(),
        };
        for _ in 0..n_changes {
            history.change(rng);
        }
        history
    }

    fn change(&mut self, rng: &mut rand::rngs::StdRng) {
        let author = rng.random_range(0..N_AUTHORS);
        let site = random::site(author as u8 + 1);
        let mut vector = self.vectors.last().unwrap().clone();
        let (version, salt) = (vector.version(site) + 1, rng.random());
        let chain = vector.get(site).map_or(Chain::default(), |held| held.chain);
        vector.set(site, Held { version, chain: chain.next(site, version, salt) });
        self.headers.push(header(site, version, salt));
        let dot = DeltaDot { site: SiteIdx(author), version };
        let mut state = self.states.last().unwrap().clone();
        for _ in 0..rng.random_range(1..3) {
            write(rng, &mut state, dot);
        }
        self.states.push(state);
        self.vectors.push(vector);
    }

    /// What a copy at moment `from` needs to be at moment `to`.
    fn cut(&self, from: usize, to: usize) -> Delta {
        let (low, high) = (&self.vectors[from], &self.vectors[to]);
        let sites: Vec<SiteId> = (1..=N_AUTHORS as u8).map(random::site).collect();
        let is_new = |dot: DeltaDot| dot.version > low.version(sites[dot.site.0 as usize]);
        let mut headers = self.headers[from..to].to_vec();
        headers.sort_by_key(|header| (header.site, header.version));
        let mut rows = Vec::new();
        for row in self.states[to].values() {
            let mut row = row.clone();
            row.births.retain(|birth| is_new(birth.dot));
            row.cells.retain(|cell| is_new(cell.dot));
            if !row.births.is_empty() || !row.cells.is_empty() {
                rows.push(row);
            }
        }
        let columns = vec!["a".to_owned(), "b".to_owned()];
        let tables = vec![TableDelta { name: "t".to_owned(), columns, rows }];
        Delta { from: low.clone(), to: high.clone(), sites, headers, tables, ..Delta::default() }
    }
}

impl History {
    /// What a copy at moment `to` tells that forgot all it could at `floor`.
    fn complete(&self, floor: usize, to: usize) -> Delta {
        let mut delta = self.cut(0, to);
        let low = &self.vectors[floor];
        let (past, rest) =
            delta.headers.into_iter().partition(|h| h.version <= low.version(h.site));
        delta.headers = rest;
        let past: Vec<ChangeHeader> = past;
        delta.salts = past
            .iter()
            .map(|h| SaltRun { site: h.site, version: h.version, salt: h.salt })
            .collect();
        let site = |dot: DeltaDot| random::site(dot.site.0 as u8 + 1);
        delta.tables[0].rows.retain(|row| {
            row.causal_length % 2 == 1
                || row.births.iter().any(|b| b.dot.version > low.version(site(b.dot)))
        });
        let table = TableFloor { name: "t".into(), restart_length: 99, is_whole: true };
        delta.complete = Some(Complete { floor: low.clone(), tables: vec![table] });
        delta
    }
}

fn write(rng: &mut rand::rngs::StdRng, state: &mut BTreeMap<u8, RowDelta>, dot: DeltaDot) {
    let key = rng.random_range(1..5);
    let origin = dot.site;
    let births = vec![Birth { dot, origin }];
    let unknown =
        || RowDelta { key: vec![1, 9, key], causal_length: 0, births: vec![], cells: vec![] };
    let row = state.entry(key).or_insert_with(unknown);
    if row.causal_length.is_multiple_of(2) || rng.random_range(0..4) == 0 {
        (row.causal_length, row.births) = (row.causal_length + 1, births);
        row.cells.clear();
    }
    if row.causal_length.is_multiple_of(2) {
        return;
    }
    for column in 0..2 {
        let value = Value::Integer(rng.random_range(0..3));
        match row.cells.iter_mut().find(|cell| cell.column == column) {
            Some(cell) if rng.random() => {
                let version = cell.version + 1;
                *cell = CellDelta { column, version, dot, origin, value };
            }
            Some(_) => {}
            None => row.cells.push(CellDelta { column, version: 1, dot, origin, value }),
        }
    }
}

/// Cuts of one history, chained with any overlap, join into the cut over both.
#[test]
fn chained_cuts_join_into_the_cut_over_both() {
    let mut rng = random::rng(21);
    for case in 0..300 {
        let history = History::random(&mut rng, 12);
        let mut moments: [usize; 4] = std::array::from_fn(|_| rng.random_range(0..=12));
        moments.sort();
        let [from, later_from, earlier_to, to] = moments;
        let earlier = history.cut(from, earlier_to);
        let later = history.cut(later_from, to);
        earlier.check_invariants().unwrap();
        let joined = join(&earlier, &later).unwrap();
        joined.check_invariants().unwrap();
        joined.verify_chains().unwrap();
        assert_eq!(joined, history.cut(from, to), "case {case}: {moments:?}");
        assert_eq!(join(&earlier, &earlier).unwrap(), earlier, "case {case}");
    }
}

/// What is gathered piece by piece is what the whole join is, whatever overlaps.
#[test]
fn a_chain_is_gathered_into_the_cut_over_all() {
    let mut rng = random::rng(23);
    for case in 0..300 {
        let history = History::random(&mut rng, 12);
        let from = rng.random_range(0..4);
        let mut gather = Gather::new(history.vectors[from].clone());
        let (mut to, mut headers) = (from, Vec::new());
        let mut rows = BTreeMap::<Vec<u8>, RowDelta>::new();
        let mut lowest = from;
        while to < 12 {
            let cut_from = rng.random_range(0..=to);
            lowest = lowest.min(cut_from);
            to = rng.random_range(to + 1..=12);
            let cut = history.cut(cut_from, to);
            let Delta { from, to, sites, .. } = cut.clone();
            let bounds = Bounds { from, to, sites, ..Bounds::default() };
            gather.open(&bounds).unwrap();
            headers.extend(cut.headers.into_iter().filter(|header| gather.is_new(header)));
            let tables = cut.tables.into_iter();
            let new: Vec<RowDelta> = tables.flat_map(|table| gather.rows(table).rows).collect();
            for row in new {
                match rows.get_mut(&row.key) {
                    Some(known) => known.join(row, gather.sites()),
                    None => drop(rows.insert(row.key.clone(), row)),
                }
            }
        }
        headers.sort_by_key(|header| (header.site, header.version));
        let seen = (lowest < from).then(|| history.vectors[lowest].clone());
        assert_eq!(gather.seen(), seen.as_ref(), "case {case}");
        let columns = gather.columns("t").to_vec();
        let rows = rows.into_values().collect();
        let gathered = Delta {
            from: history.vectors[from].clone(),
            to: gather.to().clone(),
            sites: gather.sites().to_vec(),
            headers,
            tables: vec![TableDelta { name: "t".to_owned(), columns, rows }],
            ..Delta::default()
        };
        assert_eq!(gathered, history.cut(from, 12), "case {case}");
        let gap = Bounds { from: history.vectors[12].clone(), ..Bounds::default() };
        let mut begun = Gather::new(history.vectors[11].clone());
        assert!(matches!(begun.open(&gap), Err(JoinError::NotChained { .. })), "case {case}");
    }
}

/// The floor of a complete delta counts as its `from`.
#[test]
fn complete_deltas_join_by_their_floor() {
    let mut rng = random::rng(22);
    for case in 0..300 {
        let history = History::random(&mut rng, 12);
        let mut moments: [usize; 4] = std::array::from_fn(|_| rng.random_range(0..=12));
        moments.sort();
        let [from, later_from, earlier_to, to] = moments;
        let check = |earlier: Delta, later: Delta, expected: Delta| {
            earlier.check_invariants().unwrap();
            later.check_invariants().unwrap();
            let joined = join(&earlier, &later).unwrap();
            joined.check_invariants().unwrap();
            joined.verify_chains().unwrap();
            assert_eq!(joined, expected, "case {case}: {moments:?}");
        };
        let complete = |floor, to| history.complete(floor, to);
        check(complete(from, earlier_to), history.cut(later_from, to), complete(from, to));
        check(history.cut(from, earlier_to), complete(later_from, to), history.cut(from, to));
        check(complete(from, earlier_to), complete(later_from, to), complete(from, to));
        // Across a gap nothing joins.
        let (low, high) = (&history.vectors[earlier_to], &history.vectors[to]);
        if !high.is_at_or_below(low) {
            let gap = join(&history.cut(from, earlier_to), &complete(to, to));
            assert!(matches!(gap, Err(JoinError::NotChained { .. })), "case {case}");
        }
    }
}

#[test]
fn finds_what_is_broken_in_a_complete_delta() {
    let history = History::random(&mut random::rng(23), 12);
    let sound = history.complete(8, 12);
    sound.check_invariants().unwrap();
    sound.verify_chains().unwrap();
    let check = |damage: fn(&mut Delta), expected: &str| {
        let mut delta = sound.clone();
        damage(&mut delta);
        let found = delta.check_invariants().and_then(|()| delta.verify_chains());
        let found = found.expect_err(expected).to_string();
        assert!(found.contains(expected), "{found} is not: {expected}");
    };
    check(|d| d.from = d.to.clone(), "begins above nothing");
    check(|d| d.salts.truncate(0), "is missing, or out of place");
    check(|d| d.salts[0].version = 2, "is missing, or out of place");
    check(|d| d.salts.push(d.salts[0]), "is missing, or out of place");
    check(|d| d.salts[0].salt ^= 1, "does not lead to version");
    check(|d| d.complete.as_mut().unwrap().tables[0].restart_length = 4, "is not odd");
    check(
        |d| {
            let tables = &mut d.complete.as_mut().unwrap().tables;
            tables.push(tables[0].clone());
        },
        "order of their names",
    );
    check(
        |d| {
            let high = d.to.get(random::site(1)).unwrap();
            let high = Held { version: high.version + 1, ..high };
            d.complete.as_mut().unwrap().floor.set(random::site(1), high);
        },
        "from is above its to",
    );
    check(|d| d.headers.truncate(0), "break off before");
}
