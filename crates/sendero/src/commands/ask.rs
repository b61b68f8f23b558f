//! The commands that ask the running gateway.

use super::CommandError;
use super::send::send;
use crate::cli::{Channel, Command, Estimate, List, Message, Output, Suppression};
use crate::client::{Client, Content, encoded};
use crate::{directory_file, directory_wire, show};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use web::view;

pub(super) async fn ask(client: &Client, command: Command, output: Output) -> Result<ExitCode, CommandError> {
    match command {
        Command::Apply { file, dry_run, prune } => apply(client, &file, dry_run, prune, output).await?,
        Command::Send(what) => {
            let sent = send(client, &what).await?;
            show::submitted(&sent, output);
        }
        Command::Message(what) => message(client, what, output).await?,
        Command::Estimate(what) => estimate(client, what, output).await?,
        Command::Suppression(what) => suppression(client, what, output).await?,
        Command::Forget { address, with_suppressions, yes } => {
            super::forget::forget(client, address, with_suppressions, yes, output).await?;
        }
        Command::Queue => show::queue(&client.get::<Vec<view::QueueLine>>("/api/v1/queue", &[]).await?, output),
        Command::Channel(what) => return channel(client, what, output).await,
        Command::Status => show::status(&client.get::<view::Status>("/api/v1/status", &[]).await?, output),
        Command::Serve { .. }
        | Command::Try { .. }
        | Command::Explain(_)
        | Command::Config(_)
        | Command::Store(_)
        | Command::Backup { .. }
        | Command::Restore { .. }
        | Command::CaptureServer => {
            return Err(CommandError::Other("this command asks no gateway".to_owned()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(client: &Client, file: &Path, dry_run: bool, prune: bool, output: Output) -> Result<(), CommandError> {
    let desired = directory_file::read(file).map_err(|problem| CommandError::Other(problem.to_string()))?;
    let body = directory_wire::to_json(&desired).map_err(CommandError::Other)?;
    let flag = |flag: bool| if flag { "true" } else { "false" };
    let query = [("dry_run", flag(dry_run)), ("prune", flag(prune))];
    let applied: view::Applied = client.post("/api/v1/apply", &query, Content::Json(body)).await?;
    show::applied(&applied, output);
    Ok(())
}

async fn message(client: &Client, what: Message, output: Output) -> Result<(), CommandError> {
    match what {
        Message::List(list) => {
            let query = list_query(&list);
            let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if list.count {
                show::counts(&client.get(&format!("{LIST}/counts"), &query).await?, output);
            } else {
                show::messages(&client.get(LIST, &query).await?, output);
            }
        }
        Message::Show { id, raw: true } => {
            client.get_bytes(&format!("{}/raw", path_of(&id)), |bytes| std::io::stdout().write_all(bytes)).await?;
        }
        Message::Show { id, raw: false } => {
            let message: view::Message = client.get(&path_of(&id), &[]).await?;
            show::message(&message, &events_of(client, &id).await?, output);
        }
        Message::Cancel { id, recipient } => steer(client, &id, "cancel", &of_recipients(&recipient), output).await?,
        Message::Hold { id, recipient } => steer(client, &id, "hold", &of_recipients(&recipient), output).await?,
        Message::Release { id: Some(id), recipient, .. } => {
            steer(client, &id, "release", &of_recipients(&recipient), output).await?;
        }
        Message::Release { id: None, channel, .. } => {
            let query: Vec<(&str, &str)> = channel.iter().map(|name| ("channel", name.as_str())).collect();
            show::released(client.post("/api/v1/restored/release", &query, Content::Nothing).await?, output);
        }
        Message::Retry { id, recipient } => {
            let path = format!("{}/retry", path_of(&id));
            show::retried(&client.post(&path, &of_recipients(&recipient), Content::Nothing).await?, output);
        }
    }
    Ok(())
}

/// Everything that happened to a message, page after page.
async fn events_of(client: &Client, id: &str) -> Result<Vec<view::Event>, CommandError> {
    let path = format!("{}/events", path_of(id));
    let (mut events, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page: view::Page<view::Event> = client.get(&path, &[("limit", "1000"), ("after", &after)]).await?;
        events.extend(page.data);
        match page.next {
            Some(next) => after = next,
            None => return Ok(events),
        }
    }
}

fn of_recipients(addresses: &[String]) -> Vec<(&'static str, &str)> {
    addresses.iter().map(|address| ("recipient", address.as_str())).collect()
}

async fn estimate(client: &Client, what: Estimate, output: Output) -> Result<(), CommandError> {
    let asked = view::EstimateRequest {
        channel: what.channel,
        from: what.from,
        lane: what.lane,
        messages: what.messages,
        recipients: Some(what.recipients),
        bytes: what.bytes,
    };
    let json = serde_json::to_vec(&asked).map_err(|problem| CommandError::about("the request", problem))?;
    show::estimate(&client.post("/api/v1/estimates", &[], Content::Json(json.into())).await?, output);
    Ok(())
}

async fn suppression(client: &Client, what: Suppression, output: Output) -> Result<(), CommandError> {
    match what {
        Suppression::List { team, limit, after } => {
            let limit = limit.to_string();
            let wanted = [("limit", Some(&limit)), ("team", team.as_ref()), ("after", after.as_ref())];
            let query: Vec<(&str, &str)> =
                wanted.into_iter().filter_map(|(name, value)| value.map(|value| (name, value.as_str()))).collect();
            show::suppressions(&client.get("/api/v1/suppressions", &query).await?, output);
        }
        Suppression::Remove { address, team } => {
            let query: Vec<(&str, &str)> = team.iter().map(|team| ("team", team.as_str())).collect();
            show::unsuppressed(&client.delete(&format!("/api/v1/suppressions/{}", encoded(&address)), &query).await?, output);
        }
    }
    Ok(())
}

const LIST: &str = "/api/v1/messages";

fn path_of(id: &str) -> String {
    format!("{LIST}/{}", encoded(id))
}

fn list_query(list: &List) -> Vec<(String, String)> {
    let mut query: Vec<(String, String)> = list.status.iter().map(|status| ("status".to_owned(), status.clone())).collect();
    query.extend(list.tag.iter().map(|(key, value)| (format!("tag.{key}"), value.clone())));
    let limit = (!list.count).then(|| list.limit.to_string());
    let single = [
        ("channel", &list.channel),
        ("person", &list.person),
        ("team", &list.team),
        ("lane", &list.lane),
        ("recipient", &list.recipient),
        ("from", &list.from),
        ("subject", &list.subject),
        ("waiting_on", &list.waiting_on),
        ("created_after", &list.created_after),
        ("created_before", &list.created_before),
        ("after", &list.after),
        ("limit", &limit),
    ];
    query.extend(single.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), value))));
    query
}

async fn steer(client: &Client, id: &str, verb: &str, query: &[(&str, &str)], output: Output) -> Result<(), CommandError> {
    let steered: view::Steered = client.post(&format!("{}/{verb}", path_of(id)), query, Content::Nothing).await?;
    show::steered(&steered, verb, output);
    Ok(())
}

async fn channel(client: &Client, what: Channel, output: Output) -> Result<ExitCode, CommandError> {
    let path = |name: &str| format!("/api/v1/channels/{}", encoded(name));
    match what {
        Channel::List => show::channels(&client.get::<Vec<view::Channel>>("/api/v1/channels", &[]).await?, output),
        Channel::Show { name } => show::channel_detail(&client.get(&path(&name), &[]).await?, output),
        Channel::Pause { name } => {
            show::channel(&client.post(&format!("{}/pause", path(&name)), &[], Content::Nothing).await?, output);
        }
        Channel::Resume { name } => {
            show::channel(&client.post(&format!("{}/resume", path(&name)), &[], Content::Nothing).await?, output);
        }
        Channel::Test { name, from } => {
            let query: Vec<(&str, &str)> = from.iter().map(|from| ("from", from.as_str())).collect();
            let report: view::TestReport = client.post(&format!("{}/test", path(&name)), &query, Content::Nothing).await?;
            show::test(&report, output);
            return Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
