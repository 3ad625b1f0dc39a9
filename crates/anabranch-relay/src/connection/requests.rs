//! What the session asks: tokens to be looked at, stores to be opened, and what goes to a
//! channel's lane.

use std::sync::Arc;

use anabranch_core::vector::Dot;
use anabranch_sync::frame::{DeltaName, ErrorCode, Hello, Partial, Receipt, Retry, Role, Turn};
use anabranch_sync::scope::Scope;
use anabranch_sync::ticket::Basis;
use anabranch_sync::{ChannelId, Refusal, Request, StoreEvent, Verdict};

use super::lane::Lane;
use super::work::{Job, Opened, Outcome};
use super::{Connection, refusal};
use crate::relay::Relay;
use crate::storage::StagedDelta;
use crate::store_id::StoreId;
use crate::token::{Grant, TokenError};
use anabranch_clock as clock;

impl Connection {
    pub(super) fn request(&mut self, request: Request) {
        match request {
            Request::Verify { channel, hello, is_renewal } => {
                self.verify(channel, &hello, is_renewal);
            }
            Request::Open { channel, ticket, .. } => self.open(channel, &ticket),
            Request::Take { channel, part } => {
                let wake = Arc::clone(&self.wake);
                self.with_lane(channel, |lane, relay| lane.take(relay, &wake, part));
            }
            Request::Forget { channel, delta } => self.with_lane(channel, |lane, _| {
                lane.forget(delta);
                None
            }),
            Request::Export { channel, .. }
            | Request::ReadPart { channel, .. }
            | Request::Read { channel, .. }
            | Request::Chains { channel, .. }
            | Request::ReadChunk { channel, .. }
            | Request::StoreChunk { channel, .. } => {
                self.with_lane(channel, |lane, relay| lane.ask(relay, request));
            }
            Request::IssueTicket { channel, basis } => self.issue_ticket(channel, &basis),
            Request::Receipts { channel, changes } => {
                let receipts = self.receipts(channel, changes);
                self.answer(channel, StoreEvent::Receipts(receipts));
            }
            Request::Close { channel } => {
                self.save_receipts(channel);
                drop(self.lanes.remove(&channel));
            }
        }
    }

    /// How far changes got; without any: those of the peer that some copy does not show.
    fn receipts(&self, channel: ChannelId, changes: Vec<Dot>) -> Vec<Receipt> {
        let Some(lane) = self.lanes.get(&channel) else { return Vec::new() };
        let Some((peer, store)) = lane.peer.zip(lane.store()) else { return Vec::new() };
        let changes = if changes.is_empty() { store.held_of(peer) } else { changes };
        store.receipts(&self.relay, &changes)
    }

    pub(super) fn answer(&mut self, channel: ChannelId, event: StoreEvent) {
        self.session.handle_store_event(self.relay.now(), channel, event);
    }

    fn with_lane(
        &mut self,
        channel: ChannelId,
        begin: impl FnOnce(&mut Lane, &Arc<Relay>) -> Option<Job>,
    ) {
        if let Some(lane) = self.lanes.get_mut(&channel) {
            let job = begin(lane, &self.relay);
            self.begin(job);
        }
    }

    fn verify(&mut self, channel: ChannelId, hello: &Hello, is_renewal: bool) {
        let verdict = match self.granted(hello) {
            Ok(grant) => {
                let verdict = self.verdict(&grant);
                self.is_verified = true;
                self.waiting.take().inspect(|waiting| waiting.admit());
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
        let left_ms = grant.expires_s.saturating_mul(1000).saturating_sub(clock::now_ms());
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
        let Some((name, lane)) = name.zip(self.lanes.get_mut(&channel)) else { return };
        let store = self.relay.hub().open(&name);
        let limit = self.relay.config().max_store_connections;
        let Some(seat) = store.enter(&self.wake, lane.serial, limit) else {
            let text = format!("quota store-connections: {limit} are on store {name} already");
            let refusal = Refusal::new(ErrorCode::OverQuota, Retry::AfterMs(1000), text);
            return self.answer(channel, StoreEvent::OpenFailed(refusal));
        };
        let peer = self.session.peer(channel);
        lane.peer = peer.map(|(site, _)| site);
        let claims = self.relay.config().strict_sites && lane.grant.scopes.has(Scope::Write);
        let claimed = peer.filter(|peer| claims && peer.1 == Role::Peer).map(|peer| peer.0);
        let shown =
            peer.and_then(|(site, _)| self.relay.tokens().resume().open(&name, site, ticket));
        let (serial, subject) = (lane.serial, Arc::clone(&lane.grant.subject));
        let may_bring = lane.grant.scopes.has(Scope::Write);
        tracing::debug!(store = %name, %subject, "opened");
        let relay = Arc::clone(&self.relay);
        self.jobs.push(Box::pin(async move {
            let opened = async {
                if let Some(site) = claimed {
                    relay.storage().claim(&name, site, subject).await?;
                }
                if store.must_recall() {
                    store.recall(relay.now(), &relay.storage().remembered(&name).await?);
                }
                let staged = relay.storage().staged(&name).await?;
                let (n_renamings, vector) = loop {
                    let n_renamings = store.n_renamings();
                    let vector = relay.storage().vector(&name).await?;
                    if let Some(vector) = store.loaded(n_renamings, &vector) {
                        break (n_renamings, vector);
                    }
                };
                let resumed = match shown {
                    Some(basis) if relay.holds(&name, &vector, &basis.mine).await? => Some(basis),
                    _ => None,
                };
                let partials = staged.iter().map(partial).collect();
                let missing = match may_bring {
                    true => relay.storage().missing(&name).await?,
                    false => Vec::new(),
                };
                Ok(Opened { vector, n_renamings, partials, resumed, missing })
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
