//! Submitting a message of the tour, by each door as its users do.

use super::letters::{ANA, Letter};
use super::stage::Stage;
use crate::cli::Send;
use crate::commands::send::send;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use smtp::client::{Auth, ClientAction, ClientConfig, Recipient, Session, Tls, Transaction, Verdict};
use smtp::sasl::Credentials;
use smtp::{ForwardPath, ReversePath};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use web::view::Submitted;

/// How long one submission may take.
const PATIENCE: Duration = Duration::from_secs(20);
const TO: &str = "luis@example.org";

/// With TLS and login, through a client session like that of any mail program.
pub(super) async fn by_smtp(stage: &Stage, letter: &Letter) -> Result<String, String> {
    timeout(PATIENCE, smtp(stage, letter)).await.unwrap_or_else(|_| Err("the gateway did not answer in time".to_owned()))
}

async fn smtp(stage: &Stage, letter: &Letter) -> Result<String, String> {
    let config = ClientConfig {
        ehlo_name: "localhost".to_owned(),
        tls: Tls::StartTls,
        auth: Some(Auth { mechanism: None, credentials: Credentials::new(ANA, stage.password.as_bytes()) }),
        login_in_clear: false,
    };
    let mut session = Session::new(Arc::new(config));
    let mut clear = TcpStream::connect(stage.starttls).await.map_err(text)?;
    match pump(&mut session, &mut clear, letter).await? {
        Stop::StartTls => {}
        Stop::Accepted(_) => return Err("the gateway took a login without TLS".to_owned()),
    }
    let name = ServerName::try_from("localhost").map_err(text)?;
    let mut secure = connector(stage)?.connect(name, clear).await.map_err(text)?;
    session.tls_started();
    match pump(&mut session, &mut secure, letter).await? {
        Stop::Accepted(said) => id_in(&said).ok_or_else(|| format!("the gateway accepted without naming an id: {said}")),
        Stop::StartTls => Err("the gateway asked for TLS under TLS".to_owned()),
    }
}

enum Stop {
    StartTls,
    Accepted(String),
}

/// Drives the session until it wants TLS or the message was taken.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(session: &mut Session, stream: &mut S, letter: &Letter) -> Result<Stop, String> {
    let mut buffer = [0; 4096];
    loop {
        match session.next_action() {
            ClientAction::Ready => begin(session, letter)?,
            ClientAction::Body => {
                for piece in smtp::data::stuffed(&letter.bytes) {
                    session.output().extend_from_slice(piece);
                }
                session.finish();
            }
            ClientAction::Done(result) => {
                session.quit();
                let output = session.output().split();
                stream.write_all(&output).await.map_err(text)?;
                return accepted(result.verdicts.into_iter().next());
            }
            ClientAction::StartTls => {
                let output = session.output().split();
                stream.write_all(&output).await.map_err(text)?;
                return Ok(Stop::StartTls);
            }
            ClientAction::Failed(error) => return Err(error.to_string()),
            ClientAction::Closed => return Err("the session ended early".to_owned()),
            ClientAction::NeedInput => {
                let output = session.output().split();
                stream.write_all(&output).await.map_err(text)?;
                match stream.read(&mut buffer).await.map_err(text)? {
                    0 => session.closed(),
                    read => session.receive(&buffer[..read]),
                }
            }
        }
    }
}

fn begin(session: &mut Session, letter: &Letter) -> Result<(), String> {
    let reverse_path = ReversePath::parse(&format!("<{ANA}>")).map_err(text)?;
    let path = ForwardPath::parse(&format!("<{TO}>")).map_err(text)?;
    let recipients = [Recipient::new(&path)];
    let transaction = Transaction {
        reverse_path: &reverse_path,
        recipients: &recipients,
        size: letter.bytes.len() as u64,
        eight_bit: !letter.bytes.is_ascii(),
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    session.begin(&transaction).map_err(text)
}

fn accepted(verdict: Option<Verdict>) -> Result<Stop, String> {
    match verdict {
        Some(Verdict::Accepted(reply)) => Ok(Stop::Accepted(reply.text())),
        Some(Verdict::Refused(stage, reply)) => Err(format!("refused at {stage}: {reply}")),
        Some(Verdict::NotSent(error) | Verdict::Uncertain(error)) => Err(error.to_string()),
        None => Err("no recipient".to_owned()),
    }
}

fn id_in(said: &str) -> Option<String> {
    said.split_whitespace().find(|word| word.starts_with("msg_")).map(str::to_owned)
}

/// Trusts the certificate that the gateway made for itself, and no other.
fn connector(stage: &Stage) -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(stage.certificate()).map_err(text)? {
        roots.add(certificate.map_err(text)?).map_err(text)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(text)?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

/// The very path of `sendero send`, from a file.
pub(super) async fn by_command_line(stage: &Stage, letter: &Letter) -> Result<String, String> {
    let file = stage.folder.join("letter.eml");
    tokio::fs::write(&file, &letter.bytes).await.map_err(text)?;
    let what = Send { file: Some(file), ..Send::default() };
    send(&stage.client, &what).await.map(|sent| sent.submitted.id).map_err(text)
}

/// With a bearer token over TCP.
pub(super) async fn by_http(stage: &Stage, letter: &Letter) -> Result<String, String> {
    timeout(PATIENCE, http(stage, letter)).await.unwrap_or_else(|_| Err("the gateway did not answer in time".to_owned()))
}

async fn http(stage: &Stage, letter: &Letter) -> Result<String, String> {
    let stream = TcpStream::connect(stage.http).await.map_err(text)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let driver = tokio::spawn(connection);
    let request = Request::post("/api/v1/messages/raw")
        .header(HOST, stage.http.to_string())
        .header(AUTHORIZATION, format!("Bearer {}", stage.password))
        .header(CONTENT_TYPE, "message/rfc822")
        .body(Full::new(letter.bytes.clone()))
        .map_err(text)?;
    let response = sender.send_request(request).await.map_err(text)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(text)?.to_bytes();
    driver.abort();
    if status.as_u16() != 202 {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice::<Submitted>(&body).map(|answer| answer.id).map_err(text)
}

fn text(problem: impl std::fmt::Display) -> String {
    problem.to_string()
}
