//! Tells systemd how we are: sd_notify(3), without its library.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's socket, where there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, as `var` gives them.
    pub fn new(var: impl Fn(&str) -> Option<String>) -> Self {
        let Some(name) = var("NOTIFY_SOCKET") else { return Self::default() };
        let manager = match connect(&name) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("cannot talk to the service manager at {name}: {error}");
                None
            }
        };
        let ours = var("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let usec = var("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0 && ours);
        Self { watchdog: usec.filter(|_| manager.is_some()).map(Duration::from_micros), manager }
    }

    /// How often the manager wants a [`alive`](Self::alive): half of what it allows.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|time| (time / 2).max(Duration::from_millis(10)))
    }

    /// We serve; `status` is shown by `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// We read our configuration anew. [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        // Type=notify-reload compares this to when it sent the signal.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// We stop.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// We are alive. Nothing is said where nobody wants to know.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, state: &str) {
        if let Some((socket, manager)) = &self.manager
            && let Err(error) = socket.send_to_addr(state.as_bytes(), manager)
        {
            log::debug!("the service manager was not told {state:?}: {error}");
        }
    }
}

/// `/path` or `@name` (a name in the abstract space).
fn connect(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name"));
        }
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that doesn't read must not hold us.
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buf = [0; 256];
        let len = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap()
    }

    #[test]
    fn talks_to_abstract_sockets_and_paths() {
        let name = format!("rillbox-notify-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&addr).unwrap();
        let notify = Notify::new(|var| match var {
            "NOTIFY_SOCKET" => Some(format!("@{name}")),
            "WATCHDOG_USEC" => Some("3000000".into()),
            _ => None,
        });
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_millis(1500)));
        notify.ready("fine");
        assert_eq!(received(&manager), "READY=1\nSTATUS=fine");
        notify.reloading();
        assert!(received(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notify.alive();
        assert_eq!(received(&manager), "WATCHDOG=1");

        let path = std::env::temp_dir().join(&name);
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(|var| (var == "NOTIFY_SOCKET").then(|| path.to_str().unwrap().to_owned()));
        notify.stopping();
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=stopping");
        assert_eq!(notify.watchdog_interval(), None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn is_silent_without_a_manager() {
        let notify = Notify::new(|_| None);
        notify.ready("");
        assert_eq!(notify.watchdog_interval(), None);
        // Somebody else's watchdog, a socket of a kind we don't speak.
        let notify = Notify::new(|var| Some(if var == "NOTIFY_SOCKET" { "vsock:2:1" } else { "1" }.into()));
        notify.ready("");
        assert_eq!(notify.watchdog_interval(), None);
    }
}
