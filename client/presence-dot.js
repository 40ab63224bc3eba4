/**
 * `<presence-dot user="123">`: a dot that shows whether a user is online.
 *
 *     import { PresenceClient } from 'presenced-client';
 *     import { definePresenceDot } from 'presenced-client/element';
 *
 *     definePresenceDot(new PresenceClient({ url: 'wss://edge.example/ws', token: () => fetchToken() }));
 *
 * What it promises:
 *
 * - Only dots on screen are asked for. A dot that scrolls out of view, or leaves the document, is no longer watched.
 * - The state is told by colour, by shape and by a label: a full circle, a ring, a dotted ring.
 * - It sets no attribute on itself and no inline style, so it fits a page whose policy is `style-src 'self'`.
 * - It can be imported where there is no DOM, and then does nothing.
 *
 * For CSS: the part `dot` is also a part named like its state, so `presence-dot::part(online)` styles those online. The
 * custom properties are `--presence-dot-size`, `--presence-dot-online`, `--presence-dot-offline` and
 * `--presence-dot-unknown`.
 *
 * @module
 */

/** @typedef {import('./presence.js').Presence} Presence */
/** @typedef {import('./presence.js').PresenceState} PresenceState */

/**
 * What a dot needs of a client. `PresenceClient` is one, and so is `FakePresenceClient`.
 *
 * @typedef {object} PresenceSource
 * @property {(userId: string, callback: (presence: Presence) => void) => () => void} watch
 */

/**
 * What a screen reader says of a dot, such as `Alice is online`.
 *
 * @typedef {(state: PresenceState, dot: PresenceDot) => string} PresenceLabel
 */

const NAME = 'presence-dot';

// In forced colours only system colours are left as they are, so the shape alone tells the states apart.
const CSS = `
:host {
  display: inline-block;
  width: var(--presence-dot-size, .65em);
  height: var(--presence-dot-size, .65em)
}
:host([hidden]) { display: none }
span {
  --on: #1a7f37;
  --off: #6e7781;
  display: block;
  box-sizing: border-box;
  height: 100%;
  border: max(1.5px, calc(var(--presence-dot-size, .65em) / 5)) solid var(--presence-dot-offline, var(--off));
  border-radius: 50%
}
@media (prefers-color-scheme: dark) { span { --on: #3fb950; --off: #8b949e } }
[part~=online] {
  background: var(--presence-dot-online, var(--on));
  border-color: var(--presence-dot-online, var(--on))
}
[part~=unknown] { border-color: var(--presence-dot-unknown, var(--off)); border-style: dotted }
@media (prefers-reduced-motion: no-preference) { span { transition: background-color .2s, border-color .2s } }
@media (forced-colors: active) { [part~=online] { background: CanvasText } }
`;

/** @type {CSSStyleSheet | undefined} All dots share it. It is made with the first of them. */
let sheet;
/** @type {IntersectionObserver | undefined} All dots share it. */
let observer;
/** @type {Set<PresenceDot>} Those in a document: they follow when the page changes its client or its labels. */
const dots = new Set();

/** @type {PresenceSource | undefined} */
let pageClient;
/** @type {PresenceLabel} */
let labelOf = String;

/** @type {(dot: PresenceDot, isOnScreen: boolean) => void} */
let look;
/** @type {(dot: PresenceDot) => void} */
let follow;

/** @type {typeof HTMLElement} On a server there are no elements to extend. */
const Base = globalThis.HTMLElement ?? class {};

export class PresenceDot extends Base {
  static observedAttributes = ['user'];

  static {
    look = (dot, isOnScreen) => {
      dot.#isOnScreen = isOnScreen;
      dot.#watch();
    };
    follow = (dot) => dot.#restart();
  }

  /** @type {HTMLElement} */
  #dot;
  /** @type {PresenceState} */
  #state = 'unknown';
  #isOnScreen = false;
  /** @type {PresenceSource | undefined} */
  #client;
  /** @type {(() => void) | undefined} */
  #unwatch;

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(CSS);
    }
    root.adoptedStyleSheets = [sheet];
    this.#dot = document.createElement('span');
    this.#dot.setAttribute('role', 'img');
    root.append(this.#dot);
  }

  /** What the dot shows. */
  get state() {
    return this.#state;
  }

  /** Whom it shows: the attribute `user`. */
  get user() {
    return this.getAttribute('user') ?? '';
  }

  set user(userId) {
    // A framework may say so of a user whom it does not know yet.
    if (userId == null) this.removeAttribute('user');
    else this.setAttribute('user', userId);
  }

  /** Who answers: a client of its own, or else that of the page. */
  get client() {
    return this.#client ?? pageClient;
  }

  set client(client) {
    this.#client = client;
    this.#restart();
  }

  connectedCallback() {
    for (const name of /** @type {const} */ (['user', 'client'])) {
      // Set before the element was defined, so that it hides the setter.
      if (!Object.hasOwn(this, name)) continue;
      const value = /** @type {any} */ (this[name]);
      delete this[name];
      this[name] = value;
    }
    // Not in the constructor, where the label can't read the dot's attributes yet.
    this.#show(this.#state);
    dots.add(this);
    observer ??= new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        // It may have left the document since it was seen.
        look(/** @type {PresenceDot} */ (target), isIntersecting && target.isConnected);
      }
    });
    observer.observe(this);
  }

  disconnectedCallback() {
    // Who is only moved, as in a list that is sorted anew, is back by then, and stays watched.
    queueMicrotask(() => {
      if (this.isConnected) return;
      dots.delete(this);
      observer?.unobserve(this);
      look(this, false);
    });
  }

  /**
   * @param {string} _name
   * @param {string | null} before
   * @param {string | null} now
   */
  attributeChangedCallback(_name, before, now) {
    if (now !== before) this.#restart();
  }

  /** The user, the client or the label is another. */
  #restart() {
    this.#show('unknown');
    this.#watch();
  }

  /** Watches if it is to be seen. What it showed before it left the screen, it shows until it is told otherwise. */
  #watch() {
    const { client, user } = this;
    const before = this.#unwatch;
    this.#unwatch =
      this.#isOnScreen && client && user ? client.watch(user, ({ state }) => this.#show(state)) : undefined;
    // Last, so that the client does not forget a user whom it watches on.
    before?.();
  }

  /** @param {PresenceState} state */
  #show(state) {
    this.#state = state;
    this.#dot.setAttribute('part', `dot ${state}`);
    this.#dot.setAttribute('aria-label', labelOf(state, this));
  }
}

/**
 * Defines `<presence-dot>`, with the client that answers for all dots which have no `client` of their own. It may be
 * called again, as when somebody else has signed in: the dots on the page follow.
 *
 * @param {PresenceSource} [client]
 * @param {{label?: PresenceLabel}} [options] `label`: what a screen reader says. By default the state, in English.
 */
export function definePresenceDot(client, { label = String } = {}) {
  if (!globalThis.customElements) return;
  pageClient = client;
  labelOf = label;
  if (customElements.get(NAME) !== PresenceDot) customElements.define(NAME, PresenceDot);
  for (const dot of dots) follow(dot);
}
