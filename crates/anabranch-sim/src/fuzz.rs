//! Seeded fuzzing on a stable compiler: every decoder and every SQL function is fed what no
//! honest copy sends.
//!
//! A target promises: no panic (the binary's hook ends the process), no allocation past its
//! cap (the binary's allocator measures), and after an error the state it had. An input is a
//! function of (target, seed), so a seed is a bug report.

use std::path::Path;

use anabranch_core::key;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

use crate::model::Value;
use crate::replica::{self, query, scalar, text};
use crate::shapes::{Pool, Taste};

mod damage;
mod sql;
mod sync;

/// All values may come.
pub(crate) const ANY: Taste = Taste { has_spellings: true, is_dense: false };

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Parts of deltas: `anabranch_core::wire`, and `ana_apply` with the same bytes.
    Delta,
    /// Packed keys.
    Key,
    /// Version vectors in JSON.
    Vector,
    /// Clock blocks and log entries of a damaged file.
    Damage,
    /// SQL functions and tables with random arguments.
    Sql,
    /// `INSERT INTO crsql_changes` with random values.
    Changes,
    /// Frames of the sync protocol.
    Frame,
    /// Sessions, in any state.
    Session,
}

impl Target {
    /// All targets, by name.
    pub const ALL: [(&'static str, Target); 8] = [
        ("delta", Target::Delta),
        ("key", Target::Key),
        ("vector", Target::Vector),
        ("damage", Target::Damage),
        ("sql", Target::Sql),
        ("changes", Target::Changes),
        ("frame", Target::Frame),
        ("session", Target::Session),
    ];

    /// Most bytes that Rust code may have allocated at once for one input of this target,
    /// beyond what it started with.
    ///
    /// A part may claim 64 MiB decoded; the rest has inputs of some kilobytes.
    pub fn cap_bytes(self) -> usize {
        match self {
            Target::Delta => 160 << 20,
            Target::Key | Target::Vector | Target::Frame => 1 << 20,
            Target::Session => 8 << 20,
            Target::Damage | Target::Sql | Target::Changes => 128 << 20,
        }
    }
}

/// A target with what it keeps between inputs.
pub struct Fuzzer {
    target: Target,
    store: Option<Subject>,
}

/// A store under attack, and honest bytes to start from.
pub(crate) struct Subject {
    pub(crate) store: anabranch::Store,
    /// Deltas of another copy: the first can be applied here, and changes something.
    pub(crate) deltas: Vec<Vec<u8>>,
}

impl Fuzzer {
    /// Prepares a target in `folder`.
    ///
    /// # Errors
    /// A store that cannot be made.
    pub fn new(target: Target, folder: &Path) -> Result<Fuzzer, String> {
        let needs_store = matches!(target, Target::Delta | Target::Sql | Target::Changes);
        let store = needs_store.then(|| Subject::new(folder)).transpose()?;
        Ok(Fuzzer { target, store })
    }

    /// Tries one input.
    ///
    /// # Errors
    /// A broken promise, with the input.
    pub fn try_seed(&self, seed: u64) -> Result<(), String> {
        let mut rng = StdRng::seed_from_u64(seed);
        match (self.target, &self.store) {
            (Target::Key, _) => fuzz_key(&mut rng),
            (Target::Vector, _) => fuzz_vector(&mut rng),
            (Target::Damage, _) => damage::fuzz(&mut rng),
            (Target::Frame, _) => sync::fuzz_frame(&mut rng),
            (Target::Session, _) => sync::fuzz_session(&mut rng),
            (Target::Delta, Some(subject)) => fuzz_delta(&mut rng, subject),
            (Target::Sql, Some(subject)) => sql::fuzz_functions(&mut rng, subject),
            (Target::Changes, Some(subject)) => sql::fuzz_changes(&mut rng, subject),
            (target, None) => Err(format!("{target:?} without a store")),
        }
    }
}

impl Subject {
    fn new(folder: &Path) -> Result<Subject, String> {
        let open = |name: &str| -> Result<anabranch::Store, String> {
            let store = replica::open(&folder.join(name))?;
            let setup =
                "PRAGMA synchronous = OFF; CREATE TABLE t(a INTEGER PRIMARY KEY NOT NULL, b, c);
                CREATE TABLE n(k TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, v INTEGER);
                SELECT crsql_as_crr('t'); SELECT crsql_as_crr('n');";
            store.sql().execute_batch(setup).map_err(|error| error.to_string())?;
            Ok(store)
        };
        let (store, other) = (open("a.db")?, open("b.db")?);
        let run = |sql: &str| other.sql().execute_batch(sql).map_err(|error| error.to_string());
        let delta = || match scalar(other.sql(), "SELECT ana_export()", &[])? {
            Value::Blob(bytes) => Ok(bytes),
            other => Err(format!("ana_export() gives {other:?}")),
        };
        run("INSERT INTO t VALUES(1, 'one', 1.5), (2, x'00ff', NULL), (3, 'three', 3);
             INSERT INTO n VALUES('Key', 7)")?;
        let first = delta()?;
        run("DELETE FROM t WHERE a = 2; UPDATE t SET b = 'other', c = -1;
             INSERT INTO n VALUES('k2', 1)")?;
        store
            .sql()
            .execute_batch("INSERT INTO t VALUES(1, 'mine', 0), (9, 'nine', 9)")
            .map_err(|error| error.to_string())?;
        Ok(Subject { deltas: vec![first, delta()?], store })
    }

    /// What must be the same after an error.
    pub(crate) fn state(&self) -> Result<Vec<Value>, String> {
        state(self.store.sql())
    }
}

/// Digest, vector, `crsql_db_version()` and number of changes.
pub(crate) fn state(db: &Connection) -> Result<Vec<Value>, String> {
    let sql = "SELECT ana_digest(), ana_version_vector(), crsql_db_version(),
                 (SELECT count(*) FROM crsql_changes), (SELECT count(*) FROM ana_part)";
    query(db, sql, &[])?.pop().ok_or_else(|| "no state".to_string())
}

/// Whether a message tells of a bug of ours: a panic that was caught.
pub(crate) fn is_panic(message: &str) -> bool {
    ["panic", "poison", "unreachable", "overflow"].iter().any(|word| message.contains(word))
}

fn fuzz_key(rng: &mut StdRng) -> Result<(), String> {
    let mut bytes = match rng.random_range(0..3) {
        0 => random_bytes(rng, 40),
        _ => {
            let values: Vec<Value> =
                (0..rng.random_range(0..5)).map(|_| Pool::Any.value(rng, ANY)).collect();
            crate::model::pack(&values)
        }
    };
    if rng.random() {
        mutate(rng, &mut bytes);
    }
    let count = key::check_packed(&bytes);
    let Ok(values) = key::unpack(&bytes) else {
        return match count {
            Err(_) => Ok(()),
            Ok(_) => Err(format!("checked but not unpacked: {bytes:02x?}")),
        };
    };
    let packed = key::pack(&values).map_err(|error| format!("{error}: {bytes:02x?}"))?;
    let again = key::unpack(&packed).map_err(|error| format!("{error}: {bytes:02x?}"))?;
    let is_same = again.len() == values.len()
        && again.iter().zip(&values).all(|(a, b)| a.order(*b) == std::cmp::Ordering::Equal);
    match is_same && count == Ok(values.len()) {
        true => Ok(()),
        false => Err(format!("unpacked {values:?} and {again:?} of {bytes:02x?}")),
    }
}

fn fuzz_vector(rng: &mut StdRng) -> Result<(), String> {
    let mut json = String::from("{");
    for index in 0..rng.random_range(0..4) {
        let comma = if index > 0 { "," } else { "" };
        let site: String = random_bytes(rng, 17).iter().map(|byte| format!("{byte:02x}")).collect();
        let chain: String = (0..16).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
        let version = rng.random::<u64>() >> rng.random_range(0..64);
        json.push_str(&format!("{comma}\"{site}\":[{version},\"{chain}\"]"));
    }
    json.push('}');
    let mut bytes = json.into_bytes();
    if rng.random() {
        mutate(rng, &mut bytes);
    }
    let json = String::from_utf8_lossy(&bytes);
    let Ok(vector) = VersionVector::from_json(&json) else { return Ok(()) };
    match VersionVector::from_json(&vector.to_json()) {
        Ok(again) if again == vector => Ok(()),
        other => Err(format!("{json} reads as {vector:?}, again as {other:?}")),
    }
}

fn fuzz_delta(rng: &mut StdRng, subject: &Subject) -> Result<(), String> {
    let mut bytes = subject.deltas.choose(rng).expect("two deltas").clone();
    match rng.random_range(0..16) {
        0 => bytes = random_bytes(rng, 300),
        1 => return try_apply(rng, subject, subject.deltas.concat(), true),
        2 => mutate(rng, &mut bytes),
        _ => {
            // A liar whose sums are right.
            let mut body = wire::body(&bytes).map_err(|error| error.to_string())?;
            mutate(rng, &mut body);
            let _ = wire::decode_body(&body);
            bytes = seal_body(&body)?;
        }
    }
    let _ = wire::part_head(&bytes);
    let is_decoded = wire::decode(&[&bytes]).is_ok();
    if is_decoded || rng.random_ratio(1, 8) {
        try_apply(rng, subject, bytes, is_decoded)?;
    }
    Ok(())
}

/// A part, the only one of its delta, around a body (`docs/format.md`, "Part").
fn seal_body(body: &[u8]) -> Result<Vec<u8>, String> {
    let frame = zstd::bulk::compress(body, 1).map_err(|error| error.to_string())?;
    let sum = |bytes: &[u8]| blake3::hash(bytes).as_bytes()[..16].to_vec();
    let mut part = b"anaD\x01\0\0\0".to_vec();
    part.extend(sum(&sum(&frame)));
    part.extend(0u32.to_le_bytes());
    part.extend(1u32.to_le_bytes());
    part.extend((frame.len() as u32).to_le_bytes());
    part.extend((body.len() as u32).to_le_bytes());
    part.extend(sum(&frame));
    part.extend(&sum(&part)[..8]);
    part.extend(frame);
    Ok(part)
}

/// Applies in a savepoint that is undone: each input meets the same store.
fn try_apply(
    rng: &mut StdRng,
    subject: &Subject,
    bytes: Vec<u8>,
    is_decoded: bool,
) -> Result<(), String> {
    let db = subject.store.sql();
    let before = subject.state()?;
    let is_open = rng.random();
    if is_open {
        query(db, "BEGIN", &[])?;
    }
    let applied = scalar(db, "SELECT ana_apply(?1)", &[Value::Blob(bytes.clone())]);
    if let Err(error) = &applied {
        if is_panic(error) {
            return Err(format!("{error}: {bytes:02x?}"));
        }
        if subject.state()? != before {
            return Err(format!("{error} changed the state: {bytes:02x?}"));
        }
    } else if !is_decoded && applied != Ok(Value::Integer(0)) {
        return Err(format!("applied what does not decode: {bytes:02x?}"));
    }
    if is_open {
        query(db, "ROLLBACK", &[])?;
        if subject.state()? != before {
            return Err(format!("ROLLBACK after {applied:?} changed the state: {bytes:02x?}"));
        }
    }
    Ok(())
}

/// Some bytes, most often few.
pub(crate) fn random_bytes(rng: &mut StdRng, max: usize) -> Vec<u8> {
    let n = rng.random_range(0..=max).min(rng.random_range(0..=max));
    (0..n).map(|_| rng.random()).collect()
}

/// Flips, sets, inserts, removes, doubles and cuts.
pub(crate) fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..5) {
        let len = bytes.len();
        if len == 0 {
            bytes.push(rng.random());
            continue;
        }
        let at = rng.random_range(0..len);
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff].choose(rng).expect("a constant list"),
            2 => bytes[at] = rng.random(),
            3 => bytes.insert(at, rng.random()),
            4 => drop(bytes.remove(at)),
            5 => bytes.truncate(at),
            6 => {
                let end = (at + rng.random_range(1..16)).min(len);
                let copy = bytes[at..end].to_vec();
                let to = rng.random_range(0..=len);
                bytes.splice(to..to, copy);
            }
            _ => {
                let end = (at + 8).min(len);
                bytes[at..end].fill(0xff);
            }
        }
    }
}

/// Names that SQL functions are given: mostly none of anything.
pub(crate) fn random_name(rng: &mut StdRng) -> Value {
    let names =
        ["t", "n", "b", "c", "-1", "", "ana_entry", "sqlite_master", "T", "t ", "crsql_changes"];
    text(names.choose(rng).expect("a constant list"))
}
