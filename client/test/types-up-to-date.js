// Fails when presence.d.ts is not what `npm run types` would write.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const client = join(import.meta.dirname, '..');
const fresh = mkdtempSync(join(tmpdir(), 'presence-types-'));
try {
  const tsc = join(client, 'node_modules', '.bin', 'tsc');
  const args = ['--project', 'tsconfig.types.json', '--outDir', fresh];
  const run = spawnSync(tsc, args, { cwd: client, stdio: 'inherit' });
  if (run.error) throw run.error;
  if (run.status !== 0) process.exit(1);
  const read = (folder) => readFileSync(join(folder, 'presence.d.ts'), 'utf8');
  if (read(fresh) !== read(client)) {
    console.error('client/presence.d.ts is out of date: run `npm run types` in client/ and commit the result');
    process.exitCode = 1;
  }
} finally {
  rmSync(fresh, { recursive: true });
}
