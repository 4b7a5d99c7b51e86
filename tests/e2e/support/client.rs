//! Other people's programs, each with a time limit.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a program may run, unless told otherwise.
const LIMIT: Duration = Duration::from_secs(90);

/// Where `scripts/test` put what is no Debian package.
pub fn clients() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let dir = set("RILLBOX_TEST_CLIENTS").or_else(|| cache().map(|cache| cache.join("rillbox/clients")));
    dir.filter(|dir| dir.join("ffmpeg").exists())
        .expect("the clients that end-to-end tests drive are missing: run scripts/install-test-clients")
}

/// A program that runs. It is killed when it takes too long, and at the end of the test.
pub struct Program {
    name: String,
    child: Child,
    deadline: Instant,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// What it wrote to both outputs.
    pub said: String,
}

impl Ended {
    /// Demands success without a word.
    #[track_caller]
    pub fn clean(&self) {
        assert!(self.status.success() && self.said.trim().is_empty(), "{self:#?}");
    }

    /// Demands success.
    #[track_caller]
    pub fn good(&self) {
        assert!(self.status.success(), "{self:#?}");
    }
}

impl Program {
    /// Starts a program. Both outputs are collected.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        let (mut output, input) = std::io::pipe().unwrap();
        let mut command = Command::new(&program);
        command.args(args).stdin(Stdio::null());
        command.stdout(input.try_clone().unwrap()).stderr(input);
        // Its own group: what it starts is killed with it.
        command.process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {name}: {error}: run scripts/install-test-clients"));
        drop(command);
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..len]);
            }
        });
        Self { name, child, deadline: Instant::now() + LIMIT, said, reader: Some(reader) }
    }

    /// FFmpeg 9, telling only of errors.
    #[track_caller]
    pub fn ffmpeg(args: &str) -> Self {
        Self::start(clients().join("ffmpeg"), ffmpeg_args(args))
    }

    /// Debian's FFmpeg 5.1, telling only of errors.
    #[track_caller]
    pub fn old_ffmpeg(args: &str) -> Self {
        Self::start("/usr/bin/ffmpeg", ffmpeg_args(args))
    }

    /// Gives it another time limit, from now.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.deadline = Instant::now() + limit;
        self
    }

    /// What it said up to now.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < self.deadline,
                "{} runs for too long; it said: {}",
                self.name,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        };
        // What it started may hold its output open.
        self.kill_group();
        self.reader.take().unwrap().join().unwrap();
        Ended { status, said: self.said() }
    }

    /// Kills it, as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills what it started.
    fn kill_group(&self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.kill_group();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} said: {}\n---", self.name, self.said());
        }
    }
}

/// Words separated by spaces.
fn ffmpeg_args(args: &str) -> impl Iterator<Item = &str> {
    ["-nostdin", "-hide_banner", "-y", "-v", "error"].into_iter().chain(args.split_whitespace())
}
