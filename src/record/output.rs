//! A file that is being written: in large pieces, aligned, and put on the medium as often as one wants.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Fsync;

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Writes end at multiples of this.
    pub(super) write_size: u64,
    pub(super) fsync: Fsync,
    pub(super) fsync_interval: Duration,
}

/// A new file. It is locked while it is written, so that another process knows.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    path: PathBuf,
    terms: Terms,
    /// Bytes of the file that were written.
    at: u64,
    /// What follows them.
    buffer: Vec<u8>,
    synced: Instant,
}

impl Output {
    /// Makes the file and the directories above it. Fails if there is one of that name.
    pub(super) fn create(path: &Path, terms: Terms, now: Instant) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        // Where there are no locks (some network file systems), there is no other process, either.
        let _ = file.try_lock();
        let buffer = Vec::new();
        Ok(Self { file, path: path.to_owned(), terms, at: 0, buffer, synced: now })
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length with all that was put into it.
    pub(super) fn len(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Appends bytes; writes when enough have gathered.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        let size = self.terms.write_size.max(1);
        let end = self.len() / size * size;
        if end > self.at && self.buffer.len() as u64 >= size {
            let len = usize::try_from(end - self.at).unwrap_or(self.buffer.len());
            self.write(len)?;
        }
        Ok(())
    }

    fn write(&mut self, len: usize) -> io::Result<()> {
        let (now, _) = self.buffer.split_at_checked(len).unwrap_or((&self.buffer, &[]));
        self.file.write_all(now)?;
        self.at += now.len() as u64;
        let len = now.len();
        self.buffer.drain(..len);
        Ok(())
    }

    /// Writes all that was put into it. What is in the file now is whole.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.write(self.buffer.len())?;
        let due = match self.terms.fsync {
            Fsync::Fragment => true,
            Fsync::Interval => now.saturating_duration_since(self.synced) >= self.terms.fsync_interval,
            Fsync::Never => false,
        };
        if due {
            self.synced = now;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Puts all of it on the medium, unless that is never wanted.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write(self.buffer.len())?;
        if self.terms.fsync == Fsync::Never { Ok(()) } else { self.file.sync_all() }
    }

    /// Writes over what is in the file.
    pub(super) fn patch(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(self.buffer.len())?;
        self.file.write_all_at(bytes, at)
    }

    /// Cuts the file off at `len`, which was flushed, and forgets what came after.
    pub(super) fn revert(&mut self, len: u64) -> io::Result<()> {
        self.buffer = Vec::new();
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::Start(len))?;
        self.at = len;
        Ok(())
    }

    /// The file, for whoever reads what was flushed.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Gives a file its last name, on the medium too.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    if let Some(dir) = to.parent() {
        // The name is what is lost otherwise; not all file systems can.
        let _ = File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
            .and_then(|dir| dir.sync_all());
    }
    Ok(())
}
