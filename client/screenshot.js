// Takes the picture in README.md: the demo page as two users see it, side by side. `make screenshot`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { startBrowser, startEdge } from './test/programs.js';

const FILE = join(import.meta.dirname, '..', 'docs', 'images', 'demo.png');

/** Each user's half, in CSS pixels. */
const SIZE = { width: 600, height: 512 };

/** A reader of README.md loads it, so it stays small. */
const BYTES_MAX = 150_000;

const USERS = ['alice', 'bob'];

/** Opens the demo page as `user`. */
async function visit(browser, url, user) {
  const page = await browser.newWindow();
  await page.setViewportSize(SIZE);
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await page.goto(`${url}?${new URLSearchParams({ user, every: '1' })}`);
  // Not by a style sheet, which the page's security policy would refuse.
  await page.evaluate(() => {
    document.documentElement.style.scrollbarWidth = 'none';
  });
  return page;
}

/** Puts the halves beside each other, as one PNG. */
async function beside(browser, halves) {
  const page = await browser.newWindow();
  await page.setViewportSize({ width: SIZE.width * halves.length + 12, height: SIZE.height });
  const images = halves.map((png) => `<img src="data:image/png;base64,${png.toString('base64')}">`);
  await page.setContent(`<style>body{margin:0;display:flex;gap:12px;background:transparent}</style>${images.join('')}`);
  await page.waitForFunction(() => [...document.images].every((image) => image.complete && image.naturalWidth > 0));
  return page.screenshot({ omitBackground: true });
}

const edge = await startEdge();
const browser = await startBrowser();
try {
  const pages = [];
  for (const user of USERS) pages.push(await visit(browser, edge.url, user));
  for (const page of pages) {
    for (const user of USERS) await page.waitForSelector(`[data-user="${user}"][data-state="online"]`);
  }
  const halves = [];
  for (const page of pages) {
    await page.bringToFront();
    await page.waitForSelector('[data-connection="open"]');
    halves.push(await page.screenshot());
  }
  const png = await beside(browser, halves);
  if (png.length > BYTES_MAX) throw new Error(`${FILE} would have ${png.length} bytes, over ${BYTES_MAX}`);
  writeFileSync(FILE, png);
  console.log(`${FILE}: ${png.length} bytes`);
} finally {
  await browser.close();
  await edge.stop('SIGTERM');
}
