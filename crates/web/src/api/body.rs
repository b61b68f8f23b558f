//! Reading a request's body: only so much, and not for ever.

use crate::problem::Problem;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The longest silence within a body.
const SILENCE: Duration = Duration::from_secs(30);
/// Time for a small body; large ones get more, at [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(60);
/// Bytes a second below which a client is given up.
const SLOWEST: u64 = 1024;

/// The whole body, at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, limit: u64) -> Result<Bytes, Problem> {
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let began = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0u64;
    loop {
        let allowed = GRACE + Duration::from_secs(length / SLOWEST);
        let left = allowed.saturating_sub(began.elapsed()).min(SILENCE);
        let Ok(frame) = timeout(left, body.frame()).await else {
            return Err(Problem::new(408, "request_timeout", "the request's body came too slowly; send it again"));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Problem::new(400, "body_incomplete", "the connection ended within the body"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len() as u64;
        if length > limit {
            return Err(too_large(limit));
        }
        match &first {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(begin) => {
                rest.reserve(declared.map_or(0, |all| usize::try_from(all).unwrap_or(0)));
                rest.extend_from_slice(begin);
                rest.extend_from_slice(&data);
                first = None;
            }
        }
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// The media type, without parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Refuses every media type but this one.
pub(crate) fn expect(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let found = media_type(headers);
    if found == wanted {
        return Ok(());
    }
    let detail = format!("the body must be {wanted}, and Content-Type says '{found}'");
    Err(Problem::new(415, "unsupported_media_type", detail))
}

/// A JSON body, with unknown members refused by the type itself.
pub(crate) fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(400, "malformed_json", format!("the body is no JSON: {error}")))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let pointer = if path == "." { String::new() } else { format!("/{}", path.replace(['.', '['], "/").replace(']', "")) };
        Problem::invalid(vec![crate::view::FieldError { pointer, code: "invalid".into(), detail: error.inner().to_string() }])
    })
}

fn too_large(limit: u64) -> Problem {
    Problem::new(413, "message_too_large", format!("a body may have {limit} bytes here; make it smaller, or send a link"))
}
