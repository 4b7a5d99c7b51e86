use std::net::TcpStream;
use std::sync::Arc;

use bytes::Bytes;

use super::ask::Form;
use crate::hub::{Control, Flow, Subscription};
use crate::net::Permit;
use crate::net::http::websocket::Input;
use crate::net::http::{Boxed, Framing, LiveBody};

/// A reader of a live stream over HTTP.
pub(super) struct Reader {
    subscription: Subscription,
    form: Form,
    framing: Framing,
}

impl Reader {
    pub(super) fn new(subscription: Subscription, form: Form, framing: Framing) -> Self {
        Self { subscription, form, framing }
    }
}

impl LiveBody for Reader {
    fn content_type(&self) -> &'static str {
        self.form.content_type()
    }

    fn deliver(self: Box<Self>, socket: TcpStream, head: Bytes, early: &[u8], permit: Arc<Permit>) {
        let mut control = Peer::new(self.framing, permit);
        let mut reply = Vec::new();
        if let Flow::End(why) = control.input(early, &mut reply) {
            self.subscription.finish(why);
            return;
        }
        let first = if reply.is_empty() { head } else { [&head, reply.as_slice()].concat().into() };
        self.subscription.deliver(socket, first, Box::new(control));
    }

    fn next(&mut self) -> Boxed<'_, Option<Vec<Bytes>>> {
        Box::pin(self.subscription.next())
    }

    fn finish(self: Box<Self>, why: &str) {
        self.subscription.finish(why);
    }
}

/// The other end of a delivered reader. On HTTP it has nothing more to say.
struct Peer {
    websocket: Option<Input>,
    /// Given back when the delivery worker closes the socket.
    _permit: Arc<Permit>,
}

impl Peer {
    fn new(framing: Framing, permit: Arc<Permit>) -> Self {
        let websocket = (framing == Framing::WebSocket).then(Input::default);
        Self { websocket, _permit: permit }
    }
}

impl Control for Peer {
    fn input(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Flow {
        match self.websocket.as_mut().map(|input| input.input(bytes, reply)) {
            Some(Err(why)) => Flow::End(why),
            Some(Ok(())) | None => Flow::Go,
        }
    }
}
