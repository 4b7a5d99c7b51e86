//! Which recordings go, and their going.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use super::catalog::{Entry, read_ident};
use crate::config::Config;
use crate::hub::StreamName;

/// A recording, as far as it matters for whether it stays.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    name: &'a StreamName,
    end_ms: i64,
    bytes: u64,
    /// It is being written, or being mended.
    held: bool,
    max_age_ms: i64,
    quota: u64,
}

/// What holds for all recordings below one root.
#[derive(Debug, Clone, Copy, Default)]
struct Room {
    total_quota: u64,
    free: u64,
    min_free: u64,
}

/// Which of the recordings go, the oldest first as they come. 0 is no limit.
fn choose(items: &[Item<'_>], room: Room, now_ms: i64) -> Vec<usize> {
    let mut gone = vec![false; items.len()];
    let mark =
        |gone: &mut Vec<bool>, i: usize| gone.get_mut(i).is_some_and(|gone| !std::mem::replace(gone, true));
    for (i, item) in items.iter().enumerate() {
        if !item.held && item.max_age_ms > 0 && now_ms.saturating_sub(item.end_ms) > item.max_age_ms {
            mark(&mut gone, i);
        }
    }
    let left =
        |gone: &[bool]| -> Vec<usize> { (0..items.len()).filter(|i| gone.get(*i) == Some(&false)).collect() };
    let mut used: HashMap<&StreamName, u64> = HashMap::new();
    let mut total = 0_u64;
    for item in left(&gone).into_iter().filter_map(|i| items.get(i)) {
        *used.entry(item.name).or_default() += item.bytes;
        total += item.bytes;
    }
    for i in left(&gone) {
        let Some(item) = items.get(i).filter(|item| !item.held) else { continue };
        let own = used.entry(item.name).or_default();
        if item.quota > 0 && *own > item.quota {
            mark(&mut gone, i);
            *own -= item.bytes;
            total -= item.bytes;
        }
    }
    let freed: u64 = items.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(item, _)| item.bytes).sum();
    let mut free = room.free.saturating_add(freed);
    for i in left(&gone) {
        let over = (room.total_quota > 0 && total > room.total_quota) || free < room.min_free;
        let Some(item) = items.get(i).filter(|item| !item.held) else { continue };
        if !over {
            break;
        }
        mark(&mut gone, i);
        total -= item.bytes;
        free = free.saturating_add(item.bytes);
    }
    (0..items.len()).filter(|i| gone.get(*i) == Some(&true)).collect()
}

/// Deletes what has to go of all recordings, the oldest first as they come. How many went.
pub(super) fn tidy(entries: &[Entry], config: &Config, now_ms: i64) -> usize {
    let mut deleted = 0;
    let mut roots: Vec<&Path> = entries.iter().map(|entry| entry.root.as_path()).collect();
    roots.sort_unstable();
    roots.dedup();
    for root in roots {
        let here: Vec<&Entry> = entries.iter().filter(|entry| entry.root == root).collect();
        let mut room = Room::default();
        let settings: Vec<_> = here
            .iter()
            .map(|entry| {
                let name = &entry.ident.name;
                config.vhost(&name.vhost, &name.app, &name.stream).clone()
            })
            .collect();
        let space = rustix::fs::statvfs(root).ok();
        let total = space.as_ref().map_or(0, |space| space.f_blocks.saturating_mul(space.f_frsize));
        room.free = space.map_or(u64::MAX, |space| space.f_bavail.saturating_mul(space.f_frsize));
        for vhost in &settings {
            let quota = vhost.record.total_quota.count();
            if quota > 0 && (room.total_quota == 0 || quota < room.total_quota) {
                room.total_quota = quota;
            }
            room.min_free = room.min_free.max(vhost.record.min_free.of(total));
        }
        let items: Vec<Item<'_>> = here
            .iter()
            .zip(&settings)
            .map(|(entry, vhost)| Item {
                name: &entry.ident.name,
                end_ms: entry.end_ms(),
                bytes: entry.bytes,
                held: entry.growing.is_some() || entry.is_broken(),
                max_age_ms: i64::try_from(vhost.record.max_age.as_millis()).unwrap_or(i64::MAX),
                quota: vhost.record.quota.count(),
            })
            .collect();
        for entry in choose(&items, room, now_ms).into_iter().filter_map(|i| here.get(i)) {
            match delete(entry) {
                Ok(()) => {
                    deleted += 1;
                    log::info!("recording deleted to keep limits: {}", entry.path.display());
                }
                Err(why) => log::warn!("recording {} can't be deleted: {why}", entry.path.display()),
            }
        }
    }
    deleted
}

/// Deletes a recording, and the directories above it that are empty now.
pub(super) fn delete(entry: &Entry) -> Result<(), String> {
    let path = &entry.path;
    let is_file = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_file());
    if !is_file || read_ident(path).as_ref() != Some(&entry.ident) {
        return Err("it is another file by now".to_owned());
    }
    // A lock is another process that writes it.
    if File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))) {
        return Err("it is being written".to_owned());
    }
    fs::remove_file(path).map_err(|error| error.to_string())?;
    let above = path.ancestors().skip(1).take_while(|dir| *dir != entry.root && dir.starts_with(&entry.root));
    for dir in above {
        if fs::remove_dir(dir).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(stream: &str) -> StreamName {
        StreamName::new("v", "live", stream).unwrap()
    }

    fn item<'a>(name: &'a StreamName, end_ms: i64, bytes: u64) -> Item<'a> {
        Item { name, end_ms, bytes, held: false, max_age_ms: 0, quota: 0 }
    }

    #[test]
    fn nothing_goes_without_limits() {
        let a = name("a");
        let room = Room { free: 0, ..Room::default() };
        assert!(choose(&[item(&a, 0, 1 << 40), item(&a, 1, 1 << 40)], room, i64::MAX).is_empty());
    }

    #[test]
    fn the_old_go_and_what_is_written_stays() {
        let a = name("a");
        let old = |end_ms, held| Item { max_age_ms: 1000, held, ..item(&a, end_ms, 10) };
        let items = [old(0, true), old(1, false), old(5000, false), old(5001, false), old(99_999, false)];
        assert_eq!(choose(&items, Room::default(), 6001), [1, 2], "a clock that was ahead deletes nothing");
    }

    #[test]
    fn each_stream_has_its_quota() {
        let (a, b) = (name("a"), name("b"));
        let of = |name, quota, bytes| Item { quota, ..item(name, 0, bytes) };
        let items = [of(&a, 25, 10), of(&b, 0, 1000), of(&a, 25, 10), of(&a, 25, 10), of(&b, 0, 1000)];
        assert_eq!(choose(&items, Room::default(), 0), [0]);
        // The one that is being written counts, and stays.
        let growing = Item { held: true, ..of(&a, 25, 100) };
        assert_eq!(choose(&[of(&a, 25, 10), growing, of(&a, 25, 10)], Room::default(), 0), [0, 2]);
    }

    #[test]
    fn all_streams_share_the_disk() {
        let (a, b) = (name("a"), name("b"));
        let items = [item(&a, 0, 10), item(&b, 1, 10), item(&a, 2, 10), item(&b, 3, 10)];
        assert_eq!(choose(&items, Room { total_quota: 25, ..Room::default() }, 0), [0, 1]);
        assert_eq!(choose(&items, Room { free: 5, min_free: 30, ..Room::default() }, 0), [0, 1, 2]);
        assert_eq!(choose(&items, Room { free: 5, min_free: 1000, ..Room::default() }, 0), [0, 1, 2, 3]);
        assert!(choose(&items, Room { free: 30, min_free: 30, ..Room::default() }, 0).is_empty());
    }
}
