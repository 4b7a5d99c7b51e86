//! Configuration: plain structs with defaults, each key declared once.
//!
//! [`Config`] is what the rooms read, each its own section. Values come from the defaults, a TOML file, and
//! the environment, in that order. [`Config::vhost`] gives what holds for one stream.

mod access;
#[cfg(feature = "api")]
mod document;
mod item;
#[cfg(feature = "api")]
mod json;
mod keys;
mod load;
#[cfg(test)]
mod reference;
#[cfg(feature = "relay")]
mod remote;
#[cfg(feature = "srs-conf")]
mod srs;
mod store;
mod value;
mod vhost;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use log::LevelFilter;

pub use self::access::{IpRule, Network, PasswordHash, Pattern, Role, Secret, Secrets, User, Users};
#[cfg(feature = "api")]
pub use self::document::Document;
pub use self::item::Problem;
#[cfg(feature = "api")]
pub use self::json::schema;
pub use self::keys::{Changes, Difference, Key, Reload};
use self::keys::{Entry, Node, section};
#[cfg(feature = "api")]
pub use self::load::by_environment;
#[cfg(feature = "srs-conf")]
pub use self::load::convert;
pub use self::load::{ConfigError, FILE_VARIABLE, Loaded, is_srs, load, load_text, parse, read, read_input};
#[cfg(feature = "relay")]
pub use self::remote::Remotes;
pub use self::store::{StoreError, store};
#[cfg(feature = "srt")]
pub use self::value::Bandwidth;
pub use self::value::duration as duration_of;
pub use self::value::{
    Admission, DtlsRole, Duplicate, Encryption, IpFamily, LogTarget, MergeWindow, OnError, PlaylistType,
    Ratio, Size, Transports, Variant, Wait,
};
pub use self::value::{Free, Fsync, RecordFormat, RecordPlan, TimeJitter};
pub use self::vhost::{Vhosts, matches};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn any(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv6Addr::UNSPECIFIED, port).into()]
}

section! {
    /// All of it.
    pub struct Config {
        /// Who may administer, and what credentials open streams to whom (vhost.*.access says which streams want one). While there
        /// are neither users nor keys of JWTs here, the API and all that changes something answer to this machine alone; then
        /// they want a credential from everybody.
        #[cfg(feature = "access")]
        live access: Access = Access::default();
        /// The HTTP API, for operators and their programs.
        #[cfg(any(feature = "access", feature = "api", feature = "hooks"))]
        live api: Api = Api::default();
        /// The process: threads, limits, start and stop.
        live server: Server = Server::default();
        /// The log.
        live log: Log = Log::default();
        /// The certificate for RTMPS and HTTPS. A reload reads the files again, so that a renewed one is shown.
        live tls: Tls = Tls::default();
        /// RTMP, for publishers and players.
        live rtmp: Rtmp = Rtmp::default();
        /// The HTTP front: live streams and files.
        live http: Http = Http::default();
        /// How media reaches RTMP and HTTP readers.
        live delivery: Delivery = Delivery::default();
        /// A server of yours is told each so often that this one lives.
        #[cfg(feature = "hooks")]
        live heartbeat: Heartbeat = Heartbeat::default();
        /// Figures for Prometheus.
        #[cfg(feature = "metrics")]
        live metrics: Metrics = Metrics::default();
        /// SRT, for publishers and players.
        #[cfg(feature = "srt")]
        live srt: Srt = Srt::default();
        /// WebRTC, for browsers that publish and play.
        #[cfg(feature = "webrtc")]
        live webrtc: Webrtc = Webrtc::default();
        /// What holds for streams.
        live vhost: Vhosts = Vhosts::default();
    }
}

section! {
    /// Who may administer, and what credentials open streams to whom.
    pub struct Access {
        /// Users with passwords: [[access.users]] with name, role, hash, play, publish, as "rillbox passwd" writes them. Each role
        /// may what those before it may: a "viewer" plays and reads the API and metrics, a "publisher" publishes, an "operator"
        /// ends sessions and deletes recordings, an "admin" changes the configuration. play and publish narrow that to streams,
        /// vhost/app/stream with `*` and `?`; who may not play all streams does not see the API. In the variable:
        /// NAME:ROLE:HASH, separated by blanks.
        live users: Users = Users::default();
        /// After how many wrong passwords in a row an address is locked out; a user, for addresses from which that one has not
        /// logged in before, after four times as many.
        live login_failures: u32 = 5, 1..=1000;
        /// How long the first lock-out is. Each further one is twice as long, up to an hour.
        live login_lockout: Duration = secs(30), secs(1)..=secs(3600);
        /// Secrets that sign URLs (HMAC-SHA256). "rillbox token" signs with the first, all are good: put a new one in front.
        live token_secrets: Secrets = Secrets::default();
        /// Keys of JWTs (RS256, ES256, EdDSA), a JSON Web Key Set: a file's path, or an https:// URL. "": JWTs are not taken.
        live jwt_keys: String = String::new();
        /// How often these are read again.
        live jwt_refresh: Duration = secs(600), secs(10)..=secs(86_400);
        /// The issuer that JWTs have to name (`iss`). "": any.
        live jwt_issuer: String = String::new();
        /// The audience that JWTs have to be for (`aud`). "": any.
        live jwt_audience: String = String::new();
    }
}

section! {
    /// The HTTP API, for operators and their programs: `/api/v1` as SRS answers it, `/api/v2`, `/healthz`, `/readyz`.
    pub struct Api {
        /// Whether the API is served.
        live enabled: bool = true;
        /// Where the API listens. An address that http.listen has, too, serves both.
        live listen: Vec<SocketAddr> = vec![(Ipv4Addr::LOCALHOST, 1985).into()];
        /// Where the API listens with TLS; needs tls.cert and tls.key.
        live tls_listen: Vec<SocketAddr> = Vec::new();
        /// Whether pages of other sites may read what the API says (CORS, JSONP). Where it shares an address with http.listen,
        /// http.crossdomain has to allow it, too.
        live crossdomain: bool = true;
        /// How many may listen to events at a time.
        live max_listeners: u32 = 32, 0..=1000;
        /// One administrator with a password as it is, as SRS has it. Users with hashes: [access].
        live auth: ApiAuth = ApiAuth::default();
        /// The calls of SRS under /api/v1/raw.
        live raw_api: RawApi = RawApi::default();
    }
}

section! {
    /// One administrator with a password as it is, as SRS has it.
    pub struct ApiAuth {
        /// Whether there is one. The API and all that changes something want a credential then, from everybody.
        live enabled: bool = false;
        /// The name.
        live username: String = String::new();
        /// The password.
        live password: Secret = Secret::default();
    }
}

section! {
    /// The calls of SRS under /api/v1/raw.
    pub struct RawApi {
        /// Whether they are served.
        live enabled: bool = false;
        /// Whether rpc=reload reads the configuration anew.
        live allow_reload: bool = false;
    }
}

section! {
    /// The process: threads, limits, start and stop.
    pub struct Server {
        /// The server's name in the API and in callbacks. "": made of the machine's id.
        restart id: String = String::new();
        /// Threads that handle handshakes and requests. 0: as many as there are processors.
        restart workers: u32 = 0, 0..=256;
        /// Connections of all protocols together. What is beyond is closed at once.
        live max_connections: u32 = 10_000, 1..=1_000_000;
        /// Of these, connections from one IPv4 address or IPv6 network (/64). This machine's own are not limited: they may be
        /// a proxy's. 0: half of max_connections.
        live max_connections_per_ip: u32 = 0, 0..=1_000_000;
        /// Streams at a time. A publisher beyond is refused.
        live max_streams: u32 = 1000, 1..=1_000_000;
        /// Memory for the past of all streams together (vhost.*.ring_bytes is for one): each gets its share, 256 KiB at
        /// least. 0: a quarter of the machine's.
        live ring_memory: Size = Size::new(0), Size::new(0)..=Size::new(1 << 40);
        /// Memory for the segments of all streams together (vhost.*.hls.memory is for one): each gets its share, 1 MiB at
        /// least. 0: a quarter of the machine's.
        live segment_memory: Size = Size::new(0), Size::new(0)..=Size::new(1 << 40);
        /// File that holds the process id while the server runs, and keeps a second one from starting.
        restart pid_file: Option<PathBuf> = None;
        /// Whether this file is read anew when it changes, as SIGHUP has it read.
        live watch_config: bool = false;
        /// The board's watchdog, e.g. "/dev/watchdog": fed while the server lives and given up by a clean stop, so that the
        /// board restarts when the server hangs or dies. "": none.
        restart watchdog: Option<PathBuf> = None;
        /// How long a stop waits for publishers and players to be seen off.
        live shutdown_timeout: Duration = secs(10), Duration::ZERO..=secs(600);
        /// After how much silence the system asks whether a TCP peer is still there. "0s": never.
        restart tcp_keepalive: Duration = secs(60), Duration::ZERO..=secs(7200);
    }
}

section! {
    /// The log.
    pub struct Log {
        /// The least important lines to write.
        live level: LevelFilter = LevelFilter::Info;
        /// Where lines go. A file is opened anew on SIGUSR1.
        live target: LogTarget = LogTarget::Stderr;
        /// How often a stream with a publisher or readers gets a line of figures. "0s": never.
        live stream_interval: Duration = secs(10), Duration::ZERO..=secs(86_400);
    }
}

section! {
    /// The certificate for RTMPS and HTTPS.
    pub struct Tls {
        /// Certificate chain, PEM.
        live cert: Option<PathBuf> = None;
        /// Its private key, PEM.
        live key: Option<PathBuf> = None;
        /// Certificates, PEM, of those who may vouch for servers that we ask (callbacks), besides those that the system trusts.
        live ca: Option<PathBuf> = None;
    }
}

section! {
    /// RTMP, for publishers and players.
    pub struct Rtmp {
        /// Whether RTMP is served.
        live enabled: bool = true;
        /// Where RTMP listens. `[::]` is all addresses, IPv4 too.
        live listen: Vec<SocketAddr> = any(1935);
        /// Where RTMPS listens; needs tls.cert and tls.key.
        live tls_listen: Vec<SocketAddr> = Vec::new();
        /// Chunk size of what is sent, in bytes.
        live chunk_size: u32 = 60_000, 128..=65_536;
        /// From accept to the end of the handshake.
        live handshake_timeout: Duration = secs(10), secs(1)..=secs(300);
        /// From the handshake to a publisher's first audio or video.
        live first_packet_timeout: Duration = secs(20), secs(1)..=secs(600);
        /// A publisher that sends nothing for so long is gone.
        live publish_timeout: Duration = secs(15), secs(1)..=secs(600);
        /// The largest message (a video frame, mostly) that is taken.
        live max_message: Size = Size::mib(16), Size::kib(64)..=Size::mib(64);
        /// After how many bytes a peer that says nothing about it gets an acknowledgement. 0: never.
        live in_ack_size: u32 = 0, 0..=0x7FFF_FFFF;
        /// After how many bytes players are asked to acknowledge.
        live out_ack_size: u32 = 2_500_000, 4096..=0x7FFF_FFFF;
    }
}

section! {
    /// The HTTP front: live streams and files.
    pub struct Http {
        /// Whether HTTP is served.
        live enabled: bool = true;
        /// Where HTTP listens. `[::]` is all addresses, IPv4 too.
        live listen: Vec<SocketAddr> = any(8080);
        /// Where HTTPS listens; needs tls.cert and tls.key.
        live tls_listen: Vec<SocketAddr> = Vec::new();
        /// Directory of files to serve. "": none.
        restart root: Option<PathBuf> = None;
        /// Whether pages of other sites may read what is served (CORS).
        live crossdomain: bool = true;
        /// From accept to the end of a request's head.
        live header_timeout: Duration = secs(10), secs(1)..=secs(300);
        /// How long a kept-alive connection may stay without a request.
        live idle_timeout: Duration = secs(60), secs(1)..=secs(3600);
        /// The largest request head that is taken.
        live max_header: Size = Size::kib(16), Size::kib(1)..=Size::mib(1);
    }
}

section! {
    /// How media reaches RTMP and HTTP readers.
    pub struct Delivery {
        /// Threads that write to readers. 0: as many as there are processors.
        restart workers: u32 = 0, 0..=256;
        /// How long what is new may wait, so that one write carries more: less CPU, more delay.
        /// "auto": none while few read, up to 350 ms when thousands do.
        live merge_window: MergeWindow = MergeWindow::Auto,
            MergeWindow::Auto..=MergeWindow::Fixed(secs(2));
        /// How much of what is sent to a reader the system may hold back before it says "full".
        restart notsent_lowat: Size = Size::kib(256), Size::kib(16)..=Size::mib(16);
        /// A reader that takes nothing for so long is gone.
        live send_timeout: Duration = secs(30), secs(1)..=secs(600);
    }
}

section! {
    /// A server of yours is told each so often that this one lives, by a POST of JSON as SRS makes it.
    pub struct Heartbeat {
        /// Whether it is told.
        live enabled: bool = false;
        /// How often.
        live interval: Duration = secs(10), secs(1)..=secs(86_400);
        /// Where.
        live url: String = "http://127.0.0.1:8085/api/v1/servers".to_owned();
        /// What this machine is called there.
        live device_id: String = String::new();
        /// Its address, as it is told. "": one that the machine has.
        live ip: String = String::new();
        /// Whether it is told what the machine and this process do, too.
        live summaries: bool = false;
        /// Whether it is told where RTMP, HTTP and the API listen.
        live ports: bool = false;
    }
}

section! {
    /// Figures for Prometheus, in its text form and in that of OpenMetrics: /metrics where the API listens.
    pub struct Metrics {
        /// Whether they are served.
        live enabled: bool = true;
        /// Where else they are served, e.g. "127.0.0.1:9972". [] is nowhere else.
        live listen: Vec<SocketAddr> = Vec::new();
        /// Whether everybody may read them there who reaches it. Otherwise who may administer, as where the API listens.
        live anonymous: bool = false;
        /// The value of a label `label` that srs_build_info gets. "": none.
        live label: String = String::new();
        /// The value of a label `tag` that srs_build_info gets. "": none.
        live tag: String = String::new();
        /// How many streams have figures of their own, those that have been there longest; the others are summed up as "other".
        live max_streams: u32 = 1000, 0..=100_000;
    }
}

#[cfg(feature = "srt")]
section! {
    /// SRT, for publishers and players: `srt://host:10080?streamid=#!::r=live/demo,m=publish`. What concerns a session holds for
    /// those that come after a change.
    pub struct Srt {
        /// Whether SRT is served.
        live enabled: bool = true;
        /// Where SRT listens (UDP). `[::]` is all addresses, IPv4 too.
        live listen: Vec<SocketAddr> = any(10_080);
        /// The app of a stream id that names a stream alone.
        live default_app: String = "live".to_owned();
        /// What a peer that gives no stream id is taken to give. "": it is refused.
        live empty_stream_id: String = "#!::r=live/livestream,m=publish".to_owned();
        /// How long what a publisher sends waits here, so that what the network lost can be sent again. The larger of this and
        /// what the publisher wants holds.
        live latency: Duration = Duration::from_millis(120), Duration::ZERO..=secs(60);
        /// The least of such time that players are asked to take.
        live peer_latency: Duration = Duration::ZERO, Duration::ZERO..=secs(60);
        /// Whether times of sending are kept: what came early waits until it is due.
        live tsbpd: bool = true;
        /// Whether what can't come in time is given up, so that what follows it is not late, too.
        live too_late_drop: bool = true;
        /// What a stream is encrypted with where vhost.*.access names no passphrase, 10 to 79 characters. "": not encrypted.
        live passphrase: Secret = Secret::default();
        /// The length of keys that we make for players, in bytes: 16, 24, 32. 0: 16. Publishers choose their own.
        live key_length: u32 = 0, 0..=32;
        /// How many bytes a second a session may send, what is sent again among them: "unlimited", "input" (what comes in and
        /// `overhead`), or a size.
        live max_bandwidth: Bandwidth = Bandwidth::Unlimited;
        /// How much more than what comes in may be sent, in percent, with max_bandwidth = "input".
        live overhead: u32 = 25, 5..=100;
        /// How late a packet may be, counted in packets after it, before it is taken for lost.
        live reorder_tolerance: u32 = 0, 0..=1000;
        /// The largest IP packet, in bytes.
        live mss: u32 = 1500, 116..=1500;
        /// How many bytes of a stream go into one packet, at most: multiples of 188.
        live payload_size: u32 = 1316, 188..=1456;
        /// How much may wait to be sent, and to be sent again, for one player.
        live send_buffer: Size = Size::new(8192 * 1472), Size::kib(64)..=Size::mib(256);
        /// How much may wait here of one publisher.
        live receive_buffer: Size = Size::new(8192 * 1472), Size::kib(64)..=Size::mib(256);
        /// How long a handshake may take.
        live connect_timeout: Duration = secs(3), Duration::from_millis(100)..=secs(60);
        /// A peer that says nothing for so long is gone.
        live peer_idle_timeout: Duration = secs(10), secs(1)..=secs(600);
        /// A publisher that is there and sends nothing for so long is gone.
        live publish_timeout: Duration = secs(15), secs(1)..=secs(600);
        /// Whether supplemental enhancement information (captions, time codes) of H.264 and H.265 is left out for all but those
        /// who get the transport stream as it came.
        live sei_filter: bool = false;
    }
}

#[cfg(feature = "webrtc")]
section! {
    /// WebRTC, for browsers that publish and play. Sessions are asked for over HTTP, where http.listen and api.listen say:
    /// `/rtc/v1/whip/?app=live&stream=demo` and `/rtc/v1/whep/?app=live&stream=demo`, or `/live/demo/whip` and `/live/demo/whep`.
    pub struct Webrtc {
        /// Whether WebRTC is served.
        live enabled: bool = true;
        /// Where media of all sessions comes and goes (UDP). `[::]` is all addresses, IPv4 too.
        restart listen: Vec<SocketAddr> = any(8000);
        /// The same over TCP, for networks that let no UDP through.
        restart tcp_listen: Vec<SocketAddr> = any(8000);
        /// Addresses at which peers are told to reach this server: "192.0.2.1", "[2001:db8::1]", with a port where another one
        /// is forwarded here ("192.0.2.1:18000"), a name, "$VARIABLE" of the environment; "*" is the address by which a peer
        /// asked for its session, and those of this machine. A peer can add one: `?eip=192.0.2.1`.
        live candidates: Vec<String> = vec!["*".to_owned()];
        /// Whether "*" stands for addresses of this machine, too.
        live detect_addresses: bool = true;
        /// Whether "*" stands for the host that the peer asked over HTTP, too.
        live host_as_candidate: bool = true;
        /// Whether that host is looked up when it is a name.
        live resolve_host: bool = true;
        /// Whether such a name is told to the peer as it is.
        live keep_host: bool = false;
        /// Addresses of which kind "*" stands for: "ipv4", "ipv6" or "all".
        live ip_family: IpFamily = IpFamily::All;
        /// By what peers are invited to come: "udp", "tcp" or "all".
        live transports: Transports = Transports::All;
        /// ICE servers that peers are told of (`Link`), e.g. "stun:stun.example.com:3478". This server needs none.
        live ice_servers: Vec<String> = Vec::new();
        /// How long a session may take until its media can flow.
        live connect_timeout: Duration = secs(20), secs(1)..=secs(300);
        /// A peer that says nothing for so long is gone.
        live idle_timeout: Duration = secs(30), secs(5)..=secs(600);
        /// A publisher that is there and sends nothing for so long is gone.
        live publish_timeout: Duration = secs(30), secs(1)..=secs(600);
    }
}

section! {
    /// What holds for the streams of a vhost.
    pub struct Vhost {
        /// Whether anyone may publish or play here.
        live enabled: bool = true;
        /// How long readers wait for a publisher that went away to come back.
        live grace: Duration = secs(10), Duration::ZERO..=secs(3600);
        /// A second publisher of a stream: "refuse" it, or let it take over. One from the same address as the first gets in
        /// when that one has been silent for 3 s: it is the same encoder, whose connection broke.
        live duplicate: Duplicate = Duplicate::Refuse;
        /// How much of the past a stream keeps, in time: new players start at the newest key frame in it.
        live ring_time: Duration = secs(5), secs(1)..=secs(60);
        /// How much of the past a stream keeps, in memory.
        live ring_bytes: Size = Size::mib(16), Size::kib(256)..=Size::mib(1024);
        /// A stream with neither publisher nor readers is forgotten after so long.
        live idle_timeout: Duration = secs(30), secs(1)..=secs(86_400);
        /// Who may publish and play here.
        #[cfg(feature = "access")]
        live access: VhostAccess = VhostAccess::default();
        /// DASH: manifests of live streams.
        live dash: Dash = Dash::default();
        /// Other servers that streams are brought to.
        #[cfg(feature = "relay")]
        live forward: Forward = Forward::default();
        /// HLS: segments and playlists of live streams.
        live hls: Hls = Hls::default();
        /// Callbacks: a server of yours is asked who may publish and play, and told what happens.
        #[cfg(feature = "hooks")]
        live hooks: Hooks = Hooks::default();
        /// Live streams over HTTP.
        live http_live: HttpLive = HttpLive::default();
        /// RTMP players.
        live play: Play = Play::default();
        /// Other servers that streams are fetched from.
        #[cfg(feature = "relay")]
        live pull: Pull = Pull::default();
        /// Recordings of streams (DVR), and what becomes of them.
        #[cfg(feature = "record")]
        live record: Record = Record::default();
        /// SRT publishers and players.
        #[cfg(feature = "srt")]
        live srt: VhostSrt = VhostSrt::default();
        /// WebRTC publishers and players.
        #[cfg(feature = "webrtc")]
        live webrtc: VhostWebrtc = VhostWebrtc::default();
    }
}

section! {
    /// Who may publish and play here. All of it has to agree: addresses, pages, credentials.
    pub struct VhostAccess {
        /// Who may publish: "anyone", "nobody", or who shows a "credential": a signed URL, a JWT or a user's password (access.*).
        live publish: Admission = Admission::Anyone;
        /// Who may play, recordings too. What lies below http.root is for everybody: keep segments on disk elsewhere.
        live play: Admission = Admission::Anyone;
        /// Whether `ip_rules` are looked at.
        live check_ip: bool = false;
        /// Which addresses may publish and play: "allow publish 10.0.0.0/8", "deny play all". What any rule denies is refused; what
        /// one allows is let in; what none speaks of is refused, unless all rules deny.
        live ip_rules: Vec<IpRule> = Vec::new();
        /// Whether the pages that players stand on are looked at (RTMP's pageUrl, HTTP's Referer).
        live check_refer: bool = false;
        /// Domains of pages that may publish and play, with all below them. []: not looked at.
        live refer_all: Vec<String> = Vec::new();
        /// Domains of pages that may publish. []: not looked at.
        live refer_publish: Vec<String> = Vec::new();
        /// Domains of pages that may play. []: not looked at.
        live refer_play: Vec<String> = Vec::new();
        /// Passphrase of SRT publishers, 10 to 79 characters. "": none.
        live srt_publish_passphrase: Secret = Secret::default();
        /// Passphrase of SRT players, 10 to 79 characters. "": none.
        live srt_play_passphrase: Secret = Secret::default();
    }
}

section! {
    /// DASH: manifests of live streams. Its segments are those of HLS where these are fMP4 ("fmp4", "low-latency"), and then
    /// cut and kept as the keys of HLS say; otherwise they are made for it alone, as the keys below say.
    pub struct Dash {
        /// Whether streams are served as DASH: app/stream.mpd
        live enabled: bool = true;
        /// Whether segments are made only while someone watches: from the first request until two windows after the last one.
        live on_demand: bool = true;
        /// Whether segments are given out while they grow, and players told to stay close to the live edge.
        live low_latency: bool = false;
        /// How long a segment is to be. It ends with the first key frame after that.
        live segment: Duration = secs(2), Duration::from_millis(500)..=secs(60);
        /// Low latency: in pieces of how much time a segment that grows is given out.
        live part: Duration = Duration::from_millis(200), Duration::from_millis(50)..=secs(2);
        /// How much of the past viewers may go back to.
        live timeshift: Duration = secs(30), secs(4)..=secs(86_400);
        /// The most segments that a manifest tells. 0: as many as `timeshift` has.
        live window_size: u32 = 0, 0..=10_000;
        /// How often players ask for the manifest again. "0s": as often as there is a new segment.
        live update_period: Duration = Duration::ZERO, Duration::ZERO..=secs(3600);
        /// How far behind the publisher players are to stay. "0s": three segments, or 2.5 s with low latency.
        live delay: Duration = Duration::ZERO, Duration::ZERO..=secs(3600);
        /// Directory for manifests and segments. "": they are in memory, nothing is written.
        live path: Option<PathBuf> = None;
        /// The manifest's name there: `[vhost] [app] [stream]`.
        live mpd_file: String = "[app]/[stream].mpd".to_owned();
        /// Whether files that have left the manifest are deleted.
        live cleanup: bool = true;
        /// How long after a stream's end its manifest and segments are kept. "0s": files for ever, memory for two windows.
        live dispose: Duration = secs(120), Duration::ZERO..=secs(604_800);
        /// Whether each viewer has a session: counted as a player, expired two windows after its last request.
        live sessions: bool = true;
    }
}

#[cfg(feature = "relay")]
section! {
    /// Other servers that streams are brought to, while someone publishes them.
    pub struct Forward {
        /// Whether they are.
        live enabled: bool = true;
        /// Where to: rtmp:// and srt:// URLs with `[vhost] [app] [stream]`; of HOST:PORT alone is made
        /// rtmp://HOST:PORT/[app]/[stream]. For srt:// URLs the parameters are those of FFmpeg (streamid, passphrase, latency in
        /// microseconds, …).
        live urls: Remotes = Remotes::default();
        /// A server of yours that says where to, asked when someone publishes: it gets a POST as SRS's on_forward, and answers with
        /// `{"code":0,"data":{"urls":["rtmp://…"]}}`. `urls` is not looked at then. "": none.
        #[cfg(feature = "hooks")]
        live backend: String = String::new();
        /// After how long a server is called again that could not be reached, or broke off.
        live retry: Duration = secs(3), Duration::from_millis(100)..=secs(3600);
        /// How much of a stream waits in memory for a slow server. What is beyond is lost up to the next key frame.
        live queue: Size = Size::mib(4), Size::kib(256)..=Size::mib(1024);
    }
}

#[cfg(feature = "relay")]
section! {
    /// Other servers that streams are fetched from: cameras and encoders that wait to be called, and the origin of an edge.
    pub struct Pull {
        /// Where from: rtmp:// and srt:// URLs with `[vhost] [app] [stream]`, HOST:PORT as for forward.urls. The next is taken when
        /// one does not have the stream.
        live urls: Remotes = Remotes::default();
        /// Whether a stream is fetched only while someone plays it, as an edge does. Otherwise those are fetched all the time that a
        /// [[vhost.*.match]] names without `*` and `?`; others never.
        live on_demand: bool = true;
        /// How long a stream is fetched on after its last player has gone.
        live linger: Duration = secs(10), Duration::ZERO..=secs(3600);
        /// A server that has sent nothing for so long is given up.
        live timeout: Duration = secs(10), secs(1)..=secs(3600);
        /// After how long servers are called again.
        live retry: Duration = secs(3), Duration::from_millis(100)..=secs(3600);
    }
}

section! {
    /// HLS: segments and playlists of live streams. What says how segments are cut and kept holds for DASH too, which shares
    /// those of fMP4.
    pub struct Hls {
        /// Whether streams are served as HLS: app/stream.m3u8
        live enabled: bool = true;
        /// What segments are: "ts", "fmp4" (CMAF), "low-latency" (fMP4 in parts, LL-HLS); "auto": MPEG-TS, or fMP4 for streams
        /// with codecs that TS or its players can't carry.
        live variant: Variant = Variant::Auto;
        /// How long a segment is to be. It ends with the first key frame after that.
        live segment: Duration = secs(2), Duration::from_millis(500)..=secs(60);
        /// Low latency: how long a part of a segment is to be.
        live part: Duration = Duration::from_millis(200), Duration::from_millis(50)..=secs(2);
        /// How much time a playlist spans.
        live window: Duration = secs(30), secs(4)..=secs(86_400);
        /// Memory for the segments of one stream in one form: its window becomes shorter before they take more. Does not count
        /// for segments on disk.
        live memory: Size = Size::mib(16), Size::kib(256)..=Size::mib(4096);
        /// Whether segments are made only while someone watches: from the first request until two windows after the last one.
        live on_demand: bool = false;
        /// Whether sound is in it.
        live audio: bool = true;
        /// Whether pictures are in it.
        live video: bool = true;
        /// Whether a segment of a stream with pictures begins with a key frame, unless overflow_ratio forbids to wait for it.
        live wait_keyframe: bool = true;
        /// A segment ends at any frame once it is this many times as long as it should be: streams without pictures, and with
        /// key frames further apart than usual.
        live overflow_ratio: Ratio = Ratio::thousandths(2100), Ratio::thousandths(1000)..=Ratio::thousandths(100_000);
        /// The target duration that a playlist announces at least, as a multiple of `segment`.
        live target_ratio: Ratio = Ratio::thousandths(1000), Ratio::thousandths(1000)..=Ratio::thousandths(10_000);
        /// Directory for segments and playlists. "": they are in memory, nothing is written.
        live path: Option<PathBuf> = None;
        /// The playlist's name: `[vhost] [app] [stream]`.
        live playlist_file: String = "[app]/[stream].m3u8".to_owned();
        /// Names of MPEG-TS segments: `[vhost] [app] [stream] [seq] [duration] [timestamp]` and the parts of the time of day (UTC)
        /// `[2006] [01] [02] [15] [04] [05] [999]`.
        live ts_file: String = "[app]/[stream]-[seq].ts".to_owned();
        /// Names of fMP4 segments: the same, and `[track]`.
        live fmp4_file: String = "[app]/[stream]-[seq]-[track].m4s".to_owned();
        /// What stands before the names of segments in playlists, e.g. `https://cdn.example/hls/`.
        live url_prefix: String = String::new();
        /// Whether `[timestamp]` counts segments from 1970 on, so that redundant encoders give the same names.
        live ts_floor: bool = false;
        /// When a segment can't be written: "continue" with the next, "ignore" this publisher from then on, or "disconnect" it.
        live on_error: OnError = OnError::Continue;
        /// Whether files that have left the playlist are deleted.
        live cleanup: bool = true;
        /// How long after a stream's end its playlist and segments are kept. "0s": files for ever, memory for two windows.
        live dispose: Duration = secs(120), Duration::ZERO..=secs(604_800);
        /// "live": segments leave the playlist after `window`; "event": it keeps all, as far as memory allows.
        live playlist_type: PlaylistType = PlaylistType::Live;
        /// Whether a playlist says that the stream has ended.
        live endlist: bool = true;
        /// Whether each viewer has a session: counted as a player, expired two windows after its last request.
        live sessions: bool = true;
        /// Whether links to segments carry the session, too.
        live sessions_in_segments: bool = true;
        /// "aes-128" encrypts whole segments (not low-latency ones), "cbcs" the samples of fMP4.
        live encryption: Encryption = Encryption::None;
        /// After how many segments there is another key.
        live segments_per_key: u32 = 5, 1..=1_000_000;
        /// Names of keys: as those of segments.
        live key_file: String = "[app]/[stream]-[seq].key".to_owned();
        /// Directory for keys. "": they are in memory.
        live key_path: Option<PathBuf> = None;
        /// What stands before the names of keys in playlists, where another server gives them out. "": this one does.
        live key_url: String = String::new();
        /// Whether times of sound are counted from its samples, not taken from the stream.
        live rebuild_audio_times: bool = false;
        /// How many bytes of its answer are read when a CDN is notified of a segment.
        live notify_bytes: u32 = 64, 0..=65_536;
    }
}

section! {
    /// Callbacks: a server of yours is asked who may publish and play, and told what happens, by a POST of JSON as SRS makes
    /// it. What it answers with 200 and `0` or `{"code":0}` has passed. All URLs of a callback are asked, and all have to pass.
    pub struct Hooks {
        /// Whether callbacks are made.
        live enabled: bool = false;
        /// An RTMP session wants to publish or play. It is refused unless this passes.
        live on_connect: Vec<String> = Vec::new();
        /// Such a session has gone.
        live on_close: Vec<String> = Vec::new();
        /// Someone wants to publish, by any protocol. It is refused unless this passes.
        live on_publish: Vec<String> = Vec::new();
        /// A publisher has gone.
        live on_unpublish: Vec<String> = Vec::new();
        /// Someone wants to play, by any protocol. It is refused unless this passes.
        live on_play: Vec<String> = Vec::new();
        /// A player has gone.
        live on_stop: Vec<String> = Vec::new();
        /// A recording was closed.
        live on_dvr: Vec<String> = Vec::new();
        /// A segment of HLS is complete.
        live on_hls: Vec<String> = Vec::new();
        /// The same, for a CDN that then gets it: a GET of a URL with `[server_id] [service_id] [app] [stream] [ts_url] [param]`.
        live on_hls_notify: Vec<String> = Vec::new();
        /// How long an answer may take.
        live timeout: Duration = secs(30), Duration::from_millis(100)..=secs(300);
        /// How often a callback that nobody waits for is made again when there was no answer. Who waits is refused at once.
        live retries: u32 = 3, 0..=100;
        /// How many callbacks may wait for one URL. Of more, the oldest are lost.
        live queue: u32 = 1000, 1..=100_000;
    }
}

section! {
    /// Live streams over HTTP.
    pub struct HttpLive {
        /// Whether streams are served over HTTP.
        live enabled: bool = true;
        /// app/stream.flv, by HTTP and WebSocket.
        live flv: bool = true;
        /// app/stream.ts
        live ts: bool = true;
        /// app/stream.aac
        live aac: bool = true;
        /// app/stream.mp3
        live mp3: bool = true;
        /// A stream nobody publishes: "no" answers 404, a duration waits for so long.
        live wait: Wait = Wait::No;
    }
}

section! {
    /// RTMP players.
    pub struct Play {
        /// A stream nobody publishes: "no" refuses, a duration or "forever" waits.
        live wait: Wait = Wait::Forever;
    }
}

#[cfg(feature = "srt")]
section! {
    /// SRT publishers and players.
    pub struct VhostSrt {
        /// Whether streams are published and played by SRT.
        live enabled: bool = true;
        /// A stream nobody publishes: "no" refuses, a duration or "forever" waits.
        live wait: Wait = Wait::Forever;
        /// Whether SRT and HTTP-TS players get the transport stream of an SRT publisher as it came; otherwise it is made anew
        /// of its frames.
        live pass_through: bool = true;
    }
}

#[cfg(feature = "webrtc")]
section! {
    /// WebRTC publishers and players.
    pub struct VhostWebrtc {
        /// Whether streams are published and played by WebRTC.
        live enabled: bool = true;
        /// A stream nobody publishes: "no" answers 404, a duration lets the player's request wait for so long, a minute at most.
        live wait: Wait = Wait::No;
        /// Whether what publishers of other protocols send is played by WebRTC.
        live from_others: bool = true;
        /// Whether what WebRTC publishers send is given to all other protocols.
        live to_others: bool = true;
        /// Who begins DTLS with a peer that leaves it to us: "passive" is the peer, "active" is this server.
        live dtls_role: DtlsRole = DtlsRole::Passive;
        /// Whether packets that were lost are sent again.
        live nack: bool = true;
        /// Whether publishers are told when each packet came, from which they learn how much they can send.
        live transport_cc: bool = true;
        /// How often a publisher is asked for a key frame while players of other protocols, which can't ask, are there.
        live key_frame_interval: Duration = secs(6), Duration::from_millis(500)..=secs(30);
        /// Whether pictures that depend on later ones (B-frames) are sent to players; browsers show them late or not at all.
        /// Otherwise those that nothing depends on are left out.
        live keep_b_frames: bool = false;
        /// Whether supplemental enhancement information of H.264 and H.265 is sent to players.
        live keep_sei: bool = true;
        /// Bits a second of sound that is made Opus for players.
        live opus_bitrate: u32 = 48_000, 8_000..=320_000;
        /// Bits a second of sound that is made AAC for all other protocols.
        live aac_bitrate: u32 = 48_000, 8_000..=320_000;
    }
}

section! {
    /// Recordings of streams (DVR), and what becomes of them. They are played under /recordings/ on the HTTP port.
    pub struct Record {
        /// Whether streams are recorded.
        live enabled: bool = false;
        /// Which of them: app/stream, with `*` and `?`. A [[vhost.*.match]] can say it, too.
        live streams: Vec<String> = vec!["*".to_owned()];
        /// When a file begins and ends: "session" is one for each publisher, "segment" begins another after each duration,
        /// "api" records only what was asked for.
        live plan: RecordPlan = RecordPlan::Session;
        /// The container. "fmp4" and "ts" play up to the last fragment after a power cut; "mp4" and "flv" have ".tmp" at the
        /// end of their names until they are closed, or mended at the next start.
        live format: RecordFormat = RecordFormat::Fmp4;
        /// Where files go: `[vhost] [app] [stream]`, and of the time when a file begins (UTC) `[timestamp]` in milliseconds,
        /// `[2006] [01] [02] [15] [04] [05] [999]`. A directory gets `[stream].[timestamp]` and the end of the format. Files lie
        /// below what stands before the first of these; only recordings of this server are ever deleted there.
        live path: String = "recordings/[app]/".to_owned();
        /// A directory that has to be a mount point, e.g. that of the memory card: nothing is recorded while it is none. "":
        /// not looked at.
        live mount: Option<PathBuf> = None;
        /// How long a file is with the plan "segment".
        live duration: Duration = secs(30), secs(1)..=secs(86_400);
        /// Begin a file only at a key frame.
        live wait_keyframe: bool = true;
        /// Times in files: "full" begins at 0 and never stands still, "zero" begins at 0, "off" has the stream's.
        live time_jitter: TimeJitter = TimeJitter::Full;
        /// A publisher that comes back within the grace period goes on in the same file, if its codecs are the same.
        live append: bool = false;
        /// How long fragments of MP4 are, and how often other files are brought up to date: what a crash costs.
        live fragment: Duration = secs(1), Duration::from_millis(100)..=secs(60);
        /// Writes end at multiples of this, but for those that complete a fragment.
        live write_size: Size = Size::kib(256), Size::kib(4)..=Size::mib(16);
        /// When the system is asked to put what was written on the medium: what a power cut costs, and what wears flash.
        live fsync: Fsync = Fsync::Interval;
        /// How often that is with fsync = "interval".
        live fsync_interval: Duration = secs(10), secs(1)..=secs(3600);
        /// How much of a stream waits in memory for a slow card. What is beyond is lost up to the next key frame.
        live queue: Size = Size::mib(8), Size::kib(256)..=Size::mib(1024);
        /// After how long recording is tried again when it failed.
        live retry: Duration = secs(5), Duration::from_millis(100)..=secs(3600);
        /// Recordings that ended so long ago are deleted. "0s": never.
        live max_age: Duration = Duration::ZERO, Duration::ZERO..=secs(315_360_000);
        /// The most that the recordings of one stream take; beyond, the oldest are deleted. 0: no limit.
        live quota: Size = Size::new(0), Size::new(0)..=Size::new(1 << 50);
        /// The most that all recordings below the same directory take together. 0: no limit.
        live total_quota: Size = Size::new(0), Size::new(0)..=Size::new(1 << 50);
        /// How much of the file system is kept free by deleting the oldest recordings: a size, or a part such as "5%".
        live min_free: Free = Free::Percent(5);
    }
}

impl Config {
    /// What holds for a stream. A vhost without section is `default`.
    #[must_use]
    pub fn vhost(&self, vhost: &str, app: &str, stream: &str) -> &Arc<Vhost> {
        self.vhost.resolve(vhost, app, stream)
    }

    /// The keys that say where to listen, with their addresses.
    pub fn listening(&mut self) -> Vec<(&'static str, &mut Vec<SocketAddr>)> {
        vec![
            ("rtmp.listen", &mut self.rtmp.listen),
            ("rtmp.tls_listen", &mut self.rtmp.tls_listen),
            ("http.listen", &mut self.http.listen),
            ("http.tls_listen", &mut self.http.tls_listen),
            #[cfg(any(feature = "access", feature = "api", feature = "hooks"))]
            ("api.listen", &mut self.api.listen),
            #[cfg(any(feature = "access", feature = "api", feature = "hooks"))]
            ("api.tls_listen", &mut self.api.tls_listen),
            #[cfg(feature = "metrics")]
            ("metrics.listen", &mut self.metrics.listen),
        ]
    }

    /// Each key with its value, in the order of `conf/full.toml`.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.walk("", &keys::TOP, &mut |entry| {
            if let Entry::Key(key) = entry {
                keys.push(key);
            }
        });
        keys
    }

    /// The keys whose values are others in `newer`. A section for a vhost or pattern of which only one of the two knows
    /// is compared with `vhost.default`, where its values come from.
    #[must_use]
    pub fn differences(&self, newer: &Self) -> Vec<Difference> {
        let (old, new) = (self.keys(), newer.keys());
        let values = |keys: &[Key]| -> HashMap<String, String> {
            keys.iter().map(|key| (key.path.clone(), key.value.clone())).collect()
        };
        let (before, after) = (values(&old), values(&new));
        let inherited = |key: &Key, all: &HashMap<String, String>| {
            self::vhost::inherited(&key.path).is_some_and(|path| all.get(&path) == Some(&key.value))
        };
        let changed = new.iter().filter_map(|key| match before.get(&key.path) {
            Some(value) if *value == key.value => None,
            None if inherited(key, &after) => None,
            value => Some(Difference::of(key, value.cloned(), Some(key.value.clone()))),
        });
        let gone = old.iter().filter(|key| !after.contains_key(&key.path) && !inherited(key, &before));
        let gone = gone.map(|key| Difference::of(key, Some(key.value.clone()), None));
        changed.chain(gone).collect()
    }

    /// [`Self::differences`], and those that `changes` have and values don't show: secrets.
    #[must_use]
    pub fn all_differences(&self, newer: &Self, changes: &Changes) -> Vec<Difference> {
        let mut all = self.differences(newer);
        for change in changes.applied.iter().chain(&changes.restart) {
            let path = change.split(" = ").next().unwrap_or_default();
            let known = |d: &Difference| d.path == path;
            if !path.contains(':')
                && !all.iter().any(known)
                && newer.keys().iter().any(|key| key.path == path)
            {
                all.push(Difference::hidden(path));
            }
        }
        all
    }

    /// Takes over what may change while running, and says what that was, and what waits for a restart.
    pub fn adopt(&mut self, newer: &Self) -> Changes {
        let mut changes = Changes::default();
        Node::adopt(self, newer, "", &keys::TOP, &mut changes);
        changes
    }
}

/// The configuration in force, shared by all rooms; a reload replaces it.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<RwLock<Arc<Config>>>);

impl Shared {
    /// Shares `config`.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// The configuration in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `config` in force.
    pub fn replace(&self, config: Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}
