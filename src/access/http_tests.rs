use super::*;
use crate::access::Permission;
use crate::config::{Config, Shared, User};
use crate::id::SessionId;

fn head(method: &str, headers: &str) -> Head {
    let text = format!("{method} /api/v1/streams HTTP/1.1\r\n{headers}\r\n");
    Head::parse(text.as_bytes()).unwrap().unwrap().0
}

fn peer(addr: &str) -> Peer {
    let addr = addr.parse().unwrap();
    Peer { id: SessionId::next(), addr, door: addr, forwarded_for: None, secure: false }
}

fn access(users: &[(&str, Role)]) -> std::sync::Arc<Access> {
    let hash = crate::access::password::cheap_hash("password");
    let mut config = Config::default();
    let users = users.iter().map(|(name, role)| User::new(name, *role, hash.clone()).unwrap());
    config.access.users = users.collect();
    config.access.login_failures = 3;
    Access::new(Shared::new(config))
}

/// `name:password` as a header.
fn basic(pair: &str) -> String {
    use base64::Engine;
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
}

async fn status(access: &Access, head: &Head, peer: &Peer) -> u16 {
    access.authenticate(head, peer).await.map_or_else(|reply| reply.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn without_a_credential_only_this_machine_is_let_in() {
    let access = access(&[]);
    assert_eq!(status(&access, &head("DELETE", "Host: localhost:1985\r\n"), &peer("127.0.0.1:9")).await, 200);
    for (addr, headers) in [
        ("192.0.2.1:9", "Host: 127.0.0.1:1985\r\n"),
        ("127.0.0.1:9", "X-Forwarded-For: 127.0.0.1\r\n"),
        ("127.0.0.1:9", "Host: localhost\r\nOrigin: http://evil.example\r\n"),
    ] {
        assert_eq!(status(&access, &head("DELETE", headers), &peer(addr)).await, 403, "{addr} {headers:?}");
    }
}

#[tokio::test]
async fn with_a_credential_everybody_needs_it() {
    let access = access(&[("ann", Role::Admin), ("vic", Role::Viewer)]);
    let (here, there) = (peer("127.0.0.1:9"), peer("192.0.2.1:9"));
    for peer in [&here, &there] {
        assert_eq!(status(&access, &head("GET", ""), peer).await, 401);
        assert_eq!(status(&access, &head("GET", &basic("ann:password")), peer).await, 200);
    }
    let reply = access.authenticate(&head("GET", ""), &there).await.unwrap_err();
    assert!(reply.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
    for wrong in ["ann:", "ann:passwor", "ann:password ", "Ann:password", ":", "nobody:password"] {
        let stranger = peer(&format!("10.0.0.{}:9", wrong.len()));
        assert_eq!(status(&access, &head("GET", &basic(wrong)), &stranger).await, 401, "{wrong}");
    }
    let long = format!("ann:{}", "x".repeat(10_000));
    assert_eq!(status(&access, &head("GET", &basic(&long)), &there).await, 401);
    let long = format!("Authorization: Bearer {}\r\n", "x".repeat(10_000));
    assert_eq!(status(&access, &head("GET", &long), &there).await, 401);
    assert_eq!(status(&access, &head("GET", "Authorization: Bearer a.b.c\r\n"), &there).await, 401);
    let vic = access.authenticate(&head("GET", &basic("vic:password")), &there).await.unwrap();
    let may = [Permission::Read, Permission::Control, Permission::Configure].map(|what| vic.may(what));
    assert_eq!((may, vic.role(), vic.by), ([true, false, false], Role::Viewer, Proof::Password));
}

#[tokio::test]
async fn a_page_of_another_site_gains_nothing_by_the_browsers_password() {
    let access = access(&[("ann", Role::Admin)]);
    let there = peer("192.0.2.1:9");
    for (method, headers, expected) in [
        ("POST", "Host: box\r\nOrigin: http://evil.example\r\n", 403),
        ("DELETE", "Host: box\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("GET", "Host: box\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        ("POST", "Host: box\r\nOrigin: https://box\r\n", 200),
        ("POST", "Host: box\r\n", 200),
    ] {
        let head = head(method, &(headers.to_owned() + &basic("ann:password")));
        assert_eq!(status(&access, &head, &there).await, expected, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn who_guesses_waits() {
    let access = access(&[("ann", Role::Admin)]);
    let (there, other) = (peer("192.0.2.1:9"), peer("192.0.2.2:9"));
    for n in 0..3 {
        assert_eq!(status(&access, &head("GET", &basic(&format!("ann:{n}"))), &there).await, 401);
    }
    let locked = access.authenticate(&head("GET", &basic("ann:password")), &there).await.unwrap_err();
    assert_eq!(locked.status(), 429, "not even the right one");
    assert!(locked.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 31);
    assert_eq!(status(&access, &head("GET", &basic("ann:password")), &other).await, 200);
    // Behind a proxy on this machine each client waits for itself; elsewhere nobody can pretend to be another.
    let proxied = Peer { forwarded_for: Some([192, 0, 2, 1].into()), ..peer("127.0.0.1:9") };
    assert_eq!(status(&access, &head("GET", &basic("ann:password")), &proxied).await, 429);
    let spoofed = head("GET", &format!("X-Forwarded-For: 192.0.2.9\r\n{}", basic("ann:password")));
    assert_eq!(status(&access, &spoofed, &there).await, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_srs_user_while_others_are_verified_is_counted() {
    let hash = crate::access::password::hash("password").unwrap();
    let hash = crate::config::PasswordHash::of(&hash).unwrap();
    let mut config = Config::default();
    config.access.users = std::iter::once(User::new("ann", Role::Admin, hash).unwrap()).collect();
    config.access.login_failures = 3;
    config.api.auth.enabled = true;
    config.api.auth.username = "admin".to_owned();
    config.api.auth.password = "sesame".into();
    let access = Access::new(Shared::new(config));
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            let (access, head) = (access.clone(), head("GET", &basic(&format!("admin:{n}"))));
            tokio::spawn(async move { status(&access, &head, &peer("192.0.2.1:9")).await })
        })
        .collect();
    for guess in guesses {
        assert_ne!(guess.await.unwrap(), 200);
    }
    assert_eq!(status(&access, &head("GET", &basic("admin:sesame")), &peer("192.0.2.1:9")).await, 429);
}
