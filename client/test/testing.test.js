// The fake client, side by side with the real one on a scripted socket: what an application hears must be the same.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import { PresenceClient } from '../presence.js';
import { FakePresenceClient } from '../testing.js';
import { Sockets, settle } from './scripted.js';

/** Between pulls of the real client. */
const PULL_MS = 1_000;

/** A client, and how the world is made known to it. */
const KINDS = {
  fake: async () => {
    const client = new FakePresenceClient();
    return {
      client,
      learn: async (states) => {
        for (const [userId, state] of Object.entries(states)) client.set(userId, state);
      },
    };
  },
  real: async () => {
    const sockets = new Sockets();
    const client = new PresenceClient({
      url: 'ws://edge.test/ws',
      token: 'a.b.c',
      WebSocket: sockets.WebSocket,
      pullInterval: PULL_MS,
    });
    await settle();
    sockets.last.open();
    return {
      client,
      learn: async (states) => {
        const before = sockets.pulls.length;
        for (let waited = 0; sockets.pulls.length === before; waited += 10) {
          assert.ok(waited < 2 * PULL_MS, 'it pulls');
          mock.timers.tick(10);
        }
        const online = Object.keys(states).filter((userId) => states[userId] === 'online');
        sockets.last.answer(Object.fromEntries(online.map((userId) => [userId, undefined])));
      },
    };
  },
};

/** Watches, and gives what the callback hears. */
const hear = (client, userId) => {
  const heard = [];
  const unwatch = client.watch(userId, (presence) => {
    assert.equal(presence.userId, userId);
    heard.push(presence.state);
  });
  assert.deepEqual(heard, [], 'no callback before watch() has returned');
  return { heard, unwatch };
};

for (const [kind, make] of Object.entries(KINDS)) {
  describe(`a ${kind} client`, () => {
    /** @type {Awaited<ReturnType<typeof make>>} */
    let world;

    beforeEach(async () => {
      mock.timers.enable({ apis: ['setTimeout'] });
      world = await make();
    });

    afterEach(() => {
      world.client.close();
      mock.timers.reset();
    });

    test('tells the first answer, and then only changes', async () => {
      const { heard } = hear(world.client, 'alice');
      await settle();
      assert.deepEqual(heard, [], 'nothing is known yet');
      for (const alice of ['online', 'online', 'offline', 'offline', 'online']) await world.learn({ alice });
      assert.deepEqual(heard, ['online', 'offline', 'online']);
    });

    test('tells a second watcher what is known, soon but not at once', async () => {
      const first = hear(world.client, 'alice');
      await world.learn({ alice: 'online' });
      const second = hear(world.client, 'alice');
      await settle();
      assert.deepEqual([first.heard, second.heard], [['online'], ['online']]);
    });

    test('tells nobody who has ended it, not even what was under way', async () => {
      const first = hear(world.client, 'alice');
      await world.learn({ alice: 'online' });
      const second = hear(world.client, 'alice');
      second.unwatch();
      second.unwatch();
      await settle();
      await world.learn({ alice: 'offline' });
      assert.deepEqual([first.heard, second.heard], [['online', 'offline'], []]);
    });

    test('says whether it is open', () => {
      assert.equal(world.client.state, 'open');
      world.client.close();
      assert.equal(world.client.state, 'closed');
    });
  });
}

describe('only a fake client', () => {
  test('is told the states from the start, and gives them at once', async () => {
    const client = new FakePresenceClient({ alice: 'online', bob: 'offline' });
    assert.deepEqual(client.get('alice'), { userId: 'alice', state: 'online' });
    assert.deepEqual(client.get('carol'), { userId: 'carol', state: 'unknown' });
    assert.equal(client.get('bob'), client.get('bob'), 'the same object until the state changes');
    const { heard } = hear(client, 'bob');
    await settle();
    assert.deepEqual(heard, ['offline']);
  });

  test('tells before set() returns, and once', async () => {
    const client = new FakePresenceClient();
    const { heard } = hear(client, 'alice');
    client.set('alice', 'online');
    assert.deepEqual(heard, ['online']);
    await settle();
    assert.deepEqual(heard, ['online']);
  });

  test('knows since when, of those online', () => {
    const client = new FakePresenceClient();
    client.set('alice', 'online', 1_234);
    assert.equal(client.get('alice').connectedAt, 1_234);
    client.set('alice', 'offline', 1_234);
    assert.deepEqual(client.get('alice'), { userId: 'alice', state: 'offline' });
  });

  test('says who is watched', () => {
    const client = new FakePresenceClient();
    const [alice, again, bob] = ['alice', 'alice', 'bob'].map((userId) => hear(client, userId));
    assert.deepEqual(client.watched, ['alice', 'bob']);
    alice.unwatch();
    bob.unwatch();
    assert.deepEqual(client.watched, ['alice']);
    again.unwatch();
    assert.deepEqual(client.watched, []);
  });

  test('refuses what a real one would never say', () => {
    const client = new FakePresenceClient({ alice: 'offline' });
    assert.throws(() => client.set('alice', /** @type {any} */ ('away')), /one of online, offline, unknown/);
    assert.throws(() => client.set('alice', 'unknown'), /never becomes unknown again/);
    assert.throws(() => client.set('', 'online'), TypeError);
    client.set('bob', 'unknown');
    assert.equal(client.get('bob').state, 'unknown', 'nor was he known before');
  });

  test('tells how the connection is, and of the changes of those who are watched', () => {
    const client = new FakePresenceClient();
    const heard = [];
    const ends = ['state', 'change', 'pull'].map((name) => client.on(name, ({ state }) => heard.push(state)));
    client.close();
    client.close();
    client.connect();
    hear(client, 'alice');
    client.set('alice', 'online');
    client.set('bob', 'offline');
    for (const end of ends) end();
    client.close();
    assert.deepEqual(heard, ['closed', 'open', 'online']);
  });
});
