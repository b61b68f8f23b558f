//! Errors as RFC 9457 problem documents.

use crate::view::{FieldError, ProblemBody};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mail::resolve::Refusal;
use store::{AcceptError, StoreError};

/// Why a request is refused: what happened, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: u16,
    /// For programs; never changes its meaning.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// Each single problem of the request.
    pub errors: Vec<FieldError>,
    /// Seconds after which a repetition may help.
    pub retry_after: Option<u32>,
    /// The connection ends with it: what else comes by it is not read.
    pub closes: bool,
}

impl Problem {
    /// A problem without single errors.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), retry_after: None, closes: false }
    }

    /// The same, with a time after which a repetition may help.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, and the connection ends with it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Several problems of a request, found at once.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let details: Vec<&str> = errors.iter().map(|error| error.detail.as_str()).collect();
        let detail = details.join("; ");
        Self { errors, ..Self::new(422, "validation_failed", detail) }
    }

    /// No such message, or none of yours.
    #[must_use]
    pub fn no_message(id: &str) -> Self {
        Self::new(404, "message_not_found", format!("there is no message {id}"))
    }

    /// No such channel.
    #[must_use]
    pub fn no_channel(name: &str) -> Self {
        Self::new(404, "channel_not_found", format!("there is no channel '{name}'; 'sendero channel list' shows the names"))
    }

    /// Nobody is signed in.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(401, "unauthenticated", "sign in with 'Authorization: Bearer TOKEN', the token being one for the API")
    }

    /// The document, for a request.
    #[must_use]
    pub fn body(&self, instance: &str, request_id: &str) -> ProblemBody {
        let title = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        ProblemBody {
            kind: format!("urn:sendero:problem:{}", self.code),
            title: title.to_owned(),
            status: self.status,
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            code: self.code.to_owned(),
            request_id: request_id.to_owned(),
            source: "gateway".to_owned(),
            errors: self.errors.clone(),
            retry_after: self.retry_after,
        }
    }

    /// The whole answer, for a request.
    #[must_use]
    pub fn render(&self, instance: &str, request_id: &str) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body(instance, request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sendero\""));
        }
        response
    }
}

/// The document itself is written where the request is known: see [`crate::surface`].
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.http_status(), refusal.code(), refusal.to_string())
    }
}

impl From<&AcceptError> for Problem {
    fn from(error: &AcceptError) -> Self {
        match error {
            AcceptError::NoSpace(_) => {
                Self::new(507, "storage_full", "the gateway has no room for it now; send it again later").retry_after(60)
            }
            AcceptError::KeyReused { .. } => Self::new(422, "idempotency_key_reused", format!("{error}; use another key")),
            AcceptError::OverCap(_) => {
                Self::new(429, "gateway_rate_limited", "there is too much open mail; send it again later").retry_after(60)
            }
            AcceptError::Closed(_) => {
                Self::new(503, "dependency_unavailable", "the gateway takes no mail at this moment; send it again later")
                    .retry_after(30)
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unknown(id) => Self::no_message(&id.to_string()),
            StoreError::Illegal(_) => Self::new(409, "illegal_move", error.to_string()),
            StoreError::NoSpace(_) => {
                Self::new(507, "storage_full", "the gateway has no room for it now; try again later").retry_after(60)
            }
            StoreError::Closed(_) | StoreError::Damaged(_) | StoreError::Io(_) => {
                tracing::error!(problem = %error, "the store could not answer");
                Self::new(503, "dependency_unavailable", "the store could not answer; the log says why").retry_after(30)
            }
        }
    }
}
