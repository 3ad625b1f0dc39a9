//! A year of small changes, in bounded memory: whoever takes, gives or merges them.
//!
//! The bound is the system's (`ulimit -d`): what a process may write to of its own. A run that
//! wants more is ended by its allocator. Whoever held the headers of this delta decoded would
//! take some 40 MiB.

use std::process::Command;

use anabranch_core::change::{ChangeHeader, ChangeKind};
use anabranch_core::clock::{Chain, Hlc};
use anabranch_core::delta::{Birth, CellDelta, Delta, DeltaDot, RowDelta, SiteIdx, TableDelta};
use anabranch_core::key;
use anabranch_core::site::SiteId;
use anabranch_core::value::{Value, ValueRef};
use anabranch_core::vector::Held;
use anabranch_core::wire;

use crate::ana::{Ana, run};

/// Changes of one author.
const CHANGES: u64 = 60_000;
/// Most that a run may take, in KiB: a program that does next to nothing takes 12 MiB.
const MOST_KIB: u32 = 32 << 10;

#[test]
fn a_year_of_changes_passes_through_little_memory() {
    let ana = Ana::with_notes();
    ana.write("year", &wire::encode(&year()).concat());
    std::fs::create_dir(ana.path("folder")).unwrap();
    for name in ["b.db", "c.db"] {
        ana.copy("a.db", name);
    }
    for args in [
        &["import", "a.db", "year"][..],
        &["merge", "a.db", "b.db"],
        &["sync", "a.db", "dir:folder"],
        &["sync", "c.db", "dir:folder"],
    ] {
        bounded(&ana, args);
    }
    for name in ["b.db", "c.db"] {
        assert_eq!(ana.words(name), ana.words("a.db"), "{name}");
    }
}

fn bounded(ana: &Ana, args: &[&str]) {
    let wanted = ana.command(args);
    let mut command = Command::new("sh");
    let script = format!("ulimit -d {MOST_KIB} && exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(wanted.get_program()).args(wanted.get_args());
    command.current_dir(ana.path(""));
    let run = run(&mut command, b"");
    assert_eq!(run.status, 0, "{args:?}: {}", run.err);
}

/// One author's changes, each of one of the same thousand rows.
fn year() -> Delta {
    let site = SiteId::from_random([7; 16]);
    let (mut delta, mut chain) =
        (Delta { sites: vec![site], ..Delta::default() }, Chain::default());
    for version in 1..=CHANGES {
        let (salt, deps, blobs) = (9, Vec::new(), Vec::new());
        let time = Hlc((1_600_000_000_000 + 1000 * version) << 16);
        let kind = ChangeKind::Edit;
        let (author, message) = (Some("Ada".into()), None);
        let header = ChangeHeader { site, version, salt, time, deps, author, message, kind, blobs };
        chain = chain.next(site, version, salt);
        delta.headers.push(header);
    }
    delta.to.set(site, Held { version: CHANGES, chain });
    let columns = vec!["body".to_string()];
    let mut table = TableDelta { name: "note".to_string(), columns, rows: Vec::new() };
    for n in 0..1000 {
        let origin = SiteIdx(0);
        let dot = DeltaDot { site: origin, version: CHANGES - n };
        let value = Value::Text(format!("the last word on {n}").into_bytes());
        let cell = CellDelta { column: 0, version: 100, dot, origin, value };
        let birth = Birth { dot: DeltaDot { site: origin, version: n + 1 }, origin };
        let name = format!("n{n:04}");
        let key = key::pack(&[ValueRef::Text(name.as_bytes())]).unwrap();
        let (births, cells) = (vec![birth], vec![cell]);
        table.rows.push(RowDelta { key, causal_length: 1, births, cells });
    }
    delta.tables.push(table);
    delta
}
