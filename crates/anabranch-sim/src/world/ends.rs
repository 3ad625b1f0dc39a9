//! Both ends of connections: how frames move, what each end does with them, and what must be
//! true afterwards.

use std::collections::BTreeMap;

use anabranch_client::{Event, StoreError};
use anabranch_core::vector::Dot;
use anabranch_sqlite::vfs::Fault;
use anabranch_sync::frame::{Decoded, Frame, Reach, Turn, decode};
use bytes::Bytes;
use rand::RngExt;

use super::link::Pass;
use super::{Client, Due, Link, Relay, START_MS, STORE, World};

/// What became of something that touched a disk.
enum Touched {
    /// It went through.
    Well,
    /// The disk failed, as it was to; it works on.
    Failed,
    /// The disk died, as it was to, and the process with it.
    Died,
}

impl World<'_> {
    /// A copy connects to a relay, unless it is connected.
    pub(super) fn connect(&mut self, site: usize, relay: usize) -> Result<(), String> {
        let is_it = |link: &Link<'_>| (link.site, link.relay) == (site, relay);
        if self.links.values().any(|link| is_it(link) && link.client.is_some()) {
            return Ok(());
        }
        if self.nodes[relay].relay.is_none() {
            self.after(2_000, Due::Connect(site, relay));
            return Ok(());
        }
        let url = format!("ws://relay{relay}/sync/{STORE}");
        let pass = self.any_pass(relay)?;
        let token = pass.as_ref().map_or(&self.rack.cabinets[relay].token, |pass| &pass.token);
        let node = self.nodes[relay].relay.as_ref().ok_or("it was there")?;
        let server = node.connect();
        let begun = Client::begin(self.time(), self.sites[site].sync, &self.name, &url, token);
        let client = match begun {
            Ok(client) => client,
            Err(error) => {
                self.touched(site, Err(error))?;
                self.after(2_000, Due::Connect(site, relay));
                return Ok(());
            }
        };
        let latency_ms = [1, 20, 200, 3_000][self.rng.random_range(0..4)];
        let mut link = Link::between(site, relay, latency_ms, client);
        (link.server, link.pass) = (Some(server), pass);
        self.n_links += 1;
        self.links.insert(self.n_links, link);
        self.report.n_connections += 1;
        let number = self.n_links;
        self.note(|| format!("link {number}: {site} connects to relay {relay}"));
        self.turn(self.n_links)
    }

    /// Some connect by a token that soon ends, or that is revoked.
    fn any_pass(&mut self, relay: usize) -> Result<Option<Pass>, String> {
        if self.n_acts_left == 0 || !self.rng.random_ratio(1, 3) {
            return Ok(None);
        }
        self.new_pass(relay).map(Some)
    }

    fn new_pass(&mut self, relay: usize) -> Result<Pass, String> {
        self.n_passes += 1;
        let subject = format!("guest {}", self.n_passes);
        let life_s = [1, 20, 90, 3_600][self.rng.random_range(0..4)];
        let (token, ends_at) = self.rack.cabinets[relay].token_for(&subject, life_s)?;
        Ok(Pass { subject, token, ends_ms: ends_at.saturating_sub(START_MS) })
    }

    /// A client wants a new token: it is shown one, or forgotten.
    fn renew_token(&mut self, number: usize) -> Result<(), String> {
        let Some(link) = self.links.get(&number) else { return Ok(()) };
        if link.pass.is_none() || self.rng.random() {
            return Ok(());
        }
        let pass = self.new_pass(link.relay)?;
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if let Some(client) = &mut link.client {
            client.renew_token(&pass.token);
            // From when on the relay knows it is not known here.
            link.pass = None;
        }
        Ok(())
    }

    /// Both ends look at clock and store, unless they have done so earlier than was thought.
    pub(super) fn turn_if_due(&mut self, number: usize) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if link.turns_ms.is_none_or(|at| at > self.now_ms) {
            return Ok(());
        }
        link.turns_ms = None;
        self.turn(number)
    }

    /// Both ends of a connection are to look at clock and store, at the latest then.
    fn turn_at(&mut self, number: usize, at_ms: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.turns_ms.is_none_or(|earlier| at_ms < earlier) {
            link.turns_ms = Some(at_ms);
            self.at(at_ms, Due::Turn(number));
        }
    }

    /// Both ends look at clock and store.
    pub(super) fn turn(&mut self, number: usize) -> Result<(), String> {
        let now = self.time();
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if let Some(server) = &mut link.server {
            server.turn();
            let is_open = link.client.as_ref().is_some_and(Client::is_open);
            if link.pass.as_ref().is_some_and(|pass| pass.ends_ms <= now.0) && is_open {
                if server.is_serving() {
                    return Err(format!("link {number} goes on after its token's end"));
                }
                self.report.n_ended += u64::from(link.pass.take().is_some());
            }
        }
        if let Some(client) = &mut link.client {
            let turned = client.turn(now);
            self.after_client(number, turned)?;
        }
        self.pump(number);
        Ok(())
    }

    /// A frame arrives at the relay.
    pub(super) fn deliver_up(&mut self, number: usize) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let Some(server) = &mut link.server else { return Ok(()) };
        if !server.is_reading() && !server.is_closed() {
            self.after(20, Due::Up(number));
            return Ok(());
        }
        let Some(frame) = link.up.receive(self.now_ms) else { return Ok(()) };
        server.take(frame);
        self.report.n_frames += 1;
        let relay = link.relay;
        if !std::mem::replace(&mut self.nodes[relay].is_committing, true) {
            self.after(20, Due::Commit(relay));
        }
        self.pump(number);
        Ok(())
    }

    /// A frame arrives at the copy.
    pub(super) fn deliver_down(&mut self, number: usize) -> Result<(), String> {
        let now = self.time();
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if link.client.is_none() {
            return Ok(());
        }
        if self.rng.random_ratio(1, 8) {
            // It is busy: more may come meanwhile.
            self.after(200, Due::Down(number));
            return Ok(());
        }
        // What has come is taken together, and acknowledged together.
        let mut is_first = true;
        while let Some(link) = self.links.get_mut(&number)
            && let Some(client) = &mut link.client
        {
            if !client.is_reading() && client.ended().is_none() {
                if is_first {
                    self.after(20, Due::Down(number));
                }
                break;
            }
            let Some(frame) = link.down.receive(self.now_ms) else { break };
            self.report.n_frames += 1;
            self.report.n_resumed += u64::from(takes_ticket(&frame));
            is_first = false;
            let taken = client.take(now, frame);
            self.after_client(number, taken)?;
        }
        if is_first {
            return Ok(());
        }
        let client = self.links.get_mut(&number).and_then(|link| link.client.as_mut());
        if let Some(client) = client {
            let drained = client.drain(now);
            self.after_client(number, drained)?;
        }
        self.pump(number);
        // As the loop does that ships, it looks at the store before it waits again.
        let at_ms = self.now_ms + self.rng.random_range(1..=20);
        self.turn_at(number, at_ms);
        Ok(())
    }

    /// Sends what both ends have to say, as far as there is room.
    fn pump(&mut self, number: usize) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let (mut dues, mut turns) = (Vec::new(), Vec::new());
        let mut latency = || {
            let jitter = link.latency_ms / 2 + 1;
            link.latency_ms + self.rng.random_range(0..jitter)
        };
        if let Some(client) = &mut link.client {
            while link.up.has_room()
                && let Some(frame) = client.poll_frame()
            {
                let arrives = link.up.send(self.now_ms, latency(), frame);
                dues.extend(arrives.map(|at| (at, Due::Up(number))));
            }
            turns.extend(client.deadline().map(|at| at.0));
        }
        if let Some(server) = &mut link.server {
            while link.down.has_room()
                && let Some(frame) = server.poll_frame()
            {
                let arrives = link.down.send(self.now_ms, latency(), frame);
                dues.extend(arrives.map(|at| (at, Due::Down(number))));
            }
            turns.extend(server.deadline_ms());
        }
        let has_ended = link.client.as_ref().is_some_and(|client| client.ended().is_some())
            || link.server.as_ref().is_some_and(|server| server.is_closed());
        if has_ended && !link.is_cut {
            link.close();
            dues.push((link.up.drained_ms(self.now_ms) + 1, Due::LostByServer(number)));
            dues.push((link.down.drained_ms(self.now_ms) + 1, Due::LostByClient(number)));
        }
        for (at, due) in dues {
            self.at(at, due);
        }
        // What is years away is looked at when something else happens.
        let turns = turns.into_iter().min().filter(|at| *at < self.now_ms + 86_400_000);
        if let Some(at_ms) = turns {
            self.turn_at(number, at_ms.max(self.now_ms + 1));
        }
    }

    /// Cuts a connection; each end hears of it some time later.
    pub(super) fn cut(&mut self, number: usize) {
        let Some(link) = self.links.get_mut(&number) else { return };
        if link.is_cut {
            return;
        }
        link.cut(&mut self.rng);
        let (up, down) = (link.up.drained_ms(self.now_ms), link.down.drained_ms(self.now_ms));
        self.note(|| format!("link {number}: cut"));
        let late = [10, 1_000, 60_000][self.rng.random_range(0..3)];
        let (by_server, by_client) =
            (self.rng.random_range(0..late), self.rng.random_range(0..late));
        self.at(up + 1 + by_server, Due::LostByServer(number));
        self.at(down + 1 + by_client, Due::LostByClient(number));
    }

    pub(super) fn lost_by_client(&mut self, number: usize) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let (site, relay) = (link.site, link.relay);
        let Some(client) = link.client.take() else { return Ok(()) };
        self.drop_gone();
        let lost = client.lost("cut");
        self.touched(site, lost)?;
        self.after(2_000, Due::Connect(site, relay));
        Ok(())
    }

    pub(super) fn lost_by_server(&mut self, number: usize) {
        if let Some(link) = self.links.get_mut(&number) {
            link.server = None;
            if !link.is_cut {
                link.close();
                let at = link.down.drained_ms(self.now_ms) + 1;
                self.at(at, Due::LostByClient(number));
            }
        }
        self.drop_gone();
    }

    fn drop_gone(&mut self) {
        self.links.retain(|_, link| !link.is_gone());
    }

    /// Drops the ends of a copy that is dead; the relay's ends hear of it later.
    pub(super) fn drop_ends_of(&mut self, site: usize) {
        let of_it: Vec<usize> =
            self.links.iter().filter(|(_, link)| link.site == site).map(|(n, _)| *n).collect();
        for number in of_it {
            let Some(link) = self.links.get_mut(&number) else { continue };
            link.client = None;
            if !link.is_cut {
                link.cut(&mut self.rng);
            }
            let at = link.up.drained_ms(self.now_ms) + 1 + self.rng.random_range(0..5_000);
            self.at(at, Due::LostByServer(number));
        }
        for relay in self.talks_to[site].clone() {
            self.after(2_000, Due::Connect(site, relay));
        }
        self.drop_gone();
    }

    /// After a step of a copy's end: what it tells, and what must be true.
    fn after_client(&mut self, number: usize, step: Result<(), StoreError>) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        let (site, relay) = (link.site, link.relay);
        let mut wants_token = false;
        while let Some(told) = link.client.as_mut().and_then(Client::poll_told) {
            let (why, is_refused) = match told.event {
                Event::Skipped(skipped) => (skipped.why, skipped.is_refused),
                Event::Refused(why) => (why, true),
                Event::TokenWanted => {
                    wants_token = true;
                    continue;
                }
                _ => continue,
            };
            self.trace.push(format!("{} ms: link {number}: {why}", self.now_ms));
            self.report.n_clock_ahead += u64::from(why.contains("ClockAhead"));
            // Nothing that is done here needs anybody to mend it: it is tried again by itself.
            if is_refused {
                return Err(format!("link {number}: refused for good: {why}"));
            }
        }
        if wants_token {
            self.renew_token(number)?;
        }
        let Some(link) = self.links.get_mut(&number) else { return Ok(()) };
        if let Some(client) = link.client.as_ref().filter(|client| client.is_open()) {
            let said = self.book.held(client.held());
            if !said.as_ref().is_ok_and(|said| said.is_within(&self.nodes[relay].held)) {
                let (it, true_) = (client.held().to_json(), self.nodes[relay].seen.to_json());
                let why = said.err().unwrap_or_default();
                return Err(format!(
                    "link {number}: relay {relay} is said to hold {it}, {why}: {true_}"
                ));
            }
        }
        let has_failed = step.is_err();
        match self.touched(site, step)? {
            Touched::Died => return Ok(()),
            Touched::Failed | Touched::Well if has_failed => {
                self.cut(number);
                return self.lost_by_client(number);
            }
            _ => {}
        }
        if self.look_at_site(site)? {
            self.stir_site(site);
        }
        Ok(())
    }

    /// Compares a copy with the book; whether it holds more than it was last seen to.
    fn look_at_site(&mut self, site: usize) -> Result<bool, String> {
        let observed = self.sites[site].observe(&mut self.book);
        let has_changed = observed.map_err(|what| format!("copy {site}: {what}"))?;
        if has_changed {
            let seen = self.sites[site].seen.clone();
            self.note_held("copy", site, &seen);
        }
        Ok(has_changed)
    }

    /// Others who sync this copy will see that something was committed.
    pub(super) fn stir_site(&mut self, site: usize) {
        let of_it: Vec<usize> =
            self.links.iter().filter(|(_, link)| link.site == site).map(|(n, _)| *n).collect();
        for number in of_it {
            let at_ms = self.now_ms + self.rng.random_range(10..=20);
            self.turn_at(number, at_ms);
        }
    }

    /// After something touched a copy's disk: an error that the disk explains is none.
    fn touched<E: ToString>(
        &mut self,
        site: usize,
        done: Result<(), E>,
    ) -> Result<Touched, String> {
        let disk = &self.sites[site].drive().disk;
        if disk.has_failed() {
            let is_dead = self.sites[site].vector().is_err();
            if is_dead {
                self.crash_site(site, true)?;
                return Ok(Touched::Died);
            }
            disk.never_fail();
            self.sites[site].roll_back();
            self.look_at_site(site)?;
            return Ok(Touched::Failed);
        }
        match done {
            Ok(()) => Ok(Touched::Well),
            Err(error) => Err(format!("copy {site}: {}", error.to_string())),
        }
    }

    /// After something that may have changed a copy: looks at it.
    pub(super) fn settle(&mut self, site: usize, done: Result<(), String>) -> Result<(), String> {
        if let Touched::Died = self.touched(site, done)? {
            return Ok(());
        }
        if self.look_at_site(site)? {
            self.stir_site(site);
        }
        Ok(())
    }

    /// A copy writes.
    pub(super) fn write(&mut self, site: usize) -> Result<(), String> {
        let written = self.sites[site].write(&mut self.rng, &self.book, self.plan.wrong);
        let said = written.as_ref().err().cloned().unwrap_or_default();
        let what = self.sites[site].drafted();
        if written.is_err() {
            self.sites[site].roll_back();
        }
        if let Touched::Died = self.touched(site, written)? {
            return Ok(());
        }
        if self.look_at_site(site)? {
            self.report.n_changes += 1;
            self.note(|| format!("copy {site} writes {what} {said}"));
            self.stir_site(site);
        }
        Ok(())
    }

    /// The power of a copy fails, or only its process dies; it is back at once.
    pub(super) fn crash_site(&mut self, site: usize, is_power: bool) -> Result<(), String> {
        self.report.n_crashes += 1;
        self.note(|| format!("copy {site} dies, power: {is_power}"));
        let seed = self.rng.random();
        let disk = &self.sites[site].drive().disk;
        match is_power {
            true => disk.crash(seed),
            false => disk.restart(),
        }
        self.drop_ends_of(site);
        self.sites[site].reopen()?;
        self.look_at_site(site)?;
        Ok(())
    }

    /// A relay commits what waits.
    pub(super) fn commit(&mut self, relay: usize) -> Result<(), String> {
        self.nodes[relay].is_committing = false;
        let Some(node) = &self.nodes[relay].relay else { return Ok(()) };
        let has_worked = node.step();
        self.look_at_relay(relay)?;
        if !has_worked || self.nodes[relay].relay.is_none() {
            return Ok(());
        }
        let on_it: Vec<usize> =
            self.links.iter().filter(|(_, link)| link.relay == relay).map(|(n, _)| *n).collect();
        for number in on_it {
            if let Some(server) = self.links.get_mut(&number).and_then(|link| link.server.as_mut())
            {
                server.turn();
            }
            self.pump(number);
        }
        // Perhaps something was handed over meanwhile.
        self.nodes[relay].is_committing = true;
        self.after(20, Due::Commit(relay));
        Ok(())
    }

    /// Compares a relay with the book, if its disk lives.
    fn look_at_relay(&mut self, relay: usize) -> Result<(), String> {
        let node = &mut self.nodes[relay];
        let Some(running) = &node.relay else { return Ok(()) };
        let disk = &self.rack.relays[relay].disk;
        let vector = running.vector(STORE);
        if disk.has_failed() {
            if vector.is_err() {
                return self.crash_relay(relay, true);
            }
            disk.never_fail();
        }
        let vector = vector?;
        node.held = self
            .book
            .observe(&node.held, &vector, None)
            .map_err(|what| format!("relay {relay}: {what}"))?;
        if node.seen != vector {
            node.seen = vector.clone();
            self.note_held("relay", relay, &vector);
        }
        Ok(())
    }

    /// The power of a relay fails, or its process dies; it is started again some time later.
    pub(super) fn crash_relay(&mut self, relay: usize, is_power: bool) -> Result<(), String> {
        self.report.n_crashes += 1;
        self.note(|| format!("relay {relay} dies, power: {is_power}"));
        let disk = &self.rack.relays[relay].disk;
        match is_power {
            true => disk.crash(self.rng.random()),
            false => disk.restart(),
        }
        self.stop_relay(relay);
        self.after(3_000, Due::Start(relay));
        Ok(())
    }

    /// Drops a relay and its ends; the copies hear of it later.
    pub(super) fn stop_relay(&mut self, relay: usize) {
        let on_it: Vec<usize> =
            self.links.iter().filter(|(_, link)| link.relay == relay).map(|(n, _)| *n).collect();
        for number in on_it {
            let Some(link) = self.links.get_mut(&number) else { continue };
            link.server = None;
            if !link.is_cut {
                link.cut(&mut self.rng);
            }
            let at = link.down.drained_ms(self.now_ms) + 1 + self.rng.random_range(0..5_000);
            self.at(at, Due::LostByClient(number));
        }
        self.nodes[relay].relay = None;
        self.drop_gone();
    }

    /// A relay is started; what it said to have it has.
    pub(super) fn start(&mut self, relay: usize) -> Result<(), String> {
        if self.nodes[relay].relay.is_some() {
            return Ok(());
        }
        let (drive, cabinet) = (&self.rack.relays[relay], &self.rack.cabinets[relay]);
        let started = Relay::open(cabinet.path(), &drive.vfs)?;
        self.nodes[relay].relay = Some(started);
        self.look_at_relay(relay)
    }

    /// What a relay says of copies is true of those that go by a name which only one of them
    /// ever went by.
    pub(super) fn check_receipts(&self) -> Result<(), String> {
        let mut holders = BTreeMap::new();
        for site in &self.sites {
            if let Ok(name) = site.name()
                && !self.doubtful.contains(&name)
            {
                holders.insert(name, site);
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(relay) = &node.relay else { continue };
            let newest = self.book.newest(&node.seen);
            let dots: Vec<Dot> = newest.iter().map(|(dot, _)| *dot).collect();
            for (receipt, (_, change)) in relay.receipts(STORE, &dots).into_iter().zip(&newest) {
                for place in receipt.places {
                    let is_held = place.reach == Reach::Held || place.reach == Reach::Shown;
                    let holder = holders.get(&place.site).filter(|_| is_held);
                    if let Some(site) = holder
                        && !site.held.contains(*change)
                    {
                        let (change, site) = (receipt.change, site.number);
                        return Err(format!("relay {number} says that {site} has {change:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// All faults stop; all copies must become equal.
    pub(super) fn rest(&mut self) -> Result<(), String> {
        self.note(|| "all faults stop".to_string());
        self.heal()?;
        for turn in 0.. {
            let until = self.now_ms + 150_000;
            while self.due.peek().is_some_and(|due| due.0.0 <= until) {
                self.step()?;
            }
            self.now_ms = self.now_ms.max(until);
            self.tell_time();
            for site in 0..self.sites.len() {
                self.round(site)?;
            }
            if self.is_quiet() {
                break;
            }
            if turn == 20 {
                return Err(format!("it does not become quiet: {:#?}", self.restless()));
            }
        }
        self.check_end()
    }

    /// Mends disks, clocks and wires.
    fn heal(&mut self) -> Result<(), String> {
        let mut ahead = 0;
        for site in &mut self.sites {
            ahead = ahead.max(site.fastest_ms);
            site.off_ms = 0;
            site.drive().disk.never_fail();
        }
        self.rack.relays.iter().for_each(|drive| drive.disk.never_fail());
        self.files.fail_in(None);
        // What was written in the future is welcome when its time has come. No frame is on its
        // way for that long: one that says when to come back would be years late.
        if ahead > 0 {
            (0..self.sites.len()).for_each(|site| self.drop_ends_of(site));
        }
        self.now_ms += ahead;
        self.tell_time();
        for relay in 0..self.nodes.len() {
            self.start(relay)?;
            for site in 0..self.sites.len() {
                if !self.talks_to[site].contains(&relay) {
                    self.talks_to[site].push(relay);
                }
                self.after(100, Due::Connect(site, relay));
            }
        }
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        let first = &self.sites[0].held;
        self.sites.iter().all(|site| site.held == *first)
            && self.nodes.iter().all(|node| node.held == *first)
            && self.links.values().filter_map(|link| link.client.as_ref()).all(Client::is_converged)
    }

    /// Who keeps a world from being quiet.
    fn restless(&self) -> Vec<String> {
        let sites = self.sites.iter().map(|site| format!("copy holds {}", site.seen.to_json()));
        let nodes = self.nodes.iter().map(|node| format!("relay holds {}", node.seen.to_json()));
        let is_waiting = |link: &&Link<'_>| link.client.as_ref().is_some_and(|c| !c.is_converged());
        let links = self.links.values().filter(is_waiting).map(|link| {
            let held = link.client.as_ref().map(|client| client.held().to_json());
            format!("link of {} and relay {}, which says {held:?}", link.site, link.relay)
        });
        sites.chain(nodes).chain(links).collect()
    }

    fn check_end(&mut self) -> Result<(), String> {
        let first = self.sites[0].digest()?;
        let missing = self.book.missing(&self.sites[0].held);
        if !missing.is_empty() {
            return Err(format!("lost: {missing:?}"));
        }
        if self.sites[0].seen.is_empty() && self.book.n_changes() > 0 {
            return Err("nothing is left".to_string());
        }
        let vectors = self.sites.iter().map(|site| &site.seen);
        for vector in vectors.chain(self.nodes.iter().map(|node| &node.seen)) {
            // Names are a function of what is held.
            if *vector != self.sites[0].seen {
                let (one, other) = (self.sites[0].seen.to_json(), vector.to_json());
                return Err(format!("the same changes are called {one} and {other}"));
            }
        }
        for site in &self.sites {
            site.check().map_err(|what| format!("copy {}: {what}", site.number))?;
            let digest = site.digest()?;
            if digest != first {
                return Err(format!("copy {} shows {digest:?}, the first {first:?}", site.number));
            }
        }
        self.check_receipts()
    }

    /// Lets a disk fail at one of its next operations.
    pub(super) fn any_fault(&mut self) -> (u64, Fault) {
        let most = if self.rng.random() { 4 } else { 40 };
        let k = self.rng.random_range(1..=most);
        let faults = [Fault::Die, Fault::Die, Fault::IoError, Fault::Full, Fault::Torn];
        (k, faults[self.rng.random_range(0..faults.len())])
    }
}

/// Whether a relay says in this frame that it takes the ticket that it was shown.
fn takes_ticket(frame: &Bytes) -> bool {
    match decode(frame) {
        Ok(Decoded::Frame(_, Frame::Hello(hello))) => {
            matches!(hello.turn, Turn::Answer { is_resumed: true, .. })
        }
        _ => false,
    }
}
