//! Giving changes of this copy another time, because its clock ran ahead when it made them and
//! nobody takes them before it is that late (`changes.md`, 10).
//!
//! A change's name and chain say nothing of its time, so a change that nobody has seen can be
//! retimed where it stands. Of changes that somebody has seen each copy must tell the same.

use anabranch_core::clock::Hlc;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;

use super::Metadata;
use super::header::{self, StoredHeader};
use crate::error::{Result, StoreError};
use crate::ids::{AuthorId, EntryId};

/// What was retimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retimed {
    pub(crate) n_changes: u64,
    /// Versions, the last included.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How far the latest was ahead, in milliseconds.
    pub(crate) ahead_ms: u64,
}

/// A header that is ahead, where it stands.
struct Ahead {
    id: EntryId,
    dbv: u64,
    header: StoredHeader,
}

impl Metadata {
    /// Retimes this copy's changes that are ahead of `now_ms`, in their order, from there on.
    /// `acknowledged`: what peers have, each by its name.
    ///
    /// # Errors
    /// Somebody has seen one of them.
    pub(crate) fn retime(
        &mut self,
        now_ms: u64,
        acknowledged: &[(String, VersionVector)],
        is_dry: bool,
    ) -> Result<Retimed> {
        self.ensure()?;
        let (ahead, mut latest) = self.find_ahead(now_ms)?;
        let (Some(first), Some(last)) = (ahead.first(), ahead.last()) else {
            return Ok(Retimed::default());
        };
        let retimed = Retimed {
            n_changes: ahead.len() as u64,
            first: first.header.version,
            last: last.header.version,
            ahead_ms: ahead
                .iter()
                .map(|ahead| ahead.header.time.millis().saturating_sub(now_ms))
                .max()
                .unwrap_or(0),
        };
        if self.log.formers.has_any_at(first.id) {
            // Written under a name that was shared: what stands there is not this name's.
            return Err(seen(retimed.first, "who shared this copy's former name"));
        }
        self.refuse_seen(retimed.first, acknowledged)?;
        if is_dry {
            return Ok(retimed);
        }
        self.or_stale(|this| {
            this.fold_tail()?;
            for (counter, Ahead { id, dbv, mut header }) in (0..).zip(ahead) {
                header.time = Hlc((now_ms << 16) + counter);
                latest = latest.max(header.time);
                this.log.set_head(id, &header::encode(&header, Some(dbv)))?;
            }
            // What is written next begins from here, not where the clock had been.
            this.state.time = latest;
            this.set_meta("time", latest.0)?;
            this.note_forgotten()?;
            Ok(retimed)
        })
    }

    /// This copy's changes that are ahead, and the latest time of all others.
    fn find_ahead(&mut self, now_ms: u64) -> Result<(Vec<Ahead>, Hlc)> {
        let (mut ahead, mut latest) = (Vec::new(), Hlc(0));
        self.log.heads(EntryId(1), |head| {
            let header = head.header()?;
            if header.author == AuthorId(0) && header.time.millis() > now_ms {
                let (id, dbv) = head.row();
                ahead.push(Ahead { id, dbv, header });
            } else {
                latest = latest.max(header.time);
            }
            Ok(true)
        })?;
        Ok((ahead, latest))
    }

    fn refuse_seen(&mut self, first: u64, acknowledged: &[(String, VersionVector)]) -> Result<()> {
        let own = self.own_site();
        for (peer, held) in acknowledged {
            if held.version(own) >= first {
                return Err(seen(first, peer));
            }
        }
        let others: Vec<(AuthorId, SiteId)> =
            self.state.others.iter().map(|(author, other)| (*author, other.site)).collect();
        for (author, site) in others {
            let context = self.context_of(author)?;
            if context.get(&AuthorId(0)).is_some_and(|version| *version >= first) {
                return Err(seen(first, &format!("site {site}")));
            }
        }
        Ok(())
    }
}

fn seen(version: u64, who: &str) -> StoreError {
    StoreError::Refused(format!(
        "ana_repair: change {version} of this copy is ahead of the clock, and {who} has it \
         already; it is taken everywhere once it is that late"
    ))
}
