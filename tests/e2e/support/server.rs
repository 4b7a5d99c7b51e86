//! The server as a process of its own.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::{wait_for, wait_until};

/// What is tested: the program that Cargo built, or another one, with what runs it, such as
/// `qemu-mips-static dist/mips/full/rillbox`.
fn program() -> Command {
    let other = std::env::var("RILLBOX_TEST_SERVER").unwrap_or_default();
    let mut words = other.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(env!("CARGO_BIN_EXE_rillbox")));
    command.args(words);
    command
}

/// The same without the keys that the environment of the tests sets.
fn command() -> Command {
    let mut command = program();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RILLBOX_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running server with ports of its own. It dies with the test, which shows its log if it failed.
pub struct Server {
    child: Child,
    killed: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts it with defaults that suit tests.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with some keys set, named as the environment does without `RILLBOX_`.
    pub fn with(keys: &[(&str, &str)]) -> Self {
        Self::within(&[], keys)
    }

    /// The same with other variables of the environment set, too.
    pub fn within(environment: &[(&str, &str)], keys: &[(&str, &str)]) -> Self {
        let mut command = command();
        let defaults = [
            ("RTMP_LISTEN", "127.0.0.1:0"),
            ("HTTP_LISTEN", "127.0.0.1:0"),
            ("API_LISTEN", "127.0.0.1:0"),
            ("LOG_LEVEL", "debug"),
            // Players of a test end soon after its publisher.
            ("VHOST__DEFAULT__GRACE", "500ms"),
            ("VHOST__DEFAULT__HTTP_LIVE__WAIT", "forever"),
        ];
        for (key, value) in defaults.iter().chain(keys) {
            command.env(format!("RILLBOX_{key}"), value);
        }
        command.envs(environment.iter().copied());
        Self::of(command)
    }

    /// Starts it with a configuration file, and nothing else.
    pub fn with_file(file: &Path) -> Self {
        let mut command = command();
        command.arg("-c").arg(file);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        for name in ["RILLBOX_SRT_LISTEN", "RILLBOX_WEBRTC_LISTEN", "RILLBOX_WEBRTC_TCP_LISTEN"] {
            if !command.get_envs().any(|(known, _)| known == name) {
                command.env(name, "127.0.0.1:0");
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let server = Self { child, killed: false, log };
        server.line(" is ready");
        server
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.killed = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name]).arg(self.pid().to_string()).status().unwrap();
        assert!(kill.success());
    }

    /// Where a protocol listens, e.g. `RTMPS`.
    pub fn address(&self, protocol: &str) -> SocketAddr {
        let text = format!(" {protocol} listens on ");
        let line = self.line(&text);
        line.split(&text).nth(1).unwrap().parse().unwrap()
    }

    /// `rtmp://…/live/` and this.
    pub fn rtmp(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.address("RTMP"))
    }

    /// `http://…/live/` and this.
    pub fn http(&self, file: &str) -> String {
        format!("http://{}/live/{file}", self.address("HTTP"))
    }

    /// `srt://…?streamid=#!::r=live/` and this, e.g. `demo,m=publish`.
    pub fn srt(&self, id: &str) -> String {
        format!("srt://{}?streamid=#!::r=live/{id}", self.address("SRT"))
    }

    /// The first line of the log that holds `text`, waited for.
    #[track_caller]
    pub fn line(&self, text: &str) -> String {
        wait_for(&format!("a line of the log with {text:?}"), || {
            self.log.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// Waits until so many players are there.
    #[track_caller]
    pub fn players(&self, count: usize) {
        let there = || {
            self.count(" rtmp-play of live/")
                + self.count(" srt-play of live/")
                + self.count(" rtc-play of live/")
                + self.count(" GET /live/")
                >= count
        };
        wait_until(&format!("{count} players"), there);
    }

    /// How many lines of the log hold `text` now.
    pub fn count(&self, text: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    /// The ids of connections that were accepted, and whether the log tells of their end.
    pub fn connections(&self) -> Vec<(String, bool)> {
        let log = self.log.lock().unwrap();
        let id = |line: &String| line.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let ended: HashSet<_> = log.iter().filter(|line| line.contains(" ended after ")).map(id).collect();
        let accepted = log.iter().filter(|line| {
            let text = line.split_whitespace().skip(3).take(3).collect::<Vec<_>>().join(" ");
            text.ends_with(" connection from") && line.contains(" DEBUG ") && !line.contains(" ended after ")
        });
        accepted.map(id).map(|id| (id.clone(), ended.contains(&id))).collect()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        let kill = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(kill.success());
        wait_for("the server's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let died = self.child.try_wait().ok().flatten().filter(|status| !status.success() && !self.killed);
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log.lock().unwrap();
        let panicked = log.iter().any(|line| line.contains("panicked at"));
        if std::thread::panicking() || panicked || died.is_some() {
            eprintln!("--- the server's log");
            // What matters is mostly at the end.
            const LAST: usize = 300;
            for line in log.iter().skip(log.len().saturating_sub(LAST)) {
                eprintln!("{line}");
            }
            eprintln!("---");
        }
        drop(log);
        if !std::thread::panicking() {
            assert!(!panicked, "the server panicked");
            assert!(died.is_none(), "the server died: {died:?}");
        }
    }
}
