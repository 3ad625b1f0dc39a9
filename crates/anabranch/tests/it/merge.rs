//! Two stores, merged both ways.

use anabranch::{Store, merge};

use crate::peers::{give, is_clean, rows, run, store};

fn merged(a: &Store, b: &Store) -> anabranch::MergeReport {
    let report = merge(a, b, &mut |_, _| ()).unwrap();
    assert!(report.is_equal, "{report:?}");
    is_clean(a);
    is_clean(b);
    report
}

#[test]
fn both_sides_get_what_the_other_wrote() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note(id, title) VALUES(1, 'a'), (2, 'a')");
    run(&b, "INSERT INTO tag VALUES('x', 'red')");
    let report = merged(&a, &b);
    assert_eq!(report.a.tables, [("tag".into(), 1, 0, 0)]);
    assert_eq!(report.b.tables, [("note".into(), 2, 0, 0)]);
    assert_eq!((report.a.changes, report.b.changes), (1, 1));
    assert_eq!(report.concurrent, []);

    run(&a, "UPDATE note SET title = 'b' WHERE id = 1; DELETE FROM note WHERE id = 2");
    let report = merged(&a, &b);
    assert_eq!(report.b.tables, [("note".into(), 0, 1, 1)]);
    assert_eq!((report.a.changes, report.b.changes), (0, 2));
}

#[test]
fn merging_again_brings_nothing() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note(id, title) VALUES(1, 'a')");
    run(&b, "INSERT INTO note(id, title) VALUES(1, 'b')");
    merged(&a, &b);
    let report = merged(&a, &b);
    assert_eq!((report.a.changes, report.b.changes), (0, 0));
    assert_eq!(report.concurrent, []);
}

#[test]
fn cells_written_on_both_sides_are_told_once_with_both_values() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note VALUES(1, 'start', 'start', 1)");
    merged(&a, &b);
    run(&a, "UPDATE note SET title = 'from a', rank = 2");
    run(&b, "UPDATE note SET title = 'it''s b', body = 'only b'");
    let report = merged(&a, &b);
    let [cell] = &report.concurrent[..] else { panic!("{report:?}") };
    assert_eq!((cell.table.as_str(), cell.key.as_str()), ("note", "1"));
    assert_eq!(cell.column.as_deref(), Some("title"));
    assert_eq!((cell.stands.as_str(), cell.lost.as_str()), ("'it''s b'", "'from a'"));
    assert_eq!((cell.stands_site, cell.lost_site), (b.site().unwrap(), a.site().unwrap()));
    assert_eq!(rows(&a, "SELECT body, rank FROM note"), rows(&b, "SELECT body, rank FROM note"));
}

#[test]
fn an_overwrite_that_had_seen_the_value_is_no_conflict() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note VALUES(1, 'start', NULL, 1)");
    merged(&a, &b);
    run(&b, "UPDATE note SET title = 'knowing'");
    assert_eq!(merged(&a, &b).concurrent, []);
}

#[test]
fn a_row_deleted_here_and_written_there_is_told() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO note VALUES(1, 'start', NULL, 1)");
    merged(&a, &b);
    run(&a, "DELETE FROM note");
    run(&b, "UPDATE note SET title = 'kept?'");
    let report = merged(&a, &b);
    let [cell] = &report.concurrent[..] else { panic!("{report:?}") };
    assert_eq!((cell.stands.as_str(), cell.lost.as_str()), ("deleted", "'kept?'"));
    assert_eq!(rows(&b, "SELECT * FROM note"), Vec::<String>::new());
}

#[test]
fn progress_tells_each_step_in_order() {
    let (a, b) = (store(), store());
    run(&a, "INSERT INTO member VALUES('me')");
    let mut steps = Vec::new();
    merge(&a, &b, &mut |step, bytes| steps.push((step.to_string(), bytes))).unwrap();
    let names: Vec<_> = steps.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(names, ["read b", "apply to a", "read a", "apply to b", "compare"]);
    assert!(steps[2].1 > 0);
}

#[test]
fn a_relay_in_the_middle_keeps_authors() {
    let (a, b, c) = (store(), store(), store());
    run(&a, "INSERT INTO note(id, title) VALUES(1, 'a')");
    give(&a, &b);
    give(&b, &c);
    let log = c.log(0).unwrap();
    assert_eq!(log.iter().map(|record| record.site).collect::<Vec<_>>(), [a.site().unwrap()]);
    assert_eq!((log[0].tables.as_str(), log[0].rows, log[0].kind.as_str()), ("note", 1, "edit"));
    assert_eq!(a.digest().unwrap(), c.digest().unwrap());
}

#[test]
fn a_fresh_store_has_written_nothing() {
    let a = store();
    assert!(a.version_vector().unwrap().is_empty());
}
