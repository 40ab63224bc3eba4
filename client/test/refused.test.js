// What a page in a real Chromium sees of a handshake that a real presenced refuses, and what the client makes of it. The
// page is of another origin than the edge.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { startBrowser, startEdge } from './programs.js';
import { startSite } from './site.js';

const SECRET = 'an HS256 secret for tests, long enough';

/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {Awaited<ReturnType<typeof startSite>>} */
let site;
/** @type {import('playwright-core').Page} */
let page;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token of this user, as the back end of the page would sign it; and with more claims. */
const token = (user, expiresIn = 600, more = {}) => {
  const claims = { sub: user, exp: Date.now() / 1_000 + expiresIn, ...more };
  const message = `${base64url({ alg: 'HS256' })}.${base64url(claims)}`;
  return `${message}.${createHmac('sha256', SECRET).update(message).digest('base64url')}`;
};

before(async () => {
  site = await startSite();
  edge = await startEdge(undefined, { flags: { 'allow-origin': site.origin, 'max-sessions': '1' }, secret: SECRET });
  browser = await startBrowser();
  page = await browser.newWindow();
  await page.goto(site.origin);
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    site?.stop();
    await edge?.stop('SIGTERM');
  }
});

/**
 * Connects from the page, with a string as the token or with a function that gives these one after another, until one
 * of these states. Gives all that was said of the connection, and the client's own number of attempts.
 *
 * @param {string | string[]} tokens
 * @param {string[]} until
 */
const connect = (tokens, until) =>
  page.evaluate(
    async ([url, tokens, until]) => {
      const { PresenceClient } = await import('/presence.js');
      const states = [];
      const ended = Promise.withResolvers();
      const client = new PresenceClient({
        url,
        token: typeof tokens === 'string' ? tokens : () => tokens.shift(),
      });
      client.on('state', ({ state, code, reason, retryInMs }) => {
        states.push({ state, code, reason, retryInMs });
        // What is open may be about to be closed.
        if (until.includes(state) && (state !== 'open' || tokens.length === 0)) ended.resolve(undefined);
      });
      await ended.promise;
      globalThis.last?.close();
      globalThis.last = client;
      return states;
    },
    [new URL('/ws', edge.url).href, tokens, until],
  );

/** The last of the states. */
const end = async (tokens, until) => (await connect(tokens, until)).at(-1);

describe('a page of another origin', { timeout: 60_000 }, () => {
  /** What a pull over HTTP comes to, with headers that a browser asks for first. */
  const pull = (token) =>
    page.evaluate(
      async ([url, token]) => {
        const headers = { Authorization: `Bearer ${token}`, traceparent: '00-0123456789abcdef0123456789abcdef-00-00' };
        const answer = await fetch(url, { headers });
        return { status: answer.status, body: await answer.json() };
      },
      [new URL('/v1/presence?user=nobody', edge.url).href, token],
    );

  test('may send headers of its own, and read answers and errors', async () => {
    const { status, body } = await pull(token('alice'));
    assert.equal(status, 200);
    assert.ok(body.online);
    const refused = await pull('a.b.c');
    assert.deepEqual([refused.status, refused.body.error.code], [401, 'token_invalid']);
  });
});

describe('a page whose token ends', { timeout: 60_000 }, () => {
  test('stays, with one token after another', async () => {
    // Each is good for less than two minutes, and clocks may differ by five seconds.
    const tokens = [token('alice', -2), ...Array.from({ length: 3 }, () => token('alice', -1)), token('alice')];
    const { states, left } = await page.evaluate(
      async ([url, tokens]) => {
        const { PresenceClient } = await import('/presence.js');
        const states = [];
        const client = new PresenceClient({ url, token: () => tokens.shift() });
        client.on('state', ({ state }) => states.push(state));
        // Longer than the last of the short ones is good for.
        await new Promise((resolve) => setTimeout(resolve, 7_000));
        client.close();
        return { states, left: tokens.length };
      },
      [new URL('/ws', edge.url).href, tokens],
    );
    assert.deepEqual(states, ['connecting', 'open', 'closed']);
    assert.equal(left, 0);
  });
});

describe('a page whose token is too long for a proxy', { timeout: 60_000 }, () => {
  const long = (user, expiresIn) => token(user, expiresIn, { groups: 'x'.repeat(7_000) });

  test('sends it as the first message, is told if it is refused, and stays with the next ones', async () => {
    const tokens = [long('alice', -60), long('alice', -2), long('alice'), long('alice')];
    const { states, sent, left } = await page.evaluate(
      async ([url, tokens]) => {
        const { PresenceClient } = await import('/presence.js');
        const [states, sent] = [[], []];
        class Watched extends WebSocket {
          constructor(url, protocols) {
            super(url, protocols);
            sent.push(protocols);
          }
          send(text) {
            sent.push(Object.keys(JSON.parse(text)));
            super.send(text);
          }
        }
        const client = new PresenceClient({
          url,
          token: () => tokens.shift(),
          WebSocket: Watched,
        });
        client.on('state', ({ state, code, reason }) => states.push([state, code, reason]));
        const online = await new Promise((resolve) => client.watch('alice', resolve));
        // Longer than the short one is good for.
        await new Promise((resolve) => setTimeout(resolve, 5_000));
        states.push([online.state, client.state]);
        client.close();
        return { states, sent, left: tokens.length };
      },
      [new URL('/ws', edge.url).href, tokens],
    );
    const [connecting, refused, again, open, end] = states;
    assert.deepEqual([connecting[0], again[0], open[0]], ['connecting', 'connecting', 'open']);
    assert.deepEqual(refused, ['waiting', 4401, 'token_expired']);
    assert.deepEqual(end, ['online', 'open']);
    assert.equal(states.length, 6, 'and closed');
    const offered = ['presence.v1', 'presence.alive'];
    assert.deepEqual(sent.slice(0, 4), [offered, ['token'], offered, ['token']]);
    assert.ok(left <= 1, 'it was renewed');
  });
});

describe('a page whose handshake is refused', { timeout: 120_000 }, () => {
  test('a token that can not change and is refused: it stops', async () => {
    const invalid = await end('a.b.c', ['closed', 'waiting']);
    assert.deepEqual([invalid.state, invalid.code, invalid.reason], ['closed', 4401, 'token_invalid']);
    const expired = await end(token('alice', -60), ['closed', 'waiting']);
    assert.deepEqual([expired.state, expired.code, expired.reason], ['closed', 4401, 'token_expired']);
  });

  test('a user who may not connect: it stops, though it could have another token', async () => {
    const { state, code, reason } = await end([token('a b'), token('a b')], ['closed', 'waiting']);
    assert.deepEqual([state, code, reason], ['closed', 4403, 'user_id_not_allowed']);
  });

  test('a token that has expired: the next one is fetched, and it is online', async () => {
    const states = await connect([token('alice', -60), token('alice')], ['open', 'closed']);
    const [refused] = states.filter(({ state }) => state === 'waiting');
    assert.deepEqual([refused.code, refused.reason], [4401, 'token_expired']);
    assert.equal(states.at(-1).state, 'open');
  });

  test('a full edge: it waits for as long as it is told', async () => {
    // The last test's client has the only place.
    const { state, code, reason, retryInMs } = await end(token('bob'), ['waiting', 'closed']);
    assert.deepEqual([state, code, reason], ['waiting', 1013, 'too_many_sessions; retry=5']);
    assert.ok(retryInMs >= 5_000, `${retryInMs}`);
  });
});
