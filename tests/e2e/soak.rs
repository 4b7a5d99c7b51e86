//! What comes and goes leaves nothing behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::clip::Tags;
use crate::support::rtmp::Rtmp;
use crate::support::{Clip, Server, wait_until};

/// Connections at a time.
const CLIENTS: usize = 8;
/// So that allocators and tables have their size.
const WARM_UP: usize = 1000;
const CYCLES: usize = 10_000;
/// How much more memory the server may hold afterwards, KiB.
const SAME: u64 = 2 * 1024;

#[test]
fn ten_thousand_publishers_leave_nothing_behind() {
    let server = Server::with(&[
        ("LOG_LEVEL", "info"),
        ("VHOST__DEFAULT__IDLE_TIMEOUT", "1s"),
        ("VHOST__DEFAULT__GRACE", "0s"),
        // How long segments are kept after a stream's end.
        ("VHOST__DEFAULT__HLS__DISPOSE", "1s"),
    ]);
    let idle = server.descriptors();
    publish(&server, WARM_UP);
    wait_until("all descriptors of the warm-up are closed", || server.descriptors() <= idle);
    let memory = server.memory();
    publish(&server, CYCLES);
    wait_until("all descriptors are closed", || server.descriptors() <= idle);
    println!("memory of the server from {memory} to {} KiB", server.memory());
    wait_until("memory is back", || server.memory() <= memory + SAME);
}

/// Connects, publishes and disconnects so often; every second time without a word.
fn publish(server: &Server, cycles: usize) {
    let tags = Tags::of(Clip::H264_AAC).take(8).collect::<Vec<_>>();
    let url = server.rtmp("");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= cycles {
                        break;
                    }
                    // Names come back, but not while they are in use.
                    let mut publisher = Rtmp::publish(&format!("{url}soak-{}", n % 500));
                    for tag in &tags {
                        publisher.send(tag).unwrap();
                    }
                    if n.is_multiple_of(2) {
                        publisher.finish();
                    }
                }
            });
        }
    });
}
