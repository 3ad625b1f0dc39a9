//! The wall clock, read in one place and handed in from outside: tests have their own.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in Unix milliseconds.
pub type Clock = Rc<dyn Fn() -> u64>;

/// The clock of this machine. A clock set before 1970 tells 0.
#[must_use]
pub fn system() -> Clock {
    Rc::new(|| {
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    })
}
