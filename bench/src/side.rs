//! The sides that are compared: plain SQLite, a bare trigger, ours, and any extension
//! with the same API given by path.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::Connection;

/// One side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// SQLite with nothing.
    Plain,
    /// SQLite with an empty AFTER trigger of each kind: the floor of any capture by trigger.
    Trigger,
    /// Ours, compiled in.
    Ours,
    /// An extension that speaks the same SQL.
    Extension(PathBuf),
}

/// An open database of some side.
pub enum Opened {
    /// Ours.
    Store(anabranch::Store),
    /// Any other.
    Other(Connection),
}

impl std::ops::Deref for Opened {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Opened::Store(store) => store.sql(),
            Opened::Other(connection) => connection,
        }
    }
}

/// What a table's key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// INTEGER PRIMARY KEY, 1, 2, 3 …
    Integer,
    /// `user:0000001` …, in a scattered order.
    Text,
    /// 16 random bytes.
    Uuid,
}

impl KeyKind {
    /// The key of row `n`, from 1.
    pub fn key(self, n: u64) -> rusqlite::types::Value {
        match self {
            KeyKind::Integer => (n as i64).into(),
            KeyKind::Text => format!("user:{:010}", scatter(n) % 10_000_000_000).into(),
            KeyKind::Uuid => {
                let mut bytes = scatter(n).to_be_bytes().to_vec();
                bytes.extend(scatter(!n).to_be_bytes());
                bytes.into()
            }
        }
    }

    /// The declaration of the key column.
    pub fn declaration(self) -> &'static str {
        match self {
            KeyKind::Integer => "id INTEGER PRIMARY KEY NOT NULL",
            KeyKind::Text => "id TEXT PRIMARY KEY NOT NULL",
            KeyKind::Uuid => "id BLOB PRIMARY KEY NOT NULL",
        }
    }
}

/// A bijection that scatters (splitmix64's finalizer; Steele, Lea, Flood 2014).
pub fn scatter(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl Side {
    /// Name in the table.
    pub fn name(&self) -> String {
        match self {
            Side::Plain => "plain".into(),
            Side::Trigger => "bare trigger".into(),
            Side::Ours => "ours".into(),
            Side::Extension(path) => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
        }
    }

    /// Whether it has `crsql_changes`.
    pub fn merges(&self) -> bool {
        matches!(self, Side::Ours | Side::Extension(_))
    }

    /// Opens a database with this side's functions: WAL, synchronous NORMAL, 64 MiB of cache.
    pub fn open(&self, path: &Path) -> Result<Opened> {
        let connection = configure(Connection::open(path)?)?;
        if let Side::Extension(path) = self {
            load(&connection, path)?;
        }
        Ok(match self {
            Side::Ours => Opened::Store(anabranch::Store::from_connection(connection)?),
            _ => Opened::Other(connection),
        })
    }

    /// Makes table `t` of four columns, conflict-free where the side can.
    pub fn make_table(&self, connection: &Connection, key: KeyKind) -> Result<()> {
        let ddl = format!("CREATE TABLE t({}, a, b, c, d)", key.declaration());
        connection.execute_batch(&ddl)?;
        match self {
            Side::Plain => Ok(()),
            Side::Trigger => Ok(connection.execute_batch(
                "CREATE TRIGGER ti AFTER INSERT ON t BEGIN SELECT 1; END;
                 CREATE TRIGGER tu AFTER UPDATE ON t BEGIN SELECT 1; END;
                 CREATE TRIGGER td AFTER DELETE ON t BEGIN SELECT 1; END;",
            )?),
            _ => Ok(connection.query_row("SELECT crsql_as_crr('t')", [], |_| Ok(()))?),
        }
    }
}

fn configure(connection: Connection) -> Result<Connection> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

#[expect(unsafe_code, reason = "an extension given by path is foreign code by nature")]
fn load(connection: &Connection, path: &Path) -> Result<()> {
    // SQLite would try other names for a file that is not there, and tell of the last.
    let path = &path.canonicalize().context("no such extension")?;
    // SAFETY: whoever names the extension on the command line vouches for it; loading is
    // enabled for this one call only.
    unsafe {
        connection.load_extension_enable()?;
        connection.load_extension(path, Some("sqlite3_crsqlite_init"))?;
    }
    Ok(connection.load_extension_disable()?)
}
