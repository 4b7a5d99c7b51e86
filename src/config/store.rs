//! Writing a configuration file so that after a power cut it is the old one or the new one, whole.
//!
//! The new text goes into a file of its own in the same folder, reaches the disk, and then takes the old file's name,
//! which is one step for the file system. What a power cut leaves of that file is removed the next time.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What a file may be used for that was not there before, as far as the umask lets it: its group reads it, its owner writes it.
/// It may come to hold secrets.
const NEW_MODE: u32 = 0o640;

/// Why a configuration is not, or not surely, on the disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot write configuration file {path}: {what}: {source}", path = path.display())]
#[non_exhaustive]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What could not be done.
    pub what: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Puts a file with `text` in the place of `file`, with the same mode and owner; of a symbolic link, in the place of what it
/// leads to. It is on the disk then.
///
/// # Errors
///
/// What the system refused. `file` is as it was, unless only the last step failed: then it is new, but may not outlive a
/// power cut.
pub fn store(file: &Path, text: &str) -> Result<(), StoreError> {
    let mut what = "";
    replace(file, text, &mut what).map_err(|source| StoreError { path: file.to_owned(), what, source })
}

/// `step`: what is being done.
fn replace(file: &Path, text: &str, step: &mut &'static str) -> io::Result<()> {
    *step = "cannot find its folder";
    let target = resolve(file)?;
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(ErrorKind::IsADirectory.into());
    };
    *step = "cannot open its folder";
    let synced = File::open(folder)?;
    // Whoever comes second waits: both would use the same name.
    synced.lock()?;
    *step = "cannot replace it";
    let old = exists(fs::metadata(&target))?;
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(io::Error::other("it is no file"));
    }
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = folder.join(temporary);
    *step = "cannot remove what a power cut has left beside it";
    exists(fs::remove_file(&temporary))?;
    fill(&temporary, text, old.as_ref(), step)
        .and_then(|()| {
            *step = "cannot replace it";
            fs::rename(&temporary, &target)
        })
        .inspect_err(|_| {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        })?;
    *step = "it is replaced, but may not outlive a power cut";
    synced.sync_all()
}

/// Makes a file with `text` that is on the disk, as the `old` one in mode and owner.
fn fill(path: &Path, text: &str, old: Option<&Metadata>, step: &mut &'static str) -> io::Result<()> {
    *step = "cannot make a file beside it";
    // Nobody else reads it before it has the mode of the old one, which may hold passwords.
    let mode = if old.is_some() { 0o600 } else { NEW_MODE };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    *step = "cannot fill a file beside it";
    file.write_all(text.as_bytes())?;
    if let Some(old) = old {
        // File systems without owners and modes (FAT) refuse to set what they give to all.
        let new = file.metadata()?;
        *step = "cannot give a file beside it the same owner (try it as root, or as the owner)";
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        *step = "cannot give a file beside it the same mode";
        let mode = |metadata: &Metadata| metadata.mode() & 0o777;
        if mode(&new) != mode(old) {
            file.set_permissions(Permissions::from_mode(mode(old)))?;
        }
    }
    *step = "cannot bring a file beside it to the disk";
    file.sync_all()
}

/// The file itself, whatever links lead to it. It need not exist, but its folder must.
fn resolve(file: &Path) -> io::Result<PathBuf> {
    if let Some(target) = exists(fs::canonicalize(file))? {
        return Ok(target);
    }
    if fs::symlink_metadata(file).is_ok() {
        return Err(io::Error::other("it is a symbolic link to what is not there"));
    }
    let name = file.file_name().ok_or(ErrorKind::IsADirectory)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(fs::canonicalize(folder)?.join(name))
}

/// `None` for what is not there.
fn exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rillbox-store-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn names(&self) -> Vec<String> {
            let all = fs::read_dir(&self.0).unwrap();
            let mut all: Vec<_> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            all.sort();
            all
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_made_and_replaced_and_keeps_mode_and_owner() {
        let folder = Folder::new("mode");
        let file = folder.file("r.toml");
        store(&file, "one").unwrap();
        let made = fs::metadata(&file).unwrap();
        assert_eq!(made.mode() & 0o700, 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // Only root may give files away.
        let owner = if made.uid() == 0 { (1234, 4321) } else { (made.uid(), made.gid()) };
        std::os::unix::fs::chown(&file, Some(owner.0), Some(owner.1)).unwrap();
        store(&file, "two").unwrap();
        let new = fs::metadata(&file).unwrap();
        assert_eq!((new.mode() & 0o7777, (new.uid(), new.gid())), (0o640, owner));
        assert_ne!(new.ino(), made.ino(), "it is another file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(folder.names(), ["r.toml"]);
    }

    #[test]
    fn what_a_link_leads_to_is_replaced() {
        let (folder, far) = (Folder::new("link"), Folder::new("far"));
        fs::write(far.file("real.toml"), "one").unwrap();
        symlink(far.file("real.toml"), far.file("second")).unwrap();
        symlink(far.file("second"), folder.file("r.toml")).unwrap();
        store(&folder.file("r.toml"), "two").unwrap();
        assert_eq!(fs::read_to_string(far.file("real.toml")).unwrap(), "two");
        assert!(fs::symlink_metadata(folder.file("r.toml")).unwrap().is_symlink());
        assert_eq!(
            (folder.names(), far.names()),
            (vec!["r.toml".into()], vec!["real.toml".into(), "second".into()])
        );
        fs::remove_file(far.file("real.toml")).unwrap();
        let error = store(&folder.file("r.toml"), "three").unwrap_err().to_string();
        assert!(
            error.ends_with("r.toml: cannot find its folder: it is a symbolic link to what is not there"),
            "{error}"
        );
    }

    #[test]
    fn what_a_power_cut_left_is_removed() {
        let folder = Folder::new("left");
        let file = folder.file("r.toml");
        fs::write(&file, "one").unwrap();
        fs::write(folder.file(".r.toml.new"), "half of tw").unwrap();
        fs::set_permissions(folder.file(".r.toml.new"), Permissions::from_mode(0o000)).unwrap();
        store(&file, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(folder.names(), ["r.toml"]);
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = Folder::new("told");
        for (file, expected) in [
            (folder.file("none/r.toml"), "cannot find its folder: No such file or directory"),
            (folder.0.clone(), "cannot replace it: it is no file"),
            ("/".into(), "cannot find its folder: is a directory"),
            // Nobody may make files there, not even root.
            ("/proc/version".into(), "cannot make a file beside it: "),
        ] {
            let error = store(&file, "text").unwrap_err().to_string();
            let expected = format!("cannot write configuration file {}: {expected}", file.display());
            assert!(error.starts_with(&expected), "{error}");
        }
        assert!(folder.names().is_empty());
    }

    #[test]
    fn many_writers_leave_one_whole_file() {
        let folder = Folder::new("many");
        let file = folder.file("r.toml");
        let texts: Vec<String> = (0..4).map(|n| format!("{n}").repeat(100_000)).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                scope.spawn(|| (0..5).for_each(|_| store(&file, text).unwrap()));
            }
        });
        assert!(texts.contains(&fs::read_to_string(&file).unwrap()));
        assert_eq!(folder.names(), ["r.toml"]);
    }
}
