//! The grammar of SRS's configuration files: `name argument… ;` and `name argument… { … }`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::item::{Place, Problems};

/// Blocks within blocks; SRS needs four.
const DEEPEST: usize = 16;
/// Files that a configuration may be made of.
const MOST_FILES: usize = 64;
/// Directives of all files together.
const MOST_DIRECTIVES: usize = 20_000;

/// One directive with its block, if it has one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Directive {
    pub name: String,
    pub args: Vec<String>,
    pub block: Vec<Directive>,
    pub place: Place,
}

impl Directive {
    /// A directive of one argument.
    pub fn new(name: &str, arg: &str, place: Place) -> Self {
        Self { name: name.to_owned(), args: vec![arg.to_owned()], block: Vec::new(), place }
    }

    /// The first argument; empty where there is none.
    pub fn arg(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The first directive of a name in the block: where there are several, SRS takes that one.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.block.iter().find(|directive| directive.name == name)
    }
}

/// Where the text of an included file comes from.
pub(super) type Reader<'a> = dyn FnMut(&Path) -> Result<String, String> + 'a;

/// Reads a whole configuration, with what it includes. What is wrong is noted, and left out.
pub(super) fn parse(
    name: &str,
    text: &str,
    reader: &mut Reader<'_>,
    problems: &mut Problems,
) -> Vec<Directive> {
    let mut files = Files { reader, problems, opened: 1, directives: 0, given_up: false };
    let source = Source { name: Arc::from(name), main: true };
    files.block(&mut Tokens::of(text), &source, 0, true)
}

struct Files<'a, 'b> {
    reader: &'a mut Reader<'b>,
    problems: &'a mut Problems,
    opened: usize,
    directives: usize,
    /// A bound was passed: that is said once, and nothing more is read.
    given_up: bool,
}

#[derive(Clone)]
struct Source {
    name: Arc<str>,
    /// The file that the user named.
    main: bool,
}

impl Source {
    fn place(&self, line: usize) -> Place {
        if self.main { Place::Line(line) } else { Place::File(Arc::clone(&self.name), line) }
    }
}

impl Files<'_, '_> {
    fn wrong(&mut self, source: &Source, line: usize, text: impl Into<String>) {
        if !self.given_up {
            self.problems.add_at(&source.place(line), "", text.into());
        }
    }

    /// Directives up to the end of the block; `file`: up to the end of the file.
    fn block(
        &mut self,
        tokens: &mut Tokens<'_>,
        source: &Source,
        depth: usize,
        file: bool,
    ) -> Vec<Directive> {
        let mut block = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut first = 1;
        loop {
            let token = match tokens.next() {
                Ok(token) => token,
                Err(why) => {
                    self.wrong(source, tokens.line, why);
                    return block;
                }
            };
            if words.is_empty() {
                first = tokens.line;
            }
            match token {
                Token::Word(word) => words.push(word),
                Token::End if words.is_empty() && file => return block,
                Token::End if words.is_empty() => {
                    self.wrong(source, tokens.line, "the file ends within a block: a } is missing");
                    return block;
                }
                Token::Close if words.is_empty() && !file => return block,
                Token::Close if words.is_empty() => {
                    self.wrong(source, tokens.line, "this } closes nothing");
                }
                Token::End | Token::Close => {
                    self.wrong(source, first, format!("{:?} is not closed: a ; is missing", words.join(" ")));
                    return block;
                }
                Token::Semicolon if words.is_empty() => {}
                Token::Open if words.is_empty() => {
                    self.wrong(source, tokens.line, "this { has no name before it");
                    return block;
                }
                Token::Semicolon if words.first().is_some_and(|word| word == "include") => {
                    for name in std::mem::take(&mut words).iter().skip(1) {
                        block.extend(self.include(source, first, name, depth));
                    }
                }
                Token::Semicolon | Token::Open => {
                    let has_block = matches!(token, Token::Open);
                    self.directives += 1;
                    if self.directives > MOST_DIRECTIVES || depth >= DEEPEST {
                        let text = match depth < DEEPEST {
                            true => format!("there are more than {MOST_DIRECTIVES} directives"),
                            false => format!("blocks are nested more than {DEEPEST} deep"),
                        };
                        self.wrong(source, first, text);
                        self.given_up = true;
                    }
                    if self.given_up {
                        return block;
                    }
                    let mut args = std::mem::take(&mut words);
                    let name = args.remove(0);
                    let inner = match has_block {
                        true => self.block(tokens, source, depth + 1, false),
                        false => Vec::new(),
                    };
                    block.push(Directive { name, args, block: inner, place: source.place(first) });
                }
            }
        }
    }

    fn include(&mut self, source: &Source, line: usize, name: &str, depth: usize) -> Vec<Directive> {
        self.opened += 1;
        if self.opened > MOST_FILES {
            if self.opened == MOST_FILES + 1 {
                let text = format!("more than {MOST_FILES} files are included; does one include itself?");
                self.wrong(source, line, text);
            }
            return Vec::new();
        }
        // Where the server runs, as SRS has it; or else beside the file that includes it.
        let beside = Path::new(&*source.name).parent().map(|dir| dir.join(name));
        let mut found = (self.reader)(Path::new(name)).map(|text| (PathBuf::from(name), text));
        if let (Err(_), Some(path)) = (&found, beside)
            && let Ok(text) = (self.reader)(&path)
        {
            found = Ok((path, text));
        }
        match found {
            Ok((path, text)) => {
                let source = Source { name: Arc::from(path.display().to_string()), main: false };
                self.block(&mut Tokens::of(&text), &source, depth, true)
            }
            Err(why) => {
                self.wrong(source, line, format!("cannot include {name}: {why}"));
                Vec::new()
            }
        }
    }
}

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

struct Tokens<'a> {
    text: &'a str,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        Self { text: text.trim_start_matches('\u{feff}'), line: 1 }
    }

    fn next(&mut self) -> Result<Token, &'static str> {
        loop {
            let Some(c) = self.text.chars().next() else { return Ok(Token::End) };
            match c {
                '#' => self.skip(self.text.find('\n').unwrap_or(self.text.len())),
                ';' | '{' | '}' => {
                    self.skip(1);
                    return Ok(match c {
                        ';' => Token::Semicolon,
                        '{' => Token::Open,
                        _ => Token::Close,
                    });
                }
                '"' | '\'' => return self.quoted(c),
                c if c.is_whitespace() => self.skip(c.len_utf8()),
                _ => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, ';' | '{' | '}');
                    let len = self.text.find(ends).unwrap_or(self.text.len());
                    let word = self.text.get(..len).unwrap_or_default().to_owned();
                    self.skip(len);
                    return Ok(Token::Word(word));
                }
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, &'static str> {
        let mut word = String::new();
        let mut escaped = false;
        for (at, c) in self.text.char_indices().skip(1) {
            match c {
                _ if std::mem::take(&mut escaped) => word.push(c),
                '\\' => escaped = true,
                c if c == quote => {
                    self.skip(at + 1);
                    return Ok(Token::Word(word));
                }
                _ => word.push(c),
            }
        }
        Err("a quote is opened here and never closed")
    }

    fn skip(&mut self, len: usize) {
        let (skipped, rest) = self.text.split_at_checked(len).unwrap_or((self.text, ""));
        self.line += skipped.bytes().filter(|c| *c == b'\n').count();
        self.text = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let mut problems = Problems::of("a.conf");
        let mut reader = |path: &Path| match path.to_str() {
            Some("other.conf") => Ok("chunk_size 128;\nmax_connections 7;".to_owned()),
            Some("loop.conf") => Ok("include loop.conf;".to_owned()),
            Some("open.conf") => Ok("hls {".to_owned()),
            Some("empty.conf") => Ok(String::new()),
            _ => Err("no such file".to_owned()),
        };
        let parsed = parse("a.conf", text, &mut reader, &mut problems);
        let problems = problems.sorted();
        if problems.is_empty() { Ok(show(&parsed)) } else { Err(problems[0].to_string()) }
    }

    fn show(block: &[Directive]) -> String {
        let one = |d: &Directive| {
            let words: Vec<&str> = std::iter::once(&d.name).chain(&d.args).map(String::as_str).collect();
            let block = if d.block.is_empty() { String::new() } else { format!("{{{}}}", show(&d.block)) };
            format!("{}{block}", words.join("|"))
        };
        block.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_srs_reads() {
        for (text, expected) in [
            ("listen 1935;", "listen|1935"),
            (
                "listen 1935 1936; # two\nvhost a.b { hls { enabled on; } }",
                "listen|1935|1936 vhost|a.b{hls{enabled|on}}",
            ),
            ("a{}b{c;}", "a b{c}"),
            ("pid './a b.pid'; x \"q\\\"q\" \"\";", "pid|./a b.pid x|q\"q|"),
            ("include other.conf empty.conf; daemon off;", "chunk_size|128 max_connections|7 daemon|off"),
            ("vhost v { include other.conf; }", "vhost|v{chunk_size|128 max_connections|7}"),
            ("", ""),
            ("on_publish http://a:8085/x?y=1#z;", "on_publish|http://a:8085/x?y=1#z"),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, expected) in [
            ("a b", "a.conf:1: \"a b\" is not closed: a ; is missing"),
            ("a;\nb {\n c;\n", "a.conf:4: the file ends within a block: a } is missing"),
            ("a;\n}", "a.conf:2: this } closes nothing"),
            ("\n{ a; }", "a.conf:2: this { has no name before it"),
            ("a { b c }", "a.conf:1: \"b c\" is not closed: a ; is missing"),
            ("x \"never", "a.conf:1: a quote is opened here and never closed"),
            ("\ninclude none.conf;", "a.conf:2: cannot include none.conf: no such file"),
            ("vhost a { include open.conf; }", "open.conf:1: the file ends within a block: a } is missing"),
            ("include loop.conf;", "loop.conf:1: more than 64 files are included; does one include itself?"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read(&"a{".repeat(30)).unwrap_err().contains("nested"));
        assert!(read(&"a;".repeat(30_000)).unwrap_err().contains("more than 20000"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c;{}\"'#\\\\ \n]{0,60}") {
            let _ = read(&text);
        }
    }
}
