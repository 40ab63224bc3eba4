// <presence-dot> in a real Chromium, beside what `dots.test.js` sees in each browser: what it asks a real presenced, and
// how it looks and is read out.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';

import { startBrowser, startEdge } from './programs.js';
import { startSite } from './site.js';

/** @type {Awaited<ReturnType<typeof startSite>>} */
let site;
/** @type {Awaited<ReturnType<typeof startEdge>>} */
let edge;
/** @type {Awaited<ReturnType<typeof startBrowser>>} */
let browser;
/** @type {import('playwright-core').Page[]} */
let pages = [];

before(async () => {
  site = await startSite();
  edge = await startEdge(undefined, { flags: { 'allow-origin': site.origin } });
  browser = await startBrowser();
});

afterEach(async () => {
  const troubles = pages.flatMap((page) => page.troubles);
  await Promise.all(pages.map((page) => page.close()));
  pages = [];
  assert.deepEqual(troubles, [], 'nothing that a page or its security policy minds');
});

after(async () => {
  try {
    await browser?.close();
  } finally {
    site?.stop();
    await edge?.stop('SIGTERM');
  }
});

/** A page without dots. What it minds is in `troubles`. */
const open = async () => {
  const page = Object.assign(await browser.newWindow(), { troubles: [] });
  pages.push(page);
  page.on('console', (message) => message.type() === 'error' && page.troubles.push(message.text()));
  page.on('pageerror', (error) => page.troubles.push(error.message));
  // No colour on its way to another, unless a test wants it.
  await page.emulateMedia({ reducedMotion: 'reduce', colorScheme: 'light' });
  await page.goto(site.origin);
  return page;
};

/** A page with `globalThis.presence`, a fake client which knows this; and dots for these users. */
const openFake = async (known, users = Object.keys(known)) => {
  const page = await open();
  await page.evaluate(
    async ([known, users]) => {
      const { definePresenceDot } = await import('/presence-dot.js');
      const { FakePresenceClient } = await import('/testing.js');
      globalThis.presence = new FakePresenceClient(known);
      definePresenceDot(globalThis.presence);
      for (const user of users) {
        const dot = document.createElement('presence-dot');
        dot.setAttribute('user', user);
        document.body.append(dot, ' ');
      }
    },
    [known, users],
  );
  return page;
};

/** A page with `globalThis.presence`, a client of the real edge that pulls every second; and what it sends. */
const openReal = async (user) => {
  const page = await open();
  const frames = [];
  const waiting = new Set();
  page.on('websocket', (socket) =>
    socket.on('framesent', ({ payload }) => {
      frames.push(JSON.parse(String(payload)));
      for (const look of waiting) look();
    }),
  );
  /** The first pull after the last `from` of which this is true. */
  const pull = (isIt, from = 0) =>
    new Promise((resolve) => {
      const look = () => {
        const found = frames.slice(from).find(isIt);
        if (!found) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
    });

  const { token } = await (await fetch(new URL(`/dev/token?user=${user}`, edge.url))).json();
  await page.evaluate(
    async ([url, token]) => {
      const { PresenceClient } = await import('/presence.js');
      const { definePresenceDot } = await import('/presence-dot.js');
      globalThis.presence = new PresenceClient({ url, token, pullInterval: 1_000 });
      definePresenceDot(globalThis.presence);
    },
    [new URL('/ws', edge.url).href, token],
  );
  await page.waitForFunction(() => globalThis.presence.state === 'open');
  return { page, frames, pull };
};

/** Waits until the dot of a user shows this. */
const shows = async (page, user, state) => {
  const selector = `presence-dot[user="${user}"] [part~="${state}"]`;
  const found = await page.waitForSelector(selector, { state: 'attached' });
  // What the test has a handle of stays in the page's memory.
  await found.dispose();
};

/** How the dot of a user looks, by its computed style. */
const look = (page, user) =>
  page.evaluate((user) => {
    const dot = document.querySelector(`presence-dot[user="${user}"]`).shadowRoot.querySelector('[part~=dot]');
    const style = getComputedStyle(dot);
    const { width, height } = dot.getBoundingClientRect();
    return {
      fill: style.backgroundColor,
      line: `${style.borderTopStyle} ${style.borderTopColor}`,
      transition: style.transitionDuration,
      width,
      height,
    };
  }, user);

/** Waits until the fake client watches exactly these. */
const watches = (page, users) =>
  page.waitForFunction((users) => globalThis.presence.watched.sort().join() === users, [...users].sort().join());

const NO_FILL = 'rgba(0, 0, 0, 0)';

describe('dots on a real edge', { timeout: 60_000 }, () => {
  test('scrolling changes the question: only those on screen are in it', async () => {
    const { page, frames, pull } = await openReal('u0');
    await page.evaluate(() => {
      const rows = Array.from({ length: 300 }, (_, n) => `<p><presence-dot user="u${n}"></presence-dot> ${n}</p>`);
      document.body.innerHTML = rows.join('');
    });
    const onScreen = () =>
      page.evaluate(() => {
        const dots = [...document.querySelectorAll('presence-dot')];
        const seen = dots.filter((dot) => {
          const { top, bottom } = dot.getBoundingClientRect();
          return bottom >= 0 && top <= innerHeight;
        });
        return seen.map(({ user }) => user);
      });
    const first = await pull(() => true);
    assert.deepEqual(first.users, await onScreen());
    assert.ok(first.users.length < 100, `a window has no place for all: ${first.users.length}`);

    await page.evaluate(() => document.querySelector('[user=u299]').scrollIntoView({ behavior: 'instant' }));
    await shows(page, 'u299', 'offline');
    const last = await onScreen();
    assert.ok(!last.includes('u0') && last.includes('u299'));
    const next = await pull(({ users }) => !users.includes('u0'), frames.length);
    assert.deepEqual(next.users.toSorted(), last.toSorted());
    assert.equal(await page.evaluate(() => document.querySelector('[user=u0]').state), 'online', 'as it was');
  });
});

describe('how a dot is told', { timeout: 60_000 }, () => {
  test('colour, shape and label change with the state', async () => {
    const page = await openFake({ alice: 'online' }, ['alice', 'bob']);
    await shows(page, 'alice', 'online');
    assert.deepEqual(await page.getByRole('img').evaluateAll((dots) => dots.map((dot) => dot.ariaLabel)), [
      'online',
      'unknown',
    ]);
    const online = await look(page, 'alice');
    assert.deepEqual([online.fill, online.line], ['rgb(26, 127, 55)', 'solid rgb(26, 127, 55)']);
    const unknown = await look(page, 'bob');
    assert.deepEqual([unknown.fill, unknown.line], [NO_FILL, 'dotted rgb(110, 119, 129)']);

    await watches(page, ['alice', 'bob']);
    await page.evaluate(() => globalThis.presence.set('alice', 'offline'));
    assert.equal(await page.getByRole('img', { name: 'offline' }).count(), 1);
    const offline = await look(page, 'alice');
    assert.deepEqual([offline.fill, offline.line], [NO_FILL, 'solid rgb(110, 119, 129)']);
    assert.equal(await page.evaluate(() => document.querySelector('[user=alice]').state), 'offline');
    assert.equal(await page.evaluate(() => document.querySelector('[user=alice]').attributes.length), 1, 'user');
  });

  test('in another language, with a name', async () => {
    const page = await openFake({ alice: 'online' });
    await page.evaluate(async () => {
      const { definePresenceDot } = await import('/presence-dot.js');
      const words = { online: 'ist da', offline: 'ist nicht da', unknown: 'ist vielleicht da' };
      document.querySelector('presence-dot').dataset.name = 'Alice';
      definePresenceDot(globalThis.presence, { label: (state, dot) => `${dot.dataset.name} ${words[state]}` });
    });
    await page.getByRole('img', { name: 'Alice ist da', exact: true }).waitFor();
    await page.evaluate(() => globalThis.presence.set('alice', 'offline'));
    await page.getByRole('img', { name: 'Alice ist nicht da', exact: true }).waitFor();
  });

  test("under style-src 'self' it has its style, and inline styles have none", async () => {
    const page = await openFake({ alice: 'online' });
    await page.evaluate(() => document.body.insertAdjacentHTML('beforeend', '<b style="width: 5px"></b>'));
    assert.match(page.troubles.splice(0).join(), /style-src 'self'/, 'the policy is in force');
    const { width, height } = await look(page, 'alice');
    assert.ok(Math.abs(width - 16 * 0.65) < 0.1 && width === height, `${width} × ${height}`);
  });

  test('the page sets size and colours by custom properties, and all else by parts', async () => {
    const page = await openFake({ alice: 'online', bob: 'offline' });
    await page.evaluate(() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`
        body { --presence-dot-size: 20px; --presence-dot-online: rgb(1, 2, 3); --presence-dot-offline: rgb(4, 5, 6) }
        presence-dot::part(offline) { border-style: double }
      `);
      document.adoptedStyleSheets.push(sheet);
    });
    await shows(page, 'alice', 'online');
    await shows(page, 'bob', 'offline');
    const [alice, bob] = [await look(page, 'alice'), await look(page, 'bob')];
    assert.deepEqual([alice.fill, alice.width, alice.height], ['rgb(1, 2, 3)', 20, 20]);
    assert.deepEqual([bob.fill, bob.line], [NO_FILL, 'double rgb(4, 5, 6)']);
  });

  test('dark pages have lighter colours, and nothing moves for those who want it so', async () => {
    const page = await openFake({ alice: 'online' });
    await shows(page, 'alice', 'online');
    assert.equal((await look(page, 'alice')).transition, '0s');
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal((await look(page, 'alice')).fill, 'rgb(63, 185, 80)');
    await page.emulateMedia({ reducedMotion: 'no-preference' });
    assert.equal((await look(page, 'alice')).transition, '0.2s, 0.2s');
  });

  test('in forced colours the shape is left, in the colour of text', async () => {
    const page = await openFake({ alice: 'online', bob: 'offline' }, ['alice', 'bob', 'carol']);
    await shows(page, 'alice', 'online');
    await shows(page, 'bob', 'offline');
    await page.emulateMedia({ forcedColors: 'active' });
    const text = await page.evaluate(() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync('title { color: CanvasText }');
      document.adoptedStyleSheets.push(sheet);
      return getComputedStyle(document.querySelector('title')).color;
    });
    const [alice, bob, carol] = [await look(page, 'alice'), await look(page, 'bob'), await look(page, 'carol')];
    assert.deepEqual([alice.fill, alice.line], [text, `solid ${text}`]);
    assert.notEqual(bob.fill, text);
    assert.deepEqual([bob.line, carol.line], [`solid ${text}`, `dotted ${text}`]);
  });
});

describe('whom a dot watches', { timeout: 60_000 }, () => {
  test('a dot that is removed, hidden or out of view watches nobody, and on return it does', async () => {
    const page = await openFake({}, ['alice', 'bob']);
    await watches(page, ['alice', 'bob']);
    await page.evaluate(() => {
      globalThis.dot = document.querySelector('[user=alice]');
      globalThis.dot.remove();
    });
    assert.deepEqual(await page.evaluate(() => globalThis.presence.watched), ['bob']);
    await page.evaluate(() => document.body.append(globalThis.dot));
    await watches(page, ['alice', 'bob']);
    await page.evaluate(() => (globalThis.dot.hidden = true));
    await watches(page, ['bob']);
    await page.evaluate(() => (globalThis.dot.hidden = false));
    await watches(page, ['alice', 'bob']);
    await page.evaluate(() => document.body.prepend(Object.assign(document.createElement('hr'), { id: 'tall' })));
    await page.evaluate(() => (document.querySelector('#tall').style.height = '9000px'));
    await watches(page, []);
  });

  test('a dot that is moved stays watched throughout', async () => {
    const page = await openFake({ alice: 'online' }, ['alice', 'bob']);
    await watches(page, ['alice', 'bob']);
    const calls = await page.evaluate(async () => {
      let calls = 0;
      const watch = globalThis.presence.watch.bind(globalThis.presence);
      globalThis.presence.watch = (...args) => {
        calls += 1;
        return watch(...args);
      };
      document.body.append(document.querySelector('[user=alice]'));
      // Two frames: in the first the observer looks, before the second it has told.
      for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
      return calls;
    });
    assert.equal(calls, 0);
    await page.evaluate(() => globalThis.presence.set('alice', 'offline'));
    await shows(page, 'alice', 'offline');
  });

  test('a dot that is seen, and removed before that is told, watches nobody', async () => {
    const page = await open();
    const watched = await page.evaluate(async () => {
      // Observers are told in the order in which they were made, and this one is older than that of the dots.
      const seen = Promise.withResolvers();
      const older = new IntersectionObserver(([entry]) => {
        entry.target.remove();
        seen.resolve(undefined);
      });
      const { definePresenceDot } = await import('/presence-dot.js');
      const { FakePresenceClient } = await import('/testing.js');
      const presence = new FakePresenceClient();
      definePresenceDot(presence);
      const dot = document.createElement('presence-dot');
      dot.user = 'alice';
      document.body.append(dot);
      older.observe(dot);
      await seen.promise;
      for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
      return presence.watched;
    });
    assert.deepEqual(watched, []);
  });

  test('a user who changes a thousand times is one user', async () => {
    const page = await openFake({ alice: 'online' });
    await shows(page, 'alice', 'online');
    const state = await page.evaluate(() => {
      const dot = document.querySelector('presence-dot');
      for (let n = 1; n <= 1_000; n += 1) dot.user = `u${n}`;
      return dot.state;
    });
    assert.equal(state, 'unknown', "not the last one's state");
    assert.deepEqual(await page.evaluate(() => globalThis.presence.watched), ['u1000']);
    await page.evaluate(() => (document.querySelector('presence-dot').user = undefined));
    assert.deepEqual(await page.evaluate(() => globalThis.presence.watched), []);
    assert.equal(await page.evaluate(() => document.querySelector('presence-dot').hasAttribute('user')), false);
  });
});

describe('whom a dot asks', { timeout: 60_000 }, () => {
  test('its own client, or that of the page, and either may change', async () => {
    const page = await openFake({ alice: 'online' });
    await shows(page, 'alice', 'online');
    const watched = await page.evaluate(async () => {
      const { definePresenceDot } = await import('/presence-dot.js');
      const { FakePresenceClient } = await import('/testing.js');
      const [first, second, own] = [globalThis.presence, new FakePresenceClient(), new FakePresenceClient()];
      const watched = () => [first, second, own].map((client) => client.watched.length);
      const dot = document.querySelector('presence-dot');
      const seen = [watched()];
      definePresenceDot(second);
      seen.push(watched());
      dot.client = own;
      seen.push(watched());
      definePresenceDot(first);
      seen.push(watched());
      dot.client = undefined;
      seen.push(watched());
      definePresenceDot();
      seen.push(watched(), dot.state);
      return seen;
    });
    assert.deepEqual(watched, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0], 'unknown']);
  });

  test('the client that was set before the element was defined', async () => {
    const page = await open();
    await page.evaluate(async () => {
      const dot = document.createElement('presence-dot');
      document.body.append(dot);
      const { FakePresenceClient } = await import('/testing.js');
      dot.client = new FakePresenceClient({ alice: 'online' });
      dot.user = 'alice';
      const { definePresenceDot } = await import('/presence-dot.js');
      definePresenceDot();
    });
    await shows(page, 'alice', 'online');
  });
});
