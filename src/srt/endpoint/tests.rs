use std::time::Duration;

use super::*;

fn bind() -> (Endpoint, Incoming) {
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), EndpointOptions::default()).unwrap()
}

/// A caller and who is called, with these options.
async fn pair(caller: Options, listener: Options) -> Result<(Connection, Connection), SrtError> {
    let (server, mut incoming) = bind();
    let (client, _) = bind();
    let accept = async {
        let request = incoming.next().await.unwrap();
        request.accept(&listener)
    };
    let (called, accepted) = tokio::join!(client.call(server.local_addr(), caller), accept);
    Ok((called?, accepted?))
}

#[tokio::test]
async fn payloads_go_both_ways() {
    for (passphrase, length, cipher) in [
        (None, None, None),
        (Some("correct horse"), Some(super::super::crypto::KeyLength::Aes192), None),
        (Some("correct horse"), None, Some(super::super::crypto::CipherMode::Gcm)),
    ] {
        let latency = Duration::from_millis(20);
        let options = Options {
            passphrase: passphrase.map(str::to_owned),
            key_length: length,
            cipher,
            receive_latency: latency,
            stream_id: "live/a".to_owned(),
            ..Options::default()
        };
        let (mut caller, mut listener) = pair(options.clone(), options).await.unwrap();
        for (from, to) in [(&caller.link, &listener.link), (&listener.link, &caller.link)] {
            assert_ne!(from.id, to.id);
        }
        for index in 0..500u32 {
            caller.send(Bytes::copy_from_slice(&index.to_be_bytes()), Instant::now()).unwrap();
        }
        listener.send(Bytes::from_static(b"back"), Instant::now()).unwrap();
        let mut all = Vec::new();
        while all.len() < 500 {
            assert_ne!(listener.receive_many(&mut all, 64).await, 0);
        }
        let numbers: Vec<_> =
            all.iter().map(|payload| u32::from_be_bytes(payload.data[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert_eq!(caller.receive().await.unwrap().data, "back");
        drop(caller);
        assert_eq!(listener.receive().await, None);
        assert_eq!(listener.ended(), Some(End::Shutdown));
    }
}

#[tokio::test]
async fn a_wrong_passphrase_is_refused_with_its_reason() {
    let with = |passphrase: Option<&str>| Options {
        passphrase: passphrase.map(str::to_owned),
        ..Options::default()
    };
    for (caller, listener, reason) in [
        (Some("correct horse"), Some("wrong horse"), Reject::BAD_SECRET),
        (Some("correct horse"), None, Reject::UNSECURE),
        (None, Some("correct horse"), Reject::UNSECURE),
    ] {
        let refused = pair(with(caller), with(listener)).await;
        assert!(matches!(refused, Err(SrtError::Refused(why)) if why == reason), "{refused:?}");
    }
}

#[tokio::test]
async fn who_is_not_answered_gives_up_and_who_is_refused_learns_why() {
    let (server, mut incoming) = bind();
    let (client, _) = bind();
    let call = tokio::spawn({
        let (client, to) = (client.clone(), server.local_addr());
        async move { client.call(to, Options { stream_id: "x".into(), ..Options::default() }).await }
    });
    let request = incoming.next().await.unwrap();
    assert_eq!((request.stream_id(), request.is_encrypted(), request.version()), ("x", false, 0x0001_0504));
    request.reject(Reject::NOT_FOUND);
    let refused = call.await.unwrap();
    assert!(matches!(refused, Err(SrtError::Refused(Reject::NOT_FOUND))), "{refused:?}");
    server.stop();
    assert!(incoming.next().await.is_none());
    let hurried = Options { connect_timeout: Duration::from_millis(300), ..Options::default() };
    let nobody = client.call(server.local_addr(), hurried).await;
    assert!(matches!(nobody, Err(SrtError::NoAnswer(_))), "{nobody:?}");
}

#[tokio::test]
async fn two_meet() {
    let ((one, _), (other, _)) = (bind(), bind());
    let options = Options { passphrase: Some("correct horse".into()), ..Options::default() };
    let (met, too) =
        tokio::join!(one.meet(other.local_addr(), options.clone()), other.meet(one.local_addr(), options));
    let (met, mut too) = (met.unwrap(), too.unwrap());
    met.send(Bytes::from_static(b"hello"), Instant::now()).unwrap();
    assert_eq!(too.receive().await.unwrap().data, "hello");
}

#[tokio::test]
async fn a_flood_of_forged_handshakes_and_garbage_leaves_nothing() {
    let (server, mut incoming) = bind();
    let attacker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut conclusion = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    conclusion.resize(64, 0xff);
    for index in 0..5000u32 {
        // A cookie that is guessed, and who asks it.
        conclusion[40..44].copy_from_slice(&index.to_be_bytes());
        conclusion[44..48].copy_from_slice(&index.wrapping_mul(2_654_435_761).to_be_bytes());
        let len = if index % 2 == 0 { 64 } else { index as usize % 64 };
        let _ = attacker.send_to(&conclusion[..len], server.local_addr());
    }
    let (client, _) = bind();
    let call = client.call(server.local_addr(), Options::default());
    let accept = async { incoming.next().await.unwrap().accept(&Options::default()) };
    let (called, accepted) = tokio::join!(call, accept);
    assert!(called.is_ok() && accepted.is_ok());
    let posted = lock(&server.handle.shared.posted);
    assert_eq!(posted.ids.len(), 1, "one session, and it is not the attacker's");
}
