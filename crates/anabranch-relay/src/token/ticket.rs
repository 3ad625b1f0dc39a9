//! One-time tickets: what a browser puts into the address of a WebSocket, where a token
//! would end up in logs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use data_encoding::BASE64URL_NOPAD;

use super::{Grant, KeyError};
use crate::limits::{MAX_SUBJECT_TICKETS, MAX_TICKETS, TICKET_LIFE_S};

/// Tickets that nobody used yet.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    open: Mutex<HashMap<String, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    grant: Grant,
    expires_s: u64,
}

impl Tickets {
    /// Makes a ticket worth `grant` once, for [`TICKET_LIFE_S`]; `None` if too many are open.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub(crate) fn make(&self, grant: Grant, now_s: u64) -> Result<Option<String>, KeyError> {
        let mut name = [0; 18];
        getrandom::fill(&mut name).map_err(|_| KeyError::Random)?;
        let name = BASE64URL_NOPAD.encode(&name);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_TICKETS {
            open.retain(|_, ticket| ticket.expires_s > now_s);
        }
        if open.len() >= MAX_TICKETS {
            return Ok(None);
        }
        let is_own = |ticket: &&Ticket| ticket.grant.subject == grant.subject;
        let is_open = |ticket: &&Ticket| ticket.expires_s > now_s;
        if open.values().filter(is_own).filter(is_open).count() >= MAX_SUBJECT_TICKETS {
            return Ok(None);
        }
        open.insert(name.clone(), Ticket { grant, expires_s: now_s + TICKET_LIFE_S });
        Ok(Some(name))
    }

    /// Uses a ticket up.
    pub(crate) fn redeem(&self, name: &str, now_s: u64) -> Option<Grant> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = open.remove(name)?;
        (ticket.expires_s > now_s).then_some(ticket.grant)
    }
}
