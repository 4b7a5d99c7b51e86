use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::service::LiveBody;
use super::websocket;

const LEFT: &str = "the client closed the connection";

/// How many pieces one write takes.
const PIECES: usize = 32;

/// Writes `head` and a live body on a connection that no delivery worker can have (TLS); why it ended.
pub(super) async fn pump<S>(mut io: S, head: Bytes, mut body: Box<dyn LiveBody>, is_websocket: bool) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = is_websocket.then(websocket::Input::default);
    let why = match run(&mut io, head, body.as_mut(), input.as_mut()).await {
        Ok(why) => why.to_owned(),
        Err(error) => end_of(&error),
    };
    let _ = io.shutdown().await;
    body.finish(&why);
    why
}

/// What an I/O error says of a connection's end, in the words of the delivery workers.
pub(super) fn end_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LEFT.to_owned(),
        _ => error.to_string(),
    }
}

async fn run<S>(
    io: &mut S,
    head: Bytes,
    body: &mut dyn LiveBody,
    mut input: Option<&mut websocket::Input>,
) -> io::Result<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut inbox, mut reply) = ([0; 512], Vec::new());
    write_pieces(io, vec![head]).await?;
    loop {
        tokio::select! {
            got = io.read(&mut inbox) => {
                let bytes = inbox.get(..got?).unwrap_or_default();
                if bytes.is_empty() {
                    return Ok(LEFT);
                }
                // Without WebSocket there is nothing more that a client could tell us.
                let Some(input) = input.as_mut() else { continue };
                let open = input.input(bytes, &mut reply);
                io.write_all(&reply).await?;
                io.flush().await?;
                reply.clear();
                if let Err(why) = open {
                    return Ok(why);
                }
            }
            pieces = body.next() => match pieces {
                Some(pieces) => write_pieces(io, pieces).await?,
                None => return Ok("the stream ended"),
            },
        }
    }
}

/// Passes a live body on to hyper, until the stream or the client ends.
pub(super) async fn pump_into(sender: mpsc::Sender<Bytes>, mut body: Box<dyn LiveBody>) {
    let why = 'ended: loop {
        let pieces = tokio::select! {
            pieces = body.next() => pieces,
            () = sender.closed() => break LEFT,
        };
        let Some(pieces) = pieces else { break "the stream ended" };
        for piece in pieces {
            if sender.send(piece).await.is_err() {
                break 'ended LEFT;
            }
        }
    };
    body.finish(why);
}

async fn write_pieces(io: &mut (impl AsyncWrite + Unpin), mut pieces: Vec<Bytes>) -> io::Result<()> {
    let mut from = 0;
    loop {
        while pieces.get(from).is_some_and(Bytes::is_empty) {
            from += 1;
        }
        let Some(rest) = pieces.get_mut(from..).filter(|rest| !rest.is_empty()) else { break };
        let mut slices = [IoSlice::new(&[]); PIECES];
        for (slice, piece) in slices.iter_mut().zip(&*rest) {
            *slice = IoSlice::new(piece);
        }
        let used = slices.get(..rest.len().min(PIECES)).unwrap_or_default();
        let mut written = io.write_vectored(used).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for piece in rest {
            let part = written.min(piece.len());
            piece.advance(part);
            written -= part;
        }
    }
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_written_whole_and_in_order() {
        let pieces: Vec<Bytes> = (0..100u8).map(|n| Bytes::from(vec![n; usize::from(n) % 7 * 100])).collect();
        let expected = pieces.concat();
        let (mut ours, mut theirs) = tokio::io::duplex(333);
        let writing = async {
            write_pieces(&mut ours, pieces).await.unwrap();
            drop(ours);
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(writing, theirs.read_to_end(&mut got));
        read.unwrap();
        assert_eq!(got, expected);
    }
}
