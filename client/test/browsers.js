// The browsers that the client is tested in, and what a test of a connection needs beside one: a page of another origin
// than the edge, the edge, and a proxy between them.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe } from 'node:test';

import { startFirefox } from './firefox.js';
import { startBrowser, startEdge } from './programs.js';
import { startSite } from './site.js';

/** What a slow machine may add. */
export const SLACK_MS = 4_000;

const SECRET = 'an HS256 secret for tests, long enough';

/** In which browsers, and what one of them does not do. Each reason is what a skipped test says. */
const BROWSERS = [
  { name: 'Chromium', start: startBrowser, lacks: {} },
  {
    name: 'Firefox',
    start: startFirefox,
    lacks: {
      collection: 'Firefox collects garbage when it likes: that no dot is in memory is not looked at',
      freezing: 'Firefox freezes no page',
      openSocketsInCache: 'Firefox keeps no page that has an open WebSocket: it is loaded anew',
    },
  },
];

/**
 * Has these tests run in each browser, in all of them at a time: they mostly wait.
 *
 * @param {string} title
 * @param {{timeout: number}} options
 * @param {(browser: typeof BROWSERS[number]) => void} tests
 */
export const inEachBrowser = (title, { timeout }, tests) =>
  describe(title, { concurrency: true, timeout }, () => {
    for (const browser of BROWSERS) describe(`in ${browser.name}`, { concurrency: 1, timeout }, () => tests(browser));
  });

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token of this user, as the back end of the page would sign it. */
export const signToken = (user, expiresIn = 600) => {
  const claims = { sub: user, exp: Date.now() / 1_000 + expiresIn };
  const message = `${base64url({ alg: 'HS256' })}.${base64url(claims)}`;
  return `${message}.${createHmac('sha256', SECRET).update(message).digest('base64url')}`;
};

/** A proxy that can forget the connections it has, as those do that drop what was idle: neither end is told. */
const startProxy = async (to) => {
  const pairs = new Set();
  let isDown = false;
  const server = net.createServer((near) => {
    if (isDown) {
      near.destroy();
      return;
    }
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
    /** Ends them, and takes no new ones until it is up again. */
    setDown: (down) => {
      isDown = down;
      if (down) for (const [near] of pairs) near.destroy();
    },
    close: () => {
      server.close();
      for (const [near, far] of pairs) [near, far].forEach((socket) => socket.destroy());
    },
  };
};

/** Runs in a page: makes `globalThis.client`, and notes what it says. */
const startClient = async ([url, tokens, watch, options]) => {
  const { PresenceClient } = await import('/presence.js');
  Object.assign(globalThis, { states: [], told: [], asked: 0, answered: 0, tokens });
  const client = new PresenceClient({
    url,
    // The last one is for all attempts that follow.
    token: () => (tokens.length > 1 ? tokens.shift() : tokens[0]),
    random: () => 1,
    ...options,
  });
  globalThis.client = client;
  client.on('pull', ({ phase }) => {
    globalThis.asked += phase === 'sent';
    globalThis.answered += phase === 'answered';
  });
  client.on('state', ({ state, code, error }) => {
    globalThis.states.push([state, error?.message ?? code].filter(Boolean).join(': '));
  });
  for (const user of watch) client.watch(user, ({ state }) => globalThis.told.push(`${user} is ${state}`));
};

/**
 * Starts all that, before the tests of the suite in which it is called, and ends it after them.
 *
 * @param {typeof BROWSERS[number]} which
 * @param {Record<string, string>} [flags] Of the edge, beside the usual ones.
 */
export const startWorld = (which, flags = {}) => {
  /** @type {any} Set before the first test. */
  const world = {};
  const start = (listen) => {
    const all = { 'allow-origin': world.site.origin, memcached: world.store.store, ...flags };
    return startEdge(listen, { flags: all, secret: SECRET });
  };

  before(async () => {
    world.site = await startSite();
    // Another edge, to which nobody connects: what is stored outlives the one under test.
    world.store = await startEdge();
    world.edge = await start();
    const { hostname, port } = new URL(world.edge.url);
    world.proxy = await startProxy({ host: hostname, port: Number(port) });
    world.browser = await which.start();
  });
  after(async () => {
    try {
      await world.browser?.close();
    } finally {
      world.proxy?.close();
      world.site?.stop();
      await world.edge?.stop('SIGTERM');
      await world.store?.stop('SIGTERM');
    }
  });

  /** Ends the edge, and starts another at the same address. */
  world.restart = async (signal) => {
    const code = await world.edge.stop(signal);
    world.edge = await start(new URL(world.edge.url).host);
    return code;
  };

  /** Since when the edge takes this user for online; `undefined` if it does not. */
  world.onlineSince = async (user) => {
    const headers = { Authorization: `Bearer ${signToken('operator')}` };
    const answer = await fetch(new URL(`/v1/presence?user=${user}`, world.edge.url), { headers });
    return (await answer.json()).online[user]?.connectedAt;
  };

  /**
   * A page in front that is online as this user. Whatever is random is at its most. Gives the page, what it says of its
   * connection from then on, and what it was told of those whom it watches.
   *
   * @param {string} user
   * @param {{in?: 'tab' | 'window', watch?: string[], expiresIn?: (number | null)[], options?: object}} [how]
   *   `expiresIn`: seconds for which its tokens are good, in their order; null is none.
   */
  world.visit = async (user, { in: where = 'tab', watch = [], expiresIn = [600], options = {} } = {}) => {
    const page = await (where === 'tab' ? world.browser.newTab() : world.browser.newWindow());
    await page.goto(world.site.origin);
    // Now, and not before the browser has opened the page, which may take its time.
    const tokens = expiresIn.map((seconds) => (seconds === null ? '' : signToken(user, seconds)));
    await page.evaluate(startClient, [`ws://${world.proxy.address}/ws`, tokens, watch, options]);
    /** The states since it was open, once there are so many. */
    const states = async (count, ms = SLACK_MS) => {
      const areThere = (count) => globalThis.states.length >= count;
      await page.waitForFunction(areThere, count + 2, { timeout: ms, polling: 50 });
      return (await page.evaluate(() => globalThis.states)).slice(2);
    };
    /** All that was said, once this was. */
    const told = async (what, ms = SLACK_MS) => {
      await page.waitForFunction((what) => globalThis.told.includes(what), what, { timeout: ms, polling: 50 });
      return page.evaluate(() => globalThis.told);
    };
    assert.deepEqual(await states(0), []);
    return { page, states, told };
  };

  /** Hides the tab behind another one. */
  world.hide = async (page) => {
    await world.browser.newTab();
    assert.equal(await visibility(page), 'hidden');
  };
  return world;
};

export const visibility = (page) => page.evaluate(() => document.visibilityState);
