//! The record layer beside a `ServerConnection` of rustls's, which gets the same bytes: it accepts nothing that rustls
//! refuses, and reads the same from what both accept.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ServerConnection, SupportedCipherSuite};

use super::{Log, client, client_config, said, taken_from};
use crate::handshake::Server;
use crate::limits::FRAGMENT_BYTES_MAX;
use crate::record_layer::{End, HEADER_BYTES, RecordLayer};
use crate::testing::{certificates, craft, go_on_to_next_write_key, suites};

/// A client's records, and two servers that have the same keys.
struct Both {
    client: Box<RecordLayer>,
    ours: Box<RecordLayer>,
    theirs: ServerConnection,
}

impl Both {
    fn new(suite: SupportedCipherSuite) -> Both {
        let (log, mut config) = (Arc::new(Log::default()), client_config(suite));
        config.key_log = log.clone();
        let mut client = client(&Arc::new(config));
        let server = Server::new(certificates()).unwrap();
        let mut theirs = ServerConnection::new(server.config().clone()).unwrap();
        while client.is_handshaking() || client.wants_write() || theirs.wants_write() {
            theirs.read_tls(&mut &*said(&mut client)).unwrap();
            theirs.process_new_packets().unwrap();
            let mut out = Vec::new();
            while theirs.wants_write() {
                theirs.write_tls(&mut out).unwrap();
            }
            let mut out = &*out;
            while !out.is_empty() {
                client.read_tls(&mut out).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        let (client, ours) = taken_from(client, &log, suite);
        Both {
            client,
            ours,
            theirs,
        }
    }

    /// What each reads of `bytes`, and whether it refuses them.
    fn read(&mut self, bytes: &[u8]) -> [(Vec<u8>, Outcome); 2] {
        let mut inbox = bytes.to_vec();
        let opened = self.ours.open(&mut inbox, &mut Vec::new());
        let ours = match opened.end {
            None => Outcome::On,
            Some(End::Closed) => Outcome::Closed,
            Some(End::Alert(_) | End::Fault(_)) => Outcome::Refused,
        };
        let mut data = Vec::new();
        let (mut theirs, mut rest) = (Outcome::On, bytes);
        while !rest.is_empty() && theirs == Outcome::On {
            self.theirs.read_tls(&mut rest).unwrap();
            match self.theirs.process_new_packets() {
                Err(_) => theirs = Outcome::Refused,
                Ok(state) if state.peer_has_closed() => theirs = Outcome::Closed,
                Ok(_) => {}
            }
            let _ = self.theirs.reader().read_to_end(&mut data);
        }
        [(inbox[..opened.data].to_vec(), ours), (data, theirs)]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    On,
    Closed,
    Refused,
}

/// A record of the client.
#[derive(Clone)]
struct Said {
    kind: u8,
    text: Vec<u8>,
    zeros: usize,
    /// A bit that is changed on the way.
    changed: Option<(prop::sample::Index, u8)>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.text[..self.text.len().min(9)];
        let (length, zeros) = (self.text.len(), self.zeros);
        write!(
            f,
            "{} {start:?} of {length}, {zeros} zeros, {:?}",
            self.kind, self.changed
        )
    }
}

fn said_by_client() -> impl Strategy<Value = Said> {
    let typed = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|text| (23, text)),
        3 => (0..3_u8).prop_map(|asks| (22, vec![24, 0, 0, 1, asks])),
        1 => Just((22, [24, 0, 0, 1, 0].repeat(2))),
        // No ClientHello: rustls reads it before it refuses it.
        1 => (2..30_u8, 0..3_usize).prop_map(|(kind, length)| {
            (22, [vec![kind, 0, 0, length as u8], vec![0; length]].concat())
        }),
        2 => (0..4_u8, prop_oneof![Just(0), Just(10), Just(40), Just(90), Just(100), any::<u8>()])
            .prop_map(|(level, alert)| (21, vec![level, alert])),
        1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|text| (21, text)),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..8)),
        1 => (16_380..16_390_usize).prop_map(|length| (23, vec![7; length])),
    ];
    let zeros = prop_oneof![4 => Just(0), 1 => 0..300_usize];
    let changed = prop_oneof![
        6 => Just(None),
        1 => (any::<prop::sample::Index>(), 0..8_u8).prop_map(Some),
    ];
    (typed, zeros, changed).prop_map(|((kind, text), zeros, changed)| Said {
        kind,
        text,
        zeros,
        changed,
    })
}

/// What is refused here and not by rustls, or later: a message of a handshake that is not whole or shares its record with
/// another, which no client sends, what is longer than the RFCs allow, and a header that was changed on the way, of which
/// rustls authenticates only the length.
fn may_be_stricter(said: &[Said]) -> bool {
    said.iter().any(|said| {
        let length = said.text.get(1..4);
        let whole = length.map(|length| 4 + usize::from(length[2]));
        let is_cut = said.kind == 22 && whole != Some(said.text.len());
        is_cut || said.changed.is_some() || said.text.len() + said.zeros > FRAGMENT_BYTES_MAX
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_accepted_that_rustls_refuses(
        suite in 0..suites().len(),
        said in prop::collection::vec(said_by_client(), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let suite = suites()[suite];
        let mut both = Both::new(suite);
        let mut bytes = Vec::new();
        for said in &said {
            let mut record = craft(&mut both.client, said.kind, &said.text, said.zeros);
            if let Some((place, bit)) = said.changed {
                let place = place.index(record.len());
                record[place] ^= 1 << bit;
            }
            bytes.extend(record);
            if suite.tls13().is_some() && said.kind == 22 && matches!(said.text[..], [24, 0, 0, 1, _]) {
                go_on_to_next_write_key(&mut both.client);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let [(data, ours), (their_data, theirs)] = both.read(&bytes);
        let is_same = ours == theirs && data == their_data;
        let is_stricter =
            ours == Outcome::Refused && may_be_stricter(&said) && their_data.starts_with(&data);
        prop_assert!(is_same || is_stricter, "rustls: {:?}, here: {:?}", theirs, ours);
    }
}

/// A ClientHello of a client's, and warnings: rustls bears few of them in a connection, whatever comes between.
#[test]
fn as_few_warnings_are_borne_as_by_rustls() {
    for suite in suites() {
        let mut hello = said(&mut client(&Arc::new(client_config(suite))));
        hello.drain(..HEADER_BYTES);
        let kinds: &[(u8, &[u8], usize)] = match suite.tls13() {
            Some(_) => &[(21, &[1, 90], 4)],
            None => &[(21, &[1, 90], 4), (21, &[1, 41], 4), (22, &hello, 1)],
        };
        for &(kind, text, allowed) in kinds {
            let mut both = Both::new(suite);
            for number in 0..=allowed {
                let mut bytes = craft(&mut both.client, 23, b"data", 0);
                bytes.extend(craft(&mut both.client, kind, text, 0));
                let expected = match number < allowed {
                    true => Outcome::On,
                    false => Outcome::Refused,
                };
                let expected = (b"data".to_vec(), expected);
                let [ours, theirs] = both.read(&bytes);
                assert_eq!(theirs, expected, "rustls: {kind} {number}");
                assert_eq!(ours, expected, "{kind} {number}");
            }
        }
    }
}
