// npm clients: node node.cjs CLIENT PORT USERS STRIDE
const [client, port] = process.argv.slice(2);
const [users, stride] = process.argv.slice(4).map(Number);
const TTL_S = 60;
// The replaced stack issues all commands of a flush at once.
const entry = (number) => [
  `user:${number}:online`,
  `{"serverId":"server-1","connectedAt":1700000000000,"socketId":"00000001-0-${number}-0"}`,
];
const entries = Array.from({ length: users }, (_, place) => entry((place * stride) % users));

function setter() {
  if (client === "npm-memcached") {
    const memcached = new (require("memcached"))(`127.0.0.1:${port}`, { maxQueueSize: -1, timeout: 60_000 });
    const set = (key, value) =>
      new Promise((done, fail) => memcached.set(key, value, TTL_S, (error) => (error ? fail(error) : done())));
    return { set, end: () => memcached.end() };
  }
  const memjs = require("memjs").Client.create(`127.0.0.1:${port}`, { timeout: 60, retries: 0 });
  return { set: (key, value) => memjs.set(key, value, { expires: TTL_S }), end: () => memjs.close() };
}

async function main() {
  const { set, end } = setter();
  await set("warm", "up");
  const before = process.cpuUsage();
  const start = process.hrtime.bigint();
  await Promise.all(entries.map(([key, value]) => set(key, value)));
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const cpu = process.cpuUsage(before);
  console.log(JSON.stringify({ seconds, cpu: (cpu.user + cpu.system) / 1e6 }));
  end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
