//! The program as a process: command line, configuration, signals, PID file. All ports are 0.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // a test fails by panicking

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing here takes this long, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

const PORTS: &str = "[api]\nlisten = \"127.0.0.1:0\"\n\
    [rtmp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n";

/// A directory for one test, with its configuration.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rillbox-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn with(text: &str) -> Self {
        let dir = Self::new();
        dir.write(text);
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("r.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    /// What is in it, sorted.
    fn names(&self) -> Vec<String> {
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

fn rillbox(args: &[&str]) -> Command {
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
fn said(command: &str, config: &Path) -> (i32, String, String) {
    said_by(rillbox(&[command, "-c", config.to_str().unwrap()]))
}

fn said_by(mut command: Command) -> (i32, String, String) {
    output(command.output().unwrap())
}

fn output(Output { status, stdout, stderr }: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

/// A running server.
struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    /// Starts it and waits until it is ready.
    fn start(config: &Path) -> Self {
        let mut server = Self::spawn(rillbox(&["run", "-c", config.to_str().unwrap()]));
        server.wait_for(" is ready; ");
        server
    }

    fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
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
    fn wait_for(&mut self, text: &str) -> String {
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
    fn address(&self, protocol: &str) -> String {
        let text = format!(" {protocol} listens on ");
        let line = self.seen.iter().rev().find(|line| line.contains(&text)).unwrap();
        line.split(&text).nth(1).unwrap().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
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

#[test]
fn wrong_keys_are_told_and_nothing_runs() {
    let dir = Dir::with("[rtmp]\nlisen = 1\n[log]\nlevel = \"loud\"\n");
    let file = dir.config().display().to_string();
    let expected = format!(
        "rillbox: {file}:2: rtmp.lisen: unknown key; did you mean \"listen\"?\n\
         rillbox: {file}:4: log.level: expected \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \
         \"loud\"\n"
    );
    for command in ["run", "check"] {
        assert_eq!(said(command, &dir.config()), (1, String::new(), expected.clone()));
    }
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let dir = Dir::new();
    let file = dir.config().display().to_string();
    let expected =
        format!("rillbox: cannot read configuration file {file}: No such file or directory (os error 2)\n");
    for command in ["run", "check"] {
        assert_eq!(said(command, &dir.config()), (1, String::new(), expected.clone()));
    }
    let (code, _, text) = said("run", &dir.0);
    assert_eq!((code, text.lines().count()), (1, 1), "{text}");
}

#[test]
fn check_tells_what_differs_from_the_defaults() {
    let dir = Dir::with("[server]\nworkers = 2\n");
    let file = dir.config().display().to_string();
    let expected = format!("{file} is right; what differs from the defaults:\n  server.workers = 2\n");
    assert_eq!(said("check", &dir.config()), (0, expected, String::new()));
    for shipped in ["rillbox.toml", "full.toml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(shipped);
        let (code, text, _) = said("check", &file);
        assert_eq!(code, 0);
        assert!(text.ends_with("differs from the defaults:\n  nothing\n"), "{text}");
    }
}

#[test]
fn the_environment_is_heeded() {
    let dir = Dir::with("");
    let mut command = rillbox(&["check"]);
    command.env("RILLBOX_CONFIG", dir.config()).env("RILLBOX_RTMP_CHUNK_SIZE", "4096").env("RILLBOX_X", "1");
    let (code, text, _) = said_by(command);
    assert_eq!(code, 0);
    assert!(text.contains("\n  rtmp.chunk_size = 4096\n"), "{text}");
    assert!(text.contains("\nwarning: RILLBOX_X: no key has this name, ignored\n"), "{text}");
    let mut command = rillbox(&["check"]);
    command.env("RILLBOX_RTMP_CHUNK_SIZE", "1");
    let expected = "rillbox: RILLBOX_RTMP_CHUNK_SIZE: rtmp.chunk_size: expected 128 to 65536, found \"1\"\n";
    assert_eq!(said_by(command), (1, String::new(), expected.into()));
}

#[test]
fn usage() {
    let (code, out, err) = said_by(rillbox(&["fly"]));
    assert_eq!((code, &*out, &*err), (2, "", "rillbox: unknown command \"fly\"; see rillbox --help\n"));
    let (code, out, _) = said_by(rillbox(&["--help"]));
    assert!(code == 0 && out.contains("Usage: rillbox"));
    let (code, out, _) = said_by(rillbox(&["version"]));
    assert!(code == 0 && out.starts_with(concat!("rillbox ", env!("CARGO_PKG_VERSION"), " (")), "{out}");
}

#[test]
fn a_taken_port_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let dir = Dir::with(&format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n[http]\nlisten = \"{address}\"\n[rtmp]\nlisten = []\n"
    ));
    let (code, _, text) = said("run", &dir.config());
    let expected =
        format!("rillbox: http.listen: cannot listen on {address}: the port is taken by another program");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!((code, text.lines().count()), (1, 1), "{text}");
}

#[test]
fn what_the_configuration_names_must_be_there() {
    let dir = Dir::with(&format!("{PORTS}root = \"/nowhere\"\n"));
    let expected = "rillbox: http.root: /nowhere is no directory\n";
    assert_eq!(said("check", &dir.config()), (1, String::new(), expected.into()));
    #[cfg(feature = "tls")]
    {
        dir.write("[tls]\ncert = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\"\n");
        let expected =
            "rillbox: tls: /nowhere/c.pem cannot be read: No such file or directory (os error 2)\n";
        assert_eq!(said("check", &dir.config()), (1, String::new(), expected.into()));
    }
    dir.write("[log]\ntarget = \"/nowhere/r.log\"\n");
    let (code, _, text) = said("run", &dir.config());
    assert!(
        code == 1 && text.starts_with("rillbox: log.target: cannot open log file /nowhere/r.log: "),
        "{text}"
    );
}

#[test]
fn a_second_server_with_the_same_pid_file_does_not_start() {
    let dir = Dir::new();
    let pid_file = dir.path("r.pid");
    dir.write(&format!("{PORTS}[server]\npid_file = \"{}\"\n", pid_file.display()));
    let mut first = Server::start(&dir.config());
    let pid = first.child.id();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    let expected = format!(
        "rillbox: server.pid_file: {} is held by process {pid}: rillbox is running already\n",
        pid_file.display()
    );
    assert_eq!(said("run", &dir.config()), (1, String::new(), expected));
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0));
    assert!(!pid_file.exists());
    drop(Server::start(&dir.config()));
    assert!(pid_file.exists(), "a killed server leaves the file, but not the lock");
    drop(Server::start(&dir.config()));
}

#[test]
fn stops_at_once_when_nobody_is_there() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        for workers in [1, 2] {
            let dir = Dir::with(&format!("{PORTS}[server]\nworkers = {workers}\n"));
            let mut server = Server::start(&dir.config());
            let start = Instant::now();
            server.signal(signal);
            server.wait_for(&format!("{name}: stopping"));
            server.wait_for("stopped");
            assert_eq!(server.ended().code(), Some(0));
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
}

#[test]
fn connections_do_not_hold_a_stop() {
    let dir = Dir::with(&format!("{PORTS}[server]\nshutdown_timeout = \"1s\"\n"));
    let mut server = Server::start(&dir.config());
    let mut held: Vec<TcpStream> =
        ["RTMP", "HTTP"].iter().map(|name| TcpStream::connect(server.address(name)).unwrap()).collect();
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(held.iter_mut().all(|socket| socket.read(&mut [0; 1]).unwrap_or(0) == 0));
}

#[test]
fn a_good_reload_changes_what_it_can() {
    let dir = Dir::with(PORTS);
    let mut server = Server::start(&dir.config());
    let (rtmp, http) = (server.address("RTMP"), server.address("HTTP"));
    dir.write(
        "[api]\nlisten = \"127.0.0.1:0\"\n[server]\nworkers = 7\n[log]\nlevel = \"debug\"\n\
         [http]\nlisten = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n\
         [rtmp]\nenabled = false\nlisten = [\"127.0.0.1:0\"]\n",
    );
    server.signal(Signal::HUP);
    server.wait_for("WARN  -------- reload: server.workers = 7 needs a restart");
    let line = server.wait_for("reload: now ");
    assert!(line.contains("log.level = \"debug\", "), "{line}");
    TcpStream::connect(&http).unwrap();
    TcpStream::connect(server.address("HTTP")).unwrap();
    assert_ne!(http, server.address("HTTP"), "the one more");
    assert!(server.seen.iter().any(|line| line.contains(&format!("RTMP no longer listens on {rtmp}"))));
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&rtmp).is_ok() {
        assert!(Instant::now() < deadline, "{rtmp} still takes connections");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.signal(Signal::HUP);
    server.wait_for("reload: server.workers = 7 needs a restart");
    server.wait_for("reload: nothing else to change");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_bad_reload_changes_nothing() {
    let dir = Dir::with(PORTS);
    let mut server = Server::start(&dir.config());
    let http = server.address("HTTP");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let moved =
        format!("[api]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"{address}\"\n[rtmp]\nlisten = []\n");
    for (text, expected) in [
        ("[log]\nlevel = \"off\"\n[rtmp]\nlisen = 1\n", "rtmp.lisen: unknown key"),
        ("this is no TOML", "not TOML: "),
        (&moved, "http.listen: cannot listen on 127.0.0.1:"),
    ] {
        dir.write(text);
        server.signal(Signal::HUP);
        let line = server.wait_for("ERROR");
        assert!(line.contains(expected), "{line}");
        server.wait_for("nothing was changed");
        TcpStream::connect(&http).unwrap();
    }
    fs::remove_file(dir.config()).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("reload: cannot read configuration file");
    dir.write(PORTS);
    server.signal(Signal::HUP);
    server.wait_for("reload: nothing else to change");
}

#[test]
fn the_log_file_is_opened_anew() {
    let dir = Dir::new();
    let (log, old) = (dir.path("r.log"), dir.path("r.log.1"));
    dir.write(&format!("{PORTS}[log]\ntarget = \"{}\"\n", log.display()));
    let mut server = Server::spawn(rillbox(&["run", "-c", dir.config().to_str().unwrap()]));
    let holds = |path: &Path, text: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(path).is_ok_and(|all| all.contains(text)) {
            assert!(Instant::now() < deadline, "no {text:?} in {}", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    holds(&log, " is ready; ");
    fs::rename(&log, &old).unwrap();
    server.signal(Signal::USR1);
    holds(&log, "log file opened anew");
    // A reload may lead the lines elsewhere.
    dir.write(PORTS);
    server.signal(Signal::HUP);
    server.wait_for("log.target = \"stderr\"");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn the_service_manager_is_told() {
    let dir = Dir::with(PORTS);
    let name = format!("rillbox-cli-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = rillbox(&["run", "-c", dir.config().to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "200000");
    let mut server = Server::spawn(command);
    let told = |text: &str| {
        let mut buf = [0; 1024];
        loop {
            let len = manager.recv(&mut buf).expect(text);
            if buf[..len].starts_with(text.as_bytes()) {
                return;
            }
        }
    };
    told("READY=1\nSTATUS=publish to rtmp://localhost:");
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    server.signal(Signal::HUP);
    told("RELOADING=1\nMONOTONIC_USEC=");
    told("READY=1");
    server.signal(Signal::TERM);
    told("STOPPING=1");
    assert_eq!(server.ended().code(), Some(0));
}

/// A FIFO in the place of a watchdog's device, and its other end.
fn watchdog(dir: &Dir) -> (PathBuf, fs::File) {
    let path = dir.path("watchdog");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let end = fs::File::options().read(true).write(true).open(&path).unwrap();
    (path, end)
}

#[test]
fn the_boards_watchdog_is_fed_and_given_up_by_a_clean_stop_only() {
    for signal in [Signal::TERM, Signal::KILL] {
        let dir = Dir::new();
        let (path, mut end) = watchdog(&dir);
        dir.write(&format!("{PORTS}[server]\nwatchdog = \"{}\"\n", path.display()));
        let mut server = Server::start(&dir.config());
        let mut fed = [0xFF; 2];
        end.read_exact(&mut fed).unwrap();
        assert_eq!(fed, [0, 0]);
        server.signal(signal);
        server.ended();
        // What a reader finds in the FIFO, and then this.
        end.write_all(b"E").unwrap();
        let mut last = Vec::new();
        while !last.ends_with(b"E") {
            let mut byte = [0];
            end.read_exact(&mut byte).unwrap();
            last.extend(byte);
        }
        last.retain(|byte| *byte != 0);
        assert_eq!(last, if signal == Signal::TERM { &b"VE"[..] } else { b"E" });
    }
}

#[test]
fn a_missing_watchdog_is_told_and_the_server_serves() {
    let dir = Dir::with(&format!("{PORTS}[server]\nwatchdog = \"/nowhere/watchdog\"\n"));
    let mut server = Server::start(&dir.config());
    let line = server.wait_for("ERROR");
    assert!(line.contains("server.watchdog: cannot open /nowhere/watchdog: No such file"), "{line}");
    TcpStream::connect(server.address("RTMP")).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
}

/// `rillbox apply NEW -c CONFIG`, with this on standard input.
#[cfg(feature = "srs-conf")]
#[test]
fn a_configuration_of_srs_is_checked_converted_and_run() {
    let dir = Dir::new();
    let (conf, toml) = (dir.path("srs.conf"), dir.path("made.toml"));
    fs::write(
        &conf,
        "listen 127.0.0.1:0;\nmax_connections 10;\nsrt_server { enabled on; }\nvhost __defaultVhost__ {\n}\n",
    )
    .unwrap();
    let name = conf.to_str().unwrap();
    let (code, text, _) = said_by(rillbox(&["-t", "-c", name]));
    assert!(code == 0 && text.contains("  server.max_connections = 10\n"), "{text}");
    assert!(text.contains(&format!("\nwarning: {name}:3: srt_server: not done: ")), "{text}");
    let mut command = rillbox(&["check"]);
    command.env("SRS_CONFIG_FILE", name).env("SRS_MAX_CONNECTIONS", "20");
    assert!(said_by(command).1.contains("  server.max_connections = 20\n"));
    let (code, text, _) = said_by(rillbox(&["convert", name]));
    assert_eq!(code, 0);
    fs::write(&toml, &text).unwrap();
    for file in [&conf, &toml] {
        let mut server = Server::start(file);
        server.address("RTMP");
        server.signal(Signal::HUP);
        server.wait_for("reload: nothing else to change");
    }
    let (code, _, text) = apply(toml.to_str().unwrap(), &conf, b"");
    assert!(code == 1 && text.contains("rillbox convert "), "{text}");

    fs::write(&conf, "listen 1935;\nvhost __defaultVhost__ {\n  hls { enabled on; hls_fragmen 10; }\n}\n")
        .unwrap();
    let expected =
        format!("rillbox: {name}:3: hls.hls_fragmen: unknown key; did you mean \"hls_fragment\"?\n");
    for command in ["run", "check", "convert"] {
        assert_eq!(said(command, &conf), (1, String::new(), expected.clone()));
    }
}

fn apply(new: &str, config: &Path, input: &[u8]) -> (i32, String, String) {
    let mut command = rillbox(&["apply", new, "-c", config.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses need not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    output(child.wait_with_output().unwrap())
}

#[test]
fn a_right_configuration_is_applied_and_told() {
    let dir = Dir::with("[server]\nworkers = 2\n[log]\nlevel = \"warn\"\n");
    let (config, new) = (dir.config(), dir.path("new.toml"));
    let text = "# mine\n[log]\nlevel = \"debug\"\n[vhost.cam]\ngrace = \"1s\"\n";
    fs::write(&new, text).unwrap();
    let file = config.display();
    let expected = format!(
        "{file}: 3 keys change:\n  server.workers: 2 -> 0 (needs a restart)\n  log.level: \"warn\" -> \"debug\"\n  \
         vhost.cam.grace: not set -> \"1s\"\n{file} is written; SIGHUP puts it in force\n"
    );
    assert_eq!(apply(new.to_str().unwrap(), &config, b""), (0, expected, String::new()));
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    let nothing = format!("{file}: nothing changes\n{file} is written; SIGHUP puts it in force\n");
    assert_eq!(apply("-", &config, text.as_bytes()), (0, nothing, String::new()));
    // What was wrong, or not there, can be replaced, too.
    dir.write("[rtmp]\nlisen = 1\n");
    let (code, out, _) = apply("-", &config, text.as_bytes());
    assert!(
        code == 0 && out.contains(": 2 keys change (compared with the defaults: it was wrong: "),
        "{out}"
    );
    fs::remove_file(&config).unwrap();
    let (code, out, _) = apply("-", &config, b"");
    assert!(
        code == 0 && out.contains(": nothing changes (compared with the defaults: there was none: "),
        "{out}"
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), "");
}

#[test]
fn a_wrong_configuration_is_not_applied() {
    let old = "[log]\nlevel = \"warn\"\n";
    let dir = Dir::with(old);
    let wrong = "rillbox: standard input:2: rtmp.lisen: unknown key; did you mean \"listen\"?\n".to_owned();
    assert_eq!(apply("-", &dir.config(), b"[rtmp]\nlisen = 1\n"), (1, String::new(), wrong));
    let missing = "rillbox: http.root: /nowhere is no directory\n".to_owned();
    assert_eq!(apply("-", &dir.config(), b"[http]\nroot = \"/nowhere\"\n"), (1, String::new(), missing));
    let endless = "rillbox: cannot read configuration file /dev/zero: it is longer than 1 MiB, so it can't be a \
                   configuration\n";
    assert_eq!(apply("/dev/zero", &dir.config(), b""), (1, String::new(), endless.into()));
    let (code, _, text) = apply("-", &dir.config(), &b"#".repeat(2 << 20));
    assert!(code == 1 && text.contains("from standard input: it is longer than 1 MiB"), "{text}");
    let (code, _, text) = apply("-", &dir.config(), b"\xFF");
    assert!(code == 1 && text.contains("from standard input: stream did not contain valid UTF-8"), "{text}");
    let mut command = rillbox(&["apply", "-", "-c", dir.config().to_str().unwrap()]);
    command.env("RILLBOX_RTMP_CHUNK_SIZE", "1");
    let (code, _, text) = said_by(command);
    assert!(code == 1 && text.starts_with("rillbox: RILLBOX_RTMP_CHUNK_SIZE: "), "{text}");
    assert_eq!(said_by(rillbox(&["apply", "-"])).0, 2, "nobody says which configuration");
    assert_eq!(fs::read_to_string(dir.config()).unwrap(), old);
    assert_eq!(dir.names(), ["r.toml"]);
}

#[test]
fn a_full_disk_leaves_the_configuration_as_it_was() {
    let old = "[log]\nlevel = \"warn\"\n";
    let dir = Dir::with(old);
    fs::write(dir.path("new.toml"), "# as long as two blocks\n".repeat(50)).unwrap();
    // As a full disk does, the limit lets a part be written.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_rillbox"),
        "apply",
    ]);
    command.arg(dir.path("new.toml")).arg("-c").arg(dir.config());
    let (code, out, text) = said_by(command);
    let expected = format!(
        "rillbox: cannot write configuration file {}: cannot fill a file beside it: ",
        dir.config().display()
    );
    assert!((code, &*out) == (1, "") && text.starts_with(&expected), "{code} {out} {text}");
    assert_eq!(fs::read_to_string(dir.config()).unwrap(), old);
    assert_eq!(dir.names(), ["new.toml", "r.toml"]);
}

#[test]
fn who_is_killed_while_applying_leaves_the_old_or_the_new_one() {
    let dir = Dir::new();
    let texts = ["# a\n", "# b\n"].map(|line| line.repeat(200_000));
    dir.write(&texts[0]);
    for (n, text) in texts.iter().cycle().enumerate().take(40) {
        let new = dir.path("new.toml");
        fs::write(&new, text).unwrap();
        let mut command = rillbox(&["apply", new.to_str().unwrap(), "-c", dir.config().to_str().unwrap()]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(400 * n as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(texts.contains(&fs::read_to_string(dir.config()).unwrap()), "neither old nor new");
    }
    assert_eq!(apply("-", &dir.config(), b"").0, 0);
    assert_eq!(dir.names(), ["new.toml", "r.toml"], "nothing is left over");
}

/// A server to which these two sockets were passed under these names.
fn with_passed(sockets: [TcpListener; 2], names: &str, config: &Path) -> Server {
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=2; exec 3<&0 4>&1 </dev/null >/dev/null; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_rillbox"), "run", "-c"]).arg(config);
    let [first, second] = sockets.map(|socket| Stdio::from(std::os::fd::OwnedFd::from(socket)));
    command.stdin(first).stdout(second).stderr(Stdio::piped()).env("LISTEN_FDNAMES", names);
    let mut server = Server::of(command);
    server.wait_for(" is ready; ");
    server
}

#[test]
fn sockets_of_the_service_manager_are_used() {
    let dir = Dir::with(PORTS);
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [http, stranger] = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let mut server = with_passed(sockets, "http.listen:web", &dir.config());
    assert_eq!(server.address("HTTP"), http.to_string());
    assert_ne!(server.address("RTMP"), stranger.to_string());
    let told = format!("the service manager's socket \"web\" at {stranger} is closed: expected a name");
    assert!(server.seen.iter().any(|line| line.contains(&told)), "{:#?}", server.seen);
    assert!(TcpStream::connect(stranger).is_err());
    let answers = || {
        let mut socket = TcpStream::connect(http).unwrap();
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        assert!(text.contains(" 200 OK\r\n"), "{text}");
    };
    answers();
    // It stays, whatever a reload says.
    dir.write(
        "[api]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[rtmp]\nlisten = []\n",
    );
    server.signal(Signal::HUP);
    server.wait_for("RTMP no longer listens on ");
    answers();
    let listening = server.seen.iter().filter(|line| line.contains(" HTTP listens on ")).count();
    assert_eq!(listening, 1, "{:#?}", server.seen);
    for enabled in [false, true] {
        dir.write(&format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n[http]\nenabled = {enabled}\n[rtmp]\nlisten = []\n"
        ));
        server.signal(Signal::HUP);
        server.wait_for(&format!("reload: now http.enabled = {enabled}"));
    }
    answers();
}

#[test]
fn descriptors_that_are_no_sockets_are_ignored() {
    let dir = Dir::with(PORTS);
    let script = "export LISTEN_PID=$$ LISTEN_FDS=2; exec 3</dev/null; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_rillbox"), "run", "-c"]).arg(dir.config());
    let mut server = Server::spawn(command);
    server.wait_for("descriptor 3 (unknown) of the service manager is ignored: ");
    server.wait_for("descriptor 4 (unknown) of the service manager is ignored: ");
    server.wait_for(" is ready; ");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
}

/// How often the threads of a process have given up the processor because they had nothing to do.
fn waits(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_one = |thread: fs::DirEntry| -> u64 {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        count.trim().parse().unwrap()
    };
    threads.map(|thread| of_one(thread.unwrap())).sum()
}

/// Hundredths of a second of processor time that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: proc(5) counts utime and stime as 14 and 15, the state as 3.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_server_with_nothing_to_do_does_nothing() {
    let dir = Dir::new();
    let (path, _end) = watchdog(&dir);
    let keys = "[vhost.default.http_live]\nwait = \"forever\"\n[vhost.default.play]\nwait = \"forever\"\n";
    dir.write(&format!("{PORTS}{keys}[server]\nworkers = 2\nwatchdog = \"{}\"\n", path.display()));
    let server = Server::start(&dir.config());
    // A connection that says nothing, one that is kept alive, and a player who waits for a stream.
    let mut held: Vec<TcpStream> = ["RTMP", "HTTP", "HTTP"]
        .iter()
        .map(|name| TcpStream::connect(server.address(name)).unwrap())
        .collect();
    for (socket, target) in held[1..].iter_mut().zip(["/", "/live/demo.flv"]) {
        socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: box\r\n\r\n").as_bytes()).unwrap();
    }
    held[1].read_exact(&mut [0; 12]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let pid = server.child.id();
    let (waited, used) = (waits(pid), ticks(pid));
    std::thread::sleep(Duration::from_secs(5));
    let (waited, used) = (waits(pid) - waited, ticks(pid) - used);
    // Ticks of the main loop and of one delivery thread each second, questions of the watchdog each other second to two
    // listeners and to each delivery thread.
    let workers = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(waited <= 60 + 5 * workers, "its threads were woken {waited} times in 5 s");
    assert!(used <= 5, "it used {used}0 ms of processor time in 5 s");
}

#[cfg(feature = "access")]
fn with_input(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = rillbox(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses need not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    output(child.wait_with_output().unwrap())
}

#[cfg(feature = "access")]
#[test]
fn users_are_stored_and_the_rest_stays() {
    let before = "# mine\n[log] # here\nlevel = \"warn\" # quiet\n";
    let dir = Dir::with(before);
    let file = dir.config();
    let file = file.to_str().unwrap();
    let args = ["passwd", "--user", "ann", "--role", "admin", "-c", file];
    let (code, out, err) = with_input(&args, "correct horse\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("ann (admin) is a user now in {file}; SIGHUP puts it in force\n"));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with(before) && text.contains("hash = \"$argon2id$v=19$m="), "{text}");
    assert!(!text.contains("correct horse"));
    // Another password for the same user; the role stays.
    let (code, out, _) = with_input(&["passwd", "--user=ann", &format!("--config={file}")], "battery staple");
    assert!(code == 0 && out.starts_with("ann (admin) has a new password"), "{out}");
    let newer = fs::read_to_string(file).unwrap();
    assert!(newer != text && newer.matches("[[access.users]]").count() == 1, "{newer}");
    // Neither check nor reload tells the hash.
    let (code, out, _) = said("check", &dir.config());
    assert!(
        code == 0 && out.contains("role = \"admin\", hash = \"***\"") && !out.contains("argon2id"),
        "{out}"
    );
    // Without a file it is printed.
    let (code, out, _) = with_input(&["passwd", "--user", "vic", "--role", "viewer"], "correct horse\n");
    assert!(
        code == 0
            && out.starts_with("[[access.users]]\nname = \"vic\"\nrole = \"viewer\"\nhash = \"$argon2id$"),
        "{out}"
    );
}

#[cfg(feature = "access")]
#[test]
fn passwords_that_are_none_change_nothing() {
    let dir = Dir::with("[log]\n");
    let file = dir.config();
    let file = file.to_str().unwrap();
    for (args, input, expected) in [
        (
            &["--user", "a", "--role", "admin"][..],
            "short\n",
            "rillbox: a password needs 8 characters or more\n",
        ),
        (&["--user", "a", "--role", "admin"], "", "rillbox: a password needs 8 characters or more\n"),
        (
            &["--user", "a", "--role", "king"],
            "",
            "rillbox: role \"king\": expected viewer, publisher, operator or admin; see rillbox --help\n",
        ),
        (&["--user", "a"], "correct horse", "rillbox: a new user needs --role ROLE; see rillbox --help\n"),
        (&["--role", "admin"], "", "rillbox: passwd needs --user NAME; see rillbox --help\n"),
        (
            &["--user", "a:b", "--role", "admin"],
            "correct horse",
            "rillbox: user \"a:b\": expected up to 64 letters, digits and . _ - @ +; see rillbox --help\n",
        ),
        (&["--password", "x"], "", "rillbox: unknown option \"--password\"; see rillbox --help\n"),
    ] {
        let args: Vec<&str> = ["passwd", "-c", file].into_iter().chain(args.iter().copied()).collect();
        assert_eq!(with_input(&args, input), (1, String::new(), expected.to_owned()), "{args:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "[log]\n");
    assert_eq!(dir.names(), ["r.toml"]);
    // A file that is wrong is not made worse.
    dir.write("[rtmp]\nlisen = 1\n");
    let (code, _, err) =
        with_input(&["passwd", "-c", file, "--user", "a", "--role", "admin"], "correct horse");
    assert!(code == 1 && err.contains("lisen: unknown key"), "{err}");
    assert_eq!(fs::read_to_string(file).unwrap(), "[rtmp]\nlisen = 1\n");
}

#[cfg(feature = "access")]
#[test]
fn urls_are_signed() {
    let dir = Dir::with("[access]\ntoken_secrets = [\"a-secret-that-signs\"]\n[vhost.cam]\n");
    let file = dir.config();
    let file = file.to_str().unwrap();
    let token = |args: &[&str]| {
        let all: Vec<&str> = ["token"].into_iter().chain(args.iter().copied()).chain(["-c", file]).collect();
        said_by(rillbox(&all))
    };
    let (code, out, _) = token(&["play", "live/demo", "--time", "30m", "--ip", "192.0.2.7"]);
    assert!(code == 0 && out.starts_with("expires=") && out.contains("&ip=192.0.2.7&sign="), "{out}");
    assert_ne!(token(&["play", "live/demo", "--vhost", "cam"]).1, token(&["play", "live/demo"]).1);
    for wrong in [
        &["view", "live/demo"][..],
        &["play"],
        &["play", "demo"],
        &["play", "a/b", "c"],
        &["play", "a/b", "--time", "soon"],
        &["play", "a/b", "--ip", "x"],
        &["play", "a/../b"],
    ] {
        assert_eq!(token(wrong).0, 1, "{wrong:?}");
    }
    dir.write("");
    assert!(token(&["play", "live/demo"]).2.contains("no access.token_secrets"));
}
