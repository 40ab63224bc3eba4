// Where the npm client `memcached` looks: reads lines of servers, prints a line for each.
const Memcached = require("memcached");

const KEYS = 10_000;

for (const line of require("node:fs").readFileSync(0, "utf8").trim().split("\n")) {
  const servers = line.split(" ");
  const bare = servers.map((server) => server.split("*")[0]);
  // As an object where there are weights: that is how this client is given them.
  const given = line.includes("*")
    ? Object.fromEntries(servers.map((server) => [server.split("*")[0], Number(server.split("*")[1])]))
    : bare;
  const ring = new Memcached(given).HashRing;
  const places = new Map(bare.map((server, place) => [server, place.toString(36)]));
  let digits = "";
  for (let number = 0; number < KEYS; number++) digits += places.get(ring.get(`user:${number}:online`));
  console.log(`hashring ${line} ${digits}`);
}
