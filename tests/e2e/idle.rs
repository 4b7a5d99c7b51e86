//! What the server needs when nobody is there. Of what we ship for boxes, so not a part of `cargo test`:
//! `scripts/test --target x86_64` runs it. Under an emulator the number would be that of the emulator.

use crate::support::Server;

/// KiB that the small bundle may hold with two cores.
const MOST: u64 = 4 * 1024;

#[test]
#[ignore = "measures the static program for boxes: scripts/test --target x86_64"]
fn the_small_bundle_is_small() {
    let server = Server::with(&[("SERVER_WORKERS", "2"), ("DELIVERY_WORKERS", "2")]);
    let memory = server.memory();
    println!("{memory} KiB");
    assert!(memory <= MOST, "{memory} KiB resident after the start");
}
