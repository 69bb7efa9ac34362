//! The pages for readers stay true: named paths exist and the limits of length hold.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Targets of the links that lead into the repository.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| !target.contains("://"))
        .collect()
}

/// Paths in backticks that begin with a folder of the repository; what follows them is how they are run.
fn quoted_paths(text: &str) -> Vec<&str> {
    let folders = ["crates/", "tests/", "models/", ".ci/"];
    let quoted = text.split('`').skip(1).step_by(2).filter_map(|words| words.split(' ').next());
    quoted.filter(|word| folders.iter().any(|folder| word.starts_with(folder))).collect()
}

#[test]
fn every_path_that_a_page_names_exists() {
    for name in ["README.md", "ARCHITECTURE.md", "STYLE.md", "CHANGELOG.md"] {
        let text = page(name);
        for target in links(&text).into_iter().chain(quoted_paths(&text)) {
            assert!(root().join(target).exists(), "{name} names {target}, which does not exist");
        }
    }
}

#[test]
fn the_architecture_page_is_one_page() {
    let lines = page("ARCHITECTURE.md").lines().count();
    assert!(lines <= 200, "ARCHITECTURE.md has {lines} lines; it is to stay within 200");
}

#[test]
fn links_and_quoted_paths_are_found() {
    assert_eq!(links("see [a](x/y.rs) and [b](https://z)"), ["x/y.rs"]);
    assert_eq!(quoted_paths("run `crates/cpu` and `cargo`"), ["crates/cpu"]);
}
