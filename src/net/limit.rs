//! How many connections may be open: all together, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections all listeners together may have open. Clones share one count.
#[derive(Debug, Clone)]
pub struct ConnectionLimit(Arc<Count>);

#[derive(Debug)]
struct Count {
    open: AtomicUsize,
    max: AtomicUsize,
    max_per_address: AtomicUsize,
    /// As many entries as open connections at most.
    by_address: Mutex<HashMap<Address, usize>>,
}

/// Who is counted as one: an IPv4 address, or the network of 2^64 IPv6 addresses that one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Address(u64);

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are this many connections.
    #[error("there are {0} connections, which is the most (server.max_connections)")]
    All(usize),
    /// There are this many from the same address.
    #[error("there are {0} connections from its address, which is the most (server.max_connections_per_ip)")]
    Address(usize),
}

impl ConnectionLimit {
    /// At most `max` connections at a time, `max_per_address` of them from one address. Those from the machine itself
    /// only count among all: they may be a proxy's.
    #[must_use]
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Count {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            max_per_address: AtomicUsize::new(max_per_address),
            by_address: Mutex::default(),
        }))
    }

    /// Changes the limits (reload). Connections that are open stay.
    pub fn set_max(&self, max: usize, max_per_address: usize) {
        self.0.max.store(max, Ordering::Relaxed);
        self.0.max_per_address.store(max_per_address, Ordering::Relaxed);
    }

    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// A place for one connection from `peer`, if there is one left.
    ///
    /// # Errors
    ///
    /// There is none left, in all or for this address.
    pub fn permit(&self, peer: IpAddr) -> Result<Permit, Full> {
        let max = self.0.max.load(Ordering::Relaxed);
        let one_more = |open| if open < max { Some(open + 1) } else { None };
        let taken = self.0.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map_err(|_| Full::All(max))?;
        // From here on a drop gives the place back.
        let mut permit = Permit { count: Arc::clone(&self.0), address: None };
        if let Some(address) = Address::of(peer) {
            let max = self.0.max_per_address.load(Ordering::Relaxed);
            let mut by_address = self.0.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let open = by_address.entry(address).or_default();
            if *open >= max {
                return Err(Full::Address(max));
            }
            *open += 1;
            permit.address = Some(address);
        }
        Ok(permit)
    }
}

impl Address {
    fn of(peer: IpAddr) -> Option<Self> {
        // No network of the Internet begins with so many zeros as an IPv4 address does here.
        match peer.to_canonical() {
            peer if peer.is_loopback() => None,
            IpAddr::V4(peer) => Some(Self(u64::from(peer.to_bits()))),
            IpAddr::V6(peer) => Some(Self(u64::try_from(peer.to_bits() >> 64).unwrap_or(u64::MAX))),
        }
    }
}

/// One open connection's place under the [`ConnectionLimit`]; given back on drop.
#[derive(Debug)]
pub struct Permit {
    count: Arc<Count>,
    address: Option<Address>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            let mut by_address = self.count.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = by_address.get_mut(&address) {
                *open -= 1;
                if *open == 0 {
                    by_address.remove(&address);
                }
            }
            // A crowd's memory goes with it.
            if by_address.is_empty() {
                *by_address = HashMap::new();
            }
        }
        self.count.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn permits_are_counted_and_given_back() {
        let limit = ConnectionLimit::new(2, 2);
        let permit = |peer: &str| limit.permit(ip(peer));
        let (a, b) = (permit("192.0.2.1").unwrap(), permit("192.0.2.2").unwrap());
        assert_eq!(permit("192.0.2.3").unwrap_err(), Full::All(2));
        drop(a);
        assert_eq!(limit.open(), 1);
        assert!(permit("192.0.2.3").is_ok());
        limit.set_max(0, 2);
        assert_eq!(permit("192.0.2.3").unwrap_err(), Full::All(0));
        drop(b);
        assert_eq!(limit.open(), 0);
    }

    #[test]
    fn one_address_cannot_take_all() {
        let limit = ConnectionLimit::new(100, 2);
        let mut held = Vec::new();
        for (first, second) in [
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("192.0.2.2", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:3:4:5"),
            ("2001:db8:0:1::1", "2001:db8:0:1::1"),
        ] {
            held.extend([limit.permit(ip(first)).unwrap(), limit.permit(ip(second)).unwrap()]);
            assert_eq!(limit.permit(ip(first)).unwrap_err(), Full::Address(2), "{first}");
        }
        assert_eq!(limit.open(), 8, "who is refused is not counted");
        held.extend((0..10).flat_map(|_| ["127.0.0.1", "::1"]).map(|own| limit.permit(ip(own)).unwrap()));
        limit.set_max(100, 3);
        held.push(limit.permit(ip("192.0.2.1")).unwrap());
        drop(held);
        assert_eq!(limit.open(), 0);
        assert_eq!(limit.0.by_address.lock().unwrap().capacity(), 0);
    }
}
