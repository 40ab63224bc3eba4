// The code for one's own page, with the addresses and the keys of this process.

import { onFigures } from './figures.js';
import { copies, element, make, text, user } from './page.js';
import { highlighted } from './highlight.js';
import { fetchToken } from './token.js';

const origin = location.origin;
const socket = `${origin.replace(/^http/, 'ws')}/ws`;

/** Whom the examples ask for. */
const friend = user === 'bob' ? 'alice' : 'bob';
const me = encodeURIComponent(user);

/** What the edge tells: the template of its keys, and the command that looks the friend up. Without a command there is a
 * password or TLS in the way. */
const store = { template: '', command: '' };

const client = `import { PresenceClient } from "${origin}/client/presence.js";`;

const makeClient = `const presence = new PresenceClient({
  url: "${socket}",
  token: async () => {
    // In production, ask your own back end.
    const answer = await fetch("${origin}/dev/token?user=${me}");
    return (await answer.json()).token;
  },
});`;

const EXAMPLES = [
  {
    name: 'JavaScript',
    code: () => `<p id="friend"></p>
<script type="module">
${indent(client)}

${indent(makeClient)}
  presence.watch("${friend}", ({ userId, state }) => {
    document.querySelector("#friend").textContent = userId + " is " + state;
  });
</script>
`,
  },
  {
    name: 'Element',
    code: () => `<presence-dot user="${friend}"></presence-dot> ${friend}

<script type="module">
${indent(client)}
  import { definePresenceDot } from "${origin}/client/presence-dot.js";

${indent(makeClient)}
  definePresenceDot(presence);
</script>
`,
  },
  {
    name: 'React',
    code: () => `import { PresenceClient } from "presenced-client";
import { PresenceProvider, usePresence } from "presenced-client/react";

${makeClient}

function Friend({ userId }) {
  const { state } = usePresence(userId);
  return <li>{userId} is {state}</li>;
}

export const App = () => (
  <PresenceProvider client={presence}>
    <Friend userId="${friend}" />
  </PresenceProvider>
);
`,
  },
  {
    name: 'Back end',
    code: () => `# Over HTTP: any server of presenced answers, with "unknown" for those it can't be sure of.
TOKEN=$(curl -s '${origin}/dev/token?user=back-end&scope=presence:read-all' |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
curl -s -H "Authorization: Bearer $TOKEN" '${origin}/v1/presence?user=${friend}'
${fromMemcached()}`,
  },
];

function fromMemcached() {
  if (!store.template || !store.command) return '';
  return `
# From memcached: the key is ${store.template}. No value is offline, or not known; docs/backends.md tells which.
${store.command}
`;
}

/** @param {string} code */
const indent = (code) => code.replace(/^(?=.)/gm, '  ');

export function showCode() {
  text('allow-origin').textContent = `--allow-origin http://localhost:3000 --allow-origin ${origin}`;
  const tabs = EXAMPLES.map(({ name, code }, place) => makeTab(name, code, place));
  const select = (/** @type {number} */ chosen) => {
    for (const [place, { tab, panel }] of tabs.entries()) {
      tab.setAttribute('aria-selected', String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      panel.hidden = place !== chosen;
    }
  };
  for (const [place, { tab }] of tabs.entries()) tab.addEventListener('click', () => select(place));
  text('tabs').addEventListener('keydown', (event) => {
    const now = tabs.findIndex(({ panel }) => !panel.hidden);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const chosen = (next + tabs.length) % tabs.length;
    select(chosen);
    tabs[chosen]?.tab.focus();
  });
  select(0);
  copies(element('copy-code', HTMLButtonElement), () => tabs.find(({ panel }) => !panel.hidden)?.panel ?? text('panels'));

  /** @param {Partial<typeof store>} told */
  const fill = (told) => {
    Object.assign(store, told);
    for (const { fill } of tabs) fill();
  };
  onFigures(({ keyTemplate }) => keyTemplate !== store.template && fill({ template: keyTemplate }));
  fetchToken(friend).then(
    ({ lookUp }) => fill({ command: typeof lookUp === 'string' ? lookUp : '' }),
    // The connection, which needs a token too, says why there is none.
    () => {},
  );
}

/**
 * @param {string} name
 * @param {() => string} code
 * @param {number} place
 */
function makeTab(name, code, place) {
  const tab = make('button', 'tab', name);
  tab.id = `tab-${place}`;
  tab.setAttribute('type', 'button');
  tab.setAttribute('role', 'tab');
  tab.setAttribute('aria-controls', `panel-${place}`);
  text('tabs').append(tab);

  const panel = make('div', 'panel', '');
  panel.id = `panel-${place}`;
  panel.tabIndex = 0;
  panel.setAttribute('role', 'tabpanel');
  panel.setAttribute('aria-labelledby', tab.id);
  const fill = () => {
    const pre = make('pre', 'code', '');
    pre.append(...highlighted(code()));
    panel.replaceChildren(pre);
  };
  fill();
  text('panels').append(panel);
  return { tab, panel, fill };
}
