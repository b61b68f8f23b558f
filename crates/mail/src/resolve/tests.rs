#![allow(clippy::unwrap_used)]
use super::*;
use crate::channel::{AuthMode, OnUncertain, Smarthost, TlsMode};
use crate::directory::{AddressPattern, Role, TokenSurface};
use crate::envelope::{BodyType, Recipient};
use crate::id::MessageId;
use crate::limits::Caps;
use crate::rewrite::{Stamp, prepare};
use crate::time::Timestamp;
use proptest::prelude::*;

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn channel(id: u32, name: &str, owner: Owner, scope: Scope, carries: &str) -> Channel {
    let smarthost = Smarthost {
        host: "smtp.example.net".into(),
        port: 587,
        tls: TlsMode::Starttls,
        auth: AuthMode::Auto,
        username: Some("u".into()),
    };
    let (address, domains) = match scope {
        Scope::Address => (Some(mailbox(carries)), vec![]),
        Scope::Domain | Scope::Account if carries == "*" => (None, vec![DomainPattern::Any]),
        Scope::Domain | Scope::Account => (None, vec![DomainPattern::Domain(carries.into())]),
    };
    Channel {
        id: ChannelId(id),
        name: name.into(),
        owner,
        transport: Transport::Smtp(smarthost),
        scope,
        address,
        domains,
        default: false,
        disabled: false,
        caps: Caps::default(),
        limits: vec![],
        reserve: crate::pace::Reserve::default(),
        refusals_free: false,
        on_uncertain: OnUncertain::Retry,
        return_path: ReturnPath::Submitted,
        provider: None,
        revision: 1,
    }
}

fn person(id: u32, email: &str, teams: &[u32], send_as: Vec<AddressPattern>) -> Person {
    Person {
        id: PersonId(id),
        email: mailbox(email),
        name: email.into(),
        role: Role::Member,
        teams: teams.iter().map(|team| TeamId(*team)).collect(),
        send_as,
        disabled: false,
    }
}

const ANA: PersonId = PersonId(1);
const LUIS: PersonId = PersonId(2);
const SALES: Owner = Owner::Team(TeamId(1));

/// Ana and Luis in sales (example.com); Eva in press (press.example); a shared pool for example.com.
#[derive(Clone, Debug)]
struct World {
    teams: Vec<Team>,
    people: Vec<Person>,
    tokens: Vec<Token>,
    channels: Vec<Channel>,
}

impl World {
    fn new() -> Self {
        let team = |id, name: &str, domain: &str| Team {
            id: TeamId(id),
            name: name.into(),
            domains: vec![domain.into()],
            disabled: false,
        };
        let mut pool = channel(30, "pool", Owner::Instance, Scope::Account, "example.com");
        pool.default = true;
        Self {
            teams: vec![team(1, "sales", "example.com"), team(2, "press", "press.example")],
            people: vec![
                person(1, "ana@example.com", &[1], vec![AddressPattern::Mailbox(mailbox("sales@example.com"))]),
                person(2, "luis@example.com", &[1], vec![AddressPattern::Domain("example.com".into())]),
                person(3, "eva@press.example", &[2], vec![]),
            ],
            tokens: vec![],
            channels: vec![pool],
        }
    }

    fn with(mut self, channel: Channel) -> Self {
        self.channels.push(channel);
        self
    }

    fn with_token(mut self, channel: Option<u32>, send_as: Option<Vec<AddressPattern>>) -> Self {
        self.tokens.push(Token {
            id: TokenId(1),
            name: "laptop".into(),
            person: ANA,
            surfaces: vec![TokenSurface::Smtp],
            channel: channel.map(ChannelId),
            send_as,
            lane: None,
            disabled: false,
        });
        self
    }

    fn directory(&self) -> Directory {
        Directory::new(self.teams.clone(), self.people.clone(), self.tokens.clone(), self.channels.clone())
    }

    fn route(&self, who: PersonId, from: &str, asked: Option<&str>) -> Result<String, Refusal> {
        self.route_by(who, from, from, asked, self.tokens.first().map(|token| token.id))
    }

    fn route_by(
        &self,
        who: PersonId,
        from: &str,
        reverse: &str,
        asked: Option<&str>,
        token: Option<TokenId>,
    ) -> Result<String, Refusal> {
        let authors = Authors { from: vec![mailbox(from)], sender: None, resent: vec![] };
        let reverse_path = if reverse.is_empty() { ReversePath::Null } else { ReversePath::Mailbox(mailbox(reverse)) };
        let directory = self.directory();
        let request = Request { person: who, token, authors: &authors, reverse_path: &reverse_path, channel: asked };
        let route = resolve(&directory, &request)?;
        Ok(directory.channel(route.channel).unwrap().name.clone())
    }
}

#[test]
fn the_own_channel_of_the_address_comes_first_then_the_only_one_the_team_and_the_pool() {
    let mine = channel(10, "ana-mailbox", Owner::Person(ANA), Scope::Address, "ana@example.com");
    let other = channel(11, "sales-mailbox", Owner::Person(ANA), Scope::Address, "sales@example.com");
    let team = channel(20, "team", SALES, Scope::Domain, "example.com");
    assert_eq!(World::new().route(ANA, "ana@example.com", None).unwrap(), "pool");
    let world = World::new().with(team);
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "team");
    let world = world.with(mine);
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "ana-mailbox");
    assert_eq!(world.route(ANA, "sales@example.com", None).unwrap(), "team");
    let world = world.with(other);
    assert_eq!(world.route(ANA, "sales@example.com", None).unwrap(), "sales-mailbox");
}

#[test]
fn a_channel_asked_for_is_used_or_refused_but_never_replaced() {
    let world = World::new().with(channel(10, "mine", Owner::Person(ANA), Scope::Address, "ana@example.com"));
    assert_eq!(world.route(ANA, "ana@example.com", Some("pool")).unwrap(), "pool");
    assert!(matches!(world.route(ANA, "sales@example.com", Some("mine")), Err(Refusal::ChannelForbids { .. })));
    assert!(matches!(world.route(ANA, "ana@example.com", Some("nowhere")), Err(Refusal::ChannelNotFound(_))));
    let fixed =
        World::new().with(channel(10, "mine", Owner::Person(ANA), Scope::Address, "ana@example.com")).with_token(Some(10), None);
    assert_eq!(fixed.route(ANA, "ana@example.com", None).unwrap(), "mine");
    assert!(matches!(fixed.route(ANA, "ana@example.com", Some("pool")), Err(Refusal::ChannelFixed { .. })));
    assert!(matches!(fixed.route(ANA, "sales@example.com", None), Err(Refusal::ChannelForbids { .. })));
}

#[test]
fn nobody_sends_as_somebody_else() {
    let world = World::new();
    for (who, from) in [(ANA, "luis@example.com"), (ANA, "ana@other.example"), (PersonId(3), "ana@example.com")] {
        assert!(matches!(world.route(who, from, None), Err(Refusal::SenderNotAllowed(_))), "{from}");
    }
    assert!(matches!(world.route_by(ANA, "ana@example.com", "luis@example.com", None, None), Err(Refusal::SenderNotAllowed(_))));
    assert!(world.route_by(ANA, "ana@example.com", "", None, None).is_ok());
    assert!(world.route(ANA, "ANA@Example.COM", None).is_ok());
    assert!(world.route(LUIS, "anybody@example.com", None).is_ok());
}

#[test]
fn sender_and_resent_fields_must_be_the_persons_too() {
    let directory = World::new().directory();
    let reverse_path = ReversePath::Null;
    let foreign = mailbox("luis@example.com");
    for authors in [
        Authors { from: vec![mailbox("ana@example.com")], sender: Some(foreign.clone()), resent: vec![] },
        Authors { from: vec![mailbox("ana@example.com")], sender: None, resent: vec![foreign.clone()] },
        Authors { from: vec![mailbox("ana@example.com"), foreign.clone()], sender: None, resent: vec![] },
    ] {
        let request = Request { person: ANA, token: None, authors: &authors, reverse_path: &reverse_path, channel: None };
        assert_eq!(resolve(&directory, &request), Err(Refusal::SenderNotAllowed(foreign.clone())));
    }
}

#[test]
fn nobody_uses_a_channel_of_others() {
    let world = World::new().with(channel(10, "luis-own", Owner::Person(LUIS), Scope::Domain, "*")).with(channel(
        20,
        "press-team",
        Owner::Team(TeamId(2)),
        Scope::Domain,
        "*",
    ));
    for asked in ["luis-own", "press-team"] {
        assert!(matches!(world.route(ANA, "ana@example.com", Some(asked)), Err(Refusal::ChannelNotFound(_))), "{asked}");
    }
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "pool");
    assert_eq!(world.route(PersonId(3), "eva@press.example", None).unwrap(), "press-team");
}

#[test]
fn a_credential_of_one_address_carries_that_address_alone() {
    let mut world = World::new().with(channel(10, "mine", Owner::Person(ANA), Scope::Address, "ana@example.com"));
    world.channels.remove(0);
    assert!(world.route(ANA, "ana@example.com", None).is_ok());
    assert!(matches!(world.route(ANA, "sales@example.com", None), Err(Refusal::NoChannel { .. })));
}

#[test]
fn a_credential_of_a_domain_carries_its_domains_alone() {
    let mut world = World::new().with(channel(20, "team", SALES, Scope::Domain, "other.example"));
    world.channels.remove(0);
    assert!(matches!(world.route(ANA, "ana@example.com", None), Err(Refusal::NoChannel { .. })));
}

#[test]
fn what_is_disabled_carries_nothing() {
    let mut world = World::new();
    world.channels[0].disabled = true;
    assert!(matches!(world.route(ANA, "ana@example.com", Some("pool")), Err(Refusal::ChannelDisabled(_))));
    assert!(matches!(world.route(ANA, "ana@example.com", None), Err(Refusal::NoChannel { .. })));
    let mut world = World::new();
    world.people[0].disabled = true;
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::PersonDisabled));
    let mut world = World::new().with_token(None, None);
    world.tokens[0].disabled = true;
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::TokenDisabled));
    world.tokens.clear();
    assert_eq!(world.route_by(ANA, "ana@example.com", "", None, Some(TokenId(1))), Err(Refusal::TokenDisabled));
    let mut world = World::new().with(channel(20, "team", SALES, Scope::Domain, "example.com"));
    world.teams[0].disabled = true;
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "pool");
}

#[test]
fn a_token_can_only_narrow_what_its_person_may() {
    let only_sales = Some(vec![AddressPattern::Mailbox(mailbox("sales@example.com"))]);
    let world = World::new().with_token(None, only_sales);
    assert!(world.route(ANA, "sales@example.com", None).is_ok());
    assert!(matches!(world.route(ANA, "ana@example.com", None), Err(Refusal::TokenForbids(_))));
    let reverse = world.route_by(ANA, "sales@example.com", "ana@example.com", None, Some(TokenId(1)));
    assert!(matches!(reverse, Err(Refusal::TokenForbids(_))));
    let everything = Some(vec![AddressPattern::Domain("example.com".into())]);
    let world = World::new().with_token(None, everything);
    assert!(matches!(world.route(ANA, "luis@example.com", None), Err(Refusal::SenderNotAllowed(_))));
    let nothing = World::new().with_token(None, Some(vec![]));
    assert!(matches!(nothing.route(ANA, "ana@example.com", None), Err(Refusal::TokenForbids(_))));
}

#[test]
fn nobody_sends_with_the_token_of_another() {
    let world = World::new().with_token(None, None);
    assert_eq!(world.route_by(LUIS, "luis@example.com", "", None, Some(TokenId(1))), Err(Refusal::TokenDisabled));
}

#[test]
fn a_channel_fixed_on_a_token_and_gone_since_is_not_replaced() {
    let world = World::new().with_token(Some(99), None);
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::ChannelNotFound("chn_99".into())));
    assert!(matches!(world.route(ANA, "ana@example.com", Some("pool")), Err(Refusal::ChannelNotFound(_))));
}

#[test]
fn a_channel_of_others_fixed_on_a_token_is_refused() {
    let world = World::new().with(channel(10, "luis-own", Owner::Person(LUIS), Scope::Domain, "*")).with_token(Some(10), None);
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::ChannelNotFound("luis-own".into())));
}

#[test]
fn a_teams_wildcard_does_not_cover_what_is_confirmed_as_another_teams() {
    let mut world = World::new().with(channel(20, "any", SALES, Scope::Account, "*"));
    world.channels.remove(0);
    world.people[0].teams = vec![TeamId(1), TeamId(2)];
    world.people[0].send_as = vec![AddressPattern::Domain("press.example".into()), AddressPattern::Domain("free.example".into())];
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "any");
    assert_eq!(world.route(ANA, "ana@free.example", None).unwrap(), "any");
    assert!(matches!(world.route(ANA, "ana@press.example", None), Err(Refusal::NoChannel { .. })));
    assert!(matches!(world.route(ANA, "ana@press.example", Some("any")), Err(Refusal::ChannelForbids { .. })));
}

#[test]
fn the_team_is_the_one_whose_domain_the_author_has_else_the_first_listed() {
    let team = |id, name: &str, team, carries: &str| channel(id, name, Owner::Team(TeamId(team)), Scope::Account, carries);
    let mut world = World::new().with(team(20, "sales-way", 1, "*")).with(team(21, "press-way", 2, "*"));
    world.people[0].teams = vec![TeamId(1), TeamId(2)];
    world.people[0].send_as = vec![AddressPattern::Domain("press.example".into()), AddressPattern::Domain("free.example".into())];
    assert_eq!(world.route(ANA, "ana@press.example", None).unwrap(), "press-way");
    assert_eq!(world.route(ANA, "ana@free.example", None).unwrap(), "sales-way");
    world.people[0].teams.reverse();
    assert_eq!(world.route(ANA, "ana@free.example", None).unwrap(), "press-way");
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "sales-way");
}

#[test]
fn a_team_with_several_channels_needs_a_default() {
    let mut world = World::new().with(channel(20, "one", SALES, Scope::Domain, "example.com")).with(channel(
        21,
        "two",
        SALES,
        Scope::Domain,
        "example.com",
    ));
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "pool");
    world.channels[2].default = true;
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "two");
    world.channels[2].disabled = true;
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "one");
}

#[test]
fn the_shared_pool_is_used_only_where_it_is_the_default() {
    let mut world = World::new();
    world.channels[0].default = false;
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::NoChannel { author: mailbox("ana@example.com") }));
    assert_eq!(world.route(ANA, "ana@example.com", Some("pool")).unwrap(), "pool");
}

#[test]
fn a_capture_channel_takes_any_author_that_is_the_persons_own() {
    let mut world = World::new();
    world.channels[0].transport = Transport::Capture;
    world.channels[0].domains.clear();
    assert_eq!(world.route(PersonId(3), "eva@press.example", None).unwrap(), "pool");
    assert!(matches!(world.route(PersonId(3), "ana@example.com", None), Err(Refusal::SenderNotAllowed(_))));
}

#[test]
fn every_author_counts_for_the_scope_of_a_channel() {
    let world = World::new().with(channel(10, "mine", Owner::Person(ANA), Scope::Address, "ana@example.com"));
    let directory = world.directory();
    let authors = Authors { from: vec![mailbox("ana@example.com")], sender: Some(mailbox("sales@example.com")), resent: vec![] };
    let mut request = Request { person: ANA, token: None, authors: &authors, reverse_path: &ReversePath::Null, channel: None };
    assert_eq!(resolve(&directory, &request).unwrap().channel, ChannelId(30));
    request.channel = Some("mine");
    assert!(
        matches!(resolve(&directory, &request), Err(Refusal::ChannelForbids { author, .. }) if author == mailbox("sales@example.com"))
    );
}

#[test]
fn the_route_names_the_team_it_goes_through() {
    let world = World::new().with(channel(20, "press", Owner::Team(TeamId(2)), Scope::Account, "*"));
    let directory = world.directory();
    let team = |person: u32, from: &str, asked| {
        let authors = Authors { from: vec![mailbox(from)], sender: None, resent: vec![] };
        let request =
            Request { person: PersonId(person), token: None, authors: &authors, reverse_path: &ReversePath::Null, channel: asked };
        resolve(&directory, &request).unwrap().team
    };
    assert_eq!(team(1, "ana@example.com", None), Some(TeamId(1)));
    assert_eq!(team(3, "eva@press.example", Some("press")), Some(TeamId(2)));
}

#[test]
fn every_surface_gets_the_same_channel() {
    let world = World::new().with(channel(20, "team", SALES, Scope::Domain, "example.com"));
    let directory = world.directory();
    let at = Timestamp(1_795_593_600_000);
    let plain = Stamp {
        at,
        id: MessageId::new(at, [1; 10]),
        hostname: "mx.example",
        helo: "",
        peer: None,
        protocol: "HTTP",
        recipient: None,
        control_fields: false,
    };
    let stamps = [
        plain.clone(),
        Stamp { protocol: "ESMTPSA", helo: "laptop", recipient: Some("luis@example.org"), ..plain.clone() },
        Stamp { protocol: "ESMTP", helo: "app", peer: Some("[127.0.0.1]"), id: MessageId::new(at, [2; 10]), ..plain.clone() },
        Stamp { protocol: "UTF8SMTPSA", hostname: "other.example", at: at.plus(std::time::Duration::from_secs(9)), ..plain },
    ];
    for wish in ["", "X-Sendero-Channel: pool\r\n", "X-Sendero-Channel: nowhere\r\n"] {
        let message = format!("From: Ana <ana@example.com>\r\n{wish}\r\nhello\r\n");
        let routes: Vec<_> = stamps
            .iter()
            .map(|stamp| {
                let prepared = prepare(message.as_bytes(), stamp).unwrap();
                let channel = prepared.wishes.channel.as_deref();
                let request =
                    Request { person: ANA, token: None, authors: &prepared.authors, reverse_path: &ReversePath::Null, channel };
                resolve(&directory, &request)
            })
            .collect();
        assert!(routes.iter().all(|route| *route == routes[0]), "{routes:?}");
        let expected = if wish.is_empty() { Some(20) } else { wish.contains("pool").then_some(30) };
        assert_eq!(routes[0].as_ref().ok().map(|route| route.channel.0), expected);
    }
}

#[test]
fn permission_lost_since_acceptance_is_noticed() {
    let world = World::new().with(channel(20, "team", SALES, Scope::Domain, "example.com"));
    let authors = Authors { from: vec![mailbox("ana@example.com")], sender: None, resent: vec![] };
    let check = |world: &World| {
        let directory = world.directory();
        permitted(&directory, ANA, None, directory.channel(ChannelId(20)).unwrap(), &authors, &ReversePath::Null)
    };
    assert_eq!(check(&world), Ok(()));
    let mut left = world.clone();
    left.people[0].teams.clear();
    assert!(matches!(check(&left), Err(Refusal::ChannelNotFound(_))));
    let mut renamed = world.clone();
    renamed.people[0].email = mailbox("ana.maria@example.com");
    assert!(matches!(check(&renamed), Err(Refusal::SenderNotAllowed(_))));
    let mut narrowed = world.clone();
    narrowed.channels[1].domains.clear();
    assert!(matches!(check(&narrowed), Err(Refusal::ChannelForbids { .. })));
    let mut disabled = world;
    disabled.people[0].disabled = true;
    assert_eq!(check(&disabled), Err(Refusal::PersonDisabled));
}

#[test]
fn refusals_have_the_published_codes_and_say_what_to_do() {
    let ana = || mailbox("ana@example.com");
    let name = || "office".to_owned();
    for (refusal, code, status, reply) in [
        (Refusal::SenderNotAllowed(ana()), "sender_not_allowed", 403, "550 5.7.1 ana@example.com is not yours to send as; ask "),
        (Refusal::TokenForbids(ana()), "sender_not_allowed", 403, "550 5.7.1 this token may not send as ana@example.com; use "),
        (Refusal::PersonDisabled, "sender_not_allowed", 403, "550 5.7.1 you may not send; ask "),
        (Refusal::TokenDisabled, "token_disabled", 401, "550 5.7.1 this token is no longer valid; sign in "),
        (
            Refusal::NoChannel { author: ana() },
            "sender_not_allowed",
            403,
            "550 5.7.1 no channel may send as ana@example.com for you; ",
        ),
        (Refusal::ChannelNotFound(name()), "channel_not_found", 404, "550 5.7.1 there is no channel 'office' that you may use; "),
        (Refusal::ChannelDisabled(name()), "channel_not_found", 404, "550 5.7.1 channel 'office' is disabled; enable it"),
        (Refusal::ChannelFixed { asked: name(), fixed: name() }, "scope_missing", 403, "550 5.7.1 channel 'office' was asked for"),
        (Refusal::ControlField("X-SMTPAPI".into()), "validation_failed", 422, "550 5.7.1 the header field X-SMTPAPI gives orders"),
        (
            Refusal::Header(crate::header::HeaderError::NoFrom),
            "validation_failed",
            422,
            "550 5.6.0 the message has no From field; mend",
        ),
        (Refusal::TooManyHops, "validation_failed", 422, "554 5.4.6 the message has passed more than 50 servers"),
        (Refusal::TooLarge { found: 2, most: 1 }, "message_too_large", 413, "552 5.3.4 a message may have 1 bytes here"),
        (
            Refusal::TooLargeForChannel { channel: name(), found: 2, most: 1, by_next_hop: false },
            "message_too_large",
            413,
            "552 5.3.4 channel 'office' takes at most 1 bytes, this message has 2; make it smaller",
        ),
        (Refusal::TooManyRecipients { found: 2, most: 1 }, "recipient_limit_exceeded", 422, "550 5.5.3 a message may have 1 "),
        (Refusal::NoRecipients, "validation_failed", 422, "554 5.5.1 the message has no recipient; name"),
        (Refusal::OddBytes, "validation_failed", 422, "550 5.6.0 a message's lines end with CRLF"),
        (
            Refusal::Wish(crate::header::WishError::NotInThisVersion("X-Sendero-Later".into())),
            "validation_failed",
            422,
            "550 5.5.4 X-Sendero-Later is not in this version; ",
        ),
        (
            Refusal::Wish(crate::when::WhenError::Past(crate::Timestamp(0)).into()),
            "validation_failed",
            422,
            "554 5.6.0 the message was not to be sent after 1970-01-01T00:00:00.000Z, and that has passed; ",
        ),
    ] {
        assert_eq!((refusal.code(), refusal.http_status()), (code, status), "{refusal}");
        assert!(refusal.reply().to_string().starts_with(reply), "{} / {reply}", refusal.reply());
        assert!(refusal.reply().is_permanent());
    }
}

#[test]
fn the_reverse_path_follows_the_channels_policy() {
    let envelope = |reverse_path| Envelope {
        reverse_path,
        recipients: vec![Recipient::new(mailbox("luis@example.org").into())],
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    };
    let mut row = channel(1, "c", Owner::Instance, Scope::Account, "*");
    let submitted = envelope(ReversePath::Mailbox(mailbox("bounce@example.com")));
    let message = b"From: Ana <ana@example.com>\r\n\r\n";
    assert_eq!(return_path(&row, &submitted, message), submitted.reverse_path);
    row.return_path = ReturnPath::From;
    assert_eq!(return_path(&row, &submitted, message).to_string(), "ana@example.com");
    assert_eq!(return_path(&row, &envelope(ReversePath::Null), message), ReversePath::Null);
}

/// Few of everything, so that random worlds meet.
const ADDRESSES: [&str; 4] = ["ana@example.com", "luis@example.com", "sales@example.com", "eva@press.example"];

fn any_owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        (1u32..4).prop_map(|id| Owner::Person(PersonId(id))),
        (1u32..3).prop_map(|id| Owner::Team(TeamId(id))),
        Just(Owner::Instance)
    ]
}

fn any_channel() -> impl Strategy<Value = (Owner, Scope, &'static str, bool, bool)> {
    let carries = prop_oneof![
        prop::sample::select(&ADDRESSES[..]).prop_map(|address| (Scope::Address, address)),
        prop::sample::select(vec!["*", "example.com", "press.example"]).prop_map(|domain| (Scope::Domain, domain)),
    ];
    (any_owner(), carries, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(owner, (scope, carries), default, disabled)| (owner, scope, carries, default, disabled))
}

fn any_world() -> impl Strategy<Value = World> {
    let teams = prop::collection::vec(prop::sample::subsequence(vec![TeamId(1), TeamId(2)], 0..=2).prop_shuffle(), 3);
    let token =
        prop::option::of((prop::option::of(1u32..6), prop::option::of(prop::sample::subsequence(ADDRESSES.to_vec(), 0..3))));
    (prop::collection::vec(any_channel(), 0..5), teams, token, prop::bool::weighted(0.1)).prop_map(
        |(channels, teams, token, off)| {
            let mut world = World::new();
            world.channels.clear();
            for (person, teams) in world.people.iter_mut().zip(teams) {
                person.teams = teams;
            }
            world.teams[0].disabled = off;
            for (id, (owner, scope, carries, default, disabled)) in (1..).zip(channels) {
                let mut row = channel(id, &format!("c{id}"), owner, scope, carries);
                (row.default, row.disabled) = (default, disabled);
                world.channels.push(row);
            }
            match token {
                None => world,
                Some((fixed, only)) => {
                    let only = only.map(|all| all.into_iter().map(|address| AddressPattern::Mailbox(mailbox(address))).collect());
                    world.with_token(fixed, only)
                }
            }
        },
    )
}

fn any_authors() -> impl Strategy<Value = Authors> {
    let one = || prop::sample::select(&ADDRESSES[..]).prop_map(mailbox);
    (one(), prop::option::weighted(0.2, one()), prop::option::weighted(0.1, one())).prop_map(|(from, sender, resent)| Authors {
        from: vec![from],
        sender,
        resent: resent.into_iter().collect(),
    })
}

/// The rules of permission once more, word by word and without the resolver's code.
fn must_not(world: &World, person: &Person, token: Option<&Token>, row: &Channel, authors: &Authors) -> Option<&'static str> {
    let member = |team: TeamId| person.teams.contains(&team) && world.teams.iter().any(|row| row.id == team && !row.disabled);
    let owned = match row.owner {
        Owner::Person(id) => id == person.id,
        Owner::Team(id) => member(id),
        Owner::Instance => true,
    };
    if !owned || row.disabled {
        return Some("not theirs, or disabled");
    }
    for author in authors.all() {
        let text = author.to_string();
        let (_, domain) = text.split_once('@').unwrap();
        let granted = person.email.to_string() == text || person.send_as.iter().any(|pattern| pattern.covers(author));
        if !granted {
            return Some("not their address");
        }
        let only = token.and_then(|token| token.send_as.as_ref());
        if only.is_some_and(|only| !only.contains(&AddressPattern::Mailbox(author.clone()))) {
            return Some("not for this token");
        }
        let fits = row.address.as_ref().is_some_and(|address| address.to_string() == text)
            || row.domains.iter().any(|pattern| match (pattern, row.owner) {
                (DomainPattern::Domain(listed), _) => listed == domain,
                (DomainPattern::Any, Owner::Team(id)) => (domain == "example.com") == (id == TeamId(1)),
                (DomainPattern::Any, _) => true,
            });
        if !fits {
            return Some("outside the scope");
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_directory_a_route_breaks_no_rule_and_needs_no_order_of_rows(
        world in any_world(),
        who in 1u32..4,
        authors in any_authors(),
        asked in prop::option::weighted(0.3, 1u32..6),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let directory = world.directory();
        let token = world.tokens.first().filter(|token| token.person == PersonId(who));
        let asked = asked.map(|id| format!("c{id}"));
        let null = ReversePath::Null;
        let request = Request {
            person: PersonId(who),
            token: token.map(|token| token.id),
            authors: &authors,
            reverse_path: &null,
            channel: asked.as_deref(),
        };
        let result = resolve(&directory, &request);

        let mut turned = world.clone();
        if !turned.channels.is_empty() {
            let by = shuffle.index(turned.channels.len());
            turned.channels.rotate_left(by);
        }
        turned.people.reverse();
        turned.teams.reverse();
        prop_assert_eq!(&resolve(&turned.directory(), &request), &result);

        let person = world.people.iter().find(|person| person.id == request.person).unwrap();
        let may = |row: &&Channel| must_not(&world, person, token, row, &authors).is_none();
        let fixed = token.and_then(|token| token.channel);
        match result {
            Ok(route) => {
                let row = directory.channel(route.channel).unwrap();
                let reach = within_reach(&directory, person.id, request.token);
                prop_assert!(reach.iter().any(|channel| channel.id == row.id), "what is chosen was within reach");
                prop_assert_eq!(must_not(&world, person, token, row, &authors), None);
                prop_assert_eq!(permitted(&directory, person.id, request.token, row, &authors, &null), Ok(()));
                prop_assert!(asked.as_ref().is_none_or(|asked| *asked == row.name));
                prop_assert!(fixed.is_none_or(|fixed| fixed == row.id));
                let own = |row: &&Channel| row.owner == Owner::Person(person.id) && row.address.as_ref() == Some(authors.first());
                if asked.is_none() && fixed.is_none() && let Some(mine) = world.channels.iter().filter(own).find(may) {
                    prop_assert_eq!(row.address.as_ref(), mine.address.as_ref());
                    prop_assert_eq!(row.owner, mine.owner);
                }
            }
            Err(Refusal::NoChannel { .. }) => {
                let defaults = |row: &&Channel| row.owner == Owner::Instance && row.default && may(row);
                let own = |row: &&Channel| row.owner == Owner::Person(person.id) && row.address.as_ref() == Some(authors.first()) && may(row);
                let first_default = world.channels.iter().find(|row| row.owner == Owner::Instance && row.default && !row.disabled);
                prop_assert!(first_default.is_none_or(|row| !defaults(&row)));
                let first_own = world.channels.iter().filter(|row| !row.disabled).find(|row| row.owner == Owner::Person(person.id) && row.address.as_ref() == Some(authors.first()));
                prop_assert!(first_own.is_none_or(|row| !own(&row)));
            }
            Err(_) => {}
        }
    }
}

#[test]
fn a_report_leaves_only_by_a_channel_that_its_reader_may_use_and_that_may_send_as_its_author() {
    let world = World::new().with(channel(10, "ana-mailbox", Owner::Person(ANA), Scope::Address, "ana@example.com")).with(channel(
        20,
        "team",
        SALES,
        Scope::Domain,
        "example.com",
    ));
    let allowed = |person, channel, from: &str| {
        let directory = world.directory();
        let authors = Authors { from: vec![mailbox(from)], sender: None, resent: vec![] };
        permitted_report(&directory, person, directory.channel_named(channel).unwrap(), &authors).is_ok()
    };
    let eva = PersonId(3);
    for (person, channel, from, expected) in [
        (ANA, "pool", "reports@example.com", true),
        (eva, "pool", "reports@example.com", true),
        (eva, "pool", "reports@press.example", false),
        (ANA, "team", "reports@example.com", true),
        (eva, "team", "reports@example.com", false),
        (ANA, "ana-mailbox", "ana@example.com", true),
        (ANA, "ana-mailbox", "reports@example.com", false),
        (LUIS, "ana-mailbox", "ana@example.com", false),
        (PersonId(99), "pool", "reports@example.com", false),
    ] {
        assert_eq!(allowed(person, channel, from), expected, "{person} {channel} {from}");
    }
}
