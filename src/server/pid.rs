//! The PID file: tells others who we are, and keeps a second server from starting.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ServerError;

/// A locked file with our process id; removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl PidFile {
    pub fn lock(path: &Path) -> Result<Self, ServerError> {
        // The file that we lock may be removed by a server that ends just now: then a new one is made.
        const TRIES: usize = 10;
        let failed = |source| ServerError::PidFile { path: path.to_owned(), source };
        for _ in 0..TRIES {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    // Only for the message; an unreadable file is told without.
                    let _ = file.take(20).read_to_string(&mut text);
                    let pid = text.trim().to_owned();
                    return Err(ServerError::AlreadyRunning { path: path.to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_at(&file, path) {
                write_pid(&mut file).map_err(failed)?;
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
        Err(failed(io::Error::other("it is removed again and again")))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // While the lock is held, so that it is ours.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_it() {
        let path = std::env::temp_dir().join(format!("rillbox-pid-{}", std::process::id()));
        fs::write(&path, "99999999 stale and longer than ours\n").unwrap();
        let first = PidFile::lock(&path).unwrap();
        let pid = std::process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
        let error = PidFile::lock(&path).unwrap_err().to_string();
        let expected = format!(
            "server.pid_file: {} is held by process {pid}: rillbox is running already",
            path.display()
        );
        assert_eq!(error, expected);
        drop(first);
        assert!(!path.exists());
        drop(PidFile::lock(&path).unwrap());
        let error = PidFile::lock(Path::new("/nowhere/r.pid")).unwrap_err().to_string();
        assert!(error.starts_with("server.pid_file: cannot write /nowhere/r.pid: "), "{error}");
    }
}
