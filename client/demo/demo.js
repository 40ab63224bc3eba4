// The demo page: one user a tab, who else is here, and what happens for that in the browser and in the edge.

import { PresenceClient, userIdProblem } from '/client/presence.js';

import { Charts } from './chart.js';
import { showCode } from './code.js';
import { Connection } from './connection.js';
import { Crowd } from './crowd.js';
import { onFigures, startAsking } from './figures.js';
import { Leaving } from './leaving.js';
import { Log } from './log.js';
import { OFFERED, TEAM } from './names.js';
import { address, avatar, copies, eachSecond, element, parameters, text, user } from './page.js';
import { showPath } from './path.js';
import { People } from './people.js';
import { fetchToken, showLookUp } from './token.js';

/** @param {string | undefined} problem Why the page's address has nobody who can be signed in. */
function signIn(problem) {
  if (problem) {
    text('alert').textContent = `Nobody can be online by the user id in the address: ${problem}.`;
    text('alert').hidden = false;
  }
  const names = element('names', HTMLUListElement);
  for (const name of TEAM.slice(0, OFFERED)) {
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
  for (const id of ['who', 'pill', 'toggle', 'calls', 'team', 'app']) text(id).hidden = false;

  const log = new Log();
  // Before the client's own listener, so that the log reads in the order of events.
  document.addEventListener('visibilitychange', () => log.turned());
  const connection = new Connection();
  const pullInterval = interval() * 1_000;
  const client = new PresenceClient({
    url: '/ws',
    token: async () => {
      const { token, lookUp } = await fetchToken(user);
      showLookUp(lookUp);
      return token;
    },
    pullInterval,
  });

  const people = new People(client);
  const isHere = (/** @type {string} */ name) => sessions().includes(name);
  const leaving = new Leaving(client, isHere, pullInterval);
  const crowd = new Crowd(
    (name) => people.isOnline(name),
    (users) => leaving.back(users),
    (users) => leaving.leftAndSeen(users, 'left'),
  );
  const sessions = () => [...(client.state === 'open' ? [user] : []), ...crowd.users];
  addEventListener('pagehide', () => leaving.left(sessions(), 'closed the tab'));
  // Out of the browser's cache of pages that were left, with its connection if that has lasted.
  addEventListener('pageshow', ({ persisted }) => persisted && leaving.back(sessions()));

  client.on('state', (info) => {
    connection.show(info);
    log.connection(info);
    if (info.state === 'open') leaving.back([user]);
  });
  client.on('pull', (info) => log.pull(info));
  connection.toggles(client, () => leaving.left([user], 'disconnected'));

  copies(element('copy', HTMLButtonElement), () => text('command'));
  showCode();
  showFigures();
  eachSecond(() => log.tick());
}

function showFigures() {
  const charts = new Charts();
  onFigures(showPath);
  onFigures((figures, step) => charts.add(figures, step));
  startAsking(() => {
    text('figures').hidden = true;
    text('no-figures').hidden = false;
  });
}

/** The chosen time between pulls, in seconds. Another choice loads the page anew with it. */
function interval() {
  const select = element('every', HTMLSelectElement);
  const chosen = [...select.options].find(({ value }) => value === parameters.get('every'));
  if (chosen) chosen.selected = true;
  select.addEventListener('change', () => {
    parameters.set('every', select.value);
    // By its fragment, the page is back at the choice, with the focus on it.
    location.href = `?${parameters}#every`;
  });
  return Number(select.value);
}

const problem = userIdProblem(user);
if (problem) signIn(user === '' ? undefined : problem);
else start();
