//! What `crsql_config_set` keeps in `crsql_master`: as the file has it, also after a rollback
//! and after commits of others.

use std::cell::Cell;

use anabranch_core::merge::Ties;
use anabranch_core::value::{Value, ValueRef};
use anabranch_sqlite::Db;

use crate::error::{Result, StoreError};

/// The settings of a file, read when they are asked for and kept until they may differ.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// `merge-equal-values`; `None`: to be read.
    ties: Cell<Option<Ties>>,
    /// How many commits of others were noticed when it was read.
    noticed: Cell<u64>,
}

impl Settings {
    /// Reads all.
    ///
    /// # Errors
    /// A value that is no integer.
    pub(crate) fn read(db: &Db) -> Result<Settings> {
        let settings = Settings::default();
        settings.ties(db)?;
        Ok(settings)
    }

    /// What becomes of equal versions with equal values.
    ///
    /// # Errors
    /// As [`Settings::read`].
    #[inline]
    pub(crate) fn ties(&self, db: &Db) -> Result<Ties> {
        match self.ties.get() {
            Some(ties) => Ok(ties),
            None => {
                let ties = stored_ties(db)?;
                self.ties.set(Some(ties));
                Ok(ties)
            }
        }
    }

    /// Whether equal versions with equal values are known to leave things as they are.
    pub(crate) fn keeps_local(&self) -> bool {
        self.ties.get() == Some(Ties::KeepLocal)
    }

    /// Stores `merge-equal-values`, as part of the present transaction.
    pub(crate) fn set_ties(&self, db: &Db, value: i64) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO main.crsql_master \
                   VALUES ('config.merge-equal-values', ?1)";
        self.forget();
        Ok(db.execute(sql, &[ValueRef::Integer(value)])?)
    }

    /// Something was written or undone: all is read anew.
    pub(crate) fn forget(&self) {
        self.ties.set(None);
    }

    /// Reads anew if others committed since.
    pub(crate) fn follow(&self, n_commits: u64) {
        if self.noticed.replace(n_commits) != n_commits {
            self.forget();
        }
    }
}

fn stored_ties(db: &Db) -> Result<Ties> {
    let sql = "SELECT value FROM main.crsql_master WHERE key = 'config.merge-equal-values'";
    match db.query_value(sql, &[])? {
        None | Some(Value::Integer(0)) => Ok(Ties::KeepLocal),
        Some(Value::Integer(_)) => Ok(Ties::LargerSite),
        Some(_) => Err(StoreError::Refused(
            "crsql_master: config.merge-equal-values is not an integer".to_string(),
        )),
    }
}
