//! Who may publish, play and administer.
//!
//! | part | keys | is |
//! |---|---|---|
//! | rules | `vhost.*.access.check_ip`, `.check_refer` | addresses, and the pages that players stand on |
//! | credentials for streams | `vhost.*.access.publish`, `.play` | a signed URL, a JWT, or a user's password |
//! | administration | `[access]`, `[api.auth]` | who may use the API, metrics, and what deletes recordings |
//!
//! Streams: [`Access`] is the hub's first gate, so that each protocol asks it before anyone publishes or plays. What a client
//! shows it shows in its URL (`?user=&pass=`, `?jwt=` or `?token=`, `?expires=&sign=`), HTTP players in `Authorization` too.
//! It is asked once, when a session begins: a credential that ends later ends no session.
//!
//! Administration: [`Access::authenticate`]. While there is no credential, only this machine itself is let in, and no web page
//! in its browser; from then on everybody needs one, this machine too. A page of another site can't make a browser that knows
//! a password change something.
//!
//! Guessing: an address that was wrong too often waits, each time twice as long; so does a user's name, for addresses that
//! have not shown its right password before. What is done by whom is logged as `audit:`.
//!
//! Bounds: one password is verified at a time (9 MiB), 8 more wait; 1024 addresses and 1024 names that failed, 64 right
//! credentials and 256 pairs of name and address are remembered; a JWT has 8 KiB at most, a key set 64 KiB and 64 keys.
//!
//! Not here: what callbacks say (`control::hooks`, the next gate), limits of connections (`net`).

mod command;
mod credential;
mod gate;
mod http;
mod jwt;
mod keys;
mod lockout;
mod password;
mod rules;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::credential::Credential;
use self::jwt::{Claims, Demands, Streams};
use self::keys::KeyStore;
use self::lockout::{Lockout, Terms};
use self::password::{Passwords, Verdict};
use crate::config::{self, Config, Role, Shared};
use crate::id::SessionId;

pub use self::command::{CommandError, Store, passwd, token};

/// Says who may do what. One for the process.
pub struct Access {
    config: Shared,
    passwords: Passwords,
    lockout: Lockout,
    keys: KeyStore,
}

/// Something that not everybody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See streams, sessions and figures: what the API and metrics tell.
    Read,
    /// End sessions, start, stop and delete recordings, have the configuration read again.
    Control,
    /// See and change the configuration.
    Configure,
}

/// Someone who may administer, as far as [`may`](Self::may) says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The user's name, or whom a token is for. Fit for the log.
    pub name: String,
    /// By what they are known.
    pub by: Proof,
    /// Where they are.
    pub from: IpAddr,
    /// The connection's session.
    pub session: SessionId,
    role: Role,
    /// Whether no stream is hidden from them.
    sees_all: bool,
}

/// By what someone is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// Being on this machine, while there is no credential.
    Local,
    /// A JWT.
    Jwt,
    /// A password.
    Password,
}

impl Identity {
    /// Whether they may do this.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        match permission {
            // The API tells of all streams: who may not see all of them may not see it.
            Permission::Read => self.role >= Role::Operator || self.sees_all,
            Permission::Control => self.role >= Role::Operator,
            Permission::Configure => self.role >= Role::Admin,
        }
    }

    /// Their role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }
}

/// Why someone is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    /// Nothing that counts was shown.
    Missing,
    /// Wrong, and why; for the client too.
    Wrong(&'static str),
    /// So many were wrong that the next may be tried after this time.
    Locked(Duration),
    /// Too many are being verified.
    Busy,
}

/// Who shows a credential that is right.
struct Bearer {
    name: String,
    proof: Proof,
    role: Option<Role>,
    play: Vec<Streams>,
    publish: Vec<Streams>,
}

impl Access {
    /// Says what `config` says, now and after each reload.
    #[must_use]
    pub fn new(config: Shared) -> Arc<Self> {
        Arc::new(Self {
            config,
            passwords: Passwords::new(),
            lockout: Lockout::default(),
            keys: KeyStore::default(),
        })
    }

    /// Notes what someone has done: `what` completes "NAME (ROLE, from ADDRESS)", and holds no secret.
    pub fn audit(&self, who: &Identity, what: &str) {
        let Identity { name, role, from, session, .. } = who;
        log::info!(target: "audit", session:% = session; "audit: {name} ({}, from {from}) {what}", role.as_str());
    }

    /// Finds out who shows a password, or a JWT.
    async fn bearer(
        &self,
        config: &Config,
        shown: Credential,
        from: IpAddr,
        session: SessionId,
    ) -> Result<Bearer, Refusal> {
        match shown {
            Credential::Password(user, password) => self.user(config, &user, &password, from, session).await,
            Credential::Jwt(token) => self.jwt(config, &token).await,
            Credential::Signed { .. } => Err(Refusal::Missing),
        }
    }

    async fn user(
        &self,
        config: &Config,
        name: &str,
        password: &str,
        from: IpAddr,
        session: SessionId,
    ) -> Result<Bearer, Refusal> {
        const WRONG: &str = "user or password is wrong";
        // No user has such a name; nothing so long is remembered.
        if name.len() > config::User::LONGEST_NAME || password.len() > password::LONGEST {
            return Err(Refusal::Wrong(WRONG));
        }
        let wait = self.lockout.wait(from, name, Instant::now());
        if !wait.is_zero() {
            return Err(Refusal::Locked(wait));
        }
        if let Some(bearer) = self.srs_user(config, name, password) {
            self.lockout.passed(from, name);
            return Ok(bearer);
        }
        let user = config.access.users.find(name);
        let terms = Terms { failures: config.access.login_failures, lockout: config.access.login_lockout };
        match self.passwords.verify(name, user.map(|user| &user.hash), password).await {
            Verdict::Busy => {
                // With SRS's one user it was compared already, and is a guess like others.
                if has_api_auth(config) && self.passwords.equal(name, &config.api.auth.username) {
                    self.lockout.failed(from, name, terms, Instant::now());
                }
                return Err(Refusal::Busy);
            }
            Verdict::Wrong => {}
            Verdict::Right => {
                if let Some(user) = user {
                    self.lockout.passed(from, name);
                    let streams =
                        |all: &[config::Pattern]| all.iter().cloned().map(Streams::Pattern).collect();
                    return Ok(Bearer {
                        name: user.name.clone(),
                        proof: Proof::Password,
                        role: Some(user.role),
                        play: streams(&user.play),
                        publish: streams(&user.publish),
                    });
                }
            }
        }
        let locked = self.lockout.failed(from, name, terms, Instant::now());
        // What was typed as a name may be a password.
        let shown = if user.is_some() { name } else { "an unknown user" };
        let locked = locked.map_or(String::new(), |time| format!("; locked out for {} s", time.as_secs()));
        log::warn!(target: "audit", session:% = session; "audit: wrong password of {shown} from {from}{locked}");
        Err(Refusal::Wrong(WRONG))
    }

    /// SRS's one user of the API (`http_api.auth`). Both are compared whatever the other is.
    fn srs_user(&self, config: &Config, name: &str, password: &str) -> Option<Bearer> {
        let auth = &config.api.auth;
        let same = self.passwords.equal(name, &auth.username)
            & self.passwords.equal(password, auth.password.expose());
        let set = has_api_auth(config);
        (set && same).then(|| Bearer {
            name: auth.username.clone(),
            proof: Proof::Password,
            role: Some(Role::Admin),
            play: Vec::new(),
            publish: Vec::new(),
        })
    }

    async fn jwt(&self, config: &Config, token: &str) -> Result<Bearer, Refusal> {
        let config::Access { jwt_keys, jwt_refresh, jwt_issuer, jwt_audience, .. } = &config.access;
        if jwt_keys.is_empty() {
            return Err(Refusal::Wrong("JWTs are not taken (access.jwt_keys)"));
        }
        let demands = Demands { issuer: jwt_issuer, audience: jwt_audience };
        let ca = config.tls.ca.as_deref();
        let keys = self.keys.keys(jwt_keys, *jwt_refresh, ca).await;
        let claims = match jwt::verify(token, &keys, demands, unix_now()) {
            // The issuer may have new keys.
            Err(jwt::UNKNOWN_KEY) => {
                let newer = self.keys.keys(jwt_keys, Duration::ZERO, ca).await;
                if Arc::ptr_eq(&keys, &newer) {
                    Err(jwt::UNKNOWN_KEY)
                } else {
                    jwt::verify(token, &newer, demands, unix_now())
                }
            }
            verified => verified,
        };
        let Claims { subject, role, play, publish } = claims.map_err(Refusal::Wrong)?;
        Ok(Bearer { name: subject, proof: Proof::Jwt, role, play, publish })
    }
}

/// Whether there is a credential by which someone could administer.
fn has_credentials(config: &Config) -> bool {
    !config.access.users.is_empty() || !config.access.jwt_keys.is_empty() || config.api.auth.enabled
}

/// An empty password lets nobody in.
fn has_api_auth(config: &Config) -> bool {
    let auth = &config.api.auth;
    auth.enabled && !auth.username.is_empty() && !auth.password.is_empty()
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
