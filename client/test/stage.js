// What the tests of the demo page run on.

import { after, afterEach, before } from 'node:test';

import { startBrowser, startEdge } from './programs.js';

/**
 * An edge and a Chromium, started before the tests of the file in which this is called, and ended after them; and the
 * pages that a test has opened, which are closed at its end.
 *
 * @param {Record<string, string>} [flags] The edge's.
 */
export function startStage(flags = {}) {
  /**
   * @type {{
   *   edge: Awaited<ReturnType<typeof startEdge>>,
   *   browser: Awaited<ReturnType<typeof startBrowser>>,
   *   pages: import('playwright-core').Page[],
   * }}
   */
  const stage = Object.assign({}, /** @type {any} */ ({ pages: [] }));

  before(async () => {
    stage.edge = await startEdge(undefined, { flags });
    stage.browser = await startBrowser();
  });

  afterEach(async () => {
    await Promise.all(stage.pages.map((page) => page.close()));
    stage.pages = [];
  });

  after(async () => {
    try {
      await stage.browser?.close();
    } finally {
      await stage.edge?.stop('SIGTERM');
    }
  });
  return stage;
}
