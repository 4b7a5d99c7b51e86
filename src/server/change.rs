//! Another configuration while the server runs: read anew, or changed by those who ask for it.
//!
//! A change is prepared first: whatever can fail (ports, certificates, the log's file) is done, and nothing is changed when it
//! does. A change by the API reaches the disk before it is in force, and is in force before it is confirmed.

use super::services::Ready;
use super::watch::Watch;
use super::{Server, ServerError, connections, environment, log, services};
use crate::config::{self, Changes, Config, Difference, Loaded};
use crate::net::masked;

/// A configuration that can be put in force.
pub(super) struct Step {
    config: Config,
    changes: Changes,
    differences: Vec<Difference>,
    warnings: Vec<String>,
    ready: Ready,
}

/// What was changed.
#[cfg_attr(not(feature = "api"), expect(dead_code, reason = "only the API tells it"))]
pub(super) struct Changed {
    pub differences: Vec<Difference>,
    pub restart: Vec<String>,
    pub warnings: Vec<String>,
}

impl Server<'_> {
    /// Puts in force what the file says now, or leaves all as it is.
    pub(super) fn reload(&mut self) -> Result<Changed, ServerError> {
        self.notify.reloading();
        let result = self.try_reload();
        if let Err(error) = &result {
            for line in error.to_string().lines() {
                ::log::error!("reload: {line}");
            }
            ::log::error!("reload: the configuration is wrong, so that nothing was changed");
        }
        self.notify.ready(&self.services.greeting());
        result
    }

    /// [`Self::reload`], if the file's text is not the one that was read last.
    pub(super) fn reload_if_new(&mut self) {
        let Some(file) = self.file else { return };
        match config::read(file) {
            Ok(text) if text == self.seen => {}
            Ok(_) => {
                ::log::info!("{} was changed", file.display());
                let _ = self.reload();
            }
            // It may be between two steps of its editor; the next one is seen, too.
            Err(error) => ::log::debug!("{error}"),
        }
    }

    fn try_reload(&mut self) -> Result<Changed, ServerError> {
        let text = match self.file {
            Some(file) => config::read(file)?,
            None => self.text.clone(),
        };
        self.seen.clone_from(&text);
        let loaded = config::load_text(self.file, &text, environment())?;
        let step = self.prepare(loaded)?;
        let before = self.config.current();
        if step.config.log.target != before.log.target {
            log::start(&step.config.log)?;
        }
        self.text = text;
        Ok(self.commit(step, "reload"))
    }

    /// Does of a new configuration what can fail.
    pub(super) fn prepare(&self, loaded: Loaded) -> Result<Step, ServerError> {
        let Loaded { config: mut newer, warnings, .. } = loaded;
        services::usable(&newer)?;
        self.services.put_sockets_in(&mut newer);
        let current = self.config.current();
        let mut config = Config::clone(&current);
        let changes = config.adopt(&newer);
        let differences = current.all_differences(&newer, &changes);
        let ready = self.services.prepare(&config)?;
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Step { config, changes, differences, warnings, ready })
    }

    /// Puts it in force; `by` is who wanted that, for the log.
    pub(super) fn commit(&mut self, step: Step, by: &str) -> Changed {
        let Step { config, changes, differences, warnings, ready } = step;
        ::log::set_max_level(config.log.level);
        let (all, per_address) = connections(&config);
        self.limit.set_max(all, per_address);
        self.config.replace(config.clone());
        // Who comes by a new door finds the new rules.
        self.services.open(ready);
        self.services.reloaded(&config);
        self.watch_file();
        for warning in &warnings {
            ::log::warn!("{by}: {warning}");
        }
        for change in &changes.restart {
            ::log::warn!("{by}: {} needs a restart", shown(change));
        }
        match changes.applied.len() {
            0 => ::log::info!("{by}: nothing else to change"),
            _ => {
                let all: Vec<String> = changes.applied.iter().map(|change| shown(change)).collect();
                ::log::info!("{by}: now {}", all.join(", "));
            }
        }
        Changed { differences, restart: changes.restart, warnings }
    }

    /// Watches the file, if it is to be.
    pub(super) fn watch_file(&mut self) {
        let Some(file) = self.file.filter(|_| self.config.current().server.watch_config) else {
            self.watch = None;
            return;
        };
        if self.watch.is_none() {
            match Watch::new(file) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => ::log::warn!("server.watch_config: cannot watch {}: {error}", file.display()),
            }
        }
    }
}

/// Values in TOML as logs and answers may show them: without what URLs hide.
fn shown(text: &str) -> String {
    let mask = |part: &str| if part.contains("://") { masked(part) } else { part.to_owned() };
    text.split('"').map(mask).collect::<Vec<_>>().join("\"")
}

#[cfg(feature = "api")]
pub(super) use self::api::Storing;

#[cfg(feature = "api")]
mod api {
    use std::path::Path;

    use serde_json::Value;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::{Changed, Server, ServerError, Step, environment, shown};
    use crate::config::{self, ConfigError, Document, Loaded, StoreError};
    use crate::control::command::{Answer, Applied, Command, Refused};

    /// What begins lines of the log.
    const BY: &str = "API";

    /// A change on its way to the disk.
    pub(in crate::server) struct Storing {
        written: JoinHandle<Result<(), StoreError>>,
        text: String,
        step: Step,
        warnings: Vec<String>,
        reply: oneshot::Sender<Answer>,
    }

    impl Storing {
        /// Waits until it is there. Nothing is lost when this is dropped and called anew.
        pub async fn done(storing: &mut Option<Self>) -> Result<(), String> {
            match storing {
                None => std::future::pending().await,
                Some(storing) => match (&mut storing.written).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(error) => Err(format!("the configuration is not written: {error}")),
                },
            }
        }
    }

    /// A change that is right.
    struct Checked {
        text: String,
        loaded: Loaded,
        warnings: Vec<String>,
        /// Whether the text is another one.
        other: bool,
    }

    impl Server<'_> {
        /// Does what the API asks for. What has to reach the disk first is finished by [`Self::stored`].
        pub(in crate::server) fn command(&mut self, command: Command) {
            match command {
                Command::Reload { reply } => {
                    let answer =
                        self.reload().map(|changed| applied(changed, self.file.is_some())).map_err(refused);
                    let _ = reply.send(answer);
                }
                Command::Patch { patch, validate_only, reply } => match self.begin(&patch, validate_only) {
                    Err(refused) => {
                        let _ = reply.send(Err(refused));
                    }
                    Ok((step, checked)) if validate_only => {
                        let changed = Changed {
                            differences: step.differences,
                            restart: step.changes.restart,
                            warnings: checked.warnings,
                        };
                        let _ = reply.send(Ok(applied(changed, false)));
                    }
                    Ok((step, checked)) => match self.file.filter(|_| checked.other) {
                        Some(file) => {
                            let (file, text) = (file.to_owned(), checked.text.clone());
                            let written = tokio::task::spawn_blocking(move || config::store(&file, &text));
                            let (text, warnings) = (checked.text, checked.warnings);
                            self.storing = Some(Storing { written, text, step, warnings, reply });
                        }
                        None => {
                            let written = self.file.is_some();
                            let _ =
                                reply.send(Ok(self.finish(step, checked.text, checked.warnings, written)));
                        }
                    },
                },
            }
        }

        /// A change has reached the disk, or not.
        pub(in crate::server) fn stored(&mut self, result: Result<(), String>) {
            let Some(storing) = self.storing.take() else { return };
            let Storing { text, step, warnings, reply, .. } = storing;
            let answer = match result {
                Ok(()) => Ok(self.finish(step, text, warnings, true)),
                Err(error) => {
                    ::log::error!("{BY}: {error}");
                    Err(Refused::NotWritten(error))
                }
            };
            let _ = reply.send(answer);
        }

        fn finish(&mut self, step: Step, text: String, mut warnings: Vec<String>, written: bool) -> Applied {
            self.seen.clone_from(&text);
            self.text = text;
            let changed = self.commit(step, BY);
            if !written {
                warnings.push(
                    "the server was started without a configuration file: this lasts until it stops"
                        .to_owned(),
                );
            }
            warnings.extend(changed.warnings);
            applied(Changed { warnings, ..changed }, written)
        }

        fn begin(&self, patch: &Value, validate_only: bool) -> Result<(Step, Checked), Refused> {
            let checked = self.check(patch)?;
            let wanted = if validate_only { "would be" } else { "is" };
            let step = self.prepare(checked.loaded.clone()).map_err(refused);
            step.inspect_err(|error| ::log::info!("{BY}: a change {wanted} refused: {error}"))
                .map(|step| (step, checked))
        }

        /// What a patch makes of the file, if that may be.
        fn check(&self, patch: &Value) -> Result<Checked, Refused> {
            let conflict = |error: ConfigError| {
                Refused::Conflict(format!(
                    "the configuration file has to be put right by hand first: {error}"
                ))
            };
            if let Some(file) = self.file.filter(|file| config::is_srs(file)) {
                return Err(Refused::Conflict(of_srs(file)));
            }
            let old = self.file.map_or_else(|| Ok(self.text.clone()), config::read).map_err(conflict)?;
            let name = self.file.map_or(String::new(), |file| file.display().to_string());
            let before = config::load_text(self.file, &old, environment()).map_err(conflict)?;
            let text = Document::parse(&name, &old).map_err(conflict)?.patch(patch).map_err(invalid)?.text();
            let loaded = config::load_text(self.file, &text, environment()).map_err(invalid)?;
            let local: Vec<String> = before
                .config
                .differences(&loaded.config)
                .into_iter()
                .filter_map(|difference| difference.is_local().then_some(difference.path))
                .collect();
            if !local.is_empty() {
                return Err(Refused::Forbidden(format!(
                    "{}: keys that name a place on this machine are changed in its configuration file only",
                    local.join(", ")
                )));
            }
            let warnings = config::by_environment(&text, environment())
                .into_iter()
                .filter(|(path, _)| names(patch, path))
                .map(|(path, variable)| {
                    format!("{}: the environment's {variable} wins over the file", path.join("."))
                })
                .collect();
            Ok(Checked { other: text != old, text, loaded, warnings })
        }
    }

    fn of_srs(file: &Path) -> String {
        let file = file.display();
        format!(
            "{file} is SRS's, and is not written: let \"rillbox convert {file}\" make a file in TOML of it, and start the \
             server with that one"
        )
    }

    /// Whether a patch sets the key at `path`.
    fn names(patch: &Value, path: &[String]) -> bool {
        path.iter().try_fold(patch, |patch, name| patch.get(name)).is_some_and(|value| !value.is_null())
    }

    fn applied(changed: Changed, written: bool) -> Applied {
        let Changed { mut differences, restart, warnings } = changed;
        for value in differences.iter_mut().flat_map(|difference| [&mut difference.old, &mut difference.new])
        {
            *value = value.take().map(|text| shown(&text));
        }
        let needs_restart = restart.iter().map(|change| shown(change)).collect();
        Applied { differences, needs_restart, warnings, written }
    }

    fn invalid(error: ConfigError) -> Refused {
        match error {
            ConfigError::Invalid(problems) => Refused::Invalid(problems),
            error => Refused::Unusable(error.to_string()),
        }
    }

    fn refused(error: ServerError) -> Refused {
        match error {
            ServerError::Config(error) => invalid(error),
            error => Refused::Unusable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_urls_hide_is_not_shown() {
        let text = "vhost.default.hooks.on_publish = [\"https://u:p@h/x?token=s\", \"http://a/b\"]";
        let expected = "vhost.default.hooks.on_publish = [\"https://***@h/x?token=***\", \"http://a/b\"]";
        assert_eq!((shown(text).as_str(), shown("a = \"b\"").as_str()), (expected, "a = \"b\""));
    }
}
