export type Presence = import('./presence.js').Presence;
export type PresenceSource = {
    watch: (userId: string, callback: (presence: Presence) => void) => () => void;
    /**
     * What is known now: such a user is not rendered as `unknown` first.
     */
    get?: (userId: string) => Presence;
};
/**
 * Says which client answers for the components in it.
 *
 * @param {object} props
 * @param {PresenceSource | null | undefined} props.client None yet, as on a server or before somebody has signed in:
 *   everyone is `unknown`.
 * @param {import('react').ReactNode} [props.children]
 * @returns {import('react').ReactElement}
 */
export declare function PresenceProvider({ client, children }: {
    client: PresenceSource | null | undefined;
    children?: import('react').ReactNode;
}): import('react').ReactElement;
/**
 * What is known of a user. The component is rendered anew when their state changes.
 *
 * @param {string} userId
 * @returns {Presence} The same object until the state changes.
 */
export declare function usePresence(userId: string): Presence;
