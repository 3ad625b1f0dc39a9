//! What people call the sites of two copies: the author, or the database, or some digits.
//!
//! Invariant: one name is never given to two databases; where the names of two files are
//! the same, their whole paths stand for them.

use std::collections::BTreeMap;
use std::path::Path;

use anabranch::{LogRecord, SiteId, Store};

use crate::failure::Result;

/// Names for the sites that two databases know.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// The last author named under each site id.
    authors: BTreeMap<SiteId, String>,
    /// The site ids of the two databases, with the names of their files.
    files: BTreeMap<SiteId, String>,
}

impl People {
    /// The people in the logs of two databases, and the databases themselves.
    pub(crate) fn of(copies: [(&Store, &Path); 2]) -> Result<People> {
        let [(a, a_path), (b, b_path)] = copies;
        let (a_site, b_site) = (a.site()?, b.site()?);
        let mut people = People { authors: authors(b)?, files: BTreeMap::new() };
        people.authors.append(&mut authors(a)?);
        // A copy that was not written to since has the id of the other: the id names neither.
        if a_site != b_site {
            let [a_name, b_name] = file_names(a_path, b_path);
            people.files = BTreeMap::from([(a_site, a_name), (b_site, b_name)]);
        }
        Ok(people)
    }

    /// Who writes under a site id: the last author named, or else the database.
    pub(crate) fn name(&self, site: SiteId) -> String {
        self.authors.get(&site).cloned().unwrap_or_else(|| self.database(site))
    }

    /// Who made a change: the author it names, or else the database.
    pub(crate) fn author(&self, change: &LogRecord) -> String {
        change.author.clone().unwrap_or_else(|| self.database(change.site))
    }

    /// The file whose own id this is, or else the first digits of the id.
    fn database(&self, site: SiteId) -> String {
        self.files.get(&site).cloned().unwrap_or_else(|| short(site))
    }
}

/// Who writes under which site id, as the log tells: the last author named.
pub(crate) fn authors(store: &Store) -> Result<BTreeMap<SiteId, String>> {
    Ok(store.authors()?)
}

/// The first digits of a site id: enough to tell two apart.
pub(crate) fn short(site: SiteId) -> String {
    site.to_string().chars().take(8).collect()
}

/// The names of two files without their folders, unless only the folders tell them apart.
fn file_names(a: &Path, b: &Path) -> [String; 2] {
    let is_enough = a.file_name() != b.file_name();
    [a, b].map(|path| match path.file_name() {
        Some(name) if is_enough => Path::new(name).display().to_string(),
        _ => path.display().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_shortest_names_that_differ() {
        for (a, b, expected) in [
            ("a.db", "b.db", ["a.db", "b.db"]),
            ("x/a.db", "/y/b.db", ["a.db", "b.db"]),
            ("x/a.db", "y/a.db", ["x/a.db", "y/a.db"]),
        ] {
            assert_eq!(file_names(Path::new(a), Path::new(b)), expected);
        }
    }
}
