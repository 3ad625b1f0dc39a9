//! A copy that syncs: the session of `anabranch-sync` on another's WebSocket, over a store
//! that is a list of deltas in memory.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use anabranch_core::clock::Chain;
use anabranch_core::site::SiteId;
use anabranch_core::vector::VersionVector;
use anabranch_core::wire::{Decoder, decode};
use anabranch_sync::blob::Outline;
use anabranch_sync::frame::{
    BlobId, Chunk, Decoded, Delta, DeltaName, ErrorFrame, Frame, Have, StoreName,
    decode as decode_frame, encode,
};
use anabranch_sync::limits::CHUNK_BYTES;
use anabranch_sync::ticket::Ticket;
use anabranch_sync::{ChannelId, Config, Event, Open, Request, Session, StoreEvent, Time};
use bytes::Bytes;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::deltas::Site;
use crate::world::World;

pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    session: Session,
    started: Instant,
    pub(crate) stores: BTreeMap<ChannelId, Copy>,
    pub(crate) events: Vec<Event>,
    /// What the relay has said to hold.
    pub(crate) haves: Vec<Have>,
}

/// A store in memory: what it holds, as parts of deltas in order of arrival.
pub(crate) struct Copy {
    pub(crate) writer: Site,
    pub(crate) deltas: Vec<Vec<Bytes>>,
    staged: Vec<Bytes>,
    /// Blobs that it has.
    pub(crate) blobs: BTreeMap<BlobId, Vec<u8>>,
    /// The chunks of them that were asked for.
    pub(crate) chunks_read: Vec<u64>,
    /// How many parts the session asked for.
    pub(crate) n_parts_read: usize,
}

impl Copy {
    pub(crate) fn new(writer: Site) -> Copy {
        Copy {
            writer,
            deltas: Vec::new(),
            staged: Vec::new(),
            blobs: BTreeMap::new(),
            chunks_read: Vec::new(),
            n_parts_read: 0,
        }
    }

    /// Writes `n` changes as one delta.
    pub(crate) fn write(&mut self, n: u64, text_bytes: usize) {
        let parts = self.writer.write(n, text_bytes);
        self.deltas.push(parts.into_iter().map(Bytes::from).collect());
    }

    /// Has a blob; what is written from here on names it.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> BlobId {
        let blob = BlobId(*blake3::hash(bytes).as_bytes());
        self.blobs.insert(blob, bytes.to_vec());
        self.writer.blobs.push(blob.0);
        blob
    }

    fn chunk(&mut self, blob: BlobId, index: u64) -> Option<Chunk> {
        let bytes = self.blobs.get(&blob)?;
        self.chunks_read.push(index);
        let path = Outline::of(bytes.chunks(CHUNK_BYTES)).path(index);
        let empty = (index == 0 && bytes.is_empty()).then_some(&[][..]);
        let bytes = bytes.chunks(CHUNK_BYTES).nth(index as usize).or(empty)?;
        let blob_bytes = self.blobs[&blob].len() as u64;
        Some(Chunk { blob_bytes, index, path, bytes: Bytes::copy_from_slice(bytes) })
    }

    /// Every delta that is not covered by `above`, in order of arrival.
    fn next_above(&self, above: &VersionVector) -> Option<(Vec<Bytes>, VersionVector)> {
        self.deltas.iter().find_map(|parts| {
            let to = bounds(&parts[0]);
            (!to.is_at_or_below(above)).then(|| (parts.clone(), to))
        })
    }

    fn take(&mut self, part: Delta) -> StoreEvent {
        let (delta, number, of) = (part.name(), part.number(), part.of());
        if number == 0 {
            self.staged.clear();
        }
        self.staged.push(part.into_part());
        if number + 1 < of {
            return StoreEvent::Staged { delta };
        }
        let parts = std::mem::take(&mut self.staged);
        let whole = decode(&parts.iter().map(|part| &part[..]).collect::<Vec<_>>());
        let whole = whole.expect("what a relay sends can be read");
        assert!(
            whole.from.is_at_or_below(&self.writer.vector),
            "a delta from {:?} to a copy at {:?}",
            whole.from,
            self.writer.vector,
        );
        self.writer.vector.join(&whole.to);
        self.deltas.push(parts);
        StoreEvent::Applied { delta, to: Arc::new(whole.to), held: Vec::new() }
    }
}

fn bounds(part: &[u8]) -> VersionVector {
    Decoder::new().push(part).unwrap().bounds.unwrap().to
}

/// Opens a WebSocket.
pub(crate) fn dial(
    world: &World,
    path: &str,
    header: Option<&str>,
) -> Result<WebSocket<TcpStream>, u16> {
    let mut request = format!("ws://{}{path}", world.address()).into_client_request().unwrap();
    if let Some(token) = header {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("Authorization", value);
    }
    match tungstenite::client(request, world.connect()) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err(answer.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

impl Client {
    pub(crate) fn connect(world: &World, path: &str, header: Option<&str>) -> Client {
        let socket = dial(world, path, header).expect("the handshake is taken");
        Client {
            socket,
            session: Session::new(Time(0), Config::client()),
            started: Instant::now(),
            stores: BTreeMap::new(),
            events: Vec::new(),
            haves: Vec::new(),
        }
    }

    pub(crate) fn open(&mut self, store: &str, copy: Copy, token: &str) -> ChannelId {
        self.reopen(store, copy, token, None)
    }

    pub(crate) fn reopen(
        &mut self,
        store: &str,
        copy: Copy,
        token: &str,
        ticket: Option<Ticket>,
    ) -> ChannelId {
        let open = Open {
            store: StoreName::new(store).unwrap(),
            site: copy.writer.site,
            token: Bytes::copy_from_slice(token.as_bytes()),
            ticket,
        };
        let channel = self.session.open(self.now(), open).unwrap();
        self.stores.insert(channel, copy);
        channel
    }

    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(crate) fn copy(&mut self, channel: ChannelId) -> &mut Copy {
        self.stores.get_mut(&channel).unwrap()
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    /// Writes a change and tells the session.
    pub(crate) fn write(&mut self, channel: ChannelId, n: u64, text_bytes: usize) {
        let now = self.now();
        let copy = self.copy(channel);
        let from = Arc::new(copy.writer.vector.clone());
        copy.write(n, text_bytes);
        let to = Arc::new(copy.writer.vector.clone());
        let parts = copy.deltas.last().unwrap();
        let part = (parts.len() == 1).then(|| Delta::new(parts[0].clone()).unwrap());
        let event = StoreEvent::Committed { from, to, part };
        self.session.handle_store_event(now, channel, event);
    }

    /// Sends a frame that the session knows nothing of.
    pub(crate) fn send_raw(&mut self, channel: ChannelId, frame: &Frame) {
        let bytes = encode(channel, frame).into_bytes();
        self.socket.send(Message::Binary(bytes.into())).unwrap();
    }

    /// Carries out what the session wants.
    pub(crate) fn drain(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(request) = self.session.poll_request() {
                self.request(request);
                is_quiet = false;
            }
            while let Some(event) = self.session.poll_event() {
                self.events.push(event);
                is_quiet = false;
            }
            while let Some(transmit) = self.session.poll_transmit() {
                let message = Message::Binary(transmit.into_bytes().into());
                if self.socket.write(message).is_err() {
                    return;
                }
                is_quiet = false;
            }
            if is_quiet {
                let _ = self.socket.flush();
                return;
            }
        }
    }

    /// Reads one message; `false` at the end of the connection.
    pub(crate) fn read(&mut self) -> bool {
        let now = self.now();
        match self.socket.read() {
            Ok(Message::Binary(frame)) => {
                if let Ok(Decoded::Frame(_, Frame::Have(have))) = decode_frame(&frame) {
                    self.haves.push(have);
                }
                self.session.handle_frame(now, frame);
            }
            Ok(Message::Close(_)) => return false,
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if is_timeout(&error) => {
                panic!("no answer; events so far: {:?}", self.events)
            }
            Err(_) => return false,
        }
        true
    }

    /// Goes on until one of the events since the last call is wanted.
    pub(crate) fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            self.drain();
            let found = self.events.iter().enumerate().find_map(|(at, e)| Some((at, wanted(e)?)));
            if let Some((at, found)) = found {
                self.events.remove(at);
                return found;
            }
            let is_end = |event: &&Event| matches!(event, Event::Closed { by_peer: true, .. });
            let closed = self.events.iter().find(is_end);
            assert!(closed.is_none(), "{closed:?}");
            assert!(self.read(), "the connection ended");
        }
    }

    pub(crate) fn until_converged(&mut self, channel: ChannelId) {
        self.until(|event| {
            matches!(event, Event::Converged { channel: c, .. } if *c == channel).then_some(())
        });
    }

    /// Whether the channel has said so since it was asked last.
    pub(crate) fn is_converged(&mut self, channel: ChannelId) -> bool {
        let is_it =
            |event: &Event| matches!(event, Event::Converged { channel: c, .. } if *c == channel);
        let at = self.events.iter().position(is_it);
        at.map(|at| self.events.remove(at)).is_some()
    }

    /// Goes on until this copy holds what another does.
    pub(crate) fn until_holds(&mut self, channel: ChannelId, vector: &VersionVector) {
        loop {
            self.drain();
            if vector.is_at_or_below(&self.copy(channel).writer.vector) {
                return;
            }
            assert!(self.read(), "the connection ended: {:?}", self.events);
        }
    }

    pub(crate) fn until_closed(&mut self) -> ErrorFrame {
        loop {
            self.drain();
            while !self.events.is_empty() {
                if let Event::Closed { error, .. } = self.events.remove(0) {
                    return error;
                }
            }
            assert!(self.read(), "the connection ended without a word");
        }
    }

    fn request(&mut self, request: Request) {
        let now = self.now();
        match request {
            Request::Open { channel, .. } => {
                let copy = &self.stores[&channel];
                let (site, vector) = (copy.writer.site, Arc::new(copy.writer.vector.clone()));
                let event =
                    StoreEvent::Opened { site, vector, partials: Vec::new(), resumed: None };
                self.session.handle_store_event(now, channel, event);
            }
            Request::Export { channel, above, partial } => {
                let copy = self.stores.get_mut(&channel).unwrap();
                let first = partial.map_or(0, |partial| partial.next as usize);
                let event = match copy.next_above(&above) {
                    None => StoreEvent::NothingAbove,
                    Some((parts, to)) => {
                        let part = Delta::new(parts[first].clone()).unwrap();
                        copy.n_parts_read += 1;
                        StoreEvent::Exported { part, to: Arc::new(to) }
                    }
                };
                self.session.handle_store_event(now, channel, event);
            }
            Request::ReadPart { channel, delta, number } => {
                let copy = self.stores.get_mut(&channel).unwrap();
                copy.n_parts_read += 1;
                let part = copy.part(delta, number);
                self.session.handle_store_event(now, channel, StoreEvent::Part(part));
            }
            Request::Take { channel, part } => {
                let copy = self.stores.get_mut(&channel).unwrap();
                let event = copy.take(part);
                let vector = Arc::new(copy.writer.vector.clone());
                self.session.handle_store_event(now, channel, event);
                let durable = StoreEvent::Durable { replicas: 0, vector };
                self.session.handle_store_event(now, channel, durable);
            }
            Request::Chains { channel, question, asked } => {
                let copy = &self.stores[&channel];
                let chains = asked.into_iter().map(|at| copy.chain_at(at)).collect();
                let event = StoreEvent::Chains { question, chains };
                self.session.handle_store_event(now, channel, event);
            }
            Request::ReadChunk { channel, blob, index } => {
                let chunk = self.copy(channel).chunk(blob, index);
                self.session.handle_store_event(now, channel, StoreEvent::Chunk { blob, chunk });
            }
            Request::StoreChunk { channel, blob, chunk } => {
                let index = chunk.index;
                let kept = self.copy(channel).blobs.entry(blob).or_default();
                assert_eq!(kept.len() as u64, index * CHUNK_BYTES as u64);
                kept.extend_from_slice(&chunk.bytes);
                let event = StoreEvent::ChunkStored { blob, index, refusal: None };
                self.session.handle_store_event(now, channel, event);
            }
            Request::Read { channel, theirs } => {
                let copy = &self.stores[&channel];
                let chain = &mut |site, version| {
                    Ok::<_, std::convert::Infallible>(copy.chain_at((site, version)))
                };
                let reading = anabranch_core::forest::read(&copy.writer.vector, &theirs, chain);
                let event = StoreEvent::Read(reading.unwrap());
                self.session.handle_store_event(now, channel, event);
            }
            _ => {}
        }
    }
}

impl Copy {
    fn chain_at(&self, (site, version): (SiteId, u64)) -> Option<Chain> {
        self.deltas.iter().find_map(|parts| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            decode(&parts).unwrap().chain_at(site, version)
        })
    }

    fn part(&self, delta: DeltaName, number: u32) -> Delta {
        let is_it = |parts: &&Vec<Bytes>| Delta::new(parts[0].clone()).unwrap().name() == delta;
        let parts = self.deltas.iter().find(is_it).expect("a delta of this copy");
        Delta::new(parts[number as usize].clone()).unwrap()
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
