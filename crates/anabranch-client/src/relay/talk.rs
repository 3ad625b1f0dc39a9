//! What is said on one connection: the session, and which store each channel is about. Knows
//! no socket and no clock.

use std::collections::{BTreeMap, VecDeque};

use anabranch_sync::frame::ErrorFrame;
use anabranch_sync::{ChannelId, Config, Event as SessionEvent, Request, Session, Time};
use bytes::Bytes;

use super::channel::{self, Channel};
use crate::replica::StoreError;
use crate::report::Told;

/// A session and its channels.
pub(crate) struct Talk {
    pub(crate) session: Session,
    /// Place of a channel's store among all.
    pub(crate) places: BTreeMap<ChannelId, usize>,
    /// What ended it: the session sends its last words, and no more.
    pub(crate) ending: Option<ErrorFrame>,
}

impl Talk {
    /// Opens a channel for each store, on a connection that was just made.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub(crate) fn begin(
        now: Time,
        token: &Bytes,
        channels: &mut [Channel<'_>],
    ) -> Result<Talk, StoreError> {
        let session = Session::new(now, Config::client());
        let mut talk = Talk { session, places: BTreeMap::new(), ending: None };
        for (place, channel) in channels.iter_mut().enumerate() {
            let open = channel.open(token.clone())?;
            // All channels are free on a new connection, and a token that is too long was
            // refused before.
            if let Ok(id) = talk.session.open(now, open) {
                talk.session.handle_store_event(now, id, channel.held_at_open()?);
                if let Some(state) = channel.presence() {
                    // It is no longer than what was taken.
                    let _ = talk.session.set_presence(id, Some(state));
                }
                talk.places.insert(id, place);
            }
        }
        Ok(talk)
    }

    /// What is to be done before waiting: news of the stores, and of the clock.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub(crate) fn turn(
        &mut self,
        now: Time,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<(), StoreError> {
        // What the session has told was true before the news.
        while self.answer(now, channels, told)? {}
        for (id, place) in &self.places {
            for event in channels[*place].news()? {
                self.session.handle_store_event(now, *id, event);
            }
            channels[*place].tell_forks(told);
        }
        self.session.handle_timer(now);
        self.drain(now, channels, told)
    }

    /// Takes a frame, and answers what follows from it. What it brought is committed, and not
    /// acknowledged before [`Talk::drain`]: several frames share one sync of the disk and one
    /// acknowledgement.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub(crate) fn take(
        &mut self,
        now: Time,
        frame: Bytes,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<(), StoreError> {
        self.session.handle_frame(now, frame);
        while self.answer(now, channels, told)? {}
        Ok(())
    }

    /// Answers all that the session asks, takes note of all it tells, and says what was
    /// committed to be on the disk.
    ///
    /// # Errors
    /// What is wrong with a store's own file.
    pub(crate) fn drain(
        &mut self,
        now: Time,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<(), StoreError> {
        loop {
            let mut is_idle = !self.answer(now, channels, told)?;
            for (id, place) in &self.places {
                for event in channels[*place].news_if_owed()? {
                    is_idle = false;
                    self.session.handle_store_event(now, *id, event);
                }
                channels[*place].tell_forks(told);
            }
            for (id, place) in &self.places {
                let Some(question) = channels[*place].next_question() else { continue };
                if self.session.ask_receipts(*id, question).is_err() {
                    channels[*place].drop_questions();
                }
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    /// One round of answers and notes; whether there was anything.
    fn answer(
        &mut self,
        now: Time,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<bool, StoreError> {
        let mut has_answered = false;
        while let Some(request) = self.session.poll_request() {
            has_answered = true;
            let Some((id, place)) = self.place_of(&request) else { continue };
            if let Some(event) = channels[place].answer(request, told)? {
                self.session.handle_store_event(now, id, event);
            }
        }
        while let Some(event) = self.session.poll_event() {
            has_answered = true;
            self.note(event, channels, told)?;
        }
        Ok(has_answered)
    }

    fn place_of(&self, request: &Request) -> Option<(ChannelId, usize)> {
        let id = channel::of_request(request);
        self.places.get(&id).map(|place| (id, *place))
    }

    fn note(
        &mut self,
        event: SessionEvent,
        channels: &mut [Channel<'_>],
        told: &mut VecDeque<Told>,
    ) -> Result<(), StoreError> {
        if let SessionEvent::Closed { channel: None, error, .. } = event {
            self.ending = Some(error);
            return Ok(());
        }
        let Some(id) = channel::of_event(&event) else { return Ok(()) };
        let Some(place) = self.places.get(&id).copied() else { return Ok(()) };
        if let SessionEvent::Closed { .. } = event {
            self.places.remove(&id);
        }
        let is_opened = matches!(event, SessionEvent::Opened { .. });
        if let Some(progress) = self.session.progress(id) {
            channels[place].note_progress(&progress);
        }
        channels[place].note(event, told)?;
        if is_opened {
            for (blob, first) in channels[place].blobs_to_want()? {
                if self.session.want_blob(id, blob, first).is_err() {
                    break;
                }
            }
        }
        if self.places.is_empty() && self.ending.is_none() {
            // Nothing is left to talk about: as the last channel ended.
            self.ending = channels[place].ended_with().cloned();
        }
        Ok(())
    }
}
