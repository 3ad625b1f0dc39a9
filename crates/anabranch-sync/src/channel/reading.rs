//! Frames that come on a channel: whether they have a place and a right, and what follows.

use anabranch_core::vector::Held;

use super::door::Phase;
use super::{Channel, Fault, Outputs, fault};
use crate::driver::{Event, Question, Request};
use crate::frame::{
    About, Ack, Chains, Closes, ErrorCode, ErrorFrame, Frame, Hello, Presence, Receipts, Resume,
    Retry, Role,
};
use crate::limits::{MAX_QUESTIONS, PRESENCE_BURST};
use crate::scope::Action;
use crate::session::{Side, Time};
use crate::ticket::{Basis, Ticket};

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
            // Of the channel that had this number before: the first word on a new one is Hello.
            (Side::Opens, Phase::Greeting) if !is_hello => return Ok(()),
            (Side::Opens, Phase::Greeting) => false,
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
        if let About::Delta(delta) = error.about {
            if !self.sender.refused(now, delta, error.retry, self.id, out) {
                return Ok(());
            }
            self.outbox.drop_deltas();
            self.books.lost();
        }
        out.event(Event::PeerRefused { channel: self.id, error });
        self.advance(now, out);
        Ok(())
    }

    fn handle_ack(&mut self, mut ack: Ack, out: &mut Outputs) -> Result<(), Fault> {
        // What crossed a change of names may speak of what has no such name any more: the next
        // Have tells.
        if !self.books.acked(&mut ack) && !self.forks.has_renamed {
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
            Chains::Forked { site, common, chain } => {
                self.forks.forget(site);
                self.agree(site, Held { version: common, chain }, out);
            }
        }
        Ok(())
    }

    fn handle_resume(&mut self, resume: Resume, out: &mut Outputs) {
        if (resume.yours, resume.mine) == self.digests() {
            let basis = Basis { mine: self.books.told.clone(), theirs: self.books.theirs.clone() };
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
        if is_peer && !self.crowd.rate.take(now, PRESENCE_BURST) {
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
