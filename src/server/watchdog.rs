//! The board's watchdog: a device that restarts the board when nobody feeds it any more.
//!
//! It is opened once the server serves, and fed from the main loop while whatever must not hang answers (see
//! [`pulse`](crate::pulse)); systemd's watchdog hangs on the same decision. A clean stop gives it up by `V`, the magic
//! close of the kernel's watchdog API (Documentation/watchdog/watchdog-api.rst). Whoever is killed leaves it armed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the device is fed: the shortest time-outs in use are about ten seconds.
const EVERY: Duration = Duration::from_secs(2);
/// What has not answered for so long hangs.
const HUNG: Duration = Duration::from_secs(10);
/// When to try a device again that could not be opened.
const RETRY: Duration = Duration::from_secs(30);

/// Decides whether watchdogs are fed, and feeds the board's.
#[derive(Debug)]
pub(super) struct Watchdog {
    device: Option<Device>,
    /// How often to [`beat`](Self::beat), if somebody watches us.
    interval: Option<Duration>,
    /// Something hangs, which was told.
    hung: bool,
}

impl Watchdog {
    /// `path`: the board's device. `manager`: how often the service manager wants to hear of us.
    pub fn new(path: Option<&Path>, manager: Option<Duration>) -> Self {
        let device = path.map(Device::new);
        let interval = device.as_ref().map(|_| EVERY).into_iter().chain(manager).min();
        Self { device, interval, hung: false }
    }

    /// How often to call [`beat`](Self::beat); never, if nobody watches us.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Feeds the device, and says whether to tell the service manager that we live: unless something hangs.
    /// `silent` is who has left most questions unanswered, and how many. Asked once a beat.
    pub fn beat(&mut self, (name, silent): (&str, u32), now: Instant) -> bool {
        let hung = self.interval.is_some_and(|interval| interval * silent >= HUNG);
        if hung != std::mem::replace(&mut self.hung, hung) {
            if hung {
                let seconds = HUNG.as_secs();
                log::error!(
                    "{name} hangs: no answer for {seconds} s; the watchdog is not fed until it answers"
                );
            } else {
                log::warn!("all parts answer again: the watchdog is fed");
            }
        }
        if let Some(device) = self.device.as_mut().filter(|_| !hung) {
            device.feed(now);
        }
        !hung
    }

    /// A clean end: nobody need be restarted for it.
    pub fn give_up(&mut self) {
        if let Some(device) = self.device.take() {
            device.give_up();
        }
    }
}

#[derive(Debug)]
struct Device {
    path: PathBuf,
    file: Option<File>,
    /// Don't open it before.
    retry: Option<Instant>,
    /// The last trouble that was told.
    told: String,
}

impl Device {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, retry: None, told: String::new() }
    }

    /// A board without its watchdog still streams: trouble is told and overcome.
    fn feed(&mut self, now: Instant) {
        if self.file.is_none() {
            if self.retry.is_some_and(|retry| now < retry) {
                return;
            }
            match open(&self.path) {
                Ok(file) => {
                    log::info!("server.watchdog: {} is fed each {} s", self.path.display(), EVERY.as_secs());
                    self.file = Some(file);
                    self.told.clear();
                }
                Err(error) => {
                    self.retry = Some(now + RETRY);
                    let again = format!("trying again each {} s", RETRY.as_secs());
                    self.tell(&format!("cannot open {}: {error}; {again}", self.path.display()));
                    return;
                }
            }
        }
        if let Some(Err(error)) = self.write(b"\0") {
            self.file = None;
            self.retry = None;
            self.tell(&format!("cannot feed {}: {error}", self.path.display()));
        }
    }

    fn give_up(mut self) {
        let Some(result) = self.write(b"V") else { return };
        let path = self.path.display();
        match result {
            Ok(()) => log::info!("server.watchdog: {path} is given up"),
            Err(error) => log::error!("server.watchdog: cannot give {path} up: {error}"),
        }
    }

    fn write(&mut self, byte: &[u8; 1]) -> Option<io::Result<()>> {
        self.file.as_mut().map(|file| file.write_all(byte))
    }

    fn tell(&mut self, trouble: &str) {
        if self.told != trouble {
            log::error!("server.watchdog: {trouble}");
            trouble.clone_into(&mut self.told);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // What is no watchdog must not hold us up: a FIFO without reader would.
    let file =
        OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(
            |error| match error.kind() {
                io::ErrorKind::ResourceBusy => io::Error::other("another program feeds it"),
                _ => error,
            },
        )?;
    let kind = file.metadata()?.file_type();
    if kind.is_char_device() || kind.is_fifo() {
        Ok(file)
    } else {
        // It would be overwritten.
        Err(io::Error::other("it is no device"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::Command;

    use super::*;

    /// A FIFO in a device's place, and its other end.
    fn fifo(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("rillbox-watchdog-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        (path.clone(), reader(&path))
    }

    fn reader(path: &Path) -> File {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
    }

    fn got(end: &mut File) -> Vec<u8> {
        let mut buf = [0; 64];
        match end.read(&mut buf) {
            Ok(n) => buf[..n].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn is_fed_while_all_answer_and_given_up_at_the_end() {
        let (path, mut end) = fifo("fed");
        let mut watchdog = Watchdog::new(Some(&path), None);
        assert_eq!(watchdog.interval(), Some(EVERY));
        let now = Instant::now();
        assert_eq!(got(&mut end), b"", "nobody feeds it yet");
        assert!(watchdog.beat(("RTMP", 0), now) && watchdog.beat(("RTMP", 4), now));
        assert_eq!(got(&mut end), b"\0\0", "four answers late is slow, not dead");
        assert!(!watchdog.beat(("RTMP", 5), now) && !watchdog.beat(("RTMP", 6), now));
        assert_eq!(got(&mut end), b"");
        assert!(watchdog.beat(("RTMP", 0), now));
        assert_eq!(got(&mut end), b"\0");
        watchdog.give_up();
        assert_eq!(got(&mut end), b"V");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_device_that_fails_is_tried_again() {
        let (path, end) = fifo("again");
        drop(end);
        let mut watchdog = Watchdog::new(Some(&path), None);
        let now = Instant::now();
        assert!(watchdog.beat(("", 0), now), "the server goes on");
        let mut end = reader(&path);
        watchdog.beat(("", 0), now + RETRY / 2);
        assert_eq!(got(&mut end), b"", "too early");
        watchdog.beat(("", 0), now + RETRY);
        assert_eq!(got(&mut end), b"\0");
        // It breaks: at the next beat it is opened anew.
        drop(end);
        watchdog.beat(("", 0), now + RETRY);
        let mut end = reader(&path);
        watchdog.beat(("", 0), now + RETRY);
        assert_eq!(got(&mut end), b"\0");
        // Killed: nothing is given up.
        drop(watchdog);
        assert_eq!(got(&mut end), b"");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_watchdog_stays_as_it_is() {
        let path = std::env::temp_dir().join(format!("rillbox-watchdog-{}-file", std::process::id()));
        std::fs::write(&path, "keep me").unwrap();
        assert_eq!(open(&path).unwrap_err().to_string(), "it is no device");
        let mut watchdog = Watchdog::new(Some(&path), None);
        watchdog.beat(("", 0), Instant::now());
        watchdog.give_up();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "keep me");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn who_is_not_watched_does_nothing() {
        assert_eq!(Watchdog::new(None, None).interval(), None);
        let mut watchdog = Watchdog::new(None, Some(Duration::from_millis(500)));
        assert_eq!(watchdog.interval(), Some(Duration::from_millis(500)));
        assert!(watchdog.beat(("", 19), Instant::now()) && !watchdog.beat(("", 20), Instant::now()));
        let both = Watchdog::new(Some(Path::new("/nowhere")), Some(Duration::from_secs(15)));
        assert_eq!(both.interval(), Some(EVERY));
    }
}
