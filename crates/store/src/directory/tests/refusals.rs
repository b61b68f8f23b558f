#![allow(clippy::unwrap_used)]
use super::*;

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
        (|d| d.people.push(DesiredPerson { email: "ANA@example.COM".into(), ..DesiredPerson::default() }), "stands twice"),
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
        (|d| d.channels[0].limits = vec!["30 messages / 0 minutes".into()], "at least 1 second"),
        (|d| d.channels[0].limits = vec!["3 connections".into(), "4 connections".into()], "something else"),
        (|d| d.channels[0].reserve = Some("80%".into()), "0% to 50%"),
        (|d| d.channels[0].limits = vec!["many".into()], "is not a limit"),
        (|d| d.channels[0].transport = Some("gmail".into()), "not in this version"),
        (|d| d.channels[0].on_uncertain = Some("lookup".into()), "not in this version"),
        (|d| d.channels[0].return_path = Some("verp".into()), "not in this version"),
        (|d| d.channels[0].port = Some(0), "port 0"),
        (|d| d.channels[0].provider = Some("gmial".into()), "did you mean 'gmail'?"),
        (|d| d.channels[0].provider = Some("*".into()), "known are"),
        (|d| d.channels[0].host = Some("smtp.example.net:587".into()), "write the port as port = NUMBER"),
        (|d| d.channels[0].username = Some("ana\0".into()), "its username"),
        (|d| d.channels[0].password = Some(Secret::new(format!("{PASSWORD}\n"))), "keep the password alone there"),
        (|d| d.channels[0].transport = Some("capture".into()), "leave out host"),
        (|d| d.channels[0].scope = Some("tenant".into()), "not in this version"),
        (|d| d.channels[0].auth = Some("xoauth2".into()), "not in this version"),
        (|d| d.channels[0].username = Some("ana".into()), "say which address it is"),
        (|d| d.channels[0].address = Some("ana".into()), "is not an e-mail address"),
        (|d| d.channels[0].messages_per_connection = Some(0), "at least 1"),
        (|d| d.channels[1].auth = None, "or auth = \"none\""),
        (|d| d.channels[1].domains = Some(vec!["not a domain".into()]), "is not a domain"),
        (|d| d.channels[1].name = "\n".into(), "give it a name"),
        (
            |d| {
                d.teams.push(DesiredTeam { name: "press".into(), domains: vec!["press.example".into()] });
                d.channels[0].domains = Some(vec!["press.example".into()]);
            },
            "a domain of team 'press', which its owner is not in",
        ),
        (|d| d.channels[1].domains = Some(vec!["other.example".into()]), "not a domain of its team"),
        (|d| d.tokens[0].person = "nobody@example.com".into(), "there is no person"),
        (|d| d.tokens[0].secret = Some(Secret::new("short")), "22 characters"),
        (|d| d.tokens[0].secret = Some(Secret::new(format!("{TOKEN}\n"))), "control character"),
        (|d| d.tokens[0].send_as = Some(vec!["nobody".into()]), "neither an address"),
        (
            |d| {
                d.people.push(DesiredPerson { email: "luis@example.com".into(), ..DesiredPerson::default() });
                d.tokens[0].person = "luis@example.com".into();
                d.tokens[0].channel = Some("ana-mailbox".into());
            },
            "may use no channel 'ana-mailbox'",
        ),
        (|d| d.tokens[0].surfaces = vec!["fax".into()], "smtp or api"),
        (|d| d.tokens[0].lane = Some("fast".into()), "now, normal or bulk"),
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
