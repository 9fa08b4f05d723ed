//! From every library's errors to etcd's statuses: the one map.

use std::borrow::Cow;

use api::status::{self, Code, Status};
use http::{HeaderMap, HeaderValue};

/// Why a call failed, as the client will see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// The client has gone, or its request was cut off.
    pub(crate) fn canceled() -> Self {
        status::CONTEXT_CANCELED.into()
    }

    pub(crate) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, text)
    }

    pub(crate) fn unknown(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unknown, text)
    }

    pub(crate) fn unimplemented(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unimplemented, text)
    }

    /// A message over the receive limit, in the words of Go's gRPC.
    pub(crate) fn too_large(length: usize, limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            format!("grpc: received message larger than max ({length} vs. {limit})"),
        )
    }

    /// An answer over the send limit, likewise.
    pub(crate) fn too_large_to_send(length: usize, limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            format!("grpc: trying to send message larger than max ({length} vs. {limit})"),
        )
    }

    /// A message that is no valid protobuf.
    pub(crate) fn undecodable(error: &prost::DecodeError) -> Self {
        Self::internal(format!("grpc: error unmarshalling request: {error}"))
    }

    /// The headers that say so at the end of an answer.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert("grpc-status", HeaderValue::from(u16::from(self.code as u8)));
        if let Ok(text) = HeaderValue::from_str(&percent_encoded(&self.text)) {
            trailers.insert("grpc-message", text);
        }
        trailers
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::new(status.code(), status.text())
    }
}

impl From<mvcc::Error> for Failure {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Compacted => status::COMPACTED.into(),
            mvcc::Error::FutureRevision => status::FUTURE_REV.into(),
            other => Self::unknown(other.to_string()),
        }
    }
}

/// gRPC sends texts as printable ASCII without `%`, the rest percent-encoded.
fn percent_encoded(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_reaches_the_wire_with_its_code_and_text() {
        for known in status::ALL {
            let trailers = Failure::from(*known).trailers();
            assert_eq!(trailers["grpc-status"].to_str().unwrap(), (known.code() as u8).to_string());
            assert_eq!(trailers["grpc-message"].to_str().unwrap(), known.text());
        }
    }

    #[test]
    fn texts_beyond_ascii_are_percent_encoded() {
        assert_eq!(percent_encoded("100% ü\n"), "100%25 %C3%BC%0A");
    }
}
