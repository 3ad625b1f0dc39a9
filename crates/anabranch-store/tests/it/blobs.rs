//! `ana_blob_put`: the change of its transaction names the blob, and nothing else does.

use anabranch_core::wire::decode;

use crate::support::Store;

/// Changes of a store with the blobs that they name, by version: the first byte of each.
fn named(store: &Store) -> Vec<(u64, Vec<u8>)> {
    let delta: Vec<u8> = store.conn.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
    let delta = decode(&[&delta]).unwrap();
    delta.verify_chains().unwrap();
    let hash_of = |byte: u8| *blake3::hash(&[byte]).as_bytes();
    let byte_of = |hash: &[u8; 32]| (0..=255).find(|byte| hash_of(*byte) == *hash).unwrap();
    let blobs = |blobs: &[[u8; 32]]| {
        let mut bytes: Vec<u8> = blobs.iter().map(byte_of).collect();
        bytes.sort_unstable();
        bytes
    };
    delta.headers.iter().map(|header| (header.version, blobs(&header.blobs))).collect()
}

#[test]
fn the_change_that_puts_a_blob_names_it() {
    let schema = "CREATE TABLE note(id INTEGER PRIMARY KEY NOT NULL, picture)";
    let put = |sql: &str, expected: &[(u64, &[u8])]| {
        let store = Store::with(schema, &["note"]);
        store.run(sql);
        let expected: Vec<(u64, Vec<u8>)> =
            expected.iter().map(|(version, bytes)| (*version, bytes.to_vec())).collect();
        assert_eq!(named(&store), expected, "{sql}");
        assert_eq!(store.rows("SELECT count(*) FROM ana_check()"), ["0"], "{sql}");
        // Who takes the delta names the same.
        let other = Store::with(schema, &["note"]);
        let delta: Vec<u8> =
            store.conn.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
        other.conn.query_row("SELECT ana_apply(?1)", [delta], |_| Ok(())).unwrap();
        assert_eq!(named(&other), expected, "{sql}");
    };
    put("INSERT INTO note VALUES(1, ana_blob_put(x'01'))", &[(1, &[1])]);
    put("BEGIN; SELECT ana_blob_put(x'01'); INSERT INTO note VALUES(1, 2); COMMIT", &[(1, &[1])]);
    put(
        "BEGIN; INSERT INTO note VALUES(1, 2); SELECT ana_blob_put(x'02'), ana_blob_put(x'01'); \
         COMMIT; INSERT INTO note VALUES(2, 3)",
        &[(1, &[1, 2]), (2, &[])],
    );
    put("SELECT ana_blob_put(x'01')", &[(1, &[1])]);
    put(
        "INSERT INTO note VALUES(1, 1); SELECT ana_blob_put(x'01'); INSERT INTO note VALUES(2, 1)",
        &[(1, &[]), (2, &[1]), (3, &[])],
    );
    put("BEGIN; SELECT ana_blob_put(x'01'); ROLLBACK; INSERT INTO note VALUES(1, 2)", &[(1, &[])]);
    put(
        "BEGIN; SELECT ana_blob_put(x'01'); SAVEPOINT s; SELECT ana_blob_put(x'02'); \
         ROLLBACK TO s; COMMIT",
        &[(1, &[1])],
    );
    put(
        "BEGIN; SAVEPOINT s; SELECT ana_blob_put(x'02'); ROLLBACK TO s; COMMIT; \
         INSERT INTO note VALUES(1, 2)",
        &[(1, &[])],
    );
}

#[test]
fn a_change_names_so_many_blobs() {
    let store = Store::new();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                SELECT max(length(ana_blob_put(CAST(i AS BLOB)))) FROM n";
    store.run("BEGIN");
    assert_eq!(store.try_rows(many, vec![1024.into()]).unwrap(), ["32"]);
    let error = store.refuse(many, vec![1025.into()]);
    assert!(error.contains("at most 1024 blobs"), "{error}");
    store.run("COMMIT");
    let delta: Vec<u8> = store.conn.query_row("SELECT ana_export()", [], |row| row.get(0)).unwrap();
    let delta = decode(&[&delta]).unwrap();
    assert_eq!(delta.headers.len(), 1);
    assert_eq!(delta.headers[0].blobs.len(), 1024);
}
