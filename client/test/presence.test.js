// The client against a scripted socket and a clock that only moves when told to; at the end against a real WebSocket.

import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { createServer } from 'node:http';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';

import { PresenceClient, PresenceUnauthorized, userIdProblem } from '../presence.js';
import { Page, Sockets, seeded, settle } from './scripted.js';

/** @type {PresenceClient[]} */
let clients = [];

beforeEach(() => {
  clients = [];
  mock.timers.enable({ apis: ['setTimeout'] });
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
  for (const name of ['document', 'addEventListener', 'removeEventListener']) delete globalThis[name];
});

/** Moves the clock in small steps, so that what a timer starts is timed from there. */
const advance = async (ms) => {
  for (let left = ms; left > 0; left -= 10) {
    mock.timers.tick(Math.min(10, left));
    await settle();
  }
};

/** A client on a scripted socket, and all that it says; `onstate` and `onpull` hear it, too. */
const start = ({ onstate = () => {}, onpull = () => {}, ...options } = {}) => {
  const sockets = new Sockets();
  const states = [];
  const pulls = [];
  const client = new PresenceClient({
    url: 'ws://edge.test/ws',
    token: 'a.b.c',
    WebSocket: sockets.WebSocket,
    random: () => 0.5,
    ...options,
  });
  client.on('state', (info) => states.push(info));
  client.on('pull', (info) => pulls.push(info));
  client.on('state', onstate);
  client.on('pull', onpull);
  clients.push(client);
  return { client, sockets, states, pulls };
};

/** The same, and connected. */
const startOpen = async (options = {}) => {
  const started = start(options);
  await settle();
  started.sockets.last.open();
  return started;
};

/** What a page has beside its document: events of the browser. */
const startWindow = () => {
  const browser = new EventTarget();
  for (const method of ['addEventListener', 'removeEventListener']) globalThis[method] = browser[method].bind(browser);
  return browser;
};

/** What ends the watching that `hear` began. */
const unwatches = new Map();

/** Watches, and gives what the callback hears as `state` or `state@connectedAt`. */
const hear = (client, userId) => {
  const heard = [];
  const unwatch = client.watch(userId, (presence) => {
    assert.equal(presence.userId, userId);
    heard.push(presence.connectedAt === undefined ? presence.state : `${presence.state}@${presence.connectedAt}`);
  });
  unwatches.set(heard, unwatch);
  return heard;
};

describe('connecting', () => {
  test('offers the dialect and the token as subprotocols', async () => {
    const { client, sockets, states } = start();
    assert.equal(client.state, 'connecting');
    assert.deepEqual(states, [], 'no callback before the constructor has returned');
    await settle();
    assert.equal(sockets.last.url, 'ws://edge.test/ws');
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.a.b.c']);
    sockets.last.open();
    assert.equal(client.state, 'open');
    assert.deepEqual(states, [{ state: 'connecting' }, { state: 'open' }]);
  });

  test('takes http for ws, and a relative address in a page', async () => {
    const secure = start({ url: 'https://edge.test/ws#top' });
    globalThis.location = { href: 'http://page.test:8080/some/page' };
    const relative = start({ url: '/ws' });
    delete globalThis.location;
    await settle();
    assert.equal(secure.sockets.last.url, 'wss://edge.test/ws');
    assert.equal(relative.sockets.last.url, 'ws://page.test:8080/ws');
  });

  test('asks for a fresh token before every attempt', async () => {
    let tokens = 0;
    const { sockets, states } = start({ token: async () => `t${(tokens += 1)}` });
    for (let attempt = 1; attempt <= 4; attempt += 1) {
      await settle();
      assert.equal(sockets.all.length, attempt);
      assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', `bearer.t${attempt}`]);
      sockets.last.drop(1006);
      await advance(states.at(-1).retryInMs);
    }
  });

  test('a token that fails to come is tried again', async () => {
    const outcomes = [
      () => Promise.reject(new Error('not signed in')),
      () => {
        throw 'no';
      },
      () => '',
      () => undefined,
      () => 'good',
    ];
    const { sockets, states } = start({ token: () => outcomes.shift()() });
    for (let tries = 0; tries < 4; tries += 1) {
      await settle();
      await advance(states.at(-1).retryInMs);
    }
    const errors = states.filter(({ state }) => state === 'waiting').map(({ error }) => error.message);
    const none = 'the token function gave no token';
    assert.deepEqual(errors, ['not signed in', 'no', none, none]);
    assert.deepEqual(sockets.all.map(({ protocols }) => protocols.at(-1)), ['bearer.good']);
  });

  test('an attempt that takes too long is given up, and what comes of it later is ignored', async () => {
    const late = [];
    const { client, sockets, states } = start({ token: () => new Promise((resolve) => late.push(resolve)) });
    await settle();
    await advance(15_000);
    assert.equal(states.at(-1).state, 'waiting');
    assert.match(states.at(-1).error.message, /15000 ms/);
    late[0]('too-late');
    await settle();
    assert.equal(sockets.all.length, 0);

    await advance(250);
    late[1]('in-time');
    await settle();
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.in-time']);
    // The handshake hangs now.
    await advance(15_000);
    assert.equal(client.state, 'waiting');
    assert.equal(sockets.last.closedWith, 1000);
    sockets.last.open();
    assert.equal(client.state, 'waiting', 'a socket that was given up is not listened to');
  });

  test('close() while the token is under way opens nothing', async () => {
    let resolve;
    const { client, sockets, states } = start({ token: () => new Promise((given) => (resolve = given)) });
    await settle();
    client.close();
    resolve('late');
    await advance(60_000);
    assert.equal(sockets.all.length, 0);
    assert.deepEqual(states, [{ state: 'connecting' }, { state: 'closed' }]);
  });

  test('close() right after the constructor, then connect()', async () => {
    const { client, sockets, states } = start();
    client.close();
    await settle();
    assert.equal(sockets.all.length, 0);
    client.connect();
    client.connect();
    await settle();
    assert.equal(sockets.all.length, 1);
    assert.deepEqual(states.map(({ state }) => state), ['closed', 'connecting']);
  });

  test('autoConnect: false waits for connect()', async () => {
    const { client, sockets } = start({ autoConnect: false });
    await advance(1_000);
    assert.equal(sockets.all.length, 0);
    client.connect();
    await settle();
    assert.equal(sockets.all.length, 1);
  });

  test('what can not work is refused', () => {
    assert.throws(() => start({ url: 'ftp://edge.test/ws' }), /not a WebSocket address/);
    assert.throws(() => start({ url: '/ws' }), TypeError);
    assert.throws(() => start({ token: undefined }), /token/);
    assert.throws(() => start({ WebSocket: 'none' }), /WebSocket/);
    for (const wrong of [0, -1, NaN, Infinity, 2 ** 31, 'soon']) {
      assert.throws(() => start({ pullInterval: wrong }), /pullInterval/);
    }
  });
});

describe('pulling', () => {
  test('what is no id to the edge is unknown, and never called offline', async () => {
    const { client, sockets, pulls } = await startOpen();
    const [known, odd] = [hear(client, 'alice'), hear(client, 'odd')];
    await advance(20);
    sockets.last.say({ pull: sockets.last.pulls.at(-1).pull, online: {}, invalid: ['odd'] });
    assert.deepEqual(known, ['offline']);
    assert.deepEqual(odd, ['unknown']);
    assert.deepEqual(pulls.at(-1).invalid, ['odd']);
  });

  test('a hundred watches are one pull, before and after the socket opens', async () => {
    const { client, sockets } = start();
    for (let n = 0; n < 100; n += 1) client.watch(`early${n}`, () => {});
    await advance(500);
    sockets.last.open();
    assert.deepEqual(sockets.pulls.map(({ users }) => users.length), [100]);

    for (let n = 0; n < 100; n += 1) client.watch(`late${n}`, () => {});
    await advance(20);
    assert.deepEqual(sockets.pulls.map(({ users }) => users.length), [100, 100]);
    assert.ok(sockets.pulls[1].users.every((user) => user.startsWith('late')), 'only who was not asked for yet');
    await advance(1_000);
    assert.equal(sockets.pulls.length, 2);
  });

  test('new watches that never end are one pull every 250 ms', async () => {
    const { client, sockets } = await startOpen();
    for (let n = 0; n < 200; n += 1) {
      client.watch(`user${n}`, () => {});
      await advance(10);
      if (sockets.pulls.length > 0) sockets.last.answer({});
    }
    assert.ok(sockets.pulls.length <= 9, `${sockets.pulls.length} pulls in 2 s`);
    await advance(250);
    assert.equal(sockets.pulls.flatMap(({ users }) => users).length, 200);
  });

  test('everything watched is asked for in one request each interval', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 10_000 });
    const watched = ['alice', 'bob', 'carol'];
    const unwatch = watched.map((user) => client.watch(user, () => {}));
    await advance(20);
    sockets.last.answer({});
    for (let round = 0; round < 3; round += 1) {
      await advance(10_000);
      sockets.last.answer({});
    }
    const rounds = sockets.pulls.slice(1);
    assert.deepEqual(rounds.map(({ users }) => users), [watched, watched, watched]);
    assert.equal(new Set(sockets.pulls.map(({ pull }) => pull)).size, sockets.pulls.length);

    unwatch[1]();
    unwatch[1]();
    await advance(10_000);
    assert.deepEqual(sockets.pulls.at(-1).users, ['alice', 'carol']);
    unwatch[0]();
    unwatch[2]();
    const before = sockets.pulls.length;
    await advance(30_000);
    assert.equal(sockets.pulls.length, before, 'nobody watched, nothing asked');
  });

  test('more than 500 users are several pulls', async () => {
    const { client, sockets, pulls } = await startOpen();
    const heard = [];
    for (let n = 0; n < 1_201; n += 1) client.watch(`user${n}`, ({ userId, state }) => heard.push([userId, state]));
    await advance(20);
    assert.deepEqual(sockets.pulls.map(({ users }) => users.length), [500, 500, 201]);
    assert.equal(new Set(sockets.pulls.flatMap(({ users }) => users)).size, 1_201);
    for (const { pull, users } of [...sockets.pulls].reverse()) {
      sockets.last.answer(Object.fromEntries(users.map((user) => [user, 5])), { pull });
    }
    assert.equal(heard.filter(([, state]) => state === 'online').length, 1_201);
    assert.deepEqual(pulls.map(({ phase }) => phase).sort(), [...Array(3).fill('answered'), ...Array(3).fill('sent')]);
  });

  test('four pulls are under way at most; the others wait for answers, and nobody is left out', async () => {
    const { client, sockets, pulls } = await startOpen({ pullInterval: 1_000, pullTimeout: 900 });
    for (let n = 0; n < 4_999; n += 1) client.watch(`user${n}`, () => {});
    await advance(20);
    assert.equal(sockets.pulls.length, 4);
    sockets.last.answer({}, { pull: 2 });
    assert.equal(sockets.pulls.length, 5);
    sockets.last.say({ pull: 1, error: { code: 'busy', message: '' } });
    assert.equal(sockets.pulls.length, 6);
    // The rest is lost; the next four leave, and then the interval is over before all were asked for.
    await advance(900);
    assert.equal(sockets.pulls.length, 10);
    await advance(2_000);
    const asked = new Map();
    for (const user of sockets.pulls.flatMap(({ users }) => users)) asked.set(user, (asked.get(user) ?? 0) + 1);
    assert.equal(asked.size, 4_999);
    assert.ok(Math.max(...asked.values()) - Math.min(...asked.values()) <= 1, 'in turn');
    const ended = pulls.filter(({ phase }) => phase !== 'sent').length;
    assert.equal(sockets.pulls.length - ended, 4);
  });

  test('who is no longer watched when their turn comes is not asked for', async () => {
    const { client, sockets } = await startOpen();
    const unwatch = Array.from({ length: 2_002 }, (_, n) => client.watch(`user${n}`, () => {}));
    await advance(20);
    unwatch[2_000]();
    sockets.last.answer({}, { pull: 1 });
    assert.deepEqual(sockets.last.pulls.at(-1), { pull: 5, users: ['user2001'] });
  });

  test('of who is watched beyond the limit nothing is known, until there is room', async () => {
    const warn = mock.method(console, 'warn', () => {});
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const unwatch = Array.from({ length: 5_000 }, (_, n) => client.watch(`user${n}`, () => {}));
    const [beyond, another] = [hear(client, 'beyond'), hear(client, 'another')];
    assert.deepEqual(beyond, [], 'not before watch() has returned');
    await settle();
    assert.deepEqual([beyond, another], [['unknown'], ['unknown']]);
    assert.equal(warn.mock.callCount(), 1);
    assert.match(warn.mock.calls[0].arguments[0], /more than 5000 users/);
    /** Answers all pulls of one round. */
    const round = async () => {
      await advance(1_000);
      const asked = [];
      for (let answered = -1; answered !== asked.length; ) {
        answered = asked.length;
        for (const { pull, users } of sockets.pulls.slice(from)) {
          asked.push(...users);
          from += 1;
          sockets.last.answer(Object.fromEntries(users.map((user) => [user, 1])), { pull });
        }
      }
      return new Set(asked);
    };
    let from = 0;
    assert.equal((await round()).size, 5_000);
    assert.deepEqual(beyond, ['unknown']);

    // One makes room, and when they are back, they have to wait in turn.
    unwatch[1]();
    client.watch('user1', () => {});
    const asked = await round();
    assert.equal(asked.size, 5_000);
    assert.ok(asked.has('beyond') && !asked.has('user1'));
    assert.deepEqual([beyond, another], [['unknown', 'online@1'], ['unknown']]);
    warn.mock.restore();
  });

  test('answers are matched by number, whatever else arrives', async () => {
    const { client, sockets, pulls } = await startOpen({ pullInterval: 1_000 });
    const heard = hear(client, 'alice');
    await advance(20);
    const strange = ['', 'null', '[]', '{', '"alice"', '{"pull":"1","online":{}}', '{"online":{"alice":{}}}'];
    for (const text of strange) sockets.last.say(text);
    sockets.last.onmessage({ data: new ArrayBuffer(4) });
    sockets.last.answer({ alice: 1 }, { pull: 99 });
    sockets.last.say({ error: { code: 'malformed', message: 'which one?' } });
    assert.deepEqual(heard, []);

    await advance(1_000);
    const [older, newer] = sockets.pulls;
    sockets.last.answer({ alice: 20 }, { pull: newer.pull });
    sockets.last.answer({}, { pull: older.pull });
    assert.deepEqual(heard, ['online@20'], 'what an older pull says is no news');
    sockets.last.answer({}, { pull: newer.pull });
    assert.deepEqual(heard, ['online@20'], 'a pull is answered once');
    assert.deepEqual(pulls.map(({ phase }) => phase), ['sent', 'sent', 'answered', 'answered']);
  });

  test('a pull without an answer is lost, and its late answer ignored', async () => {
    const { client, sockets, pulls } = await startOpen({ pullTimeout: 3_000 });
    const heard = hear(client, 'alice');
    await advance(20);
    await advance(2_990);
    assert.deepEqual(pulls.map(({ phase }) => phase), ['sent']);
    await advance(10);
    assert.deepEqual(pulls, [
      { pull: 1, phase: 'sent', users: 1 },
      { pull: 1, phase: 'lost', users: 1 },
    ]);
    sockets.last.answer({ alice: 1 });
    assert.deepEqual(heard, []);
    assert.equal(client.state, 'open');
  });

  test('a refused pull changes nobody and the session lives on', async () => {
    const { client, sockets, pulls } = await startOpen({ pullInterval: 1_000 });
    const heard = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    await advance(1_000);
    sockets.last.say({ pull: 2, error: { code: 'too_many_users', message: 'at most 500' } });
    await advance(1_000);
    sockets.last.say({ pull: 3 });
    assert.deepEqual(heard, ['online@1']);
    assert.deepEqual(pulls.filter(({ phase }) => phase === 'refused'), [
      { pull: 2, phase: 'refused', users: 1, error: { code: 'too_many_users', message: 'at most 500' } },
      { pull: 3, phase: 'refused', users: 1, error: { code: 'malformed', message: 'not an answer to a pull' } },
    ]);
    assert.equal(client.state, 'open');
  });
});

describe('listening', () => {
  test('a change is told once, after those who watch, and only if what is known has changed', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const order = [];
    const off = client.on('change', ({ userId, state }) => order.push(`${userId} ${state}`));
    for (const watcher of [1, 2]) client.watch('alice', ({ state }) => order.push(`${watcher}: ${state}`));
    await advance(20);
    for (const [online, unknown] of [
      [{}, ['alice']],
      [{ alice: 1 }, []],
      [{ alice: 2 }, []],
      [{}, ['alice']],
      [{}, []],
    ]) {
      sockets.last.answer(online, { unknown });
      await advance(1_000);
    }
    const first = ['1: unknown', '2: unknown'];
    const changes = ['online', 'offline'].flatMap((state) => [`1: ${state}`, `2: ${state}`, `alice ${state}`]);
    assert.deepEqual(order, [...first, ...changes]);

    off();
    off();
    sockets.last.answer({ alice: 3 });
    assert.deepEqual(order.slice(8), ['1: online', '2: online']);
  });

  test('who listens twice hears twice, and ends each on its own; what can not be listened to is an error', async () => {
    const { client } = start();
    let heard = 0;
    const listener = () => (heard += 1);
    const off = client.on('state', listener);
    client.on('state', listener);
    await settle();
    assert.equal(heard, 2);
    off();
    client.close();
    assert.equal(heard, 3);
    assert.throws(() => client.on('states', listener), TypeError);
    assert.throws(() => client.on('state'), TypeError);
  });

  test('a listener that throws is reported and stops nobody else', async () => {
    const report = mock.method(console, 'error', () => {});
    const { client, states } = start({
      onstate: () => {
        throw new Error('mine');
      },
    });
    const after = [];
    client.on('state', ({ state }) => after.push(state));
    await settle();
    assert.deepEqual(after, states.map(({ state }) => state));
    client.close();
    assert.ok(report.mock.calls.every(({ arguments: [error] }) => error.message === 'mine'));
    report.mock.restore();
  });

  test('debug hears every event and no token, and true is console.debug', async () => {
    const heard = [];
    const { client, sockets } = await startOpen({ debug: (what, info) => heard.push([what, info]) });
    client.watch('alice', () => {});
    await advance(20);
    sockets.last.answer({ alice: 1 });
    assert.deepEqual(heard.map(([what]) => what), ['state', 'state', 'pull', 'change', 'pull']);
    assert.ok(!JSON.stringify(heard).includes('a.b.c'));

    const debug = mock.method(console, 'debug', () => {});
    start({ debug: true });
    await settle();
    assert.deepEqual(debug.mock.calls[0].arguments, ['state', { state: 'connecting' }]);
    debug.mock.restore();
  });
});

describe('watching', () => {
  test('hears the first answer, and then only changes of the state', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const alice = hear(client, 'alice');
    const bob = hear(client, 'bob');
    await advance(20);
    const rounds = [{ alice: 10 }, { alice: 10 }, {}, {}, { alice: 30, bob: 30 }, { alice: 40, bob: undefined }];
    for (const online of rounds) {
      sockets.last.answer(online);
      await advance(1_000);
    }
    // A user on two servers connected at one time, or the other.
    assert.deepEqual(alice, ['online@10', 'offline', 'online@30']);
    assert.deepEqual(bob, ['offline', 'online@30']);
  });

  test('a second watcher hears what is known, but not before watch() has returned', async () => {
    const { client, sockets } = await startOpen();
    const first = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    const second = hear(client, 'alice');
    const gone = hear(client, 'alice');
    unwatches.get(gone)();
    assert.deepEqual(second, []);
    await settle();
    assert.deepEqual([first, second, gone], [['online@1'], ['online@1'], []]);
    assert.equal(sockets.pulls.length, 1);

    unwatches.get(first)();
    await advance(10_000);
    sockets.last.answer({});
    assert.deepEqual([first, second], [['online@1'], ['online@1', 'offline']]);
  });

  test('who is watched for a moment is not asked for, and to end it twice ends no other', async () => {
    const { client, sockets } = await startOpen();
    const first = hear(client, 'alice');
    unwatches.get(first)();
    await advance(500);
    assert.equal(sockets.pulls.length, 0);

    const second = hear(client, 'alice');
    unwatches.get(first)();
    await advance(20);
    sockets.last.answer({ alice: 1 });
    assert.deepEqual([first, second], [[], ['online@1']]);
  });

  test('unknown: as they were, and "unknown" only for those of whom nothing was known', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const [alice, bob, carol] = ['alice', 'bob', 'carol'].map((user) => hear(client, user));
    await advance(20);
    const round = async (online, unknown) => {
      sockets.last.answer(online, { unknown });
      await advance(1_000);
    };
    await round({ alice: 1 }, ['carol']);
    await round({}, ['alice', 'bob', 'carol']);
    assert.deepEqual(alice, ['online@1']);
    assert.deepEqual(bob, ['offline']);
    assert.deepEqual(carol, ['unknown']);
    // Online and unknown at once would be an edge's mistake: what is known counts.
    await round({ alice: 1, carol: 3 }, ['carol']);
    await round({ alice: 1 }, []);
    assert.deepEqual(alice, ['online@1']);
    assert.deepEqual(bob, ['offline']);
    assert.deepEqual(carol, ['unknown', 'online@3', 'offline']);
  });

  test('a lost connection makes nobody offline', async () => {
    const { client, sockets } = await startOpen();
    const [alice, bob] = ['alice', 'bob'].map((user) => hear(client, user));
    await advance(20);
    sockets.last.answer({ alice: 1 });
    sockets.last.drop(1006);
    await advance(60_000);
    assert.equal(client.state, 'connecting');
    assert.deepEqual([alice, bob], [['online@1'], ['offline']]);

    sockets.last.open();
    assert.deepEqual(sockets.last.pulls.map(({ users }) => users), [['alice', 'bob']], 'asked at once');
    sockets.last.answer({ alice: 1, bob: 2 });
    assert.deepEqual([alice, bob], [['online@1'], ['offline', 'online@2']]);
  });

  test('a user may be called what an object calls its own', async () => {
    const { client, sockets } = await startOpen();
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty'];
    const heard = names.map((name) => hear(client, name));
    await advance(20);
    assert.deepEqual(sockets.last.pulls[0].users, names);
    sockets.last.say('{"pull":1,"online":{"__proto__":{"connectedAt":1}}}');
    assert.deepEqual(heard, [['online@1'], ['offline'], ['offline'], ['offline']]);
  });

  test('a callback that throws is reported and stops nobody else', async () => {
    const report = mock.method(console, 'error', () => {});
    const { client, sockets } = await startOpen();
    client.watch('alice', () => {
      throw new Error('mine');
    });
    const heard = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    assert.deepEqual(heard, ['online@1']);
    assert.equal(report.mock.calls[0].arguments[0].message, 'mine');
    report.mock.restore();
  });

  test('close() from any callback is final', async () => {
    for (const phase of ['connecting', 'open', 'waiting', 'sent', 'answered', 'lost', 'watch']) {
      let client;
      const closeAt = (seen) => seen === phase && client.close();
      const started = start({
        onstate: ({ state }) => closeAt(state),
        onpull: (info) => closeAt(info.phase),
      });
      ({ client } = started);
      for (let n = 0; n < 1_000; n += 1) client.watch(`user${n}`, () => closeAt('watch'));
      await settle();
      const socket = started.sockets.all.at(-1);
      socket?.open();
      if (socket?.pulls.length) socket.answer({ user0: 1 });
      await advance(6_000);
      if (client.state !== 'closed') socket.drop(1006);
      assert.equal(client.state, 'closed', phase);
      const { pulls } = started.sockets;
      await advance(60_000);
      assert.equal(client.state, 'closed', phase);
      assert.ok(started.sockets.all.length <= 1, phase);
      assert.deepEqual(started.sockets.pulls, pulls, phase);
    }
  });
});

describe('what is known now', () => {
  test('can be asked for at any time, and is the same object until it changes', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const before = client.get('alice');
    assert.deepEqual(before, { userId: 'alice', state: 'unknown' });
    assert.ok(Object.isFrozen(before));
    assert.equal(client.get('alice'), before);

    client.watch('alice', () => {});
    assert.equal(client.get('alice'), before);
    await advance(20);
    sockets.last.answer({}, { unknown: ['alice'] });
    assert.equal(client.get('alice'), before, 'an answer that nothing can be known is no change');
    await advance(1_000);
    sockets.last.answer({ alice: 7 });
    const online = client.get('alice');
    assert.deepEqual(online, { userId: 'alice', state: 'online', connectedAt: 7 });
    for (const [users, unknown] of [[{ alice: 8 }, []], [{}, ['alice']]]) {
      await advance(1_000);
      sockets.last.answer(users, { unknown });
      assert.equal(client.get('alice'), online);
    }
    sockets.last.drop(1006);
    client.close();
    assert.equal(client.get('alice'), online, 'they stay as they were');
  });

  test('is what callbacks and listeners were told', async () => {
    const { client, sockets } = await startOpen();
    const seen = [];
    client.watch('alice', (presence) => seen.push(presence === client.get('alice')));
    client.on('change', (presence) => seen.push(presence === client.get('alice')));
    await advance(20);
    sockets.last.answer({ alice: 1 });
    assert.deepEqual(seen, [true, true]);
  });

  test('is remembered for a moment: watched again, it is told without a pull', async () => {
    const { client, sockets } = await startOpen();
    const first = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    unwatches.get(first)();
    await advance(4_990);
    assert.equal(client.get('alice').state, 'online');

    const second = hear(client, 'alice');
    await settle();
    assert.deepEqual(second, ['online@1']);
    await advance(4_900);
    assert.equal(sockets.pulls.length, 1, 'they are asked for in their turn');
    assert.equal(client.get('alice').state, 'online', 'and not forgotten while they are watched');
    await advance(100);
    assert.deepEqual(sockets.pulls.at(-1).users, ['alice']);
    sockets.last.answer({});
    assert.deepEqual([first, second], [['online@1'], ['online@1', 'offline']]);
  });

  test('and then it is forgotten', async () => {
    const { client, sockets } = await startOpen({ forgetAfter: 2_000 });
    const first = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    unwatches.get(first)();
    await advance(2_000);
    assert.equal(client.get('alice').state, 'unknown');
    const second = hear(client, 'alice');
    await advance(20);
    assert.deepEqual(second, []);
    assert.equal(sockets.pulls.length, 2);
    sockets.last.answer({ alice: 2 });
    unwatches.get(first)();
    assert.deepEqual([first, second], [['online@1'], ['online@2']]);
  });

  test('is not asked for while nobody watches', async () => {
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    const heard = hear(client, 'alice');
    await advance(20);
    sockets.last.answer({ alice: 1 });
    unwatches.get(heard)();
    await advance(4_000);
    assert.equal(sockets.pulls.length, 1);
  });

  test('has a limit, however many come and go', async () => {
    const { client, sockets } = await startOpen({ forgetAfter: 60_000 });
    /** Watches so many until they are known to be online. */
    const comeAndGo = async (name, count) => {
      const unwatch = Array.from({ length: count }, (_, n) => client.watch(`${name}${n}`, () => {}));
      let answered = sockets.pulls.length;
      await advance(250);
      for (; answered < sockets.pulls.length; answered += 1) {
        const { pull, users } = sockets.pulls[answered];
        sockets.last.answer(Object.fromEntries(users.map((user) => [user, 1])), { pull });
      }
      assert.equal(client.get(`${name}${count - 1}`).state, 'online');
      for (const end of unwatch) end();
    };
    await comeAndGo('early', 5_000);
    await comeAndGo('late', 5_000);
    await comeAndGo('one-more', 1);
    assert.equal(client.get('one-more0').state, 'unknown', 'forgotten at once');
    assert.equal(client.get('early0').state, 'online');

    const stranger = client.get('stranger');
    for (let n = 0; n < 10_001; n += 1) client.get(`stranger${n}`);
    assert.notEqual(client.get('stranger'), stranger, 'what was said of strangers is given up');
  });
});

describe('a call that is wrong', () => {
  let warn;
  beforeEach(() => (warn = mock.method(console, 'warn', () => {})));
  afterEach(() => warn.mock.restore());

  const longest = 'é'.repeat(100);

  test('watch() never throws: who can not be a user is unknown, and the console says so once', async () => {
    const { client, sockets } = await startOpen();
    const wrong = ['', 7, undefined, null, {}, 'a b', 'a\r\n', 'a\u2003b', '\u0085', '\0', '\ud800', `${longest}.`];
    for (const userId of wrong) {
      for (let times = 0; times < 2; times += 1) {
        const heard = [];
        const unwatch = client.watch(userId, (presence) => heard.push(presence));
        await settle();
        assert.deepEqual(heard, [{ userId, state: 'unknown' }]);
        assert.equal(client.get(userId), heard[0]);
        unwatch();
        unwatch();
      }
    }
    await advance(20);
    assert.equal(sockets.pulls.length, 0);
    const said = warn.mock.calls.map(({ arguments: [text] }) => text);
    assert.deepEqual(said, [
      'presenced: a user id is a string that is not empty',
      'presenced: a user id has no white space and no control character',
      'presenced: a user id has at most 200 bytes',
    ]);
    assert.deepEqual(warn.mock.calls[1].arguments[1], 'a b');
  });

  test('nor does it without a function to call', async () => {
    const report = mock.method(console, 'error', () => {});
    const { client } = start();
    const unwatch = [undefined, null, 'alice'].map((callback) => client.watch('alice', callback));
    await settle();
    for (const end of unwatch) end();
    assert.deepEqual(warn.mock.calls.map(({ arguments: [text] }) => text), [
      'presenced: the callback of watch() must be a function',
    ]);
    assert.equal(report.mock.callCount(), 0);
    report.mock.restore();
  });

  test('an id that a user can have is not minded', () => {
    for (const right of [longest, '😀', 'a.b_c:d@e-f', '"']) assert.equal(userIdProblem(right), undefined);
    assert.match(userIdProblem(`${longest}.`), /200 bytes/);
  });
});

describe('a host that says what is seen', () => {
  test('setVisible(false) is a hidden page, and true its return', async () => {
    const { client, sockets, states } = await startOpen();
    client.watch('alice', () => {});
    await advance(20);
    sockets.last.answer({});
    client.setVisible(false);
    client.watch('bob', () => {});
    await advance(60_000);
    assert.equal(sockets.pulls.length, 1);
    assert.equal(states.at(-1).state, 'open');

    client.setVisible(true);
    client.setVisible(true);
    assert.deepEqual(sockets.pulls.slice(1).map(({ users }) => users), [['alice', 'bob']]);
    sockets.last.answer({});
    client.setVisible(true);
    assert.equal(sockets.pulls.length, 2, 'to be told twice is no return');

    client.setVisible(false);
    sockets.last.isDead = true;
    client.setVisible(true);
    await advance(3_000);
    assert.equal(sockets.all.length, 2, 'a dead connection is found out');
  });

  test('in a page, both must see it', async () => {
    const page = (globalThis.document = new Page());
    const { client, sockets } = await startOpen();
    client.watch('alice', () => {});
    await advance(20);
    sockets.last.answer({});
    page.turn('hidden');
    client.setVisible(false);
    client.setVisible(true);
    assert.equal(sockets.pulls.length, 1);
    client.setVisible(false);
    page.turn('visible');
    assert.equal(sockets.pulls.length, 1);
    client.setVisible(true);
    assert.equal(sockets.pulls.length, 2);
  });
});

describe('a hidden page', () => {
  test('sends no pull, and one at once on return', async () => {
    const page = (globalThis.document = new Page());
    const { client, sockets } = await startOpen({ pullInterval: 10_000 });
    client.watch('alice', () => {});
    await advance(20);
    sockets.last.answer({});
    await advance(10_000);
    sockets.last.answer({});
    assert.equal(sockets.pulls.length, 2);

    page.turn('hidden');
    await advance(35_000);
    client.watch('bob', () => {});
    await advance(35_000);
    assert.equal(sockets.pulls.length, 2);

    page.turn('visible');
    assert.equal(sockets.pulls.length, 3);
    assert.deepEqual(sockets.pulls[2].users, ['alice', 'bob']);
    sockets.last.answer({});
    await advance(9_990);
    assert.equal(sockets.pulls.length, 3);
    await advance(10);
    assert.equal(sockets.pulls.length, 4, 'and then one each interval again, not two');
  });

  test('that connects while hidden waits for its return', async () => {
    const page = (globalThis.document = new Page());
    page.visibilityState = 'hidden';
    const { client, sockets } = await startOpen();
    client.watch('alice', () => {});
    await advance(60_000);
    assert.equal(sockets.pulls.length, 0);
    page.turn('visible');
    assert.equal(sockets.pulls.length, 1);
  });

  test('still hears the answer to what it had asked, and still comes back when the connection is lost', async () => {
    const page = (globalThis.document = new Page());
    const { client, sockets } = await startOpen();
    const heard = hear(client, 'alice');
    await advance(20);
    page.turn('hidden');
    sockets.last.answer({ alice: 1 });
    assert.deepEqual(heard, ['online@1']);
    sockets.last.drop(1012);
    await advance(500);
    sockets.last.open();
    assert.equal(sockets.all.length, 2);
    assert.equal(sockets.last.pulls.length, 0);
    page.turn('visible');
    assert.equal(sockets.last.pulls.length, 1);
  });

  test('that comes and goes in a moment asks once, and goes on pulling', async () => {
    const page = (globalThis.document = new Page());
    const { client, sockets } = await startOpen({ pullInterval: 1_000 });
    client.watch('alice', () => {});
    for (let n = 0; n < 200; n += 1) {
      page.turn('hidden');
      page.turn('visible');
    }
    assert.equal(sockets.pulls.length, 1);

    // The round of pulls ends in the hidden page, before the edge has answered.
    page.turn('hidden');
    await advance(1_000);
    assert.equal(sockets.pulls.length, 1);
    page.turn('visible');
    assert.equal(sockets.pulls.length, 2);
    sockets.last.answer({});
    await advance(1_000);
    assert.equal(sockets.pulls.length, 3);
  });

  test('is not listened to after close()', async () => {
    const page = (globalThis.document = new Page());
    const browser = startWindow();
    const { client, sockets } = await startOpen();
    client.watch('alice', () => {});
    await advance(20);
    client.close();
    page.turn('hidden');
    page.turn('visible');
    assert.equal(sockets.pulls.length, 1);
    for (const type of ['visibilitychange', 'resume']) assert.equal(getEventListeners(page, type).length, 0, type);
    for (const type of ['pageshow', 'online']) assert.equal(getEventListeners(browser, type).length, 0, type);
  });
});

describe('a connection that died without a word', () => {
  /** With nobody watched, unless the test does; from now on nothing gets through. */
  const startDead = async (options) => {
    const started = await startOpen(options);
    started.sockets.last.isDead = true;
    return started;
  };

  /** Is given up after this many milliseconds, and not before. */
  const isLostAfter = async ({ client, sockets, states }, ms) => {
    const before = sockets.all.length;
    await advance(ms - 10);
    assert.equal(client.state, 'open');
    const socket = sockets.last;
    await advance(10);
    assert.equal(socket.closedWith, 1000, 'it is not kept');
    const { state, retryInMs, error } = states.at(-2);
    assert.deepEqual([state, retryInMs], ['waiting', 0], 'the first attempt follows at once');
    assert.match(error.message, /the edge was silent for \d+ ms/);
    assert.equal(states.at(-1).state, 'connecting');
    assert.equal(sockets.all.length, before + 1);
  };

  test('is asked for nobody after a silence, and given up when it does not answer', async () => {
    // Half of the last tenth of 30 s, and 10 s for the answer.
    const started = await startDead();
    await advance(28_490);
    assert.deepEqual(started.sockets.last.probes, []);
    await advance(10);
    assert.deepEqual(started.sockets.last.probes, [1]);
    await isLostAfter(started, 10_000);
    assert.deepEqual(started.pulls, [
      { pull: 1, phase: 'sent', users: 0 },
      { pull: 1, phase: 'lost', users: 0 },
    ]);
  });

  test('that is spread at random over the last tenth, and begins anew with every message', async () => {
    for (const [random, quiet] of [[0, 30_000], [1, 27_000]]) {
      const { sockets } = await startOpen({ random: () => random });
      await advance(quiet - 10);
      sockets.last.say({ anything: 'counts as life' });
      await advance(quiet - 10);
      assert.equal(sockets.last.probes.length, 0);
      await advance(10);
      assert.equal(sockets.last.probes.length, 1);
    }
  });

  test('and one that lives stays, with one small question after each silence', async () => {
    const { sockets, states } = await startOpen();
    await advance(600_000);
    assert.equal(sockets.all.length, 1);
    assert.equal(sockets.last.probes.length, Math.floor(600_000 / 28_500));
    assert.equal(states.at(-1).state, 'open');
  });

  test('and one that tells of its pings is asked for nothing', async () => {
    const { sockets, states } = await startOpen({ random: () => 1 });
    for (let ping = 0; ping < 24; ping += 1) {
      await advance(25_000);
      sockets.last.say({ alive: true });
    }
    assert.equal(sockets.all.length, 1);
    assert.deepEqual(sockets.last.probes, []);
    assert.equal(states.at(-1).state, 'open');
  });

  test('is found out on a hidden page', async () => {
    const page = (globalThis.document = new Page());
    const started = await startOpen();
    started.client.watch('alice', () => {});
    await advance(20);
    started.sockets.last.answer({});
    page.turn('hidden');
    started.sockets.last.isDead = true;
    await isLostAfter(started, 38_500);
    assert.equal(started.sockets.pulls.length, 1, 'while it is hidden, it asks for nobody');
  });

  test('is found out by pulls that nobody answers, but not if anything else comes', async () => {
    const started = await startDead({ pullInterval: 3_000 });
    const { client, sockets } = started;
    hear(client, 'alice');
    await advance(9_000);
    sockets.last.say({ anything: 'counts as life' });
    // From the next pull on.
    await advance(20);
    await isLostAfter(started, 13_000 - 20);
  });

  for (const [type, target] of [
    ['visibilitychange', 'page'],
    ['resume', 'page'],
    ['pageshow', 'window'],
    ['online', 'window'],
  ]) {
    test(`${type}: it must answer within 3 s, whoever is watched`, async () => {
      for (const watched of [[], ['alice', 'bob']]) {
        const page = (globalThis.document = new Page());
        const browser = startWindow();
        const started = await startOpen();
        const { client, sockets } = started;
        for (const user of watched) client.watch(user, () => {});
        await advance(20);
        if (watched.length > 0) sockets.last.answer({});
        const wake = () => (target === 'page' ? page : browser).dispatchEvent(new Event(type));

        const before = sockets.pulls.length + sockets.last.probes.length;
        wake();
        wake();
        assert.equal(sockets.pulls.length + sockets.last.probes.length, before + 1, 'one question, at once');
        if (watched.length > 0) assert.deepEqual(sockets.pulls.at(-1).users, watched);
        sockets.last.answer({}, { pull: before + 1 });
        await advance(5_000);
        assert.equal(client.state, 'open');

        sockets.last.isDead = true;
        wake();
        await advance(1_000);
        wake();
        await isLostAfter(started, 2_000);
        client.close();
      }
    });
  }

  test('a page that comes and goes does not put off the end of it', async () => {
    const page = (globalThis.document = new Page());
    const started = await startDead({ pullInterval: 500 });
    started.client.watch('alice', () => {});
    page.turn('visible');
    // The round of pulls ends while it is hidden, and begins anew.
    page.turn('hidden');
    await advance(1_000);
    page.turn('visible');
    assert.equal(started.sockets.pulls.length, 2);
    await isLostAfter(started, 2_000);
  });

  test('a question of the last connection does not end the next attempt', async () => {
    const browser = startWindow();
    const { client, sockets } = await startDead();
    browser.dispatchEvent(new Event('online'));
    await advance(1_000);
    sockets.last.drop(1006);
    await advance(5_000);
    assert.equal(sockets.all.length, 2);
    assert.equal(client.state, 'connecting');
  });

  test('a connection that ended while the page slept is made anew at once, however often that has been', async () => {
    const browser = startWindow();
    const { client, sockets, states } = await startOpen();
    for (let returned = 1; returned <= 5; returned += 1) {
      browser.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
      // The browser tells the page of the end of its connection after it has told it of its return.
      sockets.last.drop(1006);
      assert.equal(states.at(-1).retryInMs, 0);
      await advance(1);
      sockets.last.open();
      assert.equal(client.state, 'open');
    }
    // Of a page that was awake it is a failure like others.
    sockets.last.drop(1006);
    assert.ok(states.at(-1).retryInMs > 0);
  });

  test('an edge that tells a page on its return to stay away is obeyed', async () => {
    const browser = startWindow();
    const { sockets, states } = await startOpen();
    browser.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    sockets.last.drop(1013, 'restarting; retry=7');
    assert.ok(states.at(-1).retryInMs >= 7_000);
  });

  test('pageshow of a page that was only loaded asks for nothing', async () => {
    const browser = startWindow();
    const { sockets } = await startOpen();
    browser.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: false }));
    assert.equal(sockets.last.probes.length, 0);
    browser.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    assert.equal(sockets.last.probes.length, 1);
  });

  test('online on a hidden page: it is asked for nobody', async () => {
    const page = (globalThis.document = new Page());
    const browser = startWindow();
    const started = await startOpen();
    started.client.watch('alice', () => {});
    await advance(20);
    started.sockets.last.answer({});
    page.turn('hidden');
    started.sockets.last.isDead = true;
    browser.dispatchEvent(new Event('online'));
    assert.equal(started.sockets.last.probes.length, 1);
    await isLostAfter(started, 3_000);
    assert.equal(started.sockets.pulls.length, 1);
  });

  test('comes back at once only the first time', async () => {
    const started = await startDead({ random: () => 1 });
    const { sockets, states } = started;
    await advance(27_000);
    await isLostAfter(started, 10_000);
    const browser = startWindow();
    started.client.close();
    started.client.connect();
    for (const retryInMs of [0, 1_000, 2_000]) {
      await settle();
      sockets.last.open();
      sockets.last.isDead = true;
      browser.dispatchEvent(new Event('online'));
      await advance(3_000);
      const { state } = states.at(-1);
      assert.deepEqual(states.findLast(({ state }) => state === 'waiting').retryInMs, retryInMs);
      if (state === 'waiting') await advance(retryInMs);
    }
  });
});

describe('coming back', () => {
  /** Fails to connect a number of times, and gives the waits. */
  const waits = async (times, options) => {
    const { sockets, states } = start(options);
    for (let n = 0; n < times; n += 1) {
      await settle();
      sockets.last.drop(1006);
      mock.timers.tick(states.at(-1).retryInMs);
    }
    return states.filter(({ state }) => state === 'waiting').map(({ retryInMs }) => retryInMs);
  };

  test('full jitter: each wait is anywhere between 0 and a bound that doubles up to the cap', async () => {
    const bounds = Array.from({ length: 12 }, (_, n) => Math.min(30_000, 500 * 2 ** n));
    assert.deepEqual(await waits(12, { random: () => 1 }), bounds);
    assert.deepEqual(await waits(12, { random: () => 0 }), Array(12).fill(0));

    const shares = [];
    for (let seed = 1; seed <= 200; seed += 1) {
      const waited = await waits(12, { random: seeded(seed) });
      waited.forEach((ms, n) => {
        assert.ok(Number.isInteger(ms) && ms >= 0 && ms <= bounds[n], `wait ${n} of seed ${seed}: ${ms}`);
        shares.push(ms / bounds[n]);
      });
    }
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    assert.ok(Math.abs(mean - 0.5) < 0.02, `spread over all of it, not around a part: mean ${mean}`);
  });

  test('never overflows', async () => {
    const waited = await waits(2_000, { random: () => 1, backoffBase: 1, backoffCap: 7 });
    assert.deepEqual(new Set(waited), new Set([1, 2, 4, 7]));
  });

  test('starts over only after a connection that lasted', async () => {
    const { client, sockets, states } = start({ random: () => 1, stableAfter: 10_000 });
    const live = async (ms) => {
      await settle();
      sockets.last.open();
      await advance(ms);
      sockets.last.drop(1006);
      const { retryInMs } = states.at(-1);
      await advance(retryInMs);
      return retryInMs;
    };
    assert.deepEqual([await live(0), await live(5_000), await live(9_990)], [500, 1_000, 2_000]);
    assert.deepEqual([await live(10_000), await live(0)], [500, 1_000]);

    // Ten seconds since it opened, but not ten seconds open.
    assert.equal(await live(5_000), 2_000);
    for (const wait of [4_000, 8_000, 16_000]) {
      await settle();
      sockets.last.drop(1006);
      assert.equal(states.at(-1).retryInMs, wait);
      await advance(wait);
    }
    client.close();
    client.connect();
    assert.equal(await live(0), 500, 'and when it is told to');
  });

  test('the wait is what it says', async () => {
    const { sockets, states } = await startOpen();
    sockets.last.drop(1012, 'restart');
    assert.deepEqual(states.at(-1), { state: 'waiting', code: 1012, reason: 'restart', retryInMs: 250 });
    await advance(240);
    assert.equal(sockets.all.length, 1);
    await advance(10);
    assert.equal(sockets.all.length, 2);
  });

  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4401, 4408]) {
    test(`close code ${code}: comes back`, async () => {
      const { sockets, states } = await startOpen({ token: () => 'fresh', random: () => 1 });
      sockets.last.drop(code);
      assert.equal(states.at(-1).retryInMs, 500);
      await advance(500);
      assert.equal(sockets.all.length, 2);
    });
  }

  for (const code of [1002, 1003, 1007, 1008, 1009]) {
    test(`close code ${code}: comes back, spread over the whole cap`, async () => {
      const { sockets, states } = await startOpen({ random: () => 1 });
      sockets.last.drop(code);
      assert.equal(states.at(-1).retryInMs, 30_000);
      await advance(30_000);
      assert.equal(sockets.all.length, 2);
    });
  }

  for (const [code, reason, least] of [
    [1013, 'too_many_sessions; retry=5', 5_000],
    [4429, 'too_many_connections; retry=60', 60_000],
    [1012, 'draining; retry=5', 5_000],
    [1013, 'too_many_sessions; retry=999999999', 300_000],
    [1013, 'too_many_sessions; retry=soon', 0],
    [1013, 'retry=5', 0],
  ]) {
    test(`close code ${code} with "${reason}": waits as told, and is spread beyond it`, async () => {
      const { sockets, states } = await startOpen({ token: () => 'fresh', random: () => 1 });
      sockets.last.drop(code, reason);
      assert.equal(states.at(-1).retryInMs, least + 500);
      await advance(least + 490);
      assert.equal(sockets.all.length, 1);
      await advance(10);
      assert.equal(sockets.all.length, 2);
    });
  }

  test('the network is back, or the page: the wait is over', async () => {
    const page = (globalThis.document = new Page());
    const browser = startWindow();
    const { client, sockets, states } = start({ random: () => 1 });
    const wakes = [
      () => browser.dispatchEvent(new Event('online')),
      () => browser.dispatchEvent(new Event('pageshow')),
      () => page.dispatchEvent(new Event('resume')),
      () => page.turn('visible'),
    ];
    for (const [n, wake] of wakes.entries()) {
      await settle();
      sockets.last.drop(1006);
      assert.equal(states.at(-1).retryInMs, 500 * 2 ** n);
      page.turn('hidden');
      assert.equal(client.state, 'waiting');
      wake();
      wake();
      await settle();
      assert.equal(sockets.all.length, n + 2);
    }
    await advance(60_000);
    assert.equal(states.filter(({ state }) => state === 'connecting').length, sockets.all.length, 'no timer was left');
  });

  for (const [code, reason] of [[1013, 'too_many_sessions; retry=60'], [4429, 'too_many_connections; retry=60'], [1008, 'rate_limited']]) {
    test(`but not if the edge has told it to wait: ${code} "${reason}"`, async () => {
      const browser = startWindow();
      const { client, sockets } = await startOpen();
      sockets.last.drop(code, reason);
      browser.dispatchEvent(new Event('online'));
      await settle();
      assert.equal(client.state, 'waiting');
      assert.equal(sockets.all.length, 1);
    });
  }

  test('a refused token is fetched anew for the next attempt', async () => {
    const tokens = ['old', 'new'];
    const { sockets } = await startOpen({ token: () => tokens.shift() ?? 'none' });
    sockets.last.drop(4401, 'token_expired');
    await advance(500);
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.new']);
  });

  test('a token that is refused again and again is asked for less and less often', async () => {
    let tokens = 0;
    const { sockets, states } = start({ token: () => `t${(tokens += 1)}`, random: () => 1 });
    const waited = [];
    for (let n = 0; n < 9; n += 1) {
      await settle();
      // The edge accepts the handshake, to say why it does not want it.
      sockets.last.open();
      sockets.last.drop(4401, 'token_invalid');
      waited.push(states.at(-1).retryInMs);
      mock.timers.tick(waited.at(-1));
    }
    assert.deepEqual(waited, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    assert.equal(tokens, 9);
  });

  test('a token function that says there is none stops it for good', async () => {
    const copy = Object.assign(new Error('of another copy of the module'), { name: 'PresenceUnauthorized' });
    for (const none of [new PresenceUnauthorized('signed out'), copy]) {
      const outcomes = [() => Promise.reject(none), () => 'good'];
      const { client, sockets, states } = start({ token: () => outcomes.shift()() });
      await settle();
      assert.deepEqual(states.at(-1), { state: 'closed', error: none });
      await advance(120_000);
      assert.equal(sockets.all.length, 0);

      client.connect();
      await settle();
      sockets.last.open();
      assert.equal(client.state, 'open');
    }
  });

  for (const state of ['closed', 'waiting', 'told to wait', 'fetching', 'connecting', 'open']) {
    test(`reconnect() comes back at once: ${state}`, async () => {
      let hangs = state === 'fetching';
      const token = () => (hangs ? new Promise(() => {}) : 'good');
      const { client, sockets, states, pulls } = start({ token, random: () => 1 });
      client.watch('alice', () => {});
      await settle();
      if (state === 'closed') client.close();
      if (state === 'waiting') sockets.last.drop(1006);
      if (state === 'told to wait') sockets.last.drop(4429, 'too_many_connections; retry=60');
      if (state === 'open') sockets.last.open();
      hangs = false;
      const before = sockets.all.length;

      client.reconnect();
      assert.equal(client.state, 'connecting');
      await settle();
      assert.equal(sockets.all.length, before + 1);
      sockets.last.open();
      assert.equal(states.at(-1).state, 'open');
      if (before > 0) assert.equal(sockets.all[0].state, 'closed', 'no socket is left behind');
      if (state === 'open') assert.deepEqual(pulls.map(({ phase }) => phase), ['sent', 'lost', 'sent']);
      assert.deepEqual(sockets.last.pulls.map(({ users }) => users), [['alice']]);
      sockets.last.answer({});
      const attempts = states.filter(({ state }) => state === 'connecting').length;
      await advance(7_000);
      assert.equal(states.filter(({ state }) => state === 'connecting').length, attempts, 'no other attempt was due');
      // And its waits begin anew.
      sockets.last.drop(1006);
      assert.equal(states.at(-1).retryInMs, 500);
    });
  }

  for (const [code, options] of [[4403, {}], [4409, {}], [4401, { token: 'fixed' }]]) {
    test(`close code ${code}${options.token ? ' with a token that can not change' : ''}: stays away`, async () => {
      const { client, sockets, states } = await startOpen({ token: () => 'fresh', ...options });
      client.watch('alice', () => {});
      await advance(20);
      sockets.last.drop(code, 'replaced');
      assert.deepEqual(states.at(-1), { state: 'closed', code, reason: 'replaced' });
      await advance(120_000);
      assert.equal(sockets.all.length, 1);

      client.connect();
      await settle();
      sockets.last.open();
      assert.equal(sockets.all.length, 2);
      assert.deepEqual(sockets.last.pulls[0].users, ['alice'], 'who was watched still is');
    });
  }

  test('what the lost connection still says is not heard', async () => {
    const { client, sockets } = await startOpen({ token: () => 'fresh' });
    const heard = hear(client, 'alice');
    await advance(20);
    const old = sockets.last;
    old.drop(1006);
    await advance(500);
    sockets.last.open();
    old.answer({ alice: 1 });
    old.drop(4409);
    old.open();
    assert.deepEqual(heard, []);
    assert.equal(client.state, 'open');
    assert.equal(sockets.all.length, 2);
  });
});

describe('a token as the first message', () => {
  const accepted = { token: { expiresIn: 3_600 } };

  test('is sent when the socket opens, and it is open when the edge has accepted it', async () => {
    const { client, sockets, states } = start({ tokenIn: 'message' });
    const heard = hear(client, 'alice');
    await settle();
    const edge = sockets.last;
    assert.deepEqual(edge.protocols, ['presence.v1', 'presence.alive'], 'the head has no token');
    edge.open();
    assert.deepEqual(edge.tokens, ['a.b.c']);
    await advance(1_000);
    assert.equal(client.state, 'connecting');
    assert.deepEqual(edge.pulls, [], 'nothing is asked for before');
    edge.say(accepted);
    assert.deepEqual(states.map(({ state }) => state), ['connecting', 'open']);
    assert.deepEqual(edge.pulls.map(({ users }) => users), [['alice']]);
    edge.answer({ alice: 7 });
    assert.deepEqual(heard, ['online@7']);
    await advance(60_000);
    assert.deepEqual(edge.tokens, ['a.b.c'], 'and no more of it');
  });

  test('is so by itself only if proxies would refuse it in the head', async () => {
    for (const [tokenIn, bytes, isMessage] of [
      [undefined, 8_000, false],
      [undefined, 8_001, true],
      ['auto', 8_001, true],
      ['handshake', 16_000, false],
      ['message', 5, true],
    ]) {
      const token = 'x'.repeat(bytes);
      const { sockets } = await startOpen({ token, tokenIn });
      assert.equal(sockets.last.protocols.length, isMessage ? 2 : 3, `${tokenIn} ${bytes}`);
      assert.deepEqual(sockets.last.tokens, isMessage ? [token] : []);
    }
  });

  test('and no answer to it: given up when the attempt has taken too long', async () => {
    const { sockets, states } = await startOpen({ tokenIn: 'message', connectTimeout: 5_000 });
    for (const nothing of ['', {}, { token: 1 }, { token: {} }, { token: { error: { code: 'x' } } }, { pull: 1 }]) {
      sockets.last.say(nothing);
    }
    await advance(4_990);
    assert.equal(states.at(-1).state, 'connecting');
    await advance(10);
    assert.equal(states.at(-1).state, 'waiting');
    assert.match(states.at(-1).error.message, /no connection within 5000 ms/);
    assert.equal(sockets.all[0].closedWith, 1000);
    sockets.all[0].say(accepted);
    assert.equal(states.at(-1).state, 'waiting');
  });

  test('that is refused is fetched anew, and backed off from', async () => {
    const tokens = ['old', 'new', 'next'];
    const { sockets, states } = await startOpen({ tokenIn: 'message', token: () => tokens.shift() ?? 'none' });
    sockets.last.drop(4401, 'token_expired');
    assert.deepEqual(states.at(-1), { state: 'waiting', code: 4401, reason: 'token_expired', retryInMs: 250 });
    await advance(250);
    sockets.last.open();
    assert.deepEqual(sockets.last.tokens, ['new']);
    sockets.last.drop(1013, 'server_busy; retry=5');
    assert.equal(states.at(-1).retryInMs, 5_500);
    await advance(5_500);
    sockets.last.open();
    sockets.last.say(accepted);
    assert.deepEqual(sockets.last.tokens, ['next']);
    assert.equal(states.at(-1).state, 'open');
  });

  test('that is short is replaced by half time, as the edge may give no other warning', async () => {
    let tokens = 0;
    const { sockets } = await startOpen({ tokenIn: 'message', token: () => `t${(tokens += 1)}` });
    sockets.last.say({ token: { expiresIn: 60 } });
    await advance(29_990);
    assert.deepEqual(sockets.last.tokens, ['t1']);
    await advance(10);
    assert.deepEqual(sockets.last.tokens, ['t1', 't2']);
    sockets.last.say(accepted);
    sockets.last.say({ expiring: 90 });
    await settle();
    assert.deepEqual(sockets.last.tokens, ['t1', 't2', 't3']);
  });

  test('and close() when it is accepted is final', async () => {
    const { client, sockets } = await startOpen({
      tokenIn: 'message',
      token: () => 'fresh',
      onstate: ({ state }) => state === 'open' && client.close(),
    });
    sockets.last.say({ token: { expiresIn: 60 } });
    assert.equal(client.state, 'closed');
    await advance(120_000);
    assert.deepEqual(sockets.last.tokens, ['fresh']);
    assert.equal(sockets.all.length, 1);
  });
});

describe('a token that ends', () => {
  /** A client whose token function gives t1, t2 and so on. */
  const startRenewing = async (options = {}) => {
    let tokens = 0;
    const started = await startOpen({ token: () => `t${(tokens += 1)}`, ...options });
    return { ...started, edge: started.sockets.last };
  };

  const refused = { token: { error: { code: 'token_expired', message: 'the token has expired' } } };

  test('is replaced when the edge says that it ends soon, and not before', async () => {
    const { edge, states } = await startRenewing();
    await advance(300_000);
    assert.deepEqual(edge.tokens, []);
    edge.say({ expiring: 90 });
    await settle();
    assert.deepEqual(edge.tokens, ['t2']);
    edge.say({ token: { expiresIn: 3_600 } });
    await advance(600_000);
    assert.deepEqual(edge.tokens, ['t2']);
    edge.say({ expiring: 61 });
    await settle();
    assert.deepEqual(edge.tokens, ['t2', 't3']);
    assert.equal(states.at(-1).state, 'open');
  });

  test('and is a string: there is no other', async () => {
    const { sockets, client } = await startOpen();
    sockets.last.say({ expiring: 90 });
    await advance(60_000);
    assert.deepEqual(sockets.last.tokens, []);
    sockets.last.drop(4401, 'token_expired');
    assert.equal(client.state, 'closed');
  });

  test('is shown again after a pause that grows, until it is taken', async () => {
    const { edge } = await startRenewing();
    edge.say({ expiring: 90 });
    await settle();
    for (let tries = 1; tries <= 4; tries += 1) {
      assert.equal(edge.tokens.length, tries);
      edge.say(refused);
      // Half of 500 ms, doubled each time.
      await advance(250 * 2 ** tries - 10);
      assert.equal(edge.tokens.length, tries);
      await advance(10);
    }
    assert.deepEqual(edge.tokens, ['t2', 't3', 't4', 't5', 't6']);
    edge.say({ token: { expiresIn: 600 } });
    await advance(60_000);
    assert.equal(edge.tokens.length, 5);
    // And the pauses begin anew.
    edge.say({ expiring: 90 });
    await settle();
    edge.say(refused);
    await advance(500);
    assert.equal(edge.tokens.length, 7);
  });

  test('is fetched again if it does not come', async () => {
    const outcomes = ['t1', new Error('no'), '', 't2'];
    const next = () => {
      const outcome = outcomes.shift();
      if (outcome instanceof Error) throw outcome;
      return outcome;
    };
    const { edge, states } = await startRenewing({ token: next });
    edge.say({ expiring: 90 });
    await advance(5_000);
    assert.deepEqual(edge.tokens, ['t2']);
    assert.equal(states.at(-1).state, 'open');
  });

  test('and there is no other any more: it goes offline, and stays', async () => {
    const outcomes = [() => 't1', () => Promise.reject(new PresenceUnauthorized('signed out'))];
    const { client, edge, sockets, states } = await startRenewing({ token: () => outcomes.shift()() });
    edge.say({ expiring: 90 });
    await settle();
    assert.equal(client.state, 'closed');
    assert.equal(states.at(-1).error.message, 'signed out');
    assert.equal(edge.closedWith, 1000);
    await advance(120_000);
    assert.equal(sockets.all.length, 1);
  });

  test('and is short: another one follows by half time, and never at once', async () => {
    const { edge } = await startRenewing();
    edge.say({ expiring: 35 });
    await settle();
    edge.say({ token: { expiresIn: 60 } });
    await advance(29_990);
    assert.deepEqual(edge.tokens, ['t2']);
    await advance(10);
    assert.deepEqual(edge.tokens, ['t2', 't3']);
    edge.say({ token: { expiresIn: 0 } });
    await advance(990);
    assert.equal(edge.tokens.length, 2);
    await advance(10);
    assert.equal(edge.tokens.length, 3);
  });

  test('is not shown to another connection than the one that asked', async () => {
    const late = [];
    let isLate = false;
    const token = () => (isLate ? new Promise((resolve) => late.push(resolve)) : 'prompt');
    const { edge, sockets, states } = await startRenewing({ token });
    isLate = true;
    edge.say({ expiring: 90 });
    await settle();
    isLate = false;
    edge.drop(1006);
    await advance(states.at(-1).retryInMs);
    sockets.last.open();
    assert.notEqual(sockets.last, edge);
    late[0]('late');
    await advance(60_000);
    assert.deepEqual([edge.tokens, sockets.last.tokens], [[], []]);
    // Nor are tries that were due on the last connection.
    sockets.last.say({ expiring: 90 });
    await settle();
    sockets.last.say(refused);
    sockets.last.drop(1006);
    await advance(states.at(-1).retryInMs);
    sockets.last.open();
    await advance(60_000);
    assert.deepEqual(sockets.last.tokens, []);
  });

  test('what is no such message is ignored', async () => {
    const { edge } = await startRenewing();
    for (const message of [{ expiring: '90' }, { expiring: null }, { token: null }, { token: 'x' }, { expiring: [90] }]) {
      edge.say(message);
    }
    await advance(60_000);
    assert.deepEqual(edge.tokens, []);
  });
});

test('whatever happens in whatever order, what it promises holds', async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = seeded(seed);
    const below = (limit) => Math.floor(random() * limit);
    const page = (globalThis.document = new Page());
    const browser = startWindow();
    const tokenIn = seed % 2 === 0 ? 'message' : 'handshake';
    const { client, sockets, pulls } = start({ random, token: () => 'fresh', tokenIn });
    const watching = new Map();
    // What memcached holds, and whom the edge has ever called offline.
    const online = new Set();
    const calledOffline = new Set();
    let sentBefore = 0;

    const steps = [
      () => {
        const user = `user${below(600)}`;
        if (watching.has(user)) return;
        const unwatch = client.watch(user, ({ state, connectedAt }) => {
          if (state === 'offline') assert.ok(calledOffline.has(user), `${user} is offline on a guess`);
          assert.equal(connectedAt !== undefined, state === 'online');
        });
        watching.set(user, unwatch);
      },
      () => {
        const [first] = watching;
        first?.[1]();
        watching.delete(first?.[0]);
      },
      () => page.turn(page.visibilityState === 'hidden' ? 'visible' : 'hidden'),
      () => browser.dispatchEvent(new Event(below(2) ? 'online' : 'pageshow')),
      () => sockets.all.length > 0 && below(10) === 0 && (sockets.last.isDead = true),
      () => advance(below(100)),
      () => mock.timers.tick(below(12_000)),
      () => sockets.all.at(-1)?.state === 'connecting' && sockets.last.open(),
      () => sockets.all.at(-1)?.state === 'open' && sockets.last.drop([1006, 1012, 4401, 1008][below(4)]),
      () => sockets.all.at(-1)?.state === 'open' && sockets.last.say({ token: { expiresIn: 1 + below(4_000) } }),
      () => online.add(`user${below(600)}`),
      () => online.delete(`user${below(600)}`),
      () => {
        const socket = sockets.all.at(-1);
        const asked = socket?.pulls[below(socket.pulls.length)];
        if (socket?.state !== 'open' || !asked) return;
        const unknown = asked.users.filter(() => random() < 0.2);
        const here = asked.users.filter((user) => online.has(user));
        for (const user of asked.users) {
          if (!online.has(user) && !unknown.includes(user)) calledOffline.add(user);
        }
        socket.answer(Object.fromEntries(here.map((user) => [user, 1])), { unknown, pull: asked.pull });
      },
    ];

    for (let step = 0; step < 400; step += 1) {
      const hiddenBefore = page.visibilityState === 'hidden';
      const at = `seed ${seed}, step ${step}`;
      await steps[below(steps.length)]();
      await settle();
      const sent = sockets.pulls.length;
      if (hiddenBefore && page.visibilityState === 'hidden') assert.equal(sent, sentBefore, `a hidden pull at ${at}`);
      sentBefore = sent;
      assert.ok(sockets.all.filter(({ state }) => state === 'open').length <= 1, `two sockets at ${at}`);
      const ended = pulls.filter(({ phase }) => phase !== 'sent').length;
      assert.ok(pulls.length - 2 * ended <= 4 && pulls.length >= 2 * ended, `pulls under way at ${at}`);
    }
    for (const { users } of sockets.pulls) assert.ok(users.length <= 500);
    client.close();
  }
});

describe('on a real WebSocket', () => {
  /** @type {import('node:http').Server} */
  let http;
  /** @type {WebSocketServer} */
  let edge;
  /** @type {string} */
  let url;
  /** The tokens that the edge takes; undefined: any. */
  let good;

  beforeEach(async () => {
    mock.timers.reset();
    good = undefined;
    edge = new WebSocketServer({ noServer: true, handleProtocols: () => 'presence.v1' });
    http = createServer().on('upgrade', (request, socket, head) => {
      const [dialect, alive, bearer] = request.headers['sec-websocket-protocol'].split(/, ?/);
      assert.deepEqual([dialect, alive], ['presence.v1', 'presence.alive']);
      const token = bearer.replace('bearer.', '');
      if (good && token !== good) {
        socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        return;
      }
      edge.handleUpgrade(request, socket, head, (connection) => edge.emit('connection', connection, token));
    });
    await once(http.listen(0, '127.0.0.1'), 'listening');
    url = `ws://127.0.0.1:${http.address().port}/ws`;
  });

  afterEach(() => {
    for (const client of clients) client.close();
    for (const connection of edge.clients) connection.terminate();
    http.close();
  });

  const connect = (options) => {
    const client = new PresenceClient({ url, token: 'a.b.c', WebSocket, backoffBase: 10, ...options });
    clients.push(client);
    return client;
  };

  test('a pull goes out and its answer comes back', async () => {
    const client = connect();
    const [connection] = await once(edge, 'connection');
    const heard = new Promise((resolve) => client.watch('alice', resolve));
    const [data] = await once(connection, 'message');
    const { pull, users } = JSON.parse(data);
    assert.deepEqual(users, ['alice']);
    connection.send(JSON.stringify({ pull, online: { alice: { connectedAt: 1_700_000_000_000 } } }));
    assert.deepEqual(await heard, { userId: 'alice', state: 'online', connectedAt: 1_700_000_000_000 });

    client.close();
    const [code] = await once(connection, 'close');
    assert.equal(code, 1000);
  });

  test('a restart (1012) and then a refused handshake: back with a token that was fetched for it', async () => {
    const states = [];
    let tokens = 0;
    connect({ token: async () => `t${(tokens += 1)}` }).on('state', (info) => states.push(info));
    const [first, before] = await once(edge, 'connection');
    assert.equal(before, 't1');
    good = 't4';
    first.close(1012, 'restart');
    const [, after] = await once(edge, 'connection');
    assert.equal(after, 't4');
    const codes = states.filter(({ state }) => state === 'waiting').map(({ code }) => code);
    assert.deepEqual(codes, [1012, 1006, 1006]);
  });

  test('close() while the handshake is under way is quiet', async () => {
    const client = connect();
    await settle();
    client.close();
    await settle();
    assert.equal(client.state, 'closed');
  });
});
