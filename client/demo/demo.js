// The demo page: one user a tab, who else is here, and what goes over the wire for it.

import { PresenceClient, userIdProblem } from '/client/presence.js';

/** @typedef {import('/client/presence.js').Presence} Presence */
/** @typedef {import('/client/presence.js').ConnectionInfo} ConnectionInfo */
/** @typedef {import('/client/presence.js').PullInfo} PullInfo */

/** Who is watched on every page. */
const NAMES = ['alice', 'bob', 'carol', 'dave', 'erin'];

/** More than this is no longer a demo. */
const PEOPLE_MAX = 100;

/** Lines kept in the log of pulls. */
const LOG_LINES_MAX = 50;

/** Pulls whose start is remembered, to tell how long the answer took. */
const STARTS_MAX = 16;

const AVATAR_HUES = 12;

const parameters = new URLSearchParams(location.search);
const user = parameters.get('user') ?? '';

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} called ${id}`);
  return found;
}

/** @param {string} id */
const text = (id) => element(id, HTMLElement);

function signIn() {
  const names = element('names', HTMLUListElement);
  for (const name of NAMES) {
    const link = document.createElement('a');
    link.className = 'button';
    link.href = address(name);
    link.append(avatar(name), name);
    const item = document.createElement('li');
    item.append(link);
    names.append(item);
  }
  text('sign-in').hidden = false;
}

function start() {
  text('me').textContent = user;
  for (const id of ['who', 'pill', 'toggle', 'main']) text(id).hidden = false;

  const log = new Log();
  // Before the client's own listener, so that the log reads in the order of events.
  document.addEventListener('visibilitychange', () => log.turned());
  const connection = new Connection();

  const client = new PresenceClient({
    url: '/ws',
    token: fetchToken,
    pullInterval: interval() * 1_000,
  });
  client.on('state', (info) => {
    connection.show(info);
    log.connection(info);
  });
  client.on('pull', (info) => log.pull(info));
  connection.toggles(client);
  new People(client);

  copies(element('copy', HTMLButtonElement), text('command'));
  setInterval(() => {
    if (!document.hidden) log.tick();
  }, 1_000);
}

// ---- The token

/** The edge hands out tokens itself as long as it has no signing key of its own. */
async function fetchToken() {
  let answer;
  try {
    const path = `/dev/token?user=${encodeURIComponent(user)}`;
    answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new Error('The edge does not answer. Is presenced running?');
  }
  const body = await answer.json().catch(() => undefined);
  if (answer.ok && typeof body?.token === 'string') {
    showLookUp(body.lookUp);
    return body.token;
  }
  if (answer.status === 404) {
    throw new Error(
      'This edge gives no tokens away (no /dev/token): it has a signing key. Sign your users in by your own means, ' +
        'and give PresenceClient the token that they get.',
    );
  }
  const why = body?.error?.message ?? `status ${answer.status}`;
  throw new Error(`No token for “${user}”: ${why}`);
}

/**
 * The edge knows the user's key and where its embedded store listens. Without an embedded store there is no command.
 *
 * @param {unknown} command
 */
function showLookUp(command) {
  text('store').hidden = typeof command !== 'string';
  if (typeof command === 'string') text('command').textContent = command;
}

// ---- The connection

class Connection {
  #pill = text('pill-text');
  #alert = text('alert');
  #toggle = element('toggle', HTMLButtonElement);
  #retryAt = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #countdown;

  /** @param {PresenceClient} client */
  toggles(client) {
    this.#toggle.addEventListener('click', () => {
      if (client.state === 'closed') client.connect();
      else client.close();
    });
  }

  /** @param {ConnectionInfo} info */
  show({ state, code, error, retryInMs }) {
    document.body.dataset.connection = state;
    this.#toggle.textContent = state === 'closed' ? 'Connect' : 'Disconnect';
    clearInterval(this.#countdown);

    if (state === 'waiting') {
      this.#retryAt = performance.now() + (retryInMs ?? 0);
      this.#countdown = setInterval(() => this.#showWait(), 1_000);
      this.#showWait();
    } else {
      this.#pill.textContent = { connecting: 'connecting', open: 'connected', closed: 'disconnected' }[state];
    }
    // What went wrong stays on the page until it has gone right.
    if (state === 'open') this.#alert.hidden = true;
    const trouble = error?.message ?? whatCodeMeans(code);
    if (trouble) {
      this.#alert.textContent = trouble;
      this.#alert.hidden = false;
    }
  }

  #showWait() {
    const seconds = Math.max(0, Math.ceil((this.#retryAt - performance.now()) / 1_000));
    this.#pill.textContent = `connection lost, next try in ${seconds} s`;
  }
}

/** @param {number | undefined} code */
function whatCodeMeans(code) {
  switch (code) {
    case undefined:
    case 1000:
      return '';
    case 1006:
      return 'The connection was lost, or the handshake refused. People are shown as they were.';
    case 1012:
      return 'The edge restarts. People are shown as they were until the connection is back.';
    case 4401:
      return 'The token has expired. Fetching another one.';
    case 4403:
      return 'This user may not connect.';
    case 4409:
      return 'You are connected too many times, and this was the oldest session. It does not come back by itself.';
    default:
      return `The edge closed the connection with code ${code}.`;
  }
}

// ---- The people

class People {
  #client;
  #list = element('people', HTMLUListElement);
  #template = element('person', HTMLTemplateElement);
  /** @type {Map<string, {presence: Presence | undefined, item: HTMLElement, unwatch: () => void}>} */
  #people = new Map();

  /** @param {PresenceClient} client */
  constructor(client) {
    this.#client = client;
    const added = parameters.getAll('watch');
    for (const name of new Set([user, ...NAMES, ...added])) {
      try {
        this.#add(name);
      } catch {
        // An address that somebody typed; there is nobody of that name.
      }
    }
    this.#listenToForm();
    this.#summarize();
    setInterval(() => {
      if (!document.hidden) this.#showTimes();
    }, 1_000);
  }

  /** @param {string} name */
  #add(name) {
    if (this.#people.has(name)) return;
    const problem = userIdProblem(name);
    if (problem) throw new RangeError(problem);
    if (this.#people.size >= PEOPLE_MAX) throw new RangeError(`At most ${PEOPLE_MAX} people fit on this page.`);
    const unwatch = this.#client.watch(name, (presence) => this.#learn(presence));
    const item = this.#makeItem(name);
    this.#people.set(name, { presence: undefined, item, unwatch });
    this.#list.append(item);
  }

  /** @param {string} name */
  #remove(name) {
    const person = this.#people.get(name);
    person?.unwatch();
    person?.item.remove();
    this.#people.delete(name);
    this.#remember();
    this.#summarize();
  }

  /**
   * @param {string} name
   * @returns {HTMLElement}
   */
  #makeItem(name) {
    const copy = /** @type {DocumentFragment} */ (this.#template.content.cloneNode(true));
    const item = part(copy, '.person');
    item.dataset.user = name;
    part(item, '.avatar').replaceWith(avatar(name));
    part(item, '.id').textContent = name;
    part(item, '.you').hidden = name !== user;

    const open = part(item, '.open');
    open.setAttribute('href', address(name));
    open.setAttribute('aria-label', `Open ${name} in a new tab`);
    const remove = part(item, '.remove');
    remove.setAttribute('aria-label', `Stop watching ${name}`);
    remove.hidden = name === user || NAMES.includes(name);
    remove.addEventListener('click', () => this.#remove(name));
    return item;
  }

  /** @param {Presence} presence */
  #learn(presence) {
    const person = this.#people.get(presence.userId);
    if (!person) return;
    const before = person.presence;
    person.presence = presence;
    person.item.dataset.state = presence.state;
    part(person.item, '.state').textContent = presence.state;
    showSince(person.item, presence);
    if (before && before.state !== presence.state) text('news').textContent = `${presence.userId} is ${presence.state}`;
    this.#summarize();
  }

  #showTimes() {
    for (const { item, presence } of this.#people.values()) {
      if (presence?.state === 'online') showSince(item, presence);
    }
  }

  #summarize() {
    const people = [...this.#people];
    const online = people.filter(([, { presence }]) => presence?.state === 'online').length;
    text('count').textContent = `${online} of ${people.length} online`;
    document.title = `(${online}) ${user} · presenced`;

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
        this.#add(input.value.trim());
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
    for (const name of this.#people.keys()) {
      if (name !== user && !NAMES.includes(name)) parameters.append('watch', name);
    }
    history.replaceState(null, '', `?${parameters}`);
  }
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

// ---- What goes over the wire

class Log {
  #list = element('log', HTMLOListElement);
  #sent = 0;
  #sentHidden = 0;
  #sentAt = 0;
  #hiddenSince = document.hidden ? performance.now() : undefined;
  #sentBeforeHidden = 0;
  /** When a pull left, by its number. @type {Map<number, number>} */
  #starts = new Map();

  /** @param {PullInfo} info */
  pull({ pull, phase, users, error }) {
    // It only sees whether the connection lives.
    if (users === 0) return;
    const now = performance.now();
    const people = users === 1 ? '1 person' : `${users} people`;
    if (phase === 'sent') {
      this.#sent += 1;
      if (document.hidden) this.#sentHidden += 1;
      this.#sentAt = now;
      this.#starts.set(pull, now);
      const [oldest] = this.#starts.keys();
      if (this.#starts.size > STARTS_MAX && oldest !== undefined) this.#starts.delete(oldest);
      text('pulls-sent').textContent = String(this.#sent);
      text('pulls-hidden').textContent = String(this.#sentHidden);
      this.tick();
      this.#add('pull', `pull ${pull}`, `${people}…`).dataset.pull = String(pull);
      return;
    }

    const start = this.#starts.get(pull);
    this.#starts.delete(pull);
    const took = start === undefined ? '' : `${(now - start).toFixed(1)} ms`;
    if (phase === 'answered') text('pulls-took').textContent = took;
    const outcome = {
      answered: `${people}, ${took}`,
      refused: `${people}, refused: ${error?.message}`,
      lost: `${people}, no answer`,
    }[phase];
    const line = this.#list.querySelector(`[data-pull="${pull}"]`);
    if (line instanceof HTMLElement) {
      line.dataset.phase = phase;
      part(line, '.what').textContent = outcome;
    }
  }

  /** The page was hidden, or is shown again. */
  turned() {
    const now = performance.now();
    if (document.hidden) {
      this.#hiddenSince = now;
      this.#sentBeforeHidden = this.#sent;
    } else if (this.#hiddenSince !== undefined) {
      const seconds = Math.round((now - this.#hiddenSince) / 1_000);
      const pulls = this.#sent - this.#sentBeforeHidden;
      this.#hiddenSince = undefined;
      this.#add('paused', `paused while hidden: ${duration(seconds)}`, pulls === 1 ? '1 pull' : `${pulls} pulls`);
      this.tick();
    }
  }

  /** @param {ConnectionInfo} info */
  connection({ state, code }) {
    if (state === 'connecting') return;
    const title = { open: 'connected', waiting: 'connection lost', closed: 'disconnected' }[state];
    this.#add('connection', title, code ? `code ${code}` : '');
  }

  tick() {
    if (this.#sent === 0) return;
    const seconds = Math.round((performance.now() - this.#sentAt) / 1_000);
    text('pulls-ago').textContent = seconds === 0 ? 'now' : `${duration(seconds)} ago`;
  }

  /**
   * @param {string} kind
   * @param {string} title
   * @param {string} what
   * @returns {HTMLElement}
   */
  #add(kind, title, what) {
    const line = document.createElement('li');
    line.dataset.kind = kind;
    for (const [name, content] of Object.entries({ time: clock(Date.now()), title, what })) {
      const span = document.createElement('span');
      span.className = name;
      span.textContent = content;
      line.append(span);
    }
    this.#list.prepend(line);
    while (this.#list.children.length > LOG_LINES_MAX) this.#list.lastElementChild?.remove();
    return line;
  }
}

/** The chosen time between pulls, in seconds. Another choice loads the page anew with it. */
function interval() {
  const select = element('every', HTMLSelectElement);
  const chosen = [...select.options].find(({ value }) => value === parameters.get('every'));
  if (chosen) chosen.selected = true;
  select.addEventListener('change', () => {
    parameters.set('every', select.value);
    location.search = String(parameters);
  });
  return Number(select.value);
}

// ---- Small things

/**
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
function part(parent, selector) {
  const found = parent.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return found;
}

/**
 * Where a user's page is.
 *
 * @param {string} name
 */
function address(name) {
  const every = parameters.get('every');
  return `/?${new URLSearchParams({ user: name, ...(every ? { every } : {}) })}`;
}

/**
 * @param {string} name
 * @returns {HTMLElement}
 */
function avatar(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 43 + (letter.codePointAt(0) ?? 0)) % 65_521;
  const span = document.createElement('span');
  span.className = 'avatar';
  span.dataset.hue = String(hash % AVATAR_HUES);
  span.setAttribute('aria-hidden', 'true');
  span.textContent = [...name][0]?.toUpperCase() ?? '';
  return span;
}

/** @param {number} unixMs */
function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} source
 */
function copies(button, source) {
  button.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(source.textContent ?? '');
      button.textContent = 'Copied';
    } catch {
      // No permission: the text is at least selected.
      getSelection()?.selectAllChildren(source);
      button.textContent = 'Selected';
    }
    setTimeout(() => {
      button.textContent = 'Copy';
    }, 2_000);
  });
}

// Last, because a class is not there before its line was reached.
if (user === '') signIn();
else start();
