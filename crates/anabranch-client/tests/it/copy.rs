//! A copy in memory, with one conflict-free table.

use anabranch_client::{Address, Event, Options, Report};
use anabranch_sqlite::Embedded;

pub(crate) struct Copy {
    connection: Embedded,
}

impl Copy {
    /// A new copy with a table `note(id, body)`.
    pub(crate) fn new() -> Copy {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let connection = Embedded::new(connection).unwrap();
        anabranch_store::install(connection.db()).unwrap();
        let sql = "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT);
                   SELECT crsql_as_crr('note');";
        connection.execute_batch(sql).unwrap();
        Copy { connection }
    }

    pub(crate) fn sql(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// One row, one change.
    pub(crate) fn write(&self, id: &str, body: &str) {
        let sql = "INSERT OR REPLACE INTO note VALUES(?1, ?2)";
        self.connection.execute(sql, [id, body]).unwrap();
    }

    pub(crate) fn sync(&self, address: &Address) -> Report {
        self.sync_telling(address, &mut |_| ())
    }

    pub(crate) fn sync_telling(&self, address: &Address, tell: &mut dyn FnMut(Event)) -> Report {
        anabranch_client::once(&self.connection, address, &Options::default(), tell).unwrap()
    }

    pub(crate) fn digest(&self) -> Vec<u8> {
        self.connection.query_row("SELECT ana_digest()", [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn n_rows(&self) -> i64 {
        self.connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
    }
}
