#![allow(clippy::unwrap_used)]
use super::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn secrets_are_nowhere_in_the_files() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let shown = format!("{:?} {:?}", sample(), bench.store.directory());
    assert!(!shown.contains(PASSWORD) && !shown.contains(TOKEN));
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for planted in [PASSWORD, TOKEN] {
            assert!(!bytes.windows(planted.len()).any(|part| part == planted.as_bytes()));
        }
    }
}

#[test]
fn another_key_does_not_open_the_directory() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let error = open(bench.folder.path(), "other-key").err().unwrap();
    assert!(matches!(error, DirectoryError::Seal(SealError::WrongKey(_))), "{error}");
}

#[test]
fn a_sealed_credential_moved_to_another_row_does_not_open() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    bench
        .store
        .lock()
        .execute("UPDATE channels SET secret = (SELECT secret FROM channels WHERE name = 'ana-mailbox')", [])
        .unwrap();
    let directory = bench.store.directory();
    let team = directory.channel_named("team").unwrap();
    assert!(matches!(bench.store.channel_secret(team.id, team.revision), Err(DirectoryError::Seal(_))));
}

#[test]
fn a_key_that_is_missing_is_said_and_not_made_anew() {
    let bench = Bench::new();
    let path = bench.folder.path().join("directory.sqlite");
    assert!(DirectoryStore::exists(&path));
    std::fs::remove_file(bench.folder.path().join("key")).unwrap();
    let error = Sealer::open(&bench.folder.path().join("key"), !DirectoryStore::exists(&path)).err().unwrap().to_string();
    assert!(error.contains("is missing") && error.contains("restore it"), "{error}");
}

#[test]
fn others_cannot_read_the_database() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{}", entry.path().display());
    }
}
