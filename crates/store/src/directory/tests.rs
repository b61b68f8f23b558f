#![allow(clippy::unwrap_used)]
use super::*;

mod refusals;
mod secrets;
mod sign_in;

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
        self.store.apply(desired, &options(false))
    }

    fn prune(&self, desired: &DesiredDirectory) -> Result<Applied, DirectoryError> {
        self.store.apply(desired, &options(true))
    }

    /// Who did what, as the record has it.
    fn audit(&self) -> Vec<(String, serde_json::Value)> {
        let connection = self.store.lock();
        let mut statement = connection.prepare("SELECT who, what FROM audit ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
        rows.map(|row| row.map(|(who, what)| (who, serde_json::from_str(&what).unwrap())).unwrap()).collect()
    }

    fn problems(&self, change: impl FnOnce(&mut DesiredDirectory)) -> String {
        let mut desired = sample();
        change(&mut desired);
        let error = self.apply(&desired).unwrap_err().to_string();
        assert!(!error.contains(PASSWORD) && !error.contains(TOKEN), "{error}");
        error
    }
}

fn options(prune: bool) -> ApplyOptions {
    ApplyOptions { dry_run: false, prune, by: "test".into(), now: Timestamp(1) }
}

/// What changed, in words.
fn changes(applied: &Applied) -> Vec<String> {
    let changed = applied.changes.iter().filter(|change| change.action != Action::Unchanged);
    changed.map(|change| format!("{} {}: {:?}", change.kind, change.name, change.action)).collect()
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
    assert_eq!(bench.audit().len(), 5, "nothing is recorded where nothing changes");
    let mut reworded = sample();
    reworded.teams[0].domains = vec!["EXAMPLE.com".into(), "example.com".into()];
    reworded.people[0].teams.push("sales".into());
    reworded.channels[0].auth = Some("auto".into());
    assert!(!bench.apply(&reworded).unwrap().has_changes(), "nor by other words for the same");
}

#[test]
fn a_token_has_the_lane_it_was_given_until_it_is_taken_away() {
    let bench = Bench::new();
    let lane = |bench: &Bench| bench.store.directory().tokens().next().unwrap().lane;
    bench.apply(&sample()).unwrap();
    assert_eq!(lane(&bench), None);
    let mut desired = sample();
    desired.tokens[0].lane = Some("Bulk".into());
    let applied = bench.apply(&desired).unwrap();
    assert_eq!(changes(&applied), ["token laptop of ana@example.com: Changed([\"lane\"])"]);
    assert_eq!(lane(&bench), Some(mail::Lane::Bulk));
    assert!(!bench.apply(&desired).unwrap().has_changes());
    bench.apply(&sample()).unwrap();
    assert_eq!(lane(&bench), None);
}

#[test]
fn a_database_from_before_lanes_is_opened_and_its_tokens_have_none() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    bench.store.lock().execute("ALTER TABLE tokens DROP COLUMN lane", []).unwrap();
    let again = open(bench.folder.path(), "key").unwrap();
    assert_eq!(again.directory().tokens().next().unwrap().lane, None);
}

#[test]
fn a_change_names_its_fields_and_is_recorded_with_before_and_after() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let mut desired = sample();
    desired.people[0].name = Some("Ana".into());
    desired.channels[0].port = Some(2525);
    desired.channels[0].limits = vec!["5 connections".into()];
    desired.channels[0].password = Some(Secret::new("another one"));
    desired.tokens[0].surfaces.clear();
    let applied = bench.apply(&desired).unwrap();
    assert_eq!(
        changes(&applied),
        [
            "person ana@example.com: Changed([\"name\"])",
            "channel ana-mailbox: Changed([\"port\", \"connections\", \"password\"])",
            "token laptop of ana@example.com: Changed([\"surfaces\"])",
        ]
    );
    let (who, what) =
        bench.audit().into_iter().find(|(_, what)| what["name"] == "ana-mailbox" && what["action"] == "changed").unwrap();
    assert_eq!(who, "test");
    assert_eq!((&what["before"]["port"], &what["after"]["port"]), (&587.into(), &2525.into()));
    let record = format!("{:?}", bench.audit());
    assert!(!record.contains(PASSWORD) && !record.contains("another one") && !record.contains(TOKEN));
}

#[test]
fn listeners_hear_of_a_change_when_it_can_be_seen_and_of_nothing_else() {
    let bench = Bench::new();
    let store = Arc::new(bench.store);
    let (heard, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::downgrade(&store));
    let notes = Arc::clone(&heard);
    store.on_change(move || notes.lock().unwrap().push(seen.upgrade().unwrap().directory().people().count()));
    store.apply(&sample(), &ApplyOptions { dry_run: true, ..options(false) }).unwrap();
    store.apply(&sample(), &options(false)).unwrap();
    store.apply(&sample(), &options(false)).unwrap();
    assert_eq!(*heard.lock().unwrap(), [1]);
}

#[test]
fn ids_are_never_used_again() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let id = bench.store.directory().channel_named("team").unwrap().id;
    bench.store.lock().execute("DELETE FROM channels", []).unwrap();
    bench.apply(&sample()).unwrap();
    assert!(bench.store.directory().channel_named("ana-mailbox").unwrap().id > id);
}

#[test]
fn a_domain_may_go_to_another_team() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let mut desired = sample();
    desired.teams[0].name = "press".into();
    desired.people[0].teams = vec!["press".into()];
    desired.channels[1].owner = "team:press".into();
    let refused = bench.apply(&desired).unwrap_err().to_string();
    assert!(refused.contains("belongs to one team"), "{refused}");
    bench.prune(&desired).unwrap();
    let directory = bench.store.directory();
    assert_eq!(directory.team_of_domain("example.com").unwrap().name, "press");
    assert!(directory.team_named("sales").unwrap().disabled);
    let Bench { folder, store } = bench;
    store.apply(&sample(), &options(true)).unwrap();
    drop(store);
    let directory = open(folder.path(), "key").unwrap().directory();
    assert_eq!(directory.team_of_domain("example.com").unwrap().name, "sales", "whichever row is older");
}

#[test]
fn a_named_default_takes_over_from_one_that_is_not_named() {
    let bench = Bench::new();
    bench.store.ensure_capture_default(Timestamp(1)).unwrap();
    let mut desired = sample();
    let shared = DesiredChannel { name: "shared".into(), owner: "instance".into(), ..desired.channels[1].clone() };
    desired.channels.push(shared);
    let applied = bench.apply(&desired).unwrap();
    assert!(changes(&applied).contains(&"channel capture: Changed([\"default\"])".to_owned()), "{:?}", changes(&applied));
    assert!(!bench.store.directory().channel_named("capture").unwrap().default);
    assert!(!bench.apply(&desired).unwrap().has_changes());
    desired.channels.push(DesiredChannel { name: "second".into(), ..desired.channels[2].clone() });
    let refused = bench.apply(&desired).unwrap_err().to_string();
    assert!(refused.contains("has a default already, 'shared'"), "{refused}");
}

#[test]
fn what_a_change_leaves_without_permission_is_named_too() {
    let bench = Bench::new();
    let mut desired = sample();
    desired.channels[1].domains = Some(vec!["example.com".into()]);
    desired.tokens[0].channel = Some("team".into());
    bench.apply(&desired).unwrap();
    let only_team = DesiredDirectory {
        teams: vec![DesiredTeam { name: "sales".into(), domains: vec!["example.org".into()] }],
        ..DesiredDirectory::default()
    };
    let refused = bench.apply(&only_team).unwrap_err().to_string();
    for words in ["channel 'team': example.com", "send_as '*@example.com'"] {
        assert!(refused.contains(words), "wanted '{words}' in: {refused}");
    }
    let mut moved = DesiredDirectory { people: desired.people, ..DesiredDirectory::default() };
    moved.people[0].teams.clear();
    moved.people[0].send_as.clear();
    let refused = bench.apply(&moved).unwrap_err().to_string();
    assert!(refused.contains("token 'laptop'") && refused.contains("may use no channel 'team'"), "{refused}");
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
    assert_eq!(store.channel_secret(mailbox.id, mailbox.revision).unwrap().unwrap().expose(), PASSWORD.as_bytes());
    let team = directory.channel_named("team").unwrap();
    assert_eq!(store.channel_secret(team.id, team.revision).unwrap(), None);
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
    let changed = bench.store.directory().channel_named("ana-mailbox").unwrap().clone();
    assert_eq!(changed.revision, 2);
    let known_before = bench.store.channel_secret(changed.id, 1);
    assert!(matches!(known_before, Err(DirectoryError::Changed)), "who knows the old row is not given the new password");
    assert_eq!(bench.store.channel_secret(changed.id, 2).unwrap().unwrap().expose(), b"another");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let bench = Bench::new();
    let mut desired = sample();
    desired.tokens[0].secret = None;
    let applied = bench.store.apply(&desired, &ApplyOptions { dry_run: true, ..options(false) }).unwrap();
    assert!(applied.has_changes() && applied.made_tokens.is_empty());
    assert_eq!(bench.store.directory().people().count(), 0);
}

#[test]
fn pruning_disables_what_is_not_named() {
    let bench = Bench::new();
    bench.apply(&sample()).unwrap();
    let mut desired = sample();
    desired.channels.pop();
    desired.tokens.clear();
    let applied = bench.prune(&desired).unwrap();
    let disabled: Vec<&str> =
        applied.changes.iter().filter(|change| change.action == Action::Disabled).map(|change| change.name.as_str()).collect();
    assert_eq!(disabled, ["team", "laptop of ana@example.com"]);
    assert!(bench.store.directory().channel_named("team").unwrap().disabled);
    assert!(bench.store.verify("ana@example.com", TOKEN.as_bytes(), Surface::Smtp).is_err());
    bench.apply(&sample()).unwrap();
    assert!(!bench.store.directory().channel_named("team").unwrap().disabled);
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

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    let bench = Bench::new();
    bench.store.lock().pragma_update(None, "user_version", FORMAT + 1).unwrap();
    let error = open(bench.folder.path(), "key").err().unwrap();
    assert!(matches!(error, DirectoryError::Format(_)), "{error}");
}

mod any_order {
    use super::*;
    use proptest::prelude::*;

    /// Some directory in which everything goes together.
    fn any_directory() -> impl Strategy<Value = DesiredDirectory> {
        let team = (0..3usize, 0..2usize);
        let person = (proptest::collection::vec(0..3usize, 0..3), any::<bool>());
        (proptest::collection::vec(team, 0..4), proptest::collection::vec(person, 0..4), any::<u8>()).prop_map(
            |(teams, people, bits)| {
                let mut desired = DesiredDirectory::default();
                for (name, extra) in teams {
                    let domains = (0..=extra).map(|n| format!("d{n}.team{name}.example")).collect();
                    let team = DesiredTeam { name: format!("team{name}"), domains };
                    if desired.teams.iter().all(|other| other.name != team.name) {
                        desired.teams.push(team);
                    }
                }
                for (number, (teams, is_admin)) in people.into_iter().enumerate() {
                    let known = |name: &String| desired.teams.iter().any(|team| team.name == *name);
                    let email = format!("person{number}@example.com");
                    desired.people.push(DesiredPerson {
                        email: email.clone(),
                        role: is_admin.then(|| "admin".into()),
                        teams: teams.into_iter().map(|name| format!("team{name}")).filter(known).collect(),
                        ..DesiredPerson::default()
                    });
                    if bits & 1 << number != 0 {
                        let secret = Some(Secret::new(format!("{TOKEN}-{number}-{bits}")));
                        desired.tokens.push(DesiredToken { name: "key".into(), person: email, secret, ..DesiredToken::default() });
                    }
                }
                desired
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn pruning_to_a_directory_leaves_just_that_one_and_twice_changes_nothing(one in any_directory(), other in any_directory()) {
            let bench = Bench::new();
            for desired in [&one, &other, &one] {
                bench.prune(desired).unwrap();
                let directory = bench.store.directory();
                prop_assert_eq!(directory.teams().filter(|team| !team.disabled).count(), desired.teams.len());
                prop_assert_eq!(directory.people().filter(|person| !person.disabled).count(), desired.people.len());
                prop_assert_eq!(directory.tokens().filter(|token| !token.disabled).count(), desired.tokens.len());
                prop_assert!(!bench.prune(desired).unwrap().has_changes());
                for token in &desired.tokens {
                    let secret = token.secret.as_ref().unwrap().expose();
                    prop_assert!(bench.store.verify(&token.person, secret, Surface::Smtp).is_ok());
                }
            }
        }
    }
}
