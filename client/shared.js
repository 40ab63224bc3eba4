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

/** @typedef {{tab: string, watched: string[], isVisible: boolean}} Tab What a tab tells of itself. */

/**
 * What the tabs say in the channel.
 *
 * @typedef {object} Message
 * @property {string} [tab] Who asks the leader whether it is there.
 * @property {string[]} [watched] Whom this tab watches, if it tells.
 * @property {boolean} [isVisible] Whether it is seen, if it tells.
 * @property {number} [term] Of the leader that says this.
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

/** The connection of all tabs: whether this page is hidden does not matter to it. */
class Connection extends PresenceClient {
  isPageHidden() {
    return false;
  }
}

/** What it is by itself, unconnected, knows who is watched in this tab, and calls back. */
export class SharedPresenceClient extends PresenceClient {
  /** @type {PresenceOptions} Of the connection. */
  #options;
  /** @type {Connection | undefined} Only while this tab leads: what an older one knew is no news. */
  #connection;
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
  /** Ends leading, or waiting for it. */
  #turn = new AbortController();
  /** Of the newest leader that was heard of. */
  #term = 0;
  /** Whether a leader has told its state since this tab was last told to connect. */
  #hasHeard = false;
  /** Whether to lead at once, whoever does. */
  #mustLead = false;
  /** @type {Map<number, PullInfo>} Those under way that this tab has told of. */
  #pulls = new Map();
  #unanswered = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #asking;
  #isTelling = false;

  /** @type {Map<string, Tab>} The leader's: all tabs. */
  #tabs = new Map();
  /** @type {Map<string, () => void>} The leader's: users whom any tab watches, and what ends it. */
  #unwatches = new Map();
  /** @type {Event[]} The leader's: what the others are to be told in one message. */
  #news = [];
  /** The leader's: when its connection should have done something again. */
  #dueAt = 0;

  /** @param {SharedPresenceOptions} options */
  constructor(options) {
    const { shared, url, autoConnect = true } = options;
    const own = { ...options, autoConnect: false };
    super(own);
    // What it tells, this tab tells.
    this.#options = { ...own, debug: false };
    if (shared !== undefined) {
      if (typeof shared !== 'string' || !shared) throw new TypeError('shared must be a string, not empty');
      const { href } = new URL(url, globalThis.location?.href);
      this.#name = JSON.stringify(['presenced', VERSION, href, shared]);
      if (globalThis.BroadcastChannel) this.#locks = globalThis.navigator?.locks;
    }
    if (autoConnect) this.connect();
  }

  // What an application calls.

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** Joins the other tabs, and stays until `close()`. Does nothing unless `closed`. */
  connect() {
    if (this.#state === 'closed') this.#start(false);
  }

  /** Connects anew and at once, with the token of this tab, which leads from then on. */
  reconnect() {
    this.#start(true);
  }

  /** Leaves the other tabs. If this one leads, another takes over. Who is watched stays watched, and as they were. */
  close() {
    if (!this.#membership) return;
    this.#resign();
    this.#turn.abort();
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

  /** @param {boolean} mustLead If it joins the others only now. */
  #start(mustLead) {
    this.#mustLead = mustLead;
    this.#state = 'connecting';
    this.#hasHeard = false;
    if (!this.#membership) this.#join();
    else if (this.#connection) this.#connection.reconnect();
    else if (this.#channel) this.#contend(true);
  }

  #join() {
    const { signal } = (this.#membership = new AbortController());
    globalThis.document?.addEventListener?.('visibilitychange', this.#onVisibility, { signal });
    if (!this.#locks) return this.#lead();

    this.#id = crypto.randomUUID();
    const joined = () => {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
      this.#contend(this.#mustLead);
      // Tells whom it watches, and not before it holds its lock: the leader would take it for gone.
      this.#onVisibility();
    };
    this.#hold(this.#name + this.#id, signal, false, joined).catch(() => {
      // There are locks or channels, but not for this page: it is in a sandbox, say.
      if (!signal.aborted && !this.#channel) this.#lead();
    });
  }

  /**
   * Leads as soon as nobody else does.
   *
   * @param {boolean} [steal] At once, whoever does.
   */
  #contend(steal = false) {
    this.#turn.abort();
    const { signal } = (this.#turn = new AbortController());
    this.#hold(this.#name, signal, steal, () => this.#lead()).catch(() => {
      if (signal.aborted || !this.#connection) return;
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
  #hold(name, signal, steal, onHeld) {
    // Both together are refused.
    return /** @type {LockManager} */ (this.#locks).request(name, steal ? { steal } : { signal }, () => {
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
      const news = { tab: this.#id, watched: this.watched(), isVisible: this.#isVisible() };
      if (this.#connection) this.#hearTab(news);
      else this.#post(news);
    });
  }

  #isVisible() {
    return this.#isShown && !this.isPageHidden();
  }

  #onVisibility = () => {
    this.#tell();
    clearInterval(this.#asking);
    this.#unanswered = 0;
    if (this.#channel && this.#isVisible()) this.#asking = setInterval(this.#ask, ASK_MS);
  };

  #ask = () => {
    if (this.#connection) return;
    if ((this.#unanswered += 1) <= UNANSWERED_MAX) return this.#post({ tab: this.#id });
    this.#unanswered = 0;
    this.#contend(true);
  };

  /** @param {Message} message */
  #post(message) {
    this.#channel?.postMessage(message);
  }

  /** @param {unknown} data What any script of this origin may have said. */
  #hear(data) {
    const { tab, watched, term, events } = Object(data);
    if (this.#connection) {
      if (typeof tab !== 'string') return;
      if (Array.isArray(watched)) this.#hearTab(Object(data));
      // A page that is frozen hears this, but its timers and its connection stand still.
      else setTimeout(() => this.#answer(), 0);
      // That it leads no longer, it hears from the lock.
      return;
    }
    if (!(Number.isFinite(term) && term >= this.#term && Array.isArray(events))) return;
    if (events.length === 0) this.#unanswered = 0;
    if (term > this.#term) {
      this.#term = term;
      this.#tell();
    }
    events.filter(isEvent).forEach(this.#take);
  }

  /** @param {Event} event */
  #take = ([kind, info]) => {
    // A callback may have closed the client.
    if (!this.#membership) return;
    if (kind === 'presence') return this.learn(info, 0);
    if (kind === 'pull') {
      if (info.phase === 'sent') this.#pulls.set(info.pull, info);
      // Else it was sent before this tab came.
      else if (!this.#pulls.delete(info.pull)) return;
      return this.emit(kind, info);
    }
    if (kind !== 'state') return;
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
    // No connection outlives this, and who asked may be gone without a word.
    const lost = this.#pulls;
    this.#pulls = new Map();
    this.emit('state', info);
    lost.forEach((pull) => this.emit('pull', { ...pull, phase: 'lost' }));
  }

  // Leading.

  #lead() {
    // By the clock: a new tab has not heard of the terms before. The fraction is for two that steal at once.
    this.#term = Math.max(this.#term + 1, Date.now()) + Math.random();
    const connection = (this.#connection = new Connection(this.#options));
    connection.on('state', (info) => this.#tellAll(['state', info]));
    connection.on('pull', (info) => this.#tellAll(['pull', info]));
    // All tabs hear of the new term, and tell whom they watch.
    this.#say([]);
    this.#tell();
    // If all were told to stay away, that another tab leads is no reason to come back.
    if (this.#state !== 'closed') connection.connect();
  }

  #resign() {
    // A listener may close this tab for what the others are still to hear.
    this.#sayNews();
    const connection = this.#connection;
    this.#connection = undefined;
    this.#tabs.clear();
    this.#unwatches.clear();
    connection?.close();
  }

  /** @param {Tab} news */
  #hearTab(news) {
    const { tab, watched } = news;
    const known = this.#tabs.get(tab);
    this.#tabs.set(tab, news);
    if (!known && tab !== this.#id) {
      // If it is not told yet, it is about to be.
      if (this.#info.state === this.#state) this.#tellAll(['state', this.#info]);
      const forget = () => {
        this.#tabs.delete(tab);
        this.#update();
      };
      const { signal } = this.#turn;
      this.#locks?.request(this.#name + tab, { signal }, forget).catch(() => {});
    }
    const before = new Set(known?.watched);
    for (const userId of watched) {
      // It is told to all: who knows it already hears nothing new.
      const presence = this.#connection?.get(userId);
      if (presence && presence.state !== 'unknown' && !before.has(userId)) this.#tellAll(['presence', presence]);
    }
    this.#update();
  }

  /** Somebody who is seen has asked whether this tab leads. */
  #answer() {
    if (!this.#connection) return;
    this.#say([]);
    // As long as it is open and nobody is watched, nothing is due.
    if (Date.now() < this.#dueAt || (this.#state === 'open' && !this.#unwatches.size)) return;
    // As when a page is seen again: it pulls, or connects.
    this.#connection.setVisible(false);
    this.#update();
  }

  /** @param {Event[]} events */
  #say(events) {
    this.#post({ term: this.#term, events: events.map(sendable) });
  }

  /** Watches whom the tabs do, and is seen if one of them is. */
  #update() {
    const connection = this.#connection;
    if (!connection) return;
    const tabs = [...this.#tabs.values()];
    const wanted = new Set(tabs.flatMap(({ watched }) => watched));
    // First, as it makes room for the others.
    for (const [userId, unwatch] of this.#unwatches) {
      if (!wanted.has(userId) && this.#unwatches.delete(userId)) unwatch();
    }
    const tell = (/** @type {Presence} */ presence) => this.#tellAll(['presence', presence]);
    for (const userId of wanted) {
      if (!this.#unwatches.has(userId)) this.#unwatches.set(userId, connection.watch(userId, tell));
    }
    connection.setVisible(tabs.some(({ isVisible }) => isVisible));
  }

  /** @param {Event} event */
  #tellAll(event) {
    if (!this.#connection) return;
    const [kind, info] = event;
    if (kind !== 'presence') {
      const { retryInMs } = /** @type {ConnectionInfo} */ (info);
      this.#dueAt = Date.now() + (retryInMs || this.#options.pullInterval || 10_000) + LATE_MS;
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
  if (kind === 'state' && info.error) {
    const { name, message } = info.error;
    return [kind, { ...info, error: { name, message } }];
  }
  return event;
}

/**
 * @param {any} event
 * @returns {event is Event}
 */
function isEvent(event) {
  return Array.isArray(event) && typeof (event[1]?.state ?? event[1]?.phase) === 'string';
}
