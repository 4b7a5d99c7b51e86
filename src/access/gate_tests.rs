use super::*;
use crate::access::password::cheap_hash;
use crate::config::{Config, Pattern, Role, Secrets, Shared, User};
use crate::hub::{ClientKind, Hub, HubError};

const SECRET: &str = "a-secret-of-sixteen";

/// Ann publishes `live/cam*`, Vic plays all, Bob nothing.
fn config(change: impl FnOnce(&mut crate::config::VhostAccess)) -> Config {
    let text = format!("[access]\ntoken_secrets = [\"{SECRET}\"]\n");
    let mut config = crate::config::parse("", &text, []).unwrap().config;
    assert!(!Secrets::is_empty(&config.access.token_secrets));
    let user = |name, role| User::new(name, role, cheap_hash("password")).unwrap();
    let mut ann = user("ann", Role::Publisher);
    ann.publish = vec![Pattern::of("*/live/cam*").unwrap()];
    let mut bob = user("bob", Role::Viewer);
    bob.play = Vec::new();
    config.access.users = [ann, bob, user("vic", Role::Viewer)].into_iter().collect();
    config.access.login_failures = 3;
    config.vhost.set_default(|vhost| change(&mut vhost.access));
    config
}

fn hub(config: Config) -> Hub {
    let shared = Shared::new(config);
    let hub = Hub::new(shared.clone());
    hub.set_gates(vec![Access::new(shared)]);
    hub
}

async fn admit(
    hub: &Hub,
    action: Action,
    stream: &str,
    change: impl FnOnce(&mut Client),
) -> Result<(), Denied> {
    let name = hub.name("", "live", stream).unwrap();
    let mut client = Client::new(SessionId::next(), ClientKind::RtmpPlay, "192.0.2.1:9".parse().unwrap());
    change(&mut client);
    match hub.admit(action, &name, client).await {
        Ok(_) => Ok(()),
        Err(HubError::Denied(denied)) => Err(denied),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn all_is_open_by_default() {
    let hub = hub(Config::default());
    let name = hub.name("", "live", "demo").unwrap();
    for action in [Action::Play, Action::Publish] {
        assert!(!hub.guards(action, &name));
        // What callbacks make of parameters is no business of ours.
        admit(&hub, action, "demo", |client| client.params = "token=x&user=a&pass=b".to_owned())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn credentials() {
    let hub = hub(config(|access| {
        access.play = Admission::Credential;
        access.publish = Admission::Credential;
    }));
    let name = hub.name("", "live", "cam1").unwrap();
    assert!(hub.guards(Action::Play, &name));
    let now = unix_now();
    let signed = |action, expires: u64| {
        let expires = expires.to_string();
        let sign = Grant { action, name: &name, expires: &expires, ip: None }.sign(SECRET);
        format!("a=b&expires={expires}&sign={sign}")
    };
    use Action::{Play, Publish};
    for (action, stream, params, expected) in [
        (Play, "cam1", "user=vic&pass=password".to_owned(), true),
        (Play, "cam1", "user=ann&pass=pass%77ord".to_owned(), true),
        (Play, "cam1", "user=bob&pass=password".to_owned(), false),
        (Publish, "cam1", "user=ann&pass=password".to_owned(), true),
        (Publish, "dome", "user=ann&pass=password".to_owned(), false),
        (Publish, "cam1", "user=vic&pass=password".to_owned(), false),
        (Play, "cam1", signed(Play, now + 60), true),
        (Play, "cam2", signed(Play, now + 60), false),
        (Publish, "cam1", signed(Play, now + 60), false),
        (Publish, "cam1", signed(Publish, now + 60), true),
        (Play, "cam1", signed(Play, now - 1), false),
        (Play, "cam1", String::new(), false),
        (Play, "cam1", "jwt=a.b.c".to_owned(), false),
    ] {
        let shown = params.clone();
        let admitted = admit(&hub, action, stream, |client| client.params = params).await;
        assert_eq!(admitted.is_ok(), expected, "{action:?} {stream} {shown}: {admitted:?}");
        if let Err(denied) = admitted {
            assert_eq!(denied.by, CREDENTIALS);
            assert!(
                !denied.why.contains("password") || denied.why.contains("user or password is wrong"),
                "{denied}"
            );
        }
    }
    let basic = "Basic dmljOnBhc3N3b3Jk";
    admit(&hub, Play, "x", |client| client.authorization.0 = basic.to_owned()).await.unwrap();
    // What the URL says counts, not what a browser adds.
    let both = admit(&hub, Play, "x", |client| {
        client.authorization.0 = basic.to_owned();
        client.params = "user=bob&pass=password".to_owned();
    });
    assert!(both.await.is_err());
}

#[tokio::test]
async fn rules_come_first_and_nobody_is_nobody() {
    let hub = hub(config(|access| {
        access.publish = Admission::Nobody;
        access.check_ip = true;
        access.ip_rules = vec![crate::config::IpRule::of("deny play 192.0.2.0/24").unwrap()];
    }));
    let denied = admit(&hub, Action::Play, "x", |_| {}).await.unwrap_err();
    assert_eq!(denied.to_string(), "refused by access: address 192.0.2.1: rule \"deny play 192.0.2.0/24\"");
    // Who is behind a proxy of ours is who the proxy says; no client can say so itself.
    let elsewhere = |client: &mut Client| client.forwarded_for = Some([198, 51, 100, 1].into());
    admit(&hub, Action::Play, "x", elsewhere).await.unwrap();
    let nobody = admit(&hub, Action::Publish, "x", |_| {}).await.unwrap_err();
    assert_eq!(nobody.why, "nobody may publish here");
}

#[tokio::test]
async fn guessing_is_slow_here_too() {
    let hub = hub(config(|access| access.play = Admission::Credential));
    let guess = |pass: &str| {
        let params = format!("user=vic&pass={pass}");
        admit(&hub, Action::Play, "x", |client| client.params = params)
    };
    for _ in 0..3 {
        assert_eq!(guess("wrong").await.unwrap_err().why, "user or password is wrong");
    }
    assert!(guess("password").await.unwrap_err().why.starts_with("too many wrong passwords, wait "));
}

#[tokio::test]
async fn a_name_is_the_one_that_is_served() {
    // Patterns and signatures are of the name that the hub made of the URL, after all decoding.
    let hub = hub(config(|access| access.play = Admission::Credential));
    let name = hub.name("", "live", "caf\u{e9}").unwrap();
    let expires = (unix_now() + 60).to_string();
    let sign = Grant { action: Action::Play, name: &name, expires: &expires, ip: None }.sign(SECRET);
    let params = format!("expires={expires}&sign={sign}");
    let (given, other) = (params.clone(), params.clone());
    admit(&hub, Action::Play, "caf\u{e9}", |client| client.params = given).await.unwrap();
    assert!(admit(&hub, Action::Play, "caf%C3%A9", |client| client.params = other).await.is_err());
    assert!(admit(&hub, Action::Play, "cafe\u{301}", |client| client.params = params).await.is_err());
}
