//! What a client hears of its place in the queue.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use pagoda_engine::Placement;
use std::time::Duration;

const POSITION: HeaderName = HeaderName::from_static("x-pagoda-queue-position");
const START: HeaderName = HeaderName::from_static("x-pagoda-expected-start-ms");
const FINISH: HeaderName = HeaderName::from_static("x-pagoda-expected-finish-ms");

/// The place of a call: where its first request is, and when its last is expected to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    position: u32,
    /// Until the first step and until the end, in milliseconds.
    expected: Option<(u64, u64)>,
}

impl Place {
    /// The place of a call with these requests; `None` if the engine placed none.
    pub(crate) fn of(requests: &[Placement]) -> Option<Self> {
        let first = requests.first()?;
        let finish =
            requests.iter().filter_map(|request| request.estimate).map(|estimate| estimate.finish).max();
        let expected = first.estimate.zip(finish);
        let expected = expected.map(|(estimate, finish)| (millis(estimate.start), millis(finish)));
        Some(Self { position: first.position, expected })
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(POSITION, HeaderValue::from(self.position));
        if let Some((start, finish)) = self.expected {
            headers.insert(START, HeaderValue::from(start));
            headers.insert(FINISH, HeaderValue::from(finish));
        }
    }

    /// The same as a comment in a stream. `None` if it starts at once, because some readers take the first bytes for the
    /// first token.
    pub(crate) fn comment(&self) -> Option<Bytes> {
        let waits = self.position > 0 || self.expected.is_some_and(|(start, _)| start > 0);
        let expected = self.expected.map_or_else(String::new, |(start, finish)| {
            format!(", expected start in {start} ms, expected finish in {finish} ms")
        });
        waits.then(|| Bytes::from(format!(": queue position {}{expected}\n\n", self.position)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_engine::Estimate;

    fn placed(position: u32, start: u64, finish: u64) -> Placement {
        let ms = Duration::from_millis;
        let estimate = Estimate { position, start: ms(start), first_token: ms(start), finish: ms(finish) };
        Placement { position, estimate: Some(estimate) }
    }

    #[test]
    fn a_call_starts_with_its_first_request_and_ends_with_its_last() {
        let place = Place::of(&[placed(2, 30, 500), placed(3, 40, 900), placed(4, 50, 700)]).unwrap();
        let mut headers = HeaderMap::new();
        place.write(&mut headers);
        assert_eq!(
            (&headers[POSITION], &headers[START], &headers[FINISH]),
            (&HeaderValue::from(2), &HeaderValue::from(30), &HeaderValue::from(900))
        );
        let comment = ": queue position 2, expected start in 30 ms, expected finish in 900 ms\n\n";
        assert_eq!(place.comment().unwrap(), Bytes::from(comment));
    }

    #[test]
    fn what_starts_at_once_hears_no_comment() {
        assert!(Place::of(&[]).is_none());
        assert_eq!(Place::of(&[placed(0, 0, 500)]).unwrap().comment(), None);
        let unknown = Placement { position: 1, estimate: None };
        assert_eq!(Place::of(&[unknown]).unwrap().comment().unwrap(), Bytes::from(": queue position 1\n\n"));
    }
}
