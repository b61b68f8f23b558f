//! `sendero send`: composes a message or takes a whole one, and hands it to the gateway.

use super::CommandError;
use crate::cli::Send;
use crate::client::{Client, Message, Pieces};
use crate::compose::{Attachment, Crlf, Draft, compose};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use web::view::Submitted;

/// A file is read in pieces of this size.
const PIECE: usize = 64 * 1024;
/// A message larger than this is no message.
const MOST: u64 = 256 << 20;

/// What the gateway answered.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its answer.
    pub submitted: Submitted,
    /// It had been sent before under the same key.
    pub replayed: bool,
}

/// Sends one message.
///
/// # Errors
/// A file that cannot be read, an address that is none, or what the gateway said.
pub async fn send(client: &Client, what: &Send) -> Result<Sent, CommandError> {
    let message = match &what.file {
        Some(path) => message(path)?,
        None => Message::Whole(compose(&draft(what)?).map_err(CommandError::Other)?),
    };
    let mut query: Vec<(&str, &str)> = Vec::new();
    let sender = what.from.as_deref().filter(|_| what.file.is_some());
    query.extend(sender.map(|from| ("from", from)));
    if what.file.is_some() {
        query.extend(what.to.iter().chain(&what.cc).chain(&what.bcc).map(|to| ("to", to.as_str())));
    }
    query.extend(what.person.as_deref().map(|person| ("person", person)));
    query.extend(what.channel.as_deref().map(|channel| ("channel", channel)));
    query.extend(what.tag.iter().map(|tag| ("tag", tag.as_str())));
    let now = intake::wall_clock();
    let (schedule, expires) =
        (what.schedule.map(|when| when.from(now).to_string()), what.expires.map(|when| when.from(now).to_string()));
    query.extend(schedule.as_deref().map(|at| ("scheduled_at", at)));
    query.extend(expires.as_deref().map(|at| ("expires_at", at)));
    let (submitted, replayed) = client.submit(message, &query, what.idempotency_key.as_deref()).await?;
    Ok(Sent { submitted, replayed })
}

fn draft(what: &Send) -> Result<Draft, CommandError> {
    let text = match &what.text {
        Some(text) => text.clone(),
        None => {
            let bytes = read(Path::new("-"))?;
            String::from_utf8(bytes).map_err(|_| CommandError::Other("the text on standard input is not UTF-8".to_owned()))?
        }
    };
    let attachments = what.attach.iter().map(|path| attachment(path)).collect::<Result<_, _>>()?;
    Ok(Draft {
        from: what.from.clone().unwrap_or_default(),
        to: what.to.clone(),
        cc: what.cc.clone(),
        bcc: what.bcc.clone(),
        subject: what.subject.clone().unwrap_or_default(),
        text,
        attachments,
    })
}

fn attachment(path: &Path) -> Result<Attachment, CommandError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "attachment".to_owned());
    Ok(Attachment { name, bytes: read(path)? })
}

/// A whole message with the line ends of mail. A file is read while it is sent. What somebody else writes meanwhile, as
/// standard input, may be slower than the gateway waits for a request: it is read to its end before.
fn message(path: &Path) -> Result<Message, CommandError> {
    if path.is_file() {
        let file = File::open(path).map_err(|problem| CommandError::about(path.display(), problem))?;
        return Ok(Message::Pieces(pieces(file, path.to_owned())));
    }
    Ok(Message::Whole(Crlf::default().piece(&read(path)?)))
}

fn pieces(file: impl Read + std::marker::Send + Sync + 'static, path: PathBuf) -> Pieces {
    let start = (file, Crlf::default(), path);
    Box::pin(futures_util::stream::try_unfold(start, |(mut file, mut crlf, path)| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => Ok(None),
                Ok(count) => Ok(Some((crlf.piece(&piece[..count]), (file, crlf, path)))),
                Err(problem) => Err(io::Error::new(problem.kind(), format!("{}: {problem}", path.display()))),
            }
        });
        read.await.map_err(io::Error::other)?
    }))
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(MOST).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes))
    };
    read.map_err(|problem| CommandError::about(path.display(), problem))?;
    Ok(bytes)
}
