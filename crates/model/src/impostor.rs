//! What a file is that has the name of a weight file and is none.

/// What `bytes` really are, with advice, where their beginning tells.
pub(crate) fn unmask(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 7] = [
        (
            b"version https://git-lfs",
            "a pointer of Git LFS instead of the file; `git lfs pull` in its folder brings the file",
        ),
        (b"<!", "a web page; download the file that it leads to"),
        (b"<html", "a web page; download the file that it leads to"),
        (b"PK\x03\x04", PICKLED),
        (b"\x80\x02", PICKLED),
        (b"GGUF", "a GGUF file; give it a name that ends in .gguf"),
        (b"{", "a text; is the name that of another file?"),
    ];
    KNOWN.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, what)| *what)
}

const PICKLED: &str =
    "an archive or pickled object, which can run code and is not read; convert it to safetensors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_under_wrong_names_are_known() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert!(unmask(pointer).is_some_and(|what| what.contains("git lfs pull")));
        assert!(unmask(b"<!DOCTYPE html>").is_some_and(|what| what.contains("web page")));
        assert!(unmask(b"PK\x03\x04").is_some_and(|what| what.contains("can run code")));
        assert_eq!(unmask(b"\x10\0\0\0\0\0\0\0{"), None);
        assert_eq!(unmask(b""), None);
    }
}
