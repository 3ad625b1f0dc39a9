//! The sync protocol of Anabranch as a state machine: frames in, frames and requests out.
//!
//! Two ends, one [`Session`] each, and between them a transport that carries whole frames in
//! order (`docs/protocol.md` draws every byte). A session knows no store, socket, clock or
//! random number: its *driver* has them. What goes in and comes out, in this order:
//!
//! 1. [`Session::handle_frame`]: a frame came; while [`Session::is_reading`] is false, frames
//!    stay in the socket.
//! 2. [`Session::handle_store_event`], [`Session::handle_token`],
//!    [`Session::handle_timer`]: the store answered or somebody committed, a token was looked
//!    at, time has come.
//! 3. [`Session::poll_request`] until there is none: each [`Request`] says which
//!    [`StoreEvent`] answers it.
//! 4. [`Session::poll_event`] until there is none: for people, receipts, presence.
//! 5. [`Session::poll_transmit`] while the socket takes frames; each may make room for new
//!    requests.
//! 6. Wait for the next frame, the store, or [`Session::poll_timeout`].
//!
//! Reading order: [`frame`] (what is said, and its bytes), [`scope`] (who may say it),
//! `driver` (requests, store events, events), [`Session`], `channel` with its parts,
//! [`ticket`], [`blob`], [`ReceiptBook`], [`KeepAlive`].
//!
//! What a driver promises: [`StoreEvent::Durable`], [`StoreEvent::Committed`] and the vector
//! of [`StoreEvent::Opened`] name only what is on disk, synced; a delta is applied whole or not
//! at all; requests of one kind are answered in order. What a session promises: nothing is
//! acknowledged that the driver did not call durable, memory stays within [`limits`] whatever
//! the peer sends, and nothing a peer sends makes it panic.
//!
//! # A driver
//!
//! Two stores in memory and no network between them: the loop is what a real one does too.
//!
//! ```
//! use anabranch_sync::frame::{Delta, StoreName};
//! use anabranch_sync::scope::Scopes;
//! use anabranch_sync::{
//!     Config, Event, Open, Question, Request, Session, StoreEvent, Time, Verdict,
//! };
//! use bytes::Bytes;
//! # use anabranch_core::{change::*, clock::*, delta, forest, site::SiteId, vector::*, wire};
//! # use std::{collections::BTreeMap, sync::Arc};
//! # #[derive(Clone)]
//! # struct Toy { site: SiteId, salts: BTreeMap<SiteId, Vec<u64>> }
//! # impl Toy {
//! #     fn new(byte: u8) -> Toy {
//! #         Toy { site: SiteId::new(&[byte; 16]).unwrap(), salts: BTreeMap::new() }
//! #     }
//! #     fn write(&mut self, salt: u64) { self.salts.entry(self.site).or_default().push(salt) }
//! #     fn chain(&self, site: SiteId, version: u64) -> Option<Chain> {
//! #         let salts = self.salts.get(&site)?.get(..version as usize)?;
//! #         Some((1..).zip(salts).fold(Chain::default(), |c, (v, salt)| c.next(site, v, *salt)))
//! #     }
//! #     fn held(&self, site: SiteId, version: u64) -> Held {
//! #         Held { version, chain: self.chain(site, version).unwrap() }
//! #     }
//! #     fn vector(&self) -> VersionVector {
//! #         let mut vector = VersionVector::new();
//! #         for (site, salts) in &self.salts {
//! #             vector.set(*site, self.held(*site, salts.len() as u64));
//! #         }
//! #         vector
//! #     }
//! #     fn export(&self, above: &VersionVector) -> StoreEvent {
//! #         let mut cut = delta::Delta { to: self.vector(), ..Default::default() };
//! #         for (site, salts) in &self.salts {
//! #             let low = above.version(*site).min(salts.len() as u64);
//! #             cut.from.set(*site, self.held(*site, low));
//! #             cut.headers.extend((low + 1..=salts.len() as u64).map(|version| ChangeHeader {
//! #                 site: *site, version, salt: salts[version as usize - 1], time: Hlc(1 << 16),
//! #                 deps: vec![], author: None, message: None, kind: ChangeKind::Edit,
//! #                 blobs: vec![],
//! #             }));
//! #         }
//! #         if cut.headers.is_empty() { return StoreEvent::NothingAbove }
//! #         let part = Delta::new(wire::encode(&cut).remove(0).into()).unwrap();
//! #         StoreEvent::Exported { part, to: Arc::new(cut.to) }
//! #     }
//! #     fn apply(&mut self, part: &[u8]) -> VersionVector {
//! #         let delta = wire::decode(&[part]).unwrap();
//! #         delta.verify_chains().unwrap();
//! #         for header in delta.headers {
//! #             let salts = self.salts.entry(header.site).or_default();
//! #             if header.version == salts.len() as u64 + 1 { salts.push(header.salt) }
//! #         }
//! #         delta.to
//! #     }
//! # }
//!
//! /// Answers everything that a session asks, and hands its events to `tell`.
//! fn drain(session: &mut Session, store: &mut Toy, now: Time, tell: &mut dyn FnMut(Event)) {
//!     while let Some(request) = session.poll_request() {
//!         let (channel, answer) = match request {
//!             Request::Verify { channel, .. } => {
//!                 let verdict = Verdict::Granted { scopes: Scopes::ALL, ends: None };
//!                 session.handle_token(now, channel, verdict);
//!                 continue;
//!             }
//!             Request::Open { channel, .. } => {
//!                 let (site, vector) = (store.site, Arc::new(store.vector()));
//!                 let (partials, resumed) = (Vec::new(), None);
//!                 (channel, StoreEvent::Opened { site, vector, partials, resumed })
//!             }
//!             Request::Export { channel, above, .. } => (channel, store.export(&above)),
//!             Request::Take { channel, part } => {
//!                 let (delta, to) = (part.name(), Arc::new(store.apply(part.part())));
//!                 let applied = StoreEvent::Applied { delta, to, held: Vec::new() };
//!                 session.handle_store_event(now, channel, applied);
//!                 // Here a real store syncs its disk; many deltas may share that.
//!                 let vector = Arc::new(store.vector());
//!                 (channel, StoreEvent::Durable { replicas: 0, vector })
//!             }
//!             Request::Read { channel, theirs } => {
//!                 let chain = &mut |site, at| Ok(store.chain(site, at));
//!                 let reading = forest::read(&store.vector(), &theirs, chain);
//!                 let reading: Result<_, std::convert::Infallible> = reading;
//!                 (channel, StoreEvent::Read(reading.unwrap()))
//!             }
//!             Request::Chains { channel, question, asked } => {
//!                 let chains = asked.iter().map(|(site, at)| store.chain(*site, *at)).collect();
//!                 (channel, StoreEvent::Chains { question, chains })
//!             }
//!             Request::IssueTicket { channel, .. } => (channel, StoreEvent::Ticket(None)),
//!             _ => continue,
//!         };
//!         session.handle_store_event(now, channel, answer);
//!     }
//!     while let Some(event) = session.poll_event() {
//!         tell(event);
//!     }
//! }
//!
//! let now = Time(0);
//! let (mut a, mut b) = (Toy::new(0xa), Toy::new(0xb));
//! a.write(7);
//! b.write(8);
//! b.write(9);
//! let mut client = Session::new(now, Config::client());
//! let mut relay = Session::new(now, Config::relay());
//! let store = StoreName::new("notes").expect("a name");
//! client.open(now, Open { store, site: a.site, token: Bytes::new(), ticket: None })?;
//! let mut has_converged = false;
//! loop {
//!     drain(&mut client, &mut a, now, &mut |event| {
//!         has_converged |= matches!(event, Event::Converged { .. });
//!     });
//!     drain(&mut relay, &mut b, now, &mut |_| {});
//!     let (up, down) = (client.poll_transmit(), relay.poll_transmit());
//!     if up.is_none() && down.is_none() {
//!         break;
//!     }
//!     up.into_iter().for_each(|frame| relay.handle_frame(now, frame.into_bytes().into()));
//!     down.into_iter().for_each(|frame| client.handle_frame(now, frame.into_bytes().into()));
//! }
//! assert!(has_converged && a.vector() == b.vector());
//! # let _: Option<Question> = None;
//! # Ok::<(), anabranch_sync::CommandError>(())
//! ```
#![forbid(unsafe_code)]

pub mod limits;

pub mod frame;
pub mod scope;

mod driver;
mod session;

mod channel;
mod keep_alive;

pub mod blob;
mod presence;
mod receipts;
pub mod ticket;

pub use channel::{ChannelId, Progress};
pub use driver::{Event, Question, Refusal, Request, StoreEvent, Verdict};
pub use keep_alive::{KeepAlive, Sign, Traffic};
pub use receipts::ReceiptBook;
pub use session::{CommandError, Config, Open, Session, Side, Time};
