//! Notices that a database file was copied: a changed (host id, inode, birth time) makes
//! the next write take a new site id, so that both copies may go on and merge.
