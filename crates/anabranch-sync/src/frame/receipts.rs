//! Receipts: how far named changes got.
//!
//! ```text
//! turn (1)
//!   0 asks:   n | (site | version)*
//!   1 tells:  n | (site | version | n | place*)*
//! place: site (bytes) | role (1: 0 peer, 1 relay) | reach (1: 0 held, 1 shown)
//! ```

use anabranch_core::site::SiteId;
use anabranch_core::vector::Dot;

use super::codec::{Reader, put_dot, put_dots, put_site, put_varint};
use super::{FrameError, Role};
use crate::limits::{MAX_FRAME_DOTS, MAX_PLACES};

/// A question about changes, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// Where are these?
    Ask(Vec<Dot>),
    /// These are there, as far as the sender knows.
    Tell(Vec<Receipt>),
}

/// How far one change is known to have got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which change.
    pub change: Dot,
    /// Who has it on disk, at most [`MAX_PLACES`] of them.
    pub places: Vec<Place>,
}

/// A copy that has a change on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which copy.
    pub site: SiteId,
    /// What it is.
    pub role: Role,
    /// How far the change got there.
    pub reach: Reach,
}

/// How far a change got in one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Stored and forwarded, not visible.
    Held,
    /// Visible.
    Shown,
}

impl Receipts {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Receipts::Ask(dots) => {
                assert!(dots.len() <= MAX_FRAME_DOTS);
                out.push(0);
                put_dots(out, dots);
            }
            Receipts::Tell(receipts) => {
                assert!(receipts.len() <= MAX_FRAME_DOTS);
                out.push(1);
                put_varint(out, receipts.len() as u64);
                receipts.iter().for_each(|receipt| receipt.put(out));
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Receipts, FrameError> {
        if !reader.flag("turn")? {
            return Ok(Receipts::Ask(reader.dots("changes", MAX_FRAME_DOTS)?));
        }
        let n = reader.count("receipts", MAX_FRAME_DOTS, 4)?;
        let receipts = (0..n).map(|_| Receipt::read(reader)).collect::<Result<_, _>>()?;
        Ok(Receipts::Tell(receipts))
    }
}

impl Receipt {
    fn put(&self, out: &mut Vec<u8>) {
        assert!(self.places.len() <= MAX_PLACES);
        put_dot(out, self.change);
        put_varint(out, self.places.len() as u64);
        for place in &self.places {
            put_site(out, place.site);
            out.push(u8::from(place.role == Role::Relay));
            out.push(u8::from(place.reach == Reach::Shown));
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Receipt, FrameError> {
        let change = reader.dot()?;
        let n = reader.count("places", MAX_PLACES, 4)?;
        let places = (0..n).map(|_| Place::read(reader)).collect::<Result<_, _>>()?;
        Ok(Receipt { change, places })
    }
}

impl Place {
    fn read(reader: &mut Reader<'_>) -> Result<Place, FrameError> {
        Ok(Place {
            site: reader.site()?,
            role: if reader.flag("role")? { Role::Relay } else { Role::Peer },
            reach: if reader.flag("reach")? { Reach::Shown } else { Reach::Held },
        })
    }
}
