// What goes over the wire: the pulls, how long they took, and that none leaves a hidden page.

import { clock, duration, element, make, part, text } from './page.js';

/** @typedef {import('/client/presence.js').ConnectionInfo} ConnectionInfo */
/** @typedef {import('/client/presence.js').PullInfo} PullInfo */

/** Lines kept. */
const LINES_MAX = 50;

/** Pulls whose start is remembered, to tell how long the answer took. */
const STARTS_MAX = 16;

export class Log {
  #list = element('log', HTMLOListElement);
  #sent = 0;
  #sentHidden = 0;
  #sentAt = 0;
  #hiddenSince = document.hidden ? performance.now() : undefined;
  #sentBeforeHidden = 0;
  /** When a pull left, by its number. @type {Map<number, number>} */
  #starts = new Map();

  /** @param {PullInfo} info */
  pull({ pull, phase, users, error }) {
    // It only sees whether the connection lives.
    if (users === 0) return;
    const now = performance.now();
    const people = users === 1 ? '1 person' : `${users} people`;
    if (phase === 'sent') {
      this.#sent += 1;
      if (document.hidden) this.#sentHidden += 1;
      this.#sentAt = now;
      this.#starts.set(pull, now);
      const [oldest] = this.#starts.keys();
      if (this.#starts.size > STARTS_MAX && oldest !== undefined) this.#starts.delete(oldest);
      text('pulls-sent').textContent = String(this.#sent);
      text('pulls-hidden').textContent = String(this.#sentHidden);
      this.tick();
      this.#add('pull', `pull ${pull}`, `${people}…`).dataset.pull = String(pull);
      return;
    }

    const start = this.#starts.get(pull);
    this.#starts.delete(pull);
    const took = start === undefined ? '' : `${(now - start).toFixed(1)} ms`;
    if (phase === 'answered') text('pulls-took').textContent = took;
    const outcome = {
      answered: `${people}, ${took}`,
      refused: `${people}, refused: ${error?.message}`,
      lost: `${people}, no answer`,
    }[phase];
    const line = this.#list.querySelector(`[data-pull="${pull}"]`);
    if (line instanceof HTMLElement) {
      line.dataset.phase = phase;
      part(line, '.what').textContent = outcome;
    }
  }

  /** The page was hidden, or is shown again. */
  turned() {
    const now = performance.now();
    if (document.hidden) {
      this.#hiddenSince = now;
      this.#sentBeforeHidden = this.#sent;
    } else if (this.#hiddenSince !== undefined) {
      const seconds = Math.round((now - this.#hiddenSince) / 1_000);
      const pulls = this.#sent - this.#sentBeforeHidden;
      this.#hiddenSince = undefined;
      this.#add('paused', `paused while hidden: ${duration(seconds)}`, pulls === 1 ? '1 pull' : `${pulls} pulls`);
      this.tick();
    }
  }

  /** @param {ConnectionInfo} info */
  connection({ state, code }) {
    if (state === 'connecting') return;
    const title = { open: 'connected', waiting: 'connection lost', closed: 'disconnected' }[state];
    this.#add('connection', title, code ? `code ${code}` : '');
  }

  tick() {
    if (this.#sent === 0) return;
    const seconds = Math.round((performance.now() - this.#sentAt) / 1_000);
    text('pulls-ago').textContent = seconds === 0 ? 'now' : `${duration(seconds)} ago`;
  }

  /**
   * @param {string} kind
   * @param {string} title
   * @param {string} what
   * @returns {HTMLElement}
   */
  #add(kind, title, what) {
    const line = document.createElement('li');
    line.dataset.kind = kind;
    for (const [name, content] of Object.entries({ time: clock(Date.now()), title, what })) {
      line.append(make('span', name, content));
    }
    this.#list.prepend(line);
    while (this.#list.children.length > LINES_MAX) this.#list.lastElementChild?.remove();
    return line;
  }
}
