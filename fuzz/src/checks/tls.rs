//! TLS: records after a handshake, and what clients begin with.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use presenced_tls::rustls::SupportedCipherSuite;
use presenced_tls::testing::{certificates, craft, ends, go_on_to_next_write_key, suites};
use presenced_tls::{End, HandshakeError, Progress, RecordLayer, Server};

use super::pieces::pieces;

static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(suites);

const ACTS_MAX: usize = 24;

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;

/// What a client does, or somebody between it and the server.
enum Act {
    /// Says something.
    Say(Vec<u8>),
    /// Says so much, perhaps more than one record bears.
    SayMuch(u16),
    /// Says something that need not be allowed.
    Craft { kind: u8, text: Vec<u8>, zeros: u8 },
    /// Goes on to its next key, and perhaps wants the server to.
    Update { is_wanted: bool },
    /// Sends what is no record of its own.
    Insert(Vec<u8>),
    /// Changes a bit of the last record.
    Change { place: u16, bit: u8 },
    /// The server goes on to its next key, speaks, or closes its side.
    Server { closes: bool, says: u8 },
}

/// Takes the bytes as a suite and acts. What the server reads is always the start of what the client has said, however it
/// is cut; what the server says the client can read; and after the end there is nothing.
pub fn tls_records(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if let Ok((suite, acts)) = read(&mut input) {
        let cut = play(suite, &acts, data);
        let whole = play(suite, &acts, &[]);
        assert_eq!(cut, whole, "the cuts make a difference");
    }
}

fn read(input: &mut Unstructured<'_>) -> Result<(SupportedCipherSuite, Vec<Act>)> {
    let suite = *input.choose(&SUITES)?;
    let mut acts = Vec::new();
    while !input.is_empty() && acts.len() < ACTS_MAX {
        acts.push(act(input)?);
    }
    Ok((suite, acts))
}

fn act(input: &mut Unstructured<'_>) -> Result<Act> {
    Ok(match input.int_in_range(0..=6)? {
        0 => Act::Say(some_bytes(input)?),
        1 => Act::SayMuch(input.int_in_range(0..=20_000)?),
        2 => Act::Craft {
            // Mostly one that there is.
            kind: match input.arbitrary()? {
                kind @ 200.. => kind,
                kind => 20 + kind % 4,
            },
            text: some_bytes(input)?,
            zeros: input.arbitrary()?,
        },
        3 => Act::Update {
            is_wanted: input.arbitrary()?,
        },
        4 => Act::Insert(some_bytes(input)?),
        5 => Act::Change {
            place: input.arbitrary()?,
            bit: input.arbitrary()?,
        },
        _ => Act::Server {
            closes: input.ratio(1, 8)?,
            says: input.arbitrary()?,
        },
    })
}

fn some_bytes(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let count = input.int_in_range(0..=40)?.min(input.len());
    input.bytes(count).map(<[u8]>::to_vec)
}

/// What the server has read, and how it ended. What is sent at once is cut as `cuts` says.
fn play(suite: SupportedCipherSuite, acts: &[Act], cuts: &[u8]) -> (Vec<u8>, Option<End>) {
    let (mut client, mut server) = ends(suite);
    let (mut said, mut read, mut end) = (Vec::new(), Vec::new(), None);
    let (mut inbox, mut answers) = (Vec::new(), Vec::new());
    let mut may_be_refused = false;
    let mut server_said = Vec::new();
    for act in acts {
        let mut wire = Vec::new();
        match act {
            Act::Say(text) => {
                client.seal(text, &mut wire).unwrap();
                said.extend(text);
            }
            Act::SayMuch(length) => {
                let text = vec![7; usize::from(*length)];
                client.seal(&text, &mut wire).unwrap();
                said.extend(text);
            }
            Act::Craft { kind, text, zeros } => {
                wire = craft(&mut client, *kind, text, usize::from(*zeros));
                if *kind == DATA {
                    said.extend(text);
                }
                may_be_refused |= *kind != DATA || text.is_empty();
                if suite.tls13().is_some() && is_update(*kind, text) {
                    go_on_to_next_write_key(&mut client);
                }
            }
            Act::Update { is_wanted } if suite.tls13().is_some() => {
                let update = [24, 0, 0, 1, u8::from(*is_wanted)];
                wire = craft(&mut client, HANDSHAKE, &update, 0);
                go_on_to_next_write_key(&mut client);
                // There may be too many in a row.
                may_be_refused = true;
            }
            Act::Update { .. } => {}
            Act::Insert(bytes) => {
                may_be_refused |= !bytes.is_empty();
                wire.clone_from(bytes);
            }
            Act::Change { place, bit } => {
                client.seal(b"changed", &mut wire).unwrap();
                let place = usize::from(*place) % wire.len();
                wire[place] ^= 1 << (bit % 8);
                may_be_refused = true;
            }
            Act::Server { closes, says } => {
                if !server.is_write_closed() {
                    server.update_write(&mut answers);
                    server_said.extend(vec![9; usize::from(*says)]);
                    server
                        .seal(&vec![9; usize::from(*says)], &mut answers)
                        .unwrap();
                }
                if *closes {
                    server.close(&mut answers);
                }
            }
        }
        let cut: Vec<Vec<u8>> = match cuts.is_empty() {
            true => vec![wire],
            false => cut(&wire, cuts),
        };
        for piece in cut {
            inbox.extend(piece);
            let (before, had_ended) = (inbox.len(), end.is_some());
            let opened = server.open(&mut inbox, &mut answers);
            assert!(opened.data <= opened.taken && opened.taken <= before);
            read.extend(&inbox[..opened.data]);
            inbox.drain(..opened.taken);
            match had_ended {
                true => assert_eq!((opened.data, opened.end), (0, end)),
                false => end = opened.end,
            }
        }
        // Its answers alone would be too many in a row for the client.
        if server.seal(b".", &mut answers).is_ok() {
            server_said.push(b'.');
        }
    }
    assert!(said.starts_with(&read), "it has read what was not said");
    if !may_be_refused {
        assert_eq!((&read, end), (&said, None));
    }
    client_reads(&mut client, answers, &server_said, end);
    (read, end)
}

fn is_update(kind: u8, text: &[u8]) -> bool {
    kind == HANDSHAKE && matches!(*text, [24, 0, 0, 1, 0 | 1])
}

/// The same bytes, cut in another way.
fn cut(bytes: &[u8], cuts: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces: Vec<Vec<u8>> = pieces(cuts)
        .map_while(|piece| {
            let (first, left) = rest.split_at_checked(piece.len())?;
            rest = left;
            Some(first.to_vec())
        })
        .collect();
    pieces.push(rest.to_vec());
    pieces
}

/// The client can read all that the server has said, up to its alert.
fn client_reads(client: &mut RecordLayer, mut answers: Vec<u8>, said: &[u8], end: Option<End>) {
    let opened = client.open(&mut answers, &mut Vec::new());
    assert_eq!(&answers[..opened.data], said);
    match (end, opened.end) {
        (Some(End::Fault(alert)), Some(End::Alert(told))) => assert_eq!(told, alert),
        // It had closed its side before.
        (_, Some(End::Closed)) | (None | Some(End::Closed | End::Alert(_)), None) => {}
        (end, told) => panic!("the server ended with {end:?}, and the client was told {told:?}"),
    }
}

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::new(certificates()).unwrap());

/// Takes the bytes as what a client begins with. It is never let in, as it can't know the server's answer, and how the
/// bytes are cut makes no difference.
pub fn tls_hello(data: &[u8]) {
    let whole = begin([data].into_iter());
    let cut = begin(pieces(data));
    assert_eq!(
        whole.map_err(|error| error.to_string()),
        cut.map_err(|error| error.to_string())
    );
}

/// Whether more must come.
fn begin<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> std::result::Result<(), HandshakeError> {
    let mut handshake = SERVER.handshake().unwrap();
    for piece in pieces {
        let mut out = Vec::new();
        let progress = handshake.receive(piece, &mut out);
        // What is said are records of a handshake, an alert, or what middleboxes want to see.
        assert!(out.first().is_none_or(|kind| (20..=23).contains(kind)));
        match progress? {
            Progress::Wait(waits) => handshake = waits,
            Progress::Done(_) => panic!("nobody was there to answer"),
        }
    }
    Ok(())
}
