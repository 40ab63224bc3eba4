// The figures of the running edge, asked for each second while the page is seen.

/**
 * @typedef {object} Figures
 * @property {number} uptimeMs
 * @property {number} pingIntervalMs
 * @property {number} pingTimeoutMs
 * @property {number} flushIntervalMs
 * @property {number} ttlMs
 * @property {string} keyTemplate
 * @property {{address: string, up: boolean}[]} memcached
 * @property {boolean} embedded
 * @property {number} sessions Now.
 * @property {number} pending Heartbeats that wait for a flush now.
 * @property {number} pings This one and those below are totals since the start.
 * @property {number} pongs
 * @property {number} stored
 * @property {number} flushes
 * @property {number} flushUs
 * @property {number} pulls
 */

/**
 * What has happened since the figures before.
 *
 * @typedef {object} Step
 * @property {number} seconds
 * @property {number} pings
 * @property {number} pongs
 * @property {number} stored
 * @property {number} flushes
 * @property {number} flushUs
 */

/** @typedef {(figures: Figures, step: Step | undefined) => void} Listener */

const INTERVAL_MS = 1_000;

const TOTALS = /** @type {const} */ (['pings', 'pongs', 'stored', 'flushes', 'flushUs']);

/** @type {Figures | undefined} */
let last;
let lastAt = 0;
/** @type {Listener[]} */
const listeners = [];

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** The last figures; `undefined` before the first, and of an edge that has none. */
export const latest = () => last;

/**
 * The address of a memcached that does not answer, if there is one.
 *
 * @param {Figures | undefined} figures
 */
export const whatIsDown = (figures) => figures?.memcached.find(({ up }) => !up)?.address;

/** @param {Listener} listener */
export const onFigures = (listener) => void listeners.push(listener);

/**
 * Begins to ask. An edge without figures is asked once.
 *
 * @param {() => void} onNone
 */
export function startAsking(onNone) {
  const ask = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    if ((await askOnce()) === 'none') {
      document.removeEventListener('visibilitychange', ask);
      onNone();
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(ask, INTERVAL_MS);
  };
  document.addEventListener('visibilitychange', ask);
  void ask();
}

async function askOnce() {
  let answer;
  try {
    answer = await fetch('/dev/figures', { cache: 'no-store', signal: AbortSignal.timeout(5_000) });
    if (answer.status === 404) return 'none';
    if (!answer.ok) return 'later';
    learn(await answer.json());
  } catch {
    // The edge is gone for now, which the connection tells of.
    return 'later';
  }
  return 'learned';
}

/** @param {Figures} figures */
function learn(figures) {
  const now = performance.now();
  // A total that has shrunk is that of a new process.
  const before = last && last.uptimeMs <= figures.uptimeMs ? last : undefined;
  /** @type {Step | undefined} */
  let step;
  if (before) {
    step = { seconds: (now - lastAt) / 1_000, pings: 0, pongs: 0, stored: 0, flushes: 0, flushUs: 0 };
    for (const name of TOTALS) step[name] = Math.max(0, figures[name] - before[name]);
  }
  last = figures;
  lastAt = now;
  for (const listener of listeners) listener(figures, step);
}
