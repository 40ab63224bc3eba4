// The programs that the browser tests run: presenced itself, Debian's Chromium, and what else a test names.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const target = join(import.meta.dirname, '..', '..', 'target');

/**
 * A path that exists, the newest of them, or an error that says what to do.
 *
 * @param {string} variable
 * @param {string[]} byDefault
 * @param {string} remedy
 */
export function find(variable, byDefault, remedy) {
  const given = process.env[variable];
  const candidates = given ? [given] : byDefault;
  // The newest build, so that no test runs on an old one.
  const builtAt = (/** @type {string} */ path) => statSync(path).mtimeMs;
  const [found] = candidates.filter((path) => existsSync(path)).sort((a, b) => builtAt(b) - builtAt(a));
  if (!found) throw new Error(`not found: ${candidates.join(', ')}. ${remedy}, or set ${variable}.`);
  return found;
}

/** How long a program may take to say that it is up. */
const START_MS_MAX = 60_000;

/** And to end, once it was asked to. */
const STOP_MS_MAX = 15_000;

/**
 * Starts a program and waits for what it says first.
 *
 * @param {string} path
 * @param {string[]} args
 * @param {(output: string) => any} ready Something true once the output so far tells that the program is up.
 * @param {NodeJS.ProcessEnv} [env]
 */
export async function run(path, args, ready, env = process.env) {
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let output = '';
  const up = new Promise((resolve, reject) => {
    const fail = (why) => {
      clearTimeout(timer);
      reject(new Error(`${path} ${why}; it said:\n${output}`));
    };
    const timer = setTimeout(() => fail(`was not up within ${START_MS_MAX} ms`), START_MS_MAX);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk) => {
        output = (output + chunk).slice(-100_000);
        const found = ready(output);
        if (found) {
          clearTimeout(timer);
          resolve(found);
        }
      });
    }
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => fail(`ended with ${signal ?? code}`));
  });
  const exit = once(child, 'exit');
  exit.catch(() => {});
  // Whatever becomes of the tests, the program does not outlive them.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);

  /**
   * @param {NodeJS.Signals} [signal] Without one, it is on its way out already.
   * @returns {Promise<number | null>} Its exit code; null if it had to be killed.
   */
  const stop = async (signal) => {
    if (signal) child.kill(signal);
    const timer = setTimeout(kill, STOP_MS_MAX);
    const [code] = await exit;
    clearTimeout(timer);
    process.removeListener('exit', kill);
    return code;
  };
  try {
    return { facts: await up, stop };
  } catch (error) {
    kill();
    throw error;
  }
}

/**
 * presenced with an embedded store, if it is given no other one, on free ports, and so impatient that a test can wait for it.
 *
 * @param {string} [listen] Where the edge listens; by default wherever there is room.
 * @param {{flags?: Record<string, string>, secret?: string}} [more] Flags beside the usual ones, and the tokens' secret.
 */
export async function startEdge(listen = '127.0.0.1:0', more = {}) {
  const path = find(
    'PRESENCED_BIN',
    ['release', 'debug'].map((profile) => join(target, profile, 'presenced')),
    'Build it with `cargo build`',
  );
  const flags = {
    listen,
    admin: '127.0.0.1:0',
    ...(!more.flags?.memcached && { 'store-listen': '127.0.0.1:0' }),
    ttl: '10s',
    'ping-interval': '2s',
    'ping-timeout': '1s',
    'flush-interval': '1s',
    drain: '500ms',
    'drain-delay': '0s',
    ...more.flags,
  };
  // What is set in the shell of whoever runs the tests is not for this edge.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PRESENCED_')));
  if (more.secret) env.PRESENCED_JWT_SECRET = more.secret;
  const args = Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]);
  const addresses = (output) => {
    const found = Object.fromEntries([...output.matchAll(/^\s*(edge|admin|store)\s+(\S+)\s/gm)].map((m) => m.slice(1)));
    return found.edge && found.admin && (found.store || flags.memcached) ? found : undefined;
  };
  const { facts, stop } = await run(path, args, addresses, env);
  return { url: facts.edge, admin: facts.admin, store: facts.store, stop };
}

/**
 * Chromium as a user has it: two windows, tabs that hide each other, no emulation of a focus that is not there.
 *
 * @param {string[]} [flags] More of its own.
 */
export async function startBrowser(flags = []) {
  const path = find('CHROMIUM', ['/usr/bin/chromium'], 'Install it with `apt-get install chromium`');
  const profile = mkdtempSync(join(tmpdir(), 'presenced-chromium-'));
  const args = [
    '--headless',
    // It only ever opens our own pages, and in a container there is no sandbox to be had.
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
    '--remote-debugging-port=0',
    `--user-data-dir=${profile}`,
    ...flags,
    'about:blank',
  ];
  const { facts, stop } = await run(path, args, (output) => /DevTools listening on (\S+)\s/.exec(output)?.[1]);
  // With its defaults, playwright makes every page believe that it is in front.
  const browser = await chromium.connectOverCDP(facts, { noDefaults: true });
  const [context] = browser.contexts();

  return {
    /** A tab in front of the others in the first window. */
    newTab: () => context.newPage(),
    /** A tab in a window of its own. */
    newWindow: async () => {
      const session = await browser.newBrowserCDPSession();
      const page = context.waitForEvent('page');
      await session.send('Target.createTarget', { url: 'about:blank', newWindow: true });
      await session.detach();
      return page;
    },
    close: async () => {
      const session = await browser.newBrowserCDPSession();
      // Its other processes end before it does, so that nobody writes into the profile any more.
      await session.send('Browser.close').catch(() => {});
      await stop();
      rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}
