//! Bytes that arrive in any cut, out as text at character boundaries.

/// At most this many bytes of an unfinished character are held: a character has at most four.
const HELD: usize = 3;

/// Decodes UTF-8 incrementally. Concatenating everything it emits equals [`String::from_utf8_lossy`] of all bytes:
/// one U+FFFD per maximal invalid part, and none for a character that only arrives in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8Stream {
    held: [u8; HELD],
    len: u8,
}

impl Utf8Stream {
    /// Takes `bytes` and hands every piece of text that is certain to `emit`.
    pub(crate) fn push(&mut self, bytes: &[u8], emit: &mut impl FnMut(&str)) {
        let mut rest = bytes;
        while self.len > 0 && !rest.is_empty() {
            rest = self.complete_held(rest, emit);
        }
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    emit(text);
                    return;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    if !valid.is_empty() {
                        emit(std::str::from_utf8(valid).expect("a prefix that was found valid is valid"));
                    }
                    let Some(invalid) = error.error_len() else {
                        self.hold(tail);
                        return;
                    };
                    emit("\u{FFFD}");
                    rest = &tail[invalid..];
                }
            }
        }
    }

    /// Ends the text: an unfinished character becomes one U+FFFD.
    pub(crate) fn finish(&mut self, emit: &mut impl FnMut(&str)) {
        if self.len > 0 {
            self.len = 0;
            emit("\u{FFFD}");
        }
    }

    fn hold(&mut self, unfinished: &[u8]) {
        self.held[..unfinished.len()].copy_from_slice(unfinished);
        self.len = unfinished.len() as u8;
    }

    /// Tries to finish the held character with the front of `rest`; answers what is left of `rest`.
    fn complete_held<'a>(&mut self, rest: &'a [u8], emit: &mut impl FnMut(&str)) -> &'a [u8] {
        let held = usize::from(self.len);
        let mut buffer = [0; HELD + 1];
        buffer[..held].copy_from_slice(&self.held[..held]);
        let taken = rest.len().min(buffer.len() - held);
        buffer[held..held + taken].copy_from_slice(&rest[..taken]);
        let buffer = &buffer[..held + taken];

        let (used, text) = match std::str::from_utf8(buffer) {
            Ok(text) => (first_char_len(text), Some(text)),
            Err(error) if error.valid_up_to() > 0 => {
                let text = std::str::from_utf8(&buffer[..error.valid_up_to()])
                    .expect("a prefix that was found valid is valid");
                (first_char_len(text), Some(text))
            }
            Err(error) => match error.error_len() {
                // The held bytes are a valid beginning, so the invalid part covers at least them.
                Some(invalid) => (invalid, None),
                None => {
                    self.hold(buffer);
                    return &rest[taken..];
                }
            },
        };
        emit(text.map_or("\u{FFFD}", |text| &text[..used]));
        self.len = 0;
        &rest[used - held..]
    }
}

fn first_char_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(chunks: &[&[u8]]) -> String {
        let mut out = String::new();
        let mut state = Utf8Stream::default();
        for chunk in chunks {
            state.push(chunk, &mut |text| out.push_str(text));
        }
        state.finish(&mut |text| out.push_str(text));
        out
    }

    #[test]
    fn a_character_in_four_pieces_is_held_until_complete() {
        let mut state = Utf8Stream::default();
        let bytes = "🦀".as_bytes();
        for byte in &bytes[..3] {
            state.push(&[*byte], &mut |text| panic!("emitted {text:?} too early"));
        }
        let mut out = String::new();
        state.push(&bytes[3..], &mut |text| out.push_str(text));
        assert_eq!(out, "🦀");
    }

    #[test]
    fn an_interrupted_character_is_one_replacement() {
        assert_eq!(stream(&[b"a\xF0\x9F", b"b"]), "a\u{FFFD}b");
        assert_eq!(stream(&[b"\xF0\x9F\x98", b"\xF0\x9F\x98\x80"]), "\u{FFFD}\u{1F600}");
        assert_eq!(stream(&[b"\xE5", b"\x8F"]), "\u{FFFD}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn any_cut_equals_the_whole(
            parts in prop::collection::vec(prop_oneof![
                Just(b"\xF0\x9F\x98\x80".to_vec()), Just(b"\xE5\x8F\xAB".to_vec()), Just(b"\xC3".to_vec()),
                Just(b"\xED\xA0\x80".to_vec()), Just(b"ab".to_vec()), prop::collection::vec(any::<u8>(), 0..4),
            ], 0..8),
            cut in 1usize..6,
        ) {
            let bytes = parts.concat();
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(stream(&chunks), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
