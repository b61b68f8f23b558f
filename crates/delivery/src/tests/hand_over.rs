//! Messages over an open session.

use super::*;
use crate::scripted::{Fault, Point};
use futures_util::FutureExt;
use mail::{Cause, Stage};
use tokio::sync::oneshot;

/// `go` in the hands of the test.
fn word() -> (oneshot::Sender<bool>, futures_util::future::BoxFuture<'static, bool>) {
    let (say, said) = oneshot::channel();
    (say, Box::pin(async move { said.await.unwrap_or(false) }))
}

#[tokio::test]
async fn the_final_dot_waits_for_the_word() {
    let hop = Hop::start(Script::clear()).await;
    let mut session = open(&hop, TlsMode::None).await;
    let body = b"Subject: x\r\n\r\nhello\r\n";
    let outgoing = outgoing(body);
    let (say, go) = word();
    let hand_over = session.deliver(&outgoing, go);
    let watch = async {
        hop.until(|seen| seen.data_bytes == body.len()).await;
        assert_eq!(hop.seen().dots, 0, "the dot left before the word");
        say.send(true).unwrap();
    };
    let (outcomes, ()) = tokio::join!(hand_over, watch);
    assert!(is_sent(&outcomes[0].1));
    assert_eq!(hop.seen().dots, 1);
}

#[tokio::test]
async fn without_the_word_the_next_hop_never_gets_the_dot() {
    for late in [false, true] {
        let hop = Hop::start(Script::clear()).await;
        let mut session = open(&hop, TlsMode::None).await;
        let outgoing = outgoing(b"a\r\n");
        let (say, go) = word();
        if !late {
            say.send(false).unwrap();
            assert_eq!(session.deliver(&outgoing, go).await, [(0, Outcome::Untried)]);
        } else {
            let watch = async {
                hop.until(|seen| seen.data_bytes == 3).await;
                say.send(false).unwrap();
            };
            let (outcomes, ()) = tokio::join!(session.deliver(&outgoing, go), watch);
            assert_eq!(outcomes, [(0, Outcome::Untried)]);
        }
        assert!(!session.is_reusable());
        session.close().await;
        assert_eq!(hop.seen().dots, 0);
    }
}

#[tokio::test]
async fn who_was_refused_stays_refused_when_the_transaction_is_given_up() {
    let mut script = Script::clear().with_fault(Point::FinalDot, Fault::Stall);
    script.refused = [("luis".to_owned(), "550 5.1.1 no such user".to_owned())].into();
    let hop = Hop::start(script).await;
    let mut session = open(&hop, TlsMode::None).await;
    let outgoing = outgoing_to(&["luis@example.org", "eva@example.org"], b"a\r\n");
    tokio::select! {
        outcomes = session.deliver(&outgoing, Box::pin(async { true })) => panic!("there is no reply: {outcomes:?}"),
        () = hop.until(|seen| seen.dots == 1) => {}
    }
    let known = session.given_up(&outgoing);
    assert!(matches!(known[..], [(0, Outcome::Failed(Cause::Refused(Stage::Rcpt, _)))]), "{known:?}");
    assert!(!session.is_reusable());
}

#[tokio::test]
async fn a_next_hop_that_leaves_while_the_word_is_awaited_has_nothing() {
    let hop = Hop::start(Script::clear().with_fault(Point::Body, Fault::Drop)).await;
    let mut session = open(&hop, TlsMode::None).await;
    let outgoing = outgoing(b"a\r\n");
    // The word never comes.
    let (_say, go) = word();
    let outcomes = session.deliver(&outgoing, go).await;
    assert!(matches!(outcomes[0].1, Outcome::Deferred(Cause::Broken(Stage::Body, _))), "{outcomes:?}");
}

#[tokio::test]
async fn a_message_takes_two_writes_when_the_word_is_there() {
    let hop = Hop::start(Script::clear()).await;
    let mut session = open(&hop, TlsMode::None).await;
    let before = hop.seen().reads;
    assert!(is_sent(&deliver(&mut session, &outgoing(&[b'a'; 10_000])).await[0]));
    assert_eq!(hop.seen().reads - before, 2, "MAIL, RCPT and DATA in one, the body and the dot in one");
}

#[tokio::test]
async fn without_pipelining_each_command_waits_for_its_reply() {
    let hop = Hop::start(Script::clear().without("PIPELINING")).await;
    let mut session = open(&hop, TlsMode::None).await;
    let before = hop.seen().reads;
    let outcomes = deliver(&mut session, &outgoing_to(&["luis@example.org", "ana@example.org"], b"a\r\n")).await;
    assert!(outcomes.iter().all(is_sent));
    assert_eq!(hop.seen().reads - before, 5);
}

#[tokio::test]
async fn bodies_arrive_byte_for_byte() {
    let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER))).await;
    let mut session = open(&hop, TlsMode::Starttls).await;
    let long = b"x.\r\n.y\r\n..\r\n".repeat(40_000);
    let mut bodies: Vec<Vec<u8>> = [
        &b".\r\n"[..],
        b"..\r\n",
        b".a\r\n.\r\n.b\r\n",
        b"\r\n",
        b"Subject: \xc3\xbc\r\n\r\n\xff\x80\r\n",
        b"a\r\n\r\n.\r\n",
        b"no line end",
    ]
    .iter()
    .map(|body| body.to_vec())
    .collect();
    // Around the size of a piece, with a dot where it is cut.
    for size in [65_534, 65_535, 65_536, 65_537] {
        bodies.push([&vec![b'a'; size - 2][..], b"\r\n.dot\r\n"].concat());
    }
    bodies.push(long);
    for body in &bodies {
        assert!(is_sent(&deliver(&mut session, &outgoing(body)).await[0]));
        let wire = hop.seen().taken.pop().unwrap().wire;
        let mut decoder = smtp::data::DataDecoder::new(u64::MAX, 0);
        let (_, ended) = decoder.feed(&[&wire[..], b".\r\n"].concat());
        let mut expected = body.clone();
        if !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        assert!(ended);
        assert!(decoder.finish().unwrap() == expected, "{} bytes", body.len());
    }
    assert_eq!(hop.seen().connections, 1);
}

/// A message whose body is in a file of a queue in this folder, and the file.
fn spooled(queue: &store::embedded::Embedded, folder: &std::path::Path, rest: &[u8]) -> (Outgoing, std::path::PathBuf) {
    use store::Queue;
    let mut spool = queue.spool().unwrap();
    rest.chunks(50_000).for_each(|piece| spool.write(piece).unwrap());
    let head: &[u8] = b"Subject: large\r\n\r\n";
    let body = store::Body::Spooled { head: head.to_vec().into(), rest: spool.finish().unwrap() };
    let mut files = std::fs::read_dir(folder.join("queue/bodies")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    (Outgoing { body, ..outgoing(b"") }, file)
}

fn large_rest() -> Vec<u8> {
    [&b"x.\r\n.y\r\n..\r\n"[..], &[b'a'; 500], b"\r\n"].concat().repeat(1000)
}

#[tokio::test]
async fn a_body_in_a_file_arrives_as_it_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let queue =
        store::embedded::Embedded::open(store::embedded::Options::new(folder.path().join("queue"), mail::Timestamp(1))).unwrap();
    let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER))).await;
    let mut session = open(&hop, TlsMode::Starttls).await;
    let (outgoing, _) = spooled(&queue, folder.path(), &large_rest());
    assert!(is_sent(&deliver(&mut session, &outgoing).await[0]));
    let wire = hop.seen().taken.pop().unwrap().wire;
    let mut decoder = smtp::data::DataDecoder::new(u64::MAX, 0);
    decoder.feed(&[&wire[..], b".\r\n"].concat());
    assert!(decoder.finish().unwrap() == outgoing.body.read().unwrap());
    assert!(session.is_reusable());
}

#[tokio::test]
async fn a_body_that_is_damaged_on_the_disk_is_never_handed_over_as_a_whole() {
    let damages: [fn(&mut Vec<u8>); 3] = [|file| file[300_000] ^= 1, |file| file.truncate(200_000), |file| file[100_000] = b'\n'];
    for damage in damages {
        let folder = tempfile::tempdir().unwrap();
        let queue = store::embedded::Embedded::open(store::embedded::Options::new(folder.path().join("queue"), mail::Timestamp(1)));
        let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER))).await;
        let mut session = open(&hop, TlsMode::Starttls).await;
        let (outgoing, file) = spooled(queue.as_ref().unwrap(), folder.path(), &large_rest());
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let outcome = deliver(&mut session, &outgoing).await.remove(0);
        assert!(matches!(outcome, Outcome::Deferred(Cause::Unreadable(_))), "{outcome:?}");
        assert!(!session.is_reusable());
        drop(session);
        assert!(hop.seen().taken.is_empty(), "the final dot was not sent");
    }
}

#[tokio::test]
async fn one_connection_carries_many_messages() {
    let hop = Hop::start(Script::protected(TlsMode::Implicit, Arc::clone(&SERVER))).await;
    let mut session = open(&hop, TlsMode::Implicit).await;
    for _ in 0..200 {
        assert!(is_sent(&deliver(&mut session, &outgoing(b"Subject: x\r\n\r\nhello\r\n")).await[0]));
        assert!(session.is_reusable());
    }
    session.close().await;
    let seen = hop.seen();
    assert_eq!((seen.connections, seen.taken.len()), (1, 200));
    assert_eq!(seen.commands.iter().filter(|line| *line == "AUTH").count(), 1);
    assert_eq!(seen.commands.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn a_refused_recipient_does_not_keep_the_others_from_theirs() {
    let refused = [("luis", "452 4.2.2 mailbox full"), ("nobody", "550 5.1.1 no such user")];
    let refused = refused.iter().map(|(who, reply)| ((*who).to_owned(), (*reply).to_owned())).collect();
    let hop = Hop::start(Script { refused, ..Script::clear() }).await;
    let mut session = open(&hop, TlsMode::None).await;
    let mixed = outgoing_to(&["ana@example.org", "luis@example.org", "nobody@example.org"], b"a\r\n");
    let outcomes = deliver(&mut session, &mixed).await;
    assert!(is_sent(&outcomes[0]));
    assert!(matches!(&outcomes[1], Outcome::Deferred(Cause::Refused(Stage::Rcpt, said)) if said.text == "mailbox full"));
    assert!(matches!(&outcomes[2], Outcome::Failed(Cause::Refused(Stage::Rcpt, said)) if said.code == 550));
    // All refused: nothing is handed over, and the session is good for the next message.
    let outcomes = deliver(&mut session, &outgoing_to(&["nobody@example.org"], b"a\r\n")).await;
    assert!(matches!(&outcomes[0], Outcome::Failed(Cause::Refused(Stage::Rcpt, _))));
    assert!(session.is_reusable());
    assert!(is_sent(&deliver(&mut session, &outgoing_to(&["ana@example.org"], b"a\r\n")).await[0]));
    assert_eq!(hop.seen().taken.len(), 2);
}

#[tokio::test]
async fn what_the_next_hop_cannot_take_is_not_sent() {
    let script = Script::clear().without("8BITMIME").without("SMTPUTF8").without("SIZE");
    let hop = Hop::start(Script { extensions: [script.extensions.clone(), vec!["SIZE 70000".into()]].concat(), ..script }).await;
    let mut session = open(&hop, TlsMode::None).await;
    let mut eight_bit = outgoing(b"\xc3\xbc\r\n");
    eight_bit.reverse_path = ReversePath::Null;
    for (outgoing, code) in [
        (outgoing(&[b'a'; 80_000]), "5.3.4"),
        (eight_bit, "5.6.3"),
        (outgoing_to(&["lüis@example.org"], b"a\r\n"), "5.6.7"),
        (outgoing(b"a\nb\r\n"), "5.6.0"),
    ] {
        let outcomes = deliver(&mut session, &outgoing).await;
        let Outcome::Failed(Cause::Unsupported(said)) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert_eq!(said.enhanced.unwrap().to_string(), code);
        assert!(session.is_reusable());
    }
    assert!(is_sent(&deliver(&mut session, &outgoing(b"a\r\n")).await[0]));
    assert_eq!(hop.seen().commands.iter().filter(|line| line.starts_with("MAIL")).count(), 1);
}

#[tokio::test]
async fn an_idle_session_that_the_next_hop_ends_is_noticed_and_blames_no_message() {
    for fault in [Fault::Drop, Fault::Reset, Fault::Closing, Fault::Garbage] {
        let hop = Hop::start(Script::clear().with_fault(Point::AfterDot, fault)).await;
        let mut session = open(&hop, TlsMode::None).await;
        assert!(is_sent(&deliver(&mut session, &outgoing(b"a\r\n")).await[0]));
        session.gone().await;
        assert!(!session.is_reusable(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_idle_session_in_order_is_not_gone() {
    let hop = Hop::start(Script::protected(TlsMode::Starttls, Arc::clone(&SERVER))).await;
    let mut session = open(&hop, TlsMode::Starttls).await;
    for _ in 0..3 {
        assert!(session.gone().now_or_never().is_none());
        assert!(is_sent(&deliver(&mut session, &outgoing(b"a\r\n")).await[0]));
    }
}

#[tokio::test]
async fn a_session_that_turns_out_to_be_stale_at_mail_leaves_the_message_untried() {
    for fault in [Fault::Drop, Fault::Reset, Fault::Closing] {
        let script = Script { after_messages: 1, ..Script::clear().with_fault(Point::Mail, fault) };
        let hop = Hop::start(script).await;
        let mut session = open(&hop, TlsMode::None).await;
        assert!(is_sent(&deliver(&mut session, &outgoing(b"a\r\n")).await[0]));
        assert_eq!(deliver(&mut session, &outgoing(b"a\r\n")).await, [Outcome::Untried], "{fault:?}");
        assert!(!session.is_reusable());
    }
}

#[tokio::test]
async fn wishes_about_reports_are_passed_on_where_they_are_understood() {
    let mut outgoing = outgoing(b"a\r\n");
    let envelope = Arc::get_mut(&mut outgoing.lease.envelope).unwrap();
    envelope.ret = Some(mail::envelope::Ret::Headers);
    envelope.envid = Some("q 1".into());
    envelope.recipients[0].notify = Some(mail::envelope::Notify { success: false, failure: true, delay: true });
    envelope.recipients[0].orcpt = Some("rfc822;luis@example.org".into());
    for dsn in [true, false] {
        let hop = Hop::start(if dsn { Script::clear() } else { Script::clear().without("DSN") }).await;
        let mut session = open(&hop, TlsMode::None).await;
        assert!(is_sent(&deliver(&mut session, &outgoing).await[0]));
        let taken = hop.seen().taken.remove(0);
        assert_eq!(taken.mail.contains("RET=HDRS") && taken.mail.contains("ENVID=q+201"), dsn, "{taken:?}");
        assert_eq!(
            taken.recipients[0].contains("NOTIFY=FAILURE,DELAY") && taken.recipients[0].contains("ORCPT=rfc822;"),
            dsn,
            "{taken:?}"
        );
    }
}

#[tokio::test]
async fn a_capture_channel_keeps_at_the_word() {
    let mut endpoint = endpoint_at("127.0.0.1", 25, TlsMode::None);
    endpoint.transport = Kind::Capture;
    let mut session = crate::CaptureTransport.open(&endpoint).await.unwrap();
    assert_eq!(deliver(&mut session, &outgoing(b"a\r\n")).await, [Outcome::Captured]);
    let untried = session.deliver(&outgoing(b"a\r\n"), Box::pin(async { false })).await;
    assert_eq!(untried, [(0, Outcome::Untried)]);
    assert!(session.gone().now_or_never().is_none());
}

#[tokio::test]
async fn a_dot_that_did_not_leave_with_its_message_leaves_no_doubt() {
    for fault in [Fault::Stall, Fault::Endless] {
        let hop = Hop::start(Script { small_buffer: true, ..Script::clear().with_fault(Point::Body, fault) }).await;
        let (transport, endpoint) = (transport(AMPLE), endpoint(&hop, TlsMode::None));
        let config = transport.config(&endpoint, endpoint.smarthost().unwrap()).unwrap();
        // So small that the one write for body and dot gets stuck half-way.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4096).unwrap();
        let stream = socket.connect(hop.address()).await.unwrap();
        let host = crate::host::Host::parse("127.0.0.1").unwrap();
        let deadlines = Deadlines { block: Duration::from_millis(300), ..Deadlines::each(AMPLE) };
        let line = transport.greeted(stream, config, &host, deadlines, &mut |_, _| {}).await.unwrap();
        let mut session: Box<dyn Session> = Box::new(crate::smarthost::SmarthostSession::new(line, "hop".into()));
        let outcome = deliver(&mut session, &outgoing(&[b'a'; 60_000])).await.remove(0);
        assert!(matches!(outcome, Outcome::Deferred(Cause::Broken(Stage::Body, _))), "{fault:?}: {outcome:?}");
        assert!(!session.is_reusable());
        assert_eq!(hop.seen().dots, 0);
    }
}

#[tokio::test]
async fn wishes_about_reports_go_on_to_a_next_hop_that_offers_dsn_and_to_no_other() {
    let mut outgoing = outgoing_to(&["luis@example.org", "eva@example.org"], b"a\r\n");
    let mut envelope = (*outgoing.lease.envelope).clone();
    (envelope.ret, envelope.envid) = (Some(mail::envelope::Ret::Headers), Some("Q 1".into()));
    envelope.recipients[0].notify = Some(mail::envelope::Notify { success: true, failure: true, delay: false });
    envelope.recipients[0].orcpt = Some("rfc822;old+l@example.org".into());
    envelope.recipients[1].notify = Some(mail::envelope::Notify::default());
    outgoing.lease.envelope = Arc::new(envelope);
    for (script, offered) in [(Script::clear(), true), (Script::clear().without("DSN"), false)] {
        let hop = Hop::start(script).await;
        let mut session = open(&hop, TlsMode::None).await;
        assert_eq!((session.offers_dsn(), session.max_size()), (offered, Some(50_000_000)));
        assert!(deliver(&mut session, &outgoing).await.iter().all(is_sent));
        let commands = hop.seen().commands;
        let said = |text: &str| commands.iter().any(|line| line.contains(text));
        assert_eq!(said(" RET=HDRS ENVID=Q+201"), offered, "{commands:?}");
        assert_eq!(said("<luis@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;old+2Bl@example.org"), offered, "{commands:?}");
        assert_eq!(said("<eva@example.org> NOTIFY=NEVER"), offered, "{commands:?}");
        assert!(offered || !said("NOTIFY"), "{commands:?}");
    }
}
