'use client';

/**
 * Who is online, in React.
 *
 *     <PresenceProvider client={presence}>
 *       <Friend userId="123" />
 *     </PresenceProvider>
 *
 *     function Friend({ userId }) {
 *       const { state } = usePresence(userId);
 *       return <span>{state}</span>;
 *     }
 *
 * What it promises:
 *
 * - A user is watched while a component that asks for them is mounted. Who is shown ten times is asked for once.
 * - On a server and while a page is hydrated, everyone is `unknown`: both render the same.
 * - StrictMode, which mounts everything twice, leaves nothing behind.
 *
 * @module
 */

import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from 'react';

/** @typedef {import('./presence.js').Presence} Presence */

/**
 * What is needed of a client. `PresenceClient` is one, and so is `FakePresenceClient`.
 *
 * @typedef {object} PresenceSource
 * @property {(userId: string, callback: (presence: Presence) => void) => () => void} watch
 * @property {(userId: string) => Presence} [get] What is known now: such a user is not rendered as `unknown` first.
 */

/** @type {import('react').Context<PresenceSource | null | undefined>} `undefined`: there is no provider. */
const Client = createContext(/** @type {PresenceSource | null | undefined} */ (undefined));

/**
 * Says which client answers for the components in it.
 *
 * @param {object} props
 * @param {PresenceSource | null | undefined} props.client None yet, as on a server or before somebody has signed in:
 *   everyone is `unknown`.
 * @param {import('react').ReactNode} [props.children]
 * @returns {import('react').ReactElement}
 */
export function PresenceProvider({ client, children }) {
  return createElement(Client.Provider, { value: client ?? null }, children);
}

/**
 * What is known of a user. The component is rendered anew when their state changes.
 *
 * @param {string} userId
 * @returns {Presence} The same object until the state changes.
 */
export function usePresence(userId) {
  const client = useContext(Client);
  if (client === undefined) throw new Error('usePresence() is called outside of a <PresenceProvider>');
  const { subscribe, latest, unknown } = useMemo(() => store(client, userId), [client, userId]);
  return useSyncExternalStore(subscribe, latest, unknown);
}

/**
 * One user, as `useSyncExternalStore` wants it: each snapshot is the same object until the next change.
 *
 * @param {PresenceSource | null} client
 * @param {string} userId
 */
function store(client, userId) {
  /** @type {Presence} */
  const nothing = Object.freeze({ userId, state: 'unknown' });
  /** @type {Presence | undefined} */
  let presence;

  return {
    /** @param {() => void} onChange */
    subscribe(onChange) {
      const unwatch = client?.watch(userId, (news) => {
        presence = news;
        onChange();
      });
      return unwatch ?? (() => {});
    },
    latest: () => (presence ??= client?.get?.(userId) ?? nothing),
    unknown: () => nothing,
  };
}
