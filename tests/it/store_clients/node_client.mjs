// The store, seen by the npm libraries `memcached` and `memjs`.
//
//     node node_client.mjs HOST PORT
//
// `memjs` speaks the binary protocol only, which the store does not: it must be told so at once.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';

const require = createRequire(new URL('../../../client/package.json', import.meta.url));
const Memcached = require('memcached');
const memjs = require('memjs');
const [host, port] = process.argv.slice(2);

const client = new Memcached(`${host}:${port}`, { retries: 0, timeout: 20_000 });
const ask = (name, ...words) => promisify(client[name]).apply(client, words);

await ask('flush');
assert.equal(await ask('set', 'a', { some: 'thing' }, 100), true);
assert.deepEqual(await ask('get', 'a'), { some: 'thing' });
assert.equal(await ask('get', 'nothing'), undefined);
await assert.rejects(ask('add', 'a', 'x', 100), /not stored/i);
assert.equal(await ask('replace', 'a', 'x', 100), true);
assert.equal(await ask('append', 'a', 'y'), true);
assert.equal(await ask('prepend', 'a', 'w'), true);
const { cas, a } = await ask('gets', 'a');
assert.equal(a, 'wxy');
assert.equal(await ask('cas', 'a', 'new', cas, 100), true);
assert.equal(await ask('cas', 'a', 'newer', cas, 100), false);
assert.equal(await ask('set', 'n', 9, 100), true);
assert.equal(await ask('incr', 'n', 1), 10);
assert.equal(await ask('decr', 'n', 4), 6);
assert.equal(await ask('touch', 'n', 100), true);
const keys = Array.from({ length: 500 }, (_, number) => `k${number}`);
await Promise.all(keys.map((key) => ask('set', key, key, 100)));
const found = await ask('getMulti', [...keys, 'nothing']);
assert.equal(Object.keys(found).length, 500);
const large = 'v'.repeat(1_000_000);
assert.equal(await ask('set', 'large', large, 100), true);
assert.equal(await ask('get', 'large'), large);

// It lets control bytes through, keys that are too long in bytes, and numbers that are none. What it then
// sends as a value is a command here, and is stored or thrown away: `k1` is there still.
assert.equal(await ask('set', 'a\u0001\u007fb', 'flush_all', 100), true);
assert.equal(await ask('get', 'a\u0001\u007fb'), 'flush_all');
await assert.rejects(ask('set', 'é'.repeat(200), 'flush_all', 100), /bad command line format/);
assert.equal(await ask('get', 'k1'), 'k1');
await assert.rejects(ask('set', 'b', 'flush_all', NaN), /bad command line format/);
assert.equal(await ask('get', 'k1'), 'k1');

assert.equal(await ask('del', 'a'), true);
assert.equal(await ask('del', 'a'), false);
const [version] = await ask('version');
assert.equal(version.version, '1.6.18');
const [stats] = await ask('stats');
assert.ok(stats.curr_items > 0 && stats.limit_maxbytes > 0);
const [settings] = await ask('settings');
assert.ok(settings.maxconns > 0);
assert.ok((await ask('slabs'))[0]);
assert.ok((await ask('items'))[0]);
client.end();

const binary = memjs.Client.create(`${host}:${port}`, { retries: 1, timeout: 5, logger: { log() {} } });
await assert.rejects(binary.get('a'), (error) => /not supported/i.test(String(error)) || assert.fail(String(error)));
binary.close();
