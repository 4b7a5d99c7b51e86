//! Where log lines go: one line an event, `time LEVEL session text`, e.g.
//! `2026-01-31T23:59:59.123Z INFO  3k9x0a7f publish live/demo started: H264 1280x720, AAC 44100 Hz`.
//!
//! Lines are made where they arise and written by a thread of their own over a bounded queue: a full disk, a
//! stopped terminal or a dead syslog daemon costs lines, which are counted and told of, never media.
//! What a peer sent can't forge a line: control characters are escaped.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, Metadata, Record};

use crate::config::{self, LogTarget};

/// How many lines may wait for the writer: with [`LONGEST_LINE`], 2 MiB at most.
const QUEUE: usize = 512;

/// What is longer is cut: a peer's URL may be long, but a line is for reading. In bytes.
const LONGEST_LINE: usize = 4096;

/// The syslog daemon's socket.
const DEV_LOG: &str = "/dev/log";

/// RFC 3164 4.1.1: facility 3, system daemons.
const DAEMON: u8 = 3 << 3;

/// The writer only formats and writes; 32-bit boards are glad of each page.
const STACK: usize = 128 * 1024;

/// Why the log can't go where it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file can't be opened for appending.
    #[error("log.target: cannot open log file {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// So many lines wait for the target before that the new one can't be told to the writer.
    #[error("log.target: what the log is written to now takes no more lines; restart to change it")]
    Stuck,
    /// There is no syslog daemon.
    #[error("log.target: cannot reach syslog at {DEV_LOG}: {0}")]
    Syslog(io::Error),
    /// The writer's thread can't be started.
    #[error("cannot start the log's thread: {0}")]
    Thread(io::Error),
}

static LOGGER: Logger = Logger { queue: OnceLock::new(), lost: AtomicUsize::new(0) };

struct Logger {
    queue: OnceLock<SyncSender<Message>>,
    /// Lines that found the queue full since the last one that didn't.
    lost: AtomicUsize,
}

enum Message {
    Line(Line),
    Target(Sink),
    Reopen,
    Flush(SyncSender<()>),
}

struct Line {
    level: Level,
    text: String,
}

/// Starts the log of the process. To be called once; later calls only change target and level.
///
/// # Errors
///
/// The target can't be opened.
pub fn start(config: &config::Log) -> Result<(), LogError> {
    let sink = Sink::open(&config.target)?;
    log::set_max_level(config.level);
    if let Some(queue) = LOGGER.queue.get() {
        return queue.try_send(Message::Target(sink)).map_err(|_| LogError::Stuck);
    }
    let (sender, receiver) = sync_channel(QUEUE);
    thread::Builder::new()
        .name("log".into())
        .stack_size(STACK)
        .spawn(move || Writer { sink, failing: false }.run(&receiver))
        .map_err(LogError::Thread)?;
    let _ = LOGGER.queue.set(sender);
    // Fails when a test harness has its own; then lines go there.
    let _ = log::set_logger(&LOGGER);
    Ok(())
}

/// Opens the log file anew, after it was renamed by who rotates it.
pub fn reopen() {
    if let Some(queue) = LOGGER.queue.get() {
        let _ = queue.try_send(Message::Reopen);
    }
}

/// Waits until what was logged is written, but not long.
pub fn flush() {
    const PATIENCE: Duration = Duration::from_millis(500);
    let Some(queue) = LOGGER.queue.get() else { return };
    let (sender, receiver) = sync_channel(1);
    // A full queue means that the sink hangs, and who stops the server shall not wait for it.
    if queue.try_send(Message::Flush(sender)).is_ok() {
        let _ = receiver.recv_timeout(PATIENCE);
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries are only heard when something is wrong.
        metadata.level() <= Level::Warn
            || metadata.target().starts_with("rillbox")
            || metadata.target() == "audit"
    }

    fn log(&self, record: &Record<'_>) {
        let Some(queue) = self.queue.get() else { return };
        if !self.enabled(record.metadata()) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let told = format_args!("{lost} log lines lost: the log's target takes them too slowly");
            let text = format(SystemTime::now(), Level::Warn, None, &told);
            if queue.try_send(Message::Line(Line { level: Level::Warn, text })).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        let session = record.key_values().get("session".into());
        let text = format(SystemTime::now(), record.level(), session, record.args());
        if queue.try_send(Message::Line(Line { level: record.level(), text })).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush();
    }
}

/// The length of the time and the space after it.
const TIME_LEN: usize = "2026-01-31T23:59:59.123Z ".len();

/// A line without its end.
fn format(
    time: SystemTime,
    level: Level,
    session: Option<log::kv::Value<'_>>,
    text: &fmt::Arguments<'_>,
) -> String {
    let mut out = Escaped { line: String::with_capacity(160) };
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = date(since.as_secs() / 86_400);
    let (s, ms) = (since.as_secs() % 86_400, since.subsec_millis());
    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    // Writing to `Escaped` doesn't fail but when the line is full, which is as it should be.
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z {level:<5} ");
    let _ = match session {
        Some(session) => write!(out, "{session} "),
        None => out.write_str("-------- "),
    };
    if out.write_fmt(*text).is_err() {
        out.line.push('…');
    }
    out.line
}

/// Year, month and day of the day `days` after 1970-01-01, by counting 400-year cycles from 0000-03-01.
fn date(days: u64) -> (u64, u64, u64) {
    const TO_EPOCH: u64 = 719_468;
    const CYCLE: u64 = 146_097;
    let days = days + TO_EPOCH;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March have a rhythm of 153 days in five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next, month, day)
}

/// Takes text until the line is full, with what could forge or hide text escaped.
struct Escaped {
    line: String,
}

impl fmt::Write for Escaped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.line.len() >= LONGEST_LINE {
                return Err(fmt::Error);
            }
            // Line and paragraph separators, and those that turn the direction of text.
            let odd = matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || odd {
                self.line.extend(c.escape_default());
            } else {
                self.line.push(c);
            }
        }
        Ok(())
    }
}

/// An open target.
#[derive(Debug)]
enum Sink {
    Stderr { journal: bool },
    File { path: PathBuf, file: File },
    Syslog { socket: UnixDatagram },
}

impl Sink {
    fn open(target: &LogTarget) -> Result<Self, LogError> {
        match target {
            LogTarget::Stderr => Ok(Self::Stderr { journal: stderr_is_journal() }),
            LogTarget::File(path) => {
                let file = append(path).map_err(|source| LogError::File { path: path.clone(), source })?;
                Ok(Self::File { path: path.clone(), file })
            }
            LogTarget::Syslog => {
                let socket = syslog(DEV_LOG.as_ref()).map_err(LogError::Syslog)?;
                Ok(Self::Syslog { socket })
            }
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let Line { level, text } = line;
        match self {
            // One write a line: what several processes write to one file or terminal stays whole.
            Self::Stderr { journal: true } => {
                // sd-daemon(3): the journal takes the priority from a prefix.
                io::stderr().write_all(format!("<{}>{text}\n", severity(*level)).as_bytes())
            }
            Self::Stderr { journal: false } => io::stderr().write_all(format!("{text}\n").as_bytes()),
            Self::File { file, .. } => file.write_all(format!("{text}\n").as_bytes()),
            Self::Syslog { socket } => {
                let message = syslog_message(*level, text);
                if socket.send(message.as_bytes()).is_err() {
                    // The daemon was restarted.
                    *socket = syslog(DEV_LOG.as_ref())?;
                    socket.send(message.as_bytes())?;
                }
                Ok(())
            }
        }
    }
}

/// RFC 3164 4.1, without a time: that would have to be local time, which the daemon knows (4.3.2).
fn syslog_message(level: Level, text: &str) -> String {
    let text = text.get(TIME_LEN..).unwrap_or(text);
    format!("<{}>rillbox[{}]: {text}", DAEMON + severity(level), std::process::id())
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn syslog(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// Whether what is written to stderr ends in the journal: systemd.exec(5), `JOURNAL_STREAM`. The variable
/// alone doesn't say so, since stderr may have been redirected since.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// RFC 3164 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The thread that writes.
struct Writer {
    sink: Sink,
    /// Whether the last line could not be written.
    failing: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Message>) {
        while let Ok(message) = queue.recv() {
            match message {
                Message::Line(line) => self.write(&line),
                Message::Target(sink) => {
                    self.sink = sink;
                    self.failing = false;
                }
                Message::Reopen => self.reopen(),
                Message::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, line: &Line) {
        match self.sink.write(line) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    // The last place to say so.
                    let _ = writeln!(io::stderr(), "rillbox: cannot write the log, lines are lost: {error}");
                }
                self.failing = true;
            }
        }
    }

    fn reopen(&mut self) {
        let Sink::File { path, file } = &mut self.sink else { return };
        let (level, text) = match append(path) {
            Ok(new) => {
                *file = new;
                (Level::Info, "log file opened anew".to_owned())
            }
            Err(error) => (Level::Error, format!("cannot open log file {} anew: {error}", path.display())),
        };
        let text = format(SystemTime::now(), level, None, &format_args!("{text}"));
        self.write(&Line { level, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ms: u32, text: &str) -> String {
        let time = UNIX_EPOCH + Duration::new(seconds, ms * 1_000_000);
        format(time, Level::Info, None, &format_args!("{text}"))
    }

    #[test]
    fn lines_have_time_level_session_and_text() {
        assert_eq!(at(0, 0, "x"), "1970-01-01T00:00:00.000Z INFO  -------- x");
        assert_eq!(at(951_782_399, 7, "x"), "2000-02-28T23:59:59.007Z INFO  -------- x");
        assert_eq!(at(951_782_400, 0, "x"), "2000-02-29T00:00:00.000Z INFO  -------- x");
        assert_eq!(at(4_107_542_400, 0, "x"), "2100-03-01T00:00:00.000Z INFO  -------- x");
        assert_eq!(at(1_767_225_599, 999, "x"), "2025-12-31T23:59:59.999Z INFO  -------- x");
        let session = Some(log::kv::Value::from("3k9x0a7f"));
        let line = format(UNIX_EPOCH, Level::Warn, session, &format_args!("closed"));
        assert_eq!(line, "1970-01-01T00:00:00.000Z WARN  3k9x0a7f closed");
    }

    #[test]
    fn peers_cannot_forge_lines() {
        let line = at(0, 0, "app\r\n1970 INFO fine\x1b[2J\u{202E}\0\u{85}é");
        let text = line.split_at(TIME_LEN + 15).1;
        assert_eq!(text, "app\\r\\n1970 INFO fine\\u{1b}[2J\\u{202e}\\u{0}\\u{85}é");
    }

    #[test]
    fn lines_are_bounded() {
        let line = at(0, 0, &"ä\n".repeat(100_000));
        assert!(line.len() <= LONGEST_LINE + 16, "{}", line.len());
        assert!(line.ends_with('…'));
    }

    #[test]
    fn syslog_lines() {
        let text = syslog_message(Level::Error, &at(0, 0, "gone"));
        assert_eq!(text, format!("<27>rillbox[{}]: INFO  -------- gone", std::process::id()));
    }

    #[test]
    fn a_file_is_opened_anew() {
        let dir = std::env::temp_dir().join(format!("rillbox-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, old) = (dir.join("a.log"), dir.join("a.log.1"));
        let mut writer = Writer { sink: Sink::open(&LogTarget::File(path.clone())).unwrap(), failing: false };
        writer.write(&Line { level: Level::Info, text: "one".into() });
        std::fs::rename(&path, &old).unwrap();
        writer.write(&Line { level: Level::Info, text: "two".into() });
        writer.reopen();
        writer.write(&Line { level: Level::Info, text: "three".into() });
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(new.ends_with("log file opened anew\nthree\n"), "{new}");
        // A directory that is gone: the old file goes on.
        std::fs::remove_dir_all(&dir).unwrap();
        writer.reopen();
        assert!(!writer.failing);
        let error = Sink::open(&LogTarget::File(path.clone())).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("log.target: cannot open log file {}: ", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_failing_sink_is_survived() {
        let full = LogTarget::File("/dev/full".into());
        let mut writer = Writer { sink: Sink::open(&full).unwrap(), failing: false };
        writer.write(&Line { level: Level::Info, text: "lost".into() });
        assert!(writer.failing);
    }

    #[test]
    fn syslog_survives_its_daemon() {
        let path = std::env::temp_dir().join(format!("rillbox-devlog-{}", std::process::id()));
        assert!(syslog(&path).is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        let socket = syslog(&path).unwrap();
        socket.send(b"<30>hello").unwrap();
        let mut buf = [0; 64];
        assert_eq!(daemon.recv(&mut buf).unwrap(), 9);
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(socket.send(b"x").is_err());
    }
}
