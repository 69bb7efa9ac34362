//! Which GGUF models a repository has, and which of them is meant.

use super::name::Choice;
use crate::memory::show_bytes;
use pagoda_model::{gguf_part, is_gguf};
use std::collections::BTreeMap;
use std::fmt;

/// Formats that are taken where none is asked for, the first that is there.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// A GGUF model: a file, or the parts of a split set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GgufModel {
    /// Paths of its files, the first part first.
    pub files: Vec<String>,
    /// Bytes of all.
    pub bytes: u64,
    /// Parts that the names speak of.
    pub parts: usize,
}

/// Why none of the models was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotChosen {
    wanted: Choice,
    /// What can be asked for instead, with its size.
    there: Vec<(String, u64)>,
}

impl GgufModel {
    /// Whether all parts are there.
    pub fn is_whole(&self) -> bool {
        self.files.len() == self.parts
    }

    /// The name without folder, part and ending.
    fn stem(&self) -> &str {
        let name = self.files[0].rsplit('/').next().unwrap_or_default();
        gguf_part(name).map_or(&name[..name.len() - ".gguf".len()], |part| part.stem)
    }

    /// The format that the name of the file tells, such as `Q4_K_M` or `UD-Q4_K_XL`.
    pub fn tag(&self) -> Option<&str> {
        let stem = self.stem();
        let starts = stem.char_indices().filter(|(at, _)| is_boundary(stem[..*at].chars().next_back()));
        let mut tags = starts.filter_map(|(at, _)| {
            let rest = &stem[at..];
            let end = rest.find(['-', '.']).unwrap_or(rest.len());
            is_format(&rest[..end]).then_some((at, at + end))
        });
        let (start, end) = tags.next_back()?;
        let start = if stem[..start].to_ascii_uppercase().ends_with("UD-") { start - 3 } else { start };
        Some(&stem[start..end])
    }

    /// Whether the name has `tag` between two marks, in letters of any size.
    fn has(&self, tag: &str) -> bool {
        let (stem, tag) = (self.stem().to_ascii_lowercase(), tag.to_ascii_lowercase());
        stem.match_indices(&tag).any(|(at, found)| {
            let after = stem[at + found.len()..].chars().next();
            is_boundary(stem[..at].chars().next_back()) && after.is_none_or(|next| "-.".contains(next))
        })
    }

    /// What is typed after the name of the repository.
    fn handle(&self) -> String {
        match self.tag() {
            Some(tag) => format!(":{tag}"),
            None => format!("/{}", self.files[0]),
        }
    }
}

/// Whether a word may begin after `before`.
fn is_boundary(before: Option<char>) -> bool {
    before.is_none_or(|before| "-._".contains(before))
}

/// Whether a word is a format of numbers: `Q4_K_M`, `IQ4_XS`, `TQ1_0`, `BF16`, `MXFP4`.
fn is_format(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    let bits = |prefix: &str| {
        let rest = word.strip_prefix(prefix).unwrap_or_default();
        rest.starts_with(|digit: char| digit.is_ascii_digit()) && rest[1..].starts_with('_')
    };
    ["Q", "IQ", "TQ"].into_iter().any(bits)
        || ["F16", "FP16", "BF16", "F32", "FP32"].contains(&word.as_str())
        || word.starts_with("MXFP4")
}

/// The GGUF models among the files of a repository, in the order of their names.
pub fn gguf_models<'a>(files: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<GgufModel> {
    let mut models: BTreeMap<(&str, usize), GgufModel> = BTreeMap::new();
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    for (path, bytes) in files {
        let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
        // Projections of images and statistics of quantisers are no models.
        if !is_gguf(path) || name == ".gguf" || name.contains("mmproj") || name.contains("imatrix") {
            continue;
        }
        let key = gguf_part(path).map_or((path, 1), |part| (part.stem, part.count));
        let model = models.entry(key).or_default();
        model.files.push(path.to_owned());
        model.bytes = model.bytes.saturating_add(bytes);
        model.parts = key.1;
    }
    models.into_values().collect()
}

/// The model that `choice` means.
///
/// # Errors
/// None fits, or several do where none is asked for; with what is there.
pub fn choose<'a>(models: &'a [GgufModel], choice: &Choice) -> Result<&'a GgufModel, NotChosen> {
    // What others call by the same format, as the dynamic variants of it, has the longer name.
    let tagged = |tag: &str| {
        let having = models.iter().filter(|model| model.has(tag));
        having.min_by_key(|model| model.stem().len())
    };
    let chosen = match choice {
        Choice::File(file) => models.iter().find(|model| model.files.contains(file)),
        Choice::Tag(tag) => tagged(tag),
        Choice::Usual => match models {
            [one] => Some(one),
            _ => USUAL.into_iter().find_map(tagged),
        },
    };
    chosen.ok_or_else(|| {
        let mut there: Vec<_> = models.iter().map(|model| (model.handle(), model.bytes)).collect();
        there.sort_by_key(|(_, bytes)| *bytes);
        NotChosen { wanted: choice.clone(), there }
    })
}

impl NotChosen {
    /// What is likely to do instead, `:TAG` or `/FILE`: a usual format, else the largest.
    pub fn instead(&self) -> Option<&str> {
        let mut handles = self.there.iter().map(|(handle, _)| handle.as_str());
        let usual = |handle: &&str| USUAL.iter().any(|tag| handle[1..].eq_ignore_ascii_case(tag));
        handles.clone().find(usual).or_else(|| handles.next_back())
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.there.is_empty()
    }
}

impl fmt::Display for NotChosen {
    /// Completes "REPOSITORY has".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Choice::Usual if self.is_empty() => f.write_str("no GGUF file")?,
            Choice::Usual => f.write_str("several GGUF models and neither Q4_K_M nor Q8_0; add one of")?,
            Choice::Tag(wanted) | Choice::File(wanted) if self.is_empty() => {
                write!(f, "no {wanted}, nor any other GGUF file")?;
            }
            Choice::Tag(wanted) | Choice::File(wanted) => write!(f, "no {wanted}; add one of")?,
        }
        for (index, (handle, bytes)) in self.there.iter().enumerate() {
            write!(f, "{} {handle} ({})", if index > 0 { "," } else { "" }, show_bytes(*bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, u64); 9] = [
        ("README.md", 1),
        ("Big-BF16/Big-BF16-00002-of-00002.gguf", 30),
        ("Big-BF16/Big-BF16-00001-of-00002.gguf", 40),
        ("Big-Q4_K_M.gguf", 20),
        ("Big-UD-Q4_K_M.gguf", 21),
        ("Big-Q4_K_S.gguf", 19),
        ("Big-IQ4_XS.gguf", 18),
        ("mmproj-Big-F16.gguf", 2),
        ("config.json", 1),
    ];

    fn file(choice: Choice) -> Result<String, String> {
        let models = gguf_models(FILES);
        choose(&models, &choice).map(|model| model.files[0].clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_format_chooses_a_model_with_all_its_parts() {
        let tag = |tag: &str| file(Choice::Tag(tag.to_owned()));
        assert_eq!(file(Choice::Usual).as_deref(), Ok("Big-Q4_K_M.gguf"));
        assert_eq!(tag("q4_k_m").as_deref(), Ok("Big-Q4_K_M.gguf"));
        assert_eq!(tag("UD-Q4_K_M").as_deref(), Ok("Big-UD-Q4_K_M.gguf"));
        let parts = gguf_models(FILES);
        let bf16 = choose(&parts, &Choice::Tag("bf16".to_owned())).expect("there is one");
        assert_eq!((bf16.files.len(), bf16.parts, bf16.bytes), (2, 2, 70));
        assert!(bf16.files[0].ends_with("00001-of-00002.gguf") && bf16.is_whole());
        let second = Choice::File("Big-BF16/Big-BF16-00002-of-00002.gguf".to_owned());
        assert_eq!(file(second).as_deref(), Ok("Big-BF16/Big-BF16-00001-of-00002.gguf"));
        // Part of a format is none.
        assert!(tag("Q4_K").is_err() && tag("Q4").is_err());
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let error = file(Choice::Tag("Q5_K_M".to_owned())).expect_err("it is not there");
        assert_eq!(
            error,
            "no Q5_K_M; add one of :IQ4_XS (18 B), :Q4_K_S (19 B), :Q4_K_M (20 B), :UD-Q4_K_M (21 B), :BF16 (70 B)"
        );
        let models = gguf_models([("a-Q5_0.gguf", 5), ("plain.gguf", 6)]);
        let error = choose(&models, &Choice::Usual).expect_err("neither is usual").to_string();
        assert!(error.ends_with("add one of :Q5_0 (5 B), /plain.gguf (6 B)"), "{error}");
        assert_eq!(choose(&[], &Choice::Usual).expect_err("nothing").to_string(), "no GGUF file");
        let only = gguf_models([("plain.gguf", 6)]);
        assert_eq!(choose(&only, &Choice::Usual).map(|model| model.bytes), Ok(6));
    }

    #[test]
    fn formats_are_found_in_names_of_many_makers() {
        for (name, tag) in [
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", Some("q4_k_m")),
            ("llama-2-7b.Q8_0.gguf", Some("Q8_0")),
            ("model_Q5_K_S.gguf", Some("Q5_K_S")),
            ("gpt-oss-20b-mxfp4.gguf", Some("mxfp4")),
            ("Phi-3-mini-4k-instruct-fp16.gguf", Some("fp16")),
            ("a-UD-IQ1_M.gguf", Some("UD-IQ1_M")),
            ("stories.gguf", None),
            ("Q8-is-a-name.gguf", None),
        ] {
            let models = gguf_models([(name, 1)]);
            assert_eq!(models[0].tag(), tag, "{name}");
        }
    }
}
