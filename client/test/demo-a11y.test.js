// The demo page for those who use a keyboard, a screen reader, a dark theme or a narrow screen: axe-core finds nothing in
// any state, nothing scrolls sideways, and everything can be reached.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { describe, test } from 'node:test';

import { startStage } from './stage.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const WIDTHS = [320, 1280];
const SCHEMES = /** @type {const} */ (['light', 'dark']);

// A second session of a user ends the first for good.
const stage = startStage({ 'max-sessions-per-user': '1' });

/** Opens the page; with a user as theirs. */
const visit = async (query = {}, prepare = async () => {}) => {
  const page = await stage.browser.newWindow();
  stage.pages.push(page);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await prepare(page);
  await page.goto(`${stage.edge.url}?${new URLSearchParams(query)}`);
  return page;
};

/** The page of somebody who is connected. */
const connected = async (user, prepare) => {
  const page = await visit({ user, every: '1' }, prepare);
  await page.waitForSelector('[data-connection="open"]', { state: 'attached' });
  await page.waitForSelector(`[data-user="${user}"][data-state="online"]`, { state: 'attached' });
  return page;
};

/** axe-core has nothing to say, in each theme and width, and nothing scrolls sideways. */
const isFine = async (page) => {
  // By the debugger: the page's policy does not allow scripts from elsewhere.
  await page.evaluate(AXE);
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 800 });
    const [inner, outer] = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return [scrollWidth, clientWidth];
    });
    assert.ok(inner <= outer, `at ${width} px, the page is ${inner} px wide in ${outer} px`);
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
      const faults = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`);
      assert.deepEqual(faults, [], `${width} px, ${colorScheme}`);
      assert.ok(passes.length > 15, 'it has looked');
    }
  }
};

describe('axe-core finds nothing on the demo page', { timeout: 300_000 }, () => {
  test('signed out', async () => {
    const page = await visit();
    await page.waitForSelector('#names li');
    await isFine(page);
  });

  test('connected, with others online, and each tab of the code', async () => {
    const page = await connected('alice');
    await page.click('#crowd');
    await page.waitForSelector('#stack .more');
    await page.waitForSelector('#log li:nth-child(3)');
    await isFine(page);
    for (const tab of [1, 2, 3]) {
      await page.click(`#tab-${tab}`);
      await isFine(page);
    }
  });

  test('somebody leaves, and what was typed is no user', async () => {
    const page = await connected('bob');
    await page.click('#crowd');
    await page.waitForSelector('#stack .more');
    await page.click('#crowd');
    await page.waitForSelector('#leaving progress');
    await page.fill('#add-user', 'no body');
    await page.click('#add button');
    await page.waitForSelector('#add-error');
    await isFine(page);
  });

  test('waiting, with an alert, and somebody added who can be removed', async () => {
    const page = await visit({ user: 'carol', watch: 'x1' }, (page) => page.route('**/dev/token*', (route) => route.fulfill({ status: 404, json: {} })));
    await page.waitForSelector('#alert');
    await page.waitForSelector('[data-connection="waiting"]');
    await isFine(page);
  });

  test('closed by the user', async () => {
    const page = await connected('dave');
    await page.click('#toggle');
    await page.waitForSelector('[data-connection="closed"] #as-they-were');
    await isFine(page);
  });

  test('closed for good by the edge, which the page explains', async () => {
    const page = await connected('erin');
    await connected('erin');
    await page.waitForSelector('[data-connection="closed"] #alert');
    assert.match(await page.textContent('#alert'), /too many times.* does not try again by itself/);
    await isFine(page);
  });

  test('unknown, and without figures', async () => {
    const page = await visit({ user: 'frank', every: '1' }, async (page) => {
      await page.route('**/dev/figures', (route) => route.fulfill({ status: 404 }));
      await page.routeWebSocket(/\/ws$/, (socket) => {
        const server = socket.connectToServer();
        socket.onMessage((message) => {
          const { pull, users } = JSON.parse(String(message));
          if (users) socket.send(JSON.stringify({ pull, online: {}, unknown: users }));
          else server.send(message);
        });
      });
    });
    await page.waitForFunction(() => /^unknown: /.test(document.querySelector('[data-user="bob"] .state').textContent));
    await page.waitForSelector('#no-figures');
    await isFine(page);
  });
});

describe('the demo page in forced colours', { timeout: 60_000 }, () => {
  test('shows which tab is selected and who is online', async () => {
    const page = await connected('alice');
    await page.emulateMedia({ forcedColors: 'active', reducedMotion: 'reduce' });
    // Only dots on screen know.
    await page.setViewportSize({ width: 1280, height: 900 });
    const areKnown = () =>
      ['alice', 'bob'].every((user) => document.querySelector(`[data-user="${user}"] presence-dot`).state !== 'unknown');
    await page.waitForFunction(areKnown);
    const grounds = await page.evaluate(() => {
      const ground = (element) => getComputedStyle(element).backgroundColor;
      const dot = (user) => document.querySelector(`[data-user="${user}"] presence-dot`).shadowRoot.querySelector('span');
      return {
        selected: ground(document.querySelector('#tab-0')),
        other: ground(document.querySelector('#tab-1')),
        online: ground(dot('alice')),
        offline: ground(dot('bob')),
      };
    });
    assert.notEqual(grounds.selected, grounds.other);
    assert.notEqual(grounds.online, grounds.offline);
  });
});

describe('the demo page by keyboard', { timeout: 60_000 }, () => {
  test('the Tab key reaches everything, in the order of the page', async () => {
    const page = await connected('alice');
    await page.waitForSelector('#store');
    const reached = [];
    for (let n = 0; n < 250; n += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const { id, className, textContent, tagName } = document.activeElement ?? document.body;
        return tagName === 'BODY' ? '' : id || className || String(textContent);
      });
      if (at === '') break;
      // A hundred links are one entry.
      if (reached.at(-1) !== at) reached.push(at);
    }
    const above = ['skip', 'toggle', 'next', 'crowd', 'skip', 'scroller', 'open', 'add-user', 'Watch'];
    assert.deepEqual(reached, [...above, 'every', 'log-scroller', 'copy-code', 'tab-0', 'panel-0', 'copy']);
  });

  test('arrow keys, Home and End move between the tabs of the code', async () => {
    const page = await connected('bob');
    await page.focus('#tab-0');
    for (const [key, tab] of [['ArrowRight', 1], ['End', 3], ['ArrowRight', 0], ['ArrowLeft', 3], ['Home', 0]]) {
      await page.keyboard.press(key);
      const now = await page.evaluate(() => ({
        focus: document.activeElement?.id,
        selected: [...document.querySelectorAll('[role="tab"][aria-selected="true"]')].map(({ id }) => id),
        shown: [...document.querySelectorAll('[role="tabpanel"]:not([hidden])')].map(({ id }) => id),
      }));
      assert.deepEqual(now, { focus: `tab-${tab}`, selected: [`tab-${tab}`], shown: [`panel-${tab}`] }, key);
    }
  });

  test('another time between pulls loads the page anew, and the focus stays on the choice', async () => {
    const page = await connected('alice');
    await page.focus('#every');
    await Promise.all([page.waitForURL(/every=2/), page.keyboard.press('ArrowDown')]);
    await page.waitForFunction(() => document.activeElement?.id === 'every');
    assert.equal(await page.inputValue('#every'), '2');
  });

  test('the live region speaks of changes, and of nothing else', async () => {
    const page = await connected('alice');
    const pulls = async (count) => {
      const sent = Number(await page.textContent('#pulls-sent'));
      await page.waitForFunction((sent) => Number(document.querySelector('#pulls-sent').textContent) >= sent, sent + count);
    };
    // Who was there in the tests before goes offline first, and that is told half a second later.
    await page.waitForFunction(() => document.querySelector('#count').textContent === '1 online');
    await pulls(2);
    await page.evaluate(() => {
      globalThis.said = [];
      // Each region that interrupts, not only the one that is meant to.
      for (const region of document.querySelectorAll('[role="status"], [role="alert"], [aria-live="polite"], [aria-live="assertive"]')) {
        const listen = new MutationObserver(() => globalThis.said.push(region.textContent));
        listen.observe(region, { childList: true, characterData: true, subtree: true });
      }
    });
    await pulls(4);
    assert.deepEqual(await page.evaluate(() => globalThis.said), []);
    await connected('kim');
    await page.waitForFunction(() => globalThis.said.length > 0);
    assert.deepEqual(await page.evaluate(() => globalThis.said), ['kim is online']);
  });
});
