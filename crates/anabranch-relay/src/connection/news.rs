//! What happened: answers of the storage, what others committed or show, and what the
//! session has to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_core::vector::Dot;
use anabranch_sync::frame::{Ack, Entry, Participant};
use anabranch_sync::{ChannelId, Event, StoreEvent};
use bytes::Bytes;

use super::lane::Lane;
use super::work::{Opened, Outcome};
use super::{Connection, refusal};
use crate::limits::REMEMBER_MS;
use crate::storage::{Remembered, StorageError};

impl Connection {
    pub(super) fn done(&mut self, outcome: Outcome) {
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
                self.jobs.extend(lane.next_read(&relay));
                vec![event]
            }
            Outcome::Took { delta, intake, took, .. } => {
                if let Err(StorageError::BlobsFirst { blobs }) = &took {
                    (wanted, is_first) = (blobs.clone(), true);
                }
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
        self.want_blobs(channel, &wanted, is_first);
    }

    /// Others committed something, or show themselves.
    pub(super) fn hear_news(&mut self) {
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
