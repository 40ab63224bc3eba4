//! What a session is begun with: what carries its bytes, and TLS if its client speaks that.

use presenced_tls::RecordLayer;

/// A connection that may carry a session.
#[derive(Debug)]
pub struct Connection<T> {
    /// What carries its bytes.
    pub transport: T,
    /// TLS after its handshake; `None` of a plain connection.
    pub tls: Option<Tls>,
}

/// TLS on a connection.
#[derive(Debug)]
pub struct Tls {
    /// Opens and seals the connection's records.
    pub records: Box<RecordLayer>,
    /// What has come of a record that is not whole.
    pub partial: Vec<u8>,
}

impl<T> From<T> for Connection<T> {
    /// A plain one.
    fn from(transport: T) -> Connection<T> {
        Connection {
            transport,
            tls: None,
        }
    }
}
