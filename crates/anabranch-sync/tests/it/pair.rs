//! Stories of stores that exchange what they have, over a network that does what it wants.

use anabranch_core::clock::Chain;
use anabranch_sync::Event;
use anabranch_sync::frame::{ErrorCode, Retry};
use anabranch_sync::scope::Scopes;
use anabranch_sync::{Refusal, Time};

use crate::toy::{Rng, Toy};
use crate::world::World;

/// Whatever happens on the way: once the network is well again everybody holds everything,
/// and nothing was ever acknowledged that was not on a disk.
#[test]
fn converges_after_any_cuts_and_crashes() {
    // 541: a Have after a refusal named what was not synced. 797: a delta that was resumed
    // and led nowhere hid that there was more.
    for seed in (0..200).chain([541, 797]) {
        let print = PrintSeed(seed);
        story(seed, seed % 3 == 2);
        std::mem::forget(print);
    }
}

/// Says which seed it was when a test dies.
struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        eprintln!("failed at seed {}", self.0);
    }
}

fn story(seed: u64, is_bad: bool) {
    let mut rng = Rng::new(seed ^ 0xabcd);
    let n_clients = 1 + rng.below(3) as u8;
    let mut world = World::new(seed, n_clients);
    world.is_prompt = false;
    let n = u64::from(n_clients);
    for _ in 0..rng.below(150) {
        let client = rng.below(n) as usize;
        match rng.below(12) {
            0..3 => world.write(client),
            3 if world.links[client].is_none() => world.connect(client),
            4 if rng.one_in(3) => world.cut(client),
            5 if rng.one_in(4) => world.crash(rng.below(n + 1) as usize),
            6 => world.sync(rng.below(n + 1) as usize),
            7 if rng.one_in(4) => {
                let retry = if rng.one_in(3) { Retry::Never } else { Retry::AfterMs(20) };
                world.relay.refusal = Some(Refusal::new(ErrorCode::ClockAhead, retry, "toy"));
            }
            8 => {
                world.now = world.now.after(rng.below(300));
                for link in world.links.iter_mut().flatten() {
                    link.client.session.handle_timer(world.now);
                    link.relay.session.handle_timer(world.now);
                }
            }
            _ => drop(world.step(1 + rng.below(3) as usize, is_bad)),
        }
    }
    world.is_prompt = true;
    world.relay.refusal = None;
    for which in 0..=usize::from(n_clients) {
        world.sync(which);
    }
    for client in 0..usize::from(n_clients) {
        // A transport that lost frames is to be given up; one that did not goes on.
        let is_up = world.links[client].as_ref().is_some_and(|link| !link.has_ended());
        if is_bad || !is_up {
            world.connect(client);
        }
    }
    world.settle();
    // Somebody has done something about what was refused for good.
    (0..usize::from(n_clients)).for_each(|client| world.retry(client));
    world.settle();
    world.assert_equal("quiet");
    for link in world.links.iter().flatten() {
        for end in [&link.client, &link.relay] {
            let has_converged = end.events.iter().any(|e| matches!(e, Event::Converged { .. }));
            assert!(has_converged, "nobody said so: {:?}", end.events);
        }
    }
}

/// Live: each change reaches everybody as a delta of its own, once, and comes not back.
#[test]
fn a_change_travels_at_once_and_once() {
    let mut world = World::new(1, 3);
    (0..3).for_each(|client| world.connect(client));
    world.settle();
    for round in 1..=20 {
        world.write(round % 3);
        world.settle();
        world.assert_equal("live");
    }
    for link in world.links.iter().flatten() {
        let channel = link.client.channel.unwrap();
        let progress = link.client.session.progress(channel).unwrap();
        let total = progress.received_bytes + progress.sent_bytes;
        // 20 changes, each a part of about 600 bytes that went one way.
        assert!(total < 20 * 1000, "{total} bytes for 20 changes");
    }
}

/// A year offline: what was missed travels in parts, and none of them twice.
#[test]
fn a_long_absence_travels_in_parts_and_goes_on_after_cuts() {
    let mut world = World::new(2, 1);
    (0..500).for_each(|_| world.write(0));
    let whole = world.clients[0].cut(&Default::default()).unwrap().0.len() as u64;
    assert!(whole > 50, "{whole} parts");
    let mut n_bytes = 0;
    for round in 0.. {
        assert!(round < 100, "never arrives");
        world.connect(0);
        for _ in 0..12 {
            world.step(1, false);
        }
        let channel = world.links[0].as_ref().unwrap().relay.channel;
        let relay = &world.links[0].as_ref().unwrap().relay;
        n_bytes +=
            channel.and_then(|at| relay.session.progress(at)).map_or(0, |p| p.received_bytes);
        if world.relay.vector() == world.clients[0].vector() {
            break;
        }
        world.cut(0);
    }
    world.settle();
    world.assert_equal("after many cuts");
    assert_eq!(world.clients[0].n_kept(), 0, "a delta that is kept for nobody");
    let least = world.clients[0].cut(&Default::default()).unwrap().0;
    let least: u64 = least.iter().map(|part| part.part().len() as u64).sum();
    assert!(n_bytes <= least, "{n_bytes} bytes came where {least} would do");
}

/// A refused delta is sent again when the refusal says so, and not before.
#[test]
fn a_clock_ahead_is_tried_again_in_time() {
    let mut world = World::new(3, 1);
    world.connect(0);
    world.settle();
    let refusal = Refusal::new(ErrorCode::ClockAhead, Retry::AfterMs(5_000), "ahead");
    world.relay.refusal = Some(refusal);
    world.write(0);
    let before = world.now;
    while world.step(8, false) {}
    assert!(world.relay.vector().is_empty());
    world.settle();
    assert!(world.now.since(before) >= 5_000, "{:?} after {before:?}", world.now);
    world.assert_equal("after the clock");
    let events = &world.links[0].as_ref().unwrap().client.events;
    assert!(events.iter().any(|event| matches!(event, Event::PeerRefused { error, .. }
        if error.code == ErrorCode::ClockAhead)));
}

/// What only people can mend waits for them; the other direction goes on.
#[test]
fn a_refusal_for_good_stalls_one_direction_only() {
    let mut world = World::new(4, 2);
    (0..2).for_each(|client| world.connect(client));
    world.settle();
    world.relay.refusal = Some(Refusal::new(ErrorCode::UnknownName, Retry::Never, "table t"));
    world.write(0);
    world.settle();
    world.write(0);
    world.write(1);
    world.settle();
    assert_eq!(world.clients[0].vector().len(), 2, "what the other wrote has come");
    assert_eq!(world.relay.vector().len(), 1);
    let link = world.links[0].as_mut().unwrap();
    let channel = link.client.channel.unwrap();
    assert!(link.client.session.progress(channel).unwrap().is_stalled);
    link.client.session.retry(channel).unwrap();
    world.settle();
    world.assert_equal("mended");
}

/// A relay put back to an older state takes from its clients what it had lost.
#[test]
fn a_restored_relay_heals() {
    let mut world = World::new(5, 2);
    (0..2).for_each(|client| world.connect(client));
    (0..5).for_each(|_| world.write(0));
    world.settle();
    let backup = world.relay.clone();
    (0..5).for_each(|_| world.write(1));
    world.settle();
    world.relay = backup;
    (0..2).for_each(|client| world.cut(client));
    // A client that was restored too finds its own changes at the others.
    world.clients[0] = Toy::new(1);
    (0..2).for_each(|client| world.connect(client));
    world.settle();
    world.assert_equal("restored");
    assert_eq!(world.clients[0].vector().version(world.clients[0].site()), 5);
}

/// Reading and no more: everything comes, nothing goes, and both call it converged.
#[test]
fn a_reader_reads() {
    let mut world = World::new(6, 1);
    world.scopes = Scopes::from_words(["read"]);
    world.relay.write(1);
    world.sync(0);
    world.write(0);
    world.connect(0);
    world.settle();
    assert_eq!(world.clients[0].vector().len(), 2);
    assert_eq!(world.relay.vector().len(), 1);
    let events = &world.links[0].as_ref().unwrap().client.events;
    assert!(events.iter().any(|event| matches!(event, Event::Converged { .. })), "{events:?}");
}

/// Two copies wrote under one name: both ends learn the last version they have in common.
#[test]
fn bisection_finds_where_histories_part() {
    let cases =
        [(0, 1, 1), (0, 5, 3), (1, 1, 1), (7, 3, 9), (100, 1, 1), (1000, 800, 37), (33, 1, 900)];
    for (common, n_client, n_relay) in cases {
        let mut world = World::new(common, 1);
        let name = world.clients[0].site();
        for n in 0..common {
            world.clients[0].write_as(name, n);
            world.relay.write_as(name, n);
        }
        (0..n_client).for_each(|n| world.clients[0].write_as(name, 10_000 + n));
        (0..n_relay).for_each(|n| world.relay.write_as(name, 20_000 + n));
        world.sync(0);
        world.sync(1);
        world.connect(0);
        world.settle();
        let link = world.links[0].as_ref().unwrap();
        for end in [&link.client, &link.relay] {
            let found = end.events.iter().filter_map(|event| match event {
                Event::Forked { site, common, .. } => Some((*site, *common)),
                _ => None,
            });
            let found: Vec<_> = found.collect();
            assert_eq!(found, [(name, Some(common))], "{common} + {n_client} and {n_relay}");
        }
        assert_ne!(world.relay.chain(name, common + 1), Some(Chain::default()));
    }
}

/// A peer that does not read costs its window, and gets what it missed when it does.
#[test]
fn a_slow_reader_costs_its_window_and_is_made_whole() {
    let mut world = World::new(7, 2);
    world.relay.change_bytes = 40_000;
    world.relay.part_bytes = 1 << 20;
    (0..2).for_each(|client| world.connect(client));
    world.settle();
    // Client 1 reads nothing: only client 0 and the relay's store go on.
    let slow = world.links[1].take();
    let mut slow = slow.unwrap();
    let channel = slow.relay.channel.unwrap();
    for _ in 0..300 {
        world.write(0);
        world.settle();
        let told = world.relay.durable();
        let mut before = told.clone();
        let held = before.get(world.clients[0].site()).unwrap();
        let version = held.version - 1;
        let chain = world.relay.chain(world.clients[0].site(), version).unwrap();
        before.set(world.clients[0].site(), anabranch_core::vector::Held { version, chain });
        let (parts, cut) = world.relay.cut(&before).unwrap();
        let part = Some(crate::world::only_part(&parts));
        let (from, to) = (cut.from.into(), cut.to.into());
        let committed = anabranch_sync::StoreEvent::Committed { from, to, part };
        slow.relay.session.handle_store_event(world.now, channel, committed);
    }
    let mut queued = 0;
    let mut frames = Vec::new();
    // What waits without any answer of the store's.
    while let Some(transmit) = slow.relay.session.poll_transmit() {
        queued += transmit.len_bytes();
        frames.push(transmit);
    }
    assert!(queued <= anabranch_sync::limits::MAX_QUEUED_BYTES + (1 << 20), "{queued} bytes");
    assert!(queued > 4 << 20, "{queued} bytes");
    for transmit in frames {
        slow.client.session.handle_frame(world.now, transmit.into_bytes().into());
    }
    world.links[1] = Some(slow);
    world.settle();
    world.assert_equal("caught up");
}

/// Time that the driver gives may stand still or jump.
#[test]
fn silence_ends_a_handshake() {
    let mut world = World::new(8, 1);
    world.connect(0);
    let link = world.links[0].as_mut().unwrap();
    assert_eq!(link.relay.session.poll_timeout(), Some(Time(6_000)));
    link.relay.session.handle_timer(Time(6_000));
    assert!(link.relay.session.is_closed());
    assert_eq!(link.client.session.poll_timeout(), Some(Time(31_000)));
    link.client.session.handle_timer(Time(31_000));
    assert_eq!(link.client.session.channels().count(), 0);
}

/// There is no inbox (decision 9): what was on its way behind a refused delta goes once more,
/// joined with it in one cut, and what still waited goes in that cut only.
#[test]
fn what_follows_a_refused_delta_goes_once_more() {
    // How many changes are written behind it, and how many of all are on the line by then.
    for (n_behind, n_on_line) in [(0, 1), (1, 2), (100, 8), (100, 101), (500, 501), (700, 512)] {
        let mut world = World::new(n_behind, 1);
        world.connect(0);
        world.settle();
        let refusal = Refusal::new(ErrorCode::ClockAhead, Retry::AfterMs(20), "ahead");
        world.relay.refusal = Some(refusal);
        (0..=n_behind).for_each(|_| world.write(0));
        world.send(0, false, n_on_line);
        let sent = |world: &World| {
            let client = &world.links[0].as_ref().unwrap().client;
            client.session.progress(client.channel.unwrap()).unwrap().sent_bytes
        };
        let on_line = sent(&world);
        world.settle();
        world.assert_equal("after the refusal");
        let cut = world.clients[0].cut(&Default::default()).unwrap().0;
        let cut: u64 = cut.iter().map(|part| part.part().len() as u64).sum();
        // A step of the world moves 8 frames of some 330 bytes; the refusal takes three.
        let crossed = 24 * 400;
        let again = sent(&world) - cut;
        println!("{n_behind} behind, {n_on_line} on the line: {again} + {cut} bytes");
        assert!((on_line..=on_line + crossed).contains(&again), "{again}, of {on_line}");
        let said = world.links[0].as_ref().unwrap().client.events.iter().filter(|event| {
            matches!(event, Event::PeerRefused { error, .. } if error.code == ErrorCode::Missing)
        });
        assert_eq!(said.count(), 0, "the sender is told of the first only");
    }
}
