//! Who a call is from: a tenant that a header or an API key names.

use crate::credential;
use crate::error::ApiError;
use crate::request_id;
use crate::state::ServerState;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use pagoda_engine::{Tenant, TenantId, Weight};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

/// Names the tenant of a call; goes before the API key.
const X_TENANT: HeaderName = HeaderName::from_static("x-tenant");

/// Longest name of a tenant, bytes.
const MAX_NAME: usize = 256;

/// What calls without a name belong to, and what a name in `x-tenant` may say to mean the same.
const DEFAULT: &str = "default";

/// What names a tenant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum TenantName {
    /// Value of the header `x-tenant`.
    Header(String),
    /// An API key: what stands after `Bearer` in the header `authorization`.
    Key(String),
}

/// Why something is no name of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantNameError {
    /// Empty or too long.
    #[error("has {bytes} bytes; allowed: 1 to {MAX_NAME}")]
    Length {
        /// Bytes of the name.
        bytes: usize,
    },
    /// Has spaces, control characters or characters beyond ASCII.
    #[error("has the byte {byte:#04x} at {at}; allowed: visible ASCII without spaces")]
    Character {
        /// Where, from 0.
        at: usize,
        /// What.
        byte: u8,
    },
}

impl TenantName {
    /// A name as `x-tenant` gives it.
    ///
    /// # Errors
    /// For anything but 1 to 256 bytes of visible ASCII.
    pub fn header(name: &[u8]) -> Result<Self, TenantNameError> {
        if !(1..=MAX_NAME).contains(&name.len()) {
            return Err(TenantNameError::Length { bytes: name.len() });
        }
        visible(name).map(Self::Header)
    }

    /// An API key, of any length that a request head admits.
    ///
    /// # Errors
    /// If it is empty or not visible ASCII.
    pub fn key(key: &[u8]) -> Result<Self, TenantNameError> {
        if key.is_empty() {
            return Err(TenantNameError::Length { bytes: 0 });
        }
        visible(key).map(Self::Key)
    }
}

fn visible(bytes: &[u8]) -> Result<String, TenantNameError> {
    if let Some(at) = bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        return Err(TenantNameError::Character { at, byte: bytes[at] });
    }
    Ok(bytes.iter().copied().map(char::from).collect())
}

/// Keys are never shown.
impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::Key(_) => f.write_str("Key(..)"),
        }
    }
}

/// Shares of tenants, for [`ServerConfig`](crate::ServerConfig).
#[derive(Clone, Debug, Default)]
pub struct TenantWeights {
    /// Share of every tenant that has none of its own.
    default: Weight,
    named: Vec<(TenantName, Weight)>,
}

impl TenantWeights {
    /// Every tenant has the share `default`, the one of calls without a name included.
    pub fn new(default: Weight) -> Self {
        Self { default, named: Vec::new() }
    }

    /// Gives a tenant a share of its own. Returns `false` and changes nothing if it has one.
    #[must_use]
    pub fn set(&mut self, name: TenantName, weight: Weight) -> bool {
        let fresh = self.named.iter().all(|(known, _)| *known != name);
        if fresh {
            self.named.push((name, weight));
        }
        fresh
    }
}

/// Turns names into ids and shares.
///
/// An id is a hash that is keyed afresh by every process, so nothing that a client sends is kept, nobody can choose a
/// name that meets another's id, and an id tells nothing of a key.
#[derive(Debug)]
pub(crate) struct Tenants {
    hasher: RandomState,
    default: Weight,
    own: HashMap<TenantId, Weight>,
    /// The tenants with a share of their own, as metrics name them.
    labels: Vec<(TenantId, String)>,
}

impl Tenants {
    pub(crate) fn new(weights: &TenantWeights) -> Self {
        let mut tenants = Self {
            hasher: RandomState::new(),
            default: weights.default,
            own: HashMap::new(),
            labels: Vec::new(),
        };
        for (name, weight) in &weights.named {
            let id = tenants.id(name);
            tenants.own.insert(id, *weight);
            tenants.labels.push((id, tenants.label(name)));
        }
        tenants
    }

    /// The tenants that the operator knows, each with its label.
    pub(crate) fn known(&self) -> &[(TenantId, String)] {
        &self.labels
    }

    pub(crate) fn id(&self, name: &TenantName) -> TenantId {
        match name {
            TenantName::Header(name) if name == DEFAULT => TenantId::default(),
            // Zero is the default tenant's.
            _ => TenantId(self.hasher.hash_one(name).max(1)),
        }
    }

    /// How metrics name a tenant: what it calls itself, or a few digits of a key's id.
    fn label(&self, name: &TenantName) -> String {
        match name {
            TenantName::Header(name) => name.clone(),
            TenantName::Key(_) => key_label(self.id(name)),
        }
    }

    fn weight(&self, id: TenantId) -> Weight {
        self.own.get(&id).copied().unwrap_or(self.default)
    }
}

/// A few digits of a key's id.
fn key_label(key: TenantId) -> String {
    format!("key-{:08x}", key.0 >> 32)
}

/// The tenant of one call.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    /// How metrics name it.
    pub(crate) label: String,
    /// What the caller named the call, if it did.
    pub(crate) call: Option<String>,
}

/// The API key that let a call in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    id: TenantId,
}

impl Admitted {
    pub(crate) fn new(tenants: &Tenants, key: &TenantName) -> Self {
        Self { id: tenants.id(key) }
    }

    /// Stands for the key, of which it tells nothing.
    pub(crate) fn id(self) -> TenantId {
        self.id
    }
}

/// What says who calls.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// An open server: what the caller says of itself.
    Headers,
    /// The key alone.
    Key(Admitted),
    /// What the caller says of itself, else the key.
    KeyOrHeader(Admitted),
}

impl Caller {
    fn new(tenants: &Tenants, headers: &HeaderMap, source: Source) -> Result<Self, ApiError> {
        let of = |name: TenantName| (tenants.id(&name), tenants.label(&name));
        let by_name = match source {
            Source::Headers => named(headers)?.map(of),
            Source::KeyOrHeader(_) => in_header(headers)?.map(of),
            Source::Key(_) => refuse_header(headers)?,
        };
        let (id, label) = match (by_name, source) {
            (Some(named), _) => named,
            (None, Source::Key(key) | Source::KeyOrHeader(key)) => (key.id, key_label(key.id)),
            (None, Source::Headers) => (TenantId::default(), DEFAULT.to_owned()),
        };
        let call = request_id::asked(headers).and_then(|call| call.to_str().ok()).map(str::to_owned);
        Ok(Self { tenant: Tenant { id, weight: tenants.weight(id) }, label, call })
    }
}

impl FromRequestParts<ServerState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        let source = match parts.extensions.get().copied() {
            None => Source::Headers,
            Some(key) if state.config().trust_tenant_header => Source::KeyOrHeader(key),
            Some(key) => Source::Key(key),
        };
        Self::new(state.tenants(), &parts.headers, source)
    }
}

/// The name that a call to an open server gives: that of `x-tenant`, else its API key, else none.
fn named(headers: &HeaderMap) -> Result<Option<TenantName>, ApiError> {
    if let Some(name) = in_header(headers)? {
        return Ok(Some(name));
    }
    for carrier in &credential::CARRIERS {
        let Some(value) = only(headers, carrier)? else { continue };
        if let Some(key) = credential::key_of(carrier, value.as_bytes()) {
            return TenantName::key(key).map(Some).map_err(|error| bad(carrier, &error));
        }
    }
    Ok(None)
}

/// Beside a key that was asked for, a name could be anybody's.
fn refuse_header<T>(headers: &HeaderMap) -> Result<Option<T>, ApiError> {
    if !headers.contains_key(X_TENANT) {
        return Ok(None);
    }
    let message = "the API key says who calls; leave x-tenant out, or let the operator start the server with \
                   --trust-tenant-header";
    Err(ApiError::invalid(X_TENANT.as_str(), message))
}

fn in_header(headers: &HeaderMap) -> Result<Option<TenantName>, ApiError> {
    let name = only(headers, &X_TENANT)?.map(|name| TenantName::header(name.as_bytes()));
    name.transpose().map_err(|error| bad(&X_TENANT, &error))
}

/// The one value of a header.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => {
            let message = format!("the header {name} is there more than once; send it once");
            Err(ApiError::invalid(name.as_str(), message))
        }
    }
}

/// Says what is wrong with a header, and never its value.
fn bad(header: &HeaderName, error: &TenantNameError) -> ApiError {
    ApiError::invalid(header.as_str(), format!("the header {header} {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &'static [u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        fields.iter().map(pair).collect()
    }

    fn weight(text: &str) -> Weight {
        text.parse().unwrap()
    }

    fn tenants() -> Tenants {
        let mut weights = TenantWeights::new(weight("2"));
        assert!(weights.set(TenantName::header(b"a").unwrap(), weight("3")));
        assert!(weights.set(TenantName::key(b"a").unwrap(), weight("4")));
        assert!(!weights.set(TenantName::key(b"a").unwrap(), weight("5")));
        Tenants::new(&weights)
    }

    #[test]
    fn the_header_goes_before_the_key_and_the_key_before_nothing() {
        let tenants = tenants();
        let caller = |fields: &[_]| Caller::new(&tenants, &headers(fields), Source::Headers).unwrap();
        let (by_header, by_key) = (caller(&[("x-tenant", b"a")]), caller(&[("authorization", b"Bearer a")]));
        assert_eq!(by_header.tenant.weight, weight("3"));
        assert_eq!(by_key.tenant.weight, weight("4"));
        assert_ne!(by_header.tenant.id, by_key.tenant.id);
        let both = caller(&[("x-tenant", b"a"), ("authorization", b"Bearer b")]);
        assert_eq!(both.tenant, by_header.tenant);
        let other = caller(&[("x-tenant", b"b")]);
        assert_eq!(other.tenant.weight, weight("2"));
        assert_ne!(other.tenant.id, by_header.tenant.id);
        let basic: &[(&str, &[u8])] = &[("authorization", b"Basic YTpi")];
        let empty: &[(&str, &[u8])] = &[("authorization", b"Bearer ")];
        for fields in [&[], basic, empty] {
            assert_eq!(caller(fields).tenant, Tenant { id: TenantId(0), weight: weight("2") }, "{fields:?}");
        }
        assert_eq!(caller(&[("x-tenant", b"default")]).tenant.id, TenantId(0));
        assert_ne!(caller(&[("authorization", b"Bearer default")]).tenant.id, TenantId(0));
    }

    #[test]
    fn three_headers_carry_the_key_of_an_open_server() {
        let tenants = tenants();
        let id = |fields: &[_]| Caller::new(&tenants, &headers(fields), Source::Headers).unwrap().tenant.id;
        let key = id(&[("authorization", b"Bearer a")]);
        assert_eq!([id(&[("x-api-key", b"a")]), id(&[("api-key", b"a")])], [key, key]);
        assert_eq!(id(&[("authorization", b"Bearer "), ("x-api-key", b"a")]), key);
        assert_eq!(id(&[("authorization", b"Bearer a"), ("x-api-key", b"b")]), key);
    }

    #[test]
    fn beside_a_key_a_name_counts_only_where_it_is_trusted() {
        let tenants = tenants();
        let key = Admitted::new(&tenants, &TenantName::key(b"a").unwrap());
        let fields = headers(&[("x-tenant", b"a"), ("authorization", b"Bearer other")]);
        let error = Caller::new(&tenants, &fields, Source::Key(key)).unwrap_err();
        assert!(error.to_string().contains("--trust-tenant-header"), "{error}");
        let trusted = Caller::new(&tenants, &fields, Source::KeyOrHeader(key)).unwrap();
        assert_eq!((trusted.label.as_str(), trusted.tenant.weight), ("a", weight("3")));
        for source in [Source::Key(key), Source::KeyOrHeader(key)] {
            let caller = Caller::new(&tenants, &headers(&[("authorization", b"Bearer b")]), source).unwrap();
            assert_eq!((caller.tenant.id, caller.tenant.weight), (key.id, weight("4")));
            assert!(caller.label.starts_with("key-"), "{caller:?}");
        }
    }

    #[test]
    fn a_key_is_shown_nowhere() {
        let tenants = tenants();
        let fields = headers(&[("authorization", b"bearer  sk-secret ")]);
        let caller = Caller::new(&tenants, &fields, Source::Headers).unwrap();
        assert!(caller.label.starts_with("key-") && caller.label.len() == 12, "{caller:?}");
        let bad = headers(&[("authorization", b"Bearer sk-secret \xff")]);
        let error = Caller::new(&tenants, &bad, Source::Headers).unwrap_err();
        let shown = format!("{caller:?} {tenants:?} {:?} {error}", TenantName::Key("sk-secret".into()));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_header_that_is_no_name_is_refused_by_name() {
        let tenants = tenants();
        let long: &'static [u8] = Box::leak(vec![b'x'; MAX_NAME + 1].into());
        for (fields, part) in [
            (&[("x-tenant", &b""[..])][..], "x-tenant has 0 bytes"),
            (&[("x-tenant", long)], "x-tenant has 257 bytes; allowed: 1 to 256"),
            (&[("x-tenant", b"a b")], "x-tenant has the byte 0x20 at 1"),
            (&[("x-tenant", b"\xc3\xa9")], "x-tenant has the byte 0xc3 at 0"),
            (&[("x-tenant", b"a"), ("x-tenant", b"b")], "x-tenant is there more than once"),
            (&[("authorization", b"Bearer a b")], "authorization has the byte 0x20 at 1"),
        ] {
            let message = Caller::new(&tenants, &headers(fields), Source::Headers).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}
