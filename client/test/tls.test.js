// The demo page in a real Chromium, on a presenced that speaks TLS itself.

import assert from 'node:assert/strict';
import { X509Certificate, createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { startBrowser, startEdge } from './programs.js';

const certificates = join(import.meta.dirname, '../../tls/tests/certificates');
const read = (/** @type {string} */ name) => readFileSync(join(certificates, name));

/** What a slow machine may add. */
const SLACK_MS = 5_000;

/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {string} */
let folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'presenced-tls-'));
  const file = (/** @type {string} */ name, /** @type {Buffer} */ content) => {
    const path = join(folder, name);
    // A key that others can read is refused.
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  };
  const chain = Buffer.concat([read('p256.pem'), read('intermediate.pem')]);
  edge = await startEdge('127.0.0.1:0', { flags: { 'tls-cert': file('chain.pem', chain), 'tls-key': file('key.pem', read('p256.key')) } });
  // Of all certificates whose authority it does not know, it takes this one.
  const key = new X509Certificate(read('p256.pem')).publicKey.export({ type: 'spki', format: 'der' });
  const known = createHash('sha256').update(key).digest('base64');
  browser = await startBrowser([`--ignore-certificate-errors-spki-list=${known}`]);
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    await edge?.stop('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
});

/** How many handshakes there were, by whether the browser came back with a ticket. */
const handshakes = async () => {
  const metrics = await (await fetch(edge.admin)).text();
  const count = (/** @type {string} */ resumed) =>
    Number(new RegExp(`^presenced_tls_handshakes_total{version="1.3",resumed="${resumed}"} (\\d+)$`, 'm').exec(metrics)?.[1]);
  return { full: count('no'), resumed: count('yes') };
};

describe('the demo page over TLS', { timeout: 60_000 }, () => {
  test('loads, opens its session, and shows who is online through several pings', async () => {
    assert.match(edge.url, /^https:/);
    const open = async (/** @type {string} */ user) => {
      const page = await browser.newWindow();
      /** @type {{troubles: string[], sockets: string[]}} */
      const seen = { troubles: [], sockets: [] };
      page.on('console', (message) => message.type() === 'error' && seen.troubles.push(message.text()));
      page.on('pageerror', (error) => seen.troubles.push(error.message));
      page.on('websocket', (socket) => seen.sockets.push(new URL(socket.url()).protocol));
      const answer = await page.goto(`${edge.url}?${new URLSearchParams({ user, every: '1' })}`);
      assert.equal((await answer?.securityDetails())?.protocol, 'TLS 1.3');
      await page.waitForSelector('[data-connection="open"]', { state: 'attached', timeout: SLACK_MS });
      return { page, ...seen };
    };
    const [alice, bob] = [await open('alice'), await open('bob')];
    const sees = (/** @type {string} */ user, /** @type {string} */ state, timeout = SLACK_MS) =>
      alice.page.waitForSelector(`[data-user="${user}"][data-state="${state}"]`, { state: 'attached', timeout });
    await sees('bob', 'online');
    await sees('alice', 'online');
    const pongs = async () => Number(/^presenced_pongs_total (\d+)$/m.exec(await (await fetch(edge.admin)).text())?.[1]);
    const deadline = Date.now() + 20_000;
    while ((await pongs()) < 6) {
      assert.ok(Date.now() < deadline, 'pongs');
      await alice.page.waitForTimeout(100);
    }
    assert.deepEqual([alice.sockets, bob.sockets], [['wss:'], ['wss:']]);
    await bob.page.close();
    await sees('bob', 'offline', 10_000 + 2 * SLACK_MS);
    assert.deepEqual(alice.troubles, []);
    // A browser comes back with its ticket.
    assert.ok((await handshakes()).resumed > 0);
    await alice.page.close();
  });

  test('is not shown by a browser that does not know the certificate', async () => {
    const other = await startBrowser();
    try {
      const page = await other.newTab();
      await assert.rejects(page.goto(edge.url), /ERR_CERT_AUTHORITY_INVALID/);
    } finally {
      await other.close();
    }
    const metrics = await (await fetch(edge.admin)).text();
    assert.match(metrics, /^presenced_handshakes_total{result="tls",reason="alert"} [1-9]/m);
  });
});
