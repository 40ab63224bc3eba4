// What a TypeScript program may write, and what it is told is wrong. It is compiled and never run, with the types of Node
// and without those of the DOM, so that they are not needed.

import WebSocket from 'ws';

import {
  PresenceClient,
  PresenceUnauthorized,
  userIdProblem,
  type ConnectionInfo,
  type ConnectionState,
  type Presence,
  type PresenceOptions,
  type PresenceState,
  type PullInfo,
} from '../presence.js';
import { SharedPresenceClient, type SharedPresenceOptions } from '../shared.js';

// The class of `ws`, as it is and as one's own.
class OwnWebSocket extends WebSocket {
  constructor(url: string, protocols: string[]) {
    super(url, protocols, { maxPayload: 65_536 });
  }
}
const inNode: PresenceOptions = { url: new URL('wss://edge.example/ws'), token: 'a.b.c', WebSocket };
const client = new PresenceClient({ ...inNode, WebSocket: OwnWebSocket, debug: true, autoConnect: false });

new PresenceClient({
  url: '/ws',
  token: async () => {
    throw new PresenceUnauthorized('signed out');
  },
  debug: (what: string, info: unknown) => console.log(what, info),
});

const together: SharedPresenceOptions = { ...inNode, shared: 'alice', autoConnect: false };
const shared: PresenceClient = new SharedPresenceClient(together);
shared.on('change', ({ userId }) => console.log(userId));

const known: Presence = client.get('alice');
const state: PresenceState = known.state;
const since: number | undefined = known.connectedAt;
const connection: ConnectionState = client.state;
const ends: (() => void)[] = [
  client.watch('alice', ({ userId, state }) => console.log(userId, state)),
  client.on('state', (info: ConnectionInfo) => console.log(info.retryInMs, info.error?.message)),
  client.on('change', (presence: Presence) => console.log(presence.connectedAt)),
  client.on('pull', ({ phase, users }: PullInfo) => console.log(phase, users)),
];
const problem: string | undefined = userIdProblem(7);
client.setVisible(false);
client.connect();
client.reconnect();
client.close();
console.log(state, since, connection, ends, problem);

// @ts-expect-error A user id is a string.
client.watch(7, () => {});
// @ts-expect-error Nobody would be told.
client.watch('alice');
// @ts-expect-error There is no such event.
client.on('states', () => {});
// @ts-expect-error A state is no pull.
client.on('state', ({ phase }) => console.log(phase));
// @ts-expect-error It only says what it can know.
if (client.get('alice').state === 'away') client.close();
// @ts-expect-error There is no token.
new PresenceClient({ url: '/ws' });
// @ts-expect-error A date is no WebSocket.
new PresenceClient({ ...inNode, WebSocket: Date });
