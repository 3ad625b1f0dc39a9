//! `ana_digest`: equal copies, equal hash.
