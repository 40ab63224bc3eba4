// A list of friends, each with a dot and a word. See client/README.md for how to run it.

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { PresenceClient } from 'presenced-client';
import { definePresenceDot } from 'presenced-client/element';
import { PresenceProvider, usePresence } from 'presenced-client/react';

const FRIENDS = ['alice', 'bob', 'carol', 'dave', 'erin'];

const me = new URLSearchParams(location.search).get('user') ?? 'alice';

// One for the page, outside of the components: it stays connected whatever is rendered.
const presence = new PresenceClient({
  url: document.querySelector('#root').dataset.edge,
  token: async () => {
    const answer = await fetch(`/token?user=${encodeURIComponent(me)}`);
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    return answer.text();
  },
});
definePresenceDot(presence, { label: (state, dot) => `${dot.user} is ${state}` });

function Friend({ userId }) {
  const { state, connectedAt } = usePresence(userId);
  const since = connectedAt && ` since ${new Date(connectedAt).toLocaleTimeString()}`;
  return (
    <li>
      <presence-dot user={userId} /> {userId}: {state}
      {since}
    </li>
  );
}

createRoot(document.querySelector('#root')).render(
  <StrictMode>
    <PresenceProvider client={presence}>
      <h1>{me} and friends</h1>
      <ul>
        {FRIENDS.map((userId) => (
          <Friend key={userId} userId={userId} />
        ))}
      </ul>
    </PresenceProvider>
  </StrictMode>,
);
