//! Sync from outside: copies in memory, directories that misbehave.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod copy;
mod directory;
mod relay;
