//! Players in browsers, by `tests/browser/watch.mjs`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Program;
use super::client::clients;

/// For how long a stream is watched: `RILLBOX_WATCH_SECONDS`, 20 without it; 60 before a release.
pub fn seconds() -> u32 {
    std::env::var("RILLBOX_WATCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Has a viewer watch `url` by a player of `watch.mjs`, with options as they stand there, and demands that all is well.
/// Gives the line of JSON that tells what there was to see.
#[track_caller]
pub fn watch(player: &str, url: &str, options: &[&str]) -> String {
    // Two browsers at once would have each other stall on a small machine.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/watch.mjs");
    let (clients, length) = (clients(), format!("seconds={}", seconds()));
    let mut args = vec![script.to_str().unwrap(), clients.to_str().unwrap(), player, url, &length];
    args.extend(options);
    // A browser beside other tests on a small machine can be too late by itself: that is seen once, and not each time.
    // RILLBOX_WATCH_SECONDS is for a machine that does nothing else: there one try has to do.
    let tries = if std::env::var_os("RILLBOX_WATCH_SECONDS").is_some() { 1 } else { 3 };
    let limit = Duration::from_secs(180) + Duration::from_secs(2 * u64::from(seconds()));
    for left in (0..tries).rev() {
        let ended = Program::start("node", &args).limit(limit).end();
        println!("{}", ended.said);
        if left == 0 {
            ended.good();
        }
        if ended.status.success() {
            return ended.said.lines().last().unwrap_or_default().to_owned();
        }
    }
    unreachable!("the last try returns or panics")
}
