#![allow(clippy::unwrap_used)]
use super::*;
use crate::channel::{AuthMode, DomainPattern, OnUncertain, Smarthost, TlsMode};
use crate::directory::{AddressPattern, Role, TokenSurface};
use crate::envelope::Surface;
use crate::limits::Caps;

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
        on_uncertain: OnUncertain::Retry,
        return_path: ReturnPath::Submitted,
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
    assert_eq!(world.route(ANA, "ana@example.com", None), Err(Refusal::PersonDisabled));
    let mut world = World::new().with(channel(20, "team", SALES, Scope::Domain, "example.com"));
    world.teams[0].disabled = true;
    assert_eq!(world.route(ANA, "ana@example.com", None).unwrap(), "pool");
}

#[test]
fn a_token_can_only_narrow_what_its_person_may() {
    let only_sales = Some(vec![AddressPattern::Mailbox(mailbox("sales@example.com"))]);
    let world = World::new().with_token(None, only_sales);
    assert!(world.route(ANA, "sales@example.com", None).is_ok());
    assert!(matches!(world.route(ANA, "ana@example.com", None), Err(Refusal::SenderNotAllowed(_))));
    let everything = Some(vec![AddressPattern::Domain("example.com".into())]);
    let world = World::new().with_token(None, everything);
    assert!(matches!(world.route(ANA, "luis@example.com", None), Err(Refusal::SenderNotAllowed(_))));
    assert_eq!(world.route_by(LUIS, "luis@example.com", "", None, Some(TokenId(1))), Err(Refusal::PersonDisabled));
}

#[test]
fn every_surface_gets_the_same_channel() {
    // The resolver is not told the surface: what would make it differ cannot be written.
    let world = World::new().with(channel(20, "team", SALES, Scope::Domain, "example.com"));
    let routes: Vec<String> = [Surface::Smtp, Surface::Http, Surface::Cli, Surface::Web]
        .iter()
        .map(|_| world.route(ANA, "ana@example.com", None).unwrap())
        .collect();
    assert!(routes.iter().all(|route| route == "team"));
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
    let mut left = world;
    left.people[0].teams.clear();
    assert!(check(&left).is_err());
}

#[test]
fn refusals_have_the_published_codes() {
    let refusal = Refusal::SenderNotAllowed(mailbox("ana@example.com"));
    assert_eq!((refusal.code(), refusal.http_status()), ("sender_not_allowed", 403));
    assert!(refusal.reply().to_string().starts_with("550 5.7.1 ana@example.com is not yours to send as; "));
    assert!(Refusal::TooLarge { found: 2, most: 1 }.reply().to_string().starts_with("552 5.3.4 "));
}

#[test]
fn the_reverse_path_follows_the_channels_policy() {
    let mut row = channel(1, "c", Owner::Instance, Scope::Account, "*");
    let submitted = ReversePath::Mailbox(mailbox("bounce@example.com"));
    let message = b"From: Ana <ana@example.com>\r\n\r\n";
    assert_eq!(return_path(&row, &submitted, message), submitted);
    row.return_path = ReturnPath::From;
    assert_eq!(return_path(&row, &submitted, message).to_string(), "ana@example.com");
    assert_eq!(return_path(&row, &ReversePath::Null, message), ReversePath::Null);
}
