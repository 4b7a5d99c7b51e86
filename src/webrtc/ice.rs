//! ICE as the lite side: who may send to us, and where it wants to have what we send (RFC 8445, RFC 7675).
//!
//! We have an address that the peer can reach, so we check nothing ourselves. The peer sends checks; one that is signed with our
//! password proves its path, and with `USE-CANDIDATE` it chooses that one. A peer that moves chooses another. Checks go on for
//! as long as it wants to hear us (consent).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::stun::{AgentRole, Class, Message, Writer};

/// Paths of a peer that are remembered; a phone has a handful.
const MAX_PATHS: usize = 8;
/// Names of ours that are good at once: that before a restart works until the peer uses the new one.
const MAX_NAMES: usize = 2;
/// Letters of a name and a password: 48 and 144 random bits (RFC 8445, section 5.3, wants 24 and 128).
const NAME: usize = 8;
const PASSWORD: usize = 24;
/// The chosen path is given up for another that is checked, when nothing came on it for so long: checks of what is in use come
/// every 6 s at least (RFC 7675, section 5.1), and a router that has forgotten a peer gives it another address.
const SILENT: Duration = Duration::from_millis(6500);

/// A name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

impl Credentials {
    /// New random ones. `None`: the system has no randomness.
    #[must_use]
    pub fn generate() -> Option<Self> {
        // 64 letters of ice-char.
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bytes = [0; NAME + PASSWORD];
        getrandom::getrandom(&mut bytes).ok()?;
        let letter = |byte: &u8| char::from(LETTERS.get(usize::from(byte & 63)).copied().unwrap_or(b'A'));
        let (name, password) = bytes.split_at(NAME);
        Some(Self { ufrag: name.iter().map(letter).collect(), pwd: password.iter().map(letter).collect() })
    }
}

/// What carries datagrams of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// UDP socket by its place in the list.
    Udp(u8),
    /// TCP connection by its number.
    Tcp(u32),
}

/// A way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// What carries it.
    pub via: Via,
    /// The peer's address on it.
    pub remote: SocketAddr,
}

/// What a check came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// To be sent back on the path that it came by.
    pub answer: Option<Vec<u8>>,
    /// It is genuine: the path is one of the peer's.
    pub proved: bool,
    /// What is sent goes another way from now on.
    pub moved: bool,
    /// Another path of the peer's, which made room.
    pub forgotten: Option<Path>,
    /// A name of ours that is not good any more.
    pub retired: Option<String>,
}

/// The lite agent of one peer.
#[derive(Debug)]
pub struct Agent {
    /// Good names, the newest first.
    names: heapless::Vec<Credentials, MAX_NAMES>,
    remote: Credentials,
    /// Paths that were proved, the one heard last at the end.
    paths: heapless::Vec<Path, MAX_PATHS>,
    selected: Option<Path>,
    /// When something genuine came on [`selected`](Self::selected).
    selected_heard: Instant,
    heard: Instant,
}

impl Agent {
    /// Of both sides' names; what `remote` says is told back in nothing that we send, but a restart compares it.
    #[must_use]
    pub fn new(local: Credentials, remote: Credentials, now: Instant) -> Self {
        let mut names = heapless::Vec::new();
        // There is room for it.
        let _ = names.push(local);
        Self { names, remote, paths: heapless::Vec::new(), selected: None, selected_heard: now, heard: now }
    }

    /// Where to send; `None` while no path is proved.
    #[must_use]
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// All paths that were proved.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Our names that are good.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| name.ufrag.as_str())
    }

    /// When the peer proved itself last.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// It proved itself, by a check or by a packet of its own keys.
    pub fn hear(&mut self, path: Path, now: Instant) {
        self.heard = self.heard.max(now);
        if self.selected == Some(path) {
            self.selected_heard = self.selected_heard.max(now);
        }
    }

    /// When consent ends, if nothing more is heard.
    #[must_use]
    pub fn consent_until(&self, timeout: Duration) -> Instant {
        self.heard + timeout
    }

    /// The peer begins anew with other credentials (`a=ice-ufrag` changed): ours become `local`; what is sent goes where it
    /// went until the peer proves a path with them (RFC 8445, section 9). Tells the name that is not good any more.
    pub fn restart(&mut self, local: Credentials, remote: Credentials) -> Option<String> {
        let retired = if self.names.is_full() { self.names.pop() } else { None };
        // There is room for it.
        let _ = self.names.insert(0, local);
        self.remote = remote;
        retired.map(|name| name.ufrag)
    }

    /// The peer's own credentials.
    #[must_use]
    pub fn remote(&self) -> &Credentials {
        &self.remote
    }

    /// Whether it is signed for a good name of ours. The first thing to ask of any message.
    #[must_use]
    pub fn knows(&self, message: &Message<'_>) -> bool {
        self.password(message).is_some()
    }

    fn password(&self, message: &Message<'_>) -> Option<usize> {
        let name = message.local_name()?;
        let at = self.names.iter().position(|known| known.ufrag == name)?;
        message.verify(&self.names.get(at)?.pwd).then_some(at)
    }

    /// A message came on `path`. What isn't a request that is signed for us changes nothing and is not answered.
    pub fn input(&mut self, message: &Message<'_>, path: Path, now: Instant) -> Checked {
        let mut checked = Checked::default();
        if message.class != Class::Request {
            return checked;
        }
        let Some(at) = self.password(message) else { return checked };
        let Some(password) = self.names.get(at).map(|name| name.pwd.as_str()) else { return checked };
        if let Some(kind) = message.unknown {
            let answer = Writer::new(Class::Error, message.transaction).error(420, "Unknown Attribute");
            checked.answer = Some(answer.unknown(kind).finish(password));
            return checked;
        }
        // The lite side is controlled, always (RFC 8445, section 6.1.1).
        if matches!(message.role, Some(AgentRole::Controlled(_))) {
            let answer = Writer::new(Class::Error, message.transaction).error(487, "Role Conflict");
            checked.answer = Some(answer.finish(password));
            return checked;
        }
        checked.answer =
            Some(Writer::new(Class::Success, message.transaction).mapped(path.remote).finish(password));
        self.hear(path, now);
        self.prove(path, &mut checked);
        if at == 0 {
            if message.use_candidate || now.saturating_duration_since(self.selected_heard) > SILENT {
                self.select(path, now, &mut checked);
            }
            // The peer has our new name.
            checked.retired =
                if self.names.len() > 1 { self.names.pop().map(|name| name.ufrag) } else { None };
        }
        if self.selected.is_none() {
            self.select(path, now, &mut checked);
        }
        checked
    }

    fn prove(&mut self, path: Path, checked: &mut Checked) {
        checked.proved = true;
        if let Some(at) = self.paths.iter().position(|known| *known == path) {
            self.paths.remove(at);
        } else if self.paths.is_full() {
            let at = self.paths.iter().position(|known| Some(*known) != self.selected).unwrap_or(0);
            checked.forgotten = Some(self.paths.remove(at));
        }
        // There is room for it.
        let _ = self.paths.push(path);
    }

    fn select(&mut self, path: Path, now: Instant, checked: &mut Checked) {
        checked.moved = self.selected != Some(path);
        (self.selected, self.selected_heard) = (Some(path), now);
    }

    /// A TCP connection is gone: its paths are none any more. Tells whether what is sent goes another way now.
    pub fn lost(&mut self, via: Via) -> bool {
        self.paths.retain(|path| path.via != via);
        if self.selected.is_some_and(|path| path.via == via) {
            self.selected = self.paths.last().copied();
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.into(), pwd: format!("password of {name}") }
    }

    fn path(port: u16) -> Path {
        Path { via: Via::Udp(0), remote: ([192, 0, 2, 1], port).into() }
    }

    fn check(name: &str, nominate: bool) -> Vec<u8> {
        Writer::new(Class::Request, [3; 12])
            .username(name, "peer")
            .check(1, AgentRole::Controlling(1), nominate)
            .finish(&format!("password of {name}"))
    }

    fn input(agent: &mut Agent, bytes: &[u8], path: Path, now: Instant) -> Checked {
        agent.input(&Message::parse(bytes).unwrap(), path, now)
    }

    #[test]
    fn a_signed_check_proves_its_path() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        let checked = input(&mut agent, &check("us", false), path(1), now);
        assert!(checked.proved && checked.moved);
        let bytes = checked.answer.unwrap();
        let answer = Message::parse(&bytes).unwrap();
        assert_eq!((answer.class, answer.mapped), (Class::Success, Some(path(1).remote)));
        assert!(answer.verify("password of us"));
        // The first that is proved is used until one is chosen.
        let checked = input(&mut agent, &check("us", false), path(2), now);
        assert!(checked.proved && !checked.moved);
        assert!(input(&mut agent, &check("us", true), path(2), now).moved);
        assert_eq!(agent.selected(), Some(path(2)));
        // Chosen again: nothing new.
        let checked = input(&mut agent, &check("us", true), path(2), now);
        assert!(!checked.moved && checked.proved);
    }

    #[test]
    fn strangers_get_no_answer() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        let wrong = Writer::new(Class::Request, [3; 12]).username("us", "peer").finish("another password");
        assert_eq!(input(&mut agent, &wrong, path(1), now), Checked::default());
        assert_eq!(input(&mut agent, &check("them", true), path(1), now), Checked::default());
        let answer = Writer::new(Class::Success, [3; 12]).username("us", "peer").finish("password of us");
        assert_eq!(input(&mut agent, &answer, path(1), now), Checked::default());
        assert_eq!((agent.selected(), agent.paths()), (None, &[][..]));
    }

    #[test]
    fn who_thinks_it_is_controlled_is_told() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        let bytes = Writer::new(Class::Request, [3; 12])
            .username("us", "peer")
            .check(1, AgentRole::Controlled(1), false)
            .finish("password of us");
        let checked = input(&mut agent, &bytes, path(1), now);
        let bytes = checked.answer.unwrap();
        assert_eq!(Message::parse(&bytes).unwrap().error, Some(487));
        assert_eq!(agent.selected(), None);
    }

    #[test]
    fn a_restart_moves_to_the_new_name() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        input(&mut agent, &check("us", true), path(1), now);
        assert_eq!(agent.restart(credentials("new"), credentials("peer2")), None);
        // The old name still keeps the old path.
        assert!(input(&mut agent, &check("us", true), path(1), now).answer.is_some());
        let checked = input(&mut agent, &check("new", true), path(9), now);
        assert_eq!((checked.moved, checked.retired.as_deref()), (true, Some("us")));
        assert_eq!(input(&mut agent, &check("us", true), path(1), now), Checked::default());
        // Restarts without end keep two names.
        assert_eq!(agent.restart(credentials("c"), credentials("peer3")), None);
        assert_eq!(agent.restart(credentials("d"), credentials("peer3")).as_deref(), Some("new"));
        assert_eq!(agent.names().collect::<Vec<_>>(), ["d", "c"]);
    }

    #[test]
    fn paths_are_bounded_and_the_chosen_one_stays() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        input(&mut agent, &check("us", true), path(1), now);
        let mut forgotten = 0;
        for port in 2..100 {
            let checked = input(&mut agent, &check("us", false), path(port), now);
            forgotten += usize::from(checked.forgotten.is_some());
            assert!(agent.paths().contains(&path(1)));
        }
        assert_eq!((agent.paths().len(), forgotten), (MAX_PATHS, 99 - MAX_PATHS));
    }

    // Its router gave it another address, and it doesn't choose it.
    #[test]
    fn a_silent_path_is_left_for_one_that_is_checked() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut agent = Agent::new(credentials("us"), credentials("peer"), start);
        input(&mut agent, &check("us", true), path(1), start);
        input(&mut agent, &check("us", false), path(2), at(5));
        agent.hear(path(1), at(6));
        assert!(!input(&mut agent, &check("us", false), path(2), at(12)).moved);
        agent.hear(path(2), at(12));
        assert!(input(&mut agent, &check("us", false), path(2), at(13)).moved);
        assert_eq!(agent.selected(), Some(path(2)));
        assert!(!input(&mut agent, &check("us", false), path(1), at(14)).moved);
    }

    #[test]
    fn a_lost_connection_falls_back() {
        let now = Instant::now();
        let mut agent = Agent::new(credentials("us"), credentials("peer"), now);
        let tcp = Path { via: Via::Tcp(5), remote: path(7).remote };
        input(&mut agent, &check("us", false), path(1), now);
        input(&mut agent, &check("us", true), tcp, now);
        assert_eq!(agent.selected(), Some(tcp));
        assert!(agent.lost(tcp.via) && !agent.lost(tcp.via));
        assert_eq!(agent.selected(), Some(path(1)));
    }

    #[test]
    fn credentials_differ() {
        let [a, b] = [0; 2].map(|_| Credentials::generate().unwrap());
        assert!(a.ufrag != b.ufrag && a.pwd != b.pwd);
        assert_eq!((a.ufrag.len(), a.pwd.len()), (NAME, PASSWORD));
    }
}
