//! Lists of messages.

use super::read::{MESSAGE, add_recipients, message_from};
use crate::api::{Filter, Listing, Page, StoreError};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// A page of messages, newest first.
pub(crate) fn list(connection: &Connection, filter: &Filter, page: &Page) -> Result<Listing, StoreError> {
    let limit = page.limit.clamp(1, 1000);
    let (sql, values) = select(filter, page, limit + 1);
    let mut statement = connection.prepare(&sql)?;
    let mut messages = statement.query_map(params_from_iter(values), message_from)?.collect::<Result<Vec<_>, _>>()?;
    let has_more = messages.len() > limit;
    messages.truncate(limit);
    if page.before.is_some() {
        messages.reverse();
    }
    for message in &mut messages {
        add_recipients(connection, message)?;
    }
    Ok(Listing { messages, has_more })
}

fn select(filter: &Filter, page: &Page, limit: usize) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {MESSAGE} FROM messages WHERE 1");
    let mut values: Vec<Value> = Vec::new();
    let mut also = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(after) = page.after {
        also("id < ?", Value::Blob(after.0.to_vec()));
    }
    if let Some(before) = page.before {
        also("id > ?", Value::Blob(before.0.to_vec()));
    }
    if let Some(address) = &filter.recipient {
        also("id IN (SELECT message FROM recipients WHERE address = ?)", Value::Text(address.to_lowercase()));
    }
    if let Some(channel) = filter.channel {
        also("channel = ?", Value::Integer(i64::from(channel.0)));
    }
    if let Some(person) = filter.person {
        also("person = ?", Value::Integer(i64::from(person.0)));
    }
    if let Some(after) = filter.after {
        also("at >= ?", Value::Integer(after.0));
    }
    if let Some(before) = filter.before {
        also("at < ?", Value::Integer(before.0));
    }
    if !filter.states.is_empty() {
        let codes: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
        let (codes, rare) = (codes.join(","), filter.states.iter().all(|state| (4..8).contains(&state.code())));
        sql.push_str(&if rare {
            // Said as the partial index says it, so that it is used.
            format!(" AND id IN (SELECT message FROM recipients WHERE state IN ({codes}) AND state > 3 AND state < 8)")
        } else {
            format!(" AND EXISTS (SELECT 1 FROM recipients WHERE message = id AND state IN ({codes}))")
        });
        if filter.states.iter().all(|state| !state.is_final()) {
            sql.push_str(" AND open = 1");
        }
    }
    let order = if page.before.is_some() { "ASC" } else { "DESC" };
    sql.push_str(&format!(" ORDER BY id {order} LIMIT {limit}"));
    (sql, values)
}
