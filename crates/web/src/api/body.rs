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
/// Time for a small body; large ones get more, at [`SLOWEST`], but never more than twice this ahead.
const GRACE: Duration = Duration::from_secs(60);
/// Time for a body, however steadily it comes; large ones get more, at 16 KiB a second.
const LONGEST: Duration = Duration::from_secs(600);
/// Memory for a body whose length was declared, at first.
const RESERVED: usize = 1 << 20;
/// What is refused at its beginning is read on only so far,
const LITTLE: u64 = 8 << 20;
/// and for so long.
const SHORTLY: Duration = Duration::from_secs(2);
/// Bytes a second below which a client is given up.
const SLOWEST: u32 = 1024;

/// The whole body, at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: u64) -> Result<Bytes, Problem> {
    let (bytes, _) = Incoming::new(headers, body, limit)?.until(|_| false).await?;
    Ok(bytes)
}

/// A body that is coming in: only so much, and not for ever.
pub(crate) struct Incoming {
    body: Body,
    declared: Option<u64>,
    limit: u64,
    length: u64,
    /// The client sends nothing before it is asked to (RFC 9110 §10.1.1).
    waits: bool,
    /// Nothing more will come.
    is_all: bool,
    /// By when more has to come, at the slowest rate; and by when all.
    by_rate: Instant,
    by: Instant,
}

impl Incoming {
    /// A body of at most `limit` bytes.
    pub(crate) fn new(headers: &HeaderMap, body: Body, limit: u64) -> Result<Self, Problem> {
        let declared =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let waits = headers.contains_key(header::EXPECT);
        let now = Instant::now();
        let by = now + LONGEST.max(Duration::from_secs(limit / 16_384));
        Ok(Self { body, declared, limit, length: 0, waits, is_all: false, by_rate: now + GRACE, by })
    }

    /// Its length, where the client said it.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let left = self.by_rate.min(self.by).saturating_duration_since(Instant::now()).min(SILENCE);
            let Ok(frame) = timeout(left, self.body.frame()).await else {
                return Err(Problem::new(408, "request_timeout", "the request's body came too slowly; send it again"));
            };
            let Some(frame) = frame else {
                self.is_all = true;
                return Ok(None);
            };
            let frame = frame.map_err(|_| Problem::new(400, "body_incomplete", "the connection ended within the body"))?;
            let Ok(data) = frame.into_data() else { continue };
            self.length += data.len() as u64;
            let now = Instant::now();
            self.by_rate = (self.by_rate + Duration::from_secs(data.len() as u64) / SLOWEST).min(now + 2 * GRACE);
            if self.length > self.limit {
                return Err(too_large(self.limit));
            }
            return Ok(Some(data));
        }
    }

    /// Reads what is left and throws it away, so that a client which reads its answer only then gets it.
    pub(crate) async fn discard(&mut self) {
        self.discard_up_to(u64::MAX).await;
    }

    async fn discard_up_to(&mut self, most: u64) {
        if self.waits && self.length == 0 {
            return;
        }
        while self.length < most {
            let Ok(Some(_)) = self.next().await else { return };
        }
    }

    /// The same for what was refused at its beginning, as long as that costs little; false when there is more to come.
    pub(crate) async fn discard_a_little(&mut self) -> bool {
        if self.declared.is_some_and(|length| length > LITTLE) {
            return self.waits;
        }
        let _ = timeout(SHORTLY, self.discard_up_to(LITTLE)).await;
        self.is_all || self.waits && self.length == 0
    }

    /// What comes until there is enough of it, and whether it is all. A body of one piece is not copied.
    pub(crate) async fn until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<(Bytes, bool), Problem> {
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(data) = self.next().await? {
            match first.take() {
                None if rest.is_empty() => first = Some(data),
                None => rest.extend_from_slice(&data),
                Some(begin) => {
                    let all = self.declared.map_or(0, |all| usize::try_from(all).unwrap_or(0));
                    rest.reserve(all.min(RESERVED));
                    rest.extend_from_slice(&begin);
                    rest.extend_from_slice(&data);
                }
            }
            if enough(first.as_deref().unwrap_or(&rest)) {
                return Ok((first.unwrap_or_else(|| rest.freeze()), false));
            }
        }
        Ok((first.unwrap_or_else(|| rest.freeze()), true))
    }
}

/// A message's bytes as the body of an answer, read while it is sent. Where they cannot be read the answer breaks off.
pub(crate) fn streamed(message: &store::Body) -> Body {
    if message.is_whole() {
        return Body::from(message.head().clone());
    }
    Body::from_stream(futures_util::stream::try_unfold(message.pieces(), |mut pieces| async move {
        let read = tokio::task::spawn_blocking(move || pieces.next().transpose().map(|next| next.map(|next| (next, pieces))));
        match read.await {
            Ok(read) => read.map_err(std::io::Error::other),
            Err(error) => Err(std::io::Error::other(error)),
        }
    }))
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
