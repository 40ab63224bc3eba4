// <presence-dot> in each browser, on a real presenced: whom it asks for, how it looks, what a screen reader finds, and
// what is left of a thousand.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { inEachBrowser, startWorld } from './browsers.js';
import { countWatching } from './site.js';

const NO_FILL = 'rgba(0, 0, 0, 0)';

inEachBrowser('dots', { timeout: 180_000 }, (browser) => {
  const world = startWorld(browser);

  /** A page with a client that pulls every second, and `globalThis.sent`, the users of each of its pulls. */
  const open = async (user) => {
    const { page } = await world.visit(user, { in: 'window', options: { pullInterval: 1_000 } });
    await page.evaluate(async () => {
      globalThis.sent = [];
      const { send } = WebSocket.prototype;
      WebSocket.prototype.send = function (text) {
        globalThis.sent.push(JSON.parse(text).users);
        return send.call(this, text);
      };
      const { definePresenceDot } = await import('/presence-dot.js');
      globalThis.presence = globalThis.client;
      definePresenceDot(globalThis.presence);
    });
    return page;
  };

  const show = (page, users) =>
    page.evaluate((users) => {
      document.body.innerHTML = users.map((user) => `<presence-dot user="${user}"></presence-dot>`).join(' ');
    }, users);

  /** Waits until the dot of a user shows this. */
  const shows = (page, user, state) =>
    page.waitForFunction(([user, state]) => document.querySelector(`[user="${user}"]`).state === state, [user, state]);

  /** What is seen of the dot of a user, and what is read out. */
  const look = (page, user) =>
    page.evaluate((user) => {
      const dot = document.querySelector(`[user="${user}"]`).shadowRoot.querySelector('[part~=dot]');
      // Where it goes, not where it is on its way.
      for (const animation of dot.getAnimations()) animation.finish();
      const { backgroundColor, borderTopStyle } = getComputedStyle(dot);
      return [backgroundColor, borderTopStyle, dot.role ?? dot.getAttribute('role'), dot.ariaLabel];
    }, user);

  test('a hundred are asked for in one pull', async () => {
    const page = await open('u7');
    const users = Array.from({ length: 100 }, (_, n) => `u${n}`);
    await show(page, users);
    await shows(page, 'u0', 'offline');
    await shows(page, 'u7', 'online');
    await page.waitForFunction(() => globalThis.sent.filter((users) => users.length > 0).length >= 2);
    const [first, second] = await page.evaluate(() => globalThis.sent.filter((users) => users.length > 0));
    assert.deepEqual(first, users);
    assert.deepEqual(second, users, 'and so are they the next time');
  });

  test('shape, colour and label tell the state', async () => {
    const page = await open('alice');
    const isDark = await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches);
    await show(page, ['alice', 'bob']);
    await shows(page, 'alice', 'online');
    await shows(page, 'bob', 'offline');
    const online = isDark ? 'rgb(63, 185, 80)' : 'rgb(26, 127, 55)';
    assert.deepEqual(await look(page, 'alice'), [online, 'solid', 'img', 'online']);
    assert.deepEqual(await look(page, 'bob'), [NO_FILL, 'solid', 'img', 'offline']);
    // Nobody answers for it.
    await page.evaluate(() => (document.querySelector('[user=bob]').user = 'a b'));
    assert.deepEqual(await look(page, 'a b'), [NO_FILL, 'dotted', 'img', 'unknown']);
  });

  test('after 1,000 that came and went, nobody is watched, and no dot is in memory', async (t) => {
    const page = await open('u0');
    await page.evaluate(countWatching);
    await page.evaluate(() => {
      const dots = Array.from({ length: 1_000 }, (_, n) => {
        const dot = document.createElement('presence-dot');
        dot.user = `u${n}`;
        return dot;
      });
      globalThis.gone = dots.map((dot) => new WeakRef(dot));
      // So small that the window has place for all.
      document.body.style.fontSize = '4px';
      document.body.append(...dots);
    });
    await page.waitForFunction(() => globalThis.watching === 1_000);
    await shows(page, 'u999', 'offline');
    await page.evaluate(() => document.body.replaceChildren());
    assert.equal(await page.evaluate(() => globalThis.watching), 0);

    const before = await page.evaluate(() => globalThis.sent.length);
    await show(page, ['alone']);
    const isAsked = (before) => globalThis.sent.slice(before).find((users) => users.includes('alone'));
    await page.waitForFunction(isAsked, before);
    assert.deepEqual(await page.evaluate(isAsked, before), ['alone'], 'the client has forgotten them');

    if (browser.lacks.collection) return t.diagnostic(browser.lacks.collection);
    const devtools = await page.context().newCDPSession(page);
    const isCollected = async () => {
      await devtools.send('HeapProfiler.collectGarbage');
      return page.evaluate(() => globalThis.gone.every((dot) => dot.deref() === undefined));
    };
    // What a task still holds is let go of in the next.
    while (!(await isCollected())) await page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
  });
});
