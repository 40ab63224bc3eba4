// Tells those who listen to the page who has come and gone: several in one sentence, and never what has not changed.

import { announce } from './page.js';

/** @typedef {import('/client/presence.js').Presence} Presence */

/** Changes within this time are told together. */
const GATHER_MS = 500;

/** More than so many are counted, not named. */
const NAMED_MAX = 3;

export class News {
  /** @type {Map<string, Presence>} */
  #changed = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {Presence} presence */
  add(presence) {
    this.#changed.set(presence.userId, presence);
    this.#timer ??= setTimeout(() => this.#tell(), GATHER_MS);
  }

  #tell() {
    this.#timer = undefined;
    const sentences = [];
    for (const state of ['online', 'offline', 'unknown']) {
      const names = [...this.#changed.values()].filter((presence) => presence.state === state).map(({ userId }) => userId);
      if (names.length > 0) sentences.push(`${listed(names)} ${names.length === 1 ? 'is' : 'are'} ${state}`);
    }
    this.#changed.clear();
    announce(sentences.join('. '));
  }
}

/**
 * @param {string[]} names At least one.
 * @returns {string}
 */
export function listed(names) {
  if (names.length > NAMED_MAX) return `${names.length} people`;
  const last = names.at(-1) ?? '';
  return names.length === 1 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}
