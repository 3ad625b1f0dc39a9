//! One channel: the conversation of two ends about one store.
//!
//! Order of a conversation: Hello, Hello, Have both ways, chains compared, then deltas and
//! acknowledgements both ways, blobs and presence beside, until either end closes. A Have
//! may come again at any time and starts the exchange anew; nothing is kept that a Have would
//! not restore. The parts of the work are files of their own. What each knows: `door` (who is
//! there, with which right), `books` (vectors), `sender` (deltas out), `intake` (deltas in),
//! `forks` (histories compared), `blobs`, `outbox` (what waits to be sent). What comes in:
//! `greeting` (Hello and Have), `reading` (all frames), `store` (answers), `command`.

use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, Held, VersionVector};

use crate::driver::{Event, Request};
use crate::frame::{
    About, Ack, Capabilities, Closes, ErrorCode, ErrorFrame, Frame, Partial, Retry, Role,
};
use crate::limits::{
    MAX_CHANNELS, MAX_CONNECTION_QUEUED_BYTES, MAX_FRAME_DOTS, MAX_QUEUED_ANSWERS,
    TICKET_INTERVAL_MS,
};
use crate::presence::{Present, RateLimit, Shown};
use crate::scope::Action;
use crate::session::{Side, Time};
use crate::ticket::{Basis, digest};

mod door;

mod greeting;
mod reading;
mod store;

mod command;

mod books;
mod sender;

mod intake;

mod forks;

mod blobs;
mod outbox;

use blobs::Blobs;
use books::Books;
pub(crate) use door::End;
use door::{Door, Phase};
use forks::{Forks, Step};
use intake::Intake;
use outbox::Outbox;
use sender::Sender;

/// A channel of a connection: below [`MAX_CHANNELS`]. Who opens it chooses its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(u32);

impl ChannelId {
    /// Takes a number below [`MAX_CHANNELS`].
    pub fn new(number: u32) -> Option<ChannelId> {
        (number < MAX_CHANNELS).then_some(ChannelId(number))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What leaves a session, and what it has in hand.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) requests: VecDeque<Request>,
    pub(crate) events: VecDeque<Event>,
    /// Bytes of deltas and chunks queued on all channels.
    pub(crate) n_queued_bytes: usize,
    /// Channels that would send if others had not filled the connection.
    pub(crate) starved: VecDeque<ChannelId>,
    /// Parts that the store has not answered, and their bytes.
    pub(crate) n_taking: usize,
    pub(crate) n_taking_bytes: usize,
}

impl Outputs {
    pub(crate) fn request(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Whether the connection has room for more; if not, `id` is woken when it has.
    pub(crate) fn has_room(&mut self, id: ChannelId) -> bool {
        let has_room = self.n_queued_bytes < MAX_CONNECTION_QUEUED_BYTES;
        if !has_room && !self.starved.contains(&id) {
            self.starved.push_back(id);
        }
        has_room
    }
}

/// Why a channel cannot go on.
pub(crate) type Fault = Box<ErrorFrame>;

pub(crate) fn fault(code: ErrorCode, text: impl Into<String>) -> Fault {
    let (retry, about, closes) = (Retry::Never, About::Nothing, Closes::Channel);
    Box::new(ErrorFrame { code, retry, closes, about, text: text.into() })
}

/// What a Have in several frames has said so far, and what the two ends said before.
#[derive(Debug, Default)]
struct Hearing {
    /// Vector so far, and the last site that was said.
    under_way: Option<(VersionVector, Option<SiteId>)>,
    /// What the ticket stands for, if it was taken.
    basis: Option<Basis>,
    has_said: bool,
    has_heard: bool,
}

#[derive(Debug, Default)]
struct Crowd {
    present: Present,
    shown: Shown,
    rate: RateLimit,
}

#[derive(Debug, Default)]
struct Tickets {
    /// Whether something moved since the last one.
    is_due: bool,
    /// Not before.
    next_at: Time,
    /// What the driver was asked for.
    asked: Option<Basis>,
}

/// Questions of the peer that the store has not answered.
#[derive(Debug, Default)]
struct Questions {
    chains: VecDeque<(SiteId, Vec<u64>)>,
    n_receipts: usize,
}

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    door: Door,
    hearing: Hearing,
    books: Books,
    sender: Sender,
    intake: Intake,
    forks: Forks,
    blobs: Blobs,
    crowd: Crowd,
    tickets: Tickets,
    questions: Questions,
    outbox: Outbox,
    /// Deltas staged here in part, to be said in the next Have.
    partials: Vec<Partial>,
    is_converged: bool,
    /// Whether it stands in the session's list of channels that may have something to send.
    pub(crate) is_ready: bool,
}

/// How far an exchange is, for a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of parts that came.
    pub received_bytes: u64,
    /// Bytes of parts that were handed out to be sent.
    pub sent_bytes: u64,
    /// The delta of several parts that is coming.
    pub receiving: Option<Partial>,
    /// The delta of several parts that is being sent.
    pub sending: Option<Partial>,
    /// Whether the peer refused what only somebody's doing can mend.
    pub is_stalled: bool,
}

impl Channel {
    pub(crate) fn store(&self) -> &crate::frame::StoreName {
        &self.door.store
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.door.side == Side::Opens || self.door.phase != Phase::Verifying
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.outbox.len_bytes()
    }

    /// Parts that the store has not answered, and their bytes.
    pub(crate) fn taking(&self) -> (usize, usize) {
        self.intake.waiting()
    }

    pub(crate) fn peer(&self) -> Option<(SiteId, Role)> {
        self.door.peer.map(|peer| (peer.site, peer.role))
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            received_bytes: self.intake.n_bytes,
            sent_bytes: self.outbox.n_sent_bytes,
            receiving: self.intake.receiving,
            sending: self.sender.current(),
            is_stalled: self.sender.is_stalled(),
        }
    }

    /// The next frame to be sent.
    pub(crate) fn transmit(&mut self, now: Time) -> Option<Frame> {
        if let Some(frame) = self.outbox.pop_control() {
            return Some(frame);
        }
        if self.door.phase != Phase::Live || !self.hearing.has_said {
            return None;
        }
        if let Some(ack) = self.take_ack() {
            return Some(Frame::Ack(ack));
        }
        if self.shows_presence()
            && let Some(presence) = self.crowd.shown.take(now)
        {
            return Some(Frame::Presence(presence));
        }
        self.outbox.pop_bulk()
    }

    fn take_ack(&mut self) -> Option<Ack> {
        if !self.door.may_send(Action::Ack) {
            return None;
        }
        let (held, shown) = self.intake.take_dots(MAX_FRAME_DOTS);
        // What is held is said no later than that it is here at all.
        let due = if self.intake.has_dots() { None } else { self.books.take_ack() };
        if due.is_none() && held.is_empty() && shown.is_empty() {
            return None;
        }
        let (replicas, entries) = due.unwrap_or_default();
        Some(Ack { replicas, entries, held, shown })
    }

    fn shows_presence(&self) -> bool {
        self.door.may_send(Action::Presence) && self.door.both_have(Capabilities::PRESENCE)
    }

    /// When [`Channel::handle_timer`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let shown = self.shows_presence().then(|| self.crowd.shown.deadline()).flatten();
        let ticket = self.wants_ticket().then_some(self.tickets.next_at);
        [
            self.door.deadline,
            self.door.ends,
            self.door.renew_at,
            self.sender.deadline(),
            self.crowd.present.deadline(),
            shown,
            ticket,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn handle_timer(&mut self, now: Time, out: &mut Outputs) -> Result<(), Fault> {
        if self.door.deadline.is_some_and(|at| at <= now) {
            let mut late = fault(ErrorCode::TimedOut, "the handshake took too long");
            late.retry = Retry::AfterMs(0);
            return Err(late);
        }
        if self.door.side == Side::Accepts && self.door.ends.is_some_and(|at| at <= now) {
            let mut ended = fault(ErrorCode::TokenEnded, "the token has ended");
            ended.retry = Retry::AfterMs(0);
            return Err(ended);
        }
        // Who opened the channel does not watch the end: the other end's clock decides.
        self.door.ends = self.door.ends.filter(|at| *at > now);
        if self.door.renew_at.take_if(|at| *at <= now).is_some() {
            out.event(Event::TokenWanted { channel: self.id });
        }
        while let Some(from) = self.crowd.present.expire(now) {
            out.event(Event::Presence { channel: self.id, from, state: None });
        }
        self.crowd.shown.repeat(now);
        self.sender.tick(now);
        self.advance(now, out);
        Ok(())
    }

    /// Does what has become possible: asks for deltas and chunks, and says what is new.
    pub(crate) fn advance(&mut self, now: Time, out: &mut Outputs) {
        if self.door.phase != Phase::Live || !self.hearing.has_said || !self.hearing.has_heard {
            return;
        }
        self.search_forks(out);
        if self.may_send_deltas() && out.has_room(self.id) {
            self.sender.advance(now, &mut self.books, &self.outbox, self.id, out);
        }
        if self.door.both_have(Capabilities::BLOBS) {
            self.blobs.advance(&mut self.outbox, self.id, out);
        }
        self.note_convergence(out);
        self.ask_for_ticket(now, out);
    }

    fn may_send_deltas(&self) -> bool {
        self.door.may_send(Action::Delta) && self.forks.is_clear()
    }

    fn note_convergence(&mut self, out: &mut Outputs) {
        let is_quiet = self.sender.is_quiet()
            && self.intake.is_quiet()
            && self.forks.is_clear()
            && self.outbox.has_no_deltas()
            && self.books.owes_nothing();
        let may_give = self.door.may_send(Action::Delta);
        let is_converged = is_quiet && self.books.is_converged(may_give);
        if is_converged && !self.is_converged {
            self.tickets.is_due = true;
            out.event(Event::Converged { channel: self.id, may_give });
        }
        self.is_converged = is_converged;
    }

    /// Whether a ticket would be true and new.
    fn wants_ticket(&self) -> bool {
        self.tickets.is_due
            && self.tickets.asked.is_none()
            && self.is_converged
            && self.door.me.role == Role::Relay
            && self.door.may_send(Action::Resume)
            && self.door.both_have(Capabilities::TICKETS)
            // Names of branches may change under a ticket.
            && !self.books.mine.has_branches()
            && !self.books.theirs.has_branches()
    }

    fn ask_for_ticket(&mut self, now: Time, out: &mut Outputs) {
        if !self.wants_ticket() || self.tickets.next_at > now {
            return;
        }
        self.tickets.is_due = false;
        self.tickets.next_at = now.after(TICKET_INTERVAL_MS);
        let basis = Basis { mine: self.books.told.clone(), theirs: self.books.theirs.clone() };
        self.tickets.asked = Some(basis.clone());
        out.request(Request::IssueTicket { channel: self.id, basis });
    }

    /// Both vectors are known: has the store read the peer's, if anything is to be compared.
    fn compare(&mut self, now: Time, out: &mut Outputs) {
        let (channel, theirs) = (self.id, &self.books.theirs);
        if self.forks.begin(&self.books.mine, theirs) {
            self.forks.n_reading += 1;
            out.request(Request::Read { channel, theirs: Arc::new(theirs.clone()) });
        } else {
            out.event(Event::PeerHas { channel, vector: theirs.clone() });
        }
        self.advance(now, out);
    }

    /// The store has read what the peer holds.
    fn read(&mut self, reading: Reading, out: &mut Outputs) {
        self.forks.n_reading = self.forks.n_reading.saturating_sub(1);
        if self.forks.n_reading > 0 {
            return;
        }
        let searches = self.door.side == Side::Opens;
        self.forks.read(&reading.forks, &self.books.mine, searches);
        self.forks.has_renamed |= reading.vector.has_branches();
        out.event(Event::PeerHas { channel: self.id, vector: reading.vector.clone() });
        self.books.heard_have(reading.vector);
    }

    /// Both ends know what they have in common of a site: from there on each sends.
    fn agree(&mut self, site: SiteId, common: Held, out: &mut Outputs) {
        self.forks.has_renamed = true;
        self.books.common(site, common);
        self.outbox.drop_deltas();
        self.sender.restart(Vec::new(), self.id, out);
        let (channel, common) = (self.id, Some(common.version));
        out.event(Event::Forked { channel, site, common });
    }

    fn search_forks(&mut self, out: &mut Outputs) {
        if self.forks.n_reading == 0
            && let Some(step) = self.forks.next()
        {
            self.follow(step, out);
        }
    }

    fn follow(&mut self, step: Step, out: &mut Outputs) {
        let channel = self.id;
        match step {
            Step::AskPeer(site, versions) => {
                self.outbox.push(Frame::Chains(crate::frame::Chains::Ask { site, versions }));
            }
            Step::AskStore(asked) => {
                let question = crate::driver::Question::Bisect;
                out.request(Request::Chains { channel, question, asked });
            }
            Step::Found { site, common, chain } => {
                self.forks.end_search();
                self.agree(site, Held { version: common, chain }, out);
                let found = crate::frame::Chains::Forked { site, common, chain };
                self.outbox.push(Frame::Chains(found));
            }
        }
    }

    /// The search under way cannot be ended: what cannot be compared is refused. It may be that
    /// names have changed meanwhile, at either end: the Have that follows then begins anew.
    fn give_up_search(&mut self, out: &mut Outputs) -> Result<(), Fault> {
        let Some(search) = self.forks.end_search() else { return Ok(()) };
        let site = search.site;
        out.event(Event::Forked { channel: self.id, site, common: None });
        // The site stays open as a fork: nothing is sent until a new Have.
        self.forks.is_unclear = true;
        let text = format!("SiteReused: two histories of site {site} that cannot be compared");
        self.say_error(ErrorFrame {
            code: ErrorCode::SiteReused,
            retry: Retry::AfterMs(0),
            closes: Closes::Nothing,
            about: About::Change(Dot { site, version: 1 }),
            text,
        })
    }

    /// Queues an error that closes nothing.
    fn say_error(&mut self, error: ErrorFrame) -> Result<(), Fault> {
        match self.outbox.push_error(error) {
            true => Ok(()),
            false => Err(fault(ErrorCode::OverLimit, "too many refusals that nobody reads")),
        }
    }

    /// Queues an answer to a question.
    fn say_answer(&mut self, frame: Frame) -> Result<(), Fault> {
        if self.outbox.n_control() >= MAX_QUEUED_ANSWERS {
            return Err(fault(ErrorCode::OverLimit, "too many answers that nobody reads"));
        }
        self.outbox.push(frame);
        Ok(())
    }

    /// Ends presence: everybody there has left.
    pub(crate) fn close(&mut self, out: &mut Outputs) {
        while let Some(from) = self.crowd.present.pop() {
            out.event(Event::Presence { channel: self.id, from, state: None });
        }
        out.request(Request::Close { channel: self.id });
    }

    /// Whether `basis` is still what both ends have said.
    fn is_basis(&self, basis: &Basis) -> bool {
        (&basis.mine, &basis.theirs) == (&self.books.told, &self.books.theirs)
    }

    /// The digests of [`Basis`] as this end sees it: what it has said, what it has heard.
    fn digests(&self) -> ([u8; 16], [u8; 16]) {
        (digest(&self.books.told), digest(&self.books.theirs))
    }
}
