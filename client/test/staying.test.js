// A page in a real browser that is hidden for long, whose tokens end, or whose real edge ends: it stays online, or
// comes back, and to others it is never offline.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { inEachBrowser, signToken, SLACK_MS, startWorld, visibility } from './browsers.js';

/** As the edge is started. */
const TTL_MS = 10_000;

/** For so long a page is hidden; `make soak` has it hidden for minutes, as browsers throttle timers more then. */
const HIDDEN_MS = Number(process.env.HIDDEN_MINUTES ?? 0) * 60_000 || 2 * TTL_MS;

/** How long a page may take to come back to an edge that is there again. */
const BACK_MS = 10_000;

/** Pulls as often as a short test needs it. */
const options = { pullInterval: 500 };

inEachBrowser('a page', { timeout: 160_000 + HIDDEN_MS }, (browser) => {
  const world = startWorld(browser, { drain: '2s' });

  /** Waits until the edge takes this user for online. */
  const online = async (user) => {
    const deadline = performance.now() + SLACK_MS;
    while (!(await world.onlineSince(user))) {
      assert.ok(performance.now() < deadline, `${user} is online`);
      await sleep(50);
    }
  };

  /** Asks the edge again and again, for so long: this user is always online. */
  const staysOnline = async (user, ms) => {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const left = Math.round(end - performance.now());
      assert.ok(await world.onlineSince(user), `${user} is online ${left} ms before the end`);
      await sleep(100);
    }
  };

  describe('left alone', { concurrency: true }, () => {
    test(`hidden for ${HIDDEN_MS / 1000} s with a TTL of ${TTL_MS / 1000} s, it is online to others all the time`, async () => {
      // The edge tells of each ping, every 2 s: it need not be asked whether it is there.
      const { page, states } = await world.visit('alice', { watch: ['bob'], options: { ...options, keepAlive: 5_000 } });
      await online('alice');
      await world.hide(page);
      const asked = await page.evaluate(() => globalThis.asked);
      await staysOnline('alice', HIDDEN_MS);
      assert.equal(await visibility(page), 'hidden');
      assert.deepEqual(await states(0), [], 'on one connection');
      assert.equal(await page.evaluate(() => globalThis.asked), asked, 'it asks nothing meanwhile');
    });

    test('whose tokens end shows the next one, and the connection stays', async () => {
      // Clocks may differ by five seconds, so each of the first is good for four.
      const expiresIn = [-1, -1, 600];
      const { page, states } = await world.visit('carol', { expiresIn, options });
      await online('carol');
      await staysOnline('carol', 6_000);
      assert.deepEqual(await states(0), []);
      assert.equal(await page.evaluate(() => globalThis.client.state), 'open');
    });

    test('whose token ends while there is no other comes back when there is, and is online all the time', async () => {
      // There is none for renewals, and another one once the session has ended.
      const expiresIn = [-1, null];
      const { page, states } = await world.visit('dave', { expiresIn, options });
      await online('dave');
      const [[first], ended] = await Promise.all([states(1, 8_000), staysOnline('dave', 8_000)]);
      assert.equal(ended, undefined);
      assert.equal(first, 'waiting: 4401');
      await page.evaluate((token) => globalThis.tokens.splice(0, Infinity, token), signToken('dave'));
      // Not by the page's frames: the other tests hide it, and a hidden page draws none.
      const waiting = { timeout: BACK_MS, polling: 50 };
      await page.waitForFunction(() => globalThis.client.state === 'open', undefined, waiting);
      assert.equal((await states(0)).at(-1), 'open');
    });
  });

  for (const [how, signal, code, users] of [
    ['restarts after a crash', 'SIGKILL', null, ['erin', 'frank']],
    ['drains and restarts', 'SIGTERM', 0, ['grace', 'heidi']],
  ]) {
    test(`whose edge ${how} comes back, and is told of nobody that they are offline`, async () => {
      const visits = [];
      for (const user of users) visits.push(await world.visit(user, { in: 'window', watch: users, options }));
      for (const { told } of visits) for (const user of users) await told(`${user} is online`);
      for (const { page } of visits) await page.evaluate(() => (globalThis.told = []));

      assert.equal(await world.restart(signal), code);
      for (const { page, states } of visits) {
        assert.match(String(await states(1)), /^waiting: 1/);
        await page.waitForFunction(() => globalThis.client.state === 'open', undefined, { timeout: BACK_MS });
      }
      // Longer than the entries that the first edge wrote: it is the new one that keeps them online.
      await Promise.all(users.map((user) => staysOnline(user, TTL_MS)));
      for (const { page } of visits) {
        assert.deepEqual(await page.evaluate(() => globalThis.told), [], 'they are as they were');
      }
    });
  }
});
