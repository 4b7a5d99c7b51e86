//! JSON as it stands: with the order of its fields, and whether a number is written with decimals.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut rest = text.trim();
        let value = value(&mut rest).unwrap_or_else(|| panic!("no JSON at {rest:?} of {text}"));
        assert!(rest.trim().is_empty(), "{rest:?} after {text}");
        value
    }

    /// The value of a field; of an index in a list.
    #[track_caller]
    pub fn at(&self, name: &str) -> &Self {
        let found = match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            Self::List(items) => items.get(name.parse::<usize>().unwrap()),
            _ => None,
        };
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("{self:?} is no text") };
        text
    }

    #[track_caller]
    pub fn number(&self) -> f64 {
        match self {
            Self::Integer(n) => *n as f64,
            Self::Decimal(n) => *n,
            _ => panic!("{self:?} is no number"),
        }
    }

    #[track_caller]
    pub fn items(&self) -> &[Self] {
        let Self::List(items) = self else { panic!("{self:?} is no list") };
        items
    }

    /// Whether another value has the same names, nesting, types and order. Items of lists are compared with the first one.
    pub fn is_like(&self, other: &Self, place: &str) -> Result<(), String> {
        match (self, other) {
            (Self::Object(ours), Self::Object(theirs)) => {
                let keys =
                    |fields: &[(String, Self)]| fields.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
                if keys(ours) != keys(theirs) {
                    return Err(format!("{place}: {:?} instead of {:?}", keys(ours), keys(theirs)));
                }
                ours.iter()
                    .zip(theirs)
                    .try_for_each(|((key, our), (_, their))| our.is_like(their, &format!("{place}.{key}")))
            }
            (Self::List(ours), Self::List(theirs)) => {
                let Some(their) = theirs.first() else { return Ok(()) };
                ours.iter().enumerate().try_for_each(|(n, our)| our.is_like(their, &format!("{place}[{n}]")))
            }
            _ if std::mem::discriminant(self) == std::mem::discriminant(other) => Ok(()),
            _ => Err(format!("{place}: {self:?} instead of {other:?}")),
        }
    }
}

fn value(rest: &mut &str) -> Option<Json> {
    *rest = rest.trim_start();
    for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
        if let Some(after) = rest.strip_prefix(word) {
            *rest = after;
            return Some(value);
        }
    }
    match rest.chars().next()? {
        '{' => list(rest, '}', |rest| {
            let Json::Text(key) = value(rest)? else { return None };
            skip(rest, ':')?;
            Some((key, value(rest)?))
        })
        .map(Json::Object),
        '[' => list(rest, ']', value).map(Json::List),
        '"' => {
            let mut escaped = true;
            let (end, _) = rest.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            })?;
            let text: String = serde_json::from_str(&rest[..=end]).ok()?;
            *rest = &rest[end + 1..];
            Some(Json::Text(text))
        }
        _ => {
            let end = rest
                .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            *rest = after;
            let integer = number.parse().map(Json::Integer);
            integer.ok().or_else(|| number.parse().map(Json::Decimal).ok())
        }
    }
}

fn skip(rest: &mut &str, c: char) -> Option<()> {
    *rest = rest.trim_start().strip_prefix(c)?;
    Some(())
}

fn list<T>(rest: &mut &str, end: char, item: impl Fn(&mut &str) -> Option<T>) -> Option<Vec<T>> {
    *rest = &rest[1..];
    let mut items = Vec::new();
    loop {
        if skip(rest, end).is_some() {
            return Some(items);
        }
        if !items.is_empty() {
            skip(rest, ',')?;
        }
        items.push(item(rest)?);
    }
}
