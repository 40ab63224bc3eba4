// Three small charts over the same minute: sessions, heartbeats per second, and the time of a flush.

import { element, text } from './page.js';
import { meanFlushMs, milliseconds } from './path.js';

/** @typedef {import('./figures.js').Figures} Figures */
/** @typedef {import('./figures.js').Step} Step */

/** Points kept, one a second. */
const POINTS_MAX = 60;

/** Heartbeats per second are those of the last so many seconds. */
const SMOOTH = 5;

const HEIGHT = 84;
const AXIS_WIDTH = 40;

const SERIES = [
  { id: 'sessions', color: '--online', format: (/** @type {number} */ value) => String(value) },
  { id: 'heartbeats', color: '--accent', format: (/** @type {number} */ value) => value.toFixed(1) },
  { id: 'flush', color: '--unknown', format: milliseconds },
];

/** Made by the script before this one. @type {typeof import('uplot')} */
const UPlot = Reflect.get(globalThis, 'uPlot');

export class Charts {
  /** @type {number[]} */
  #times = [];
  /** @type {(number | null)[][]} */
  #values = SERIES.map(() => []);
  /** @type {Step[]} */
  #steps = [];
  /** @type {import('uplot')[]} */
  #plots = [];

  constructor() {
    this.#draw();
    // The canvas does not follow by itself.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
    const observer = new ResizeObserver(() => {
      for (const [place, plot] of this.#plots.entries()) plot.setSize(sizeOf(place));
    });
    observer.observe(text('charts'));
  }

  /**
   * @param {Figures} figures
   * @param {Step | undefined} step
   */
  add(figures, step) {
    if (!step) return;
    this.#steps.push(step);
    if (this.#steps.length > SMOOTH) this.#steps.shift();
    const pongs = this.#steps.reduce((sum, { pongs }) => sum + pongs, 0);
    const time = this.#steps.reduce((sum, { seconds }) => sum + seconds, 0);
    this.#times.push(Date.now() / 1_000);
    const now = [figures.sessions, pongs / time, meanFlushMs([step]) ?? null];
    for (const [place, { id, format }] of SERIES.entries()) {
      const value = now[place] ?? null;
      this.#values[place]?.push(value);
      if (value !== null) element(`now-${id}`, HTMLOutputElement).textContent = format(value);
    }
    if (this.#times.length > POINTS_MAX) {
      this.#times.shift();
      for (const values of this.#values) values.shift();
    }
    for (const [place, plot] of this.#plots.entries()) plot.setData(this.#data(place));
  }

  /**
   * @param {number} place
   * @returns {import('uplot').AlignedData}
   */
  #data(place) {
    return [this.#times, this.#values[place] ?? []];
  }

  #draw() {
    for (const plot of this.#plots) plot.destroy();
    this.#plots = SERIES.map(({ id, color }, place) => new UPlot(options(color, place), this.#data(place), text(`plot-${id}`)));
  }
}

/** @param {number} place */
const sizeOf = (place) => ({ width: text(`plot-${SERIES[place]?.id}`).clientWidth, height: HEIGHT });

/**
 * @param {string} color
 * @param {number} place
 * @returns {import('uplot').Options}
 */
function options(color, place) {
  const style = getComputedStyle(document.documentElement);
  const value = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    ...sizeOf(place),
    legend: { show: false },
    cursor: { show: false },
    padding: [6, 4, 4, 0],
    scales: {
      x: { range: (_plot, _min, max) => [max - POINTS_MAX, max] },
      y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
    },
    axes: [
      { show: false },
      {
        size: AXIS_WIDTH,
        space: 28,
        stroke: value('--soft'),
        font: '11px system-ui, sans-serif',
        grid: { stroke: value('--line'), width: 1 },
        ticks: { show: false },
      },
    ],
    series: [
      {},
      { stroke: value(color), width: 2, fill: `color-mix(in srgb, ${value(color)} 14%, transparent)`, spanGaps: true, points: { show: false } },
    ],
  };
}
