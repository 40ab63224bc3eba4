// What the unit tests of shared connections put in place of a browser with several tabs: Web Locks, and a channel that
// all tabs hear. A tab can be frozen, and it can be killed.

/** A browser. Its tabs share what it has. */
export class Browser {
  /** @type {Map<string, {held: LockRequest | undefined, waiting: LockRequest[]}>} */
  locks = new Map();
  /** @type {Set<ScriptedChannel>} */
  channels = new Set();
  /** @type {unknown[]} What was thrown in a tab and caught by nobody. */
  errors = [];

  /** Makes a tab the one in which clients are made from now on. */
  newTab() {
    const tab = new Tab(this);
    Object.defineProperty(globalThis, 'navigator', { value: { locks: tab.locks }, configurable: true });
    globalThis.BroadcastChannel = class extends ScriptedChannel {
      /** @param {string} name */
      constructor(name) {
        super(tab, name);
      }
    };
    return tab;
  }

  /** How many locks are held, and how many requests wait. */
  get lockCounts() {
    const all = [...this.locks.values()];
    return [all.filter(({ held }) => held).length, all.reduce((sum, { waiting }) => sum + waiting.length, 0)];
  }
}

class Tab {
  /** @type {(() => void)[] | undefined} What it missed; only while it is frozen. */
  #missed;
  isDead = false;

  /** @param {Browser} browser */
  constructor(browser) {
    this.browser = browser;
    this.locks = { request: (name, options, callback) => new LockRequest(this, name, options, callback).promise };
  }

  /** Does this in the tab, soon, or when it wakes, or never. */
  run(what) {
    queueMicrotask(() => {
      if (this.isDead) return;
      if (this.#missed) this.#missed.push(what);
      else this.#do(what);
    });
  }

  #do(what) {
    try {
      what();
    } catch (error) {
      this.browser.errors.push(error);
    }
  }

  freeze() {
    this.#missed = [];
  }

  wake() {
    const missed = this.#missed ?? [];
    this.#missed = undefined;
    for (const what of missed) this.#do(what);
  }

  /** Without a word. */
  kill() {
    this.isDead = true;
    for (const channel of this.browser.channels) if (channel.tab === this) channel.close();
    for (const { held, waiting } of this.browser.locks.values()) {
      for (const request of [...waiting, held]) if (request?.tab === this) request.release();
    }
  }
}

class LockRequest {
  constructor(tab, name, { steal = false, signal } = {}, callback) {
    Object.assign(this, { tab, name, callback });
    this.lock = tab.browser.locks.get(name) ?? { held: undefined, waiting: [] };
    tab.browser.locks.set(name, this.lock);
    this.promise = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    if (steal && signal) throw new Error('steal and signal cannot be used together');

    // What is left of it in the test asks for nothing any more.
    if (tab.isDead) return;
    signal?.addEventListener('abort', () => {
      if (!this.lock.waiting.includes(this)) return;
      this.release();
      this.reject(signal.reason);
    });
    if (steal) {
      const { held } = this.lock;
      this.lock.held = undefined;
      held?.tab.run(() => held.reject(new DOMException('stolen', 'AbortError')));
      this.lock.waiting.unshift(this);
    } else {
      this.lock.waiting.push(this);
    }
    this.#grant();
  }

  #grant() {
    if (this.lock.held) return;
    const next = this.lock.waiting.shift();
    this.lock.held = next;
    next?.tab.run(() => {
      new Promise((resolve) => resolve(next.callback({ name: next.name }))).then(next.resolve, next.reject);
      next.promise.then(() => next.release(), () => next.release());
    });
  }

  release() {
    this.lock.waiting = this.lock.waiting.filter((request) => request !== this);
    if (this.lock.held !== this) return;
    this.lock.held = undefined;
    this.#grant();
  }
}

class ScriptedChannel {
  /** @type {((event: {data: unknown}) => void) | undefined} */
  onmessage;

  /**
   * @param {Tab} tab
   * @param {string} name
   */
  constructor(tab, name) {
    Object.assign(this, { tab, name });
    tab.browser.channels.add(this);
  }

  /** @param {unknown} message */
  postMessage(message) {
    if (this.tab.isDead) return;
    if (!this.tab.browser.channels.has(this)) throw new DOMException('closed', 'InvalidStateError');
    const text = structuredClone(message);
    for (const other of this.tab.browser.channels) {
      if (other === this || other.name !== this.name) continue;
      other.tab.run(() => this.tab.browser.channels.has(other) && other.onmessage?.({ data: structuredClone(text) }));
    }
  }

  close() {
    this.tab.browser.channels.delete(this);
  }
}
