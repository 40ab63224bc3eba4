// A page in a real browser whose connection to a real presenced dies without a word, whose network goes and comes back,
// or which the browser puts to sleep. Between them is a proxy that can swallow what it is sent.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';

import { inEachBrowser, signToken, SLACK_MS, startWorld, visibility } from './browsers.js';

/** How soon a page that is back must be open, and know what it missed. */
const RETURN_MS = 3_000;

/** Makes this user online, by a connection of their own. */
const signIn = async (edge, user) => {
  const socket = new WebSocket(new URL('/ws', edge.url), ['presence.v1', `bearer.${signToken(user)}`]);
  await once(socket, 'open');
  return socket;
};

/** Goes to another page of the site, and back to where the page was. Says whether it is the same, from the cache. */
const goAwayAndBack = async (page, origin, meanwhile) => {
  await page.evaluate(() => addEventListener('pageshow', ({ persisted }) => (globalThis.isFromCache = persisted)));
  await page.goto(`${origin}/elsewhere`);
  await meanwhile();
  // Not by playwright's `goBack`, which waits for a page that is loaded.
  await page.evaluate(() => void setTimeout(() => history.back()));
  await page.waitForFunction(() => location.pathname === '/' && document.readyState === 'complete');
  return page.evaluate(() => globalThis.isFromCache === true);
};

inEachBrowser('a page whose connection dies', { timeout: 180_000 }, (browser) => {
  const world = startWorld(browser);

  test('dropped by the proxy without a word: while hidden, it finds out and is online again', async () => {
    // Much sooner than the next ping, of which the edge tells every 2 s: timers of a hidden page may be a second late.
    const { page, states } = await world.visit('alice', { options: { keepAlive: 900, silenceTimeout: 2_000 } });
    await world.hide(page);
    // It does not give up a connection that answers, again and again.
    await page.waitForFunction(() => globalThis.answered >= 2, undefined, { polling: 100 });
    assert.deepEqual(await states(0), []);
    const before = await world.onlineSince('alice');

    world.proxy.swallow();
    // A hidden page's timers may be a second late.
    const found = await states(3, 900 + 2_000 + 2_000 + SLACK_MS);
    assert.deepEqual(found, ['waiting: the edge was silent for 2000 ms', 'connecting', 'open']);
    assert.equal(await visibility(page), 'hidden');
    const deadline = performance.now() + SLACK_MS;
    while (!((await world.onlineSince('alice')) > before)) {
      assert.ok(performance.now() < deadline, 'the edge has a new session of theirs');
      await sleep(100);
    }
  });

  test('dropped by the proxy without a word: it finds out within 3 s when it is seen again', async () => {
    const { page, states } = await world.visit('bob');
    await world.hide(page);
    world.proxy.swallow();
    const returned = performance.now();
    await page.bringToFront();
    const found = await states(3, 3_000 + SLACK_MS);
    assert.deepEqual(found, ['waiting: the edge was silent for 3000 ms', 'connecting', 'open']);
    assert.ok(performance.now() - returned >= 2_900);
  });

  test('cut off from the network: it does not wait for the next retry when that is back', async () => {
    const { page, states } = await world.visit('carol', { options: { backoffBase: 60_000, backoffCap: 60_000 } });
    await page.context().setOffline(true);
    world.proxy.cut();
    assert.match(String(await states(1)), /^waiting: 1006$/);
    await page.context().setOffline(false);
    assert.deepEqual(await states(3), ['waiting: 1006', 'connecting', 'open']);
  });

  const { openSocketsInCache, freezing } = browser.lacks;
  test('left while it is open, it comes back from the cache and connects', { skip: openSocketsInCache }, async () => {
    const options = { backoffBase: 60_000, backoffCap: 60_000 };
    const { page, states, told } = await world.visit('dave', { watch: ['erin'], options });
    await told('erin is offline');
    let erin;
    const isFromCache = await goAwayAndBack(page, world.site.origin, async () => {
      erin = await signIn(world.edge, 'erin');
    });
    assert.ok(isFromCache);
    // The browser closed the socket when the page was left, and tells it so on return: a reason to connect at once.
    assert.deepEqual(await states(3, RETURN_MS), ['waiting: 1006', 'connecting', 'open']);
    assert.deepEqual(await told('erin is online', RETURN_MS), ['erin is offline', 'erin is online']);
    erin.close();
  });

  test('left while it waits for a retry, it comes back from the cache and connects', async () => {
    const options = { backoffBase: 60_000, backoffCap: 60_000 };
    const { page, states, told } = await world.visit('frank', { watch: ['grace'], options });
    await told('grace is offline');
    world.proxy.setDown(true);
    await states(1);
    let grace;
    const isFromCache = await goAwayAndBack(page, world.site.origin, async () => {
      grace = await signIn(world.edge, 'grace');
      world.proxy.setDown(false);
    });
    assert.ok(isFromCache);
    assert.deepEqual(await states(3, RETURN_MS), ['waiting: 1006', 'connecting', 'open']);
    assert.deepEqual(await told('grace is online', RETURN_MS), ['grace is offline', 'grace is online']);
    grace.close();
  });

  test('frozen for a while, it connects when it is resumed', { skip: freezing }, async () => {
    const options = { backoffBase: 60_000, backoffCap: 60_000 };
    const { page, states, told } = await world.visit('heidi', { watch: ['ivan'], options });
    await told('ivan is offline');
    await world.hide(page);
    const devtools = await page.context().newCDPSession(page);
    await page.evaluate(() => {
      globalThis.life = [];
      for (const type of ['freeze', 'resume']) document.addEventListener(type, () => globalThis.life.push(type));
    });
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    const ivan = await signIn(world.edge, 'ivan');
    // A connection that says nothing is no longer known to the proxy.
    world.proxy.swallow();
    await page.bringToFront();
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    // Chromium ends a frozen page's connection, and tells it so when it runs again.
    assert.deepEqual(await states(3, RETURN_MS), ['waiting: 1006', 'connecting', 'open']);
    assert.deepEqual(await told('ivan is online', RETURN_MS), ['ivan is offline', 'ivan is online']);
    ivan.close();
    assert.deepEqual(await page.evaluate(() => globalThis.life), ['freeze', 'resume']);
  });
});
