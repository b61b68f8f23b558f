//! `sendero try`: the newcomer's tour. A gateway in a fresh folder takes messages by SMTP with TLS and
//! login, by the command line and by HTTP, and hands them to a capture server in a process of its own.

pub mod capture_server;
mod doors;
mod hop;
mod letters;
mod live;
mod paced;
mod screen;
mod stage;

use self::hop::Hop;
use self::letters::{Door, Letter, Progress};
use self::screen::Screen;
use self::stage::Stage;
use crate::cli::Output;
use crate::commands::CommandError;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep_until};

/// Messages by each door, so that there is a half-way.
const EACH: usize = 3;
/// The pause between two messages, so that a person can follow.
const PAUSE: Duration = Duration::from_millis(850);
/// How long the tour waits for what was accepted to arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same once the capture server is gone: long enough to show that the mail waits.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);
/// How often the screen looks at the gateway.
const LOOK: Duration = Duration::from_millis(100);

/// Shows the tour. Ends with success only if every message arrived as it was sent.
///
/// # Errors
/// The stage could not be set up.
pub async fn run(exit: bool, output: Output) -> Result<ExitCode, CommandError> {
    let mut stop = signal(SignalKind::terminate()).map_err(|problem| CommandError::about("signals", problem))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|problem| CommandError::about("signals", problem))?;
    let mut screen = Screen::new(output);
    let mut hop = Hop::start().await?;
    screen.hop(&hop);
    let stage = Stage::set(&hop).await?;
    screen.stage(&stage);
    let mut letters = Letter::all(EACH);
    let mut passed = true;
    let told = async {
        if !perform(&stage, &mut hop, &mut letters, &mut screen).await {
            return;
        }
        passed = paced::perform(&stage, &mut hop, &mut screen, pause()).await;
        if exit || !passed {
            paced::clear(&stage).await;
            return;
        }
        screen.invitation(&stage);
        while let Some(captured) = hop.next().await {
            screen.visitor(&captured);
        }
    };
    tokio::select! {
        () = told => {}
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    let arrived = passed && letters.iter().all(Letter::arrived_unchanged);
    let waiting = stage.waiting().await;
    screen.end(&letters, waiting, &stage);
    stage.strike(waiting == 0).await;
    hop.stop().await;
    Ok(if arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends every letter and follows it to its hand-over; true when all arrived unchanged.
async fn perform(stage: &Stage, hop: &mut Hop, letters: &mut [Letter], screen: &mut Screen) -> bool {
    let pause = pause();
    let mut look = interval(LOOK);
    for number in 0..letters.len() {
        let began = Instant::now();
        let accepted = match letters[number].door {
            Door::Smtp => doors::by_smtp(stage, &letters[number]).await,
            Door::Cli => doors::by_command_line(stage, &letters[number]).await,
            Door::Http => doors::by_http(stage, &letters[number]).await,
        };
        match accepted {
            Ok(id) => letters[number].accepted(id, began.elapsed()),
            Err(problem) => letters[number].progress = Progress::Refused(problem),
        }
        screen.show(letters);
        follow(stage, hop, letters, screen, &mut look, began + pause).await;
    }
    let mut deadline = Instant::now() + PATIENCE;
    while letters.iter().any(Letter::is_under_way) && Instant::now() < deadline {
        if hop.is_gone() {
            deadline = deadline.min(Instant::now() + SHORT_PATIENCE);
        }
        follow(stage, hop, letters, screen, &mut look, (Instant::now() + 5 * LOOK).min(deadline)).await;
    }
    letters.iter().all(Letter::arrived_unchanged)
}

/// Watches until `until`.
async fn follow(
    stage: &Stage,
    hop: &mut Hop,
    letters: &mut [Letter],
    screen: &mut Screen,
    look: &mut tokio::time::Interval,
    until: Instant,
) {
    let done = sleep_until(until);
    tokio::pin!(done);
    loop {
        tokio::select! {
            () = &mut done => return,
            Some(captured) = hop.next() => {
                if let Some(letter) = letters.iter_mut().find(|letter| letter.message_id == captured.message_id) {
                    letter.progress = Progress::Captured(captured.sha256);
                }
            }
            _ = look.tick() => stage.look(letters).await,
        }
        screen.show(letters);
    }
}

/// The pause, as `SENDERO_TRY_PAUSE` sets it in milliseconds for tests.
fn pause() -> Duration {
    let millis = std::env::var("SENDERO_TRY_PAUSE").ok().and_then(|text| text.parse().ok());
    millis.map_or(PAUSE, Duration::from_millis)
}
