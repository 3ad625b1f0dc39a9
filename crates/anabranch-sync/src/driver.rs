//! What passes between a session and its driver: questions to the store, answers and news
//! from it, and what the application may want to know.
//!
//! Everything is owned data. A request is answered by the event that its documentation
//! names, in the order of the requests of its kind; each exactly once.

use std::sync::Arc;

use anabranch_core::clock::Chain;
use anabranch_core::forest::Reading;
use anabranch_core::site::SiteId;
use anabranch_core::vector::{Dot, VersionVector};
use bytes::Bytes;

use crate::channel::ChannelId;
use crate::frame::{
    About, Ack, BlobId, Chunk, Closes, Delta, DeltaName, ErrorCode, ErrorFrame, Hello, Partial,
    Participant, Receipt, Retry, Role, StoreName,
};
use crate::scope::Scopes;
use crate::session::Time;
use crate::ticket::{Basis, Ticket};

/// What the session needs from its driver, on behalf of one channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Is this token good for this store? Answer: [`crate::Session::handle_token`]. Nothing
    /// may be opened for it before.
    Verify {
        /// Where.
        channel: ChannelId,
        /// The peer's Hello, its turn [`crate::frame::Turn::Open`].
        hello: Hello,
        /// Whether the channel has a token that is about to end.
        is_renewal: bool,
    },
    /// Open the store. Answer: [`StoreEvent::Opened`] or [`StoreEvent::OpenFailed`].
    Open {
        /// Where.
        channel: ChannelId,
        /// Which.
        store: StoreName,
        /// The ticket that the peer showed; empty if none.
        ticket: Bytes,
    },
    /// A delta above `above`. Answer: [`StoreEvent::Exported`],
    /// [`StoreEvent::NothingAbove`] or [`StoreEvent::ExportFailed`].
    ///
    /// Any delta whose `from` is at or below `above` will do, the newest checkpoint or the
    /// next of many: the session asks again for what is above its `to`.
    Export {
        /// Where.
        channel: ChannelId,
        /// What the peer holds, or will once what is on its way has arrived.
        above: VersionVector,
        /// A delta of which the peer has some parts: go on with it if it is still kept.
        partial: Option<Partial>,
    },
    /// Part `number` of an exported delta. Answer: [`StoreEvent::Part`] or
    /// [`StoreEvent::ExportFailed`].
    ReadPart {
        /// Where.
        channel: ChannelId,
        /// Which delta.
        delta: DeltaName,
        /// From 0.
        number: u32,
    },
    /// An exported delta of several parts has arrived or is given up. No answer.
    Forget {
        /// Where.
        channel: ChannelId,
        /// Which delta.
        delta: DeltaName,
    },
    /// Take a part: stage it, and with the last one apply the delta. Answer:
    /// [`StoreEvent::Staged`], [`StoreEvent::Applied`] or [`StoreEvent::Refused`].
    Take {
        /// Where.
        channel: ChannelId,
        /// The part; only its head was checked.
        part: Delta,
    },
    /// The chains of these sites at these versions. Answer: [`StoreEvent::Chains`].
    Chains {
        /// Where.
        channel: ChannelId,
        /// What the answer says it is for.
        question: Question,
        /// Which.
        asked: Vec<(SiteId, u64)>,
    },
    /// Read the peer's vector by its chains ([`anabranch_core::forest::read`]): what is held
    /// here has the names that it has here. Answer: [`StoreEvent::Read`].
    Read {
        /// Where.
        channel: ChannelId,
        /// As the peer said it.
        theirs: Arc<VersionVector>,
    },
    /// A chunk of a blob, with its proof. Answer: [`StoreEvent::Chunk`].
    ReadChunk {
        /// Where.
        channel: ChannelId,
        /// Which blob.
        blob: BlobId,
        /// From 0.
        index: u64,
    },
    /// Keep a chunk, which was proven. Answer: [`StoreEvent::ChunkStored`].
    StoreChunk {
        /// Where.
        channel: ChannelId,
        /// Which blob.
        blob: BlobId,
        /// The chunk.
        chunk: Chunk,
    },
    /// A ticket for this. Answer: [`StoreEvent::Ticket`]. Asked of relays only.
    IssueTicket {
        /// Where.
        channel: ChannelId,
        /// What both ends hold; the ticket must lead back to it.
        basis: Basis,
    },
    /// How far these changes got. Answer: [`StoreEvent::Receipts`].
    Receipts {
        /// Where.
        channel: ChannelId,
        /// Which.
        changes: Vec<Dot>,
    },
    /// The channel has ended; its store is not needed any more. No answer.
    Close {
        /// Where.
        channel: ChannelId,
    },
}

/// What [`Request::Chains`] is asked for; the answer repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// To find where two histories part.
    Bisect,
    /// The peer asked.
    Peer,
}

/// What the store answers, and what happened in it.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// The store is open.
    Opened {
        /// The site that answers for it.
        site: SiteId,
        /// What it has on disk.
        vector: Arc<VersionVector>,
        /// Deltas of which some parts are staged, the likeliest to go on last.
        partials: Vec<Partial>,
        /// What the shown ticket stands for, if it is one of ours and of this store.
        resumed: Option<Basis>,
    },
    /// The store cannot be opened: the channel closes.
    OpenFailed(Refusal),
    /// A change, or several, became part of the store and are on its disk: written here, or
    /// taken from any peer. Say [`StoreEvent::Applied`] first where this channel brought it.
    Committed {
        /// What a copy must hold to take it.
        from: Arc<VersionVector>,
        /// What it holds afterwards; entries that did not move may be left out.
        to: Arc<VersionVector>,
        /// The delta, if it has one part and is at hand; else it is asked for.
        part: Option<Delta>,
    },
    /// A delta to be sent, with the part to begin with: part 0, or where the peer's staged
    /// parts end.
    Exported {
        /// The first part to be sent.
        part: Delta,
        /// Where it leads.
        to: Arc<VersionVector>,
    },
    /// There is nothing above the vector that was asked with.
    NothingAbove,
    /// A delta or its part cannot be made.
    ExportFailed(Refusal),
    /// The part that was asked for.
    Part(Delta),
    /// These changes are here and not shown: said before what covers them, also before
    /// [`StoreEvent::Opened`].
    Held(Vec<Dot>),
    /// The part is staged (or was not needed); others are missing.
    Staged {
        /// Of which delta.
        delta: DeltaName,
    },
    /// The delta is applied and committed. Acknowledged only after [`StoreEvent::Durable`].
    Applied {
        /// Which delta.
        delta: DeltaName,
        /// Where it led, by the names that its sites have here now.
        to: Arc<VersionVector>,
        /// Changes of it that are stored and not shown.
        held: Vec<Dot>,
    },
    /// Nothing of the delta was kept.
    Refused {
        /// Which delta.
        delta: DeltaName,
        /// Why.
        refusal: Refusal,
    },
    /// What is safe: synced to disk, the blobs it names too.
    Durable {
        /// 0: here. Else also on so many further disks.
        replicas: u64,
        /// Up to where.
        vector: Arc<VersionVector>,
    },
    /// Changes that were held are shown.
    Shown(Vec<Dot>),
    /// Chains in the order asked; `None` where the store cannot say.
    Chains {
        /// As in the request.
        question: Question,
        /// One for each that was asked.
        chains: Vec<Option<Chain>>,
    },
    /// The peer's vector as it is called here.
    Read(Reading),
    /// The vector changed other than by growing: a delta showed that the history of a site has
    /// forked, and both branches were renamed; or a store was repaired. Said after the
    /// [`StoreEvent::Applied`] of that delta.
    Replaced {
        /// What is on disk.
        vector: Arc<VersionVector>,
    },
    /// A chunk for the peer; `None`: the blob is not here.
    Chunk {
        /// Of which blob.
        blob: BlobId,
        /// The chunk.
        chunk: Option<Chunk>,
    },
    /// A chunk was kept, or not.
    ChunkStored {
        /// Of which blob.
        blob: BlobId,
        /// Which chunk.
        index: u64,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// A ticket; `None`: this relay makes none.
    Ticket(Option<Bytes>),
    /// What is known of the changes asked for.
    Receipts(Vec<Receipt>),
}

/// The driver's word on a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is good.
    Granted {
        /// What it allows.
        scopes: Scopes,
        /// When it ends, in the session's time.
        ends: Option<Time>,
    },
    /// It is not, or not any more: the channel closes.
    Refused(Refusal),
}

/// Why something is refused, and whether it may succeed later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub code: ErrorCode,
    /// Whether to try again.
    pub retry: Retry,
    /// The change that is the reason.
    pub change: Option<Dot>,
    /// For people at the other end: nothing secret.
    pub text: String,
}

impl Refusal {
    /// A refusal about no change in particular.
    pub fn new(code: ErrorCode, retry: Retry, text: impl Into<String>) -> Refusal {
        Refusal { code, retry, change: None, text: text.into() }
    }

    /// As a frame says it.
    pub(crate) fn frame(self, closes: Closes) -> ErrorFrame {
        let about = self.change.map_or(About::Nothing, About::Change);
        ErrorFrame { code: self.code, retry: self.retry, closes, about, text: self.text }
    }
}

/// What the application may want to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer was accepted, or accepted us.
    Opened {
        /// Where.
        channel: ChannelId,
        /// The peer's site.
        site: SiteId,
        /// What the peer is.
        role: Role,
        /// What the token allows.
        grants: Scopes,
    },
    /// The peer has said what it holds; replaces what it said before. Told anew when names
    /// have changed.
    PeerHas {
        /// Where.
        channel: ChannelId,
        /// Its vector, by the names that are used here.
        vector: VersionVector,
    },
    /// The peer has acknowledged changes.
    Acked {
        /// Where.
        channel: ChannelId,
        /// What it said.
        ack: Ack,
    },
    /// Both ends hold the same, or all that this channel's token lets them exchange; said
    /// again whenever it becomes true again.
    Converged {
        /// Where.
        channel: ChannelId,
        /// Whether the token lets this end give changes: if not, some may be here alone.
        may_give: bool,
    },
    /// The peer has refused something and the channel goes on.
    PeerRefused {
        /// Where.
        channel: ChannelId,
        /// What it said.
        error: ErrorFrame,
    },
    /// A delta of the peer's was refused here.
    RefusedDelta {
        /// Where.
        channel: ChannelId,
        /// Which.
        delta: DeltaName,
        /// Why.
        refusal: Refusal,
    },
    /// Both ends hold something else under one site; both branches get names of their own as
    /// soon as each end holds both.
    Forked {
        /// Where.
        channel: ChannelId,
        /// Whose name.
        site: SiteId,
        /// The last version that both have alike; `None`: it cannot be found.
        common: Option<u64>,
    },
    /// The token ends soon: [`crate::Session::renew_token`].
    TokenWanted {
        /// Where.
        channel: ChannelId,
    },
    /// A ticket to be kept for the next connection.
    TicketGiven {
        /// Where.
        channel: ChannelId,
        /// The ticket.
        ticket: Ticket,
    },
    /// A blob that was wanted is here, proven.
    BlobDone {
        /// Where.
        channel: ChannelId,
        /// Which.
        blob: BlobId,
    },
    /// A blob that was wanted does not come from this peer.
    BlobFailed {
        /// Where.
        channel: ChannelId,
        /// Which.
        blob: BlobId,
        /// Why.
        refusal: Refusal,
    },
    /// Somebody came, changed or left (`state` is `None`).
    Presence {
        /// Where.
        channel: ChannelId,
        /// Who; `None`: the peer itself.
        from: Option<Participant>,
        /// What they show.
        state: Option<Bytes>,
    },
    /// The answer to [`crate::Session::ask_receipts`].
    Receipts {
        /// Where.
        channel: ChannelId,
        /// What the peer knows.
        receipts: Vec<Receipt>,
    },
    /// A channel has ended; `channel` is `None` if all have, with the connection.
    Closed {
        /// Where.
        channel: Option<ChannelId>,
        /// Why, and whether to come back.
        error: ErrorFrame,
        /// Who ended it.
        by_peer: bool,
    },
}
