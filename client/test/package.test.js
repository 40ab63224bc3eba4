// The package as npm would publish it: packed, installed elsewhere, imported, type-checked and bundled.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** The most that a page has to load, in bytes, minified and gzipped. */
const CORE_BYTES_MAX = 4 * 1024;
const ELEMENT_BYTES_MAX = 2 * 1024;
/** Beside the core, which it needs. */
const SHARED_BYTES_MAX = 2 * 1024;

/** What pages may load straight from a CDN. */
const MINIFIED = ['presence', 'presence-dot', 'shared'];

const client = join(import.meta.dirname, '..');
const bin = (name) => join(client, 'node_modules', '.bin', name);

/** Runs a program to its end; what it said is in the error if it fails. */
const run = async (program, args, cwd) => {
  try {
    return await promisify(execFile)(program, args, { cwd });
  } catch (error) {
    throw new Error(`${program} ${args.join(' ')}\n${error.stdout}${error.stderr}`);
  }
};

/** @type {string} Where it is installed: an application's folder. */
let app;
/** @type {string} What npm would publish. */
let tarball;
/** @type {string} It, as it is installed. */
let installed;

before(async () => {
  app = mkdtempSync(join(tmpdir(), 'presenced-client-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', app], client);
  // Before the JSON is what the build says.
  const [packed] = Object.values(JSON.parse(stdout.slice(stdout.search(/^[[{]/m))));
  tarball = join(app, packed.filename);

  writeFileSync(join(app, 'package.json'), '{"name":"app","private":true,"type":"module"}');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], app);
  installed = join(app, 'node_modules', 'presenced-client');
  // The application's own, not fetched again.
  mkdirSync(join(app, 'node_modules', '@types'));
  for (const name of ['react', 'react-dom', 'scheduler', '@types/react', 'csstype']) {
    symlinkSync(join(client, 'node_modules', name), join(app, 'node_modules', name));
  }
});

after(() => {
  if (app) rmSync(app, { recursive: true, force: true });
});

const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;

describe('the package', { timeout: 120_000 }, () => {
  test('has these files, and no others', () => {
    const names = readdirSync(installed, { recursive: true }).map(String);
    const entries = ['presence', 'presence-dot', 'react', 'shared', 'testing'].flatMap((name) => [
      `${name}.d.ts`,
      `${name}.js`,
    ]);
    const minified = MINIFIED.flatMap((name) => [`dist/${name}.js`, `dist/${name}.js.map`]);
    const rest = ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json'];
    assert.deepEqual(names.sort(), [...entries, ...minified, ...rest].sort());
    for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
      assert.equal(readFileSync(join(client, name), 'utf8'), readFileSync(join(client, '..', name), 'utf8'), name);
    }
  });

  test('needs no other package', () => {
    const { dependencies = {} } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    assert.deepEqual(dependencies, {});
  });

  test('has a React entry that says that it is for the browser', () => {
    assert.match(readFileSync(join(installed, 'react.js'), 'utf8'), /^'use client';\n/);
  });

  test('is what publint expects', async () => {
    await run(bin('publint'), ['run', '--strict', tarball], client);
  });

  test('has types that are found wherever modules are', async () => {
    await run(bin('attw'), [tarball, '--profile', 'esm-only', '--format', 'ascii'], client);
  });

  test('can be imported in Node, each entry alone', async () => {
    const names = async (entry) => {
      const script = `console.log(Object.keys(await import('${entry}')).sort().join())`;
      const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], app);
      return stdout.trim().split(',');
    };
    assert.ok((await names('presenced-client')).includes('PresenceClient'));
    assert.deepEqual(await names('presenced-client/element'), ['PresenceDot', 'definePresenceDot']);
    assert.deepEqual(await names('presenced-client/react'), ['PresenceProvider', 'usePresence']);
    assert.deepEqual(await names('presenced-client/shared'), ['SharedPresenceClient']);
    assert.deepEqual(await names('presenced-client/testing'), ['FakePresenceClient']);
  });

  test('has types that fit each other: an application is checked', async () => {
    const source = `
      import { createElement } from 'react';
      import { PresenceClient, type Presence } from 'presenced-client';
      import { definePresenceDot, PresenceDot } from 'presenced-client/element';
      import { PresenceProvider, usePresence } from 'presenced-client/react';
      import { SharedPresenceClient } from 'presenced-client/shared';
      import { FakePresenceClient } from 'presenced-client/testing';

      const real = new PresenceClient({ url: 'ws://127.0.0.1/', token: 'a.b.c' });
      const fake = new FakePresenceClient({ alice: 'online' });
      const shared = new SharedPresenceClient({ url: 'ws://127.0.0.1/', token: 'a.b.c', shared: 'alice' });
      const either: PresenceClient[] = [real, shared];
      for (const client of [...either, shared, fake]) {
        definePresenceDot(client, { label: (state, dot) => dot.user + (state === 'online' ? ' is here' : '') });
        createElement(PresenceProvider, { client }, 'text');
        const dot = new PresenceDot();
        dot.client = client;
        dot.hidden = dot.state !== 'online';
      }
      createElement(PresenceProvider, { client: null });
      export const use = (): Presence => usePresence('alice');
      // @ts-expect-error no such state
      fake.set('alice', 'away');
      // @ts-expect-error a user is a string
      usePresence(7);
      // @ts-expect-error an account is a string
      new SharedPresenceClient({ url: 'ws://127.0.0.1/', token: 'a.b.c', shared: 7 });
      // @ts-expect-error not a client
      definePresenceDot({});
    `;
    writeFileSync(join(app, 'types.ts'), source);
    // What the README says of JSX, and what it is for.
    const [, declaration] = /```ts\n(.*?)```/s.exec(readFileSync(join(installed, 'README.md'), 'utf8')) ?? [];
    const element = 'export const dot = <presence-dot user="123" hidden />;';
    writeFileSync(join(app, 'element.tsx'), `${declaration}\n${element}`);
    const strict = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--types', '', '--jsx', 'react-jsx'];
    for (const module of [['nodenext', 'nodenext'], ['esnext', 'bundler']]) {
      const how = ['--target', 'es2022', '--lib', 'es2022,dom', '--module', module[0], '--moduleResolution', module[1]];
      await run(bin('tsc'), [...strict, ...how, 'types.ts', 'element.tsx'], app);
    }
  });

  test('is small: the core, the element and the shared connection, minified and gzipped', (context) => {
    const size = (name) => gzipped(readFileSync(join(installed, 'dist', name)));
    const [core, element, shared] = MINIFIED.map((name) => size(`${name}.js`));
    context.diagnostic(`core: ${core} bytes, element: ${element} bytes, shared: ${shared} bytes`);
    assert.ok(core <= CORE_BYTES_MAX, `the core has ${core} bytes`);
    assert.ok(element <= ELEMENT_BYTES_MAX, `the element has ${element} bytes`);
    assert.ok(shared <= SHARED_BYTES_MAX, `the shared connection has ${shared} bytes`);
  });

  test('has source maps that lead back to the source', () => {
    for (const name of MINIFIED) {
      const minified = readFileSync(join(installed, 'dist', `${name}.js`), 'utf8');
      assert.ok(minified.trimEnd().endsWith(`//# sourceMappingURL=${name}.js.map`));
      const map = JSON.parse(readFileSync(join(installed, 'dist', `${name}.js.map`), 'utf8'));
      assert.deepEqual(map.sources, [`../${name}.js`]);
      assert.deepEqual(map.sourcesContent, [readFileSync(join(installed, `${name}.js`), 'utf8')]);
    }
  });

  test('the minified files can be imported, and export what the modules do', async () => {
    for (const name of MINIFIED) {
      const names = async (path) => Object.keys(await import(join(installed, path))).sort();
      assert.deepEqual(await names(`dist/${name}.js`), await names(`${name}.js`));
    }
  });

  test('the example of a React application is bundled, and of this package has only what it uses', async (context) => {
    cpSync(join(client, 'examples', 'react', 'app.jsx'), join(app, 'app.jsx'));
    const { metafile, outputFiles, warnings } = await build({
      absWorkingDir: app,
      entryPoints: ['app.jsx'],
      bundle: true,
      minify: true,
      write: false,
      metafile: true,
      format: 'esm',
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"production"' },
      logLevel: 'silent',
    });
    assert.deepEqual(warnings, []);
    const [{ inputs }] = Object.values(metafile.outputs);
    const ours = Object.entries(inputs).filter(([path]) => path.includes('presenced-client/'));
    assert.deepEqual(ours.map(([path]) => path.split('presenced-client/')[1]).sort(), [
      'presence-dot.js',
      'presence.js',
      'react.js',
    ]);
    const bytes = ours.reduce((sum, [, { bytesInOutput }]) => sum + bytesInOutput, 0);
    const whole = outputFiles[0].contents;
    context.diagnostic(`bundle: ${whole.length} bytes, ${gzipped(whole)} gzipped; of that ours: ${bytes} bytes`);
  });

  test('what an application does not use is not in its bundle', async () => {
    const { outputFiles } = await build({
      stdin: { contents: "import 'presenced-client'; import 'presenced-client/element'; import 'presenced-client/shared';", resolveDir: app },
      bundle: true,
      write: false,
      format: 'esm',
      logLevel: 'silent',
    });
    assert.doesNotMatch(outputFiles[0].text, /class /);
  });
});
