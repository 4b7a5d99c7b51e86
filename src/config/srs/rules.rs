//! What each of SRS's directives is here.

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A block, whose directives have rules of their own.
    Block,
    /// This key (of a vhost: in that vhost), whose value is read so.
    Key(&'static str, As),
    /// Nothing does it here, and why; said when it is switched on.
    Lacks(&'static str),
    /// So it is here anyway, or it has no meaning here, and why: nothing is lost.
    Moot(&'static str),
    /// More than one key; [`super::map`] does it.
    Own,
    /// It is here as this value has it; another is not done, and why.
    Unlike(&'static str, &'static str),
    /// A key of the whole server that SRS has per vhost: what `__defaultVhost__` says, or else the first vhost.
    Whole(&'static str, As),
}

/// How a directive's arguments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// All of them.
    List,
    /// Milliseconds.
    Millis,
    /// All but "off" is off: the opposite of [`As::NotOff`].
    Not,
    /// All but "off" is on.
    NotOff,
    /// A whole number.
    Number,
    /// Only "on" is on.
    On,
    /// A path.
    Path,
    /// A factor.
    Ratio,
    /// Seconds, perhaps with a fraction.
    Seconds,
    /// A word as it is.
    Text,
}

use As::{List, Millis, Not, NotOff, Number, On, Path, Ratio, Seconds, Text};
use Rule::{Block, Key, Lacks, Moot, Own, Unlike, Whole};

const ALONE: &str = "it belongs to a cluster, and is reported where that is switched on";
const GONE: &str = "SRS has taken it out";
const CHILD: &str = "no FFmpeg is started";
const CLOUD: &str = "logs and traces are not sent to this cloud";
const DETECTED: &str = "what a stream has is seen in the stream itself";
const DOCKER: &str = "it runs in the foreground, in a container or not";
const HOOKS: &str = "this version has no HTTP callbacks";
const LEGACY: &str = "SRS itself ignores it";
const READS: &str = "what has arrived is read at once, however much it is";
const RELAY: &str = "this version neither relays nor transcodes";
const RTC: &str = "this version has no WebRTC";
const SRT: &str = "this version has no SRT";

/// Directives outside of vhosts, by their path.
pub(super) const TOP: &[(&str, Rule)] = &[
    ("asprocess", Lacks("the service manager ends the server")),
    ("auto_reload_for_docker", Own),
    ("chunk_size", Key("rtmp.chunk_size", Number)),
    ("circuit_breaker", Moot("it guards WebRTC alone")),
    ("daemon", Lacks("it stays in the foreground: let a service manager, or &, put it in the background")),
    ("disable_daemon_for_docker", Moot(DOCKER)),
    ("empty_ip_ok", Moot("probes of load balancers are let go without a word")),
    ("exporter", Lacks("this version has no metrics")),
    ("ff_log_dir", Moot(CHILD)),
    ("ff_log_level", Moot(CHILD)),
    ("first_wait_for_qlv", Moot("nobody is asked for newer versions")),
    ("force_grace_quit", Moot("SIGTERM sees everybody off anyway")),
    ("grace_final_wait", Moot("a stop takes as long as server.shutdown_timeout allows")),
    ("grace_start_wait", Lacks("a stop closes the ports at once")),
    ("heartbeat", Lacks(HOOKS)),
    ("http_api", Block),
    ("http_api.auth", Block),
    ("http_api.auth.enabled", Key("api.auth.enabled", On)),
    ("http_api.auth.password", Key("api.auth.password", Text)),
    ("http_api.auth.username", Key("api.auth.username", Text)),
    ("http_api.crossdomain", Key("api.crossdomain", NotOff)),
    ("http_api.enabled", Key("api.enabled", On)),
    ("http_api.https", Block),
    ("http_api.https.cert", Own),
    ("http_api.https.enabled", Own),
    ("http_api.https.key", Own),
    ("http_api.https.listen", Own),
    ("http_api.listen", Own),
    ("http_api.raw_api", Block),
    ("http_api.raw_api.allow_query", Moot(GONE)),
    ("http_api.raw_api.allow_reload", Key("api.raw_api.allow_reload", On)),
    ("http_api.raw_api.allow_update", Moot(GONE)),
    ("http_api.raw_api.enabled", Key("api.raw_api.enabled", On)),
    ("http_server", Block),
    ("http_server.crossdomain", Key("http.crossdomain", NotOff)),
    ("http_server.dir", Own),
    ("http_server.enabled", Key("http.enabled", On)),
    ("http_server.https", Block),
    ("http_server.https.cert", Own),
    ("http_server.https.enabled", Own),
    ("http_server.https.key", Own),
    ("http_server.https.listen", Own),
    ("http_server.listen", Own),
    ("in_docker", Own),
    ("inotify_auto_reload", Key("server.watch_config", On)),
    ("is_full", Own),
    ("listen", Own),
    ("max_connections", Key("server.max_connections", Number)),
    ("pid", Own),
    ("pithy_print_ms", Key("log.stream_interval", Millis)),
    ("query_latest_version", Moot("nobody is asked for newer versions")),
    ("rtc_server", Lacks(RTC)),
    ("rtsp_server", Lacks("this version has no RTSP")),
    ("server_id", Key("server.id", Text)),
    ("srs_log_file", Own),
    ("srs_log_level", Own),
    ("srs_log_level_v2", Own),
    ("srs_log_tank", Own),
    ("srt_server", Lacks(SRT)),
    ("stats", Moot("there is no choice of disks and networks to look at")),
    ("stream_caster", Lacks("this version takes neither MPEG-TS over UDP, FLV by POST nor GB28181")),
    ("tcmalloc_release_rate", Moot("it has another allocator")),
    ("tencentcloud_apm", Lacks(CLOUD)),
    ("tencentcloud_cls", Lacks(CLOUD)),
    ("threads", Moot("threads are not managed in cycles")),
    ("utc_time", Own),
    ("vhost", Own),
    ("work_dir", Own),
];

/// Directives of a vhost, by their path in it. Keys are those of the vhost.
pub(super) const VHOST: &[(&str, Rule)] = &[
    ("bandcheck", Moot(LEGACY)),
    ("chunk_size", Whole("rtmp.chunk_size", Number)),
    ("cluster", Block),
    ("cluster.coworkers", Moot(ALONE)),
    ("cluster.debug_srs_upnode", Moot(ALONE)),
    ("cluster.follow_client", Moot(ALONE)),
    ("cluster.mode", Own),
    ("cluster.origin", Moot(ALONE)),
    ("cluster.origin_cluster", Own),
    ("cluster.protocol", Moot(ALONE)),
    ("cluster.token_traverse", Moot(ALONE)),
    ("cluster.vhost", Moot(ALONE)),
    ("dash", Block),
    ("dash.dash_cleanup", Key("dash.cleanup", NotOff)),
    ("dash.dash_dispose", Key("dash.dispose", Seconds)),
    ("dash.dash_fragment", Key("dash.segment", Seconds)),
    ("dash.dash_mpd_file", Key("dash.mpd_file", Text)),
    ("dash.dash_path", Key("dash.path", Path)),
    ("dash.dash_timeshift", Key("dash.timeshift", Seconds)),
    ("dash.dash_update_period", Key("dash.update_period", Seconds)),
    ("dash.dash_window_size", Key("dash.window_size", Number)),
    ("dash.enabled", Key("dash.enabled", On)),
    ("dvr", Block),
    ("dvr.dvr_apply", Own),
    ("dvr.dvr_duration", Key("record.duration", Seconds)),
    ("dvr.dvr_path", Own),
    ("dvr.dvr_plan", Key("record.plan", Text)),
    ("dvr.dvr_wait_keyframe", Key("record.wait_keyframe", NotOff)),
    ("dvr.enabled", Key("record.enabled", On)),
    ("dvr.time_jitter", Key("record.time_jitter", Text)),
    ("enabled", Key("enabled", NotOff)),
    ("exec", Lacks(RELAY)),
    ("forward", Lacks(RELAY)),
    ("hds", Lacks("HDS ended with Flash")),
    ("hls", Block),
    ("hls.enabled", Key("hls.enabled", On)),
    ("hls.hls_acodec", Own),
    ("hls.hls_aof_ratio", Key("hls.overflow_ratio", Ratio)),
    ("hls.hls_cleanup", Key("hls.cleanup", NotOff)),
    ("hls.hls_ctx", Key("hls.sessions", NotOff)),
    ("hls.hls_dispose", Key("hls.dispose", Seconds)),
    ("hls.hls_dts_directly", Key("hls.rebuild_audio_times", Not)),
    ("hls.hls_entry_prefix", Key("hls.url_prefix", Text)),
    ("hls.hls_fmp4_file", Key("hls.fmp4_file", Text)),
    ("hls.hls_fragment", Key("hls.segment", Seconds)),
    ("hls.hls_fragments_per_key", Key("hls.segments_per_key", Number)),
    ("hls.hls_init_file", Moot("beginnings of fMP4 have names of their own")),
    ("hls.hls_key_file", Key("hls.key_file", Text)),
    ("hls.hls_key_file_path", Key("hls.key_path", Path)),
    ("hls.hls_key_url", Key("hls.key_url", Text)),
    ("hls.hls_keys", Own),
    ("hls.hls_m3u8_file", Key("hls.playlist_file", Text)),
    ("hls.hls_mount", Moot(LEGACY)),
    ("hls.hls_nb_notify", Key("hls.notify_bytes", Number)),
    ("hls.hls_on_error", Key("hls.on_error", Text)),
    ("hls.hls_path", Own),
    ("hls.hls_recover", Lacks("a playlist begins anew with the server")),
    ("hls.hls_storage", Moot(LEGACY)),
    ("hls.hls_td_ratio", Key("hls.target_ratio", Ratio)),
    ("hls.hls_ts_ctx", Key("hls.sessions_in_segments", NotOff)),
    ("hls.hls_ts_file", Key("hls.ts_file", Text)),
    ("hls.hls_ts_floor", Key("hls.ts_floor", On)),
    ("hls.hls_use_fmp4", Own),
    ("hls.hls_vcodec", Own),
    ("hls.hls_wait_keyframe", Key("hls.wait_keyframe", NotOff)),
    ("hls.hls_window", Key("hls.window", Seconds)),
    ("http_hooks", Lacks(HOOKS)),
    ("http_remux", Block),
    ("http_remux.drop_if_not_match", Moot(DETECTED)),
    ("http_remux.enabled", Key("http_live.enabled", On)),
    ("http_remux.fast_cache", Moot("players of sound alone begin with what is newest")),
    ("http_remux.guess_has_av", Moot(DETECTED)),
    ("http_remux.has_audio", Unlike("on", DETECTED)),
    ("http_remux.has_video", Unlike("on", DETECTED)),
    ("http_remux.hstrs", Moot(LEGACY)),
    ("http_remux.mount", Own),
    ("http_static", Own),
    ("in_ack_size", Whole("rtmp.in_ack_size", Number)),
    ("ingest", Lacks(RELAY)),
    ("min_latency", Own),
    ("out_ack_size", Whole("rtmp.out_ack_size", Number)),
    ("play", Block),
    ("play.atc", Unlike("off", "players get times that begin at 0")),
    ("play.atc_auto", Unlike("off", "players get times that begin at 0")),
    ("play.gop_cache", Unlike("on", "players always begin with the newest key frame there is")),
    ("play.gop_cache_max_frames", Moot("ring_bytes bounds what is kept")),
    ("play.mix_correct", Unlike("off", "frames are given out as they come")),
    ("play.mw_latency", Whole("delivery.merge_window", Millis)),
    ("play.mw_msgs", Moot("delivery.merge_window alone says how much one write carries")),
    ("play.queue_length", Key("ring_time", Seconds)),
    ("play.reduce_sequence_header", Moot("headers are sent when they change")),
    ("play.send_min_interval", Unlike("0", "messages are not paced one by one")),
    ("play.time_jitter", Unlike("full", "players get times that begin at 0 and never stand still")),
    ("publish", Block),
    ("publish.firstpkt_timeout", Whole("rtmp.first_packet_timeout", Millis)),
    ("publish.kickoff_for_idle", Lacks("publishers without players stay")),
    ("publish.mr", Moot(READS)),
    ("publish.mr_latency", Moot(READS)),
    ("publish.normal_timeout", Whole("rtmp.publish_timeout", Millis)),
    ("publish.parse_sps", Moot(DETECTED)),
    ("publish.try_annexb_first", Moot(DETECTED)),
    ("refer", Block),
    ("refer.all", Key("access.refer_all", List)),
    ("refer.enabled", Key("access.check_refer", On)),
    ("refer.play", Key("access.refer_play", List)),
    ("refer.publish", Key("access.refer_publish", List)),
    ("rtc", Lacks(RTC)),
    ("rtsp", Lacks("this version has no RTSP")),
    ("security", Block),
    ("security.allow", Own),
    ("security.deny", Own),
    ("security.enabled", Key("access.check_ip", On)),
    ("srt", Lacks(SRT)),
    ("tcp_nodelay", Moot("nothing waits in the system to be sent together")),
    ("transcode", Lacks(RELAY)),
];

/// Blocks outside of vhosts that older releases called something else: from and to.
pub(super) const MOVED_TOP: &[(&str, &str)] = &[("http_stream", "http_server")];

/// Directives of a vhost that older releases of SRS had elsewhere: from and to.
pub(super) const MOVED: &[(&str, &str)] = &[
    ("atc", "play.atc"),
    ("atc_auto", "play.atc_auto"),
    ("debug_srs_upnode", "cluster.debug_srs_upnode"),
    ("gop_cache", "play.gop_cache"),
    ("gop_cache_max_frames", "play.gop_cache_max_frames"),
    ("http", "http_static"),
    ("mix_correct", "play.mix_correct"),
    ("mode", "cluster.mode"),
    ("mr", "publish.mr"),
    ("mw_latency", "play.mw_latency"),
    ("nack", "rtc"),
    ("origin", "cluster.origin"),
    ("publish_1stpkt_timeout", "publish.firstpkt_timeout"),
    ("publish_normal_timeout", "publish.normal_timeout"),
    ("queue_length", "play.queue_length"),
    ("reduce_sequence_header", "play.reduce_sequence_header"),
    ("refer", "refer.all"),
    ("refer_play", "refer.play"),
    ("refer_publish", "refer.publish"),
    ("send_min_interval", "play.send_min_interval"),
    ("time_jitter", "play.time_jitter"),
    ("token_traverse", "cluster.token_traverse"),
    ("twcc", "rtc"),
    ("vhost", "cluster.vhost"),
];
