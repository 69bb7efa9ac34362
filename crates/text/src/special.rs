//! The named special tokens and chat templates of tokenizer_config.json and special_tokens_map.json.

use serde_json::{Map, Value};

use crate::TextError;
use crate::tokenizer_class::TokenizerClass;

/// The roles a special token can have, as the configuration files spell them.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// Special tokens by role, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    roles: [Option<String>; ROLES.len()],
    /// Roles that the model's authors named.
    named: Vec<(String, String)>,
    additional: Vec<String>,
}

impl SpecialTokens {
    /// Text of the token with this role: `bos_token`, `eos_token`, `unk_token`, `pad_token`, `sep_token`,
    /// `cls_token`, `mask_token`, or one that the model's authors named, such as `image_token`.
    pub fn get(&self, role: &str) -> Option<&str> {
        self.entries().find(|(name, _)| *name == role).map(|(_, text)| text)
    }

    /// Pairs of role and text, for the roles that have a token.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let usual = ROLES.into_iter().zip(&self.roles);
        let named = self.named.iter().map(|(role, text)| (role.as_str(), text.as_str()));
        usual.filter_map(|(role, text)| Some((role, text.as_deref()?))).chain(named)
    }

    fn set(&mut self, role: &str, text: Option<String>) {
        if let Some(index) = ROLES.iter().position(|name| *name == role) {
            self.roles[index] = text;
        } else {
            self.named.retain(|(name, _)| name != role);
            self.named.extend(text.map(|text| (role.to_owned(), text)));
        }
    }

    /// Further special tokens without a role.
    pub fn additional(&self) -> &[String] {
        &self.additional
    }
}

/// What the two configuration files say.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    pub(crate) special: SpecialTokens,
    /// Texts that `added_tokens_decoder` marks as special.
    pub(crate) marked_special: Vec<String>,
    /// Roles that the files leave open, with the tokens of the model's class.
    left_open: Vec<(&'static str, &'static str)>,
    /// Name and source; the usual single template is called "default".
    pub(crate) templates: Vec<(String, String)>,
}

impl TokenizerConfig {
    /// Reads tokenizer_config.json, and special_tokens_map.json for what it says otherwise; that file is of old, and not
    /// looked at where the former lists the added tokens. Roles that neither names, not even as null, have the tokens of the
    /// model's class, which config.json tells.
    pub(crate) fn read(
        origin: &str,
        config: Option<&[u8]>,
        map: Option<&[u8]>,
        model: Option<&[u8]>,
    ) -> Result<Self, TextError> {
        let mut read = Self::default();
        let parse =
            |name, bytes: Option<&[u8]>| bytes.map(|bytes| JsonFile::parse(origin, name, bytes)).transpose();
        let config = parse("tokenizer_config.json", config)?;
        let lists_added = config.as_ref().is_some_and(|file| file.get("added_tokens_decoder").is_some());
        let map = parse("special_tokens_map.json", map.filter(|_| !lists_added))?;
        let class = TokenizerClass::of(parse("config.json", model)?.as_ref(), config.as_ref());
        let open =
            |role: &&(&str, &str)| !config.iter().chain(&map).any(|file| file.object.contains_key(role.0));
        read.left_open = class.iter().flat_map(|class| class.roles()).filter(open).copied().collect();
        if let Some(file) = &config {
            read.take_roles(file)?;
            read.take_marked(file)?;
            read.take_templates(file)?;
        }
        if let Some(file) = &map {
            read.take_roles(file)?;
        }
        Ok(read)
    }

    /// Gives the roles that were left open the tokens of the model's class which the vocabulary has.
    pub(crate) fn fill_open(&mut self, has: impl Fn(&str) -> bool) {
        for (role, text) in std::mem::take(&mut self.left_open) {
            if has(text) {
                self.special.set(role, Some(text.to_owned()));
            }
        }
    }

    fn take_roles(&mut self, file: &JsonFile) -> Result<(), TextError> {
        for (role, value) in &file.object {
            let named = role.ends_with("_token") && (value.is_string() || value.get("content").is_some());
            if value.is_null() {
                self.special.set(role, None);
            } else if named || ROLES.contains(&role.as_str()) {
                self.special.set(role, Some(file.token_text(role, value)?));
            }
        }
        for field in ["additional_special_tokens", "extra_special_tokens"] {
            let values: Vec<&Value> = match file.get(field) {
                None => continue,
                Some(Value::Array(items)) => items.iter().collect(),
                Some(Value::Object(named)) => {
                    for (role, value) in named {
                        self.special.set(role, Some(file.token_text(&format!("{field}.{role}"), value)?));
                    }
                    continue;
                }
                Some(other) => return Err(file.wrong(field, "a list or an object of tokens", other)),
            };
            for (index, value) in values.into_iter().enumerate() {
                let text = file.token_text(&format!("{field}[{index}]"), value)?;
                if !self.special.additional.contains(&text) {
                    self.special.additional.push(text);
                }
            }
        }
        Ok(())
    }

    fn take_marked(&mut self, file: &JsonFile) -> Result<(), TextError> {
        let tokens = match file.get("added_tokens_decoder") {
            None => return Ok(()),
            Some(Value::Object(tokens)) => tokens,
            Some(other) => return Err(file.wrong("added_tokens_decoder", "an object", other)),
        };
        for (id, token) in tokens {
            if token.get("special").and_then(Value::as_bool) == Some(true) {
                self.marked_special.push(file.token_text(&format!("added_tokens_decoder.{id}"), token)?);
            }
        }
        Ok(())
    }

    fn take_templates(&mut self, file: &JsonFile) -> Result<(), TextError> {
        match file.get("chat_template") {
            None => {}
            Some(Value::String(source)) => self.templates.push(("default".to_owned(), source.clone())),
            Some(Value::Array(entries)) => {
                for (index, entry) in entries.iter().enumerate() {
                    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                    let (Some(name), Some(source)) = (text("name"), text("template")) else {
                        let field = format!("chat_template[{index}]");
                        return Err(file.wrong(&field, "an object with texts `name` and `template`", entry));
                    };
                    self.templates.push((name, source));
                }
            }
            Some(other) => {
                return Err(file.wrong("chat_template", "a text or a list of named templates", other));
            }
        }
        Ok(())
    }
}

/// A parsed JSON object that knows its name for messages.
pub(crate) struct JsonFile {
    name: String,
    object: Map<String, Value>,
}

impl JsonFile {
    fn parse(origin: &str, name: &str, bytes: &[u8]) -> Result<Self, TextError> {
        let name = file_name(origin, name);
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(Self { name, object }),
            Ok(other) => {
                Err(TextError::file(name, "whole file", format!("must be an object, not {}", kind(&other))))
            }
            Err(error) => Err(TextError::file(name, "whole file", format!("is not valid JSON: {error}"))),
        }
    }

    /// The value of a field; an explicit null counts as absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// The text of a field that only chooses between known ones; anything else chooses none.
    pub(crate) fn choice(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    /// A token is written as its text, or as an object with its text under `content`.
    fn token_text(&self, field: &str, value: &Value) -> Result<String, TextError> {
        let text = match value {
            Value::String(text) => Some(text),
            Value::Object(token) => match token.get("content") {
                Some(Value::String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        };
        text.cloned().ok_or_else(|| self.wrong(field, "a text or an object with a text `content`", value))
    }

    fn wrong(&self, field: &str, expected: &str, found: &Value) -> TextError {
        TextError::file(&self.name, field, format!("must be {expected}, not {}", kind(found)))
    }
}

/// `origin/name`, or `name` alone.
pub(crate) fn file_name(origin: &str, name: &str) -> String {
    if origin.is_empty() { name.to_owned() } else { format!("{}/{name}", origin.trim_end_matches('/')) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object of another form",
    }
}
