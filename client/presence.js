/**
 * Who is online now, told by a presenced edge.
 *
 *     import { PresenceClient } from './presence.js';
 *
 *     const presence = new PresenceClient({
 *       url: 'wss://edge.example/ws',
 *       token: () => fetch('/my/token').then((answer) => answer.text()),
 *     });
 *     const unwatch = presence.watch('alice', ({ state }) => console.log('alice is', state));
 *     presence.get('alice').state; // what is known now
 *
 * What it promises:
 *
 * - While it is connected, the user whom the token names is online. The edge pings, the browser answers by itself.
 * - Everything watched is asked for in one request every `pullInterval`, and not at all while the page is hidden. On
 *   return it asks at once. A lost connection comes back by itself, with a fresh token for each attempt.
 * - A connection that died without a word is found out, also while the page is hidden or nobody is watched: what says
 *   nothing for a while is asked for nobody, and must answer. When the page or the network comes back, it must do so
 *   soon.
 * - It stays away when coming back would be wrong: the user may not connect (4403) or has newer sessions instead (4409),
 *   the token is refused (4401) and can't change, or there is none (`PresenceUnauthorized`).
 * - Before a token ends, the edge is shown a fresh one, and the connection stays.
 * - A callback hears the first answer, and then only changes. It is never told `offline` on a guess: while a user can't
 *   be asked after, they stay as they were, and `unknown` is only for those of whom nothing was ever known.
 * - Nothing grows without a limit: the limits are the constants below and the options.
 * - `watch` and `get` never throw, so that they may be called while a page is rendered. What is wrong with a call is
 *   written to the console, once.
 *
 * No dependency and no build step. Outside a page (Node, workers, React Native) there is no `document`: nothing is
 * hidden there, unless `setVisible` says so.
 *
 * @module
 */

/** What the edge calls its dialect. It answers this subprotocol and never the token that is offered beside it. */
const SUBPROTOCOL = 'presence.v1';
/** Asks for a message with each ping of the edge, which a page does not see. */
const TELL_PINGS = 'presence.alive';

/** A longer token is not offered in the handshake but sent as the first message: nginx refuses a header line over 8 KiB,
 * if it is not set otherwise, and the line has its name and the dialect beside the token. */
const HANDSHAKE_TOKEN_BYTES_MAX = 8_000;

/** Users in one pull. The edge refuses more; a longer watch list goes out as several pulls. */
const USERS_PER_PULL_MAX = 500;

/** Bytes of the ids in one pull, quoted and separated: less than the edge's longest message, 64 KiB if it is not set. */
const PULL_BYTES_MAX = 60_000;

/** Longest user id in UTF-8: it is part of a memcached key, and those have 250 bytes. */
const USER_ID_BYTES_MAX = 200;

/** White space, control characters, halves of a surrogate pair: no part of a user id. */
const NOT_IN_USER_ID = /[\p{White_Space}\p{Cc}\p{Cs}]/u;

/** Users asked for at a time: ten pulls a round. Of others who are watched, nothing is known until there is room. */
const WATCHED_MAX = 5_000;

/** Users remembered, the watched and the just forgotten. Beyond, who is no longer watched is forgotten at once. */
const REMEMBERED_MAX = 2 * WATCHED_MAX;

/** Pulls under way, half of what the edge allows. Who is left to ask for waits for an answer. */
const PULLS_UNDER_WAY_MAX = 4;

/** `watch()` calls that come within this time share one pull… */
const NEW_WATCH_DELAY_MS = 20;

/** …and the next one for new users leaves no sooner than this after it, however often `watch()` is called. */
const NEW_WATCH_GAP_MS = 250;

/** A token that is good for no longer than this many seconds is replaced by half time: of one that came as a
 * replacement, the edge may give no other warning than this time. */
const SHORT_TOKEN_S = 120;

/** The shortest time between two of them, in milliseconds. */
const RENEW_GAP_MS = 1_000;

/** The edge says that the token has expired or was never good. */
const TOKEN_REFUSED = 4401;

/** What a browser says of a connection that ended without a close: 1006, abnormal. */
const ABNORMAL_CLOSURE = 1006;

/** To come back by oneself would be wrong: this user may not connect, or has newer sessions instead. */
const STAY_AWAY = new Set([4403, 4409]);

/** The edge found fault with what this end does. Coming right back would only repeat it, so the whole cap is used. */
const SLOW_DOWN = new Set([1002, 1003, 1007, 1008, 1009]);

/** Events of a page after which its connection may be dead, or a retry may go better than the last: the page is seen
 * again, the network is back… */
const WINDOW_WAKES = ['online', 'pageshow'];

/** …or the browser had put the page to sleep. */
const DOCUMENT_WAKES = ['visibilitychange', 'resume'];

/** How the edge tells when to come back, at the end of a close reason. */
const RETRY = /; retry=(\d{1,9})$/;

/** Longest wait that the edge may ask for. */
const RETRY_MS_MAX = 300_000;

/** What a client has of a WebSocket that says goodbye: 1000, normal. */
const NORMAL_CLOSURE = 1000;

/**
 * `online` and `offline` are what memcached said at the last answer that could be had; `unknown` means that no answer
 * about this user was ever had.
 *
 * @typedef {'online' | 'offline' | 'unknown'} PresenceState
 */

/**
 * What is known of one user.
 *
 * @typedef {object} Presence
 * @property {string} userId
 * @property {PresenceState} state
 * @property {number} [connectedAt] Since when, in Unix milliseconds. Only of those who are online.
 */

/**
 * `connecting`: fetching a token, opening the socket, or waiting for the edge to accept a token that was sent as a
 * message. `open`: online. `waiting`: the connection was lost or never
 * came about, the next attempt follows in `retryInMs`. `closed`: nothing happens until `connect()`.
 *
 * @typedef {'connecting' | 'open' | 'waiting' | 'closed'} ConnectionState
 */

/**
 * @typedef {object} ConnectionInfo
 * @property {ConnectionState} state
 * @property {number} [code] The WebSocket close code that led here. A handshake that the edge refuses opens and is
 *   closed at once with a code that says why; one that never got there is 1006.
 * @property {string} [reason] The reason that came with the close code.
 * @property {Error} [error] What went wrong on this side: the token function, a timeout, a malformed address.
 * @property {number} [retryInMs] Until the next attempt. Only while `waiting`.
 */

/**
 * A pull on its way: `sent`, and then one of `answered`, `refused` (the edge answered with an error) or `lost`
 * (unanswered for `pullTimeout`, or the connection went). One that asks for nobody sees whether the connection lives.
 *
 * @typedef {object} PullInfo
 * @property {number} pull Its number.
 * @property {'sent' | 'answered' | 'refused' | 'lost'} phase
 * @property {number} users How many it asked for.
 * @property {{code: string, message: string}} [error] Only when `refused`.
 * @property {string[]} [invalid] Those of them that are no ids to the edge: they stay `unknown`. Only when `answered`.
 */

/**
 * What `on()` can listen to. `state`: the connection's state has changed. `change`: what is known of a watched user has
 * changed; it comes once, however many watch this user, and after their own callbacks. `pull`: a step of a pull.
 *
 * @typedef {{state: ConnectionInfo, change: Presence, pull: PullInfo}} PresenceEvents
 */

/**
 * `handshake`: in the head of the WebSocket handshake, as a subprotocol. `message`: as the first message, for proxies
 * that refuse long heads; an edge with `--refuse-with http` takes no such token. `auto`: in the handshake, unless it is
 * so long that nginx would refuse it there by default.
 *
 * @typedef {'auto' | 'handshake' | 'message'} TokenIn
 */

/**
 * What is used of a WebSocket: browsers have it, and the class of the package `ws`.
 *
 * @typedef {object} Socket
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(text: string) => void} send
 * @property {(code?: number) => void} close
 */

/** @typedef {new (url: string, protocols: string[]) => Socket} SocketClass */

/**
 * @typedef {object} PresenceOptions
 * @property {string | URL} url Where the edge is, such as `wss://edge.example/ws`. `http:` and `https:` are taken for
 *   `ws:` and `wss:`; in a page it may be relative.
 * @property {string | (() => string | Promise<string>)} token A JWT, or a function that fetches one. The function is
 *   called before every attempt, so that each has a fresh one, and before a token ends, so that the connection outlives
 *   it. If a token is refused (4401), or the function fails, it is called again after a wait that grows, until it throws
 *   `PresenceUnauthorized`. With a string, a token that is refused or has ended ends in `closed`.
 * @property {TokenIn} [tokenIn] How the edge is shown the token of an attempt. Default `auto`.
 * @property {number} [pullInterval] Milliseconds between pulls. Default 10,000.
 * @property {number} [pullTimeout] Milliseconds after which a pull counts as lost. Default 5,000.
 * @property {number} [silenceTimeout] Milliseconds after a pull in which nothing at all has come back: the connection is
 *   taken for dead and made anew, at once if it had lasted. Default 10,000.
 * @property {number} [wakeTimeout] The same, when the page is seen again (`visibilitychange`, `pageshow`, `resume`) or
 *   the network is back (`online`). Default 3,000.
 * @property {number} [keepAlive] After about so many milliseconds in which nothing came, an empty pull asks whether the
 *   connection lives: in the last tenth of this time, at random, so that clients spread. Default 30,000: an edge that
 *   pings every 25 s sends a message with each ping, and is asked only when it may be gone.
 * @property {number} [connectTimeout] Milliseconds for one attempt, from asking for the token until it is `open`.
 *   Default 15,000.
 * @property {number} [backoffBase] After n failures in a row, the wait is random between 0 and `backoffBase` × 2ⁿ
 *   milliseconds (n from 0). Default 500.
 * @property {number} [backoffCap] And never more than this, in milliseconds. Default 30,000.
 * @property {number} [forgetAfter] Milliseconds for which a user whom nobody watches any more is remembered: a list that
 *   is rendered anew knows at once what it knew. Default 5,000.
 * @property {number} [stableAfter] Milliseconds after which a connection that lives sets n back to 0. Default 10,000.
 * @property {boolean} [autoConnect] Connect without being told to. Default true.
 * @property {boolean | ((what: string, info: unknown) => void)} [debug] Told of every event, listened to or not, and of
 *   what causes it. `true` is `console.debug`. No token is ever in there.
 * @property {SocketClass} [WebSocket] Instead of the global one: for a Node that has none, and for tests.
 * @property {() => number} [random] Instead of `Math.random`, for tests.
 */

/**
 * What the token function throws when there is no token to be had: the user has signed out, say. The client closes, and
 * does not come back by itself.
 */
export class PresenceUnauthorized extends Error {
  name = 'PresenceUnauthorized';
}

export class PresenceClient {
  /** @type {string} */
  #url;
  /** @type {() => string | Promise<string>} */
  #token;
  /** @type {boolean} */
  #tokenIsFixed;
  /** @type {TokenIn} */
  #tokenIn;
  /** @type {SocketClass} */
  #WebSocket;
  /** @type {() => number} */
  #random;
  /** @type {(what: string, info: unknown) => void} */
  #debug;
  /** @type {{[Name in keyof PresenceEvents]: Set<(info: PresenceEvents[Name]) => void>}} */
  #listeners = { state: new Set(), change: new Set(), pull: new Set() };

  #pullInterval;
  #pullTimeout;
  #silenceTimeout;
  #wakeTimeout;
  #keepAlive;
  #connectTimeout;
  #backoffBase;
  #backoffCap;
  #stableAfter;
  #forgetAfter;

  /** @type {ConnectionState} */
  #state = 'closed';
  /** @type {Socket | undefined} */
  #socket;
  /** Attempts so far. What belongs to an earlier one (a late token, a late close) is told by its number. */
  #attempt = 0;
  /** Attempts in a row that came to nothing, or to a connection that did not last. */
  #failures = 0;
  /** Whether the edge has told us to stay away for the time of this wait. */
  #mustWait = false;

  /** @type {Map<string, User>} The watched, and those who were a moment ago. */
  #users = new Map();
  /** How many of them are watched. */
  #watched = 0;
  /** @type {Map<string, Presence>} What was said of others: the same object each time. */
  #strangers = new Map();
  /** @type {Set<string>} What was warned of. */
  #warned = new Set();
  #isShown = true;
  /** @type {Set<string>} New ones, waiting for others to share their first pull. */
  #new = new Set();
  /** @type {Set<string>} Who is to be asked for as soon as fewer pulls are under way. */
  #due = new Set();
  /** @type {Map<number, {users: string[], timeout: Timer}>} Pulls under way by number, oldest first. */
  #pulls = new Map();
  #lastPull = 0;

  /** The attempt takes too long, or the next one is due. */
  #connectTimer = new Timer();
  /** The connection has proved stable. */
  #stableTimer = new Timer();
  /** The next pull of everything. */
  #pullTimer = new Timer();
  /** The next pull of new users, or the earliest time for one. */
  #newTimer = new Timer();
  /** Nothing was heard since a pull went out… */
  #silenceTimer = new Timer();
  /** …or since the page or the network came back. */
  #wakeTimer = new Timer();
  /** Nothing was heard for so long that the edge is to be asked whether it is there. */
  #quietTimer = new Timer();
  /** The edge is to be shown another token. */
  #renewTimer = new Timer();
  /** Times in a row that this came to nothing. */
  #renewFailures = 0;

  /** @param {PresenceOptions} options */
  constructor(options) {
    this.#url = socketUrl(options.url);
    const token = options.token;
    this.#tokenIsFixed = typeof token === 'string';
    this.#token = typeof token === 'string' ? () => token : token;
    if (typeof this.#token !== 'function') {
      throw new TypeError('token must be a string or a function');
    }
    this.#tokenIn = options.tokenIn ?? 'auto';
    if (!['auto', 'handshake', 'message'].includes(this.#tokenIn)) {
      throw new TypeError("tokenIn must be 'auto', 'handshake' or 'message'");
    }
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof this.#WebSocket !== 'function') {
      throw new TypeError('there is no global WebSocket here: give one as the option WebSocket');
    }
    this.#random = options.random ?? Math.random;
    this.#debug = (options.debug === true ? console.debug : options.debug) || (() => {});

    this.#pullInterval = milliseconds('pullInterval', options.pullInterval, 10_000);
    this.#pullTimeout = milliseconds('pullTimeout', options.pullTimeout, 5_000);
    this.#silenceTimeout = milliseconds('silenceTimeout', options.silenceTimeout, 10_000);
    this.#wakeTimeout = milliseconds('wakeTimeout', options.wakeTimeout, 3_000);
    this.#keepAlive = milliseconds('keepAlive', options.keepAlive, 30_000);
    this.#connectTimeout = milliseconds('connectTimeout', options.connectTimeout, 15_000);
    this.#backoffBase = milliseconds('backoffBase', options.backoffBase, 500);
    this.#backoffCap = milliseconds('backoffCap', options.backoffCap, 30_000);
    this.#stableAfter = milliseconds('stableAfter', options.stableAfter, 10_000);
    this.#forgetAfter = milliseconds('forgetAfter', options.forgetAfter, 5_000);

    if (options.autoConnect ?? true) this.connect();
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** Connects, and stays connected until `close()`. Does nothing unless `closed`. */
  connect() {
    if (this.#state !== 'closed') return;
    this.#failures = 0;
    this.#forWakes('addEventListener');
    void this.#open();
  }

  /** Connects anew and at once, whatever it was doing or waiting for: the user has signed in again, say. */
  reconnect() {
    if (this.#state === 'closed') return this.connect();
    this.#leaveSocket();
    const lost = this.#reset();
    this.#failures = 0;
    void this.#open();
    for (const info of lost) this.emit('pull', info);
  }

  /** Goes offline for good, or until `connect()`. Who is watched stays watched, and as they were. */
  close() {
    if (this.#state === 'closed') return;
    this.#leaveSocket();
    this.#stop({});
  }

  /**
   * Calls back at the first answer about this user and at every change of the state after it. `connectedAt` is of the
   * session that was written last: of a user on two servers it changes back and forth, which is no change of the state.
   * If something is known of the user already, the first call follows at once (but never before `watch` has returned).
   *
   * It never throws. A user id that no user can have is `unknown`, and so is who is watched beyond 5,000 others, for as
   * long as they are; the console tells of both, once.
   *
   * @param {string} userId At most 200 bytes in UTF-8, with no white space and no control character.
   * @param {(presence: Presence) => void} callback
   * @returns {() => void} Ends it. May be called twice.
   */
  watch(userId, callback) {
    const isFunction = typeof callback === 'function';
    const problem = isFunction ? userIdProblem(userId) : 'the callback of watch() must be a function';
    const user = (!problem && this.#users.get(userId)) || new User();
    if (problem) {
      this.#warn(problem, userId);
      user.learn(this.get(userId), 0);
      return user.add(isFunction ? callback : () => {});
    }

    if (user.isIdle) this.#startWatching(userId, user);
    const unwatch = user.add(callback);
    return () => {
      if (unwatch() && user.isIdle) this.#stopWatching(userId, user);
    };
  }

  /**
   * What is known of this user now: `unknown`, unless they are watched, or were a moment ago. The same object as the
   * last time, if nothing has changed. It never throws.
   *
   * @param {string} userId
   * @returns {Presence}
   */
  get(userId) {
    const known = this.#users.get(userId)?.presence ?? this.#strangers.get(userId);
    if (known) return known;
    if (this.#strangers.size >= REMEMBERED_MAX) this.#strangers.clear();
    /** @type {Presence} */
    const stranger = Object.freeze({ userId, state: 'unknown' });
    this.#strangers.set(userId, stranger);
    return stranger;
  }

  /**
   * Says whether the user sees this, where the page can't (React Native: by `AppState`). As long as they don't, nobody is
   * asked for, as on a hidden page.
   *
   * @param {boolean} isVisible
   */
  setVisible(isVisible) {
    const returns = isVisible && !this.#isShown;
    this.#isShown = isVisible;
    if (returns) this.#wake({ type: 'visibilitychange' });
  }

  /**
   * Listens to one kind of event. What the constructor begins is heard, too, if this is called right after it.
   *
   * @template {keyof PresenceEvents} Name
   * @param {Name} name
   * @param {(info: PresenceEvents[Name]) => void} listener
   * @returns {() => void} Ends it. May be called twice.
   */
  on(name, listener) {
    const listeners = this.#listeners[name];
    if (!listeners || typeof listener !== 'function') throw new TypeError("on() takes 'state', 'change' or 'pull', and a function");
    // Its own function for each call: one who listens twice hears twice, and ends each on its own.
    /** @type {typeof listener} */
    const own = (info) => listener(info);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  // Watching and pulling.

  /**
   * @param {string} userId
   * @param {User} user Whom nobody watches yet, or any more.
   */
  #startWatching(userId, user) {
    user.forgetTimer.stop();
    // Behind those who are watched already: nobody of them loses their place among the first 5,000.
    this.#users.delete(userId);
    this.#users.set(userId, user);
    this.#watched += 1;
    if (this.#watched > WATCHED_MAX) {
      this.#warn(`more than ${WATCHED_MAX} users are watched: the others are unknown`);
      user.learn(this.get(userId), 0);
    } else if (this.get(userId).state === 'unknown') {
      // Who was known a moment ago can wait for their turn.
      this.#new.add(userId);
      if (!this.#newTimer.isRunning) this.#newTimer.start(NEW_WATCH_DELAY_MS, this.#pullNew);
    }
  }

  /**
   * @param {string} userId
   * @param {User} user
   */
  #stopWatching(userId, user) {
    this.#watched -= 1;
    this.#new.delete(userId);
    this.#due.delete(userId);
    const forget = () => void this.#users.delete(userId);
    if (this.#users.size > REMEMBERED_MAX) forget();
    else user.forgetTimer.start(this.#forgetAfter, forget, false);
  }

  /**
   * Tells a programmer of a mistake, once.
   *
   * @param {string} problem
   * @param {unknown[]} what
   */
  #warn(problem, ...what) {
    if (!this.#warned.has(problem)) console.warn(`presenced: ${problem}`, ...what);
    this.#warned.add(problem);
  }

  #isHidden() {
    return !this.#isShown || this.isPageHidden();
  }

  /**
   * Of several pages that share one connection, another may be seen.
   *
   * @protected
   * @returns {boolean}
   */
  isPageHidden() {
    return globalThis.document?.visibilityState === 'hidden';
  }

  #mayPull() {
    return this.#state === 'open' && !this.#isHidden();
  }

  /**
   * Asks for everything watched, now and every `pullInterval` from now. Called when the socket opens and when the page
   * is seen again; on a hidden page it does nothing, and that ends the round.
   */
  #pullAll = () => {
    if (!this.#mayPull()) return;
    this.#pullTimer.start(this.#pullInterval, this.#pullAll);
    this.#new.clear();
    // Who is left from the last round keeps their place before the others.
    for (const userId of this.watched()) this.#due.add(userId);
    this.#sendDue();
  };

  /**
   * Who is to be asked for.
   *
   * @protected
   * @returns {string[]}
   */
  watched() {
    const watched = [...this.#users.keys()].filter((userId) => !this.#users.get(userId)?.isIdle);
    return watched.slice(0, WATCHED_MAX);
  }

  /** Asks for those who are in no pull yet; the next call follows after a gap, and only if there are any. */
  #pullNew = () => {
    if (!this.#mayPull() || this.#new.size === 0) return;
    this.#newTimer.start(NEW_WATCH_GAP_MS, this.#pullNew);
    for (const userId of this.#new) this.#due.add(userId);
    this.#new.clear();
    this.#sendDue();
  };

  #sendDue() {
    // Looked at anew each time round: a callback may have closed the client.
    while (this.#mayPull() && this.#due.size > 0 && this.#pulls.size < PULLS_UNDER_WAY_MAX) {
      const users = [];
      let bytes = 0;
      for (const userId of this.#due) {
        bytes += bytesOf(JSON.stringify(userId)) + 1;
        if (users.length === USERS_PER_PULL_MAX || bytes > PULL_BYTES_MAX) break;
        users.push(userId);
      }
      for (const userId of users) this.#due.delete(userId);
      this.#sendOne(users);
    }
  }

  /** @param {string[]} users */
  #sendOne(users) {
    const pull = (this.#lastPull += 1);
    const timeout = new Timer();
    timeout.start(this.#pullTimeout, () => this.#lose(pull));
    this.#pulls.set(pull, { users, timeout });
    if (!this.#silenceTimer.isRunning) this.#expectWord(this.#silenceTimer, this.#silenceTimeout);
    this.#socket?.send(JSON.stringify({ pull, users }));
    this.emit('pull', { pull, phase: 'sent', users: users.length });
  }

  /** @param {number} pull */
  #take(pull) {
    const taken = this.#pulls.get(pull);
    taken?.timeout.stop();
    this.#pulls.delete(pull);
    return taken;
  }

  /** @param {number} pull */
  #lose(pull) {
    const lost = this.#take(pull);
    if (lost) this.emit('pull', { pull, phase: 'lost', users: lost.users.length });
    this.#sendDue();
  }

  // Seeing whether the connection lives. The edge's pings are answered by the browser, which tells nobody of them, so the
  // edge sends a message with each. Where nothing comes, it is asked.

  /**
   * Something must come within so many milliseconds.
   *
   * @param {Timer} timer
   * @param {number} ms
   */
  #expectWord(timer, ms) {
    timer.start(ms, () => {
      this.#leaveSocket();
      this.#lost({ error: new Error(`the edge was silent for ${ms} ms`) }, this.#failures === 0);
    });
  }

  /** Something has come, or the socket has opened. */
  #onWord() {
    this.#silenceTimer.stop();
    this.#wakeTimer.stop();
    this.#quietTimer.start(this.#keepAlive * (1 - this.#random() / 10), () => this.#sendIfNoneIsUnderWay());
  }

  /** To be asked for nobody is enough for the edge to answer. */
  #sendIfNoneIsUnderWay() {
    if (this.#pulls.size === 0) this.#sendOne([]);
  }

  /** @param {'addEventListener' | 'removeEventListener'} method Neither is there outside a page. */
  #forWakes(method) {
    for (const type of WINDOW_WAKES) globalThis[method]?.(type, this.#wake);
    for (const type of DOCUMENT_WAKES) globalThis.document?.[method]?.(type, this.#wake);
  }

  /** @param {{type: string, persisted?: boolean}} event */
  #wake = ({ type, persisted }) => {
    // `pageshow` comes when a page is loaded, too, and nothing has been asleep then.
    if (persisted === false || (type === 'visibilitychange' && this.#isHidden())) return;
    call(this.#debug, 'wake', type);
    if (this.#state === 'waiting' && !this.#mustWait) void this.#open();
    if (this.#state !== 'open') return;
    // These events come together. One that finds another's question on its way has nothing to add, unless the round of
    // pulls has ended meanwhile.
    if (this.#wakeTimer.isRunning && this.#pullTimer.isRunning) return;
    if (!this.#wakeTimer.isRunning) this.#expectWord(this.#wakeTimer, this.#wakeTimeout);
    this.#pullAll();
    this.#sendIfNoneIsUnderWay();
  };

  /** @param {unknown} data */
  #onMessage(data) {
    this.#onWord();

    const message = parseObject(data);
    if (typeof message?.expiring === 'number' && !this.#tokenIsFixed) void this.#renew();
    if (isObject(message?.token)) this.#onToken(message.token.expiresIn);
    const pull = message?.pull;
    // What is no answer to a pull is from a newer edge, or about a pull whose number it could not read.
    const taken = typeof pull === 'number' ? this.#take(pull) : undefined;
    if (!message || typeof pull !== 'number' || !taken) return;

    const users = taken.users.length;
    if (isObject(message.online)) {
      const invalid = Array.isArray(message.invalid) ? message.invalid.map(String) : [];
      // Whoever can't be asked for is not offline either.
      const unknown = new Set([...(Array.isArray(message.unknown) ? message.unknown : []), ...invalid]);
      for (const userId of taken.users) this.learn(presenceIn(message.online, userId, unknown), pull);
      this.emit('pull', { pull, phase: 'answered', users, ...(invalid.length > 0 && { invalid }) });
    } else {
      const error = isObject(message.error) ? message.error : {};
      this.emit('pull', {
        pull,
        phase: 'refused',
        users,
        error: { code: String(error.code ?? 'malformed'), message: String(error.message ?? 'not an answer to a pull') },
      });
    }
    this.#sendDue();
  }

  /**
   * @protected
   * @param {Presence} presence `unknown` if they can't be asked for: they stay as they were.
   * @param {number} pull
   */
  learn(presence, pull) {
    const { userId, state } = presence;
    const news = state === 'unknown' ? this.get(userId) : presence;
    if (this.#users.get(userId)?.learn(news, pull)) this.emit('change', news);
  }

  // Staying.

  /** Shows the edge a fresh token. If there is none now, or it is refused, the next attempt follows, until the edge ends
   * the session. */
  async #renew() {
    const attempt = this.#attempt;
    this.#renewTimer.stop();
    try {
      const token = await this.#freshToken();
      if (attempt === this.#attempt) this.#socket?.send(JSON.stringify({ token }));
    } catch (error) {
      if (attempt === this.#attempt) this.#onNoToken(error, () => this.#onRenewal(undefined));
    }
  }

  /**
   * The edge has said something to a token: to that of a renewal, or to the first, which it has accepted then.
   *
   * @param {unknown} expiresIn
   */
  #onToken(expiresIn) {
    const isFirst = this.#state === 'connecting';
    if (isFirst && typeof expiresIn !== 'number') return;
    if (!this.#tokenIsFixed) this.#onRenewal(expiresIn);
    if (isFirst) this.#onOpen();
  }

  /** @param {unknown} expiresIn Seconds; something else if it came to nothing. */
  #onRenewal(expiresIn) {
    if (typeof expiresIn !== 'number') {
      this.#renewFailures += 1;
      this.#renewTimer.start(this.#jitter(this.#renewFailures), () => void this.#renew());
      return;
    }
    this.#renewFailures = 0;
    if (expiresIn > SHORT_TOKEN_S) return;
    this.#renewTimer.start(Math.max(expiresIn * 500, RENEW_GAP_MS), () => void this.#renew());
  }

  // Connecting, and coming back.

  async #open() {
    const attempt = (this.#attempt += 1);
    this.#state = 'connecting';
    // No callback before the constructor has returned: what it calls may want to name the client.
    await undefined;
    if (attempt !== this.#attempt) return;

    this.#connectTimer.start(this.#connectTimeout, () => {
      this.#leaveSocket();
      this.#lost({ error: new Error(`no connection within ${this.#connectTimeout} ms`) });
    });
    this.#enter('connecting', {});

    try {
      const token = await this.#freshToken();
      // Closed, or given up, while the token was under way.
      if (attempt !== this.#attempt) return;
      if (this.#isForMessage(token)) {
        this.#listen(new this.#WebSocket(this.#url, [SUBPROTOCOL, TELL_PINGS]), token);
      } else {
        this.#listen(new this.#WebSocket(this.#url, [SUBPROTOCOL, TELL_PINGS, `bearer.${token}`]));
      }
    } catch (error) {
      if (attempt === this.#attempt) this.#onNoToken(error, () => this.#lost({ error: asError(error) }));
    }
  }

  /**
   * @param {unknown} thrown By the token function, if not by something else.
   * @param {() => void} tryAgain
   */
  #onNoToken(thrown, tryAgain) {
    const error = asError(thrown);
    // By its name, as there may be two copies of this module in one page.
    if (error.name !== 'PresenceUnauthorized') return tryAgain();
    this.#leaveSocket();
    this.#stop({ error });
  }

  /** @param {string} token Its characters are bytes, unless it is none. */
  #isForMessage(token) {
    if (this.#tokenIn === 'auto') return token.length > HANDSHAKE_TOKEN_BYTES_MAX;
    return this.#tokenIn === 'message';
  }

  async #freshToken() {
    const token = await this.#token();
    if (typeof token !== 'string' || token === '') throw new TypeError('the token function gave no token');
    return token;
  }

  /**
   * A random time after so many failures in a row.
   *
   * Full jitter (random from 0, not around a middle): when an edge restarts, all who were on it come back spread as
   * evenly as can be.
   *
   * @param {number} failures
   */
  #jitter(failures) {
    return Math.round(this.#random() * Math.min(this.#backoffCap, this.#backoffBase * 2 ** failures));
  }

  /**
   * @param {Socket} socket
   * @param {string} [token] To be its first message. It is open when the edge has accepted it.
   */
  #listen(socket, token) {
    this.#socket = socket;
    const current = () => this.#socket === socket;
    socket.onopen = () => {
      if (!current()) return;
      if (token === undefined) this.#onOpen();
      else socket.send(JSON.stringify({ token }));
    };
    socket.onmessage = ({ data }) => current() && this.#onMessage(data);
    socket.onclose = ({ code, reason }) => current() && this.#onClose(code, reason);
    // A close follows every error, and says more. Without a listener, the `ws` package would throw it.
    socket.onerror = () => {};
  }

  #onOpen() {
    this.#connectTimer.stop();
    this.#stableTimer.start(this.#stableAfter, () => {
      this.#failures = 0;
    });
    this.#onWord();
    this.#enter('open', {});
    this.#pullAll();
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #onClose(code, reason) {
    if (STAY_AWAY.has(code) || (code === TOKEN_REFUSED && this.#tokenIsFixed)) {
      this.#stop({ code, reason });
    } else {
      // What had died while the page was asleep may be told only after it has woken: that is no failure of the edge.
      this.#lost({ code, reason }, code === ABNORMAL_CLOSURE && this.#wakeTimer.isRunning);
    }
  }

  /**
   * The connection is gone, or did not come about: try again after a wait, and no sooner than the edge says.
   *
   * @param {Omit<ConnectionInfo, 'state'>} cause
   * @param {boolean} [atOnce] Without a wait.
   */
  #lost(cause, atOnce = false) {
    const lost = this.#reset();
    const slowDown = SLOW_DOWN.has(cause.code ?? 0);
    const toldMs = toldToWaitMs(cause.reason);
    this.#mustWait = slowDown || toldMs > 0;
    const retryInMs = atOnce ? 0 : toldMs + this.#jitter(slowDown ? Infinity : this.#failures);
    this.#failures += 1;
    this.#connectTimer.start(retryInMs, () => void this.#open());
    this.#enter('waiting', { ...cause, retryInMs });
    for (const info of lost) this.emit('pull', info);
  }

  /** @param {Omit<ConnectionInfo, 'state'>} cause */
  #stop(cause) {
    const lost = this.#reset();
    this.#forWakes('removeEventListener');
    this.#enter('closed', cause);
    for (const info of lost) this.emit('pull', info);
  }

  /**
   * Ends what belongs to one connection: its timers, its pulls, its socket's events.
   *
   * @returns {PullInfo[]} The pulls lost by it, to be told of when all else is done: a callback may call anything here.
   */
  #reset() {
    this.#attempt += 1;
    this.#socket = undefined;
    this.#connectTimer.stop();
    this.#stableTimer.stop();
    this.#pullTimer.stop();
    this.#newTimer.stop();
    this.#silenceTimer.stop();
    this.#wakeTimer.stop();
    this.#quietTimer.stop();
    this.#renewTimer.stop();
    this.#renewFailures = 0;

    const pulls = [...this.#pulls];
    this.#pulls.clear();
    for (const [, { timeout }] of pulls) timeout.stop();
    return pulls.map(([pull, { users }]) => ({ pull, phase: 'lost', users: users.length }));
  }

  /** Closes the socket without waiting for the other end to agree: it may be gone. */
  #leaveSocket() {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close(NORMAL_CLOSURE);
  }

  /**
   * @param {ConnectionState} state
   * @param {Omit<ConnectionInfo, 'state'>} info
   */
  #enter(state, info) {
    this.#state = state;
    this.emit('state', { state, ...info });
  }

  /**
   * @protected
   * @template {keyof PresenceEvents} Name
   * @param {Name} name
   * @param {PresenceEvents[Name]} info
   */
  emit(name, info) {
    call(this.#debug, name, info);
    for (const listener of [...this.#listeners[name]]) call(listener, info);
  }
}

/** One user, and who wants to know about them. */
class User {
  /** @type {Presence | undefined} What is known; replaced when it changes, and only then. */
  presence;
  /** When nobody has wanted to know for a while. */
  forgetTimer = new Timer();
  /** The newest pull that said so. What an older one says, coming late, is no news. */
  #answeredBy = 0;
  /** @type {Set<{callback: (presence: Presence) => void, told: Presence | undefined}>} */
  #watchers = new Set();

  get isIdle() {
    return this.#watchers.size === 0;
  }

  /**
   * @param {(presence: Presence) => void} callback
   * @returns {() => boolean} Takes it away again, and says whether it was there.
   */
  add(callback) {
    const watcher = { callback, told: undefined };
    this.#watchers.add(watcher);
    if (this.presence) queueMicrotask(() => this.#tell(watcher));
    return () => this.#watchers.delete(watcher);
  }

  /**
   * @param {Presence} presence
   * @param {number} pull
   * @returns {boolean} Whether it changes what was known. To hear for the first time that nothing can be known does not.
   */
  learn(presence, pull) {
    if (pull < this.#answeredBy) return false;
    this.#answeredBy = pull;

    const before = this.presence;
    if (before?.state === presence.state) return false;
    this.presence = Object.freeze(presence);
    for (const watcher of [...this.#watchers]) this.#tell(watcher);
    return presence.state !== 'unknown';
  }

  /** @param {{callback: (presence: Presence) => void, told: Presence | undefined}} watcher */
  #tell(watcher) {
    if (!this.presence || watcher.told === this.presence || !this.#watchers.has(watcher)) return;
    watcher.told = this.presence;
    call(watcher.callback, this.presence);
  }
}

/** A timeout that knows whether it is running. */
class Timer {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #handle;

  get isRunning() {
    return this.#handle !== undefined;
  }

  /**
   * Once, in `ms` milliseconds; what ran before is stopped.
   *
   * @param {number} ms
   * @param {() => void} fire
   * @param {boolean} [isAwaited] Whether Node must not end before.
   */
  start(ms, fire, isAwaited = true) {
    clearTimeout(this.#handle);
    this.#handle = setTimeout(() => {
      this.#handle = undefined;
      fire();
    }, ms);
    // In a page it is a number.
    if (!isAwaited) Object(this.#handle).unref?.();
  }

  stop() {
    clearTimeout(this.#handle);
    this.#handle = undefined;
  }
}

/**
 * Calls what the application gave. An error in there is reported and is not ours: the other callbacks are still due.
 *
 * @template {unknown[]} T
 * @param {(...what: T) => void} callback
 * @param {T} what
 */
function call(callback, ...what) {
  try {
    callback(...what);
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else console.error(error);
  }
}

/**
 * @param {string | URL} url
 * @returns {string}
 */
function socketUrl(url) {
  const { href } = new URL(url, globalThis.location?.href);
  // React Native's URL can't be changed, and adds a slash to each that is absolute.
  const absolute = (/^\w+:/.test(String(url)) ? String(url) : href).replace(/^http/i, 'ws');
  if (!/^wss?:/i.test(absolute)) throw new TypeError(`not a WebSocket address: ${absolute}`);
  // WebSocket refuses an address with a fragment.
  return absolute.replace(/#.*/, '');
}

/**
 * How long the edge says to stay away at least, by the reason of its close: 0 if it does not say.
 *
 * @param {string | undefined} reason
 * @returns {number}
 */
function toldToWaitMs(reason = '') {
  const seconds = RETRY.exec(reason)?.[1];
  return Math.min(Number(seconds ?? 0) * 1_000, RETRY_MS_MAX);
}

/**
 * Why no user can have this id, by the edge's own rule; `undefined` if one can.
 *
 * @param {unknown} userId
 * @returns {string | undefined}
 */
export function userIdProblem(userId) {
  if (typeof userId !== 'string' || userId === '') return 'a user id is a string that is not empty';
  if (NOT_IN_USER_ID.test(userId)) return 'a user id has no white space and no control character';
  if (bytesOf(userId) > USER_ID_BYTES_MAX) return `a user id has at most ${USER_ID_BYTES_MAX} bytes`;
  return undefined;
}

/**
 * How long it is in UTF-8. Not by `TextEncoder`, which older React Natives have not.
 *
 * @param {string} text Without halves of surrogate pairs.
 */
function bytesOf(text) {
  return encodeURIComponent(text).replace(/%../g, '.').length;
}

/**
 * What an answer says of a user.
 *
 * @param {Record<string, unknown>} online
 * @param {string} userId
 * @param {Set<unknown>} unknown
 * @returns {Presence}
 */
function presenceIn(online, userId, unknown) {
  if (!Object.hasOwn(online, userId)) return { userId, state: unknown.has(userId) ? 'unknown' : 'offline' };
  const entry = online[userId];
  const since = isObject(entry) && Number.isFinite(entry.connectedAt) && { connectedAt: Number(entry.connectedAt) };
  return { userId, state: 'online', ...since };
}

/**
 * @param {string} name
 * @param {number | undefined} value
 * @param {number} byDefault
 * @returns {number}
 */
function milliseconds(name, value, byDefault) {
  const ms = value ?? byDefault;
  // A longer timer would fire at once: setTimeout counts in 31 bits.
  if (!(ms > 0 && ms < 2 ** 31)) throw new RangeError(`${name} must be more than 0 and less than 2^31 milliseconds`);
  return ms;
}

/**
 * @param {unknown} data
 * @returns {Record<string, unknown> | undefined}
 */
function parseObject(data) {
  if (typeof data !== 'string') return undefined;
  try {
    const value = JSON.parse(data);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * @param {unknown} error
 * @returns {Error}
 */
function asError(error) {
  return error instanceof Error ? error : new Error(String(error));
}
