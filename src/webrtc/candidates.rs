//! Where a peer can reach us (RFC 8839 5.1): host candidates alone, as an ICE-lite agent has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{IpFamily, Transports, Webrtc};
use crate::net::{address_towards, own_address};

/// The most that a peer is told.
const MAX_CANDIDATES: usize = 24;
/// How long it may take to look up a name, and how many addresses of one are taken.
const LOOKUP: Duration = Duration::from_secs(2);
/// The same for a name that comes with a request.
const LOOKUP_ASKED: Duration = Duration::from_millis(300);
const MAX_ADDRESSES: usize = 4;

/// One place to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// An address, or a name that the peer looks up.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the peer connects there by TCP (RFC 6544).
    pub tcp: bool,
}

impl Candidate {
    /// As it stands in a description, the `n`th, without `a=`.
    #[must_use]
    pub fn line(&self, n: usize) -> String {
        let Self { host, port, tcp } = self;
        // The first is what we would have them try first; TCP comes after all of UDP.
        let preference = 65_535_u32.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        let kind: u32 = if *tcp { 90 } else { 126 };
        let priority = kind << 24 | preference << 8 | 255;
        let (protocol, more) = if *tcp { ("tcp", " tcptype passive") } else { ("udp", "") };
        format!("candidate:{} 1 {protocol} {priority} {host} {port} typ host{more}", n + 1)
    }
}

/// What is known of who asks.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The host that it asked over HTTP.
    pub host: String,
    /// Where it is.
    pub peer: Option<IpAddr>,
    /// Places that it named itself: `192.0.2.1`, `192.0.2.1:18000`.
    pub own: Vec<String>,
}

/// Where sockets listen.
#[derive(Debug, Clone, Copy)]
pub struct Doors<'a> {
    /// Those of UDP.
    pub udp: &'a [SocketAddr],
    /// Those of TCP.
    pub tcp: &'a [SocketAddr],
}

/// A host, and whether it is this machine's own: what others forward here fits each of our sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: Host,
    port: Option<u16>,
    own: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

/// The candidates for a peer that `asked`.
pub async fn candidates(config: &Webrtc, asked: &Asked, doors: Doors<'_>) -> Vec<Candidate> {
    let mut places: Vec<Place> = Vec::new();
    for word in asked.own.iter().take(MAX_ADDRESSES) {
        places.extend(place(word).filter(|place| matches!(place.host, Host::Address(_))));
    }
    for word in &config.candidates {
        let named = word.strip_prefix('$').map(|name| std::env::var(name).unwrap_or_default());
        let words = named.as_deref().unwrap_or(word);
        for word in words.split([',', ' ']).filter(|word| !word.is_empty()) {
            if word == "*" {
                everything(config, asked, &mut places).await;
                continue;
            }
            match place(word) {
                Some(Place { host: Host::Name(name), port, own }) => {
                    let found = look_up(&name).await;
                    places.extend(found.into_iter().map(|ip| Place { host: Host::Address(ip), port, own }));
                }
                place => places.extend(place),
            }
        }
        if named.is_some_and(|words| words.trim().is_empty()) {
            everything(config, asked, &mut places).await;
        }
    }
    at_doors(&places, config.transports, doors)
}

/// What "*" stands for.
async fn everything(config: &Webrtc, asked: &Asked, places: &mut Vec<Place>) {
    let mut found: Vec<IpAddr> = Vec::new();
    if config.host_as_candidate && !asked.host.is_empty() {
        match asked.host.parse::<IpAddr>() {
            Ok(ip) => found.push(ip),
            Err(_) => {
                if config.keep_host && asked.host.contains('.') {
                    places.push(Place { host: Host::Name(asked.host.clone()), port: None, own: false });
                }
                if config.resolve_host {
                    // It may well be the address of what forwards to us.
                    let found = look_up_asked(&asked.host).await.into_iter();
                    let found = found.filter(|ip| fits(*ip, config.ip_family));
                    places.extend(found.map(|ip| Place { host: Host::Address(ip), port: None, own: true }));
                }
            }
        }
    }
    if config.detect_addresses {
        found.extend(asked.peer.and_then(address_towards));
        found.push(own_address());
        // The documentation's network (RFC 3849): routed as any other address, and nobody's.
        found.extend(address_towards(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1).into()));
    }
    for ip in found.into_iter().map(|ip| ip.to_canonical()).filter(|ip| fits(*ip, config.ip_family)) {
        places.push(Place { host: Host::Address(ip), port: None, own: true });
    }
}

fn fits(ip: IpAddr, family: IpFamily) -> bool {
    match family {
        IpFamily::All => true,
        IpFamily::V4 => ip.to_canonical().is_ipv4(),
        IpFamily::V6 => ip.to_canonical().is_ipv6(),
    }
}

/// `192.0.2.1`, `192.0.2.1:18000`, `2001:db8::1`, `[2001:db8::1]:18000`, `name`, `name:18000`.
fn place(word: &str) -> Option<Place> {
    let word = word.trim();
    let of = |host, port| Some(Place { host, port, own: false });
    if let Ok(ip) = word.parse::<IpAddr>() {
        return of(Host::Address(ip), None);
    }
    if let Ok(address) = word.parse::<SocketAddr>() {
        return of(Host::Address(address.ip()), Some(address.port()));
    }
    if let Some(ip) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
        return of(Host::Address(ip.parse().ok()?), None);
    }
    let (name, port) = match word.split_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (word, None),
    };
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    (!name.is_empty() && name.len() <= 253 && name.bytes().all(fits)).then(|| Place {
        host: Host::Name(name.to_owned()),
        port,
        own: false,
    })
}

/// The addresses of a name that a stranger's request gives: few such are looked up at a time, and the answer waits for them
/// no longer than anyone notices.
async fn look_up_asked(name: &str) -> Vec<IpAddr> {
    static TURNS: Semaphore = Semaphore::const_new(4);
    let Ok(turn) = TURNS.try_acquire() else { return Vec::new() };
    let name = name.to_owned();
    // The system goes on looking when nobody waits any more: until then its turn is taken.
    let looking = tokio::spawn(async move {
        let _turn = turn;
        look_up(&name).await
    });
    tokio::time::timeout(LOOKUP_ASKED, looking).await.ok().and_then(Result::ok).unwrap_or_default()
}

async fn look_up(name: &str) -> Vec<IpAddr> {
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await;
    let Ok(Ok(found)) = found else { return Vec::new() };
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address| address.ip().to_canonical()) {
        if !all.contains(&ip) && all.len() < MAX_ADDRESSES {
            all.push(ip);
        }
    }
    all
}

/// Each place at each of the sockets that it leads to.
fn at_doors(places: &[Place], transports: Transports, doors: Doors<'_>) -> Vec<Candidate> {
    let udp: &[SocketAddr] = if transports == Transports::Tcp { &[] } else { doors.udp };
    let tcp: &[SocketAddr] = if transports == Transports::Udp { &[] } else { doors.tcp };
    let mut all: Vec<Candidate> = Vec::new();
    for (sockets, tcp) in [(udp, false), (tcp, true)] {
        let mut add = |host: String, port: u16| {
            let candidate = Candidate { host, port, tcp };
            if all.len() < MAX_CANDIDATES && !all.contains(&candidate) {
                all.push(candidate);
            }
        };
        for place in places {
            for socket in sockets {
                let port = place.port.unwrap_or(socket.port());
                match &place.host {
                    Host::Name(name) => add(name.clone(), port),
                    Host::Address(ip) if leads(*ip, *socket, place.own) => add(ip.to_string(), port),
                    Host::Address(_) => {}
                }
            }
        }
        // A socket at one address is there, whatever else is.
        for socket in sockets.iter().filter(|socket| !socket.ip().is_unspecified()) {
            add(socket.ip().to_canonical().to_string(), socket.port());
        }
    }
    all
}

/// Whether what is sent to `ip` can reach a socket.
fn leads(ip: IpAddr, socket: SocketAddr, own: bool) -> bool {
    match socket.ip() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4(),
        bound => !own || bound.to_canonical() == ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(places: &[&str], own: bool, transports: Transports, udp: &[&str], tcp: &[&str]) -> Vec<String> {
        let places: Vec<Place> = places.iter().map(|word| Place { own, ..place(word).unwrap() }).collect();
        let addresses = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let (udp, tcp) = (addresses(udp), addresses(tcp));
        let all = at_doors(&places, transports, Doors { udp: &udp, tcp: &tcp });
        all.iter().map(|c| format!("{}{} {}", if c.tcp { "tcp " } else { "" }, c.host, c.port)).collect()
    }

    #[test]
    fn places_at_sockets() {
        let all = Transports::All;
        assert_eq!(
            list(&["192.0.2.1", "2001:db8::1"], true, all, &["[::]:8000"], &["0.0.0.0:8001"]),
            ["192.0.2.1 8000", "2001:db8::1 8000", "tcp 192.0.2.1 8001"]
        );
        // What is bound to one address is there alone; what is forwarded to it, elsewhere.
        assert_eq!(list(&["192.0.2.1"], true, all, &["127.0.0.1:8000"], &[]), ["127.0.0.1 8000"]);
        assert_eq!(
            list(&["192.0.2.1:18000"], false, all, &["127.0.0.1:8000"], &[]),
            ["192.0.2.1 18000", "127.0.0.1 8000"]
        );
        assert_eq!(
            list(&["box.example"], false, Transports::Tcp, &["[::]:8000"], &["[::]:8000"]),
            ["tcp box.example 8000"]
        );
        assert_eq!(list(&["192.0.2.1"; 3], true, Transports::Udp, &["[::]:1"; 3], &["[::]:2"]).len(), 1);
    }

    #[test]
    fn words() {
        let of = |word: &str| place(word).map(|place| (place.host, place.port));
        let ip = |text: &str| Host::Address(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), Some((ip("192.0.2.1"), None)));
        assert_eq!(of("192.0.2.1:9"), Some((ip("192.0.2.1"), Some(9))));
        assert_eq!(of("2001:db8::1"), Some((ip("2001:db8::1"), None)));
        assert_eq!(of("[2001:db8::1]"), Some((ip("2001:db8::1"), None)));
        assert_eq!(of("[2001:db8::1]:9"), Some((ip("2001:db8::1"), Some(9))));
        assert_eq!(of("a.example:9"), Some((Host::Name("a.example".to_owned()), Some(9))));
        for bad in ["", ":9", "a b", "a:x", "a\r\nb", "[x]", "1.2.3.4:99999"] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lines_of_a_description() {
        let candidate = Candidate { host: "192.0.2.1".to_owned(), port: 8000, tcp: false };
        assert_eq!(candidate.line(0), "candidate:1 1 udp 2130706431 192.0.2.1 8000 typ host");
        let tcp = Candidate { tcp: true, ..candidate };
        assert_eq!(tcp.line(1), "candidate:2 1 tcp 1526726399 192.0.2.1 8000 typ host tcptype passive");
    }

    #[tokio::test]
    async fn who_asks_is_told_what_it_asked() {
        let config = Webrtc { detect_addresses: false, transports: Transports::Udp, ..Webrtc::default() };
        let udp = ["[::]:8000".parse().unwrap()];
        let doors = Doors { udp: &udp, tcp: &[] };
        let asked = Asked {
            host: "192.0.2.7".to_owned(),
            peer: None,
            own: vec!["198.51.100.1:18000".to_owned(), "evil name".to_owned()],
        };
        let hosts = candidates(&config, &asked, doors).await;
        let hosts: Vec<String> = hosts.iter().map(|c| format!("{}:{}", c.host, c.port)).collect();
        assert_eq!(hosts, ["198.51.100.1:18000", "192.0.2.7:8000"]);
        // What the peer sees of itself is where it can be answered.
        let config = Webrtc { host_as_candidate: false, ..Webrtc::default() };
        let asked = Asked { peer: Some(Ipv4Addr::LOCALHOST.into()), ..Asked::default() };
        let hosts = candidates(&config, &asked, doors).await;
        assert!(hosts.iter().any(|candidate| candidate.host == "127.0.0.1"), "{hosts:?}");
    }
}
