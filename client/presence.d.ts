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
export type PresenceState = 'online' | 'offline' | 'unknown';
export type Presence = {
    userId: string;
    state: PresenceState;
    /**
     * Since when, in Unix milliseconds. Only of those who are online.
     */
    connectedAt?: number;
};
export type ConnectionState = 'connecting' | 'open' | 'waiting' | 'closed';
export type ConnectionInfo = {
    state: ConnectionState;
    /**
     * The WebSocket close code that led here. A handshake that the edge refuses opens and is
     * closed at once with a code that says why; one that never got there is 1006.
     */
    code?: number;
    /**
     * The reason that came with the close code.
     */
    reason?: string;
    /**
     * What went wrong on this side: the token function, a timeout, a malformed address.
     */
    error?: Error;
    /**
     * Until the next attempt. Only while `waiting`.
     */
    retryInMs?: number;
};
export type PullInfo = {
    /**
     * Its number.
     */
    pull: number;
    phase: 'sent' | 'answered' | 'refused' | 'lost';
    /**
     * How many it asked for.
     */
    users: number;
    /**
     * Only when `refused`.
     */
    error?: {
        code: string;
        message: string;
    };
    /**
     * Those of them that are no ids to the edge: they stay `unknown`. Only when `answered`.
     */
    invalid?: string[];
};
export type PresenceEvents = {
    state: ConnectionInfo;
    change: Presence;
    pull: PullInfo;
};
export type TokenIn = 'auto' | 'handshake' | 'message';
export type Socket = {
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send: (text: string) => void;
    close: (code?: number) => void;
};
export type SocketClass = new (url: string, protocols: string[]) => Socket;
export type PresenceOptions = {
    /**
     * Where the edge is, such as `wss://edge.example/ws`. `http:` and `https:` are taken for
     * `ws:` and `wss:`; in a page it may be relative.
     */
    url: string | URL;
    /**
     * A JWT, or a function that fetches one. The function is
     * called before every attempt, so that each has a fresh one, and before a token ends, so that the connection outlives
     * it. If a token is refused (4401), or the function fails, it is called again after a wait that grows, until it throws
     * `PresenceUnauthorized`. With a string, a token that is refused or has ended ends in `closed`.
     */
    token: string | (() => string | Promise<string>);
    /**
     * How the edge is shown the token of an attempt. Default `auto`.
     */
    tokenIn?: TokenIn;
    /**
     * Milliseconds between pulls. Default 10,000.
     */
    pullInterval?: number;
    /**
     * Milliseconds after which a pull counts as lost. Default 5,000.
     */
    pullTimeout?: number;
    /**
     * Milliseconds after a pull in which nothing at all has come back: the connection is
     * taken for dead and made anew, at once if it had lasted. Default 10,000.
     */
    silenceTimeout?: number;
    /**
     * The same, when the page is seen again (`visibilitychange`, `pageshow`, `resume`) or
     * the network is back (`online`). Default 3,000.
     */
    wakeTimeout?: number;
    /**
     * After about so many milliseconds in which nothing came, an empty pull asks whether the
     * connection lives: in the last tenth of this time, at random, so that clients spread. Default 30,000: an edge that
     * pings every 25 s sends a message with each ping, and is asked only when it may be gone.
     */
    keepAlive?: number;
    /**
     * Milliseconds for one attempt, from asking for the token until it is `open`.
     * Default 15,000.
     */
    connectTimeout?: number;
    /**
     * After n failures in a row, the wait is random between 0 and `backoffBase` × 2ⁿ
     * milliseconds (n from 0). Default 500.
     */
    backoffBase?: number;
    /**
     * And never more than this, in milliseconds. Default 30,000.
     */
    backoffCap?: number;
    /**
     * Milliseconds for which a user whom nobody watches any more is remembered: a list that
     * is rendered anew knows at once what it knew. Default 5,000.
     */
    forgetAfter?: number;
    /**
     * Milliseconds after which a connection that lives sets n back to 0. Default 10,000.
     */
    stableAfter?: number;
    /**
     * Connect without being told to. Default true.
     */
    autoConnect?: boolean;
    /**
     * Told of every event, listened to or not, and of
     * what causes it. `true` is `console.debug`. No token is ever in there.
     */
    debug?: boolean | ((what: string, info: unknown) => void);
    /**
     * Instead of the global one: for a Node that has none, and for tests.
     */
    WebSocket?: SocketClass;
    /**
     * Instead of `Math.random`, for tests.
     */
    random?: () => number;
};
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
export declare class PresenceUnauthorized extends Error {
    name: string;
}
export declare class PresenceClient {
    #private;
    /** @param {PresenceOptions} options */
    constructor(options: PresenceOptions);
    /** @returns {ConnectionState} */
    get state(): ConnectionState;
    /** Connects, and stays connected until `close()`. Does nothing unless `closed`. */
    connect(): void;
    /** Connects anew and at once, whatever it was doing or waiting for: the user has signed in again, say. */
    reconnect(): void;
    /** Goes offline for good, or until `connect()`. Who is watched stays watched, and as they were. */
    close(): void;
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
    watch(userId: string, callback: (presence: Presence) => void): () => void;
    /**
     * What is known of this user now: `unknown`, unless they are watched, or were a moment ago. The same object as the
     * last time, if nothing has changed. It never throws.
     *
     * @param {string} userId
     * @returns {Presence}
     */
    get(userId: string): Presence;
    /**
     * Says whether the user sees this, where the page can't (React Native: by `AppState`). As long as they don't, nobody is
     * asked for, as on a hidden page.
     *
     * @param {boolean} isVisible
     */
    setVisible(isVisible: boolean): void;
    /**
     * Listens to one kind of event. What the constructor begins is heard, too, if this is called right after it.
     *
     * @template {keyof PresenceEvents} Name
     * @param {Name} name
     * @param {(info: PresenceEvents[Name]) => void} listener
     * @returns {() => void} Ends it. May be called twice.
     */
    on<Name extends keyof PresenceEvents>(name: Name, listener: (info: PresenceEvents[Name]) => void): () => void;
    /**
     * Of several pages that share one connection, another may be seen.
     *
     * @protected
     * @returns {boolean}
     */
    protected isPageHidden(): boolean;
    /**
     * Who is to be asked for.
     *
     * @protected
     * @returns {string[]}
     */
    protected watched(): string[];
    /**
     * @protected
     * @param {Presence} presence `unknown` if they can't be asked for: they stay as they were.
     * @param {number} pull
     */
    protected learn(presence: Presence, pull: number): void;
    /**
     * @protected
     * @template {keyof PresenceEvents} Name
     * @param {Name} name
     * @param {PresenceEvents[Name]} info
     */
    protected emit<Name extends keyof PresenceEvents>(name: Name, info: PresenceEvents[Name]): void;
}
/**
 * Why no user can have this id, by the edge's own rule; `undefined` if one can.
 *
 * @param {unknown} userId
 * @returns {string | undefined}
 */
export declare function userIdProblem(userId: unknown): string | undefined;
