// What the unit tests put in place of the network and the page: a WebSocket that does what the test says, a document
// that can be hidden, a random generator with a seed.

import { setImmediate as nextTurn } from 'node:timers/promises';

/** Lets every promise that can be settled be settled. */
export const settle = async () => {
  await nextTurn();
  await nextTurn();
};

/** The sockets made so far, the latest last. */
export class Sockets {
  /** @type {ScriptedSocket[]} */
  all = [];

  constructor() {
    const sockets = this;
    this.WebSocket = class extends ScriptedSocket {
      /**
       * @param {string} url
       * @param {string[]} protocols
       */
      constructor(url, protocols) {
        super(url, protocols);
        sockets.all.push(this);
      }
    };
  }

  get last() {
    const last = this.all.at(-1);
    if (!last) throw new Error('no socket was opened');
    return last;
  }

  /** All pulls that were ever sent, in order. */
  get pulls() {
    return this.all.flatMap((socket) => socket.pulls);
  }
}

export class ScriptedSocket {
  /** @type {{pull: number, users: string[]}[]} Those that ask for somebody. */
  pulls = [];
  /** @type {number[]} The numbers of those that ask for nobody. They are answered, unless the connection is dead. */
  probes = [];
  /** Whether what is sent gets nowhere. */
  isDead = false;
  /** @type {string[]} Tokens that it was shown after the handshake. */
  tokens = [];
  /** @type {'connecting' | 'open' | 'closed'} */
  state = 'connecting';
  /** @type {((event: object) => void) | undefined} */
  onopen;
  /** @type {((event: {data: unknown}) => void) | undefined} */
  onmessage;
  /** @type {((event: {code: number, reason: string}) => void) | undefined} */
  onclose;

  /**
   * @param {string} url
   * @param {string[]} protocols
   */
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  // What the client calls.

  /** @param {string} text */
  send(text) {
    if (this.state !== 'open') throw new Error(`send on a socket that is ${this.state}`);
    const message = JSON.parse(text);
    if ('token' in message) this.tokens.push(message.token);
    else if (message.users.length > 0) this.pulls.push(message);
    else this.#probe(message.pull);
  }

  /** @param {number} pull */
  #probe(pull) {
    this.probes.push(pull);
    queueMicrotask(() => this.isDead || this.state !== 'open' || this.answer({}, { pull }));
  }

  /** @param {number} code */
  close(code) {
    this.closedWith = code;
    this.state = 'closed';
  }

  // What the edge does.

  open() {
    this.state = 'open';
    this.onopen?.({});
  }

  /**
   * Answers a pull, by default the last: these are online, these can't be known, all others are offline.
   *
   * @param {Record<string, number | undefined>} online User and `connectedAt`.
   * @param {{unknown?: string[], pull?: number}} [more]
   */
  answer(online, { unknown, pull } = {}) {
    const entries = Object.entries(online).map(([user, connectedAt]) => [user, { connectedAt }]);
    this.say({ pull: pull ?? this.pulls.at(-1)?.pull, online: Object.fromEntries(entries), unknown });
  }

  /** @param {unknown} message */
  say(message) {
    this.onmessage?.({ data: typeof message === 'string' ? message : JSON.stringify(message) });
  }

  /**
   * @param {number} code
   * @param {string} [reason]
   */
  drop(code, reason = '') {
    this.state = 'closed';
    this.onclose?.({ code, reason });
  }
}

/** As much of a document as the client looks at. */
export class Page extends EventTarget {
  visibilityState = 'visible';

  /** @param {'visible' | 'hidden'} state */
  turn(state) {
    this.visibilityState = state;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}

/**
 * Numbers from 0 to 1 that are the same in every run: a counter (steps of 2^32 over the golden ratio) whose bits are
 * mixed by MurmurHash3's finaliser.
 *
 * @param {number} seed
 */
export function seeded(seed) {
  let counter = seed;
  return () => {
    counter = (counter + 0x9e3779b9) | 0;
    let bits = Math.imul(counter ^ (counter >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
  };
}
