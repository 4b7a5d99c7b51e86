//! Who looks after the server: the service manager, its sockets, the board's watchdog.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{Dir, PATIENCE, PORTS, Server, rillbox, watchdog};

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
