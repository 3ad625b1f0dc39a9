//! One WebSocket: the session decides, this owns socket, clock and storage.
//!
//! A turn of the loop: drain the session (requests, events, frames), then wait for whichever
//! comes first: bytes to read or room to write, an answer of the storage, news of a store,
//! the session's deadline, a revocation, the relay's stop. One task, no queue that is not
//! bounded, nothing kept while nothing happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_sync::frame::{
    DeltaName, ErrorCode, Hello, Partial, Participant, Retry, Role, StoreName, Turn,
};
use anabranch_sync::scope::Scope;
use anabranch_sync::ticket::Basis;
use anabranch_sync::{ChannelId, Event, Refusal, Request, Session, StoreEvent, Time, Verdict};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

use crate::clock;
use crate::hub::Wake;
use crate::limits::{
    CLOSE_TIMEOUT, MAX_UNVERIFIED_BYTES, MAX_WRITE_BYTES, PING_INTERVAL, SILENCE_TIMEOUT,
};
use crate::relay::Relay;
use crate::storage::StagedDelta;
use crate::store_id::StoreId;
use crate::token::{Grant, TokenError};
use crate::websocket::{MessageReader, MessageWriter, Received, SocketError};

mod lane;
mod refusal;
mod work;

use lane::Lane;
use work::{Job, Opened, Outcome};

/// Speaks until either side ends the connection.
pub(crate) async fn run(
    relay: Arc<Relay>,
    io: Upgraded,
    store: Option<StoreId>,
    grant: Option<Grant>,
) {
    let counting = Arc::clone(&relay);
    let _counted = counting.metrics().sockets.enter();
    let connection = Connection::new(relay, store, grant);
    let span = tracing::debug_span!("connection", instance = connection.instance);
    // The socket itself where it can be had: what hyper needed for HTTP goes.
    match io.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let (read, write) = parts.io.into_inner().into_split();
            let reader = MessageReader::new(read, &parts.read_buf);
            drop(parts.read_buf);
            Box::pin(connection.speak(reader, write).instrument(span)).await;
        }
        Err(io) => match io.downcast::<TokioIo<TlsStream<TcpStream>>>() {
            Ok(parts) => {
                let (read, write) = tokio::io::split(parts.io.into_inner());
                let reader = MessageReader::new(read, &parts.read_buf);
                drop(parts.read_buf);
                Box::pin(connection.speak(reader, write).instrument(span)).await;
            }
            Err(io) => {
                let (read, write) = tokio::io::split(TokioIo::new(io));
                let reader = MessageReader::new(read, &[]);
                Box::pin(connection.speak(reader, write).instrument(span)).await;
            }
        },
    }
}

/// The state of one connection.
struct Connection {
    relay: Arc<Relay>,
    session: Session,
    /// What the handshake's token grants.
    grant: Option<Grant>,
    /// Boxed: a node of the map has room for eleven.
    lanes: BTreeMap<ChannelId, Box<Lane>>,
    jobs: FuturesUnordered<Job>,
    wake: Arc<Wake>,
    next_serial: u32,
    /// Numbers the relay's connections: tells apart two of one site.
    instance: u64,
    /// Whether a token was found valid.
    is_verified: bool,
    /// When the peer was heard of last.
    heard: Time,
    /// Whether it was asked for a sign of life since.
    is_pinged: bool,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    End,
}

impl Connection {
    fn new(relay: Arc<Relay>, store: Option<StoreId>, grant: Option<Grant>) -> Connection {
        let config = anabranch_sync::Config {
            capabilities: crate::limits::CAPABILITIES,
            only_store: store.and_then(|store| StoreName::new(store.as_str())),
            ..anabranch_sync::Config::relay()
        };
        let now = relay.now();
        Connection {
            instance: relay.next_instance(),
            session: Session::new(now, config),
            relay,
            grant,
            lanes: BTreeMap::new(),
            jobs: FuturesUnordered::new(),
            wake: Arc::default(),
            next_serial: 0,
            is_verified: false,
            heard: now,
            is_pinged: false,
        }
    }

    async fn speak<R, W>(mut self, mut reader: MessageReader<R>, mut socket: W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut writer = MessageWriter::default();
        let stopping = Arc::clone(&self.relay);
        let mut revoked = self.relay.revocations().subscribe();
        let wake = Arc::clone(&self.wake);
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        loop {
            self.pump(&mut writer);
            if self.session.is_closed() {
                break;
            }
            alarm.as_mut().reset(self.relay.instant(self.deadline()));
            let limit = self.max_message_bytes();
            tokio::select! {
                received = reader.next(limit), if self.session.is_reading() => {
                    let n_read = reader.n_read();
                    if self.received(received, n_read, &mut writer) == Flow::End {
                        break;
                    }
                }
                written = writer.write(&mut socket), if writer.n_bytes() > 0 => {
                    if written.is_err() {
                        return;
                    }
                }
                Some(outcome) = self.jobs.next(), if !self.jobs.is_empty() => self.done(outcome),
                () = wake.woken() => self.hear_news(),
                () = alarm.as_mut() => {
                    if self.tick(&mut writer) == Flow::End {
                        break;
                    }
                }
                _ = revoked.changed() => self.recheck(),
                () = stopping.stopped() => {
                    self.session.close_all(self.relay.now(), refusal::stopping());
                }
            }
        }
        self.pump(&mut writer);
        writer.close(1000, "");
        let farewell = async {
            while writer.n_bytes() > 0 && writer.write(&mut socket).await.is_ok() {}
            // The other end may have closed first.
            let _ = socket.shutdown().await;
        };
        // Who does not read is not waited for.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
    }

    /// Carries out what the session wants, until it wants nothing more.
    fn pump(&mut self, writer: &mut MessageWriter) {
        loop {
            let mut is_quiet = true;
            while let Some(request) = self.session.poll_request() {
                self.request(request);
                is_quiet = false;
            }
            while let Some(event) = self.session.poll_event() {
                self.event(event);
                is_quiet = false;
            }
            while writer.n_bytes() < MAX_WRITE_BYTES
                && let Some(transmit) = self.session.poll_transmit()
            {
                writer.message(&transmit.head, transmit.body);
                is_quiet = false;
            }
            if is_quiet {
                return;
            }
        }
    }

    fn max_message_bytes(&self) -> usize {
        if self.is_verified {
            anabranch_sync::limits::MAX_FRAME_BYTES
        } else {
            MAX_UNVERIFIED_BYTES
        }
    }

    fn received(
        &mut self,
        received: Result<Received, SocketError>,
        n_read: u64,
        writer: &mut MessageWriter,
    ) -> Flow {
        let now = self.relay.now();
        if !self.is_verified && n_read > MAX_UNVERIFIED_BYTES as u64 {
            let text = "too many bytes before a valid token";
            let refusal = Refusal::new(ErrorCode::Unauthorized, Retry::Never, text);
            self.session.close_all(now, refusal);
            return Flow::On;
        }
        (self.heard, self.is_pinged) = (now, false);
        match received {
            Ok(Received::Message(frame)) => self.session.handle_frame(now, frame),
            Ok(Received::Ping(payload)) => {
                // Who asks and does not read the answers is not answered.
                if writer.n_bytes() < MAX_WRITE_BYTES {
                    writer.pong(&payload);
                }
            }
            Ok(Received::Pong) => {}
            Ok(Received::Close) => return Flow::End,
            Err(error) => {
                tracing::debug!(%error, "socket");
                if !matches!(error, SocketError::Io(_) | SocketError::Ended) {
                    writer.close(error.code(), "");
                }
                return Flow::End;
            }
        }
        Flow::On
    }

    /// When [`Connection::tick`] has something to do.
    fn deadline(&self) -> Time {
        let silence = if self.is_pinged { SILENCE_TIMEOUT } else { PING_INTERVAL };
        let silent = self.heard.after(silence.as_millis() as u64);
        self.session.poll_timeout().map_or(silent, |at| at.min(silent))
    }

    fn tick(&mut self, writer: &mut MessageWriter) -> Flow {
        let now = self.relay.now();
        self.session.handle_timer(now);
        let silence = Duration::from_millis(now.since(self.heard));
        if silence >= SILENCE_TIMEOUT {
            return Flow::End;
        }
        if silence >= PING_INTERVAL && !self.is_pinged {
            self.is_pinged = true;
            writer.ping();
        }
        Flow::On
    }

    /// Something was revoked: perhaps what this connection lives by.
    fn recheck(&mut self) {
        let now_s = clock::now_s();
        let mut ended = Vec::new();
        for (channel, lane) in &self.lanes {
            if let Err(error) = self.relay.tokens().recheck(&lane.grant, now_s) {
                ended.push((*channel, error));
            }
        }
        for (channel, error) in ended {
            let verdict = Verdict::Refused(refusal::of_token(&error));
            self.session.handle_token(self.relay.now(), channel, verdict);
        }
    }
}

/// What the session asks.
impl Connection {
    fn request(&mut self, request: Request) {
        match request {
            Request::Verify { channel, hello, is_renewal } => {
                self.verify(channel, &hello, is_renewal);
            }
            Request::Open { channel, ticket, .. } => self.open(channel, &ticket),
            Request::Take { channel, part } => {
                self.with_lane(channel, |lane, relay| lane.take(relay, part))
            }
            Request::Forget { channel, delta } => self.with_lane(channel, |lane, _| {
                lane.forget(delta);
                None
            }),
            Request::Export { channel, .. }
            | Request::ReadPart { channel, .. }
            | Request::Chains { channel, .. } => {
                self.with_lane(channel, |lane, relay| lane.ask(relay, request));
            }
            Request::Split { channel, site, .. } => {
                // Only a copy can write under two names; the relay keeps the one it has.
                let text = format!("SiteReused: this relay holds another history of {site}");
                let refusal = Refusal::new(ErrorCode::SiteReused, Retry::Never, text);
                self.answer(channel, StoreEvent::ForkRefused(refusal));
            }
            Request::ReadChunk { channel, blob, .. } => {
                self.answer(channel, StoreEvent::Chunk { blob, chunk: None });
            }
            Request::StoreChunk { channel, blob, chunk } => {
                let text = "this relay takes no blobs";
                let refusal = Some(Refusal::new(ErrorCode::Unsupported, Retry::Never, text));
                let event = StoreEvent::ChunkStored { blob, index: chunk.index, refusal };
                self.answer(channel, event);
            }
            Request::IssueTicket { channel, basis } => self.issue_ticket(channel, &basis),
            Request::Receipts { channel, changes } => {
                let receipts = match self.lanes.get(&channel).and_then(|lane| lane.store()) {
                    Some(store) => store.receipts(&self.relay, &changes),
                    None => Vec::new(),
                };
                self.answer(channel, StoreEvent::Receipts(receipts));
            }
            Request::Close { channel } => drop(self.lanes.remove(&channel)),
        }
    }

    fn answer(&mut self, channel: ChannelId, event: StoreEvent) {
        self.session.handle_store_event(self.relay.now(), channel, event);
    }

    fn with_lane(
        &mut self,
        channel: ChannelId,
        begin: impl FnOnce(&mut Lane, &Arc<Relay>) -> Option<Job>,
    ) {
        if let Some(lane) = self.lanes.get_mut(&channel) {
            self.jobs.extend(begin(lane, &self.relay));
        }
    }

    fn verify(&mut self, channel: ChannelId, hello: &Hello, is_renewal: bool) {
        let verdict = match self.granted(hello) {
            Ok(grant) => {
                let verdict = self.verdict(&grant);
                self.is_verified = true;
                match self.lanes.get_mut(&channel).filter(|_| is_renewal) {
                    Some(lane) => lane.grant = grant,
                    None => {
                        self.next_serial += 1;
                        let lane = Box::new(Lane::new(self.next_serial, grant));
                        self.lanes.insert(channel, lane);
                    }
                }
                verdict
            }
            Err(error) => {
                tracing::info!(store = %hello.store, %error, "token refused");
                Verdict::Refused(refusal::of_token(&error))
            }
        };
        self.session.handle_token(self.relay.now(), channel, verdict);
    }

    /// What the Hello's token grants, or that of the handshake if it brings none.
    fn granted(&self, hello: &Hello) -> Result<Grant, TokenError> {
        let missing = TokenError::Malformed { what: "there is none" };
        let token = match &hello.turn {
            Turn::Open { token, .. } => token,
            Turn::Answer { .. } => return Err(missing),
        };
        let grant = if token.is_empty() {
            let grant = self.grant.clone().ok_or(missing)?;
            self.relay.tokens().recheck(&grant, clock::now_s())?;
            grant
        } else {
            let text = std::str::from_utf8(token)
                .map_err(|_| TokenError::Malformed { what: "not UTF-8" })?;
            crate::http::checked(&self.relay, text)?
        };
        let store = StoreId::new(hello.store.as_str())
            .ok_or(TokenError::Malformed { what: "the name of the store" })?;
        if grant.includes(&store) { Ok(grant) } else { Err(TokenError::Audience { store }) }
    }

    fn verdict(&self, grant: &Grant) -> Verdict {
        let left_ms = (grant.expires_s * 1000).saturating_sub(clock::now_ms());
        let ends = Some(self.relay.now().after(left_ms));
        Verdict::Granted { scopes: grant.scopes, ends }
    }

    fn issue_ticket(&mut self, channel: ChannelId, basis: &Basis) {
        let store = self.lanes.get(&channel).and_then(|lane| lane.store());
        let ticket = self.session.peer(channel).zip(store).and_then(|((site, _), store)| {
            self.relay.tokens().resume().issue(store.name(), site, basis)
        });
        self.answer(channel, StoreEvent::Ticket(ticket));
    }

    /// Opens a channel's store: its place among the readers, and its vector.
    fn open(&mut self, channel: ChannelId, ticket: &[u8]) {
        let name = self.session.store(channel).and_then(|store| StoreId::new(store.as_str()));
        let Some((name, lane)) = name.zip(self.lanes.get(&channel)) else { return };
        let store = self.relay.hub().open(&name);
        let limit = self.relay.config().max_store_connections;
        let Some(seat) = store.enter(&self.wake, lane.serial, limit) else {
            let text = format!("quota store-connections: {limit} are on store {name} already");
            let refusal = Refusal::new(ErrorCode::OverQuota, Retry::AfterMs(1000), text);
            return self.answer(channel, StoreEvent::OpenFailed(refusal));
        };
        let peer = self.session.peer(channel);
        let claims = self.relay.config().strict_sites && lane.grant.scopes.has(Scope::Write);
        let claimed = peer.filter(|peer| claims && peer.1 == Role::Peer).map(|peer| peer.0);
        let shown =
            peer.and_then(|(site, _)| self.relay.tokens().resume().open(&name, site, ticket));
        let (serial, subject) = (lane.serial, Arc::clone(&lane.grant.subject));
        tracing::debug!(store = %name, %subject, "opened");
        let relay = Arc::clone(&self.relay);
        self.jobs.push(Box::pin(async move {
            let opened = async {
                if let Some(site) = claimed {
                    relay.storage().claim(&name, site, subject).await?;
                }
                let staged = relay.storage().staged(&name).await?;
                let vector = store.loaded(&relay.storage().vector(&name).await?);
                let resumed = match shown {
                    Some(basis) if relay.holds(&name, &vector, &basis.mine).await? => Some(basis),
                    _ => None,
                };
                let partials = staged.iter().map(partial).collect();
                Ok(Opened { vector, partials, resumed })
            };
            let opened = opened.await;
            Outcome::Opened { serial, seat, opened }
        }));
    }
}

/// A delta that is here in part, as the peer is told of it.
fn partial(staged: &StagedDelta) -> Partial {
    let next = staged.parts.len() as u32;
    Partial { delta: DeltaName(staged.delta), of: staged.of, next }
}

/// What happened.
impl Connection {
    fn done(&mut self, outcome: Outcome) {
        let relay = Arc::clone(&self.relay);
        let serial = match &outcome {
            Outcome::Opened { serial, .. }
            | Outcome::Read { serial, .. }
            | Outcome::Took { serial, .. }
            | Outcome::Committed { serial, .. } => *serial,
        };
        let lane = self.lanes.iter_mut().find(|(_, lane)| lane.serial == serial);
        // Its channel may have closed meanwhile.
        let Some((channel, lane)) = lane else { return };
        let channel = *channel;
        let events = match outcome {
            Outcome::Opened { seat, opened: Ok(opened), .. } => {
                lane.opened(&relay, seat);
                let site = relay.site();
                let Opened { vector, partials, resumed } = opened;
                vec![StoreEvent::Opened { site, vector, partials, resumed }]
            }
            Outcome::Opened { opened: Err(error), .. } => {
                vec![StoreEvent::OpenFailed(refusal::of_storage(&error))]
            }
            Outcome::Read { event, exported, .. } => {
                let event = lane.read(*event, exported);
                self.jobs.extend(lane.next_read(&relay));
                vec![event]
            }
            Outcome::Took { delta, intake, took, .. } => {
                let (job, events) = lane.took(delta, intake, took);
                self.jobs.extend(job);
                self.jobs.extend(lane.next_take(&relay));
                events
            }
            Outcome::Committed { slot, to, appended, .. } => lane.committed(slot, to, appended),
        };
        for event in events {
            self.answer(channel, event);
        }
    }

    /// Others committed something, or show themselves.
    fn hear_news(&mut self) {
        let news = self.wake.take();
        let channel_of = |lanes: &BTreeMap<ChannelId, Box<Lane>>, serial: u32| {
            lanes.iter().find(|(_, lane)| lane.serial == serial).map(|(channel, _)| *channel)
        };
        for serial in news.channels {
            let Some(channel) = channel_of(&self.lanes, serial) else { continue };
            let Some(lane) = self.lanes.get_mut(&channel) else { continue };
            for event in lane.news() {
                self.session.handle_store_event(self.relay.now(), channel, event);
            }
        }
        for shown in news.presence {
            let Some(channel) = channel_of(&self.lanes, shown.channel) else { continue };
            // Where the token does not allow it, or too many wait, it is not shown.
            let _ = self.session.pass_presence(channel, shown.who, shown.state);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::PeerHas { channel, vector } => {
                let entries = vector.iter().collect();
                self.note_receipt(channel, entries, Vec::new(), Vec::new(), 0);
            }
            Event::Acked { channel, ack } => {
                self.note_receipt(channel, ack.entries, ack.held, ack.shown, ack.replicas);
            }
            Event::Presence { channel, from, state } => self.show(channel, from, state),
            Event::Forked { channel, site, common } => {
                let store = self.session.store(channel).map(|store| store.to_string());
                tracing::warn!(store, %site, ?common, "two histories under one site");
            }
            Event::Closed { channel: None, error, by_peer } => {
                let code = error.code;
                tracing::debug!(?code, by_peer, "connection closed");
            }
            _ => {}
        }
    }

    fn note_receipt(
        &mut self,
        channel: ChannelId,
        entries: Vec<anabranch_sync::frame::Entry>,
        held: Vec<anabranch_core::vector::Dot>,
        shown: Vec<anabranch_core::vector::Dot>,
        replicas: u64,
    ) {
        let Some((site, role)) = self.session.peer(channel) else { return };
        if let Some(store) = self.lanes.get(&channel).and_then(|lane| lane.store()) {
            let ack = anabranch_sync::frame::Ack { replicas, entries, held, shown };
            store.note_receipt(self.relay.now(), site, role, &ack);
        }
    }

    /// Passes what a peer shows to all others on the store, stamped with who it is.
    fn show(&mut self, channel: ChannelId, from: Option<Participant>, state: Option<Bytes>) {
        let Some((site, _)) = self.session.peer(channel) else { return };
        let who = from.unwrap_or(Participant { site, instance: self.instance });
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.show(who, state);
        }
    }
}
