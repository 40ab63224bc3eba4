/**
 * `<presence-dot user="123">`: a dot that shows whether a user is online.
 *
 *     import { PresenceClient } from 'presenced-client';
 *     import { definePresenceDot } from 'presenced-client/element';
 *
 *     definePresenceDot(new PresenceClient({ url: 'wss://edge.example/ws', token: () => fetchToken() }));
 *
 * What it promises:
 *
 * - Only dots on screen are asked for. A dot that scrolls out of view, or leaves the document, is no longer watched.
 * - The state is told by colour, by shape and by a label: a full circle, a ring, a dotted ring.
 * - It sets no attribute on itself and no inline style, so it fits a page whose policy is `style-src 'self'`.
 * - It can be imported where there is no DOM, and then does nothing.
 *
 * For CSS: the part `dot` is also a part named like its state, so `presence-dot::part(online)` styles those online. The
 * custom properties are `--presence-dot-size`, `--presence-dot-online`, `--presence-dot-offline` and
 * `--presence-dot-unknown`.
 *
 * @module
 */
export type Presence = import('./presence.js').Presence;
export type PresenceState = import('./presence.js').PresenceState;
export type PresenceSource = {
    watch: (userId: string, callback: (presence: Presence) => void) => () => void;
};
export type PresenceLabel = (state: PresenceState, dot: PresenceDot) => string;
/** @type {typeof HTMLElement} On a server there are no elements to extend. */
declare const Base: typeof HTMLElement;
export declare class PresenceDot extends Base {
    #private;
    static observedAttributes: string[];
    constructor();
    /** What the dot shows. */
    get state(): import("./presence.js").PresenceState;
    /** Whom it shows: the attribute `user`. */
    get user(): string;
    set user(userId: string);
    /** Who answers: a client of its own, or else that of the page. */
    get client(): PresenceSource | undefined;
    set client(client: PresenceSource | undefined);
    connectedCallback(): void;
    disconnectedCallback(): void;
    /**
     * @param {string} _name
     * @param {string | null} before
     * @param {string | null} now
     */
    attributeChangedCallback(_name: string, before: string | null, now: string | null): void;
}
/**
 * Defines `<presence-dot>`, with the client that answers for all dots which have no `client` of their own. It may be
 * called again, as when somebody else has signed in: the dots on the page follow.
 *
 * @param {PresenceSource} [client]
 * @param {{label?: PresenceLabel}} [options] `label`: what a screen reader says. By default the state, in English.
 */
export declare function definePresenceDot(client?: PresenceSource, { label }?: {
    label?: PresenceLabel;
}): void;
export {};
