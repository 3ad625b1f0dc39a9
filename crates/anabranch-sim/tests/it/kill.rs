//! A writing process is killed twenty times; every acknowledged transaction is there.

use std::path::Path;

#[test]
fn acknowledged_transactions_survive_kill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let writer = Path::new(env!("CARGO_BIN_EXE_writer"));
    for seed in [1, 2] {
        let folder = folder.path().join(seed.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        match anabranch_sim::kill::run(writer, &folder, 10, seed) {
            Ok(n) => println!("10 kills, {n} transactions acknowledged"),
            Err(what) => panic!("{what}"),
        }
    }
}
