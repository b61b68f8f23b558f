//! Tokens: made here and shown once, or given from outside. Only a keyed hash is kept.

use super::{Action, MadeToken, Work, action, differences, has_control_characters, parsed, token_name};
use crate::directory::DirectoryError;
use crate::directory::desired::DesiredToken;
use crate::directory::rows::pattern;
use crate::seal::{SealError, Sealer, Secret};
use mail::Lane;
use mail::directory::TokenSurface;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};

/// A secret given from outside has at least this many characters.
const MIN_TOKEN: usize = 22;

impl Work<'_> {
    pub(super) fn token(&mut self, token: &DesiredToken) -> Result<(), DirectoryError> {
        let shown = token.person.escape_debug();
        let Some(person) = self.person_id(&token.person)? else {
            self.problem(format!(
                "token '{}': there is no person '{shown}' who is switched on; add them, or correct it",
                token.name
            ));
            return Ok(());
        };
        let after = json!({
            "surfaces": self.surfaces(token),
            "channel": self.token_channel(token)?,
            "send_as": self.token_grants(token),
            "lane": self.token_lane(token),
            "disabled": false,
        });
        self.check_secret(token);
        self.write_token(token, person, &after)
    }

    fn surfaces(&mut self, token: &DesiredToken) -> Vec<TokenSurface> {
        let mut surfaces = Vec::new();
        for text in &token.surfaces {
            let surface = match text.as_str() {
                "smtp" => TokenSurface::Smtp,
                "api" => TokenSurface::Api,
                other => {
                    let other = other.escape_debug();
                    self.problem(format!("token '{}': surface '{other}' is unknown; write smtp or api", token.name));
                    continue;
                }
            };
            if !surfaces.contains(&surface) {
                surfaces.push(surface);
            }
        }
        if token.surfaces.is_empty() { vec![TokenSurface::Smtp, TokenSurface::Api] } else { surfaces }
    }

    /// Whether the person may use it is looked at when everything is there.
    fn token_channel(&mut self, token: &DesiredToken) -> Result<Option<u32>, DirectoryError> {
        let Some(name) = &token.channel else { return Ok(None) };
        let sql = "SELECT id FROM channels WHERE name = ?1";
        let found = self.transaction.query_row(sql, [name], |row| row.get(0)).optional()?;
        if found.is_none() {
            let name = name.escape_debug();
            self.problem(format!(
                "token '{}': {} may use no channel '{name}': there is none; add it, or correct it",
                token.name, token.person
            ));
        }
        Ok(found)
    }

    fn token_grants(&mut self, token: &DesiredToken) -> Option<Vec<String>> {
        let texts = token.send_as.as_ref()?;
        let (grants, malformed): (Vec<_>, Vec<_>) = texts.iter().cloned().partition(|text| pattern(text).is_some());
        for text in malformed {
            let text = text.escape_debug();
            self.problem(format!("token '{}': send_as '{text}' is neither an address nor '*@domain'", token.name));
        }
        Some(grants)
    }

    fn token_lane(&mut self, token: &DesiredToken) -> Option<&'static str> {
        let word = token.lane.as_deref()?;
        let lane = Lane::parse(word);
        if lane.is_none() {
            let word = word.escape_debug();
            self.problem(format!("token '{}': lane '{word}' is unknown; write now, normal or bulk", token.name));
        }
        lane.map(Lane::name)
    }

    fn check_secret(&mut self, token: &DesiredToken) {
        let Some(secret) = &token.secret else { return };
        let length = std::str::from_utf8(secret.expose()).map_or(0, |text| text.chars().count());
        if length < MIN_TOKEN {
            self.problem(format!(
                "token '{}': its secret needs {MIN_TOKEN} characters or more, as UTF-8 text; leave it out to have one made",
                token.name
            ));
        }
        if has_control_characters(secret) {
            self.problem(format!("token '{}': its secret holds a line break or another control character", token.name));
        }
    }

    fn write_token(&mut self, token: &DesiredToken, person: u32, after: &Value) -> Result<(), DirectoryError> {
        let name = token_name(&token.name, &token.person);
        let sql = "SELECT id, hash, surfaces, channel, send_as, disabled, lane FROM tokens WHERE person = ?1 AND name = ?2";
        let known = self.transaction.query_row(sql, params![person, token.name], token_row).optional()?;
        let given = token.secret.as_ref().map(|secret| self.sealer.token_hash(secret.expose()));
        if let Some(hash) = &given
            && self.is_taken(hash, known.as_ref().map(|known| known.0))?
        {
            self.problem(format!("token '{}': its secret is another token's already; every token has its own", token.name));
            return Ok(());
        }
        let surfaces = after["surfaces"].to_string();
        let channel = after["channel"].as_i64();
        let lane = after["lane"].as_str();
        let send_as = after["send_as"].is_array().then(|| after["send_as"].to_string());
        let Some((id, hash, before)) = known else {
            let hash = match given {
                Some(hash) => hash,
                None => self.make_token(token)?,
            };
            let sql = "INSERT INTO tokens (person, name, hash, surfaces, channel, send_as, lane, disabled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)";
            self.transaction.execute(sql, params![person, token.name, hash, surfaces, channel, send_as, lane])?;
            self.done("token", &name, Action::Added, None, after);
            return Ok(());
        };
        let new_hash = given.unwrap_or(hash);
        let mut fields = differences(&before, after, &["surfaces", "channel", "send_as", "lane", "disabled"]);
        if new_hash != hash {
            fields.push("secret");
        }
        if !fields.is_empty() {
            let sql =
                "UPDATE tokens SET hash = ?2, surfaces = ?3, channel = ?4, send_as = ?5, lane = ?6, disabled = 0 WHERE id = ?1";
            self.transaction.execute(sql, params![id, new_hash, surfaces, channel, send_as, lane])?;
        }
        self.done("token", &name, action(fields), Some(&before), after);
        Ok(())
    }

    fn is_taken(&self, hash: &[u8; 32], own: Option<u32>) -> Result<bool, DirectoryError> {
        let sql = "SELECT id FROM tokens WHERE hash = ?1";
        let holder: Option<u32> = self.transaction.query_row(sql, [hash], |row| row.get(0)).optional()?;
        Ok(holder.is_some_and(|holder| Some(holder) != own))
    }

    fn make_token(&mut self, token: &DesiredToken) -> Result<[u8; 32], SealError> {
        let secret = new_secret(self.sealer)?;
        let hash = self.sealer.token_hash(secret.expose());
        self.applied.made_tokens.push(MadeToken { person: token.person.clone(), name: token.name.clone(), secret });
        Ok(hash)
    }
}

fn token_row(row: &Row<'_>) -> rusqlite::Result<(u32, [u8; 32], Value)> {
    let (surfaces, send_as): (String, Option<String>) = (row.get(2)?, row.get(4)?);
    let before = json!({
        "surfaces": parsed(&surfaces),
        "channel": row.get::<_, Option<u32>>(3)?,
        "send_as": send_as.as_deref().map(parsed),
        "lane": row.get::<_, Option<String>>(6)?,
        "disabled": row.get::<_, bool>(5)?,
    });
    Ok((row.get(0)?, row.get(1)?, before))
}

/// `sdr_`, an id by which a leaked one can be found, and 256 random bits.
fn new_secret(sealer: &Sealer) -> Result<Secret, SealError> {
    let (id, key): ([u8; 5], [u8; 32]) = (sealer.random()?, sealer.random()?);
    Ok(Secret::new(format!("sdr_{}_{}", base32(&id), base32(&key))))
}

/// Crockford base32, lower case.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut value, mut bits) = (0u32, 0);
    for byte in bytes {
        value = value << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(value >> bits & 31) as usize]));
        }
        value &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(value << (5 - bits) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base32;

    #[test]
    fn five_bits_are_a_letter_and_none_is_lost() {
        assert_eq!(base32(&[]), "");
        assert_eq!(base32(&[0xff]), "zw");
        assert_eq!(base32(&[0, 0x44, 0x32, 0x14, 0xc7]), "01234567");
        assert_eq!(base32(&[0xff; 32]).len(), 52);
    }
}
