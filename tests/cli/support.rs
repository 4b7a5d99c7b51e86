//! A directory with a configuration, commands, and a running server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing here takes this long, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const PORTS: &str = "[api]\nlisten = \"127.0.0.1:0\"\n\
    [rtmp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n";

/// A directory for one test, with its configuration.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rillbox-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn with(text: &str) -> Self {
        let dir = Self::new();
        dir.write(text);
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("r.toml")
    }

    pub fn write(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    /// What is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let all = fs::read_dir(&self.0).unwrap();
        let mut all: Vec<_> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn rillbox(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rillbox"));
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RILLBOX_") {
            command.env_remove(name);
        }
    }
    command
}

/// Exit code, output and errors of a command that ends.
pub fn said(command: &str, config: &Path) -> (i32, String, String) {
    said_by(rillbox(&[command, "-c", config.to_str().unwrap()]))
}

pub fn said_by(mut command: Command) -> (i32, String, String) {
    output(command.output().unwrap())
}

pub fn output(Output { status, stdout, stderr }: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

/// A running server.
pub struct Server {
    pub child: Child,
    pub lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(config: &Path) -> Self {
        let mut server = Self::spawn(rillbox(&["run", "-c", config.to_str().unwrap()]));
        server.wait_for(" is ready; ");
        server
    }

    pub fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self::of(command)
    }

    pub fn of(mut command: Command) -> Self {
        // Tests run side by side, and what they configure seldom names it.
        if cfg!(feature = "srt") {
            command.env("RILLBOX_SRT_LISTEN", "127.0.0.1:0");
        }
        if cfg!(feature = "webrtc") {
            command
                .env("RILLBOX_WEBRTC_LISTEN", "127.0.0.1:0")
                .env("RILLBOX_WEBRTC_TCP_LISTEN", "127.0.0.1:0");
        }
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that holds `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {text:?}; there were: {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where a protocol listens, by the last line that said so.
    pub fn address(&self, protocol: &str) -> String {
        let text = format!(" {protocol} listens on ");
        let line = self.seen.iter().rev().find(|line| line.contains(&text)).unwrap();
        line.split(&text).nth(1).unwrap().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running; it said: {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A FIFO in the place of a watchdog's device, and its other end.
pub fn watchdog(dir: &Dir) -> (PathBuf, fs::File) {
    let path = dir.path("watchdog");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let end = fs::File::options().read(true).write(true).open(&path).unwrap();
    (path, end)
}
