//! The document, made of the routes.

use serde_json::{Map, Value, json};

use super::problem::Problem;
use super::route::{Gives, Route, Verb};
use super::routes::ROUTES;
use crate::control::json::Schemas;

/// The document as text, and what changes with it.
pub(in crate::control::api) struct Document {
    pub text: String,
    /// An entity tag.
    pub tag: String,
}

impl Document {
    /// Makes it of all routes.
    pub fn new() -> Self {
        let text = document(ROUTES).to_string();
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        let tag = format!("\"{:016x}\"", text.bytes().fold(0xCBF2_9CE4_8422_2325, step));
        Self { text, tag }
    }
}

fn document(routes: &[Route]) -> Value {
    let mut known = Schemas::new();
    Problem::schema(&mut known);
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Value::Object(operations) = operations {
            operations.insert(route.method.as_str().to_ascii_lowercase(), operation(route, &mut known));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Rillbox",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Ids are texts, times RFC 3339, sizes bytes, rates kilobits a second over 30 s. While no user is \
                configured, the machine itself needs no credentials, and all others are refused.",
            "license": {"name": env!("CARGO_PKG_LICENSE")},
        },
        "paths": paths,
        "security": [{"password": []}, {"token": []}],
        "components": {
            "schemas": known,
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic", "description": "A user of the configuration."},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    })
}

/// What an id may be: what `Head` takes in a path.
const ID: &str = r"^[^/\u0000-\u001f\u007f-\u009f]+$";

fn operation(route: &Route, known: &mut Schemas) -> Value {
    let mut parameters = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "pattern": ID}}));
    }
    for query in route.query {
        parameters.push(json!({
            "name": query.name,
            "in": "query",
            "description": query.about,
            "schema": query.schema(),
            "style": "form",
            "explode": false,
        }));
    }
    let good = match route.gives {
        Gives::Json(schema) => ("200", json!({"application/json": {"schema": schema(known)}})),
        Gives::Events => ("200", json!({"text/event-stream": {"schema": {"type": "string"}}})),
        Gives::Nothing => ("204", json!({})),
    };
    let problem = json!({"$ref": "#/components/schemas/Problem"});
    let mut responses = Map::new();
    let mut answer = json!({"description": "Done."});
    if let (Value::Object(answer), Value::Object(content)) = (&mut answer, good.1)
        && !content.is_empty()
    {
        answer.insert("content".to_owned(), Value::Object(content));
    }
    responses.insert(good.0.to_owned(), answer);
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "What went wrong. What is no request at all is told in plain text.",
            "content": {
                "application/problem+json": {"schema": problem},
                "text/plain": {"schema": {"type": "string"}},
            },
        }),
    );
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "parameters": parameters,
        "responses": responses,
    });
    if let (Value::Object(operation), None) = (&mut operation, route.need) {
        operation.insert("security".to_owned(), json!([]));
    }
    if let (Value::Object(operation), Some(body)) = (&mut operation, route.body) {
        let media =
            if route.method == Verb::Patch { "application/merge-patch+json" } else { "application/json" };
        let content = json!({media: {"schema": body(known)}});
        operation.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_names_are_unique() {
        let document = document(ROUTES);
        let known = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(known.get(name).is_some_and(Value::is_object), "{name}");
        }
        let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
        assert_eq!(document["paths"]["/api/v2/streams"]["get"]["operationId"], "streams");
        assert_eq!(Document::new().tag, Document::new().tag);
    }

    #[test]
    fn paths_with_ids() {
        let route = ROUTES.iter().find(|route| route.path == "/api/v2/streams/{id}").unwrap();
        assert_eq!(route.matches("/api/v2/streams/vid-1"), Some("vid-1"));
        for path in ["/api/v2/streams", "/api/v2/streams/", "/api/v2/streams/a/b", "/api/v2/other/a"] {
            assert_eq!(route.matches(path), None, "{path}");
        }
    }
}
