//! Histories of the whole gateway, as many as a debug build has time for. `cargo xtask test` runs 10,000, and
//! `cargo xtask simulate` as many as you like.
#![allow(clippy::unwrap_used)]

use simulation::{Failure, Report, run};

/// The first seeds, or as many as `SENDERO_SEEDS` says.
fn seeds() -> u64 {
    std::env::var("SENDERO_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[test]
fn whatever_goes_wrong_no_recipient_is_lost_and_none_is_doubled_without_excuse() {
    let halves: Vec<Vec<Result<Report, Failure>>> = std::thread::scope(|scope| {
        let half = |first: u64| scope.spawn(move || (first..=seeds()).step_by(2).map(|seed| run(seed, false)).collect());
        [half(1), half(2)].into_iter().map(|half| half.join().unwrap()).collect()
    });
    let results: Vec<_> = halves.into_iter().flatten().collect();
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} histories failed, the first:\n{}", failures.len(), failures[0]);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 1..20 {
        assert_eq!(run(seed, false).unwrap(), run(seed, false).unwrap(), "seed {seed}");
    }
}

/// Seeds that found something: with what they found undone, each fails. Whoever changes what a seed means (the
/// plan, or the order of chance) looks for new ones.
fn goes_well(seed: u64) {
    if let Err(failure) = run(seed, false) {
        panic!("{failure}");
    }
}

#[test]
fn a_channel_that_a_reply_has_parked_goes_on_by_itself() {
    goes_well(108);
}

#[test]
fn a_message_taken_by_an_older_session_does_not_clear_a_refused_login() {
    goes_well(409);
}

#[test]
fn a_released_message_leaves_although_the_wall_clock_is_ahead() {
    goes_well(607);
}

#[test]
fn a_refused_login_is_remembered_although_the_disk_was_full() {
    goes_well(753);
}

#[test]
fn a_stop_does_not_doubt_whom_the_next_hop_has_refused() {
    goes_well(38_509);
}

#[test]
fn a_limit_on_bytes_has_time_for_messages_that_a_limit_on_recipients_splits() {
    goes_well(51_486);
}

#[test]
fn two_people_who_wait_share_a_lane() {
    goes_well(1);
}

#[test]
fn teams_share_a_lane_before_their_people_do() {
    goes_well(4);
}

#[test]
fn mail_that_found_no_connection_keeps_its_turn() {
    goes_well(6);
}
