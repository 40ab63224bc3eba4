// Takes the pictures of the demo page in docs/images: a wide one in light and dark, and one as on a phone.
// `make screenshot`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { startBrowser, startEdge } from './test/programs.js';

const IMAGES = join(import.meta.dirname, '..', 'docs', 'images');

/** A reader of README.md loads them, so they stay small. */
const BYTES_MAX = 200_000;

const WIDE = { width: 1200, height: 900 };
const PICTURES = [
  { name: 'demo.png', colorScheme: 'light', size: WIDE },
  { name: 'demo-dark.png', colorScheme: 'dark', size: WIDE },
  { name: 'demo-phone.png', colorScheme: 'light', size: { width: 390, height: 844 } },
];

/** So many seconds of the charts. */
const CHART_POINTS = 25;

/** Opens the demo page as alice, in a window of its own. */
async function visit(browser, url, size, colorScheme) {
  const page = await browser.newWindow();
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
  await page.goto(`${url}?${new URLSearchParams({ user: 'alice', every: '1' })}`);
  await page.waitForSelector('[data-connection="open"]', { state: 'attached' });
  // Not by a style sheet, which the page's security policy would refuse.
  await page.evaluate(() => {
    document.documentElement.style.scrollbarWidth = 'none';
  });
  return page;
}

/** Somebody has come, and somebody else has just left. */
async function bringPeople(browser, url, page) {
  const bob = await browser.newWindow();
  await bob.goto(`${url}?user=bob`);
  await page.waitForSelector('[data-user="bob"][data-state="online"]', { state: 'attached' });
  await page.click('#crowd');
  const enough = (points) => Number(document.querySelector('#pulls-sent').textContent) >= points;
  await page.waitForFunction(enough, CHART_POINTS);
  await bob.close();
  await page.waitForSelector('#leaving progress', { state: 'attached' });
}

async function take({ name, colorScheme, size }) {
  // One for each: the charts begin anew.
  const edge = await startEdge();
  const browser = await startBrowser();
  try {
    const page = await visit(browser, edge.url, size, colorScheme);
    await bringPeople(browser, edge.url, page);
    await page.bringToFront();
    const png = await page.screenshot();
    const file = join(IMAGES, name);
    if (png.length > BYTES_MAX) throw new Error(`${file} would have ${png.length} bytes, over ${BYTES_MAX}`);
    writeFileSync(file, png);
    console.log(`${file}: ${png.length} bytes`);
  } finally {
    await browser.close();
    await edge.stop('SIGTERM');
  }
}

for (const picture of PICTURES) await take(picture);
