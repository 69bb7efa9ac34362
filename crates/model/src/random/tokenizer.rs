//! A stand-in tokenizer: every byte of a text is one token, and every id has a visible text.

use serde_json::{Map, Value, json};

/// Contents of a tokenizer.json for `vocab_size` ids. Ids below 256 are the bytes; an id from there on never comes from
/// text and reads as a space and letters of its own, so that streams show every token.
pub(crate) fn stand_in(vocab_size: u32) -> Vec<u8> {
    let bytes = (0..=u8::MAX).map(|byte| String::from(letter(byte)));
    let words = (256..vocab_size).map(word);
    let vocab: Map<String, Value> =
        bytes.chain(words).zip(0..vocab_size).map(|(text, id)| (text, id.into())).collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    })
    .to_string()
    .into_bytes()
}

/// The letter that stands for a byte in byte-level vocabularies: the byte's own where it is printable, else one of a row
/// of letters from U+0100 on.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !printable(byte)).count() as u32;
    char::from_u32(0x100 + before).expect("letters of Latin Extended-A")
}

/// A space and at least two letters, the id in base 26.
fn word(id: u32) -> String {
    let mut letters = vec![b'a' + (id % 26) as u8];
    let mut rest = id / 26;
    while rest > 0 {
        letters.push(b'a' + (rest % 26) as u8);
        rest /= 26;
    }
    letters.push(b' ');
    letters.into_iter().rev().map(letter).collect()
}
