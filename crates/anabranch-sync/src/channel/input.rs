//! What comes in on a channel: frames, the store's answers, the driver's word on tokens,
//! commands.

use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::vector::VersionVector;
use bytes::Bytes;

use super::door::{Door, End, Phase};
use super::{Channel, Fault, Outputs, fault};
use crate::channel::ChannelId;
use crate::driver::{Event, Question, Refusal, Request, StoreEvent, Verdict};
use crate::frame::{
    About, Ack, BlobId, Capabilities, Chains, Closes, ErrorCode, ErrorFrame, Frame, Have, Hello,
    Participant, Presence, Receipt, Receipts, Resume, Retry, Role, Turn,
};
use crate::limits::{HANDSHAKE_MS, MAX_FRAME_DOTS, MAX_QUESTIONS, RENEW_TOKEN_MS};
use crate::scope::{Action, Scopes};
use crate::session::{Side, Time};
use crate::ticket::Ticket;

/// What a frame does, as far as rights are concerned.
fn action_of(frame: &Frame) -> Action {
    match frame {
        Frame::Hello(Hello { role: Role::Peer, .. }) => Action::Hello,
        Frame::Hello(Hello { role: Role::Relay, .. }) => Action::HelloAsRelay,
        Frame::Have(_) => Action::Have,
        Frame::Delta(_) => Action::Delta,
        Frame::Ack(_) => Action::Ack,
        Frame::Chains(_) => Action::Chains,
        Frame::BlobWant(_) => Action::BlobWant,
        Frame::BlobChunk(_) => Action::BlobChunk,
        Frame::Error(_) => Action::Error,
        Frame::Resume(_) => Action::Resume,
        Frame::Presence(_) => Action::Presence,
        Frame::Receipts(Receipts::Ask(_)) => Action::AskReceipts,
        Frame::Receipts(Receipts::Tell(_)) => Action::TellReceipts,
    }
}

/// The handshake.
impl Channel {
    /// Opens a channel from this side; says Hello.
    pub(crate) fn open(
        now: Time,
        id: ChannelId,
        me: End,
        store: crate::frame::StoreName,
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

    fn new(
        id: ChannelId,
        side: Side,
        phase: Phase,
        me: End,
        store: crate::frame::StoreName,
    ) -> Channel {
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
            self.outbox.push(answer);
        }
        self.advance(now, out);
        Ok(())
    }

    fn answer(&self, now: Time, is_resumed: bool) -> Frame {
        let expires_in_ms = self.door.ends.map_or(0, |at| at.since(now).max(1));
        self.hello(Turn::Answer { grants: self.door.grants, expires_in_ms, is_resumed })
    }

    fn handle_hello(&mut self, now: Time, hello: Hello, out: &mut Outputs) -> Result<(), Fault> {
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
    fn start(&mut self, now: Time, out: &mut Outputs) {
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
        self.say_have();
        if self.hearing.has_heard {
            self.door.deadline = None;
            self.compare(now, out);
        }
    }

    fn handle_have(&mut self, now: Time, have: Have, out: &mut Outputs) -> Result<(), Fault> {
        let Some(vector) = self.hear_have(&have)? else { return Ok(()) };
        if self.forks.n_comparing >= MAX_QUESTIONS {
            return Err(fault(ErrorCode::RateLimited, "Have: too many at once"));
        }
        out.event(Event::PeerHas { channel: self.id, vector: vector.clone() });
        self.hearing.has_heard = true;
        self.books.heard_have(vector);
        self.outbox.drop_deltas();
        self.sender.restart(have.partials, self.id, out);
        if self.door.phase == Phase::Live {
            self.door.deadline = None;
            self.compare(now, out);
        }
        Ok(())
    }
}

/// Frames.
impl Channel {
    pub(crate) fn handle_frame(
        &mut self,
        now: Time,
        frame: Frame,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if let Frame::Error(error) = frame {
            return self.handle_error(now, error, out);
        }
        let is_hello = matches!(frame, Frame::Hello(_));
        let is_early = match (self.door.side, self.door.phase) {
            (_, Phase::Live) => false,
            (Side::Accepts, _) => return Err(fault(ErrorCode::Unauthorized, "not yet: Hello")),
            (Side::Opens, Phase::Greeting) => !is_hello,
            (Side::Opens, _) => !matches!(frame, Frame::Hello(_) | Frame::Have(_)),
        };
        if is_early {
            return Err(fault(ErrorCode::Unexpected, "a frame before the handshake has ended"));
        }
        let action = action_of(&frame);
        if !is_hello && !self.door.may_receive(action) {
            return self.forbid(action);
        }
        match frame {
            Frame::Hello(hello) => self.handle_hello(now, hello, out)?,
            Frame::Have(have) => self.handle_have(now, have, out)?,
            Frame::Delta(part) => self.intake.take(part, self.id, out),
            Frame::Ack(ack) => self.handle_ack(ack, out)?,
            Frame::Chains(chains) => self.handle_chains(chains, out)?,
            Frame::BlobWant(want) => {
                if !self.blobs.serve(want) {
                    return Err(fault(ErrorCode::OverLimit, "BlobWant: too many chunks at once"));
                }
            }
            Frame::BlobChunk(chunk) => self.blobs.came(chunk, self.id, out),
            Frame::Resume(resume) => self.handle_resume(resume, out),
            Frame::Presence(presence) => self.handle_presence(now, presence, out)?,
            Frame::Receipts(receipts) => self.handle_receipts(receipts, out)?,
            Frame::Error(_) => {}
        }
        self.advance(now, out);
        Ok(())
    }

    fn forbid(&mut self, action: Action) -> Result<(), Fault> {
        self.say_error(ErrorFrame {
            code: ErrorCode::Forbidden,
            retry: Retry::Never,
            closes: Closes::Nothing,
            about: About::Nothing,
            text: format!("the token does not allow {}", action.name()),
        })
    }

    fn handle_error(
        &mut self,
        now: Time,
        error: ErrorFrame,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if let About::Delta(delta) = error.about
            && self.sender.refused(now, delta, error.retry, self.id, out)
        {
            self.outbox.drop_deltas();
            self.books.lost();
        }
        out.event(Event::PeerRefused { channel: self.id, error });
        self.advance(now, out);
        Ok(())
    }

    fn handle_ack(&mut self, ack: Ack, out: &mut Outputs) -> Result<(), Fault> {
        if !self.books.acked(&ack) {
            return Err(fault(ErrorCode::Unexpected, "Ack: of changes that were not delivered"));
        }
        self.sender.acked(&self.books.theirs, self.id, out);
        out.event(Event::Acked { channel: self.id, ack });
        Ok(())
    }

    fn handle_chains(&mut self, chains: Chains, out: &mut Outputs) -> Result<(), Fault> {
        let channel = self.id;
        match chains {
            Chains::Ask { site, versions } => {
                if self.questions.chains.len() >= MAX_QUESTIONS {
                    return Err(fault(ErrorCode::OverLimit, "Chains: too many questions"));
                }
                let asked = versions.iter().map(|version| (site, *version)).collect();
                self.questions.chains.push_back((site, versions));
                out.request(Request::Chains { channel, question: Question::Peer, asked });
            }
            Chains::Tell { site, chains } => {
                let search = self.forks.search().filter(|search| search.site == site);
                let Some(search) = search else { return Ok(()) };
                match search.tell(&chains) {
                    Some(step) => self.follow(step, out),
                    None => return self.give_up_search(out),
                }
            }
            Chains::Forked { site, common, ours, theirs } => {
                if self.forks.n_splitting >= MAX_QUESTIONS {
                    return Err(fault(ErrorCode::OverLimit, "Chains: too many forks at once"));
                }
                self.forks.forget(site);
                self.forks.n_splitting += 1;
                out.event(Event::Forked { channel, site, common: Some(common) });
                let (ours, theirs) = (theirs, ours);
                out.request(Request::Split { channel, site, common, ours, theirs });
            }
        }
        Ok(())
    }

    fn handle_resume(&mut self, resume: Resume, out: &mut Outputs) {
        if (resume.yours, resume.mine) == self.digests() {
            let basis = crate::ticket::Basis {
                mine: self.books.told.clone(),
                theirs: self.books.theirs.clone(),
            };
            let ticket = Ticket { bytes: resume.ticket, basis };
            out.event(Event::TicketGiven { channel: self.id, ticket });
        }
    }

    fn handle_presence(
        &mut self,
        now: Time,
        presence: Presence,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let is_peer = self.door.peer.is_some_and(|peer| peer.role == Role::Peer);
        if is_peer && presence.from.is_some() {
            return self.forbid(Action::Presence);
        }
        // A relay was let in to speak for many; a peer speaks for itself.
        if is_peer && !self.crowd.rate.take(now) {
            return Ok(());
        }
        if self.crowd.present.note(now, &presence) {
            let Presence { from, state } = presence;
            out.event(Event::Presence { channel: self.id, from, state });
        }
        Ok(())
    }

    fn handle_receipts(&mut self, receipts: Receipts, out: &mut Outputs) -> Result<(), Fault> {
        let channel = self.id;
        match receipts {
            Receipts::Ask(changes) => {
                if self.questions.n_receipts >= MAX_QUESTIONS {
                    return Err(fault(ErrorCode::OverLimit, "Receipts: too many questions"));
                }
                self.questions.n_receipts += 1;
                out.request(Request::Receipts { channel, changes });
            }
            Receipts::Tell(receipts) => out.event(Event::Receipts { channel, receipts }),
        }
        Ok(())
    }
}

/// The store.
impl Channel {
    pub(crate) fn handle_store_event(
        &mut self,
        now: Time,
        event: StoreEvent,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let id = self.id;
        let (books, outbox) = (&mut self.books, &mut self.outbox);
        match event {
            StoreEvent::Opened { site, vector, partials, resumed } => {
                if self.door.is_store_open {
                    return Ok(());
                }
                self.door.is_store_open = true;
                books.open(&vector);
                self.partials = partials;
                self.partials.truncate(crate::limits::MAX_PARTIALS);
                if self.door.side == Side::Accepts {
                    self.door.me.site = site;
                    let was_shown = !self.door.shown_ticket.is_empty();
                    self.hearing.basis = resumed.filter(|_| was_shown);
                }
                self.start(now, out);
            }
            StoreEvent::OpenFailed(refusal) => {
                return Err(Box::new(refusal.frame(Closes::Channel)));
            }
            StoreEvent::Committed { from, to, part } => {
                if !self.door.is_store_open {
                    return Ok(());
                }
                self.committed(from, to, part, out);
            }
            StoreEvent::Exported { part, to } => {
                self.sender.exported(part, to, books, outbox, id, out);
            }
            StoreEvent::NothingAbove => self.sender.nothing_above(),
            StoreEvent::ExportFailed(refusal) => self.sender.export_failed(now, refusal.retry),
            StoreEvent::Part(part) => self.sender.part(part, books, outbox),
            StoreEvent::Staged { delta } => drop(self.intake.answered(delta)),
            StoreEvent::Applied { delta, to, held } => {
                if self.intake.answered(delta) {
                    books.took(&to);
                    self.sender.wake();
                    self.intake.note_held(held);
                }
            }
            StoreEvent::Refused { delta, refusal } => self.refuse(delta, refusal, out)?,
            StoreEvent::Durable { replicas, vector } => books.safe(replicas, vector),
            StoreEvent::Shown(changes) => self.intake.note_shown(changes),
            StoreEvent::Chains { question, chains } => {
                self.answer_chains(question, &chains, out)?
            }
            StoreEvent::Replaced { vector } => self.replace(now, &vector, out),
            StoreEvent::ForkRefused(refusal) => {
                self.say_error(refusal.frame(Closes::Nothing))?;
            }
            StoreEvent::Chunk { blob, chunk } => self.blobs.read(blob, chunk, outbox),
            StoreEvent::ChunkStored { blob, index, refusal } => {
                self.blobs.stored(blob, index, refusal, id, out);
            }
            StoreEvent::Ticket(ticket) => self.give_ticket(ticket),
            StoreEvent::Receipts(receipts) => self.answer_receipts(receipts)?,
        }
        self.advance(now, out);
        Ok(())
    }

    fn committed(
        &mut self,
        from: Arc<VersionVector>,
        to: Arc<VersionVector>,
        part: Option<crate::frame::Delta>,
        out: &mut Outputs,
    ) {
        // Before it is counted as ours, since it may be on its way then at once.
        if let Some(part) = part
            && self.hearing.has_said
            && self.hearing.has_heard
            && self.may_send_deltas()
            && !self.books.is_behind()
            && out.has_room(self.id)
        {
            self.sender.live(&from, &to, part, &mut self.books, &mut self.outbox);
        }
        self.books.grew(&to);
        self.sender.wake();
    }

    fn refuse(
        &mut self,
        delta: crate::frame::DeltaName,
        refusal: Refusal,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        if !self.intake.answered(delta) || !self.intake.refuse(delta) {
            return Ok(());
        }
        let is_missing = refusal.code == ErrorCode::Missing;
        out.event(Event::RefusedDelta { channel: self.id, delta, refusal: refusal.clone() });
        let mut error = refusal.frame(Closes::Nothing);
        error.about = About::Delta(delta);
        self.say_error(error)?;
        if is_missing {
            self.say_have();
        }
        Ok(())
    }

    fn answer_chains(
        &mut self,
        question: Question,
        chains: &[Option<Chain>],
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        match question {
            Question::Compare => {
                self.forks.n_comparing = self.forks.n_comparing.saturating_sub(1);
                if self.forks.n_comparing == 0 {
                    let searches = self.door.side == Side::Opens;
                    self.forks.compared(chains, &self.books.mine, searches);
                }
                Ok(())
            }
            Question::Bisect => {
                let Some(search) = self.forks.search() else { return Ok(()) };
                match search.narrow(chains) {
                    Some(step) => self.follow(step, out),
                    None => return self.give_up_search(out),
                }
                Ok(())
            }
            Question::Peer => {
                let Some((site, versions)) = self.questions.chains.pop_front() else {
                    return Ok(());
                };
                let known = chains.iter().copied().chain(std::iter::repeat(None));
                let chains = versions.into_iter().zip(known).collect();
                self.say_answer(Frame::Chains(Chains::Tell { site, chains }))
            }
        }
    }

    fn replace(&mut self, now: Time, vector: &Arc<VersionVector>, out: &mut Outputs) {
        if !self.door.is_store_open {
            return;
        }
        self.books.open(vector);
        self.sender.unstall();
        self.sender.wake();
        if self.door.phase == Phase::Live {
            self.say_have();
            if self.hearing.has_heard {
                self.compare(now, out);
            }
        }
    }

    fn give_ticket(&mut self, ticket: Option<Bytes>) {
        let Some(asked) = self.tickets.asked.take() else { return };
        let is_sound = |ticket: &Bytes| {
            (1..=crate::limits::MAX_TICKET_BYTES).contains(&ticket.len()) && self.is_basis(&asked)
        };
        if let Some(ticket) = ticket.filter(is_sound) {
            let (mine, yours) = self.digests();
            self.outbox.push(Frame::Resume(Resume { ticket, yours, mine }));
        }
    }

    fn answer_receipts(&mut self, receipts: Vec<Receipt>) -> Result<(), Fault> {
        let Some(n) = self.questions.n_receipts.checked_sub(1) else { return Ok(()) };
        self.questions.n_receipts = n;
        self.tell_receipts(receipts)
    }
}

/// Commands.
impl Channel {
    /// Shows a new token, in place.
    pub(crate) fn renew_token(&mut self, token: Bytes) {
        if self.door.side == Side::Opens && self.door.phase == Phase::Live {
            let hello = self.hello(Turn::Open { token, ticket: Bytes::new() });
            self.outbox.push(hello);
        }
    }

    /// Sends again what the peer had refused.
    pub(crate) fn retry(&mut self, now: Time, out: &mut Outputs) {
        self.sender.unstall();
        self.advance(now, out);
    }

    pub(crate) fn want_blob(
        &mut self,
        now: Time,
        blob: BlobId,
        first: u64,
        out: &mut Outputs,
    ) -> bool {
        let is_wanted = self.blobs.want(blob, first);
        self.advance(now, out);
        is_wanted
    }

    pub(crate) fn set_presence(&mut self, state: Option<Bytes>) {
        self.crowd.shown.set_own(state);
    }

    pub(crate) fn pass_presence(&mut self, who: Participant, state: Option<Bytes>) -> bool {
        self.crowd.shown.pass_on(who, state)
    }

    /// Asks how far changes got; `false` if the token or the peer does not allow it.
    pub(crate) fn ask_receipts(&mut self, changes: Vec<anabranch_core::vector::Dot>) -> bool {
        let may = self.door.may_send(Action::AskReceipts)
            && self.door.both_have(Capabilities::RECEIPTS)
            && self.outbox.n_control() < crate::limits::MAX_QUEUED_ANSWERS;
        if may {
            let mut changes = changes;
            changes.truncate(MAX_FRAME_DOTS);
            self.outbox.push(Frame::Receipts(Receipts::Ask(changes)));
        }
        may
    }

    pub(crate) fn tell_receipts(&mut self, mut receipts: Vec<Receipt>) -> Result<(), Fault> {
        receipts.truncate(MAX_FRAME_DOTS);
        for receipt in &mut receipts {
            receipt.places.truncate(crate::limits::MAX_PLACES);
        }
        if self.door.may_send(Action::TellReceipts) && self.door.both_have(Capabilities::RECEIPTS) {
            return self.say_answer(Frame::Receipts(Receipts::Tell(receipts)));
        }
        Ok(())
    }
}
