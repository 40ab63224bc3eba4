// A page in a real Chromium whose connection to a real presenced dies without a word, or whose network goes and comes back.
// Between them is a proxy that can swallow what it is sent.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { startBrowser, startEdge } from './programs.js';
import { startSite } from './site.js';

/** What a slow machine may add. */
const SLACK_MS = 4_000;

/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {Awaited<ReturnType<typeof startSite>>} */
let site;
/** @type {Awaited<ReturnType<typeof startProxy>>} */
let proxy;
/** @type {import('playwright-core').Page[]} */
let pages = [];

/** A proxy that can forget the connections it has, as those do that drop what was idle: neither end is told. */
const startProxy = async (to) => {
  const pairs = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(to);
    const pair = [near, far];
    pairs.add(pair);
    near.pipe(far).pipe(near);
    const end = () => {
      for (const socket of pair) socket.destroy();
      pairs.delete(pair);
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    address: `127.0.0.1:${server.address().port}`,
    /** Nothing more gets through on the connections there are. New ones are as before. */
    swallow: () => {
      for (const pair of pairs) {
        for (const socket of pair) socket.unpipe().removeAllListeners('close').resume();
      }
    },
    /** Ends the connections there are. */
    cut: () => {
      for (const [near] of pairs) near.destroy();
    },
    close: () => {
      server.close();
      for (const [near, far] of pairs) [near, far].forEach((socket) => socket.destroy());
    },
  };
};

before(async () => {
  site = await startSite();
  edge = await startEdge(undefined, { flags: { 'allow-origin': site.origin } });
  const { hostname, port } = new URL(edge.url);
  proxy = await startProxy({ host: hostname, port: Number(port) });
  browser = await startBrowser();
});

afterEach(async () => {
  await Promise.all(pages.map((page) => page.close()));
  pages = [];
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    proxy?.close();
    site?.stop();
    await edge?.stop('SIGTERM');
  }
});

/** The edge gives tokens away to those who develop. */
const token = async (user) => (await (await fetch(new URL(`/dev/token?user=${user}`, edge.url))).json()).token;

/** Since when the edge takes this user for online; `undefined` if it does not. */
const onlineSince = async (user) => {
  const headers = { Authorization: `Bearer ${await token('operator')}` };
  const answer = await fetch(new URL(`/v1/presence?user=${user}`, edge.url), { headers });
  return (await answer.json()).online[user]?.connectedAt;
};

/**
 * A page, in front in the first window, that is online as this user and watches nobody. Whatever is random is at its
 * most. Gives the page and what it says of its connection, from then on.
 */
const visit = async (user, options = {}) => {
  const page = await browser.newTab();
  pages.push(page);
  await page.goto(site.origin);
  await page.evaluate(
    async ([url, token, options]) => {
      const { PresenceClient } = await import('/presence.js');
      globalThis.states = [];
      const client = new PresenceClient({ url, token, random: () => 1, ...options });
      globalThis.answered = 0;
      client.on('pull', ({ phase }) => (globalThis.answered += phase === 'answered'));
      client.on('state', ({ state, error }) => globalThis.states.push(error ? `${state}: ${error.message}` : state));
    },
    [`ws://${proxy.address}/ws`, await token(user), options],
  );
  /** The states since it was open, once there are so many. */
  const states = async (count, ms) => {
    await page.waitForFunction((count) => globalThis.states.length >= count, count + 2, { timeout: ms, polling: 50 });
    return page.evaluate(() => globalThis.states.slice(2));
  };
  assert.deepEqual(await states(0, SLACK_MS), []);
  return { page, states };
};

/** Hides the tab behind another one. */
const hide = async (page) => {
  pages.push(await browser.newTab());
  assert.equal(await visibility(page), 'hidden');
};

const visibility = (page) => page.evaluate(() => document.visibilityState);

describe('a page whose proxy has dropped its connection without a word', { timeout: 120_000 }, () => {
  test('finds out while it is hidden and watches nobody, and is online again', async () => {
    const { page, states } = await visit('alice', { keepAlive: 4_000, silenceTimeout: 2_000 });
    await hide(page);
    // It does not give up a connection that answers, again and again.
    await page.waitForFunction(() => globalThis.answered >= 2, undefined, { polling: 100 });
    assert.deepEqual(await states(0), []);
    const before = await onlineSince('alice');

    proxy.swallow();
    // A hidden page's timers may be a second late.
    const found = await states(3, 4_000 + 2_000 + 2_000 + SLACK_MS);
    assert.deepEqual(found, ['waiting: the edge was silent for 2000 ms', 'connecting', 'open']);
    assert.equal(await visibility(page), 'hidden');
    const deadline = performance.now() + SLACK_MS;
    while (!((await onlineSince('alice')) > before)) {
      assert.ok(performance.now() < deadline, 'the edge has a new session of theirs');
      await sleep(100);
    }
  });

  test('finds out within 3 s when it is seen again', async () => {
    const { page, states } = await visit('bob');
    await hide(page);
    proxy.swallow();
    const returned = performance.now();
    await page.bringToFront();
    const found = await states(3, 3_000 + SLACK_MS);
    assert.deepEqual(found, ['waiting: the edge was silent for 3000 ms', 'connecting', 'open']);
    assert.ok(performance.now() - returned >= 2_900);
  });
});

describe('a page whose network goes and comes back', { timeout: 60_000 }, () => {
  test('does not wait for the next retry, which is due in a minute', async () => {
    const { page, states } = await visit('carol', { backoffBase: 60_000, backoffCap: 60_000 });
    await page.context().setOffline(true);
    proxy.cut();
    assert.deepEqual(await states(1, SLACK_MS), ['waiting']);
    await page.context().setOffline(false);
    assert.deepEqual(await states(3, SLACK_MS), ['waiting', 'connecting', 'open']);
  });
});
