//! What the store answers, and what happens in it.

use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::vector::VersionVector;
use bytes::Bytes;

use super::door::Phase;
use super::{Channel, Fault, Outputs};
use crate::driver::{Event, Question, Refusal, StoreEvent};
use crate::frame::{About, Chains, Closes, Delta, DeltaName, ErrorCode, Frame, Receipt, Resume};
use crate::limits::{MAX_PARTIALS, MAX_TICKET_BYTES};
use crate::session::{Side, Time};

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
                self.partials.truncate(MAX_PARTIALS);
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
                    books.took(&to, self.forks.has_renamed);
                    // What crossed it may have brought the peer nothing new, and is not
                    // acknowledged then.
                    self.sender.acked(&books.theirs, id, out);
                    self.sender.wake();
                    self.intake.is_void = false;
                    self.intake.note_held(held);
                }
            }
            StoreEvent::Refused { delta, refusal } => self.refuse(delta, refusal, out)?,
            StoreEvent::Durable { replicas, vector } => books.safe(replicas, vector),
            StoreEvent::Held(changes) => self.intake.note_held(changes),
            StoreEvent::Shown(changes) => self.intake.note_shown(changes),
            StoreEvent::Chains { question, chains } => {
                self.answer_chains(question, &chains, out)?
            }
            StoreEvent::Replaced { vector } => self.replace(now, &vector, out),
            StoreEvent::Read(reading) => self.read(reading, out),
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
        part: Option<Delta>,
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
        delta: DeltaName,
        refusal: Refusal,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        let was_void = self.intake.is_void;
        if !self.intake.answered(delta) || !self.intake.refuse(delta) {
            return Ok(());
        }
        let is_missing = refusal.code == ErrorCode::Missing;
        if is_missing && self.outbox.is_short_of_errors() {
            return Ok(());
        }
        out.event(Event::RefusedDelta { channel: self.id, delta, refusal: refusal.clone() });
        let mut error = refusal.frame(Closes::Nothing);
        error.about = About::Delta(delta);
        self.say_error(error)?;
        if is_missing && !was_void {
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
        self.forks.has_renamed = true;
        self.outbox.drop_deltas();
        self.sender.restart(Vec::new(), self.id, out);
        self.sender.unstall();
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
            (1..=MAX_TICKET_BYTES).contains(&ticket.len()) && self.is_basis(&asked)
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
