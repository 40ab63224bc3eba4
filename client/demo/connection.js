// What the page says of its own connection.

import { onFigures, whatIsDown } from './figures.js';
import { announce, element, text } from './page.js';

/** @typedef {import('/client/presence.js').ConnectionInfo} ConnectionInfo */
/** @typedef {import('/client/presence.js').PresenceClient} PresenceClient */

export class Connection {
  #pill = text('pill-text');
  #alert = text('alert');
  #note = text('as-they-were');
  #toggle = element('toggle', HTMLButtonElement);
  /** @type {ConnectionInfo['state']} */
  #state = 'closed';
  /** The address of a memcached that does not answer. @type {string | undefined} */
  #down;
  #retryAt = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #countdown;

  constructor() {
    onFigures((figures) => {
      const down = whatIsDown(figures);
      if (down === this.#down) return;
      this.#down = down;
      this.#showNote();
      announce(down === undefined ? 'memcached answers again' : `memcached at ${down} does not answer`);
    });
  }

  /**
   * @param {PresenceClient} client
   * @param {() => void} onLeave The user has asked for it.
   */
  toggles(client, onLeave) {
    this.#toggle.addEventListener('click', () => {
      if (client.state === 'closed') {
        client.connect();
        return;
      }
      client.close();
      onLeave();
    });
  }

  /** @param {ConnectionInfo} info */
  show({ state, code, error, retryInMs }) {
    document.body.dataset.connection = state;
    this.#state = state;
    this.#toggle.textContent = state === 'closed' ? 'Connect' : 'Disconnect';
    clearInterval(this.#countdown);

    if (state === 'waiting') {
      this.#retryAt = performance.now() + (retryInMs ?? 0);
      this.#countdown = setInterval(() => this.#showWait(), 1_000);
      this.#showWait();
      announce('The connection is lost. The page tries again by itself.');
    } else {
      this.#pill.textContent = { connecting: 'connecting', open: 'connected', closed: 'not connected' }[state];
      if (state !== 'connecting') announce(state === 'open' ? 'Connected' : 'Not connected');
    }
    // What went wrong stays on the page until it has gone right.
    if (state === 'open') this.#alert.hidden = true;
    const trouble = error?.message ?? whatCodeMeans(code);
    if (trouble) {
      this.#alert.textContent = state === 'closed' ? `${trouble} The page does not try again by itself.` : trouble;
      this.#alert.hidden = false;
    }
    this.#showNote();
  }

  /** Why people may be others than those who are shown. */
  #showNote() {
    const note = {
      closed: 'Not connected. Others see you go offline when your entry expires, and people here are shown as they were.',
      connecting: 'Not connected right now. People are shown as they were.',
      waiting: 'Not connected right now. People are shown as they were.',
      open: this.#down === undefined ? '' : `memcached at ${this.#down} does not answer. People are shown as they were.`,
    }[this.#state];
    this.#note.textContent = note;
    this.#note.hidden = note === '';
  }

  #showWait() {
    const seconds = Math.max(0, Math.ceil((this.#retryAt - performance.now()) / 1_000));
    this.#pill.textContent = `not connected, next try in ${seconds} s`;
  }
}

/** @param {number | undefined} code */
function whatCodeMeans(code) {
  switch (code) {
    case undefined:
    case 1000:
      return '';
    case 1006:
      return 'The connection was lost, or the handshake was refused.';
    case 1012:
      return 'The edge restarts.';
    case 4401:
      return 'The token was refused or has expired. The page fetches another one.';
    case 4403:
      return 'This user may not connect.';
    case 4409:
      return 'You are connected too many times, and this was the oldest session.';
    default:
      return `The edge closed the connection with code ${code}.`;
  }
}
