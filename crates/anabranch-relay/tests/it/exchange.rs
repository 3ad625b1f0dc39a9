//! Copies exchange deltas through a relay, and what it acknowledged stays.

use anabranch_sync::ChannelId;

use crate::client::{Client, Copy};
use crate::deltas::Site;
use crate::world::World;

/// A copy of store `notes`, connected.
fn join(world: &World, site: u8, scope: &str) -> (Client, ChannelId) {
    let token = world.token(&format!("user-{site}"), "notes", scope);
    let mut client = Client::connect(world, "/sync/notes", None);
    let channel = client.open("notes", Copy::new(Site::new(site)), &token);
    (client, channel)
}

#[test]
fn two_copies_exchange_a_change() {
    let world = World::new();
    let (mut a, a_channel) = join(&world, 1, "write");
    a.copy(a_channel).write(1, 5);
    a.until_converged(a_channel);
    let (mut b, b_channel) = join(&world, 2, "write");
    b.until_converged(b_channel);
    assert_eq!(b.copy(b_channel).writer.vector, a.copy(a_channel).writer.vector);

    // Live, in both directions.
    b.write(b_channel, 1, 5);
    b.until_converged(b_channel);
    let vector = b.copy(b_channel).writer.vector.clone();
    a.until_holds(a_channel, &vector);
    a.write(a_channel, 1, 5);
    a.until_converged(a_channel);
    let vector = a.copy(a_channel).writer.vector.clone();
    b.until_holds(b_channel, &vector);
}
