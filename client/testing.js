/**
 * A client without a server, for the tests of what shows who is online.
 *
 *     import { FakePresenceClient } from 'presenced-client/testing';
 *
 *     const presence = new FakePresenceClient({ alice: 'online' });
 *     showFriends(presence);
 *     presence.set('alice', 'offline');
 *
 * It calls back as `PresenceClient` does: with what is known already never before `watch()` has returned, and then with
 * every change of the state. There are no timers in it: what you set is told before `set()` returns.
 *
 * @module
 */

/** @typedef {import('./presence.js').Presence} Presence */
/** @typedef {import('./presence.js').PresenceState} PresenceState */
/** @typedef {import('./presence.js').ConnectionState} ConnectionState */

/** @typedef {{callback: (presence: Presence) => void, told: Presence | undefined}} Watcher */

/** @type {PresenceState[]} */
const STATES = ['online', 'offline', 'unknown'];

export class FakePresenceClient {
  /** @type {Map<string, Presence>} One object for each user, until their state changes. */
  #known = new Map();
  /** @type {Map<string, Set<Watcher>>} */
  #watchers = new Map();
  /** @type {ConnectionState} */
  #state = 'open';
  /** @type {Record<string, Set<(info: any) => void>>} */
  #listeners = { state: new Set(), change: new Set(), pull: new Set() };

  /** @param {Record<string, PresenceState>} [states] Of those who are known from the start, by user id. */
  constructor(states = {}) {
    for (const [userId, state] of Object.entries(states)) this.set(userId, state);
  }

  // What a test calls.

  /**
   * Makes this the state of a user, and tells those who watch them. As with a real client, only changes are told, and
   * who was known never becomes `unknown` again.
   *
   * @param {string} userId
   * @param {PresenceState} state
   * @param {number} [connectedAt] In Unix milliseconds; only of those who are online.
   */
  set(userId, state, connectedAt) {
    if (typeof userId !== 'string' || userId === '') throw new TypeError('a user id is a string that is not empty');
    if (!STATES.includes(state)) throw new TypeError(`a state is one of ${STATES.join(', ')}`);
    const before = this.#known.get(userId)?.state ?? 'unknown';
    if (state === before) return;
    if (state === 'unknown') throw new Error('who was known never becomes unknown again');

    const presence = { userId, state, ...(state === 'online' && connectedAt !== undefined && { connectedAt }) };
    this.#known.set(userId, Object.freeze(presence));
    const watchers = [...(this.#watchers.get(userId) ?? [])];
    for (const watcher of watchers) this.#tell(userId, watcher);
    if (watchers.length > 0) this.#emit('change', presence);
  }

  /** @returns {string[]} Who is watched now, each once, those watched longest first. */
  get watched() {
    return [...this.#watchers.keys()];
  }

  // What an application calls.

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /**
   * What is known of a user: what was set, whether they are watched or not.
   *
   * @param {string} userId
   * @returns {Presence}
   */
  get(userId) {
    const known = this.#known.get(userId) ?? Object.freeze({ userId, state: 'unknown' });
    this.#known.set(userId, known);
    return known;
  }

  /**
   * @param {string} userId
   * @param {(presence: Presence) => void} callback
   * @returns {() => void} Ends it. May be called twice.
   */
  watch(userId, callback) {
    const watchers = this.#watchers.get(userId) ?? new Set();
    this.#watchers.set(userId, watchers);
    /** @type {Watcher} */
    const watcher = { callback, told: undefined };
    watchers.add(watcher);
    queueMicrotask(() => this.#tell(userId, watcher));
    return () => {
      watchers.delete(watcher);
      if (watchers.size === 0 && this.#watchers.get(userId) === watchers) this.#watchers.delete(userId);
    };
  }

  /**
   * @param {'state' | 'change' | 'pull'} name There are no pulls.
   * @param {(info: any) => void} listener
   * @returns {() => void} Ends it. May be called twice.
   */
  on(name, listener) {
    const listeners = this.#listeners[name];
    listeners?.add(listener);
    return () => void listeners?.delete(listener);
  }

  connect() {
    this.#enter('open');
  }

  reconnect() {
    this.#enter('open');
  }

  close() {
    this.#enter('closed');
  }

  /**
   * Nothing: it asks nobody, whether it is seen or not.
   *
   * @param {boolean} _isVisible
   */
  setVisible(_isVisible) {}

  /**
   * @param {string} userId
   * @param {Watcher} watcher
   */
  #tell(userId, watcher) {
    const presence = this.#known.get(userId);
    if (!presence || presence.state === 'unknown') return;
    if (watcher.told === presence || !this.#watchers.get(userId)?.has(watcher)) return;
    watcher.told = presence;
    // An error in here is not caught: it is the test that should fail.
    watcher.callback(presence);
  }

  /** @param {ConnectionState} state */
  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit('state', { state });
  }

  /**
   * @param {string} name
   * @param {object} info
   */
  #emit(name, info) {
    for (const listener of [...(this.#listeners[name] ?? [])]) listener(info);
  }
}
