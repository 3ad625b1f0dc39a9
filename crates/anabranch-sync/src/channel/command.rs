//! What the application wants of a channel.

use anabranch_core::vector::Dot;
use bytes::Bytes;

use super::door::Phase;
use super::{Channel, Fault, Outputs};
use crate::frame::{BlobId, Capabilities, Frame, Participant, Receipt, Receipts, Turn};
use crate::limits::{MAX_FRAME_DOTS, MAX_PLACES, MAX_QUEUED_ANSWERS};
use crate::scope::Action;
use crate::session::{CommandError, Side, Time};

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
    ) -> Result<(), CommandError> {
        let may = self.door.may_send(Action::BlobWant) && self.door.both_have(Capabilities::BLOBS);
        if self.door.phase == Phase::Live && !may {
            return Err(CommandError::NotAllowed);
        }
        let is_wanted = self.blobs.want(blob, first);
        self.advance(now, out);
        is_wanted.then_some(()).ok_or(CommandError::Busy)
    }

    pub(crate) fn set_presence(&mut self, state: Option<Bytes>) {
        self.crowd.shown.set_own(state);
    }

    pub(crate) fn pass_presence(&mut self, who: Participant, state: Option<Bytes>) -> bool {
        self.crowd.shown.pass_on(who, state)
    }

    /// Asks how far changes got; `false` if the token or the peer does not allow it.
    pub(crate) fn ask_receipts(&mut self, changes: Vec<Dot>) -> bool {
        let may = self.door.may_send(Action::AskReceipts)
            && self.door.both_have(Capabilities::RECEIPTS)
            && self.outbox.n_control() < MAX_QUEUED_ANSWERS;
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
            receipt.places.truncate(MAX_PLACES);
        }
        if self.door.may_send(Action::TellReceipts) && self.door.both_have(Capabilities::RECEIPTS) {
            return self.say_answer(Frame::Receipts(Receipts::Tell(receipts)));
        }
        Ok(())
    }
}
