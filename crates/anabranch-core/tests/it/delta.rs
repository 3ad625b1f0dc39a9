//! What a delta must satisfy, and when two of them join.

use anabranch_core::change::{ChangeHeader, ChangeKind, Dep};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{
    Birth, CellDelta, Delta, DeltaDot, DeltaError, JoinError, RowDelta, SiteIdx, TableDelta, join,
};
use anabranch_core::limits::MAX_COLUMN_VERSION;
use anabranch_core::site::SiteId;
use anabranch_core::value::Value;
use anabranch_core::vector::Held;

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
        delta.headers.push(ChangeHeader {
            site,
            version,
            salt: *salt,
            time: Hlc(version),
            deps: Vec::new(),
            author: None,
            message: None,
            kind: ChangeKind::Edit,
        });
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
