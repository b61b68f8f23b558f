//! Every fault at every stage: the outcome is what the rules say, and nothing is lost.

use super::*;
use crate::scripted::{Fault, Point};
use mail::{Cause, Stage};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Short enough that a stalled next hop does not hold the test up.
const LIMIT: Duration = Duration::from_secs(4);

/// Beyond what the buffers between both ends can hold.
const LARGE: usize = 6 * 1024 * 1024;

#[derive(Clone, Copy, Debug)]
struct Cell {
    point: Point,
    fault: Fault,
    tls: TlsMode,
    pipelining: bool,
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for point in Point::ALL {
        for fault in Fault::ALL {
            cells.push(Cell { point, fault, tls: TlsMode::Starttls, pipelining: true });
            if !matches!(point, Point::StartTls | Point::Tls | Point::Auth) {
                cells.push(Cell { point, fault, tls: TlsMode::None, pipelining: false });
            }
            if matches!(point, Point::Tls | Point::Greeting) {
                cells.push(Cell { point, fault, tls: TlsMode::Implicit, pipelining: true });
            }
        }
    }
    cells
}

fn script(cell: Cell) -> Script {
    let script = match cell.tls {
        TlsMode::None => Script::clear(),
        tls => Script::protected(tls, Arc::clone(&SERVER)),
    };
    let script = if cell.pipelining { script } else { script.without("PIPELINING") };
    Script { small_buffer: cell.point == Point::Body, ..script.with_fault(cell.point, cell.fault) }
}

/// What the rules say about a fault before MAIL.
fn is_right_open_error(cell: Cell, error: &OpenError) -> bool {
    let stage = match cell.point {
        Point::Greeting => Stage::Greeting,
        Point::Ehlo => Stage::Ehlo,
        Point::StartTls => Stage::StartTls,
        Point::Tls => Stage::Tls,
        Point::Auth => Stage::Auth,
        _ => return false,
    };
    // EHLO refused: HELO has neither TLS nor login, and is taken where none is wanted.
    let class = match (cell.fault, cell.point) {
        (_, Point::Tls) => matches!(error, OpenError::Broken(..)),
        (Fault::Transient, Point::Auth) => matches!(error, OpenError::LoginLater(reply) if reply.code() == 454),
        (Fault::Permanent, Point::Auth) => matches!(error, OpenError::Login(reply) if reply.code() == 550),
        (Fault::Transient | Fault::Permanent | Fault::Closing, _) => matches!(error, OpenError::Refused(..)),
        _ => matches!(error, OpenError::Broken(..)),
    };
    // A reset may overtake the end of the connection's own handshake.
    let early = cell.fault == Fault::Reset && cell.point == Point::Greeting && error.stage() == Stage::Connect;
    class && (error.stage() == stage || early)
}

/// What the rules say about a fault from MAIL on.
fn is_right_outcome(cell: Cell, outcome: &Outcome) -> bool {
    let stage = match cell.point {
        Point::Mail => Stage::Mail,
        Point::Rcpt => Stage::Rcpt,
        Point::Data => Stage::Data,
        Point::Body => Stage::Body,
        Point::FinalDot => Stage::FinalDot,
        Point::AfterDot | Point::Quit => return is_sent(outcome),
        _ => return false,
    };
    match (cell.fault, outcome) {
        (Fault::Transient, Outcome::Deferred(Cause::Refused(at, said))) => *at == stage && said.code == 451,
        (Fault::Permanent, Outcome::Failed(Cause::Refused(at, said))) => *at == stage && said.code == 550,
        (Fault::Closing, Outcome::Deferred(Cause::Refused(at, said))) => *at == stage && said.code == 421,
        (Fault::Transient | Fault::Permanent | Fault::Closing, _) => false,
        (_, Outcome::Uncertain(Cause::LostAfterData(_))) => stage == Stage::FinalDot,
        (_, Outcome::Deferred(Cause::Broken(at, _))) => *at == stage && stage != Stage::FinalDot,
        _ => false,
    }
}

/// Tries until the message has a final fate; returns whether it was sent, and the outcomes on the way.
async fn run(cell: Cell) -> (bool, Vec<String>) {
    let faulty = Hop::start(script(cell)).await;
    // Where the second try goes: the same next hop, mended.
    let mended = Hop::start(Script { fault: None, small_buffer: false, ..script(cell) }).await;
    let taken_so_far = || faulty.seen().taken.len() + mended.seen().taken.len();
    let body = if cell.point == Point::Body { large() } else { b"Subject: x\r\n\r\n.hello\r\n".to_vec() };
    let outgoing = outgoing(&body);
    let mut story = Vec::new();
    let mut doubles_allowed = 0;
    for (attempt, (hop, limit)) in [(&faulty, LIMIT), (&mended, AMPLE)].into_iter().enumerate() {
        let mut session = match transport(limit).open(&endpoint(hop, cell.tls)).await {
            Ok(session) => session,
            Err(error) => {
                assert!(attempt == 0 && is_right_open_error(cell, &error), "{cell:?}: {error:?}");
                let seen = hop.seen();
                assert!(!seen.commands.iter().any(|line| line.starts_with("MAIL")), "{cell:?}: MAIL before the session was ready");
                story.push(error.to_string());
                continue;
            }
        };
        let outcome = deliver(&mut session, &outgoing).await.remove(0);
        story.push(format!("{outcome:?}"));
        let refused_helo = cell.point == Point::Ehlo && cell.fault == Fault::Permanent && cell.tls == TlsMode::None;
        if attempt == 0 && !refused_helo {
            assert!(is_right_outcome(cell, &outcome), "{cell:?}: {outcome:?}");
            let in_order = cell.fault == Fault::Transient || cell.fault == Fault::Permanent;
            let ends = !in_order || cell.point == Point::Body;
            assert!(!(ends && session.is_reusable()) || is_sent(&outcome), "{cell:?}: a broken session must not be used again");
        }
        let began = Instant::now();
        session.close().await;
        assert!(began.elapsed() < 3 * LIMIT, "{cell:?}: QUIT takes too long");
        match outcome {
            Outcome::Sent(_) | Outcome::Failed(_) => {
                let taken = taken_so_far();
                let sent = usize::from(is_sent(&outcome));
                assert!(taken >= sent && taken <= sent + doubles_allowed, "{cell:?}: taken {taken} times");
                return (true, story);
            }
            Outcome::Uncertain(_) => doubles_allowed += 1,
            Outcome::Deferred(_) | Outcome::Untried | Outcome::Captured => {
                assert_eq!(taken_so_far(), 0, "{cell:?}: deferred although the next hop has it");
            }
        }
    }
    (false, story)
}

fn large() -> Vec<u8> {
    let line = [&[b'a'; 900][..], b"\r\n"].concat();
    line.repeat(LARGE / line.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_every_stage_delays_at_most_and_loses_nothing() {
    let room = Arc::new(Semaphore::new(48));
    let mut running = JoinSet::new();
    let cells = cells();
    let count = cells.len() + 1;
    for cell in cells {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _place = room.acquire_owned().await.unwrap();
            (cell, tokio::time::timeout(AMPLE, run(cell)).await.unwrap_or_else(|_| panic!("{cell:?} does not end")))
        });
    }
    let (mut lost, mut wrong) = (0, 0);
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((_, (true, _))) => {}
            Ok((cell, (false, story))) => {
                lost += 1;
                println!("lost: {cell:?}: {story:?}");
            }
            Err(_) => wrong += 1,
        }
    }
    lost += usize::from(!a_refused_connection_is_trouble_of_the_channel().await);
    println!("SENDERO-FIGURE fault_cells={count} lost={lost}");
    assert_eq!((lost, wrong), (0, 0));
}

async fn a_refused_connection_is_trouble_of_the_channel() -> bool {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = transport(LIMIT).open(&endpoint_at("127.0.0.1", port, TlsMode::None)).await.err();
    error == Some(OpenError::Broken(Stage::Connect, "connection refused".into()))
}
