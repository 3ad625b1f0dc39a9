//! One connection that syncs a store in memory: the session of `anabranch-sync` on a
//! WebSocket, thousands of them on one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_sync::frame::{Delta, StoreName};
use anabranch_sync::{ChannelId, Config, Event, Open, Request, Session, StoreEvent, Time};
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::relay::Relay;
use super::writer::{Change, end_of};

/// What a connection that waits has room for: with the default of 128 KiB ten thousand of
/// them would fill this machine.
const BUFFER_BYTES: usize = 2 << 10;

/// What is kept back at most until a turn ends: frames that are made together leave together, in
/// one system call, as a client writes what it has.
const WRITE_BYTES: usize = 16 << 10;

/// How long an answer is waited for, so that no run hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection with one store on it.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    session: Session,
    channel: ChannelId,
    started: Instant,
    /// When a frame came last, or one was first to be awaited.
    heard: Instant,
    site: SiteId,
    /// What the store holds.
    vector: VersionVector,
    /// Deltas of this site, from version 1 on; only those that are committed.
    changes: Vec<Change>,
    /// The highest own version that the relay has on its disk.
    n_acked: u64,
    has_converged: bool,
    /// Sites and versions that came since this was asked last.
    came: Vec<(SiteId, u64)>,
}

impl Peer {
    /// Connects as this site, and stays until both ends know what the other holds.
    ///
    /// # Errors
    /// The relay is away, or refuses.
    pub async fn connect(relay: &Relay, store: &str, site: SiteId) -> Result<Peer> {
        let stream = TcpStream::connect(relay.address()).await.context("connect")?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(WRITE_BYTES);
        let url = relay.url(store);
        let socket = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        let (socket, _) = socket.await.context("handshake")?;
        let mut session = Session::new(Time(0), Config::client());
        let open = Open {
            store: StoreName::new(store).context("the name of a store")?,
            site,
            token: Bytes::copy_from_slice(relay.token().as_bytes()),
            ticket: None,
        };
        let channel = session.open(Time(0), open)?;
        let mut peer = Peer {
            socket,
            session,
            channel,
            started: Instant::now(),
            heard: Instant::now(),
            site,
            vector: VersionVector::new(),
            changes: Vec::new(),
            n_acked: 0,
            has_converged: false,
            came: Vec::new(),
        };
        peer.send().await?;
        while !peer.has_converged {
            peer.receive().await?;
        }
        Ok(peer)
    }

    /// Commits a change here, to be sent by [`Peer::send`].
    pub fn commit(&mut self, change: Change) {
        let event = StoreEvent::Committed {
            from: Arc::clone(&change.from),
            to: Arc::clone(&change.to),
            part: Some(change.part.clone()),
        };
        self.vector.join(&change.to);
        self.changes.push(change);
        self.heard = Instant::now();
        self.tell(event);
    }

    /// Own changes that the relay has not acknowledged.
    pub fn n_open(&self) -> u64 {
        self.vector.version(self.site) - self.n_acked
    }

    /// Changes of others that came since this was asked last, with their sites.
    pub fn take_came(&mut self) -> Vec<(SiteId, u64)> {
        std::mem::take(&mut self.came)
    }

    /// Sends what the session wants to send.
    ///
    /// # Errors
    /// The connection ended, or the relay refused something.
    pub async fn send(&mut self) -> Result<()> {
        loop {
            self.answer()?;
            let mut has_sent = false;
            while let Some(frame) = self.session.poll_transmit() {
                let message = Message::Binary(frame.into_bytes().into());
                self.socket.feed(message).await.context("send")?;
                has_sent = true;
            }
            if !has_sent {
                return self.socket.flush().await.context("send");
            }
        }
    }

    /// Waits for a frame, and sends what follows from it.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub async fn receive(&mut self) -> Result<()> {
        self.wait().await?;
        self.answer()?;
        // What has come meanwhile is answered together, as who reads a socket does.
        while self.session.is_reading()
            && let Some(message) = self.socket.next().now_or_never()
        {
            self.take_message(message)?;
            self.answer()?;
        }
        self.send().await
    }

    /// Waits for a frame; [`Peer::send`] must follow. Nothing is lost if this is dropped.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn wait(&mut self) -> Result<()> {
        let message = tokio::time::timeout(PATIENCE, self.socket.next());
        let message = message.await.with_context(|| self.silence())?;
        self.take_message(message)
    }

    fn take_message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<()> {
        let message = message.context("the relay left")?.context("receive")?;
        if let Message::Binary(frame) = message {
            self.heard = Instant::now();
            self.session.handle_frame(self.now(), frame);
        }
        // A sign of life that is asked for is no answer.
        ensure!(self.heard.elapsed() < PATIENCE, self.silence());
        Ok(())
    }

    fn silence(&self) -> String {
        let (n_open, n) = (self.n_open(), self.vector.version(self.site));
        format!("no answer in {PATIENCE:?}; {n_open} of {n} changes are not acknowledged")
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    fn tell(&mut self, event: StoreEvent) {
        self.session.handle_store_event(self.now(), self.channel, event);
    }

    /// Answers what the session asks, and notes what it says.
    fn answer(&mut self) -> Result<()> {
        while let Some(request) = self.session.poll_request() {
            self.request(request)?;
        }
        while let Some(event) = self.session.poll_event() {
            self.event(event)?;
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Open { .. } => {
                let (site, vector) = (self.site, Arc::new(self.vector.clone()));
                let (partials, resumed) = (Vec::new(), None);
                self.tell(StoreEvent::Opened { site, vector, partials, resumed });
            }
            Request::Export { above, .. } => {
                let (site, sent) = (self.site, above.version(self.site));
                let next = self.changes.partition_point(|change| change.to.version(site) <= sent);
                let event = match self.changes.get(next) {
                    None => StoreEvent::NothingAbove,
                    Some(Change { part, to, .. }) => {
                        StoreEvent::Exported { part: part.clone(), to: Arc::clone(to) }
                    }
                };
                self.tell(event);
            }
            Request::Take { part, .. } => self.take(part)?,
            Request::Forget { .. } | Request::Close { .. } => {}
            other => bail!("the session asks what this load does not need: {other:?}"),
        }
        Ok(())
    }

    fn take(&mut self, part: Delta) -> Result<()> {
        let delta = part.name();
        let to = end_of(part.part())?;
        for (site, held) in to.iter() {
            if held.version > self.vector.version(site) {
                self.came.push((site, held.version));
            }
        }
        self.vector.join(&to);
        self.tell(StoreEvent::Applied { delta, to: Arc::new(to), held: Vec::new() });
        let vector = Arc::new(self.vector.clone());
        self.tell(StoreEvent::Durable { replicas: 0, vector });
        Ok(())
    }

    fn note_acked(&mut self, version: u64) {
        self.n_acked = self.n_acked.max(version.min(self.vector.version(self.site)));
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Acked { ack, .. } => {
                let own = ack.entries.iter().find(|(site, _)| *site == self.site);
                self.note_acked(own.map_or(0, |(_, held)| held.version));
            }
            // A Have says the same of all it names: what it crossed is not acknowledged again.
            Event::PeerHas { vector, .. } => self.note_acked(vector.version(self.site)),
            Event::Converged { .. } => self.has_converged = true,
            Event::Closed { error, .. } => bail!("closed: {}", error.text),
            Event::PeerRefused { error, .. } => bail!("refused: {}", error.text),
            _ => {}
        }
        Ok(())
    }
}

/// A runtime of one thread, with all its tasks on it.
///
/// # Errors
/// Of the operating system, and those of the work.
pub fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Waits for all, and fails with the first that failed.
///
/// # Errors
/// Theirs.
pub async fn join_all<T>(tasks: Vec<tokio::task::JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        all.push(task.await.map_err(|error| anyhow!("a task ended: {error}"))??);
    }
    Ok(all)
}
