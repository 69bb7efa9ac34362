//! Name of a model on the hub.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Longest owner or name that the hub gives out.
const LONGEST: usize = 96;

/// `OWNER/NAME` or `NAME`, and after an `@` the revision, `main` if it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// Whose model it is; the oldest models have none.
    pub owner: Option<String>,
    /// Its name.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// Why a text is no name of a model on the hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a model: use OWNER/NAME, for a GGUF file OWNER/NAME:Q4_K_M or OWNER/NAME/FILE.gguf, and for a \
     revision @REVISION behind it"
)]
pub struct HubIdError(String);

impl HubIdError {
    pub(super) fn of(text: &str) -> Self {
        Self(text.chars().take(2 * LONGEST).collect())
    }
}

impl HubId {
    /// `OWNER/NAME`, or `NAME` where there is no owner.
    pub fn repository(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{owner}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Folder of the model in a cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}", self.repository().replace('/', "--"))
    }

    /// The id whose snapshot `path` is, which ends in `models--OWNER--NAME/snapshots/COMMIT`; `None` if it is none.
    pub fn of_snapshot(path: &Path) -> Option<Self> {
        let (commit, snapshots) = (path.file_name()?.to_str()?, path.parent()?);
        let model = snapshots.parent()?.file_name()?.to_str()?;
        let id = Self::of_folder(model).filter(|_| snapshots.ends_with("snapshots"))?;
        Some(Self { revision: commit.to_owned(), ..id })
    }

    /// The id whose folder in a cache is `folder`; `None` if it is no model's.
    pub(super) fn of_folder(folder: &str) -> Option<Self> {
        folder.strip_prefix("models--")?.replacen("--", "/", 1).parse().ok()
    }
}

impl FromStr for HubId {
    type Err = HubIdError;

    fn from_str(text: &str) -> Result<Self, HubIdError> {
        let error = || HubIdError::of(text);
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = match repository.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, repository),
        };
        if owner.is_some_and(|owner| !is_part(owner)) || !is_part(name) || !is_revision(revision) {
            return Err(error());
        }
        Ok(Self { owner: owner.map(str::to_owned), name: name.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Letters, digits, `-`, `_` and `.`, with neither `-` nor `.` at an end or twice in a row.
fn is_part(part: &str) -> bool {
    let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let ends = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
    (1..=LONGEST).contains(&part.len()) && plain && !ends && !part.contains("--") && !part.contains("..")
}

/// A revision becomes part of a path, which must not lead out of its folder.
fn is_revision(revision: &str) -> bool {
    let plain = revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    (1..=LONGEST).contains(&revision.len()) && plain && !revision.starts_with('/') && !revision.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        for text in ["gpt2", "Qwen/Qwen2.5-0.5B-Instruct", "a_b/c.d@v1.0", "o/n@refs/pr/3"] {
            let id: HubId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        let id: HubId = "meta-llama/Llama-3.2-1B@main".parse().unwrap();
        assert_eq!(id.to_string(), "meta-llama/Llama-3.2-1B");
        assert_eq!(id.folder(), "models--meta-llama--Llama-3.2-1B");
        assert_eq!(HubId::of_folder(&id.folder()), Some(id));
        assert_eq!(HubId::of_folder("datasets--a--b"), None);
    }

    #[test]
    fn a_snapshot_tells_whose_it_is() {
        let id = |path: &str| HubId::of_snapshot(Path::new(path)).map(|id| id.to_string());
        assert_eq!(id("/hub/models--org--small/snapshots/abc").as_deref(), Some("org/small@abc"));
        for path in
            ["/hub/models--org--small/blobs/abc", "/hub/small/snapshots/abc", "/models--a--b", "x", ""]
        {
            assert_eq!(id(path), None, "{path}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_id() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "../x",
            "a/..",
            "a b",
            "a--b/c",
            ".hidden/x",
            "a@",
            "a@../b",
            "a@/x",
            "ü/x",
        ] {
            assert!(text.parse::<HubId>().is_err(), "{text:?}");
        }
        assert!("x".repeat(97).parse::<HubId>().is_err());
    }
}
