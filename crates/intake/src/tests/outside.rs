//! The opinion of a mail client that we did not write.

use super::sockets::listen;
use super::world::*;
use crate::listener::{Login, Mode};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::net::SocketAddr;
use std::time::Duration;

fn client(world: &World, address: SocketAddr, implicit: bool, secret: &[u8]) -> AsyncSmtpTransport<Tokio1Executor> {
    let pem = std::fs::read(world.folder.path().join("tls/cert.pem")).unwrap();
    let parameters = TlsParameters::builder("gw.example".to_owned())
        .add_root_certificate(Certificate::from_pem(&pem).unwrap())
        .build_rustls()
        .unwrap();
    let tls = if implicit { Tls::Wrapper(parameters) } else { Tls::Required(parameters) };
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(address.port())
        .tls(tls)
        .credentials(Credentials::new("Ana@example.com".into(), String::from_utf8(secret.to_vec()).unwrap()))
        .timeout(Some(Duration::from_secs(10)))
        .build()
}

fn message() -> Message {
    Message::builder()
        .from("Ana <ana@example.com>".parse().unwrap())
        .to("luis@example.org".parse().unwrap())
        .bcc("eva@example.org".parse().unwrap())
        .subject("señal")
        .body(String::from(".one dot\r\nhello\r\n"))
        .unwrap()
}

#[tokio::test]
async fn a_mail_client_submits_over_starttls_and_over_implicit_tls() {
    for (mode, implicit) in [(Mode::Starttls, false), (Mode::Implicit, true)] {
        let world = world();
        let running = listen(&world, mode, Login::Required).await;
        let client = client(&world, running.address, implicit, SECRET);
        client.send(message()).await.unwrap();
        let kept = world.queue.last();
        assert_eq!((kept.person, kept.token, kept.channel), (ANA, Some(TOKEN), ANA_MAILBOX));
        assert_eq!(kept.envelope.recipients.len(), 2);
        assert_eq!(kept.subject, "señal");
        let text = String::from_utf8(kept.body.head().to_vec()).unwrap();
        assert!(
            text.contains(" with ESMTPSA id ") && !text.contains("eva@") && text.trim_end().ends_with("\r\n\r\n.one dot\r\nhello"),
            "{text}"
        );
        drop(client);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_mail_client_with_the_wrong_secret_is_told_so() {
    let world = world();
    let running = listen(&world, Mode::Starttls, Login::Required).await;
    let error = client(&world, running.address, false, b"wrong").send(message()).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("535"), "{error}");
    assert!(world.queue.kept().is_empty());
    running.stop().await;
}
