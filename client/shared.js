/**
 * One connection for all tabs of a user.
 *
 *     import { SharedPresenceClient } from 'presenced-client/shared';
 *
 *     const presence = new SharedPresenceClient({ url, token, shared: 'user-123' });
 *
 * It is used as a `PresenceClient` is. What it promises:
 *
 * - Of all tabs with the same `shared` and `url`, one leads: it has the only connection, and asks for everyone whom any
 *   tab watches. The others hear from it all that it hears.
 * - Nobody is asked for while all tabs are hidden.
 * - When the leader goes, another tab takes over at once. A tab that is seen takes over from a leader that says nothing
 *   for 2 s: the browser may have frozen it. Meanwhile everyone stays as they were.
 * - A tab that goes, however it goes, is forgotten.
 * - Where there are no Web Locks or no BroadcastChannel, each client has a connection of its own.
 *
 * How it works: the leader holds a lock, and the browser gives it to the next in line when the tab is gone. Each tab
 * holds a lock of its own, too. The leader waits for it, and has it when that tab is gone. Messages go through a
 * channel that all tabs hear. Each leader numbers its messages with its term. A tab heeds no leader older than the
 * newest that it has heard of.
 *
 * @module
 */

import { PresenceClient } from './presence.js';

/** @typedef {import('./presence.js').ConnectionInfo} ConnectionInfo */
/** @typedef {import('./presence.js').ConnectionState} ConnectionState */
/** @typedef {import('./presence.js').Presence} Presence */
/** @typedef {import('./presence.js').PresenceOptions} PresenceOptions */
/** @typedef {import('./presence.js').PullInfo} PullInfo */

/**
 * @typedef {object} SharedOptions
 * @property {string} [shared] Tabs that give the same share a connection. It names the account and not the token, as the
 *   user's id does: tabs of two accounts must never give the same. Without it, nothing is shared.
 */

/** @typedef {PresenceOptions & SharedOptions} SharedPresenceOptions */

/** @typedef {['state', ConnectionInfo] | ['pull', PullInfo] | ['presence', Presence]} Event */

/**
 * What the tabs say in the channel.
 *
 * @typedef {object} Message
 * @property {string} [tab] Who asks the leader whether it is there.
 * @property {string[]} [watched] Whom this tab watches, if it tells.
 * @property {boolean} [isVisible] Whether it is seen, if it tells.
 * @property {number} [term] Of the leader that says this.
 * @property {string | undefined} [to] The tab for which it is; without it, for all.
 * @property {Event[]} [events] What has happened, or what a tab does not know yet. Nothing: the leader is there.
 */

/** Of the messages between tabs. Tabs that speak another version never meet. */
const VERSION = 1;

/** How often a tab that is seen asks the leader whether it is there… */
const ASK_MS = 500;

/** …and how many such questions may stay unanswered. It counts questions and not time, as it may have slept itself. */
const UNANSWERED_MAX = 4;

/** A hidden leader's timers may be late, by a minute in Chromium. Once they are later than this, a question of a tab that
 * is seen takes their place. */
const LATE_MS = 1_000;

/** @type {Record<string, string>} The text that each kind of event has at least. */
const TEXTS = { state: 'state', presence: 'state', pull: 'phase' };

/** The connection of all tabs: whether this page is hidden does not matter to it. */
class Connection extends PresenceClient {
  isPageHidden() {
    return false;
  }
}

/** What it is by itself, unconnected, knows who is watched in this tab, and calls back. */
export class SharedPresenceClient extends PresenceClient {
  /** Opened only while this tab leads. */
  #connection;
  #pullInterval;
  /** @type {LockManager | undefined} Only if something is shared. */
  #locks;
  /** Of the lock and of the channel. */
  #name = '';
  #isShown = true;

  /** @type {ConnectionState} */
  #state = 'closed';
  /** @type {ConnectionInfo} What was told last. */
  #info = { state: 'closed' };

  /** This tab among the others; another one each time that it joins them. */
  #id = '';
  /** @type {AbortController | undefined} Ends being one of them. */
  #membership;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  /** @type {AbortController | undefined} Ends leading, or waiting for it. */
  #turn;
  /** Of the newest leader that was heard of. */
  #term = 0;
  /** Whether a leader has told its state since this tab was last told to connect. */
  #hasHeard = false;
  #unanswered = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;
  #isTelling = false;

  #leads = false;
  /** @type {Map<string, {watched: string[], isVisible: boolean}>} The leader's: all tabs. */
  #tabs = new Map();
  /** @type {Map<string, () => void>} The leader's: users whom any tab watches, and what ends it. */
  #unwatches = new Map();
  /** @type {Event[]} The leader's: what the others are to be told in one message. */
  #news = [];
  /** The leader's: when its connection should have done something again. */
  #dueAt = 0;

  /** @param {SharedPresenceOptions} options */
  constructor(options) {
    super({ ...options, autoConnect: false });
    const { shared, url } = options;
    // What it tells, this tab tells.
    this.#connection = new Connection({ ...options, autoConnect: false, debug: false });
    this.#pullInterval = options.pullInterval ?? 10_000;
    if (shared !== undefined) {
      if (typeof shared !== 'string' || !shared) throw new TypeError('shared must be a string, not empty');
      const { href } = new URL(url, globalThis.location?.href);
      this.#name = JSON.stringify(['presenced', VERSION, href, shared]);
      if (globalThis.BroadcastChannel) this.#locks = globalThis.navigator?.locks;
    }
    this.#connection.on('state', (info) => this.#tellAll(['state', info]));
    this.#connection.on('pull', (info) => this.#tellAll(['pull', info]));
    if (options.autoConnect ?? true) this.connect();
  }

  // What an application calls.

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** Joins the other tabs, and stays until `close()`. Does nothing unless `closed`. */
  connect() {
    if (this.#state === 'closed') this.reconnect();
  }

  /** Connects anew and at once, with the token of this tab, which leads from then on. */
  reconnect() {
    this.#state = 'connecting';
    this.#hasHeard = false;
    if (!this.#membership) this.#join();
    else if (this.#leads) this.#connection.reconnect();
    else if (this.#turn) this.#contend(true);
  }

  /** Leaves the other tabs. If this one leads, another takes over. Who is watched stays watched, and as they were. */
  close() {
    if (!this.#membership) return;
    this.#resign();
    this.#turn?.abort();
    this.#turn = undefined;
    this.#membership.abort();
    this.#membership = undefined;
    this.#channel?.close();
    this.#channel = undefined;
    clearInterval(this.#asking);
    this.#enter({ state: 'closed' });
  }

  /**
   * As `PresenceClient.watch()`. The limit of 5,000 users is also for all tabs together.
   *
   * @param {string} userId
   * @param {(presence: Presence) => void} callback
   * @returns {() => void} Ends it. May be called twice.
   */
  watch(userId, callback) {
    const unwatch = super.watch(userId, callback);
    this.#tell();
    return () => {
      unwatch();
      this.#tell();
    };
  }

  /**
   * As `PresenceClient.setVisible()`, for this tab.
   *
   * @param {boolean} isVisible
   */
  setVisible(isVisible) {
    this.#isShown = isVisible;
    this.#onVisibility();
  }

  // Being one of several tabs.

  #join() {
    const { signal } = (this.#membership = new AbortController());
    globalThis.document?.addEventListener?.('visibilitychange', this.#onVisibility, { signal });
    if (!this.#locks) return this.#lead();

    this.#id = crypto.randomUUID();
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#onVisibility();
    const joined = () => {
      if (!this.#turn) this.#contend();
      // Not before it holds its lock: the leader would take it for gone.
      this.#tell();
    };
    this.#hold(this.#name + this.#id, signal, false, joined).catch(() => {
      if (signal.aborted) return;
      // There are locks, but not for this page: it is in a sandbox, say.
      this.#channel?.close();
      this.#channel = undefined;
      this.#lead();
    });
  }

  /**
   * Leads as soon as nobody else does.
   *
   * @param {boolean} [steal] At once, whoever does.
   */
  #contend(steal = false) {
    this.#turn?.abort();
    const { signal } = (this.#turn = new AbortController());
    this.#hold(this.#name, signal, steal, () => this.#lead()).catch(() => {
      if (signal.aborted || !this.#leads) return;
      // Another tab has stolen the lock.
      this.#resign();
      this.#contend();
      this.#tell();
    });
  }

  /**
   * Holds a lock from when it is granted until the signal. Rejects when it is stolen.
   *
   * @param {string} name
   * @param {AbortSignal} signal
   * @param {boolean} steal
   * @param {() => void} onHeld
   */
  async #hold(name, signal, steal, onHeld) {
    // Both together are refused.
    await this.#locks?.request(name, steal ? { steal } : { signal }, () => {
      if (signal.aborted) return undefined;
      onHeld();
      return new Promise((resolve) => signal.addEventListener('abort', resolve));
    });
  }

  /** Tells the leader whom this tab watches and whether it is seen, once for all that happens at a time. */
  #tell() {
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      const [watched, isVisible] = [this.watched(), this.#isVisible()];
      if (this.#leads) this.#hearTab(this.#id, watched, isVisible);
      else if (this.#turn) this.#post({ tab: this.#id, watched, isVisible });
    });
  }

  #isVisible() {
    return this.#isShown && !this.isPageHidden();
  }

  #onVisibility = () => {
    this.#tell();
    clearInterval(this.#asking);
    this.#unanswered = 0;
    if (this.#channel && this.#isVisible()) this.#asking = setInterval(() => this.#ask(), ASK_MS);
  };

  #ask() {
    if (this.#leads || !this.#turn) return;
    this.#unanswered += 1;
    if (this.#unanswered <= UNANSWERED_MAX) return this.#post({ tab: this.#id });
    this.#unanswered = 0;
    this.#contend(true);
  }

  /** @param {Message} message */
  #post(message) {
    this.#channel?.postMessage(message);
  }

  /** @param {unknown} data What any script of this origin may have said. */
  #hear(data) {
    const { tab, watched, isVisible, term, to, events } = Object(data);
    if (this.#leads) {
      if (typeof tab !== 'string') return;
      if (Array.isArray(watched)) this.#hearTab(tab, watched, isVisible);
      // A page that is frozen hears this, but its timers and its connection stand still.
      else setTimeout(() => this.#answer(), 0);
      // That it leads no longer, it hears from the lock.
      return;
    }
    if (!(term >= this.#term && Number.isFinite(term) && Array.isArray(events))) return;
    if (events.length === 0) this.#unanswered = 0;
    if (term > this.#term) {
      this.#term = term;
      this.#tell();
    }
    if (to === undefined || to === this.#id) events.filter(isEvent).forEach(this.#take);
  }

  /** @param {Event} event */
  #take = ([kind, info]) => {
    // A callback may have closed the client.
    if (!this.#membership) return;
    if (kind === 'presence') return this.learn(info, 0);
    if (kind === 'pull') return this.emit(kind, info);
    // What ended before this tab came, it tries again itself.
    if (info.state === 'closed' && !this.#hasHeard) return this.reconnect();
    this.#hasHeard = true;
    this.#enter(info);
  };

  /** @param {ConnectionInfo} info */
  #enter(info) {
    this.#state = info.state;
    // A leader that is new tells all tabs, and each again that tells it whom it watches.
    if (info.state === this.#info.state) return;
    this.#info = info;
    // It came from another tab, without its class.
    if (info.error && !(info.error instanceof Error)) info.error = Object.assign(new Error(), info.error);
    this.emit('state', info);
  }

  // Leading.

  #lead() {
    // By the clock: a new tab has not heard of the terms before. The fraction is for two that steal at once.
    this.#term = Math.max(this.#term + 1, Date.now()) + Math.random();
    this.#leads = true;
    // All tabs hear of the new term, and tell whom they watch.
    this.#say([]);
    this.#tell();
    // If all were told to stay away, that another tab leads is no reason to come back.
    if (this.#state !== 'closed') this.#connection.connect();
  }

  #resign() {
    // A listener may close this tab for what the others are still to hear.
    this.#sayNews();
    this.#leads = false;
    this.#tabs.clear();
    this.#update();
    this.#connection.close();
  }

  /**
   * @param {string} id
   * @param {string[]} watched
   * @param {boolean} isVisible
   */
  #hearTab(id, watched, isVisible) {
    const known = this.#tabs.get(id);
    /** @type {Event[]} */
    const events = [];
    this.#tabs.set(id, { watched, isVisible });
    if (!known) {
      // If it is not told yet, it is about to be told to all.
      if (this.#info.state === this.#state) events.push(['state', this.#info]);
      this.#forgetWhenGone(id);
    }
    const before = new Set(known?.watched);
    for (const userId of watched) {
      const presence = this.#connection.get(userId);
      if (presence.state !== 'unknown' && !before.has(userId)) events.push(['presence', presence]);
    }
    this.#update();
    if (id === this.#id) events.forEach(this.#take);
    else if (events.length > 0) this.#say(events, id);
  }

  /** Somebody who is seen has asked whether this tab leads. */
  #answer() {
    if (!this.#leads) return;
    this.#say([]);
    if (Date.now() < this.#dueAt) return;
    // As when a page is seen again: it pulls, or connects.
    this.#connection.setVisible(false);
    this.#update();
  }

  /**
   * @param {Event[]} events
   * @param {string} [to]
   */
  #say(events, to) {
    this.#post({ term: this.#term, to, events: events.map(sendable) });
  }

  /** @param {string} id */
  #forgetWhenGone(id) {
    if (id === this.#id || !this.#turn) return;
    const forget = () => {
      this.#tabs.delete(id);
      this.#update();
    };
    this.#locks?.request(this.#name + id, { signal: this.#turn.signal }, forget).catch(() => {});
  }

  /** Watches whom the tabs do, and is seen if one of them is. */
  #update() {
    const tabs = [...this.#tabs.values()];
    const wanted = new Set(tabs.flatMap(({ watched }) => watched));
    for (const userId of wanted) {
      if (this.#unwatches.has(userId)) continue;
      const tell = (/** @type {Presence} */ presence) => this.#tellAll(['presence', presence]);
      this.#unwatches.set(userId, this.#connection.watch(userId, tell));
    }
    for (const [userId, unwatch] of this.#unwatches) {
      if (!wanted.has(userId) && this.#unwatches.delete(userId)) unwatch();
    }
    this.#connection.setVisible(tabs.some(({ isVisible }) => isVisible));
  }

  /** @param {Event} event */
  #tellAll(event) {
    if (!this.#leads) return;
    const [kind, info] = event;
    if (kind !== 'presence') {
      const { retryInMs } = /** @type {ConnectionInfo} */ (info);
      this.#dueAt = Date.now() + (retryInMs || this.#pullInterval) + LATE_MS;
    }
    if (this.#news.push(event) === 1) queueMicrotask(() => this.#sayNews());
    this.#take(event);
  }

  #sayNews() {
    if (this.#news.length > 0) this.#say(this.#news);
    this.#news = [];
  }
}

/**
 * An error may have more to it than can be sent.
 *
 * @param {Event} event
 * @returns {Event}
 */
function sendable(event) {
  const [kind, info] = event;
  if (kind !== 'state' || !info.error) return event;
  const { name, message } = info.error;
  return [kind, { ...info, error: { name, message } }];
}

/**
 * @param {any} event
 * @returns {event is Event}
 */
function isEvent(event) {
  const [kind, info] = Array.isArray(event) ? event : [];
  return typeof info?.[TEXTS[kind] ?? ''] === 'string';
}
