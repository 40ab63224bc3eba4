// The path of a heartbeat as a picture: ping, pending, flush, memcached. What moves in it has happened.

import { whatIsDown } from './figures.js';
import { duration, mayMove, text } from './page.js';

/** @typedef {import('./figures.js').Figures} Figures */
/** @typedef {import('./figures.js').Step} Step */

/** Rates are those of the last so many steps, of a second each: single heartbeats would make them jump. */
const STEPS = 10;

/** More dots at once are a blur. */
const DOTS_MAX = 6;
const DOT_MS = 900;
const DOT_GAP_MS = 110;

/** @type {Step[]} */
const steps = [];

/**
 * @param {Figures} figures
 * @param {Step | undefined} step
 */
export function showPath(figures, step) {
  if (step) {
    steps.push(step);
    if (steps.length > STEPS) steps.shift();
    dots('wire-pongs', step.pongs);
    dots('wire-flush', step.stored);
    dots('wire-stored', step.stored, DOT_MS / 2);
  } else {
    steps.length = 0;
  }
  text('path-sessions').textContent = String(figures.sessions);
  const sessions = figures.sessions === 1 ? 'session' : 'sessions';
  text('path-ping').textContent = `${sessions}, each pinged every ${seconds(figures.pingIntervalMs)}`;
  text('path-pending').textContent = String(figures.pending);
  const flushMs = meanFlushMs(steps);
  text('path-flush').textContent = flushMs === undefined ? '–' : milliseconds(flushMs);
  text('path-every').textContent = `every ${seconds(figures.flushIntervalMs)}, pipelined`;
  text('path-stored').textContent = compact(figures.stored);
  text('path-ttl').textContent = `entries written, each for ${seconds(figures.ttlMs)}`;
  showNodes(figures);
}

/** @param {Figures} figures */
function showNodes(figures) {
  const { memcached, embedded } = figures;
  const down = whatIsDown(figures);
  const nodes = text('nodes');
  nodes.classList.toggle('trouble', down !== undefined);
  const kind = embedded ? 'embedded store' : 'memcached';
  const first = memcached[0]?.address ?? 'none';
  const more = memcached.length > 1 ? ` and ${memcached.length - 1} more` : '';
  nodes.textContent = down === undefined ? `${kind} at ${first}${more}` : `memcached at ${down} is down`;
}

/**
 * The mean time of a flush in these steps, in milliseconds; `undefined` if there was none.
 *
 * @param {Step[]} steps
 */
export function meanFlushMs(steps) {
  const flushes = steps.reduce((sum, step) => sum + step.flushes, 0);
  const us = steps.reduce((sum, step) => sum + step.flushUs, 0);
  return flushes === 0 ? undefined : us / flushes / 1_000;
}

/**
 * Sends dots along a wire, from its start to its end.
 *
 * @param {string} id
 * @param {number} count
 * @param {number} [delay]
 */
function dots(id, count, delay = 0) {
  const wire = text(id);
  if (count === 0 || !mayMove()) return;
  const { width, height } = wire.getBoundingClientRect();
  const to = width > height ? `translateX(${width}px)` : `translateY(${height}px)`;
  for (let n = 0; n < Math.min(count, DOTS_MAX); n += 1) {
    const dot = document.createElement('span');
    wire.append(dot);
    const frames = [
      { transform: 'none', opacity: 0 },
      { opacity: 1, offset: 0.15 },
      { opacity: 1, offset: 0.85 },
      { transform: to, opacity: 0 },
    ];
    const options = { duration: DOT_MS, delay: delay + n * DOT_GAP_MS, easing: 'ease-in-out', fill: /** @type {const} */ ('backwards') };
    dot.animate(frames, options).onfinish = () => dot.remove();
  }
}

/** @param {number} ms */
export const milliseconds = (ms) => (ms < 10 ? `${ms.toFixed(2)} ms` : `${ms.toFixed(0)} ms`);

/** @param {number} ms */
const seconds = (ms) => {
  const time = ms < 1_000 ? `${ms} ms` : duration(Math.round(ms / 1_000));
  // A unit on a line of its own is hard to read.
  return time.replaceAll(' ', '\u00a0');
};

/** @param {number} count */
const compact = (count) => new Intl.NumberFormat('en', { notation: 'compact' }).format(count);
