// Tabs of a real Chromium that share a connection to a real presenced. Nothing is scripted: tabs hide each other, are
// closed, and are frozen as the browser does it.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { build } from 'esbuild';

import { startBrowser, startEdge } from './programs.js';
import { startSite } from './site.js';

/** What a slow machine may add. */
const SLACK_MS = 4_000;
const PULL_MS = 1_000;

/** React with a shared client, for one page. */
const REACT = `
  import { createElement } from 'react';
  import { createRoot } from 'react-dom/client';
  import { PresenceProvider, usePresence } from 'presenced-client/react';

  const Friend = ({ userId }) => createElement('i', { id: userId }, usePresence(userId).state);
  createRoot(document.body.appendChild(document.createElement('main'))).render(
    createElement(PresenceProvider, { client: globalThis.presence }, createElement(Friend, { userId: 'alice' })));
`;

/** @type {Awaited<ReturnType<typeof startSite>>} */
let site;
/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {import('playwright-core').Page[]} */
let pages = [];

before(async () => {
  const { outputFiles } = await build({
    stdin: { contents: REACT, resolveDir: import.meta.dirname, sourcefile: 'page.js' },
    bundle: true,
    write: false,
    format: 'esm',
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  site = await startSite({ '/react-page.js': outputFiles[0].text });
  edge = await startEdge(undefined, { flags: { 'allow-origin': site.origin } });
  browser = await startBrowser();
});

afterEach(async () => {
  const troubles = pages.flatMap((page) => page.troubles);
  await Promise.all(pages.filter((page) => !page.isClosed()).map((page) => page.close()));
  pages = [];
  await sessionsAre(0);
  assert.deepEqual(troubles, [], 'nothing that a page or its security policy minds');
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    site?.stop();
    await edge?.stop('SIGTERM');
  }
});

/** Calls until it gives something true, and gives that. */
const until = async (what, ms, ask) => {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = await ask();
    if (found) return found;
    assert.ok(performance.now() < deadline, `${what}, within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

/** How many sessions the edge has, by its own metrics. */
const sessions = async () => {
  const text = await (await fetch(edge.admin)).text();
  const found = [...text.matchAll(/^presenced_sessions(?:\{[^}]*\})? (\d+)$/gm)];
  assert.ok(found.length > 0, 'the edge tells how many sessions it has');
  return found.reduce((sum, [, count]) => sum + Number(count), 0);
};

const sessionsAre = (count, ms = SLACK_MS) => until(`${count} sessions`, ms, async () => (await sessions()) === count);

const token = async (user) => (await (await fetch(new URL(`/dev/token?user=${user}`, edge.url))).json()).token;

/** Whether the edge takes this user for online. */
const isOnline = async (user) => {
  const headers = { Authorization: `Bearer ${await token('operator')}` };
  const answer = await fetch(new URL(`/v1/presence?user=${user}`, edge.url), { headers });
  return user in (await answer.json()).online;
};

/**
 * A page with `globalThis.presence`, which shares its connection with the pages of the same user; what it sends is in
 * `frames`, and what it says of users and of its connection in its own `said`.
 */
const open = async (user, { in: where = 'window', watch = [user] } = {}) => {
  const page = Object.assign(await (where === 'window' ? browser.newWindow() : browser.newTab()), { troubles: [], frames: [] });
  pages.push(page);
  page.on('console', (message) => message.type() === 'error' && page.troubles.push(message.text()));
  page.on('pageerror', (error) => page.troubles.push(error.message));
  page.on('websocket', (socket) =>
    socket.on('framesent', ({ payload }) => page.frames.push(JSON.parse(String(payload)))),
  );
  await page.goto(site.origin);
  await page.evaluate(
    async ([url, token, shared, watch, pullInterval]) => {
      const { SharedPresenceClient } = await import('/shared.js');
      const said = (globalThis.said = []);
      globalThis.presence = new SharedPresenceClient({ url, token, shared, pullInterval });
      globalThis.presence.on('state', ({ state }) => said.push(state));
      for (const name of watch) globalThis.presence.watch(name, ({ userId, state }) => said.push(`${userId} ${state}`));
    },
    [new URL('/ws', edge.url).href, await token(user), user, watch, PULL_MS],
  );
  await is(page, 'open');
  return page;
};

/** Waits until its client is in this state. Not by the page's frames: a hidden page draws none. */
const is = (page, state, timeout = SLACK_MS) =>
  page.waitForFunction((state) => globalThis.presence.state === state, state, { timeout, polling: 20 });

/** Waits until the page knows this of a user. */
const knows = (page, user, state, timeout = SLACK_MS) =>
  page.waitForFunction(([user, state]) => globalThis.presence.get(user).state === state, [user, state], {
    timeout,
    polling: 20,
  });

const said = (page) => page.evaluate(() => globalThis.said);
const visibility = (page) => page.evaluate(() => document.visibilityState);
const pullsOf = (page) => page.frames.filter(({ users }) => users?.length > 0);

/** Waits until the page has sent so many pulls more. */
const pulls = (page, count, from = pullsOf(page).length) =>
  until(`${count} pulls`, count * PULL_MS + SLACK_MS, () => pullsOf(page).length >= from + count);

/** A tab in front of all others of the window that was used last. */
const cover = async () => {
  const page = Object.assign(await browser.newTab(), { troubles: [] });
  pages.push(page);
};

describe('tabs of one user', { timeout: 120_000 }, () => {
  test('have one session, whoever they watch, and all know of them', async () => {
    const a = await open('alice', { watch: ['alice', 'bob'] });
    const b = await open('alice', { watch: ['bob', 'carol'] });
    const c = await open('alice', { watch: ['alice'] });
    await sessionsAre(1);
    for (const [page, user, state] of [
      [a, 'alice', 'online'],
      [a, 'bob', 'offline'],
      [b, 'carol', 'offline'],
      [c, 'alice', 'online'],
    ]) {
      await knows(page, user, state);
    }
    await until('one pull for all', SLACK_MS, () => pullsOf(a).at(-1)?.users.toSorted().join() === 'alice,bob,carol');
    assert.deepEqual([b.frames, c.frames], [[], []], 'only the leader talks to the edge');
    assert.equal(await sessions(), 1);
  });

  test('share nothing with those of another', async () => {
    const a = await open('alice');
    const b = await open('bob');
    await sessionsAre(2);
    await knows(a, 'alice', 'online');
    await knows(b, 'bob', 'online');
    assert.equal(await a.evaluate(() => globalThis.presence.get('bob').state), 'unknown');
  });

  test('have another leader within a second when theirs is closed, and nobody goes offline', async (context) => {
    const a = await open('alice');
    const b = await open('alice');
    const c = await open('alice');
    for (const page of [a, b, c]) await knows(page, 'alice', 'online');
    const closed = performance.now();
    await a.close();
    await until('another leader', 1_000, async () => (await said(c)).filter((word) => word === 'open').length > 1);
    context.diagnostic(`open again ${Math.round(performance.now() - closed)} ms after it was told to close`);
    assert.ok(await isOnline('alice'));
    await pulls(b, 2);
    assert.ok(await isOnline('alice'));
    await sessionsAre(1);
    for (const page of [b, c]) {
      assert.deepEqual((await said(page)).filter((word) => word.startsWith('alice')), ['alice online']);
    }
  });

  test('pull for the one that is seen while the leader is hidden, and not at all while all are', async () => {
    const a = await open('alice', { in: 'tab' });
    await cover();
    // Who has been in no test before, and so is offline already.
    const b = await open('alice', { watch: ['nobody'] });
    await knows(b, 'nobody', 'offline');
    assert.deepEqual([await visibility(a), await visibility(b)], ['hidden', 'visible']);
    await pulls(a, 3);
    assert.ok(pullsOf(a).at(-1)?.users.includes('nobody'));

    await cover();
    assert.deepEqual([await visibility(a), await visibility(b)], ['hidden', 'hidden']);
    // What was under way.
    await b.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
    const sent = pullsOf(a).length;
    await b.evaluate((ms) => new Promise((resolve) => setTimeout(resolve, ms)), 3 * PULL_MS);
    assert.equal(pullsOf(a).length, sent, 'no pull leaves while all are hidden');
    await b.bringToFront();
    await pulls(a, 1, sent);
    assert.equal(await visibility(a), 'hidden');
    assert.equal(await sessions(), 1);
  });

  test('a thousand users watched and left over three tabs leave nothing behind', async () => {
    const tabs = [await open('alice'), await open('alice'), await open('alice')];
    const locks = () =>
      tabs[0].evaluate(async () => {
        const { held, pending } = await navigator.locks.query();
        return [held.length, pending.length];
      });
    const before = await until('all in line', SLACK_MS, async () => {
      const counts = await locks();
      return counts.join() === '4,4' && counts;
    });
    await Promise.all(
      tabs.map((page, tab) =>
        page.evaluate(async (tab) => {
          for (let i = 0; i < 334; i += 1) {
            const unwatch = globalThis.presence.watch(`u${tab}-${i}`, () => {});
            await new Promise((resolve) => setTimeout(resolve));
            unwatch();
          }
        }, tab),
      ),
    );
    const from = pullsOf(tabs[0]).length;
    await pulls(tabs[0], 2, from);
    assert.deepEqual(pullsOf(tabs[0]).at(-1)?.users, ['alice']);
    assert.deepEqual(await locks(), before);
    assert.equal(await sessions(), 1);
  });
});

describe('a leader that is silent', { timeout: 120_000 }, () => {
  /** Takes over within 2 to 2.5 s, and what a slow machine adds; gives how long it took. */
  const takesOver = async (page, since) => {
    await until('a new leader', 3_000 + SLACK_MS, async () => (await said(page)).filter((word) => word === 'open').length > 1);
    return performance.now() - since;
  };

  test('because its page is busy for 5 s loses its place to the one that is seen, and nobody goes offline', async (context) => {
    const a = await open('alice');
    const b = await open('alice');
    await knows(b, 'alice', 'online');
    const since = performance.now();
    const busy = a.evaluate(() => {
      const end = performance.now() + 5_000;
      while (performance.now() < end);
    });
    const took = await takesOver(b, since);
    context.diagnostic(`taken over after ${Math.round(took)} ms`);
    assert.ok(took >= 1_500 && took < 4_900, `taken over after ${took} ms, while it was busy`);
    await busy;
    await is(a, 'open');
    await sessionsAre(1);
    await pulls(b, 2);
    const silent = a.frames.length;
    await pulls(b, 2);
    assert.equal(a.frames.length, silent, 'it follows');
    assert.ok(await isOnline('alice'));
    for (const page of [a, b]) {
      assert.deepEqual((await said(page)).filter((word) => word.startsWith('alice')), ['alice online']);
      assert.equal(await page.evaluate(() => globalThis.presence.state), 'open');
    }
  });

  test('because the browser has frozen it loses its place, and follows when it wakes', async (context) => {
    const a = await open('alice', { in: 'tab' });
    await cover();
    const b = await open('alice');
    await knows(b, 'alice', 'online');
    assert.deepEqual([await visibility(a), await visibility(b)], ['hidden', 'visible']);
    const session = await a.context().newCDPSession(a);
    const since = performance.now();
    await session.send('Page.setWebLifecycleState', { state: 'frozen' });
    const took = await takesOver(b, since);
    context.diagnostic(`taken over after ${Math.round(took)} ms`);
    assert.ok(took >= 1_500);
    await pulls(b, 2);
    await session.send('Page.setWebLifecycleState', { state: 'active' });
    await is(a, 'open');
    await sessionsAre(1);
    assert.equal(await b.evaluate(() => globalThis.presence.state), 'open');
    // So Chromium says that it has ended the connection of a frozen page.
    assert.match(a.troubles.splice(0).join(), /^WebSocket connection to '[^']*' failed: Page entered Back-Forward Cache\.$/);
    for (const page of [a, b]) {
      assert.deepEqual((await said(page)).filter((word) => word.startsWith('alice')), ['alice online']);
    }
  });
});

describe('with a shared client', { timeout: 60_000 }, () => {
  test('<presence-dot> shows in a follower what the leader hears', async () => {
    await open('alice');
    const follower = await open('alice', { watch: [] });
    await follower.evaluate(async () => {
      const { definePresenceDot } = await import('/presence-dot.js');
      definePresenceDot(globalThis.presence);
      for (const user of ['alice', 'bob']) {
        const dot = document.createElement('presence-dot');
        dot.setAttribute('user', user);
        document.body.append(dot);
      }
    });
    for (const [user, state] of [['alice', 'online'], ['bob', 'offline']]) {
      const selector = `presence-dot[user="${user}"] [part~="${state}"]`;
      await follower.waitForSelector(selector, { state: 'attached', timeout: SLACK_MS });
    }
    assert.deepEqual(follower.frames, []);
  });

  test('usePresence shows in a follower what the leader hears', async () => {
    await open('alice');
    const follower = await open('alice', { watch: [] });
    await follower.evaluate(() => import('/react-page.js'));
    await follower.waitForFunction(() => document.querySelector('#alice')?.textContent === 'online', undefined, {
      timeout: SLACK_MS,
    });
    assert.deepEqual(follower.frames, []);
  });
});
