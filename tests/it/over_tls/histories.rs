//! Histories of sessions, over TLS and plain in turn on one worker: whatever is said, cut, held back, and in whatever order,
//! each client hears what it should, and one over TLS nothing that is not sealed ([`ClientEnd`] panics otherwise).

use std::collections::VecDeque;
use std::time::Duration;

use presenced_session::Config;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::{CLOSE_TIMEOUT, WHEEL_TICK};
use presenced_session::slab::SessionKey;
use presenced_testkit::client_end::{ClientEnd, Over};
use presenced_testkit::frame::{CLOSE, PING, closed, pong_of};
use presenced_testkit::lone_worker::LoneWorker;
use proptest::prelude::*;

use super::worker::{Echo, Exchange, end, exchange};

/// Key updates that may come in a row, and some more.
const UPDATES_IN_A_ROW_MAX: usize = 20;

/// Sessions at once.
const SESSIONS_MAX: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// The client says something, in records with so much text each.
    Say {
        which: usize,
        what: Exchange,
        text_bytes: usize,
        is_end: bool,
    },
    /// It goes on to its next key, and perhaps wants the server to.
    Update {
        which: usize,
        is_wanted: bool,
    },
    /// So many bytes arrive.
    Arrive {
        which: usize,
        bytes: usize,
    },
    /// The socket takes so many bytes more.
    SetRoom {
        which: usize,
        bytes: usize,
    },
    /// All arrives and all is read.
    Settle {
        which: usize,
    },
    Pass {
        ms: u64,
    },
    End {
        which: usize,
        how: HowToEnd,
    },
}

#[derive(Clone, Copy, Debug)]
enum HowToEnd {
    ByServer(CloseReason),
    HangUp,
    CloseNotify,
    Tamper { place: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = any::<usize>;
    let text_bytes = || prop_oneof![1..40usize, 100..20_000usize];
    let how = prop_oneof![
        prop::sample::select(&CloseReason::ALL[..]).prop_map(HowToEnd::ByServer),
        Just(HowToEnd::HangUp),
        Just(HowToEnd::CloseNotify),
        any::<usize>().prop_map(|place| HowToEnd::Tamper { place }),
    ];
    let step = prop_oneof![
        3 => Just(Step::Open),
        8 => (which(), exchange(), text_bytes()).prop_map(|(which, what, text_bytes)| Step::Say {
            which, what, text_bytes, is_end: false,
        }),
        1 => (which(), end(), text_bytes()).prop_map(|(which, what, text_bytes)| Step::Say {
            which, what, text_bytes, is_end: true,
        }),
        3 => (which(), any::<bool>()).prop_map(|(which, is_wanted)| Step::Update { which, is_wanted }),
        8 => (which(), prop_oneof![1..60usize, 1..1000usize])
            .prop_map(|(which, bytes)| Step::Arrive { which, bytes }),
        4 => (which(), prop_oneof![0..60usize, 0..1000usize, Just(usize::MAX)])
            .prop_map(|(which, bytes)| Step::SetRoom { which, bytes }),
        2 => which().prop_map(|which| Step::Settle { which }),
        2 => (0..4000u64).prop_map(|ms| Step::Pass { ms }),
        1 => (which(), how).prop_map(|(which, how)| Step::End { which, how }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A client, and what it should hear.
struct Seen {
    key: SessionKey,
    client: ClientEnd,
    /// What is on its way to the server.
    wire: VecDeque<u8>,
    updates: usize,
    expected: Vec<u8>,
    /// Frames that were heard but for pings, and the start of one more.
    heard: Vec<u8>,
    begun: Vec<u8>,
    /// It has said its last.
    has_ended: bool,
    /// A close frame that may come in the place of what is left.
    closed_by: Option<CloseReason>,
    /// Nothing more need come.
    is_cut_off: bool,
}

impl Seen {
    fn open(tried: &mut LoneWorker<Echo>) -> Seen {
        let (key, client) = tried.open((), Plain);
        Seen {
            key,
            client,
            wire: VecDeque::new(),
            updates: 0,
            expected: Vec::new(),
            heard: Vec::new(),
            begun: Vec::new(),
            has_ended: false,
            closed_by: None,
            is_cut_off: false,
        }
    }

    fn arrive(&mut self, tried: &mut LoneWorker<Echo>, bytes: usize) {
        let bytes = bytes.min(self.wire.len());
        let bytes: Vec<u8> = self.wire.drain(..bytes).collect();
        self.client.send_bytes(&bytes);
        tried.read(self.key);
    }

    /// Hears what was said, and answers pings.
    fn hear(&mut self) {
        self.begun.extend(self.client.take());
        while let Some(length) = frame_bytes(&self.begun) {
            let frame: Vec<u8> = self.begun.drain(..length).collect();
            match frame[0] {
                PING if !self.has_ended => {
                    let pong = self.client.seal(&pong_of(&frame));
                    self.wire.extend(pong);
                }
                PING => {}
                CLOSE => {
                    self.has_ended = true;
                    self.heard.extend(frame);
                }
                _ => self.heard.extend(frame),
            }
        }
        let is_well = self.expected.starts_with(&self.heard);
        assert!(is_well || self.is_closed_early(), "{self}");
    }

    /// Whether it was closed before all was heard or said.
    fn is_closed_early(&self) -> bool {
        let Some(facts) = self.closed_by.map(CloseReason::facts) else {
            return false;
        };
        let close = facts.close_code.map(|code| closed(code, facts.label));
        let before = close.and_then(|close| self.heard.strip_suffix(&close[..]));
        before.is_some_and(|before| self.expected.starts_with(before))
    }

    /// Everything arrives, and everything is heard.
    fn settle(&mut self, tried: &mut LoneWorker<Echo>) {
        self.client.set_room(usize::MAX);
        tried.read(self.key);
        self.hear();
        while !self.wire.is_empty() {
            self.arrive(tried, usize::MAX);
            self.hear();
        }
        assert_eq!(self.begun, b"", "part of a frame");
        if self.closed_by.is_none() && !self.is_cut_off {
            assert_eq!(self.heard, self.expected, "{self}");
        }
    }

    fn end(&mut self, tried: &mut LoneWorker<Echo>, how: HowToEnd) {
        match how {
            HowToEnd::ByServer(reason) => {
                self.closed_by = self.closed_by.or(Some(reason));
                self.is_cut_off = true;
                tried.worker.end(self.key, reason);
            }
            HowToEnd::HangUp => {
                self.client.hang_up();
                // It has what has arrived, and nothing that is on its way.
                self.wire.clear();
                self.is_cut_off = true;
            }
            HowToEnd::CloseNotify if self.client.is_tls() && !self.has_ended => {
                self.wire.extend(self.client.close_notify());
                self.is_cut_off = true;
            }
            HowToEnd::Tamper { place } if self.client.is_tls() && !self.has_ended => {
                let mut record = self.client.seal(b"tampered with");
                // Its type and its version have alerts of their own; another length may wait for more.
                let place = 5 + place % (record.len() - 5);
                record[place] ^= 0x10;
                self.wire.extend(record);
                self.is_cut_off = true;
            }
            HowToEnd::CloseNotify | HowToEnd::Tamper { .. } => return,
        }
        self.has_ended = true;
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (heard, expected) = (&self.heard, &self.expected);
        write!(f, "heard {heard:02x?}, expected {expected:02x?}")
    }
}

/// The length of the server's frame at the start, if it is whole.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let &[_, short, ..] = bytes else {
        return None;
    };
    let length = match short {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        127 => 10 + u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize,
        short => 2 + usize::from(short),
    };
    (length <= bytes.len()).then_some(length)
}

fn live(steps: Vec<Step>) {
    let config = Config {
        frames_per_second_max: u32::MAX,
        ..Config::default()
    };
    let mut tried = LoneWorker::new(Echo::default(), config, Over::Both);
    let mut seen: Vec<Seen> = Vec::new();
    for step in steps {
        let chosen = match step {
            Step::Say { which, .. }
            | Step::Update { which, .. }
            | Step::Arrive { which, .. }
            | Step::SetRoom { which, .. }
            | Step::Settle { which }
            | Step::End { which, .. } => Some(which),
            Step::Open | Step::Pass { .. } => None,
        };
        let count = seen.len();
        let one = chosen.and_then(|which| seen.get_mut(which % count.max(1)));
        match (step, one) {
            (Step::Open, _) if count < SESSIONS_MAX => seen.push(Seen::open(&mut tried)),
            (Step::Pass { ms }, _) => {
                // What is late is another test's: everybody is up to date at times.
                for one in &mut seen {
                    one.settle(&mut tried);
                }
                tried.pass(Duration::from_millis(ms));
                seen.iter_mut().for_each(Seen::hear);
            }
            (
                Step::Say {
                    what,
                    text_bytes,
                    is_end,
                    ..
                },
                Some(one),
            ) if !one.has_ended => {
                let (said, back) = what;
                for text in said.chunks(text_bytes) {
                    one.wire.extend(one.client.seal(text));
                }
                one.updates = 0;
                one.expected.extend(back);
                one.has_ended = is_end;
            }
            (Step::Update { is_wanted, .. }, Some(one)) => {
                let is_tls13 = one.client.is_tls() && one.client.with_records(|it| it.is_tls13());
                if is_tls13 && !one.has_ended && one.updates < UPDATES_IN_A_ROW_MAX {
                    one.updates += 1;
                    one.wire.extend(one.client.key_update(is_wanted));
                }
            }
            (Step::Arrive { bytes, .. }, Some(one)) => one.arrive(&mut tried, bytes),
            (Step::SetRoom { bytes, .. }, Some(one)) => {
                one.client.set_room(bytes);
                tried.read(one.key);
                one.hear();
            }
            (Step::Settle { .. }, Some(one)) => one.settle(&mut tried),
            (Step::End { how, .. }, Some(one)) => {
                one.end(&mut tried, how);
                tried.read(one.key);
                one.hear();
            }
            _ => {}
        }
        // Whoever is gone makes room for another, in the same place.
        seen.retain_mut(|one| {
            one.hear();
            !one.client.is_dropped()
        });
    }
    for one in &mut seen {
        one.settle(&mut tried);
        one.client.hang_up();
        tried.read(one.key);
        one.hear();
    }
    tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
    assert!(seen.iter().all(|one| one.client.is_dropped()));
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

proptest! {
    #[test]
    fn each_client_hears_what_it_should(steps in steps()) {
        live(steps);
    }
}
