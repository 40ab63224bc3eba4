/**
 * One connection for all tabs of a user.
 *
 *     import { SharedPresenceClient } from 'presenced-client/shared';
 *
 *     const presence = new SharedPresenceClient({ url, token, shared: 'user-123' });
 *
 * It is used as a `PresenceClient` is. What it promises:
 *
 * - Of all tabs with the same `shared` and `url`, one leads: it has the only connection, and asks for everyone whom any
 *   tab watches. The others hear from it all that it hears.
 * - Nobody is asked for while all tabs are hidden.
 * - When the leader goes, another tab takes over at once. A tab that is seen takes over from a leader that says nothing
 *   for 2 s: the browser may have frozen it. Meanwhile everyone stays as they were.
 * - A tab that goes, however it goes, is forgotten.
 * - Where there are no Web Locks or no BroadcastChannel, each client has a connection of its own.
 *
 * How it works: the leader holds a lock, and the browser gives it to the next in line when the tab is gone. Each tab
 * holds a lock of its own, too. The leader waits for it, and has it when that tab is gone. Messages go through a
 * channel that all tabs hear. Each leader numbers its messages with its term. A tab heeds no leader older than the
 * newest that it has heard of.
 *
 * @module
 */
import { PresenceClient } from './presence.js';
export type ConnectionInfo = import('./presence.js').ConnectionInfo;
export type ConnectionState = import('./presence.js').ConnectionState;
export type Presence = import('./presence.js').Presence;
export type PresenceOptions = import('./presence.js').PresenceOptions;
export type PullInfo = import('./presence.js').PullInfo;
export type SharedOptions = {
    /**
     * Tabs that give the same share a connection. It names the account and not the token, as the
     * user's id does: tabs of two accounts must never give the same. Without it, nothing is shared.
     */
    shared?: string;
};
export type SharedPresenceOptions = PresenceOptions & SharedOptions;
export type Event = ['state', ConnectionInfo] | ['pull', PullInfo] | ['presence', Presence];
export type Tab = {
    tab: string;
    watched: string[];
    isVisible: boolean;
};
export type Message = {
    /**
     * Who asks the leader whether it is there.
     */
    tab?: string;
    /**
     * Whom this tab watches, if it tells.
     */
    watched?: string[];
    /**
     * Whether it is seen, if it tells.
     */
    isVisible?: boolean;
    /**
     * Of the leader that says this.
     */
    term?: number;
    /**
     * What has happened, or what a tab does not know yet. Nothing: the leader is there.
     */
    events?: Event[];
};
/** What it is by itself, unconnected, knows who is watched in this tab, and calls back. */
export declare class SharedPresenceClient extends PresenceClient {
    #private;
    /** @param {SharedPresenceOptions} options */
    constructor(options: SharedPresenceOptions);
    /** @returns {ConnectionState} */
    get state(): ConnectionState;
    /** Joins the other tabs, and stays until `close()`. Does nothing unless `closed`. */
    connect(): void;
    /** Connects anew and at once, with the token of this tab, which leads from then on. */
    reconnect(): void;
    /** Leaves the other tabs. If this one leads, another takes over. Who is watched stays watched, and as they were. */
    close(): void;
    /**
     * As `PresenceClient.watch()`. The limit of 5,000 users is also for all tabs together.
     *
     * @param {string} userId
     * @param {(presence: Presence) => void} callback
     * @returns {() => void} Ends it. May be called twice.
     */
    watch(userId: string, callback: (presence: Presence) => void): () => void;
    /**
     * As `PresenceClient.setVisible()`, for this tab.
     *
     * @param {boolean} isVisible
     */
    setVisible(isVisible: boolean): void;
}
