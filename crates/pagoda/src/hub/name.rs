//! What a user calls a model: a name on the hub, and which of the files there.

use super::{HubId, HubIdError};
use pagoda_model::is_gguf;
use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

/// What people put before a name, as it stands in a browser or as other programs want it.
const PREFIXES: [&str; 4] = ["https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"];

/// A model of the hub: `OWNER/NAME`, `OWNER/NAME:TAG` or `OWNER/NAME/FILE.gguf`, the revision after an `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// Whose it is, what it is called, and the revision.
    pub id: HubId,
    /// Which of its files.
    pub choice: Choice,
}

/// Which files of a repository a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The folder where it has weights of its own; else the GGUF model that most people take.
    Usual,
    /// The GGUF model of this format, such as `Q4_K_M`.
    Tag(String),
    /// This GGUF file, by its path in the repository.
    File(String),
}

impl HubName {
    /// A command of the Python tools that downloads it.
    pub fn other_download(&self) -> String {
        let revision = match self.id.revision.as_str() {
            "main" => String::new(),
            other => format!(" --revision {other}"),
        };
        let files = match &self.choice {
            Choice::Usual => String::new(),
            Choice::Tag(tag) => format!(" --include \"*{tag}*\""),
            Choice::File(file) => format!(" {file}"),
        };
        format!("hf download {}{files}{revision}", self.id.repository())
    }
}

impl From<HubId> for HubName {
    fn from(id: HubId) -> Self {
        Self { id, choice: Choice::Usual }
    }
}

impl FromStr for HubName {
    type Err = HubIdError;

    fn from_str(text: &str) -> Result<Self, HubIdError> {
        let error = || HubIdError::of(text);
        let bare = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
        let (path, revision) = match bare.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (bare, None),
        };
        // A tag may stand before the revision or behind it.
        let (path, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
        let (revision, late) = match revision.and_then(|revision| revision.split_once(':')) {
            Some((revision, tag)) => (Some(revision), Some(tag)),
            None => (revision, None),
        };
        let (repository, file) = split_file(path);
        let choice = match (tag.or(late), file) {
            (None, None) => Choice::Usual,
            (Some(tag), None) if is_tag(tag) && (late.is_none() || late == Some(tag)) => {
                Choice::Tag(tag.to_owned())
            }
            (None, Some(file)) if is_inside(file) => Choice::File(file.to_owned()),
            _ => return Err(error()),
        };
        let id = match revision {
            Some(revision) => format!("{repository}@{revision}").parse(),
            None => repository.parse(),
        };
        Ok(Self { id: id.map_err(|_| error())?, choice })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id.repository())?;
        match &self.choice {
            Choice::Usual => {}
            Choice::Tag(tag) => write!(f, ":{tag}")?,
            Choice::File(file) => write!(f, "/{file}")?,
        }
        if self.id.revision == "main" { Ok(()) } else { write!(f, "@{}", self.id.revision) }
    }
}

/// `OWNER/NAME` and, where a GGUF file is named, its path.
fn split_file(path: &str) -> (&str, Option<&str>) {
    let end = path.match_indices('/').nth(1).map(|(at, _)| at);
    match end.filter(|_| is_gguf(path)) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Letters, digits, `-`, `_` and `.`.
fn is_tag(tag: &str) -> bool {
    let plain = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (1..=64).contains(&tag.len()) && plain
}

/// Whether a path stays in its folder.
pub(super) fn is_inside(path: &str) -> bool {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    inside && (1..=1024).contains(&path.len()) && !path.contains(['\\', '\0', ':']) && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_files_are_meant() {
        let name = |text: &str| text.parse::<HubName>().expect(text);
        let tag = |tag: &str| Choice::Tag(tag.to_owned());
        assert_eq!(name("Qwen/Qwen3-0.6B-GGUF").choice, Choice::Usual);
        assert_eq!(name("Qwen/Qwen3-0.6B-GGUF:Q4_K_M").choice, tag("Q4_K_M"));
        assert_eq!(name("hf.co/a/b:q8_0"), name("https://huggingface.co/a/b:q8_0"));
        assert_eq!(name("a/b@v1:Q8_0"), name("a/b:Q8_0@v1"));
        assert_eq!(name("a/b:Q8_0@v1").id.revision, "v1");
        let file = name("a/b/Q4/x-00001-of-00002.gguf@v1");
        assert_eq!(file.choice, Choice::File("Q4/x-00001-of-00002.gguf".to_owned()));
        assert_eq!((file.id.repository().as_str(), file.id.revision.as_str()), ("a/b", "v1"));
        for text in ["a/b:Q8_0@v1", "a/b/x.gguf@v1", "a/b", "gpt2"] {
            assert_eq!(name(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "a/b:",
            "a/b:x/y",
            "a/b:Q4@v:Q8",
            "a/b/../x.gguf",
            "a/b//x.gguf",
            "a/b/x.gguf:Q4",
            "a/b/c",
            "../a/x.gguf",
        ] {
            assert!(text.parse::<HubName>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_tools_get_their_own_arguments() {
        let other = |text: &str| text.parse::<HubName>().expect(text).other_download();
        assert_eq!(other("a/b"), "hf download a/b");
        assert_eq!(other("a/b:Q4_K_M@v1"), "hf download a/b --include \"*Q4_K_M*\" --revision v1");
        assert_eq!(other("a/b/c.gguf"), "hf download a/b c.gguf");
    }
}
