// The example of a React application, as its first user starts it: a real edge, a real Chromium.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { run, startBrowser, startEdge } from './programs.js';

const server = join(import.meta.dirname, '..', 'examples', 'react', 'server.js');

/** @type {Awaited<ReturnType<typeof run>>} */
let site;
/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;

/** The edge must know the site's address when it starts, and the site the edge's. */
const freePort = async () => {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (listener.address());
  listener.close();
  await once(listener, 'close');
  return port;
};

before(async () => {
  const port = await freePort();
  edge = await startEdge(undefined, { flags: { 'allow-origin': `http://127.0.0.1:${port}` } });
  const env = { ...process.env, PORT: String(port), PRESENCED: edge.url };
  site = await run(process.execPath, [server], (output) => /^(http:\S+)$/m.exec(output)?.[1], env);
  browser = await startBrowser();
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    await site?.stop('SIGTERM');
    await edge?.stop('SIGTERM');
  }
});

describe('the example of a React application', { timeout: 60_000 }, () => {
  test('shows who is online, as a word and as a dot', async () => {
    const page = await browser.newWindow();
    const troubles = [];
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && troubles.push(message.text()));
    page.on('pageerror', (error) => troubles.push(error.message));
    await page.route('**/favicon.ico', (route) => route.fulfill({ status: 204 }));
    await page.goto(String(site.facts));
    await page.getByText(/alice: online since \d/).waitFor();
    await page.getByText('bob: offline').waitFor();
    await page.getByRole('img', { name: 'alice is online' }).waitFor();
    await page.getByRole('img', { name: 'bob is offline' }).waitFor();
    assert.deepEqual(troubles, []);
    await page.close();
  });
});
