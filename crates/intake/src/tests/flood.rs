//! More than the gateway can take at once is delayed, and never refused for good.

use super::sockets::{listen, trusted};
use super::world::*;
use crate::caps::Caps;
use crate::door::Deadlines;
use crate::listener::Mode;
use std::net::SocketAddr;
use std::time::Duration;
use store::AcceptError;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// The code of one reply; `None` when the connection is gone.
async fn reply(stream: &mut BufStream<TcpStream>) -> Option<u16> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.get(3..4) != Some("-") {
            return line.get(..3)?.parse().ok();
        }
    }
}

/// One transaction; the codes of its replies, the last one decides. A client that is turned away has no more to say.
async fn transaction(address: SocketAddr, number: usize) -> Vec<u16> {
    let mut stream = BufStream::new(TcpStream::connect(address).await.unwrap());
    let lines = [
        String::new(),
        "EHLO client.example\r\n".to_owned(),
        "MAIL FROM:<ana@example.com>\r\n".to_owned(),
        format!("RCPT TO:<r{number}@example.org>\r\n"),
        "DATA\r\n".to_owned(),
        "From: ana@example.com\r\n\r\nhello\r\n.\r\n".to_owned(),
    ];
    let mut codes = Vec::new();
    for line in lines {
        if stream.write_all(line.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        let Some(code) = reply(&mut stream).await else { break };
        codes.push(code);
        if code >= 400 {
            break;
        }
    }
    codes
}

/// Tries again until it is told 250 for the message, as RFC 5321 §4.5.4.1 has it.
async fn deliver(address: SocketAddr, number: usize) -> Vec<u16> {
    let mut seen = Vec::new();
    for _ in 0..400 {
        let codes = transaction(address, number).await;
        let is_taken = codes == [220, 250, 250, 250, 354, 250];
        seen.extend(codes);
        if is_taken {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("client {number} was never served: {:?}", &seen[seen.len() - 10..]);
}

async fn until_one_is_deferred(world: &World) {
    let deferred = || world.intake.counters().read().deferred;
    let before = deferred();
    while deferred() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Pain 26: a flood is told 250 or 4xx, and a client that honours 4xx loses nothing.
#[tokio::test]
async fn a_flood_is_queued_or_asked_to_come_later_and_never_refused_for_good() {
    let world = world_with(Caps::new(8, 8), Deadlines::for_size(4096));
    let running = listen(&world, Mode::Clear, trusted("127.0.0.0/8")).await;
    world.queue.will(Will::Refuse(AcceptError::NoSpace("floor".into())));
    let clients: Vec<_> = (0..60).map(|number| tokio::spawn(deliver(running.address, number))).collect();
    until_one_is_deferred(&world).await;
    world.queue.will(Will::Refuse(AcceptError::Closed("closing".into())));
    until_one_is_deferred(&world).await;
    world.queue.will(Will::Keep);
    let mut codes = Vec::new();
    for client in clients {
        codes.extend(client.await.unwrap());
    }
    assert!(codes.iter().all(|code| *code < 500), "{:?}", codes.iter().find(|code| **code >= 500));
    for expected in [421, 451, 452] {
        assert!(codes.contains(&expected), "nobody was told {expected}");
    }
    let mut kept: Vec<String> = world.queue.kept().iter().map(|one| one.envelope.recipients[0].path.to_string()).collect();
    kept.sort_unstable();
    kept.dedup();
    assert_eq!((kept.len(), world.queue.kept().len()), (60, 60), "each is there once");
    running.stop().await;
}
