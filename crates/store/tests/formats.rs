//! Folders that earlier versions left behind are opened, and nothing in them is lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use mail::{PersonId, RecipientState, Timestamp};
use std::fs;
use std::path::Path;
use store::embedded::{Embedded, Options, check};
use store::{Filter, Page, Queue};

/// The formats that were ever written, this version's last.
const FORMATS: [&str; 1] = ["format-3"];

/// Two captured messages, one that waits on a paused channel and one that is held; each was submitted with a key.
fn copy_of(format: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format), home.path());
    home
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Subject and states of every message, oldest first.
fn told(queue: &Embedded) -> Vec<(String, Vec<RecipientState>)> {
    let page = Page { after: None, before: None, limit: 100 };
    let mut messages = queue.list(&Filter::default(), &page).unwrap().messages;
    messages.reverse();
    let states = |view: &store::MessageView| view.recipients.iter().map(|recipient| recipient.state).collect();
    messages.iter().map(|view| (view.subject.clone(), states(view))).collect()
}

fn expected() -> Vec<(String, Vec<RecipientState>)> {
    use RecipientState::{Captured, Held, Queued};
    let all = [("captured 1", vec![Captured]), ("captured 2", vec![Captured]), ("waits", vec![Queued; 2]), ("held", vec![Held])];
    all.into_iter().map(|(subject, states)| (subject.to_owned(), states)).collect()
}

fn options(folder: &Path) -> Options {
    Options { min_free: 0, ..Options::new(folder, Timestamp(1_800_000_000_000)) }
}

#[test]
fn a_folder_of_every_format_is_opened_and_nothing_in_it_is_lost() {
    for format in FORMATS {
        let home = copy_of(format);
        let queue = Embedded::open(options(home.path())).unwrap();
        assert_eq!(told(&queue), expected(), "{format}");
        assert_eq!(queue.totals().accepted, 5);
        let page = Page { after: None, before: None, limit: 100 };
        for view in queue.list(&Filter::default(), &page).unwrap().messages {
            assert_eq!(view.person, PersonId(1));
            let body = queue.raw(view.id).unwrap().expect("every body is there");
            assert!(String::from_utf8_lossy(&body.read().unwrap()).contains(&view.subject));
        }
        queue.close();
        drop(queue);
        assert!(check(home.path()).unwrap().is_clean(), "{:?}", check(home.path()).unwrap());
        assert_eq!(told(&Embedded::open(options(home.path())).unwrap()), expected(), "and it opens again");
    }
}

#[test]
fn the_log_of_every_format_says_all_of_it_without_the_index() {
    for format in FORMATS {
        let home = copy_of(format);
        fs::remove_file(home.path().join("index.sqlite")).unwrap();
        let queue = Embedded::open(options(home.path())).unwrap();
        assert_eq!(told(&queue), expected(), "{format}");
    }
}
