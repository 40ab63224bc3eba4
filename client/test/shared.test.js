// Several tabs that share a connection, in a scripted browser, on scripted sockets and a clock that only moves when told
// to.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { PresenceClient, PresenceUnauthorized } from '../presence.js';
import { SharedPresenceClient } from '../shared.js';
import { Browser } from './scripted-tabs.js';
import { Page, Sockets, settle } from './scripted.js';

const nodes = Object.fromEntries(
  ['navigator', 'BroadcastChannel', 'document'].map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]),
);

/** @type {SharedPresenceClient[]} */
let clients = [];
/** @type {Browser} */
let browser;
/** @type {Sockets} */
let sockets;

beforeEach(() => {
  clients = [];
  browser = new Browser();
  sockets = new Sockets();
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_800_000_000_000 });
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
  assert.deepEqual(browser.errors, []);
  for (const [name, descriptor] of Object.entries(nodes)) {
    delete globalThis[name];
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
  }
});

/** Moves the clock in small steps, so that what a timer starts is timed from there. */
const advance = async (ms) => {
  for (let left = ms; left > 0; left -= 20) {
    mock.timers.tick(Math.min(20, left));
    await settle();
  }
};

/** The same, with an edge that answers every second. */
const advanceAnswered = async (ms) => {
  for (let left = ms; left > 0; left -= 1_000) {
    await advance(1_000);
    for (const { pull } of sockets.last.pulls) sockets.last.answer({ bob: 5 }, { pull });
  }
};

/** A tab with a client, and all that it says. */
const open = async (options = {}) => {
  const tab = browser.newTab();
  const client = new SharedPresenceClient({
    url: 'ws://edge.test/ws',
    token: 'a.b.c',
    shared: 'alice',
    WebSocket: sockets.WebSocket,
    random: () => 0.5,
    ...options,
  });
  clients.push(client);
  const said = [];
  const states = [];
  client.on('state', (info) => states.push(info));
  client.on('state', ({ state }) => said.push(state));
  client.on('pull', ({ phase, users }) => said.push(`${phase} ${users}`));
  client.on('change', ({ userId, state }) => said.push(`${userId} ${state}`));
  await settle();
  return { tab, client, said, states };
};

/** So many tabs, the first of which leads, and is connected. */
const openAll = async (count, options) => {
  const tabs = [];
  for (let i = 0; i < count; i += 1) tabs.push(await open(options));
  sockets.last.open();
  await settle();
  return tabs;
};

/** Watches, and gives what the callback hears. */
const hear = (client, userId) => {
  const heard = [];
  client.watch(userId, (presence) => heard.push(presence.state));
  return heard;
};

const openSockets = () => sockets.all.filter(({ state }) => state === 'open');

describe('tabs that share a connection', () => {
  test('have one, and all tell of it', async () => {
    const tabs = await openAll(3);
    assert.equal(sockets.all.length, 1);
    for (const { client, said } of tabs) {
      assert.equal(client.state, 'open');
      assert.deepEqual(said, ['connecting', 'open']);
    }
  });

  test('ask for everyone whom any of them watches, and all are told', async () => {
    const [a, b, c] = await openAll(3);
    const heard = [hear(a.client, 'bob'), hear(b.client, 'bob'), hear(b.client, 'carol'), hear(c.client, 'dave')];
    await settle();
    await advance(20);
    assert.deepEqual(sockets.pulls.map(({ users }) => users.toSorted()), [['bob', 'carol', 'dave']]);
    sockets.last.answer({ bob: 5, carol: undefined });
    await settle();
    assert.deepEqual(heard, [['online'], ['online'], ['online'], ['offline']]);
    assert.deepEqual(b.client.get('bob'), { userId: 'bob', state: 'online', connectedAt: 5 });
    assert.equal(b.client.get('bob'), b.client.get('bob'), 'the same object until it changes');
    assert.deepEqual(b.said.slice(2), ['sent 3', 'bob online', 'carol online', 'answered 3']);
    assert.equal(b.client.get('dave').state, 'unknown', 'whom another tab watches is no business of this one');
  });

  test('a tab that comes late is told at once what is known', async () => {
    const [a] = await openAll(1);
    hear(a.client, 'bob');
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    await settle();
    const late = await open();
    const heard = hear(late.client, 'bob');
    await settle();
    assert.deepEqual(heard, ['online']);
    assert.deepEqual(late.said, ['open', 'bob online']);
    assert.equal(sockets.pulls.length, 1, 'and nobody was asked');
  });

  test('whom no tab watches any more is not asked for', async () => {
    const [a, b] = await openAll(2);
    const unwatch = [a.client.watch('bob', () => {}), b.client.watch('bob', () => {})];
    hear(b.client, 'carol');
    await settle();
    await advance(20);
    sockets.last.answer({});
    unwatch[0]();
    await advance(10_000);
    sockets.last.answer({});
    unwatch[1]();
    await advance(10_000);
    assert.deepEqual(sockets.pulls.map(({ users }) => users.toSorted()), [['bob', 'carol'], ['bob', 'carol'], ['carol']]);
  });

  test('are two groups if they name two accounts or two edges', async () => {
    await openAll(1);
    await openAll(1, { shared: 'mallory' });
    await openAll(1, { url: 'ws://other.test/ws' });
    assert.equal(openSockets().length, 3);
    const names = [...browser.channels].map(({ name }) => name);
    assert.equal(new Set(names).size, 3);
    // One that speaks another version has another name, too.
    for (const name of names) assert.equal(JSON.parse(name)[1], 1);
  });

  test('a tab that closes its client leaves the others alone, and can come back', async () => {
    const [a, b] = await openAll(2);
    hear(b.client, 'bob');
    await settle();
    b.client.close();
    assert.equal(b.client.state, 'closed');
    await settle();
    assert.equal(a.client.state, 'open');
    await advance(10_020);
    assert.deepEqual(sockets.pulls, []);
    b.client.connect();
    assert.equal(b.client.state, 'connecting');
    await settle();
    assert.equal(b.client.state, 'open');
    await advance(20);
    assert.deepEqual(sockets.pulls.map(({ users }) => users), [['bob']]);
    assert.deepEqual(b.said.slice(2), ['closed', 'open', 'sent 1']);
    assert.equal(openSockets().length, 1);
  });

  test('a tab that is killed is forgotten', async () => {
    const [a, b] = await openAll(2);
    hear(a.client, 'bob');
    hear(b.client, 'carol');
    await settle();
    await advance(20);
    sockets.last.answer({});
    b.tab.kill();
    await advance(10_000);
    assert.deepEqual(sockets.pulls.at(-1)?.users, ['bob']);
  });

  test('a thousand users watched and left over three tabs leave nothing behind', async () => {
    const tabs = await openAll(3);
    const before = browser.lockCounts;
    for (let round = 0; round < 10; round += 1) {
      const unwatches = Array.from({ length: 100 }, (_, i) => tabs[i % 3].client.watch(`u${round}-${i}`, () => {}));
      await settle();
      for (const unwatch of unwatches) unwatch();
      await settle();
    }
    assert.deepEqual(browser.lockCounts, before);
    await advance(10_020);
    assert.deepEqual(sockets.pulls, []);
  });
});

describe('who leads', () => {
  test('is the next tab when the leader closes, and everyone stays as they were', async () => {
    const [a, b, c] = await openAll(3);
    const heard = hear(c.client, 'bob');
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    await settle();
    a.client.close();
    await settle();
    assert.equal(sockets.all.length, 2);
    assert.equal(sockets.all[0].state, 'closed');
    assert.equal(c.client.state, 'connecting');
    assert.equal(c.client.get('bob').state, 'online');
    sockets.last.open();
    await settle();
    await advance(20);
    assert.deepEqual(sockets.last.pulls.map(({ users }) => users), [['bob']]);
    sockets.last.answer({}, { unknown: ['bob'] });
    await settle();
    assert.deepEqual(heard, ['online'], 'who is known never becomes unknown again');
    assert.deepEqual([a, b, c].map(({ client }) => client.state), ['closed', 'open', 'open']);
    assert.deepEqual(a.said.at(-1), 'closed');
  });

  test('is the next tab when the leader is killed', async () => {
    const [a, b] = await openAll(2);
    a.tab.kill();
    await settle();
    assert.equal(sockets.all.length, 2);
    assert.deepEqual(b.said, ['connecting', 'open', 'connecting']);
  });

  test('is a tab that is seen, when the leader is silent for two seconds', async () => {
    const [a, b, hidden] = await openAll(3);
    hidden.client.setVisible(false);
    const heard = hear(b.client, 'bob');
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    await advance(5_000);
    assert.equal(sockets.all.length, 1, 'a leader that answers keeps its place');

    a.tab.freeze();
    await advance(1_980);
    assert.equal(sockets.all.length, 1);
    await advance(540);
    assert.equal(sockets.all.length, 2);
    sockets.last.open();
    await advance(20);
    assert.deepEqual(sockets.last.pulls.at(-1)?.users, ['bob']);
    sockets.last.answer({ bob: 5 });

    a.tab.wake();
    await settle();
    assert.equal(sockets.all[0].state, 'closed', 'the old one finds its place taken');
    await advance(5_000);
    assert.deepEqual([openSockets().length, sockets.all.length], [1, 2]);
    assert.deepEqual([a, b, hidden].map(({ client }) => client.state), ['open', 'open', 'open']);
    assert.deepEqual(heard, ['online']);
    // It is in line again.
    b.tab.kill();
    hidden.client.close();
    await settle();
    assert.equal(sockets.all.length, 3);
    assert.equal(a.client.state, 'connecting');
  });

  test('is no tab whose timers stand still, though it hears the others, as a frozen page does', async () => {
    const [a, b] = await openAll(2);
    hear(a.client, 'bob');
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    const mocked = globalThis.setTimeout;
    globalThis.setTimeout = (fire, ms) => (ms === 0 ? undefined : mocked(fire, ms));
    try {
      for (let i = 0; i < 6; i += 1) {
        const unwatch = b.client.watch('bob', () => {});
        await advance(440);
        unwatch();
        await settle();
      }
    } finally {
      globalThis.setTimeout = mocked;
    }
    assert.equal(b.client.get('bob').state, 'online', 'the leader still says what it knows');
    assert.equal(sockets.all.length, 2);
    assert.equal(sockets.all[0].state, 'closed');
  });

  test('is nobody new as long as all tabs are hidden', async () => {
    const tabs = await openAll(2);
    for (const { client } of tabs) client.setVisible(false);
    await settle();
    tabs[0].tab.freeze();
    await advance(10_000);
    assert.equal(sockets.all.length, 1);
    tabs[1].client.setVisible(true);
    await advance(2_520);
    assert.equal(sockets.all.length, 2);
  });

  test('is the tab that reconnects, with its own token', async () => {
    let tokens = 0;
    await openAll(1, { token: 'of.the.first' });
    const second = await open({ token: () => `of.the.second${(tokens += 1)}` });
    assert.equal(tokens, 0, 'only the leader needs a token');
    second.client.reconnect();
    await settle();
    sockets.last.open();
    await settle();
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.of.the.second1']);
    assert.equal(openSockets().length, 1);
    second.client.reconnect();
    await settle();
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.of.the.second2']);
  });

  test('is the tab that reconnects before it has joined the others, too', async () => {
    await openAll(1);
    const opening = open({ token: 'of.the.second' });
    clients.at(-1).reconnect();
    await opening;
    sockets.last.open();
    await settle();
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.of.the.second']);
    assert.equal(openSockets().length, 1);
    clients[1].close();
    await settle();
    clients[1].reconnect();
    await settle();
    assert.deepEqual(sockets.last.protocols, ['presence.v1', 'presence.alive', 'bearer.of.the.second'], 'and one that has left them');
    assert.equal(sockets.all.length, 4);
  });

  test('tells nothing that it knew when it led before', async () => {
    const [a, b, c] = await openAll(3);
    const heard = [hear(a.client, 'bob'), hear(c.client, 'bob')];
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    b.client.reconnect();
    await settle();
    sockets.last.open();
    await settle();
    await advance(20);
    sockets.last.answer({});
    await settle();
    a.client.reconnect();
    await settle();
    sockets.last.open();
    await settle();
    assert.deepEqual(heard, [['online', 'offline'], ['online', 'offline']]);
  });
});

describe('pulls of a shared connection', () => {
  test('under way when the leader goes are lost in all tabs, and one that comes late hears of none of them', async () => {
    const [a, b, c] = await openAll(3);
    hear(b.client, 'bob');
    await settle();
    await advance(20);
    a.tab.kill();
    await settle();
    const late = await open();
    const socket = sockets.last;
    socket.open();
    await settle();
    await advance(20);
    socket.answer({ bob: 5 });
    await settle();
    for (const { said } of [b, c]) {
      const pulls = said.filter((word) => / \d$/.test(word));
      assert.deepEqual(pulls, ['sent 1', 'lost 1', 'sent 1', 'answered 1']);
      assert.ok(said.indexOf('lost 1') > said.lastIndexOf('connecting'));
    }
    assert.ok(!late.said.includes('lost 1'));

    await advance(10_000);
    const later = await open();
    socket.answer({ bob: 5 });
    await settle();
    assert.equal(b.said.at(-1), 'answered 1');
    assert.deepEqual(later.said, ['open'], 'no answer to what it did not hear of');
  });

  test('ask whether the connection lives no more often than one that is not shared, as long as nobody is watched', async () => {
    await openAll(2);
    await advance(25_000);
    assert.deepEqual(sockets.last.probes, []);
    await advance(5_000);
    assert.equal(sockets.last.probes.length, 1);
  });

  test('have room for those whom a tab watches instead of others', async () => {
    const [, b] = await openAll(2);
    const watchAll = (name) => Array.from({ length: 3_000 }, (_, i) => b.client.watch(`${name}${i}`, () => {}));
    const first = watchAll('u');
    await settle();
    const warn = mock.method(console, 'warn', () => {});
    for (const unwatch of first) unwatch();
    watchAll('v');
    await settle();
    assert.equal(warn.mock.callCount(), 0);
    warn.mock.restore();
  });

  test('go on while any tab is seen, and pause while all are hidden', async () => {
    const [a, b] = await openAll(2);
    hear(a.client, 'bob');
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    a.client.setVisible(false);
    await advanceAnswered(20_000);
    assert.equal(sockets.pulls.length, 3, 'the leader is hidden, the other is not');
    b.client.setVisible(false);
    await advance(30_000);
    assert.equal(sockets.pulls.length, 3);
    b.client.setVisible(true);
    await settle();
    assert.equal(sockets.pulls.length, 4, 'one leaves at once on return');
  });

  test('leave in time though the timers of a hidden leader are late', async () => {
    const mocked = globalThis.setTimeout;
    globalThis.setTimeout = (fire, ms) => mocked(fire, ms >= 1_000 ? ms + 60_000 : ms);
    try {
      const [a, b] = await openAll(2);
      hear(b.client, 'bob');
      await settle();
      await advance(20);
      sockets.last.answer({ bob: 5 });
      a.client.setVisible(false);
      await advanceAnswered(26_000);
      assert.equal(sockets.pulls.length, 3);
    } finally {
      globalThis.setTimeout = mocked;
    }
  });
});

describe('a shared connection that may not be', () => {
  for (const [what, end, code] of [
    ['the edge forbids it', () => sockets.last.drop(4403, 'forbidden'), 4403],
    ['the token is refused and cannot change', () => sockets.last.drop(4401, 'expired'), 4401],
  ]) {
    test(`is closed in all tabs, with the reason: ${what}`, async () => {
      const tabs = await openAll(3);
      end();
      await settle();
      await advance(60_000);
      for (const { client, states } of tabs) {
        assert.equal(client.state, 'closed');
        assert.equal(states.at(-1).code, code);
        assert.ok(states.at(-1).reason);
      }
      assert.equal(sockets.all.length, 1);
      // Nor when the next one leads.
      tabs[0].tab.kill();
      await advance(60_000);
      assert.equal(sockets.all.length, 1);
      tabs[2].client.connect();
      await settle();
      sockets.last.open();
      await settle();
      assert.deepEqual(tabs.slice(1).map(({ client }) => client.state), ['open', 'open'], 'until one is told to');
    });
  }

  test('is closed in all tabs, also if a listener closes the one that leads for that', async () => {
    const [leader, other] = await openAll(2);
    leader.client.on('state', ({ state }) => state === 'closed' && leader.client.close());
    sockets.last.drop(4409, 'replaced');
    await settle();
    await advance(60_000);
    assert.deepEqual([other.client.state, other.states.at(-1).code], ['closed', 4409]);
    assert.equal(sockets.all.length, 1, 'nobody comes back');
  });

  test('tells why in all tabs when the token function says that there is none', async () => {
    let isSignedIn = true;
    const token = () => {
      if (!isSignedIn) throw new PresenceUnauthorized('signed out');
      return 'a.b.c';
    };
    const [leader, other] = await openAll(2, { token });
    isSignedIn = false;
    sockets.last.drop(1006);
    await advance(1_000);
    assert.ok(leader.states.at(-1).error instanceof PresenceUnauthorized);
    const { state, error } = other.states.at(-1);
    assert.ok(error instanceof Error);
    assert.deepEqual([state, error.name, error.message], ['closed', 'PresenceUnauthorized', 'signed out']);

    // A page that is loaded after the user has signed in again.
    isSignedIn = true;
    const fresh = await open({ token });
    sockets.last.open();
    await settle();
    assert.deepEqual([leader, other, fresh].map(({ client }) => client.state), ['open', 'open', 'open']);
  });

  test('comes back in all tabs when it was only lost', async () => {
    const tabs = await openAll(2);
    sockets.last.drop(1006);
    await settle();
    for (const { states } of tabs) assert.deepEqual(states.at(-1), { state: 'waiting', code: 1006, reason: '', retryInMs: 250 });
    await advance(260);
    sockets.last.open();
    await settle();
    for (const { said } of tabs) assert.deepEqual(said.slice(-3), ['waiting', 'connecting', 'open']);
  });
});

describe('what others say in the channel', () => {
  test('breaks nothing', async () => {
    const [a, b] = await openAll(2);
    const heard = hear(b.client, 'bob');
    await settle();
    await advance(20);
    browser.newTab();
    const channel = new globalThis.BroadcastChannel([...browser.channels][0].name);
    const term = Date.now() + 0.5;
    // To take it for a text or a number throws.
    const noText = { toString: 1, valueOf: 1 };
    const messages = [
      undefined, null, 7, 'text', [], {}, { tab: 7 }, { tab: 'x', watched: 7 }, { tab: 'x', watched: [7, null, 'a b'] },
      { term: 'x', events: [] }, { term: NaN, events: [] }, { term: Infinity, events: [] }, { term: term + 1 },
      { term: term + 1, events: 7 }, { term: term + 1, events: [7, null, [], ['state'], ['state', 7], ['pull', {}]] },
      { term: term + 1, events: [['presence', { state: 'online' }], ['constructor', { state: 'closed' }]] },
      { term: noText, events: [] }, { term: 1n, events: [] }, { tab: noText, watched: [] },
      { term: term + 1, events: [[noText, { state: 'closed' }], [noText, noText], ['state', { state: noText }]] },
      { term: 1, events: [['presence', { userId: 'bob', state: 'offline' }], ['state', { state: 'closed' }]] },
    ];
    const warn = mock.method(console, 'warn', () => {});
    for (const message of messages) channel.postMessage(message);
    await settle();
    warn.mock.restore();
    assert.deepEqual([a.client.state, b.client.state], ['open', 'open']);
    assert.deepEqual(heard, []);
    channel.close();
    a.client.close();
    await settle();
    sockets.last.open();
    await settle();
    await advance(20);
    sockets.last.answer({ bob: 5 });
    assert.deepEqual(heard, ['online']);
  });
});

describe('without others', () => {
  /** The same calls on a client of each class, and what they say. */
  const story = async (Client) => {
    const own = new Sockets();
    const client = new Client({ url: 'ws://edge.test/ws', token: 'a.b.c', WebSocket: own.WebSocket, shared: 'alice' });
    clients.push(client);
    const said = [client.state];
    for (const name of ['state', 'pull', 'change']) client.on(name, (info) => said.push({ name, ...info }));
    client.watch('bob', ({ state }) => said.push(state));
    await settle();
    own.last.open();
    await settle();
    await advance(20);
    own.last.answer({ bob: 5 });
    client.setVisible(false);
    await advance(20_000);
    client.setVisible(true);
    await settle();
    said.push(own.pulls.length);
    client.close();
    return said;
  };

  for (const missing of ['navigator', 'BroadcastChannel']) {
    test(`it is as a client that shares nothing: there is no ${missing}`, async () => {
      browser.newTab();
      delete globalThis[missing];
      const expected = await story(PresenceClient);
      assert.deepEqual(await story(SharedPresenceClient), expected);
    });
  }

  test('nothing is shared unless it is asked for', async () => {
    await openAll(2, { shared: undefined });
    assert.equal(sockets.all.length, 2);
    assert.equal(browser.channels.size, 0);
  });

  test('a page that may have no lock has a connection of its own', async () => {
    browser.newTab().locks.request = () => Promise.reject(new DOMException('sandboxed', 'SecurityError'));
    const client = new SharedPresenceClient({ url: 'ws://e/', token: 'a', shared: 'alice', WebSocket: sockets.WebSocket });
    clients.push(client);
    await settle();
    sockets.last.open();
    assert.equal(client.state, 'open');
    assert.equal(browser.channels.size, 0);
  });

  test('a page that may have no channel has a connection of its own', async () => {
    browser.newTab();
    globalThis.BroadcastChannel = class {
      constructor() {
        throw new DOMException('no storage', 'SecurityError');
      }
    };
    const client = new SharedPresenceClient({ url: 'ws://e/', token: 'a', shared: 'alice', WebSocket: sockets.WebSocket });
    clients.push(client);
    await settle();
    sockets.last.open();
    assert.equal(client.state, 'open');
    assert.deepEqual(browser.lockCounts, [0, 0]);
  });

  test('a hidden page asks for nobody', async () => {
    globalThis.document = new Page();
    const { client } = await open({ shared: undefined });
    sockets.last.open();
    hear(client, 'bob');
    await settle();
    await advance(20);
    assert.equal(sockets.pulls.length, 1);
    sockets.last.answer({ bob: 5 });
    globalThis.document.turn('hidden');
    await settle();
    const asked = sockets.pulls.length;
    await advanceAnswered(30_000);
    assert.equal(sockets.pulls.length, asked);
    globalThis.document.turn('visible');
    await settle();
    assert.equal(sockets.pulls.length, asked + 1);
  });

  test('what is wrong with the options is said at once', () => {
    const options = { url: 'ws://edge.test/', token: 'a.b.c', WebSocket: sockets.WebSocket, autoConnect: false };
    for (const shared of ['', 7, null]) {
      assert.throws(() => new SharedPresenceClient({ ...options, shared }), /shared must be a string/);
    }
    assert.throws(() => new SharedPresenceClient({ ...options, shared: 'a', pullInterval: 0 }), RangeError);
    const client = new SharedPresenceClient({ ...options, shared: 'a' });
    assert.equal(client.state, 'closed');
    assert.throws(() => client.on('states', () => {}), TypeError);
    client.close();
  });

  test('one that is closed leaves no lock, no channel and no timer', async () => {
    const begun = mock.method(globalThis, 'setInterval');
    const ended = mock.method(globalThis, 'clearInterval');
    const tabs = await openAll(3);
    hear(tabs[1].client, 'bob');
    await settle();
    for (const { client } of tabs) client.close();
    await settle();
    const left = new Set(begun.mock.calls.map(({ result }) => result));
    assert.equal(left.size, 3);
    for (const { arguments: [timer] } of ended.mock.calls) left.delete(timer);
    assert.equal(left.size, 0);
    for (const spy of [begun, ended]) spy.mock.restore();
    assert.deepEqual(browser.lockCounts, [0, 0]);
    assert.equal(browser.channels.size, 0);
    const sent = sockets.pulls.length;
    await advance(30_000);
    assert.equal(sockets.pulls.length, sent);
    assert.equal(openSockets().length, 0);
  });
});
