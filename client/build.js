// Minifies what pages load straight from a CDN, each file with a source map: `npm run build`. Whoever bundles the
// modules, or serves them as they are, needs no build.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** Beside each other, they are minified as well. */
const beside = {
  name: 'beside',
  setup: (build) =>
    build.onResolve({ filter: /^\.\/.*\.js$/ }, ({ path, kind }) =>
      kind === 'entry-point' ? undefined : { path: path.replace(/js$/, 'min.js'), external: true },
    ),
};

const { metafile } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ['presence.js', 'presence-dot.js', 'shared.js'],
  bundle: true,
  plugins: [beside],
  outdir: 'dist',
  outExtension: { '.js': '.min.js' },
  format: 'esm',
  target: 'es2022',
  minify: true,
  sourcemap: true,
  metafile: true,
});

for (const [path, { bytes }] of Object.entries(metafile.outputs)) {
  if (path.endsWith('.map')) continue;
  const gzipped = gzipSync(readFileSync(join(import.meta.dirname, path)), { level: 9 }).length;
  console.log(`${path}: ${bytes} bytes, ${gzipped} gzipped`);
}
