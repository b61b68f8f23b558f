//! Listeners over real sockets, spoken to byte by byte.

use super::world::*;
use crate::caps::Caps;
use crate::door::Deadlines;
use crate::listener::{Bind, Listener, Login, Mode};
use smtp::sasl::{Credentials, plain_response};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio_util::sync::CancellationToken;

pub struct Running {
    pub address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(10), self.served).await.expect("a stop ends").unwrap();
    }
}

pub async fn listen(world: &World, mode: Mode, login: Login) -> Running {
    let listener = Listener { bind: Bind::Tcp("127.0.0.1:0".parse().unwrap()), mode, login };
    let bound = listener.bind().await.unwrap();
    let address = bound.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(bound.serve(Arc::clone(&world.door), stop.clone()));
    Running { address, stop, served }
}

pub fn trusted(network: &str) -> Login {
    Login::Trusted { networks: vec![network.parse().unwrap()], person: "host@example.com".into(), every_user: false }
}

/// Says all of it at once and reads to the end; the last command must close.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    // The other side may close before it has read all.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut seen = Vec::new();
    let end = timeout(Duration::from_secs(10), stream.read_to_end(&mut seen)).await;
    let _ = end.unwrap_or_else(|_| panic!("not closed after {:?}", String::from_utf8_lossy(&seen)));
    String::from_utf8(seen).unwrap()
}

/// Reads until the text has come.
async fn until(stream: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let read = timeout(Duration::from_secs(10), stream.read_buf(&mut seen)).await;
        if read.expect("an answer").unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(seen).unwrap()
}

fn codes(text: &str) -> String {
    let last = text.lines().filter(|line| line.get(3..4) != Some("-"));
    last.map(|line| line.get(..3).unwrap_or(line)).collect::<Vec<_>>().join(" ")
}

fn connector(certificate: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn over_tls<S: AsyncRead + AsyncWrite + Unpin>(world: &World, stream: S) -> tokio_rustls::client::TlsStream<S> {
    let certificate = world.folder.path().join("tls/cert.pem");
    connector(&certificate).connect(ServerName::try_from("gw.example").unwrap(), stream).await.unwrap()
}

const SUBMIT: &str = "EHLO c\r\nMAIL FROM:<host@example.com>\r\nRCPT TO:<l@example.org>\r\nDATA\r\n";

#[tokio::test]
async fn a_trusted_program_submits_without_login() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(SUBMIT.as_bytes()).await.unwrap();
    until(&mut stream, "a dot\r\n").await;
    let said = talk(stream, "From: ana@example.com\r\n\r\nhi\r\n.\r\nQUIT\r\n").await;
    assert_eq!(codes(&said), "250 221");
    let kept = world.queue.last();
    assert_eq!((kept.person, kept.token, kept.channel), (HOST, None, OFFICE));
    assert!(said.contains(&format!("250 2.0.0 queued as {}\r\n", kept.id)), "{said}");
    running.stop().await;
}

#[tokio::test]
async fn a_peer_outside_the_trusted_networks_is_refused_at_the_door() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("192.0.2.0/24")).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let said = until(&mut stream, "\r\n").await;
    assert!(said.starts_with("550 5.7.1"), "{said}");
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(world.intake.counters().read().connections_refused, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_trusted_listener_without_its_person_takes_nothing() {
    let world = world();
    let login =
        Login::Trusted { networks: vec!["127.0.0.0/8".parse().unwrap()], person: "gone@example.com".into(), every_user: false };
    let running = listen(&world, Mode::Clear, login).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    assert!(until(&mut stream, "\r\n").await.starts_with("421 4.3.5"));
    running.stop().await;
}

#[tokio::test]
async fn in_clear_a_login_is_neither_offered_nor_taken_and_no_mail_either() {
    let world = world();
    let running = listen(&world, Mode::Starttls, Login::Required).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let auth = plain_response(&Credentials::new("ana@example.com", SECRET));
    let said = talk(stream, &format!("EHLO c\r\nAUTH PLAIN {auth}\r\nMAIL FROM:<ana@example.com>\r\nQUIT\r\n")).await;
    assert!(said.contains("250-STARTTLS") || said.contains("250 STARTTLS"), "{said}");
    assert!(!said.contains("250-AUTH") && !said.contains("250 AUTH"), "{said}");
    assert_eq!(codes(&said), "220 250 538 530 221");
    assert_eq!(world.intake.counters().read().logins, 0);
    running.stop().await;
}

#[tokio::test]
async fn what_was_sent_in_clear_behind_starttls_is_never_obeyed() {
    let world = world();
    let running = listen(&world, Mode::Starttls, Login::Required).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    until(&mut stream, "220 ").await;
    stream.write_all(b"EHLO c\r\n").await.unwrap();
    until(&mut stream, "250 STARTTLS\r\n").await;
    // The attacker's commands travel in the packet of STARTTLS.
    stream.write_all(b"STARTTLS\r\nEHLO evil\r\nNOOP\r\n").await.unwrap();
    assert_eq!(codes(&until(&mut stream, "\r\n").await), "220");
    let said = talk(over_tls(&world, stream).await, "MAIL FROM:<ana@example.com>\r\nQUIT\r\n").await;
    // Not one reply too many, and the greeting must be said again.
    assert_eq!(codes(&said), "503 221");
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_name_are_told_the_same() {
    let world = world();
    let running = listen(&world, Mode::Implicit, Login::Required).await;
    let stream = over_tls(&world, TcpStream::connect(running.address).await.unwrap()).await;
    let wrong = plain_response(&Credentials::new("ana@example.com", b"wrong".to_vec()));
    let unknown = plain_response(&Credentials::new("nobody@example.com", SECRET));
    let said = talk(stream, &format!("EHLO c\r\nAUTH PLAIN {wrong}\r\nAUTH PLAIN {unknown}\r\nQUIT\r\n")).await;
    let answers: Vec<&str> = said.lines().filter(|line| line.starts_with("535")).collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1]);
    running.stop().await;
}

#[tokio::test]
async fn smuggled_ends_of_data_end_nothing_and_refuse_the_message() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\0.\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(SUBMIT.as_bytes()).await.unwrap();
        until(&mut stream, "a dot\r\n").await;
        let evil =
            "MAIL FROM:<admin@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nFrom: admin@example.com\r\n\r\nevil\r\n.\r\n";
        let said = talk(stream, &format!("From: ana@example.com\r\n\r\nhi{end}{evil}QUIT\r\n")).await;
        assert_eq!(codes(&said), "550", "{end:?}");
    }
    assert!(world.queue.kept().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_browser_is_cut_off() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    for verb in ["GET", "POST", "PUT", "CONNECT"] {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let said = talk(stream, &format!("{verb} / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<host@example.com>\r\n")).await;
        assert_eq!(codes(&said), "220", "{verb}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_pipelined_batch_with_a_refused_recipient_goes_on_for_the_others() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let batch = "EHLO c\r\nMAIL FROM:<host@example.com>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<nonsense>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n";
    stream.write_all(batch.as_bytes()).await.unwrap();
    assert_eq!(codes(&until(&mut stream, "a dot\r\n").await).trim_end(), "220 250 250 250 501 250 354");
    assert_eq!(codes(&talk(stream, "From: ana@example.com\r\n\r\nhi\r\n.\r\nQUIT\r\n").await), "250 221");
    assert_eq!(world.queue.last().envelope.recipients.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_message_announced_too_large_is_refused_at_mail() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let said =
        talk(stream, "EHLO c\r\nMAIL FROM:<host@example.com> SIZE=4097\r\nMAIL FROM:<host@example.com> SIZE=4096\r\nQUIT\r\n")
            .await;
    assert_eq!(codes(&said), "220 250 552 250 221");
    running.stop().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections_unless_it_is_trusted() {
    let world = world_with(Caps::new(4, 2), Deadlines::for_size(4096));
    let running = listen(&world, Mode::Starttls, Login::Required).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert!(until(&mut stream, "\r\n").await.starts_with("220"));
        open.push(stream);
    }
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert!(until(&mut third, "\r\n").await.starts_with("421 4.7.0"));

    let programs = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    for expected in ["220", "220", "421 4.7.0"] {
        let mut stream = TcpStream::connect(programs.address).await.unwrap();
        assert!(until(&mut stream, "\r\n").await.starts_with(expected));
        open.push(stream);
    }
    drop(open);
    running.stop().await;
    programs.stop().await;
    assert_eq!(world.intake.counters().read().connections_open, 0);
}

#[tokio::test]
async fn a_file_where_the_unix_socket_should_be_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("important");
    std::fs::write(&path, "keep me").unwrap();
    let login = Login::Trusted { networks: vec![], person: "ana@example.com".into(), every_user: false };
    assert!(Listener { bind: Bind::Unix(path.clone()), mode: Mode::Clear, login }.bind().await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "keep me");
}

#[tokio::test]
async fn our_own_user_submits_over_a_unix_socket_which_is_gone_after_the_stop() {
    let world = world();
    let path = world.folder.path().join("submit.sock");
    // What a killed process left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let login = Login::Trusted { networks: vec![], person: "host@example.com".into(), every_user: false };
    let bound = Listener { bind: Bind::Unix(path.clone()), mode: Mode::Clear, login }.bind().await.unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(bound.serve(Arc::clone(&world.door), stop.clone()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(SUBMIT.as_bytes()).await.unwrap();
    until(&mut stream, "a dot\r\n").await;
    assert_eq!(codes(&talk(stream, "From: host@example.com\r\n\r\nhi\r\n.\r\nQUIT\r\n").await), "250 221");
    stop.cancel();
    served.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_listener_where_nobody_could_sign_in_does_not_start() {
    let bind = Bind::Tcp("127.0.0.1:0".parse().unwrap());
    assert!(Listener { bind, mode: Mode::Clear, login: Login::Required }.bind().await.is_err());
}

#[tokio::test]
async fn wishes_about_reports_are_offered_and_arrive_in_the_stored_envelope() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"EHLO c\r\n").await.unwrap();
    // The last line: there is neither TLS nor a login here.
    until(&mut stream, "250 DSN\r\n").await;
    let commands = "MAIL FROM:<host@example.com> RET=FULL ENVID=Q+2B1\r\n\
        RCPT TO:<l@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bl@example.org\r\n\
        RCPT TO:<e@example.org> NOTIFY=NEVER\r\nRCPT TO:<p@example.org>\r\nDATA\r\n";
    stream.write_all(commands.as_bytes()).await.unwrap();
    until(&mut stream, "a dot\r\n").await;
    talk(stream, "From: ana@example.com\r\n\r\nhi\r\n.\r\nQUIT\r\n").await;
    let envelope = world.queue.last().envelope;
    assert_eq!((envelope.ret, envelope.envid.as_deref()), (Some(mail::envelope::Ret::Full), Some("Q+1")));
    let wishes: Vec<_> = envelope.recipients.iter().map(|recipient| (recipient.notify, recipient.orcpt.as_deref())).collect();
    let notify = |success, delay| Some(mail::envelope::Notify { success, failure: false, delay });
    let expected = [(notify(true, true), Some("rfc822;old+l@example.org")), (notify(false, false), None), (None, None)];
    assert_eq!(wishes, expected);
    running.stop().await;
}

#[tokio::test]
async fn a_wish_about_reports_that_makes_no_sense_is_refused_with_what_to_write() {
    let world = world();
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let said = talk(
        stream,
        "EHLO c\r\nMAIL FROM:<host@example.com> RET=BODY\r\nMAIL FROM:<host@example.com> ENVID=a+zz\r\n\
         MAIL FROM:<host@example.com>\r\nRCPT TO:<l@example.org> NOTIFY=SOMETIMES\r\n\
         RCPT TO:<l@example.org> NOTIFY=NEVER,DELAY\r\nRCPT TO:<l@example.org> ORCPT=l@example.org\r\n\
         RCPT TO:<l@example.org> ORCPT=rfc822;jos+C3+A9@example.org\r\nQUIT\r\n",
    )
    .await;
    assert_eq!(codes(&said), "220 250 501 501 250 501 501 501 553 221", "{said}");
    for words in ["RET=FULL or RET=HDRS", "100 characters", "a list of SUCCESS", "type;address", "SMTPUTF8"] {
        assert!(said.contains(words), "{words} in: {said}");
    }
    running.stop().await;
}
