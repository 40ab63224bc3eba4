//! Who is calling: the address that a request comes from.

use std::net::IpAddr;

use hyper::Request;

/// The address that a request comes from, as an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub IpAddr);

impl Caller {
    /// The caller of a request, if the listener knows it.
    pub fn of<B>(request: &Request<B>) -> Option<Caller> {
        request.extensions().get().copied()
    }
}
