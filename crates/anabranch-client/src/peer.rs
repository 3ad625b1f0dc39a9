//! What this database knows of those it syncs with, in `ana_peer`.
//!
//! The outbox is the log itself and what each peer is known to hold: whoever dies at any
//! instruction has lost nothing that SQLite had committed. All of it is a cache: a row that
//! is lost is learned again, and one that says too little costs a repetition that is
//! harmless. It never says too much: what is noted as held was acknowledged, or read back.

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use rusqlite::{OptionalExtension, Row};

use crate::replica::{Replica, StoreError, vector_in};

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerRole {
    /// Another copy.
    Copy,
    /// A server that keeps and forwards.
    Relay,
    /// A folder or bucket of delta files.
    Directory,
}

/// What is known of one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// How it is reached; its name here.
    pub url: String,
    /// What it is.
    pub role: PeerRole,
    /// Its site id, where it told one.
    pub site: Option<SiteId>,
    /// What it holds on its disk, as far as it said.
    pub held: VersionVector,
    /// Disks that what it acknowledged is on: its own, and those it replicates to.
    pub durability: u32,
    /// When it last answered, in Unix milliseconds.
    pub seen_ms: Option<u64>,
    /// Why the last sync with it did not end well; `None` if it did.
    pub error: Option<String>,
    /// When that was, in Unix milliseconds.
    pub error_ms: Option<u64>,
}

impl PeerRole {
    /// As it stands in the file and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            PeerRole::Copy => "copy",
            PeerRole::Relay => "relay",
            PeerRole::Directory => "directory",
        }
    }

    fn of(name: &str) -> PeerRole {
        match name {
            "directory" => PeerRole::Directory,
            "relay" => PeerRole::Relay,
            _ => PeerRole::Copy,
        }
    }
}

const COLUMNS: &str = "url, role, site, held, durability, seen_ms, error, error_ms";

/// All peers, by address.
pub(crate) fn all(replica: Replica<'_>) -> Result<Vec<Peer>, StoreError> {
    if !has_table(replica)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM main.ana_peer ORDER BY url");
    let mut statement = replica.sql().prepare_cached(&sql)?;
    let peers = statement.query_map([], peer)?;
    Ok(peers.collect::<rusqlite::Result<_>>()?)
}

/// One peer, if it is known.
pub(crate) fn find(replica: Replica<'_>, url: &str) -> Result<Option<Peer>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM main.ana_peer WHERE url = ?1");
    let mut statement = replica.sql().prepare_cached(&sql)?;
    Ok(statement.query_row([url], peer).optional()?)
}

/// A database that an older version made has no such table before it is next written to.
fn has_table(replica: Replica<'_>) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM main.sqlite_schema WHERE name = 'ana_peer')";
    Ok(replica.sql().query_row(sql, [], |row| row.get(0))?)
}

fn peer(row: &Row<'_>) -> rusqlite::Result<Peer> {
    let unsigned = |at: usize| row.get::<_, Option<i64>>(at);
    let ms = |at: usize| Ok::<_, rusqlite::Error>(unsigned(at)?.map(i64::cast_unsigned));
    Ok(Peer {
        url: row.get(0)?,
        role: PeerRole::of(row.get_ref(1)?.as_str().unwrap_or_default()),
        site: row.get_ref(2)?.as_blob().ok().and_then(SiteId::new),
        held: vector_in(row.get_ref(3)?).unwrap_or_default(),
        durability: unsigned(4)?.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        seen_ms: ms(5)?,
        error: row.get(6)?,
        error_ms: ms(7)?,
    })
}

/// Notes what a peer holds, and that all went well.
pub(crate) fn note_held(
    replica: Replica<'_>,
    url: &str,
    role: PeerRole,
    held: &VersionVector,
    durability: u32,
    now_ms: u64,
) -> Result<(), StoreError> {
    let mut statement = replica.sql().prepare_cached(
        "INSERT INTO main.ana_peer(url, role, held, durability, seen_ms) VALUES(?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(url) DO UPDATE SET role = ?2, held = ?3, durability = ?4, seen_ms = ?5,
             error = NULL, error_ms = NULL",
    )?;
    statement.execute((url, role.name(), held.to_json(), durability, now_ms.cast_signed()))?;
    Ok(())
}

/// Forgets a peer; whether it was known. What it was known to hold counts no more.
pub(crate) fn forget(replica: Replica<'_>, url: &str) -> Result<bool, StoreError> {
    let sql = replica.sql();
    if !has_table(replica)? {
        return Ok(false);
    }
    sql.execute("DELETE FROM main.ana_peer_file WHERE url = ?1", [url])?;
    Ok(sql.execute("DELETE FROM main.ana_peer WHERE url = ?1", [url])? > 0)
}

/// The resume ticket that a peer gave last, if any.
pub(crate) fn ticket(replica: Replica<'_>, url: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT ticket FROM main.ana_peer WHERE url = ?1";
    let mut statement = replica.sql().prepare_cached(sql)?;
    let ticket: Option<Option<Vec<u8>>> =
        statement.query_row([url], |row| row.get(0)).optional()?;
    Ok(ticket.flatten())
}

/// Keeps a ticket for the next connection.
pub(crate) fn note_ticket(
    replica: Replica<'_>,
    url: &str,
    role: PeerRole,
    ticket: &[u8],
) -> Result<(), StoreError> {
    let mut statement = replica.sql().prepare_cached(
        "INSERT INTO main.ana_peer(url, role, ticket) VALUES(?1, ?2, ?3)
         ON CONFLICT(url) DO UPDATE SET ticket = ?3",
    )?;
    statement.execute((url, role.name(), ticket))?;
    Ok(())
}

/// Notes why a sync did not end well, and since when: the same again changes nothing, so that
/// who waits for a drive to come back does not write every two seconds.
pub(crate) fn note_error(
    replica: Replica<'_>,
    url: &str,
    role: PeerRole,
    error: &str,
    now_ms: u64,
) -> Result<(), StoreError> {
    let mut statement = replica.sql().prepare_cached(
        "INSERT INTO main.ana_peer(url, role, error, error_ms) VALUES(?1, ?2, ?3, ?4)
         ON CONFLICT(url) DO UPDATE SET role = ?2, error = ?3, error_ms = ?4
             WHERE error IS NOT ?3",
    )?;
    statement.execute((url, role.name(), error, now_ms.cast_signed()))?;
    Ok(())
}
