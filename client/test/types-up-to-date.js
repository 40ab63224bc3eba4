// Fails when a .d.ts file is not what the JSDoc says; with `--write`, makes it so.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const client = join(import.meta.dirname, '..');
// Not in place: TypeScript refuses to write a file that it reads, and modules read each other's types.
const fresh = mkdtempSync(join(tmpdir(), 'presence-types-'));
try {
  const tsc = join(client, 'node_modules', '.bin', 'tsc');
  const args = ['--project', 'tsconfig.types.json', '--outDir', fresh];
  const run = spawnSync(tsc, args, { cwd: client, stdio: 'inherit' });
  if (run.error) throw run.error;
  if (run.status !== 0) process.exit(1);

  for (const name of readdirSync(fresh)) {
    const [made, committed] = [fresh, client].map((folder) => join(folder, name));
    if (process.argv.includes('--write')) {
      copyFileSync(made, committed);
    } else if (!existsSync(committed) || readFileSync(made, 'utf8') !== readFileSync(committed, 'utf8')) {
      console.error(`client/${name} is out of date: run \`npm run types\` in client/ and commit the result`);
      process.exitCode = 1;
    }
  }
} finally {
  rmSync(fresh, { recursive: true });
}
