//! Getting to know each other: Hello both ways, then what each end holds.
//!
//! The store is opened only for a token that the driver found good, and a Have is taken at any
//! time later too: it replaces what was said before.

use anabranch_core::limits::MAX_SITES;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use bytes::Bytes;

use super::door::{Door, End, Phase};
use super::{Channel, ChannelId, Fault, Outputs, fault};
use crate::driver::{Event, Request, Verdict};
use crate::frame::{
    Ack, Capabilities, Closes, ErrorCode, Frame, Have, Hello, Role, StoreName, Turn,
};
use crate::limits::{
    HANDSHAKE_MS, MAX_FRAME_DOTS, MAX_FRAME_ENTRIES, MAX_QUESTIONS, RENEW_TOKEN_MS,
};
use crate::scope::{Action, Scopes};
use crate::session::{Side, Time};
use crate::ticket::{Ticket, difference};

impl Channel {
    /// Opens a channel from this side; says Hello.
    pub(crate) fn open(
        now: Time,
        id: ChannelId,
        me: End,
        store: StoreName,
        token: Bytes,
        ticket: Option<Ticket>,
        out: &mut Outputs,
    ) -> Channel {
        let mut channel = Channel::new(id, Side::Opens, Phase::Greeting, me, store.clone());
        channel.door.deadline = Some(now.after(HANDSHAKE_MS));
        let shown = ticket.as_ref().map_or(Bytes::new(), |ticket| ticket.bytes.clone());
        channel.door.ticket = ticket;
        let hello = channel.hello(Turn::Open { token, ticket: shown });
        channel.outbox.push(hello);
        out.request(Request::Open { channel: id, store, ticket: Bytes::new() });
        channel
    }

    /// A peer has said Hello; its token is to be looked at.
    pub(crate) fn accept(
        now: Time,
        id: ChannelId,
        me: (Role, Capabilities),
        hello: Hello,
        out: &mut Outputs,
    ) -> Channel {
        let Hello { capabilities, role, site, ref store, ref turn } = hello;
        // Its own site is known when the store is open; until then nothing is said.
        let end = End { site, role: me.0, capabilities: me.1 };
        let mut channel = Channel::new(id, Side::Accepts, Phase::Verifying, end, store.clone());
        channel.door.deadline = Some(now.after(HANDSHAKE_MS));
        channel.door.peer = Some(End { site, role, capabilities });
        if let Turn::Open { ticket, .. } = turn {
            channel.door.shown_ticket = ticket.clone();
        }
        out.request(Request::Verify { channel: id, hello, is_renewal: false });
        channel
    }

    fn new(id: ChannelId, side: Side, phase: Phase, me: End, store: StoreName) -> Channel {
        let door = Door {
            side,
            phase,
            store,
            me,
            peer: None,
            grants: Scopes::NONE,
            ends: None,
            renew_at: None,
            is_renewing: false,
            deadline: None,
            ticket: None,
            shown_ticket: Bytes::new(),
            is_store_open: false,
        };
        Channel {
            id,
            door,
            hearing: Default::default(),
            books: Default::default(),
            sender: Default::default(),
            intake: Default::default(),
            forks: Default::default(),
            blobs: Default::default(),
            crowd: Default::default(),
            tickets: Default::default(),
            questions: Default::default(),
            outbox: Default::default(),
            partials: Vec::new(),
            is_converged: false,
            is_ready: false,
        }
    }

    pub(crate) fn handle_token(
        &mut self,
        now: Time,
        verdict: Verdict,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if self.door.side == Side::Opens {
            return Ok(());
        }
        let (scopes, ends) = match verdict {
            Verdict::Granted { scopes, ends } => (scopes, ends),
            Verdict::Refused(refusal) => return Err(Box::new(refusal.frame(Closes::Channel))),
        };
        self.door.grants = scopes;
        self.door.ends = ends;
        let peer = self.door.peer.map(|peer| peer.role);
        if peer == Some(Role::Relay) && !self.door.may_receive(Action::HelloAsRelay) {
            return Err(fault(ErrorCode::Forbidden, "Hello as relay needs the scope admin"));
        }
        if self.door.phase == Phase::Verifying {
            self.door.phase = Phase::OpeningStore;
            let (store, ticket) = (self.door.store.clone(), self.door.shown_ticket.clone());
            out.request(Request::Open { channel: self.id, store, ticket });
        } else if self.door.phase == Phase::Live && std::mem::take(&mut self.door.is_renewing) {
            let answer = self.answer(now, false);
            self.say_answer(answer)?;
        }
        self.advance(now, out);
        Ok(())
    }

    /// The peer's next step may be on its way: gives it as long as from the beginning.
    pub(crate) fn wait_on(&mut self, now: Time) {
        self.door.deadline = self.door.deadline.map(|_| now.after(HANDSHAKE_MS));
    }

    fn answer(&self, now: Time, is_resumed: bool) -> Frame {
        let expires_in_ms = self.door.ends.map_or(0, |at| at.since(now).max(1));
        self.hello(Turn::Answer { grants: self.door.grants, expires_in_ms, is_resumed })
    }

    pub(super) fn handle_hello(
        &mut self,
        now: Time,
        hello: Hello,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let known = self.door.peer.map(|peer| (peer.site, peer.role));
        if hello.store != self.door.store {
            return Err(fault(ErrorCode::Unexpected, "Hello: this channel is of another store"));
        }
        if known.is_some_and(|known| known != (hello.site, hello.role)) {
            return Err(fault(ErrorCode::Unexpected, "Hello: the peer is another than before"));
        }
        match (self.door.side, &hello.turn) {
            (Side::Accepts, Turn::Open { .. }) => {
                if std::mem::replace(&mut self.door.is_renewing, true) {
                    return Err(fault(ErrorCode::RateLimited, "Hello: one token at a time"));
                }
                out.request(Request::Verify { channel: self.id, hello, is_renewal: true });
                Ok(())
            }
            (Side::Opens, Turn::Answer { grants, expires_in_ms, is_resumed }) => {
                self.door.grants = *grants;
                let ends_in = Some(*expires_in_ms).filter(|ms| *ms > 0);
                let before = |ms: u64| now.after(ms - RENEW_TOKEN_MS.min(ms / 2));
                self.door.renew_at = ends_in.map(before);
                if self.door.phase == Phase::Greeting {
                    self.door.peer = Some(End {
                        site: hello.site,
                        role: hello.role,
                        capabilities: hello.capabilities,
                    });
                    let ticket = self.door.ticket.take().filter(|_| *is_resumed);
                    self.hearing.basis = ticket.map(|ticket| ticket.basis);
                    self.door.phase = Phase::OpeningStore;
                    self.start(now, out);
                }
                Ok(())
            }
            _ => Err(fault(ErrorCode::Unexpected, "Hello: both ends opened, or both answered")),
        }
    }

    /// Goes live once the other end and the own store are there.
    pub(super) fn start(&mut self, now: Time, out: &mut Outputs) {
        let Some(peer) = self.door.peer.filter(|_| self.door.is_store_open) else { return };
        if self.door.phase != Phase::OpeningStore {
            return;
        }
        self.door.phase = Phase::Live;
        let (site, role, grants) = (peer.site, peer.role, self.door.grants);
        out.event(Event::Opened { channel: self.id, site, role, grants });
        if self.door.side == Side::Accepts {
            let answer = self.answer(now, self.hearing.basis.is_some());
            self.outbox.push(answer);
        }
        // What is held is said before what covers it.
        while self.intake.has_dots() && self.door.may_send(Action::Ack) {
            let (held, shown) = self.intake.take_dots(MAX_FRAME_DOTS);
            self.outbox.push(Frame::Ack(Ack { held, shown, ..Ack::default() }));
        }
        self.say_have();
        if self.hearing.has_heard {
            self.door.deadline = None;
            self.compare(now, out);
        }
    }

    pub(super) fn handle_have(
        &mut self,
        now: Time,
        have: Have,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let Some(vector) = self.hear_have(&have)? else { return Ok(()) };
        if self.forks.n_reading >= MAX_QUESTIONS {
            return Err(fault(ErrorCode::RateLimited, "Have: too many at once"));
        }
        self.hearing.has_heard = true;
        self.intake.is_void = false;
        self.books.heard_have(vector);
        self.outbox.drop_deltas();
        self.sender.restart(have.partials, self.id, out);
        if self.door.phase == Phase::Live {
            self.door.deadline = None;
            self.compare(now, out);
        }
        Ok(())
    }

    pub(super) fn hello(&self, turn: Turn) -> Frame {
        let End { site, role, capabilities } = self.door.me;
        Frame::Hello(Hello { capabilities, role, site, store: self.door.store.clone(), turn })
    }

    /// Says what this end holds; the first time on top of the ticket, if one was taken.
    pub(super) fn say_have(&mut self) {
        let basis = self.hearing.basis.as_ref().filter(|_| !self.hearing.has_said);
        let is_on_ticket = basis.is_some();
        let entries = match basis {
            Some(basis) => difference(&basis.mine, self.books.on_disk()),
            None => self.books.on_disk().iter().collect(),
        };
        let mut rest = entries.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_FRAME_ENTRIES));
            let has_more = !later.is_empty();
            let partials = if has_more { Vec::new() } else { std::mem::take(&mut self.partials) };
            let entries = now.to_vec();
            let branch =
                |(site, _): &(SiteId, Held)| Some((*site, self.books.on_disk().branch(*site)?));
            let branches = entries.iter().filter_map(branch).collect();
            let have = Have { has_more, is_on_ticket, entries, branches, partials };
            self.outbox.push(Frame::Have(have));
            rest = later;
            if !has_more {
                break;
            }
        }
        self.books.said_have();
        self.hearing.has_said = true;
    }

    /// Notes a Have; `Some` is the whole vector once the last frame of it came.
    fn hear_have(&mut self, have: &Have) -> Result<Option<VersionVector>, Fault> {
        let (mut vector, last) = match self.hearing.under_way.take() {
            Some(under_way) => under_way,
            None if !have.is_on_ticket => (VersionVector::new(), None),
            None => match &self.hearing.basis {
                Some(basis) if !self.hearing.has_heard => (basis.theirs.clone(), None),
                _ => return Err(fault(ErrorCode::Unexpected, "Have: no ticket was taken")),
            },
        };
        let first = have.entries.first().map(|entry| entry.0);
        if last.is_some() && first <= last {
            return Err(fault(ErrorCode::Malformed, "Have: sites out of order"));
        }
        have.entries.iter().for_each(|(site, held)| vector.set(*site, *held));
        have.branches.iter().for_each(|(site, branch)| vector.set_branch(*site, *branch));
        if vector.len() > MAX_SITES {
            return Err(fault(ErrorCode::OverLimit, "Have: too many sites"));
        }
        if have.has_more {
            let last = have.entries.last().map(|entry| entry.0);
            self.hearing.under_way = Some((vector, last));
            return Ok(None);
        }
        Ok(Some(vector))
    }
}
