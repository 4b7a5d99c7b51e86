//! Who may come, and who is there.

use std::sync::atomic::Ordering;

use super::tests::{Source, client, hub, subscribe};
use super::*;

/// Takes its time where a stream is called "slow", refuses "bad", and keeps count.
#[derive(Default)]
struct Guard {
    inside: std::sync::atomic::AtomicI32,
    sent: portable_atomic::AtomicU64,
}

impl Gate for Guard {
    fn admit<'a>(&'a self, ask: &'a Ask) -> Verdict<'a> {
        Box::pin(async move {
            match ask.name.stream.as_str() {
                "slow" => std::future::pending().await,
                "bad" => Err(Denied { why: "it is bad".into(), by: "guard" }),
                _ => {
                    self.inside.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        })
    }

    fn guards(&self, action: Action, _: &StreamName) -> bool {
        action == Action::Publish
    }

    fn left(&self, _: &Ask, traffic: Traffic) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.sent.fetch_add(traffic.received, Ordering::SeqCst);
    }
}

#[test]
fn gates_decide_and_learn_who_left() {
    let hub = hub();
    let (first, second) = (Arc::new(Guard::default()), Arc::new(Guard::default()));
    hub.set_gates(vec![Arc::new(Everybody(first.clone())), second.clone()]);
    let inside = || [&first, &second].map(|guard| guard.inside.load(Ordering::SeqCst));
    let name = |stream| hub.name("box", "live", stream).unwrap();
    let ask = |stream| hub.admit_now(Action::Publish, &name(stream), client(ClientKind::FmlePublish));
    let denied = Denied { why: "it is bad".into(), by: "guard" };
    assert_eq!(ask("bad").err(), Some(HubError::Denied(denied)));
    assert_eq!(inside(), [0, 0], "the first gate was told of the second one's refusal");
    {
        let (name, client) = (name("slow"), client(ClientKind::FmlePublish));
        let mut waiting = Box::pin(hub.admit(Action::Publish, &name, client));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert_eq!(inside(), [1, 0]);
    }
    assert_eq!(inside(), [0, 0], "and of one that gave up");
    let admission = ask("good").unwrap();
    assert_eq!(inside(), [1, 1]);
    let publisher = hub.publish(admission, Instant::now()).unwrap();
    drop(publisher);
    assert_eq!(inside(), [0, 0]);
    let totals = hub.totals();
    assert_eq!((totals.clients, totals.admitted, totals.denied), (0, 1, 1));
    assert!(hub.guards(Action::Publish, &name("x")) && !hub.guards(Action::Play, &name("x")));
}

/// Admits all, slow ones too.
struct Everybody(Arc<Guard>);

impl Gate for Everybody {
    fn admit<'a>(&'a self, _: &'a Ask) -> Verdict<'a> {
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn guards(&self, _: Action, _: &StreamName) -> bool {
        false
    }

    fn left(&self, ask: &Ask, traffic: Traffic) {
        self.0.left(ask, traffic);
    }
}

#[tokio::test]
async fn whoever_is_there_is_listed_and_can_be_ended() {
    let hub = hub();
    let mut source = Source::new(&hub, "demo", Instant::now());
    let mut reader = subscribe(&hub, "demo", Wait::No).unwrap();
    source.frame(0, 0, true, 1000).unwrap();
    source.frame(1, 0, true, 100).unwrap();
    assert!(!reader.next().await.unwrap().is_empty());
    let now = Instant::now();
    let all = hub.clients(now);
    assert_eq!(all.len(), 2);
    let [publisher, player] = &all[..] else { panic!("{all:?}") };
    assert_eq!((publisher.action, player.action), (Action::Publish, Action::Play));
    assert_eq!(publisher.received, 1100);
    assert!(player.sent > 0);
    assert_eq!(publisher.stream_id, hub.stats(now)[0].id);
    assert!(!hub.kick_client("nobody99") && !hub.kick_client("../x"));
    let id = player.client.id;
    assert!(hub.kick_client(id.as_str()));
    assert!(reader.next().await.is_none(), "an operator ended it");
    reader.finish("it is over");
    assert!(hub.client(id.as_str(), now).is_none());
    assert!(hub.kick_client(publisher.client.id.as_str()));
    assert_eq!(source.frame(0, 40, false, 1000), Err(Ended::Kicked));
    drop(source);
    assert!(hub.clients(now).is_empty());
}

#[test]
fn gates_learn_of_one_that_comes_too_late() {
    let hub = hub();
    let guard = Arc::new(Guard::default());
    hub.set_gates(vec![Arc::new(Stops(hub.clone(), guard.clone()))]);
    let name = hub.name("box", "live", "late").unwrap();
    let admission = hub.admit_now(Action::Publish, &name, client(ClientKind::FmlePublish));
    assert_eq!(admission.err(), Some(HubError::Stopping));
    assert_eq!(guard.inside.load(Ordering::SeqCst), 0);
}

/// Admits all, while the server stops.
struct Stops(Hub, Arc<Guard>);

impl Gate for Stops {
    fn admit<'a>(&'a self, _: &'a Ask) -> Verdict<'a> {
        self.1.inside.fetch_add(1, Ordering::SeqCst);
        self.0.stop();
        Box::pin(async { Ok(()) })
    }

    fn guards(&self, _: Action, _: &StreamName) -> bool {
        true
    }

    fn left(&self, ask: &Ask, traffic: Traffic) {
        self.1.left(ask, traffic);
    }
}
