//! Requests as a server receives them; part of [`request`](crate::request).

use crate::key::{ReceivedKey, WordError};
use crate::request::Request;

/// A request as a server receives it. Its keys may be such as no client should send, so nothing writes
/// it: to pass it on, as a proxy does, is to try first whether it is a [`Request`] of
/// [`Key`](crate::Key)s, too.
///
/// ```
/// # use presenced_protocol::{Parsed, Request, encode, request::Parser};
/// let Parsed::Request { request, .. } = Parser::default().parse(b"get a\r\n") else {
///     panic!("a get is a request");
/// };
/// let request: Request<'_> = request.try_into()?;
/// encode::request(&mut Vec::new(), &request);
/// # Ok::<(), presenced_protocol::WordError>(())
/// ```
///
/// ```compile_fail,E0308
/// # use presenced_protocol::{Parsed, Request, encode, request::Parser};
/// # let Parsed::Request { request, .. } = Parser::default().parse(b"get a\r\n") else {
/// #     panic!("a get is a request");
/// # };
/// encode::request(&mut Vec::new(), &request);
/// ```
pub type Received<'a> = Request<'a, ReceivedKey<'a>>;

impl<'a> TryFrom<Received<'a>> for Request<'a> {
    type Error = WordError;

    /// The same request, if its keys may be sent.
    fn try_from(received: Received<'a>) -> Result<Request<'a>, WordError> {
        /// Each variant that has keys, these first, as that of the other type.
        macro_rules! tried {
            ($($variant:ident { $keys:ident $(, $field:ident)* })*) => {
                match received {
                    $(Request::$variant { $keys $(, $field)* } => Request::$variant {
                        $keys: $keys.try_into()?
                        $(, $field)*
                    },)*
                    Request::FlushAll { delay, noreply } => Request::FlushAll { delay, noreply },
                    Request::Verbosity { level, noreply } => Request::Verbosity { level, noreply },
                    Request::MetaNoop => Request::MetaNoop,
                    Request::Version => Request::Version,
                    Request::Quit => Request::Quit,
                }
            };
        }
        Ok(tried! {
            Get { keys, with_cas }
            GetAndTouch { keys, exptime, with_cas }
            Store { key, verb, flags, exptime, value, noreply }
            Arithmetic { key, direction, delta, noreply }
            Touch { key, exptime, noreply }
            Delete { key, noreply }
            MetaGet { key, flags }
            MetaSet { key, value, flags }
            MetaDelete { key, flags }
            MetaArithmetic { key, flags }
            MetaDebug { key, base64 }
            Stats { arguments }
        })
    }
}
