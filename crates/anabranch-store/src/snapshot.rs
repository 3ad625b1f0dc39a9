//! Reading on one state of the file, whatever other connections commit meanwhile.

use crate::atomic::{Bracket, atomically};
use crate::context::Context;
use crate::error::Result;

/// Runs `f`, which reads, inside a transaction: the host's, or one of its own.
///
/// A host statement that writes in autocommit holds one already.
pub(crate) fn read<T>(cx: &Context, f: impl FnOnce() -> Result<T>) -> Result<T> {
    if !cx.db.is_autocommit() || cx.db.is_writing() {
        cx.refresh()?;
        return f();
    }
    atomically(&cx.db, Bracket::Reading, || {
        // Nobody of this connection altered anything in a transaction that is this young.
        cx.is_followed.set(true);
        let refreshed = cx.refresh();
        cx.is_followed.set(false);
        refreshed?;
        f()
    })
}
