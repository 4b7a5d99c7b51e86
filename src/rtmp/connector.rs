//! Streams to and from other RTMP servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use super::RtmpError;
use super::client::Client;
use super::client_session::{ClientEvent, Goal, Target};
use super::server::Publishing;
use super::session::Tag;
use crate::format::amf;
use crate::format::flv::{self, TagKind};
use crate::hub::{ClientKind, Connector, Frames, Item, Opening, Progress, Relaying};
use crate::media::{Kind, Meta, Track};
use crate::net::dial;

/// What a server says before the first picture or sound, in messages: more is passed over.
const WORDS: usize = 8;
/// How long a server may take nothing of what it gets.
const STUCK: Duration = Duration::from_secs(30);

/// Calls `rtmp://` servers.
#[derive(Debug, Default)]
pub struct RtmpConnector;

impl Connector for RtmpConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["rtmp"]
    }

    fn check(&self, url: &str) -> Result<(), String> {
        target(url).map(drop)
    }

    fn push(&self, url: &str, frames: Frames, progress: Arc<Progress>) -> Relaying {
        let target = target(url);
        Box::pin(async move {
            let mut client = connect(target?, Goal::Publish).await?;
            progress.set_connected();
            let ended = push(&mut client, frames, &progress).await;
            // The server learns that this is the end, also when it is ours.
            let finished = tokio::time::timeout(STUCK, client.finish()).await;
            ended?;
            finished.map_err(|_| "it took nothing any more".to_owned())?.map_err(|error| error.to_string())
        })
    }

    fn pull(&self, url: &str, opening: Opening, progress: Arc<Progress>) -> Relaying {
        let target = target(url);
        Box::pin(async move {
            let mut client = connect(target?, Goal::Play).await?;
            let (id, name) = (opening.id(), opening.name().clone());
            // A server may agree to what nobody publishes there, and say so much before there is any of it.
            let mut words = heapless::Vec::<Tag, WORDS>::new();
            let first = loop {
                match next(&mut client).await? {
                    None | Some(ClientEvent::Ended) => return Err("it closed the connection".to_owned()),
                    Some(ClientEvent::Tag(tag)) if tag.kind != TagKind::Script.to_u8() => {
                        break ClientEvent::Tag(tag);
                    }
                    Some(ClientEvent::Tag(tag)) => drop(words.push(tag)),
                    Some(ClientEvent::Ready) => {}
                }
            };
            let publisher = opening
                .open(client.peer().map_err(|error| error.to_string())?, Instant::now())
                .map_err(|error| error.to_string())?;
            progress.set_connected();
            let mut publishing = Publishing::new(name, publisher, ClientKind::Pull, Instant::now());
            for tag in words {
                let _ = publishing.push(id, tag, Instant::now());
            }
            let mut event = Some(first);
            let result = loop {
                match event {
                    Some(ClientEvent::Tag(tag)) => {
                        progress.add(tag.body.len());
                        if let Err(why) = publishing.push(id, tag, Instant::now()) {
                            break Err(why.to_string());
                        }
                    }
                    Some(ClientEvent::Ready) => {}
                    Some(ClientEvent::Ended) | None => break Ok(()),
                }
                event = tokio::select! {
                    event = next(&mut client) => match event {
                        Ok(event) => event,
                        Err(why) => break Err(why),
                    },
                    why = publishing.ended() => break Err(why.to_string()),
                };
            };
            let why = result.as_ref().err().map_or("the other server ended it", String::as_str);
            publishing.end(id, Instant::now(), why);
            result
        })
    }
}

/// The errors of a target name it, with the stream's key.
fn target(url: &str) -> Result<Target, String> {
    Target::parse(url).map_err(|error| match error {
        RtmpError::Url { why, .. } => format!("the URL {why}"),
        error => error.to_string(),
    })
}

async fn connect(target: Target, goal: Goal) -> Result<Client<TcpStream>, String> {
    let socket = dial(&target.host, target.port).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    Client::over(socket, target, goal).await.map_err(|error| error.to_string())
}

async fn next(client: &mut Client<TcpStream>) -> Result<Option<ClientEvent>, String> {
    client.next().await.map_err(|error| error.to_string())
}

/// Sends frames until the stream ends.
async fn push(client: &mut Client<TcpStream>, mut frames: Frames, progress: &Progress) -> Result<(), String> {
    let mut chosen: Vec<Track> = Vec::new();
    let mut begin_ms = None;
    loop {
        let item = tokio::select! {
            item = frames.next() => item,
            event = next(client) => match event? {
                Some(_) => continue,
                None => return Err("it closed the connection".to_owned()),
            },
        };
        match item {
            None => return Ok(()),
            Some(Item::Tracks { tracks, meta, at_ms, .. }) => {
                let before = std::mem::take(&mut chosen);
                let kinds = [Kind::Video, Kind::Audio];
                chosen =
                    kinds.iter().filter_map(|kind| flv::default_track(&tracks, *kind).cloned()).collect();
                let time = at_ms - *begin_ms.get_or_insert(at_ms);
                let words = flv::metadata_body(&meta, &chosen, &Meta::default());
                // A publisher's metadata come with a call around them.
                let words = amf::decode_all(&words).ok().and_then(|values| values.into_iter().nth(1));
                if let Some(value) = words {
                    sent(client.send_meta(value)).await?;
                }
                for track in chosen.iter().filter(|track| !before.contains(track)) {
                    if let (Some(kind), Some(body)) = (TagKind::of(track.codec), flv::config_body(track)) {
                        sent(client.send(&Tag { kind: kind.to_u8(), time: time.max(0), body })).await?;
                    }
                }
            }
            Some(Item::Frame(frame)) => {
                let Some(track) = chosen.iter().find(|track| track.id == frame.track) else { continue };
                let (Some(kind), Some(prefix)) = (TagKind::of(track.codec), flv::frame_prefix(track, &frame))
                else {
                    continue;
                };
                let at = track.ticks_to_ms(frame.dts);
                let time = (at - *begin_ms.get_or_insert(at)).max(0);
                let mut body = BytesMut::with_capacity(prefix.len() + frame.data.len());
                body.extend_from_slice(&prefix);
                body.extend_from_slice(&frame.data);
                progress.add(frame.data.len());
                sent(client.send(&Tag { kind: kind.to_u8(), time, body: Bytes::from(body) })).await?;
            }
            Some(Item::Lagged(lost)) => {
                log::warn!("forward by RTMP: the server is too slow, {lost} frames were left out");
            }
            Some(Item::Left) => {}
        }
    }
}

async fn sent(sending: impl Future<Output = Result<(), RtmpError>>) -> Result<(), String> {
    match tokio::time::timeout(STUCK, sending).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took nothing for {STUCK:?}")),
    }
}
