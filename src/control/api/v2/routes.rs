//! All requests of `/api/v2`, in the order of the document.

use serde_json::json;

#[cfg(feature = "record")]
use super::recordings;
#[cfg(feature = "relay")]
use super::relays;
use super::route::{AFTER, Answer, Gives, Kind, LIMIT, Query, Route, Run, Verb};
use super::{Document, config, events, health, server, sessions, streams, tagged};
use crate::control::api::guard::Need;
use crate::control::json::Shape;

const VHOST: Query = Query { name: "vhost", about: "Only those of this vhost.", kind: Kind::Text };
const APP: Query = Query { name: "app", about: "Only those of this app.", kind: Kind::Text };
const STREAM: Query =
    Query { name: "stream", about: "Only those of the stream with this id.", kind: Kind::Text };
const KIND: Query =
    Query { name: "kind", about: "Only those of this protocol and role, e.g. rtmp-play.", kind: Kind::Text };

/// A request that reads.
const fn get(path: &'static str, name: &'static str, about: &'static str, gives: Gives, run: Run) -> Route {
    Route { method: Verb::Get, path, name, about, need: Some(Need::Read), query: &[], body: None, gives, run }
}

/// A request that ends or undoes something.
const fn delete(path: &'static str, name: &'static str, about: &'static str, run: Run) -> Route {
    Route {
        method: Verb::Delete,
        path,
        name,
        about,
        need: Some(Need::Control),
        query: &[],
        body: None,
        gives: Gives::Nothing,
        run,
    }
}

/// A request that sets something going.
#[cfg(feature = "record")]
const fn post(path: &'static str, name: &'static str, about: &'static str, run: Run) -> Route {
    Route { method: Verb::Post, ..delete(path, name, about, run) }
}

/// The same with parameters.
const fn with(query: &'static [Query], route: Route) -> Route {
    Route { query, ..route }
}

pub(super) static ROUTES: &[Route] = &[
    get(
        "/api/v2",
        "index",
        "What this server is.",
        Gives::Json(server::About::schema),
        Run::Now(server::about),
    ),
    Route {
        need: None,
        ..get(
            "/healthz",
            "health",
            "Whether the server lives.",
            Gives::Json(health::Health::schema),
            Run::Now(health::live),
        )
    },
    Route {
        need: None,
        ..get(
            "/readyz",
            "readiness",
            "Whether the server takes publishers and readers; 503 while it stops.",
            Gives::Json(health::Health::schema),
            Run::Now(health::ready),
        )
    },
    get(
        "/api/v2/server",
        "server",
        "What the server and its machine do.",
        Gives::Json(server::Server::schema),
        Run::Later(|call| Box::pin(server::server(call))),
    ),
    with(
        &[
            LIMIT,
            AFTER,
            VHOST,
            APP,
            Query { name: "live", about: "Only those with (without) a publisher.", kind: Kind::Flag },
        ],
        get(
            "/api/v2/streams",
            "streams",
            "Streams, by id.",
            Gives::Json(streams::Streams::schema),
            Run::Now(streams::list),
        ),
    ),
    get(
        "/api/v2/streams/{id}",
        "stream",
        "One stream.",
        Gives::Json(streams::Stream::schema),
        Run::Now(streams::one),
    ),
    with(
        &[LIMIT, AFTER, VHOST, APP, STREAM, KIND],
        get(
            "/api/v2/publishers",
            "publishers",
            "Who publishes, by id.",
            Gives::Json(sessions::Sessions::schema),
            Run::Now(sessions::publishers),
        ),
    ),
    get(
        "/api/v2/publishers/{id}",
        "publisher",
        "One publisher.",
        Gives::Json(sessions::Session::schema),
        Run::Now(sessions::publisher),
    ),
    delete(
        "/api/v2/publishers/{id}",
        "endPublisher",
        "Ends a publisher within a second.",
        Run::Now(sessions::end_publisher),
    ),
    with(
        &[LIMIT, AFTER, VHOST, APP, STREAM, KIND],
        get(
            "/api/v2/readers",
            "readers",
            "Who reads, by id.",
            Gives::Json(sessions::Sessions::schema),
            Run::Now(sessions::readers),
        ),
    ),
    get(
        "/api/v2/readers/{id}",
        "reader",
        "One reader.",
        Gives::Json(sessions::Session::schema),
        Run::Now(sessions::reader),
    ),
    delete(
        "/api/v2/readers/{id}",
        "endReader",
        "Ends a reader within a second.",
        Run::Now(sessions::end_reader),
    ),
    with(
        &[LIMIT, AFTER, VHOST, APP, STREAM, KIND],
        get(
            "/api/v2/sessions",
            "sessions",
            "Who publishes and who reads, by id.",
            Gives::Json(sessions::Sessions::schema),
            Run::Now(sessions::all),
        ),
    ),
    get(
        "/api/v2/sessions/{id}",
        "session",
        "One publisher or reader.",
        Gives::Json(sessions::Session::schema),
        Run::Now(sessions::any),
    ),
    delete(
        "/api/v2/sessions/{id}",
        "endSession",
        "Ends a publisher or reader within a second.",
        Run::Now(sessions::end_any),
    ),
    #[cfg(feature = "record")]
    with(
        &[
            LIMIT,
            AFTER,
            VHOST,
            APP,
            Query { name: "name", about: "Only those of streams of this name.", kind: Kind::Text },
        ],
        get(
            "/api/v2/recordings",
            "recordings",
            "Files that were recorded, the oldest first.",
            Gives::Json(recordings::Recordings::schema),
            Run::Later(|call| Box::pin(recordings::list(call))),
        ),
    ),
    #[cfg(feature = "record")]
    get(
        "/api/v2/streams/{id}/recording",
        "recording",
        "How the recording of a stream stands.",
        Gives::Json(recordings::Status::schema),
        Run::Now(recordings::status),
    ),
    #[cfg(feature = "record")]
    post(
        "/api/v2/streams/{id}/recording/start",
        "startRecording",
        "Records a stream from now on; where it isn't configured to be (vhost.*.record), 409.",
        Run::Now(recordings::start),
    ),
    #[cfg(feature = "record")]
    post(
        "/api/v2/streams/{id}/recording/stop",
        "stopRecording",
        "Records a stream no more, until it ends.",
        Run::Now(recordings::stop),
    ),
    #[cfg(feature = "relay")]
    with(
        &[
            LIMIT,
            AFTER,
            VHOST,
            APP,
            Query { name: "name", about: "Only those of streams of this name.", kind: Kind::Text },
        ],
        get(
            "/api/v2/relays",
            "relays",
            "Streams that go to other servers (vhost.*.forward) or come from there (vhost.*.pull).",
            Gives::Json(relays::Relays::schema),
            Run::Now(relays::list),
        ),
    ),
    with(
        &[Query {
            name: "pointer",
            about: "Only this part: a JSON pointer (RFC 6901) such as /vhost/default/hls.",
            kind: Kind::Text,
        }],
        Route {
            need: Some(Need::Configure),
            ..get(
                "/api/v2/config",
                "config",
                "The configuration in force. Secrets are \"***\".",
                Gives::Json(config::any),
                Run::Now(config::values),
            )
        },
    ),
    Route {
        method: Verb::Patch,
        need: Some(Need::Configure),
        query: &[Query {
            name: "validate",
            about: "Whether it is only to be said what would happen.",
            kind: Kind::Flag,
        }],
        body: Some(config::patch_schema),
        ..get(
            "/api/v2/config",
            "changeConfig",
            "Changes the configuration and its file; 422 with all mistakes, 403 for what the network may not set, 409 if the \
             file can't be changed.",
            Gives::Json(config::ConfigChange::schema),
            Run::Later(|call| Box::pin(config::change(call))),
        )
    },
    get(
        "/api/v2/config/schema",
        "configSchema",
        "What the configuration may be: a JSON Schema (2020-12).",
        Gives::Json(|_| json!({"type": "object"})),
        Run::Now(config::schema),
    ),
    Route {
        method: Verb::Post,
        need: Some(Need::Control),
        ..get(
            "/api/v2/config/reload",
            "reloadConfig",
            "Reads the configuration file anew, and puts it in force; 422 if that is not possible, and nothing is changed.",
            Gives::Json(config::ConfigChange::schema),
            Run::Later(|call| Box::pin(config::reload(call))),
        )
    },
    with(
        &[Query { name: "types", about: "Only these.", kind: Kind::Words(events::TYPES) }],
        get(
            "/api/v2/events",
            "events",
            "What happens, as Server-Sent Events. Who takes them too slowly gets \"lost\" with how many it missed.",
            Gives::Events,
            Run::Now(events::listen),
        ),
    ),
    get(
        "/api/v2/openapi.json",
        "openapi",
        "This document (OpenAPI 3.1).",
        Gives::Json(|_| json!({"type": "object"})),
        Run::Now(|call| {
            let document = call.api.document.get_or_init(Document::new);
            Ok(Answer::Reply(Box::new(tagged(call.head, document))))
        }),
    ),
];
