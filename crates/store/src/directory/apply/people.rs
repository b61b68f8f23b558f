//! Teams and people.

use super::{Action, Work, action, differences, parsed};
use crate::directory::DirectoryError;
use crate::directory::desired::{DesiredPerson, DesiredTeam};
use crate::directory::rows::pattern;
use mail::directory::{Role, address_key};
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};
use smtp::{Domain, Mailbox};

impl Work<'_> {
    pub(super) fn team(&mut self, team: &DesiredTeam) -> Result<(), DirectoryError> {
        let after = json!({ "domains": self.team_domains(team), "disabled": false });
        let row = |row: &Row<'_>| {
            let domains: String = row.get(1)?;
            Ok((row.get::<_, u32>(0)?, json!({ "domains": parsed(&domains), "disabled": row.get::<_, bool>(2)? })))
        };
        let sql = "SELECT id, domains, disabled FROM teams WHERE name = ?1";
        let known = self.transaction.query_row(sql, [&team.name], row).optional()?;
        let domains = after["domains"].to_string();
        let Some((id, before)) = known else {
            let sql = "INSERT INTO teams (name, domains, disabled) VALUES (?1, ?2, 0)";
            self.transaction.execute(sql, params![team.name, domains])?;
            self.done("team", &team.name, Action::Added, None, &after);
            return Ok(());
        };
        let fields = differences(&before, &after, &["domains", "disabled"]);
        if !fields.is_empty() {
            self.transaction.execute("UPDATE teams SET domains = ?2, disabled = 0 WHERE id = ?1", params![id, domains])?;
        }
        self.done("team", &team.name, action(fields), Some(&before), &after);
        Ok(())
    }

    fn team_domains(&mut self, team: &DesiredTeam) -> Vec<String> {
        let mut domains = Vec::new();
        for text in &team.domains {
            match Domain::parse(text) {
                Ok(domain) if !domain.is_literal() => domains.push(domain.to_ascii()),
                _ => self.problem(format!(
                    "team '{}': '{}' is not a domain; write it as in example.com",
                    team.name,
                    text.escape_debug()
                )),
            }
        }
        let mut seen = std::collections::HashSet::new();
        domains.retain(|domain| seen.insert(domain.clone()));
        domains
    }

    pub(super) fn person(&mut self, person: &DesiredPerson) -> Result<(), DirectoryError> {
        let Ok(mailbox) = Mailbox::parse(&person.email) else {
            self.problem(format!(
                "person '{}': not an e-mail address; write it as in ana@example.com",
                person.email.escape_debug()
            ));
            return Ok(());
        };
        let after = json!({
            "email": person.email,
            "name": person.name.as_ref().unwrap_or(&person.email),
            "role": self.role(person),
            "teams": self.teams_of(person)?,
            "send_as": self.grants(person),
            "disabled": false,
        });
        let key = address_key(&mailbox);
        let sql = "SELECT id, email, name, role, teams, send_as, disabled FROM people WHERE key = ?1";
        let known = self.transaction.query_row(sql, [&key], person_row).optional()?;
        let text = |field: &str| after[field].as_str().unwrap_or_default().to_owned();
        let columns = (text("email"), text("name"), text("role"), after["teams"].to_string(), after["send_as"].to_string());
        let (email, name, role, teams, send_as) = &columns;
        let Some((id, before)) = known else {
            let sql = "INSERT INTO people (key, email, name, role, teams, send_as, disabled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)";
            self.transaction.execute(sql, params![key, email, name, role, teams, send_as])?;
            self.done("person", &person.email, Action::Added, None, &after);
            return Ok(());
        };
        let fields = differences(&before, &after, &["email", "name", "role", "teams", "send_as", "disabled"]);
        if !fields.is_empty() {
            let sql = "UPDATE people SET email = ?2, name = ?3, role = ?4, teams = ?5, send_as = ?6, disabled = 0 WHERE id = ?1";
            self.transaction.execute(sql, params![id, email, name, role, teams, send_as])?;
        }
        self.done("person", &person.email, action(fields), Some(&before), &after);
        Ok(())
    }

    fn role(&mut self, person: &DesiredPerson) -> Role {
        match person.role.as_deref() {
            None | Some("member") => Role::Member,
            Some("team_admin") => Role::TeamAdmin,
            Some("admin") => Role::Admin,
            Some(other) => {
                let other = other.escape_debug();
                self.problem(format!("person '{}': role '{other}' is unknown; write member, team_admin or admin", person.email));
                Role::Member
            }
        }
    }

    fn teams_of(&mut self, person: &DesiredPerson) -> Result<Vec<u32>, DirectoryError> {
        let mut teams = Vec::new();
        for name in &person.teams {
            match self.team_id(name)? {
                Some(id) if teams.contains(&id) => {}
                Some(id) => teams.push(id),
                None => {
                    let name = name.escape_debug();
                    self.problem(format!(
                        "person '{}': there is no team '{name}' that is switched on; add [[team]] name = \"{name}\", or correct it",
                        person.email
                    ));
                }
            }
        }
        Ok(teams)
    }

    fn grants(&mut self, person: &DesiredPerson) -> Vec<String> {
        let (grants, malformed): (Vec<_>, Vec<_>) = person.send_as.iter().cloned().partition(|text| pattern(text).is_some());
        for text in malformed {
            let text = text.escape_debug();
            self.problem(format!("person '{}': send_as '{text}' is neither an address nor '*@domain'", person.email));
        }
        grants
    }
}

fn person_row(row: &Row<'_>) -> rusqlite::Result<(u32, Value)> {
    let (teams, send_as): (String, String) = (row.get(4)?, row.get(5)?);
    let before = json!({
        "email": row.get::<_, String>(1)?,
        "name": row.get::<_, String>(2)?,
        "role": row.get::<_, String>(3)?,
        "teams": parsed(&teams),
        "send_as": parsed(&send_as),
        "disabled": row.get::<_, bool>(6)?,
    });
    Ok((row.get(0)?, before))
}
