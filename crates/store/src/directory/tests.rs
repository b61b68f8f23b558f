#![allow(clippy::unwrap_used)]
use super::*;

const PASSWORD: &str = "correct horse battery";
const TOKEN: &str = "a-token-of-more-than-22-characters";

struct Bench {
    folder: tempfile::TempDir,
    store: DirectoryStore,
}

fn open(folder: &Path, key: &str) -> Result<DirectoryStore, DirectoryError> {
    let sealer = Sealer::open(&folder.join(key), true)?;
    DirectoryStore::open(&folder.join("directory.sqlite"), Arc::new(sealer))
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), "key").unwrap();
        Self { folder, store }
    }

    fn apply(&self, desired: &DesiredDirectory) -> Result<Applied, DirectoryError> {
        self.store.apply(desired, &ApplyOptions { dry_run: false, prune: false, by: "test".into(), now: Timestamp(1) })
    }

    fn problems(&self, change: impl FnOnce(&mut DesiredDirectory)) -> String {
        let mut desired = sample();
        change(&mut desired);
        let error = self.apply(&desired).unwrap_err().to_string();
        assert!(!error.contains(PASSWORD) && !error.contains(TOKEN), "{error}");
        error
    }
}

fn sample() -> DesiredDirectory {
    DesiredDirectory {
        teams: vec![DesiredTeam { name: "sales".into(), domains: vec!["Example.com".into()] }],
        people: vec![DesiredPerson {
            email: "ana@example.com".into(),
            teams: vec!["sales".into()],
            send_as: vec!["sales@example.com".into(), "*@example.com".into()],
            ..DesiredPerson::default()
        }],
        channels: vec![
            DesiredChannel {
                name: "ana-mailbox".into(),
                owner: "person:ana@example.com".into(),
                host: Some("smtp.example.net".into()),
                username: Some("ana@example.com".into()),
                password: Some(Secret::new(PASSWORD)),
                limits: vec!["3 connections".into()],
                ..DesiredChannel::default()
            },
            DesiredChannel {
                name: "team".into(),
                owner: "team:sales".into(),
                host: Some("127.0.0.1".into()),
                port: Some(2526),
                tls: Some("none".into()),
                auth: Some("none".into()),
                domains: Some(vec!["*".into()]),
                default: true,
                ..DesiredChannel::default()
            },
        ],
        tokens: vec![DesiredToken {
            name: "laptop".into(),
            person: "ana@example.com".into(),
            secret: Some(Secret::new(TOKEN)),
            surfaces: vec!["smtp".into()],
            ..DesiredToken::default()
        }],
    }
}

#[test]
fn applying_twice_changes_nothing() {
    let bench = Bench::new();
    assert!(bench.apply(&sample()).unwrap().has_changes());
    let before = bench.store.directory();
    let revision = before.channel_named("ana-mailbox").unwrap().revision;
    assert!(!bench.apply(&sample()).unwrap().has_changes());
    assert_eq!(bench.store.directory().channel_named("ana-mailbox").unwrap().revision, revision);
}

#[test]
fn what_was_applied_is_there_after_a_restart_with_its_defaults() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let Bench { folder, store } = bench;
    drop(store);
    let store = open(folder.path(), "key").unwrap();
    let directory = store.directory();
    let mailbox = directory.channel_named("ana-mailbox").unwrap();
    assert_eq!(mailbox.scope, mail::channel::Scope::Address);
    assert_eq!(mailbox.address.as_ref().unwrap().to_string(), "ana@example.com");
    assert_eq!((mailbox.caps.connections, mailbox.return_path), (3, mail::channel::ReturnPath::From));
    assert_eq!(directory.team_named("sales").unwrap().domains, ["example.com"]);
    assert_eq!(store.channel_secret(mailbox.id).unwrap().unwrap().expose(), PASSWORD.as_bytes());
    assert_eq!(store.channel_secret(directory.channel_named("team").unwrap().id).unwrap(), None);
}

#[test]
fn a_new_password_is_a_new_revision() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let mut desired = sample();
    desired.channels[0].password = Some(Secret::new("another"));
    let applied = bench.apply(&desired).unwrap();
    let change = applied.changes.iter().find(|change| change.name == "ana-mailbox").unwrap();
    assert_eq!(change.action, Action::Changed(vec!["password"]));
    assert_eq!(bench.store.directory().channel_named("ana-mailbox").unwrap().revision, 2);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let bench = Bench::new();
    let options = ApplyOptions { dry_run: true, prune: false, by: "test".into(), now: Timestamp(1) };
    assert!(bench.store.apply(&sample(), &options).unwrap().has_changes());
    assert_eq!(bench.store.directory().people().count(), 0);
}

#[test]
fn pruning_disables_what_is_not_named() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let options = ApplyOptions { dry_run: false, prune: true, by: "test".into(), now: Timestamp(1) };
    let mut desired = sample();
    desired.channels.pop();
    desired.tokens.clear();
    let applied = bench.store.apply(&desired, &options).unwrap();
    let disabled: Vec<&str> =
        applied.changes.iter().filter(|change| change.action == Action::Disabled).map(|change| change.name.as_str()).collect();
    assert_eq!(disabled, ["team", "laptop of ana@example.com"]);
    assert!(bench.store.directory().channel_named("team").unwrap().disabled);
    assert!(bench.store.verify("ana@example.com", TOKEN.as_bytes(), Surface::Smtp).is_err());
    bench.apply(&sample()).unwrap();
    assert!(!bench.store.directory().channel_named("team").unwrap().disabled);
}

#[test]
fn a_token_signs_in_its_person_at_its_doors_alone() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let verify = |user: &str, secret: &str, surface| bench.store.verify(user, secret.as_bytes(), surface).is_ok();
    assert!(verify("ana@example.com", TOKEN, Surface::Smtp));
    assert!(verify("ANA@Example.com", TOKEN, Surface::Smtp));
    assert!(!verify("ana@example.com", TOKEN, Surface::Http));
    assert!(!verify("ana@example.com", "wrong", Surface::Smtp));
    assert!(!verify("luis@example.com", TOKEN, Surface::Smtp));
    assert!(!verify("ana@example.com", "", Surface::Smtp));
    assert!(bench.store.verify_bearer(TOKEN.as_bytes()).is_err());
}

#[test]
fn a_made_token_is_shown_once_and_works() {
    let bench = Bench::new();
    let mut desired = sample();
    desired.tokens[0].secret = None;
    let made = bench.apply(&desired).unwrap().made_tokens;
    let secret = std::str::from_utf8(made[0].secret.expose()).unwrap().to_owned();
    assert!(secret.starts_with("sdr_") && secret.len() > 60, "{secret}");
    assert!(bench.store.verify("ana@example.com", secret.as_bytes(), Surface::Smtp).is_ok());
    assert!(bench.apply(&desired).unwrap().made_tokens.is_empty());
}

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
    let team = bench.store.directory().channel_named("team").unwrap().id;
    assert!(bench.store.channel_secret(team).is_err());
}

#[test]
fn every_mistake_is_named_with_what_to_do() {
    let bench = Bench::new();
    for (change, words) in [
        ((|d| d.people[0].teams = vec!["press".into()]) as fn(&mut DesiredDirectory), "there is no team 'press'"),
        (|d| d.people[0].email = "ana".into(), "not an e-mail address"),
        (|d| d.people[0].role = Some("boss".into()), "member, team_admin or admin"),
        (|d| d.people[0].send_as = vec!["x@other.example".into()], "outside of their teams' domains"),
        (|d| d.people[0].send_as = vec!["nobody".into()], "neither an address"),
        (|d| d.teams.push(DesiredTeam { name: "press".into(), domains: vec!["example.com".into()] }), "belongs to one team"),
        (|d| d.teams[0].domains = vec!["not a domain".into()], "is not a domain"),
        (|d| d.teams.push(d.teams[0].clone()), "stands twice"),
        (|d| d.channels[0].owner = "person:nobody@example.com".into(), "there is no person 'nobody@example.com'"),
        (|d| d.channels[0].owner = "ana".into(), "must be 'person:ADDRESS'"),
        (|d| d.channels[0].owner = "team:sales".into(), "say for which domains"),
        (
            |d| {
                d.channels[0].owner = "team:sales".into();
                d.channels[0].scope = Some("address".into())
            },
            "is not shared",
        ),
        (|d| d.channels[0].host = None, "needs a host"),
        (|d| d.channels[0].tls = Some("none".into()), "never travels in clear"),
        (|d| d.channels[0].tls = Some("ssl".into()), "starttls, implicit or none"),
        (|d| d.channels[0].password = None, "needs username and password"),
        (|d| d.channels[0].auth = Some("none".into()), "exclude each other"),
        (|d| d.channels[0].limits = vec!["30 messages / 1 minute".into()], "not in this version"),
        (|d| d.channels[0].limits = vec!["many".into()], "is not a limit"),
        (|d| d.channels[0].transport = Some("gmail".into()), "not in this version"),
        (|d| d.channels[0].on_uncertain = Some("lookup".into()), "not in this version"),
        (|d| d.channels[0].return_path = Some("verp".into()), "not in this version"),
        (|d| d.channels[0].port = Some(0), "port 0"),
        (|d| d.channels[1].domains = Some(vec!["other.example".into()]), "not a domain of its team"),
        (|d| d.tokens[0].person = "nobody@example.com".into(), "there is no person"),
        (|d| d.tokens[0].secret = Some(Secret::new("short")), "22 characters"),
        (|d| d.tokens[0].surfaces = vec!["fax".into()], "smtp or api"),
        (|d| d.tokens[0].channel = Some("nowhere".into()), "may use no channel"),
        (|d| d.tokens.push(DesiredToken { name: "second".into(), ..d.tokens[0].clone() }), "another token's already"),
    ] {
        let problems = bench.problems(change);
        assert!(problems.contains(words), "wanted '{words}' in: {problems}");
        assert_eq!(bench.store.directory().people().count(), 0, "nothing was applied");
    }
    let both = bench.problems(|d| {
        d.people[0].teams = vec!["press".into()];
        d.channels[0].host = None;
    });
    assert!(both.contains("press") && both.contains("host"), "all problems at once: {both}");
}

#[test]
fn the_first_start_has_a_channel_that_keeps_everything_here() {
    let bench = Bench::new();
    assert!(bench.store.ensure_capture_default(Timestamp(1)).unwrap());
    assert!(!bench.store.ensure_capture_default(Timestamp(1)).unwrap());
    let directory = bench.store.directory();
    let channel = directory.channel_named("capture").unwrap();
    assert!(channel.default && channel.transport == mail::Transport::Capture && channel.owner == mail::Owner::Instance);
}
