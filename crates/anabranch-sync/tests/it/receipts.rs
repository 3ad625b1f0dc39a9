//! Receipts say what was acknowledged, and never more.

use anabranch_core::clock::Chain;
use anabranch_core::vector::{Dot, Held};
use anabranch_sync::frame::{Ack, Reach, Role};
use anabranch_sync::limits::{MAX_PLACES, MAX_RECEIPT_HELD, MAX_RECEIPT_SITES};
use anabranch_sync::{ReceiptBook, Time};

use crate::talk::vector;
use crate::toy::site;

fn ack(version: u64) -> Ack {
    let held = Held { version, chain: Chain([0; 16]) };
    Ack { entries: vec![(site(1), held)], ..Ack::default() }
}

fn dot(version: u64) -> Dot {
    Dot { site: site(1), version }
}

/// Who has version `v` of site 1: site byte and reach.
fn places(book: &ReceiptBook, version: u64) -> Vec<(u8, Reach)> {
    let receipt = book.receipt(dot(version));
    receipt.places.iter().map(|place| (place.site.as_bytes()[0], place.reach)).collect()
}

#[test]
fn a_receipt_follows_acknowledgements() {
    let mut book = ReceiptBook::new();
    assert_eq!(places(&book, 1), []);
    assert_eq!(book.unacknowledged(&vector(&[(1, 3)])), [(site(1), 0)]);
    book.note(Time(1), site(5), Role::Peer, &ack(2));
    book.note(Time(2), site(9), Role::Relay, &ack(3));
    assert_eq!(places(&book, 2), [(9, Reach::Shown), (5, Reach::Shown)], "relays first");
    assert_eq!(places(&book, 3), [(9, Reach::Shown)]);
    assert_eq!(book.unacknowledged(&vector(&[(1, 4)])), [(site(1), 3)]);
    assert_eq!(book.unacknowledged(&vector(&[(1, 3)])), []);
    // An older Ack that comes late takes nothing back.
    book.note(Time(3), site(9), Role::Relay, &ack(1));
    assert_eq!(places(&book, 3), [(9, Reach::Shown)]);
    book.forget(site(9));
    assert_eq!(places(&book, 3), []);
}

#[test]
fn held_is_not_shown() {
    let mut book = ReceiptBook::new();
    let held = Ack { held: vec![dot(2)], ..ack(3) };
    book.note(Time(1), site(5), Role::Peer, &held);
    assert_eq!(places(&book, 2), [(5, Reach::Held)]);
    assert_eq!(places(&book, 3), [(5, Reach::Shown)]);
    let shown = Ack { shown: vec![dot(2)], ..Ack::default() };
    book.note(Time(2), site(5), Role::Peer, &shown);
    assert_eq!(places(&book, 2), [(5, Reach::Shown)]);
    // More than is listed: then nothing there is said to be shown.
    for version in 0..=MAX_RECEIPT_HELD as u64 {
        let held = Ack { held: vec![dot(10 + version)], ..Ack::default() };
        book.note(Time(3), site(5), Role::Peer, &held);
    }
    assert_eq!(places(&book, 3), [(5, Reach::Held)]);
}

#[test]
fn replicas_count_where_they_were_vouched_for() {
    let mut book = ReceiptBook::new();
    book.note(Time(1), site(9), Role::Relay, &ack(5));
    book.note(Time(2), site(9), Role::Relay, &Ack { replicas: 2, ..ack(3) });
    assert_eq!(book.replicas(site(9), dot(3)), 2);
    assert_eq!(book.replicas(site(9), dot(4)), 0);
    assert_eq!(book.replicas(site(8), dot(3)), 0);
}

#[test]
fn a_book_is_bounded() {
    let mut book = ReceiptBook::new();
    for n in 0..2 * MAX_RECEIPT_SITES as u32 {
        let site = anabranch_core::site::SiteId::new(&n.to_be_bytes()).unwrap();
        book.note(Time(n.into()), site, Role::Peer, &ack(1));
    }
    let receipt = book.receipt(dot(1));
    assert_eq!(receipt.places.len(), MAX_PLACES);
    // The ones heard of last are those that stay.
    assert_eq!(receipt.places[0].site.as_bytes(), &(MAX_RECEIPT_SITES as u32).to_be_bytes());
}
