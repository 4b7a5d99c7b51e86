//! Streams to and from other SRT servers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::endpoint::{Connection, Endpoint, EndpointOptions};
use super::payloads::Payloads;
use super::publish::Sink;
use super::url::SrtUrl;
use super::{Payload, SendError};
use crate::hub::{Connector, Frames, Item, Opening, Package, Parts, Progress, Relaying, StreamInfo};
use crate::media::{Frame, Meta, Track};

/// How many addresses of a server are called.
const MOST_ADDRESSES: usize = 4;
/// Payloads that are taken at once.
const BATCH: usize = 64;

/// Calls `srt://` servers.
#[derive(Debug, Default)]
pub struct SrtConnector;

impl Connector for SrtConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["srt"]
    }

    fn check(&self, url: &str) -> Result<(), String> {
        SrtUrl::parse(url).map(drop).map_err(|error| error.to_string())
    }

    fn push(&self, url: &str, frames: Frames, progress: Arc<Progress>) -> Relaying {
        let url = SrtUrl::parse(url);
        Box::pin(async move {
            let url = url.map_err(|error| error.to_string())?;
            let (_endpoint, mut connection) = call(&url).await?;
            progress.set_connected();
            let mut sender = Sender::new(&url);
            let ended = sender.run(&mut connection, frames, &progress).await;
            connection.close();
            ended
        })
    }

    fn pull(&self, url: &str, opening: Opening, progress: Arc<Progress>) -> Relaying {
        let url = SrtUrl::parse(url);
        Box::pin(async move {
            let url = url.map_err(|error| error.to_string())?;
            let (_endpoint, mut connection) = call(&url).await?;
            let mut payloads: Vec<Payload> = Vec::with_capacity(BATCH);
            // Nobody's place is taken before there is something.
            if connection.receive_many(&mut payloads, BATCH).await == 0 {
                return Err(ended(&connection).to_owned());
            }
            let id = opening.id();
            let publisher =
                opening.open(connection.peer(), Instant::now()).map_err(|error| error.to_string())?;
            progress.set_connected();
            let mut sink = Sink::new(publisher, id, true, false);
            let result = loop {
                let batch: Vec<_> =
                    payloads.drain(..).map(|payload| payload.data).filter(|data| !data.is_empty()).collect();
                progress.add(batch.iter().map(bytes::Bytes::len).sum());
                if !batch.is_empty()
                    && let Err(why) = sink.push(batch, Instant::now())
                {
                    break Err(why.to_string());
                }
                tokio::select! {
                    count = connection.receive_many(&mut payloads, BATCH) => if count == 0 {
                        break Err(ended(&connection).to_owned());
                    },
                    why = sink.ended() => break Err(why.to_string()),
                }
            };
            sink.finish(Instant::now());
            connection.close();
            result
        })
    }
}

fn ended(connection: &Connection) -> &'static str {
    connection.ended().map_or("closed", |end| end.text())
}

/// Calls the addresses of a server until one answers. The socket is the connection's own.
async fn call(url: &SrtUrl) -> Result<(Endpoint, Connection), String> {
    let addresses = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let mut last = "its name has no address".to_owned();
    for address in addresses.map_err(|error| error.to_string())?.take(MOST_ADDRESSES) {
        let any = if address.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let options = EndpointOptions { max_sessions: 1, ..EndpointOptions::default() };
        let (endpoint, _) = Endpoint::bind(any, options).map_err(|error| error.to_string())?;
        match endpoint.call(address, url.options.clone()).await {
            Ok(connection) => return Ok((endpoint, connection)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Frames to payloads.
struct Sender {
    package: Payloads,
    tracks: Arc<[Track]>,
    meta: Arc<Meta>,
}

impl Sender {
    fn new(url: &SrtUrl) -> Self {
        let package = Payloads::new(url.payload_size, url.options.mss, false);
        Self { package, tracks: Arc::new([]), meta: Arc::default() }
    }

    async fn run(
        &mut self,
        connection: &mut Connection,
        mut frames: Frames,
        progress: &Progress,
    ) -> Result<(), String> {
        loop {
            let item = tokio::select! {
                item = frames.next() => item,
                end = connection.wait_end() => return Err(end.text().to_owned()),
            };
            let mut out = Parts::default();
            match item {
                None => {
                    self.package.end(&StreamInfo { tracks: &self.tracks, meta: &self.meta }, &mut out);
                    let _ = connection.send_many(&out.into_parts(), Instant::now());
                    return Ok(());
                }
                Some(Item::Tracks { tracks, meta, at_ms, .. }) => {
                    (self.tracks, self.meta) = (tracks, meta);
                    self.package.config(
                        &StreamInfo { tracks: &self.tracks, meta: &self.meta },
                        at_ms,
                        &mut out,
                    );
                }
                Some(Item::Frame(frame)) => self.frame(&frame, &mut out),
                Some(Item::Lagged(lost)) => {
                    log::warn!("forward by SRT: this machine is too slow, {lost} frames were left out");
                }
                Some(Item::Left) => {}
            }
            if out.is_empty() {
                continue;
            }
            progress.add(out.len());
            if let Err(SendError::Ended) = connection.send_many(&out.into_parts(), Instant::now()) {
                return Err(ended(connection).to_owned());
            }
        }
    }

    fn frame(&mut self, frame: &Frame, out: &mut Parts) {
        let info = StreamInfo { tracks: &self.tracks, meta: &self.meta };
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { return };
        self.package.frame(&info, track, frame, out);
    }
}
