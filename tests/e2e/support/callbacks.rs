//! A callback server of ours: it writes down what it gets, and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::wait_for;

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// With this status and body.
    This(u16, &'static str),
    /// With bytes that are no HTTP.
    Garbage,
    /// Never.
    Nothing,
}

/// What it got.
#[derive(Debug, Clone)]
pub struct Callback {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub content_type: String,
    pub body: String,
}

impl Callback {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A field of its body.
    #[track_caller]
    pub fn field(&self, name: &str) -> Value {
        self.json()[name].clone()
    }

    /// Names and types of the fields of its body in their order, e.g. `["pid s", "self {pid i}"]`.
    #[track_caller]
    pub fn shape(&self) -> String {
        shape(&mut self.body.as_str())
    }
}

/// What JSON at the beginning of `text` looks like; `text` is what follows.
fn shape(text: &mut &str) -> String {
    let skip = |text: &mut &str| *text = text.trim_start_matches([' ', ',', ':', '\n']);
    skip(text);
    let first = text.chars().next().unwrap();
    match first {
        '{' | '[' => {
            *text = &text[1..];
            let mut parts = Vec::new();
            loop {
                skip(text);
                if let Some(rest) = text.strip_prefix(['}', ']']) {
                    *text = rest;
                    break;
                }
                let name = if first == '{' { word(text) + " " } else { String::new() };
                parts.push(name + &shape(text));
            }
            if first == '{' { format!("{{{}}}", parts.join(" ")) } else { format!("[{}]", parts.join(" ")) }
        }
        '"' => {
            word(text);
            "s".to_owned()
        }
        _ => {
            let end = text.find([',', '}', ']']).unwrap_or(text.len());
            let (value, rest) = text.split_at(end);
            *text = rest;
            match value.parse::<i64>() {
                Ok(_) => "i".to_owned(),
                Err(_) if value.parse::<f64>().is_ok() => "f".to_owned(),
                Err(_) => value.to_owned(),
            }
        }
    }
}

/// The string that `text` begins with.
fn word(text: &mut &str) -> String {
    let mut read = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let word = read.next().unwrap().unwrap();
    let end = read.byte_offset();
    *text = &text[end..];
    word
}

/// The server.
pub struct Callbacks {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Callback>>>,
}

impl Callbacks {
    /// Starts one that answers a path with what `says` says.
    pub fn start(says: fn(&str) -> Says) -> Self {
        Self::with(says, |stream| Some(Box::new(stream)))
    }

    /// The same behind something that makes a stream of a connection.
    pub fn with(says: fn(&str) -> Says, open: fn(TcpStream) -> Option<Box<dyn ReadWrite>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<Callback>>>::default();
        let sink = got.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let sink = sink.clone();
                std::thread::spawn(move || open(socket).map(|stream| serve(stream, says, &sink)));
            }
        });
        Self { address, got }
    }

    /// `http://…/` and this.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// All that it got for a path that begins so.
    pub fn all(&self, path: &str) -> Vec<Callback> {
        self.got.lock().unwrap().iter().filter(|got| got.target.starts_with(path)).cloned().collect()
    }

    /// The first that it got for a path of which `is_it` holds, waited for.
    #[track_caller]
    pub fn wait(&self, path: &str, is_it: impl Fn(&Callback) -> bool) -> Callback {
        wait_for(&format!("a callback {path}"), || self.all(path).into_iter().find(|got| is_it(got)))
    }
}

/// A connection.
pub trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

fn serve(stream: Box<dyn ReadWrite>, says: fn(&str) -> Says, sink: &Mutex<Vec<Callback>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let header = |name: &str| -> String {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
        };
        let mut words = head.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).unwrap();
        let answer = says(&target);
        sink.lock().unwrap().push(Callback { method, target, content_type: header("content-type"), body });
        let out = stream.get_mut();
        match answer {
            Says::This(status, text) => {
                let length = text.len();
                write!(out, "HTTP/1.1 {status} It\r\nContent-Length: {length}\r\n\r\n{text}").ok()?;
            }
            Says::Garbage => write!(out, "\x16\x03\x01 hello?\r\n\r\n{{\"code\":0}}").ok()?,
            Says::Nothing => std::thread::sleep(std::time::Duration::from_secs(600)),
        }
        out.flush().ok()?;
    }
}

#[test]
fn shapes() {
    let text = r#"{"a": 1, "b":{"c":[],"d":"x\"}"},"e":2.50,"f":["y","z"],"g":true}"#;
    let expected = "{a i b {c [] d s} e f f [s s] g true}";
    assert_eq!(shape(&mut &*text), expected);
}
