//! What happened: answers of the storage, what others committed or show, and what the
//! session has to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::vector::Dot;
use anabranch_sync::frame::{Ack, Entry, Participant};
use anabranch_sync::{ChannelId, Event, StoreEvent};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::lane::Lane;
use super::work::{Job, Opened, Outcome};
use super::{Connection, refusal};
use crate::hub::Ended;
use crate::limits::REMEMBER_MS;
use crate::storage::{Remembered, StorageError};

impl Connection {
    /// Begins what was asked for. What need not wait is done at once.
    pub(super) fn begin(&mut self, job: Option<Job>) {
        let Some(mut job) = job else { return };
        match (&mut job).now_or_never() {
            Some(outcome) => self.done(outcome),
            None => self.jobs.push(job),
        }
    }

    /// Something was done, and perhaps what waited for it.
    pub(super) fn done(&mut self, outcome: Outcome) {
        let mut next = self.finish(outcome);
        while let Some(mut job) = next.take() {
            match (&mut job).now_or_never() {
                Some(outcome) => next = self.finish(outcome),
                None => self.jobs.push(job),
            }
        }
    }

    /// Tells what came of something; what goes on with it.
    fn finish(&mut self, outcome: Outcome) -> Option<Job> {
        let relay = Arc::clone(&self.relay);
        let serial = match &outcome {
            Outcome::Opened { serial, .. }
            | Outcome::Read { serial, .. }
            | Outcome::Took { serial, .. } => *serial,
        };
        let lane = self.lanes.iter_mut().find(|(_, lane)| lane.serial == serial);
        // Its channel may have closed meanwhile.
        let (channel, lane) = lane?;
        let (channel, mut next) = (*channel, None);
        let (mut wanted, mut is_first) = (Vec::new(), false);
        let events = match outcome {
            Outcome::Opened { seat, opened: Ok(opened), .. } => {
                lane.opened(&relay, seat, opened.n_renamings);
                let site = relay.site();
                let Opened { vector, partials, resumed, missing, .. } = opened;
                wanted = missing;
                let opened = StoreEvent::Opened { site, vector, partials, resumed };
                // What came while it was being opened: whoever woke this channel was not heard.
                std::iter::once(opened).chain(lane.news()).collect()
            }
            Outcome::Opened { opened: Err(error), .. } => {
                vec![StoreEvent::OpenFailed(refusal::of_storage(&error))]
            }
            Outcome::Read { event, exported, .. } => {
                let event = lane.read(*event, exported);
                next = lane.next_read(&relay);
                vec![event]
            }
            Outcome::Took { delta, intake, took, .. } => {
                if let Err(StorageError::BlobsFirst { blobs }) = &took {
                    (wanted, is_first) = (blobs.clone(), true);
                }
                let events = lane.took(delta, intake, took);
                next = lane.next_take(&relay, &self.wake);
                events
            }
        };
        for event in events {
            self.answer(channel, event);
        }
        self.want_blobs(channel, &wanted, is_first);
        next
    }

    /// Commits have ended, others committed something, or show themselves.
    pub(super) fn hear_news(&mut self) {
        // What was handed over may have ended before it was seen here to be handed over.
        while let Some(Some(outcome)) = self.jobs.next().now_or_never() {
            self.done(outcome);
        }
        let news = self.wake.take();
        let channel_of = |lanes: &BTreeMap<ChannelId, Box<Lane>>, serial: u32| {
            lanes.iter().find(|(_, lane)| lane.serial == serial).map(|(channel, _)| *channel)
        };
        let relay = Arc::clone(&self.relay);
        let mut ended = news.ended.into_iter().peekable();
        while let Some(first) = ended.next() {
            let serial = first.channel;
            let of_it = std::iter::once(first)
                .chain(std::iter::from_fn(|| ended.next_if(|next| next.channel == serial)))
                .map(|Ended { slot, appended, .. }| (slot, appended));
            let lane = self.lanes.iter_mut().find(|(_, lane)| lane.serial == serial);
            // Its channel may have closed meanwhile.
            let Some((channel, lane)) = lane else {
                of_it.for_each(drop);
                continue;
            };
            let (channel, events) = (*channel, lane.committed(&relay, of_it));
            for event in events {
                self.answer(channel, event);
            }
            self.say_have_if_due(channel);
        }
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

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::PeerHas { channel, vector } => {
                let entries = vector.iter().collect();
                self.note_receipt(channel, entries, Vec::new(), Vec::new(), 0);
            }
            Event::Acked { channel, ack } => {
                self.note_receipt(channel, ack.entries, ack.held, ack.shown, ack.replicas);
            }
            Event::BlobDone { channel, blob } => self.blob_ended(channel, blob, None),
            Event::BlobFailed { channel, blob, refusal } => {
                self.blob_ended(channel, blob, Some(&refusal));
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
        entries: Vec<Entry>,
        held: Vec<Dot>,
        shown: Vec<Dot>,
        replicas: u64,
    ) {
        let Some((site, role)) = self.session.peer(channel) else { return };
        let (now, ack) = (self.relay.now(), Ack { replicas, entries, held, shown });
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        let Some(store) = lane.store() else { return };
        store.note_receipt(now, site, role, &ack);
        let since = *lane.unsaved.get_or_insert(now);
        if now.since(since) >= REMEMBER_MS {
            self.save_receipts(channel);
        }
    }

    /// Writes down what a channel's peer has said to have; nobody waits for it.
    pub(super) fn save_receipts(&mut self, channel: ChannelId) {
        let Some(lane) = self.lanes.get_mut(&channel) else { return };
        let Some(_) = lane.unsaved.take() else { return };
        let Some((site, store)) = lane.peer.zip(lane.store()) else { return };
        if let Some(bytes) = store.remember(site) {
            let now_ms = anabranch_clock::now_ms();
            let place = Remembered { site, bytes, now_ms };
            drop(self.relay.storage().remember(store.name(), place));
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
