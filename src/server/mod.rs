//! Assembly: from a configuration to a running process, through its signals, to its end.
//!
//! | signal | effect |
//! |---|---|
//! | SIGHUP | reads the configuration anew; what can change while running does, nobody is dropped |
//! | SIGUSR1 | opens the log file anew |
//! | SIGTERM, SIGINT | stops: no new connections, publishers and readers are seen off, the process ends within `server.shutdown_timeout`; a second one ends it at once |
//!
//! With `server.watch_config` a change of the file is as good as SIGHUP. The API changes the file itself.
//!
//! Under systemd (`Type=notify-reload`, `Type=notify`) the manager is told when we are ready, reload and
//! stop. Listening sockets that the manager passes (sd_listen_fds(3)) stand in the place of the key that they are named
//! after (`FileDescriptorName=rtmp.listen`), or whose port they have; a reload leaves them.
//!
//! Two watchdogs may look after us, systemd's (`WatchdogSec=`) and the board's (`server.watchdog`). The loop that handles
//! signals and statistics feeds both while whatever must not hang answers:
//!
//! | part | answers when |
//! |---|---|
//! | main loop, locks of hub and streams | it comes round; it looks at each stream each second |
//! | tokio's threads | a listener's task is run on one of them |
//! | delivery workers | they come round |
//!
//! | end | board's watchdog |
//! |---|---|
//! | SIGTERM, SIGINT | fed until all are seen off, then given up (`V`) |
//! | killed, crashed, or a part hangs for 10 s | no longer fed: the board restarts |
//! | the device can't be opened | told as an error, tried again each 30 s; the server serves |

mod apply;
mod change;
#[cfg(all(target_env = "musl", target_pointer_width = "32"))]
mod clock;
mod limits;
mod log;
mod memory;
mod notify;
mod pid;
mod report;
mod room;
mod services;
mod sockets;
mod watch;
mod watchdog;

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

#[cfg(feature = "api")]
use self::change::Storing;
use self::memory::Memory;
use self::notify::Notify;
use self::pid::PidFile;
use self::services::Services;
use self::sockets::Sockets;
use self::watch::Watch;
use self::watchdog::Watchdog;
use crate::config::{self, Config, ConfigError, Loaded, Shared, StoreError};
use crate::id::Instance;
use crate::net::{ConnectionLimit, NetError, passed_sockets};

pub use self::apply::apply;
#[cfg(feature = "srs-conf")]
pub use self::apply::convert;
pub use self::log::LogError;

/// Why the server did not start, or not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Another server holds the PID file.
    #[error("server.pid_file: {path} is held by process {pid}: rillbox is running already", path = path.display())]
    AlreadyRunning {
        /// The PID file.
        path: PathBuf,
        /// What it says.
        pid: String,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the configuration names is not as it has to be.
    #[error("{0}")]
    Unusable(String),
    /// The log can't be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A port can't be opened, or a certificate not be read.
    #[error("{key}: {source}")]
    Net {
        /// The key that asked for it.
        key: &'static str,
        /// Why.
        source: NetError,
    },
    /// The PID file can't be written.
    #[error("server.pid_file: cannot write {path}: {source}", path = path.display())]
    PidFile {
        /// The PID file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses threads or signal handlers.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Reads the configuration `file` and the environment.
///
/// # Errors
///
/// The file can't be read or is wrong, or what it names can't be used.
pub fn load(file: Option<&Path>) -> Result<Loaded, ServerError> {
    let loaded = config::load(file, environment())?;
    services::usable(&loaded.config)?;
    Ok(loaded)
}

fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// What `rillbox check` says of a configuration that is right.
#[must_use]
pub fn summary(loaded: &Loaded, file: Option<&Path>) -> String {
    let name = file.map_or("the configuration (no file)".into(), |file| file.display().to_string());
    let mut text = format!("{name} is right; what differs from the defaults:\n");
    let differences = Config::default().differences(&loaded.config);
    for (path, value) in differences.iter().filter_map(|d| Some((&d.path, d.new.as_ref()?))) {
        text += &format!("  {path} = {value}\n");
    }
    if differences.is_empty() {
        text += "  nothing\n";
    }
    for warning in &loaded.warnings {
        text += &format!("warning: {warning}\n");
    }
    for note in &loaded.notes {
        text += &format!("needs no key: {note}\n");
    }
    text
}

/// `rillbox passwd`: see [`access::passwd`](crate::access::passwd).
///
/// # Errors
///
/// No password, or a configuration that would be wrong.
#[cfg(feature = "access")]
pub fn passwd(line: Vec<String>, file: Option<PathBuf>) -> Result<String, crate::access::CommandError> {
    let check = |name: &str, text: &str| config::parse(name, text, environment()).map(drop);
    crate::access::passwd(line, crate::access::Store { file, check: &check })
}

/// `rillbox token`: see [`access::token`](crate::access::token).
///
/// # Errors
///
/// A name that is none, or no secret to sign with.
#[cfg(feature = "access")]
pub fn token(line: Vec<String>, file: Option<PathBuf>) -> Result<String, Box<dyn std::error::Error>> {
    crate::access::token(line, file, |file| load(file).map(|loaded| loaded.config))
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// It can't start; nothing was served then.
pub fn run(file: Option<&Path>) -> Result<(), ServerError> {
    let passed = passed_sockets(|name| std::env::var(name).ok());
    let text = file.map_or_else(|| Ok(String::new()), config::read)?;
    let Loaded { mut config, warnings, .. } = config::load_text(file, &text, environment())?;
    services::usable(&config)?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let sockets = Sockets::new(passed, &mut config, &mut warnings);
    Instance::name(&config.server.id);
    let pid_file = config.server.pid_file.as_deref().map(PidFile::lock).transpose()?;
    log::start(&config.log)?;
    for warning in warnings {
        ::log::warn!("{warning}");
    }
    let runtime = runtime(config.server.workers)?;
    let result = runtime.block_on(async {
        let mut server = Server::start(file, text, config, sockets)?;
        server.run().await;
        server.stop().await;
        Ok(())
    });
    // Whoever is still there had the time that the configuration gives.
    runtime.shutdown_background();
    drop(pid_file);
    log::flush();
    result
}

/// A runtime of `workers` threads, or as many as there are processors. One thread is spared the cost of
/// the others.
fn runtime(workers: u32) -> io::Result<Runtime> {
    let workers = match usize::try_from(workers) {
        Ok(0) | Err(_) => thread::available_parallelism().map_or(1, NonZero::get),
        Ok(workers) => workers,
    };
    match workers {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(workers).thread_name("worker").enable_all().build(),
    }
}

/// The running server.
struct Server<'a> {
    file: Option<&'a Path>,
    config: Shared,
    limit: ConnectionLimit,
    services: Services,
    notify: Notify,
    watchdog: Watchdog,
    signals: Signals,
    /// The file's text that is in force; without a file what changes make of none.
    text: String,
    /// The file's text that was read last, right or wrong.
    seen: String,
    watch: Option<Watch>,
    #[cfg(feature = "api")]
    commands: tokio::sync::mpsc::Receiver<crate::control::command::Command>,
    /// A change that has to reach the disk before anything else is changed.
    #[cfg(feature = "api")]
    storing: Option<Storing>,
}

struct Signals {
    hangup: Signal,
    user1: Signal,
    stop: StopSignals,
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            stop: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        })
    }
}

impl StopSignals {
    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl<'a> Server<'a> {
    fn start(
        file: Option<&'a Path>,
        text: String,
        config: Config,
        sockets: Sockets,
    ) -> Result<Self, ServerError> {
        // First, so that no signal kills us while we start.
        let signals = Signals::new()?;
        let (all, per_address) = connections(&config);
        let limit = ConnectionLimit::new(all, per_address);
        let notify = Notify::new(|name| std::env::var(name).ok());
        let config = Shared::new(config);
        #[cfg(feature = "api")]
        let (orders, commands) = crate::control::command::Commands::channel();
        let mut services = Services::new(
            &config,
            limit.clone(),
            sockets,
            #[cfg(feature = "api")]
            &orders,
        );
        let ready = services.prepare(&config.current())?;
        services.open(ready);
        let watchdog = Watchdog::new(config.current().server.watchdog.as_deref(), notify.watchdog_interval());
        let greeting = services.greeting();
        ::log::info!("rillbox {} is ready; {greeting}", env!("CARGO_PKG_VERSION"));
        notify.ready(&greeting);
        let mut server = Self {
            file,
            config,
            limit,
            services,
            notify,
            watchdog,
            signals,
            seen: text.clone(),
            text,
            watch: None,
            #[cfg(feature = "api")]
            commands,
            #[cfg(feature = "api")]
            storing: None,
        };
        server.watch_file();
        Ok(server)
    }

    /// Handles signals and the time until a signal to stop.
    async fn run(&mut self) {
        let mut second = every(Duration::from_secs(1));
        let mut beat = self.watchdog.interval().map(every);
        let mut told = Instant::now();
        let mut memory = Memory::new(told);
        // A tick that is early by less is in time.
        const HALF: Duration = Duration::from_millis(500);
        loop {
            // One change after the other.
            #[cfg(feature = "api")]
            let idle = self.storing.is_none();
            #[cfg(not(feature = "api"))]
            let idle = true;
            #[cfg(feature = "api")]
            let (commands, storing) = (self.commands.recv(), Storing::done(&mut self.storing));
            #[cfg(not(feature = "api"))]
            let (commands, storing) = (std::future::pending::<()>(), std::future::pending::<()>());
            tokio::select! {
                signal = self.signals.stop.next() => {
                    ::log::info!("{signal}: stopping");
                    return;
                }
                _ = self.signals.hangup.recv(), if idle => drop(self.reload()),
                () = changed(&mut self.watch), if idle => self.reload_if_new(),
                command = commands, if idle => {
                    #[cfg(feature = "api")]
                    if let Some(command) = command {
                        self.command(command);
                    }
                    #[cfg(not(feature = "api"))]
                    let () = command;
                },
                result = storing, if !idle => {
                    #[cfg(feature = "api")]
                    self.stored(result);
                    #[cfg(not(feature = "api"))]
                    let () = result;
                },
                _ = self.signals.user1.recv() => log::reopen(),
                () = tick(&mut beat) => feed(&mut self.watchdog, &self.services, &self.notify),
                _ = second.tick() => {
                    let now = Instant::now();
                    let interval = self.config.current().log.stream_interval;
                    let tell = !interval.is_zero() && now.saturating_duration_since(told) + HALF >= interval;
                    if tell {
                        told = now;
                    }
                    self.services.tick(now, tell);
                    memory.tick(now);
                }
            }
        }
    }

    /// Sees everybody off, but not for ever.
    async fn stop(&mut self) {
        self.notify.stopping();
        let timeout = self.config.current().server.shutdown_timeout;
        let deadline = Instant::now() + timeout;
        self.services.stop();
        let mut beat = self.watchdog.interval().map(every);
        let mut ended = pin!(self.services.ended(deadline));
        let done = loop {
            tokio::select! {
                done = &mut ended => break done,
                signal = self.signals.stop.next() => {
                    ::log::warn!("{signal} again: ending at once");
                    break false;
                }
                () = tick(&mut beat) => feed(&mut self.watchdog, &self.services, &self.notify),
            }
        };
        self.watchdog.give_up();
        if done {
            ::log::info!("stopped");
        } else {
            ::log::warn!("stopped with {} connections open", self.limit.open());
        }
    }
}

/// Word that the configuration file may be another one; never, if it isn't watched.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Feeds the watchdogs, unless a part of us hangs.
fn feed(watchdog: &mut Watchdog, services: &Services, notify: &Notify) {
    if watchdog.beat(services.ask(), Instant::now()) {
        notify.alive();
    }
}

/// How many connections the configuration and the system allow: all, and from one address.
fn connections(config: &Config) -> (usize, usize) {
    let all = limits::fit(config.server.max_connections) as usize;
    let per_address = match config.server.max_connections_per_ip {
        0 => all.div_ceil(2),
        most => most as usize,
    };
    (all, per_address)
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The next tick; never, without an interval.
async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
