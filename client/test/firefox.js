// Debian's Firefox for the browser tests. Playwright drives only a Firefox that it has built itself, so this speaks
// WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which every Firefox understands, over the package `ws`. A
// driver from npm would bring dozens of packages for the ten commands that are used here.
//
// A tab has the few methods of Playwright's `Page` that the tests of the client use, so that a test does not see which
// browser it has.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';

import { find, run } from './programs.js';

/** How long a tab may take until what a test waits for is true, as in Playwright. */
const WAIT_MS = 30_000;

/** No first page, nothing fetched from outside, no question at the end; light colours, and nothing that moves. */
const PREFERENCES = {
  'app.normandy.enabled': false,
  'app.update.auto': false,
  'browser.safebrowsing.downloads.remote.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.page': 0,
  'browser.tabs.warnOnClose': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'extensions.systemAddon.update.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'services.settings.server': 'data:,#remote-settings-dummy/v1',
  'toolkit.telemetry.reportingpolicy.firstRun': false,
  'ui.prefersReducedMotion': 1,
  'ui.systemUsesDarkTheme': 0,
};

/**
 * A BiDi connection: commands are answered by number, and events go to those who listen.
 *
 * @param {string} url
 */
const connect = async (url) => {
  const socket = new WebSocket(url);
  const underWay = new Map();
  const listeners = new Set();
  let last = 0;
  socket.on('message', (data) => {
    const message = JSON.parse(String(data));
    if (message.type === 'event') {
      for (const listener of listeners) listener(message.method, message.params);
      return;
    }
    const { method, resolve, reject } = underWay.get(message.id) ?? assert.fail(`an answer to nothing: ${data}`);
    underWay.delete(message.id);
    if (message.type === 'success') resolve(message.result);
    else reject(new Error(`${method}: ${message.error}: ${message.message}`));
  });
  socket.on('close', () => {
    for (const { method, reject } of underWay.values()) reject(new Error(`${method}: Firefox has gone`));
  });
  await once(socket, 'open');
  return {
    /** @type {(method: string, params?: object) => Promise<any>} */
    send: (method, params = {}) =>
      new Promise((resolve, reject) => {
        last += 1;
        underWay.set(last, { method, resolve, reject });
        socket.send(JSON.stringify({ id: last, method, params }));
      }),
    listen: (listener) => listeners.add(listener),
    close: () => socket.close(),
  };
};

/** @typedef {Awaited<ReturnType<typeof connect>>} Connection */

/** A tab, with the methods of Playwright's `Page` that are used. What goes in and out of it is JSON. */
class FirefoxPage {
  /** @type {Connection} */
  #bidi;
  /** @type {string} */
  #context;
  /** @type {Map<string, Set<(what: any) => void>>} */
  #listeners = new Map();

  /**
   * @param {Connection} bidi
   * @param {string} context Its name.
   */
  constructor(bidi, context) {
    this.#bidi = bidi;
    this.#context = context;
    bidi.listen((method, { source, type, level, text }) => {
      if (method !== 'log.entryAdded' || source.context !== context) return;
      const isError = type === 'javascript' && level === 'error';
      const what = isError ? new Error(text) : { type: () => level, text: () => text };
      for (const listener of this.#listeners.get(isError ? 'pageerror' : 'console') ?? []) listener(what);
    });
  }

  #send(method, params = {}) {
    return this.#bidi.send(method, { context: this.#context, ...params });
  }

  /** @param {'console' | 'pageerror'} name */
  on(name, listener) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? new Set()).add(listener));
  }

  async goto(url) {
    await this.#send('browsingContext.navigate', { url, wait: 'complete' });
  }

  /** The network of this tab alone. */
  context() {
    return {
      setOffline: (isOffline) =>
        this.#bidi.send('emulation.setNetworkConditions', {
          networkConditions: isOffline ? { type: 'offline' } : null,
          contexts: [this.#context],
        }),
    };
  }

  async bringToFront() {
    await this.#send('browsingContext.activate');
  }

  async close() {
    await this.#send('browsingContext.close');
  }

  /**
   * @param {Function} call Runs in the page: nothing outside of it is known there.
   * @param {unknown} [argument]
   */
  async evaluate(call, argument) {
    const answer = await this.#bidi.send('script.callFunction', {
      target: { context: this.#context },
      functionDeclaration: `async (json) => JSON.stringify(await (${call})(json && JSON.parse(json)))`,
      arguments: argument === undefined ? [] : [{ type: 'string', value: JSON.stringify(argument) }],
      awaitPromise: true,
    });
    if (answer.type === 'exception') throw new Error(`in the page: ${answer.exceptionDetails.text}`);
    return answer.result.type === 'string' ? JSON.parse(answer.result.value) : undefined;
  }

  /**
   * Waits until this is true in the page. A hidden page's own timers would be late, so it is asked from outside.
   *
   * @param {Function} isTrue
   * @param {unknown} [argument]
   * @param {{timeout?: number, polling?: number}} [options]
   */
  async waitForFunction(isTrue, argument, { timeout = WAIT_MS, polling = 50 } = {}) {
    const deadline = performance.now() + timeout;
    while (!(await this.evaluate(isTrue, argument))) {
      if (performance.now() > deadline) throw new Error(`not within ${timeout} ms: ${isTrue} of ${argument}`);
      await new Promise((resolve) => setTimeout(resolve, polling));
    }
  }
}

/** Firefox as a user has it, with the methods of `startBrowser` in `programs.js`. */
export async function startFirefox() {
  const path = find('FIREFOX', ['/usr/bin/firefox-esr'], 'Install it with `apt-get install firefox-esr`');
  const profile = mkdtempSync(join(tmpdir(), 'presenced-firefox-'));
  const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref("${name}", ${JSON.stringify(value)});\n`);
  writeFileSync(join(profile, 'user.js'), lines.join(''));
  const args = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank'];
  const { facts, stop } = await run(path, args, (output) => /WebDriver BiDi listening on (\S+)\s/.exec(output)?.[1]);
  const bidi = await connect(`${facts}/session`);
  await bidi.send('session.new', { capabilities: {} });
  await bidi.send('session.subscribe', { events: ['log.entryAdded'] });

  const open = async (type) => new FirefoxPage(bidi, (await bidi.send('browsingContext.create', { type })).context);
  return {
    newTab: () => open('tab'),
    newWindow: () => open('window'),
    close: async () => {
      await bidi.send('browser.close');
      await stop();
      rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}
