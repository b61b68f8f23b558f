//! Backups of a queue in use, put back and looked at.
#![allow(clippy::unwrap_used)]
use super::tests::{NOW, intent, leases, message, settlement};
use super::*;
use crate::backup::{BackupError, Manifest, Plan, Progress, Restored, Summary, of_running, of_stopped, restore, take};
use crate::directory::DirectoryStore;
use crate::seal::Sealer;
use mail::RecipientState;
use std::fs;
use std::ops::ControlFlow;

/// A data folder, its key, and room for backups.
struct Site {
    home: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir(site.data()).unwrap();
        let sealer = Arc::new(Sealer::open(&site.key(), true).unwrap());
        let directory = DirectoryStore::open(&site.data().join("directory.sqlite"), sealer).unwrap();
        directory.ensure_capture_default(NOW).unwrap();
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.at("data")
    }

    fn key(&self) -> PathBuf {
        self.at("key")
    }

    fn open(&self, data: &str) -> Embedded {
        let folder = self.at(data).join("queue");
        let options =
            Options { min_free: 0, reserve: 0, segment_size: 20_000, keep_bodies: Duration::ZERO, ..Options::new(folder, NOW) };
        Embedded::open(options).unwrap()
    }

    fn plan(&self, name: &str) -> Plan {
        Plan { data_dir: self.data(), folder: self.at(name), min_free: 0, at: NOW }
    }

    fn backup(&self, queue: &Embedded, name: &str) -> Result<Summary, BackupError> {
        of_running(queue, &self.plan(name), &mut go_on)
    }

    fn restore(&self, name: &str, data: &str) -> Result<Restored, BackupError> {
        restore(&self.at(name), &self.at(data), Some(&self.key()), &mut go_on)
    }

    /// Refused, with these words, and nothing was written.
    fn refuses(&self, name: &str, words: &str) {
        let said = self.restore(name, "other").unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
        assert!(!self.at("other").exists(), "{words}");
    }
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn tidy(queue: &Embedded) {
    tidy_of(queue);
}

fn tidy_of<D: Disk>(queue: &Embedded<D>) {
    let policy = Policy { keep_bodies: Duration::ZERO, slack: 0, share: u64::MAX };
    let mut keeper = queue.shared.keeper(policy).unwrap();
    queue.shared.tidy(&mut keeper);
}

/// A body of which the rest is in a file.
fn large(queue: &Embedded, number: u8) -> Body {
    let mut spool = queue.spool().unwrap();
    spool.write(&[number; 5000]).unwrap();
    Body::Spooled { head: Bytes::from(format!("Subject: number {number}\r\n\r\n")), rest: spool.finish().unwrap() }
}

fn accept(queue: &Embedded, number: u8) {
    let mut message = message(number, &["luis@example.org"]);
    if number.is_multiple_of(4) {
        message.body = large(queue, number);
    }
    queue.accept(vec![message]).wait().unwrap();
}

/// Hands the next message over; what became of it depends on its number.
fn deliver(queue: &Embedded) -> bool {
    let Some(lease) = leases(queue, NOW, 1).pop() else { return false };
    queue.record(AttemptRecord { intend: Some(intent(&lease)), ..AttemptRecord::default() }).wait().unwrap();
    let to = [Move::Send, Move::Fail, Move::Defer, Move::Send, Move::Capture][usize::from(lease.message.0[15]) % 5];
    queue.record(AttemptRecord { settle: Some(settlement(&lease, to)), ..AttemptRecord::default() }).wait().unwrap();
    true
}

fn told(queue: &Embedded) -> BTreeMap<MessageId, (RecipientState, String)> {
    let page = Page { after: None, before: None, limit: 1000 };
    let all = queue.list(&Filter::default(), &page).unwrap().messages;
    all.into_iter().map(|view| (view.id, (view.recipients[0].state, view.subject.clone()))).collect()
}

#[test]
fn a_backup_in_the_middle_of_load_has_each_message_in_its_final_state_or_held() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=60).for_each(|number| accept(&queue, number));
    (0..30).for_each(|_| assert!(deliver(&queue)));
    tidy(&queue);
    let before = told(&queue);
    let mut next = 61;
    let mut load = |_: Progress| {
        // As much happens between two looks as may: mail comes in, leaves, and the log is cut at its head.
        if next <= 200 {
            accept(&queue, next);
            next += 1;
        }
        deliver(&queue);
        tidy(&queue);
        ControlFlow::Continue(())
    };
    let summary = of_running(&queue, &site.plan("backup"), &mut load).unwrap();
    assert!(next > 65, "mail came in meanwhile");
    let after = told(&queue);
    site.restore("backup", "restored").unwrap();
    let restored = site.open("restored");
    assert!(leases(&restored, Timestamp(i64::MAX >> 1), 1000).is_empty(), "nothing leaves by itself");
    let found = told(&restored);
    for id in before.keys() {
        assert!(found.contains_key(id), "{id} was accepted before");
    }
    let mut held = 0;
    for (id, (state, subject)) in &found {
        let (now, known) = &after[id];
        assert_eq!(subject, known);
        if *state == RecipientState::Held {
            held += 1;
            let body = restored.raw(*id).unwrap().unwrap().read().unwrap();
            assert!(String::from_utf8_lossy(&body).starts_with(&format!("Subject: {subject}\r\n")), "its body is there");
        } else {
            assert_eq!((state, state.is_final()), (now, true), "{id}");
        }
        if before.get(id).is_some_and(|(before, _)| before.is_final()) {
            assert_eq!(*state, before[id].0);
        }
    }
    assert_eq!(held, summary.open_messages);
    drop(restored);
    let report = check(&site.at("restored").join("queue")).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(summary.warnings, Vec::<String>::new());
    assert!(summary.files > 4 && summary.bytes > 10_000 && summary.took_ms > 0, "{summary:?}");
}

#[test]
fn what_a_backup_holds_back_goes_when_it_has_ended() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=60).for_each(|number| accept(&queue, number));
    while deliver(&queue) {}
    let names = |queue: &Embedded| (queue.shared.disk.list().unwrap(), queue.shared.bodies.list().unwrap());
    let before = names(&queue);
    let held_back = |progress: Progress| {
        if progress.step == "checksums" {
            // From here on the backup needs nothing of the queue.
            return ControlFlow::Continue(());
        }
        tidy(&queue);
        queue.shared.remove_bodies_that_rested();
        assert_eq!(names(&queue), before);
        assert!(matches!(site.backup(&queue, "second"), Err(BackupError::Running)), "one at a time");
        ControlFlow::Continue(())
    };
    of_running(&queue, &site.plan("backup"), &mut { held_back }).unwrap();
    tidy(&queue);
    let after = names(&queue);
    assert!(after.0.len() < before.0.len() && after.1.len() < before.1.len(), "{after:?}");
    assert!(!site.at("second").exists() && !site.at("second.partial").exists());
}

#[test]
fn a_full_disk_ends_a_backup_and_nothing_else() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=40).for_each(|number| accept(&queue, number));
    for left in [0, 1, 4000, 15_000] {
        let asked = AtomicU64::new(0);
        // The first look finds enough.
        let room = move || Ok(if asked.fetch_add(1, Ordering::Relaxed) == 0 && left > 0 { u64::MAX } else { left });
        let taken = take(queue.source().unwrap(), &site.plan("backup"), Some(Box::new(room)), &mut go_on);
        assert!(matches!(taken, Err(BackupError::NoRoom { .. })), "{taken:?}");
        assert!(!site.at("backup").exists() && !site.at("backup.partial").exists());
        accept(&queue, 100 + (left / 1000) as u8);
    }
    assert!(!queue.shared.is_held_back());
    let stopped = of_running(&queue, &site.plan("backup"), &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(BackupError::Stopped)) && !site.at("backup.partial").exists());
    site.backup(&queue, "backup").unwrap();
}

#[test]
fn a_backup_is_never_put_inside_of_the_data_nor_over_something() {
    let site = Site::new();
    let queue = site.open("data");
    accept(&queue, 1);
    assert!(matches!(site.backup(&queue, "data/backup"), Err(BackupError::Inside { .. })));
    std::os::unix::fs::symlink(site.data(), site.at("link")).unwrap();
    assert!(matches!(site.backup(&queue, "link/queue/backup"), Err(BackupError::Inside { .. })));
    fs::create_dir(site.at("there")).unwrap();
    assert!(matches!(site.backup(&queue, "there"), Err(BackupError::Exists(_))));
    fs::create_dir(site.at("backup.partial")).unwrap();
    assert!(matches!(site.backup(&queue, "backup"), Err(BackupError::Leftover(_))));
    assert!(site.at("backup.partial").exists(), "it is not ours to remove");
    assert!(matches!(site.backup(&queue, "no/such/backup"), Err(BackupError::Io { .. })));
}

#[test]
fn what_was_changed_in_a_backup_is_refused_before_anything_is_written() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=20).for_each(|number| accept(&queue, number));
    site.backup(&queue, "backup").unwrap();
    let manifest = Manifest::read(&site.at("backup")).unwrap();
    for entry in &manifest.files {
        let path = site.at("backup").join(&entry.name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        fs::write(&path, flipped).unwrap();
        site.refuses("backup", &entry.name);
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        site.refuses("backup", "instead of");
        fs::remove_file(&path).unwrap();
        site.refuses("backup", &entry.name);
        fs::write(&path, whole).unwrap();
    }
    let path = site.at("backup").join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"open_messages\": 20", "\"open_messages\": 0")).unwrap();
    site.refuses("backup", "manifest.json");
    // Whoever writes the checksum anew, too, does not get out of the folder.
    let evil = text.replace("queue/index.sqlite", "../../index.sqlite");
    fs::write(&path, &evil).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, evil.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(site.at("backup").join("manifest.json.sha256"), format!("{hex}  manifest.json\n")).unwrap();
    site.refuses("backup", "../../index.sqlite");
    fs::remove_file(&path).unwrap();
    site.refuses("backup", "no whole backup");
}

#[test]
fn another_master_key_or_none_is_said_before_anything_is_written() {
    let site = Site::new();
    let queue = site.open("data");
    accept(&queue, 1);
    site.backup(&queue, "backup").unwrap();
    Sealer::open(&site.at("another"), true).unwrap();
    for (key, words) in [("another", "not the one"), ("absent", "missing")] {
        let said = restore(&site.at("backup"), &site.at("other"), Some(&site.at(key)), &mut go_on).unwrap_err().to_string();
        assert!(said.contains(words) && said.contains(key), "{said}");
        assert!(!site.at("other").exists());
    }
    let everything = walk(&site.at("backup"));
    let key = fs::read(site.key()).unwrap();
    assert!(!everything.iter().any(|(_, bytes)| bytes.windows(key.len()).any(|piece| piece == key)), "the key is never in it");
}

#[test]
fn a_folder_with_something_in_it_is_not_restored_into() {
    let site = Site::new();
    let queue = site.open("data");
    accept(&queue, 1);
    site.backup(&queue, "backup").unwrap();
    assert!(matches!(site.restore("backup", "data"), Err(BackupError::NotEmpty(_))));
    fs::create_dir(site.at("empty")).unwrap();
    assert_eq!(site.restore("backup", "empty").unwrap().manifest.open_messages, 1);
    assert!(matches!(site.restore("backup", "empty"), Err(BackupError::NotEmpty(_))));
}

#[test]
fn a_stopped_queue_is_backed_up_as_it_is_without_its_torn_end() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=20).for_each(|number| accept(&queue, number));
    (0..5).for_each(|_| assert!(deliver(&queue)));
    assert!(matches!(of_stopped(&site.plan("early"), &mut go_on), Err(BackupError::Queue(OpenError::Locked(_)))));
    let expected = told(&queue);
    let newest = log::segments(&*queue.shared.disk).unwrap().last().copied().unwrap();
    drop(queue);
    let path = site.data().join("queue/log").join(log::name_of(newest));
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"SND1 a batch that");
    fs::write(&path, &torn).unwrap();
    let before = walk(&site.data());
    let summary = of_stopped(&site.plan("backup"), &mut go_on).unwrap();
    assert_eq!(walk(&site.data()), before, "nothing of it was changed");
    let report = check(&site.at("backup").join("queue")).unwrap();
    assert!(report.is_clean() && report.findings.torn_bytes == 0, "{report:?}");
    site.restore("backup", "restored").unwrap();
    let found = told(&site.open("restored"));
    let open = found.values().filter(|(state, _)| *state == RecipientState::Held).count();
    assert_eq!((found.len(), open as u64), (expected.len(), summary.open_messages));
}

/// Every file below a folder but those that SQLite makes for readers.
fn walk(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else if !path.to_string_lossy().ends_with("-shm") && !path.to_string_lossy().ends_with("-wal") {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_backup_can_be_checked_and_its_files_are_for_nobody_else() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let queue = site.open("data");
    (1..=20).for_each(|number| accept(&queue, number));
    let summary = site.backup(&queue, "backup").unwrap();
    assert_eq!(summary.open_messages, 20);
    let before = walk(&site.at("backup"));
    let report = check(&site.at("backup").join("queue")).unwrap();
    assert!(report.is_clean() && report.unindexed == 0 && report.open_recipients == 20, "{report:?}");
    assert_eq!(walk(&site.at("backup")), before);
    for (path, _) in before {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn what_was_backed_up_before_the_first_start_of_a_new_version_can_be_restored() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=20).for_each(|number| accept(&queue, number));
    drop(queue);
    let path = site.data().join("queue/index.sqlite");
    let index = rusqlite::Connection::open(&path).unwrap();
    let earlier = "UPDATE recipients SET address = substr(address, instr(address, '@') + 1) || '@' ||
                   substr(address, 1, instr(address, '@') - 1); DELETE FROM counts; PRAGMA user_version = 4;";
    index.execute_batch(earlier).unwrap();
    drop(index);
    let summary = of_stopped(&site.plan("backup"), &mut go_on).unwrap();
    let index = rusqlite::Connection::open(&path).unwrap();
    let format: i64 = index.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(format, 4, "what was saved is as it was");
    assert_eq!(site.restore("backup", "restored").unwrap().manifest.files.len() as u64, summary.files);
    let found = told(&site.open("restored"));
    assert_eq!((found.len(), summary.open_messages), (20, 20));
    assert!(found.values().all(|(state, _)| *state == RecipientState::Held));
}

#[test]
fn a_gateway_that_was_started_while_a_backup_was_verified_keeps_its_mail() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=5).for_each(|number| accept(&queue, number));
    site.backup(&queue, "backup").unwrap();
    let mut started = false;
    let mut start = |_: Progress| {
        if !std::mem::replace(&mut started, true) {
            accept(&site.open("other"), 77);
        }
        ControlFlow::Continue(())
    };
    let refused = restore(&site.at("backup"), &site.at("other"), Some(&site.key()), &mut start);
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))), "{refused:?}");
    let found = told(&site.open("other"));
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [super::tests::id(77)]);
}

#[test]
fn a_restore_that_fails_takes_back_what_it_made_and_can_be_repeated() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=20).for_each(|number| accept(&queue, number));
    site.backup(&queue, "backup").unwrap();
    let manifest = Manifest::read(&site.at("backup")).unwrap();
    let path = site.at("backup").join("queue/format");
    let whole = fs::read(&path).unwrap();
    let last = manifest.bytes() - manifest.files.last().unwrap().bytes;
    let mut damage = |progress: Progress| {
        if progress.done_bytes == last {
            fs::write(&path, "something else").unwrap();
        }
        ControlFlow::Continue(())
    };
    let refused = restore(&site.at("backup"), &site.at("other"), Some(&site.key()), &mut damage);
    assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(site.at("other")).unwrap().count(), 0);
    fs::write(&path, whole).unwrap();
    site.restore("backup", "other").unwrap();
}

#[test]
fn a_backup_is_given_up_when_the_disk_of_the_data_gets_short() {
    let site = Site::new();
    let disk = crate::disk::fake::FakeDisk::default();
    let folder = site.data().join("queue");
    fs::create_dir(&folder).unwrap();
    let options =
        Options { min_free: 1000, reserve: 0, segment_size: 3000, keep_bodies: Duration::ZERO, ..Options::new(&folder, NOW) };
    let open = Embedded::on_disk(Arc::new(disk.clone()), folder.join("index.sqlite"), options).unwrap();
    for number in 1..=30 {
        open.accept(vec![message(number, &["luis@example.org"])]).wait().unwrap();
    }
    let plan = |name: &str| Plan { data_dir: site.data(), folder: site.at(name), min_free: 0, at: NOW };
    let taken = |queue: &Embedded<crate::disk::fake::FakeDisk>, name: &str, left: u64| {
        let mut shrink = |progress: Progress| {
            if progress.step == "log" {
                disk.set_free(left);
            }
            ControlFlow::Continue(())
        };
        of_running(queue, &plan(name), &mut shrink)
    };
    for left in [1999, 0] {
        disk.set_free(5000);
        let refused = taken(&open, "backup", left);
        assert!(matches!(refused, Err(BackupError::Short(_))), "{refused:?}");
        assert!(!site.at("backup").exists() && !site.at("backup.partial").exists());
        assert!(!open.shared.is_held_back());
    }
    disk.set_free(1500);
    taken(&open, "short already", 1200).unwrap();
    assert!(matches!(taken(&open, "backup", 999), Err(BackupError::Short(_))));
    // While the one that copies is kept by its disk, the queue helps itself.
    let source = open.source().unwrap();
    disk.set_free(10);
    tidy_of(&open);
    assert!(!open.shared.is_held_back() && !source.is_held());
    assert!(open.source().is_none(), "it has not ended yet");
    drop(source);
    assert!(open.source().is_some());
}

#[test]
fn a_stop_interrupts_the_copying_of_a_database() {
    let site = Site::new();
    let path = site.at("large.sqlite");
    let database = rusqlite::Connection::open(&path).unwrap();
    let fill = "CREATE TABLE t (x BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
                INSERT INTO t SELECT randomblob(100) FROM n;";
    database.execute_batch(fill).unwrap();
    let looked = AtomicU64::new(0);
    let mut go_on = || looked.fetch_add(1, Ordering::Relaxed) > 1_000_000;
    let copied = backup::copy_database(&path, &site.at("copy.sqlite"), &mut go_on);
    let whole = rusqlite::Connection::open(site.at("copy.sqlite")).unwrap();
    let whole = whole.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).is_ok_and(|rows| rows == 400_000);
    // Nobody asks where it was copied within one look; and what is stopped may have been whole by then.
    let asked = looked.load(Ordering::Relaxed);
    assert_eq!(copied.unwrap(), (asked == 0).then_some(()));
    assert!(whole || asked > 0, "nobody stopped it, and it is not whole");
    assert!(asked <= 1, "no more is asked once it was said");
}

#[test]
fn a_body_that_cannot_be_read_is_left_out_and_named() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=8).for_each(|number| accept(&queue, number));
    let files = queue.shared.bodies.list().unwrap();
    drop(queue);
    // A folder has a length and nothing that can be read, as a sector that is gone.
    let path = site.data().join("queue/bodies").join(&files[0]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let summary = of_stopped(&site.plan("backup"), &mut go_on).unwrap();
    assert!(summary.warnings.iter().any(|one| one.contains(&files[0]) && one.contains("cannot be read")), "{summary:?}");
    let manifest = site.restore("backup", "restored").unwrap().manifest;
    assert!(!manifest.files.iter().any(|entry| entry.name.contains(&files[0])));
    assert_eq!(told(&site.open("restored")).len(), 8);
}

#[test]
fn a_damaged_index_is_left_out_and_what_is_open_is_saved_all_the_same() {
    let site = Site::new();
    let queue = site.open("data");
    (1..=30).for_each(|number| accept(&queue, number));
    drop(queue);
    let path = site.data().join("queue/index.sqlite");
    let whole = fs::read(&path).unwrap();
    for keeps in [0, 4096] {
        let mut damaged = whole.clone();
        damaged[keeps..].fill(0x5a);
        fs::write(&path, damaged).unwrap();
        let name = format!("backup {keeps}");
        let summary = of_stopped(&site.plan(&name), &mut go_on).unwrap();
        assert!(summary.warnings.iter().any(|one| one.contains("the index is not in it")), "{summary:?}");
        assert_eq!(summary.open_messages, 30);
        site.restore(&name, &format!("restored {keeps}")).unwrap();
        assert_eq!(told(&site.open(&format!("restored {keeps}"))).len(), 30);
    }
}

#[test]
fn a_database_on_a_disk_that_is_read_only_is_copied_with_its_journal() {
    let site = Site::new();
    let (from, to) = (site.at("from.sqlite"), site.at("to.sqlite"));
    let database = rusqlite::Connection::open(&from).unwrap();
    database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2);").unwrap();
    backup::copy_files(&from, &to).unwrap();
    let rows: i64 = rusqlite::Connection::open(&to).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    assert!(!site.at("to.sqlite-wal").exists());
}
