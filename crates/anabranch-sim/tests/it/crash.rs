//! Faults at every write and sync, in short; `cargo xtask crash` has the long form.

use anabranch_sim::crash::{Plan, run};
use anabranch_sqlite::vfs::Fault;

fn torture(journal: &'static str, fault: Fault) {
    match run(Plan { journal, n_rows: 60, has_parts: false }, fault, 1, |_, _| ()) {
        Ok(report) => println!("{journal}, {fault:?}: {report:?}"),
        Err(what) => panic!("{journal}: {what}"),
    }
}

#[test]
fn a_power_cut_at_any_write_leaves_a_state_that_existed() {
    torture("WAL", Fault::Die);
    torture("DELETE", Fault::Die);
}

#[test]
fn a_failing_disk_undoes_the_transaction() {
    torture("DELETE", Fault::IoError);
}
