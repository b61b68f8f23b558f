//! Taking a message: `POST /messages/raw`.

use super::{Pairs, body};
use crate::gateway::{Principal, Submission};
use crate::params::Params;
use crate::problem::Problem;
use crate::show::Glance;
use crate::surface::{Caller, Surface};
use crate::view::{FieldError, Submitted};
use crate::viewer::Viewer;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::{Bytes, BytesMut};
use mail::header::{Header, MAX_HEADER, blank_line};
use mail::{Directory, Lane, Timestamp};
use smtp::{ForwardPath, Mailbox, ReversePath};

/// A large message is taken in in pieces of this size.
const PIECE: usize = 64 * 1024;

/// What stands in the query.
struct Asked {
    from: Option<ReversePath>,
    to: Vec<ForwardPath>,
    person: Option<String>,
    channel: Option<String>,
    lane: Option<Lane>,
    tags: Vec<(String, String)>,
    scheduled_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

pub(crate) async fn raw(
    State(surface): State<Surface>,
    Extension(caller): Extension<Caller>,
    Query(pairs): Pairs,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let limit = surface.gateway().about().max_message_size;
    let mut incoming = body::Incoming::new(&headers, body, limit)?;
    let submission = match take_in(&surface, &caller, pairs, &headers, &mut incoming).await {
        Ok(submission) => submission,
        Err(Broken::Request(problem)) => return Err(problem),
        Err(Broken::Early(problem)) => {
            // So much may be sent in vain, and for so long, that whoever waits for its end would hold the connection.
            let is_all = incoming.discard_a_little().await;
            return Err(if is_all { problem } else { problem.closing() });
        }
        Err(Broken::Refused(problem)) => {
            incoming.discard().await;
            return Err(problem);
        }
    };
    let receipt = surface.gateway().accept(submission).await?;
    let id = receipt.id;
    // It is safe whether or not it can be looked at now.
    let shown = surface.look(&caller, move |glance| Ok(glance.queue().message(id)?.and_then(|message| glance.message(message))));
    let waiting_on = shown.await.ok().flatten().and_then(|message| message.waiting_on);
    let answer = Submitted {
        id: id.to_string(),
        channel: Glance::new(&**surface.gateway(), Viewer::of(&caller)).channel_name(receipt.channel),
        lane: receipt.lane,
        size: receipt.size_bytes,
        waiting_on,
    };
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/messages/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if receipt.replayed {
        response.headers_mut().insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// True when a message is more than what is kept whole and its header section has come, or does not end.
fn is_large(start: &[u8]) -> bool {
    start.len() > store::WHOLE_UP_TO && (start.len() > MAX_HEADER || blank_line(start, 0).is_some())
}

/// Why a message did not come in.
enum Broken {
    /// Its bytes broke off, or are too many.
    Request(Problem),
    /// It is refused before any of it was read.
    Early(Problem),
    /// What is there of it is refused; more may come.
    Refused(Problem),
}

/// Reads what is asked and the message, a large one piece by piece.
async fn take_in(
    surface: &Surface,
    caller: &Caller,
    pairs: Vec<(String, String)>,
    headers: &HeaderMap,
    incoming: &mut body::Incoming,
) -> Result<Submission, Broken> {
    body::expect(headers, "message/rfc822").map_err(Broken::Refused)?;
    let asked = asked(pairs, caller).map_err(Broken::Refused)?;
    let idempotency_key = key(headers).map_err(Broken::Refused)?;
    if let Caller::Token(principal) = caller {
        let begun = surface.gateway().begin(*principal, mail::Surface::Http, incoming.declared()).await;
        begun.map_err(Broken::Early)?;
    }
    let (start, is_all) = incoming.until(is_large).await.map_err(Broken::Request)?;
    let header_ends = blank_line(&start, 0).unwrap_or(start.len());
    let mut submission = submission(surface, caller, asked, idempotency_key, &start[..header_ends]).map_err(Broken::Refused)?;
    submission.body = if is_all { start.into() } else { arrive(surface, &submission, start, incoming).await? };
    Ok(submission)
}

/// Takes a large message in while it comes.
async fn arrive(
    surface: &Surface,
    submission: &Submission,
    start: Bytes,
    incoming: &mut body::Incoming,
) -> Result<intake::Submitted, Broken> {
    let gateway = surface.gateway();
    let refused = |refusal: intake::AcceptRefusal| Broken::Refused(gateway.refused(submission, &refusal));
    let mut arrival = gateway.arrive(submission).write(start).await.map_err(refused)?;
    let mut piece = BytesMut::new();
    while let Some(data) = incoming.next().await.map_err(Broken::Request)? {
        piece.extend_from_slice(&data);
        if piece.len() >= PIECE {
            arrival = arrival.write(piece.split().freeze()).await.map_err(refused)?;
        }
    }
    arrival.finish(piece.freeze()).await.map_err(refused)
}

fn asked(pairs: Vec<(String, String)>, caller: &Caller) -> Result<Asked, Problem> {
    let mut params = Params::new(pairs);
    let asked = Asked {
        from: params.read("from", |text| ReversePath::parse(&bracketed(text)).map_err(|error| format!("from: {error}"))),
        to: params.read_all("to", |text| ForwardPath::parse(&bracketed(text)).map_err(|error| format!("to: {text}: {error}"))),
        person: if *caller == Caller::Local { params.one("person") } else { None },
        channel: params.one("channel"),
        lane: params.read("lane", lane),
        tags: params.read_all("tag", tag),
        scheduled_at: params.read("scheduled_at", time),
        expires_at: params.read("expires_at", time),
    };
    params.finish()?;
    Ok(asked)
}

/// An address as a path of the wire: with its brackets, whether they were given or not.
pub(super) fn bracketed(text: &str) -> String {
    let text = text.trim();
    let bare = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    format!("<{bare}>")
}

fn lane(text: &str) -> Result<Lane, String> {
    match text {
        "now" => Ok(Lane::Now),
        "normal" => Ok(Lane::Normal),
        "bulk" => Ok(Lane::Bulk),
        _ => Err(format!("there is no lane '{text}'; there are: now, normal, bulk")),
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text)
        .ok_or_else(|| "a time is written with its offset, as 2026-11-25T09:00:00+01:00 (in a query, + is %2B)".to_owned())
}

fn tag(text: &str) -> Result<(String, String), String> {
    mail::header::tag(text)
        .ok_or_else(|| "a tag is name=value, at most 64 and 256 characters, none of them a control character".to_owned())
}

/// The key: a quoted string or a bare token, 1 to 255 characters.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().and_then(|text| mail::header::idempotency_key(text.trim()));
    match key.filter(|_| values.next().is_none()) {
        Some(key) => Ok(Some(key)),
        None => Err(field("/header/idempotency-key", "Idempotency-Key is 1 to 255 characters, once, in quotes or bare")),
    }
}

pub(super) fn field(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(vec![FieldError { pointer: pointer.to_owned(), code: "invalid".to_owned(), detail: detail.into() }])
}

fn submission(
    surface: &Surface,
    caller: &Caller,
    asked: Asked,
    idempotency_key: Option<String>,
    header: &[u8],
) -> Result<Submission, Problem> {
    let refused = |refusal: mail::resolve::Refusal| Problem::from(&refusal);
    let header = Header::parse(header).map_err(|error| refused(error.into()))?;
    let authors = header.authors().map_err(|error| refused(error.into()))?;
    let author = authors.first();
    let (principal, door) = match caller {
        Caller::Token(principal) => (*principal, mail::Surface::Http),
        Caller::Local => (whose(&surface.gateway().directory(), asked.person.as_deref(), author)?, mail::Surface::Cli),
    };
    let recipients = if asked.to.is_empty() { named(&header)? } else { once(asked.to) };
    if recipients.is_empty() {
        return Err(refused(mail::resolve::Refusal::NoRecipients));
    }
    let reverse_path = asked.from.unwrap_or_else(|| ReversePath::Mailbox(author.clone()));
    Ok(Submission {
        principal,
        surface: door,
        reverse_path,
        recipients,
        body: Bytes::new().into(),
        channel: asked.channel,
        lane: asked.lane,
        tags: asked.tags,
        idempotency_key,
        scheduled_at: asked.scheduled_at,
        expires_at: asked.expires_at,
    })
}

/// Whom the message itself names in To, Cc and Bcc.
fn named(header: &Header<'_>) -> Result<Vec<ForwardPath>, Problem> {
    let mailboxes = header.destinations().map_err(|error| field("/body", format!("{error}; or name the recipients with 'to'")))?;
    Ok(once(mailboxes.into_iter().map(ForwardPath::from).collect()))
}

fn once(paths: Vec<ForwardPath>) -> Vec<ForwardPath> {
    let mut seen: Vec<ForwardPath> = Vec::with_capacity(paths.len());
    let mut known = std::collections::HashSet::new();
    for path in paths {
        if known.insert(path.to_string()) {
            seen.push(path);
        }
    }
    seen
}

/// Over the local socket a message is sent with the rights of the person asked for, or whose address its From is.
pub(super) fn whose(directory: &Directory, person: Option<&str>, author: &Mailbox) -> Result<Principal, Problem> {
    let found = match person {
        Some(address) => directory.person_by_address(address).map(|person| person.id).ok_or_else(|| {
            field("/query/person", format!("there is no person {address}; add them to your directory file and apply it"))
        })?,
        None => owner_of(directory, author)?,
    };
    Ok(Principal { person: found, token: None })
}

pub(super) fn owner_of(directory: &Directory, author: &Mailbox) -> Result<mail::PersonId, Problem> {
    if let Some(person) = directory.person_by_address(&author.to_string()) {
        return Ok(person.id);
    }
    let may = |person: &&mail::Person| person.send_as.iter().any(|pattern| pattern.covers(author));
    let mut able: Vec<&mail::Person> = directory.people().filter(may).collect();
    able.sort_by_key(|person| person.id);
    match able.as_slice() {
        [one] => Ok(one.id),
        [] => Err(field(
            "/query/person",
            format!(
                "nobody may send as {author}; add a person with this address to your directory file and apply it, or say --person"
            ),
        )),
        [first, second, ..] => {
            let detail =
                format!("several people may send as {author} ({}, {}, ...); say which with --person", first.email, second.email);
            Err(field("/query/person", detail))
        }
    }
}
