//! Which of the service manager's sockets stand in the place of which key.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::net::PassedSocket;

/// Sockets that were passed to us, by key. They stay open as long as we run, whatever a reload says.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<(&'static str, PassedSocket)>);

impl Sockets {
    /// Gives each socket the key that it is named after, or else the one whose port it has. What is wrong is put into
    /// `warnings`.
    pub fn new(
        passed: Vec<Result<PassedSocket, String>>,
        config: &mut Config,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut sockets = Vec::new();
        for passed in passed {
            match passed.and_then(|passed| Ok((key(&passed, config)?, passed))) {
                Ok(found) => sockets.push(found),
                Err(warning) => warnings.push(warning),
            }
        }
        let sockets = Self(sockets);
        sockets.put_in(config);
        sockets
    }

    /// Lets `config` say what is: where a socket was passed for a key, that is where it listens.
    pub fn put_in(&self, config: &mut Config) {
        for (key, addresses) in config.listening() {
            let passed = self.0.iter().filter(|(of, _)| *of == key);
            let passed: Vec<SocketAddr> = passed.map(|(_, passed)| passed.address).collect();
            if !passed.is_empty() {
                *addresses = passed;
            }
        }
    }

    /// The socket that was passed for an address of a key.
    pub fn find(&self, key: &str, address: SocketAddr) -> Option<&TcpListener> {
        let found = self.0.iter().find(|(of, passed)| *of == key && passed.address == address);
        found.map(|(_, passed)| &passed.socket)
    }
}

fn key(passed: &PassedSocket, config: &mut Config) -> Result<&'static str, String> {
    let PassedSocket { name, address, .. } = passed;
    let mut keys = config.listening();
    if let Some((key, _)) = keys.iter().find(|(key, _)| key == name) {
        return Ok(key);
    }
    let has_port =
        |addresses: &&mut Vec<SocketAddr>| addresses.iter().any(|other| other.port() == address.port());
    match keys.iter_mut().find(|(_, addresses)| has_port(addresses)) {
        Some((key, _)) => Ok(key),
        None => Err(format!(
            "the service manager's socket {name:?} at {address} is closed: expected a name (FileDescriptorName=) out of \
             {}, or the port of one of them",
            keys.into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(name: &str) -> PassedSocket {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        PassedSocket { name: name.into(), address: socket.local_addr().unwrap(), socket }
    }

    #[test]
    fn sockets_take_the_place_of_keys() {
        let named = [passed("http.listen"), passed("http.listen")];
        let [by_port, stranger] = [passed("rillbox.socket"), passed("web")];
        let addresses = named.each_ref().map(|passed| passed.address);
        let (port, strange) = (by_port.address.port(), stranger.address);
        let mut config = Config::default();
        config.rtmp.listen = vec![(std::net::Ipv6Addr::UNSPECIFIED, port).into()];
        let reloaded = config.clone();
        let all = named.into_iter().chain([by_port, stranger]).map(Ok).chain([Err("odd".into())]).collect();
        let mut warnings = Vec::new();
        let sockets = Sockets::new(all, &mut config, &mut warnings);
        assert_eq!(config.http.listen, addresses);
        assert_eq!(config.rtmp.listen, [([127, 0, 0, 1], port).into()]);
        assert!(config.http.tls_listen.is_empty());
        let expected = format!(
            "the service manager's socket \"web\" at {strange} is closed: expected a name (FileDescriptorName=) out of \
             rtmp.listen, rtmp.tls_listen, http.listen, http.tls_listen, api.listen, api.tls_listen, metrics.listen, or the port of one of \
             them"
        );
        assert_eq!(warnings, [expected, "odd".into()]);
        let found = sockets.find("http.listen", addresses[1]).unwrap();
        assert_eq!(found.local_addr().unwrap(), addresses[1]);
        assert!(sockets.find("rtmp.listen", addresses[1]).is_none());
        let mut again = reloaded;
        sockets.put_in(&mut again);
        assert_eq!(again, config);
    }
}
