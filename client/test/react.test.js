// The React entry in a real Chromium, with React's development build, which minds more, on the fake client.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { build } from 'esbuild';

import { startBrowser } from './programs.js';
import { countWatching, startSite } from './site.js';

/** What the tests build their pages of, as globals. */
const PAGE = `
  import { createElement, StrictMode, version } from 'react';
  import { createRoot, hydrateRoot } from 'react-dom/client';
  import { flushSync } from 'react-dom';
  import { PresenceProvider, usePresence } from 'presenced-client/react';
  import { FakePresenceClient } from 'presenced-client/testing';

  /** How often each user was rendered. */
  const rendered = {};
  const Friend = ({ userId }) => {
    const { state } = usePresence(userId);
    rendered[userId] = (rendered[userId] ?? 0) + 1;
    return createElement('i', { id: userId }, state);
  };
  const container = document.body.appendChild(document.createElement('main'));
  Object.assign(globalThis, {
    createElement, StrictMode, createRoot, hydrateRoot, flushSync, FakePresenceClient, container, rendered,
    presence: new FakePresenceClient(),
    /** These users, with a client, as strictly as React can. */
    app: (client, ...users) =>
      createElement(StrictMode, null, createElement(PresenceProvider, { client },
        users.map((userId, at) => createElement(Friend, { userId, key: at })))),
  });
`;

/** @type {Awaited<ReturnType<typeof startSite>>} */
let site;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {import('playwright-core').Page} */
let page;
/** @type {string[]} What the page minded. */
let troubles = [];

before(async () => {
  const { outputFiles } = await build({
    stdin: { contents: PAGE, resolveDir: import.meta.dirname, sourcefile: 'page.js' },
    bundle: true,
    write: false,
    format: 'esm',
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  site = await startSite({ '/page.js': outputFiles[0].text });
  browser = await startBrowser();
});

beforeEach(async () => {
  page = await browser.newWindow();
  troubles = [];
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(error.message));
  await page.goto(site.origin);
  await page.evaluate(() => import('/page.js'));
});

afterEach(async () => {
  await page.close();
  assert.deepEqual(troubles, [], 'nothing that React minds');
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    site?.stop();
  }
});

/** Waits until the page shows exactly these states. */
const shows = (...states) =>
  page.waitForFunction((states) => globalThis.container.innerText === states, states.join(''));

/** Waits until the client watches exactly these. */
const watches = (...users) =>
  page.waitForFunction((users) => globalThis.presence.watched.join() === users, users.join());

/** Renders these users, with the client or with none. */
const render = (users, { client = true } = {}) =>
  page.evaluate(
    ([users, client]) => {
      globalThis.root ??= globalThis.createRoot(globalThis.container);
      globalThis.root.render(globalThis.app(client ? globalThis.presence : null, ...users));
    },
    [users, client],
  );

const set = (userId, state) => page.evaluate(([u, s]) => globalThis.presence.set(u, s), [userId, state]);

describe('usePresence', { timeout: 60_000 }, () => {
  test('shows what is known, and each change', async () => {
    await render(['alice', 'bob']);
    await shows('unknown', 'unknown');
    await watches('alice', 'bob');
    await set('alice', 'online');
    await shows('online', 'unknown');
    await set('bob', 'offline');
    await set('alice', 'offline');
    await shows('offline', 'offline');
  });

  test('renders only those anew whose state changes', async () => {
    await render(['alice', 'bob']);
    await watches('alice', 'bob');
    const before = await page.evaluate(() => ({ ...globalThis.rendered }));
    await set('alice', 'online');
    await shows('online', 'unknown');
    const after = await page.evaluate(() => globalThis.rendered);
    assert.ok(after.alice > before.alice);
    assert.equal(after.bob, before.bob);
  });

  test('watches a user once for each who shows them, and nobody when they are gone, in StrictMode too', async () => {
    await page.evaluate(countWatching);
    await render(['alice', 'alice', 'bob']);
    await watches('alice', 'bob');
    assert.equal(await page.evaluate(() => globalThis.watching), 3);
    await render(['alice']);
    await watches('alice');
    assert.equal(await page.evaluate(() => globalThis.watching), 1);
    await page.evaluate(() => globalThis.root.unmount());
    await watches();
    assert.equal(await page.evaluate(() => globalThis.watching), 0);
  });

  test('another user in the same place begins as what is known of them', async () => {
    await set('alice', 'online');
    await render(['alice']);
    await shows('online');
    await watches('alice');
    const atOnce = await page.evaluate(() => {
      const { flushSync, root, app, presence, container } = globalThis;
      flushSync(() => root.render(app(presence, 'bob')));
      return container.innerText;
    });
    assert.equal(atOnce, 'unknown', 'not the state of the user before');
    await watches('bob');
    await set('bob', 'offline');
    await shows('offline');
  });

  test('who is known already is never shown as unknown', async () => {
    await set('alice', 'online');
    const atOnce = await page.evaluate(() => {
      const { flushSync, createRoot, container, app, presence } = globalThis;
      flushSync(() => createRoot(container).render(app(presence, 'alice')));
      return container.innerText;
    });
    assert.equal(atOnce, 'online');
  });

  test('a client that can only watch does as well', async () => {
    await set('alice', 'online');
    await page.evaluate(() => {
      const { createRoot, container, app, presence } = globalThis;
      const watch = (userId, callback) => presence.watch(userId, callback);
      createRoot(container).render(app({ watch }, 'alice'));
    });
    await shows('online');
  });

  test('the client comes later, and goes: everyone is unknown without', async () => {
    await set('alice', 'online');
    await render(['alice'], { client: false });
    await shows('unknown');
    await render(['alice']);
    await shows('online');
    await render(['alice'], { client: false });
    await shows('unknown');
    await watches();
  });

  test('a page that was rendered on a server is hydrated as it is, and then shows what is known', async () => {
    await set('alice', 'online');
    await page.evaluate(() => {
      const { hydrateRoot, container, app, presence } = globalThis;
      container.innerHTML = '<i id="alice">unknown</i>';
      globalThis.served = container.firstChild;
      hydrateRoot(container, app(presence, 'alice'));
    });
    await shows('online');
    assert.ok(await page.evaluate(() => globalThis.served === globalThis.container.firstChild), 'not rendered anew');
  });
});
