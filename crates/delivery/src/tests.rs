//! Sessions with a next hop that follows a script.

#![allow(clippy::unwrap_used)]

mod hand_over;
mod matrix;
mod opening;
mod probe;

use crate::guard::Allow;
use crate::resolve::Resolver;
use crate::scripted::{Authority, FixedNames, Hop, Script};
use crate::tls::Tls;
use crate::{Deadlines, Endpoint, OpenError, Outgoing, Session, SmarthostTransport, Transport};
use mail::channel::{AuthMode, Smarthost, TlsMode, Transport as Kind};
use mail::envelope::{BodyType, Envelope, Recipient};
use mail::{ChannelId, Lane, MessageId, Outcome, PersonId, Timestamp};
use smtp::{ForwardPath, ReversePath};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use store::{Lease, LeasedRecipient};
use zeroize::Zeroizing;

/// Long enough for a busy machine where nothing is waited out.
const AMPLE: Duration = Duration::from_secs(60);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
static SERVER: LazyLock<Arc<rustls::ServerConfig>> = LazyLock::new(|| AUTHORITY.server(&["127.0.0.1", "localhost"]));

fn transport(limit: Duration) -> SmarthostTransport {
    let allow = Allow::parse(&["127.0.0.1:1024-65535"]).unwrap();
    let resolver = Resolver::new(Arc::new(FixedNames::new(&[])), allow);
    SmarthostTransport::new("gateway.example", resolver, Tls::with_roots(AUTHORITY.roots()).unwrap(), Deadlines::each(limit))
}

fn endpoint_at(host: &str, port: u16, tls: TlsMode) -> Endpoint {
    let signs_in = tls != TlsMode::None;
    let smarthost = Smarthost {
        host: host.into(),
        port,
        tls,
        auth: if signs_in { AuthMode::Auto } else { AuthMode::None },
        username: signs_in.then(|| "ana@example.com".to_owned()),
    };
    Endpoint {
        channel: ChannelId(1),
        name: "office".into(),
        revision: 1,
        transport: Kind::Smtp(smarthost),
        secret: signs_in.then(|| Zeroizing::new(b"geheim-7431".to_vec())),
    }
}

fn endpoint(hop: &Hop, tls: TlsMode) -> Endpoint {
    endpoint_at("127.0.0.1", hop.address().port(), tls)
}

fn outgoing_to(recipients: &[&str], body: &[u8]) -> Outgoing {
    let paths = recipients.iter().map(|address| Recipient::new(ForwardPath::parse(&format!("<{address}>")).unwrap()));
    let envelope = Envelope {
        reverse_path: ReversePath::parse("<ana@example.com>").unwrap(),
        recipients: paths.collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    };
    let leased = |index| LeasedRecipient { index, attempts: 0, doubts: 0, first_attempt: None };
    let lease = Lease {
        message: MessageId::new(Timestamp(1), [7; 10]),
        channel: ChannelId(1),
        person: PersonId(1),
        team: None,
        token: None,
        surface: mail::Surface::Smtp,
        accepted_at: Timestamp(1),
        lane: Lane::Normal,
        author: "ana@example.com".into(),
        recipients: (0..recipients.len() as u32).map(leased).collect(),
        size_bytes: body.len() as u64,
        expires_at: None,
        envelope: Arc::new(envelope),
    };
    Outgoing { lease, body: body.to_vec().into(), reverse_path: ReversePath::parse("<ana@example.com>").unwrap() }
}

fn outgoing(body: &[u8]) -> Outgoing {
    outgoing_to(&["luis@example.org"], body)
}

async fn open(hop: &Hop, tls: TlsMode) -> Box<dyn Session> {
    let transport = transport(AMPLE);
    transport.open(&endpoint(hop, tls)).await.unwrap()
}

async fn open_error(script: Script, tls: TlsMode) -> (OpenError, Hop) {
    let hop = Hop::start(script).await;
    let error = transport(AMPLE).open(&endpoint(&hop, tls)).await.err().expect("the session must not open");
    (error, hop)
}

/// Hands over with a caller whose intent is durable already.
async fn deliver(session: &mut Box<dyn Session>, outgoing: &Outgoing) -> Vec<Outcome> {
    let outcomes = session.deliver(outgoing, Box::pin(async { true })).await;
    let indices: Vec<u32> = outcomes.iter().map(|(index, _)| *index).collect();
    let leased: Vec<u32> = outgoing.lease.recipients.iter().map(|recipient| recipient.index).collect();
    assert_eq!(indices, leased, "one outcome for each recipient");
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn is_sent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Sent(_))
}
