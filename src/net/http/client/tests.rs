use std::sync::Arc;

use portable_atomic::AtomicUsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SOON: Limits = Limits { timeout: Duration::from_secs(10), max_body: 1000 };

/// A server that gives each connection to `talk`; where it is, and how many connections it had.
async fn server<F, T>(talk: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(TcpStream, usize) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(talk(socket, counter.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (format!("http://{address}/hook?secret=1"), count)
}

/// One request: its head and as much of a body as it announces.
async fn read_request(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(text.clone()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    text.extend(body);
    Some(String::from_utf8(text).unwrap())
}

async fn post(client: &Client, url: &str, limits: Limits) -> Result<Answer, ClientError> {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let body = Bytes::from_static(b"{\"a\":1}");
    client.request(Method::POST, &Url::parse(url).unwrap(), &json, body, limits).await
}

#[tokio::test]
async fn asks_and_keeps_the_connection() {
    let (url, connections) = server(|mut socket, _| async move {
        while let Some(text) = read_request(&mut socket).await {
            let answer = format!("HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let url = url.replace("http://", "http://user:word@");
    let client = Client::new(None);
    for _ in 0..3 {
        let answer = post(&client, &url, SOON).await.unwrap();
        let host = Url::parse(&url).unwrap().server();
        let expected = format!(
            "POST /hook?secret=1 HTTP/1.1\r\nhost: {host}\r\nuser-agent: {}\r\nauthorization: Basic dXNlcjp3b3Jk\r\n\
             content-type: application/json\r\ncontent-length: 7\r\n\r\n{{\"a\":1}}",
            crate::net::http::SERVER
        );
        assert_eq!((answer.status, std::str::from_utf8(&answer.body).unwrap()), (201, expected.as_str()));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    // Each serves one request, and closes without a word when the next one comes.
    let (url, connections) = server(|mut socket, _| async move {
        read_request(&mut socket).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0").await.unwrap();
        read_request(&mut socket).await;
    })
    .await;
    let client = Client::new(None);
    for n in 1..=4 {
        assert_eq!(post(&client, &url, SOON).await.unwrap().body, "0");
        assert_eq!(connections.load(Ordering::SeqCst), n);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_without_secrets() {
    let cases: [(&'static [u8], &str); 6] = [
        (b"", "gave no proper answer: "),
        (b"hello\r\n\r\n", "gave no proper answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "gave no proper answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", "answered 200 with more than 1000 bytes"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "gave no proper answer: "),
    ];
    for (bytes, expected) in cases {
        let (url, _) = server(move |mut socket, _| async move {
            read_request(&mut socket).await;
            socket.write_all(bytes).await.unwrap();
            if bytes.windows(4).any(|part| part == b"5000") {
                socket.write_all(&[b'x'; 5000]).await.ok();
            }
        })
        .await;
        match post(&Client::new(None), &url, SOON).await {
            Ok(answer) => assert_eq!((answer.status, expected), (302, ""), "redirections are not followed"),
            Err(error) => {
                let text = error.to_string();
                assert!(!expected.is_empty() && text.contains(expected), "{text}");
                assert!(!text.contains("secret") && !text.contains("hook"), "{text}");
            }
        }
    }
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let error = post(&Client::new(None), &format!("http://{gone}/"), SOON).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot connect to {gone}: ")), "{error}");
}

#[tokio::test]
async fn the_time_is_for_all_together() {
    let short = Limits { timeout: Duration::from_millis(200), ..SOON };
    let (url, _) = server(|mut socket, _| async move {
        read_request(&mut socket).await;
        // A byte each 50 ms, for ever.
        while socket.write_all(b"H").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let error = post(&Client::new(None), &url, short).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("did not answer within 200ms (the request was sent, and no answer began)"),
        "{error}"
    );
    // A listener whose backlog nobody empties.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    assert!(matches!(post(&Client::new(None), &url, short).await, Err(ClientError::Timeout { .. })));
    let (url, _) = server(|mut socket, _| async move {
        read_request(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let error = post(&Client::new(None), &url, short).await.unwrap_err();
    assert!(error.to_string().ends_with("(the answer had begun)"), "{error}");
}

#[tokio::test]
async fn few_connections_are_kept() {
    let (url, connections) = server(|mut socket, _| async move {
        while read_request(&mut socket).await.is_some() {
            // All requests of a round are under way before the first is answered.
            tokio::time::sleep(Duration::from_millis(200)).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0").await.unwrap();
        }
    })
    .await;
    let client = Arc::new(Client::new(None));
    for round in 1..=2 {
        let asked: Vec<_> = (0..10)
            .map(|_| {
                let (client, url) = (Arc::clone(&client), url.clone());
                tokio::spawn(async move { post(&client, &url, SOON).await.unwrap() })
            })
            .collect();
        for answer in asked {
            answer.await.unwrap();
        }
        let expected = if round == 1 { 10 } else { 16 };
        assert_eq!(connections.load(Ordering::SeqCst), expected);
    }
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn https_without_tls_is_told() {
    let (url, _) = server(|_, _| async {}).await;
    let error = post(&Client::new(None), &url.replace("http:", "https:"), SOON).await.unwrap_err();
    assert!(error.to_string().contains("this build has no TLS"), "{error}");
}

#[cfg(feature = "tls")]
mod tls {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    use super::*;

    /// An https server whose certificate is for `name`; its URL on 127.0.0.1, and the file of its issuer.
    async fn secure_server(name: &str) -> (String, PathBuf) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let ca_name = format!("CA {}", COUNT.fetch_add(1, Ordering::SeqCst));
        ca.distinguished_name.push(rcgen::DnType::CommonName, ca_name);
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf =
            rcgen::CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(
            tokio_rustls::rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (url, _) = server(move |socket, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                while read_request(&mut socket).await.is_some() {
                    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0").await.unwrap();
                    socket.flush().await.unwrap();
                }
            }
        })
        .await;
        let port = Url::parse(&url).unwrap().port();
        let file = std::env::temp_dir().join(format!("rillbox-ca-{}-{port}.pem", std::process::id()));
        std::fs::write(&file, ca_certificate.pem()).unwrap();
        (url.replace("http:", "https:"), file)
    }

    #[tokio::test]
    async fn servers_are_verified() {
        let (url, ca) = secure_server("127.0.0.1").await;
        let client = Client::new(Some(ca.clone()));
        for _ in 0..2 {
            assert_eq!(post(&client, &url, SOON).await.unwrap().body, "0");
        }
        let by_name = url.replace("127.0.0.1", "localhost");
        let error = post(&client, &by_name, SOON).await.unwrap_err().to_string();
        assert!(error.contains("its certificate is for another name"), "{error}");

        let (stranger, other_ca) = secure_server("127.0.0.1").await;
        let error = post(&client, &stranger, SOON).await.unwrap_err().to_string();
        assert!(error.contains("tls.ca"), "{error}");
        client.set_ca(Some(other_ca.clone()));
        post(&client, &stranger, SOON).await.unwrap();
        post(&client, &url, SOON).await.unwrap_err();
        client.set_ca(Some("/nowhere/ca.pem".into()));
        let error = post(&client, &url, SOON).await.unwrap_err().to_string();
        assert!(error.starts_with("tls.ca: /nowhere/ca.pem: cannot be read: "), "{error}");
        for file in [ca, other_ca] {
            std::fs::remove_file(file).unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_told() {
        let (url, _) = server(|mut socket, _| async move {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        })
        .await;
        let (_, ca) = secure_server("127.0.0.1").await;
        let error =
            post(&Client::new(Some(ca.clone())), &url.replace("http:", "https:"), SOON).await.unwrap_err();
        assert!(matches!(error, ClientError::Tls { .. }), "{error}");
        std::fs::remove_file(ca).unwrap();
    }
}
