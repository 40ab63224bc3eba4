// The contacts. Each row has a <presence-dot>, so only those on screen are asked for; the team is asked for always.

import { userIdProblem } from '/client/presence.js';
import { definePresenceDot } from '/client/presence-dot.js';

import { latest, whatIsDown } from './figures.js';
import { CONTACTS, TEAM } from './names.js';
import { News } from './news.js';
import { address, avatar, clock, duration, eachSecond, element, fromTemplate, parameters, part, text, user } from './page.js';
import { Stack } from './stack.js';

/** @typedef {import('/client/presence.js').Presence} Presence */
/** @typedef {import('/client/presence.js').PresenceClient} PresenceClient */
/** @typedef {{presence: Presence | undefined, item: HTMLElement, unwatch?: () => void}} Person */

/** More who are added than this is no longer a demo. */
const ADDED_MAX = 50;

export class People {
  #client;
  #list = element('people', HTMLUListElement);
  #stack = new Stack();
  #news = new News();
  /** @type {Map<string, Person>} */
  #people = new Map();
  /** @type {Map<string, number>} How many watch whom: the team's list and the dots on screen. */
  #watching = new Map();

  /** @param {PresenceClient} client */
  constructor(client) {
    this.#client = client;
    for (const name of new Set([user, ...TEAM])) this.#addToTeam(name);
    for (const name of parameters.getAll('watch')) {
      try {
        this.#add(name);
      } catch {
        // An address that somebody typed; there is nobody of that name.
      }
    }
    for (const name of CONTACTS) if (!this.#people.has(name)) this.#makePerson(name);
    definePresenceDot({ watch: (name, callback) => this.#watch(name, callback) });
    this.#listenToForm();
    this.#summarize();
    eachSecond(() => this.#showTimes());
  }

  /**
   * Whether the last answer said that they are online.
   *
   * @param {string} name
   */
  isOnline(name) {
    return this.#people.get(name)?.presence?.state === 'online';
  }

  /**
   * Watches, tells the row, and counts.
   *
   * @param {string} name
   * @param {(presence: Presence) => void} [callback]
   */
  #watch(name, callback) {
    this.#count(name, 1);
    const end = this.#client.watch(name, (presence) => {
      callback?.(presence);
      this.#learn(presence);
    });
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      end();
      this.#count(name, -1);
    };
  }

  /**
   * @param {string} name
   * @param {number} more
   */
  #count(name, more) {
    const count = (this.#watching.get(name) ?? 0) + more;
    if (count > 0) this.#watching.set(name, count);
    else this.#watching.delete(name);
    this.#summarize();
  }

  /** @param {string} name Typed by somebody, and then part of the team. */
  #add(name) {
    const problem = userIdProblem(name);
    if (problem) throw new RangeError(problem);
    if (this.#people.get(name)?.unwatch) return;
    if (this.#added().length >= ADDED_MAX) throw new RangeError(`At most ${ADDED_MAX} people can be added.`);
    this.#addToTeam(name);
  }

  /** @param {string} name */
  #addToTeam(name) {
    const person = this.#people.get(name) ?? this.#makePerson(name);
    // Behind the others of the team.
    const last = [...this.#people.values()].filter(({ unwatch }) => unwatch).at(-1)?.item;
    if (last) last.after(person.item);
    else this.#list.prepend(person.item);
    person.unwatch = this.#watch(name);
    part(person.item, '.remove').hidden = !this.#isAdded(name);
  }

  /** @param {string} name */
  #isAdded(name) {
    return name !== user && !TEAM.includes(name);
  }

  #added() {
    return [...this.#people].filter(([name, { unwatch }]) => unwatch && this.#isAdded(name)).map(([name]) => name);
  }

  /** @param {string} name */
  #remove(name) {
    const person = this.#people.get(name);
    person?.unwatch?.();
    person?.item.remove();
    this.#people.delete(name);
    this.#remember();
    this.#summarize();
    // The button that had the focus is gone.
    element('add-user', HTMLInputElement).focus();
  }

  /**
   * @param {string} name
   * @returns {Person}
   */
  #makePerson(name) {
    const item = fromTemplate('person');
    item.dataset.user = name;
    part(item, '.avatar').replaceWith(avatar(name));
    part(item, 'presence-dot').setAttribute('user', name);
    part(item, '.id').textContent = name;
    part(item, '.you').hidden = name !== user;
    const open = part(item, '.open');
    open.setAttribute('href', address(name));
    open.setAttribute('aria-label', `Open ${name} in a new tab`);
    const remove = part(item, '.remove');
    remove.setAttribute('aria-label', `Remove ${name}`);
    remove.addEventListener('click', () => this.#remove(name));
    this.#list.append(item);
    /** @type {Person} */
    const person = { presence: undefined, item };
    this.#people.set(name, person);
    return person;
  }

  /** @param {Presence} presence */
  #learn(presence) {
    const person = this.#people.get(presence.userId);
    if (!person || person.presence === presence) return;
    const before = person.presence;
    person.presence = presence;
    person.item.dataset.state = presence.state;
    part(person.item, '.state').textContent = presence.state === 'unknown' ? whyUnknown() : presence.state;
    showSince(person.item, presence);
    if (before && before.state !== presence.state) this.#news.add(presence);
    this.#summarize();
  }

  #showTimes() {
    for (const { item, presence } of this.#people.values()) {
      if (presence?.state === 'online') showSince(item, presence);
      if (presence?.state === 'unknown') part(item, '.state').textContent = whyUnknown();
    }
  }

  #summarize() {
    const people = [...this.#people];
    // Of the others, what was seen may have changed since.
    const online = [...this.#watching.keys()].filter((name) => this.isOnline(name)).length;
    text('asked').textContent = `${this.#watching.size} of ${people.length}`;
    text('count').textContent = `${online} online`;
    document.title = `(${online}) ${user} · presenced`;
    const team = people.filter(([, { unwatch }]) => unwatch).map(([name]) => name);
    this.#stack.show(team.filter((name) => this.isOnline(name)), team.length);

    const absent = people.find(([name, { presence }]) => name !== user && presence?.state !== 'online')?.[0];
    const next = element('next', HTMLAnchorElement);
    next.textContent = absent ? `Open ${absent} in a new tab` : 'Open another user in a new tab';
    next.href = absent ? address(absent) : '/';
  }

  #listenToForm() {
    const form = element('add', HTMLFormElement);
    const input = element('add-user', HTMLInputElement);
    const problem = text('add-error');
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      try {
        const name = input.value.trim();
        this.#add(name);
        // Behind the team, and so out of sight; or somewhere in the list already.
        this.#people.get(name)?.item.scrollIntoView({ block: 'nearest' });
        input.value = '';
        problem.hidden = true;
        this.#remember();
        this.#summarize();
      } catch (error) {
        problem.textContent = error instanceof Error ? error.message : String(error);
        problem.hidden = false;
      }
    });
  }

  /** Keeps who was added in the page's address, so that a reload shows them too. */
  #remember() {
    parameters.delete('watch');
    for (const name of this.#added()) parameters.append('watch', name);
    history.replaceState(null, '', `?${parameters}`);
  }
}

/** Why an answer leaves somebody open. */
function whyUnknown() {
  if (whatIsDown(latest())) return 'unknown: memcached can’t be asked right now';
  return 'unknown: memcached may not have everyone yet';
}

/**
 * @param {HTMLElement} item
 * @param {Presence} presence
 */
function showSince(item, { connectedAt }) {
  const since = part(item, '.since');
  if (connectedAt === undefined) {
    since.textContent = '';
    return;
  }
  const seconds = Math.max(0, Math.floor((Date.now() - connectedAt) / 1_000));
  since.textContent = `since ${clock(connectedAt)}, ${duration(seconds)}`;
}
