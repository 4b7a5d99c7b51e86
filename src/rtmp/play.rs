//! What a player gets: a stream as RTMP chunks, serialised once for all; and what it may say meanwhile.

use bytes::BytesMut;

use super::RtmpError;
use super::chunk::kind;
use super::message::{Command, Link, MAX_COMMAND, STREAM, UserControl, put_status};
use super::session::answer_other;
use crate::format::amf::Value;
use crate::hub::Flow;

/// The ear of a player that is being sent a stream: acknowledgements, pings, pause, close. Less than 1 KiB.
#[derive(Debug)]
pub struct Player {
    link: Link,
    chunk_size: usize,
    /// The beginning of a chunk header, nothing mostly.
    input: BytesMut,
}

impl Player {
    pub(super) fn new(mut link: Link, chunk_size: usize) -> Self {
        link.limit(MAX_COMMAND);
        Self { link, chunk_size, input: BytesMut::new() }
    }

    /// Takes what the player sent, answers to `reply`, tells what becomes of the stream.
    ///
    /// # Errors
    /// When the player breaks the protocol or a limit.
    pub fn input(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<Flow, RtmpError> {
        self.input.extend_from_slice(bytes);
        let mut flow = Flow::Go;
        while let Some(message) = self.link.read(&mut self.input, reply)? {
            if matches!(message.kind, kind::COMMAND_AMF0 | kind::COMMAND_AMF3) {
                match self.command(&Command::parse(&message)?, reply) {
                    Flow::Go => {}
                    Flow::End(why) => return Ok(Flow::End(why)),
                    changed => flow = changed,
                }
            }
        }
        if self.input.is_empty() {
            // A player is silent for seconds: it need not hold a buffer.
            self.input = BytesMut::new();
        }
        Ok(flow)
    }

    fn command(&self, command: &Command, reply: &mut Vec<u8>) -> Flow {
        let mut status = |level, code, text| put_status(reply, STREAM, level, code, text, self.chunk_size);
        match command.name.as_str() {
            "closeStream" | "deleteStream" => Flow::End("the player closed the stream"),
            "pause" | "pauseRaw" if command.args.get(1).and_then(Value::as_bool) == Some(false) => {
                status("status", "NetStream.Unpause.Notify", "Playing again");
                UserControl::StreamBegin(STREAM).put(reply);
                Flow::Resume
            }
            "pause" | "pauseRaw" => {
                status("status", "NetStream.Pause.Notify", "Paused");
                UserControl::StreamEof(STREAM).put(reply);
                Flow::Pause
            }
            "play" if command.args.get(1).and_then(Value::as_bool) == Some(false) => {
                Flow::End("the player sent play(false)")
            }
            "play" | "publish" => {
                status("error", "NetStream.Failed", "This connection plays already: open another");
                Flow::Go
            }
            _ => {
                answer_other(command, STREAM, reply, self.chunk_size);
                Flow::Go
            }
        }
    }
}
