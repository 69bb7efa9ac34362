//! Who a call is from: a tenant that a header or an API key names.

use crate::error::ApiError;
use crate::request_id;
use crate::state::ServerState;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
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

    fn id(&self, name: &TenantName) -> TenantId {
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
            TenantName::Key(_) => format!("key-{:08x}", self.id(name).0 >> 32),
        }
    }

    fn weight(&self, id: TenantId) -> Weight {
        self.own.get(&id).copied().unwrap_or(self.default)
    }
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

impl Caller {
    fn new(tenants: &Tenants, headers: &HeaderMap) -> Result<Self, ApiError> {
        let name = named(headers)?;
        let id = name.as_ref().map(|name| tenants.id(name)).unwrap_or_default();
        let label = name.map_or_else(|| DEFAULT.to_owned(), |name| tenants.label(&name));
        let call = request_id::asked(headers).and_then(|call| call.to_str().ok()).map(str::to_owned);
        Ok(Self { tenant: Tenant { id, weight: tenants.weight(id) }, label, call })
    }
}

impl FromRequestParts<ServerState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, ApiError> {
        Self::new(state.tenants(), &parts.headers)
    }
}

/// The name that a call gives: that of `x-tenant`, else its API key, else none.
fn named(headers: &HeaderMap) -> Result<Option<TenantName>, ApiError> {
    if let Some(name) = only(headers, &X_TENANT)? {
        return TenantName::header(name.as_bytes()).map(Some).map_err(|error| bad(&X_TENANT, &error));
    }
    let Some(key) = only(headers, &AUTHORIZATION)?.and_then(|value| bearer(value.as_bytes())) else {
        return Ok(None);
    };
    TenantName::key(key).map(Some).map_err(|error| bad(&AUTHORIZATION, &error))
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

/// The key of a bearer token; `None` for other schemes and for no key at all, which some clients send.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    let key = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !key.is_empty() && rest[0].is_ascii_whitespace())
        .then_some(key)
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
        let caller = |fields: &[_]| Caller::new(&tenants, &headers(fields)).unwrap();
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
    fn a_key_is_shown_nowhere() {
        let tenants = tenants();
        let fields = headers(&[("authorization", b"bearer  sk-secret ")]);
        let caller = Caller::new(&tenants, &fields).unwrap();
        assert!(caller.label.starts_with("key-") && caller.label.len() == 12, "{caller:?}");
        let bad = headers(&[("authorization", b"Bearer sk-secret \xff")]);
        let error = Caller::new(&tenants, &bad).unwrap_err();
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
            let message = Caller::new(&tenants, &headers(fields)).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}
