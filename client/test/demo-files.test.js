// What the demo page brings along: files of others are as their authors published them.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

const client = join(import.meta.dirname, '..');
const vendored = join(client, 'demo', 'vendor', 'uplot');
const published = join(client, 'node_modules', 'uplot');

describe("the demo page's uPlot", () => {
  const files = { 'uPlot.iife.min.js': 'dist', 'uPlot.min.css': 'dist', LICENSE: '.' };

  for (const [name, folder] of Object.entries(files)) {
    test(`${name} is that of the npm package`, () => {
      const own = readFileSync(join(vendored, name));
      assert.ok(own.length > 500);
      assert.ok(own.equals(readFileSync(join(published, folder, name))), `${name} differs from ${published}`);
    });
  }

  test('is of the version that the README beside it names, and nothing else is there', () => {
    const { version, license } = JSON.parse(readFileSync(join(published, 'package.json'), 'utf8'));
    assert.match(readFileSync(join(vendored, 'README.md'), 'utf8'), new RegExp(`^# uPlot ${version.replaceAll('.', '\\.')}\n`));
    assert.equal(license, 'MIT');
    assert.deepEqual(readdirSync(vendored).sort(), ['LICENSE', 'README.md', 'uPlot.iife.min.js', 'uPlot.min.css']);
  });
});

test('the page has no inline script, no inline style, and nothing from elsewhere', () => {
  const html = readFileSync(join(client, 'demo', 'demo.html'), 'utf8');
  assert.doesNotMatch(html, /\sstyle=|<style|\son\w+=/);
  for (const [script] of html.matchAll(/<script[^>]*>/g)) assert.match(script, /src="\/demo\//);
  for (const [, address] of html.matchAll(/(?:href|src)="([^"]*)"/g)) {
    assert.match(address, /^(\/|#|data:)/, address);
    assert.doesNotMatch(address, /^\/\//);
  }
});
