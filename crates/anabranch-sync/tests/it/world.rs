//! A relay and some clients in one thread: their sessions, stores and the bytes between them.
//!
//! The driver is as bad as drivers may be: it syncs late, crashes to what was synced, keeps
//! deltas that are asked for part by part, polls little. The network cuts at any byte; a bad
//! one loses, doubles and swaps frames too.

use std::collections::VecDeque;
use std::sync::Arc;

use anabranch_core::site::SiteId;
use anabranch_core::vector::{Held, VersionVector};
use anabranch_sync::frame::{Ack, Delta, StoreName};
use anabranch_sync::scope::Scopes;
use anabranch_sync::{ChannelId, Config, Event, Open, Request, Session, StoreEvent, Time, Verdict};
use bytes::{Buf, Bytes};

use crate::toy::{Rng, Toy};

/// One end of a connection.
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) channel: Option<ChannelId>,
    /// Bytes on their way to this end: frames, each with its length before it.
    stream: VecDeque<u8>,
    pub(crate) events: Vec<Event>,
}

/// A connection of client `client` to the relay.
pub(crate) struct Link {
    pub(crate) client: End,
    pub(crate) relay: End,
}

impl Link {
    /// Whether either end has closed the connection or the channel.
    pub(crate) fn has_ended(&self) -> bool {
        self.client.session.channels().count() == 0 || self.relay.session.is_closed()
    }
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) relay: Toy,
    pub(crate) clients: Vec<Toy>,
    pub(crate) links: Vec<Option<Link>>,
    /// What the relay has told its sessions of as committed.
    told: Vec<VersionVector>,
    /// Whether stores sync at once.
    pub(crate) is_prompt: bool,
    /// What tokens allow.
    pub(crate) scopes: Scopes,
}

pub(crate) fn name() -> StoreName {
    StoreName::new("notes").unwrap()
}

impl World {
    pub(crate) fn new(seed: u64, n_clients: u8) -> World {
        World {
            now: Time(1000),
            rng: Rng::new(seed),
            relay: Toy::new(0xee),
            clients: (1..=n_clients).map(Toy::new).collect(),
            links: (0..n_clients).map(|_| None).collect(),
            told: vec![VersionVector::new(); usize::from(n_clients) + 1],
            is_prompt: true,
            scopes: Scopes::ALL,
        }
    }

    pub(crate) fn connect(&mut self, client: usize) {
        let end =
            |session| End { session, channel: None, stream: VecDeque::new(), events: Vec::new() };
        let mut link = Link {
            client: end(Session::new(self.now, Config::client())),
            relay: end(Session::new(self.now, Config::relay())),
        };
        let site = self.clients[client].site();
        let open = Open { store: name(), site, token: Bytes::new(), ticket: None };
        link.client.channel = Some(link.client.session.open(self.now, open).unwrap());
        self.links[client] = Some(link);
    }

    /// Sends again what was refused for good.
    pub(crate) fn retry(&mut self, client: usize) {
        for is_relay in [false, true] {
            let end = self.end(client, is_relay);
            if let Some(channel) = end.channel {
                // A channel that has ended has nothing to send again.
                let _ = end.session.retry(channel);
            }
        }
    }

    pub(crate) fn cut(&mut self, client: usize) {
        self.links[client] = None;
    }

    /// Which store: 0 the relay's, n that of client n - 1.
    fn store(&mut self, which: usize) -> &mut Toy {
        match which {
            0 => &mut self.relay,
            n => &mut self.clients[n - 1],
        }
    }

    pub(crate) fn write(&mut self, client: usize) {
        let salt = self.rng.next();
        self.clients[client].write(salt);
        if self.is_prompt {
            self.sync(client + 1);
        }
    }

    /// Syncs a store, and tells its sessions what is on disk.
    pub(crate) fn sync(&mut self, which: usize) {
        let told = self.told[which].clone();
        let store = self.store(which);
        store.sync();
        let vector = Arc::new(store.durable());
        let live = store.cut(&told);
        let now = self.now;
        self.told[which] = (*vector).clone();
        let links = self.links.iter_mut().enumerate();
        for (client, link) in links.filter_map(|(n, link)| Some((n, link.as_mut()?))) {
            let end = match which {
                0 => &mut link.relay,
                n if n == client + 1 => &mut link.client,
                _ => continue,
            };
            let Some(channel) = end.channel else { continue };
            let durable = StoreEvent::Durable { replicas: 0, vector: vector.clone() };
            end.session.handle_store_event(now, channel, durable);
            if let Some((parts, cut)) = &live {
                let (from, to) = (Arc::new(cut.from.clone()), Arc::new(cut.to.clone()));
                let part = Some(parts[0].clone()).filter(|part| part.of() == 1);
                let committed = StoreEvent::Committed { from, to, part };
                end.session.handle_store_event(now, channel, committed);
            }
        }
    }

    /// A store loses what was not synced, and all its connections.
    pub(crate) fn crash(&mut self, which: usize) {
        self.store(which).crash();
        for client in 0..self.links.len() {
            if which == 0 || which == client + 1 {
                self.links[client] = None;
            }
        }
    }

    /// Answers requests and looks at events of one end; whether there was something to do.
    fn drain(&mut self, client: usize, is_relay: bool) -> bool {
        let which = if is_relay { 0 } else { client + 1 };
        let mut was_busy = false;
        while let Some(request) = self.end(client, is_relay).session.poll_request() {
            was_busy = true;
            let is_take = matches!(request, Request::Take { .. });
            let now = self.now;
            if let Request::Verify { channel, .. } = request {
                let verdict = Verdict::Granted { scopes: self.scopes, ends: None };
                let end = self.end(client, is_relay);
                end.channel = Some(channel);
                end.session.handle_token(now, channel, verdict);
                continue;
            }
            let Some((channel, answer)) = answer(self.store(which), request) else { continue };
            let end = self.end(client, is_relay);
            end.session.handle_store_event(now, channel, answer);
            if is_take && self.is_prompt {
                self.sync(which);
            }
        }
        while let Some(event) = self.end(client, is_relay).session.poll_event() {
            was_busy = true;
            self.check(client, is_relay, &event);
            self.end(client, is_relay).events.push(event);
        }
        was_busy
    }

    pub(crate) fn end(&mut self, client: usize, is_relay: bool) -> &mut End {
        let link = self.links[client].as_mut().expect("a link that is up");
        if is_relay { &mut link.relay } else { &mut link.client }
    }

    /// Nothing is acknowledged that is not on the other's disk.
    fn check(&mut self, client: usize, is_relay: bool, event: &Event) {
        let other = if is_relay { client + 1 } else { 0 };
        let durable = self.store(other).durable();
        let covers = |ack: &Ack| {
            ack.entries.iter().all(|(site, held)| durable.version(*site) >= held.version)
        };
        match event {
            Event::Acked { ack, .. } => assert!(covers(ack), "acknowledged and not on disk"),
            Event::PeerHas { vector, .. } => {
                // A stand-in for another history has a name that nobody uses.
                let is_true = |(site, held): (SiteId, Held)| {
                    vector.branch(site).is_some() || held.version <= durable.version(site)
                };
                assert!(vector.iter().all(is_true));
            }
            _ => {}
        }
    }

    /// Moves up to `n` frames out of one end into the stream to the other.
    pub(crate) fn send(&mut self, client: usize, from_relay: bool, n: usize) -> bool {
        let mut was_busy = false;
        for _ in 0..n {
            let Some(transmit) = self.end(client, from_relay).session.poll_transmit() else {
                break;
            };
            was_busy = true;
            let len = (transmit.len_bytes() as u32).to_le_bytes();
            let to = self.end(client, !from_relay);
            to.stream.extend(len);
            to.stream.extend(transmit.into_bytes());
        }
        was_busy
    }

    /// Hands over up to `n` whole frames.
    fn receive(&mut self, client: usize, is_relay: bool, n: usize, is_bad: bool) -> bool {
        let mut was_busy = false;
        for _ in 0..n {
            let now = self.now;
            let fate = if is_bad { self.rng.below(60) } else { 60 };
            let end = self.end(client, is_relay);
            if !end.session.is_reading() {
                break;
            }
            let Some(frame) = take_frame(&mut end.stream) else { break };
            was_busy = true;
            match fate {
                0 => continue,
                1 => end.session.handle_frame(now, frame.clone()),
                2 => {
                    if let Some(next) = take_frame(&mut end.stream) {
                        end.session.handle_frame(now, next);
                    }
                }
                3 => {
                    let cut = (self.rng.below(frame.len() as u64)) as usize;
                    self.end(client, is_relay).session.handle_frame(now, frame.slice(..cut));
                    continue;
                }
                _ => {}
            }
            self.end(client, is_relay).session.handle_frame(now, frame);
        }
        was_busy
    }

    /// One step of everybody; whether anything happened.
    pub(crate) fn step(&mut self, n: usize, is_bad: bool) -> bool {
        let mut was_busy = false;
        for client in 0..self.links.len() {
            for is_relay in [false, true] {
                if self.links[client].is_none() {
                    continue;
                }
                was_busy |= self.drain(client, is_relay);
                was_busy |= self.send(client, is_relay, n);
                was_busy |= self.receive(client, is_relay, n, is_bad);
                was_busy |= self.drain(client, is_relay);
            }
        }
        was_busy
    }

    /// Everybody works until nothing happens any more, the clock going on where it must.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.step(8, false) {
                continue;
            }
            let ends = self.links.iter_mut().flatten();
            let sessions =
                ends.flat_map(|link| [&mut link.client.session, &mut link.relay.session]);
            let timers: Vec<(Time, &mut Session)> =
                sessions.filter_map(|session| Some((session.poll_timeout()?, session))).collect();
            // Tickets and heartbeats are no reason to go on.
            let due = timers.iter().map(|(at, _)| *at).min();
            let Some(due) = due.filter(|at| *at < self.now.after(9_000)) else { return };
            self.now = self.now.max(due);
            let now = self.now;
            timers.into_iter().for_each(|(_, session)| session.handle_timer(now));
        }
        panic!("does not settle");
    }

    pub(crate) fn assert_equal(&self, what: &str) {
        for client in &self.clients {
            assert_eq!(client.vector(), self.relay.vector(), "{what}: client {}", client.byte);
        }
    }
}

/// What a store answers.
pub(crate) fn answer(store: &mut Toy, request: Request) -> Option<(ChannelId, StoreEvent)> {
    Some(match request {
        Request::Open { channel, .. } => {
            let (site, vector) = (store.site(), Arc::new(store.durable()));
            let (partials, resumed) = (store.partials(), None);
            (channel, StoreEvent::Opened { site, vector, partials, resumed })
        }
        Request::Export { channel, above, partial } => (channel, store.export(&above, partial)),
        Request::ReadPart { channel, delta, number } => (channel, store.part(delta, number)),
        Request::Forget { delta, .. } => {
            store.forget(delta);
            return None;
        }
        Request::Take { channel, part } => (channel, store.take(part)),
        Request::Read { channel, theirs } => (channel, store.read(&theirs)),
        Request::Chains { channel, question, asked } => {
            let chains = asked.iter().map(|(site, version)| store.chain(*site, *version));
            (channel, StoreEvent::Chains { question, chains: chains.collect() })
        }
        Request::IssueTicket { channel, .. } => (channel, StoreEvent::Ticket(None)),
        Request::Receipts { channel, .. } => (channel, StoreEvent::Receipts(Vec::new())),
        Request::ReadChunk { channel, blob, .. } => {
            (channel, StoreEvent::Chunk { blob, chunk: None })
        }
        Request::StoreChunk { channel, blob, chunk } => {
            let index = chunk.index;
            (channel, StoreEvent::ChunkStored { blob, index, refusal: None })
        }
        Request::Verify { .. } | Request::Close { .. } => return None,
    })
}

fn take_frame(stream: &mut VecDeque<u8>) -> Option<Bytes> {
    let head: Vec<u8> = stream.iter().take(4).copied().collect();
    let len = u32::from_le_bytes(head.try_into().ok()?) as usize;
    if stream.len() < 4 + len {
        return None;
    }
    stream.advance(4);
    Some(stream.copy_to_bytes(len))
}

/// A part that is a delta of its own.
pub(crate) fn only_part(parts: &[Delta]) -> Delta {
    assert_eq!(parts.len(), 1);
    parts[0].clone()
}
