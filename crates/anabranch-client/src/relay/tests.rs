//! Two stores and two sessions, no network: cut after every frame, killed and reopened.

use std::cell::Cell;
use std::rc::Rc;

use anabranch_sqlite::Embedded;
use anabranch_sync::frame::{Decoded, Frame, decode};
use anabranch_sync::scope::Scopes;
use anabranch_sync::{ChannelId, Config, Session, Verdict};

use super::*;
use crate::replica::Replica;
use crate::report::Moved;
use crate::storage::Pieces;

fn copy() -> Embedded {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let connection = Embedded::new(connection).unwrap();
    anabranch_store::install(connection.db()).unwrap();
    let sql = "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT);
               SELECT crsql_as_crr('note');";
    connection.execute_batch(sql).unwrap();
    connection
}

fn write(copy: &Embedded, id: &str, body: &str) {
    copy.execute("INSERT OR REPLACE INTO note VALUES(?1, ?2)", [id, body]).unwrap();
}

fn digest(copy: &Embedded) -> Vec<u8> {
    copy.query_row("SELECT ana_digest()", [], |row| row.get(0)).unwrap()
}

fn channel(copy: &Embedded) -> Channel<'_> {
    let name = anabranch_sync::frame::StoreName::new("notes").unwrap();
    Channel::new(Replica::new(copy), name, "ws://relay/sync/notes".into())
}

/// One end of a connection.
struct Peer<'c, 'a> {
    session: Session,
    channel: &'c mut Channel<'a>,
    told: VecDeque<Told>,
    /// What it grants, if it is asked.
    scopes: Scopes,
}

impl Peer<'_, '_> {
    fn hear_news(&mut self, now: Time) {
        for event in self.channel.news().unwrap() {
            self.session.handle_store_event(now, ChannelId::new(0).unwrap(), event);
        }
        self.drain(now);
    }

    fn drain(&mut self, now: Time) {
        let id = ChannelId::new(0).unwrap();
        loop {
            let mut is_idle = true;
            while let Some(request) = self.session.poll_request() {
                is_idle = false;
                if let anabranch_sync::Request::Verify { channel, .. } = request {
                    let verdict = Verdict::Granted { scopes: self.scopes, ends: None };
                    self.session.handle_token(now, channel, verdict);
                } else if let Some(event) = self.channel.answer(request, &mut self.told).unwrap() {
                    self.session.handle_store_event(now, id, event);
                }
            }
            for event in self.channel.news_if_owed().unwrap() {
                self.session.handle_store_event(now, id, event);
            }
            while let Some(event) = self.session.poll_event() {
                is_idle = false;
                self.channel.note(event, &mut self.told).unwrap();
            }
            if is_idle {
                return;
            }
        }
    }
}

/// Both ends of a connection that was just made, and that nothing has passed yet.
fn connected<'c, 'a>(
    now: Time,
    client: &'c mut Channel<'a>,
    relay: &'c mut Channel<'a>,
) -> (Peer<'c, 'a>, Peer<'c, 'a>) {
    let open = client.open(Bytes::new()).unwrap();
    let peer = |config, channel| {
        let session = Session::new(now, config);
        Peer { session, channel, told: VecDeque::new(), scopes: Scopes::ALL }
    };
    let mut client = peer(Config::client(), client);
    client.session.open(now, open).unwrap();
    (client, peer(Config::relay(), relay))
}

/// Lets both ends talk until they are silent.
fn exchange<'c, 'a>(client: &mut Peer<'c, 'a>, relay: &mut Peer<'c, 'a>) {
    exchange_at(Time(0), client, relay);
}

/// The same, at this time.
fn exchange_at<'c, 'a>(now: Time, client: &mut Peer<'c, 'a>, relay: &mut Peer<'c, 'a>) {
    client.session.handle_timer(now);
    relay.session.handle_timer(now);
    loop {
        client.drain(now);
        relay.drain(now);
        let (up, down) = (client.session.poll_transmit(), relay.session.poll_transmit());
        if up.is_none() && down.is_none() {
            return;
        }
        for (to, frame) in [(&mut *relay, up), (&mut *client, down)] {
            if let Some(frame) = frame {
                to.session.handle_frame(now, frame.into_bytes().into());
            }
        }
    }
}

/// Lets both ends talk until they are silent, or the connection is cut after so many frames;
/// how many there were.
fn talk<'a>(client: &mut Channel<'a>, relay: &mut Channel<'a>, cut_after: usize) -> usize {
    talk_with(client, relay, cut_after, Scopes::ALL)
}

/// The same, with a token that allows this much.
fn talk_with<'a>(
    client: &mut Channel<'a>,
    relay: &mut Channel<'a>,
    cut_after: usize,
    scopes: Scopes,
) -> usize {
    let now = Time(0);
    let open = client.open(Bytes::new()).unwrap();
    let session = Session::new(now, Config::client());
    let mut client = Peer { session, channel: client, told: VecDeque::new(), scopes };
    let session = Session::new(now, Config::relay());
    let mut relay = Peer { session, channel: relay, told: VecDeque::new(), scopes };
    client.session.open(now, open).unwrap();
    let mut n_frames = 0;
    loop {
        client.drain(now);
        relay.drain(now);
        let (up, down) = (client.session.poll_transmit(), relay.session.poll_transmit());
        if up.is_none() && down.is_none() {
            return n_frames;
        }
        for (to, frame) in [(&mut relay, up), (&mut client, down)] {
            let Some(frame) = frame else { continue };
            if n_frames == cut_after {
                return n_frames;
            }
            n_frames += 1;
            to.session.handle_frame(now, frame.into_bytes().into());
        }
    }
}

#[test]
fn both_ends_take_what_they_lack() {
    let (a, b) = (copy(), copy());
    write(&a, "x", "from a");
    write(&b, "y", "from b");
    let (mut client, mut relay) = (channel(&a), channel(&b));
    talk(&mut client, &mut relay, usize::MAX);
    assert_eq!(client.state(), &State::Converged);
    assert_eq!(digest(&a), digest(&b));
    let moved = client.progress();
    assert_eq!((moved.took.changes, moved.gave.changes), (1, 1));
    client.write_down(true).unwrap();
    let peers = crate::peer::all(Replica::new(&a)).unwrap();
    assert_eq!(peers[0].held, Replica::new(&a).vector().unwrap());
    assert_eq!(peers[0].role, crate::peer::PeerRole::Relay);
}

/// A peer sends a change of this copy back before it acknowledges it, since it came there by
/// another way: it was given, once, and both are converged again.
#[test]
fn what_comes_back_was_given() {
    let (a, b) = (copy(), copy());
    let now = Time(0);
    let (mut client, mut relay) = (channel(&a), channel(&b));
    let (mut client, mut relay) = connected(now, &mut client, &mut relay);
    exchange(&mut client, &mut relay);
    assert_eq!(client.channel.state(), &State::Converged);
    client.told.clear();
    write(&a, "x", "from a");
    client.hear_news(now);
    let sent = client.session.poll_transmit().expect("a change goes at once").into_bytes();
    let before = anabranch_core::vector::VersionVector::new();
    let parts = Replica::new(&a).export(&before).unwrap();
    assert_eq!(parts.len(), 1);
    Replica::new(&b).apply(&parts.concat()).unwrap();
    relay.hear_news(now);
    let back = relay.session.poll_transmit().expect("a change goes at once").into_bytes();
    client.session.handle_frame(now, back.into());
    client.drain(now);
    relay.session.handle_frame(now, sent.into());
    exchange(&mut client, &mut relay);
    let is_given = |told: &&Told| matches!(told.event, Event::Gave(Moved { changes: 1, .. }));
    assert_eq!(client.told.iter().filter(is_given).count(), 1, "{:?}", client.told);
    assert_eq!(client.channel.progress().gave.changes, 1);
    assert_eq!(client.channel.progress().took.changes, 0);
    assert_eq!(client.channel.state(), &State::Converged);
}

/// Changes that come together are acknowledged together, and none before all are on the disk.
#[test]
fn what_is_taken_together_is_acknowledged_together() {
    let (a, b) = (copy(), copy());
    let (now, mut told) = (Time(0), VecDeque::new());
    let mut channels = [channel(&a)];
    let mut client = Talk::begin(now, &Bytes::new(), &mut channels).unwrap();
    let mut relay = channel(&b);
    let session = Session::new(now, Config::relay());
    let mut relay =
        Peer { session, channel: &mut relay, told: VecDeque::new(), scopes: Scopes::ALL };
    let exchange = |client: &mut Talk, relay: &mut Peer<'_, '_>, channels: &mut [Channel<'_>]| {
        let mut up = Vec::new();
        loop {
            client.drain(now, channels, &mut VecDeque::new()).unwrap();
            relay.drain(now);
            let (sent, came) = (client.session.poll_transmit(), relay.session.poll_transmit());
            if sent.is_none() && came.is_none() {
                return up;
            }
            if let Some(frame) = sent.map(|frame| Bytes::from(frame.into_bytes())) {
                up.push(frame.clone());
                relay.session.handle_frame(now, frame);
            }
            if let Some(frame) = came {
                client.session.handle_frame(now, frame.into_bytes().into());
            }
        }
    };
    exchange(&mut client, &mut relay, &mut channels);
    for n in 0..5 {
        write(&b, &format!("b{n}"), "from b");
        relay.hear_news(now);
        let frame = relay.session.poll_transmit().expect("a change goes at once").into_bytes();
        client.take(now, frame.into(), &mut channels, &mut told).unwrap();
        assert!(client.session.poll_transmit().is_none(), "acknowledged before it is synced");
    }
    assert_eq!(digest(&a), digest(&b), "committed as it comes");
    let up = exchange(&mut client, &mut relay, &mut channels);
    let acks = up.iter().map(|frame| match decode(frame).unwrap() {
        Decoded::Frame(_, Frame::Ack(ack)) => ack.entries[0].1.version,
        other => panic!("{other:?}"),
    });
    assert_eq!(acks.collect::<Vec<_>>(), [5]);
}

/// The session says that both hold the same when its acknowledgement leaves; before anybody
/// hears of it the application commits: that change is not one that the token keeps back.
#[test]
fn a_commit_before_convergence_is_heard_is_not_refused() {
    let (a, b) = (copy(), copy());
    let (now, mut told) = (Time(0), VecDeque::new());
    let mut channels = [channel(&a)];
    let mut client = Talk::begin(now, &Bytes::new(), &mut channels).unwrap();
    let mut relay = channel(&b);
    let session = Session::new(now, Config::relay());
    let mut relay =
        Peer { session, channel: &mut relay, told: VecDeque::new(), scopes: Scopes::ALL };
    write(&b, "b", "from b");
    for n in 0..6 {
        relay.drain(now);
        while let Some(frame) = relay.session.poll_transmit() {
            client.take(now, frame.into_bytes().into(), &mut channels, &mut told).unwrap();
        }
        client.drain(now, &mut channels, &mut told).unwrap();
        while let Some(frame) = client.session.poll_transmit() {
            relay.session.handle_frame(now, frame.into_bytes().into());
        }
        write(&a, &format!("a{n}"), "from a");
        client.turn(now, &mut channels, &mut told).unwrap();
        while let Some(frame) = client.session.poll_transmit() {
            relay.session.handle_frame(now, frame.into_bytes().into());
        }
    }
    let is_refused = |told: &Told| matches!(told.event, Event::Skipped(_));
    assert!(!told.iter().any(is_refused), "{told:?}");
}

/// A copy that hears of its own commit before it hears that both ends were the same until then is
/// not the same, and nothing keeps the commit back.
#[test]
fn convergence_that_is_over_is_not_told() {
    let (a, b) = (copy(), copy());
    let now = Time(0);
    let (mut client, mut relay) = (channel(&a), channel(&b));
    let (mut client, mut relay) = connected(now, &mut client, &mut relay);
    exchange(&mut client, &mut relay);
    write(&b, "b", "from b");
    relay.hear_news(now);
    let change = relay.session.poll_transmit().expect("a change goes at once").into_bytes();
    client.session.handle_frame(now, change.into());
    client.drain(now);
    client.told.clear();
    let ack = client.session.poll_transmit().expect("it is on disk").into_bytes();
    write(&a, "a", "from a");
    client.hear_news(now);
    assert_eq!(client.channel.state(), &State::Exchanging);
    let is_ready = |told: &Told| matches!(told.event, Event::Skipped(_) | Event::Converged);
    assert!(!client.told.iter().any(is_ready), "{:?}", client.told);
    relay.session.handle_frame(now, ack.into());
    exchange(&mut client, &mut relay);
    assert_eq!(client.channel.state(), &State::Converged);
    assert_eq!(digest(&a), digest(&b));
}

/// The connection is cut after the first frame, the second, the third …: what a peer is noted
/// to hold it holds, and the next connection makes both equal.
#[test]
fn a_cut_at_any_frame_costs_nothing() {
    for cut_after in 0.. {
        let (a, b) = (copy(), copy());
        for n in 0..3 {
            write(&a, &format!("a{n}"), "from a");
            write(&b, &format!("b{n}"), "from b");
        }
        let (mut client, mut relay) = (channel(&a), channel(&b));
        let n_frames = talk(&mut client, &mut relay, cut_after);
        client.write_down(true).unwrap();
        for peer in crate::peer::all(Replica::new(&a)).unwrap() {
            assert!(peer.held.is_at_or_below(&Replica::new(&b).vector().unwrap()), "{cut_after}");
        }
        // Neither end remembers anything but its file.
        let (mut client, mut relay) = (channel(&a), channel(&b));
        talk(&mut client, &mut relay, usize::MAX);
        assert_eq!(client.state(), &State::Converged, "{cut_after}");
        assert_eq!(digest(&a), digest(&b), "{cut_after}");
        if n_frames < cut_after {
            break;
        }
    }
}

/// A delta of several parts goes on where the cut was: staged parts are not sent again.
#[test]
fn a_long_delta_goes_on_where_it_was_cut() {
    let (a, b) = (copy(), copy());
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                INSERT INTO note SELECT i, hex(randomblob(3000)) FROM n";
    a.execute_batch(fill).unwrap();
    let (mut client, mut relay) = (channel(&a), channel(&b));
    let whole = {
        let (c, d) = (copy(), copy());
        c.execute_batch(fill).unwrap();
        talk(&mut channel(&c), &mut channel(&d), usize::MAX)
    };
    let before_last = whole - 3;
    talk(&mut client, &mut relay, before_last);
    let n_staged: i64 = b.query_row("SELECT count(*) FROM ana_part", [], |row| row.get(0)).unwrap();
    assert!(n_staged > 0, "cut too early or too late: {whole} frames in all");
    let again = talk(&mut client, &mut relay, usize::MAX);
    assert!(again < whole, "{again} frames, {whole} without a cut");
    assert_eq!(digest(&a), digest(&b));
}

/// What one end refuses does not stop the other direction, and is told.
#[test]
fn a_refusal_is_told() {
    let (a, b) = (copy(), copy());
    a.execute_batch(
        "CREATE TABLE extra(id INTEGER PRIMARY KEY NOT NULL, x);
         SELECT crsql_as_crr('extra');
         INSERT INTO extra VALUES(1, 1);",
    )
    .unwrap();
    write(&b, "y", "from b");
    let (mut client, mut relay) = (channel(&a), channel(&b));
    talk(&mut client, &mut relay, usize::MAX);
    let (why, retry) = client.stuck_with(Duration::ZERO).unwrap();
    assert!(why.contains("extra"), "{why}");
    assert_eq!(*retry, Retry::Never);
    assert_eq!(client.progress().took.changes, 1);
}

/// A token that only reads: what is not given is never called converged.
#[test]
fn reading_only_is_no_convergence() {
    let (a, b) = (copy(), copy());
    write(&a, "x", "from a");
    write(&b, "y", "from b");
    let (mut client, mut relay) = (channel(&a), channel(&b));
    talk_with(&mut client, &mut relay, usize::MAX, Scopes::from_words(["read"]));
    assert_eq!(client.progress().took.changes, 1);
    let (why, _) = client.refused().unwrap();
    assert!(why.contains("no writing") && why.ends_with('1'), "{why}");
    assert_ne!(digest(&a), digest(&b));
}

/// While the peer's vector is read, a change is here that another connection took and the session
/// has not heard of; before it hears, its name changes too. Read by names that nobody has
/// any more, the peer would seem to hold what never comes.
#[test]
fn names_that_change_behind_a_reading_are_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = |name: &str| {
        let connection = Embedded::new(rusqlite::Connection::open(path(name)).unwrap()).unwrap();
        anabranch_store::install(connection.db()).unwrap();
        connection
    };
    let nothing = anabranch_core::vector::VersionVector::new();
    let give = |from: &Embedded, to: &Embedded| {
        let parts = Replica::new(from).export(&nothing).unwrap();
        Replica::new(to).apply(&parts.concat()).unwrap();
    };
    let (a, b, one) = (copy(), copy(), open("one"));
    let table = "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT);
                 SELECT crsql_as_crr('note');";
    one.execute_batch(table).unwrap();
    write(&one, "x", "before");
    give(&one, &a);
    std::fs::copy(path("one"), path("other")).unwrap();
    let other = open("other");
    write(&one, "x", "one");
    write(&other, "x", "other");
    give(&one, &b);
    give(&other, &b);

    let now = Time(0);
    let (mut client, mut relay) = (channel(&a), channel(&b));
    let opened = client.open(Bytes::new()).unwrap();
    let peer = |config, channel| {
        let session = Session::new(now, config);
        Peer { session, channel, told: VecDeque::new(), scopes: Scopes::ALL }
    };
    let mut client = peer(Config::client(), &mut client);
    let mut relay = peer(Config::relay(), &mut relay);
    client.session.open(now, opened).unwrap();
    client.drain(now);
    let hello = client.session.poll_transmit().expect("who opens begins").into_bytes();
    relay.session.handle_frame(now, hello.into());
    relay.drain(now);
    // Another connection of this copy takes one half of the fork, and after the reading all.
    give(&one, &a);
    while let Some(frame) = relay.session.poll_transmit() {
        client.session.handle_frame(now, frame.into_bytes().into());
        client.drain(now);
    }
    give(&b, &a);
    client.hear_news(now);
    exchange(&mut client, &mut relay);
    assert_eq!(client.channel.state(), &State::Converged);
    let is_refused = |told: &Told| matches!(told.event, Event::Skipped(_));
    assert!(!client.told.iter().any(is_refused), "{:?}", client.told);
}

/// A file was copied, and both copies write. The peer sends what the other copy wrote, three
/// deltas one after the other; the first is refused for a while, since the clock here is behind,
/// so the last begins on a history of which nothing here is known. It is asked for anew, and not
/// refused for good: with the clock set right, on the same connection, all comes.
#[test]
fn a_delta_on_its_way_when_a_fork_is_found_is_asked_for_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let wall = Rc::new(Cell::new(anabranch_clock::now_ms() - 3_600_000));
    let open = |name: &str| {
        let connection = Embedded::new(rusqlite::Connection::open(path(name)).unwrap()).unwrap();
        let wall = Rc::clone(&wall);
        let clock = Rc::new(move || wall.get());
        anabranch_store::install_with_clock(connection.db(), clock).unwrap();
        connection
    };
    let give = |from: &Embedded, to: &Embedded| {
        let above = anabranch_core::vector::VersionVector::new();
        Replica::new(to).apply(&Replica::new(from).export(&above).unwrap().concat()).unwrap();
    };
    // A delta's sites are looked at by their names: the fork is to come before what is missing.
    let mut files = ["one", "two"].map(|name| (Replica::new(&open(name)).site().unwrap(), name));
    files.sort_unstable();
    let [a_name, ahead_name] = files.map(|(_, name)| name);
    let (a, b, ahead) = (open(a_name), copy(), open(ahead_name));
    let table = "CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, body TEXT);
                 SELECT crsql_as_crr('note');";
    a.execute_batch(table).unwrap();
    ahead.execute_batch(table).unwrap();
    write(&a, "x", "before");
    std::fs::copy(path(a_name), path("clone")).unwrap();
    let clone = open("clone");

    let now = Time(0);
    let (mut client, mut relay) = (channel(&a), channel(&b));
    let opened = client.open(Bytes::new()).unwrap();
    let peer = |config, channel| {
        let session = Session::new(now, config);
        Peer { session, channel, told: VecDeque::new(), scopes: Scopes::ALL }
    };
    let mut client = peer(Config::client(), &mut client);
    let mut relay = peer(Config::relay(), &mut relay);
    client.session.open(now, opened).unwrap();
    exchange(&mut client, &mut relay);
    assert_eq!(client.channel.state(), &State::Converged);

    let behind = wall.replace(anabranch_clock::now_ms());
    write(&ahead, "y", "an hour ahead");
    give(&ahead, &b);
    wall.set(behind);
    relay.hear_news(now);
    for body in ["clone", "clone again"] {
        write(&clone, "x", body);
        give(&clone, &b);
        relay.hear_news(now);
    }
    write(&a, "x", "a");
    while let Some(frame) = relay.session.poll_transmit() {
        client.session.handle_frame(now, frame.into_bytes().into());
        client.drain(now);
    }
    let refusals = client.told.iter().filter_map(|told| match &told.event {
        Event::Skipped(skipped) => Some((skipped.is_refused, skipped.why.as_str())),
        _ => None,
    });
    let refusals: Vec<_> = refusals.collect();
    assert!(refusals.iter().any(|(_, why)| why.contains("ClockAhead")), "{refusals:?}");
    assert!(refusals.iter().any(|(_, why)| why.contains("SiteReused")), "{refusals:?}");
    assert!(refusals.iter().all(|(is_refused, _)| !is_refused), "{refusals:?}");

    wall.set(anabranch_clock::now_ms());
    client.hear_news(now);
    exchange(&mut client, &mut relay);
    exchange_at(Time(61_000), &mut client, &mut relay);
    assert_eq!(client.channel.state(), &State::Converged);
    assert_eq!(digest(&a), digest(&b));
}
