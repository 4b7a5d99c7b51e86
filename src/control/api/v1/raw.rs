//! `/api/v1/raw`: what SRS left of its calls that change things.

use super::{Answer, Call, code};
use crate::control::json::{Json as _, Object};
use crate::id::SessionId;
use crate::net::http::Head;

/// What became of the last reload.
#[derive(Debug, Clone, Default)]
pub(in crate::control::api) struct Reload {
    /// 0, or an error.
    code: u32,
    text: String,
    /// 0: there was none; 90: it is done.
    state: u32,
    id: String,
}

/// Where SRS's reloads end.
const FINISHED: u32 = 90;

/// Whether a request is one that has the configuration read anew.
pub(super) fn is_reload(head: &Head) -> bool {
    head.path.trim_matches('/').starts_with("api/v1/raw") && head.param("rpc").as_deref() == Some("reload")
}

/// `/api/v1/raw?rpc=…`
pub(super) async fn raw(call: &Call<'_>) -> Answer {
    let config = call.api.config.current();
    let raw = &config.api.raw_api;
    match call.param("rpc").as_str() {
        "raw" => Answer::Good(
            Object(&[
                ("code", &0_u8),
                (
                    "http_api",
                    &Object(&[
                        ("enabled", &config.api.enabled),
                        ("listen", &config.api.listen.first().map(ToString::to_string).unwrap_or_default()),
                        ("crossdomain", &config.api.crossdomain),
                        (
                            "raw_api",
                            &Object(&[
                                ("enabled", &raw.enabled),
                                ("allow_reload", &raw.allow_reload),
                                ("allow_query", &false),
                                ("allow_update", &false),
                            ]),
                        ),
                    ]),
                ),
            ])
            .to_json(),
        ),
        _ if !raw.enabled => Answer::Code(code::RAW_DISABLED),
        "reload" | "reload-fetch" if !raw.allow_reload => Answer::Code(code::RAW_DISABLED),
        "reload" => reload(call).await,
        "reload-fetch" => {
            let last = call.api.reload.lock().await;
            let data = Object(&[
                ("err", &last.code),
                ("msg", &last.text),
                ("state", &last.state),
                ("rid", &last.id),
            ]);
            Answer::Good(Object(&[("code", &0_u8), ("data", &data)]).to_json())
        }
        _ => Answer::Code(code::RAW),
    }
}

async fn reload(call: &Call<'_>) -> Answer {
    let mut last = call.api.reload.lock().await;
    let outcome = call.api.commands.reload().await;
    let (code, text) = match &outcome {
        Ok(_) => (0, "Success".to_owned()),
        Err(refused) => (code::RELOAD_FAILED, refused.to_string()),
    };
    call.who.audit(if code == 0 {
        "had the configuration read again"
    } else {
        "failed to have the configuration read again"
    });
    *last = Reload {
        code,
        text,
        state: FINISHED,
        id: SessionId::next().as_str().get(..7).unwrap_or_default().to_owned(),
    };
    // As SRS does: the outcome is to be fetched.
    Answer::Code(0)
}
