// The demo page in a real Chromium, on a real presenced. Nothing is scripted and nothing is emulated: a page is hidden
// by another tab of its window, time passes by itself.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { startEdge } from './programs.js';
import { startStage } from './stage.js';

/** As the edge is started: a heartbeat may wait for a flush, the TTL then runs, and the next pull shows it. */
const TTL_MS = 10_000;
const FLUSH_MS = 1_000;
const PULL_MS = 1_000;

/** What a slow machine may add. */
const SLACK_MS = 4_000;

const stage = startStage();

/**
 * Opens the demo page as this user; gives the page, and the frames it sends and the troubles it has as they come.
 *
 * @param {string} user
 * @param {{in?: 'tab' | 'window', watch?: string[]}} [options]
 */
const visit = async (user, { in: where = 'window', watch = [] } = {}) => {
  const page = await (where === 'window' ? stage.browser.newWindow() : stage.browser.newTab());
  stage.pages.push(page);
  const frames = [];
  const troubles = [];
  page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => frames.push(JSON.parse(String(payload)))));
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(error.message));
  const query = new URLSearchParams({ user, every: String(PULL_MS / 1_000) });
  for (const name of watch) query.append('watch', name);
  await page.goto(`${stage.edge.url}?${query}`);
  await shows(page, '[data-connection="open"]');
  return { page, frames, troubles };
};

/** Waits until the page has such an element. */
const shows = (page, selector, timeout = SLACK_MS) => page.waitForSelector(selector, { state: 'attached', timeout });

/** Waits until the page says so of a user. */
const says = (page, user, state, timeout) => shows(page, `[data-user="${user}"][data-state="${state}"]`, timeout);

/** What the page says of a user now. */
const stateOf = (page, user) => page.getAttribute(`[data-user="${user}"]`, 'data-state');

const visibility = (page) => page.evaluate(() => document.visibilityState);

describe('the demo page', { timeout: 120_000 }, () => {
  test('two users appear to each other, one closes, and is offline one TTL later', async () => {
    const alice = await visit('alice');
    await says(alice.page, 'alice', 'online');
    await says(alice.page, 'bob', 'offline');

    const bob = await visit('bob');
    await says(bob.page, 'alice', 'online');
    await says(bob.page, 'bob', 'online');
    await says(alice.page, 'bob', 'online', PULL_MS + SLACK_MS);
    assert.match(await alice.page.textContent('[data-user="bob"] .since'), /^since .*\d/);

    // Online for longer than the TTL: it is the heartbeats that keep them there.
    await sleep(TTL_MS + FLUSH_MS + PULL_MS);
    assert.equal(await stateOf(alice.page, 'bob'), 'online');
    assert.equal(await stateOf(bob.page, 'alice'), 'online');

    await bob.page.close();
    // Leaving writes nothing. The last heartbeat may be old by a ping interval, so there are 2 s to see that.
    await sleep(1.5 * PULL_MS);
    assert.equal(await stateOf(alice.page, 'bob'), 'online');
    await says(alice.page, 'bob', 'offline', TTL_MS + FLUSH_MS + PULL_MS + SLACK_MS);
    assert.equal(await stateOf(alice.page, 'alice'), 'online');
    assert.deepEqual([...alice.troubles, ...bob.troubles], [], 'nothing that the page or its security policy minds');
  });

  test('everyone watched is in one request', async () => {
    const { page, frames } = await visit('alice', { watch: ['x1', 'x2', 'x3'] });
    await says(page, 'x3', 'offline');
    // Far down the list, and so not asked for. Its row comes on screen, and the pull has everyone there is to ask for.
    assert.equal(await stateOf(page, 'yusuf'), 'unknown');
    assert.ok(!frames.some(({ users }) => users.includes('yusuf')), 'nobody asks for who is not on screen');
    await page.locator('[data-user="yusuf"]').scrollIntoViewIfNeeded();
    await says(page, 'yusuf', 'offline');
    await page.waitForFunction(() => {
      const asked = Number.parseInt(document.querySelector('#asked').textContent, 10);
      return document.querySelector('#log [data-kind="pull"] .what').textContent.startsWith(`${asked} people`);
    });
    const { users } = frames.at(-1);
    for (const name of ['alice', 'bob', 'carol', 'dave', 'erin', 'x1', 'x2', 'x3', 'yusuf']) assert.ok(users.includes(name), name);
    assert.ok(users.length < 60, `${users.length} are asked for, not the hundred`);
  });

  test('no pull leaves a hidden page, and one leaves at once on return', async () => {
    const alice = await visit('alice', { in: 'tab' });
    await says(alice.page, 'alice', 'online');
    await sleep(2.5 * PULL_MS);
    assert.ok(alice.frames.length >= 3, 'it pulls while it is seen');

    // Another tab of the same window, in front.
    const cover = await stage.browser.newTab();
    stage.pages.push(cover);
    assert.equal(await visibility(alice.page), 'hidden', 'the page is hidden, and really');
    const sent = alice.frames.length;
    // Somebody new to watch is no reason either.
    await alice.page.evaluate(() => {
      document.querySelector('#add-user').value = 'newcomer';
      document.querySelector('#add').requestSubmit();
    });
    // Longer than the TTL, to see that a hidden user stays online all the same.
    await sleep(TTL_MS + FLUSH_MS + PULL_MS);
    assert.equal(alice.frames.length, sent, 'no pull leaves a hidden page');
    assert.equal(await visibility(alice.page), 'hidden');
    const bob = await visit('bob');
    await says(bob.page, 'alice', 'online');
    assert.equal(alice.frames.length, sent);

    const next = new Promise((resolve) => {
      const look = setInterval(() => {
        if (alice.frames.length > sent) {
          clearInterval(look);
          resolve(performance.now());
        }
      }, 5);
    });
    const returned = performance.now();
    await alice.page.bringToFront();
    const waited = (await next) - returned;
    assert.ok(waited < PULL_MS / 2, `a pull at once on return, not ${waited} ms later`);
    assert.equal(await visibility(alice.page), 'visible');
    assert.ok(alice.frames[sent].users.includes('newcomer'));
    await says(alice.page, 'bob', 'online');
    await shows(alice.page, '#log [data-kind="paused"]');
    assert.match(await alice.page.textContent('#log [data-kind="paused"]'), /paused while hidden: \d+ s.*0 pulls/);
    assert.equal(await alice.page.textContent('#pulls-hidden'), '0');
  });

  test('one picks a name, disconnects, and connects again', async () => {
    const page = await stage.browser.newWindow();
    stage.pages.push(page);
    await page.goto(stage.edge.url);
    await page.click('#names >> text=carol');
    await shows(page, '[data-connection="open"]');
    assert.equal(new URL(page.url()).searchParams.get('user'), 'carol');
    await says(page, 'carol', 'online');
    await page.click('#toggle');
    await shows(page, '[data-connection="closed"]');
    await page.click('#toggle');
    await shows(page, '[data-connection="open"]');
  });

  test('an edge that gives no tokens away is explained', async () => {
    const page = await stage.browser.newWindow();
    stage.pages.push(page);
    await page.route('**/dev/token*', (route) => route.fulfill({ status: 404, json: {} }));
    await page.goto(`${stage.edge.url}?user=alice`);
    await page.waitForSelector('#alert:not([hidden])');
    assert.match(await page.textContent('#alert'), /gives no tokens away/);
    await shows(page, '[data-connection="waiting"]');
  });

  test('when the edge restarts, everyone comes back with a fresh token, and nobody is called offline', async () => {
    const alice = await visit('alice');
    const bob = await visit('bob');
    await says(alice.page, 'bob', 'online', PULL_MS + SLACK_MS);
    await alice.page.evaluate(() => {
      globalThis.seen = [];
      const bob = document.querySelector('[data-user="bob"]');
      const note = () => globalThis.seen.push(bob.dataset.state);
      new MutationObserver(note).observe(bob, { attributeFilter: ['data-state'] });
    });

    const { host } = new URL(stage.edge.url);
    assert.equal(await stage.edge.stop('SIGTERM'), 0);
    await shows(alice.page, '[data-connection="waiting"], [data-connection="connecting"]');
    assert.equal(await stateOf(alice.page, 'bob'), 'online');
    const others = await alice.page.evaluate(() => globalThis.seen.filter((state) => state !== 'online'));
    assert.deepEqual(others, [], 'while nobody can be asked, they stay as they were');

    // Keyless: the new one has another key, and takes none of the old tokens.
    stage.edge = await startEdge(host);
    for (const { page } of [alice, bob]) await shows(page, '[data-connection="open"]', 20_000);
    await says(alice.page, 'bob', 'online', PULL_MS + SLACK_MS);
    await says(bob.page, 'alice', 'online', PULL_MS + SLACK_MS);
    assert.equal(await alice.page.isVisible('#alert'), false);
  });
});
