//! Server-sent events: bytes in any pieces, the data of whole events out.

/// Longest event that is kept, in bytes.
const MAX_EVENT: usize = 16 << 20;

/// Why a stream of events cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an event of more than {MAX_EVENT} bytes")]
pub struct EventTooLong;

/// Cuts a byte stream into events.
///
/// Lines may end with LF, CRLF or CR and be split anywhere; comments, other fields, a byte order mark and events
/// without data are skipped, as the standard asks.
#[derive(Clone, Debug, Default)]
pub struct SseDecoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    past_first_line: bool,
}

impl SseDecoder {
    /// Takes the next bytes and calls `event` with the data of each event that they complete.
    ///
    /// # Errors
    /// [`EventTooLong`]; the decoder is of no further use.
    pub fn push(&mut self, bytes: &[u8], event: &mut impl FnMut(&str)) -> Result<(), EventTooLong> {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_line(event),
                _ if self.line.len() + self.data.len() >= MAX_EVENT => return Err(EventTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// The stream has ended: hands out an event whose closing blank line the server left out.
    pub fn finish(&mut self, event: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.end_line(event);
        }
        self.dispatch(event);
    }

    fn end_line(&mut self, event: &mut impl FnMut(&str)) {
        if self.line.is_empty() {
            self.past_first_line = true;
            return self.dispatch(event);
        }
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let value = match line.strip_prefix(b"data") {
            Some([]) => Some(&[][..]),
            Some([b':', value @ ..]) => Some(value.strip_prefix(b" ").unwrap_or(value)),
            _ => None,
        };
        if let Some(value) = value {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        self.line.clear();
    }

    fn dispatch(&mut self, event: &mut impl FnMut(&str)) {
        if std::mem::take(&mut self.has_data) && !self.data.is_empty() {
            event(&String::from_utf8_lossy(&self.data));
        }
        self.data.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut decoder, mut events) = (SseDecoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, &mut |event| events.push(event.to_owned())).expect("short events");
        }
        decoder.finish(&mut |event| events.push(event.to_owned()));
        events
    }

    #[test]
    fn comments_other_fields_and_empty_events_are_skipped() {
        let stream =
            ": hello\n\nevent: ping\ndata:\n\nid: 3\ndata: {\"a\":1}\nretry: 5\n\n\n\ndata:[DONE]\n\n";
        assert_eq!(decode([stream.as_bytes()]), ["{\"a\":1}", "[DONE]"]);
    }

    #[test]
    fn lines_of_one_event_are_joined_and_a_byte_order_mark_is_dropped() {
        assert_eq!(decode(["\u{feff}data: a\ndata:  b\ndata\n\n".as_bytes()]), ["a\n b\n"]);
    }

    #[test]
    fn a_missing_last_blank_line_loses_nothing() {
        assert_eq!(decode([b"data: a\n\ndata: [DONE]".as_slice()]), ["a", "[DONE]"]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut decoder = SseDecoder::default();
        let piece = vec![b'x'; 1 << 20];
        let outcome = (0..20).try_for_each(|_| decoder.push(&piece, &mut |_| {}));
        assert_eq!(outcome, Err(EventTooLong));
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_line_ends_or_on_where_the_bytes_are_split(
            events in prop::collection::vec("[a-zA-Zäé😀:{} ]{1,12}", 1..8),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 16),
            comments in prop::collection::vec(any::<bool>(), 8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut stream = String::new();
            for (i, event) in events.iter().enumerate() {
                if comments[i] {
                    stream += ": keep-alive";
                    stream += ends[i];
                }
                stream += &format!("data: {event}{}{}", ends[2 * i], ends[2 * i + 1]);
            }
            // A lone CR and a lone LF side by side are one CRLF, so the two ends of an event could merge into one.
            prop_assume!((0..events.len()).all(|i| (ends[2 * i], ends[2 * i + 1]) != ("\r", "\n")));
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
            prop_assert_eq!(decode(pieces), events);
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            decode(pieces.iter().map(Vec::as_slice));
        }
    }
}
