//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use rillbox::config::FILE_VARIABLE;
use rillbox::server;

const HELP: &str = "\
Rillbox, a live-media server in a box.

Usage: rillbox [COMMAND] [OPTIONS]

Commands:
  run      Run the server (this is what no command does, too)
  check    Check the configuration: 0 and a summary, or 1 and what is wrong
  apply NEW  Check the configuration in the file NEW (-: standard input) and put it in FILE's place, so that a
           power cut leaves the old one or the new: 0 and what changes when it is on the disk
  convert FILE  Print SRS's configuration FILE as TOML, with what is not taken over as comments
  passwd --user NAME [--role ROLE]  Ask for a password (at the terminal, or standard input's first line) and put the user
           into FILE, or print what to put there. Roles: viewer, publisher, operator, admin
  token play|publish APP/STREAM [--vhost NAME] [--time 1h] [--ip ADDRESS]  Print the parameters that let a player or
           publisher in (access.token_secrets)
  version  Print the version and what is built in (also --version, -V)
  help     Print this (also --help, -h)

Options of run, check, apply, passwd and token:
  -c, --config FILE  Configuration file; without one all has its default (apply needs one). One whose name ends in .conf
                     is SRS's, whose SRS_* variables count then, too; with SRS_ENV_ONLY=on they are all there is.
                     The environment's RILLBOX_CONFIG names it, too, and so does SRS_CONFIG_FILE.
  -t                 Check, as SRS's option does.
  -e                 SRS_ENV_ONLY=on, as SRS's option does.

Each key can be set by the environment, e.g. RILLBOX_RTMP_LISTEN=1935; conf/full.toml shows every key.
Signals: HUP reads the configuration anew, USR1 opens the log file anew, TERM and INT stop.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Apply {
        new: PathBuf,
        file: PathBuf,
    },
    #[cfg(feature = "bench")]
    Bench(Vec<String>),
    Run(Option<PathBuf>),
    Check(Option<PathBuf>),
    #[cfg(feature = "srs-conf")]
    Convert(PathBuf),
    Help,
    #[cfg(feature = "access")]
    Passwd(Vec<String>, Option<PathBuf>),
    #[cfg(feature = "access")]
    Token(Vec<String>, Option<PathBuf>),
    Version,
}

/// The command line was not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    #[cfg(feature = "srs-conf")]
    if let Some(error) = environment_only() {
        return fail(&error);
    }
    let variable = |name| std::env::var_os(name).filter(|file| !file.is_empty());
    let env = variable(FILE_VARIABLE).or_else(|| variable("SRS_CONFIG_FILE"));
    let command = match parse(std::env::args_os().skip(1), env) {
        Ok(command) => command,
        Err(text) => {
            eprintln!("rillbox: {text}; see rillbox --help");
            return ExitCode::from(USAGE);
        }
    };
    match command {
        #[cfg(feature = "bench")]
        Command::Bench(line) => {
            if let Err(error) = rillbox::bench::run(line) {
                return fail(&error);
            }
        }
        Command::Apply { new, file } => match server::apply(&new, &file) {
            Ok(text) => print!("{text}"),
            Err(error) => return fail(&error),
        },
        Command::Help => print!("{HELP}"),
        #[cfg(feature = "access")]
        Command::Passwd(line, file) => match server::passwd(line, file) {
            Ok(text) => print!("{text}"),
            Err(error) => return fail(&error),
        },
        #[cfg(feature = "access")]
        Command::Token(line, file) => match server::token(line, file) {
            Ok(text) => print!("{text}"),
            Err(error) => return fail(&*error),
        },
        Command::Version => println!("rillbox {} ({})", env!("CARGO_PKG_VERSION"), features().join(" ")),
        Command::Check(file) => match server::load(file.as_deref()) {
            Ok(loaded) => print!("{}", server::summary(&loaded, file.as_deref())),
            Err(error) => return fail(&error),
        },
        #[cfg(feature = "srs-conf")]
        Command::Convert(file) => match server::convert(&file) {
            Ok(text) => print!("{text}"),
            Err(error) => return fail(&error),
        },
        Command::Run(file) => {
            if let Err(error) = server::run(file.as_deref()) {
                return fail(&error);
            }
        }
    }
    ExitCode::SUCCESS
}

/// With `-e` this program begins anew, in an environment that says so: whoever reads it finds it in one place. Returns only
/// if there is nothing to do, or if that failed.
#[cfg(feature = "srs-conf")]
fn environment_only() -> Option<std::io::Error> {
    use std::os::unix::process::CommandExt;
    if !std::env::args_os().skip(1).any(|arg| arg == "-e") {
        return None;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(error),
    };
    let args = std::env::args_os().skip(1).filter(|arg| arg != "-e");
    Some(std::process::Command::new(program).args(args).env("SRS_ENV_ONLY", "on").exec())
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("rillbox: {line}");
    }
    ExitCode::FAILURE
}

/// Reads the command line; `file` is what the environment says.
fn parse(args: impl IntoIterator<Item = OsString>, file: Option<OsString>) -> Result<Command, String> {
    let mut file = file.map(PathBuf::from);
    let (mut command, mut new) = (None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match &*text {
            "-h" | "-?" | "--help" | "help" => return Ok(Command::Help),
            "-V" | "-v" | "-g" | "-G" | "--version" | "version" => return Ok(Command::Version),
            #[cfg(feature = "bench")]
            "bench" if command.is_none() => {
                return Ok(Command::Bench(args.map(|arg| arg.to_string_lossy().into_owned()).collect()));
            }
            #[cfg(feature = "access")]
            "passwd" | "token" if command.is_none() => {
                let rest = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
                return Ok(match &*text {
                    "passwd" => Command::Passwd(rest, file),
                    _ => Command::Token(rest, file),
                });
            }
            "-c" | "--config" => {
                file = Some(args.next().ok_or(format!("{text} needs a file"))?.into());
            }
            "-t" if command.is_none() => command = Some("check".to_owned()),
            "apply" | "convert" | "run" | "check" if command.is_none() => command = Some(text.into_owned()),
            _ => match text.strip_prefix("--config=") {
                Some(path) if !path.is_empty() => file = Some(path.into()),
                Some(_) => return Err("--config needs a file".into()),
                None if text.starts_with('-') && text != "-" => {
                    return Err(format!("unknown option {text:?}"));
                }
                None if matches!(command.as_deref(), Some("apply" | "convert")) && new.is_none() => {
                    new = Some(arg.into());
                }
                None if command.is_some() => return Err(format!("unexpected {text:?}")),
                None => return Err(format!("unknown command {text:?}")),
            },
        }
    }
    Ok(match command.as_deref() {
        Some("apply") => Command::Apply {
            new: new.ok_or("apply needs the new configuration: a file, or - for standard input")?,
            file: file.ok_or(format!("apply needs to know what to replace: -c FILE or {FILE_VARIABLE}"))?,
        },
        Some("check") => Command::Check(file),
        #[cfg(feature = "srs-conf")]
        Some("convert") => {
            Command::Convert(new.or(file).ok_or("convert needs SRS's configuration: convert FILE")?)
        }
        #[cfg(not(feature = "srs-conf"))]
        Some("convert") => {
            return Err("this build doesn't read SRS's configurations (Cargo feature \"srs-conf\")".into());
        }
        _ => Command::Run(file),
    })
}

/// What is built in.
fn features() -> Vec<&'static str> {
    let all = [
        ("access", cfg!(feature = "access")),
        ("rtmp", cfg!(feature = "rtmp")),
        ("http-live", cfg!(feature = "http-live")),
        ("hls", cfg!(feature = "hls")),
        ("console", cfg!(feature = "console")),
        ("dash", cfg!(feature = "dash")),
        ("record", cfg!(feature = "record")),
        ("relay", cfg!(feature = "relay")),
        ("srs-conf", cfg!(feature = "srs-conf")),
        ("srt", cfg!(feature = "srt")),
        ("tls", cfg!(feature = "tls")),
        ("transcode-audio", cfg!(feature = "transcode-audio")),
        ("webrtc", cfg!(feature = "webrtc")),
        ("bench", cfg!(feature = "bench")),
    ];
    all.into_iter().filter_map(|(name, built)| built.then_some(name)).collect()
}

/// Firmware has no unwinding tables, so that a backtrace would have no frames. What walks them (33 KiB of C) is not linked
/// because what the standard library calls is here already. 32-bit ARM has tables of its own, which call it, too.
#[cfg(all(no_unwind_tables, not(target_arch = "arm")))]
#[allow(unsafe_code, non_snake_case, reason = "the names are what counts")]
mod unwind {
    /// `_URC_END_OF_STACK`
    const END_OF_STACK: i32 = 5;

    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Backtrace(_each: *const (), _with: *const ()) -> i32 {
        END_OF_STACK
    }

    /// What would be asked of a frame: none of them is ever called.
    macro_rules! of_a_frame {
        ($($name:ident)+) => {
            $(
                #[unsafe(no_mangle)]
                extern "C" fn $name() -> usize {
                    0
                }
            )+
        };
    }

    of_a_frame!(_Unwind_FindEnclosingFunction _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetLanguageSpecificData);
    of_a_frame!(_Unwind_GetRegionStart _Unwind_GetTextRelBase);
    of_a_frame!(_Unwind_GetIP _Unwind_GetIPInfo);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &str) -> Result<Command, String> {
        parse(args.split_whitespace().map(OsString::from), None)
    }

    #[test]
    fn command_lines() {
        assert_eq!(line(""), Ok(Command::Run(None)));
        assert_eq!(line("run"), Ok(Command::Run(None)));
        assert_eq!(line("run -c a.toml"), Ok(Command::Run(Some("a.toml".into()))));
        assert_eq!(line("-c a.toml"), Ok(Command::Run(Some("a.toml".into()))));
        assert_eq!(line("--config=a.toml check"), Ok(Command::Check(Some("a.toml".into()))));
        assert_eq!(line("check --config a.toml"), Ok(Command::Check(Some("a.toml".into()))));
        assert_eq!(line("-t -c srs.conf"), Ok(Command::Check(Some("srs.conf".into()))));
        #[cfg(feature = "srs-conf")]
        for convert in ["convert srs.conf", "convert -c srs.conf"] {
            assert_eq!(line(convert), Ok(Command::Convert("srs.conf".into())));
        }
        let applied = |new: &str| Ok(Command::Apply { new: new.into(), file: "a.toml".into() });
        assert_eq!(line("apply new.toml -c a.toml"), applied("new.toml"));
        assert_eq!(line("-c a.toml apply -"), applied("-"));
        for version in ["version", "--version", "-V", "-v", "-g"] {
            assert_eq!(line(version), Ok(Command::Version));
        }
        for help in ["help", "--help", "-h", "run --help"] {
            assert_eq!(line(help), Ok(Command::Help));
        }
    }

    #[test]
    fn mistakes() {
        assert_eq!(line("-c"), Err("-c needs a file".into()));
        assert_eq!(line("--config="), Err("--config needs a file".into()));
        assert_eq!(line("fly"), Err("unknown command \"fly\"".into()));
        assert_eq!(line("run check"), Err("unexpected \"check\"".into()));
        assert_eq!(line("run -"), Err("unexpected \"-\"".into()));
        assert_eq!(line("apply a b -c c"), Err("unexpected \"b\"".into()));
        #[cfg(feature = "srs-conf")]
        assert!(line("convert").unwrap_err().starts_with("convert needs"));
        assert!(line("apply -c c").unwrap_err().starts_with("apply needs the new configuration"));
        let error = line("apply a").unwrap_err();
        assert_eq!(error, "apply needs to know what to replace: -c FILE or RILLBOX_CONFIG");
        assert_eq!(line("run --fast"), Err("unknown option \"--fast\"".into()));
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let env = || Some(OsString::from("env.toml"));
        assert_eq!(parse([], env()), Ok(Command::Run(Some("env.toml".into()))));
        let args = ["-c", "a.toml"].map(OsString::from);
        assert_eq!(parse(args, env()), Ok(Command::Run(Some("a.toml".into()))));
    }
}
