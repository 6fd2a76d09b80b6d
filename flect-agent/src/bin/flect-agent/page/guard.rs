//! Who may ask for what.
//!
//! The `Host` of every request must be this page's own: a name that an attacker's DNS has turned to
//! 127.0.0.1 is not. Only `GET`; no CORS header is ever sent, so no other site can read a reply.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use flect_agent::registry::TokenDigest;

use super::complaint;

/// What all replies bear: kept by nobody, framed by nobody, taken for nothing else.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    // One request a connection, so that the time of a connection is the time of a request.
    (header::CONNECTION, "close"),
];

/// What a request must have.
pub struct Guard {
    hosts: [String; 2],
    token: TokenDigest,
}

impl Guard {
    pub fn new(address: SocketAddr, token: TokenDigest) -> Self {
        Self {
            hosts: [address.to_string(), format!("localhost:{}", address.port())],
            token,
        }
    }

    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else {
            return false;
        };
        self.hosts
            .iter()
            .any(|known| host.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
    }

    fn knows_token(&self, headers: &HeaderMap) -> bool {
        headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .is_some_and(|token| self.token.matches(token))
    }
}

/// Every request.
pub async fn request(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = if !guard.knows_host(request.headers()) {
        complaint(
            StatusCode::MISDIRECTED_REQUEST,
            "ask by the address that `flect status --page` prints",
        )
    } else if request.method() != Method::GET {
        let mut response = complaint(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered");
        let allow = HeaderValue::from_static("GET");
        response.headers_mut().insert(header::ALLOW, allow);
        response
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Requests for data.
pub async fn token(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if guard.knows_token(request.headers()) {
        return next.run(request).await;
    }
    let mut response = complaint(
        StatusCode::UNAUTHORIZED,
        "operators get the token from `flect status --page`; it goes into the header \
         'Authorization: Bearer TOKEN'",
    );
    let scheme = HeaderValue::from_static("Bearer");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    response
}
