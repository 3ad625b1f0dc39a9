//! Times of changes, milliseconds since 1970 (UTC), as text.

use anabranch::Store;

use crate::failure::Result;

/// `2026-11-25T18:30:12.345Z`, for programs.
pub(crate) fn iso(store: &Store, time_ms: u64) -> Result<String> {
    text(store, "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', ?1 / 1000.0, 'unixepoch')", time_ms)
}

/// `2026-11-25 18:30`, in the time zone of whoever looks.
pub(crate) fn local(store: &Store, time_ms: u64) -> Result<String> {
    text(store, "SELECT strftime('%Y-%m-%d %H:%M', ?1 / 1000.0, 'unixepoch', 'localtime')", time_ms)
}

/// A time too far away for SQLite's calendar is told in milliseconds.
fn text(store: &Store, sql: &str, time_ms: u64) -> Result<String> {
    let at = i64::try_from(time_ms).unwrap_or(i64::MAX);
    let text: Option<String> =
        store.sql().prepare_cached(sql)?.query_row([at], |row| row.get(0))?;
    Ok(text.unwrap_or_else(|| format!("{time_ms} ms")))
}

/// The clock of this machine, as changes have it.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| age.as_millis() as u64)
}

/// `18:30:12`, in the time zone of whoever looks.
pub(crate) fn clock(store: &Store, time_ms: u64) -> Result<String> {
    text(store, "SELECT strftime('%H:%M:%S', ?1 / 1000.0, 'unixepoch', 'localtime')", time_ms)
}
