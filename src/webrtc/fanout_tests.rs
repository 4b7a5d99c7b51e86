use super::*;
use crate::config::Shared;
use crate::hub::{Action, Client, ClientKind};
use crate::id::SessionId;
use crate::webrtc::dtls::{Certificate, Role};
use crate::webrtc::endpoint::EndpointOptions;
use crate::webrtc::negotiated::Flow;
use crate::webrtc::session::Remote;

const OPTIONS: FanoutOptions = FanoutOptions { from_others: true, keep_b_frames: false };

fn fanouts() -> Fanouts {
    let local = [([127, 0, 0, 1], 0).into()];
    let options = EndpointOptions::new(Certificate::generate().unwrap());
    Fanouts::new(Hub::new(Shared::default()), Endpoint::bind(&local, &[], options).unwrap())
}

fn client(kind: ClientKind) -> Client {
    Client::new(SessionId::next(), kind, ([127, 0, 0, 1], 1).into())
}

#[tokio::test]
async fn a_viewer_that_comes_after_the_end_goes() {
    let fanouts = fanouts();
    let Inner { hub, endpoint, .. } = &*fanouts.inner;
    let name = hub.name("", "live", "demo").unwrap();
    let now = Instant::now();
    let publisher = hub.publish_now(&name, client(ClientKind::FmlePublish), now).unwrap();
    let admission = hub.admit_now(Action::Play, &name, client(ClientKind::RtcPlay)).unwrap();
    let attendance = hub.attend(admission, now).unwrap();
    let mut seat = fanouts.seat(&name, OPTIONS);
    drop(publisher);
    hub.tick(now + Duration::from_secs(3600));
    assert!(!hub.is_live(&name));
    // Its task finds no stream, before the viewer is connected.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let [ours, theirs] = [0; 2].map(|_| Endpoint::credentials().unwrap());
    let fingerprint = endpoint.certificate().fingerprint().clone();
    let remote = Remote { ufrag: theirs.ufrag, pwd: theirs.pwd, fingerprint, role: Role::Server };
    let peer = endpoint.open(ours, remote).unwrap();
    let negotiated = Negotiated { flow: Flow::Play, media: Vec::new(), cname: "box".to_owned() };
    let gone = Arc::new(Notify::new());
    seat.join(peer, &negotiated, Arc::default(), attendance, gone.clone());
    tokio::time::timeout(Duration::from_secs(10), gone.notified()).await.unwrap();
}

#[tokio::test]
async fn a_task_that_ends_leaves_what_is_passed() {
    let fanouts = fanouts();
    let name = fanouts.inner.hub.name("", "live", "demo").unwrap();
    let passage = fanouts.passage(&name);
    let passing = fanouts.passing(&name).unwrap();
    drop(fanouts.seat(&name, OPTIONS));
    let until = async |taken: bool| {
        while passing.is_taken() != taken {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let all = async {
        until(true).await;
        until(false).await;
        let _seat = fanouts.seat(&name, OPTIONS);
        until(true).await;
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    drop(passage);
}

#[test]
fn a_viewer_that_asks_for_ever_is_heard_now_and_then() {
    let (feedback, start) = (Feedback::default(), Instant::now());
    let heard = (0..12_000).filter(|ms| feedback.ask_key(start + Duration::from_millis(*ms))).count();
    assert_eq!(heard, 5);
    assert!(feedback.ask_key(start + Duration::from_secs(60)) && lock(&feedback.heard).wants_key);
}
