// Minifies what pages load straight from a CDN or from an edge, each file with a source map: `npm run build`. Whoever
// bundles the modules, or serves them as they are, needs no build. With `--check` it writes nothing, and fails if the
// files are not what it would write: cargo builds them into the edge, without npm.

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const folder = import.meta.dirname;
const isCheck = process.argv.includes('--check');

const { outputFiles } = await build({
  absWorkingDir: folder,
  entryPoints: ['presence.js', 'presence-dot.js', 'shared.js'],
  // As bundles, so that names at the top level are shortened, too. Other modules stay imports.
  bundle: true,
  external: ['./*.js'],
  outdir: 'dist',
  format: 'esm',
  target: 'es2022',
  minify: true,
  sourcemap: true,
  write: false,
});

const stale = [];
for (const { path, contents } of outputFiles) {
  if (!isCheck) writeFileSync(path, contents);
  else if (!isSame(path, contents)) stale.push(basename(path));
  if (isCheck || path.endsWith('.map')) continue;
  const gzipped = gzipSync(contents, { level: 9 }).length;
  console.log(`${relative(folder, path)}: ${contents.length} bytes, ${gzipped} gzipped`);
}
if (stale.length > 0) {
  console.error(`not up to date: ${stale.join(', ')}. Run \`npm run build\` in client/, and commit dist/.`);
  process.exitCode = 1;
}

/**
 * @param {string} path
 * @param {Uint8Array} contents
 */
function isSame(path, contents) {
  try {
    return readFileSync(path).equals(contents);
  } catch {
    return false;
  }
}
