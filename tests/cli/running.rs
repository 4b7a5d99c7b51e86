//! The server from start to stop: ports, PID file, signals, log file, idling.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Dir, PATIENCE, PORTS, Server, rillbox, said, watchdog};

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
