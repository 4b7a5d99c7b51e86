//! Word that the configuration file may be another one.
//!
//! What is watched is each folder that a name on the way to the file lies in: editors put a new file in the place of the old
//! one, and Kubernetes swaps a symbolic link above it (`..data`). Whether the text is another one is for the caller to see.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// After the first sign: what is written in several steps is whole then.
const SETTLE: Duration = Duration::from_millis(200);

/// After a failure: what was watched is gone, and may come back.
const AGAIN: Duration = Duration::from_secs(10);

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// A watched file.
pub(super) struct Watch {
    file: PathBuf,
    signs: AsyncFd<OwnedFd>,
    /// When what was seen is to be told.
    due: Option<Instant>,
}

impl Watch {
    /// Watches `file`, which need not be there.
    pub fn new(file: &Path) -> io::Result<Self> {
        let file = std::path::absolute(file)?;
        let signs = watch(&file)?;
        Ok(Self { file, signs, due: None })
    }

    /// Waits until the file may be another one. Nothing is lost when this is dropped and called anew.
    pub async fn changed(&mut self) {
        loop {
            if let Some(due) = self.due {
                sleep_until(due).await;
                self.due = None;
                return;
            }
            match self.signs.readable().await {
                Ok(_) => {
                    self.due = Some(Instant::now() + SETTLE);
                    // Other folders may count now. What they had to say before this is seen when the file is read.
                    match watch(&self.file) {
                        Ok(signs) => self.signs = signs,
                        Err(error) => {
                            log::warn!("cannot watch {}: {error}", self.file.display());
                            self.due = Some(Instant::now() + AGAIN);
                        }
                    }
                }
                Err(error) => {
                    log::warn!("cannot watch {}: {error}", self.file.display());
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

fn watch(file: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let signs = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::CREATE
        | WatchFlags::MOVE_SELF
        | WatchFlags::DELETE_SELF
        | WatchFlags::ONLYDIR;
    let mut result: io::Result<()> = Err(io::ErrorKind::NotFound.into());
    for folder in folders(file) {
        match inotify::add_watch(&signs, &folder, flags) {
            Ok(_) => result = Ok(()),
            Err(error) if result.is_err() => result = Err(error.into()),
            // A folder that is gone already: what took its place is seen in the one above.
            Err(_) => {}
        }
    }
    result?;
    // Its successor is unsafe for types that may lose their descriptor, which an OwnedFd doesn't.
    #[expect(deprecated, reason = "sound for an OwnedFd")]
    AsyncFd::new(signs)
}

/// The folders that the names on the way to a file lie in, where another name may lead elsewhere.
fn folders(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(file);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == "/" {
            at = PathBuf::from("/");
            continue;
        }
        if name == ".." {
            at.pop();
            continue;
        }
        if rest.is_empty() {
            folders.insert(at.clone());
        }
        let next = at.join(&name);
        match fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                folders.insert(at.clone());
                for name in names(&target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            _ => at = next,
        }
    }
    folders
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter(|c| !matches!(c, Component::CurDir | Component::Prefix(_)));
    names.map(|c| c.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rillbox-watch-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// As a kubelet lays out a ConfigMap.
    fn config_map(folder: &Path, version: &str) {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("r.toml"), version).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    }

    #[test]
    fn each_folder_on_the_way_counts() {
        let folder = Folder::new("way");
        let dir = &folder.0;
        config_map(dir, "..1");
        symlink("..data/r.toml", dir.join("r.toml")).unwrap();
        symlink(dir, dir.join("round")).unwrap();
        let all = |file: &str| {
            folders(&dir.join(file)).into_iter().filter(|path| path.starts_with(dir)).collect::<Vec<_>>()
        };
        assert_eq!(all("r.toml"), [dir.clone(), dir.join("..1")]);
        assert_eq!(all("round/./round/r.toml"), [dir.clone(), dir.join("..1")]);
        assert_eq!(all("..1/../none.toml"), std::slice::from_ref(dir));
        symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(all("loop"), std::slice::from_ref(dir));
    }

    #[tokio::test]
    async fn what_editors_and_kubelets_do_is_seen() {
        let folder = Folder::new("seen");
        let dir = &folder.0;
        let (file, map) = (dir.join("plain.toml"), dir.join("r.toml"));
        fs::write(&file, "one").unwrap();
        config_map(dir, "..1");
        symlink("..data/r.toml", &map).unwrap();
        async fn sees(watch: &mut Watch) {
            tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        }
        let mut plain = Watch::new(&file).unwrap();
        fs::write(&file, "two").unwrap();
        sees(&mut plain).await;
        fs::write(dir.join("new"), "three").unwrap();
        fs::rename(dir.join("new"), &file).unwrap();
        sees(&mut plain).await;
        fs::remove_file(&file).unwrap();
        symlink("..data/r.toml", &file).unwrap();
        sees(&mut plain).await;
        drop(plain);
        let mut watch = Watch::new(&map).unwrap();
        for version in ["..2", "..3"] {
            config_map(dir, version);
            sees(&mut watch).await;
            assert_eq!(fs::read_to_string(&map).unwrap(), version);
        }
        let quiet = tokio::time::timeout(SETTLE * 3, watch.changed()).await;
        assert!(quiet.is_err(), "nothing happened");
        assert!(Watch::new(&dir.join("none/r.toml")).is_err());
    }
}
