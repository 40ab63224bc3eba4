// socket.io-client's own bundle in a page in a real Chromium, on a real presenced. The page is of another origin than the
// edge.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { startBrowser, startEdge } from './programs.js';

const SECRET = 'an HS256 secret for tests, long enough';

/** How clients are told to connect. */
const TRANSPORTS = [['polling', 'websocket'], ['websocket'], ['polling']];

/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {import('node:http').Server[]} */
const sites = [];
/** @type {Record<'allowed' | 'other', import('playwright-core').Page>} */
let pages;

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token of this user, as the back end of the page would sign it. */
const token = (user) => {
  const message = `${base64url({ alg: 'HS256' })}.${base64url({ sub: user, exp: Date.now() / 1_000 + 600 })}`;
  return `${message}.${createHmac('sha256', SECRET).update(message).digest('base64url')}`;
};

/** A site of an origin of its own that serves the bundle. */
const serve = async () => {
  const bundle = readFileSync(join(import.meta.dirname, '../node_modules/socket.io-client/dist/socket.io.min.js'));
  const site = createServer(({ url }, answer) => {
    const isBundle = url === '/socket.io.min.js';
    answer.setHeader('Content-Type', isBundle ? 'text/javascript' : 'text/html');
    answer.end(isBundle ? bundle : '<!doctype html><title>a page</title><script src="/socket.io.min.js"></script>');
  }).listen(0, '127.0.0.1');
  sites.push(site);
  await once(site, 'listening');
  return `http://127.0.0.1:${site.address().port}`;
};

before(async () => {
  const [allowed, other] = [await serve(), await serve()];
  const flags = { 'allow-origin': allowed, socketio: 'all' };
  edge = await startEdge(undefined, { flags, secret: SECRET });
  browser = await startBrowser();
  pages = { allowed: await browser.newWindow(), other: await browser.newWindow() };
  await pages.allowed.goto(`${allowed}/`);
  await pages.other.goto(`${other}/`);
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    for (const site of sites) site.close();
    await edge?.stop('SIGTERM');
  }
});

describe('socket.io-client in a page of another origin', { timeout: 60_000 }, () => {
  for (const transports of TRANSPORTS) {
    const how = transports.join(', ');

    test(`connects and pulls (${how})`, async () => {
      const seen = await pages.allowed.evaluate(
        async ({ url, token, transports }) => {
          const socket = globalThis.io(url, { transports, auth: { token } });
          await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject));
          const { id } = socket;
          const online = await socket.emitWithAck('presence:pull', ['alice', 'bob']);
          const one = await socket.emitWithAck('presence:pull', 'bob');
          socket.disconnect();
          return { id, online, one };
        },
        { url: edge.url, token: token('alice'), transports },
      );
      assert.ok(seen.id.length > 0);
      assert.deepEqual(Object.keys(seen.online.online), ['alice']);
      assert.deepEqual(seen.one, { online: {} });
    });

    test(`is told why its token is refused, and connects with another (${how})`, async () => {
      const seen = await pages.allowed.evaluate(
        async ({ url, token, transports }) => {
          let shown = 'no token';
          const socket = globalThis.io(url, { transports, auth: (give) => give({ token: shown }) });
          const error = await new Promise((resolve) => socket.once('connect_error', resolve));
          shown = token;
          socket.connect();
          await new Promise((resolve) => socket.once('connect', resolve));
          const { active } = socket;
          socket.disconnect();
          return { message: error.message, data: error.data, active };
        },
        { url: edge.url, token: token('alice'), transports },
      );
      assert.deepEqual(seen, { message: 'the token is not valid', data: { code: 'token_invalid' }, active: true });
    });

    test(`does not connect from a page whose origin is not allowed (${how})`, async () => {
      const message = await pages.other.evaluate(
        async ({ url, token, transports }) => {
          const socket = globalThis.io(url, { transports, auth: { token } });
          const error = await new Promise((resolve, reject) =>
            socket.on('connect_error', resolve).on('connect', () => reject(new Error('it has connected'))),
          );
          socket.disconnect();
          return error.message;
        },
        { url: edge.url, token: token('alice'), transports },
      );
      assert.match(message, /websocket error|xhr poll error/);
    });
  }
});
