//! What an attacker at another address finds: a machine made of a network namespace, with the server on it, is looked at
//! from another one. Needs root, for `ip netns`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Clip, Program, client, wait_until};

const HERE: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Tells [`scanner`] what to look at.
const TARGET: &str = "RILLBOX_SCAN_TARGET";

/// Two machines, `a` with the server and `b` with the attacker, and a cable between them.
struct Machines {
    a: String,
    b: String,
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split_whitespace()).output();
    let output = output.expect("ip is missing: run scripts/install-test-clients");
    assert!(output.status.success(), "ip {args}: {} (needs root)", String::from_utf8_lossy(&output.stderr));
}

impl Machines {
    fn new() -> Self {
        let id = std::process::id();
        let machines = Self { a: format!("rillbox-a-{id}"), b: format!("rillbox-b-{id}") };
        let Self { a, b } = &machines;
        ip(&format!("netns add {a}"));
        ip(&format!("netns add {b}"));
        ip(&format!("-n {a} link add eth0 type veth peer name eth0 netns {b}"));
        for (machine, addresses) in [(a, HERE), (b, ["10.77.0.2", "fd77::2"])] {
            ip(&format!("-n {machine} addr add {}/24 dev eth0", addresses[0]));
            ip(&format!("-n {machine} addr add {}/64 dev eth0 nodad", addresses[1]));
            ip(&format!("-n {machine} link set lo up"));
            ip(&format!("-n {machine} link set eth0 up"));
        }
        machines
    }

    /// What FFmpeg makes of this on a machine.
    fn ffmpeg(machine: &str, args: &str) -> Program {
        let ffmpeg = client::clients().join("ffmpeg");
        let start = ["netns", "exec", machine, ffmpeg.to_str().unwrap(), "-nostdin", "-v", "error"];
        Program::start("ip", start.into_iter().chain(args.split_whitespace()))
    }

    /// What the attacker finds out about an address: `port N` for each that is open, and `PORT METHOD PATH STATUS`.
    fn scan(&self, address: &str) -> Vec<String> {
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.b]).arg(own);
        command.args(["scan::scanner", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        let output = command.env(TARGET, address).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        text.lines().filter_map(|line| line.strip_prefix("found: ")).map(str::to_owned).collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for machine in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "del", machine]).status();
        }
    }
}

/// The server as it is installed, on machine `a`.
struct Installed {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Installed {
    fn start(machines: &Machines, keys: &[(&str, &str)]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &machines.a, env!("CARGO_BIN_EXE_rillbox"), "run", "-c"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/rillbox.toml"));
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RILLBOX_"))
        {
            command.env_remove(name);
        }
        command.envs(keys.iter().map(|(key, value)| (format!("RILLBOX_{key}"), *value)));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line));
        });
        let server = Self { child, log };
        server.said(" is ready");
        server
    }

    #[track_caller]
    fn said(&self, text: &str) {
        wait_until(text, || self.log.lock().unwrap().iter().any(|line| line.contains(text)));
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", self.log.lock().unwrap().join("\n"));
        }
    }
}

#[test]
fn from_elsewhere_there_is_nothing_but_what_is_played() {
    let machines = Machines::new();
    let clip = Clip::H264_AAC.file();
    let push = |from: &str, host: &str| {
        let clip = clip.display();
        let url = format!("-re -stream_loop -1 -i {clip} -c copy -f flv rtmp://{host}/live/cam");
        Machines::ffmpeg(from, &url)
    };
    let plays = |url: &str| {
        let ended = Machines::ffmpeg(&machines.b, &format!("-i {url} -t 1 -c copy -f null -")).end();
        ended.status.success()
    };
    // What is found by HTTP is not what was looked for.
    let refused = |found: &[String], allowed: &[&str]| {
        for line in found.iter().filter(|line| !line.starts_with("port ")) {
            let good = ["400", "401", "403", "404", "405", "429"].iter().any(|status| line.ends_with(status));
            assert!(good || allowed.contains(&line.as_str()), "{line}");
        }
    };

    println!("as it is installed");
    let server = Installed::start(&machines, &[]);
    let publisher = push(&machines.a, "127.0.0.1");
    server.said("publish of live/cam from ");
    for address in HERE {
        let found = machines.scan(address);
        let ports: Vec<&str> = found.iter().filter_map(|line| line.strip_prefix("port ")).collect();
        assert_eq!(ports, ["1935", "8000", "8080"], "{address}");
        refused(&found, &["8080 GET / 200", "8080 HEAD / 200", "8080 GET /live/cam.flv 200"]);
        assert!(found.len() > 100, "{found:?}");
    }
    assert!(
        plays(&format!("http://{}:8080/live/cam.flv", HERE[0]))
            && plays(&format!("rtmp://[{}]/live/cam", HERE[1]))
    );
    publisher.kill();
    drop(server);

    println!("an API that listens everywhere, without a credential: for the machine itself");
    let server = Installed::start(&machines, &[("API_LISTEN", "1985")]);
    let found = machines.scan(HERE[0]);
    assert!(found.contains(&"port 1985".to_owned()));
    assert!(found.contains(&"1985 GET /api/v1/versions 403".to_owned()), "{found:?}");
    let health =
        ["1985 GET /healthz 200", "1985 GET /readyz 200", "1985 HEAD /healthz 200", "1985 HEAD /readyz 200"];
    let open: Vec<&str> = ["8080 GET / 200", "8080 HEAD / 200"].into_iter().chain(health).collect();
    refused(&found, &open);
    drop(server);

    println!("closed: credentials for the API and players, publishers from the machine itself");
    let hash =
        "$argon2id$v=19$m=9216,t=4,p=1$+YLao/4exRgausv6Fp+OKg$pmsjfy0Vett4oNWpqVpbOYsWzyqu4+AETbRPIt3r+Bs";
    let server = Installed::start(
        &machines,
        &[
            ("API_LISTEN", "1985"),
            ("ACCESS_USERS", &format!("ann:admin:{hash}")),
            ("VHOST__DEFAULT__ACCESS__PLAY", "credential"),
            ("VHOST__DEFAULT__ACCESS__CHECK_IP", "true"),
            ("VHOST__DEFAULT__ACCESS__IP_RULES", "allow publish 127.0.0.1, allow play all"),
        ],
    );
    let publisher = push(&machines.a, "127.0.0.1");
    server.said("publish of live/cam from ");
    let found = machines.scan(HERE[1]);
    assert!(found.contains(&"1985 GET /api/v1/versions 401".to_owned()), "{found:?}");
    assert!(found.contains(&"8080 GET /live/cam.flv 401".to_owned()), "{found:?}");
    refused(&found, &open);
    assert!(!plays(&format!("rtmp://{}/live/cam", HERE[0])));
    assert!(!push(&machines.b, HERE[0]).end().status.success(), "published from elsewhere");
    assert!(plays(&format!("http://ann:geheim123@{}:8080/live/cam.flv", HERE[0])));
    publisher.kill();
}

/// The attacker: started by [`Machines::scan`] on a machine of its own.
#[test]
#[ignore = "looks at nothing unless it is told what"]
fn scanner() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let target: IpAddr = target.parse().unwrap();
    let connect =
        |port| TcpStream::connect_timeout(&SocketAddr::new(target, port), Duration::from_secs(2)).ok();
    let open: Vec<u16> = (1..=u16::MAX).filter(|port| connect(*port).is_some()).collect();
    for port in &open {
        println!("\nfound: port {port}");
    }
    const PATHS: [&str; 30] = [
        "/",
        "/api/v1/versions",
        "/api/v1/summaries",
        "/api/v1/streams/",
        "/api/v1/clients/",
        "/api/v1/raw?rpc=raw",
        "/api/v1/clients/0?callback=x&method=DELETE",
        "/api/v1/tests/requests",
        "/api/v2/config",
        "/api/v2/streams",
        "/api/v2/sessions",
        "/api/v2/events",
        "/api/v2/recordings",
        "/healthz",
        "/readyz",
        "/metrics",
        "/recordings/live/cam",
        "/recordings/live/cam/1.mp4",
        "/live/other.flv",
        "/rtc/v1/whip/?app=live&stream=x",
        "/console/",
        "/.git/config",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/live/..%2f..%2fetc/passwd",
        "//api/v1/versions",
        "/%61pi/v1/versions",
        "/API/v1/versions",
        "/x/../api/v1/versions",
        "/api/v1/versions%00",
    ];
    const HEADERS: [&str; 4] = [
        "Host: localhost\r\n",
        "Host: 127.0.0.1:1985\r\nX-Forwarded-For: 127.0.0.1\r\n",
        "Host: x\r\nX-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
        "Host: x\r\nAuthorization: Basic OnE=\r\n",
    ];
    // Those of RTMP and WebRTC speak no HTTP.
    for port in open.iter().filter(|port| !matches!(**port, 1935 | 8000)) {
        let ask = |method: &str, path: &str, headers: &str| {
            let mut socket = connect(*port).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let head = format!(
                "{method} {path} HTTP/1.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).unwrap();
            let mut start = [0; 12];
            let status = match socket.read_exact(&mut start) {
                Ok(()) => String::from_utf8_lossy(&start[9..]).into_owned(),
                Err(error) => error.to_string(),
            };
            println!("\nfound: {port} {method} {path} {status}");
        };
        for path in PATHS {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
                ask(method, path, HEADERS[0]);
            }
            for headers in &HEADERS[1..] {
                ask("GET", path, headers);
            }
        }
        if *port == 8080 {
            ask("GET", "/live/cam.flv", HEADERS[0]);
        }
    }
}
