//! Connections that have shown no valid token yet, counted by address: whoever opens many and
//! says nothing takes no place from others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// How many wait, by address.
#[derive(Debug, Default)]
pub(crate) struct Doorstep(Mutex<HashMap<IpAddr, u64>>);

/// One that waits, until it is admitted or dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    doorstep: Arc<Doorstep>,
    /// `None`: it was admitted.
    address: Mutex<Option<IpAddr>>,
}

impl Doorstep {
    /// One more of this address; `None` if `limit` of them wait already.
    pub(crate) fn enter(self: &Arc<Doorstep>, address: IpAddr, limit: u64) -> Option<Waiting> {
        let address = household(address);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = waiting.entry(address).or_default();
        if *n >= limit {
            return None;
        }
        *n += 1;
        Some(Waiting { doorstep: Arc::clone(self), address: Mutex::new(Some(address)) })
    }

    fn leave(&self, address: IpAddr) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = waiting.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                waiting.remove(&address);
            }
        }
    }
}

impl Waiting {
    /// It has shown a valid token, and counts no more.
    pub(crate) fn admit(&self) {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(address) = address {
            self.doorstep.leave(address);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.admit();
    }
}

/// What one party has: an address, or in IPv6 a network of 64 bits (RFC 6177).
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_places() {
        let doorstep = Arc::new(Doorstep::default());
        let enter = |address: &str| doorstep.enter(address.parse().unwrap(), 2);
        let mut first: Vec<Waiting> = (0..2).filter_map(|_| enter("10.0.0.1")).collect();
        assert_eq!(first.len(), 2);
        assert!(enter("10.0.0.1").is_none() && enter("::ffff:10.0.0.1").is_none());
        let other: Vec<Waiting> = ["10.0.0.2", "2001:db8:0:1::1", "2001:db8:0:1:ffff::"]
            .into_iter()
            .filter_map(enter)
            .collect();
        assert_eq!(other.len(), 3);
        assert!(enter("2001:db8:0:1::3").is_none());
        assert!(enter("2001:db8:0:2::3").is_some());
        // Who is admitted or leaves makes room, once.
        first[0].admit();
        let third = enter("10.0.0.1");
        assert!(third.is_some() && enter("10.0.0.1").is_none());
        first.clear();
        assert!(enter("10.0.0.1").is_some());
        drop((third, other));
        assert!(doorstep.0.lock().unwrap().is_empty());
    }
}
