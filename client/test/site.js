// A web site for the browser tests: the modules of this folder's parent, and pages under a strict policy.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

/** No inline script and no inline style: what the strictest pages allow, an icon, and connections to the edge. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src ws: http:";

const MODULES = ['presence.js', 'presence-dot.js', 'shared.js', 'testing.js'];

/**
 * On a free port of this machine.
 *
 * @param {Record<string, string>} [scripts] More of them, by path.
 */
export async function startSite(scripts = {}) {
  const read = (name) => readFileSync(join(import.meta.dirname, '..', name));
  const files = new Map(MODULES.map((name) => [`/${name}`, read(name)]));
  for (const [path, text] of Object.entries(scripts)) files.set(path, Buffer.from(text));

  const server = createServer(({ url }, answer) => {
    const script = files.get(url ?? '');
    answer.setHeader('Content-Security-Policy', POLICY);
    answer.setHeader('Content-Type', `text/${script ? 'javascript' : 'html'}; charset=utf-8`);
    answer.end(script ?? '<!doctype html><html lang="en"><title>a page</title><link rel="icon" href="data:,"><body>');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());

  return {
    origin: `http://127.0.0.1:${address.port}`,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** For a page: counts in `globalThis.watching` what `globalThis.presence` watches. */
export const countWatching = () => {
  globalThis.watching = 0;
  const watch = globalThis.presence.watch.bind(globalThis.presence);
  globalThis.presence.watch = (...args) => {
    globalThis.watching += 1;
    const unwatch = watch(...args);
    return () => {
      globalThis.watching -= 1;
      unwatch();
    };
  };
};
