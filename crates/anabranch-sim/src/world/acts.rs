//! What happens in a world: writing most of the time, and everything that goes wrong.

use anabranch_client::Event;
use anabranch_relay::testing::Connection;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::set::Set;
use super::site::{Place, Site};
use super::{Client, Due, Link, STORE, World, Wrong};

/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

impl World<'_> {
    /// The next thing.
    pub(super) fn act(&mut self) -> Result<(), String> {
        let site = self.rng.random_range(0..self.sites.len());
        let relay = self.rng.random_range(0..self.nodes.len());
        match self.rng.random_range(0..100) {
            0..44 => self.write(site),
            44..46 => self.join(relay),
            46..48 => self.revoke(),
            48..50 => self.compact(site),
            50..62 => {
                let links: Vec<usize> = self.links.keys().copied().collect();
                if !links.is_empty() {
                    let n = self.rng.random_range(0..links.len());
                    self.cut(links[n]);
                }
                Ok(())
            }
            62..72 => self.round(site),
            72..77 => {
                let (k, fault) = self.any_fault();
                self.sites[site].drive().disk.fail_at(k, fault);
                Ok(())
            }
            77..80 => {
                let (k, fault) = self.any_fault();
                self.rack.relays[relay].disk.fail_at(k, fault);
                Ok(())
            }
            80..83 => {
                let is_power = self.rng.random();
                self.crash_site(site, is_power)
            }
            83..85 => {
                let is_power = self.rng.random();
                match self.nodes[relay].relay.is_some() {
                    true => self.crash_relay(relay, is_power),
                    false => Ok(()),
                }
            }
            85..89 => self.turn_clock(site),
            89..92 => self.back_up(site, relay),
            92..94 => self.restore_site(site),
            94..95 => self.restore_relay(relay),
            95..97 => self.clone_site(site),
            97..98 => self.meddle_with_files(),
            98..99 => {
                // Nobody looks for days.
                self.now_ms += self.rng.random_range(0..20 * 24 * HOUR_MS.cast_unsigned());
                self.tell_time();
                Ok(())
            }
            _ => self.check_receipts(),
        }
    }

    /// A copy takes from the directory and gives to it.
    pub(super) fn round(&mut self, site: usize) -> Result<(), String> {
        if self.rng.random_ratio(1, 10) && self.n_acts_left > 0 {
            let n = self.rng.random_range(0..8);
            self.files.fail_in(Some(n));
        }
        let (copy, book) = (&mut self.sites[site], &mut self.book);
        let (disk, sync, wall) = (&copy.drive().disk, copy.sync, copy.wall.get());
        let (mut looked, mut has_changed) = (Ok(()), false);
        // A row may rise between two files: what was known then is seen only then.
        let mut look = |event| {
            if matches!(event, Event::Took(_)) && looked.is_ok() {
                looked = copy.observe(book).map(|changed| has_changed |= changed);
            }
        };
        let ended =
            anabranch_client::testing::round(sync, &self.files, "dir:/world", wall, &mut look);
        if let Err(what) = looked.as_ref()
            && !disk.has_failed()
        {
            return Err(format!("copy {site}, in a round: {what}"));
        }
        if has_changed {
            self.stir_site(site);
        }
        self.files.fail_in(None);
        self.report.n_rounds += 1;
        let ended = ended.map(|report| {
            for skipped in &report.skipped {
                let why = &skipped.why;
                self.trace.push(format!("{} ms: copy {site}, directory: {why}", self.now_ms));
                self.report.n_clock_ahead += u64::from(why.contains("ClockAhead"));
            }
            report.skipped.into_iter().find(|skipped| skipped.why.contains("SiteReused"))
        });
        match ended {
            Ok(Some(reused)) => return Err(format!("copy {site}: {}", reused.why)),
            Ok(None) => {}
            Err(error) => self.settle(site, Err(error.to_string()))?,
        }
        self.settle(site, Ok(()))
    }

    /// A copy forgets what all peers have acknowledged; or, sometimes, all that it holds, as
    /// who names a floor may.
    fn compact(&mut self, site: usize) -> Result<(), String> {
        self.note(|| format!("copy {site} forgets"));
        self.book.may_rise();
        let has_named = self.rng.random_ratio(1, 3);
        let compacted = self.sites[site].compact(has_named);
        self.report.n_compactions += u64::from(compacted.is_ok());
        match compacted {
            Err(why) if why.contains("ana_compact:") => self.settle(site, Ok(())),
            other => self.settle(site, other),
        }
    }

    /// A relay joins what it has, and makes a checkpoint of it, as it does now and then: more
    /// often here.
    fn join(&mut self, relay: usize) -> Result<(), String> {
        let Some(node) = &self.nodes[relay].relay else { return Ok(()) };
        let min_deltas = self.rng.random_range(2..12);
        let is_whole = self.rng.random_ratio(1, 3);
        let joined = node.join(STORE, min_deltas);
        let gathered = if is_whole { node.make_checkpoints(STORE) } else { Ok(0) };
        self.note(|| format!("relay {relay} joins: {joined:?}, in checkpoints: {gathered:?}"));
        if !self.rack.relays[relay].disk.has_failed() {
            self.report.n_joined += joined?;
            self.report.n_gathered += gathered?;
        }
        self.commit(relay)
    }

    /// The token that somebody is connected by is worth nothing any more.
    fn revoke(&mut self) -> Result<(), String> {
        let with_pass = |(number, link): (&usize, &Link<'_>)| {
            let subject = link.pass.as_ref()?.subject.clone();
            link.server.as_ref().map(|_| (*number, link.relay, subject))
        };
        let passes: Vec<_> = self.links.iter().filter_map(with_pass).collect();
        let Some((number, relay, subject)) = passes.choose(&mut self.rng).cloned() else {
            return Ok(());
        };
        let Some(node) = &self.nodes[relay].relay else { return Ok(()) };
        let revoked = node.revoke(&subject);
        self.note(|| format!("link {number}: {subject} is revoked: {revoked:?}"));
        if revoked.is_err() && self.rack.relays[relay].disk.has_failed() {
            return self.commit(relay);
        }
        revoked?;
        self.report.n_ended += 1;
        self.turn(number)?;
        let goes_on = |link: &Link<'_>| {
            let is_open = link.client.as_ref().is_some_and(Client::is_open);
            is_open && link.server.as_ref().is_some_and(Connection::is_serving)
        };
        if self.links.get(&number).is_some_and(goes_on) {
            return Err(format!("link {number} goes on with a revoked token"));
        }
        self.commit(relay)
    }

    /// A clock is set wrong, or right again.
    fn turn_clock(&mut self, site: usize) -> Result<(), String> {
        let hours = [0, 0, -30, 1, 5, 24 * 365 * 3, -24 * 365 * 5];
        let off_ms = hours[self.rng.random_range(0..hours.len())] * HOUR_MS;
        self.note(|| format!("the clock of copy {site} is off by {off_ms} ms"));
        let site = &mut self.sites[site];
        site.off_ms = off_ms;
        // What is written now may be ahead of all others until then.
        site.fastest_ms = site.fastest_ms.max(off_ms.max(0).cast_unsigned());
        self.tell_time();
        Ok(())
    }

    fn back_up(&mut self, site: usize, relay: usize) -> Result<(), String> {
        self.note(|| format!("backups of copy {site} and relay {relay}"));
        let copy = &mut self.sites[site];
        copy.backup = Some(copy.back_up());
        self.nodes[relay].backup = Some(self.rack.relays[relay].disk.image());
        Ok(())
    }

    /// A copy's file is replaced by an older one; sometimes nobody notices, and the copy goes on
    /// under the name that it had.
    fn restore_site(&mut self, site: usize) -> Result<(), String> {
        if self.arena.n_free() < 8 {
            return Ok(());
        }
        let Some(backup) = self.sites[site].backup.take() else { return Ok(()) };
        let is_unseen = self.rng.random_ratio(2, 3);
        self.note(|| format!("copy {site} is restored, unseen: {is_unseen}"));
        self.drop_ends_of(site);
        let place = self.sites[site].put_back(backup);
        self.taken_over(site, site, is_unseen.then_some(place))
    }

    /// A copy's file is replaced by a copy of another's, and both go on.
    fn clone_site(&mut self, site: usize) -> Result<(), String> {
        let other = self.rng.random_range(0..self.sites.len());
        if other == site || self.arena.n_free() < 8 {
            return Ok(());
        }
        let is_unseen = self.rng.random_ratio(2, 3);
        self.note(|| format!("copy {site} becomes a clone of {other}, unseen: {is_unseen}"));
        self.drop_ends_of(site);
        let Site { place, .. } = self.sites[other];
        let (from, doubted) = (self.sites[other].drive(), self.sites[other].doubted());
        self.sites[site].become_clone(from, doubted);
        self.taken_over(site, other, is_unseen.then_some(place))
    }

    /// A copy has another file, which was that of `other`.
    fn taken_over(
        &mut self,
        site: usize,
        other: usize,
        was_at: Option<Place>,
    ) -> Result<(), String> {
        self.report.n_copies += 1;
        self.sites[site].take_over(&mut self.book, was_at)?;
        // Under these names somebody has said what is not true of this file.
        let name = self.sites[site].name()?;
        self.doubtful.insert(name);
        for of in [site, other] {
            self.doubtful.extend(&self.sites[of].names);
        }
        self.forget_lost();
        Ok(())
    }

    /// A relay goes back to an older disk.
    fn restore_relay(&mut self, relay: usize) -> Result<(), String> {
        let Some(image) = self.nodes[relay].backup.take() else { return Ok(()) };
        self.note(|| format!("relay {relay} is restored"));
        self.report.n_copies += 1;
        self.stop_relay(relay);
        // What it said before is not true any more: nobody may hear of it.
        self.links.retain(|_, link| link.relay != relay);
        for site in 0..self.sites.len() {
            if self.talks_to[site].contains(&relay) {
                self.after(2_000, Due::Connect(site, relay));
            }
        }
        self.rack.relays[relay].disk.restore(&image);
        if self.plan.wrong != Wrong::RelayForgets {
            self.nodes[relay].held = Set::default();
        }
        self.start(relay)?;
        self.forget_lost();
        Ok(())
    }

    fn forget_lost(&mut self) {
        let sites = self.sites.iter().map(|site| &site.held);
        let holders: Vec<_> = sites.chain(self.nodes.iter().map(|node| &node.held)).collect();
        self.book.forget_lost(&holders);
    }

    /// A cloud drive does what it wants: half a file, a file twice, a file less.
    fn meddle_with_files(&mut self) -> Result<(), String> {
        let listed = self.files.list();
        if listed.is_empty() {
            return Ok(());
        }
        let (name, n_bytes) = listed[self.rng.random_range(0..listed.len())].clone();
        let Some(mut bytes) = self.files.read(&name) else { return Ok(()) };
        match self.rng.random_range(0..3) {
            0 => {
                bytes.truncate(self.rng.random_range(0..n_bytes.max(1)));
                self.files.set(&format!("{name} (conflicted copy)"), Some(bytes));
            }
            1 => self.files.set(&format!("changes/renamed {n_bytes}.ana"), Some(bytes)),
            _ => self.files.set(&name, None),
        }
        self.note(|| format!("meddled with {name}"));
        Ok(())
    }
}
