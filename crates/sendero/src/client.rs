//! Talking to the running gateway: HTTP over the socket in its data folder.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use web::view::ProblemBody;

/// How long the command line waits for an answer. A channel test may take as long as its deadlines.
const PATIENCE: Duration = Duration::from_secs(600);

/// The running gateway of a data folder.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    any_user: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no gateway runs for {}; start it with 'sendero serve' (or name its folder with --data-dir or --config)", .0.display())]
    NotRunning(PathBuf),
    /// It runs for another user.
    #[error("the gateway at {} belongs to another user; run this as that user, or as root", .0.display())]
    NotAllowed(PathBuf),
    /// It said no.
    #[error("{}", .0.detail)]
    Refused(Box<ProblemBody>),
    /// What was to be sent could not be read to its end; the text says what it is and why.
    #[error("{0}")]
    Input(String),
    /// What was read could not be written.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The connection or the answer broke.
    #[error("the gateway's answer was not understood: {0}")]
    Broken(String),
}

/// An answer that is no refusal.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// The idempotency key was known: this is the first answer again.
    pub replayed: bool,
}

/// A request's body.
pub enum Content {
    /// None.
    Nothing,
    /// JSON.
    Json(Bytes),
    /// A message.
    Message(Message),
}

/// A message to be submitted.
pub enum Message {
    /// All of it.
    Whole(Bytes),
    /// Piece by piece, read while it is sent.
    Pieces(Pieces),
}

/// A message that is read while it is sent.
pub type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>;

impl Client {
    /// The gateway that listens on this socket, if it is our own user's or root's.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), any_user: false }
    }

    /// The gateway may be any user's: its folder was named, and not only found where we happen to be.
    #[must_use]
    pub fn of_any_user(mut self, any_user: bool) -> Self {
        self.any_user = any_user;
        self
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, ClientError> {
        let answer = self.send(Method::GET, &target(path, query), Content::Nothing, None).await?;
        read(&answer.body)
    }

    /// Reads a resource's bytes and gives them to `each` as they come.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_bytes(&self, path: &str, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), ClientError> {
        let (response, driver) = in_time(self.begin(Method::GET, path, Content::Nothing, None)).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let body = in_time(async { body.collect().await.map_err(broken) }).await?.to_bytes();
            return Err(refusal(status, &body));
        }
        while let Some(frame) = in_time(async { body.frame().await.transpose().map_err(broken) }).await? {
            if let Ok(data) = frame.into_data() {
                each(&data).map_err(ClientError::Output)?;
            }
        }
        driver.abort();
        Ok(())
    }

    /// Acts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)], content: Content) -> Result<T, ClientError> {
        let answer = self.send(Method::POST, &target(path, query), content, None).await?;
        read(&answer.body)
    }

    /// Takes something away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, ClientError> {
        let answer = self.send(Method::DELETE, &target(path, query), Content::Nothing, None).await?;
        read(&answer.body)
    }

    /// Submits a message; the second value tells whether it is the answer of an earlier submission.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn submit(
        &self,
        message: Message,
        query: &[(&str, &str)],
        key: Option<&str>,
    ) -> Result<(web::view::Submitted, bool), ClientError> {
        let path = target("/api/v1/messages/raw", query);
        let answer = self.send(Method::POST, &path, Content::Message(message), key).await?;
        Ok((read(&answer.body)?, answer.replayed))
    }

    async fn send(&self, method: Method, path: &str, content: Content, key: Option<&str>) -> Result<Answer, ClientError> {
        let exchange = async {
            let (response, driver) = self.begin(method, path, content, key).await?;
            let status = response.status();
            let replayed = response.headers().contains_key("idempotency-replayed");
            let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
            driver.abort();
            if status.is_success() { Ok(Answer { body, replayed }) } else { Err(refusal(status, &body)) }
        };
        in_time(exchange).await
    }

    /// Asks, and waits for the head of the answer. The second value is what moves the bytes.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        content: Content,
        key: Option<&str>,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|problem| self.unreachable(&problem))?;
        if !self.any_user && !is_ours(&stream) {
            return Err(ClientError::NotAllowed(self.socket.parent().map(Path::to_path_buf).unwrap_or_default()));
        }
        let request = request(method, path, content, key)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok((response, driver))
    }

    fn unreachable(&self, problem: &io::Error) -> ClientError {
        let folder = self.socket.parent().map(Path::to_path_buf).unwrap_or_default();
        match problem.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(folder),
            _ => ClientError::NotRunning(folder),
        }
    }
}

/// What does not come in [`PATIENCE`] does not come.
async fn in_time<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(ClientError::Broken("it did not come in time".to_owned())),
    }
}

fn broken(problem: hyper::Error) -> ClientError {
    match problem.source() {
        // It is what the body's own stream said.
        Some(cause) if problem.is_user() => ClientError::Input(cause.to_string()),
        _ => ClientError::Broken(problem.to_string()),
    }
}

/// True for a gateway of our own user, or root's.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn request(
    method: Method,
    path: &str,
    content: Content,
    key: Option<&str>,
) -> Result<Request<BoxBody<Bytes, io::Error>>, ClientError> {
    let broken = |problem: &dyn std::fmt::Display| ClientError::Broken(problem.to_string());
    let (kind, body) = match content {
        Content::Nothing => (None, whole(Bytes::new())),
        Content::Json(bytes) => (Some("application/json"), whole(bytes)),
        Content::Message(Message::Whole(bytes)) => (Some("message/rfc822"), whole(bytes)),
        Content::Message(Message::Pieces(pieces)) => {
            let frames = pieces.map(|piece| piece.map(Frame::data));
            (Some("message/rfc822"), BodyExt::boxed(StreamBody::new(frames)))
        }
    };
    let mut request = Request::builder().method(method).uri(path).header(HOST, "sendero");
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    if let Some(key) = key {
        let value =
            HeaderValue::from_str(key).map_err(|_| ClientError::Broken("an idempotency key is of plain characters".to_owned()))?;
        request = request.header(HeaderName::from_static("idempotency-key"), value);
    }
    request.body(body).map_err(|problem| broken(&problem))
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ProblemBody>(body) {
        Ok(problem) => ClientError::Refused(Box::new(problem)),
        Err(_) => ClientError::Broken(format!("status {status}")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|problem| ClientError::Broken(problem.to_string()))
}

/// A path with its query.
fn target(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (number, (name, value)) in query.iter().enumerate() {
        target.push(if number == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&encoded(value));
    }
    target
}

/// Percent-encoded for a path segment or a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_cannot_change_the_request() {
        assert_eq!(
            target("/x", &[("to", "ana+b@example.com"), ("tag", "a=b&c d")]),
            "/x?to=ana%2Bb%40example.com&tag=a%3Db%26c%20d"
        );
        assert_eq!(encoded("../up\r\n"), "..%2Fup%0D%0A");
    }

    /// What a gateway that reads everything and answers nothing makes of a call.
    async fn at_a_silent_gateway<T>(call: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
        let gateway = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        });
        let answer = call(Client::new(socket)).await;
        gateway.abort();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_begin_is_given_up() {
        let call = async |client: Client| client.get_bytes("/api/v1/messages/x/raw", |_| Ok(())).await;
        let problem = at_a_silent_gateway(call).await.expect_err("nothing came");
        assert!(problem.to_string().contains("did not come in time"), "{problem}");
    }

    #[tokio::test]
    async fn what_cannot_be_read_to_its_end_is_named_with_the_cause() {
        let pieces = [Ok(Bytes::from_static(b"From: ")), Err(io::Error::other("mail.eml: input/output error"))];
        let message = Message::Pieces(Box::pin(futures_util::stream::iter(pieces)));
        let call = async |client: Client| client.submit(message, &[], None).await;
        let problem = at_a_silent_gateway(call).await.expect_err("it broke off");
        assert_eq!(problem.to_string(), "mail.eml: input/output error");
    }

    #[tokio::test]
    async fn a_gateway_that_does_not_run_is_told_with_how_to_start_it() {
        let client = Client::new("/nonexistent/sendero.sock");
        let problem = client.get::<serde_json::Value>("/api/v1/status", &[]).await.expect_err("nobody listens there");
        assert!(matches!(problem, ClientError::NotRunning(_)) && problem.to_string().contains("sendero serve"));
    }
}
