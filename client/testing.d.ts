/**
 * A client without a server, for the tests of what shows who is online.
 *
 *     import { FakePresenceClient } from 'presenced-client/testing';
 *
 *     const presence = new FakePresenceClient({ alice: 'online' });
 *     showFriends(presence);
 *     presence.set('alice', 'offline');
 *
 * It calls back as `PresenceClient` does: with what is known already never before `watch()` has returned, and then with
 * every change of the state. There are no timers in it: what you set is told before `set()` returns.
 *
 * @module
 */
export type Presence = import('./presence.js').Presence;
export type PresenceState = import('./presence.js').PresenceState;
export type ConnectionState = import('./presence.js').ConnectionState;
export type Watcher = {
    callback: (presence: Presence) => void;
    told: Presence | undefined;
};
export declare class FakePresenceClient {
    #private;
    /** @param {Record<string, PresenceState>} [states] Of those who are known from the start, by user id. */
    constructor(states?: Record<string, PresenceState>);
    /**
     * Makes this the state of a user, and tells those who watch them. As with a real client, only changes are told, and
     * who was known never becomes `unknown` again.
     *
     * @param {string} userId
     * @param {PresenceState} state
     * @param {number} [connectedAt] In Unix milliseconds; only of those who are online.
     */
    set(userId: string, state: PresenceState, connectedAt?: number): void;
    /** @returns {string[]} Who is watched now, each once, those watched longest first. */
    get watched(): string[];
    /** @returns {ConnectionState} */
    get state(): ConnectionState;
    /**
     * What is known of a user: what was set, whether they are watched or not.
     *
     * @param {string} userId
     * @returns {Presence}
     */
    get(userId: string): Presence;
    /**
     * @param {string} userId
     * @param {(presence: Presence) => void} callback
     * @returns {() => void} Ends it. May be called twice.
     */
    watch(userId: string, callback: (presence: Presence) => void): () => void;
    /**
     * @param {'state' | 'change' | 'pull'} name There are no pulls.
     * @param {(info: any) => void} listener
     * @returns {() => void} Ends it. May be called twice.
     */
    on(name: 'state' | 'change' | 'pull', listener: (info: any) => void): () => void;
    connect(): void;
    reconnect(): void;
    close(): void;
    /**
     * Nothing: it asks nobody, whether it is seen or not.
     *
     * @param {boolean} _isVisible
     */
    setVisible(_isVisible: boolean): void;
}
