//! Sessions that must not open, and what the next hop must not see then.

use super::*;
use crate::scripted::Seen;
use mail::Stage;
use tokio::net::TcpListener;

fn says(seen: &Seen, verb: &str) -> bool {
    seen.commands.iter().any(|line| line.starts_with(verb))
}

#[tokio::test]
async fn without_auth_on_offer_no_login_and_no_mail_is_sent() {
    let script = Script { auth: false, ..Script::protected(TlsMode::Starttls, Arc::clone(&SERVER)) };
    let (error, hop) = open_error(script, TlsMode::Starttls).await;
    assert_eq!(error, OpenError::AuthNotOffered);
    assert!(!says(&hop.seen(), "AUTH") && !says(&hop.seen(), "MAIL"));
}

#[tokio::test]
async fn without_starttls_on_offer_nothing_is_sent_in_the_clear() {
    let script = Script { server: None, ..Script::protected(TlsMode::Starttls, Arc::clone(&SERVER)) };
    let (error, hop) = open_error(script, TlsMode::Starttls).await;
    assert_eq!(error, OpenError::StartTlsNotOffered);
    assert_eq!(hop.seen().commands, ["EHLO gateway.example"]);
}

#[tokio::test]
async fn bytes_behind_the_reply_to_starttls_end_the_session() {
    let script =
        Script { injected: b"250 2.0.0 injected\r\n".to_vec(), ..Script::protected(TlsMode::Starttls, Arc::clone(&SERVER)) };
    let (error, hop) = open_error(script, TlsMode::Starttls).await;
    assert!(matches!(error, OpenError::Broken(Stage::StartTls | Stage::Tls, _)), "{error:?}");
    assert!(!says(&hop.seen(), "AUTH") && !says(&hop.seen(), "MAIL"));
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_refused_before_the_login_with_the_reason() {
    let stranger = Authority::new();
    for (server, words) in [
        (stranger.server(&["127.0.0.1"]), "no authority"),
        (AUTHORITY.server(&["mail.example.com"]), "only for mail.example.com"),
        (AUTHORITY.server_until(&["127.0.0.1"], 2001), "has expired"),
    ] {
        for tls in [TlsMode::Starttls, TlsMode::Implicit] {
            let (error, hop) = open_error(Script::protected(tls, Arc::clone(&server)), tls).await;
            assert_eq!(error.stage(), Stage::Tls);
            assert!(error.to_string().contains(words), "{error}");
            assert!(!says(&hop.seen(), "AUTH") && !says(&hop.seen(), "MAIL"));
        }
    }
}

#[tokio::test]
async fn an_authority_from_a_trust_file_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, AUTHORITY.pem()).unwrap();
    let allow = Allow::parse(&["127.0.0.1:1024-65535"]).unwrap();
    let resolver = Resolver::new(Arc::new(FixedNames::new(&[])), allow);
    let transport = SmarthostTransport::new("gateway.example", resolver, Tls::new(&[file]).unwrap(), Deadlines::each(AMPLE));
    for tls in [TlsMode::Starttls, TlsMode::Implicit] {
        let hop = Hop::start(Script::protected(tls, Arc::clone(&SERVER))).await;
        // The name is checked as given; localhost is in the certificate too.
        for host in ["127.0.0.1", "localhost"] {
            let mut session = transport.open(&endpoint_at(host, hop.address().port(), tls)).await.unwrap();
            assert!(is_sent(&deliver(&mut session, &outgoing(b"a\r\n")).await[0]));
            assert_eq!(session.relay(), format!("{host}[127.0.0.1]:{}", hop.address().port()));
        }
        assert!(says(&hop.seen(), "AUTH"));
    }
}

#[test]
fn a_trust_file_without_certificate_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in
        [("empty.pem", ""), ("noise.pem", "hello"), ("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        assert!(Tls::new(&[file]).err().unwrap().to_string().contains(name));
    }
    assert!(Tls::new(&[folder.path().join("missing.pem")]).is_err());
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_never_contacted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = FixedNames::new(&[
        ("inner.example", &["127.0.0.1"]),
        ("mixed.example", &["8.8.8.8", "127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
    ]);
    // The port is allowed elsewhere, so that only the address stands in the way.
    let allow = Allow::parse(&[format!("10.9.8.7:{port}")]).unwrap();
    let resolver = Resolver::new(Arc::new(names), allow);
    let transport =
        SmarthostTransport::new("gateway.example", resolver, Tls::with_roots(AUTHORITY.roots()).unwrap(), Deadlines::each(AMPLE));
    let hosts = [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "x.localhost",
        "inner.example",
        "mixed.example",
        "mapped.example",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
    ];
    for host in hosts {
        for tls in [TlsMode::Starttls, TlsMode::None] {
            let error = transport.open(&endpoint_at(host, port, tls)).await.err().unwrap();
            assert!(matches!(error, OpenError::NotAllowed(_) | OpenError::Misconfigured(_)), "{host}: {error:?}");
        }
    }
    let contact = futures_util::FutureExt::now_or_never(listener.accept());
    assert!(contact.is_none(), "contact was made");
}

#[tokio::test]
async fn clear_text_needs_the_operators_word_even_for_public_hosts() {
    let resolver = Resolver::new(Arc::new(FixedNames::new(&[("mail.example", &["8.8.8.8"])])), Allow::default());
    let error = resolver.target(endpoint_at("mail.example", 25, TlsMode::None).smarthost().unwrap(), AMPLE).await.unwrap_err();
    assert!(matches!(error, OpenError::NotAllowed(_)), "{error:?}");
}

#[tokio::test]
async fn a_login_is_never_sent_in_the_clear() {
    let hop = Hop::start(Script { auth: true, ..Script::clear() }).await;
    let mut endpoint = endpoint(&hop, TlsMode::Starttls);
    if let Kind::Smtp(smarthost) = &mut endpoint.transport {
        smarthost.tls = TlsMode::None;
    }
    let error = transport(AMPLE).open(&endpoint).await.err().unwrap();
    assert!(matches!(error, OpenError::Misconfigured(_)), "{error:?}");
    assert_eq!(hop.seen().connections, 0);
}

#[test]
fn a_secret_is_in_no_debug_form() {
    let shown = format!("{:?}", endpoint_at("127.0.0.1", 25, TlsMode::Starttls));
    assert!(!shown.contains("geheim"), "{shown}");
}

#[tokio::test]
async fn what_a_service_says_that_is_no_smtp_server_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-secret-banner\r\n").await.unwrap();
        stream
    });
    let error = transport(AMPLE).open(&endpoint_at("127.0.0.1", port, TlsMode::Starttls)).await.err().unwrap();
    assert!(!format!("{error} {error:?}").contains("secret-banner"), "{error:?}");
    drop(service.await.unwrap());
}
