// The demo page in a real Chromium, on a real presenced: what becomes of who leaves, the crowd, the figures, the code.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';

import { startEdge } from './programs.js';
import { startStage } from './stage.js';

/** As the edge is started. */
const TTL_MS = 10_000;

/** What a slow machine may add. */
const SLACK_MS = 5_000;

/** A site of somebody else, with this page. @type {import('node:http').Server} */
let site;
let sitePage = '';

const stage = startStage();

before(async () => {
  site = createServer((_request, answer) => answer.setHeader('Content-Type', 'text/html; charset=utf-8').end(sitePage));
  await once(site.listen(0, '127.0.0.1'), 'listening');
});

after(() => {
  site?.close();
  site?.closeAllConnections();
});

const siteUrl = () => `http://127.0.0.1:${site.address().port}`;

/**
 * Opens the demo page as this user, in a window of its own. Gives the page, what it asks for over HTTP, and what it or
 * its security policy minds.
 */
const visit = async (user, prepare = async () => {}, url = stage.edge.url) => {
  const page = await stage.browser.newWindow();
  stage.pages.push(page);
  const [requests, troubles] = [[], []];
  page.on('request', (request) => requests.push(new URL(request.url())));
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('pageerror', (error) => troubles.push(error.message));
  await prepare(page);
  await page.goto(`${url}?${new URLSearchParams({ user, every: '1' })}`);
  await page.waitForSelector('[data-connection="open"]', { state: 'attached', timeout: SLACK_MS });
  return { page, requests, troubles };
};

const says = (page, user, state, timeout = SLACK_MS) =>
  page.waitForSelector(`[data-user="${user}"][data-state="${state}"]`, { state: 'attached', timeout });

/** Waits until the element's text is like this, and gives it. */
const reads = async (page, selector, pattern, timeout = SLACK_MS) => {
  const matches = ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent ?? '');
  await page.waitForFunction(matches, [selector, pattern.source], { timeout });
  return page.textContent(selector);
};

describe('who leaves the demo page', { timeout: 120_000 }, () => {
  test('is counted down until the entry expires, and no second longer', async () => {
    const alice = await visit('alice');
    const bob = await visit('bob');
    await says(alice.page, 'bob', 'online');
    await bob.page.close();
    const text = await reads(alice.page, '#leaving', /^bob closed the tab\. Nothing was written; the entry expires in at most \d+ s\.$/);
    assert.ok(Number(/\d+/.exec(text)?.[0]) <= TTL_MS / 1_000 + 1, text);
    await reads(alice.page, '#leaving', /in at most [1-4] s/, TTL_MS);
    await says(alice.page, 'bob', 'offline', SLACK_MS + 5_000);
    const end = await reads(alice.page, '#leaving', /^bob closed the tab\. Now offline, \d+ s after leaving/);
    // The next pull shows it, a second later at the most.
    assert.ok(Number(/(\d+) s after/.exec(end)?.[1]) <= TTL_MS / 1_000 + 1 + 1 + 1, end);
    await alice.page.waitForSelector('#leaving', { state: 'hidden', timeout: 10_000 + SLACK_MS });
    assert.deepEqual(alice.troubles, []);
  });

  test('stays online by another tab, which says so', async () => {
    const alice = await visit('alice');
    const bob = await visit('bob');
    const again = await visit('bob');
    await says(alice.page, 'bob', 'online');
    await bob.page.close();
    await reads(alice.page, '#leaving', /^bob closed the tab\. Still online in another tab\.$/);
    await reads(again.page, '#leaving', /^bob closed the tab\. Still online in this tab\.$/);
  });

  test('is back when the tab is loaded anew, and leaves by the button as well', async () => {
    const alice = await visit('alice');
    const bob = await visit('bob');
    await says(alice.page, 'bob', 'online');
    await bob.page.reload();
    await reads(alice.page, '#leaving', /^bob closed the tab\. Back, with a new session\.$/);
    await bob.page.click('#toggle');
    await reads(alice.page, '#leaving li:last-child', /^bob disconnected\. Nothing was written/);
    assert.match(await bob.page.textContent('#as-they-were'), /^Not connected\. Others see you go offline/);
  });
});

describe('an outage of memcached on the demo page', { timeout: 120_000 }, () => {
  test('is told of, and whoever leaves meanwhile is neither online nor offline until it is known', async () => {
    let store = await startEdge();
    const edge = await startEdge(undefined, { flags: { memcached: store.store } });
    try {
      const alice = await visit('alice', undefined, edge.url);
      const bob = await visit('bob', undefined, edge.url);
      await says(alice.page, 'bob', 'online');
      await store.stop('SIGKILL');
      await reads(alice.page, '#as-they-were', /^memcached at \S+ does not answer\. People are shown as they were\.$/);
      await bob.page.close();
      const open = /^bob closed the tab\. Nothing was written; the entry expires now, but memcached can’t be asked\.$/;
      await reads(alice.page, '#leaving', open, TTL_MS + SLACK_MS);
      const sent = Number(await alice.page.textContent('#pulls-sent'));
      await alice.page.waitForFunction((sent) => Number(document.querySelector('#pulls-sent').textContent) > sent, sent + 6);
      assert.match(await alice.page.textContent('#leaving'), open);

      store = await startEdge(undefined, { flags: { 'store-listen': store.store } });
      await alice.page.waitForSelector('#as-they-were', { state: 'hidden', timeout: SLACK_MS });
      await reads(alice.page, '#leaving', /^bob closed the tab\. Now offline, \d+ s after leaving\.$/, 2 * TTL_MS + SLACK_MS);
      assert.deepEqual(alice.troubles, []);
    } finally {
      await edge.stop('SIGTERM');
      await store.stop('SIGTERM');
    }
  });
});

describe('the rest of the demo page', { timeout: 120_000 }, () => {
  test('twenty visitors come, are in the stack and the figures, and leave together', async () => {
    const { page, requests, troubles } = await visit('alice');
    await page.waitForSelector('#figures .u-wrap canvas');
    await page.click('#crowd');
    await reads(page, '#crowd', /^Disconnect the 20 visitors$/);
    await reads(page, '#stack .more', /^\+\d+$/, 10_000);
    await reads(page, '#team-count', /^9 of 12 online$/, 10_000);
    await reads(page, '#path-sessions', /^2\d$/, 10_000);
    await reads(page, '#now-heartbeats', /^[1-9]/, 10_000);
    await reads(page, '#path-stored', /^[1-9]/, 10_000);
    await page.click('#crowd');
    await reads(page, '#leaving', /^20 people left\. Nothing was written; the entries expire in at most \d+ s\./);
    await reads(page, '#leaving', /^20 people left\. Now offline/, TTL_MS + SLACK_MS + 5_000);
    await reads(page, '#team-count', /^1 of 12 online$/);
    assert.deepEqual(troubles, []);
    const strangers = requests.filter(({ protocol, origin }) => protocol !== 'data:' && origin !== new URL(stage.edge.url).origin);
    assert.deepEqual(strangers, [], 'nothing is loaded from anywhere but the edge');
  });

  test('visitors who are sent away before they are connected have not left', async () => {
    const { page } = await visit('alice');
    await page.evaluate(() => {
      const button = document.querySelector('#crowd');
      button.click();
      button.click();
    });
    assert.deepEqual(await page.$$eval('#leaving li', (items) => items.map(({ textContent }) => textContent)), []);
    assert.equal(await page.textContent('#crowd'), 'Simulate 20 visitors');
  });

  test('an address with an impossible user id leads to the sign-in, and no token is asked for', async () => {
    const page = await stage.browser.newWindow();
    stage.pages.push(page);
    const requests = [];
    page.on('request', (request) => requests.push(new URL(request.url()).pathname));
    await page.goto(`${stage.edge.url}?${new URLSearchParams({ user: 'no body' })}`);
    await page.waitForSelector('#sign-in');
    assert.match(await page.textContent('#alert'), /^Nobody can be online .*: a user id has no white space/);
    assert.ok(!requests.includes('/dev/token'), String(requests));
  });

  test('whoever is added to the contacts is scrolled to', async () => {
    const { page } = await visit('alice');
    await page.fill('#add-user', 'zoe');
    await page.click('#add button');
    const isInSight = () => {
      const row = document.querySelector('[data-user="zoe"]').getBoundingClientRect();
      const frame = document.querySelector('#scroller').getBoundingClientRect();
      return row.top >= frame.top && row.bottom <= frame.bottom;
    };
    await page.waitForFunction(isInSight, undefined, { timeout: SLACK_MS });
    await says(page, 'zoe', 'offline');
  });

  test('figures are asked for each second, and not by a hidden page', async () => {
    const { page, requests } = await visit('alice');
    const asked = () => requests.filter(({ pathname }) => pathname === '/dev/figures').length;
    await page.waitForRequest(/\/dev\/figures/);
    await page.waitForRequest(/\/dev\/figures/);
    // A tab in front of it.
    const [cover] = await Promise.all([page.context().waitForEvent('page'), page.click('#next')]);
    stage.pages.push(cover);
    await page.waitForFunction(() => document.hidden, undefined, { polling: 50 });
    const before = asked();
    await cover.waitForResponse(/\/dev\/figures/);
    await cover.waitForResponse(/\/dev\/figures/);
    await cover.waitForResponse(/\/dev\/figures/);
    assert.ok(asked() <= before + 1, 'at most the one that was about to leave');
    await Promise.all([page.waitForRequest(/\/dev\/figures/), page.bringToFront()]);
  });

  test('an edge without figures is asked once, and the page says so', async () => {
    const { page, requests } = await visit('alice', (page) => page.route('**/dev/figures', (route) => route.fulfill({ status: 404 })));
    await page.waitForSelector('#no-figures');
    assert.equal(await page.isVisible('#figures'), false);
    await page.waitForSelector('#log li:nth-child(4)');
    assert.equal(requests.filter(({ pathname }) => pathname === '/dev/figures').length, 1);
  });

  test('the code has the addresses and the keys of this edge, and works in a page of another origin', async () => {
    const { page } = await visit('alice');
    const code = await page.textContent('#panel-0');
    assert.ok(code.includes(`"${new URL('/client/presence.js', stage.edge.url)}"`), code);
    assert.ok(code.includes(`url: "${new URL('/ws', stage.edge.url).href.replace('http', 'ws')}"`), code);
    await reads(page, '#panel-3', /printf 'get user:bob:online\\r\\nquit\\r\\n' \| nc 127\.0\.0\.1 \d+/);

    // Another edge at the same address, which allows the other origin.
    const { host } = new URL(stage.edge.url);
    await stage.edge.stop('SIGTERM');
    stage.edge = await startEdge(host, { flags: { 'allow-origin': siteUrl() } });
    const own = await stage.browser.newWindow();
    stage.pages.push(own);
    sitePage = `<!doctype html><html lang="en"><title>mine</title>${code}`;
    await own.goto(siteUrl());
    await reads(own, '#friend', /^bob is offline$/);
    sitePage = `<!doctype html><html lang="en"><title>mine</title>${await page.textContent('#panel-1')}`;
    await own.goto(siteUrl());
    await own.waitForFunction(() => document.querySelector('presence-dot').state === 'offline', undefined, { timeout: SLACK_MS });
    await stage.edge.stop('SIGTERM');
    stage.edge = await startEdge(host);
  });

  test('what cannot be asked is unknown, and the page says why', async () => {
    const { page } = await visit('alice', async (page) => {
      await page.routeWebSocket(/\/ws$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((message) => {
          const { pull, users } = JSON.parse(String(message));
          if (users) socket.send(JSON.stringify({ pull, online: {}, unknown: users }));
          else server.send(message);
        });
      });
      await page.route('**/dev/figures', async (route) => {
        const answer = await route.fetch();
        const figures = await answer.json();
        for (const node of figures.memcached) node.up = false;
        await route.fulfill({ json: figures });
      });
    });
    await reads(page, '[data-user="bob"] .state', /^unknown: memcached can’t be asked right now$/);
    await reads(page, '#nodes', /is down$/);
  });
});
