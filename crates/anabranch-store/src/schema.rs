//! Our own tables in the file, and whether this version can read them.
