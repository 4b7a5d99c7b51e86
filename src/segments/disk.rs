//! Files of segments, keys and playlists.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

/// How much of a stream may wait for its disk; what comes beyond is not written.
const BACKLOG: usize = 32;

/// Something to do, in order.
#[derive(Debug)]
pub(super) enum Work {
    /// Writes a file, of a segment if it has a number.
    Write {
        file: PathBuf,
        chunks: Arc<[Bytes]>,
        segment: Option<(Arc<str>, u64)>,
    },
    Delete(PathBuf),
}

/// A file that was written, or why not.
#[derive(Debug)]
pub(super) struct Written {
    pub file: PathBuf,
    pub segment: Option<(Arc<str>, u64)>,
    pub result: io::Result<()>,
}

/// Writes files behind the back of whoever makes them.
#[derive(Debug)]
pub(super) struct Writer {
    work: mpsc::Sender<Work>,
}

impl Writer {
    /// With what was written. It ends when the writer is dropped and all is done.
    pub(super) fn start() -> (Self, mpsc::Receiver<Written>) {
        let (work, mut queue) = mpsc::channel::<Work>(BACKLOG);
        let (tell, told) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            while let Some(work) = queue.recv().await {
                let done = tokio::task::spawn_blocking(move || act(work)).await;
                if let Ok(Some(written)) = done {
                    // A job that has ended needs no answer.
                    let _ = tell.send(written).await;
                }
            }
        });
        (Self { work }, told)
    }

    /// Puts that to the end of what there is to do.
    ///
    /// # Errors
    /// When there is too much already.
    pub(super) fn push(&self, work: Work) -> io::Result<()> {
        self.work.try_send(work).map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "the disk is too slow: segments come faster than it writes",
            )
        })
    }
}

fn act(work: Work) -> Option<Written> {
    match work {
        Work::Write { file, chunks, segment } => {
            let result = write(&file, &chunks);
            Some(Written { file, segment, result })
        }
        Work::Delete(file) => {
            // It may be gone already.
            let _ = fs::remove_file(file);
            None
        }
    }
}

/// Writes a file so that others see it whole or not at all.
fn write(file: &Path, chunks: &[Bytes]) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".tmp");
    let put = || {
        let mut out = fs::File::create(&temporary)?;
        chunks.iter().try_for_each(|chunk| out.write_all(chunk))?;
        drop(out);
        fs::rename(&temporary, file)
    };
    let result = put();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_whole_or_not_there() {
        let dir = std::env::temp_dir().join(format!("rillbox-segments-{}", std::process::id()));
        let (writer, mut told) = Writer::start();
        let file = dir.join("live/a-1.ts");
        let chunks: Arc<[Bytes]> = [Bytes::from_static(b"one"), Bytes::from_static(b"two")].into();
        let work = |file: &Path| Work::Write { file: file.to_owned(), chunks: chunks.clone(), segment: None };
        writer.push(work(&file)).unwrap();
        assert!(told.recv().await.unwrap().result.is_ok());
        assert_eq!(fs::read(&file).unwrap(), b"onetwo");
        // A directory is where the file should be.
        writer.push(work(&dir.join("live"))).unwrap();
        assert!(told.recv().await.unwrap().result.is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
        writer.push(Work::Delete(file.clone())).unwrap();
        drop(writer);
        assert!(told.recv().await.is_none());
        assert!(!file.exists());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn what_waits_for_a_disk_is_bounded() {
        let (writer, _told) = Writer::start();
        let results: Vec<_> = (0..100).map(|_| writer.push(Work::Delete("/nonexistent/x".into()))).collect();
        assert!(results.iter().filter(|result| result.is_ok()).count() <= BACKLOG);
        assert!(results[99].as_ref().unwrap_err().to_string().contains("too slow"));
    }
}
