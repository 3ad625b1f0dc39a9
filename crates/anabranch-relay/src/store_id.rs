//! The name of a store: what a path, a token's `aud` and a frame call it.

/// 1 to 128 letters, digits, `-`, `_`, `.` or `~` (RFC 3986's unreserved characters), not
/// beginning with a dot: one segment of a path whatever a proxy does to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoreId(std::sync::Arc<str>);

impl StoreId {
    /// Takes a name; `None` if it is none.
    pub(crate) fn new(name: &str) -> Option<StoreId> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        let is_name = (1..=128).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(is_allowed);
        is_name.then(|| StoreId(name.into()))
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
