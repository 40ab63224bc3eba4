// Who has left, and when that will show. The tabs tell each other; the edge would not, as it only ever answers pulls.

import { latest, onFigures, whatIsDown } from './figures.js';
import { listed } from './news.js';
import { announce, duration, eachSecond, fromTemplate, part, text } from './page.js';

/** @typedef {import('/client/presence.js').PresenceClient} PresenceClient */

/**
 * `left`: these users have lost a session. `here`: they have another one, says the tab that has it. `back`: they have
 * a new one.
 *
 * @typedef {{kind: 'left' | 'here' | 'back', users: string[], how?: string, at?: number}} Message
 */

/**
 * @typedef {object} Leaver
 * @property {Set<string>} users
 * @property {Set<string>} online Those of them whose entry has not expired yet.
 * @property {string} how
 * @property {number} at
 * @property {HTMLElement} item
 * @property {(() => void)[]} unwatch
 * @property {string} [end] What became of it.
 */

/** memcached counts whole seconds, so an entry may live for so much longer. */
const ROUNDING_MS = 1_000;

/** What became of somebody stays on the page for so long. */
const END_SHOWN_MS = 8_000;

export class Leaving {
  #channel = new BroadcastChannel('presenced demo');
  #list = text('leaving');
  #client;
  #isHere;
  #pullMs;
  /** @type {Set<Leaver>} */
  #leavers = new Set();
  /** When an answer may last have been one that leaves users as they were. */
  #unsureAt = 0;

  /**
   * @param {PresenceClient} client
   * @param {(name: string) => boolean} isHere Whether this tab has a session of this user.
   * @param {number} pullMs
   */
  constructor(client, isHere, pullMs) {
    this.#client = client;
    this.#isHere = isHere;
    this.#pullMs = pullMs;
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    const unsure = () => {
      this.#unsureAt = Date.now();
    };
    client.on('state', ({ state }) => state === 'open' && unsure());
    onFigures((figures) => whatIsDown(figures) !== undefined && unsure());
    eachSecond(() => this.#showAll());
  }

  /**
   * Users of this tab have no session in it any more.
   *
   * @param {string[]} users
   * @param {string} how
   */
  left(users, how) {
    if (users.length > 0) this.#say({ kind: 'left', users, how, at: Date.now() });
  }

  /**
   * The same, and this page stays to see what follows.
   *
   * @param {string[]} users
   * @param {string} how
   */
  leftAndSeen(users, how) {
    if (users.length === 0) return;
    this.left(users, how);
    this.#add(users, how, Date.now());
  }

  /** @param {string[]} users */
  back(users) {
    if (users.length === 0) return;
    this.#say({ kind: 'back', users });
    this.#settle(users, 'back, with a new session.');
  }

  /** @param {Message} message */
  #say(message) {
    this.#channel.postMessage(message);
  }

  /** @param {Message} message */
  #hear({ kind, users, how = 'left', at = Date.now() }) {
    if (kind === 'left') {
      this.#add(users, how, at);
      const here = users.filter((name) => this.#isHere(name));
      if (here.length === 0) return;
      this.#say({ kind: 'here', users: here });
      this.#settle(here, 'still online in this tab.');
    } else if (kind === 'here') {
      this.#settle(users, 'still online in another tab.');
    } else {
      this.#settle(users, 'back, with a new session.');
    }
  }

  /**
   * @param {string[]} users
   * @param {string} how
   * @param {number} at
   */
  #add(users, how, at) {
    this.#settle(users, '');
    /** @type {Leaver} */
    const leaver = { users: new Set(users), online: new Set(users), how, at, item: fromTemplate('leaver'), unwatch: [] };
    this.#leavers.add(leaver);
    this.#list.append(leaver.item);
    for (const name of users) {
      let wasOnline = false;
      const end = this.#client.watch(name, ({ state }) => {
        // What was known before may be from before they came.
        if (state === 'offline' && wasOnline) this.#expired(leaver, name);
        wasOnline ||= state === 'online';
      });
      leaver.unwatch.push(end);
    }
    this.#show(leaver);
    announce(`${listed(users)} ${how}. ${this.#promise(leaver)}`);
  }

  /**
   * @param {Leaver} leaver
   * @param {string} name
   */
  #expired(leaver, name) {
    if (!leaver.online.delete(name) || leaver.end !== undefined) return;
    const after = Math.max(0, Date.now() - leaver.at) / 1_000;
    if (leaver.online.size > 0) this.#show(leaver);
    else this.#end(leaver, `Now offline, ${after.toFixed(0)} s after leaving.`);
  }

  /**
   * These are no longer waited for.
   *
   * @param {string[]} users
   * @param {string} why Empty if the reader need not be told.
   */
  #settle(users, why) {
    for (const leaver of this.#leavers) {
      const settled = users.filter((name) => leaver.users.has(name));
      if (settled.length === 0 || leaver.end !== undefined) continue;
      for (const name of settled) {
        leaver.users.delete(name);
        leaver.online.delete(name);
      }
      if (leaver.users.size > 0) this.#show(leaver);
      else if (why) this.#end(leaver, why, settled);
      else this.#remove(leaver);
    }
  }

  /**
   * @param {Leaver} leaver
   * @param {string} end
   * @param {string[]} [users]
   */
  #end(leaver, end, users = [...leaver.users]) {
    leaver.end = `${listed(users)} ${leaver.how}. ${end[0]?.toUpperCase()}${end.slice(1)}`;
    this.#show(leaver);
    setTimeout(() => this.#remove(leaver), END_SHOWN_MS);
  }

  /** @param {Leaver} leaver */
  #remove(leaver) {
    for (const end of leaver.unwatch) end();
    leaver.item.remove();
    this.#leavers.delete(leaver);
    this.#list.hidden = this.#leavers.size === 0;
  }

  #showAll() {
    for (const leaver of this.#leavers) this.#show(leaver);
  }

  /** @param {Leaver} leaver */
  #show(leaver) {
    this.#list.hidden = false;
    const sentence = part(leaver.item, 'p');
    const bar = /** @type {HTMLProgressElement} */ (part(leaver.item, 'progress'));
    const ttlMs = latest()?.ttlMs;
    bar.hidden = leaver.end !== undefined || ttlMs === undefined;
    if (leaver.end !== undefined) {
      sentence.textContent = leaver.end;
      return;
    }
    const longestMs = (ttlMs ?? 0) + ROUNDING_MS;
    const leftMs = leaver.at + longestMs - Date.now();
    bar.value = Math.max(0, leftMs / longestMs);
    if (ttlMs !== undefined && this.#client.state === 'open' && Date.now() > this.#sureAt(leaver)) {
      const online = [...leaver.online].filter((name) => this.#client.get(name).state === 'online');
      if (online.length === 0) this.#end(leaver, 'offline by now.');
      else this.#end(leaver, 'still online, through a session that this browser does not know about.', online);
      return;
    }
    const gone = leaver.users.size - leaver.online.size;
    const some = gone > 0 ? ` ${gone} of them ${gone === 1 ? 'is' : 'are'} offline by now.` : '';
    sentence.textContent = `${listed([...leaver.users])} ${leaver.how}. ${this.#promise(leaver)}${some}`;
  }

  /**
   * When the last pull that can still change something is over, even if it was late. A memcached that was down may have
   * lost entries: only a TTL and a flush after its return the edge says again who is offline.
   *
   * @param {Leaver} leaver
   */
  #sureAt({ at }) {
    const { ttlMs = 0, flushIntervalMs = 0 } = latest() ?? {};
    const answeredFor = Math.max(at + ttlMs, this.#unsureAt + ttlMs + flushIntervalMs);
    return answeredFor + 2 * ROUNDING_MS + 2 * this.#pullMs;
  }

  /**
   * What is pending of a user who has left is not written, so the TTL of what is written already is the longest.
   *
   * @param {Leaver} leaver
   */
  #promise({ users, at }) {
    const entry = users.size === 1 ? 'the entry expires' : 'the entries expire';
    const ttlMs = latest()?.ttlMs;
    if (ttlMs === undefined) return `Nothing was written; ${entry} within the server’s TTL.`;
    const seconds = Math.ceil((at + ttlMs + ROUNDING_MS - Date.now()) / 1_000);
    if (seconds <= 0 && whatIsDown(latest())) return `Nothing was written; ${entry} now, but memcached can’t be asked.`;
    if (seconds <= 0) return `Nothing was written; ${entry} now, and the next pull shows it.`;
    return `Nothing was written; ${entry} in at most ${duration(seconds)}.`;
  }
}
