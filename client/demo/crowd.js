// Twenty visitors who come at once: as many sessions of this tab, each with a token and a WebSocket of its own.

import { PresenceClient } from '/client/presence.js';

import { CONTACTS, TEAM } from './names.js';
import { element, user } from './page.js';
import { fetchToken } from './token.js';

const SIZE = 20;

/** The others are contacts, whom one sees by scrolling. */
const OF_TEAM_MAX = 8;

/** They don't all come in the same moment: one sees them come. */
const GAP_MS = 80;

export class Crowd {
  #button = element('crowd', HTMLButtonElement);
  #isOnline;
  #onCome;
  #onLeave;
  /** @type {Map<string, PresenceClient>} */
  #clients = new Map();

  /**
   * @param {(name: string) => boolean} isOnline Who is there already does not come.
   * @param {(users: string[]) => void} onCome
   * @param {(users: string[]) => void} onLeave
   */
  constructor(isOnline, onCome, onLeave) {
    this.#isOnline = isOnline;
    this.#onCome = onCome;
    this.#onLeave = onLeave;
    this.#button.addEventListener('click', () => {
      if (this.#clients.size === 0) this.#come();
      else this.#leave();
      const { size } = this.#clients;
      this.#button.textContent = size === 0 ? `Simulate ${SIZE} visitors` : `Disconnect the ${size} visitors`;
    });
  }

  /** Who of them has a session now. */
  get users() {
    return [...this.#clients].filter(([, client]) => client.state === 'open').map(([name]) => name);
  }

  #come() {
    const absent = (/** @type {string} */ name) => name !== user && !this.#isOnline(name);
    const names = [...TEAM.filter(absent).slice(0, OF_TEAM_MAX), ...CONTACTS.filter(absent)].slice(0, SIZE);
    for (const [place, name] of names.entries()) {
      const token = async () => (await fetchToken(name)).token;
      const client = new PresenceClient({ url: '/ws', token, autoConnect: false });
      client.on('state', ({ state }) => state === 'open' && this.#onCome([name]));
      this.#clients.set(name, client);
      setTimeout(() => {
        // They may have been sent away meanwhile.
        if (this.#clients.get(name) === client) client.connect();
      }, place * GAP_MS);
    }
  }

  #leave() {
    const users = this.users;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
    this.#onLeave(users);
  }
}
