//! One store that syncs with a relay: its channel of the session, and what is known of how
//! far both ends are.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use anabranch_core::limits::MAX_PART_BYTES;
use anabranch_core::vector::{Dot, VersionVector};
use anabranch_sync::frame::{
    BlobId, Entry, ErrorCode, ErrorFrame, Partial, Participant, Retry, Role, StoreName,
};
use anabranch_sync::limits::MAX_FRAME_DOTS;
use anabranch_sync::ticket::Ticket;
use anabranch_sync::{
    ChannelId, Event as SessionEvent, Open, Progress as SessionProgress, Request, StoreEvent,
};
use bytes::Bytes;

use super::answers::{Answers, Took};
use super::words;
use crate::blob;
use crate::limits::NOTE_PEER_MS;
use crate::peer::{self, PeerRole};
use crate::replica::{Replica, StoreError, n_changes_above};
use crate::report::{Event, Moved, Progress, Reached, Skipped, Told};
use anabranch_clock::{Moment, now_ms};

/// How far a channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not connected, or not accepted yet.
    Opening,
    /// Accepted; something may be on its way.
    Exchanging,
    /// Both ends hold the same, or all that they may exchange, acknowledged.
    Converged,
    /// The channel was closed.
    Ended(ErrorFrame),
}

/// A store and its channel.
pub(crate) struct Channel<'a> {
    name: StoreName,
    /// Its name in `ana_peer`.
    url: String,
    answers: Answers<'a>,
    state: State,
    role: PeerRole,
    /// What the peer has on its disk, as far as it said.
    held: VersionVector,
    /// Moved since this was made.
    moved: Progress,
    /// When something moved last.
    moved_at: Moment,
    /// Bytes that the present session had sent when it was last looked at.
    sent_bytes: u64,
    /// Bytes sent since giving was last told.
    untold_bytes: u64,
    /// Blobs that are wanted and have not come.
    wanted: Vec<BlobId>,
    /// Blobs that do not come, and why.
    missing_blobs: Vec<Skipped>,
    /// What this copy shows to others while it is connected.
    presence: Option<Bytes>,
    /// Who is shown by others, as the application was told.
    present: BTreeSet<Participant>,
    /// Changes that the relay is asked about.
    asked_about: Vec<Dot>,
    /// Questions that were not asked on this connection, the first of them first: without
    /// changes, which of this copy's are held elsewhere.
    questions: VecDeque<Vec<Dot>>,
    /// The question whose answer is awaited.
    awaited: Option<Vec<Dot>>,
    /// The last refusal, of either end.
    refused: Option<(String, Retry)>,
    /// What tells whether somebody may have committed: see [`Channel::is_touched`].
    seen: Option<(i64, i64)>,
    /// When what the peer holds was written down last, if it has changed since.
    unwritten: bool,
    written_at: Option<Moment>,
}

impl<'a> Channel<'a> {
    pub(crate) fn new(replica: Replica<'a>, name: StoreName, url: String) -> Channel<'a> {
        Channel {
            name,
            url,
            answers: Answers::new(replica),
            state: State::Opening,
            role: PeerRole::Relay,
            held: VersionVector::new(),
            moved: Progress::default(),
            moved_at: Moment::now(),
            sent_bytes: 0,
            untold_bytes: 0,
            wanted: Vec::new(),
            missing_blobs: Vec::new(),
            presence: None,
            present: BTreeSet::new(),
            asked_about: Vec::new(),
            questions: VecDeque::new(),
            awaited: None,
            refused: None,
            seen: None,
            unwritten: false,
            written_at: None,
        }
    }

    /// Wants these blobs of the peer.
    pub(crate) fn with_blobs(mut self, blobs: &[[u8; 32]]) -> Channel<'a> {
        self.wanted = blobs.iter().copied().map(BlobId).collect();
        self
    }

    /// Asks the peer how far these changes got, once both hold the same.
    pub(crate) fn with_questions(mut self, changes: &[Dot]) -> Channel<'a> {
        self.asked_about = changes.to_vec();
        self
    }

    /// Shows this from here on, or nothing.
    pub(crate) fn set_presence(&mut self, state: Option<Bytes>) {
        self.presence = state;
    }

    /// What is shown.
    pub(super) fn presence(&self) -> Option<Bytes> {
        self.presence.clone()
    }

    /// Everybody has left, as far as can be told.
    pub(super) fn everybody_left(&mut self) -> Vec<Told> {
        let left = std::mem::take(&mut self.present).into_iter();
        left.map(|who| self.told(present(who, None))).collect()
    }

    /// Whether something was to be asked and is not answered.
    pub(crate) fn has_questions(&self) -> bool {
        self.awaited.is_some() || !self.questions.is_empty()
    }

    /// Asks about changes while connected.
    pub(crate) fn ask(&mut self, changes: &[Dot]) {
        self.questions.extend(changes.chunks(MAX_FRAME_DOTS).map(<[Dot]>::to_vec));
    }

    /// The next question, if both ends hold the same and no answer is awaited.
    pub(super) fn next_question(&mut self) -> Option<Vec<Dot>> {
        if self.awaited.is_some() || self.state != State::Converged {
            return None;
        }
        self.awaited = self.questions.pop_front();
        self.awaited.clone()
    }

    /// The peer answers no questions.
    pub(super) fn drop_questions(&mut self) {
        (self.awaited, self.questions) = (None, VecDeque::new());
    }

    /// What the store must say before a channel opens.
    pub(super) fn held_at_open(&mut self) -> Result<StoreEvent, StoreError> {
        self.answers.held_at_open()
    }

    /// Whether blobs that were asked for have neither come nor been refused.
    pub(crate) fn wants_blobs(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Blobs that do not come from this peer, and why.
    pub(crate) fn missing_blobs(&self) -> &[Skipped] {
        &self.missing_blobs
    }

    /// Blobs to be asked for, and the first chunk of each that is not here.
    pub(super) fn blobs_to_want(&mut self) -> Result<Vec<(BlobId, u64)>, StoreError> {
        let replica = self.answers.replica();
        let mut wanted = Vec::new();
        for blob in std::mem::take(&mut self.wanted) {
            if !blob::is_whole(replica, blob)? {
                self.wanted.push(blob);
                wanted.push((blob, blob::first_missing(replica, blob)?));
            }
        }
        Ok(wanted)
    }

    /// The store's name at the relay.
    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// What moved since this was made.
    pub(crate) fn progress(&self) -> Progress {
        self.moved
    }

    /// What the peer has on its disk, as far as it said.
    #[cfg(feature = "testing")]
    pub(crate) fn held(&self) -> &VersionVector {
        &self.held
    }

    /// The last refusal, if nothing has moved for so long.
    pub(crate) fn stuck_with(&self, quiet: Duration) -> Option<&(String, Retry)> {
        self.refused().filter(|_| self.moved_at.elapsed_ms() >= quiet.as_millis() as u64)
    }

    /// The error that closed it.
    pub(super) fn ended_with(&self) -> Option<&ErrorFrame> {
        match &self.state {
            State::Ended(error) => Some(error),
            _ => None,
        }
    }

    /// An event of this store.
    pub(super) fn told(&self, event: Event) -> Told {
        Told { store: self.name.as_str().to_string(), event }
    }

    /// What a session needs to open the channel on a new connection.
    pub(super) fn open(&mut self, token: Bytes) -> Result<Open, StoreError> {
        self.state = State::Opening;
        (self.seen, self.refused, self.awaited) = (None, None, None);
        let about = self.asked_about.chunks(MAX_FRAME_DOTS).map(<[Dot]>::to_vec);
        self.questions = std::iter::once(Vec::new()).chain(about).collect();
        let replica = self.answers.replica();
        let ticket = peer::ticket(replica, &self.url)?;
        let ticket = ticket.and_then(|bytes| Ticket::from_bytes(&bytes).ok());
        Ok(Open { store: self.name.clone(), site: replica.site()?, token, ticket })
    }

    /// Answers a request of the session.
    pub(super) fn answer(
        &mut self,
        request: Request,
        told: &mut VecDeque<Told>,
    ) -> Result<Option<StoreEvent>, StoreError> {
        let answer = self.answers.answer(request)?;
        if let Some(Took { changes, bytes, known }) = answer.took {
            self.moved_at = Moment::now();
            let moved = Moved { changes, bytes };
            self.moved.took.add(moved);
            if let Some(StoreEvent::Applied { to, .. }) = &answer.event {
                // Who sends has it on its disk: changes of this copy, too, that it has not
                // acknowledged and need not any more.
                let given = n_changes_above(&self.held, &known);
                self.held.join(to);
                self.unwritten = true;
                self.gave(given, told)?;
            }
            if changes > 0 {
                told.push_back(self.told(Event::Took(moved)));
            }
        }
        Ok(answer.event)
    }

    /// Commits of others that the session has not heard of.
    pub(super) fn news(&mut self) -> Result<Vec<StoreEvent>, StoreError> {
        // What was acknowledged last, before all fell silent, is noted too.
        self.write_down(false)?;
        // Before it is accepted the store is read when it is opened.
        if self.state == State::Opening || !self.is_touched()? {
            return Ok(Vec::new());
        }
        self.answers.news()
    }

    /// Tells forks that were found.
    pub(super) fn tell_forks(&mut self, told: &mut VecDeque<Told>) {
        let forked = self.answers.forked();
        if !forked.is_empty() {
            told.push_back(self.told(Event::Forked(forked)));
        }
    }

    /// Commits, and what has become durable, if anything was taken.
    pub(super) fn news_if_owed(&mut self) -> Result<Vec<StoreEvent>, StoreError> {
        if self.answers.owes_durable() { self.answers.news() } else { Ok(Vec::new()) }
    }

    /// Whether anything was committed since the last question: by others, as `data_version`
    /// tells, or by this connection, whose writes are counted.
    fn is_touched(&mut self) -> Result<bool, StoreError> {
        let replica = self.answers.replica();
        let seen = Some((replica.data_version()?, replica.total_changes()?));
        Ok(std::mem::replace(&mut self.seen, seen) != seen)
    }

    /// Takes note of what the session tells.
    pub(super) fn note(
        &mut self,
        event: SessionEvent,
        told: &mut VecDeque<Told>,
    ) -> Result<(), StoreError> {
        match event {
            SessionEvent::Opened { role, .. } => {
                self.state = State::Exchanging;
                self.role = if role == Role::Relay { PeerRole::Relay } else { PeerRole::Copy };
                self.moved_at = Moment::now();
                told.push_back(self.told(Event::Connected));
            }
            SessionEvent::PeerHas { vector, .. } => {
                self.held = vector;
                self.unwritten = true;
                self.tell_progress(told)?;
            }
            SessionEvent::Acked { ack, .. } => self.acked(&ack.entries, told)?,
            SessionEvent::Converged { may_give, .. } => self.converged(may_give, told)?,
            // It asks for them, and says when it has them.
            SessionEvent::PeerRefused { error, .. } if error.code == ErrorCode::BlobsFirst => {}
            SessionEvent::PeerRefused { error, .. } => {
                self.refuse("the relay", &words(&error), error.retry, told);
            }
            SessionEvent::RefusedDelta { delta, refusal, .. } => {
                self.refuse(&format!("delta {delta}"), &refusal.text, refusal.retry, told);
            }
            SessionEvent::Forked { site, common: None, .. } => {
                let why = format!("SiteReused: two histories of site {site}");
                self.refuse("the relay", &why, Retry::AfterMs(0), told);
            }
            SessionEvent::TicketGiven { ticket, .. } => {
                let replica = self.answers.replica();
                peer::note_ticket(replica, &self.url, self.role, &ticket.to_bytes())?;
            }
            SessionEvent::BlobDone { blob, .. } => {
                self.wanted.retain(|wanted| *wanted != blob);
                let bytes = blob::len_bytes(self.answers.replica(), blob)?.unwrap_or(0);
                self.moved.took.bytes += bytes;
                told.push_back(self.told(Event::Blob { hash: blob.0, bytes }));
            }
            SessionEvent::BlobFailed { blob, refusal, .. } => {
                self.wanted.retain(|wanted| *wanted != blob);
                let (name, why) = (format!("blob {blob}"), refusal.text);
                let skipped = Skipped { name, why, is_refused: false };
                self.missing_blobs.push(skipped.clone());
                told.push_back(self.told(Event::Skipped(skipped)));
            }
            SessionEvent::Receipts { receipts, .. } => {
                let reached = receipts.into_iter().map(Reached::from).collect();
                self.reached(reached, told);
            }
            SessionEvent::Presence { from: Some(who), state, .. } => {
                match state {
                    Some(_) => self.present.insert(who),
                    None => self.present.remove(&who),
                };
                told.push_back(self.told(present(who, state)));
            }
            SessionEvent::TokenWanted { .. } => told.push_back(self.told(Event::TokenWanted)),
            SessionEvent::Closed { error, .. } => self.state = State::Ended(error),
            _ => {}
        }
        self.write_down(false)
    }

    /// The peer has these on its disk.
    fn acked(&mut self, entries: &[Entry], told: &mut VecDeque<Told>) -> Result<(), StoreError> {
        let mut held = self.held.clone();
        for (site, entry) in entries {
            if held.version(*site) < entry.version {
                held.set(*site, *entry);
                if let Some(branch) = self.answers.told().branch(*site) {
                    held.set_branch(*site, branch);
                }
            }
        }
        let changes = n_changes_above(&self.held, &held);
        self.held = held;
        self.unwritten = true;
        self.gave(changes, told)
    }

    /// What the relay says of changes: an answer, or what is held elsewhere.
    fn reached(&mut self, reached: Vec<Reached>, told: &mut VecDeque<Told>) {
        match self.awaited.take() {
            Some(asked) if !asked.is_empty() => {
                told.push_back(self.told(Event::Receipts(reached)));
            }
            _ if reached.is_empty() => {}
            _ => told.push_back(self.told(Event::HeldThere(reached))),
        }
    }

    fn gave(&mut self, changes: u64, told: &mut VecDeque<Told>) -> Result<(), StoreError> {
        if changes == 0 {
            return Ok(());
        }
        self.moved_at = Moment::now();
        if self.state == State::Converged {
            self.state = State::Exchanging;
        }
        let moved = Moved { changes, bytes: std::mem::take(&mut self.untold_bytes) };
        self.moved.gave.changes += changes;
        told.push_back(self.told(Event::Gave(moved)));
        self.tell_progress(told)
    }

    /// Takes note of how far the session is.
    pub(super) fn note_progress(&mut self, progress: &SessionProgress) {
        // A session counts from its connection on.
        let sent = match progress.sent_bytes.checked_sub(self.sent_bytes) {
            Some(sent) => sent,
            None => progress.sent_bytes,
        };
        self.sent_bytes = progress.sent_bytes;
        self.untold_bytes += sent;
        self.moved.gave.bytes += sent;
        let parts_left = |partial: Option<Partial>| {
            partial.map_or(0, |partial| u64::from(partial.of.saturating_sub(partial.next)))
        };
        let n_parts = parts_left(progress.receiving) + parts_left(progress.sending);
        self.moved.bytes_left = n_parts * MAX_PART_BYTES as u64;
    }

    fn tell_progress(&mut self, told: &mut VecDeque<Told>) -> Result<(), StoreError> {
        let mine = self.answers.replica().vector()?;
        self.moved.changes_left =
            n_changes_above(&self.held, &mine) + n_changes_above(&mine, &self.held);
        told.push_back(self.told(Event::Progress(self.moved)));
        Ok(())
    }

    /// The session has nothing left to do. That is convergence only if the token let it do
    /// everything.
    fn converged(&mut self, may_give: bool, told: &mut VecDeque<Told>) -> Result<(), StoreError> {
        // The peer may have said so before a fork was found: by the names that are used here now.
        let held = self.answers.by_names_here(self.held.clone())?;
        let n = n_changes_above(&held, self.answers.told());
        if n > 0 && may_give {
            // A commit, or other names, of which the session had not heard when it said so: it
            // gives them, and says it again.
            self.state = State::Exchanging;
            return Ok(());
        }
        (self.state, self.refused) = (State::Converged, None);
        if n == 0 {
            told.push_back(self.told(Event::Converged));
        } else {
            let why = format!("Forbidden: the token allows no writing; changes not given: {n}");
            self.refuse("what is here", &why, Retry::Never, told);
        }
        Ok(())
    }

    /// The last refusal, of either end.
    pub(crate) fn refused(&self) -> Option<&(String, Retry)> {
        self.refused.as_ref()
    }

    fn refuse(&mut self, name: &str, why: &str, retry: Retry, told: &mut VecDeque<Told>) {
        self.refused = Some((why.to_string(), retry));
        let is_refused = retry == Retry::Never;
        let skipped = Skipped { name: name.to_string(), why: why.to_string(), is_refused };
        told.push_back(self.told(Event::Skipped(skipped)));
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self, why: &str) -> Result<(), StoreError> {
        self.write_down(true)?;
        self.state = State::Opening;
        self.note_error(why)
    }

    /// Notes why a sync did not end well.
    pub(crate) fn note_error(&self, why: &str) -> Result<(), StoreError> {
        peer::note_error(self.answers.replica(), &self.url, self.role, why, now_ms())
    }

    /// Writes down what the peer holds: always with `now`, else once in a while.
    pub(crate) fn write_down(&mut self, now: bool) -> Result<(), StoreError> {
        let is_due = self.written_at.is_none_or(|at| at.elapsed_ms() >= NOTE_PEER_MS);
        if self.unwritten && (now || is_due) {
            (self.unwritten, self.written_at) = (false, Some(Moment::now()));
            let replica = self.answers.replica();
            peer::note_held(replica, &self.url, self.role, &self.held, 1, now_ms())?;
        }
        Ok(())
    }
}

fn present(who: Participant, state: Option<Bytes>) -> Event {
    let Participant { site, instance } = who;
    Event::Present { site, instance, state: state.map(|state| state.to_vec()) }
}

/// The channel that a request is about.
pub(super) fn of_request(request: &Request) -> ChannelId {
    match request {
        Request::Verify { channel, .. }
        | Request::Open { channel, .. }
        | Request::Export { channel, .. }
        | Request::ReadPart { channel, .. }
        | Request::Forget { channel, .. }
        | Request::Take { channel, .. }
        | Request::Chains { channel, .. }
        | Request::Read { channel, .. }
        | Request::ReadChunk { channel, .. }
        | Request::StoreChunk { channel, .. }
        | Request::IssueTicket { channel, .. }
        | Request::Receipts { channel, .. }
        | Request::Close { channel } => *channel,
    }
}

/// The channel that an event is about; `None`: the connection.
pub(super) fn of_event(event: &SessionEvent) -> Option<ChannelId> {
    match event {
        SessionEvent::Opened { channel, .. }
        | SessionEvent::PeerHas { channel, .. }
        | SessionEvent::Acked { channel, .. }
        | SessionEvent::Converged { channel, .. }
        | SessionEvent::PeerRefused { channel, .. }
        | SessionEvent::RefusedDelta { channel, .. }
        | SessionEvent::Forked { channel, .. }
        | SessionEvent::TokenWanted { channel }
        | SessionEvent::TicketGiven { channel, .. }
        | SessionEvent::BlobDone { channel, .. }
        | SessionEvent::BlobFailed { channel, .. }
        | SessionEvent::Presence { channel, .. }
        | SessionEvent::Receipts { channel, .. } => Some(*channel),
        SessionEvent::Closed { channel, .. } => *channel,
    }
}
