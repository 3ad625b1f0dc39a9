//! One WebSocket: the session decides, this owns socket, clock and storage.
//!
//! A turn of the loop: drain the session (requests, events, frames), then wait for whichever
//! comes first: bytes to read or room to write, an answer of the storage, news of a store,
//! the session's deadline, a revocation, the relay's stop. One task, no queue that is not
//! bounded, nothing kept while nothing happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_sync::frame::{ErrorCode, Retry, StoreName};
use anabranch_sync::{ChannelId, KeepAlive, Refusal, Session, Sign, Time, Traffic, Verdict};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

use crate::doorstep::Waiting;
use crate::hub::Wake;
use crate::limits::{
    CLOSE_TIMEOUT, MAX_UNVERIFIED_BYTES, MAX_WRITE_BYTES, PING_INTERVAL, SILENCE_TIMEOUT,
};
use crate::patience::Patient;
use crate::relay::Relay;
use crate::store_id::StoreId;
use crate::token::Grant;
use crate::websocket::{MessageReader, MessageWriter, Received, SocketError};
use anabranch_clock as clock;

mod blobs;
mod lane;
mod news;
mod refusal;
mod requests;
#[cfg(feature = "testing")]
pub(crate) mod stepped;
mod work;

use lane::Lane;
use work::Job;

/// Speaks until either side ends the connection.
pub(crate) async fn run(
    relay: Arc<Relay>,
    io: Upgraded,
    store: Option<StoreId>,
    (grant, waiting): (Option<Grant>, Option<Arc<Waiting>>),
) {
    let _counted = relay.metrics().sockets.enter();
    let mut connection = Connection::new(relay, store, grant);
    connection.waiting = waiting;
    let span = tracing::debug_span!("connection", instance = connection.instance);
    // The socket itself where it can be had: what hyper needed for HTTP goes.
    match io.downcast::<TokioIo<Patient<TcpStream>>>() {
        Ok(parts) => {
            let (read, write) = parts.io.into_inner().into_inner().into_split();
            let reader = MessageReader::new(read, &parts.read_buf);
            drop(parts.read_buf);
            Box::pin(connection.speak(reader, write).instrument(span)).await;
        }
        Err(io) => match io.downcast::<TokioIo<Patient<TlsStream<TcpStream>>>>() {
            Ok(parts) => {
                let (read, write) = tokio::io::split(parts.io.into_inner().into_inner());
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
    /// Its place among those of its address that have shown none.
    waiting: Option<Arc<Waiting>>,
    /// Whether the peer is there.
    alive: KeepAlive,
}

/// The code of an end that nobody is to blame for (RFC 6455, 7.4.1).
const NORMAL: u16 = 1000;

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    /// With this code in the Close frame, the last one that is sent.
    End(u16),
}

impl Drop for Connection {
    /// However it ends.
    fn drop(&mut self) {
        let channels: Vec<ChannelId> = self.lanes.keys().copied().collect();
        channels.into_iter().for_each(|channel| self.save_receipts(channel));
    }
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
            waiting: None,
            alive: KeepAlive::new(
                now,
                PING_INTERVAL.as_millis() as u64,
                SILENCE_TIMEOUT.as_millis() as u64,
            ),
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
        let stopped = stopping.stopped().fuse();
        tokio::pin!(alarm, stopped);
        let code = loop {
            self.pump(&mut writer);
            if self.session.is_closed() {
                break NORMAL;
            }
            alarm.as_mut().reset(self.relay.instant(self.deadline()));
            let (limit, in_all) = self.max_read_bytes();
            tokio::select! {
                received = reader.next(limit, in_all), if self.session.is_reading() => {
                    let mut next = Some(received);
                    let mut flow = Flow::On;
                    while flow == Flow::On && let Some(received) = next.take() {
                        flow = self.received(received, reader.n_read(), &mut writer);
                        self.serve();
                        // What has come with it is taken with it.
                        if self.is_verified && self.session.is_reading() {
                            next = reader.next_ready(self.max_read_bytes().0);
                        }
                    }
                    if let Flow::End(code) = flow {
                        break code;
                    }
                }
                written = writer.write(&mut socket), if writer.n_bytes() > 0 => {
                    if written.is_err() {
                        return;
                    }
                    // So that it is known when something left.
                    if let Flow::End(code) = self.look(reader.n_read(), &mut writer) {
                        break code;
                    }
                }
                Some(outcome) = self.jobs.next(), if !self.jobs.is_empty() => self.done(outcome),
                () = wake.woken() => self.hear_news(),
                () = alarm.as_mut() => {
                    if let Flow::End(code) = self.tick(reader.n_read(), &mut writer) {
                        break code;
                    }
                }
                _ = revoked.changed() => self.recheck(),
                () = &mut stopped => {
                    self.session.close_all(self.relay.now(), refusal::stopping());
                }
            }
        };
        self.pump(&mut writer);
        writer.close(code, "");
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
            let mut is_quiet = !self.serve();
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

    /// Carries out what the session asks, and notes what it tells; whether there was anything.
    fn serve(&mut self) -> bool {
        let mut has_served = false;
        while let Some(request) = self.session.poll_request() {
            self.request(request);
            has_served = true;
        }
        while let Some(event) = self.session.poll_event() {
            self.event(event);
            has_served = true;
        }
        has_served
    }

    /// Bytes of the next message, and of the connection, at most.
    fn max_read_bytes(&self) -> (usize, u64) {
        if self.is_verified {
            (anabranch_sync::limits::MAX_FRAME_BYTES, u64::MAX)
        } else {
            (MAX_UNVERIFIED_BYTES, MAX_UNVERIFIED_BYTES as u64)
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
        match received {
            Ok(Received::Message(frame)) => self.session.handle_frame(now, frame),
            Ok(Received::Ping(payload)) => {
                // Who asks and does not read the answers is not answered.
                if writer.n_bytes() < MAX_WRITE_BYTES {
                    writer.pong(&payload);
                }
            }
            Ok(Received::Pong) => {}
            Ok(Received::Close) => return Flow::End(NORMAL),
            Err(error) => {
                tracing::debug!(%error, "socket");
                return Flow::End(error.code().unwrap_or(NORMAL));
            }
        }
        Flow::On
    }

    /// When [`Connection::tick`] has something to do.
    fn deadline(&self) -> Time {
        let silent = self.alive.poll_timeout();
        self.session.poll_timeout().map_or(silent, |at| at.min(silent))
    }

    fn tick(&mut self, n_read: u64, writer: &mut MessageWriter) -> Flow {
        let flow = self.look(n_read, writer);
        self.session.handle_timer(self.relay.now());
        flow
    }

    /// Looks whether the peer is there.
    fn look(&mut self, n_read: u64, writer: &mut MessageWriter) -> Flow {
        let now = self.relay.now();
        let (n_written, is_blocked) = (writer.n_written(), writer.n_bytes() > 0);
        let traffic = Traffic { n_read, n_written, is_blocked };
        let (has_moved, sign) = self.alive.look(now, traffic, self.session.is_reading());
        if has_moved {
            self.session.handle_moving(now);
        }
        match sign {
            Sign::Nothing => Flow::On,
            Sign::Ask => {
                writer.ping();
                Flow::On
            }
            Sign::Gone => Flow::End(NORMAL),
        }
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
