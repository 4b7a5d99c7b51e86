use std::time::Duration;

use super::*;
use crate::format::amf;
use crate::hub::Flow;
use crate::rtmp::chunk::{ChunkHeader, ChunkReader, put_message};
use crate::rtmp::client_session::{ClientEvent, ClientSession, Goal, Target};
use crate::rtmp::handshake::ClientHandshake;

/// A server session as its owner drives it, and the peer's ends of the wire.
struct Server {
    session: Session,
    input: BytesMut,
    now: Instant,
}

impl Server {
    fn new() -> Self {
        let now = Instant::now();
        Self { session: Session::new(&config::Rtmp::default(), 1, now), input: BytesMut::new(), now }
    }

    /// Gives bytes; returns the events up to the first that wants an answer.
    fn give(&mut self, bytes: &[u8]) -> Result<Vec<Event>, RtmpError> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.session.input(&mut self.input, self.now)? {
            events.push(event);
        }
        Ok(events)
    }
}

/// A peer by hand: the messages that an encoder sends, one by one.
struct Peer {
    server: Server,
    reader: ChunkReader,
    wire: BytesMut,
}

impl Peer {
    /// Handshaken and connected.
    fn connected(extra: Vec<(&'static str, Value)>) -> Self {
        let mut server = Server::new();
        let mut out = Vec::new();
        let mut handshake = ClientHandshake::new(2, true, &mut out);
        server.give(&out).unwrap();
        let mut answer = BytesMut::from(&server.session.take_output()[..]);
        out.clear();
        handshake.input(&mut answer, &mut out).unwrap().unwrap();
        server.give(&out).unwrap();
        let mut peer = Self { server, reader: ChunkReader::new(1 << 20), wire: BytesMut::new() };
        let mut object = vec![("app", "live".into()), ("tcUrl", "rtmp://h/live".into())];
        object.extend(extra);
        let events = peer.call(0, "connect", 1.0, &[Value::object(object)]);
        assert!(matches!(&events[..], [Event::Connected(c)] if c.app == "live"));
        peer
    }

    fn call(&mut self, stream: u32, name: &str, txn: f64, args: &[Value]) -> Vec<Event> {
        let mut out = Vec::new();
        put_call(&mut out, stream, name, txn, args, 128);
        self.server.give(&out).unwrap()
    }

    fn send(&mut self, kind: u8, time: i64, body: &[u8]) -> Vec<Event> {
        let mut out = Vec::new();
        put_message(&mut out, ChunkHeader { csid: 7, kind, stream: 1, time, len: 0 }, body, 128);
        self.server.give(&out).unwrap()
    }

    /// What the server said, in short: command names with the code or number that they carry.
    fn heard(&mut self) -> Vec<String> {
        self.wire.extend_from_slice(&self.server.session.take_output());
        self.read()
    }

    fn read(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(m) = self.reader.read(&mut self.wire).unwrap() {
            said.push(match m.kind {
                kind::COMMAND_AMF0 | kind::DATA_AMF0 => {
                    let values = amf::decode_all(&m.body).unwrap();
                    let code = values.iter().find_map(|v| v.find("code")).and_then(Value::as_str);
                    let name = values[0].as_str().unwrap();
                    match (code, values.last()) {
                        (Some(code), _) => format!("{name} {code}"),
                        (None, Some(Value::Number(n))) => format!("{name} {n}"),
                        _ => name.to_owned(),
                    }
                }
                kind::USER_CONTROL => format!("{:?}", UserControl::parse(&m.body).unwrap()),
                kind => format!("#{kind}"),
            });
        }
        said
    }
}

const NULL: Value = Value::Null;

#[test]
fn ffmpeg_and_obs_publish() {
    let mut peer = Peer::connected(vec![]);
    assert_eq!(peer.heard(), ["#5", "#6", "_result NetConnection.Connect.Success"]);
    assert_eq!(peer.reader.chunk_size(), 60_000);
    peer.call(0, "releaseStream", 2.0, &[NULL, "demo".into()]);
    peer.call(0, "FCPublish", 3.0, &[NULL, "demo".into()]);
    peer.call(0, "createStream", 4.0, &[NULL]);
    assert_eq!(peer.heard(), ["_result", "_result", "_result 1"]);
    let events = peer.call(1, "publish", 5.0, &[NULL, "demo?token=x".into(), "live".into()]);
    let [Event::Publish { url, kind: PublishKind::Fmle }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&*url.vhost, &*url.app, &*url.stream, &*url.params), ("h", "live", "demo", "token=x"));
    // Media that is sent without waiting stays in the buffer until the answer.
    assert_eq!(peer.send(kind::VIDEO, 0, &[0x17, 0]), []);
    peer.server.session.accept_publish();
    assert_eq!(
        peer.heard(),
        ["StreamBegin(1)", "onFCPublish NetStream.Publish.Start", "onStatus NetStream.Publish.Start"]
    );
    assert_eq!(peer.server.give(&[]).unwrap().len(), 1);
    let events = peer.send(kind::AUDIO, 23, &[0xAF, 1, 2]);
    assert_eq!(events, [Event::Tag(Tag { kind: 8, time: 23, body: Bytes::from_static(&[0xAF, 1, 2]) })]);
    let mut meta = Vec::new();
    put_values(&mut meta, kind::DATA_AMF0, 1, &["@setDataFrame".into(), "onMetaData".into(), NULL], 128);
    let events = peer.server.give(&meta).unwrap();
    let [Event::Tag(Tag { kind: 18, body, .. })] = &events[..] else { panic!("{events:?}") };
    assert_eq!(amf::decode_all(body).unwrap(), ["onMetaData".into(), NULL]);
    meta.clear();
    put_values(&mut meta, kind::DATA_AMF0, 1, &["@clearDataFrame".into(), "onMetaData".into()], 128);
    assert_eq!(peer.server.give(&meta).unwrap(), []);

    let events = peer.call(0, "FCUnpublish", 6.0, &[NULL, "demo".into()]);
    assert_eq!(events, [Event::Closed("the publisher sent FCUnpublish")]);
    assert_eq!(peer.call(0, "deleteStream", 7.0, &[NULL, 1.0.into()]), []);
    assert_eq!(peer.send(kind::AUDIO, 40, &[0xAF, 1, 2]), []);
    // And again on the same connection.
    peer.call(0, "createStream", 8.0, &[NULL]);
    let events = peer.call(1, "publish", 9.0, &[NULL, "again".into()]);
    assert!(matches!(&events[..], [Event::Publish { kind: PublishKind::Flash, .. }]), "{events:?}");
}

#[test]
fn flash_and_haivision_publish() {
    let mut peer = Peer::connected(vec![("objectEncoding", 3.0.into())]);
    peer.call(0, "createStream", 2.0, &[NULL]);
    peer.heard();
    // Flash 3 calls in AMF3: a format byte of 0, then AMF0.
    let mut body = BytesMut::from(&[0][..]);
    ["publish".into(), 3.0.into(), NULL, "demo".into()].iter().for_each(|v: &Value| v.encode(&mut body));
    let events = peer.send(kind::COMMAND_AMF3, 0, &body);
    assert!(matches!(&events[..], [Event::Publish { kind: PublishKind::Flash, .. }]), "{events:?}");
    peer.server.session.accept_publish();
    assert_eq!(peer.heard(), ["StreamBegin(1)", "onStatus NetStream.Publish.Start"]);
    assert_eq!(peer.call(1, "publish", 0.0, &[NULL, false.into()]).len(), 1);

    let mut peer = Peer::connected(vec![]);
    peer.call(0, "createStream", 2.0, &[NULL]);
    peer.call(0, "FCPublish", 3.0, &[NULL, "demo".into()]);
    let events = peer.call(1, "publish", 4.0, &[NULL, "".into()]);
    let [Event::Publish { url, kind: PublishKind::Haivision }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(url.stream, "demo");
}

#[test]
fn a_refused_publisher_hears_why_and_may_try_another_name() {
    let mut peer = Peer::connected(vec![]);
    peer.heard();
    peer.call(1, "publish", 4.0, &[NULL, "taken".into()]);
    peer.server.session.reject(Reject::BadName, "taken is being published");
    assert_eq!(peer.heard(), ["onStatus NetStream.Publish.BadName"]);
    assert_eq!(peer.call(1, "publish", 5.0, &[NULL, "free".into()]).len(), 1);
}

#[test]
fn players_play() {
    let list = Value::StrictArray(vec!["hvc1".into()]);
    let mut peer = Peer::connected(vec![("fourCcList", list)]);
    peer.call(0, "createStream", 2.0, &[NULL]);
    peer.call(0, "getStreamLength", 3.0, &[NULL, "demo".into()]);
    peer.call(0, "_checkbw", 4.0, &[NULL]);
    peer.call(0, "whatever", 5.0, &[NULL]);
    peer.call(0, "whatever", 0.0, &[NULL]);
    let heard = peer.heard();
    assert_eq!(
        heard[3..],
        ["_result 1", "_result 0", "_result", "_error NetConnection.Call.Failed"],
        "{heard:?}"
    );
    let events = peer.call(1, "play", 6.0, &[NULL, "demo?k=v".into(), (-2000.0).into()]);
    let [Event::Play { url, codecs }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&*url.stream, &*url.params), ("demo", "k=v"));
    assert!(codecs.has(crate::media::Codec::H265) && !codecs.has(crate::media::Codec::Av1));
    let (mut player, out) = peer.server.session.accept_play();
    peer.wire.extend_from_slice(&out);
    peer.server.session = Session::new(&config::Rtmp::default(), 0, Instant::now());
    assert_eq!(
        peer.read(),
        [
            "StreamBegin(1)",
            "onStatus NetStream.Play.Reset",
            "onStatus NetStream.Play.Start",
            "|RtmpSampleAccess",
            "onStatus NetStream.Data.Start"
        ]
    );

    // What it may say while it plays, byte by byte.
    let mut say = |wire: &[u8]| {
        let (mut flow, mut reply) = (Flow::Go, Vec::new());
        for byte in wire {
            match player.input(&[*byte], &mut reply).unwrap() {
                Flow::Go => {}
                changed => flow = changed,
            }
        }
        (flow, reply)
    };
    let mut wire = Vec::new();
    UserControl::SetBufferLength(1, 3000).put(&mut wire);
    put_value(&mut wire, kind::ACKNOWLEDGEMENT, 1000);
    assert_eq!(say(&wire), (Flow::Go, vec![]));
    wire.clear();
    put_call(&mut wire, 1, "pause", 0.0, &[NULL, true.into(), 0.0.into()], 128);
    let (flow, reply) = say(&wire);
    assert_eq!(flow, Flow::Pause);
    peer.wire.extend_from_slice(&reply);
    wire.clear();
    put_call(&mut wire, 1, "pause", 0.0, &[NULL, false.into(), 0.0.into()], 128);
    put_call(&mut wire, 1, "seek", 0.0, &[NULL, 5.0.into()], 128);
    let (flow, reply) = say(&wire);
    assert_eq!(flow, Flow::Resume);
    peer.wire.extend_from_slice(&reply);
    assert_eq!(
        peer.read(),
        [
            "onStatus NetStream.Pause.Notify",
            "StreamEof(1)",
            "onStatus NetStream.Unpause.Notify",
            "StreamBegin(1)",
            "onStatus NetStream.Seek.Notify"
        ]
    );
    wire.clear();
    put_call(&mut wire, 0, "deleteStream", 0.0, &[NULL, 1.0.into()], 128);
    assert_eq!(say(&wire).0, Flow::End("the player closed the stream"));
    assert!(size_of::<crate::rtmp::play::Player>() < 1024);
}

#[test]
fn each_state_has_its_time() {
    let mut server = Server::new();
    let start = server.now;
    assert_eq!(server.session.deadline(), Some(start + Duration::from_secs(10)));
    assert!(server.session.timeout(start + Duration::from_secs(9)).is_ok());
    let error = server.session.timeout(start + Duration::from_secs(10)).unwrap_err();
    assert_eq!(error.to_string(), "the RTMP peer did not finish the handshake within 10 s");
    // A truncated handshake does not buy time.
    server.now += Duration::from_secs(5);
    server.give(&[3; 1000]).unwrap();
    assert_eq!(server.session.deadline(), Some(start + Duration::from_secs(10)));

    let mut peer = Peer::connected(vec![]);
    let start = peer.server.now;
    peer.server.now += Duration::from_secs(5);
    peer.call(1, "publish", 1.0, &[NULL, "demo".into()]);
    assert_eq!(peer.server.session.deadline(), None);
    peer.server.session.accept_publish();
    assert_eq!(peer.server.session.deadline(), Some(start + Duration::from_secs(20)));
    peer.send(kind::VIDEO, 0, &[0x17, 0]);
    assert_eq!(peer.server.session.deadline(), Some(start + Duration::from_secs(5 + 15)));
    peer.server.now += Duration::from_secs(12);
    // Part of a chunk is a sign of life.
    peer.server.give(&[7, 0, 0]).unwrap();
    assert_eq!(peer.server.session.deadline(), Some(start + Duration::from_secs(5 + 12 + 15)));
}

#[test]
fn only_publishers_may_send_large_messages() {
    let mut peer = Peer::connected(vec![]);
    let big = [7, 0, 0, 0, 0x02, 0, 0, 9, 1, 0, 0, 0];
    assert!(matches!(peer.server.give(&big), Err(RtmpError::TooLong { .. })));
    let mut peer = Peer::connected(vec![]);
    peer.call(1, "publish", 1.0, &[NULL, "demo".into()]);
    peer.server.session.accept_publish();
    assert_eq!(peer.server.give(&big).unwrap(), []);
}

#[test]
fn commands_before_connect_end_the_session() {
    let mut server = Server::new();
    let mut out = Vec::new();
    let mut handshake = ClientHandshake::new(2, false, &mut out);
    server.give(&out).unwrap();
    let mut answer = BytesMut::from(&server.session.take_output()[..]);
    out.clear();
    handshake.input(&mut answer, &mut out).unwrap().unwrap();
    put_call(&mut out, 0, "createStream", 1.0, &[NULL], 128);
    assert!(matches!(server.give(&out), Err(RtmpError::Command(_))));
}

/// Our client against our server over a wire that cuts at `step` bytes.
fn converse(goal: Goal, digest: bool, step: usize) -> (ClientSession, Server, Event) {
    let target = Target { digest, ..Target::parse("rtmp://h:1/a/b/demo?k=v").unwrap() };
    let mut server = Server::new();
    let mut client = ClientSession::new(target, goal, 4, server.now);
    let mut to_client = BytesMut::new();
    let mut asked = None;
    for _ in 0..20 {
        for part in client.take_output().chunks(step) {
            for event in server.give(part).unwrap() {
                if matches!(event, Event::Publish { .. } | Event::Play { .. }) {
                    asked = Some(event);
                }
            }
        }
        if let Some(asked) = asked {
            return (client, server, asked);
        }
        for part in server.session.take_output().chunks(step) {
            to_client.extend_from_slice(part);
            assert_eq!(client.input(&mut to_client).unwrap(), None);
        }
    }
    panic!("they don't come together");
}

#[test]
fn our_client_publishes_to_our_server() {
    for (digest, step) in [(true, 1), (false, 1), (true, 1400), (false, 1 << 20)] {
        let (mut client, mut server, event) = converse(Goal::Publish, digest, step);
        let Event::Publish { url, kind } = event else { panic!("{event:?}") };
        assert_eq!((kind, &*url.app, &*url.stream, &*url.params), (PublishKind::Fmle, "a/b", "demo", "k=v"));
        assert!(client.deadline().is_some());
        server.session.accept_publish();
        let mut input = BytesMut::from(&server.session.take_output()[..]);
        assert_eq!(client.input(&mut input).unwrap(), Some(ClientEvent::Ready));
        assert!(client.deadline().is_none());

        let tags: Vec<_> = (0..50u8)
            .map(|n| Tag {
                kind: if n % 3 == 0 { kind::VIDEO } else { kind::AUDIO },
                time: (1 << 32) - 500 + i64::from(n) * 20,
                body: vec![n; 1 + usize::from(n) * 3000].into(),
            })
            .collect();
        tags.iter().for_each(|tag| client.send(tag));
        let mut got = Vec::new();
        for part in client.take_output().chunks(step.max(100)) {
            got.extend(server.give(part).unwrap());
        }
        assert!(got.iter().zip(&tags).all(|(event, tag)| *event == Event::Tag(tag.clone())));
        assert_eq!(got.len(), tags.len());
        client.finish();
        let end = server.give(&client.take_output()).unwrap();
        assert_eq!(end, [Event::Closed("the publisher sent FCUnpublish")]);
    }
}

#[test]
fn our_client_plays_and_is_refused() {
    let (mut client, server, event) = converse(Goal::Play, true, 700);
    assert!(matches!(event, Event::Play { codecs: CodecSet::ALL, .. }));
    let (_, out) = server.session.accept_play();
    let mut wire = out;
    let header = ChunkHeader { csid: 6, kind: kind::VIDEO, stream: 1, time: 40, len: 0 };
    put_message(&mut wire, header, &[0x17, 1, 2], 60_000);
    UserControl::StreamEof(1).put(&mut wire);
    let (mut input, mut events) = (BytesMut::from(&wire[..]), Vec::new());
    while let Some(event) = client.input(&mut input).unwrap() {
        events.push(event);
    }
    let tags: Vec<_> = events.iter().filter(|e| matches!(e, ClientEvent::Tag(t) if t.kind == 9)).collect();
    assert_eq!((events.first(), tags.len()), (Some(&ClientEvent::Ready), 1));
    assert_eq!(events.last(), Some(&ClientEvent::Ended));

    let (mut client, mut server, _) = converse(Goal::Play, false, 700);
    server.session.reject(Reject::NotFound, "nobody publishes it");
    let mut input = BytesMut::from(&server.session.take_output()[..]);
    let error = client.input(&mut input).unwrap_err().to_string();
    assert!(error.contains("NetStream.Play.StreamNotFound nobody publishes it"), "{error}");
}

/// All bytes that a publisher sends, with where the handshake ends.
fn a_publishers_bytes() -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let mut handshake = ClientHandshake::new(2, true, &mut out);
    let mut server = Server::new();
    server.give(&out).unwrap();
    let mut answer = BytesMut::from(&server.session.take_output()[..]);
    handshake.input(&mut answer, &mut out).unwrap().unwrap();
    let end = out.len();
    let object = Value::object([("app", "live".into()), ("tcUrl", "rtmp://h/live".into())]);
    put_call(&mut out, 0, "connect", 1.0, &[object], 128);
    put_call(&mut out, 0, "FCPublish", 2.0, &[NULL, "demo".into()], 128);
    put_call(&mut out, 0, "createStream", 3.0, &[NULL], 128);
    put_call(&mut out, 1, "publish", 4.0, &[NULL, "demo".into(), "live".into()], 128);
    for time in [0, 40, 0x100_0000] {
        let header = ChunkHeader { csid: 6, kind: kind::VIDEO, stream: 1, time, len: 0 };
        put_message(&mut out, header, &[0x17; 300], 128);
    }
    put_call(&mut out, 0, "deleteStream", 5.0, &[NULL, 1.0.into()], 128);
    (out, end)
}

fn drive(bytes: &[u8]) -> Result<usize, RtmpError> {
    let mut server = Server::new();
    server.input.extend_from_slice(bytes);
    let mut events = 0;
    while let Some(event) = server.session.input(&mut server.input, server.now)? {
        events += 1;
        match event {
            Event::Publish { .. } => server.session.accept_publish(),
            Event::Play { .. } => server.session.reject(Reject::Failed, ""),
            _ => {}
        }
    }
    Ok(events)
}

#[test]
fn hostile_bytes_never_panic() {
    let (bytes, handshake) = a_publishers_bytes();
    assert_eq!(drive(&bytes).unwrap(), 6);
    for end in 0..bytes.len() {
        assert!(drive(&bytes[..end]).is_ok());
    }
    let mut mutated = bytes.clone();
    for at in handshake..bytes.len() {
        for flip in [1, 0x80, 0xFF] {
            mutated[at] ^= flip;
            let _ = drive(&mutated);
            mutated[at] = bytes[at];
        }
    }
}
