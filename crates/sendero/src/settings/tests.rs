#![allow(clippy::unwrap_used)]
use super::read::Reader;
use super::*;
use std::path::Path;

fn parse(text: &str) -> Result<Settings, String> {
    let entries = super::sources::from_text(text, "sendero.toml", Path::new("/etc/sendero")).map_err(|error| error.to_string())?;
    let mut reader = Reader::new(entries);
    let settings = Settings::read(&mut reader);
    reader.finish().map(|()| settings).map_err(|error| error.to_string())
}

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sendero.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(&Flags { config: Some(path), data_dir: None }, variables).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let settings = parse("").unwrap();
    assert_eq!(settings.http.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(settings.submission, default_submission());
    assert_eq!(settings.limits, Settings::defaults().limits);
    assert_eq!(settings.queue.min_free, 512 << 20);
    assert_eq!(settings.queue.schedule, RetrySchedule::default());
    assert!(settings.tls.is_none() && settings.master_key_file.is_none() && settings.public_url.is_none());
    assert!(settings.notices.is_none());
}

#[test]
fn every_setting_is_read() {
    let settings = parse(
        r#"
        data_dir = "data"
        hostname = "mail.example.com"
        public_url = "https://mail.example.com/"
        [http]
        listen = ["127.0.0.1:9000", "[::1]:9000"]
        [[submission]]
        listen = "0.0.0.0:587"
        tls = "starttls"
        [[submission]]
        listen = "0.0.0.0:465"
        tls = "implicit"
        [[submission]]
        listen = "127.0.0.1:2525"
        tls = "none"
        trusted = ["127.0.0.0/8"]
        person = "host@example.com"
        [[submission]]
        listen = "unix:/run/sendero/smtp"
        person = "host@example.com"
        [tls]
        certificate = "cert.pem"
        key = "/keys/key.pem"
        [network]
        allow = ["10.1.2.3:587", "127.0.0.1:26000-26009"]
        trust = ["corporate-ca.pem"]
        [queue]
        retry = ["10s", "1m"]
        max_age = "2d"
        min_free = "1GiB"
        open_messages_per_token = 5
        open_messages_per_person = 6
        open_messages_per_team = 7
        open_bytes_per_token = "1MiB"
        open_bytes_per_person = "2MiB"
        open_bytes_per_team = "3MiB"
        [replies]
        rules = "replies.toml"
        [secrets]
        master_key_file = "master.key"
        [notices]
        channel = "office"
        from = "reports@example.com"
        [log]
        format = "json"
        level = "info,delivery=warn"
        addresses = "hashed"
        [limits]
        message_size = "5MiB"
        recipients = 50
        connections = 60
        connections_per_address = 7
        http_connections = 8
        "#,
    )
    .unwrap();
    assert_eq!(settings.data_dir, Path::new("/etc/sendero/data"));
    assert_eq!(settings.hostname, "mail.example.com");
    assert_eq!(settings.public_url.as_deref(), Some("https://mail.example.com"));
    assert_eq!(settings.http.listen.len(), 2);
    let modes: Vec<Mode> = settings.submission.iter().map(|listener| listener.mode).collect();
    assert_eq!(modes, [Mode::Starttls, Mode::Implicit, Mode::Clear, Mode::Clear]);
    assert!(matches!(&settings.submission[2].login, Login::Trusted { person, .. } if person == "host@example.com"));
    assert_eq!(settings.submission[3].bind, Bind::Unix("/run/sendero/smtp".into()));
    let tls = settings.tls.unwrap();
    assert_eq!((tls.certificate, tls.key), ("/etc/sendero/cert.pem".into(), "/keys/key.pem".into()));
    assert_eq!(settings.network.trust, [Path::new("/etc/sendero/corporate-ca.pem")]);
    assert!(settings.network.allow.permits("127.0.0.1".parse().unwrap(), 26005));
    assert_eq!(settings.queue.schedule.delay(2, 0.0), Duration::from_secs(60));
    let open = settings.queue.open.of(u64::MAX);
    assert_eq!([open.token, open.person, open.team].map(|cap| (cap.messages, cap.bytes >> 20)), [(5, 1), (6, 2), (7, 3)]);
    assert_eq!((settings.queue.first_retry, settings.queue.min_free), (Duration::from_secs(10), 1 << 30));
    assert_eq!(settings.replies.rules.as_deref(), Some(Path::new("/etc/sendero/replies.toml")));
    assert_eq!(settings.master_key_file.as_deref(), Some(Path::new("/etc/sendero/master.key")));
    let from = Mailbox::parse("reports@example.com").unwrap();
    assert_eq!(settings.notices, Some(Notices { channel: "office".into(), from }));
    assert_eq!(settings.log, Log { format: LogFormat::Json, level: "info,delivery=warn".into(), hash_addresses: true });
    let limits = Limits { message_size: 5 << 20, recipients: 50, connections: 60, connections_per_address: 7, http_connections: 8 };
    assert_eq!(settings.limits, limits);
}

#[test]
fn a_wrong_key_names_the_nearest_one() {
    for (text, near) in [
        ("hostnam = \"a\"", "'hostname'"),
        ("[queue]\nmin_fre = \"1GiB\"", "'queue.min_free'"),
        ("[quue]\nmin_free = \"1GiB\"", "'queue.min_free'"),
        ("[http]\nlistn = []", "'http.listen'"),
        ("[tls]\ncertficate = \"a\"", "'tls.certificate'"),
        ("[log]\nformatt = \"json\"", "'log.format'"),
        ("[[submission]]\nlisten = \"127.0.0.1:1\"\ntsl = \"starttls\"", "'submission.tls'"),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.contains(near) && problem.contains("sendero.toml"), "{text}: {problem}");
    }
}

#[test]
fn what_belongs_to_later_versions_says_so() {
    for text in ["[tls.acme]\nemail = \"a@example.com\"", "[http]\ntrusted_proxies = [\"10.0.0.1\"]"] {
        let problem = parse(text).unwrap_err();
        assert!(problem.contains("not in this version"), "{text}: {problem}");
    }
}

#[test]
fn a_wrong_value_names_file_and_key_and_shows_a_right_one() {
    for (text, key, example) in [
        ("hostname = \"not a name\"", "hostname", "mail.example.com"),
        ("public_url = \"mail.example.com\"", "public_url", "https://"),
        ("[http]\nlisten = [\"8080\"]", "http.listen", "127.0.0.1:8080"),
        ("[http]\nlisten = 8080", "http.listen", "list"),
        ("[queue]\nretry = [\"1 fortnight\"]", "queue.retry", "5m"),
        ("[queue]\nretry = []", "queue.retry", "at least one"),
        ("[queue]\nmax_age = 5", "queue.max_age", "5d"),
        ("[queue]\nmax_age = \"0s\"", "queue.max_age", "longer than the first step"),
        ("[queue]\nretry = [\"6h\"]\nmax_age = \"6h\"", "queue.max_age", "longer than the first step"),
        ("[http]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:8080\"]", "http.listen: 0.0.0.0:8080", "clear_beyond_loopback = true"),
        ("[http]\nclear_beyond_loopback = \"perhaps\"", "http.clear_beyond_loopback", "true or false"),
        ("[queue]\nmin_free = \"lots\"", "queue.min_free", "512MiB"),
        ("[queue]\nopen_messages_per_token = 0", "queue.open_messages_per_token", "from 1 to"),
        ("[queue]\nopen_bytes_per_team = \"10kB\"", "queue.open_bytes_per_team", "1MiB"),
        ("[queue]\nkeep_bodies = \"a while\"", "queue.keep_bodies", "5d"),
        ("[queue]\nkeep_history = \"2d\"", "queue.keep_history", "90d"),
        ("[network]\nallow = [\"everything\"]", "network.allow", ""),
        ("[log]\nformat = \"xml\"", "log.format", "logfmt, json"),
        ("[log]\nlevel = \"chatty=loud\"", "log.level", "debug"),
        ("[log]\naddresses = \"none\"", "log.addresses", "full, hashed"),
        ("[notices]\nchannel = \"office\"", "notices.from", "reports@example.com"),
        ("[notices]\nfrom = \"reports@example.com\"", "notices.channel", "name the channel"),
        ("[notices]\nchannel = \"\"\nfrom = \"reports@example.com\"", "notices.channel", "channel list"),
        ("[notices]\nchannel = \"office\"\nfrom = \"reports\"", "notices.from", "reports@example.com"),
        ("[limits]\nmessage_size = \"1TiB\"", "limits.message_size", "MiB"),
        ("[limits]\nrecipients = 0", "limits.recipients", "from 1"),
        ("[tls]\ncertificate = \"a\"", "tls.certificate", "tls.key"),
        ("[tls]\nkey = \"a\"", "tls.key", "tls.certificate"),
        ("[[submission]]\ntls = \"starttls\"", "submission[0].listen", "127.0.0.1:2587"),
        ("[[submission]]\nlisten = \"127.0.0.1:1\"\ntls = \"ssl\"", "submission[0].tls", "implicit"),
        ("[[submission]]\nlisten = \"127.0.0.1:1\"\ntrusted = [\"127.0.0.0/8\"]", "submission[0].trusted", "person"),
        ("[[submission]]\nlisten = \"127.0.0.1:1\"\nperson = \"a@example.com\"", "submission[0].person", "trusted"),
        (
            "[[submission]]\nlisten = \"0.0.0.0:25\"\ntls = \"none\"\ntrusted = [\"10.0.0.0/8\"]\nperson = \"a@example.com\"",
            "submission[0].tls",
            "loopback",
        ),
        ("[[submission]]\nlisten = \"127.0.0.1:25\"\ntls = \"none\"", "submission[0].tls", "starttls"),
        ("[[submission]]\nlisten = \"unix:relative\"\nperson = \"a@example.com\"", "submission[0].listen", "unix:/"),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.contains(key) && problem.contains(example), "{text}: {problem}");
    }
}

#[test]
fn http_in_clear_text_beyond_loopback_is_an_explicit_wish() {
    let settings = parse("[http]\nlisten = [\"0.0.0.0:8080\"]\nclear_beyond_loopback = true").unwrap();
    assert_eq!(settings.http.listen, ["0.0.0.0:8080".parse().unwrap()]);
}

#[test]
fn what_is_missing_is_missing_where_its_neighbours_stand() {
    let problem = parse("[notices]\nchannel = \"office\"").unwrap_err();
    assert!(problem.contains("sendero.toml: notices.from is missing"), "{problem}");
}

#[test]
fn all_problems_are_told_at_once() {
    let problem = parse("hostnam = \"a\"\n[queue]\nmin_free = \"lots\"\nmax_age = \"old\"").unwrap_err();
    assert_eq!(problem.lines().count(), 3, "{problem}");
}

#[test]
fn the_environment_stands_over_the_file_and_flags_over_both() {
    let file = "data_dir = \"/from/file\"\n[queue]\nmin_free = \"1MiB\"";
    let loaded = with_environment(
        file,
        &[
            ("SENDERO_QUEUE__MIN_FREE", "1GiB"),
            ("SENDERO_DATA_DIR", "/from/env"),
            ("SENDERO_NETWORK__ALLOW", "10.0.0.1:587, 10.0.0.2:587"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.settings.queue.min_free, 1 << 30);
    assert_eq!(loaded.settings.data_dir, Path::new("/from/env"));
    assert!(loaded.settings.network.allow.permits("10.0.0.2".parse().unwrap(), 587));
    let flags = Flags { config: None, data_dir: Some("/from/flag".into()) };
    let loaded = load(&flags, [("SENDERO_DATA_DIR".to_owned(), "/from/env".to_owned())].into_iter()).unwrap();
    assert_eq!(loaded.settings.data_dir, Path::new("/from/flag"));
}

#[test]
fn a_wrong_variable_of_a_section_is_an_error_that_names_it() {
    let problem = with_environment("", &[("SENDERO_QUEUE__MIN_FRE", "1GiB")]).unwrap_err();
    assert!(problem.contains("SENDERO_QUEUE__MIN_FRE") && problem.contains("queue.min_free"), "{problem}");
    let loaded =
        with_environment("", &[("SENDERO_PORT", "tcp://10.0.0.1:80"), ("SENDERO_BIN", "/bin/true"), ("HOME", "/root")]).unwrap();
    assert_eq!(loaded.ignored, ["SENDERO_PORT"]);
}

#[test]
fn a_file_that_is_named_must_be_there_and_be_toml() {
    let flags = Flags { config: Some("/nonexistent/sendero.toml".into()), data_dir: None };
    assert!(load(&flags, std::iter::empty()).unwrap_err().to_string().contains("/nonexistent/sendero.toml"));
    assert!(parse("hostname = ").unwrap_err().contains("sendero.toml"));
}

#[test]
fn listeners_are_tables_in_two_brackets_and_none_is_an_empty_list() {
    assert!(parse("submission = []").unwrap().submission.is_empty());
    for (text, hint) in [
        ("[[submission]]", "submission[0].listen is missing"),
        ("submission = 1", "[[submission]]"),
        ("[submission]\nlisten = \"127.0.0.1:2587\"", "two brackets"),
        ("[[queue]]\nretry = 1", "queue"),
        ("queue = 1", "queue"),
        ("a.b.c = [[1]]", "a.b.c"),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.contains(hint), "{text}: {problem}");
    }
}

#[test]
fn a_level_that_is_none_is_refused_and_silences_nothing() {
    assert!(parse("[log]\nlevel = \"loud\"").unwrap_err().contains("error, warn, info"));
    assert_eq!(parse("[log]\nlevel = \"info,delivery=warn\"").unwrap().log.level, "info,delivery=warn");
}
